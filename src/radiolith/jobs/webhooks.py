"""Tells webhooks what happened: follows the feed for each of them, posts, tries again, gives up.

Owns: batches, signatures, back-off, giving up. Must never: post a batch before the one in front of it was delivered or given up,
or count as delivered what was not answered 2xx. Any number of runners on any number of nodes: the cursor moves by comparison, so
every event is in one batch, and a batch belongs to whoever has taken it up.

What a kill leaves: a batch whose answer was not noted is posted again after LEASE; its events have the same numbers. What has not
got through after GIVE_UP waits for a person, and the next goes on. A feed that begins (a rebuilt index) is told as far back as
something could still be waiting, GIVE_UP. Limits below.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from radiolith import __version__, metrics
from radiolith.archive import happenings
from radiolith.archive.happenings import VISIBLE, Seen, kinds_of, parsed, text
from radiolith.archive.webhooks import KIND, Webhook, webhook_of
from radiolith.index import accounts, changes, deliveries, registry
from radiolith.index.changes import Cursor
from radiolith.index.database import Database
from radiolith.index.deliveries import Batch, Delivery, State, cursor_name
from radiolith.index.session import Reader, Writer
from radiolith.jobs.outbox import pause
from radiolith.model import Failure, Principal, Tenant
from radiolith.trust.access import Action
from radiolith.trust.audit import ReadAudit

T = TypeVar("T")
POLL = 1.0  # seconds between two looks for what is new or due
BATCH = 100  # events of one request, some 30 KiB
TURN = 20  # batches of one webhook before another has its turn
AT_ONCE = 8  # webhooks that are told at the same time
LEASE = 60_000_000  # microseconds: longer than a request with all its deadlines
GIVE_UP = 3 * 86_400_000_000  # microseconds: a weekend without anybody at the target
SWEEP = 3_600_000_000  # microseconds between two rounds of forgetting
SIGNATURE = "Radiolith-Signature"
log = structlog.get_logger()

Poster = Callable[[str, Mapping[str, str], bytes], Awaitable[None]]
"""Posts a body with headers to an address; returns when it was taken, raises a Failure with a sentence when not."""


@dataclass(frozen=True, slots=True)
class Means:
    """`random`: in [0, 1), spreads retries."""

    database: Database
    post: Poster
    trail: ReadAudit
    clock: Callable[[], int]
    random: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook and whose it is."""

    tenant: Tenant
    webhook: Webhook

    @property
    def key(self) -> tuple[int, str]:
        return self.tenant.id, self.webhook.name

    @property
    def cursor(self) -> str:
        return cursor_name(self.tenant.uid, self.webhook.name)

    @property
    def failing(self) -> str:
        """Name of the cursor whose number says since when (microseconds) nothing gets through, 0 when it does."""
        return f"failing {self.cursor}"

    @property
    def begun(self) -> str:
        """Name of the cursor whose number says how far back (microseconds) a feed is told that began after the webhook."""
        return f"begun {self.cursor}"

    def look(self, read: Reader, cursor: Cursor, since: int, until: Cursor | None = None) -> Seen:
        """What there is to tell behind a cursor, nothing of it before `since`."""
        wanted = kinds_of(self.webhook.kinds) & VISIBLE.get(self.webhook.role, frozenset())
        seen = happenings.look(read, self.tenant.id, cursor, BATCH, wanted, until=until)
        return Seen([event for event in seen.events if event.at >= since], seen.after, seen.more)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A webhook's cursor and what comes behind it; `since`: nothing older is told."""

    before: Cursor
    seen: Seen
    since: int

    @property
    def after(self) -> Cursor:
        return self.seen.after


def signature(secret: str, seconds: int, body: bytes) -> str:
    """The header's value: the moment and HMAC-SHA256 over moment, full stop and body, so that neither can be changed."""
    mac = hmac.new(secret.encode(), b"%d." % seconds + body, hashlib.sha256)
    return f"t={seconds},v1={mac.hexdigest()}"


