"""Labels: words and key=value pairs that people put on patients, studies and series, as rows.

Owns: the table `labels` (what is shown and searched) and the words it follows from. Must never: say who may label (the verb
does), or depend on the order in which words and objects arrive. A label is one register of (subject, name): of the active words
the newest by (at, object id of the fact) holds, so that a name has one value and undo shows again what was said before
(docs/decisions/100). Subjects are named as received; words about what is not held wait for it.

A study's labels are on the row of the study as received: they sleep while it is merged into another one. A series' labels are on
every row its instances are shown in. Limits: LABEL_MAX characters of one label, since they travel as values of VR LO
(PS3.5 6.2); LABELS_MAX of one subject are shown.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from radiolith.index import words
from radiolith.index.changes import ChangeKind, record
from radiolith.index.heard import Heard, text
from radiolith.index.identities import IN_CHUNK
from radiolith.index.session import Reader, Writer
from radiolith.index.uids import pack_uid
from radiolith.model import Level

LABEL_MAX = 64  # characters of "name" or "name=value"
LABELS_MAX = 64  # of one subject that are shown; more are kept and found
SUBJECTS_MAX = 1_000  # of one fact
LEVELS: Mapping[Level, int] = {Level.PATIENT: 0, Level.STUDY: 1, Level.SERIES: 2}
"""As `words.level` and `labels.level` have them."""
_PATIENT, _STUDY, _SERIES = LEVELS[Level.PATIENT], LEVELS[Level.STUDY], LEVELS[Level.SERIES]
_SLOT = "label:"
_NEXT_SLOT = "label;"  # ';' follows ':': every label's slot is between the two


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What a word is about; study and series are packed UIDs, empty where the subject has none."""

    level: int
    study: bytes = b""
    series: bytes = b""
    patient: str = ""
    issuer: str = ""

    def columns(self) -> tuple[int, bytes, bytes, bytes, str, str]:
        """As the key of `words` has it: level, study, series, sop, patient, issuer."""
        return self.level, self.study, self.series, b"", self.patient, self.issuer


def subject(item: object) -> Subject:
    """As a fact names it. Raises ValueError, TypeError for what cannot have labels."""
    if not isinstance(item, (list, tuple)) or not item:
        raise ValueError("a subject is a list that begins with its kind")
    kind, *names = (text(part) for part in item)  # pyright: ignore[reportUnknownVariableType]
    if (kind, len(names)) == ("patient", 2) and names[0]:
        return Subject(_PATIENT, patient=names[0], issuer=names[1])
    if (kind, len(names)) == ("patient-of", 1) and names[0]:
        return Subject(_PATIENT, study=pack_uid(names[0]))
    if (kind, len(names)) == ("study", 1) and names[0]:
        return Subject(_STUDY, pack_uid(names[0]))
    if (kind, len(names)) == ("series", 2) and all(names):
        return Subject(_SERIES, pack_uid(names[0]), pack_uid(names[1]))
    raise ValueError("only patients, studies and series have labels")


# ---------------------------------------------------------------- facts


def _label(fact: Heard) -> None:
    """One label, set or taken away on each of the subjects."""
    body, word, tx = fact.body, fact.word, fact.tx
    operation, name, value = words.operation_of(fact), text(body["name"]), text(body["value"])
    gone = body["gone"]
    if not name or not isinstance(gone, bool):
        raise ValueError("a label has a name, and is there or gone")
    subjects = sorted({subject(item) for item in body["of"]})
    words.note(fact, "label", operation)
    about = [words.Subject(*one.columns()) for one in subjects]
    words.put(fact, about, {_SLOT + name.replace("\x00", ""): {"value": value, "gone": gone}}, operation)
    _settle(tx, fact.tenant_id, subjects, word.at)


KINDS = {
    "label": _label,  # op, reason, of [subject, …], name, value ('' for a mere word), gone
}


def undone(tx: Writer, tenant_id: int, operation: bytes, at: int) -> None:
    """An operation was undone or done again: what its words were about is worked out anew. Nothing when they were no labels."""
    rows = tx.all(
        "SELECT DISTINCT level, study, series, patient, issuer FROM words WHERE tenant_id = ? AND op = ? AND slot >= ?"
        " AND slot < ?",
        (tenant_id, operation, _SLOT, _NEXT_SLOT),
    )
    subjects = sorted(Subject(row[0], bytes(row[1]), bytes(row[2]), row[3], row[4]) for row in rows)
    _settle(tx, tenant_id, subjects, at)


# ---------------------------------------------------------------- what is shown


def arrived(tx: Writer, tenant_id: int, study: bytes, patient: tuple[str, str]) -> None:
    """New rows were made under a study: words about it, its series or its patient may have waited for them. `patient`: its
    identifier and issuer, ('', '') for a patient known by the study alone. The study is locked."""
    if tx.one("SELECT 1 FROM words WHERE tenant_id = ? LIMIT 1", (tenant_id,)) is None:
        return
    rows = tx.all(
        "SELECT DISTINCT level, study, series, patient, issuer FROM words WHERE tenant_id = ? AND level IN (0, 1, 2)"
        " AND study = ? AND slot >= ? AND slot < ?",
        (tenant_id, study, _SLOT, _NEXT_SLOT),
    )
    subjects = {Subject(row[0], bytes(row[1]), bytes(row[2]), row[3], row[4]) for row in rows}
    if patient[0]:
        subjects.add(Subject(_PATIENT, patient=patient[0], issuer=patient[1]))
    for one in sorted(subjects):
        for owner in _owners(tx, tenant_id, one):
            _show(tx, tenant_id, owner)


