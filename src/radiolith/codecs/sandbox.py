"""The door to decoding: opens sessions with throw-away decoder processes and survives all of them.

Owns: life and death of decoders as the server sees it: time limits, kills, translation of crashes into failures. Must
never decode anything in its own process. One session is one tenant's one object: it gets a decoder nobody used before
and that nobody uses after. Limits: `limits.Limits`.

    with start_zygote() as zygote:
        decoders = Decoders(zygote.address)
        async with decoders.session(Opened(header, syntax)) as session:
            media_type, picture = await session.render([Frame(0, data)], Wanted())
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import cast

from radiolith import model
from radiolith.codecs import requests, wire
from radiolith.codecs.launch import Zygote, start_zygote
from radiolith.codecs.limits import Limits
from radiolith.codecs.requests import Changed, Frame, Native, Opened, Transcoded, Wanted

__all__ = [
    "Changed",
    "Decoders",
    "Frame",
    "Limits",
    "Native",
    "Opened",
    "Session",
    "Transcoded",
    "Wanted",
    "Zygote",
    "start_zygote",
]


@dataclasses.dataclass
class Counts:
    """Since this process started; for metrics."""

    sessions: int = 0
    requests: int = 0
    deaths: int = 0  # decoders that ended without an answer
    kills: int = 0  # decoders killed for taking too long


class _Decoder:
    """One connection to one decoder process. `take` receives the greeting, so that it can be killed by descriptor."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.pidfd = -1
        self.cpu = 0.0

    def greeted(self, hello: memoryview) -> None:
        magic, pid = cast(tuple[bytes, int], wire.HELLO.unpack(hello))
        if magic != wire.MAGIC:
            raise model.Unavailable("the decoder's greeting is malformed")
        with contextlib.suppress(OSError):  # already gone: the next read says so
            self.pidfd = os.pidfd_open(pid)

    def kill(self) -> None:
        if self.pidfd >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        self.connection.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def _no_decoder() -> model.Unavailable:
    return model.Unavailable("all image decoders are busy", retry_after=2)


def _not_running() -> model.Unavailable:
    return model.Unavailable("the image decoders are not running")


def _died() -> model.Unsupported:
    return model.Unsupported("the decoder process ended while it worked on this image")


def _too_slow(limits: Limits) -> model.Unsupported:
    return model.Unsupported(f"decoding this image took longer than {limits.request_seconds:g} s")


class Decoders:
    """Client of the zygote at `address`; make one per process (after the fork). Safe on asyncio and uvloop."""

    def __init__(self, address: str, limits: Limits | None = None):
        self.address = address
        self.limits = limits or Limits()
        self.counts = Counts()

    def lasting_session(self, opened: Opened) -> Session:
        """A session the caller closes itself: for the objects of one series, one after the other."""
        return Session(self, opened)

    @contextlib.asynccontextmanager
    async def session(self, opened: Opened) -> AsyncGenerator[Session]:
        """A decoder for one object. LimitExceeded for an oversized header; Unavailable when none is free in time."""
        session = Session(self, opened)
        try:
            yield session
        finally:
            session.close()

    @contextlib.contextmanager
    def blocking_session(self, opened: Opened) -> Generator[BlockingSession]:
        """The same for code without an event loop."""
        session = BlockingSession(self, opened)
        try:
            yield session
        finally:
            session.close()


