"""One association that a peer opened, from its connection to its end.

Owns: the order of things on one association: negotiation, messages to operations, answers, release, deadlines. Must never:
know what a service does (`services` has the table), decide who may connect (`trust.devices`), or hold an object.

An object streams from the socket's buffer to the archive: reading stands still while the archive takes it. Requests run
beside reading, so that C-CANCEL and the answers to our own C-STOREs of a C-GET are heard. Limits: those of `Terms`;
OPERATIONS_MAX requests of one association under way; identifiers as `operation` says.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from radiolith.dimse import association, services
from radiolith.dimse.association import Accepted, Context, Rejected
from radiolith.dimse.commands import FIELD, RESPONSE
from radiolith.dimse.indications import Aborted, Event, Fragment, OutOfTurn, ReleaseRequested
from radiolith.dimse.items import ProtocolError
from radiolith.dimse.messages import Arrived, Assembler
from radiolith.dimse.operation import Caller, Operation
from radiolith.dimse.pdu import AssociateReject, AssociateRequest
from radiolith.dimse.reception import Collecting, Storing
from radiolith.dimse.sending import Sender
from radiolith.dimse.status import Refused, Status, trouble
from radiolith.dimse.trace import Trace
from radiolith.dimse.upperlayer import UpperLayer
from radiolith.dimse.wire import Wire
from radiolith.model import Failure, NotAllowed, NotAuthenticated
from radiolith.trust.devices import Knock, UnknownCalled, UnknownCalling

if TYPE_CHECKING:
    from radiolith.dimse.server import Node

OPERATIONS_MAX = 16
"""Requests of one association under way, whatever window was agreed on: beyond, reading waits."""
ARTIM_SECONDS = 30.0
"""From the connection to the A-ASSOCIATE-RQ, and from our last PDU to the end of the connection (PS3.8 9.1.5)."""
RATE_PERIOD = 60.0
RATE_MIN = 256
"""Bytes a second that must arrive of a message that has begun, over RATE_PERIOD seconds; a modem had ten times that."""
WATCH_SECONDS = 1.0
DRAIN_SECONDS = 5.0
"""How long an association with nothing under way may still begin something, once its process is to end."""

_STORE, _CANCEL = FIELD["C-STORE-RQ"], FIELD["C-CANCEL-RQ"]
log = structlog.get_logger()


class Acceptor:
    """`run` it to the end; `drain` asks it to end when nothing is under way."""

    def __init__(self, wire: Wire, node: Node):
        self._wire, self._node = wire, node
        self._loop = asyncio.get_running_loop()
        self._layer = UpperLayer.acceptor(node.terms.pdu_bytes)
        self._sender = Sender(self._layer, wire)
        self._assembler = Assembler()
        self._message: Storing | Collecting | None = None  # whose data set is arriving
        self._operations: dict[int, Operation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._storing = 0  # objects being received, or received and not answered
        self._settled: asyncio.Future[None] | None = None
        self._drained_at = 0.0  # when an idle association is to be ended; 0 as long as it may stay
        self._progress = (self._loop.time(), 0)  # when it was looked at last, and the bytes received then
        self._artim = (0, 0.0)  # the timer that runs, and when it runs out
        self._caller: Caller | None = None
        self._contexts: dict[int, Context] = {}
        self.trace = Trace(wire.address, node.clock())

    async def run(self) -> None:
        watch = self._loop.create_task(self._watch())
        try:
            while not self._layer.must_close:
                view = await self._wire.receive()
                if not view:
                    for event in self._layer.closed():
                        await self._on(event)
                    break
                for event in self._layer.receive(view):
                    await self._on(event)
                self._wire.release()
                self._flush()
        finally:
            watch.cancel()
            self._flush()
            await self._end()

    def drain(self) -> None:
        """End once nothing is under way: new work is for the process that takes over."""
        self._drained_at = self._loop.time() + DRAIN_SECONDS

    # ------------------------------------------------------------ events

    async def _on(self, event: Event) -> None:
        if isinstance(event, Fragment):
            try:
                await self._fragment(event)
            except ProtocolError as error:
                for following in self._layer.invalid(error):
                    await self._on(following)
        elif isinstance(event, AssociateRequest):
            await self._requested(event)
        elif isinstance(event, ReleaseRequested):
            await self._quiet()
            if self._layer.owes_release_reply:
                self._wire.write([self._layer.send_release_reply()])
                self.trace.ended("released")
        elif isinstance(event, Aborted):
            self.trace.ended(event.text)

    async def _requested(self, request: AssociateRequest) -> None:
        self.trace.proposed(request)
        try:
            answer = await self._negotiated(request)
        except Failure as failure:
            answer = Rejected(_rejection(failure), str(failure))
        self.trace.answered(answer)
        if isinstance(answer, Rejected):
            self.trace.ended("rejected")
            self._wire.write([self._layer.send_reject(answer.answer)])
        else:
            self._contexts = dict(answer.contexts)
            self._wire.write([self._layer.send_accept(answer.answer)])

    async def _negotiated(self, request: AssociateRequest) -> Accepted | Rejected:
        node, address = self._node, self._wire.address
        if node.full(address):
            return Rejected(association.LOCAL_LIMIT_EXCEEDED, "as many associations are open as are allowed")
        if self._drained_at:
            return Rejected(association.TEMPORARY_CONGESTION, "this process is about to end; call again")
        admission = await node.devices.admit(Knock(request.calling, request.called, address, self._wire.names))
        principal = admission.principal
        if request.user.identity is not None:
            principal = await node.identify(request.user.identity, principal, address)
        self._caller = Caller(principal, admission.peer, request.calling, request.called, address)
        self.trace.principal = principal.name
        return association.negotiate(request, node.offer)

    async def _fragment(self, fragment: Fragment) -> None:
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

    async def _arrived(self, arrived: Arrived) -> None:
        command, context = arrived.command, self._contexts[arrived.context_id]
        assert self._caller is not None  # the association was accepted
        if command.field & RESPONSE:
            self._sender.answered(command)
        elif command.field == _CANCEL:
            operation = self._operations.get(command.message_id)
            if operation is not None:
                operation.cancelled = True
        else:
            while self._storing + len(self._tasks) >= OPERATIONS_MAX:
                await self._room()
            operation = Operation(self._node.archive, self._caller, self._sender, self._contexts, context, command)
            self._operate(operation)

    # ------------------------------------------------------------ operations

    def _operate(self, operation: Operation) -> None:
        command = operation.command
        if command.field == _STORE and operation.context.scp and command.has_data_set:
            self._storing += 1
            self._message = Storing(operation, self._stored)
        elif command.has_data_set:
            self._message = Collecting(operation, self._begin)
        else:
            self._begin(operation)

    def _stored(self, operation: Operation) -> None:
        """An object was answered, or its association ended before it was complete."""
        self._storing -= 1
        self.trace.count(operation.command, operation.status)
        self._wake()

    def _begin(self, operation: Operation) -> None:
        """Run a request beside reading."""
        command = operation.command
        serve = services.SERVICES.get((command.field, operation.context.abstract_syntax))
        if serve is None or not operation.context.scp or command.missing:
            status = Status.MISTYPED_ARGUMENT if command.missing else Status.UNRECOGNIZED_OPERATION
            words = f"without {', '.join(command.missing)}" if command.missing else "no such operation in this context"
            operation.fail(trouble(services.service_of(command), Refused(status, words)))
            self.trace.count(command, operation.status)
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
            self.trace.count(operation.command, operation.status)
            if self._operations.get(operation.command.message_id) is operation:
                del self._operations[operation.command.message_id]

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

    async def _quiet(self) -> None:
        """Until everything asked for is answered."""
        while self._storing or self._tasks:
            await self._room()

    # ------------------------------------------------------------ deadlines and the end

    async def _watch(self) -> None:
        """What only time tells: a peer that says nothing, or too little, and the end of this process."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = self._loop.time()
            if self._layer.artim != self._artim[0]:
                self._artim = (self._layer.artim, now + ARTIM_SECONDS)
            why = self._overdue(now)
            if why:
                self.trace.ended(why)
                self._sender.lost(why)
                if self._layer.may_send_data:
                    self._wire.write([self._layer.send_abort()])
                    self._wire.close()
                else:
                    self._wire.cut()
                return

    def _overdue(self, now: float) -> str:
        """Why the association is to be ended now, or ''."""
        busy = bool(self._storing or self._tasks)
        if self._layer.artim and now > self._artim[1]:
            return "the peer was silent when it was its turn (ARTIM)"
        if self._drained_at and now > self._drained_at and not busy and self._assembler.between_messages:
            return "this process ends; call again"
        if self._assembler.between_messages:
            self._progress = (now, self._wire.received)
            silent = not busy and now - self._wire.moved > self._node.terms.idle_seconds
            return "nothing was asked for too long" if silent else ""
        begun, before = self._progress
        if now - begun < RATE_PERIOD or self._wire.waits_for_us:
            return ""
        self._progress = (now, self._wire.received)
        return "the message came too slowly" if self._wire.received - before < RATE_MIN * RATE_PERIOD else ""

    def _flush(self) -> None:
        pending = self._layer.pending()
        if pending:
            self._wire.write([pending])

    async def _end(self) -> None:
        """Nothing of an unfinished object stays; operations of nobody are given up."""
        receiving, self._message = self._message, None
        if receiving is not None:
            await receiving.abort()
        for operation in self._operations.values():
            operation.cancelled = True
        self._sender.lost("the association ended")
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.trace.ended_at = self._node.clock()
        self.trace.bytes = self._wire.received
        self._wire.close()


def _rejection(failure: Failure) -> AssociateReject:
    """Who is not let in, in the words of PS3.8 table 9-21."""
    if isinstance(failure, UnknownCalled):
        return association.CALLED_NOT_RECOGNIZED
    if isinstance(failure, UnknownCalling):
        return association.CALLING_NOT_RECOGNIZED
    if isinstance(failure, NotAllowed | NotAuthenticated):
        return AssociateReject(1, 2, 1)  # of a user identity that is not accepted (PS3.7 D.3.3.7.3)
    return association.TEMPORARY_CONGESTION
