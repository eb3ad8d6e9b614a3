"""A destination in memory with the manners of a real one, and a database that dies when it is told to."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from radiolith.archive.outbox import Result
from radiolith.index import facts, instances, outbox
from radiolith.index.accounts import Peer
from radiolith.index.database import Database
from radiolith.index.outbox import Transfer, Why, Wish
from radiolith.index.session import Reader, Writer
from radiolith.jobs.outbox import Means
from radiolith.model import Fact, Failure, Held, Identity, Principal, Unavailable
from tests.index.conftest import TENANT
from tests.index.objects import Maker


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """A database whose `die_at`-th transaction is the last thing the process does: before it, or right after it."""

    def __init__(self, database: Database, die_at: int = 0, *, after: bool = False):
        self._database, self._die_at, self._after, self._count = database, die_at, after, 0
        self.url, self.dialect = database.url, database.dialect

    @contextmanager
    def write(self, *, durable: bool = True) -> Generator[Writer]:
        self._count += 1
        if self._die_at and (self._count > self._die_at or (self._count == self._die_at and not self._after)):
            raise Killed
        with self._database.write(durable=durable) as tx:
            yield tx
        if self._count == self._die_at:
            raise Killed

    @contextmanager
    def read(self, seconds: float = 2.0) -> Generator[Reader]:
        if self._die_at and self._count >= self._die_at:
            raise Killed
        with self._database.read(seconds) as read:
            yield read


class Overtaken:
    """A database whose first transaction begins after somebody else has done something."""

    def __init__(self, database: Database, meanwhile: Callable[[], object]):
        self._database, self._meanwhile = database, [meanwhile]
        self.url, self.dialect = database.url, database.dialect

    @contextmanager
    def write(self, *, durable: bool = True) -> Generator[Writer]:
        if self._meanwhile:
            self._meanwhile.pop()()
        with self._database.write(durable=durable) as tx:
            yield tx

    @contextmanager
    def read(self, seconds: float = 2.0) -> Generator[Reader]:
        with self._database.read(seconds) as read:
            yield read


class Slow:
    """A database whose `nth` transaction begins when `go` is set."""

    def __init__(self, database: Database, nth: int):
        self._database, self._nth, self._count = database, nth, 0
        self.url, self.dialect = database.url, database.dialect
        self.reached, self.go = threading.Event(), threading.Event()

    @contextmanager
    def write(self, *, durable: bool = True) -> Generator[Writer]:
        self._count += 1
        if self._count == self._nth:
            self.reached.set()
            assert self.go.wait(60)
        with self._database.write(durable=durable) as tx:
            yield tx

    @contextmanager
    def read(self, seconds: float = 2.0) -> Generator[Reader]:
        with self._database.read(seconds) as read:
            yield read


class Trail:
    def __init__(self) -> None:
        self.notes: list[tuple[str, str, int]] = []

    async def note(self, principal: Principal, study: str, purpose: str, count: int, *, action: str = "") -> None:
        self.notes.append((principal.name, purpose, count))


class Destination:
    """`answer(sop, times offered)`: a status, or a Failure that breaks the connection before the answer."""

    def __init__(self) -> None:
        self.offered: Counter[str] = Counter()
        self.kept: set[str] = set()
        self.order: list[tuple[str, int]] = []  # (peer, transfer) of each instance
        self.asked: list[tuple[str, list[str]]] = []
        self.answer: Callable[[str, int], int | Failure] = lambda sop, times: 0
        self.refuses: Failure | None = None  # every call
        self.closed = 0
        self.at_once = 0
        self.most = 0

    async def deliver(self, transfer: Transfer, peer: Peer, instances: Sequence[Held]) -> AsyncIterator[Result]:
        if self.refuses:
            raise self.refuses
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            for held in instances:
                sop = held.identity.sop
                self.offered[sop] += 1
                self.order.append((transfer.peer, transfer.id))
                answer = self.answer(sop, self.offered[sop])
                if isinstance(answer, Failure):
                    raise answer
                if answer >> 12 in (0, 0xB):
                    self.kept.add(sop)
                yield Result(held, answer, "" if answer == 0 else "said no")
        finally:
            self.closed += 1
            self.at_once -= 1

    async def ask_commitment(
        self, transfer: Transfer, peer: Peer, transaction_uid: str, references: Sequence[tuple[str, str]]
    ) -> None:
        if self.refuses:
            raise self.refuses
        self.asked.append((transaction_uid, [sop for _, sop in references]))


class Clock:
    def __init__(self, now: int = 1_800_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class World:
    """A study of `count` instances, a peer, an order for it."""

    def __init__(self, database: Database, count: int = 12, **peer: Any):
        self.database, self.clock, self.destination, self.trail = database, Clock(), Destination(), Trail()
        self._owners, self._uids = itertools.count(), itertools.count(1)
        self.identities = [Identity("1.2", f"1.2.{n % 2}", f"1.2.{n % 2}.{n}") for n in range(count)]
        self.add_peer("ws", **peer)
        maker = Maker(5)
        with database.write() as tx:
            instances.insert(tx, [maker.one(identity) for identity in self.identities])

    def add_peer(self, name: str, **more: Any) -> None:
        body = {"name": name, "aet": name.upper(), **more}
        with self.database.write() as tx:
            facts.apply(tx, Fact("peer", 5, "a", TENANT.uid, body), name.encode().ljust(16, b"p")[:16])

    def order(self, peer: str = "ws", count: int | None = None, **changes: Any) -> int:
        wish = Wish(TENANT.id, peer, "1.2", Why.PERSON, "anna", "anna", self.clock.now, **changes)
        with self.database.write() as tx:
            ids = outbox.selected(tx, TENANT.id, [Identity("1.2", "", "")])["1.2"]
            (number,) = outbox.put(tx, wish, ids[:count])
        return number

    def means(self, database: Any = None, random: Callable[[], float] = lambda: 0.0) -> Means:
        trail: Any = self.trail
        return Means(
            database or self.database, self.destination, trail, self.clock, random,
            lambda: f"2.25.{next(self._uids)}", f"node {next(self._owners)}",
        )  # fmt: skip

    def transfer(self, number: int) -> Transfer:
        with self.database.read() as read:
            found = outbox.get(read, TENANT.id, number)
        assert found
        return found

    def sops(self) -> set[str]:
        return {identity.sop for identity in self.identities}


BROKEN = Unavailable("the association was aborted")
