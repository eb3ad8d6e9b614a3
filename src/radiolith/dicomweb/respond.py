"""Answers: the shapes every resource is sent in, with the headers every answer carries.

Owns: security and cache headers, ETag and If-None-Match, HEAD, content coding of documents, and streamed bodies that
stop when the client has gone. Must never: know what it sends.

Every answer is private to whoever asked. What has an ETag may be kept by the client but is asked for again each time
(`no-cache`), so that a revoked permission or a rejected object takes effect at once; the rest is never kept
(`no-store`).

Limits: small pieces are gathered up to SEND_BYTES, which makes sending cost less than reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from starlette.types import Receive, Scope, Send

from radiolith.dicomweb.coding import CODING_BYTES_MIN, chosen, packed, packed_whole
from radiolith.dicomweb.status import log
from radiolith.model import Failure

SEND_BYTES = 512 * 1024
LARGE_BYTES = 64 * 1024
WATCH_AFTER = 4  # pieces sent before it is worth watching for a client that leaves

VARY_CODING = ("vary", "Accept-Encoding")

NO_STORE = "private, no-store"
REVALIDATE = "private, no-cache"

SECURITY: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

Headers = Iterable[tuple[str, str]]


class Answer:
    """A whole body. `etag` (without quotes) makes it conditional; `coding` offers it compressed where the client takes
    that. Who gives both makes the coding a part of the tag (`coding_of`): other bytes, other tag."""

    def __init__(
        self,
        body: bytes = b"",
        media: str = "",
        *,
        status: int = 200,
        headers: Headers = (),
        etag: str = "",
        coding: bool = False,
    ):
        self.body, self.media, self.status = body, media, status
        self.headers, self.etag, self.coding = list(headers), etag, coding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = dict(scope["headers"])
        vary = (VARY_CODING,) if self.coding else ()
        if self.etag and unchanged(request, self.etag):
            await send(_start(304, "", None, (*self.headers, *vary), self.etag))
            await send({"type": "http.response.body", "body": b""})
            return
        body = self.body
        if self.coding:
            self.headers += vary
            coding = coding_of(request)
            if coding and len(body) >= CODING_BYTES_MIN:
                body = packed_whole(coding, body)
                self.headers.append(("content-encoding", coding))
        size = None if self.status == 204 else len(body)
        await send(_start(self.status, self.media, size, self.headers, self.etag))
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class Streamed:
    """A body that comes piece by piece.

    The first piece is made before the head leaves, so that a place that cannot be read is an error the client can tell
    from an answer. When a later piece fails the connection is cut: a short answer must look short. `coding` as of Answer.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        media: str,
        *,
        status: int = 200,
        size: int | None = None,
        headers: Headers = (),
        etag: str = "",
        coding: bool = False,
    ):
        self.pieces, self.media, self.status, self.size = pieces, media, status, size
        self.headers, self.etag, self.coding = list(headers), etag, coding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises whatever the first piece raises; nothing has been sent then."""
        try:
            await self._answer(scope, receive, send)
        finally:
            await closed(self.pieces)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = dict(scope["headers"])
        if self.coding:
            self.headers.append(VARY_CODING)
        if self.etag and unchanged(request, self.etag):
            await send(_start(304, "", None, self.headers, self.etag))
            await send({"type": "http.response.body", "body": b""})
            return
        head_only = scope["method"] == "HEAD"
        first = b"" if head_only else await anext(self.pieces, b"")
        pieces, size = self.pieces, self.size
        coding = coding_of(request) if self.coding else ""
        if coding and (head_only or len(first) >= CODING_BYTES_MIN):
            # What begins with less is small: pieces of documents are pages of them, or gathered.
            self.headers.append(("content-encoding", coding))
            pieces, size, first = packed(coding, first, pieces), None, b""
        await send(_start(self.status, self.media, size, self.headers, self.etag))
        if head_only:
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            await _pump(first, pieces, receive, send)
        except Failure as failure:
            log.error("an answer was cut short: %s", failure)
        finally:
            await closed(pieces)


async def _pump(first: bytes, pieces: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    """Send all pieces, unless the client leaves. After a failure nothing is sent, so the server cuts the line."""
    sent, gone = 0, None
    try:
        if first:
            await send({"type": "http.response.body", "body": first, "more_body": True})
            sent = 1
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            sent += 1
            if sent == WATCH_AFTER:
                gone = asyncio.ensure_future(_left(receive))
            if gone is not None and gone.done():
                return
        await send({"type": "http.response.body", "body": b""})
    finally:
        if gone is not None:
            gone.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def closed(pieces: AsyncIterator[bytes]) -> None:
    """Let a generator release what it holds (a read ahead, a place in a queue) now, not when it is collected."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()


async def gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, small pieces joined; large ones pass untouched: copying costs more than sending."""
    waiting: list[bytes] = []
    held = 0
    try:
        async for piece in pieces:
            if len(piece) >= LARGE_BYTES:
                if waiting:
                    yield b"".join(waiting)
                    waiting, held = [], 0
                yield piece
                continue
            waiting.append(piece)
            held += len(piece)
            if held >= SEND_BYTES:
                yield b"".join(waiting)
                waiting, held = [], 0
        if waiting:
            yield b"".join(waiting)
    finally:
        await closed(pieces)


def coding_of(request: Mapping[bytes, bytes]) -> str:
    """The content coding this client gets its documents in, '' for none."""
    return chosen(request.get(b"accept-encoding", b""))


def unchanged(request: Mapping[bytes, bytes], etag: str) -> bool:
    """If-None-Match (RFC 9110 13.1.2), compared weakly."""
    header = request.get(b"if-none-match")
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.decode("latin-1").split(",")]
    return "*" in tags or f'"{etag}"' in tags


def _start(
    status: int, media: str, size: int | None, headers: Sequence[tuple[str, str]], etag: str
) -> dict[str, object]:
    lines: list[tuple[bytes, bytes]] = []
    if media:
        lines.append((b"content-type", media.encode("latin-1", "replace")))
    if size is not None:
        lines.append((b"content-length", b"%d" % size))
    if etag:
        lines.append((b"etag", b'"%s"' % etag.encode("ascii")))
    lines.append((b"cache-control", REVALIDATE.encode() if etag else NO_STORE.encode()))
    lines.append((b"vary", b"Accept, Authorization, Cookie, Origin"))
    lines += SECURITY
    lines += [(name.encode("ascii"), value.encode("latin-1", "replace")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": lines}
