"""Words: what people have said about patients, studies, series and instances, and which of it counts.

Owns: the tables `words` and `operations`, and the order of words. Must never: work out what is shown. A word is (subject, slot,
at, fact, value); of one subject and slot the newest active one holds, by (at, object id of the fact). All words of an operation
become inactive and active together, by the newest undo of it (docs/decisions/100).

Subjects are named as received. Slots: the tag of an attribute ('00100010', '00090001:CREATOR'), 'place' and 'patient' (where
a study, series or instance belongs), 'into' (which patient this one is), 'state', 'link:<patient>', 'settle:<case>', 'undo:<op>'
and 'label:<name>' (labels.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

from radiolith.index.ddl import EMPTY
from radiolith.index.heard import Heard
from radiolith.index.session import Reader, Writer
from radiolith.index.uids import pack_uid, unpack_uid

PLACE, PATIENT, INTO, STATE = "place", "patient", "into", "state"
LINK, SETTLE, UNDO = "link:", "settle:", "undo:"
OP_BYTES = 16
TEXT_MAX = 1024  # characters of a reason or an origin


class Level(IntEnum):
    """What a subject is. The value is in the database."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    INSTANCE = 3


class Flag(IntFlag):
    """In the column `words` of patients and studies: what to look for. Never taken away."""

    SAID = 1  # something was said about it, or about what it belongs to
    PLACED = 2  # something was moved from or to it


class Subject(NamedTuple):
    """Packed UIDs as received; a patient is an identifier, or for want of one a study (`patient-of`)."""

    level: int
    study: bytes = b""
    series: bytes = b""
    sop: bytes = b""
    patient: str = ""
    issuer: str = ""

    @property
    def is_patient(self) -> bool:
        return self.level == Level.PATIENT

    def named(self) -> list[str]:
        """As a fact names it."""
        if self.level == Level.PATIENT:
            return ["patient-of", unpack_uid(self.study)] if self.study else ["patient", self.patient, self.issuer]
        kind = ("", "study", "series", "instance")[self.level]
        return [kind, *(unpack_uid(uid) for uid in self[1 : 1 + self.level])]


NOBODY = Subject(Level.PATIENT)


def patient(value: str, issuer: str = "") -> Subject:
    return Subject(Level.PATIENT, patient=value, issuer=issuer)


def patient_of(study: bytes) -> Subject:
    return Subject(Level.PATIENT, study)


