"""/api/v1: who changed what, when and why; every version; what differs. Each call is one verb.

Must never: decide; what a caller may do, and see, is settled inside the verbs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from radiolith.archive.account import Happening
from radiolith.archive.history import SHOWN_SUFFIX, Kept
from radiolith.archive.subjects import PatientKey
from radiolith.index.as_of import Snapshot
from radiolith.model import Held
from radiolith.web.calls import Caller, moment, pieces
from radiolith.web.deciding import ChangeOut, Op, Verbs

Limit = Annotated[int, Query(ge=1, le=1000, description="Entries of one answer.")]
calls = APIRouter()


class HappeningOut(BaseModel):
    at: datetime
    kind: str = Field(description="'received', 'rejected', 'restored', 'chosen', or the kind of an operation.")
    by: str
    lines: list[str] = Field(description="What, in words.")
    source: str = Field(description="Door, sender and address.")
    op: str = Field(description="The operation; undo it by this.")
    why: str
    reason: str
    undone: bool
    undone_at: datetime | None
    undone_by: str

    @staticmethod
    def of(one: Happening) -> HappeningOut:
        return HappeningOut(
            at=moment(one.at), kind=one.kind, by=one.by, lines=list(one.lines), source=one.source, op=one.op, why=one.why,
            reason=one.reason, undone=one.undone, undone_at=moment(one.undone_at) if one.undone_at else None,
            undone_by=one.undone_by,
        )  # fmt: skip


class VersionOut(BaseModel):
    id: str
    shown: str = Field(description="Id of what it shows with its corrections, for `difference`; empty without any.")
    current: bool
    rejected: str
    encoding_of: str | None
    transfer_syntax: str
    received_at: datetime
    received_study: str = Field(description="Study, as received.")
    received_series: str
    source: str
    principal: str
    size: int = Field(description="Bytes as received.")
    sha256: str = Field(description="Over the dataset as transmitted.")

    @staticmethod
    def of(held: Held) -> VersionOut:
        home, id = held.home or held.identity, held.blob.object_id.hex()
        return VersionOut(
            id=id, shown=f"{id}{SHOWN_SUFFIX}" if held.overlay else "", current=held.current, rejected=held.rejected,
            encoding_of=held.encoding_of.hex() if held.encoding_of else None,
            transfer_syntax=held.layout.transfer_syntax, received_at=moment(held.received_at),
            received_study=home.study, received_series=home.series,
            source=f"{held.source.door} {held.source.peer} {held.source.address}".strip(), principal=held.principal,
            size=held.layout.original_size, sha256=held.sha256.hex(),
        )  # fmt: skip


class KeptOut(BaseModel):
    """One instance, where it is shown."""

    study: str
    series: str
    instance: str
    versions: list[VersionOut] = Field(description="In order of reception.")
    happened: list[HappeningOut]

    @staticmethod
    def of(kept: Kept) -> KeptOut:
        where = kept.versions[0].identity
        return KeptOut(
            study=where.study, series=where.series, instance=where.sop,
            versions=[VersionOut.of(held) for held in kept.versions],
            happened=[HappeningOut.of(one) for one in kept.happened],
        )  # fmt: skip


class DifferenceOut(BaseModel):
    changes: list[ChangeOut]
    pixels: str = Field(description="'none', 'same', 'differ' or 'not compared'.")


@calls.get("/instances/{sop}/versions", summary="Every version of an instance: who, when, why, from which source")
async def versions(verbs: Verbs, principal: Caller, sop: str) -> list[KeptOut]:
    return [KeptOut.of(kept) for kept in await verbs.history.of_instance(principal, sop)]


@calls.get(
    "/instances/{sop}/versions/{version}/content", summary="The exact bytes received", response_class=StreamingResponse
)
async def content(verbs: Verbs, principal: Caller, sop: str, version: str) -> StreamingResponse:
    stream = await verbs.history.content(principal, sop, version)
    headers = {"content-disposition": f'attachment; filename="{version}.dcm"', "x-content-type-options": "nosniff"}
    if stream.size is not None:
        headers["content-length"] = str(stream.size)
    return StreamingResponse(pieces(stream), media_type="application/dicom", headers=headers)


@calls.get("/instances/{sop}/versions/{one}/difference/{other}", summary="What changes from one version to the other")
async def difference(verbs: Verbs, principal: Caller, sop: str, one: str, other: str) -> DifferenceOut:
    found = await verbs.history.difference(principal, sop, one, other)
    changes = [ChangeOut(tag=each.tag, attribute=each.keyword, old=each.old, new=each.new) for each in found.changes]
    return DifferenceOut(changes=changes, pixels=found.pixels)


@calls.get("/studies/{study}/history", summary="All that happened to a study, oldest first")
async def of_study(verbs: Verbs, principal: Caller, study: str) -> list[HappeningOut]:
    return [HappeningOut.of(one) for one in await verbs.history.of_study(principal, study)]


class InstanceOut(BaseModel):
    series: str
    instance: str
    version: str = Field(description="The one that was current.")
    rejected: str
    corrected: bool


class SnapshotOut(BaseModel):
    """A study as it was shown then; values as the index has them."""

    study: str
    at: datetime
    patient: dict[str, str | int]
    attributes: dict[str, str | int]
    instances: list[InstanceOut]

    @staticmethod
    def of(found: Snapshot) -> SnapshotOut:
        listed = [
            InstanceOut(
                series=held.identity.series, instance=held.identity.sop, version=held.blob.object_id.hex(),
                rejected=held.rejected, corrected=held.overlay is not None,
            )
            for held in found.helds
        ]  # fmt: skip
        return SnapshotOut(
            study=found.study, at=moment(found.at), patient=_told(found.patient), attributes=_told(found.columns),
            instances=listed,
        )  # fmt: skip


def _told(columns: Mapping[str, str | int | None]) -> dict[str, str | int]:
    return {name: value for name, value in columns.items() if value not in (None, "")}  # type: ignore[misc]


BULK = "/dicom-web/studies/{study}/series/{series}/instances/{sop}/bulkdata/"
Moment = Annotated[datetime, Query(description="A time with its zone, 2026-01-31T12:00:00Z.")]


def _microseconds(at: datetime) -> int:
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000)


@calls.get("/studies/{study}/as-of", summary="What the study showed at a moment")
async def as_of(verbs: Verbs, principal: Caller, study: str, moment: Moment) -> SnapshotOut:
    return SnapshotOut.of(await verbs.history.as_of(principal, study, _microseconds(moment)))


@calls.get(
    "/studies/{study}/as-of/metadata", summary="Its headers then, as DICOM JSON", response_class=StreamingResponse
)
async def metadata(verbs: Verbs, principal: Caller, study: str, moment: Moment) -> StreamingResponse:
    found = await verbs.history.as_of(principal, study, _microseconds(moment))
    return StreamingResponse(verbs.history.metadata(found, BULK), media_type="application/dicom+json")


@calls.get("/patients/history", summary="What was said about a patient, oldest first")
async def of_patient(
    verbs: Verbs, principal: Caller, id: str = "", issuer: str = "", study: str = ""
) -> list[HappeningOut]:
    key = PatientKey(id, issuer, "" if id else study)
    return [HappeningOut.of(one) for one in await verbs.history.of_patient(principal, key)]


@calls.get("/operations", summary="What people decided, latest first")
async def operations(verbs: Verbs, principal: Caller, limit: Limit = 100, after: str = "") -> list[HappeningOut]:
    return [HappeningOut.of(one) for one in await verbs.history.operations(principal, limit, after)]


@calls.get("/operations/{op}", summary="One of them")
async def operation(verbs: Verbs, principal: Caller, op: Op) -> HappeningOut:
    return HappeningOut.of(await verbs.history.operation(principal, op))
