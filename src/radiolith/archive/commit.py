"""Group commit: everything that arrived while the last sync ran becomes durable together.

Owns: the order in which durability happens — keys, segment, transaction, answers — and the one thread per process that
does it. Must never: scan, authorise or know a protocol. Limits: a batch is bounded by BATCH_BYTES and BATCH_TASKS; what is
sealed and not yet durable by half the pool, so that what is being prepared always finds room in the other half.

Tried first: one transaction per instance (a sync each, 1 ms), and two threads so that the transaction of batch n
overlaps the sync of batch n + 1; the second gains nothing while the device syncs faster than Python prepares.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from radiolith import metrics
from radiolith.archive.tasks import (
    FACT_META,
    FactTask,
    ObjectTask,
    QuarantineTask,
    Settled,
    Task,
    fact_draft,
    is_indexed,
)
from radiolith.index import audit, facts, instances, quarantine, segments, words
from radiolith.index.database import Database
from radiolith.index.session import Contention
from radiolith.model import AuditEvent, Blob, Fact, Failure, Outcome, Place, Scope, Unavailable
from radiolith.storage.blobs import Draft, Log
from radiolith.trust.keys import FACTS, Keys, Label

BATCH_BYTES = 8 << 20  # 15 CT slices: more gains nothing, a sync costs 1 ms and 8 MiB 5 ms
BATCH_TASKS = 512  # bounds the transaction: 512 rows take about 10 ms
TRIES = 8  # of one transaction: of N that wait for each other N - 1 go on, and two nodes have 2 x 4 at once
PATIENT_BYTES = 4 << 20  # a batch that nobody waits for yet begins at this size, so that disk and sender work at once,
PATIENT_TASKS = 16  # or at this number of objects,
PATIENT_SECONDS = 0.02  # or when its first has waited so long
log = structlog.get_logger()


@dataclass(slots=True)
class _Waiting:
    task: Task
    size: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Settled]
    more: bool
    answer: Settled | Exception | None = field(default=None)


class _Push:
    """In the queue: somebody waits now for what stands before it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a commit touches, in this order."""

    keys: Keys
    store: Log
    database: Database


class Committer:
    """One per process. `submit` from any event loop; everything else happens on the commit thread."""

    def __init__(self, parts: Parts, worker: str, pool_bytes: int, clock: Callable[[], int]):
        self._store, self._keys, self._database = parts.store, parts.keys, parts.database
        self._clock, self._worker, self._outstanding_max = clock, worker, pool_bytes // 2
        self._queue: queue.SimpleQueue[_Waiting | _Push | None] = queue.SimpleQueue()
        self._outstanding = 0
        self._stopped = False
        self._room: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._lock = threading.Lock()
        self._voids: list[Task] = []  # refused after they were durable
        self._voided: list[tuple[Fact, Draft]] = []  # voids in the log that the index has not heard of
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        # daemon: at exit `stop` has drained it; if it hangs in a dead disk, nothing acknowledged is lost with it
        self._thread.start()

    # ------------------------------------------------------------ the event loop's side

    async def room(self) -> None:
        """Wait until less than half the pool is under way: back-pressure from the disk to the socket."""
        while self._outstanding >= self._outstanding_max:
            loop = asyncio.get_running_loop()
            gate: asyncio.Future[None] = loop.create_future()
            with self._lock:
                if self._outstanding < self._outstanding_max:
                    return
                self._room.append((loop, gate))
            await gate

    def submit(self, task: Task, *, more: bool = False) -> asyncio.Future[Settled]:
        """The future resolves when the task is durable and indexed, or fails with a model.Failure.

        more: the sender goes on sending before it wants this answer; it calls `push` when it does. A batch of such
        tasks may wait for company (PATIENT_…): much of the work is per batch.
        """
        loop = asyncio.get_running_loop()
        size = 0 if task.draft.streaming else task.draft.size
        waiting = _Waiting(task, size, loop, loop.create_future(), more)
        with self._lock:
            self._outstanding += size
        if self._stopped:  # nobody takes anything from the queue any more
            waiting.answer = Unavailable("the archive is stopping", retry_after=1)
            self._answer([waiting])
            task.draft.discard()
        else:
            self._queue.put(waiting)
        return waiting.future

    def push(self) -> None:
        """What was submitted with `more` is wanted now."""
        self._queue.put(_Push())

    def fact(
        self, fact: Fact, label: Label | None = None, events: Sequence[AuditEvent] = ()
    ) -> asyncio.Future[Settled]:
        """Write a decision to the log and apply it, in one batch with everything else."""
        draft = fact_draft(self._store, fact)
        return self.submit(FactTask(draft, label or (fact.tenant, FACTS, ""), fact, tuple(events)))

    async def stop(self) -> None:
        """Everything submitted is settled on return."""
        self._stopped = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # ------------------------------------------------------------ the commit thread

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._gather()
            if batch:
                try:
                    self._settle(batch)
                except BaseException:  # this thread must outlive whatever happens to a batch: everybody waits for it
                    for waiting in batch:
                        waiting.answer = Unavailable("the batch could not be committed")
                    with contextlib.suppress(Exception):  # even a log that cannot be written
                        log.exception("commit thread", worker=self._worker)
                self._answer(batch)

    def _gather(self) -> tuple[list[_Waiting], bool]:
        """Whatever is there: the first blocks, the rest is what arrived while the last batch was being synced."""
        batch: list[_Waiting] = []
        size, wanted, begun = 0, False, 0.0
        item = self._queue.get()
        while item is not None:
            if isinstance(item, _Push):
                wanted = True
            else:
                begun = begun or time.monotonic()
                batch.append(item)
                size += item.size
                wanted = wanted or not item.more
                if size >= BATCH_BYTES or len(batch) >= BATCH_TASKS:
                    return batch, True
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                left = begun + PATIENT_SECONDS - time.monotonic()
                if wanted or size >= PATIENT_BYTES or len(batch) >= PATIENT_TASKS or left <= 0:
                    return batch, True
                try:
                    item = self._queue.get(timeout=left)
                except queue.Empty:
                    return batch, True
        return batch, False

    def _settle(self, batch: list[_Waiting]) -> None:
        begun = time.perf_counter()
        try:
            self._flush_voids()
            fresh = self._sift(batch)
            if fresh:
                fresh, refused = self._make_durable(fresh)
                for waiting in batch:  # the same bytes twice in a batch, and the first of them was refused
                    if isinstance(waiting.answer, Settled) and waiting.answer.object_id in refused:
                        waiting.answer = refused[waiting.answer.object_id]
            self._apply(batch, fresh)
        except Failure as failure:
            self._refuse(batch, failure)
        except Exception as error:  # a bug or a broken engine: nothing of this batch was acknowledged
            log.exception("commit failed", worker=self._worker)
            self._refuse(batch, Unavailable(f"the batch could not be committed ({type(error).__name__})"))
        metrics.commit_seconds.observe(time.perf_counter() - begun)

    def _sift(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Answer what is already held byte for byte, in the index or earlier in this batch; the rest is fresh."""
        identities: dict[int, list[ObjectTask]] = {}
        for waiting in batch:
            if isinstance(waiting.task, ObjectTask):
                identities.setdefault(waiting.task.incoming.tenant.id, []).append(waiting.task)
        held: dict[tuple[object, bytes], bytes] = {}
        if identities:
            with self._database.peek() as read:
                for tenant, tasks in identities.items():
                    found = instances.find_existing(read, tenant, [t.incoming.identity for t in tasks])
                    for identity, versions in found.items():
                        held |= {((tenant, identity), version.sha256): version.blob.object_id for version in versions}
        fresh: list[_Waiting] = []
        for waiting in batch:
            task = waiting.task
            if isinstance(task, ObjectTask):
                key = ((task.incoming.tenant.id, task.incoming.identity), task.incoming.sha256)
                if key in held:
                    task.draft.discard()
                    waiting.answer = Settled(Outcome.DUPLICATE, held[key])
                    continue
                held[key] = task.draft.object_id
            fresh.append(waiting)
        return fresh

    def _make_durable(self, fresh: list[_Waiting]) -> tuple[list[_Waiting], dict[bytes, Exception]]:
        scopes = self._keys.scopes(waiting.task.label for waiting in fresh)
        sealed: list[tuple[_Waiting, Scope, bytes]] = []
        for waiting in fresh:
            task = waiting.task
            scope = scopes[task.label]
            wrapped = self._keys.wrap(task.label[0], scope, task.draft.key)
            task.draft.seal(scope, wrapped, task.meta)
            sealed.append((waiting, scope, wrapped))
        places = self._store.commit([waiting.task.draft for waiting in fresh])
        kept: list[_Waiting] = []
        refused: dict[bytes, Exception] = {}
        for (waiting, scope, wrapped), place in zip(sealed, places, strict=True):
            task = waiting.task
            if place is None:  # a streamed object whose own segment failed; the others of the batch are not touched
                waiting.answer = task.draft.failure or Unavailable("the object could not be written")
                refused[task.draft.object_id] = waiting.answer
                continue
            kept.append(waiting)
            blob = Blob(place, task.draft.object_id, task.label[0], scope, wrapped, task.draft.size)
            if isinstance(task, ObjectTask):
                task.incoming = replace(task.incoming, blob=blob)
            elif isinstance(task, QuarantineTask):
                task.row = replace(task.row, blob=blob)
        return kept, refused

    def _apply(self, batch: list[_Waiting], fresh: list[_Waiting]) -> None:
        """Rows, changes and audit of the whole batch in one transaction; a failure voids what is in the log."""
        try:
            self._store.backend.steps("transaction")
            self._transact_again(batch, fresh)
        except Exception:
            self._voids += [waiting.task for waiting in fresh]
            try:
                self._flush_voids()
            except Exception:
                log.warning("a refused batch could not be voided yet", objects=len(self._voids))
            raise
        self._store.backend.steps("answer")

    def _transact_again(self, batch: list[_Waiting], fresh: list[_Waiting]) -> None:
        """`_transact`, until nobody is in the way; from the second time on in turn with those who decide."""
        for number in range(TRIES - 1):
            with contextlib.suppress(Contention):  # rolled back whole, and the rows are free now
                return self._transact(batch, fresh, in_turn=number > 0)
        return self._transact(batch, fresh, in_turn=True)

    def _transact(self, batch: list[_Waiting], fresh: list[_Waiting], *, in_turn: bool) -> None:
        with self._database.write(durable=False) as tx:  # the log is: docs/decisions/005
            objects = [(w, w.task.incoming) for w in fresh if isinstance(w.task, ObjectTask)]
            for tenant_id in sorted({one.tenant.id for _, one in objects}) if in_turn else ():
                words.lock(tx, tenant_id)
            verdicts = instances.insert(tx, [incoming for _, incoming in objects])
            for (waiting, _), verdict in zip(objects, verdicts, strict=True):
                waiting.answer = Settled(verdict.outcome, waiting.task.draft.object_id, verdict.held)
            for waiting in fresh:
                if isinstance(waiting.task, QuarantineTask):
                    quarantine.add_quarantined(tx, waiting.task.tenant, waiting.task.row)
                    waiting.answer = Settled(Outcome.QUARANTINED, waiting.task.draft.object_id)
                elif isinstance(waiting.task, FactTask):
                    facts.apply(tx, waiting.task.fact, waiting.task.draft.object_id)
                    waiting.answer = Settled(Outcome.STORED, waiting.task.draft.object_id)
            audit.insert(tx, _events(batch))
            segments.note_segments(tx, _ends(fresh))

    def _flush_voids(self) -> None:
        """Tell the log that refused records do not exist, before anything else is acknowledged.

        A commit whose answer was lost may have gone through: what the index holds stays held.
        """
        if self._voids:
            self._void()
        if self._voided:
            with self._database.write() as tx:
                for fact, draft in self._voided:
                    facts.apply(tx, fact, draft.object_id)
                segments.note_segments(tx, _furthest(draft.place for _, draft in self._voided if draft.place))
            self._voided = []

    def _void(self) -> None:
        with self._database.read() as read:
            self._voids = [task for task in self._voids if not is_indexed(read, task)]
        by_tenant: dict[bytes, list[str]] = {}
        for task in self._voids:
            by_tenant.setdefault(task.label[0], []).append(task.draft.object_id.hex())
        made = [
            Fact("void", self._clock(), self._worker, tenant, {"objects": objects})
            for tenant, objects in by_tenant.items()
        ]
        drafts = [self._sealed_fact(fact) for fact in made]
        self._store.commit(drafts)
        self._voids = []
        self._voided += zip(made, drafts, strict=True)

    def _sealed_fact(self, fact: Fact) -> Draft:
        label = (fact.tenant, FACTS, "")
        scope = self._keys.scopes([label])[label]
        draft = fact_draft(self._store, fact)
        draft.seal(scope, self._keys.wrap(fact.tenant, scope, draft.key), FACT_META)
        return draft

    def _refuse(self, batch: list[_Waiting], failure: Failure) -> None:
        for waiting in batch:
            waiting.task.draft.discard()
            waiting.answer = failure

    def _answer(self, batch: list[_Waiting]) -> None:
        """One wake-up per event loop and batch, however many futures."""
        metrics.commit_objects.observe(len(batch))
        with self._lock:
            self._outstanding -= sum(waiting.size for waiting in batch)
            gates, self._room = self._room, []
        loops: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
        for waiting in batch:
            loops.setdefault(waiting.loop, []).append(waiting)
        for loop, some in loops.items():
            _soon(loop, lambda some=some: [_resolve(waiting) for waiting in some])
        for loop, gate in gates:
            _soon(loop, lambda gate=gate: None if gate.done() else gate.set_result(None))


