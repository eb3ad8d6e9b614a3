"""/api/v1: what administration needs and DICOMweb does not have, described by its own OpenAPI document.

Associations of devices, rejected objects and their way back, the quarantine, versions and conflicts, the status. Each call
is one verb. Must never: decide; what a caller may do is checked inside the verbs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field, model_validator

from radiolith import __version__
from radiolith.archive.associations import Association
from radiolith.archive.ports import Rejected, Sideline
from radiolith.httpstatus import code, sentence
from radiolith.model import Failure, Held, Identity, NotAuthenticated, Unavailable
from radiolith.trust.access import Action, require
from radiolith.web import amend, changes, desk, history, labels, notes, patients, peers, traffic, webhooks
from radiolith.web.calls import Caller, inside, moment, pieces
from radiolith.web.ports import Inside

Limit = Annotated[int, Query(ge=1, le=1000, description="Entries of one answer.")]
After = Annotated[str, Query(max_length=128, description="What the answer before ended with; empty for the first.")]
_UID = r"^[0-9A-Za-z._-]*$"  # as under /dicom-web: real objects have letters and 70 characters, and must be found
Uid = Annotated[str, Field(max_length=128, pattern=_UID)]
UidParameter = Annotated[str, Query(max_length=128, pattern=_UID)]


class Place(BaseModel):
    """A study, a series of it, or one instance; a non-patient object has its instance UID alone."""

    study: Uid
    series: Uid = ""
    instance: Uid = ""

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        """Without a study the place would be the root of all non-patient objects at once."""
        if not self.study and not self.instance:
            raise ValueError("a place names a study, or the instance of a non-patient object")
        return self


class Conflicted(BaseModel):
    """As its bytes name it: an answer refuses no UID, however odd."""

    study: str
    series: str
    instance: str


class Rejection(Place):
    reason: str = Field(description="Code of CID 7011: 113001, 113037, 113038 or 113039.", max_length=16)


class Switch(Place):
    version: str = Field(description="The id of the version that becomes current.", max_length=32)


class Count(BaseModel):
    instances: int


class RejectedInstance(BaseModel):
    study: str
    series: str
    instance: str
    reason: str
    rejected_at: datetime
    rejected_by: str

    @staticmethod
    def of(entry: Rejected) -> RejectedInstance:
        return RejectedInstance(
            study=entry.study,
            series=entry.series,
            instance=entry.sop,
            reason=entry.reason,
            rejected_at=moment(entry.at),
            rejected_by=entry.by,
        )


class Quarantined(BaseModel):
    id: str
    reason: str
    received_at: datetime
    source: str
    principal: str
    size: int = Field(description="Bytes.")
    sha256: str
    guess: dict[str, str] = Field(description="What could be read of its identity.")
    released: bool

    @staticmethod
    def of(entry: Sideline) -> Quarantined:
        return Quarantined(
            id=entry.id,
            reason=entry.reason,
            received_at=moment(entry.received_at),
            source=entry.source,
            principal=entry.principal,
            size=entry.size,
            sha256=entry.sha256,
            guess=entry.guess,
            released=entry.released,
        )


class Version(BaseModel):
    id: str
    current: bool
    rejected: str
    encoding_of: str | None = Field(description="The version whose content this is in another transfer syntax.")
    transfer_syntax: str
    received_at: datetime
    source: str
    principal: str
    size: int = Field(description="Bytes as received.")
    sha256: str = Field(description="Over the dataset as transmitted.")

    @staticmethod
    def of(held: Held) -> Version:
        return Version(
            id=held.blob.object_id.hex(),
            current=held.current,
            rejected=held.rejected,
            encoding_of=held.encoding_of.hex() if held.encoding_of else None,
            transfer_syntax=held.layout.transfer_syntax,
            received_at=moment(held.received_at),
            source=f"{held.source.door} {held.source.peer}".strip(),
            principal=held.principal,
            size=held.layout.original_size,
            sha256=held.sha256.hex(),
        )


class Context(BaseModel):
    service: str
    syntax: str
    result: str = Field(description="In the words of PS3.8 table 9-18.")


class Operations(BaseModel):
    operation: str
    status: str = Field(description="Four hexadecimal digits, or 'no answer'.")
    count: int


class Associated(BaseModel):
    """One association with a device; nothing about a patient."""

    id: str
    at: datetime
    ended_at: datetime
    direction: Literal["incoming", "outgoing"] = Field("incoming", description="Who opened it: the device, or we.")
    address: str
    calling: str
    called: str
    principal: str
    implementation: str
    tls: bool = False
    names: list[str] = Field([], description="In its verified certificate.")
    outcome: str
    rejection: str = ""
    end: str
    received_bytes: int
    contexts: list[Context]
    operations: list[Operations]
    problem: bool
    hints: list[str] = Field(description="What to do about it.")

    @staticmethod
    def of(found: Association) -> Associated:
        trace = dict(found.trace) | {name: moment(int(found.trace[name])) for name in ("at", "ended_at")}
        return Associated.model_validate(trace | {"id": found.id, "problem": found.problem, "hints": found.hints})


Archive = Annotated[Inside, Depends(inside)]
calls = APIRouter()


@calls.get("/status", summary="How the archive is")
async def status(inside: Archive, principal: Caller) -> dict[str, Any]:
    require(principal, Action.STATUS)
    return await inside.condition.status()


# ---------------------------------------------------------------- associations of devices


@calls.get("/associations", summary="What happened when devices called or were called, latest first")
async def associations(
    inside: Archive, principal: Caller, limit: Limit = 100, problems: bool = False
) -> list[Associated]:
    found = await inside.associations.latest(principal, limit, problems=problems)
    return [Associated.of(each) for each in found]


@calls.get("/associations/{id}", summary="One of them")
async def association(inside: Archive, principal: Caller, id: str) -> Associated:
    return Associated.of(await inside.associations.one(principal, id))


# ---------------------------------------------------------------- rejected objects


@calls.get("/rejected", summary="What has been rejected, latest first")
async def rejected(inside: Archive, principal: Caller, limit: Limit = 100, after: After = "") -> list[RejectedInstance]:
    found = await inside.archive.remove.rejected(principal, limit, after)
    return [RejectedInstance.of(entry) for entry in found]


@calls.post("/rejected", summary="Reject a study, a series or an instance: it leaves the normal views")
async def reject(inside: Archive, principal: Caller, what: Rejection) -> Count:
    count = await inside.archive.remove.reject(principal, what.study, what.series, what.instance, reason=what.reason)
    return Count(instances=count)


@calls.post("/rejected/restore", summary="Take a rejection back")
async def restore(inside: Archive, principal: Caller, what: Place) -> Count:
    count = await inside.archive.remove.restore(principal, what.study, what.series, what.instance)
    return Count(instances=count)


# ---------------------------------------------------------------- quarantine


@calls.get("/quarantine", summary="What was set aside on arrival, latest first")
async def quarantine(inside: Archive, principal: Caller, limit: Limit = 100, after: After = "") -> list[Quarantined]:
    found = await inside.archive.quarantine.list(principal, limit, after)
    return [Quarantined.of(entry) for entry in found]


@calls.get("/quarantine/{id}", summary="One of them")
async def quarantined(inside: Archive, principal: Caller, id: str) -> Quarantined:
    return Quarantined.of(await inside.archive.quarantine.get(principal, id))


@calls.get("/quarantine/{id}/content", summary="The exact bytes received", response_class=StreamingResponse)
async def quarantined_bytes(inside: Archive, principal: Caller, id: str) -> StreamingResponse:
    stream = await inside.archive.quarantine.original(principal, id)
    headers = {"content-disposition": "attachment; filename=quarantined.bin", "x-content-type-options": "nosniff"}
    if stream.size is not None:
        headers["content-length"] = str(stream.size)
    return StreamingResponse(pieces(stream), media_type="application/octet-stream", headers=headers)


@calls.post("/quarantine/{id}/release", summary="Somebody has dealt with it: it leaves the list", status_code=204)
async def release(inside: Archive, principal: Caller, id: str) -> None:
    await inside.archive.quarantine.release(principal, id)


# ---------------------------------------------------------------- versions


@calls.get("/conflicts", summary="Instances with several contents that wait for a decision")
async def conflicts(inside: Archive, principal: Caller, limit: Limit = 100, after: After = "") -> list[Conflicted]:
    found = await inside.archive.versions.conflicts(principal, limit, after)
    return [Conflicted(study=one.study, series=one.series, instance=one.sop) for one in found]


@calls.get("/versions", summary="Every version and encoding of one instance, in order of reception")
async def versions(
    inside: Archive, principal: Caller, study: UidParameter, series: UidParameter, instance: UidParameter
) -> list[Version]:
    found = await inside.archive.versions.of(principal, Identity(study, series, instance))
    return [Version.of(held) for held in found]


@calls.post("/versions/switch", summary="Say which version is the current one", status_code=204)
async def switch(inside: Archive, principal: Caller, what: Switch) -> None:
    identity = Identity(what.study, what.series, what.instance)
    await inside.archive.versions.switch(principal, identity, what.version)


# ---------------------------------------------------------------- the application


def application(inside: Inside) -> FastAPI:
    """The application mounted at /api/v1."""
    app = FastAPI(
        title="Radiolith",
        version=__version__,
        description="Administration of a Radiolith archive. Images travel over /dicom-web.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.inside = inside
    app.include_router(calls)
    app.include_router(traffic.calls)
    app.include_router(peers.calls)
    app.include_router(labels.calls)
    app.include_router(notes.calls)
    for part in (amend, history, patients, desk):
        app.include_router(part.calls)
    app.include_router(changes.calls)
    app.include_router(webhooks.calls)
    app.add_exception_handler(Failure, _failed)
    app.add_exception_handler(RequestValidationError, _unfit)
    return app


async def _failed(request: Request, failure: Exception) -> JSONResponse:
    if not isinstance(failure, Failure):
        raise failure
    headers: dict[str, str] = {}
    if isinstance(failure, NotAuthenticated):
        headers["www-authenticate"] = 'Bearer realm="radiolith"'
    if isinstance(failure, Unavailable):
        headers["retry-after"] = str(failure.retry_after)
    number = code(failure)
    return JSONResponse({"type": "about:blank", "status": number, "detail": sentence(failure)}, number, headers)


async def _unfit(request: Request, failure: Exception) -> JSONResponse:
    """What is wrong with a question and where, as FastAPI says it, but for what was sent: it may be large, and no text at all."""
    if not isinstance(failure, RequestValidationError):
        raise failure
    detail = [
        {"type": one["type"], "loc": [_named(part) for part in one["loc"]], "msg": one["msg"]}
        for one in failure.errors()
    ]
    return JSONResponse({"detail": detail}, 422)


def _named(part: str | int) -> str | int:
    return part.encode("ascii", "backslashreplace").decode()[:64] if isinstance(part, str) else part
