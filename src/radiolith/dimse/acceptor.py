"""One association that a peer opened, from its connection to its end.

Owns: who is let in on what terms: negotiation, release, deadlines. Must never: know a message (`exchange` does), decide
who may connect (`trust.devices`), or hold an object. Limits: those of `Terms`, and the times below.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from radiolith.dimse import association
from radiolith.dimse.association import Accepted, Context, Rejected
from radiolith.dimse.commands import Command
from radiolith.dimse.exchange import Exchange, flush, read
from radiolith.dimse.indications import Aborted, Event, Fragment, ReleaseRequested
from radiolith.dimse.items import ProtocolError
from radiolith.dimse.operation import Caller, Operation
from radiolith.dimse.pdu import AssociateReject, AssociateRequest
from radiolith.dimse.sending import Sender
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
"""Bytes a second that must arrive of a message that has begun, over RATE_PERIOD seconds; a modem had ten times that."""
WATCH_SECONDS = 1.0
DRAIN_SECONDS = 5.0
"""How long an association with nothing under way may still begin something, once its process is to end."""


class Acceptor:
    """`run` it to the end; `drain` asks it to end when nothing is under way."""

    def __init__(self, wire: Wire, node: Node):
        self._wire, self._node = wire, node
        self._loop = asyncio.get_running_loop()
        self._layer = UpperLayer.acceptor(node.terms.pdu_bytes)
        self._sender = Sender(self._layer, wire)
        self._drained_at = 0.0  # when an idle association is to be ended; 0 as long as it may stay
        self._progress = (self._loop.time(), 0)  # when it was looked at last, and the bytes received then
        self._artim = (0, 0.0)  # the timer that runs, and when it runs out
        self._caller: Caller | None = None
        self._contexts: dict[int, Context] = {}
        self.trace = Trace(wire.address, node.clock())
        self._exchange = Exchange(self._sender, self._operation, self.trace.count)

    async def run(self) -> None:
        watch = self._loop.create_task(self._watch())
        try:
            await read(self._wire, self._layer, self._on)
        finally:
            watch.cancel()
            flush(self._wire, self._layer)
            await self._exchange.end("the association ended")
            self.trace.ended_at = self._node.clock()
            self.trace.bytes = self._wire.received
            self._wire.close()

    def drain(self) -> None:
        """End once nothing is under way: new work is for the process that takes over."""
        self._drained_at = self._loop.time() + DRAIN_SECONDS

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
            await self._exchange.quiet()
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
            self._exchange.begin(self._contexts)
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

    def _operation(self, context: Context, command: Command) -> Operation:
        assert self._caller is not None  # the association was accepted
        return Operation(self._node.archive, self._caller, self._sender, self._contexts, context, command)

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
        busy = self._exchange.busy
        if self._layer.artim and now > self._artim[1]:
            return "the peer was silent when it was its turn (ARTIM)"
        if self._drained_at and now > self._drained_at and not busy and self._exchange.between_messages:
            return "this process ends; call again"
        if self._exchange.between_messages:
            self._progress = (now, self._wire.received)
            silent = not busy and now - self._wire.moved > self._node.terms.idle_seconds
            return "nothing was asked for too long" if silent else ""
        begun, before = self._progress
        if now - begun < RATE_PERIOD or self._wire.waits_for_us:
            return ""
        self._progress = (now, self._wire.received)
        return "the message came too slowly" if self._wire.received - before < RATE_MIN * RATE_PERIOD else ""


def _rejection(failure: Failure) -> AssociateReject:
    """Who is not let in, in the words of PS3.8 table 9-21."""
    if isinstance(failure, UnknownCalled):
        return association.CALLED_NOT_RECOGNIZED
    if isinstance(failure, UnknownCalling):
        return association.CALLING_NOT_RECOGNIZED
    if isinstance(failure, NotAllowed | NotAuthenticated):
        return AssociateReject(1, 2, 1)  # of a user identity that is not accepted (PS3.7 D.3.3.7.3)
    return association.TEMPORARY_CONGESTION
