"""A request head without end: cut off in bytes and in seconds, before anybody has signed in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from radiolith import httphead

GET = b"GET /dicom-web/studies HTTP/1.1\r\nHost: x\r\n"
PIECE = 16 * 1024


class Wire(asyncio.Transport):
    """What the protocol writes, and whether it hung up."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def hello(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def connected(app: Any = hello) -> tuple[httphead.BoundedHead, Wire]:
    config = uvicorn.Config(app, log_config=None, lifespan="off", http=httphead.BoundedHead, ws="none")
    config.load()
    protocol, wire = httphead.BoundedHead(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


CHUNKED = GET.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n"
LETTERS, LINES = [b"a" * PIECE] * 100, [b"a: b\r\n" * (PIECE // 6)] * 100
ENDLESS = {
    "one header": [GET + b"X: ", *LETTERS],
    "many headers": [GET, *LINES],
    "the URL": [b"GET /", *LETTERS],
    "a chunk's extension": [CHUNKED + b"\r\n1;", *LETTERS],
    "a trailer": [CHUNKED + b"\r\n1\r\nx\r\n0\r\n", *LINES],
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_a_head_without_end_is_cut(what: str) -> None:
    protocol, wire = connected()
    taken = 0
    for piece in ENDLESS[what]:
        protocol.data_received(piece)
        if wire.closed:
            break
        taken += len(piece)
    assert wire.closed and taken <= httphead.HEAD_BYTES + PIECE
    if what in ("one header", "many headers", "the URL"):
        assert wire.sent.startswith(b"HTTP/1.1 431 ") and b"65536 bytes" in wire.sent
    protocol.connection_lost(None)
    await settled()


async def test_what_is_within_the_limits_passes() -> None:
    protocol, wire = connected()
    head = GET.replace(b"GET", b"POST") + b"X: " + b"a" * 60_000 + b"\r\nContent-Length: 300000\r\n\r\n"
    for _ in range(3):  # kept alive, counted anew
        wire.sent = b""
        for piece in (head, b"x" * 100_000, b"x" * 200_000):
            protocol.data_received(piece)
        await settled()
        assert wire.sent.startswith(b"HTTP/1.1 200 ") and wire.sent.endswith(b"x" * 300_000) and not wire.closed
    chunked = (
        GET.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 40_000 + b"0\r\n\r\n"
    )
    wire.sent = b""
    for at in range(0, len(chunked), 50_000):
        protocol.data_received(chunked[at : at + 50_000])
    await settled()
    assert wire.sent.endswith(b"x" * 40_000) and not wire.closed
    protocol.connection_lost(None)


async def test_a_head_that_does_not_come_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the connection, and from the first byte of a later request; an idle connection between two is uvicorn's."""
    monkeypatch.setattr(httphead, "HEAD_SECONDS", 0.0)
    silent, silence = connected()
    await settled()
    assert silence.closed and silence.sent.startswith(b"HTTP/1.1 408 ")
    silent.connection_lost(None)
    monkeypatch.setattr(httphead, "HEAD_SECONDS", 1000.0)
    protocol, wire = connected()
    protocol.data_received(GET + b"\r\n")
    await settled()
    assert wire.sent.startswith(b"HTTP/1.1 200 ") and not wire.closed
    monkeypatch.setattr(httphead, "HEAD_SECONDS", 0.0)
    protocol.data_received(b"GET / HT")
    await settled()
    assert wire.closed and b"HTTP/1.1 408 " in wire.sent
    protocol.connection_lost(None)