def resettle(tx: Writer, tenant_id: int, series: Iterable[int]) -> None:
    """The instances of these series rows were placed elsewhere, or others here: their labels follow. The study is locked."""
    for row_id in sorted(set(series)):
        _show(tx, tenant_id, (_SERIES, row_id))


def _settle(tx: Writer, tenant_id: int, subjects: Sequence[Subject], at: int) -> None:
    """Bring the rows of what is held up to date, and tell followers of those that changed. In the order of locks: patients,
    then studies by UID; words are read under the lock, so that of two that label at once the later sees both."""
    changed: dict[tuple[int, int], None] = {}
    for one in subjects:
        study_id = _lock_study(tx, tenant_id, one.study) if one.level != _PATIENT else 0
        for owner in _owners(tx, tenant_id, one):
            if _show(tx, tenant_id, owner):
                changed[study_id, 0 if study_id else owner[1]] = None
    record(tx, [(tenant_id, ChangeKind.LABELLED, study_id, patient_id, at) for study_id, patient_id in changed])


def _lock_study(tx: Writer, tenant_id: int, study: bytes) -> int:
    row = tx.one(f"SELECT id FROM studies WHERE uid = ? AND tenant_id = ?{tx.lock_rows}", (study, tenant_id))  # noqa: S608
    return row[0] if row else 0


Owner = tuple[int, int]  # level, and row of patients, studies or series


def _owners(tx: Writer, tenant_id: int, one: Subject) -> list[Owner]:
    """The rows a subject's labels are shown on; none while it is not held."""
    if one.level == _PATIENT:
        row = patient_row(tx, tenant_id, one)
        if row is not None:
            tx.one(f"SELECT id FROM patients WHERE id = ?{tx.lock_rows}", (row,))  # noqa: S608
        return [(_PATIENT, row)] if row is not None else []
    study = tx.one("SELECT id FROM studies WHERE uid = ? AND tenant_id = ?", (one.study, tenant_id))
    if study is None or one.level == _STUDY:
        return [(_STUDY, study[0])] if study else []
    series = tx.one("SELECT id FROM series WHERE uid = ? AND study_id = ?", (one.series, study[0]))
    if series is None:
        return []
    shown = tx.all("SELECT DISTINCT series_id FROM instances WHERE home_id = ?", (series[0],))
    return [(_SERIES, row_id) for row_id in sorted({series[0], *(row[0] for row in shown)})]


def patient_row(read: Reader, tenant_id: int, one: Subject) -> int | None:
    """The row of a patient named by identifier, or by a study of a patient without one."""
    if one.study:
        row = read.one("SELECT id FROM patients WHERE anchor = ? AND tenant_id = ?", (one.study, tenant_id))
    else:
        row = read.one(
            "SELECT patient_id FROM patient_identifiers WHERE tenant_id = ? AND value = ? AND issuer = ?",
            (tenant_id, one.patient, one.issuer),
        )
    return row[0] if row else None


def _show(tx: Writer, tenant_id: int, owner: Owner) -> bool:
    """Write the rows of one owner; whether anything changed."""
    wanted = _effective(tx, tenant_id, _subjects(tx, owner))
    rows = tx.all("SELECT name, value FROM labels WHERE level = ? AND owner_id = ?", owner)
    there = {row[0]: row[1] for row in rows}
    if there == wanted:
        return False
    tx.run("DELETE FROM labels WHERE level = ? AND owner_id = ?", owner)
    tx.run_many(
        "INSERT INTO labels(tenant_id, level, owner_id, name, value) VALUES (?, ?, ?, ?, ?)",
        [(tenant_id, *owner, name, value) for name, value in sorted(wanted.items())],
    )
    return True


def _subjects(tx: Reader, owner: Owner) -> list[Subject]:
    """Whose words count for a row: its own name's, of a series also those of the series its instances were received in."""
    level, row_id = owner
    if level == _PATIENT:
        rows = tx.all("SELECT value, issuer FROM patient_identifiers WHERE patient_id = ?", (row_id,))
        anchor = tx.one("SELECT anchor FROM patients WHERE id = ? AND anchor IS NOT NULL", (row_id,))
        found = [Subject(_PATIENT, patient=row[0], issuer=row[1]) for row in rows]
        return found + ([Subject(_PATIENT, bytes(anchor[0]))] if anchor else [])
    if level == _STUDY:
        rows = tx.all("SELECT uid FROM studies WHERE id = ?", (row_id,))
        return [Subject(_STUDY, bytes(row[0])) for row in rows]
    rows = tx.all(
        "SELECT s.uid, e.uid FROM series e JOIN studies s ON s.id = e.study_id WHERE e.id = ? OR e.id IN"
        " (SELECT home_id FROM instances WHERE series_id = ? AND home_id IS NOT NULL)",
        (row_id, row_id),
    )
    return [Subject(_SERIES, bytes(row[0]), bytes(row[1])) for row in rows]


