"""/api/v1: what comes and what goes: the outbox, routing rules, devices. Each call is one verb.

Must never: decide; what a caller may do is checked inside the verbs.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from radiolith.index.devices import Device, Notice
from radiolith.index.outbox import Item, ItemState, Lag, Priority, State, Transfer
from radiolith.index.registry import Entry
from radiolith.model import Identity
from radiolith.policies.routes import Tried
from radiolith.policies.traffic import Traffic
from radiolith.web.calls import Caller, inside, moment

Limit = Annotated[int, Query(ge=1, le=1000, description="Entries of one answer.")]
Before = Annotated[int, Query(ge=0, description="The number the answer before ended with; 0 for the first.")]
StateName = Literal["waiting", "sending", "awaiting", "delivered", "failed", "held", "cancelled"]
ItemStateName = Literal["waiting", "sent", "refused", "gone", "committed"]
PriorityName = Literal["high", "medium", "low"]
_UID = r"^[0-9A-Za-z._-]*$"
Uid = Annotated[str, Field(max_length=128, pattern=_UID)]


class Place(BaseModel):
    study: Annotated[str, Field(min_length=1, max_length=128, pattern=_UID)]
    series: Uid = ""
    instance: Uid = ""


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    peer: str = Field(description="Its name here.", max_length=64)
    places: list[Place] = Field(
        min_length=1, max_length=10_000, description="An empty series or instance means all below."
    )
    priority: PriorityName = "medium"
    transfer_syntax: str = Field(
        "", max_length=64, pattern=r"^[0-9.]*$", description="Preferred; empty keeps what is held."
    )


class TransferOut(BaseModel):
    id: int
    peer: str
    study: str
    why: str = Field(description="'person', 'rule', 'move' (a C-MOVE) or 'note' (of a rejection).")
    ordered_by: str = Field(description="Name of the person or rule, AE title of who asked by C-MOVE.")
    priority: str
    transfer_syntax: str
    state: str
    said: str = Field(description="The last reason, in words.")
    attempts: int = Field(description="Since something got through last.")
    next_at: datetime | None = Field(description="When it is tried again.")
    total: int = Field(description="Instances.")
    delivered: int
    failed: int
    created_at: datetime
    changed_at: datetime

    @staticmethod
    def of(found: Transfer) -> TransferOut:
        live = found.state < State.DELIVERED
        return TransferOut(
            id=found.id, peer=found.peer, study=found.study, why=found.why.name.lower(), ordered_by=found.ordered_by,
            priority=found.priority.name.lower(), transfer_syntax=found.syntax, state=found.state.name.lower(),
            said=found.said, attempts=found.attempts, next_at=moment(found.next_at) if live else None, total=found.total,
            delivered=found.delivered, failed=found.failed, created_at=moment(found.created_at),
            changed_at=moment(found.changed_at),
        )  # fmt: skip


class ItemOut(BaseModel):
    position: int
    study: str
    series: str
    instance: str
    state: str
    status: str = Field(description="The peer's last status, four hexadecimal digits.")
    said: str

    @staticmethod
    def of(position: int, item: Item) -> ItemOut:
        where = item.identity
        return ItemOut(
            position=position, study=where.study, series=where.series, instance=where.sop, state=item.state.name.lower(),
            status=f"{item.status:04X}", said=item.said,
        )  # fmt: skip


class LagOut(BaseModel):
    peer: str
    transfers: int = Field(description="That have not ended.")
    instances: int = Field(description="Of these, not delivered.")
    oldest: datetime | None = Field(description="When the oldest of them was ordered.")
    said: str = Field(description="The last reason, in words.")
    failed: int = Field(description="Transfers given up or held, not sent again yet.")

    @staticmethod
    def of(lag: Lag) -> LagOut:
        oldest = moment(lag.oldest) if lag.transfers else None
        return LagOut(
            peer=lag.peer, transfers=lag.transfers, instances=lag.instances, oldest=oldest, said=lag.said, failed=lag.failed
        )  # fmt: skip


class RuleIn(BaseModel):
    """What arrives, by attributes, sender and time, goes to a peer when its study is complete."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=64)
    peer: str = Field(max_length=64)
    keys: dict[str, list[str] | str] = Field(
        default_factory=dict, description="Attribute keyword to values, with wildcards and ranges as in queries."
    )
    sources: list[str] = Field(default_factory=list, description="AE titles or names, with wildcards; none means all.")
    doors: list[Literal["dimse", "stow", "import"]] = Field(default_factory=list, description="None means all.")
    hours: str = Field("", max_length=11, description="'20:00-06:00', when the study is complete.")
    days: str | list[str] = Field("", description="'mon-fri'; a night counts for the day it began on.")
    zone: str = Field("UTC", max_length=64, description="IANA name.")
    priority: PriorityName = "medium"
    syntax: str = Field("", max_length=64, description="Preferred transfer syntax.")

    def body(self) -> dict[str, Any]:
        return self.model_dump(exclude_defaults=True)


class RuleOut(RuleIn):
    made_at: datetime

    @staticmethod
    def of(entry: Entry) -> RuleOut:
        return RuleOut.model_validate({**entry.body, "made_at": moment(entry.at)})


class TriedOut(BaseModel):
    study: str
    complete_at: datetime
    instances: int = Field(description="That the rule would have sent.")
    of: int = Field(description="That were new then.")

    @staticmethod
    def of_(tried: Tried) -> TriedOut:
        return TriedOut(study=tried.study, complete_at=moment(tried.at), instances=tried.instances, of=tried.of)


