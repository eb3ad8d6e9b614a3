"""/api/v1/changes: the change feed, as JSON (at once, or as soon as something happens) and as server-sent events.

Owns: the two forms on the wire (WHATWG HTML 9.2, `text/event-stream`: the id of each event is its cursor). Must never: decide
who sees what (the verb does), or keep what a client does not read: a stream whose client takes nothing for SEND_SECONDS is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from radiolith.archive.follow import LIMIT_MAX, WAIT_MAX, Ask, Events
from radiolith.model import Failure, Principal
from radiolith.web import session
from radiolith.web.calls import inside

T = TypeVar("T")
SEND_SECONDS = 30.0  # a piece is some KiB; 64 KiB wait in the connection before the first second counts
RETRY = 2000  # milliseconds a browser waits before it connects again
STREAM = "text/event-stream"
HANG_UP = "radiolith.hang_up"
"""ASGI extension of our server (`httphead`): closing alone would wait for the client to read."""

calls = APIRouter()


class EventsOut(BaseModel):
    """Each event has number, cursor, kind and at; the rest depends on its kind (docs/changes.md)."""

    events: list[dict[str, Any]]
    after: str = Field(description="Where to go on.")
    epoch: str = Field(description="Of the feed: a rebuilt index has another one.")
    restarted: bool = Field(description="The cursor is none of this feed, which starts from the beginning.")
    more: bool = Field(description="Ask again at once.")


After = Annotated[
    str,
    Query(
        max_length=128, description="What the answer before ended with; empty: the beginning; 'latest': from now on."
    ),
]
Kinds = Annotated[str, Query(max_length=1024, description="Names of events, separated by commas; empty: all.")]


@calls.get(
    "/changes",
    summary="What has happened since; waits for it when asked to, or streams it",
    response_model=EventsOut,
    responses={200: {"content": {STREAM: {}}, "description": "JSON, or server-sent events where they are accepted"}},
)
async def changes(
    request: Request,
    after: After = "",
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Events of one answer.")] = 100,
    kinds: Kinds = "",
    wait: Annotated[float, Query(ge=0, le=WAIT_MAX, description="Seconds to wait for an event.")] = 0,
    last_event_id: Annotated[str, Header(max_length=128)] = "",
) -> Response:
    follow = inside(request).traffic.follow
    names = tuple(name for word in kinds.split(",") if (name := word.strip()))

    async def caller() -> Principal:
        return await session.caller(inside(request).identities, request)

    if _wants_stream(request.headers.get("accept", "")):
        ask = Ask(last_event_id or after, limit, names)
        events = follow.stream(caller, ask)
        return EventStream(await anext(events), events)
    found = await _unless_gone(request.receive, follow.waited(caller, Ask(after, limit, names), wait))
    if found is None:
        return Response(status_code=204)  # to nobody
    return Response(json.dumps(_document(found), ensure_ascii=False), media_type="application/json")


def _wants_stream(accept: str) -> bool:
    return any(word.partition(";")[0].strip().lower() == STREAM for word in accept.split(","))


def _document(found: Events) -> dict[str, Any]:
    return {
        "events": [event.document() for event in found.events],
        "after": found.after,
        "epoch": found.epoch,
        "restarted": found.restarted,
        "more": found.more,
    }


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """The outcome, or None when the client has gone before: its place is free again at once."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# ---------------------------------------------------------------- server-sent events


def piece(found: Events) -> bytes:
    """An answer on the wire. One without events is a comment, so that proxies and clients see that it lives; its id still moves
    the place where the client goes on."""
    lines: list[str] = []
    if found.restarted:
        lines += ["event: restarted", f"data: {json.dumps({'epoch': found.epoch})}", ""]
    for event in found.events:
        data = json.dumps(event.document(), ensure_ascii=True)
        lines += [f"id: {event.cursor}", f"event: {event.kind}", f"data: {data}", ""]
    lines += [": alive", f"id: {found.after}", "", ""]
    return "\n".join(lines).encode()


class EventStream(Response):
    """An answer that ends when the client goes, stops reading or may not listen any more, or when the process stops."""

    media_type = STREAM

    def __init__(self, first: Events, rest: AsyncGenerator[Events], seconds: float = SEND_SECONDS):
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self.raw_headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        self._first, self._rest, self._seconds = first, rest, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending, gone = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not sending.result():
                hang_up: dict[str, Callable[[], None]] = scope.get("extensions", {}).get(HANG_UP, {})
                hang_up.get("now", _nothing)()
                await asyncio.wait({gone}, timeout=1)
        finally:
            for one in (sending, gone):
                one.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
            await self._rest.aclose()

    async def _send(self, send: Send) -> bool:
        """False when the client does not read."""

        async def give(body: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(self._seconds):
                await send({"type": "http.response.body", "body": body, "more_body": more})

        async def start() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        try:
            await start()
            await give(f"retry: {RETRY}\n\n".encode() + piece(self._first))
            with contextlib.suppress(Failure):  # whoever may not listen any more hears so when it connects again
                async for found in self._rest:
                    await give(piece(found))
            await give(b"", more=False)
        except TimeoutError:
            return False
        return True


def _nothing() -> None:
    """A server without the extension closes the connection when an answer is not completed."""