class Stamp(NamedTuple):
    """What decides which of two words is the later one."""

    at: int
    fact: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """One word. `target`, `target_patient`: the study or patient it points at. `active`: its operation is not undone."""

    subject: Subject
    slot: str
    at: int
    fact: bytes
    op: bytes
    value: Any  # of JSON
    target: bytes
    target_patient: Subject
    active: bool

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.at, self.fact)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a word points; empty for nowhere."""

    study: bytes = b""
    patient: Subject = NOBODY

    def columns(self) -> tuple[bytes, str, str]:
        return self.study or self.patient.study, self.patient.patient, self.patient.issuer


NOWHERE = Target()


# ---------------------------------------------------------------- saying


def operation_of(heard: Heard, *, needed: bool = True) -> bytes:
    """Which operation a fact belongs to: it says so, or is one of its own. Raises KeyError, TypeError, ValueError."""
    if not needed and "op" not in heard.body:
        return heard.word.fact
    op = bytes.fromhex(heard.body["op"])
    if len(op) != OP_BYTES:
        raise ValueError(f"the name of an operation has {OP_BYTES} bytes")
    return op


def note(heard: Heard, kind: str, op: bytes) -> bool:
    """Put the operation on record, as the first of its facts tells it; whether its words count."""
    body, word = heard.body, heard.word
    why, reason, origin = (_clean(body.get(key)) for key in ("why", "reason", "from"))
    if kind in ("reject", "restore"):
        reason = _clean(body.get("reason")) if kind == "reject" else reason
    heard.tx.run(
        "INSERT INTO operations(tenant_id, op, at, fact, undone, undone_at, undone_fact, kind, by_name, why, reason, origin,"
        " summary) VALUES (?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?, '') ON CONFLICT (tenant_id, op) DO UPDATE SET"
        " at = excluded.at, fact = excluded.fact, kind = excluded.kind, by_name = excluded.by_name, why = excluded.why,"
        " reason = excluded.reason, origin = excluded.origin"
        " WHERE operations.kind = '' OR (excluded.at, excluded.fact) < (operations.at, operations.fact)",
        (heard.tenant_id, op, word.at, word.fact, b"", kind, _clean(heard.by), why, reason, origin),
    )
    return not _undone(heard.tx, heard.tenant_id, op)[0]


def _clean(value: object) -> str:
    return value.replace("\x00", "")[:TEXT_MAX] if isinstance(value, str) else ""


def _undone(read: Reader, tenant_id: int, op: bytes) -> tuple[bool, int]:
    row = read.one("SELECT undone, undone_at FROM operations WHERE tenant_id = ? AND op = ?", (tenant_id, op))
    return (bool(row[0]), row[1]) if row else (False, 0)


def is_undone(read: Reader, tenant_id: int, op: bytes) -> bool:
    return _undone(read, tenant_id, op)[0]


def last_undo(read: Reader, tenant_id: int, op: bytes) -> int:
    """When the operation was undone or done again last; 0 when it never was."""
    return _undone(read, tenant_id, op)[1]


def put(
    heard: Heard, subjects: Iterable[Subject], said: Mapping[str, Any], op: bytes, target: Target = NOWHERE
) -> None:
    """Say `said`, slot -> value, about each subject. The operation is on record already (`note`)."""
    word = heard.word
    values = [(slot, json.dumps(value, ensure_ascii=True).replace("\\u0000", "")) for slot, value in said.items()]
    heard.tx.run_many(
        "INSERT INTO words(tenant_id, level, study, series, sop, patient, issuer, slot, at, fact, op, value, target,"
        " target_patient, target_issuer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [
            (heard.tenant_id, *subject, slot, word.at, word.fact, op, value, *target.columns())
            for subject in subjects
            for slot, value in values
        ],
    )


def undo(heard: Heard, undoes: bytes, again: bool) -> bool:
    """Take the words of an operation away, or give them back; False when a later undo is known already."""
    put(heard, [NOBODY], {UNDO + undoes.hex(): not again}, operation_of(heard))
    word = heard.word
    return bool(
        heard.tx.run(
            "INSERT INTO operations(tenant_id, op, at, fact, undone, undone_at, undone_fact, kind, by_name, why, reason, origin,"
            " summary) VALUES (?, ?, 0, ?, ?, ?, ?, '', '', '', '', '', '') ON CONFLICT (tenant_id, op) DO UPDATE SET"
            " undone = excluded.undone, undone_at = excluded.undone_at, undone_fact = excluded.undone_fact"
            " WHERE (operations.undone_at, operations.undone_fact) < (excluded.undone_at, excluded.undone_fact)",
            (heard.tenant_id, undoes, b"", int(not again), word.at, word.fact),
        )
    )


# ---------------------------------------------------------------- asking

_WORD = (
    "SELECT w.level, w.study, w.series, w.sop, w.patient, w.issuer, w.slot, w.at, w.fact, w.op, w.value, w.target,"
    " w.target_patient, w.target_issuer, o.undone FROM words w LEFT JOIN operations o ON o.tenant_id = w.tenant_id"
    " AND o.op = w.op WHERE w.tenant_id = ? AND w.at <= ?"
)
FOREVER = 2**62


def _read(read: Reader, tenant_id: int, where: str, params: Sequence[Any], until: int) -> list[Said]:
    rows = read.all(f"{_WORD} AND {where} ORDER BY w.at, w.fact", (tenant_id, until, *params))
    before: dict[bytes, bool] = {}
    found: list[Said] = []
    for row in rows:
        subject = Subject(row[0], bytes(row[1]), bytes(row[2]), bytes(row[3]), row[4], row[5])
        slot, at, fact, op, value, target = row[6], row[7], bytes(row[8]), bytes(row[9]), row[10], bytes(row[11])
        whom = NOBODY
        if slot in (PATIENT, INTO) or slot.startswith(LINK):
            whom = Subject(Level.PATIENT, b"" if row[12] else target, patient=row[12], issuer=row[13])
            target = b""
        if until == FOREVER:
            active = not row[14]
        else:
            if op not in before:
                before[op] = undone_until(read, tenant_id, op, until)
            active = not before[op]
        found.append(Said(subject, slot, at, fact, op, json.loads(value), target, whom, active))
    return found


def undone_until(read: Reader, tenant_id: int, op: bytes, until: int) -> bool:
    """Whether an operation was undone at that moment (microseconds)."""
    row = read.one(
        "SELECT value FROM words WHERE tenant_id = ? AND level = 0 AND study = ? AND series = ? AND sop = ? AND patient = ''"
        " AND issuer = '' AND slot = ? AND at <= ? ORDER BY at DESC, fact DESC LIMIT 1",
        (tenant_id, b"", b"", b"", UNDO + op.hex(), until),
    )
    return bool(row and json.loads(row[0]))


_SUBJECT = "w.level = ? AND w.study = ? AND w.series = ? AND w.sop = ? AND w.patient = ? AND w.issuer = ?"


def about(read: Reader, tenant_id: int, subject: Subject, until: int = FOREVER) -> list[Said]:
    """All that was said about a subject itself, oldest first. `until`: only what was said and undone until then."""
    return _read(read, tenant_id, _SUBJECT, subject, until)


def below(read: Reader, tenant_id: int, level: Level, study: bytes, until: int = FOREVER) -> list[Said]:
    """All that was said about the series, or the instances, received under a study."""
    return _read(read, tenant_id, "w.level = ? AND w.study = ?", (int(level), study), until)


def of_instances(read: Reader, tenant_id: int, study: bytes, series: bytes, until: int = FOREVER) -> list[Said]:
    """All that was said about the instances received in a series."""
    where = "w.level = ? AND w.study = ? AND w.series = ?"
    return _read(read, tenant_id, where, (int(Level.INSTANCE), study, series), until)


def of_some(
    read: Reader, tenant_id: int, place: tuple[bytes, bytes], sops: Sequence[bytes], until: int = FOREVER
) -> list[Said]:
    """All that was said about these instances received in a series, given as (study, series)."""
    where = f"w.level = ? AND w.study = ? AND w.series = ? AND w.sop IN ({', '.join('?' * len(sops))})"
    return _read(read, tenant_id, where, (int(Level.INSTANCE), *place, *sops), until)


def any_of_instances(read: Reader, tenant_id: int, study: bytes) -> bool:
    """Whether anything was said about single instances of a study."""
    sql = "SELECT 1 FROM words WHERE tenant_id = ? AND level = ? AND study = ? LIMIT 1"
    return read.one(sql, (tenant_id, int(Level.INSTANCE), study)) is not None


def of_operation(read: Reader, tenant_id: int, op: bytes) -> list[Said]:
    return _read(read, tenant_id, "w.op = ?", (op,), FOREVER)


def pointing_at_study(read: Reader, tenant_id: int, study: bytes) -> list[Said]:
    """Words that placed something into a study, active or not."""
    return _read(
        read, tenant_id, f"w.target = ? AND w.target <> {EMPTY[read.dialect]} AND w.slot = ?", (study, PLACE), FOREVER
    )


def pointing_at_patient(read: Reader, tenant_id: int, who: Subject) -> list[Said]:
    """Words that placed a study, or merged another patient, into a patient, active or not."""
    if who.study:
        where, params = f"w.target = ? AND w.target <> {EMPTY[read.dialect]} AND w.target_patient = ''", (who.study,)
    else:
        where, params = (
            "w.target_patient = ? AND w.target_issuer = ? AND w.target_patient <> ''",
            (who.patient, who.issuer),
        )
    return [one for one in _read(read, tenant_id, where, params, FOREVER) if one.slot in (PATIENT, INTO)]


def newest(said: Iterable[Said], slot: str) -> Said | None:
    """The word that holds of a slot, None when nothing active was said."""
    return max((one for one in said if one.active and one.slot == slot), key=lambda one: one.stamp, default=None)


def effective(
    read: Reader, tenant_id: int, subjects: Iterable[Subject], *, until: int = FOREVER
) -> dict[Subject, dict[str, Said]]:
    """Subject -> slot -> the word that holds, of subjects about which any does; as of the moment `until`, if given."""
    found: dict[Subject, dict[str, Said]] = {}
    for subject in subjects:
        for one in about(read, tenant_id, subject, until):
            if one.active:
                found.setdefault(subject, {})[one.slot] = one  # in order: the later one wins
    return found


@dataclass(frozen=True, slots=True)
class Operation:
    """What one act of a person is told by, for a header's history."""

    by: str
    why: str
    origin: str


