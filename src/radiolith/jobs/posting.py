"""One POST to a webhook's target.

Owns: that the connection goes to an address that was judged (`archive.targets`), not to what the name means a moment later; that
nothing is followed, and nothing but the status is read. Must never: retry, or take longer than SECONDS in all, however slowly
the target answers. No proxy and no HTTP client's defaults: a request head, a body, a status line (RFC 9112).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping

from radiolith.archive.targets import Address, Target, judge, target_of
from radiolith.model import Unavailable

SECONDS = 10.0  # name, connection, TLS, request and answer together
INTERIM = 8  # answers of class 1xx before the one that counts
HEAD_BYTES = 16 * 1024  # of an answer's head
Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolved(host: str, port: int) -> list[str]:
    """Network addresses of a host, as text, in the order to be tried."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


class Post:
    """`context`: who is trusted to be the target, the system's authorities unless given."""

    def __init__(
        self, *, allow_private: bool, resolve: Resolve = resolved, context: ssl.SSLContext | None = None, seconds: float = SECONDS
    ) -> None:  # fmt: skip
        self._allow_private, self._resolve, self._context, self._seconds = allow_private, resolve, context, seconds

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """Return when the target has answered 2xx. Raises a Failure with a sentence otherwise."""
        target = target_of(url, allow_private=self._allow_private)
        try:
            async with asyncio.timeout(self._seconds):
                address = await self._judged(target)
                status = await self._exchange(target, address, _head(target, headers, len(body)) + body)
        except TimeoutError:
            raise Unavailable(f"no answer within {self._seconds:g} seconds") from None
        except ssl.SSLError as error:
            raise Unavailable(f"no TLS with it: {error.reason or type(error).__name__}") from None
        except OSError as error:
            raise Unavailable(f"no connection: {error.strerror or type(error).__name__}") from None
        if 300 <= status < 400:
            raise Unavailable(f"answered {status}: redirects are not followed")
        if not 200 <= status < 300:
            raise Unavailable(f"answered {status}")

    async def _judged(self, target: Target) -> Address:
        """The address to connect to; every one the name has must be allowed, or none is used."""
        found = [ipaddress.ip_address(text.partition("%")[0]) for text in await self._resolve(target.host, target.port)]
        for one in found:
            judge(one, secure=target.secure, allow_private=self._allow_private)
        if not found:
            raise Unavailable("the host has no address")
        return found[0]

    async def _exchange(self, target: Target, address: Address, request: bytes) -> int:
        context = (self._context or await asyncio.to_thread(ssl.create_default_context)) if target.secure else None
        self._context = self._context or context
        reader, writer = await asyncio.open_connection(
            str(address), target.port, ssl=context, server_hostname=target.host if context else None, limit=HEAD_BYTES
        )
        try:
            writer.write(request)
            with contextlib.suppress(ConnectionError):  # it may have answered before it took everything
                await writer.drain()
            return await _status(reader)
        finally:
            writer.transport.abort()


def _head(target: Target, headers: Mapping[str, str], length: int) -> bytes:
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        "Connection: close",
        f"Content-Length: {length}",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


async def _status(reader: asyncio.StreamReader) -> int:
    """Of the final answer. Raises a Failure for what is no HTTP."""
    try:
        for _ in range(INTERIM):
            words = (await reader.readuntil(b"\n")).split(None, 2)
            if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit() or len(words[1]) != 3:
                raise Unavailable("the answer is no HTTP")
            if not words[1].startswith(b"1"):
                return int(words[1])
            while (await reader.readuntil(b"\n")).strip():
                pass
    except asyncio.IncompleteReadError:
        raise Unavailable("the connection was closed without an answer") from None
    except asyncio.LimitOverrunError:
        raise Unavailable("the answer is no HTTP") from None
    raise Unavailable("the answer has no end of interim answers")