class DeviceOut(BaseModel):
    door: str
    name: str = Field(description="AE title, or name of the token or user.")
    first_at: datetime
    last_at: datetime
    studies: int
    instances: int
    addresses: list[str]
    software: list[str]

    @staticmethod
    def of(device: Device) -> DeviceOut:
        habits = device.habits
        return DeviceOut(
            door=device.door, name=device.peer, first_at=moment(device.first_at), last_at=moment(device.last_at),
            studies=device.studies, instances=device.instances, addresses=sorted(habits.addresses),
            software=sorted(habits.software),
        )  # fmt: skip


class NoticeOut(BaseModel):
    id: int
    door: str
    name: str
    kind: str = Field(description="'gap', 'shorter', 'silent', 'clock', 'address' or 'software'.")
    at: datetime
    said: str
    settled_at: datetime | None

    @staticmethod
    def of(notice: Notice) -> NoticeOut:
        settled = moment(notice.settled_at) if notice.settled_at else None
        return NoticeOut(
            id=notice.id, door=notice.door, name=notice.peer, kind=notice.kind.name.lower(), at=moment(notice.at),
            said=notice.said, settled_at=settled,
        )  # fmt: skip


def _traffic(request: Request) -> Traffic:
    return inside(request).traffic


Inside = Annotated[Traffic, Depends(_traffic)]
calls = APIRouter()


# ---------------------------------------------------------------- the outbox


@calls.get("/outbox", summary="What was ordered to be sent, latest first")
async def outbox(
    inside: Inside,
    principal: Caller,
    limit: Limit = 100,
    before: Before = 0,
    state: Annotated[list[StateName] | None, Query()] = None,
    peer: Annotated[str, Query(max_length=64)] = "",
) -> list[TransferOut]:
    states = [State[name.upper()] for name in state or ()]
    return [
        TransferOut.of(found) for found in await inside.outbox.list(principal, limit, before, states=states, peer=peer)
    ]


@calls.post("/outbox", summary="Send what is held to a peer; one transfer per study", status_code=201)
async def order(inside: Inside, principal: Caller, what: Order) -> list[TransferOut]:
    places = [Identity(place.study, place.series, place.instance) for place in what.places]
    made = await inside.outbox.order(
        principal, what.peer, places, priority=Priority[what.priority.upper()], syntax=what.transfer_syntax
    )
    return [TransferOut.of(found) for found in made]


@calls.get("/outbox/destinations", summary="How far each destination is behind, and why")
async def destinations(inside: Inside, principal: Caller) -> list[LagOut]:
    return [LagOut.of(lag) for lag in await inside.outbox.lags(principal)]


@calls.get("/outbox/{id}", summary="One transfer")
async def transfer(inside: Inside, principal: Caller, id: int) -> TransferOut:
    return TransferOut.of(await inside.outbox.get(principal, id))


@calls.get("/outbox/{id}/instances", summary="Its instances, until all is delivered")
async def instances(
    inside: Inside,
    principal: Caller,
    id: int,
    limit: Limit = 100,
    after: Before = 0,
    state: Annotated[ItemStateName | None, Query()] = None,
) -> list[ItemOut]:
    only = ItemState[state.upper()] if state else None
    return [ItemOut.of(*found) for found in await inside.outbox.items(principal, id, limit, after, only)]


@calls.post(
    "/outbox/{id}/again",
    summary="Send what is missing of a transfer that failed, is held or was cancelled; what waits: now",
)
async def again(inside: Inside, principal: Caller, id: int) -> TransferOut:
    return TransferOut.of(await inside.outbox.again(principal, id))


@calls.post("/outbox/{id}/cancel", summary="Send nothing more of a transfer; one that failed is no problem any more")
async def cancel(inside: Inside, principal: Caller, id: int) -> TransferOut:
    return TransferOut.of(await inside.outbox.cancel(principal, id))


# ---------------------------------------------------------------- routing rules


@calls.get("/routes", summary="Routing rules, by name")
async def routes(inside: Inside, principal: Caller) -> list[RuleOut]:
    return [RuleOut.of(entry) for entry in await inside.routes.list(principal)]


@calls.post("/routes", summary="Make a rule", status_code=204)
async def add_route(inside: Inside, principal: Caller, rule: RuleIn) -> None:
    await inside.routes.add(principal, rule.body())


@calls.post("/routes/try", summary="What a rule would have sent of past traffic; nothing is made or sent")
async def try_route(
    inside: Inside, principal: Caller, rule: RuleIn, days: Annotated[int, Query(ge=1, le=30)] = 7
) -> list[TriedOut]:
    since = datetime.now(UTC) - timedelta(days=days)
    found = await inside.routes.trial(principal, rule.body(), int(since.timestamp() * 1_000_000))
    return [TriedOut.of_(tried) for tried in found]


@calls.delete("/routes/{name}", summary="Remove a rule; what it ordered stays ordered", status_code=204)
async def remove_route(inside: Inside, principal: Caller, name: str) -> None:
    await inside.routes.remove(principal, name)


# ---------------------------------------------------------------- devices


@calls.get("/devices", summary="Who sends, and how that usually is")
async def devices(inside: Inside, principal: Caller) -> list[DeviceOut]:
    return [DeviceOut.of(device) for device in await inside.devices.list(principal)]


@calls.get("/devices/notices", summary="What is odd about devices, in words, latest first")
async def notices(
    inside: Inside, principal: Caller, limit: Limit = 100, after: Before = 0, settled: bool = False
) -> list[NoticeOut]:
    found = await inside.devices.notices(principal, limit, after, settled=settled)
    return [NoticeOut.of(notice) for notice in found]
