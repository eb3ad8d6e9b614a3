"""Sends what the outbox holds: takes what is due, gives it to a delivery, notes every answer, tries again.

Owns: the order between destinations and transfers, leases, back-off, and what a peer's status means for an instance. Must
never: know how a delivery reaches its peer, or forget an answer that was noted. Any number of runners on any number of nodes
work on one outbox: a transfer belongs to whoever holds its lease, and every mark is made under it.

What a kill leaves: an instance whose answer was not noted yet (at most MARKS, about FLUSH old) is sent again; the peer, which has
it, answers the same once more (C-STORE is idempotent by SOP Instance UID) and keeps one. Limits below.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from radiolith.archive.outbox import Delivery, Result
from radiolith.index import accounts, heldrows, outbox, sending
from radiolith.index.accounts import Peer
from radiolith.index.database import Database
from radiolith.index.outbox import ItemState, Mark, State, Transfer, Why
from radiolith.index.session import Reader, Writer
from radiolith.jobs.outcomes import Interruption, standing
from radiolith.model import Failure, Held, Principal, Tenant
from radiolith.trust.audit import ReadAudit

T = TypeVar("T")
LEASE = 120_000_000  # microseconds a sender may be silent before another takes over
BEAT = 30.0  # seconds between two renewals while one instance is on its way
BATCH = 500  # instances of one call to a delivery, 1 KiB of memory each
MARKS = 100  # answers not noted yet: what a kill may cause to be sent again; half of them make a transaction
FLUSH = 1.0  # seconds an answer may wait for company
FIRST, LONGEST = 10_000_000, 3_600_000_000  # microseconds of back-off after the first failure, and after many
ATTEMPTS = 80  # failures in a row, about three days: longer than a weekend without anybody at the peer
ASKS = 6  # requests for commitment that came to nothing
COMMITMENT = 3_600_000_000  # microseconds a peer has to answer one: some re-read everything first
TOTAL, PER_PEER = 8, 2  # transfers under way in one process, and to one peer
POLL = 2.0  # seconds between two looks for what is due
SWEEP = 60_000_000  # microseconds between two rounds of forgetting
log = structlog.get_logger()


def pause(attempts: int, random: float) -> int:
    """Microseconds until the next attempt after `attempts` failures in a row; `random` in [0, 1) spreads many peers' retries
    over the second half."""
    longest = min(LONGEST, FIRST << min(attempts - 1, 20))
    return int(longest * (0.5 + random / 2))


@dataclass(frozen=True, slots=True)
class Means:
    """What a sender works with. `random`: in [0, 1). `new_uid`: a fresh UID for a commitment's transaction."""

    database: Database
    delivery: Delivery
    trail: ReadAudit
    clock: Callable[[], int]
    random: Callable[[], float]
    new_uid: Callable[[], str]
    owner: str  # node, process and runner, unique among all that live


class LeaseLost(Exception):
    """Somebody cancelled the transfer, sent it again or took it over: nothing more may be written."""


class _Sending:
    """A transfer on its way."""

    def __init__(self, claimed: Transfer, peer: Peer, principal: Principal, told: Callable[[Result], None]):
        self.claimed, self.peer, self.principal, self._told = claimed, peer, principal, told
        self.behind: Sequence[int] = ()  # transfers that wait for this one
        self.after = 0  # position of the last item offered in this attempt
        self.positions: dict[int, int] = {}  # instance row -> position, of the batch
        self.marks: list[Mark] = []  # not noted yet
        self.noting = 0  # marks of the transaction that is being written
        self.due, self.room = asyncio.Event(), asyncio.Event()  # marks are to be noted; marks have been noted
        self.later = ""  # why something has to be offered again
        self.refusal = ""  # what the peer said of the first instance it does not want

    def answered(self, result: Result) -> None:
        """An answer for an instance that was not offered, or a second one, is not one of ours."""
        position = self.positions.pop(result.instance.instance_id, None)
        if position is None:
            return
        state = standing(result.status)
        words = f"{result.reason or 'no reason given'} (status 0x{result.status:04X})"
        if state is ItemState.WAITING:
            self.later = f"the peer could not take an instance: {words}"
        elif state is ItemState.REFUSED and not self.refusal:
            self.refusal = f"instances refused, the first: {words}"
        self.marks.append(Mark(position, state, result.status, result.reason))
        self._told(result)


