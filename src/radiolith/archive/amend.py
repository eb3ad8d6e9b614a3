"""The verb `amend`: correct attributes, move, merge and split, and take each of it back. Nothing received is changed.

Owns: what each of these means in facts (docs/decisions/100), and what is refused. Must never: touch bytes or rows, decide by
itself, or act on what a person did not name: what lies below a study or series follows it, now and when it arrives later.
Every verb can be tried without doing it, and says what it did in one operation that `undo` takes back. Limits: MOVED instances
of one operation, STUDIES of one patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from radiolith.archive.affected import (
    MOVED,
    STUDIES,
    Going,
    about,
    affected,
    doubts,
    held_patient,
    key_of,
    members_of,
    moved,
    received_in,
    sample,
    shown_study,
    singly,
    target_patient,
)
from radiolith.archive.corrections import Corrections, corrections
from radiolith.archive.description import Description
from radiolith.archive.difference import compared
from radiolith.archive.operations import NOTHING_ASKED, Asked, Change, Deed, Operation, Operations, Plan
from radiolith.archive.subjects import PatientKey, Subject, checked, home_of, of_patient, of_study
from radiolith.index import persons, told
from radiolith.index.session import Reader
from radiolith.model import BadInput, Conflict, Damaged, Edit, Held, Level, LimitExceeded, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.keys import FACTS, STUDY

_HEADER_BYTES = 1 << 20  # of one header as JSON, of which the old values are shown


class Amend:
    def __init__(self, operations: Operations, description: Description):
        self._operations, self._deciding, self._description = operations, operations.deciding, description

    # ------------------------------------------------------------ attributes

    async def change(
        self,
        principal: Principal,
        subject: Subject,
        values: Mapping[str, object],
        remove: Sequence[str] = (),
        asked: Asked = NOTHING_ASKED,
    ) -> Operation:
        """Correct attributes of a patient, a study or a series; `values` and `remove` as `corrections` reads them.

        Raises NotFound, BadInput with the keyword and what to do instead, Conflict when `asked.expected` does not hold.
        """
        require(principal, Action.AMEND)
        checked(subject)
        if subject.level is Level.INSTANCE:
            raise BadInput("attributes are corrected for a patient, a study or a series")
        made = corrections(subject.level, values, remove)
        tenant = principal.tenant.id
        one = await self._deciding.look(lambda read: sample(read, tenant, subject))
        changes = await self._deciding.reading.run(self._changes, one, made)

        def plan(read: Reader) -> Plan:
            found = affected(read, tenant, subject)
            named, scope = found.subject.named(), (STUDY, found.subject.study)
            if subject.level is Level.PATIENT:
                scope = (FACTS, "")
            body: dict[str, object] = {"why": asked.why, "of": [named], **made.body()}
            known = told.knowledge(read, tenant, [named])
            done = replace(found.operation, kind="amend", changes=changes, state=known.state)
            return Plan(done, (Deed("amend", body, scope),), known.newest, found.subject.study)

        return await self._operations.carry_out(principal, asked, plan)

    def _changes(self, held: Held | None, made: Corrections) -> tuple[Change, ...]:
        """What is there now, of one instance, and what will be."""
        old: dict[str, Any] = {}
        if held is not None:
            try:
                old = orjson.loads(self._description.row_now(held, _HEADER_BYTES))
            except (Damaged, LimitExceeded):  # what is there cannot be told; it can be corrected all the same
                old = {}
        before = {f"{edit.tag:08X}": old[where] for edit in made.edits if (where := _where(old, edit)) in old}
        return tuple(compared(before, made.elements()))

    # ------------------------------------------------------------ whose study it is

    async def move_study(
        self, principal: Principal, study: str, patient: PatientKey, asked: Asked = NOTHING_ASKED, *, new: bool = False
    ) -> Operation:
        """The study is another patient's: that patient is shown for it, in queries and headers. `new`: the patient need not be
        known yet."""
        require(principal, Action.AMEND)
        checked(of_patient(patient))
        tenant = principal.tenant.id

        def plan(read: Reader) -> Plan:
            shown = shown_study(read, tenant, study)
            target = target_patient(read, tenant, patient, new=new)
            before = persons.of_study(read, tenant, shown.uid)
            if before is not None and target is not None and before.id == target.id:
                raise Conflict(f"the study is shown under patient {patient} already")
            subjects = [of_study(shown.uid).named(), patient.named()]
            known = told.knowledge(read, tenant, subjects)
            body: dict[str, object] = {"of": [subjects[0]], "to": {"patient": [patient.value, patient.issuer]}}
            moves = (f"study {shown.uid}: patient {key_of(before)} -> {patient}",)
            done = Operation(
                "", "place", 0, f"moves a study to patient {patient}", known.state, (shown.uid,), shown.series,
                shown.instances + shown.rejected, moves=moves, warnings=doubts(read, before, target),
            )  # fmt: skip
            return Plan(done, (Deed("place", body, (STUDY, shown.uid)),), known.newest, shown.uid)

        return await self._operations.carry_out(principal, asked, plan)

    async def merge_patients(
        self,
        principal: Principal,
        source: PatientKey,
        target: PatientKey,
        asked: Asked = NOTHING_ASKED,
        *,
        new: bool = False,
    ) -> Operation:
        """Two patients are one: everything of `source`, now and later, is shown under `target` (as HL7 A40). This is also how a
        patient gets another ID: merge into an identifier that is new."""
        require(principal, Action.AMEND)
        checked(of_patient(source))
        checked(of_patient(target))
        tenant = principal.tenant.id

        def plan(read: Reader) -> Plan:
            before = held_patient(read, tenant, source)
            after = target_patient(read, tenant, target, new=new)
            if source == target or (after is not None and after.id == before.id):
                raise Conflict("this is one patient already")
            studies = persons.studies(read, tenant, before.id, STUDIES + 1)
            if len(studies) > STUDIES:
                raise LimitExceeded(
                    f"one operation merges a patient of up to {STUDIES} studies; move studies one by one"
                )
            subjects = [source.named(), target.named()]
            known = told.knowledge(read, tenant, subjects)
            body: dict[str, object] = {"of": [subjects[0]], "to": subjects[1]}
            done = about(studies, f"merges patient {source} into {target}", "into", known.state)
            done = replace(done, moves=(f"patient {source} -> {target}",), warnings=doubts(read, before, after))
            return Plan(done, (Deed("into", body, (FACTS, "")),), known.newest)

        return await self._operations.carry_out(principal, asked, plan)

    # ------------------------------------------------------------ which study it is

    async def merge_studies(
        self, principal: Principal, source: str, target: str, asked: Asked = NOTHING_ASKED
    ) -> Operation:
        """Two studies are one: all series of `source`, now and later, are shown in `target` and under its patient."""
        require(principal, Action.AMEND)
        tenant = principal.tenant.id

        def plan(read: Reader) -> Plan:
            one, other = shown_study(read, tenant, source), shown_study(read, tenant, target)
            if one.uid == other.uid:
                raise Conflict("this is one study already")
            if one.instances + one.rejected > MOVED:
                raise LimitExceeded(f"one operation moves up to {MOVED} instances; move the series one by one")
            subjects = [of_study(one.uid).named(), of_study(other.uid).named()]
            known = told.knowledge(read, tenant, subjects)
            people = persons.of_study(read, tenant, one.uid), persons.of_study(read, tenant, other.uid)
            done = Operation(
                "", "place", 0, "merges a study into another", known.state, (one.uid, other.uid), one.series,
                one.instances + one.rejected, moves=(f"study {one.uid} -> {other.uid}",),
                warnings=() if people[0] == people[1] else doubts(read, *people),
            )  # fmt: skip
            deed = Deed("place", {"of": [subjects[0]], "to": {"study": other.uid}}, (STUDY, one.uid))
            return Plan(done, (deed,), known.newest, one.uid)

        return await self._operations.carry_out(principal, asked, plan)

    async def move_series(
        self,
        principal: Principal,
        place: tuple[str, str],
        target: str,
        asked: Asked = NOTHING_ASKED,
        *,
        keep_uid: bool = False,
    ) -> Operation:
        """A series, given as (study, series), belongs to another study, with all that still arrives for it. It gets a new Series
        Instance UID, or keeps its own where that is free; old names go on leading to it."""
        require(principal, Action.AMEND)
        tenant, uid = principal.tenant.id, place[1] if keep_uid else self._operations.uid()

        def plan(read: Reader) -> Plan:
            members = members_of(read, tenant, *place)
            study = members[0].identity.study
            other = shown_study(read, tenant, target)
            if other.uid == study:
                raise Conflict("the series is in this study already")
            if keep_uid and persons.series_size(read, tenant, other.uid, uid):
                raise Conflict(
                    "there is a series with this UID in the target; move it with a new UID, or merge the studies"
                )
            return moved(read, tenant, [Going(members, received_in(read, tenant, members), (other.uid, uid))])

        return await self._operations.carry_out(principal, asked, plan)

    async def split(
        self,
        principal: Principal,
        study: str,
        pieces: Sequence[tuple[str, str]],
        asked: Asked = NOTHING_ASKED,
        *,
        new_study: bool = False,
    ) -> Operation:
        """Take instances, or whole series, out of where they are: `pieces` are (series, SOP Instance UID or '' for all).

        Each series they come from gets a new one for them, in the same study or, with `new_study`, in a new one of the same
        patient. Raises BadInput for whole series that would stay where they are.
        """
        require(principal, Action.AMEND)
        if not pieces:
            raise BadInput("say which series or instances are to be split off")
        if len(pieces) > MOVED:
            raise LimitExceeded(f"one operation moves up to {MOVED} instances")
        taken: dict[str, set[str]] = {}
        for series, sop in pieces:
            taken.setdefault(series, set()).add(sop)
        if not new_study and any("" in sops for sops in taken.values()):
            raise BadInput("a whole series is split off into a new study, or moved to another one")
        tenant, apart = principal.tenant.id, self._operations.uid() if new_study else ""
        fresh = {series: self._operations.uid() for series in taken}

        def plan(read: Reader) -> Plan:
            goings = [
                _taken(read, tenant, (study, series), sops, (apart, fresh[series])) for series, sops in taken.items()
            ]
            if sum(len(going.members) for going in goings) > MOVED:
                raise LimitExceeded(f"one operation moves up to {MOVED} instances")
            planned = moved(read, tenant, goings)
            if new_study and (same := _same_patient(read, tenant, goings, apart)) is not None:
                planned = replace(planned, deeds=(same, *planned.deeds))
            return planned

        return await self._operations.carry_out(principal, asked, plan)

    # ------------------------------------------------------------ taking back

    async def undo(self, principal: Principal, op: str, asked: Asked = NOTHING_ASKED) -> Operation:
        """What an operation said counts no more; what was said before it, or after, does. Rejections and choices of versions are
        operations too. Raises NotFound, Conflict when it has been undone."""
        require(principal, Action.AMEND)
        return await self._operations.undo(principal, op, asked)

    async def redo(self, principal: Principal, op: str, asked: Asked = NOTHING_ASKED) -> Operation:
        """What was undone counts again."""
        require(principal, Action.AMEND)
        return await self._operations.undo(principal, op, asked, again=True)


def _taken(read: Reader, tenant: int, place: tuple[str, str], sops: set[str], target: tuple[str, str]) -> Going:
    """Instances of a shown series, or all of it where '' is among them, on their way; '' as target study is their own."""
    found = members_of(read, tenant, *place)
    own = found[0].identity.study
    if "" in sops:
        return Going(found, received_in(read, tenant, found), (target[0] or own, target[1]))
    if missing := sops - {held.identity.sop for held in found}:
        raise NotFound(f"{len(missing)} of the instances are not held in this series")
    found = [held for held in found if held.identity.sop in sops]
    return Going(found, singly(found), (target[0] or own, target[1]))


def _same_patient(read: Reader, tenant: int, goings: Sequence[Going], apart: str) -> Deed | None:
    """Says that a new study is of the patient whom the old one is shown under, where its headers would not say so."""
    study = goings[0].members[0].identity.study
    person = persons.of_study(read, tenant, study)
    received = {home_of(held).study for going in goings for held in going.members}
    if person is None or (received == {study} and not told.has_patient(read, tenant, study)):
        return None
    return Deed(
        "place",
        {"of": [["study", apart]], "to": {"patient": PatientKey(person.value, person.issuer, person.study).named()}},
        (STUDY, apart),
    )


def _where(header: Mapping[str, Any], edit: Edit) -> str:
    """Eight digits of an attribute in this header: a private one stands in the block that its creator reserved (PS3.5 7.8.1)."""
    digits = f"{edit.tag:08X}"
    if not edit.creator:
        return digits
    for tag, element in header.items():
        if tag[:6] == f"{digits[:4]}00" and element.get("Value") == [edit.creator]:
            return f"{digits[:4]}{tag[6:]}{digits[6:]}"
    return ""
