"""What people have said, read back: for verbs that decide in the knowledge of it, and for the history that is shown.

Owns: questions about the tables `words`, `operations` and `history`. Must never: write them, or work out what is shown
(docs/decisions/100). All active and inactive words count here; `undone` says which are which.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from radiolith.index import codes
from radiolith.index.session import Reader
from radiolith.index.uids import pack_uid, unpack_uid
from radiolith.model import Source

Named = Sequence[str]
"""A subject as facts name it: ['patient', value, issuer], ['patient-of', study], ['study', S], ['series', S, E], …"""

LEVELS = {"patient": 0, "patient-of": 0, "study": 1, "series": 2, "instance": 3}
"""Numbers in the column `level`."""


@dataclass(frozen=True, slots=True)
class Told:
    """One operation: all that one act of a person said. `undone`: its words do not count now, since `undone_at`, because of
    the fact `undone_by`."""

    op: bytes
    at: int
    fact: bytes
    kind: str
    by: str
    why: str
    reason: str
    undone: bool
    undone_at: int
    undone_by: str


@dataclass(frozen=True, slots=True)
class Word:
    """One word of an operation: what about which subject. `value`: JSON; `target`: where a placement or merge points."""

    subject: tuple[str, ...]
    slot: str
    at: int
    op: bytes
    value: str
    target: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One rejection, restoration, choice of a version or recognised encoding, about a received identity."""

    study: str
    series: str
    sop: str
    at: int
    kind: str
    op: bytes
    value: str
    by: str
    undone: bool


# ---------------------------------------------------------------- what a decision is made in the knowledge of


def _key(subject: Named) -> tuple[Any, ...]:
    """Level, study, series, sop, patient and issuer, as the columns have them."""
    kind, *names = subject
    if kind == "patient":
        return (0, b"", b"", b"", names[0], names[1])
    uids = [pack_uid(name) for name in names] + [b""] * (3 - len(names))
    return (LEVELS[kind], *uids, "", "")


_BELOW = (
    "w.tenant_id = ? AND w.level = ? AND w.study = ? AND w.series = ? AND w.sop = ? AND w.patient = ? AND w.issuer = ?"
)
_STATE = (
    "SELECT w.slot, w.at, w.fact, COALESCE(o.undone, 0), COALESCE(o.undone_at, 0) FROM words w"  # noqa: S608
    f" LEFT JOIN operations o ON o.tenant_id = w.tenant_id AND o.op = w.op WHERE {_BELOW} ORDER BY w.slot, w.at, w.fact"
)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """`newest`: time of the last word or undo about the subjects, 0 when there is none; `state`: changes with each."""

    newest: int
    state: str


def knowledge(read: Reader, tenant_id: int, subjects: Iterable[Named]) -> Knowledge:
    """What is known of these subjects themselves (not of what lies below them)."""
    newest, seen = 0, hashlib.blake2b(digest_size=8)
    for key in sorted({_key(subject) for subject in subjects}, key=repr):
        rows = read.all(_STATE, (tenant_id, *key))
        for slot, at, fact, undone, undone_at in rows:
            newest = max(newest, at, undone_at)
            seen.update(f"{key!r} {slot} {at} {bytes(fact).hex()} {undone} {undone_at}\n".encode())
    return Knowledge(newest, seen.hexdigest())


def placed_alone(read: Reader, tenant_id: int, study: str, series: str) -> set[str]:
    """SOP Instance UIDs of a received series about whose place somebody has said something of their own."""
    rows = read.all(
        "SELECT DISTINCT sop FROM words WHERE tenant_id = ? AND level = 3 AND study = ? AND series = ?",
        (tenant_id, pack_uid(study), pack_uid(series)),
    )
    return {unpack_uid(bytes(row[0])) for row in rows}


def has_patient(read: Reader, tenant_id: int, study: str) -> bool:
    """Whether somebody has ever said whose study it is."""
    return (
        read.one(
            "SELECT 1 FROM words WHERE tenant_id = ? AND level = 1 AND study = ? AND series = ? AND sop = ? AND slot = 'patient'"
            " LIMIT 1",
            (tenant_id, pack_uid(study), b"", b""),
        )
        is not None
    )