class _Exchange:
    """What both kinds of session share: the object, and when to change to a fresh decoder."""

    def __init__(self, decoders: Decoders, opened: Opened):
        self._decoders, self._limits, self._opened = decoders, decoders.limits, opened
        self._check_header(opened)
        self._decoder: _Decoder | None = None
        decoders.counts.sessions += 1

    def _check_header(self, opened: Opened) -> None:
        size, most = memoryview(opened.header).nbytes, self._limits.header_bytes
        if size > most:
            raise model.LimitExceeded(f"a header for decoding may have {most} bytes, this has {size}")

    def close(self) -> None:
        """Let the decoder end; safe to call twice."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def _abandon(self) -> None:
        """Kill the decoder: it is at work on something nobody waits for."""
        if self._decoder is not None:
            self._decoder.kill()
        self.close()

    def _retire_if_old(self) -> None:
        if self._decoder is not None and self._decoder.cpu > self._limits.cpu_seconds / 2:
            self.close()

    def _check_size(self, request: requests.Request) -> None:
        size = sum(b.nbytes for b in request[1])
        if size > self._limits.request_bytes:
            raise model.LimitExceeded(f"{self._limits.request_bytes} bytes can be decoded at once, these are {size}")

    def _answered(self, decoder: _Decoder, control: wire.Control) -> None:
        cpu = control.get("cpu")
        decoder.cpu = float(cpu) if isinstance(cpu, (int, float)) else float(self._limits.cpu_seconds)
        requests.raise_failure(control)


class Session(_Exchange):
    """One object with one decoder (a fresh one when the old has used half its processor time). Ask one at a time."""

    async def reopen(self, opened: Opened) -> None:
        """Go on with another object of the same series with the same decoder (docs/decisions/044)."""
        self._check_header(opened)
        self._opened = opened
        if self._decoder is None:
            return  # the next request makes one, with this object
        loop = asyncio.get_running_loop()
        try:
            for piece in wire.pack(*requests.open_request(opened)):
                await loop.sock_sendall(self._decoder.connection, piece)
        except OSError:  # it ended meanwhile; the next request makes a new one
            self.close()
        except BaseException:
            self._abandon()
            raise

    async def decode(self, frame: Frame) -> Native:
        """The frame's samples; colour as decoded (`Native.photometric`). Raises Unsupported, BadInput."""
        return requests.native_answer(*await self._ask(requests.decode_request(frame)))

    async def transcode(self, frame: Frame, target: str, quality: int | None = None) -> Transcoded:
        """The frame in syntax `target`. Lossless targets are verified by decoding; `quality` 1..100 for lossy ones."""
        return requests.transcoded_answer(*await self._ask(requests.transcode_request(frame, target, quality)))

    async def rewrite_header(self, changed: Changed) -> bytearray:
        """The object's header, Explicit VR Little Endian, patched for frames that are as `changed` says."""
        return requests.header_answer(*await self._ask(requests.rewrite_request(changed)))

    async def render(self, frames: Sequence[Frame], want: Wanted) -> tuple[str, bytearray]:
        """(media type, picture). More than one frame makes an animation where the media type allows it."""
        return requests.rendered_answer(*await self._ask(requests.render_request(frames, want)))

    async def _ask(self, request: requests.Request) -> wire.Message:
        self._check_size(request)
        self._retire_if_old()
        self._decoders.counts.requests += 1
        loop = asyncio.get_running_loop()
        try:
            waiting = self._decoder
            decoder = waiting or await self._connect(loop, request)
            try:
                async with asyncio.timeout(self._limits.request_seconds):
                    if waiting:
                        for piece in wire.pack(*request):
                            await loop.sock_sendall(decoder.connection, piece)
                    control, blobs = await self._receive(loop, decoder)
            except TimeoutError:
                self._decoders.counts.kills += 1
                raise _too_slow(self._limits) from None
            except (EOFError, OSError):
                self._decoders.counts.deaths += 1
                raise _died() from None
        except BaseException:  # cancelled as well: the request's work is worthless now
            self._abandon()
            raise
        self._answered(decoder, control)
        return control, blobs

    async def _connect(self, loop: asyncio.AbstractEventLoop, request: requests.Request) -> _Decoder:
        """A fresh decoder that has the object and the first request already."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        decoder = self._decoder = _Decoder(connection)
        try:
            async with asyncio.timeout(self._limits.queue_seconds):
                await loop.sock_connect(connection, self._decoders.address)
                for piece in (*wire.pack(*requests.open_request(self._opened)), *wire.pack(*request)):
                    await loop.sock_sendall(connection, piece)
                hello = memoryview(bytearray(wire.HELLO.size))
                await _fill(loop, connection, hello)
        except (TimeoutError, BlockingIOError):
            raise _no_decoder() from None
        except (EOFError, OSError):
            raise _not_running() from None
        decoder.greeted(hello)
        return decoder

    async def _receive(self, loop: asyncio.AbstractEventLoop, decoder: _Decoder) -> wire.Message:
        steps = wire.receive(self._limits.reply_bytes)
        try:
            while True:
                await _fill(loop, decoder.connection, next(steps))
        except StopIteration as done:
            return cast(wire.Message, done.value)
        finally:
            steps.close()


async def _fill(loop: asyncio.AbstractEventLoop, connection: socket.socket, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        got = await loop.sock_recv_into(connection, buffer[done:])
        if not got:
            raise EOFError
        done += got


class BlockingSession(_Exchange):
    """`Session` for code without an event loop (commands, tests)."""

    def decode(self, frame: Frame) -> Native:
        return requests.native_answer(*self.ask(requests.decode_request(frame)))

    def transcode(self, frame: Frame, target: str, quality: int | None = None) -> Transcoded:
        return requests.transcoded_answer(*self.ask(requests.transcode_request(frame, target, quality)))

    def rewrite_header(self, changed: Changed) -> bytearray:
        return requests.header_answer(*self.ask(requests.rewrite_request(changed)))

    def render(self, frames: Sequence[Frame], want: Wanted) -> tuple[str, bytearray]:
        return requests.rendered_answer(*self.ask(requests.render_request(frames, want)))

    def ask(self, request: requests.Request) -> wire.Message:
        """One exchange of messages; the typed methods above are what callers want."""
        self._check_size(request)
        self._retire_if_old()
        self._decoders.counts.requests += 1
        try:
            waiting = self._decoder
            decoder = waiting or self._connect(request)
            deadline = time.monotonic() + self._limits.request_seconds
            try:
                for piece in wire.pack(*request) if waiting else ():
                    decoder.connection.settimeout(max(0.001, deadline - time.monotonic()))
                    decoder.connection.sendall(piece)
                control, blobs = wire.read_blocking(
                    self._limits.reply_bytes, lambda buffer: _fill_blocking(decoder.connection, buffer, deadline)
                )
            except TimeoutError:
                self._decoders.counts.kills += 1
                raise _too_slow(self._limits) from None
            except (EOFError, OSError):
                self._decoders.counts.deaths += 1
                raise _died() from None
        except BaseException:
            self._abandon()
            raise
        self._answered(decoder, control)
        return control, blobs

    def _connect(self, request: requests.Request) -> _Decoder:
        decoder = self._decoder = _Decoder(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        deadline = time.monotonic() + self._limits.queue_seconds
        decoder.connection.settimeout(self._limits.queue_seconds)
        hello = memoryview(bytearray(wire.HELLO.size))
        try:
            decoder.connection.connect(self._decoders.address)
            for piece in (*wire.pack(*requests.open_request(self._opened)), *wire.pack(*request)):
                decoder.connection.sendall(piece)
            _fill_blocking(decoder.connection, hello, deadline)
        except (TimeoutError, BlockingIOError):
            raise _no_decoder() from None
        except (EOFError, OSError):
            raise _not_running() from None
        decoder.greeted(hello)
        return decoder


def _fill_blocking(connection: socket.socket, buffer: memoryview, deadline: float) -> None:
    done = 0
    while done < len(buffer):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        got = connection.recv_into(buffer[done:])
        if not got:
            raise EOFError
        done += got
