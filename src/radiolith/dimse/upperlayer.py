"""One association's upper layer without its socket (PS3.8 9.2): bytes in, events out; requests in, bytes out.

Owns: the state of an association and the parsing of what its peer sends, in place. Must never: read or write a socket,
look at a clock, start a task, or know a message. `states` says what happens, this module does it.

How it is driven, for either role:

    for event in layer.receive(memoryview(buffer)[:count]): ...   # to the end, before anything is received again
    transport.write(layer.pending())                              # what the machine itself answers; often b""
    if layer.must_close: transport.close()                        # after that was written

`artim` says whether the ARTIM timer runs: the owner keeps the deadline and calls `expired()`. `closed()` is called when
the transport is gone. A method for which it is not the turn raises OutOfTurn, and nothing has happened.

Limits: what is held inside is at most one incomplete header (5 bytes) and one A-ASSOCIATE PDU (`pdu.ASSOCIATE_MAX`).
Data are given on as views of the buffer that was fed, in pieces when a value is longer than what has arrived.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from struct import Struct

from radiolith.dimse import pdu as pdus
from radiolith.dimse.indications import Aborted, Cause, Event, Fragment, OutOfTurn, Released, ReleaseRequested
from radiolith.dimse.items import PROVIDER, USER, ProtocolError, Reason, Result
from radiolith.dimse.pdu import (
    HEADER,
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    Pdu,
    ReleaseReply,
    ReleaseRequest,
    check_header,
    check_value,
)
from radiolith.dimse.states import TABLE, Action, Artim, Happening, Send, State

SLACK = 6
"""Bytes that a P-DATA-TF may be longer than announced: some senders count the value's data against the limit and leave
out the 6 bytes of its own header. Nothing is held, so nothing grows by it."""

VERSION_NOT_SUPPORTED = AssociateReject(1, 2, 2)
"""The one refusal that is the provider's own (PS3.8 table 9-21)."""

Buffer = bytes | bytearray | memoryview


class _Taking(Enum):
    """What the rest of the current PDU is: parsed and given on, held until it is whole, or left unread."""

    DATA = 1
    HELD = 2
    SKIPPED = 3


_EVENTS = {
    pdus.REQUEST: Happening.GOT_REQUEST,
    pdus.ACCEPT: Happening.GOT_ACCEPT,
    pdus.REJECT: Happening.GOT_REJECT,
    pdus.DATA: Happening.GOT_DATA,
    pdus.RELEASE_REQUEST: Happening.GOT_RELEASE,
    pdus.RELEASE_REPLY: Happening.GOT_RELEASE_REPLY,
    pdus.ABORT: Happening.GOT_ABORT,
}
_TAKES_DATA = (State.ESTABLISHED, State.AWAITING_RELEASE_REPLY)
_OVER = (State.IDLE, State.AWAITING_TRANSPORT)
_PDU_HEADER = Struct(">BxI")
_VALUE_HEADER = Struct(">IBB")


