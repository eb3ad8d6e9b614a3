"""What a study showed at a moment in the past: records received until then, under the words that counted then.

Owns: the reading of rows and words as of a moment. Must never: write, or answer for what the index does not know: rejections
before schema 6 are known by their last word until a rebuild. Limits: STUDIES that ever led to one study; INSTANCES of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from radiolith.index import words
from radiolith.index.current import Switch, Version, current
from radiolith.index.descriptions import NOBODY, Columns
from radiolith.index.heldrows import JOINED, Homes, held_joined, tenant_uid
from radiolith.index.reckoning import Pair, Reckoning, ShownStudy, StudyRow
from radiolith.index.session import Reader
from radiolith.index.uids import pack_uid, unpack_uid
from radiolith.index.words import Subject
from radiolith.model import Held, Identity, LimitExceeded

STUDIES = 100  # that ever led to one study, by merges and moves
INSTANCES = 50_000  # of one study as of a moment, a KiB each
_JOINED = JOINED.replace("SELECT ", "SELECT i.policy, ", 1)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`patient`, `columns`: of patient and study as they were shown, as the index names them. `helds`: the version of each
    instance that was current, as it was then: identity, overlay, rejection."""

    study: str
    at: int
    who: Subject
    patient: Columns
    columns: Columns
    helds: tuple[Held, ...]


@dataclass(slots=True)
class _Group:
    """All that was shown under one identity. `switch`, `reason`: the last decisions about any of its homes."""

    helds: list[Held] = field(default_factory=list[Held])
    policies: list[int] = field(default_factory=list[int])
    switch: Switch | None = None
    rejected: tuple[int, bytes, str] = (0, b"", "")

    def chosen(self, read: Reader) -> Held:
        versions = [
            Version(
                held.instance_id, held.received_at, held.blob.object_id, policy, held.source.peer, held.encoding_of,
                _duplicates(read, held.instance_id),
            )
            for held, policy in zip(self.helds, self.policies, strict=True)
        ]  # fmt: skip
        row = current(versions, self.switch).current
        held = next(one for one in self.helds if one.instance_id == row)
        return replace(held, rejected=self.rejected[2], current=True)


def snapshot(read: Reader, tenant_id: int, study: str, at: int) -> Snapshot | None:
    """What was shown under this study UID at a moment (microseconds), None when nothing was."""
    uid = pack_uid(study)
    reckoning = Reckoning(read, tenant_id, at)
    sources = _sources(read, tenant_id, uid)
    groups: dict[tuple[str, str], _Group] = {}
    received: dict[tuple[bytes, bytes], list[_Group]] = {}
    for home in sources:
        _gather(reckoning, home, uid, (groups, received), at)
    if not groups:
        return None
    pairs = sorted(
        (_pair(read, tenant_id, *home) for home in received), key=lambda one: (one.study_key, one.series_key)
    )
    shown = reckoning.study(_row(read, tenant_id, uid, at), pairs)
    if shown is None:
        return None
    overlays = _Overlays(reckoning, shown, sorted({home for home, _ in received}))
    helds = [overlays.over(group.chosen(read)) for _, group in sorted(groups.items())]
    helds.sort(key=lambda one: (one.identity.series, one.number is None, one.number or 0, one.identity.sop))
    return Snapshot(study, at, shown.person, reckoning.patient(shown.person).columns, shown.columns, tuple(helds))


def _sources(read: Reader, tenant_id: int, uid: bytes) -> list[bytes]:
    """Studies as received of which anything was ever to be shown in this one, itself first."""
    found, waiting = [uid], [uid]
    while waiting:
        for said in words.pointing_at_study(read, tenant_id, waiting.pop()):
            if said.subject.study not in found:
                found.append(said.subject.study)
                waiting.append(said.subject.study)
        if len(found) > STUDIES:
            raise LimitExceeded(f"a study that more than {STUDIES} others were merged into is not told as of a moment")
    return found


def _row(read: Reader, tenant_id: int, uid: bytes, at: int) -> StudyRow:
    """The study's row as of then: of one in which nothing had been received yet, nothing is known of itself."""
    row = read.one("SELECT id, first_key FROM studies WHERE uid = ? AND tenant_id = ?", (uid, tenant_id))
    key = bytes(row[1]) if row else NOBODY
    return StudyRow(row[0] if row else 0, uid, key if int.from_bytes(key[:8], "big") <= at else NOBODY, True)


def _pair(read: Reader, tenant_id: int, study: bytes, series: bytes) -> Pair:
    """A received series of which something was shown in the study."""
    row = read.one(
        "SELECT h.id, h.first_key, t.id, t.first_key FROM studies t CROSS JOIN series h WHERE t.uid = ? AND t.tenant_id = ?"
        " AND h.uid = ? AND h.study_id = t.id",
        (study, tenant_id, series),
    ) or (0, NOBODY, 0, NOBODY)
    return Pair(row[0], 0, series, bytes(row[1]), row[2], study, bytes(row[3]), None)


