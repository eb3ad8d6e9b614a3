"""What has to happen beside the requests, in a process of its own.

Owns: the rhythm of checkpoints, of copying the audit trail into the log, of forgetting what has expired, and of taking
over what dead processes left. Must never: be needed for an acknowledgement; if this process is gone, images are stored
and read as before. Every task is repeatable: a crash repeats at most one round of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from radiolith.archive.commit import Committer
from radiolith.archive.commitment import Commitment
from radiolith.archive.rebuild import ALIVE, Rebuild
from radiolith.archive.verify import Verify
from radiolith.index import accounts, audit, commitments, knocks, segments, sign_ins
from radiolith.index.database import Database
from radiolith.jobs.merging import Merging
from radiolith.model import Fact, Failure
from radiolith.storage.blobs import Log

CHECKPOINT = 1.0  # seconds; keeps the write-ahead log a few megabytes long
AUDIT = 4.0  # with AUDIT_AGE: the last ten seconds of read audit are all a lost database takes along
AUDIT_AGE = 4_000_000  # microseconds; a transaction with an older row has ended by then
SWEEP = 30.0
MERGE = 20.0
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the housekeeping works on."""

    database: Database
    store: Log
    committer: Committer
    commitment: Commitment
    verify: Verify
    rebuild: Rebuild
    merging: Merging | None  # only an object store needs it
    clock: Callable[[], int]
    node: str


class Housekeeping:
    def __init__(self, parts: Parts):
        self._parts = parts
        self._started = parts.clock()
        self._problems: list[str] = []  # what the proof of keys at the start found; the nodes table tells the others

    async def run(self, stop: asyncio.Event) -> None:
        """All tasks in their rhythm until `stop` is set, then one last round of the audit copy."""
        tasks = [
            self._guarded(self._prove_keys),
            self._every(CHECKPOINT, self._checkpoint, stop),
            self._every(AUDIT, self._copy_audit, stop),
            self._every(SWEEP, self._sweep, stop),
        ]
        if self._parts.merging is not None:
            tasks.append(self._every(MERGE, self._merge, stop))
        await asyncio.gather(*tasks)
        await self._guarded(self._copy_audit)
        await self._guarded(self._checkpoint)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._guarded(work)
            try:
                await asyncio.wait_for(stop.wait(), seconds)
            except TimeoutError:
                pass

    @staticmethod
    async def _guarded(work: Callable[[], Awaitable[None]]) -> None:
        """A round that fails is told and tried again; the others go on."""
        try:
            await work()
        except Failure as failure:
            log.warning("housekeeping failed", task=work.__name__, reason=str(failure))
        except Exception:
            log.exception("housekeeping failed", task=work.__name__)

    async def _checkpoint(self) -> None:
        await asyncio.to_thread(self._parts.database.checkpoint)

    async def _prove_keys(self) -> None:
        """Every segment has a working key, or somebody must know at once."""
        self._problems = await asyncio.to_thread(self._parts.verify.prove_keys)
        for problem in self._problems:
            log.error("a segment cannot be read", problem=problem)
        await self._sweep()

    async def _copy_audit(self) -> None:
        """A follower: rows of the trail become facts, so that they outlive the database."""
        parts = self._parts
        with parts.database.read() as read:
            tenants = accounts.tenants(read)
        for tenant in tenants:
            while True:
                with parts.database.read() as read:
                    body = audit.uncopied(read, tenant.id, parts.clock() - AUDIT_AGE)
                if body is None:
                    break
                await parts.committer.fact(Fact("audit", parts.clock(), parts.node, tenant.uid, body))

    async def _sweep(self) -> None:
        parts, now = self._parts, self._parts.clock()

        def forget() -> None:
            with parts.database.write() as tx:
                accounts.expire_sessions(tx, now)
                sign_ins.forget(tx, now)
                commitments.prune(tx, now)
                knocks.prune(tx, now)
                segments.beat(tx, parts.node, self._started, now, json.dumps({"problems": self._problems[:100]}))

        await asyncio.to_thread(forget)
        await parts.commitment.resume()

    async def _merge(self) -> None:
        merging = self._parts.merging
        assert merging is not None
        if await asyncio.to_thread(merging.take):
            await asyncio.to_thread(self._parts.rebuild.recover, ALIVE)  # what dead nodes left
            await asyncio.to_thread(merging.run)
