"""/api/v1/labels: words and key=value pairs on patients, studies and series. Each call is one verb.

Must never: decide; what a caller may do is checked inside the verbs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from radiolith.archive import labels
from radiolith.archive.labels import Labels
from radiolith.archive.operations import Asked, Operation
from radiolith.archive.subjects import PatientKey, Subject, of_patient, of_series, of_study
from radiolith.index.labels import LABEL_MAX
from radiolith.web.calls import Caller, inside, moment

Text = Annotated[str, Field(max_length=LABEL_MAX * 4, description="'urgent' or 'ward=3'.")]
Limit = Annotated[int, Query(ge=1, le=labels.LISTED_MAX, description="Entries of one answer.")]
Uid = Annotated[str, Field(max_length=128)]
Key = Annotated[str, Field(max_length=300)]


class SubjectIn(BaseModel):
    """A study, a series of it, or a patient: by ID and issuer, or without an ID by one study of that patient."""

    model_config = ConfigDict(extra="forbid")
    study: Uid = ""
    series: Uid = ""
    patient: Key = ""
    issuer: Key = ""
    patient_of: Uid = Field("", description="A study of a patient without ID.")

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if sum(map(bool, (self.study, self.patient, self.patient_of))) != 1:
            raise ValueError("name one: a study, a series with its study, or a patient")
        return self

    def subject(self) -> Subject:
        if self.study:
            return of_series(self.study, self.series) if self.series else of_study(self.study)
        return of_patient(PatientKey(self.patient, self.issuer, self.patient_of))


class LabelIn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    label: Text
    of: list[SubjectIn] = Field(min_length=1, max_length=labels.SUBJECTS_MAX)
    reason: str = Field("", max_length=1000)
    dry_run: bool = False


class UndoIn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reason: str = Field("", max_length=1000)
    again: bool = Field(False, description="Make it count again.")


class Labelled(BaseModel):
    op: str = Field(description="By which it can be undone; '' of a dry run.")
    at: datetime
    summary: str

    @staticmethod
    def of(done: Operation) -> Labelled:
        return Labelled(op=done.op, at=moment(done.at), summary=done.summary)


class UsedOut(BaseModel):
    label: str
    count: int = Field(description="Patients, studies and series that carry it.")


def _labels(request: Request) -> Labels:
    return inside(request).decisions.labels


Verbs = Annotated[Labels, Depends(_labels)]
calls = APIRouter()


@calls.get("/labels", summary="Labels in use, by name and value")
async def used(
    verbs: Verbs,
    principal: Caller,
    limit: Limit = 100,
    after: Annotated[str, Query(max_length=LABEL_MAX * 4, description="The label the answer before ended with.")] = "",
) -> list[UsedOut]:
    found = await verbs.used(principal, limit, labels.label(after) if after else None)
    return [UsedOut(label=str(one.label), count=one.count) for one in found]


@calls.post("/labels/of", summary="The labels of one patient, study or series")
async def of(verbs: Verbs, principal: Caller, what: SubjectIn) -> list[str]:
    return [str(one) for one in await verbs.of(principal, what.subject())]


@calls.post("/labels", summary="Put a label on patients, studies or series")
async def put(verbs: Verbs, principal: Caller, what: LabelIn) -> Labelled:
    asked = Asked(reason=what.reason, dry_run=what.dry_run)
    return Labelled.of(await verbs.put(principal, [one.subject() for one in what.of], what.label, asked))


@calls.post("/labels/take", summary="Take a label away, by its name, or by name and value")
async def take(verbs: Verbs, principal: Caller, what: LabelIn) -> Labelled:
    asked = Asked(reason=what.reason, dry_run=what.dry_run)
    return Labelled.of(await verbs.take(principal, [one.subject() for one in what.of], what.label, asked))


@calls.post("/labels/undo/{op}", summary="What one call said counts no more, or again")
async def undo(verbs: Verbs, principal: Caller, op: str, what: UndoIn) -> Labelled:
    return Labelled.of(await verbs.undo(principal, op, Asked(reason=what.reason), again=what.again))