class WebhookRunner:
    """Runs in the jobs process of every node."""

    def __init__(self, means: Means):
        self._means = means
        self._under_way: dict[tuple[int, str], asyncio.Task[None]] = {}
        self._turn: tuple[int, str] = (0, "")  # the webhook that was begun with last
        self._swept = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; a batch that is under way then is posted again by whoever comes next."""
        while not stop.is_set():
            try:
                await self.start()
            except Failure as failure:
                log.warning("webhooks cannot be looked at", reason=str(failure))
            except Exception:
                log.exception("webhooks cannot be looked at")
            try:
                await asyncio.wait_for(stop.wait(), POLL)
            except TimeoutError:
                pass
        for task in self._under_way.values():
            task.cancel()
        await self.settled()

    async def start(self) -> int:
        """Begin with those that have something to do, as many as the limits allow; how many."""
        self._under_way = {key: task for key, task in self._under_way.items() if not task.done()}
        hooks = await self._read(self._busy)
        now = self._means.clock()
        if now - self._swept >= SWEEP:
            self._swept = now
            await self._write(_forget, now)
        due = [hook for hook in hooks if hook.key not in self._under_way]
        chosen = [hook for hook in due if hook.key > self._turn] + [hook for hook in due if hook.key <= self._turn]
        for hook in (chosen := chosen[: max(0, AT_ONCE - len(self._under_way))]):
            self._turn = hook.key
            self._under_way[hook.key] = asyncio.ensure_future(self._serve(hook))
        return len(chosen)

    async def settled(self) -> None:
        """Wait for all that is under way."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _busy(self, read: Reader) -> list[Hook]:
        """Webhooks with a batch that is due, or with a feed that goes on behind them and nothing in front of it."""
        tip, now, found = changes.tip(read), self._means.clock(), list[Hook]()
        for hook in _hooks(read):
            waiting = deliveries.waiting(read, hook.key)
            if waiting.next_at <= now if waiting else changes.load_cursor(read, hook.cursor) != tip:
                found.append(hook)
        return found

    # ------------------------------------------------------------ one webhook

    async def _serve(self, hook: Hook) -> None:
        try:
            for _ in range(TURN):
                taken = await self._take(hook)
                if taken is None or not await self._deliver(hook, taken):
                    return
        except Failure as failure:
            log.warning("a webhook was interrupted", webhook=hook.webhook.name, reason=str(failure))
        except Exception:
            log.exception("a webhook was interrupted", webhook=hook.webhook.name)

    async def _take(self, hook: Hook) -> Delivery | None:
        """The batch that is next, held by us; None when there is none, or it is not its time, or somebody else has it."""
        while True:
            waiting = await self._read(lambda read: deliveries.waiting(read, hook.key))
            now = self._means.clock()
            if waiting is not None:
                return (
                    await self._write(deliveries.claim, waiting, now, now + LEASE) if waiting.next_at <= now else None
                )
            ahead = await self._read(lambda read: self._ahead(read, hook))
            if ahead.after == ahead.before:
                return None
            moved, made = await self._write(_moved, hook, ahead, now)
            if made is not None or not moved or not ahead.seen.more:
                return made

    def _ahead(self, read: Reader, hook: Hook) -> _Ahead:
        before, begun = changes.load_cursor(read, hook.cursor), changes.load_cursor(read, hook.begun)
        now = changes.epoch(read)
        if before.epoch != now:
            since = max(hook.webhook.made_at, self._means.clock() - GIVE_UP)
        else:
            since = begun.number if begun.epoch == now else 0
        return _Ahead(before, hook.look(read, before, since), since)

    async def _deliver(self, hook: Hook, taken: Delivery) -> bool:
        """Whether the next one may be tried."""
        means = self._means
        body = await self._body(hook, taken)
        if body is not None:
            seconds = means.clock() // 1_000_000
            headers = {
                "Content-Type": "application/json",
                "User-Agent": f"Radiolith/{__version__}",
                "Radiolith-Delivery": str(taken.id),
                SIGNATURE: signature(hook.webhook.secret, seconds, body),
            }
            try:
                await means.trail.note(_as(hook), "", "webhook", taken.batch.events, action=Action.FOLLOW.value)
                await means.post(hook.webhook.url, headers, body)
            except Failure as failure:
                await self._write(self._failed, hook, taken, str(failure))
                return False
            metrics.webhook_deliveries.add("delivered")
        await self._write(_done, hook, taken)
        return True

    async def _body(self, hook: Hook, taken: Delivery) -> bytes | None:
        """The document, None when nothing of it is there to tell any more."""
        batch = taken.batch
        after, until = parsed(batch.after), parsed(batch.until)

        def question(read: Reader) -> list[happenings.Event]:
            found, cursor, begun = list[happenings.Event](), after, changes.load_cursor(read, hook.begun)
            while True:
                seen = hook.look(read, cursor, begun.number if begun.epoch == until.epoch else 0, until)
                found, cursor = found + seen.events, seen.after
                if not seen.more:
                    return found

        found = await self._read(question)
        if not found:
            return None
        document: dict[str, Any] = {
            "webhook": hook.webhook.name,
            "delivery": taken.id,
            "attempt": taken.attempts,
            "epoch": until.epoch,
            "after": batch.until,
            "events": [event.document() for event in found],
        }
        return json.dumps(document, ensure_ascii=False).encode()

    def _failed(self, tx: Writer, hook: Hook, taken: Delivery, said: str) -> None:
        now = self._means.clock()
        since = changes.load_cursor(tx, hook.failing).number or now
        if now - since >= GIVE_UP and now - taken.batch.latest >= GIVE_UP:
            log.warning("a batch of events was given up", webhook=hook.webhook.name, delivery=taken.id, reason=said)
            metrics.webhook_deliveries.add("given_up")
            deliveries.leave(tx, taken, State.GIVEN_UP, said, now)
        else:
            metrics.webhook_deliveries.add("failed")
            changes.save_cursor(tx, hook.failing, Cursor("", 0, since))
            deliveries.leave(tx, taken, State.WAITING, said, now + pause(taken.attempts, self._means.random()))

    # ------------------------------------------------------------ inside

    async def _read(self, look: Callable[[Reader], T]) -> T:
        def inside() -> T:
            with self._means.database.read() as read:
                return look(read)

        return await asyncio.to_thread(inside)

    async def _write(self, change: Callable[..., T], *args: object) -> T:
        def inside() -> T:
            with self._means.database.write() as tx:
                return change(tx, *args)

        return await asyncio.to_thread(inside)


