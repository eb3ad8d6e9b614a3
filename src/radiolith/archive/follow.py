"""The change feed, seen from the edges: what happened since, now or as soon as it happens.

Owns: waiting. One look every LOOK seconds at the feed's end for all that wait in this process, and none while nobody does. Must
never: hold a database connection or a thread for somebody who waits, or answer one whose token or role is gone since: who asks
is asked for again before every answer.

Limits: WAITING listeners of a process, OWN of one principal; a request waits WAIT_MAX seconds, a stream says every BEAT seconds
that it lives.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from radiolith.archive.happenings import LATEST, VISIBLE, Event, kinds_of, look, parsed, text
from radiolith.archive.reading import Reading
from radiolith.index import changes
from radiolith.index.changes import Cursor
from radiolith.index.session import Reader
from radiolith.model import BadInput, Failure, Principal, Unavailable
from radiolith.trust.access import Action, require
from radiolith.trust.audit import ReadAudit

LOOK = 0.5  # seconds between two looks at the end of the feed
WAIT_MAX = 30.0  # seconds a request waits; proxies give up after 60
BEAT = 15.0  # seconds between two signs of life of a stream
WAITING = 200  # listeners of a process: a connection each, and a few KiB
OWN = 50  # of one principal, so that a script that runs wild does not take the others' places
LIMIT_MAX = 1000  # events of one answer

Caller = Callable[[], Awaitable[Principal]]
"""Who asks, found out anew each time. Raises NotAuthenticated when it is nobody any more."""


@dataclass(frozen=True, slots=True)
class Ask:
    """`after`: what the answer before ended with, '' or '0' for the beginning, 'latest' for from now on. `kinds`: names of
    `happenings.KINDS`, none for all."""

    after: str = ""
    limit: int = 100
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Events:
    """`after`: where the next answer goes on. `restarted`: the cursor asked for is none of this feed (the index was made again,
    or put back from a copy), so it starts from the beginning: what is there now is told again. `more`: ask again at once."""

    events: list[Event]
    after: str
    epoch: str
    restarted: bool = False
    more: bool = False


class Follow:
    """One per process; `waited` and `stream` in one event loop."""

    def __init__(self, reading: Reading, trail: ReadAudit, every: float = LOOK):
        self._reading, self._trail = reading, trail
        self._tide = _Tide(reading, every)
        self._own: Counter[tuple[int, str]] = Counter()

    async def after(self, principal: Principal, ask: Ask) -> Events:
        """What happened since, without waiting. Raises BadInput for a cursor or kind there cannot be."""
        require(principal, Action.FOLLOW)
        if not 1 <= ask.limit <= LIMIT_MAX:
            raise BadInput(f"an answer has 1 to {LIMIT_MAX} events")
        wanted = kinds_of(ask.kinds) & VISIBLE.get(principal.role, frozenset())
        latest = ask.after == LATEST
        given = Cursor() if latest else parsed(ask.after)

        def question(read: Reader) -> Events:
            now = changes.tip(read) if latest else given
            known = latest or given == Cursor() or changes.belongs(read, given)
            seen = look(read, principal.tenant.id, now if known else Cursor(), ask.limit, wanted)
            return Events(seen.events, text(seen.after), seen.after.epoch, not known, seen.more)

        found = await self._reading.look(question)
        await self._trail.note(principal, "", "changes", len(found.events), action=Action.FOLLOW.value)
        return found

    async def waited(self, caller: Caller, ask: Ask, seconds: float) -> Events:
        """As `after`; where nothing has happened, once it has, or after `seconds` without an event. Raises Unavailable when
        too many wait."""
        principal = await caller()
        found = await self.after(principal, ask)
        if _tells(found) or seconds <= 0:
            return found
        with self._listening(principal):
            end = asyncio.get_running_loop().time() + min(seconds, WAIT_MAX)
            while not self._tide.ended and (left := end - asyncio.get_running_loop().time()) > 0:
                await self._tide.beyond(parsed(found.after), left)
                found = await self.after(await caller(), Ask(found.after, ask.limit, ask.kinds))
                if _tells(found):
                    break
        return found

    async def stream(self, caller: Caller, ask: Ask, beat: float = BEAT) -> AsyncGenerator[Events]:
        """Without end: what happens, as it happens, and after `beat` seconds without anything an answer without events. Ends
        when the process does. The first answer comes at once: what is wrong about the question is raised before it."""
        principal = await caller()
        with self._listening(principal):
            found = await self.after(principal, ask)
            yield found
            while not self._tide.ended:
                if not found.more:
                    await self._tide.beyond(parsed(found.after), beat)
                found = await self.after(await caller(), Ask(found.after, ask.limit, ask.kinds))
                yield found

    def end(self) -> None:
        """The process ends: whoever waits is answered now."""
        self._tide.end()

    @contextmanager
    def _listening(self, principal: Principal) -> Generator[None]:
        """One of the places for listeners. Raises Unavailable when there is none."""
        key = principal.tenant.id, principal.name
        if self._own[key] >= OWN:
            raise Unavailable(f"'{principal.name}' follows {OWN} times at once already", retry_after=5)
        if self._own.total() >= WAITING:
            raise Unavailable(f"{WAITING} follow at once already", retry_after=5)
        self._own[key] += 1
        try:
            yield
        finally:
            self._own[key] -= 1
            self._own += Counter()  # forgets those with none


def _tells(found: Events) -> bool:
    return bool(found.events) or found.restarted


class _Tide:
    """The end of the feed, looked at while somebody waits for it to move."""

    def __init__(self, reading: Reading, every: float):
        self._reading, self._every = reading, every
        self._moved, self._waiting = asyncio.Event(), 0
        self._tip: Cursor | None = None
        self._task: asyncio.Task[None] | None = None
        self.ended = False

    async def beyond(self, known: Cursor, seconds: float) -> None:
        """Return when the feed goes on behind `known`, when it cannot be looked at, or after `seconds`."""
        if self._task is None or self._task.done():
            self._tip, self._task = None, asyncio.ensure_future(self._watch())
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds):
                while not self.ended and not self._is_beyond(known):
                    moved = self._moved
                    await moved.wait()
                    if self._tip is None:
                        return
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    def _is_beyond(self, known: Cursor) -> bool:
        tip = self._tip
        if tip is None:
            return False
        return tip.epoch != known.epoch or (tip.xid, tip.number) > (known.xid, known.number)

    async def _watch(self) -> None:
        while True:
            try:
                tip = await self._reading.look(changes.tip)
            except Failure:
                tip = None  # whoever waits looks for itself, and says why it cannot
            if tip is None or tip != self._tip:
                self._tip = tip
                self._wake()
            await asyncio.sleep(self._every)
            if not self._waiting or self.ended:
                return

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def end(self) -> None:
        self.ended = True
        self._wake()
