"""One association that a peer opened, from its connection to its end.

Owns: who is let in on what terms: negotiation, release, deadlines. Must never: know a message (`exchange` does), decide
who may connect (`trust.devices`), or hold an object. Limits: those of `Terms`, and the times below.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from radiolith.dimse import association, services
from radiolith.dimse.association import Accepted, Context, Rejected
from radiolith.dimse.commands import Command
from radiolith.dimse.exchange import Exchange, flush, read
from radiolith.dimse.indications import Aborted, Event, Fragment, ReleaseRequested
from radiolith.dimse.items import ProtocolError
from radiolith.dimse.measure import Measure
from radiolith.dimse.operation import Caller, Operation
from radiolith.dimse.pdu import AssociateReject, AssociateRequest
from radiolith.dimse.sending import RELEASING, Sender
from radiolith.dimse.trace import Trace
from radiolith.dimse.upperlayer import UpperLayer
from radiolith.dimse.wire import Wire
from radiolith.model import Failure, NotAllowed, NotAuthenticated
from radiolith.trust.devices import Knock, UnknownCalled, UnknownCalling

if TYPE_CHECKING:
    from radiolith.dimse.server import Node

ARTIM_SECONDS = 30.0
"""From the connection to the A-ASSOCIATE-RQ, and from our last PDU to the end of the connection (PS3.8 9.1.5)."""
RATE_PERIOD = 60.0
RATE_MIN = 256
"""Bytes a second that must arrive of a message that has begun, and be taken of what we send, over RATE_PERIOD seconds; a
modem had ten times that."""
WATCH_SECONDS = 1.0
DRAIN_IDLE, DRAIN_SECONDS, DRAIN_WATCH = 2.0, 10.0, 0.05
"""Once its process is to end: how long an association may be silent, how long it may go on, and how closely it is watched
for the moment between two messages."""
STOPPED = "the server was stopped"
_FULL = Rejected(association.LOCAL_LIMIT_EXCEEDED, "as many associations are open as are allowed")


class Acceptor:
    """`run` it to the end; `drain` asks it to end when nothing is under way."""

    def __init__(self, wire: Wire, node: Node):
        self._wire, self._node = wire, node
        self._loop = asyncio.get_running_loop()
        self._layer = UpperLayer.acceptor(node.terms.pdu_bytes)
        self._sender = Sender(self._layer, wire)
        self._counted = False  # among the associations of the node
        self._drained_at = 0.0  # when it was asked to end; 0 as long as it may stay
        self._heard, self._taken = Pace(), Pace()
        self._artim = (0, 0.0)  # the timer that runs, and when it runs out
        self._caller: Caller | None = None
        self._contexts: dict[int, Context] = {}
        self.trace = Trace(wire.address, node.clock())
        self.trace.tls, self.trace.names = wire.secure, wire.names
        self._measure = Measure()
        self._exchange = Exchange(self._sender, self._operation, self._told)

    async def run(self) -> None:
        watch = self._loop.create_task(self._watch())
        try:
            await read(self._wire, self._layer, self._on)
        except asyncio.CancelledError:
            self.trace.ended(STOPPED)
            raise
        finally:
            watch.cancel()
            if self._layer.may_send_data and not self._wire.ended:  # cut short from here
                self._wire.write([self._layer.send_abort()])
            flush(self._wire, self._layer)
            self._wire.close()
            await self._exchange.end(self._gone())
            self._measure.end()
            self.trace.ended_at = self._node.clock()
            if self._layer.fault:
                self.trace.ended(self._layer.fault)
            self.trace.bytes = self._wire.received
            if self._counted:
                self._node.held.associations.give(self._wire.address)

    def _gone(self) -> str:
        """Why what was asked for here is not answered."""
        if self.trace.end == STOPPED:
            return STOPPED
        return f"{self.trace.calling}, who asked for it, went away ({self.trace.end or 'the connection was closed'})"

    def drain(self) -> None:
        """End once the peer has done what it came for, or between two messages: there is a process that takes over."""
        self._drained_at = self._loop.time()

    # ------------------------------------------------------------ events

    async def _on(self, event: Event) -> None:
        if isinstance(event, Fragment):
            try:
                await self._exchange.fragment(event)
            except ProtocolError as error:
                for following in self._layer.invalid(error):
                    await self._on(following)
        elif isinstance(event, AssociateRequest):
            await self._requested(event)
        elif isinstance(event, ReleaseRequested):
            await self._exchange.drop()
            self._sender.lost(RELEASING)
            await self._exchange.quiet()
            if self._layer.owes_release_reply:
                self._wire.write([self._layer.send_release_reply()])
                self.trace.ended("released")
        elif isinstance(event, Aborted):
            await self._exchange.drop()
            self.trace.ended(event.text)

    async def _requested(self, request: AssociateRequest) -> None:
        self.trace.proposed(request)
        try:
            answer = await self._negotiated(request)
        except Failure as failure:
            answer = Rejected(_rejection(failure), str(failure))
        if isinstance(answer, Accepted):
            self._counted = self._node.held.associations.take(self._wire.address)
            answer = answer if self._counted else _FULL
        self.trace.answered(answer)
        self._measure.answered(answer)
        if isinstance(answer, Rejected):
            self.trace.ended("rejected")
            self._wire.write([self._layer.send_reject(answer.answer)])
        else:
            self._contexts = dict(answer.contexts)
            self._exchange.begin(self._contexts)
            self._wire.write([self._layer.send_accept(answer.answer)])

    async def _negotiated(self, request: AssociateRequest) -> Accepted | Rejected:
        node, address = self._node, self._wire.address
        if node.held.associations.full(address):
            return _FULL
        if self._drained_at and self._loop.time() > self._drained_at + DRAIN_SECONDS:
            return Rejected(association.TEMPORARY_CONGESTION, "this process is about to end; call again")
        wire = self._wire
        admission = await node.devices.admit(Knock(request.calling, request.called, address, wire.names, wire.secure))
        principal = admission.principal
        if request.user.identity is not None:
            principal = await node.identify(request.user.identity, principal, address)
        self._caller = Caller(principal, admission.peer, request.calling, request.called, address, admission.charset)
        self.trace.principal = principal.name
        return association.negotiate(request, services.restricted(node.offer, admission.services))

    def _operation(self, context: Context, command: Command) -> Operation:
        assert self._caller is not None  # the association was accepted
        self._measure.begun(command)
        node = self._node
        return Operation(node.archive, self._caller, self._sender, self._contexts, context, command, moving=node.moving)

    def _told(self, command: Command, status: int) -> None:
        self.trace.count(command, status)
        self._measure.done(command, status)

    # ------------------------------------------------------------ deadlines and the end

    async def _watch(self) -> None:
        """What only time tells: a peer that says nothing, or too little, and the end of this process."""
        while True:
            await asyncio.sleep(DRAIN_WATCH if self._drained_at else WATCH_SECONDS)
            now = self._loop.time()
            if self._layer.artim != self._artim[0]:
                self._artim = (self._layer.artim, now + ARTIM_SECONDS)
            why = self._overdue(now)
            if why:
                self.trace.ended(self._layer.fault or why)
                self._sender.lost(why)
                if self._layer.may_send_data:
                    self._wire.write([self._layer.send_abort()])
                    self._wire.close()
                else:
                    self._wire.cut()
                return

    def _overdue(self, now: float) -> str:
        """Why the association is to be ended now, or ''."""
        wire = self._wire
        quiet = self._exchange.between_messages and not self._exchange.busy
        if self._layer.artim and now > self._artim[1]:
            return "the peer was silent when it was its turn (ARTIM)"
        if self._drained_at and quiet:
            silent = now - max(self._drained_at, wire.moved) > DRAIN_IDLE
            if silent or now - self._drained_at > DRAIN_SECONDS:
                return "this process ends; call again"
        if quiet and now - wire.moved > self._node.terms.idle_seconds:
            return "nothing was asked for too long"
        if self._taken.too_slow(now, wire.sent, waiting=wire.blocked):
            return "our answers were not taken, or too slowly"
        awaited = not self._exchange.between_messages and not wire.waits_for_us
        return "the message came too slowly" if self._heard.too_slow(now, wire.received, waiting=awaited) else ""


class Pace:
    """Whether bytes move as they must while the peer is waited for; looked at every RATE_PERIOD seconds."""

    def __init__(self) -> None:
        self._since = self._count = 0.0

    def too_slow(self, now: float, count: int, *, waiting: bool) -> bool:
        """`count`: bytes that moved in all. A time in which the peer was not waited for begins the period anew."""
        slow = False
        if waiting and self._since:
            if now - self._since < RATE_PERIOD:
                return False
            slow = count - self._count < RATE_MIN * RATE_PERIOD
        self._since, self._count = now, count
        return slow


def _rejection(failure: Failure) -> AssociateReject:
    """Who is not let in, in the words of PS3.8 table 9-21."""
    if isinstance(failure, UnknownCalled):
        return association.CALLED_NOT_RECOGNIZED
    if isinstance(failure, UnknownCalling):
        return association.CALLING_NOT_RECOGNIZED
    if isinstance(failure, NotAllowed | NotAuthenticated):
        return AssociateReject(1, 2, 1)  # of a user identity that is not accepted (PS3.7 D.3.3.7.3)
    return association.TEMPORARY_CONGESTION
