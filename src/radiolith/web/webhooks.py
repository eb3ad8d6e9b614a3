"""/api/v1/webhooks: where events are posted to. Each call is one verb.

Must never: decide, or show a secret but in the answer that made it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from radiolith.archive import webhooks
from radiolith.archive.webhooks import Webhooks
from radiolith.index.deliveries import Delivery, State
from radiolith.web.calls import Caller, inside, moment


class WebhookIn(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=webhooks.NAME_MAX)
    url: str = Field(max_length=2048, description="https://HOST[:PORT]/PATH")
    kinds: list[str] = Field(default_factory=list, max_length=64, description="Names of events; empty: all.")
    role: str = Field("reader", max_length=32, description="It sees what this role sees.")
    secret: str = Field("", max_length=webhooks.SECRET_MAX, description="Signs what is posted; empty: a random one.")


class Made(BaseModel):
    secret: str = Field(description="Not shown again.")


class WebhookOut(BaseModel):
    name: str
    url: str
    kinds: list[str]
    role: str
    made_at: datetime
    given_up: int = Field(description="Batches that could not be delivered and wait for a person.")


class DeliveryOut(BaseModel):
    id: int
    state: Literal["waiting", "given_up"]
    events: int
    attempts: int
    said: str = Field(description="Why the last attempt failed.")
    next_at: datetime | None = Field(description="When it is tried again.")
    created_at: datetime
    ended_at: datetime | None

    @staticmethod
    def of(found: Delivery) -> DeliveryOut:
        waits = found.state is State.WAITING
        return DeliveryOut(
            id=found.id,
            state="waiting" if waits else "given_up",
            events=found.batch.events,
            attempts=found.attempts,
            said=found.said,
            next_at=moment(found.next_at) if waits else None,
            created_at=moment(found.created_at),
            ended_at=None if waits else moment(found.ended_at),
        )


class Count(BaseModel):
    deliveries: int


def _webhooks(request: Request) -> Webhooks:
    return inside(request).traffic.webhooks


Verbs = Annotated[Webhooks, Depends(_webhooks)]
calls = APIRouter()


@calls.get("/webhooks", summary="Where events are posted to")
async def list_(verbs: Verbs, principal: Caller) -> list[WebhookOut]:
    return [
        WebhookOut(
            name=one.name, url=one.url, kinds=list(one.kinds), role=one.role, made_at=moment(one.made_at), given_up=lost
        )
        for one, lost in await verbs.list(principal)
    ]


@calls.post("/webhooks", summary="From now on events are posted there", status_code=201)
async def add(verbs: Verbs, principal: Caller, what: WebhookIn) -> Made:
    secret = await verbs.add(principal, what.name, what.url, kinds=what.kinds, role=what.role, secret=what.secret)
    return Made(secret=secret)


@calls.delete("/webhooks/{name}", summary="Post nothing more there", status_code=204)
async def remove(verbs: Verbs, principal: Caller, name: str) -> None:
    await verbs.remove(principal, name)


@calls.get("/webhooks/{name}/deliveries", summary="What waits to be posted again or was given up, in its order")
async def deliveries(
    verbs: Verbs,
    principal: Caller,
    name: str,
    limit: Annotated[int, Query(ge=1, le=1000, description="Entries of one answer.")] = 100,
    after: Annotated[int, Query(ge=0, description="The number the answer before ended with.")] = 0,
) -> list[DeliveryOut]:
    return [DeliveryOut.of(found) for found in await verbs.deliveries(principal, name, limit, after)]


@calls.post("/webhooks/{name}/deliveries/again", summary="Post all that was given up once more, oldest first")
async def again(verbs: Verbs, principal: Caller, name: str) -> Count:
    return Count(deliveries=await verbs.again(principal, name))


@calls.post("/webhooks/{name}/deliveries/{id}/again", summary="Post one that was given up once more")
async def again_one(verbs: Verbs, principal: Caller, name: str, id: int) -> Count:
    return Count(deliveries=await verbs.again(principal, name, id))