class Sender:
    """Sends one transfer at a time to its end, a failure or the loss of its lease."""

    def __init__(self, means: Means):
        self._means = means
        self._numbers = 0

    async def run(
        self,
        number: int,
        told: Callable[[Result], None] = lambda _: None,
        *,
        early: bool = False,
        behind: Sequence[int] = (),
        interrupted: Callable[[], Interruption] = Interruption,
    ) -> Transfer | None:
        """Take a transfer up and do what can be done now; what it is afterwards, None where somebody else has it.

        told: hears every answer as it comes (a C-MOVE's sub-operations). early: also where it is not due yet, within
        the head start of who ordered it. behind: transfers whose turn comes after this one, and which nobody else shall
        begin meanwhile. interrupted: asked when this call is cancelled.
        """
        self._numbers += 1
        owner = f"{self._means.owner} {self._numbers}"
        claimed = await self._write(sending.claim, number, owner, *self._span(), early, durable=False)
        if claimed is None:
            return None
        try:
            await self._work(claimed, told, behind, interrupted)
        except LeaseLost:
            log.info("a transfer was taken away", transfer=number)
        return await asyncio.to_thread(self._read, lambda read: outbox.get(read, claimed.tenant_id, number))

    # ------------------------------------------------------------ one transfer

    async def _work(
        self,
        claimed: Transfer,
        told: Callable[[Result], None],
        behind: Sequence[int],
        interrupted: Callable[[], Interruption],
    ) -> None:
        def look(read: Reader) -> tuple[Peer | None, Tenant]:
            tenant = Tenant(claimed.tenant_id, heldrows.tenant_uid(read, claimed.tenant_id), "")
            return accounts.peer(read, claimed.tenant_id, claimed.peer), tenant

        peer, tenant = await asyncio.to_thread(self._read, look)
        if peer is None:
            await self._leave(claimed, State.HELD, f"there is no peer '{claimed.peer}' any more")
            return
        if claimed.state is State.AWAITING:
            await self._ask(claimed, peer)
            return
        sent = _Sending(claimed, peer, Principal(tenant, claimed.principal, "", "system"), told)
        sent.behind = behind
        try:
            if behind:
                await self._flush(sent)  # they wait from now on, not from the first answer on
            while await self._batch(sent):
                pass
        except Failure as failure:
            await self._flush(sent)
            await self._failed(sent.claimed, str(failure))
            return
        except asyncio.CancelledError:  # in order: what was answered is noted
            await self._flush(sent)
            why = interrupted()
            await self._leave(sent.claimed, State.WAITING, why.said, 0 if why.handed_on else LEASE)
            if why.handed_on:
                await self._write(sending.hand_on, behind, why.said, self._means.clock())
            raise
        await self._ended(sent)

    async def _batch(self, sent: _Sending) -> bool:
        """Offer the next instances; False when there are none left."""
        found, gone = await asyncio.to_thread(
            self._read, lambda read: outbox.pending(read, sent.claimed, sent.after, BATCH)
        )
        sent.marks += [Mark(position, ItemState.GONE) for position in gone]
        sent.after = max([position for position, _ in found] + gone, default=sent.after)
        if found:
            claimed = sent.claimed
            await self._means.trail.note(sent.principal, claimed.study, f"send to {claimed.peer}", len(found))
            sent.positions = {held.instance_id: position for position, held in found}
            await self._deliver(sent, [held for _, held in found])
            if sent.positions:
                sent.later = sent.later or f"{len(sent.positions)} instances had no answer"
        if sent.marks:
            await self._flush(sent)
        return bool(found or gone)

    async def _deliver(self, sent: _Sending, helds: Sequence[Held]) -> None:
        """Hear the answers, and note them beside that: the peer has the next instance while the database writes."""
        hearing = asyncio.ensure_future(self._hear(sent, helds))
        hearing.add_done_callback(lambda _: sent.due.set())
        silent = 0.0
        try:
            while not hearing.done():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(sent.due.wait(), FLUSH)
                silent += FLUSH
                if not hearing.done() and (sent.marks or silent >= BEAT):
                    silent = 0.0
                    await self._flush(sent)
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
        hearing.result()

    async def _hear(self, sent: _Sending, helds: Sequence[Held]) -> None:
        """Take every answer as it comes; stop while MARKS of them are not noted."""
        results = self._means.delivery.deliver(sent.claimed, sent.peer, helds)
        async with contextlib.AsyncExitStack() as closing:
            if isinstance(results, AsyncGenerator):
                closing.push_async_callback(results.aclose)
            async for result in results:
                sent.answered(result)
                if 2 * len(sent.marks) >= MARKS:
                    sent.due.set()
                while len(sent.marks) + sent.noting >= MARKS:
                    sent.room.clear()
                    await sent.room.wait()

    async def _flush(self, sent: _Sending) -> None:
        """Note the answers so far and renew the lease; raises LeaseLost. One that was begun is seen to its end."""
        sent.due.clear()
        marks, sent.marks, sent.noting = sent.marks, [], len(sent.marks)
        now, until = self._span()

        def note(tx: Writer) -> Transfer | None:
            sending.postpone(tx, sent.behind, until)
            return sending.mark(tx, sent.claimed, marks, now, until)

        # Not synced: what a power cut takes along is offered once more.
        writing = asyncio.ensure_future(self._write(note, durable=False))
        try:
            await asyncio.shield(writing)
        finally:
            await asyncio.wait({writing})
            mine = None if writing.exception() else writing.result()
            sent.marks = marks + sent.marks if writing.exception() else sent.marks
            sent.claimed, sent.noting = mine or sent.claimed, 0
            sent.room.set()
        if mine is None:
            raise LeaseLost

    # ------------------------------------------------------------ ends

    async def _ended(self, sent: _Sending) -> None:
        """All that was waiting has been offered."""
        claimed = sent.claimed
        if sent.later:
            await self._failed(claimed, sent.later)
        elif claimed.delivered and sent.peer.more.get("commitment") and claimed.why is not Why.NOTE:
            await self._ask(claimed, sent.peer)
        elif claimed.failed:
            await self._leave(claimed, State.FAILED, sent.refusal or claimed.said)
        else:
            await self._leave(claimed, State.DELIVERED, "")

    async def _ask(self, claimed: Transfer, peer: Peer) -> None:
        """Ask for storage commitment. The transaction is noted first: its result may be here before we are back."""
        references = await asyncio.to_thread(self._read, lambda read: outbox.references(read, claimed))
        if not references:
            ended = State.FAILED if claimed.failed else State.DELIVERED
            await self._leave(claimed, ended, claimed.said if claimed.failed else "")
            return
        if claimed.state is State.AWAITING and claimed.attempts > ASKS:
            said = f"everything was sent, but the peer has not committed to keep {len(references)} instances"
            await self._leave(claimed, State.FAILED, said)
            return
        uid = self._means.new_uid()
        asking = await self._write(sending.await_commitment, claimed, uid, *self._span())
        if asking is None:
            raise LeaseLost
        said, wait = "waiting for the peer's storage commitment", COMMITMENT
        try:
            await self._means.delivery.ask_commitment(asking, peer, uid, references)
        except Failure as failure:
            said, wait = f"storage commitment could not be asked for: {failure}", self._pause(asking)
        now = self._means.clock()
        await self._write(sending.leave, asking, State.AWAITING, now + wait, said, now)  # or its result was here first

    async def _failed(self, claimed: Transfer, said: str) -> None:
        if claimed.attempts >= ATTEMPTS:
            await self._leave(claimed, State.FAILED, f"given up after {claimed.attempts} attempts: {said}")
        else:
            await self._leave(claimed, State.WAITING, said, self._pause(claimed))

    async def _leave(self, claimed: Transfer, state: State, said: str, wait: int = 0) -> None:
        now = self._means.clock()
        if not await self._write(sending.leave, claimed, state, now + wait, said, now, durable=False):
            raise LeaseLost

    # ------------------------------------------------------------ inside

    def _pause(self, claimed: Transfer) -> int:
        return pause(claimed.attempts, self._means.random())

    def _span(self) -> tuple[int, int]:
        """Now, and until when a lease taken now holds."""
        now = self._means.clock()
        return now, now + LEASE

    def _read(self, look: Callable[[Reader], T]) -> T:
        with self._means.database.read() as read:
            return look(read)

    async def _write(self, change: Callable[..., T], *args: object, durable: bool = True) -> T:
        def work() -> T:
            with self._means.database.write(durable=durable) as tx:
                return change(tx, *args)

        return await asyncio.to_thread(work)