def _ends(fresh: list[_Waiting]) -> dict[bytes, int]:
    return _furthest(place for waiting in fresh if (place := waiting.task.draft.place))


def _furthest(places: Iterable[Place]) -> dict[bytes, int]:
    """Per segment the end of the last record that this transaction names: recovery looks beyond it."""
    ends: dict[bytes, int] = {}
    for place in places:
        ends[place.segment] = max(ends.get(place.segment, 0), place.offset + place.length)
    return ends


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # the loop was closed: nobody is waiting for this answer any more
        pass


def _resolve(waiting: _Waiting) -> None:
    if waiting.future.done():
        return
    if isinstance(waiting.answer, Settled):
        waiting.future.set_result(waiting.answer)
    else:
        waiting.future.set_exception(waiting.answer or Unavailable("the batch ended without an answer"))
        waiting.future.exception()  # a client that went away is no error to report


def _events(batch: list[_Waiting]) -> list[AuditEvent]:
    """A store is one audit record per batch, source and study; facts bring their own."""
    stores: dict[tuple[object, ...], AuditEvent] = {}
    events: list[AuditEvent] = []
    for waiting in batch:
        task = waiting.task
        if isinstance(waiting.answer, Exception):
            continue
        if isinstance(task, FactTask):
            events += task.audit
            continue
        if isinstance(task, ObjectTask):
            who, what = task.incoming, "store"
            tenant, study, at, source = who.tenant.id, who.identity.study, who.received_at, who.source
            principal = who.principal
        else:
            what, tenant, study, at = "quarantine", task.tenant, "", task.row.received_at
            source, principal = task.row.source, task.row.principal
        key = (what, tenant, principal, source, study)
        if key in stores:
            stores[key] = replace(stores[key], count=stores[key].count + 1)
        else:
            where = f"{source.door} {source.peer} {source.address}".strip()
            stores[key] = AuditEvent(at, tenant, principal, what, study, "archive", "success", where)
    return events + list(stores.values())
