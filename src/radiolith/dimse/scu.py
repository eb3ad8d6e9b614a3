"""Associations that we open: to ask a peer, and to send to it.

Owns: the connection, the request for an association, deadlines on everything a peer is waited for, and an orderly end. Must
never: decide what is sent (`delivery`), hold an object, or leave a peer without release or abort. What the peer asks of us
on our association (the objects of a C-GET, the report of a commitment) is served like on its own (`exchange`).

Limits: CONNECT_SECONDS, ASSOCIATE_SECONDS, `sending.ANSWER_SECONDS` without a byte for an answer, MOVE_SECONDS for one of a
C-MOVE, RELEASE_SECONDS; `items.CONTEXTS_MAX` presentation contexts.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

from radiolith.dicom import dictionary
from radiolith.dimse import association
from radiolith.dimse.association import Agreed, Context, Wanted
from radiolith.dimse.calls import AssociationRejected, NoAnswer, NothingAccepted, Ours, Target, Unreachable, is_pending
from radiolith.dimse.commands import Command
from radiolith.dimse.exchange import Exchange, Responses, flush, read
from radiolith.dimse.handshake import reason
from radiolith.dimse.indications import Aborted, Cause, Event, Fragment, Released, ReleaseRequested
from radiolith.dimse.items import CONTEXTS_MAX, ProtocolError
from radiolith.dimse.messages import Buffer
from radiolith.dimse.operation import Caller, Operation
from radiolith.dimse.pdu import AssociateAccept, AssociateReject, AssociateRequest
from radiolith.dimse.recording import CANCELLED, Recording
from radiolith.dimse.sending import ANSWER_SECONDS, Lost, Sender
from radiolith.dimse.upperlayer import UpperLayer
from radiolith.dimse.wire import Wire
from radiolith.model import Failure

CONNECT_SECONDS = 10.0
ASSOCIATE_SECONDS = 30.0
"""For the answer to A-ASSOCIATE-RQ: some peers look names up first."""
RELEASE_SECONDS = 10.0
MOVE_SECONDS = 1800.0
"""Between two answers to a C-MOVE: a peer need not say anything before its last sub-operation (PS3.4 C.4.2.2.1)."""
_OVER = "the association is over"


@asynccontextmanager
async def connect(
    target: Target, wanted: Sequence[Wanted], calling: str, ours: Ours | None = None
) -> AsyncGenerator[Association]:
    """An association in which at least one context is accepted; released at the end, aborted when it ends badly.

    Raises Unreachable, AssociationRejected, NothingAccepted, NoAnswer, Lost; ValueError for more than CONTEXTS_MAX.
    """
    requests = association.requests(wanted, association.Caller(calling, target.aet))
    if len(requests) != 1:
        raise ValueError(f"{len(wanted)} presentation contexts; an association has {CONTEXTS_MAX}")
    opened = await _opened(target, requests[0], ours)
    try:
        await opened.begin()
        yield opened
        await opened.release()
    except (asyncio.CancelledError, GeneratorExit):
        opened.abort(CANCELLED)
        raise
    except NoAnswer:
        opened.abort("ended here: the peer did not answer in time")
        raise
    finally:
        await opened.close()


async def _opened(target: Target, request: AssociateRequest, ours: Ours | None) -> Association:
    """Connected, nothing more. Raises Unreachable."""
    recording = Recording(target, request)
    try:
        wire = await open_wire(target)
    except BaseException as problem:
        recording.unreachable(str(problem) if isinstance(problem, Failure) else CANCELLED)
        raise
    return Association(wire, request, target, ours, recording)


async def open_wire(target: Target) -> Wire:
    """The connection alone. Raises Unreachable."""
    loop = asyncio.get_running_loop()
    where = f"{target.host}:{target.port}"
    name = (target.certificate or target.host) if target.tls is not None else None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, wire = await loop.create_connection(Wire, target.host, target.port, ssl=target.tls, server_hostname=name)
    except TimeoutError:
        raise Unreachable(f"{where} does not answer: no connection within {CONNECT_SECONDS:.0f} s") from None
    except socket.gaierror:
        raise Unreachable(f"the host name {target.host} is not known") from None
    except ConnectionRefusedError:
        raise Unreachable(f"{where} refuses the connection: nothing listens there") from None
    except ssl.SSLError as error:
        raise Unreachable(f"no TLS with {where}: {reason(error)}") from None
    except ConnectionResetError:
        how = " in the TLS handshake: it may not speak TLS, or refuse our certificate" if target.tls else ""
        raise Unreachable(f"{where} ended the connection{how}") from None
    except OSError as error:
        raise Unreachable(f"no connection to {where}: {error.strerror or error}") from None
    return wire


class Association:
    """Made by `connect`. One request at a time; `store` may be called for the next object while one is not answered."""

    def __init__(
        self,
        wire: Wire,
        request: AssociateRequest,
        target: Target,
        ours: Ours | None,
        recording: Recording | None = None,
    ):
        self.target = target
        self._recording = recording or Recording(target, request)
        self._recording.connected(wire.secure, wire.names)
        self._wire, self._request, self._ours = wire, request, ours
        self._loop = asyncio.get_running_loop()
        self._layer = UpperLayer.requestor(request)
        self.sender = Sender(self._layer, wire, self._recording)
        self.exchange = Exchange(self.sender, self._operation, self._recording.answered)
        self._answer: asyncio.Future[Agreed] = self._loop.create_future()
        self._released = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._why = ""  # it ended
        self._agreed: Agreed | None = None

    @property
    def contexts(self) -> Mapping[int, Context]:
        """What the peer accepted, by context id."""
        return self._agreed.contexts if self._agreed else {}

    @property
    def open(self) -> bool:
        return self.sender.open

    @property
    def why(self) -> str:
        """How it ended, '' as long as nothing is known of an end."""
        return self._why

    # ------------------------------------------------------------ begin and end

    async def begin(self) -> None:
        self._reader = self._loop.create_task(self._read())
        self._wire.write([self._layer.connected()])
        try:
            async with asyncio.timeout(ASSOCIATE_SECONDS):
                self._agreed = await self._answer
        except TimeoutError:
            raise NoAnswer(
                f"{self.target} took the connection, but does not answer the request for an association"
            ) from None
        if not self._agreed.contexts:
            self.abort("ended here: the peer accepted nothing that was proposed")
            raise NothingAccepted(f"{self.target} accepted the association, but {self._refusals()}")

    async def release(self) -> None:
        """The orderly end. A peer that does not agree in time is cut off: everything asked of it was answered."""
        if not self.open:
            return
        self._wire.write([self._layer.send_release()])
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._released.wait()
        except TimeoutError:
            self._why = self._why or "the peer did not agree to the release"
            self._wire.cut()

    def abort(self, why: str = "aborted here") -> None:
        self._why = self._why or why
        if self._layer.may_send_data:
            self._wire.write([self._layer.send_abort()])

    async def close(self) -> None:
        """Whatever the state: nothing of it stays."""
        if not self._released.is_set():
            self.abort()
        self._wire.close()
        self._loop.call_later(RELEASE_SECONDS, self._wire.cut)  # a peer that reads nothing keeps nothing open
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        await self.exchange.end(self._why or _OVER)
        if self._answer.done() and not self._answer.cancelled():
            self._answer.exception()  # whoever waited for it may be gone
        self._recording.end("released" if self._released.is_set() else self._why, self._wire.received)

    async def _read(self) -> None:
        try:
            await read(self._wire, self._layer, self._on)
        finally:
            flush(self._wire, self._layer)
            self._end(_OVER)
            await self.exchange.end(self._why)

    async def _on(self, event: Event) -> None:
        match event:
            case Fragment():
                try:
                    await self.exchange.fragment(event)
                except ProtocolError as error:
                    await self._invalid(error)
            case AssociateAccept():
                await self._accepted(event)
            case AssociateReject():
                text = association.reject_text(event)
                self._recording.rejected(event)
                if not self._answer.done():
                    self._answer.set_exception(AssociationRejected(f"{self.target} rejected the association ({text})"))
                self._end(f"rejected ({text})")
            case Released():
                self._released.set()
                self._end(_OVER)
            case ReleaseRequested():
                if not event.collision:
                    await self.exchange.quiet()
                    self._end("the peer ended the association (A-RELEASE)")
                if self._layer.owes_release_reply:
                    self._wire.write([self._layer.send_release_reply()])
                if not event.collision:
                    await self.exchange.end(self._why)  # the peer may keep the connection open
            case Aborted():
                source = {0: "service-user", 2: "service-provider"}.get(event.source, "")
                peer = event.cause in (Cause.PEER_USER, Cause.PEER_PROVIDER)
                if self._wire.fault is not None:
                    self._end(f"TLS ended: {reason(self._wire.fault)}")
                self._end(f"{event.text} (A-ABORT, {source}, reason {event.reason})" if peer else event.text)
                await self.exchange.end(self._why)
            case _:
                pass

    async def _accepted(self, accept: AssociateAccept) -> None:
        try:
            agreed = association.agreed(self._request, accept)
        except ProtocolError as error:
            await self._invalid(error)
            return
        self._recording.accepted(agreed, accept)
        self.exchange.begin(agreed.contexts)
        if not self._answer.done():
            self._answer.set_result(agreed)

    async def _invalid(self, error: ProtocolError) -> None:
        for following in self._layer.invalid(error):
            await self._on(following)

    def _end(self, why: str) -> None:
        self._why = self._why or why
        if not self._answer.done():
            refused = " (does it not accept our certificate?)" if self.target.tls and not self._wire.fault else ""
            self._answer.set_exception(Lost(f"{self.target}: {self._why}, before it answered the request{refused}"))

    def _operation(self, context: Context, command: Command) -> Operation | None:
        if self._ours is None:
            return None
        self._recording.asked(command)
        target = self.target
        caller = Caller(self._ours.principal, target.name, target.aet, self._request.calling, target.host)
        return Operation(self._ours.archive, caller, self.sender, self.contexts, context, command)

    # ------------------------------------------------------------ contexts

    def context(self, abstract_syntax: str, transfer_syntaxes: Sequence[str] = ()) -> Context:
        """The first accepted context of this SOP class in which we are the SCU, in one of the syntaxes ((): any).

        Raises NothingAccepted with the peer's reason.
        """
        for context in self.contexts.values():
            known = not transfer_syntaxes or context.transfer_syntax in transfer_syntaxes
            if context.abstract_syntax == abstract_syntax and context.scu and known:
                return context
        raise NothingAccepted(f"{self.target}: {self._refusals(abstract_syntax)}")

    def _refusals(self, abstract_syntax: str = "") -> str:
        """Why nothing of a SOP class, or of all, may be used; at most some of the reasons."""
        refused = self._agreed.refused if self._agreed else {}
        reasons = {
            each.abstract_syntax: refused[each.id]
            for each in self._request.contexts
            if each.id in refused and abstract_syntax in ("", each.abstract_syntax)
        }
        if not reasons:
            return f"{dictionary.uid_name(abstract_syntax)} was not proposed"
        return "; ".join(f"{dictionary.uid_name(uid)} was refused ({why})" for uid, why in list(reasons.items())[:4])

    # ------------------------------------------------------------ requests

    async def ask(self, context: Context, command: Command, data: bytes | None = None) -> Command:
        """A request with one response. Raises Lost, NoAnswer."""
        async with aclosing(self.responses(context, command, data)) as responses:
            async for answer, _ in responses:
                return answer
        raise Lost(self._why or _OVER)

    async def responses(
        self, context: Context, command: Command, data: bytes | None = None, seconds: float = ANSWER_SECONDS
    ) -> AsyncGenerator[tuple[Command, bytes]]:
        """A request's responses with their data sets, the one that is not pending as the last. Raises Lost, NoAnswer."""
        if not self.open:
            raise Lost(f"{self.target}: {self._why or _OVER}")
        responses = self.exchange.expect(command.message_id)
        self._recording.asked(command)
        last = -1
        try:
            self.sender.send(context.id, command, data)
            while True:
                answer, found = await self._next(responses, command, seconds)
                last = -1 if is_pending(answer.status) else answer.status
                yield answer, found
                if last >= 0:
                    return
        finally:
            self._recording.answered(command, last)
            self.exchange.forget(command.message_id)

    async def _next(self, responses: Responses, command: Command, seconds: float) -> tuple[Command, bytes]:
        """The next response; the objects of a C-GET are a sign of life too."""
        begun = self._loop.time()
        while True:
            try:
                return await responses.get(seconds)
            except TimeoutError:
                if self._loop.time() - max(begun, self._wire.moved) < seconds:
                    continue
                what = command.name.removesuffix("-RQ")
                raise NoAnswer(f"{self.target} has not answered {what} for {seconds:.0f} s") from None
            except Lost as lost:
                raise Lost(f"{self.target}: {lost}") from None

    def next_id(self) -> int:
        return self.sender.next_id()

    def cancel(self, context: Context, message_id: int) -> None:
        """C-CANCEL: the responses end as soon as the peer has taken notice."""
        self.sender.send(context.id, Command.of("C-CANCEL-RQ", MessageIDBeingRespondedTo=message_id))

    async def store(
        self, context: Context, command: Command, pieces: AsyncIterator[Buffer], total: int | None
    ) -> Command:
        """A C-STORE whose data set of `total` bytes streams. Raises Lost, NoAnswer, and what `pieces` raises: when that
        was not for the first piece, the message cannot be ended and the association is to be aborted."""
        try:
            return await self.sender.store(context, command, pieces, total)
        except TimeoutError:
            raise NoAnswer(f"{self.target} has not answered C-STORE for {ANSWER_SECONDS:.0f} s") from None
        except Lost as lost:
            raise Lost(f"{self.target}: {self._why or lost}") from None
