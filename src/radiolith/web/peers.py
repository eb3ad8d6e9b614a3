"""/api/v1: peers, unknown devices that called, and what peers were not told yet. Each call is one verb.

Must never: decide; what a caller may do is checked inside the verbs.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from radiolith.archive.peers import Peers
from radiolith.index.accounts import Peer
from radiolith.index.knocks import Known
from radiolith.index.peer_reports import PeerReport
from radiolith.web.calls import Caller, inside, moment

Limit = Annotated[int, Query(ge=1, le=1000, description="Entries of one answer.")]
Before = Annotated[int, Query(ge=0, description="The number the answer before ended with; 0 for the first.")]


class PeerOut(BaseModel):
    name: str
    aet: str
    address: str
    port: int | None
    tls: bool
    settings: dict[str, Any] = Field(description="Whatever else was said of it.")
    since: datetime

    @staticmethod
    def of(peer: Peer) -> PeerOut:
        known = ("name", "aet", "address", "port", "tls")
        more = peer.more
        return PeerOut(
            name=peer.name, aet=str(more.get("aet", "")), address=str(more.get("address", "")), port=more.get("port"),
            tls=bool(more.get("tls")), settings={key: more[key] for key in more if key not in known}, since=moment(peer.at),
        )  # fmt: skip


class PeerIn(BaseModel):
    """What can be said of a node, as in `radiolith peer add`; what is not given is not said."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=64, description="What it is called here.")
    aet: str = Field(
        pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$",
        description="Its AE title: 1 to 16 characters, no backslash.",
    )
    address: str = Field(
        pattern=r"^[!-~]{1,253}$", description="Host name or IP address; a network (10.0.0.0/24) for calls from it."
    )
    port: int = Field(ge=1, le=65535)
    tls: bool = Field(False, description="It speaks DICOM over TLS.")
    certificate: str = Field("", max_length=253, description="A name in its certificate, if not its address.")
    commitment: bool = Field(False, description="What is sent counts as delivered when it has committed to keep it.")
    notify: bool = Field(False, description="It is told of every study that is complete (Instance Availability).")
    rejects: bool = Field(False, description="Its rejection notes are obeyed (IHE IOCM).")
    notes: Literal["", "rejected", "all", "none"] = Field(
        "", description="What it is told of what it got from us: 'rejected' (the default), 'all' or 'none'."
    )
    role: str = Field("", max_length=64, description="What it may do; empty: 'editor'.")
    services: list[str] = Field(
        [], max_length=16, description="All it may ask for: echo, store, find, move, get, commit."
    )
    syntax: str = Field(
        "",
        pattern=r"^([0-9]+(\.[0-9]+)+)?$",
        max_length=64,
        description="Transfer syntax to send in where it can be made.",
    )
    charset: str = Field(
        "", pattern=r"^[ -~]*$", max_length=256, description="Character set of answers to its queries: 'ISO_IR 192'."
    )
    complete_after: int | None = Field(None, ge=1, le=86_400, description="Seconds after which a study is complete.")

    def body(self) -> dict[str, Any]:
        """As the fact has it: what is not said is not written."""
        said = {"services": ",".join(self.services), "quiet": self.complete_after}
        said |= self.model_dump(include={"certificate", "commitment", "notify", "role", "syntax", "charset"})
        said |= self.model_dump(include={"rejects", "notes"})
        where = self.model_dump(include={"aet", "address", "port", "tls"})
        return where | {key: value for key, value in said.items() if value}


class KnockOut(BaseModel):
    calling: str
    called: str
    address: str
    first_at: datetime
    last_at: datetime
    count: int = Field(description="Associations it asked for.")
    admitted: bool = Field(description="Whether it was let in the last time, to hand over into the quarantine.")
    objects: int = Field(description="In quarantine, from this title and address.")

    @staticmethod
    def of(known: Known) -> KnockOut:
        caller = known.caller
        return KnockOut(
            calling=caller.calling, called=caller.called, address=caller.address, first_at=moment(known.first_at),
            last_at=moment(known.last_at), count=known.count, admitted=known.admitted, objects=known.objects,
        )  # fmt: skip


