"""What all calls under /api/v1 have in common: what they reach, who asks, how a moment is written.

Owns: these three, and streams as responses take them. Must never: know a verb.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from radiolith.archive.ports import Stream
from radiolith.model import Principal
from radiolith.web import session
from radiolith.web.ports import Inside


def inside(request: Request) -> Inside:
    return request.app.state.inside


async def _caller(request: Request) -> Principal:
    return await session.caller(inside(request).identities, request)


Caller = Annotated[Principal, Depends(_caller)]


async def pieces(stream: Stream) -> AsyncIterator[memoryview]:
    """The bytes of a stream as a response takes them: what was decrypted in place is a bytearray, which it does not know."""
    async for piece in stream.chunks():
        yield memoryview(piece)


def moment(microseconds: int) -> datetime:
    """Microseconds since 1970 as a time with its zone."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
