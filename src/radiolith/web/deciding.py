"""What calls that decide have in common: how a person asks, whom it is about, and what an operation answers.

Owns: these shapes. Must never: know a verb.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from radiolith.archive.decisions import Decisions
from radiolith.archive.operations import Asked, Operation
from radiolith.archive.subjects import PatientKey
from radiolith.web.calls import inside, moment

UID = r"^[0-9A-Za-z._-]*$"
Uid = Annotated[str, Field(max_length=128, pattern=UID)]
NamedUid = Annotated[str, Field(min_length=1, max_length=128, pattern=UID)]
Op = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="Name of an operation.")]


def _decisions(request: Request) -> Decisions:
    return inside(request).decisions


Verbs = Annotated[Decisions, Depends(_decisions)]


class Asking(BaseModel):
    """How it is to be done."""

    model_config = ConfigDict(extra="forbid")
    reason: str = Field("", max_length=1000, description="A sentence for other people.")
    why: Literal["CORRECT", "COERCE"] = Field("CORRECT", description="(0400,0565): an error, or this house's rules.")
    expected: str = Field(
        "",
        max_length=64,
        description="The `state` that a dry run told: 409 when somebody has decided something meanwhile.",
    )
    dry_run: bool = Field(False, description="Tell what it would do, and do nothing.")

    def asked(self) -> Asked:
        return Asked(self.reason, self.why, self.expected, self.dry_run)


class PatientName(BaseModel):
    """By identifier, or by a study of one whose objects name none."""

    model_config = ConfigDict(extra="forbid")
    id: str = Field("", max_length=300, description="Patient ID.")
    issuer: str = Field("", max_length=300, description="Who assigned it; empty: this house.")
    study: Uid = Field("", description="Of a patient without ID: one of its studies.")

    def key(self) -> PatientKey:
        return PatientKey(self.id, self.issuer, "" if self.id else self.study)

    @staticmethod
    def of(key: PatientKey) -> PatientName:
        return PatientName.model_construct(id=key.value, issuer=key.issuer, study=key.study)


class ChangeOut(BaseModel):
    tag: str
    attribute: str = Field(description="Keyword, with the sequence it stands in.")
    old: str
    new: str


class OperationOut(BaseModel):
    """What a decision did, or would do."""

    op: str = Field(description="Undo it by this; empty after a dry run.")
    kind: str
    at: datetime | None
    summary: str
    state: str = Field(description="Give it back as `expected`.")
    studies: list[str]
    series: int
    instances: int
    changes: list[ChangeOut] = Field(description="Attributes that differ, as of one instance.")
    moves: list[str]
    warnings: list[str] = Field(description="What a person should look at before this is done for good.")
    dry_run: bool
    undo: str = Field(description="The call that takes it back.")

    @staticmethod
    def of(done: Operation) -> OperationOut:
        return OperationOut(
            op=done.op, kind=done.kind, at=moment(done.at) if done.at else None, summary=done.summary, state=done.state,
            studies=list(done.studies), series=done.series, instances=done.instances,
            changes=[ChangeOut(tag=one.tag, attribute=one.keyword, old=one.old, new=one.new) for one in done.changes],
            moves=list(done.moves), warnings=list(done.warnings), dry_run=done.dry_run,
            undo=f"POST /api/v1/operations/{done.op}/undo" if done.op else "",
        )  # fmt: skip
