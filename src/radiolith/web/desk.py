"""/api/v1: the conflict desk: what is unclear, what is proposed and why, and how it is resolved. Each call is one verb.

Must never: decide; what a caller may do is checked inside the verbs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from radiolith.archive.desk import Answer
from radiolith.archive.operations import NOTHING_ASKED
from radiolith.archive.proposals import Case
from radiolith.web.calls import Caller, moment
from radiolith.web.deciding import Asking, Op, OperationOut, PatientName, Verbs
from radiolith.web.patients import CandidateOut

Limit = Annotated[int, Query(ge=1, le=500, description="Entries of one answer.")]
Key = Annotated[str, Query(max_length=2000)]
Kind = Literal["", "versions", "mixed", "foreign", "inbox", "emergency", "stranger", "unreadable"]
calls = APIRouter()


class ProposalOut(BaseModel):
    action: str
    words: str
    patient: PatientName | None
    version: str


class CaseOut(BaseModel):
    key: str
    kind: str
    summary: str
    since: datetime
    study: str
    studies: list[str]
    patients: list[PatientName] = Field(description="Whom it is about; the one it is shown under first.")
    proposal: ProposalOut
    reasons: list[str]
    candidates: list[CandidateOut]
    answers: list[str] = Field(description="What can be answered.")
    state: str = Field(description="Give it back as `expected`.")

    @staticmethod
    def of(case: Case) -> CaseOut:
        offer = case.proposal
        return CaseOut(
            key=case.key, kind=case.kind, summary=case.summary, since=moment(case.since), study=case.study,
            studies=list(case.studies), patients=[PatientName.of(one) for one in case.people],
            proposal=ProposalOut(
                action=offer.action, words=offer.words, patient=PatientName.of(offer.patient) if offer.patient else None,
                version=offer.version,
            ),
            reasons=list(case.reasons), candidates=[CandidateOut.of(one) for one in case.candidates],
            answers=list(case.answers), state=case.state,
        )  # fmt: skip


class AnswerIn(Asking):
    key: str = Field(max_length=2000)
    action: Literal["adopt", "assign", "merge", "link", "keep", "accept", "reject"]
    patient: PatientName | None = Field(None, description="Whose it is; else the one proposed.")
    version: str = Field("", max_length=32, description="Which becomes the current one; else the one proposed.")
    new: bool = Field(False, description="The patient need not be known yet.")
    name: str = Field("", max_length=64, description="Of a device that becomes a peer.")
    code: str = Field("113038", max_length=16, description="Why it is rejected, CID 7011.")


@calls.get("/desk", summary="Open cases, kind by kind, each with a proposal and its reasons")
async def cases(verbs: Verbs, principal: Caller, kind: Kind = "", limit: Limit = 50, after: Key = "") -> list[CaseOut]:
    return [CaseOut.of(one) for one in await verbs.desk.list(principal, kind, limit, after)]


@calls.get("/desk/case", summary="One of them")
async def case(verbs: Verbs, principal: Caller, key: Key) -> CaseOut:
    return CaseOut.of(await verbs.desk.get(principal, key))


@calls.post("/desk/resolve", summary="Answer a case")
async def resolve(verbs: Verbs, principal: Caller, what: AnswerIn) -> OperationOut:
    patient = what.patient.key() if what.patient else None
    answer = Answer(what.action, patient, what.version, what.new, what.name, what.code)
    return OperationOut.of(await verbs.desk.resolve(principal, what.key, answer, what.asked()))


@calls.post("/desk/undo/{op}", summary="Take an answer back: the case is open again")
async def undo(verbs: Verbs, principal: Caller, op: Op, what: Asking | None = None) -> OperationOut:
    return OperationOut.of(await verbs.desk.undo(principal, op, what.asked() if what else NOTHING_ASKED))
