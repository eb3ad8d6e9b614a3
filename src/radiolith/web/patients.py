"""/api/v1: patients: who is held, who might be the same person, and what a person says about that. Each call is one verb.

Must never: decide; what a caller may do is checked inside the verbs.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from radiolith.archive.patients import Candidate, Patient, Wanted
from radiolith.archive.subjects import PatientKey
from radiolith.index.persons import Person
from radiolith.web.calls import Caller
from radiolith.web.deciding import Asking, OperationOut, PatientName, Verbs

Id = Annotated[str, Query(max_length=300)]
calls = APIRouter()


class PersonOut(BaseModel):
    id: str = Field(description="Patient ID, as it is found by.")
    issuer: str
    study: str = Field(description="Of a patient without ID: one of its studies.")
    row: int = Field(description="Give the last one of an answer as `after`.")
    name: str
    birth_date: str
    sex: str


def _person(person: Person) -> dict[str, Any]:
    return {
        "id": person.value, "issuer": person.issuer, "study": "" if person.value else person.study, "row": person.id,
        "name": person.name, "birth_date": f"{person.birth_date:08d}" if person.birth_date else "", "sex": person.sex,
    }  # fmt: skip


class StudyOut(BaseModel):
    study: str
    date: str
    description: str
    series: int
    instances: int
    rejected: int


class PatientOut(PersonOut):
    state: str = Field(description="'provisional', 'verified', 'foreign' or 'merged'.")
    studies: list[StudyOut]
    linked: list[PatientName] = Field(description="Other identifiers of the same person.")
    merged: list[PatientName] = Field(description="Identifiers that are shown under this one.")
    into: PatientName | None = Field(description="The one this is shown under.")
    claimed: list[PatientName] = Field(description="Identifiers that the objects name besides.")

    @staticmethod
    def of(found: Patient) -> PatientOut:
        studies = [
            StudyOut(
                study=one.uid, date=f"{one.date:08d}" if one.date else "", description=one.description, series=one.series,
                instances=one.instances, rejected=one.rejected,
            )
            for one in found.studies
        ]  # fmt: skip
        return PatientOut(
            **_person(found.person), state=found.state, studies=studies,
            linked=[PatientName.of(one) for one in found.linked], merged=[PatientName.of(one) for one in found.merged],
            into=PatientName.of(found.into) if found.into else None,
            claimed=[PatientName.of(one) for one in found.claimed],
        )  # fmt: skip


class CandidateOut(PersonOut):
    score: int = Field(description="0 to 100: a sum of weights, no probability.")
    reasons: list[str]

    @staticmethod
    def of(found: Candidate) -> CandidateOut:
        return CandidateOut(**_person(found.person), score=found.score, reasons=list(found.reasons))


class Search(BaseModel):
    id: str = Field("", max_length=300)
    name: str = Field("", max_length=300, description="How it begins, in any spelling.")
    birth_date: str = Field("", pattern=r"^(\d{8})?$")
    state: Literal["", "provisional", "verified", "foreign", "merged"] = ""
    limit: int = Field(100, ge=1, le=1000)
    after: int = Field(0, ge=0, description="The `row` the answer before ended with.")


class Pair(Asking):
    one: PatientName
    other: PatientName


class State(Asking):
    patient: PatientName
    state: Literal["provisional", "verified", "foreign"]


@calls.get("/patients", summary="Patients; all that is asked must fit; the one known last first")
async def patients(verbs: Verbs, principal: Caller, asked: Annotated[Search, Query()]) -> list[PatientOut]:
    wanted = Wanted(asked.id, asked.name, int(asked.birth_date) if asked.birth_date else None, asked.state)
    return [PatientOut.of(one) for one in await verbs.patients.search(principal, wanted, asked.limit, asked.after)]


@calls.get("/patients/one", summary="One with all that is known of it")
async def patient(verbs: Verbs, principal: Caller, id: Id = "", issuer: Id = "", study: Id = "") -> PatientOut:
    return PatientOut.of(await verbs.patients.get(principal, PatientKey(id, issuer, "" if id else study)))


@calls.get("/patients/candidates", summary="Who might be the same person, most likely first, with the reasons")
async def candidates(
    verbs: Verbs, principal: Caller, id: Id = "", issuer: Id = "", study: Id = ""
) -> list[CandidateOut]:
    key = PatientKey(id, issuer, "" if id else study)
    return [CandidateOut.of(one) for one in await verbs.patients.candidates(principal, key)]


@calls.post("/patients/link", summary="Two identifiers are one person's; no header changes")
async def link(verbs: Verbs, principal: Caller, what: Pair) -> OperationOut:
    return OperationOut.of(await verbs.patients.link(principal, what.one.key(), what.other.key(), what.asked()))


@calls.post("/patients/unlink", summary="They are not")
async def unlink(verbs: Verbs, principal: Caller, what: Pair) -> OperationOut:
    return OperationOut.of(await verbs.patients.unlink(principal, what.one.key(), what.other.key(), what.asked()))


@calls.post("/patients/state", summary="Say whether somebody made sure who this is")
async def state(verbs: Verbs, principal: Caller, what: State) -> OperationOut:
    return OperationOut.of(await verbs.patients.set_state(principal, what.patient.key(), what.state, what.asked()))