# ---------------------------------------------------------------- what was done

_TOLD = (
    "SELECT o.op, o.at, o.fact, o.kind, o.by_name, o.why, o.reason, o.undone, o.undone_at, COALESCE(f.by_name, '')"
    " FROM operations o LEFT JOIN facts f ON f.object_id = o.undone_fact"
)


def _told(row: Sequence[Any]) -> Told:
    return Told(
        bytes(row[0]), row[1], bytes(row[2]), row[3], row[4], row[5], row[6], bool(row[7]), row[8], row[9]
    )  # fmt: skip


def operation(read: Reader, tenant_id: int, op: bytes) -> Told | None:
    row = read.one(f"{_TOLD} WHERE o.tenant_id = ? AND o.op = ?", (tenant_id, op))
    return _told(row) if row else None


def operations(read: Reader, tenant_id: int, limit: int, after: bytes = b"") -> list[Told]:
    """Latest first; `after` is the operation the page before ended with."""
    last = operation(read, tenant_id, after) if after else None
    rows = read.all(
        f"{_TOLD} WHERE o.tenant_id = ? AND (o.at, o.op) < (?, ?) AND o.kind <> '' ORDER BY o.at DESC, o.op DESC LIMIT ?",
        (tenant_id, last.at if last else 2**62, last.op if last else b"", limit),
    )
    return [_told(row) for row in rows]


_WORD = "SELECT level, study, series, sop, patient, issuer, slot, at, op, value, target, target_patient, target_issuer FROM words"


def _word(row: Sequence[Any]) -> Word:
    level, study, series, sop, patient, issuer, slot, at, op, value, target, to_patient, to_issuer = row
    names = [unpack_uid(bytes(uid)) for uid in (study, series, sop) if bytes(uid)]
    subject: tuple[str, ...]
    if level == 0:
        subject = ("patient-of", *names) if names else ("patient", patient, issuer) if patient else ()
    else:
        subject = (("", "study", "series", "instance")[level], *names)
    where: tuple[str, ...] = ()
    if to_patient:
        where = ("patient", to_patient, to_issuer)
    elif bytes(target):
        where = (
            "patient-of" if slot.partition(":")[0] in ("patient", "into", "link") else "study",
            unpack_uid(bytes(target)),
        )
    return Word(subject, slot, at, bytes(op), value, where)


def words_of(read: Reader, tenant_id: int, op: bytes, limit: int) -> list[Word]:
    """What an operation said, by subject and slot; at most `limit` words."""
    rows = read.all(
        f"{_WORD} WHERE tenant_id = ? AND op = ? ORDER BY level, study, series, sop, patient, issuer, slot, at LIMIT ?",
        (tenant_id, op, limit),
    )
    return [_word(row) for row in rows]


def words_about(read: Reader, tenant_id: int, studies: Sequence[str], limit: int) -> list[Word]:
    """All that was said about studies and what lies below them, and what points at them, oldest first."""
    found: dict[tuple[Any, ...], Word] = {}
    for study in studies:
        packed = pack_uid(study)
        for level in (0, 1, 2, 3):
            rows = read.all(
                f"{_WORD} WHERE tenant_id = ? AND level = ? AND study = ? ORDER BY at DESC LIMIT ?",
                (tenant_id, level, packed, limit),
            )
            found |= {(bytes(row[8]), *map(str, row[:8])): _word(row) for row in rows}
        rows = read.all(
            f"{_WORD} WHERE tenant_id = ? AND target = ? ORDER BY at DESC LIMIT ?", (tenant_id, packed, limit)
        )
        found |= {(bytes(row[8]), *map(str, row[:8])): _word(row) for row in rows}
    return sorted(found.values(), key=lambda word: (word.at, word.op, word.subject, word.slot))


def words_about_patient(read: Reader, tenant_id: int, value: str, issuer: str, limit: int) -> list[Word]:
    """All that was said about an identifier, and what points at it, oldest first."""
    rows = read.all(
        f"{_WORD} WHERE tenant_id = ? AND level = 0 AND study = ? AND series = ? AND sop = ? AND patient = ? AND issuer = ?"
        " ORDER BY at DESC LIMIT ?",
        (tenant_id, b"", b"", b"", value, issuer, limit),
    )
    rows += read.all(
        f"{_WORD} WHERE tenant_id = ? AND target_patient = ? AND target_issuer = ? AND target_patient <> ''"
        " ORDER BY at DESC LIMIT ?",
        (tenant_id, value, issuer, limit),
    )
    return sorted((_word(row) for row in rows), key=lambda word: (word.at, word.op, word.subject, word.slot))


