"""What goes out on an association, and the answers to our own requests; for both roles.

Owns: the order of what is written: messages whole and one after the other, each by as few writes as it has pieces. Must never:
read, or wait for anything but the peer's answer and its socket.

Limits: ANSWER_SECONDS for an answer; what is unsent is bounded by `wire.WRITE_MAX` and the piece on its way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from radiolith.dimse.association import Context
from radiolith.dimse.commands import Command
from radiolith.dimse.messages import Buffer, Outgoing, Unmeasured, command_only, message
from radiolith.dimse.upperlayer import UpperLayer
from radiolith.dimse.wire import Wire
from radiolith.model import Unavailable

ANSWER_SECONDS = 120.0
"""For the answer to a C-STORE, and for the next bytes of an object to be taken: a slow archive may write to tape, a dead one
says nothing."""
RELEASING = "the peer asked for the end of the association, and answers nothing any more"
TOO_SHORT = "the data set is shorter than it was said to be"
_ID_MAX = 0xFFFF


class Lost(Unavailable):
    """The association ended before the answer came."""


class Heard(Protocol):
    """Who keeps a record of our requests."""

    def asked(self, command: Command) -> None: ...
    def answered(self, command: Command, status: int) -> None: ...


class Put(NamedTuple):
    """A C-STORE-RQ that is out, and its response to come."""

    command: Command
    answer: asyncio.Future[Command]


class Prepared(NamedTuple):
    """A C-STORE-RQ with its data set, cut for the peer, of which nothing is out."""

    command: Command
    buffers: list[Buffer]


class Sender:
    """Made with an association; `peer_max_length` is known once it is established. `heard` hears of `ask` and `store`."""

    def __init__(self, layer: UpperLayer, wire: Wire, heard: Heard | None = None):
        self._layer, self._wire, self._heard = layer, wire, heard
        self._streaming = asyncio.Lock()
        self._behind: deque[list[Buffer]] = deque()  # whole messages that wait for the end of a streamed one
        self._answers: dict[int, asyncio.Future[Command]] = {}
        self._last_id = 0
        self._half = False  # a part of a streamed message is out

    @property
    def open(self) -> bool:
        return self._layer.may_send_data and not self._wire.ended

    def send(self, context_id: int, command: Command, data: bytes | None = None) -> None:
        """A whole message. Nothing happens when the association is over."""
        if not self.open:
            return
        parts = message(context_id, command, data, self._layer.peer_max_length)
        if self._streaming.locked():
            self._behind.append(parts)
        else:
            self._wire.write(self._layer.send_data(parts))

    @property
    def answered_here(self) -> bool:
        """Whether the peer would still answer: it has not asked for the end of the association."""
        return self.open and not self._layer.owes_release_reply

    async def drain(self) -> None:
        """Wait until the peer has taken enough of what was sent."""
        await self._wire.drain()

    def next_id(self) -> int:
        """A message id that no request of ours is waiting under."""
        while True:
            self._last_id = self._last_id % _ID_MAX + 1
            if self._last_id not in self._answers:
                return self._last_id

    # ------------------------------------------------------------ our own requests

    def _expect(self, command: Command) -> Put:
        """The next response to this request; fails with Lost. Raises Lost where there will be none."""
        if not self.answered_here:
            raise Lost(RELEASING if self.open else "the association is over")
        put = Put(command, asyncio.get_running_loop().create_future())
        self._answers[command.message_id] = put.answer
        if self._heard is not None:
            self._heard.asked(command)
        return put

    def forget(self, put: Put) -> None:
        """Nobody waits for this response any more; without one by now it will never have one."""
        self._answers.pop(put.command.message_id, None)
        if self._heard is not None:
            waiting = put.answer
            came = waiting.done() and not waiting.cancelled() and waiting.exception() is None
            self._heard.answered(put.command, waiting.result().status if came else -1)

    @contextmanager
    def _expecting(self, command: Command) -> Generator[asyncio.Future[Command]]:
        put = self._expect(command)
        try:
            yield put.answer
        finally:
            self.forget(put)

    async def ask(self, context_id: int, command: Command, data: bytes | None, seconds: float) -> Command:
        """A request with one response that has no data set. Raises Lost, TimeoutError."""
        with self._expecting(command) as answer:
            self.send(context_id, command, data)
            async with asyncio.timeout(seconds):
                return await answer

    def answered(self, command: Command) -> bool:
        """A response came in; whether somebody waited for it."""
        waiting = self._answers.pop(command.message_id, None)
        if waiting is None or waiting.done():
            return False
        waiting.set_result(command)
        return True

    def lost(self, why: str) -> None:
        """The association is over: nobody will answer any more."""
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(Lost(why))
                waiting.exception()  # whoever waited may be gone
        self._answers.clear()

    async def store(
        self, context: Context, command: Command, pieces: AsyncIterator[Buffer], total: int | None
    ) -> Command:
        """`put`, and `response` to it."""
        return await self.response(await self.put(context, command, pieces, total))

    async def put(self, context: Context, command: Command, pieces: AsyncIterator[Buffer], total: int | None) -> Put:
        """Send a C-STORE-RQ with its data set of `total` bytes (None: not known before). Its response is waited for by
        `response`, or not at all (`forget`).

        Raises Lost, TimeoutError; whatever `pieces` raises: where a part of the message was out already, it cannot be
        ended any more, and the association is aborted.
        """
        put = self._expect(command)
        try:
            async with self._streaming:
                self._half = False
                try:
                    await self._stream(context.id, command, pieces, total)
                except BaseException:
                    self._break_off()
                    raise
                while self._behind:
                    self._write(self._behind.popleft())
        except BaseException:
            self.forget(put)
            raise
        return put

    async def prepare(self, context: Context, command: Command, pieces: AsyncIterator[Buffer], total: int) -> Prepared:
        """A C-STORE-RQ for `put_whole`, held in memory: so that it can go the moment its turn comes.

        Raises whatever `pieces` raises, ValueError when they are not `total` bytes.
        """
        limit = self._layer.peer_max_length
        buffers: list[Buffer] = [command_only(context.id, command, limit)]
        outgoing = Outgoing(context.id, total, limit)
        async for piece in pieces:
            buffers += outgoing.feed(piece)
        if not outgoing.complete:
            raise ValueError(TOO_SHORT)
        return Prepared(command, buffers)

    async def put_whole(self, prepared: Prepared) -> Put:
        """As `put`. Raises Lost, TimeoutError."""
        put = self._expect(prepared.command)
        try:
            async with self._streaming:
                self._write(prepared.buffers)
                while self._behind:
                    self._write(self._behind.popleft())
            await self._taken()
        except BaseException:
            self.forget(put)
            raise
        return put

    async def response(self, put: Put) -> Command:
        """Raises Lost, TimeoutError."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await put.answer
        finally:
            self.forget(put)

    async def _stream(
        self, context_id: int, command: Command, pieces: AsyncIterator[Buffer], total: int | None
    ) -> None:
        limit = self._layer.peer_max_length
        head: list[Buffer] = [command_only(context_id, command, limit)]
        if total is None:
            unmeasured = Unmeasured(context_id, limit)
            async for piece in pieces:
                self._write(head + unmeasured.feed(piece))
                head = []
                await self._taken()
            self._write(head + unmeasured.finish())
            return
        outgoing = Outgoing(context_id, total, limit)
        async for piece in pieces:
            self._write(head + outgoing.feed(piece))
            head = []
            await self._taken()
        if not outgoing.complete:
            raise ValueError(TOO_SHORT)

    async def _taken(self) -> None:
        """Wait until the peer has taken enough, but not for one that is gone."""
        if not self._wire.blocked:
            return
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._wire.drain()

    def _write(self, buffers: Sequence[Buffer]) -> None:
        if not self.open:
            raise Lost("the association ended while an object was being sent")
        self._half = True
        self._wire.write(self._layer.send_data(buffers))

    def _break_off(self) -> None:
        """Half a message is out: anything that followed would be taken for the rest of it."""
        if self._half and self.open:
            self._behind.clear()
            self._wire.write([self._layer.send_abort()])
            self._wire.close()