class UpperLayer:
    """The upper layer of one association; made by `acceptor` or `requestor`.

    `peer_max_length`: bytes of a P-DATA-TF that the peer takes (0: any), known once the association is established.
    `fault`: what of the peer's bytes broke the protocol first, '' as long as nothing did: not every such end is indicated.
    """

    def __init__(self, max_length: int, request: AssociateRequest | None):
        self.state = State.IDLE
        self.must_close = False
        self.artim = 0
        self.peer_max_length = 0
        self.fault = ""
        self._data_max = max_length + SLACK if max_length else 0
        self._request = request
        self._requestor = request is not None
        self._contexts: frozenset[int] = frozenset()
        self._timer_runs = 0
        self._out = bytearray()
        self._head = bytearray()  # of an incomplete header of a PDU or of a value
        self._held = bytearray()
        self._kind = 0
        self._taking = _Taking.SKIPPED
        self._left = 0  # bytes of the current PDU not yet seen
        self._value_left = 0  # bytes of the current value's data not yet seen
        self._context_id = 0
        self._control = 0
        self._lost = False  # where the next PDU begins is not known any more
        self._act(Happening.LOCAL_REQUEST if self._requestor else Happening.TRANSPORT_INDICATED)

    @classmethod
    def acceptor(cls, max_length: int) -> UpperLayer:
        """For a connection that was accepted. `max_length`: bytes of a P-DATA-TF we will announce to take, 0 is any."""
        return cls(max_length, None)

    @classmethod
    def requestor(cls, request: AssociateRequest) -> UpperLayer:
        """For a connection that is being opened: call `connected` when it is, write what that returns."""
        return cls(request.user.max_length, request)

    # ------------------------------------------------------------ what the service user asks for

    def connected(self) -> bytes:
        """The transport connection stands: the A-ASSOCIATE-RQ to write."""
        return self._local(Happening.TRANSPORT_CONFIRMED, self._request)

    def send_accept(self, accept: AssociateAccept) -> bytes:
        """Accept the association that was requested. From now on data in its accepted contexts are taken."""
        done = self._local(Happening.LOCAL_ACCEPT, accept)
        self._contexts = frozenset(each.id for each in accept.contexts if each.result == Result.ACCEPTED)
        self._data_max = accept.user.max_length + SLACK if accept.user.max_length else 0
        return done

    def send_reject(self, reject: AssociateReject) -> bytes:
        """Refuse the association that was requested; the peer closes, or ARTIM does."""
        return self._local(Happening.LOCAL_REJECT, reject)

    def send_data(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """The same P-DATA-TF bytes (of `messages`), if it is the turn for them."""
        self._row(Happening.LOCAL_DATA)
        return buffers

    def send_release(self) -> bytes:
        """Ask for an orderly end; nothing may be sent afterwards, data may still arrive."""
        return self._local(Happening.LOCAL_RELEASE, ReleaseRequest())

    def send_release_reply(self) -> bytes:
        """Agree to the end that the peer asked for."""
        return self._local(Happening.LOCAL_RELEASE_REPLY, ReleaseReply())

    def send_abort(self) -> bytes:
        """End the association at once (A-ABORT of the service user)."""
        return self._local(Happening.LOCAL_ABORT, None)

    @property
    def may_send_data(self) -> bool:
        """Whether `send_data` is allowed now."""
        return (self.state, Happening.LOCAL_DATA) in TABLE

    @property
    def owes_release_reply(self) -> bool:
        """Whether `send_release_reply` is due: the peer asked, and in a collision it is our turn (PS3.8 7.2.2.1)."""
        return (self.state, Happening.LOCAL_RELEASE_REPLY) in TABLE

    def pending(self) -> bytes:
        """What is to be written now, and is forgotten here. The methods above include it, so that order is kept."""
        done = bytes(self._out)
        self._out.clear()
        return done

    # ------------------------------------------------------------ what happens to it

    def closed(self) -> list[Event]:
        """The transport connection is gone, by whomever."""
        self.must_close = True
        if self.state is State.IDLE:
            return []
        return self._act(Happening.TRANSPORT_CLOSED, Abort(PROVIDER, 0), "the transport connection was closed")

    def expired(self) -> None:
        """The ARTIM timer ran out. Nothing happens if it was stopped meanwhile."""
        if self.artim:
            self._act(Happening.ARTIM_EXPIRED)

    def invalid(self, error: ProtocolError) -> list[Event]:
        """Fragments that were given on turned out to break the protocol (`messages`): the association is aborted."""
        if (self.state, Happening.GOT_INVALID) not in TABLE:
            return []
        self.fault = self.fault or str(error)
        return self._act(Happening.GOT_INVALID, Abort(error.source, error.reason), str(error))

    def receive(self, data: Buffer) -> Iterator[Event]:
        """The events of these bytes, which continue those received before. To be iterated to the end.

        Nothing is raised for anything a peer may send: what breaks the protocol is answered as PS3.8 says. What
        arrives when the association is over is ignored.
        """
        view = memoryview(data)
        at, end = 0, len(view)
        while at < end and not self._lost and self.state not in _OVER:
            if not self._left:
                at, header = self._header(view, at, _PDU_HEADER)
                if header:
                    yield from self._begin(*header)
            elif self._taking is _Taking.DATA and self.state in _TAKES_DATA:
                if not self._value_left:
                    at, header = self._header(view, at, _VALUE_HEADER)
                    if not header:
                        return
                    problem = self._begin_value(*header)
                    if problem:
                        yield from self.invalid(problem)
                    if problem or self._value_left:
                        continue
                stop = min(end, at + self._value_left)
                self._value_left -= stop - at
                self._left -= stop - at
                last = self._control & 2 != 0 and not self._value_left
                piece, at = view[at:stop], stop
                yield Fragment(self._context_id, self._control & 1 != 0, last, piece)
            else:
                if self._head:  # of a value, when its user aborted: these bytes are seen
                    self._left -= len(self._head)
                    self._head.clear()
                stop = min(end, at + self._left)
                self._left -= stop - at
                piece, at = view[at:stop], stop
                if self._taking is _Taking.HELD:
                    self._held += piece
                    if not self._left:
                        yield from self._whole()

    # ------------------------------------------------------------ parsing

    def _header(self, view: memoryview, at: int, layout: Struct) -> tuple[int, tuple[int, ...]]:
        """(position, fields) of a header at `at`; no fields as long as a part of it is missing, which is then kept."""
        if not self._head and len(view) - at >= HEADER:
            return at + HEADER, layout.unpack_from(view, at)
        stop = min(len(view), at + HEADER - len(self._head))
        self._head += view[at:stop]
        if len(self._head) < HEADER:
            return stop, ()
        fields = layout.unpack(self._head)
        self._head.clear()
        return stop, fields

    def _begin(self, kind: int, length: int) -> list[Event]:
        """A PDU begins; what is not expected is acted upon now, its rest is not read."""
        try:
            check_header(kind, length, self._data_max)
        except ProtocolError as error:
            self._lost = True
            return self.invalid(error)
        self._kind, self._left = kind, length
        row = self._row(_EVENTS[kind])
        if kind == pdus.DATA and self.state in _TAKES_DATA:
            self._taking = _Taking.DATA
        elif kind in (pdus.REQUEST, pdus.ACCEPT, pdus.DATA) and row.name not in ("AE-3", "AE-6"):
            self._taking = _Taking.SKIPPED
            return self._unexpected(kind)
        else:
            self._taking = _Taking.HELD
        return []

    def _unexpected(self, kind: int) -> list[Event]:
        text = f"a PDU of type {kind:02X}H in state {self.state.name.lower().replace('_', ' ')}"
        return self._act(_EVENTS[kind], Abort(PROVIDER, Reason.UNEXPECTED_PDU), text)

    def _begin_value(self, length: int, context_id: int, control: int) -> ProtocolError | None:
        """A presentation data value begins; what is wrong with it, if anything: then the rest of its PDU is not read."""
        left = self._left
        try:
            check_value(length, context_id, left)
            if context_id not in self._contexts:
                raise ProtocolError(f"presentation context {context_id} was not accepted")
            if 0 < left - 4 - length < HEADER:
                raise ProtocolError(f"{left - 4 - length} bytes behind the last presentation data value of a PDU")
        except ProtocolError as error:
            self._taking = _Taking.SKIPPED
            self._left = max(0, left - HEADER)
            return error
        self._left = left - HEADER
        self._value_left = length - 2
        self._context_id = context_id
        self._control = control
        return None

    def _whole(self) -> list[Event]:
        """A PDU that was held is complete."""
        body = bytes(self._held)
        self._held = bytearray()
        try:
            found = pdus.decode(self._kind, body)
        except ProtocolError as error:
            return self.invalid(error)
        event = _EVENTS[self._kind]
        row = self._row(event)
        if row.send is Send.PROVIDER_ABORT or row.send is Send.USER_ABORT:
            return self._unexpected(self._kind)
        if isinstance(found, AssociateAccept) and self._request and row.indicate:
            proposed = {context.id for context in self._request.contexts}
            accepted = {context.id for context in found.contexts if context.result == Result.ACCEPTED}
            self._contexts = frozenset(accepted & proposed)
        if isinstance(found, AssociateAccept | AssociateRequest):
            self.peer_max_length = found.user.max_length
        return self._act(event, found)

    # ------------------------------------------------------------ the machine

    def _row(self, event: Happening) -> Action:
        row = TABLE.get((self.state, event))
        if row is None:
            raise OutOfTurn(f"{event.name.lower()} in state {self.state.name.lower()}".replace("_", " "))
        return row

    def _local(self, event: Happening, pdu: Pdu | None) -> bytes:
        self._act(event, pdu)
        return self.pending()

    def _act(self, event: Happening, pdu: Pdu | None = None, text: str = "") -> list[Event]:
        """Do what the table says. `pdu`: received, given to be sent, or for an abort its source and reason."""
        row = self._row(event)
        following = row.next[0]
        if row.name == "AE-6" and isinstance(pdu, AssociateRequest) and not pdu.protocol_version & 1:
            following, pdu = row.next[1], VERSION_NOT_SUPPORTED
            self._out += pdus.encode(pdu)
            row = row._replace(artim=Artim.START)
        elif row.name == "AR-8" and not self._requestor:
            following = row.next[1]
        if row.send is Send.GIVEN and pdu is not None:
            self._out += pdus.encode(pdu)
        elif row.send is Send.USER_ABORT:
            self._out += pdus.encode(Abort(USER, 0))
        elif row.send is Send.PROVIDER_ABORT and isinstance(pdu, Abort):
            self._out += pdus.encode(pdu)
        if row.artim is Artim.START:
            self._timer_runs += 1
            self.artim = self._timer_runs
        elif row.artim is Artim.STOP:
            self.artim = 0
        self.must_close = self.must_close or row.close
        self.state = following
        return [_indication(row, pdu, text)] if row.indicate else []


def _indication(row: Action, pdu: Pdu | None, text: str) -> Event:
    """What the service user is told."""
    match pdu:
        case AssociateRequest() | AssociateAccept() | AssociateReject():
            return pdu
        case ReleaseRequest():
            return ReleaseRequested(collision=row.name == "AR-8")
        case ReleaseReply():
            return Released()
        case Abort() if row.name == "AA-3":
            cause = Cause.PEER_USER if pdu.source == USER else Cause.PEER_PROVIDER
            return Aborted(cause, pdu.source, pdu.reason, cause.value)
        case Abort():
            cause = Cause.TRANSPORT if row.name == "AA-4" else Cause.HERE
            return Aborted(cause, pdu.source, pdu.reason, text)
        case _:
            raise OutOfTurn(f"{row.name} has nothing to tell")
