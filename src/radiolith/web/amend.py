"""/api/v1: correct, move, merge, split, and take it back. Each call is one verb.

Must never: decide; what a caller may do is checked inside the verbs.
"""

from __future__ import annotations

from typing import Any, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from radiolith.archive.operations import NOTHING_ASKED
from radiolith.archive.subjects import Subject, of_patient, of_series, of_study
from radiolith.web.calls import Caller
from radiolith.web.deciding import Asking, NamedUid, Op, OperationOut, PatientName, Uid, Verbs

calls = APIRouter()


class Correction(Asking):
    """Exactly one of a patient, a study, or a series of it."""

    patient: PatientName | None = None
    study: Uid = ""
    series: Uid = ""
    set: dict[str, Any] = Field(
        default_factory=dict,
        description="Keyword, tag, or 'ggggxxee:CREATOR' -> text, number, list, or DICOM JSON object (PS3.18 F.2.2).",
    )
    remove: list[str] = Field(default_factory=list, max_length=256)

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.patient is None) == (not self.study) or (self.series and not self.study):
            raise ValueError("a correction names a patient, a study, or a series with its study")
        return self

    def subject(self) -> Subject:
        if self.patient is not None:
            return of_patient(self.patient.key())
        return of_series(self.study, self.series) if self.series else of_study(self.study)


class MoveStudy(Asking):
    patient: PatientName
    new: bool = Field(False, description="The patient need not be known yet.")


class MergeStudy(Asking):
    into: NamedUid


class MoveSeries(Asking):
    study: NamedUid = Field(description="Where it belongs.")
    keep_uid: bool = Field(False, description="Keep its Series Instance UID, where that is free there.")


class Piece(BaseModel):
    model_config = ConfigDict(extra="forbid")

    series: NamedUid
    instance: Uid = Field("", description="Empty: all of the series.")


class Split(Asking):
    pieces: list[Piece] = Field(min_length=1, max_length=50_000)
    new_study: bool = Field(False, description="Into a new study of the same patient, not a new series.")


class MergePatients(Asking):
    source: PatientName
    target: PatientName
    new: bool = Field(False, description="The target need not be known yet: the patient gets another ID.")


@calls.post("/corrections", summary="Correct attributes of a patient, a study or a series")
async def correct(verbs: Verbs, principal: Caller, what: Correction) -> OperationOut:
    done = await verbs.amend.change(principal, what.subject(), what.set, what.remove, what.asked())
    return OperationOut.of(done)


@calls.post("/studies/{study}/move", summary="The study is another patient's")
async def move_study(verbs: Verbs, principal: Caller, study: str, what: MoveStudy) -> OperationOut:
    return OperationOut.of(
        await verbs.amend.move_study(principal, study, what.patient.key(), what.asked(), new=what.new)
    )


@calls.post("/studies/{study}/merge", summary="Two studies are one: this one is shown in the other")
async def merge_studies(verbs: Verbs, principal: Caller, study: str, what: MergeStudy) -> OperationOut:
    return OperationOut.of(await verbs.amend.merge_studies(principal, study, what.into, what.asked()))


@calls.post("/studies/{study}/series/{series}/move", summary="The series belongs to another study")
async def move_series(verbs: Verbs, principal: Caller, study: str, series: str, what: MoveSeries) -> OperationOut:
    done = await verbs.amend.move_series(principal, (study, series), what.study, what.asked(), keep_uid=what.keep_uid)
    return OperationOut.of(done)


@calls.post("/studies/{study}/split", summary="Take instances or series out of where they are")
async def split(verbs: Verbs, principal: Caller, study: str, what: Split) -> OperationOut:
    pieces = [(piece.series, piece.instance) for piece in what.pieces]
    return OperationOut.of(await verbs.amend.split(principal, study, pieces, what.asked(), new_study=what.new_study))


@calls.post("/patients/merge", summary="Two patients are one: all of the source is shown under the target")
async def merge_patients(verbs: Verbs, principal: Caller, what: MergePatients) -> OperationOut:
    done = await verbs.amend.merge_patients(principal, what.source.key(), what.target.key(), what.asked(), new=what.new)
    return OperationOut.of(done)


@calls.post("/operations/{op}/undo", summary="What this operation said counts no more")
async def undo(verbs: Verbs, principal: Caller, op: Op, what: Asking | None = None) -> OperationOut:
    return OperationOut.of(await verbs.amend.undo(principal, op, what.asked() if what else NOTHING_ASKED))


@calls.post("/operations/{op}/redo", summary="What was undone counts again")
async def redo(verbs: Verbs, principal: Caller, op: Op, what: Asking | None = None) -> OperationOut:
    return OperationOut.of(await verbs.amend.redo(principal, op, what.asked() if what else NOTHING_ASKED))
