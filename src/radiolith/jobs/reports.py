"""Tells peers what they wait for: results of storage commitment, studies that became available, or partly are so no more.

Owns: when a report goes out, back-off, giving up; and the order of a notification for every peer that wants them when a study
is complete (a follower of the change feed). Must never: know how a peer is reached, or report a commitment before its
verification has ended. Any number of runners on any number of nodes: a report belongs to whoever has taken it up.

What a kill leaves: a report whose answer was not noted is made again after LEASE; a peer that has it already says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from radiolith.archive.ports import CommitmentResult
from radiolith.index import accounts, arrivals, availability, changes, commitments, peer_reports
from radiolith.index.accounts import Peer
from radiolith.index.changes import Change, ChangeKind
from radiolith.index.database import Database
from radiolith.index.peer_reports import Addressee, Kind, PeerReport, State
from radiolith.index.session import Reader, Writer
from radiolith.jobs.outbox import pause
from radiolith.model import Failure, Unavailable

T = TypeVar("T")
POLL = 2.0  # seconds between two looks for what is due
AT_ONCE = 4  # peers that are called at the same time
LEASE = 300_000_000  # microseconds: longer than a call with all its deadlines
GIVE_UP = 5 * 86_400_000_000  # microseconds: a long weekend without anybody at the peer, and a day
SWEEP = 3_600_000_000  # microseconds between two rounds of forgetting
BATCH = 500  # changes of one transaction
TOGETHER = 10_000_000  # microseconds that rejections in one study wait for each other: one notification names all
NAME = "availability"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Available:
    """A study that became complete. `series`: UID -> (SOP class, SOP instance) of what is new. Of one of which something was
    rejected or came back: all it has, and `rejected` are the SOP instances that are unavailable."""

    study: str
    series: Mapping[str, Sequence[tuple[str, str]]]
    rejected: frozenset[str] = frozenset()


class Reporting(Protocol):
    """How peers are told. Both raise a Failure with a sentence when the peer has not taken it. `ours`: the AE title it knows
    us by, '' for that of the tenant (row id)."""

    async def commitment(self, peer: Peer, tenant: int, ours: str, result: CommitmentResult) -> None: ...

    async def available(self, peer: Peer, tenant: int, ours: str, what: Available) -> None: ...


class Reports:
    """`random`: in [0, 1), spreads retries."""

    def __init__(self, database: Database, reporting: Reporting, clock: Callable[[], int], random: Callable[[], float]):
        self._database, self._reporting, self._clock, self._random = database, reporting, clock, random
        self._swept = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.round()
            except Failure as failure:
                log.warning("reports to peers cannot be made", reason=str(failure))
            except Exception:
                log.exception("reports to peers cannot be made")
            waiting = asyncio.ensure_future(stop.wait())
            await asyncio.wait({waiting}, timeout=POLL)
            waiting.cancel()

    async def round(self) -> int:
        """Order what is to be told, tell what is due, one report at a time to each peer; how many were tried."""
        now = self._clock()
        await asyncio.to_thread(self._follow)
        if now - self._swept >= SWEEP:
            self._swept = now
            await self._write(peer_reports.prune, now)
        tried = 0
        while found := await self._read(lambda read: peer_reports.due(read, self._clock(), 100)):
            chosen = list({(one.tenant_id, one.to.aet): one for one in reversed(found)}.values())[:AT_ONCE]
            tried += len(chosen)
            await asyncio.gather(*map(self._tell, chosen))
        return tried

    # ------------------------------------------------------------ one report

    async def _tell(self, report: PeerReport) -> None:
        taken = await self._write(peer_reports.claim, report, self._clock() + LEASE)
        if taken is None:
            return
        try:
            said = await self._try(taken)
        except Failure as failure:
            said = str(failure)
        now = self._clock()
        if not said:
            await self._write(peer_reports.leave, taken, State.REPORTED, "", now)
        elif now - taken.created_at >= GIVE_UP:
            log.warning("a report was given up", peer=taken.to.aet, reason=said)
            await self._write(peer_reports.leave, taken, State.GIVEN_UP, said, now)
        else:
            due_at = now + pause(taken.attempts, self._random())
            await self._write(peer_reports.leave, taken, State.WAITING, said, due_at)

    async def _try(self, taken: PeerReport) -> str:
        """'' when the peer has it, or there is nothing to say any more. Raises what the peer or the way to it is at fault
        for."""
        peer, what = await self._read(lambda read: (_peer(read, taken), _subject(read, taken)))
        if what is None:
            return ""
        if peer is None:
            raise Unavailable(f"'{taken.to.aet}' is no peer of this archive: where it listens is not known")
        if isinstance(what, Available):
            await self._reporting.available(peer, taken.tenant_id, taken.to.ours, what)
        else:
            await self._reporting.commitment(peer, taken.tenant_id, taken.to.ours, what)
        return ""

    # ------------------------------------------------------------ studies that are complete

    def _follow(self) -> None:
        """A notification for each peer that wants them, once for each time a study became complete."""
        more = True
        while more:
            with self._database.read() as read:
                before = changes.load_cursor(read, NAME)
                found, after = changes.follow(read, before, BATCH)
                wanted = {tenant: _wanting(read, tenant) for tenant in {one.tenant_id for one in found}}
            more = len(found) == BATCH
            if after == before:
                return
            now = self._clock()
            with self._database.write() as tx:
                if not changes.advance_cursor(tx, NAME, before, after):
                    return  # another node follows too
                for tenant, kind, subject in dict.fromkeys(_told(one) for one in found if now - one.at <= GIVE_UP):
                    if kind is None:
                        continue
                    due_at = now + TOGETHER if kind is Kind.UNAVAILABLE else now
                    for to in wanted[tenant]:
                        peer_reports.put(tx, tenant, (kind, subject), to, (now, due_at))

    # ------------------------------------------------------------ inside

    async def _read(self, look: Callable[[Reader], T]) -> T:
        def inside() -> T:
            with self._database.read() as read:
                return look(read)

        return await asyncio.to_thread(inside)

    async def _write(self, change: Callable[..., T], *args: object) -> T:
        def inside() -> T:
            with self._database.write() as tx:
                return change(tx, *args)

        return await asyncio.to_thread(inside)


def _told(change: Change) -> tuple[int, Kind | None, str]:
    """Tenant, and what is to be told because of a change; None for most."""
    if change.kind is ChangeKind.COMPLETE:
        return change.tenant_id, Kind.AVAILABILITY, str(change.instance_id)
    if change.kind in (ChangeKind.REJECTED, ChangeKind.RESTORED) and change.study_id:
        return change.tenant_id, Kind.UNAVAILABLE, str(change.study_id)
    return change.tenant_id, None, ""


def _wanting(read: Reader | Writer, tenant: int) -> list[Addressee]:
    """The peers with the setting `notify`."""
    return [
        Addressee(str(peer.more.get("aet", "")), peer.name)
        for peer in accounts.peers(read, tenant)
        if peer.more.get("notify")
    ]


def _peer(read: Reader, report: PeerReport) -> Peer | None:
    """Under its name, or else under its AE title: it may have become a peer, or another one, meanwhile."""
    named = accounts.peer(read, report.tenant_id, report.to.peer) if report.to.peer else None
    peers = accounts.peers(read, report.tenant_id)
    return named or next((peer for peer in peers if peer.more.get("aet") == report.to.aet), None)


def _subject(read: Reader, report: PeerReport) -> CommitmentResult | Available | None:
    """What there is to tell; None when it is forgotten."""
    if report.kind is Kind.COMMITMENT:
        found = commitments.get(read, report.tenant_id, report.subject)
        if found is None or not found.done:
            return None
        return CommitmentResult(
            "done",
            found.transaction_uid,
            found.requested_at,
            tuple((sop_class, sop) for sop_class, sop in found.result["committed"]),
            tuple((sop_class, sop, reason) for sop_class, sop, reason in found.result["failed"]),
        )
    if report.kind is Kind.UNAVAILABLE:
        held, rejected = availability.whole(read, int(report.subject))
        return Available(arrivals.study_uid(read, int(report.subject)), held, rejected) if held else None
    completion = arrivals.completion(read, int(report.subject))
    if completion is None:
        return None
    series = availability.arrived(read, completion)
    return Available(arrivals.study_uid(read, completion.study_id), series) if series else None