class Accepting(BaseModel):
    model_config = ConfigDict(extra="forbid")
    aet: str = Field(min_length=1, max_length=16, description="The AE title it calls itself.")
    name: str = Field("", max_length=64, description="What it is called here; empty takes the AE title.")
    address: str = Field("", max_length=64, description="Which one, where several call themselves so.")
    port: int | None = Field(None, ge=1, le=65535, description="Where it listens; null: 104, with TLS 2762.")
    tls: bool | None = Field(None, description="It speaks TLS; null: as it did when it called.")
    certificate: str | None = Field(
        None,
        max_length=253,
        description="A name in its certificate; null: of the one it showed; '' knows it by its address.",
    )


class Accepted(BaseModel):
    name: str
    address: str
    port: int
    tls: bool
    certificate: str = Field(description="The name it is known by; '' for none.")
    received: int = Field(description="Objects set aside that are kept as what they are now.")
    left: int = Field(description="In quarantine still, each for a reason of its own.")


class ReportOut(BaseModel):
    id: int
    kind: str = Field(description="'commitment', 'availability' or 'unavailable'.")
    subject: str = Field(description="Transaction UID of a commitment.")
    aet: str
    peer: str
    state: str = Field(description="'waiting' or 'given_up'.")
    attempts: int
    next_at: datetime | None
    said: str = Field(description="Why the last attempt failed.")

    @staticmethod
    def of(report: PeerReport) -> ReportOut:
        return ReportOut(
            id=report.id, kind=report.kind.name.lower(), subject=report.subject, aet=report.to.aet, peer=report.to.peer,
            state=report.state.name.lower(), attempts=report.attempts,
            next_at=None if report.ended_at else moment(report.next_at), said=report.said,
        )  # fmt: skip


def _peers(request: Request) -> Peers:
    return inside(request).peers


Verbs = Annotated[Peers, Depends(_peers)]
calls = APIRouter()


@calls.get("/peers", summary="The DICOM nodes known")
async def peers(verbs: Verbs, principal: Caller) -> list[PeerOut]:
    return [PeerOut.of(peer) for peer in await verbs.list(principal)]


@calls.post("/peers", summary="Make a DICOM node known", status_code=204)
async def add(verbs: Verbs, principal: Caller, what: PeerIn) -> None:
    await verbs.add(principal, what.name, what.body())


@calls.delete(
    "/peers/{name}", summary="Forget a node: it is let in no more, what waits for it is held", status_code=204
)
async def remove(verbs: Verbs, principal: Caller, name: str) -> None:
    await verbs.remove(principal, name)


@calls.get("/knocks", summary="Devices that called and are no peers, latest first")
async def knocks(verbs: Verbs, principal: Caller) -> list[KnockOut]:
    return [KnockOut.of(known) for known in await verbs.knocks(principal)]


@calls.post("/knocks/accept", summary="Make such a device a peer, and keep what was set aside from it")
async def accept(verbs: Verbs, principal: Caller, what: Accepting) -> Accepted:
    said = what.model_dump(include={"port", "tls", "certificate"}, exclude_none=True)
    done = await verbs.accept(principal, what.aet, name=what.name, address=what.address, about=said)
    return Accepted(**asdict(done))


@calls.get("/reports", summary="What peers were to be told and have not taken, latest first")
async def reports(verbs: Verbs, principal: Caller, limit: Limit = 100, before: Before = 0) -> list[ReportOut]:
    return [ReportOut.of(report) for report in await verbs.reports(principal, limit, before)]


@calls.post("/reports/{id}/again", summary="Tell a peer once more what was given up; what waits: now")
async def report_again(verbs: Verbs, principal: Caller, id: int) -> ReportOut:
    return ReportOut.of(await verbs.report_again(principal, id))


@calls.post("/reports/{id}/drop", summary="Do not tell a peer what it has not taken", status_code=204)
async def drop_report(verbs: Verbs, principal: Caller, id: int) -> None:
    await verbs.drop_report(principal, id)
