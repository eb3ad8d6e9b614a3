"""Instances: what is held, and where.

Owns: reading rows of `instances` back as `Held`, in the order series are shown. Must never: write (insertion.py inserts,
facts.py decides), or open the bytes. Everything is found by UID through an index; long answers come in pages, each a
statement of its own, so that no reader pins the database while bytes are sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from radiolith.index.heldrows import COLUMNS, JOINED, Homes, held, held_joined, tenant_uid
from radiolith.index.identities import IN_CHUNK, Decision
from radiolith.index.identities import present as present
from radiolith.index.insertion import Verdict as Verdict
from radiolith.index.insertion import insert as insert
from radiolith.index.quarantine import Quarantined as Quarantined
from radiolith.index.quarantine import add_quarantined as add_quarantined
from radiolith.index.quarantine import quarantined as quarantined
from radiolith.index.quarantine import quarantined_one as quarantined_one
from radiolith.index.segments import note_segments as note_segments
from radiolith.index.segments import record_segment as record_segment
from radiolith.index.segments import segment_marks as segment_marks
from radiolith.index.session import Reader, Values
from radiolith.index.uids import pack_uid, unpack_uid
from radiolith.index.view import View
from radiolith.index.words import Flag
from radiolith.model import Blob, Held, Identity

PAGE = 500  # rows a statement when listing


def _shown(current_only: bool, include_rejected: bool) -> str:
    return (" AND i.current = 1" if current_only else "") + ("" if include_rejected else " AND i.reason = 0")


def locate(
    read: Reader,
    tenant_id: int,
    study: str,
    series: str | None = None,
    sop: str | None = None,
    *,
    current_only: bool = True,
    include_rejected: bool = False,
) -> Iterator[Held]:
    """What is held of a study, a series or an instance, by series number, instance number and order of arrival; those
    without a number come last.

    '' as study and series names the root of non-patient objects. A name that shows nothing any more leads to where what was
    received under it is shown now. Lazy: use it inside the `read()` block.
    """
    shown = _shown(current_only, include_rejected)
    found = False
    for one in _listed(read, tenant_id, Identity(study, series or "", sop or ""), series is None, shown):
        found = True
        yield one
    if not found and study:
        yield from _by_old_name(read, tenant_id, Identity(study, series or "", sop or ""), shown)


def _listed(read: Reader, tenant_id: int, name: Identity, whole: bool, shown: str) -> Iterator[Held]:
    row = read.one("SELECT id FROM studies WHERE uid = ? AND tenant_id = ?", (pack_uid(name.study), tenant_id))
    if row is None:
        return
    if whole:
        sql = "SELECT id, uid, overlay FROM series WHERE study_id = ? ORDER BY number IS NULL, number, id"
        listed = read.all(sql, (row[0],))
    else:
        sql = "SELECT id, uid, overlay FROM series WHERE uid = ? AND study_id = ?"
        listed = read.all(sql, (pack_uid(name.series), row[0]))
    tenant, homes = tenant_uid(read, tenant_id), Homes(read, tenant_id)
    for series_id, series_uid, overlay in listed:
        rows = _one(read, series_id, name.sop, shown) if name.sop else _series(read, series_id, shown)
        series = unpack_uid(series_uid)
        for found in rows:
            how = homes.of(series_id, found[20], unpack_uid(bytes(found[1])), overlay)
            yield held(read, tenant, name.study, series, found, how)


def _by_old_name(read: Reader, tenant_id: int, name: Identity, shown: str) -> Iterator[Held]:
    """What was received under a name that shows nothing any more, where it is shown now."""
    params: list[Any] = [pack_uid(name.study), tenant_id]
    below = ""
    if name.series:
        below, params = " AND h.uid = ?", [*params, pack_uid(name.series)]
    moves = read.all(
        "SELECT DISTINCT e.number IS NULL, e.number, e.id, e.uid, s.uid, e.overlay FROM studies t CROSS JOIN series h"  # noqa: S608
        " CROSS JOIN moved m CROSS JOIN series e CROSS JOIN studies s WHERE t.uid = ? AND t.tenant_id = ?"
        f" AND h.study_id = t.id{below} AND m.home_id = h.id AND e.id = m.series_id AND s.id = e.study_id ORDER BY 1, 2, 3",
        params,
    )
    only = (
        " AND EXISTS (SELECT 1 FROM instances r CROSS JOIN series h CROSS JOIN studies t WHERE r.uid = i.uid"  # noqa: S608
        f" AND r.series_id = i.series_id AND h.id = r.home_id AND t.id = h.study_id AND t.uid = ? AND t.tenant_id = ?{below})"
    )
    tenant, homes = tenant_uid(read, tenant_id), Homes(read, tenant_id)
    for _, _, series_id, series_uid, study_uid, overlay in moves:
        if name.sop:
            rows = _one(read, series_id, name.sop, only + shown, params)
        else:
            rows = _series(read, series_id, only + shown, params)
        for found in rows:
            how = homes.of(series_id, found[20], unpack_uid(bytes(found[1])), overlay)
            yield held(read, tenant, unpack_uid(study_uid), unpack_uid(series_uid), found, how)


def _one(read: Reader, series_id: int, sop: str, shown: str, params: Sequence[Any] = ()) -> Iterator[Values]:
    sql = f"SELECT {COLUMNS} FROM instances i WHERE i.uid = ? AND i.series_id = ?{shown} ORDER BY i.received_at, i.object_id"  # noqa: S608
    yield from read.all(sql, (pack_uid(sop), series_id, *params))


def _series(read: Reader, series_id: int, shown: str, params: Sequence[Any] = ()) -> Iterator[Values]:
    """Pages along the index (series, number, id)."""
    after: tuple[int, int] = (-(2**62), 0)
    sql = (
        f"SELECT {COLUMNS} FROM instances i WHERE i.series_id = ? AND (i.number, i.id) > (?, ?){shown}"  # noqa: S608
        " ORDER BY i.number, i.id LIMIT ?"
    )
    while page := read.all(sql, (series_id, *after, *params, PAGE)):
        yield from page
        if len(page) < PAGE:
            return
        after = (page[-1][3], page[-1][0])


def find_existing(read: Reader, tenant_id: int, identities: Sequence[Identity]) -> dict[Identity, list[Held]]:
    """Everything that is one instance with what is received under each identity: all versions and encodings, rejected ones
    too, in order of arrival; where it is shown under another name by now, under that."""
    wanted = set(identities)
    uids = sorted({pack_uid(identity.sop) for identity in wanted})
    found: dict[Identity, list[Held]] = {}
    for start in range(0, len(uids), IN_CHUNK):
        chunk = uids[start : start + IN_CHUNK]
        marks = ", ".join("?" * len(chunk))
        # nearly always nothing is held yet, and a look at the index alone says so
        if read.one(f"SELECT 1 FROM instances WHERE uid IN ({marks}) LIMIT 1", chunk) is None:  # noqa: S608
            continue
        _group(read, tenant_id, wanted, list(_by_uids(read, tenant_id, tenant_uid(read, tenant_id), chunk, "")), found)
    for versions in found.values():
        versions.sort(key=_by_arrival)
    return found


def _group(
    read: Reader, tenant_id: int, wanted: set[Identity], rows: Sequence[Held], found: dict[Identity, list[Held]]
) -> None:
    """Add the rows to the received identities they are shown together with."""
    groups: dict[Identity, list[Held]] = {}
    where: dict[Identity, Identity] = {}
    for one in rows:
        groups.setdefault(one.identity, []).append(one)
        where[one.home or one.identity] = one.identity
    sops = {one.identity.sop for one in rows}
    for name in wanted:
        if name.sop in sops and name not in where:
            where[name] = _placed(read, tenant_id, name)
        if name in where and where[name] in groups:
            found[name] = list(groups[where[name]])


def _placed(read: Reader, tenant_id: int, name: Identity) -> Identity:
    """Where something received under this name would be shown."""
    study = pack_uid(name.study)
    row = read.one("SELECT words FROM studies WHERE uid = ? AND tenant_id = ?", (study, tenant_id))
    if row is None or not (row[0] or 0) & Flag.PLACED:
        return name
    placing = View(read, tenant_id).place(study, pack_uid(name.series), pack_uid(name.sop))
    return Identity(unpack_uid(placing.study), unpack_uid(placing.series), name.sop)


def _by_uids(read: Reader, tenant_id: int, tenant: bytes, uids: Sequence[bytes], shown: str) -> Iterator[Held]:
    marks = ", ".join("?" * len(uids))
    homes = Homes(read, tenant_id)
    for row in read.all(f"{JOINED} AND i.uid IN ({marks}){shown}", (tenant_id, *uids)):
        yield held_joined(read, tenant, row, homes)


def by_sop(read: Reader, tenant_id: int, sop: str, *, include_rejected: bool = False) -> list[Held]:
    """The current version of every instance with this SOP Instance UID (one, but for archives that reuse UIDs)."""
    shown = _shown(True, include_rejected)
    found = list(_by_uids(read, tenant_id, tenant_uid(read, tenant_id), [pack_uid(sop)], shown))
    return sorted(found, key=_by_arrival)


def by_row(read: Reader, tenant_id: int, instance_id: int) -> Held | None:
    """The row a change names."""
    row = read.one(f"{JOINED} AND i.id = ?", (tenant_id, instance_id))
    return held_joined(read, tenant_uid(read, tenant_id), row) if row else None


def versions(read: Reader, tenant_id: int, identity: Identity) -> list[Held]:
    """All versions and encodings of one instance, rejected ones too, in order of arrival; by the name it is shown under, or
    where nothing is shown under it any more, one it was received under."""
    found = locate(
        read, tenant_id, identity.study, identity.series, identity.sop, current_only=False, include_rejected=True
    )
    return sorted(found, key=_by_arrival)


def home_of(held: Held) -> Identity:
    """The name something was received under: what decisions about it are called by."""
    return held.home or held.identity


def encodings(read: Reader, held: Held) -> list[Held]:
    """The same content in other syntaxes: encodings of this version, or the original and its other encodings."""
    row = read.one("SELECT id, tenant_id FROM instances WHERE object_id = ?", (held.blob.object_id,))
    if row is None:
        return []
    everything = versions(read, row[1], held.identity)
    names = {one.blob.object_id: one.blob.object_id for one in everything}
    for one in everything:
        if one.encoding_of and one.encoding_of not in names:  # it names a duplicate of what is held
            kept = read.one(
                "SELECT i.object_id FROM duplicates d JOIN instances i ON i.id = d.instance_id WHERE d.object_id = ?",
                (one.encoding_of,),
            )
            names[one.encoding_of] = bytes(kept[0]) if kept else one.encoding_of

    def content(one: Held) -> bytes:
        return names.get(one.encoding_of, one.encoding_of) if one.encoding_of else one.blob.object_id

    return [one for one in everything if content(one) == content(held) and one.blob.object_id != held.blob.object_id]


def conflicts(read: Reader, tenant_id: int, limit: int = 100, after: str = "") -> list[Identity]:
    """Instances with versions somebody should decide about, by SOP Instance UID; `after` is the last one of the page before."""
    rows = read.all(
        "SELECT DISTINCT i.uid, e.uid, s.uid FROM instances i CROSS JOIN series e CROSS JOIN studies s"
        " WHERE i.tenant_id = ? AND i.conflict = 1 AND i.uid > ? AND e.id = i.series_id AND s.id = e.study_id"
        " ORDER BY i.uid LIMIT ?",
        (tenant_id, pack_uid(after), limit),
    )
    return [Identity(unpack_uid(row[2]), unpack_uid(row[1]), unpack_uid(row[0])) for row in rows]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One rejected instance. `by`: who decided."""

    study: str
    series: str
    sop: str
    reason: str
    at: int
    by: str


