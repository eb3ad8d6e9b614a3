"""Facts that correct, move, merge, link and undo: what each says, and what is brought up to date by it.

Owns: KINDS, the bodies of these facts, and the order of locks (the tenant's decisions one at a time, then patients, then studies
by UID). Must never: let what is shown depend on the order of facts: a handler writes words, and what they bear upon is worked
out from all words there are. A body is checked whole before anything is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from radiolith.dicom.compose import from_value
from radiolith.dicom.limits import Unparsable
from radiolith.index import decisions, labels, placing, shown, words
from radiolith.index.changes import ChangeKind, record
from radiolith.index.counts import Tally
from radiolith.index.heard import Heard, text
from radiolith.index.patients import Patients, State
from radiolith.index.session import Writer
from radiolith.index.uids import pack_uid
from radiolith.index.words import NOWHERE, Flag, Level, Subject, Target

_TAG = re.compile(r"[0-9A-F]{8}")


@dataclass(slots=True)
class _Bearing:
    """What words are about, and where they point: all that has to be looked at after them."""

    studies: set[bytes] = field(default_factory=set[bytes])  # received or shown
    placed: set[bytes] = field(default_factory=set[bytes])  # of these, those with words about places
    targets: set[bytes] = field(default_factory=set[bytes])
    patients: set[Subject] = field(default_factory=set[Subject])

    def add(self, subject: Subject, slot: str, target: Target) -> None:
        if subject.is_patient:
            if subject != words.NOBODY and (_is_shown(slot) or slot in (words.INTO, words.STATE)):
                self.patients.add(subject)
        elif slot == words.PLACE:
            self.studies.add(subject.study)
            self.placed.add(subject.study)
        elif slot == words.PATIENT or _is_shown(slot):
            self.studies.add(subject.study)
        if slot == words.PLACE:
            self.targets.add(target.study)
        elif slot in (words.PATIENT, words.INTO):
            self.patients.add(target.patient)

    @property
    def any(self) -> bool:
        return bool(self.studies or self.patients)


def _is_shown(slot: str) -> bool:
    return _TAG.fullmatch(slot.partition(":")[0]) is not None


# ---------------------------------------------------------------- bodies


def _subjects(heard: Heard, levels: Sequence[int]) -> list[Subject]:
    found = sorted({words.subject(item) for item in heard.body["of"]})
    if not found or any(one.level not in levels for one in found):
        raise ValueError("nothing that this can be said about")
    return found


def _slot(tag: str, creator: object) -> str:
    digits = text(tag).upper()
    if not _TAG.fullmatch(digits):
        raise ValueError("a tag has eight hexadecimal digits")
    if creator is None or creator == "":
        return digits
    return f"{int(digits, 16) & 0xFFFF00FF:08X}:{text(creator)}".replace("\x00", "")


def _edits(body: Mapping[str, Any]) -> dict[str, Any]:
    """slot -> DICOM JSON or None. Raises KeyError, TypeError, ValueError."""
    said: dict[str, Any] = {}
    for tag, value in dict(body.get("set") or {}).items():
        if not isinstance(value, Mapping):
            raise TypeError("a value is a DICOM JSON object")
        element: dict[str, Any] = {str(key): one for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
        creator = element.pop("creator", None)
        if not isinstance(element.get("Value", []), list):
            raise TypeError("values are a list")
        slot = _slot(tag, creator)
        try:
            from_value(int(slot[:8], 16), text(element["vr"]), element)
        except Unparsable as error:
            raise ValueError(str(error)) from None
        said[slot] = element
    for one in list(body.get("remove") or []):
        slot = _slot(one["tag"], one.get("creator")) if isinstance(one, Mapping) else _slot(one, None)
        said[slot] = None
    if not said:
        raise ValueError("nothing is said")
    return said


def _patient(item: object) -> Subject:
    """[value, issuer], or as a subject."""
    if isinstance(item, (list, tuple)) and len(item) == 2 and item[0] != "patient-of":  # pyright: ignore[reportUnknownArgumentType]
        return words.subject(["patient", *item])
    found = words.subject(item)
    if not found.is_patient:
        raise ValueError("a patient was expected")
    return found


# ---------------------------------------------------------------- handlers


def _say(
    heard: Heard, kind: str, subjects: Sequence[Subject], said: Mapping[str, Any], target: Target = NOWHERE
) -> _Bearing:
    """Put the words down; what they bear upon."""
    op = words.operation_of(heard)
    words.lock(heard.tx, heard.tenant_id)
    words.note(heard, kind, op)
    words.put(heard, subjects, said, op, target)
    bearing = _Bearing()
    for subject in subjects:
        for slot in said:
            bearing.add(subject, slot, target)
    return bearing


def _at(heard: Heard) -> int:
    return max(heard.word.at, words.last_undo(heard.tx, heard.tenant_id, words.operation_of(heard)))


def _amend(heard: Heard) -> None:
    said = _edits(heard.body)
    subjects = _subjects(heard, (Level.PATIENT, Level.STUDY, Level.SERIES))
    _follow(heard, _say(heard, "amend", subjects, said), _at(heard), ChangeKind.AMENDED)


def _place(heard: Heard) -> None:
    to: Mapping[str, Any] = heard.body["to"]
    if "patient" in to:
        target = Target(patient=_patient(to["patient"]))
        subjects, slot = _subjects(heard, (Level.STUDY,)), words.PATIENT
        value: dict[str, Any] = {"patient": target.patient.named()}
    else:
        study, series = text(to["study"]), text(to.get("series") or "")
        if not study:
            raise ValueError("a place without a study")
        target, slot, value = (
            Target(pack_uid(study)),
            words.PLACE,
            {"study": study} | ({"series": series} if series else {}),
        )
        subjects = _subjects(heard, (Level.STUDY,) if "study" in _kinds(heard) else (Level.SERIES, Level.INSTANCE))
        if series and subjects[0].level == Level.STUDY:
            raise ValueError("a study does not become a series")
    _follow(heard, _say(heard, "place", subjects, {slot: value}, target), _at(heard), ChangeKind.PLACED)


def _kinds(heard: Heard) -> set[str]:
    return {text(item[0]) for item in heard.body["of"]}


def _into(heard: Heard) -> None:
    target = _patient(heard.body["to"])
    subjects = _subjects(heard, (Level.PATIENT,))
    bearing = _say(heard, "into", subjects, {words.INTO: {"patient": target.named()}}, Target(patient=target))
    _follow(heard, bearing, _at(heard), ChangeKind.PATIENT)


def _state(heard: Heard) -> None:
    state = text(heard.body["state"])
    if state.upper() not in State.__members__ or state.upper() == State.MERGED.name:
        raise ValueError("no state that can be said of a patient")
    subjects = _subjects(heard, (Level.PATIENT,))
    bearing = _say(heard, "patient", subjects, {words.STATE: state.lower()})
    _follow(heard, bearing, _at(heard), ChangeKind.PATIENT)


def _link(heard: Heard) -> None:
    """Two patients are the same person, or are not: a word about each, pointing at the other."""
    subjects, said = _subjects(heard, (Level.PATIENT,)), heard.body["linked"]
    if len(subjects) != 2 or not isinstance(said, bool):
        raise ValueError("two patients are linked, or are not")
    for one, other in (subjects, subjects[::-1]):
        _say(heard, "link", [one], {words.LINK + json.dumps(other.named()): said}, Target(patient=other))
    known = Patients(heard.tx, heard.tenant_id)
    rows = [known.row(one)[0] for one in subjects]
    record(heard.tx, [(heard.tenant_id, ChangeKind.PATIENT, 0, row_id, heard.word.at) for row_id in rows])


def _settle(heard: Heard) -> None:
    """A case for a person is closed."""
    conflict, how = text(heard.body["conflict"]).replace("\x00", ""), text(heard.body["as"])
    if not conflict:
        raise ValueError("a case without a name")
    _say(heard, "settle", [words.NOBODY], {words.SETTLE + conflict: how})


def _undo(heard: Heard) -> None:
    """All words of an operation are taken away, or given back."""
    undoes, again = bytes.fromhex(text(heard.body["undoes"])), heard.body.get("again", False)
    words.operation_of(heard)
    if len(undoes) != words.OP_BYTES or not isinstance(again, bool):
        raise ValueError("an operation was expected")
    words.lock(heard.tx, heard.tenant_id)
    if not words.undo(heard, undoes, again):
        return
    bearing, kind = _Bearing(), ChangeKind.AMENDED
    for one in words.of_operation(heard.tx, heard.tenant_id, undoes):
        bearing.add(one.subject, one.slot, Target(one.target, one.target_patient))
        if one.slot in (words.PLACE, words.PATIENT):
            kind = ChangeKind.PLACED
        elif one.slot in (words.INTO, words.STATE):
            kind = ChangeKind.PATIENT
    _follow(heard, bearing, heard.word.at, kind)
    decisions.undone(heard, undoes)
    labels.undone(heard.tx, heard.tenant_id, undoes, heard.word.at)


KINDS = {
    "amend": _amend,  # op, of [subject, …], set {tag: DICOM JSON}, remove [tag, …]; why, reason, from
    "place": _place,  # op, of [study, series or instance, …], to {patient} | {study} | {study, series}
    "into": _into,  # op, of [patient, …], to patient: merged
    "patient": _state,  # op, of [patient, …], state
    "link": _link,  # op, of [patient, patient], linked
    "settle": _settle,  # op, conflict, as
    "undo": _undo,  # op, undoes, again
}


# ---------------------------------------------------------------- what follows


def _follow(heard: Heard, bearing: _Bearing, at: int, kind: ChangeKind) -> None:
    """Bring everything up to date that words bear upon, whether they count or not."""
    if not bearing.any:
        return
    tx, tenant_id, tally = heard.tx, heard.tenant_id, Tally()
    people = Patients(tx, tenant_id).said(_all_patients(tx, tenant_id, bearing.patients)) if bearing.patients else []
    homes: set[bytes] = set()
    for study in bearing.placed:
        homes |= placing.bears_upon(tx, tenant_id, study)
    rows: dict[bytes, int] = {}
    for uid in sorted(homes | bearing.studies | bearing.targets):
        flag = Flag.SAID | Flag.PLACED if uid in homes or uid in bearing.targets else Flag.SAID
        rows[uid] = placing.study_row(tx, tenant_id, uid, flag)
        if uid in bearing.studies or uid in bearing.targets:
            tally.touch(rows[uid], at)
    affected = {*rows.values(), *_studies_of(tx, people)} | shown.shown_from(tx, rows.values())
    placing.lock_studies(tx, affected - set(rows.values()))
    moved = placing.Mover(tx, tenant_id, heard.word.at, tally).run(homes)
    affected |= moved.studies
    tally.apply(tx)
    shown.settle(tx, tenant_id, affected, patients=people)
    if moved.series:
        labels.resettle(tx, tenant_id, moved.series)
    told = [(tenant_id, ChangeKind.PATIENT, 0, row_id, heard.word.at) for row_id in people]
    of_studies = ChangeKind.AMENDED if kind is ChangeKind.PATIENT else kind
    record(tx, [*told, *((tenant_id, of_studies, row_id, 0, heard.word.at) for row_id in sorted(affected))])


def _all_patients(tx: Writer, tenant_id: int, whom: Iterable[Subject]) -> set[Subject]:
    """These, those merged into them, and those they are or were merged into."""
    found, new = set(whom), list(whom)
    while new:
        one = new.pop()
        said = words.pointing_at_patient(tx, tenant_id, one)
        others = {each.subject for each in said if each.slot == words.INTO}
        others |= {each.target_patient for each in words.about(tx, tenant_id, one) if each.slot == words.INTO}
        new += others - found
        found |= others
    return found


def _studies_of(tx: Writer, people: Iterable[int]) -> set[int]:
    """Studies whose headers name these patients, and those shown as theirs."""
    found: set[int] = set()
    for row_id in people:
        found |= {row[0] for row in tx.all("SELECT study_id FROM study_patients WHERE patient_id = ?", (row_id,))}
        found |= {row[0] for row in tx.all("SELECT id FROM studies WHERE patient_id = ?", (row_id,))}
    return found
