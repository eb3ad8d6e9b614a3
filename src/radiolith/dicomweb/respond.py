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
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Protocol

from starlette.types import Receive, Scope, Send

from radiolith.dicomweb.status import log
from radiolith.model import Failure

SEND_BYTES = 512 * 1024
LARGE_BYTES = 64 * 1024
CODING_BYTES_MIN = 1400  # below one packet compression saves nothing
CODING_LEVEL = 1  # zlib: 5 times the speed of the default at about 10 % more bytes
WATCH_AFTER = 4  # pieces sent before it is worth watching for a client that leaves

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
    """A whole body. `etag` (without quotes) makes it conditional; `coding` offers gzip where the client takes it."""

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
        if self.etag and unchanged(request, self.etag):
            await send(_start(304, "", None, self.headers, self.etag))
            await send({"type": "http.response.body", "body": b""})
            return
        body = self.body
        if self.coding:
            self.headers.append(("vary", "Accept-Encoding"))
            if len(body) >= CODING_BYTES_MIN and takes_gzip(request):
                packer = gzip()
                body = packer.compress(body) + packer.flush()
                self.headers.append(("content-encoding", "gzip"))
        size = None if self.status == 204 else len(body)
        await send(_start(self.status, self.media, size, self.headers, self.etag))
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


class Streamed:
    """A body that comes piece by piece. When a piece fails the connection is cut: a short answer must look short."""

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
        request = dict(scope["headers"])
        if self.etag and unchanged(request, self.etag):
            await send(_start(304, "", None, self.headers, self.etag))
            await send({"type": "http.response.body", "body": b""})
            return await closed(self.pieces)
        pieces, size = self.pieces, self.size
        if self.coding:
            self.headers.append(("vary", "Accept-Encoding"))
            if takes_gzip(request):
                self.headers.append(("content-encoding", "gzip"))
                pieces, size = packed(pieces), None
        await send(_start(self.status, self.media, size, self.headers, self.etag))
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return await closed(pieces)
        try:
            await _pump(pieces, receive, send)
        except Failure as failure:
            log.error("an answer was cut short: %s", failure)
        finally:
            await closed(pieces)
        return None


async def _pump(pieces: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    """Send all pieces, unless the client leaves. After a failure nothing is sent, so the server cuts the line."""
    sent, gone = 0, None
    try:
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


async def packed(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The gzip coding of a stream."""
    packer = gzip()
    try:
        async for piece in pieces:
            if block := packer.compress(piece):
                yield block
        yield packer.flush()
    finally:
        await closed(pieces)


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def gzip() -> _Packer:
    return zlib.compressobj(CODING_LEVEL, zlib.DEFLATED, 31)


def takes_gzip(request: Mapping[bytes, bytes]) -> bool:
    """Accept-Encoding names gzip, or everything, and not with q=0."""
    for element in request.get(b"accept-encoding", b"").lower().split(b","):
        name, _, weight = element.partition(b";")
        if name.strip() in (b"gzip", b"*"):
            return weight.replace(b" ", b"").rstrip(b"0") not in (b"q=", b"q=0.")
    return False


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
