"""Who looked at what: one record per principal, study, purpose, worker and 15 minutes, durable before the first byte.

Owns: the open windows of this process and the thread that makes them durable. Must never: let a read go on whose record
could not be written, or hold it up for one that exists. Limits: a window's count is written again every FLUSH seconds,
so after a crash it is a lower bound; WINDOWS open windows.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from radiolith.index import audit
from radiolith.index.database import Database
from radiolith.model import AuditEvent, Failure, Principal, Unavailable
from radiolith.trust.access import Action

FLUSH = 5.0  # seconds between two writes of counts
WINDOWS = 50_000  # about 200 bytes each; beyond, old ones are closed and may be opened again
Key = tuple[int, str, str, str, int]
log = structlog.get_logger()


@dataclass(slots=True)
class _Opening:
    key: Key
    event: AuditEvent
    loop: asyncio.AbstractEventLoop | None
    future: asyncio.Future[None] | None


class ReadAudit:
    """One per process. `note` from any event loop."""

    def __init__(self, database: Database, worker: str, clock: Callable[[], int]):
        self._database, self._worker, self._clock = database, worker, clock
        self._open: dict[Key, int] = {}  # window -> its row
        self._counts: dict[int, int] = {}  # row -> reads not written yet
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Opening | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)  # daemon: `stop` drains it
        self._thread.start()

    async def note(self, principal: Principal, study: str, purpose: str, count: int) -> None:
        """Return once the trail holds a record of this access. Raises Unavailable when it cannot be written."""
        now = self._clock()
        key = (principal.tenant.id, principal.name, study, purpose, now // audit.WINDOW)
        with self._lock:
            row = self._open.get(key)
            if row is not None:
                self._counts[row] = self._counts.get(row, 0) + count
                return
        action = "query" if purpose == "query" else "retrieve"
        event = AuditEvent(
            now, principal.tenant.id, principal.name, action, study, purpose, "success", self._worker, count
        )
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._queue.put(_Opening(key, event, loop, done))
        await done

    def refused(self, principal: Principal, action: Action) -> None:
        """A try that was not allowed: one record a window, and nobody waits for it, nothing was given."""
        now = self._clock()
        purpose = f"refused {action.value}"
        key = (principal.tenant.id, principal.name, "", purpose, now // audit.WINDOW)
        with self._lock:
            row = self._open.get(key)
            if row is not None:
                self._counts[row] = self._counts.get(row, 0) + 1
                return
        event = AuditEvent(now, principal.tenant.id, principal.name, action.value, "", purpose, "refused", self._worker)
        self._queue.put(_Opening(key, event, None, None))

    async def stop(self) -> None:
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        more = True
        while more:
            batch: list[_Opening] = []
            try:
                item = self._queue.get(timeout=FLUSH)
                while item is not None:
                    batch.append(item)
                    item = self._queue.get_nowait()
                more = False
            except queue.Empty:
                pass
            failure = self._write(batch)
            for opening in batch:
                _answer(opening, failure)

    def _write(self, batch: list[_Opening]) -> Failure | None:
        """All new windows and all changed counts in one transaction."""
        with self._lock:
            counts, self._counts = self._counts, {}
            fresh = {o.key: o.event for o in batch if o.key not in self._open}
        if not fresh and not counts:
            return None
        try:
            with self._database.write() as tx:
                rows = audit.insert(tx, list(fresh.values())) if fresh else []
                if counts:
                    audit.bump(tx, counts)
        except Failure as failure:
            return self._unwritten(counts, failure)
        except Exception as error:
            log.exception("audit could not be written", worker=self._worker)
            return self._unwritten(counts, Unavailable(f"the audit trail cannot be written ({type(error).__name__})"))
        with self._lock:
            if len(self._open) > WINDOWS:
                self._open.clear()
            self._open.update(zip(fresh, rows, strict=True))
        return None

    def _unwritten(self, counts: dict[int, int], failure: Failure) -> Failure:
        with self._lock:
            for row, count in counts.items():
                self._counts[row] = self._counts.get(row, 0) + count
        return failure


def _answer(opening: _Opening, failure: Failure | None) -> None:
    loop, future = opening.loop, opening.future
    if loop is None or future is None:
        return

    def settle() -> None:
        if future.done():
            return
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop was closed: nobody waits any more
        pass