_Found = tuple[dict[tuple[str, str], _Group], dict[tuple[bytes, bytes], list[_Group]]]


def _gather(reckoning: Reckoning, home: bytes, uid: bytes, found: _Found, at: int) -> None:
    """Add what was received under a study until then and was shown in `uid`."""
    groups, received = found
    read, tenant_id, view = reckoning.read, reckoning.tenant_id, reckoning.view
    decided = _decided(read, tenant_id, home, at)
    for policy, held in _received(read, tenant_id, home, at):
        own = held.home or held.identity
        series, sop = pack_uid(own.series), pack_uid(own.sop)
        placed = view.place(home, series, sop)
        if placed.study != uid:
            continue
        where = Identity(unpack_uid(uid), unpack_uid(placed.series), own.sop)
        group = groups.setdefault((where.series, where.sop), _Group())
        if len(groups) > INSTANCES:
            raise LimitExceeded(f"more than {INSTANCES} instances are not told as of a moment")
        moved = own if own != where else None
        group.helds.append(replace(held, identity=where, home=moved, overlay=None))
        group.policies.append(policy)
        received.setdefault((home, series), []).append(group)
        for kind, stamp, value in decided.get((series, sop), ()):
            _decide(group, kind, stamp, value)


def _decide(group: _Group, kind: str, stamp: tuple[int, bytes], value: str) -> None:
    if kind in ("reject", "restore"):
        group.rejected = max(group.rejected, (*stamp, value if kind == "reject" else ""))
    elif kind in ("current", "resolve") and value:
        said = Switch(*stamp, bytes.fromhex(value))
        if group.switch is None or (group.switch.at, group.switch.fact) < stamp:
            group.switch = said


def _received(read: Reader, tenant_id: int, home: bytes, at: int) -> Iterator[tuple[int, Held]]:
    """(policy, version) of all that was received under a study until then, in order of arrival, wherever it is shown now."""
    tenant, homes = tenant_uid(read, tenant_id), Homes(read, tenant_id)
    series = read.all(
        "SELECT e.id FROM studies s CROSS JOIN series e WHERE s.uid = ? AND s.tenant_id = ? AND e.study_id = s.id ORDER BY e.id",
        (home, tenant_id),
    )
    for (row_id,) in series:
        for where in ("i.series_id = ? AND i.home_id IS NULL", "i.home_id = ?"):
            sql = f"{_JOINED} AND {where} AND i.received_at <= ? ORDER BY i.received_at, i.object_id LIMIT ?"
            for row in read.all(sql, (tenant_id, row_id, at, INSTANCES + 1)):
                yield row[0], held_joined(read, tenant, row[1:], homes)


def _decided(
    read: Reader, tenant_id: int, home: bytes, at: int
) -> Mapping[tuple[bytes, bytes], list[tuple[str, tuple[int, bytes], str]]]:
    """(series, SOP Instance UID) -> rejections and choices that counted then, oldest first."""
    rows = read.all(
        "SELECT series, sop, at, fact, kind, op, value FROM history WHERE tenant_id = ? AND study = ? AND at <= ?"
        " ORDER BY at, fact",
        (tenant_id, home, at),
    )
    undone: dict[bytes, bool] = {}
    found: dict[tuple[bytes, bytes], list[tuple[str, tuple[int, bytes], str]]] = {}
    for series, sop, said_at, fact, kind, op, value in rows:
        name = bytes(op)
        if name not in undone:
            undone[name] = words.undone_until(read, tenant_id, name, at)
        if not undone[name]:
            found.setdefault((bytes(series), bytes(sop)), []).append((kind, (said_at, bytes(fact)), value))
    return found


def _duplicates(read: Reader, instance_id: int) -> frozenset[bytes]:
    rows = read.all("SELECT object_id FROM duplicates WHERE instance_id = ?", (instance_id,))
    return frozenset(bytes(row[0]) for row in rows)


class _Overlays:
    """The corrections of headers then, one for each received series and where it was shown."""

    def __init__(self, reckoning: Reckoning, shown: ShownStudy, others: Sequence[bytes]):
        self._reckoning, self._shown, self._others = reckoning, shown, others
        self._known: dict[tuple[bytes, bytes, bytes], Any] = {}

    def over(self, held: Held) -> Held:
        home = held.home or held.identity
        key = pack_uid(home.study), pack_uid(home.series), pack_uid(held.identity.series)
        if key not in self._known:
            reckoning = self._reckoning
            row = reckoning.read.one(
                "SELECT first_key FROM studies WHERE uid = ? AND tenant_id = ?", (key[0], reckoning.tenant_id)
            )
            person = reckoning.home_person(key[0], bytes(row[0]) if row else b"")
            self._known[key] = reckoning.overlay((key[:2], person), self._shown, key[2], self._others)
        return replace(held, overlay=self._known[key])
