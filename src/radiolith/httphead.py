"""The head of an HTTP request has an end: so many bytes, so many seconds.

Owns: what uvicorn leaves open. Its parser takes a head, a trailer or a chunk extension of any length (h11 has a limit,
httptools has none), and waits for it without end; one connection that nobody has signed in on could fill the memory or
stand in the way of everybody else. Must never: know what a request is about.

Limits: HEAD_BYTES between two pieces of body, which is the request line with all headers, or a trailer (real ones have
2 KiB, browsers stop at 32); HEAD_SECONDS from the first byte of a head, or from the connection, to its end.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0
HANG_UP = "radiolith.hang_up"
"""ASGI extension: its `now` ends the connection without waiting for a client that does not read what was sent."""

_ANSWERS = {
    408: (b"Request Timeout", b"The head of the request did not come to its end in time."),
    431: (b"Request Header Fields Too Large", b"A request line with all its headers may have %d bytes." % HEAD_BYTES),
}


class BoundedHead(HttpToolsProtocol):
    """uvicorn's protocol with an end to what it holds of a head. Give it to uvicorn.Config as `http`."""

    _quiet = 0  # bytes since the head was complete or a piece of body came
    _in_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._quiet += len(data)
        super().data_received(data)
        if self._quiet > HEAD_BYTES:
            self._refuse(431)
        elif self._in_head and self._quiet and self._timer is None:
            self._arm()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()
        self.scope["extensions"] = {HANG_UP: {"now": self.transport.abort}}

    def on_headers_complete(self) -> None:
        self._in_head, self._quiet = False, 0
        self._disarm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._quiet = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._quiet = True, 0
        super().on_message_complete()

    def _arm(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Say so, unless an answer is on its way over this connection, and hang up."""
        self._disarm()
        transport: Any = self.transport
        if transport is None or transport.is_closing():
            return
        cycle: Any = self.cycle  # None before the first request, whatever its annotation says
        if cycle is None or cycle.response_complete:
            reason, text = _ANSWERS[status]
            lines = (
                b"HTTP/1.1 %d %s" % (status, reason),
                b"content-type: text/plain; charset=utf-8",
                b"content-length: %d" % len(text),
                b"connection: close",
            )
            transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + text)
        transport.close()
