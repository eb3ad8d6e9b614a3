"""Who looked at what: one record per principal, study, purpose, worker and 15 minutes, durable before the first byte.

Owns: the open windows of this process and the thread that makes them durable. Must never: let a read go on whose record
could not be written, or hold it up for one that exists. Limits: a window's count is written again every FLUSH seconds,
so after a crash it is a lower bound; WINDOWS open windows.

What was refused, and who failed to come in, is counted the same way by `tally`, but nobody waits for it: nothing was given.
A flood of it is TALLIES records a window at most, and one more for the rest.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import structlog

from radiolith.index import audit
from radiolith.index.database import Database
from radiolith.model import AuditEvent, Failure, Principal, Unavailable
from radiolith.trust.access import Action

FLUSH = 5.0  # seconds between two writes of counts
TALLIES = 200  # records of refusals and failed sign-ins a window, tenant and worker: a flood must not fill the trail or the disk
WINDOWS = 50_000  # about 200 bytes each; beyond, old ones are closed and may be opened again
Key = tuple[int, str, str, str, int]
log = structlog.get_logger()


@dataclass(slots=True)
class _Opening:
    key: Key
    event: AuditEvent
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]


class _Sign(Enum):
    WAKE = 1  # there is a new tally
    STOP = 2


class ReadAudit:
    """One per process. `note` from any event loop."""

    def __init__(self, database: Database, worker: str, clock: Callable[[], int]):
        self._database, self._worker, self._clock = database, worker, clock
        self._open: dict[Key, int] = {}  # window -> its row
        self._counts: dict[int, int] = {}  # row -> reads not written yet
        self._tallies: dict[Key, AuditEvent] = {}  # not written yet
        self._distinct: dict[int, set[Key]] = {}  # tenant -> tallies of the present window
        self._window = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Opening | _Sign] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)  # daemon: `stop` drains it
        self._thread.start()

    async def note(self, principal: Principal, study: str, purpose: str, count: int, *, action: str = "") -> None:
        """Return once the trail holds a record of this access. Raises Unavailable when it cannot be written.

        action: 'retrieve' where none is given, 'query' for that purpose.
        """
        now = self._clock()
        key = (principal.tenant.id, principal.name, study, purpose, now // audit.WINDOW)
        with self._lock:
            row = self._open.get(key)
            if row is not None:
                self._counts[row] = self._counts.get(row, 0) + count
                return
        action = action or ("query" if purpose == "query" else "retrieve")
        event = AuditEvent(
            now, principal.tenant.id, principal.name, action, study, purpose, "success", self._worker, count
        )
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._queue.put(_Opening(key, event, loop, done))
        await done

    def refused(self, principal: Principal, action: Action) -> None:
        """A try that was not allowed."""
        purpose, outcome = f"refused {action.value}", "refused"
        self.tally(
            AuditEvent(
                self._clock(), principal.tenant.id, principal.name, action.value, "", purpose, outcome, self._worker
            )
        )

    def tally(self, event: AuditEvent) -> None:
        """One record a window and kind of event, with a count. Never blocks on the database, from any thread."""
        window = event.at // audit.WINDOW
        with self._lock:
            if window != self._window:
                self._window, self._distinct = window, {}
            seen = self._distinct.setdefault(event.tenant, set())
            key = _tally_key(event, window)
            if key not in seen and len(seen) >= TALLIES:
                event = replace(event, principal="", source="", study="", detail="and others")
                key = _tally_key(event, window)
            seen.add(key)
            row, waiting = self._open.get(key), self._tallies.get(key)
            if row is not None:
                self._counts[row] = self._counts.get(row, 0) + event.count
                return
            self._tallies[key] = replace(waiting, count=waiting.count + event.count) if waiting else event
        if waiting is None:
            self._queue.put(_Sign.WAKE)

    async def stop(self) -> None:
        self._queue.put(_Sign.STOP)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        more = True
        while more:
            batch: list[_Opening] = []
            try:
                item = self._queue.get(timeout=FLUSH)
                while item is not _Sign.STOP:
                    if isinstance(item, _Opening):
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
            tallies, self._tallies = self._tallies, {}
            fresh = {o.key: o.event for o in batch if o.key not in self._open}
            for key, event in tallies.items():
                if key in self._open:  # opened while this one came in
                    counts[self._open[key]] = counts.get(self._open[key], 0) + event.count
                else:
                    fresh[key] = event
        if not fresh and not counts:
            return None
        try:
            with self._database.write() as tx:
                rows = audit.insert(tx, list(fresh.values())) if fresh else []
                if counts:
                    audit.bump(tx, counts)
        except Failure as failure:
            return self._unwritten(counts, tallies, failure)
        except Exception as error:
            log.exception("audit could not be written", worker=self._worker)
            failure = Unavailable(f"the audit trail cannot be written ({type(error).__name__})")
            return self._unwritten(counts, tallies, failure)
        with self._lock:
            if len(self._open) > WINDOWS:
                self._open.clear()
            self._open.update(zip(fresh, rows, strict=True))
        return None

    def _unwritten(self, counts: dict[int, int], tallies: dict[Key, AuditEvent], failure: Failure) -> Failure:
        """Kept for the next round, a flush later at most."""
        with self._lock:
            for row, count in counts.items():
                self._counts[row] = self._counts.get(row, 0) + count
            for key, event in tallies.items():
                if key not in self._open:
                    later = self._tallies.get(key)
                    self._tallies[key] = replace(event, count=event.count + later.count) if later else event
        return failure


def _tally_key(event: AuditEvent, window: int) -> Key:
    kind = "\0".join((event.outcome, event.action, event.purpose, event.source))
    return event.tenant, event.principal, event.study, kind, window


def _answer(opening: _Opening, failure: Failure | None) -> None:
    future = opening.future

    def settle() -> None:
        if future.done():
            return
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)

    try:
        opening.loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop was closed: nobody waits any more
        pass
