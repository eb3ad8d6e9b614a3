"""The verb `ingest`: receive one object, by whatever door, and answer when it is kept.

Authorise, scan while receiving, hand over to `commit`, receipt. Nothing is refused because an identity looks wrong: what
cannot be understood goes to quarantine with a reason. Must never: decode pixels, write a plaintext file, or hold an
object whole beyond SMALL. Limits: SMALL bytes of plaintext an object in BUFFERS reused buffers a process; larger objects
flow through in pieces and cost the same however large they are. A sender that stalls holds FIRST bytes, or one buffer; when all
are lent, others go straight to the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from radiolith import metrics
from radiolith.archive import prepare
from radiolith.archive.commit import Committer
from radiolith.archive.encodings import Encodings
from radiolith.archive.tasks import Settled
from radiolith.config import Settings
from radiolith.index.extras import NONE, Extras
from radiolith.model import (
    Failure,
    LimitExceeded,
    NoSpace,
    NotAllowed,
    Outcome,
    Principal,
    Receipt,
    Source,
    Unavailable,
)
from radiolith.storage.blobs import Log
from radiolith.storage.drafts import SMALL
from radiolith.trust.access import Action, require, set_aside

BUFFERS = 16  # plaintext buffers of SMALL bytes a process: more senders than that wait for their turn
FIRST = 16 << 10  # bytes of an object held before it takes a buffer: 4,000 stalled senders hold 64 MiB
P = ParamSpec("P")
T = TypeVar("T")
_INLINE = 64 << 10  # objects up to this size cost less than the hop to another thread


@dataclass(frozen=True, slots=True)
class Door:
    """What all intakes of a process share."""

    store: Log
    committer: Committer
    encodings: Encodings
    settings: Settings
    threads: Executor
    clock: Callable[[], int]
    also: Extras = NONE  # attributes searchable beside the table's


class Ingest:
    def __init__(self, door: Door):
        self._door = door
        self._buffers: list[bytearray] = []
        self._unmade = BUFFERS  # made when first needed: an idle process holds none
        self._waiting: deque[asyncio.Future[None]] = deque()

    def begin(
        self, principal: Principal, source: Source, *, transfer_syntax: str | None = None, domain: str = ""
    ) -> Intake:
        """Start to receive one object. `transfer_syntax` says that a bare dataset follows (C-STORE); None sniffs. `domain`: whose
        patient IDs these are where the header does not say; '' leaves it to the setting of the sender.

        Raises NotAllowed, NoSpace, Unavailable before a byte is taken.
        """
        try:
            require(principal, Action.STORE)
            self._door.store.backend.check_space()
        except Failure as failure:
            metrics.objects_refused.add("not_allowed" if isinstance(failure, NotAllowed) else "no_space")
            raise
        return Intake(self, self._door, principal, source, transfer_syntax, domain)

    def push(self) -> None:
        """The answers of what was finished with `more` are wanted now."""
        self._door.committer.push()

    def lend(self) -> bytearray | None:
        """A buffer, if one is free. A sender from a network never waits for what another sender holds."""
        if not self._buffers and self._unmade:
            self._unmade -= 1
            return bytearray(SMALL)
        return self._buffers.pop() if self._buffers else None

    async def borrow(self) -> bytearray:
        """A buffer, waited for: only for those who give it back without hearing from a sender."""
        while (buffer := self.lend()) is None:
            gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(gate)
            try:
                await gate
            except asyncio.CancelledError:
                if gate.done() and not gate.cancelled():  # called to a buffer that it does not take: the next one is
                    self._call_next()
                raise
        return buffer

    def give_back(self, buffer: bytearray) -> None:
        self._buffers.append(buffer)
        self._call_next()

    def _call_next(self) -> None:
        while self._waiting:
            gate = self._waiting.popleft()
            if not gate.done():
                gate.set_result(None)
                return


class Intake:
    """One object on its way in. Use from one task: write…, then finish or abort."""

    def __init__(
        self, ingest: Ingest, door: Door, principal: Principal, source: Source, syntax: str | None, domain: str
    ):
        self._domain = domain or door.settings.patients.domains.get(source.peer, "")
        self._ingest, self._door, self._principal, self._source, self._syntax = ingest, door, principal, source, syntax
        self._aside = set_aside(principal)
        self._first = bytearray()  # up to FIRST bytes: who stalls after his first bytes holds no buffer
        self._buffer: bytearray | None = None
        self._filled = 0  # bytes in whichever of the two is in use
        self._flow: prepare.Flow | None = None
        self.size = 0

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; the caller may reuse its buffer on return. Raises LimitExceeded, NoSpace."""
        self.size += len(data)
        if self.size > self._door.settings.limits.object_bytes:
            await self.abort()
            raise LimitExceeded(f"an object may have limits.object_bytes = {self._door.settings.limits.object_bytes}")
        view = memoryview(data)
        if self._buffer is None and not self._take_buffer(len(view)):
            if self._flow is None and self._filled + len(view) <= FIRST:
                self._first += view
                self._filled += len(view)
            else:  # all buffers are lent: straight to the log, in the sender's own pieces
                await self._pour()
                await self._feed(view)
            return
        assert self._buffer is not None
        while len(view):
            taken = min(len(view), SMALL - self._filled)
            self._buffer[self._filled : self._filled + taken] = view[:taken]
            self._filled += taken
            view = view[taken:]
            if len(view):  # only now is it known to be larger than SMALL
                await self._pour()

    def _take_buffer(self, more: int) -> bool:
        """Whether there is a buffer to fill now; one is taken once FIRST bytes are not enough."""
        if self._flow is None and self._filled + more <= FIRST:
            return False
        self._buffer = self._ingest.lend()
        if self._buffer is None:
            return False
        self._buffer[: self._filled] = self._first
        self._first = bytearray()
        return True

    async def fill(self, read: Callable[[memoryview], int], *, more: bool = False) -> asyncio.Future[Receipt]:
        """All of a small object in one go: `read` fills the buffer it is given (SMALL bytes) on a worker thread and says
        how many bytes there are. Instead of write and finish; what `read` raises comes out here."""
        self._buffer = await self._ingest.borrow()
        try:
            await self._door.committer.room()
            prepared = await self._in_thread(self._read_and_prepare, memoryview(self._buffer), read)
        except BaseException:
            await self.abort()
            raise
        self._release()
        return self._submit(prepared, more)

    def _read_and_prepare(self, view: memoryview, read: Callable[[memoryview], int]) -> prepare.Prepared:
        return self._prepare(view[: read(view)])

    async def _pour(self) -> None:
        """Pass on what is held: scan, hash, encrypt and write it, while the sender fills the socket."""
        if self._filled:
            await self._feed(memoryview(self._first if self._buffer is None else self._buffer)[: self._filled])
        self._first, self._filled = bytearray(), 0

    async def _feed(self, view: memoryview) -> None:
        if self._flow is None:
            await self._door.committer.room()
            door = self._door
            self._flow = prepare.Flow(door.store, self._principal.tenant.uid, self._syntax, self._aside, door.also)
        await self._in_thread(self._flow.feed, view)

    async def finish(self, *, more: bool = False) -> asyncio.Future[Receipt]:
        """The bytes are complete. The future resolves when they are durable; receive the next object meanwhile.

        more: others follow before this answer is wanted; `Ingest.push` says when it is.
        """
        try:
            await self._door.committer.room()
            if self._flow is not None:
                await self._pour()
                prepared = await self._in_thread(self._flow.finish)
            else:
                view = memoryview(self._first if self._buffer is None else self._buffer)[: self._filled]
                small = len(view) <= _INLINE
                prepared = self._prepare(view) if small else await self._in_thread(self._prepare, view)
        except BaseException:
            await self.abort()
            raise
        self._release()
        return self._submit(prepared, more)

    def _prepare(self, view: memoryview) -> prepare.Prepared:
        door = self._door
        return prepare.whole(door.store, self._principal.tenant.uid, view, self._syntax, self._aside, door.also)

    async def abort(self) -> None:
        """Nothing of it stays."""
        flow, self._flow = self._flow, None
        try:
            if flow is not None:
                await self._in_thread(flow.discard)
        finally:
            self._release()

    def _release(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._ingest.give_back(buffer)

    def _submit(self, prepared: prepare.Prepared, more: bool) -> asyncio.Future[Receipt]:
        """Hand over at once, so that a `push` right behind finds it."""
        received = prepare.Received(
            prepared, self._principal, self._source, self._door.clock(), self._policy(), self._domain
        )
        make = prepare.quarantine_task if prepared.identity is None else prepare.object_task
        return asyncio.ensure_future(self._receipt(prepared, self._door.committer.submit(make(received), more=more)))

    async def _receipt(self, prepared: prepare.Prepared, settling: asyncio.Future[Settled]) -> Receipt:
        try:
            receipt = await self._settled(prepared, settling)
        except Failure as failure:
            metrics.objects_refused.add(_refusal(failure))
            raise
        metrics.objects_received.add(receipt.outcome.value)
        metrics.bytes_received.add(amount=prepared.size)
        return receipt

    async def _settled(self, prepared: prepare.Prepared, settling: asyncio.Future[Settled]) -> Receipt:
        settled = await settling
        if prepared.identity is None:
            return Receipt(settled.outcome, None, prepared.sop_class, settled.object_id, prepared.reason)
        if settled.outcome is Outcome.VERSION and settled.held:
            settled = await self._door.encodings.settle(settled, self._principal)
        return _receipt(prepared, settled)

    def _policy(self) -> str:
        versions = self._door.settings.versions
        return versions.peers.get(self._source.peer, versions.policy)

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A cancelled wait still waits for the thread: it works on a buffer that would go to another sender."""
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._door.threads, lambda: call(*args, **kwargs))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            if not work.cancelled() and work.exception() is None:
                made = work.result()
                if isinstance(made, prepare.Prepared):
                    made.draft.discard()
            raise


def _receipt(prepared: prepare.Prepared, settled: Settled) -> Receipt:
    reason = ""
    if settled.outcome is Outcome.VERSION:
        reason = "other content is held under this SOP Instance UID; this one is kept as a further version"
    return Receipt(settled.outcome, prepared.identity, prepared.sop_class, settled.object_id, reason, prepared.warnings)


def _refusal(failure: Failure) -> str:
    """The label of a refusal in the metrics."""
    kinds = ((NoSpace, "no_space"), (Unavailable, "unavailable"), (LimitExceeded, "limit"))
    return next((label for kind, label in kinds if isinstance(failure, kind)), "other")
