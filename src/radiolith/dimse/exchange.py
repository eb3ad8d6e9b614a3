"""Messages on an established association, whichever side opened it: requests to operations, responses to who asked.

Owns: the order of things between a message's first fragment and its answer, and what is under way. Must never: negotiate,
know what a service does (`services` has the table), keep a deadline, or hold an object: that streams from the socket's
buffer to the archive, and reading stands still while the archive takes it.

Requests run beside reading, so that C-CANCEL and answers to our own requests are heard. Limits: OPERATIONS_MAX requests of
one association under way, RESPONSES_MAX responses to one request of ours unread; beyond, reading waits; `operation` says
how large an identifier may be.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from radiolith.dimse import services
from radiolith.dimse.association import Context
from radiolith.dimse.calls import is_pending
from radiolith.dimse.commands import FIELD, RESPONSE, Command
from radiolith.dimse.indications import Event, Fragment, OutOfTurn
from radiolith.dimse.items import ProtocolError
from radiolith.dimse.messages import Arrived, Assembler
from radiolith.dimse.operation import DATA_SET_MAX, Operation
from radiolith.dimse.reception import Collecting, Storing
from radiolith.dimse.sending import Lost, Sender
from radiolith.dimse.status import Refused, Status, trouble
from radiolith.dimse.upperlayer import UpperLayer
from radiolith.dimse.wire import Wire
from radiolith.model import Failure, LimitExceeded

OPERATIONS_MAX = 16
"""Requests of one association under way, whatever window was agreed on: beyond, reading waits, or where a C-GET is among them the
request is refused."""
RESPONSES_MAX = 1000
"""Responses to one request of ours that nobody has taken: about 1 MB of a C-FIND."""

_STORE, _GET, _CANCEL = FIELD["C-STORE-RQ"], FIELD["C-GET-RQ"], FIELD["C-CANCEL-RQ"]
_REPORT = FIELD["N-EVENT-REPORT-RQ"]
log = structlog.get_logger()

Done = Callable[[Operation], None]


class Receiving(Protocol):
    """A data set on its way in."""

    async def feed(self, data: memoryview) -> None: ...
    async def finish(self) -> None: ...
    async def abort(self) -> None: ...


async def read(wire: Wire, layer: UpperLayer, on: Callable[[Event], Awaitable[None]]) -> None:
    """Give `on` every event of a connection, up to its end; what the state machine answers by itself is sent."""
    while not layer.must_close:
        view = await wire.receive()
        if not view:
            for event in layer.closed():
                await on(event)
            break
        for event in layer.receive(view):
            await on(event)
        flush(wire, layer)
        await wire.drain()  # who does not take our answers is not heard: they would pile up
        wire.release()


def flush(wire: Wire, layer: UpperLayer) -> None:
    pending = layer.pending()
    if pending:
        wire.write([pending])


class Responses:
    """The responses to one request of ours, in their order, each with its data set."""

    def __init__(self) -> None:
        self._unread: deque[tuple[Command, bytes]] = deque()
        self._there, self._room = asyncio.Event(), asyncio.Event()
        self._ended = ""

    async def put(self, command: Command, data: bytes) -> None:
        self._unread.append((command, data))
        self._there.set()
        while len(self._unread) >= RESPONSES_MAX and not self._ended:
            self._room.clear()
            await self._room.wait()

    async def get(self, seconds: float) -> tuple[Command, bytes]:
        """The next one. Raises TimeoutError, Lost."""
        async with asyncio.timeout(seconds):
            while not self._unread:
                if self._ended:
                    raise Lost(self._ended)
                self._there.clear()
                await self._there.wait()
        self._room.set()
        return self._unread.popleft()

    def end(self, why: str) -> None:
        """No more will come."""
        self._ended = why
        self._there.set()
        self._room.set()


class _Gathering:
    """The data set of a response."""

    def __init__(self, command: Command, responses: Responses):
        self._command, self._responses = command, responses
        self._data = bytearray()

    async def feed(self, data: memoryview) -> None:
        if len(self._data) + len(data) > DATA_SET_MAX:
            raise ProtocolError(f"a response with a data set of more than {DATA_SET_MAX} bytes")
        self._data += data

    async def finish(self) -> None:
        await self._responses.put(self._command, bytes(self._data))

    async def abort(self) -> None:
        self._data.clear()


class Exchange:
    """`make` gives a request its operation, None where requests are not served; `told` hears of every request's end.

    `served` and `storing` may be replaced before the first message.
    """

    def __init__(
        self, sender: Sender, make: Callable[[Context, Command], Operation | None], told: Callable[[Command, int], None]
    ):
        self._sender, self._make, self._told = sender, make, told
        self.served: Mapping[tuple[int, str], services.Serve] = services.SERVICES
        self.storing: Callable[[Operation, Done], Receiving] = Storing
        self._loop = asyncio.get_running_loop()
        self._contexts: Mapping[int, Context] = {}
        self._assembler = Assembler()
        self._message: Receiving | None = None  # whose data set is arriving
        self._operations: dict[int, Operation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._behind: set[asyncio.Task[None]] = set()  # work after an answer: no reason to keep an association
        self._responses: dict[int, Responses] = {}
        self._storing = 0  # objects being received, or received and not answered
        self._settled: asyncio.Future[None] | None = None

    def begin(self, contexts: Mapping[int, Context]) -> None:
        """The association is established."""
        self._contexts = contexts

    @property
    def busy(self) -> bool:
        """Whether the peer has asked for something that is not answered."""
        return bool(self._storing or self._tasks)

    @property
    def between_messages(self) -> bool:
        return self._assembler.between_messages

    async def fragment(self, fragment: Fragment) -> None:
        """Raises ProtocolError: for `UpperLayer.invalid`."""
        found = self._assembler.feed(fragment)
        if isinstance(found, Fragment):
            receiving = self._message
            if receiving is not None:
                await receiving.feed(found.data)
                if found.last:
                    self._message = None
                    await receiving.finish()
        elif found is not None:
            await self._arrived(found)

    def expect(self, message_id: int) -> Responses:
        """Where the responses to this request of ours will be, until `forget`."""
        found = self._responses[message_id] = Responses()
        return found

    def forget(self, message_id: int) -> None:
        found = self._responses.pop(message_id, None)
        if found is not None:
            found.end("nobody waits for it")

    async def quiet(self) -> None:
        """Until everything asked for is answered."""
        while self.busy:
            await self._room()

    async def end(self, why: str) -> None:
        """Nothing of an unfinished object stays; operations of nobody are given up, nobody will be answered."""
        self._sender.lost(why)
        for responses in self._responses.values():
            responses.end(why)
        for operation in self._operations.values():
            operation.gone = operation.gone if operation.cancelled else why
            operation.cancelled = True
        under_way = self._tasks | self._behind
        for task in under_way:
            task.cancel()
        await self.drop()
        if under_way:
            await asyncio.wait(under_way)

    async def drop(self) -> None:
        """The rest of the message under way will not come: nothing of it stays, and it is not answered."""
        receiving, self._message = self._message, None
        if receiving is not None:
            await receiving.abort()

    # ------------------------------------------------------------ messages

    async def _arrived(self, arrived: Arrived) -> None:
        command, context = arrived.command, self._contexts[arrived.context_id]
        if command.field & RESPONSE:
            await self._answered(command)
        elif command.field == _CANCEL:
            operation = self._operations.get(command.message_id)
            if operation is not None:
                operation.cancelled = True
        elif (refused := self._refusal(command)) is not None:  # its data set is passed over
            answer = trouble(services.service_of(command), refused)
            self._sender.send(context.id, answer.answer(command))
            self._told(command, answer.status)
        else:
            while self._storing + len(self._tasks) >= OPERATIONS_MAX:
                await self._room()
            operation = self._make(context, command)
            if operation is not None:
                await self._operate(operation)
            else:
                refused = Refused(Status.UNRECOGNIZED_OPERATION, "nothing is served on this association")
                self._sender.send(context.id, trouble(services.service_of(command), refused).answer(command))

    def _refusal(self, command: Command) -> Failure | None:
        """Why a request is not even begun. Where it could be both, it is the answer that says which request it is for."""
        same = self._operations.get(command.message_id)
        if same is not None and not same.cancelled and command.field != _STORE:
            return Refused(Status.DUPLICATE_INVOCATION, "a request with this message id is not answered yet")
        full = self._storing + len(self._tasks) >= OPERATIONS_MAX
        if full and any(one.command.field == _GET for one in self._operations.values()):
            # Reading must not wait for a C-GET, which waits for the answers to what it sends.
            return LimitExceeded(f"more than {OPERATIONS_MAX} requests at a time")
        return None

    async def _answered(self, command: Command) -> None:
        """A response; the data set of one that nobody waits for is passed over."""
        responses = self._responses.get(command.message_id)
        if responses is None:
            self._sender.answered(command)
        elif command.has_data_set:
            self._message = _Gathering(command, responses)
        else:
            await responses.put(command, b"")

    async def _operate(self, operation: Operation) -> None:
        command = operation.command
        if command.field == _STORE and services.stores(operation.context):
            self._storing += 1
            receiving = self.storing(operation, self._stored)
            if command.has_data_set:
                self._message = receiving
            else:
                await receiving.finish()
        elif command.has_data_set:
            self._message = Collecting(operation, self._begin)
        else:
            self._begin(operation)

    def _stored(self, operation: Operation) -> None:
        """An object was answered, or its association ended before it was complete."""
        self._storing -= 1
        self._told(operation.command, operation.status)
        self._wake()

    def _begin(self, operation: Operation) -> None:
        """Run a request beside reading. Who reports events is the SCP, whatever roles were said (PS3.4 J.3.3)."""
        command = operation.command
        serve = self.served.get((command.field, operation.context.abstract_syntax))
        may = operation.context.scp or command.field == _REPORT
        if serve is None or not may or command.missing:
            status = Status.MISTYPED_ARGUMENT if command.missing else Status.UNRECOGNIZED_OPERATION
            words = f"without {', '.join(command.missing)}" if command.missing else "no such operation in this context"
            operation.fail(trouble(services.service_of(command), Refused(status, words)))
            self._told(command, operation.status)
            return
        self._operations[command.message_id] = operation
        task = self._loop.create_task(self._serve(serve, operation))
        self._tasks.add(task)
        task.add_done_callback(self._served)

    async def _serve(self, serve: services.Serve, operation: Operation) -> None:
        try:
            await serve(operation)
        except OutOfTurn:
            pass  # the peer has ended the association meanwhile
        except Exception as failure:
            if not isinstance(failure, Failure):
                log.exception("an operation failed", operation=operation.command.name)
            operation.fail(trouble(services.service_of(operation.command), failure))
        finally:
            unanswered = operation.gone or is_pending(operation.status)
            self._told(operation.command, -1 if unanswered else operation.status)
            if self._operations.get(operation.command.message_id) is operation:
                del self._operations[operation.command.message_id]
        if operation.behind is not None and len(self._behind) < OPERATIONS_MAX:
            task = self._loop.create_task(self._go_on(operation, operation.behind))
            self._behind.add(task)
            task.add_done_callback(self._behind.discard)

    @staticmethod
    async def _go_on(operation: Operation, behind: Callable[[], Awaitable[None]]) -> None:
        try:
            await behind()
        except Exception as failure:
            if not isinstance(failure, Failure | OutOfTurn):
                log.exception("work behind an answer failed", operation=operation.command.name)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake()

    async def _room(self) -> None:
        """Until something under way has ended."""
        self._settled = self._settled or self._loop.create_future()
        await self._settled

    def _wake(self) -> None:
        settled, self._settled = self._settled, None
        if settled is not None and not settled.done():
            settled.set_result(None)
