"""Storage commitment: "we keep these" is said only after the stored bytes were read again and their hash agreed.

Owns: the judgement per instance. Must never: answer from the index alone, or from bytes that come from the page cache
where the medium can be asked (the read drops the cached pages first). Limits: one instance after another per request; a
request whose worker died is taken over after STALE; whoever works on one says so every BEAT seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from itertools import islice

import structlog

from radiolith.archive.ports import CommitmentResult
from radiolith.archive.reading import PIECE, Reading
from radiolith.index import audit, commitments, instances, peer_reports
from radiolith.index.database import Database
from radiolith.index.peer_reports import Addressee, Kind, PeerReport, State
from radiolith.model import (
    AuditEvent,
    Conflict,
    Damaged,
    Failure,
    Held,
    LimitExceeded,
    NotFound,
    Principal,
    Unavailable,
)
from radiolith.trust.access import Action, allows, require
from radiolith.trust.audit import ReadAudit

ITEMS = 200_000  # instances of one study or series; a held row is about 1 KiB
STALE = 60_000_000  # microseconds
BEAT = 15.0  # seconds; a request may take hours, and one object of it minutes
GRACE = 6_000_000  # microseconds for whoever was asked to report on the association of the request
NO_SUCH_INSTANCE, CLASS_CONFLICT, PROCESSING_FAILURE = 0x0112, 0x0119, 0x0110  # PS3.4 J.3.3, failure reasons
log = structlog.get_logger()


class Commitment:
    def __init__(self, database: Database, reading: Reading, trail: ReadAudit, clock: Callable[[], int]):
        self._database, self._reading, self._trail, self._clock = database, reading, trail, clock
        self._tasks: dict[tuple[int, str], asyncio.Task[None]] = {}

    async def items(self, principal: Principal, study: str, series: str = "") -> list[tuple[str, str]]:
        """(SOP class, SOP instance) of what a request for a whole study or series means. Raises NotFound when nothing.

        Who may not read gets what it stored itself: whatever a modality asks, it learns of nobody else's instances.
        """
        require(principal, Action.COMMIT)
        sees_all = allows(principal, Action.RETRIEVE)

        def look() -> list[Held]:
            with self._database.read() as read:
                rows = instances.locate(
                    read, principal.tenant.id, study, series or None, current_only=sees_all
                )  # what it sent may have become an older version
                return list(islice((held for held in rows if sees_all or held.principal == principal.name), ITEMS + 1))

        found = await self._reading.run(look)
        if not found:
            raise NotFound("nothing is held under this UID")
        if len(found) > ITEMS:
            raise LimitExceeded(f"more than {ITEMS} instances in one request; ask series by series")
        await self._trail.note(principal, study, "commitment items", len(found), action="commitment")
        return list(dict.fromkeys((held.sop_class, held.identity.sop) for held in found))

    async def request(
        self, principal: Principal, transaction_uid: str, items: list[tuple[str, str]], to: Addressee | None = None
    ) -> None:
        """Begin to verify (SOP class, SOP instance) pairs; idempotent. Raises Conflict for a UID used for other items.

        to: who is told the result by us, every time it asks (`jobs.reports`); None asks for it itself.
        """
        require(principal, Action.COMMIT)
        now, tenant = self._clock(), principal.tenant.id

        def add() -> bool:
            with self._database.write() as tx:
                audit.insert(
                    tx,
                    [AuditEvent(now, tenant, principal.name, "commitment", count=len(items), detail=transaction_uid)],
                )
                new = commitments.add(tx, tenant, transaction_uid, now, items)
                held = None if new else commitments.get(tx, tenant, transaction_uid)
                if held and held.items != [list(item) for item in items]:
                    raise Conflict("this transaction UID belongs to another request")
                if to is not None:
                    peer_reports.put(tx, tenant, (Kind.COMMITMENT, transaction_uid), to, (now, now + GRACE))
                return new

        if await self._reading.run(add):
            self._begin(tenant, transaction_uid, items, now)

    async def result(self, principal: Principal, transaction_uid: str) -> CommitmentResult | None:
        """What is known of a request; None when there is none."""
        require(principal, Action.COMMIT)

        def look() -> commitments.Request | None:
            with self._database.read() as read:
                return commitments.get(read, principal.tenant.id, transaction_uid)

        found = await self._reading.run(look)
        await self._trail.note(principal, "", "commitment result", 1, action="commitment")
        if found is None:
            return None
        if not found.done:
            await self._take_over(found)
            return CommitmentResult("pending", transaction_uid, found.requested_at)
        return CommitmentResult(
            "done",
            transaction_uid,
            found.requested_at,
            tuple((sop_class, sop) for sop_class, sop in found.result["committed"]),
            tuple((sop_class, sop, reason) for sop_class, sop, reason in found.result["failed"]),
        )

    # ------------------------------------------------------------ telling it

    async def settled(self, principal: Principal, transaction_uid: str, seconds: float) -> CommitmentResult | None:
        """The result of a request that this process verifies, waited for; what `result` gives when time is up."""
        task = self._tasks.get((principal.tenant.id, transaction_uid))
        if task is not None:
            await asyncio.wait({task}, timeout=seconds)
        return await self.result(principal, transaction_uid)

    async def take_report(
        self, principal: Principal, transaction_uid: str, aet: str, microseconds: int
    ) -> PeerReport | None:
        """Take up the report that a request ordered, for so long; None when somebody else sends it, or has sent it."""
        require(principal, Action.COMMIT)

        def claim() -> PeerReport | None:
            with self._database.write() as tx:
                found = peer_reports.find(tx, principal.tenant.id, (Kind.COMMITMENT, transaction_uid), aet)
                return peer_reports.claim(tx, found, self._clock() + microseconds) if found else None

        return await self._reading.run(claim)

    async def reported(self, taken: PeerReport, said: str = "") -> None:
        """The peer has taken the report, or not, and why: then it is due again at once."""

        def leave() -> None:
            with self._database.write() as tx:
                peer_reports.leave(tx, taken, State.WAITING if said else State.REPORTED, said, self._clock())

        await self._reading.run(leave)

    async def told_available(self, principal: Principal, study: str) -> None:
        """Somebody else says that it has a study (PS3.4 annex R): on record when this returns, and that is all."""
        require(principal, Action.COMMIT)
        await self._trail.note(principal, study, "available elsewhere", 1, action="notification")

    async def resume(self) -> None:
        """Take over what a dead process left; called by the jobs process."""

        def look() -> list[commitments.Request]:
            with self._database.read() as read:
                return commitments.abandoned(read, self._clock() - STALE)

        for request in await self._reading.run(look):
            await self._take_over(request)

    async def idle(self) -> None:
        """Until every request that this process has begun to verify is answered, or given up."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _take_over(self, request: commitments.Request) -> None:
        now = self._clock()
        if now - request.claimed_at < STALE or (request.tenant_id, request.transaction_uid) in self._tasks:
            return

        def claim() -> bool:
            with self._database.write() as tx:
                return commitments.claim(tx, request.tenant_id, request.transaction_uid, request.claimed_at, now)

        if await self._reading.run(claim):
            self._begin(request.tenant_id, request.transaction_uid, [(a, b) for a, b in request.items], now)

    def _begin(self, tenant: int, transaction_uid: str, items: list[tuple[str, str]], claimed_at: int) -> None:
        key = (tenant, transaction_uid)
        task = self._tasks[key] = asyncio.ensure_future(self._verify(tenant, transaction_uid, items))
        beat = asyncio.ensure_future(self._hold(tenant, transaction_uid, claimed_at))

        def ended(done: asyncio.Task[None]) -> None:
            beat.cancel()
            if self._tasks.get(key) is done:
                del self._tasks[key]

        task.add_done_callback(ended)

    async def _hold(self, tenant: int, transaction_uid: str, claimed_at: int) -> None:
        """Say that somebody works on a request, as long as nobody else has taken it over."""
        held = True
        while held:
            await asyncio.sleep(BEAT)
            now = self._clock()

            def claim(before: int = claimed_at, now: int = now) -> bool:
                with self._database.write() as tx:
                    return commitments.claim(tx, tenant, transaction_uid, before, now)

            try:
                held = await self._reading.run(claim)
            except Failure as failure:  # the next beat may get through
                log.warning("storage commitment: a request is not held", reason=str(failure))
            else:
                claimed_at = now

    async def _verify(self, tenant: int, transaction_uid: str, items: list[tuple[str, str]]) -> None:
        committed: list[tuple[str, str]] = []
        failed: list[tuple[str, str, int]] = []
        try:
            for sop_class, sop in items:
                reason = await self._reading.run(self._judge, tenant, sop_class, sop)
                if reason:
                    failed.append((sop_class, sop, reason))
                else:
                    committed.append((sop_class, sop))

            def finish() -> None:
                with self._database.write() as tx:
                    commitments.finish(tx, tenant, transaction_uid, {"committed": committed, "failed": failed})

            await self._reading.run(finish)
        except Failure as failure:  # it stays pending, and is taken over
            log.warning("storage commitment interrupted", reason=str(failure))

    def _judge(self, tenant: int, sop_class: str, sop: str) -> int:
        """0 when every held current instance of this UID was re-read and agreed, else the failure reason.

        Asked is whether the bytes are kept (PS3.4 J.3), not whether they are shown or how: what was amended, moved or
        rejected is kept as it came until it is destroyed, and the UID stays. A device that got another answer would send
        again what somebody here has just rejected.
        """
        with self._database.read() as read:
            held = instances.by_sop(read, tenant, sop, include_rejected=True)
        if not held:
            return NO_SUCH_INSTANCE
        if sop_class and all(one.sop_class != sop_class for one in held):
            return CLASS_CONFLICT
        return 0 if all(self._reread(one) for one in held) else PROCESSING_FAILURE

    def _reread(self, held: Held) -> bool:
        digest, layout = hashlib.sha256(), held.layout
        self._reading.forget_cached(held)
        try:
            for at in range(layout.dataset_start, layout.dataset_end, PIECE):
                digest.update(self._reading.range_now(held, at, min(layout.dataset_end, at + PIECE)))
        except (Damaged, NotFound, Unavailable):
            return False
        return digest.digest() == held.sha256