def events(read: Reader, tenant_id: int, study: str, series: str, sop: str, limit: int) -> list[Event]:
    """Rejections and choices of versions about a received study, or a series or an instance of it, oldest first."""
    names = (pack_uid(study), pack_uid(series), pack_uid(sop))
    where = " AND h.series = ?" * bool(series) + " AND h.sop = ?" * bool(sop)
    rows = read.all(
        "SELECT h.study, h.series, h.sop, h.at, h.kind, h.op, h.value, COALESCE(f.by_name, ''), COALESCE(o.undone, 0)"  # noqa: S608
        " FROM history h LEFT JOIN facts f ON f.object_id = h.fact"
        " LEFT JOIN operations o ON o.tenant_id = h.tenant_id AND o.op = h.op"
        f" WHERE h.tenant_id = ? AND h.study = ?{where} ORDER BY h.at DESC, h.sop LIMIT ?",
        (tenant_id, names[0], *names[1 : 1 + bool(series)], *names[2 : 2 + bool(sop)], limit),
    )
    found = [
        Event(
            unpack_uid(bytes(row[0])),
            unpack_uid(bytes(row[1])),
            unpack_uid(bytes(row[2])),
            row[3],
            row[4],
            bytes(row[5]),
            row[6],
            row[7],
            bool(row[8]),
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: (one.at, one.study, one.series, one.sop))


def event_count(read: Reader, tenant_id: int, op: bytes) -> int:
    """How many rejections, restorations and choices an operation made."""
    row = read.one("SELECT COUNT(*) FROM history WHERE tenant_id = ? AND op = ?", (tenant_id, op))
    return row[0] if row else 0


def settled(read: Reader, tenant_id: int, case: str) -> str:
    """How an unclear case was settled, '' when it was not or that was undone."""
    rows = read.all(
        "SELECT w.value, COALESCE(o.undone, 0) FROM words w LEFT JOIN operations o ON o.tenant_id = w.tenant_id AND o.op = w.op"
        " WHERE w.tenant_id = ? AND w.level = 0 AND w.study = ? AND w.series = ? AND w.sop = ? AND w.patient = ''"
        " AND w.issuer = '' AND w.slot = ? ORDER BY w.at DESC, w.fact DESC",
        (tenant_id, b"", b"", b"", f"settle:{case}"),
    )
    return next((str(json.loads(value)) for value, undone in rows if not undone), "")


@dataclass(frozen=True, slots=True)
class Reception:
    """What came into a study from one source: first and last time, how many instances, and of them how many with other content
    under a UID that was held (`versions`) or in another syntax (`encodings`)."""

    source: Source
    principal: str
    first_at: int
    last_at: int
    count: int
    versions: int
    encodings: int


def receptions(read: Reader, tenant_id: int, study: str) -> list[Reception]:
    """Where what a study shows came from, by source, oldest first."""
    rows = read.all(
        "SELECT i.source, i.principal, MIN(i.received_at), MAX(i.received_at), COUNT(*),"
        " SUM(CASE WHEN i.version > 0 AND i.encoding_of IS NULL THEN 1 ELSE 0 END),"
        " SUM(CASE WHEN i.encoding_of IS NULL THEN 0 ELSE 1 END)"
        " FROM studies s CROSS JOIN series e CROSS JOIN instances i"
        " WHERE s.uid = ? AND s.tenant_id = ? AND e.study_id = s.id AND i.series_id = e.id"
        " GROUP BY i.source, i.principal ORDER BY MIN(i.received_at), i.source, i.principal",
        (pack_uid(study), tenant_id),
    )
    return [
        Reception(
            codes.source(read, row[0]),
            codes.decode(read, row[1]),
            row[2],
            row[3],
            int(row[4]),
            int(row[5]),
            int(row[6]),
        )
        for row in rows
    ]
