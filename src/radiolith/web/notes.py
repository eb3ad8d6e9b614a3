"""/api/v1/notes: rejection notes from those who may not reject, which wait for a person. Each call is one verb.

Must never: decide; what a caller may do is checked inside the verbs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from radiolith.archive.notes import Notes
from radiolith.web.calls import Caller, inside, moment


class Waiting(BaseModel):
    instance: str = Field(description="SOP Instance UID of the note, by which it is obeyed or dismissed.")
    sender: str = Field(description="AE title or name of who sent it.")
    at: datetime
    said: str


class Obeyed(BaseModel):
    instances: int = Field(description="How many it is about; 0 when it was obeyed before.")


def _notes(request: Request) -> Notes:
    return inside(request).archive.notes


Verbs = Annotated[Notes, Depends(_notes)]
calls = APIRouter()


@calls.get("/notes", summary="Rejection notes that wait for a person, latest first")
async def waiting(
    verbs: Verbs,
    principal: Caller,
    limit: Annotated[int, Query(ge=1, le=1000, description="Entries of one answer.")] = 100,
) -> list[Waiting]:
    found = await verbs.waiting(principal, limit)
    return [Waiting(instance=one.subject, sender=one.peer, at=moment(one.at), said=one.said) for one in found]


@calls.post("/notes/{instance}/obey", summary="Do what a note says, whoever sent it")
async def obey(verbs: Verbs, principal: Caller, instance: str) -> Obeyed:
    return Obeyed(instances=await verbs.obey(principal, instance))


@calls.post("/notes/{instance}/dismiss", summary="A note does not hold: it leaves the list", status_code=204)
async def dismiss(verbs: Verbs, principal: Caller, instance: str) -> None:
    await verbs.dismiss(principal, instance)