class Runner:
    """Takes up what is due, for all tenants and peers: fair between peers, by priority within one."""

    def __init__(self, means: Means):
        self._means, self._sender = means, Sender(means)
        self._under_way: dict[int, tuple[tuple[int, str], asyncio.Task[Transfer | None]]] = {}
        self._turn: tuple[int, str] = (0, "")  # the peer that was served last
        self._swept = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then what is under way is left where it is, for whoever comes next."""
        while not stop.is_set():
            try:
                await self.start()
            except Failure as failure:
                log.warning("the outbox cannot be read", reason=str(failure))
            waiting = asyncio.ensure_future(stop.wait())
            await asyncio.wait({waiting, *self._tasks()}, timeout=POLL, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        for task in self._tasks():
            task.cancel()
        await self.settled()

    async def start(self) -> int:
        """Begin with as much of what is due as the limits allow; how many transfers."""
        self._forget_done()
        now = self._means.clock()
        if now - self._swept >= SWEEP:
            self._swept = now
            await asyncio.to_thread(self._sweep, now)
        begun = 0
        while (free := TOTAL - len(self._under_way)) > 0:
            chosen = await asyncio.to_thread(self._choose, now, free)
            for peer, number in chosen:
                task = asyncio.ensure_future(self._one(number))
                self._under_way[number] = peer, task
                begun += 1
            if not chosen:
                break
        return begun

    async def settled(self) -> None:
        """Wait for all that is under way."""
        if self._under_way:
            await asyncio.wait(self._tasks())
        self._forget_done()

    async def _one(self, number: int) -> Transfer | None:
        try:
            return await self._sender.run(number)
        except Failure as failure:  # its lease runs out, and somebody goes on
            log.warning("a transfer was interrupted", transfer=number, reason=str(failure))
        except Exception:
            log.exception("a transfer was interrupted", transfer=number)
        return None

    def _choose(self, now: int, free: int) -> list[tuple[tuple[int, str], int]]:
        """One transfer each of the peers whose turn it is, beginning behind the one served last."""
        busy = [peer for peer, _ in self._under_way.values()]
        chosen: list[tuple[tuple[int, str], int]] = []
        with self._means.database.read() as read:
            peers = outbox.waiting_for(read, now)
            for peer in [one for one in peers if one > self._turn] + [one for one in peers if one <= self._turn]:
                if len(chosen) == free:
                    break
                if busy.count(peer) >= PER_PEER:
                    continue
                due = outbox.due(read, *peer, now, PER_PEER + 1)
                number = next((one for one in due if one not in self._under_way), None)
                if number is not None:
                    chosen.append((peer, number))
                    self._turn = peer
        return chosen

    def _sweep(self, now: int) -> None:
        with self._means.database.write() as tx:
            sending.resume_held(tx, now)
            sending.prune(tx, now)

    def _tasks(self) -> list[asyncio.Task[Transfer | None]]:
        return [task for _, task in self._under_way.values()]

    def _forget_done(self) -> None:
        self._under_way = {number: one for number, one in self._under_way.items() if not one[1].done()}