_HELD = (
    "SELECT 1 FROM studies s CROSS JOIN series e CROSS JOIN instances i WHERE s.uid = d.study AND s.tenant_id = d.tenant_id"
    " AND e.uid = d.series AND e.study_id = s.id AND i.uid = d.sop AND COALESCE(i.home_id, i.series_id) = e.id AND i.reason > 0"
)


def rejected(read: Reader, tenant_id: int, limit: int = 100, after: str = "") -> list[RejectedRow]:
    """What is held and rejected, latest decision first; `after` is the SOP Instance UID the page before ended with."""
    start: Values = (2**62, b"\xff" * 80)
    if after:
        start = read.one(
            "SELECT d.at, d.sop FROM instances i CROSS JOIN series e CROSS JOIN studies s CROSS JOIN decisions d"
            " WHERE i.uid = ? AND e.id = COALESCE(i.home_id, i.series_id) AND s.id = e.study_id AND d.tenant_id = ?"
            " AND d.study = s.uid AND d.series = e.uid AND d.sop = i.uid AND d.kind = ? AND i.tenant_id = ?"
            " ORDER BY d.at LIMIT 1",
            (pack_uid(after), tenant_id, int(Decision.REJECTED), tenant_id),
        ) or (0, b"")
    rows = read.all(
        "SELECT d.study, d.series, d.sop, d.value, d.at, f.by_name FROM decisions d LEFT JOIN facts f ON f.object_id = d.fact"  # noqa: S608
        " WHERE d.tenant_id = ? AND d.kind = ? AND d.value <> '' AND (d.at, d.sop) < (?, ?)"
        f" AND EXISTS ({_HELD}) ORDER BY d.at DESC, d.sop DESC LIMIT ?",
        (tenant_id, int(Decision.REJECTED), start[0], bytes(start[1]), limit),
    )
    return [
        RejectedRow(*_shown_name(read, tenant_id, row[:3]), unpack_uid(row[2]), row[3], row[4], row[5] or "")
        for row in rows
    ]


