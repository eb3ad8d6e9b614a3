"""One connection's bytes: received into buffers that are lent, written without waiting until there is too much.

Owns: the transport of an association, for both roles; `server` listens (with TLS `handshake`), `scu` connects, nobody else
touches a socket. Must never: look at a byte. Reading stands still while what was received is being worked on: so a slow disk
slows the sender down, and nothing is buffered in between. TCP_NODELAY is set, and every message goes out by one call: a peer
without it waits 40 ms for an acknowledgement that its system delays.

Limits: BUFFER bytes of a connection while its bytes are worked on, none while it is idle; WRITE_MAX bytes unsent before
`drain` waits; GONE_SECONDS until a peer that the network lost is noticed; CLOSE_SECONDS for a peer to take the last bytes.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

BUFFER = 256 * 1024
"""Bytes read at once: half a CT slice; more gains nothing and falls out of the processor's cache."""
KEPT = 32
"""Buffers kept for the next: as many connections as are usually busy at one moment."""
WRITE_MAX = 1 << 20
GONE_SECONDS = 50
"""Without a sign of the peer's system, whether we wait for it or it for us: a pulled cable is noticed within a minute."""
CLOSE_SECONDS = 5.0

_ALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": GONE_SECONDS * 1000}
"""Three questions from the 20th second on; the last one is milliseconds, for bytes of ours that are not acknowledged."""
_QUICKACK: int = getattr(socket, "TCP_QUICKACK", 0)  # Linux
_free: list[bytearray] = []

Buffer = bytes | bytearray | memoryview


class Wire(asyncio.BufferedProtocol):
    """Give it to create_server or create_connection. `opened` is called once the connection stands.

    `receive` and `release` in turn, from one task. `moved` is the loop's time at which bytes came last, `received` their
    number, `sent` the number of those that the system took.
    """

    def __init__(self, opened: Callable[[Wire], None] | None = None):
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._buffer: bytearray | None = None
        self._count = 0  # bytes in the buffer that nobody has taken
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._written = 0
        self.address = ""  # the peer's IP address
        self.secure = False  # TLS is spoken
        self.names = frozenset[str]()  # in the peer's verified certificate, in small letters; none without one
        self.ended = False
        self.fault: ssl.SSLError | None = None  # how TLS ended it: with 1.3 a peer may refuse after the handshake
        self.received = 0
        self.moved = self._loop.time()

    # ------------------------------------------------------------ the loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "writelines")
        self._transport = transport  # type: ignore[assignment]
        peer: Any = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self.secure = transport.get_extra_info("ssl_object") is not None
        self.names = _names(transport.get_extra_info("peercert") or {})
        handle = transport.get_extra_info("socket")
        self._socket = handle if _QUICKACK else None
        if handle is not None:
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _ALIVE.items():
                if hasattr(socket, option):
                    handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self.transport.set_write_buffer_limits(high=WRITE_MAX)
        if self._opened is not None:
            self._opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._buffer is None:
            self._buffer = _free.pop() if _free else bytearray(BUFFER)
        return memoryview(self._buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self._count = nbytes
        self._acknowledge()
        self.received += nbytes
        self.moved = self._loop.time()
        self.transport.pause_reading()
        self._wake()

    def _acknowledge(self) -> None:
        """Let the system acknowledge what came at once. A peer with Nagle's algorithm keeps the end of its message back
        until then, and the system would wait 40 ms for an answer of ours to send it along with. It must be said again
        after every read; it costs a microsecond."""
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def eof_received(self) -> bool:
        self.ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.fault = exc if isinstance(exc, ssl.SSLError) else None
        if self._closing is not None:
            self._closing.cancel()
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ------------------------------------------------------------ the association's side

    @property
    def transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("the connection does not stand yet")
        return self._transport

    @property
    def waits_for_us(self) -> bool:
        """Bytes are here that nobody has taken yet: a peer that sends nothing more is not to blame."""
        return bool(self._count)

    @property
    def blocked(self) -> bool:
        """The peer does not take what was written: `drain` waits."""
        return self._writable is not None

    @property
    def sent(self) -> int:
        return self._written - (0 if self.transport.is_closing() else self.transport.get_write_buffer_size())

    async def receive(self) -> memoryview:
        """The next bytes, valid until `release`; none when the connection has ended."""
        while not self._count:
            if self.ended:
                return memoryview(b"")
            self._waiter = self._loop.create_future()
            await self._waiter
            self._waiter = None
        assert self._buffer is not None
        return memoryview(self._buffer)[: self._count]

    def release(self) -> None:
        """What `receive` gave is done with: its buffer goes back, reading goes on."""
        buffer, self._buffer, self._count = self._buffer, None, 0
        if buffer is not None and len(_free) < KEPT:
            _free.append(buffer)
        if not self.ended and not self.transport.is_closing():
            self.transport.resume_reading()

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Send all of `buffers`, in one call; they must not change afterwards. Nothing happens once it has ended."""
        if self.ended or self.transport.is_closing():
            return
        self._written += sum(map(len, buffers))
        if len(buffers) == 1:
            self.transport.write(buffers[0])
        elif buffers:
            self.transport.writelines(buffers)

    async def drain(self) -> None:
        """Wait until the peer has taken enough of what was written."""
        if self._writable is not None:
            await asyncio.shield(self._writable)

    def close(self) -> None:
        """End in order: what was written is sent first, if the peer takes it within CLOSE_SECONDS."""
        if not self.ended and self._closing is None:
            self._closing = self._loop.call_later(CLOSE_SECONDS, self.transport.abort)
        self.transport.close()

    def cut(self) -> None:
        """End at once: what was not sent is lost."""
        self.transport.abort()


def _names(certificate: Any) -> frozenset[str]:
    """Common name, host names and addresses of a certificate."""
    found = [value for entry in certificate.get("subject", ()) for key, value in entry if key == "commonName"]
    found += [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    return frozenset(str(name).strip().lower() for name in found) - {""}
