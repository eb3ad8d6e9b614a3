"""Merging of small segments, from two nodes' stores to the rebuild: nothing is lost, whatever step fails or is the last.

On the in-memory backend with S3's semantics (tests/storage holds both to one contract); tests/nodes has the same over
SeaweedFS and PostgreSQL with servers. Time is a number the test turns.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from radiolith import app
from radiolith.archive.rebuild import ALIVE, Rebuild
from radiolith.archive.verify import Verify
from radiolith.index.database import open_database
from radiolith.index.dump import dump
from radiolith.jobs import merging
from radiolith.jobs.merging import GRACE, LEASE, SETTLED, Merging
from radiolith.model import Conflict, Failure, Held
from radiolith.storage import compact
from radiolith.storage.blobs import microseconds
from tests import campaign, postgres
from tests.archive.homes import opened, principal, store
from tests.archive.objects import Made, numbered
from tests.storage.simulated_disk import PowerLoss

PARTS = campaign.count("uploaded pieces of a merge at which it is cut short, of about 40", 3, 40)
OBJECTS = 6


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four segments are worth merging, and five rows a transaction: every step within a small archive."""
    monkeypatch.setattr(merging.compact, "choose", partial(compact.choose, fewest=4))
    monkeypatch.setattr(merging, "ROWS", 5)