def _effective(tx: Reader, tenant_id: int, subjects: Sequence[Subject]) -> dict[str, str]:
    """Name -> value of the labels that are there: of each name the newest word of an operation that is not undone."""
    newest: dict[str, tuple[int, bytes, str]] = {}
    for one in subjects:
        rows = tx.all(
            "SELECT w.slot, w.at, w.fact, w.value FROM words w LEFT JOIN operations o ON o.tenant_id = w.tenant_id"
            " AND o.op = w.op WHERE w.tenant_id = ? AND w.level = ? AND w.study = ? AND w.series = ? AND w.sop = ?"
            " AND w.patient = ? AND w.issuer = ? AND w.slot >= ? AND w.slot < ? AND COALESCE(o.undone, 0) = 0",
            (tenant_id, *one.columns(), _SLOT, _NEXT_SLOT),
        )
        for slot, at, fact, value in rows:
            said = (at, bytes(fact), value)
            if slot not in newest or newest[slot][:2] < said[:2]:
                newest[slot] = said
    found = {slot.removeprefix(_SLOT): json.loads(value) for slot, (_, _, value) in newest.items()}
    return {name: said["value"] for name, said in found.items() if not said["gone"]}


# ---------------------------------------------------------------- reading


def name_of(text: str) -> str:
    """The name of a label as it is kept: labels that differ in case or by how an accent is written are one."""
    return unicodedata.normalize("NFC", text.partition("=")[0].strip().casefold())


def written(name: str, value: str) -> str:
    """A label as people write it."""
    return f"{name}={value}" if value else name


def shown(read: Reader, level: Level, owners: Sequence[int]) -> dict[int, list[str]]:
    """Row -> its labels in order, of those rows that have any; at most LABELS_MAX of each."""
    found: dict[int, list[str]] = {}
    for start in range(0, len(owners), IN_CHUNK):
        chunk = owners[start : start + IN_CHUNK]
        rows = read.all(
            f"SELECT owner_id, name, value FROM labels WHERE level = ? AND owner_id IN ({', '.join('?' * len(chunk))})"  # noqa: S608
            " ORDER BY owner_id, name",
            (LEVELS[level], *chunk),
        )
        for owner, name, value in rows:
            labels = found.setdefault(owner, [])
            if len(labels) < LABELS_MAX:
                labels.append(written(name, value))
    return found


def row_of(read: Reader, tenant_id: int, one: Subject) -> int | None:
    """The row that carries a subject's labels, None when it is not held."""
    if one.level == _PATIENT:
        return patient_row(read, tenant_id, one)
    study = read.one("SELECT id FROM studies WHERE uid = ? AND tenant_id = ?", (one.study, tenant_id))
    if study is None or one.level == _STUDY:
        return study[0] if study else None
    series = read.one("SELECT id FROM series WHERE uid = ? AND study_id = ?", (one.series, study[0]))
    return series[0] if series else None


def of_row(read: Reader, level: Level, row_id: int) -> dict[str, str]:
    """Name -> value of all labels of a row."""
    rows = read.all("SELECT name, value FROM labels WHERE level = ? AND owner_id = ?", (LEVELS[level], row_id))
    return {row[0]: row[1] for row in rows}


def is_of_labels(read: Reader, tenant_id: int, operation: str) -> bool:
    """Whether an operation, in hexadecimal digits, has put labels or taken them."""
    try:
        name = bytes.fromhex(operation)
    except ValueError:
        return False
    row = read.one("SELECT kind FROM operations WHERE tenant_id = ? AND op = ?", (tenant_id, name))
    return row is not None and row[0] == "label"


def newest(read: Reader, tenant_id: int, subjects: Sequence[Subject], name: str) -> int:
    """When the latest word about this label of these subjects was said, 0 when none was."""
    at = 0
    for one in subjects:
        row = read.one(
            "SELECT MAX(at) FROM words WHERE tenant_id = ? AND level = ? AND study = ? AND series = ? AND sop = ?"
            " AND patient = ? AND issuer = ? AND slot = ?",
            (tenant_id, *one.columns(), _SLOT + name),
        )
        at = max(at, row[0] if row and row[0] else 0)
    return at


def used(read: Reader, tenant_id: int, limit: int, after: tuple[str, str] = ("", "")) -> list[tuple[str, str, int]]:
    """(name, value, how many carry it), by name and value; `after`: what the page before ended with."""
    rows: Sequence[Any] = read.all(
        "SELECT name, value, COUNT(*) FROM labels WHERE tenant_id = ? AND (name, value) > (?, ?) GROUP BY name, value"
        " ORDER BY name, value LIMIT ?",
        (tenant_id, *after, limit),
    )
    return [(row[0], row[1], int(row[2])) for row in rows]