def _shown_name(read: Reader, tenant_id: int, home: Sequence[bytes]) -> tuple[str, str]:
    """Study and series in which something received is shown."""
    row = read.one(
        "SELECT t.uid, f.uid FROM studies s CROSS JOIN series e CROSS JOIN instances i CROSS JOIN series f CROSS JOIN studies t"
        " WHERE s.uid = ? AND s.tenant_id = ? AND e.uid = ? AND e.study_id = s.id AND i.uid = ?"
        " AND COALESCE(i.home_id, i.series_id) = e.id AND f.id = i.series_id AND t.id = f.study_id LIMIT 1",
        (home[0], tenant_id, home[1], home[2]),
    )
    return (unpack_uid(row[0]), unpack_uid(row[1])) if row else (unpack_uid(home[0]), unpack_uid(home[1]))


def blob_of(read: Reader, object_id: bytes) -> Blob | None:
    """Where a record is now; None when no row names it any more."""
    row = read.one("SELECT id, tenant_id FROM instances WHERE object_id = ?", (object_id,))
    held = by_row(read, row[1], row[0]) if row else None
    if held is not None:
        return held.blob
    found = read.one("SELECT tenant_id FROM quarantine WHERE object_id = ?", (object_id,))
    aside = quarantined_one(read, found[0], object_id) if found else None
    return aside.blob if aside else None


def _by_arrival(one: Held) -> tuple[int, bytes]:
    return one.received_at, one.blob.object_id