def _hooks(read: Reader) -> list[Hook]:
    """All of all tenants, in a fixed order."""
    return [
        Hook(tenant, webhook_of(entry))
        for tenant in sorted(accounts.tenants(read), key=lambda one: one.id)
        for entry in registry.entries(read, tenant.id, KIND)
    ]


def _moved(tx: Writer, hook: Hook, ahead: _Ahead, now: int) -> tuple[bool, Delivery | None]:
    """Move the cursor, and put what is to be told into a batch held by us: both, or neither. False when the cursor was moved by
    somebody else meanwhile."""
    before, events = ahead.before, ahead.seen.events
    if deliveries.waiting(tx, hook.key) or not changes.advance_cursor(tx, hook.cursor, before, ahead.after):
        return False, None
    begins = before.epoch != ahead.after.epoch
    if begins:
        changes.save_cursor(tx, hook.begun, Cursor(ahead.after.epoch, 0, ahead.since))
    if not events:
        return True, None
    batch = Batch("" if begins else text(before), text(ahead.after), len(events), max(event.at for event in events))
    return True, deliveries.put(tx, hook.key, batch, now, now + LEASE)


def _done(tx: Writer, hook: Hook, taken: Delivery) -> None:
    if deliveries.delivered(tx, taken) and changes.load_cursor(tx, hook.failing).number:
        changes.save_cursor(tx, hook.failing, Cursor())


def _forget(tx: Writer, now: int) -> None:
    deliveries.forget(tx, {hook.key for hook in _hooks(tx)}, now)


def _as(hook: Hook) -> Principal:
    """Who the audit trail says was told."""
    return Principal(hook.tenant, f"webhook {hook.webhook.name}", hook.webhook.role, "system")