class Pair:
    """Two nodes over one database and one bucket, and a third process that merges."""

    def __init__(self, home: Path, environ: dict[str, str]):
        self.home, self.environ = home, environ
        self.stack = AsyncExitStack()
        self.ahead = 0  # microseconds that the merging process is ahead of now
        self.sent: dict[tuple[str, str, str], bytes] = {}
        self.older: list[Held] = []
        self.merges = 0

    async def node(self, name: str) -> app.Graph:
        return await self.stack.enter_async_context(opened(self.home, environ=self.environ, name=name))

    async def start(self) -> None:
        self.nodes = [await self.node("a"), await self.node("b")]
        for number in range(OBJECTS):
            study, series, sop, data = numbered(95, number, large=0)
            await store(self.nodes[number % 2], data)
            self.sent[study, series, sop] = data
        a, b = self.nodes
        large = Made("1.2.9", "1.2.9.1", "1.2.9.1.1", pixels=random.Random(1).randbytes(3 << 20))
        await store(a, large.part10())  # streamed, in a segment of its own
        self.sent[large.study, large.series, large.sop] = large.part10()
        first = next(iter(self.sent))
        await store(b, self.sent[first])  # held already
        await store(b, self.sent[first].replace(b"Thorax", b"Kopf  "))
        await store(a, b"no DICOM at all")
        both = Made("1.2.9", "1.2.9.2", "1.2.9.2.1", private=b"x").part10()
        await asyncio.gather(store(a, both), store(b, both))  # two records, one row
        self.sent["1.2.9", "1.2.9.2", "1.2.9.2.1"] = both
        hidden = Made("1.2.9", "1.2.9.3", "1.2.9.3.1", private=b"x")
        await store(b, hidden.part10())
        await a.archive.remove.reject(principal(a), hidden.study, hidden.series, reason="113001")
        for study, series, sop in self.sent:
            self.older += await a.archive.retrieve.locate(principal(a), study, series, sop)
        self.ahead = SETTLED + 60_000_000

    def clock(self) -> int:
        return microseconds() + self.ahead

    async def merger(self) -> tuple[app.Graph, Merging]:
        self.merges += 1
        graph = await self.node(f"merging {self.merges}")
        return graph, Merging(graph.store, graph.database, self.clock, f"merging {self.merges}")

    def round(self, graph: app.Graph, job: Merging) -> int:
        """As the housekeeping does it."""
        assert job.take()
        Rebuild(graph.store, graph.keys, graph.database, self.clock).recover(ALIVE)
        return job.run()

    async def read(self) -> None:
        """Everything, on both nodes, by rows as they are and as they were."""
        for graph in self.nodes:
            retrieve = graph.archive.retrieve
            for held in self.older:
                identity = (held.identity.study, held.identity.series, held.identity.sop)
                for row in (held, *(await retrieve.locate(principal(graph), *identity))):
                    pieces = [bytes(piece) async for piece in retrieve.original(row).chunks()]
                    assert b"".join(pieces) == self.sent[identity]
            (aside,) = await graph.archive.quarantine.list(principal(graph))
            stream = await graph.archive.quarantine.original(principal(graph), aside.id)
            assert b"".join([bytes(piece) async for piece in stream.chunks()]) == b"no DICOM at all"

    def agree(self) -> None:
        graph = self.nodes[0]
        report = Verify(graph.store, graph.keyring, graph.keys, graph.database).run(read_data=True)
        assert report.problems == []

    def segments(self) -> set[bytes]:
        return {info.id for info in self.nodes[0].store.segments()}

    def lines(self) -> list[str]:
        database = open_database(self.nodes[0].settings.database.url)
        try:
            with database.snapshot() as read:
                return list(dump(read))
        finally:
            database.close()

    async def rebuilt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The index made again from what is in the bucket is the same."""
        await self.stack.aclose()
        before = self.lines()
        for key, value in self.environ.items():
            monkeypatch.setenv(key, value)
        report = await asyncio.to_thread(app.rebuild, self.home)
        assert not report.damaged
        assert self.lines() == before
        self.nodes = [await self.node("a"), await self.node("b")]
        self.older = []
        for study, series, sop in self.sent:
            self.older += await self.nodes[0].archive.retrieve.locate(principal(self.nodes[0]), study, series, sop)
        await self.read()
        self.agree()


@pytest.fixture
async def pairs(tmp_path: Path) -> AsyncIterator[Callable[[str], Pair]]:
    made: list[Pair] = []

    def make(kind: str = "sqlite") -> Pair:
        home = tmp_path / str(len(made))
        environ = {"RADIOLITH_TIERS_HOT_URL": f"memory://merging-{random.randrange(10**12)}"}
        if kind == "postgresql":
            if reason := postgres.why_not():
                pytest.skip(reason)
            environ["RADIOLITH_DATABASE_URL"] = postgres.shared().fresh()
        made.append(Pair(home, environ))
        return made[-1]

    yield make
    for pair in made:
        await pair.stack.aclose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_merge_from_end_to_end(
    kind: str, pairs: Callable[[str], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pairs(kind)
    await pair.start()
    old = pair.segments()
    graph, job = await pair.merger()
    stop = asyncio.Event()
    rounds = 0

    async def readers() -> None:
        nonlocal rounds
        while not stop.is_set():
            await pair.read()
            rounds += 1

    reading = asyncio.create_task(readers())
    merged = await asyncio.to_thread(pair.round, graph, job)
    assert merged == len(old)
    (large,) = pair.segments() - old
    assert old < pair.segments(), "nothing goes while somebody may be reading it"
    pair.agree()
    again = await asyncio.to_thread(pair.round, graph, job)
    assert again == 0 and pair.segments() == old | {large}, "what was merged is left alone"
    pair.ahead += GRACE - 5_000_000
    assert await asyncio.to_thread(pair.round, graph, job) == 0
    assert old < pair.segments()
    pair.ahead += 10_000_000
    assert await asyncio.to_thread(pair.round, graph, job) == 0
    assert pair.segments() == {large}
    seen = rounds
    while rounds < seen + 2:
        await asyncio.sleep(0)
        if reading.done():
            break
    stop.set()
    await reading
    pair.agree()
    await pair.rebuilt(monkeypatch)
    print(f"{merged} segments merged into one under {rounds} rounds of reading")


def names_of_steps(graph: app.Graph) -> list[str]:
    names: list[str] = []

    def note(_number: int, name: str) -> None:
        names.append(name)

    graph.store.backend.steps.hook = note
    return names


async def steps_of_a_merge(pair: Pair) -> list[str]:
    """Every step of two rounds: the merge, and after the delay the deletion."""
    await pair.start()
    graph, job = await pair.merger()
    names = names_of_steps(graph)
    pair.round(graph, job)
    pair.ahead += GRACE + LEASE
    pair.round(graph, job)
    return names


def chosen(names: list[str]) -> list[int]:
    """Of the many uploaded pieces some, of deletions one, of everything else all."""
    parts = [number for number, name in enumerate(names) if name == "part"]
    goings = [number for number, name in enumerate(names) if name == "delete"]
    forgets = [number + 1 for number in goings]
    some = random.Random(3).sample(parts[1:-1], min(PARTS, len(parts)) - 2)
    few_parts = [parts[0], *some, parts[-1]]
    ends = {*goings, *forgets} if campaign.LONG else {*goings[-1:], *forgets[:1]}
    rest = set(range(len(names))) - set(parts) - set(goings) - set(forgets)
    return sorted({*few_parts, *ends, *rest})


async def cut_short(pair: Pair, at: int, killed: bool) -> bool:
    """The process is killed before the step `at`, or that step fails. False when there were not so many: whether two
    senders of one object make one record or two is up to the moment."""
    await pair.start()
    graph, job = await pair.merger()
    count = 0

    def hook(_number: int, _name: str) -> None:
        nonlocal count
        count += 1
        if count > at:
            if killed:
                raise PowerLoss
            if count == at + 1:
                raise OSError(errno.EIO, "injected")

    graph.store.backend.steps.hook = hook
    for _ in range(2):
        try:
            pair.round(graph, job)
        except (PowerLoss, OSError, Failure):
            pass
        if killed and count > at:
            break
        pair.ahead += GRACE + LEASE
    graph.store.backend.steps.hook = None
    return count > at


async def test_a_merge_cut_short_anywhere_loses_nothing(
    pairs: Callable[[], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await steps_of_a_merge(pairs())
    assert {"part", "complete", "transaction", "delete"} <= set(names)
    steps = chosen(names)
    reached = 0
    for killed in (True, False):
        for at in steps:
            pair = pairs()
            reached += await cut_short(pair, at, killed)
            where = f"{'killed before' if killed else 'failed at'} step {at}, {names[at]}"
            try:
                await pair.read()
                pair.agree()
                pair.ahead += LEASE + 1
                graph, job = await pair.merger()
                pair.round(graph, job)
                await pair.read()
                pair.ahead += GRACE + LEASE
                pair.round(graph, job)
                await pair.read()
                await pair.rebuilt(monkeypatch)
            except BaseException as failure:
                failure.add_note(where)
                raise
            assert len(pair.segments()) <= 3, (where, len(pair.segments()))
            await pair.stack.aclose()
    assert reached > 1.5 * len(steps)
    print(f"{reached} merges cut short at {len(steps)} of {len(names)} steps")


async def test_a_node_that_lost_its_lease_changes_nothing(pairs: Callable[[], Pair]) -> None:
    """It stood still for minutes between copying and switching; another one has merged, and deleted, meanwhile."""
    pair = pairs()
    await pair.start()
    slow, first = await pair.merger()
    quick, second = await pair.merger()
    waited = False

    def hook(_number: int, name: str) -> None:
        nonlocal waited
        if name == "transaction" and not waited:
            waited = True
            assert not second.take(), "while the lease lasts nobody else merges"
            for _ in range(2):
                pair.ahead += GRACE + LEASE
                pair.round(quick, second)
            pair.ahead += LEASE + 1  # the second one's lease has run out too, and nobody has taken it since

    slow.store.backend.steps.hook = hook
    with pytest.raises(Conflict):
        pair.round(slow, first)
    assert waited
    await pair.read()
    pair.agree()


async def test_a_long_copy_keeps_the_lease(pairs: Callable[[], Pair]) -> None:
    pair = pairs()
    await pair.start()
    slow, first = await pair.merger()
    _, second = await pair.merger()
    begun = pair.ahead
    taken: list[bool] = []

    def hook(_number: int, name: str) -> None:
        if name == "part":
            pair.ahead += LEASE // 12  # some pieces are written with nothing read between them
            taken.append(second.take())

    slow.store.backend.steps.hook = hook
    assert pair.round(slow, first) > 0
    assert pair.ahead - begun > LEASE * 3 // 2 and not any(taken)
    await pair.read()
    pair.agree()


@pytest.mark.parametrize(("first", "stop"), [(4096, 1 << 40), (4096 + 64, 4096 + 65), (4096 + 200, 4096 + 201)])
async def test_a_damaged_segment_is_left_as_it_is(
    first: int, stop: int, pairs: Callable[[], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it unreadable, a record's header or a byte of its payload changed on the way: not copied, not let go of;
    the others are."""
    pair = pairs()
    await pair.start()
    graph, job = await pair.merger()
    old = pair.segments()
    backend = graph.store.backend
    real = backend.read_into
    held = pair.older[2].blob.place
    assert held.offset == 4096 + 64

    def damaged(segment: bytes, offset: int, into: memoryview) -> None:
        real(segment, offset, into)
        for at in range(max(offset, first), min(offset + len(into), stop, first + 100_000)):
            if segment == held.segment:
                into[at - offset] ^= 1

    with monkeypatch.context() as patched:
        patched.setattr(backend, "read_into", damaged)
        assert pair.round(graph, job) == 0
        assert pair.round(graph, job) == len(old) - 1
        pair.ahead += GRACE + LEASE
        assert pair.round(graph, job) == 0
    assert held.segment in pair.segments() and len(pair.segments()) == 2
    await pair.read()
    pair.agree()