def told(read: Reader, tenant_id: int, op: bytes) -> Operation:
    row = read.one("SELECT by_name, why, origin FROM operations WHERE tenant_id = ? AND op = ?", (tenant_id, op))
    return Operation(row[0], row[1] or "CORRECT", row[2] or "") if row else Operation("", "CORRECT", "")


def subject(item: object) -> Subject:
    """As a fact names it: ['patient', value, issuer], ['patient-of', S], ['study', S], ['series', S, E], ['instance', S, E, I].
    Raises ValueError, TypeError."""
    if not isinstance(item, (list, tuple)) or not all(isinstance(part, str) for part in item):  # pyright: ignore[reportUnknownVariableType]
        raise TypeError("a subject is a list of texts")
    parts: list[str] = [str(part) for part in item]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    kind, names = parts[0] if parts else "", parts[1:]
    if kind == "patient" and len(names) == 2 and names[0]:
        return patient(*(name.replace("\x00", "") for name in names))
    if kind == "patient-of" and len(names) == 1 and names[0]:
        return patient_of(pack_uid(names[0]))
    level = {"study": 1, "series": 2, "instance": 3}.get(kind, 0)
    if level and len(names) == level and all(names):
        study, series, sop = ([pack_uid(name) for name in names] + [b"", b""])[:3]
        return Subject(level, study, series, sop)
    raise ValueError("a subject that names nothing")


def lock(tx: Writer, tenant_id: int) -> None:
    """One decision of a tenant at a time: what they bear upon may be far apart. Before any other lock."""
    if tx.dialect == "postgresql":
        tx.one("SELECT id FROM tenants WHERE id = ? FOR NO KEY UPDATE", (tenant_id,))
