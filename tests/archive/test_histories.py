"""Random histories of everything that can be decided, then the index made again from the log: the same dump.

A history runs on two object graphs over one home, as two workers of one server; now and then one of them dies without
closing anything and a new one takes over. Seeds give the plan; ids and keys are random each time.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from radiolith import app, config
from radiolith.archive.rebuild import Report
from radiolith.index.database import open_database
from radiolith.index.dump import dump
from radiolith.model import BadInput, Conflict, Identity, NotFound, Outcome, Principal, Receipt, Source
from radiolith.storage.cache import Cache
from tests import campaign, postgres
from tests.archive.homes import principal, small_segments
from tests.archive.objects import BIG, EXPLICIT, IMPLICIT, Made

HISTORIES = campaign.count("histories rebuilt", 150, 5_000)
ELSEWHERE = campaign.count("histories rebuilt on PostgreSQL and an object store", 18, 1_000)
PLANS = 6  # histories one test runs, so that a failure names few seeds
PEERS = {"FIRST": "first", "NEWEST": "newest", "ASK": "ask"}
ENVIRON = {"RADIOLITH_VERSIONS_PEERS": ",".join(f"{peer}={policy}" for peer, policy in PEERS.items())}
REASONS = ("113001", "113037", "113038", "113039")
NAMES = ("Müller^Jörg", "Mueller^Joerg", "Lefèvre^Jean-Pierre", "山田^太郎", "")


def lines(url: str) -> list[str]:
    """The canonical dump of a database, opened for that alone."""
    database = open_database(url)
    try:
        with database.snapshot() as read:
            return list(dump(read))
    finally:
        database.close()


class History:
    """One plan over one home."""

    def __init__(self, seed: int, home: Path, environ: Mapping[str, str] = ENVIRON):
        self.rng = random.Random(seed)
        self.home = home
        self.settings = config.load(home, environ)
        self.graphs: list[app.Graph] = []
        self.abandoned: list[app.Graph] = []
        self.made: dict[Identity, Made] = {}
        self.sidelined: list[str] = []
        self.done: Counter[str] = Counter()
        self.users: list[str] = []

    async def run(self) -> None:
        self.graphs = [self.graph(), self.graph()]
        for _ in range(3):
            await self.store()
        for _ in range(self.rng.randint(6, 18)):
            step = self.rng.choice((
                self.store, self.store, self.store, self.again, self.again, self.other, self.other, self.encoded,
                self.encoded, self.sideline, self.release, self.reject, self.reject, self.restore, self.switch,
                self.switch, self.account, self.both, self.crash,
            ))  # fmt: skip
            try:
                await step()
                self.done[step.__name__] += 1
            except (NotFound, BadInput, Conflict):
                self.done["refused"] += 1

    def graph(self) -> app.Graph:
        made = app.build(self.settings, f"w{self.rng.randrange(100)}", _nothing, Cache(None, bytes(32)))
        small_segments(made)
        return made

    @property
    def one(self) -> app.Graph:
        return self.rng.choice(self.graphs)

    def who(self, graph: app.Graph) -> Principal:
        return principal(graph)

    async def send(self, graph: app.Graph, data: bytes) -> Receipt:
        source = Source("stow", self.rng.choice(tuple(PEERS)), "127.0.0.1")
        intake = graph.archive.ingest.begin(self.who(graph), source)
        await intake.write(data)
        return await (await intake.finish())

    # ------------------------------------------------------------ what may happen

    def fresh(self) -> Made:
        rng = self.rng
        study = f"1.2.{rng.randrange(3)}"
        series = f"{study}.{rng.randrange(2)}"
        sop = f"{series}.{rng.randrange(4)}"
        return Made(
            study, series, sop, patient=rng.choice(("P1", "P2", "")), issuer=rng.choice(("", "HOSP")),
            name=rng.choice(NAMES), accession=rng.choice(("A1", "A2", "")), modality=rng.choice(("CT", "MR")),
            date=rng.choice(("20240131", "19991231", "")), number=rng.randrange(3), private=rng.randbytes(rng.randrange(60)),
        )  # fmt: skip

    async def store(self) -> None:
        made = self.fresh()
        receipt = await self.send(self.one, made.part10(self.rng.choice((EXPLICIT, IMPLICIT))))
        if receipt.outcome is Outcome.STORED:
            self.made[Identity(made.study, made.series, made.sop)] = made

    def known(self) -> Made:
        if not self.made:
            raise NotFound("nothing stored yet")
        return self.rng.choice(list(self.made.values()))

    async def again(self) -> None:
        await self.send(self.one, self.known().part10(self.rng.choice((EXPLICIT, IMPLICIT))))

    async def other(self) -> None:
        """Other content under a UID that is held, of another patient perhaps."""
        old, new = self.known(), self.fresh()
        changed = Made(
            old.study, old.series, old.sop, new.patient, new.issuer, new.name, new.accession, str(self.rng.random())
        )
        await self.send(self.one, changed.part10())

    async def encoded(self) -> None:
        await self.send(self.one, self.known().part10(self.rng.choice((IMPLICIT, BIG, EXPLICIT))))

    async def both(self) -> None:
        """Two workers receive at the same moment: the same bytes, or two contents under one UID."""
        made = self.fresh()
        other = made if self.rng.random() < 0.5 else Made(made.study, made.series, made.sop, description="other")
        await asyncio.gather(self.send(self.graphs[0], made.part10()), self.send(self.graphs[1], other.part10()))
        self.made[Identity(made.study, made.series, made.sop)] = made

    async def sideline(self) -> None:
        receipt = await self.send(self.one, self.rng.randbytes(self.rng.randrange(1, 3000)))
        assert receipt.outcome is Outcome.QUARANTINED
        self.sidelined.append(receipt.object_id.hex())

    async def release(self) -> None:
        if self.sidelined:
            graph = self.one
            await graph.archive.quarantine.release(self.who(graph), self.rng.choice(self.sidelined))

    def under(self) -> tuple[str, str, str]:
        made = self.known()
        depth = self.rng.randint(1, 3)
        study, series, sop = (made.study, made.series, made.sop)[:depth] + ("",) * (3 - depth)
        return study, series, sop

    async def reject(self) -> None:
        graph = self.one
        await graph.archive.remove.reject(self.who(graph), *self.under(), reason=self.rng.choice(REASONS))

    async def restore(self) -> None:
        graph = self.one
        await graph.archive.remove.restore(self.who(graph), *self.under())

    async def switch(self) -> None:
        graph, made = self.one, self.known()
        identity = Identity(made.study, made.series, made.sop)
        held = await graph.archive.versions.of(self.who(graph), identity)
        await graph.archive.versions.switch(self.who(graph), identity, self.rng.choice(held).blob.object_id.hex())

    async def account(self) -> None:
        graph, who, rng = self.one, self.who(self.graphs[0]), self.rng
        match rng.randrange(6):
            case 0:
                await graph.accounts.add_token(who, rng.choice(("a", "b")), "reader")
            case 1:
                tokens = await graph.accounts.tokens(who)
                await graph.accounts.remove_token(who, rng.choice(tokens).secret if tokens else "none")
            case 2:
                await graph.accounts.add_peer(
                    who, rng.choice(("PACS", "WS")), {"aet": "AET", "address": "h", "port": 104}
                )
            case 3:
                await graph.accounts.remove_peer(who, rng.choice(("PACS", "WS")))
            case 4:
                await graph.accounts.confirm_recovery(who)
            case _:
                await graph.accounts.remove_user(who, "nobody")

    async def crash(self) -> None:
        """A worker is gone without a word: nothing closed, its segment left open; the next one recovers."""
        at = self.rng.randrange(2)
        self.abandoned.append(self.graphs[at])
        lose(self.graphs[at])
        self.graphs[at] = self.graph()
        await asyncio.to_thread(self.graphs[at].rebuild.recover)


def lose(graph: app.Graph) -> None:
    """What the system does to the handles of a killed process; the segment stays without its footer."""
    backend: Any = graph.store.backend
    if hasattr(backend, "_active"):  # an object store has no open segments
        active, backend._active = backend._active, None
        if active is not None:
            active.file.close()


def _nothing() -> Any:
    raise BadInput("this test decodes nothing")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template") / "home"
    asyncio.run(app.initialised(home, ENVIRON))
    return home


async def closed(history: History) -> None:
    async with AsyncExitStack() as stack:
        for graph in history.graphs + history.abandoned:
            stack.push_async_callback(graph.close)


async def lived(history: History) -> list[str]:
    """The whole history, and the dump when all its workers have ended, three in ten of them by a kill."""
    try:
        await history.run()
    finally:
        if history.rng.random() < 0.3:
            for graph in history.graphs:
                lose(graph)
        await closed(history)
    return lines(history.settings.database.url)


def same(history: History, seed: int, before: list[str], report: Report) -> None:
    assert not report.damaged, f"seed {seed}: {report.damaged}"
    after = lines(history.settings.database.url)
    assert after == before, f"seed {seed}: {difference(before, after)}"


@pytest.mark.parametrize("first", range(0, HISTORIES, PLANS))
async def test_a_rebuild_gives_the_same_dump(first: int, template: Path, tmp_path: Path) -> None:
    done: Counter[str] = Counter()
    for seed in range(first, min(first + PLANS, HISTORIES)):
        home = tmp_path / str(seed)
        shutil.copytree(template, home)
        history = History(seed, home)
        before = await lived(history)
        for path in home.glob("index.db*"):
            path.unlink()
        same(history, seed, before, await asyncio.to_thread(app.rebuild, home))
        done += history.done
        shutil.rmtree(home)
    print(dict(done))


@pytest.mark.parametrize("first", range(0, ELSEWHERE, PLANS))
async def test_on_postgresql_and_an_object_store(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same verbs over the other database and a backend with the semantics of S3, as two nodes."""
    if reason := postgres.why_not():
        pytest.skip(reason)
    for seed in range(first, min(first + PLANS, ELSEWHERE)):
        database, home = postgres.shared().fresh(), tmp_path / str(seed)
        environ = {"RADIOLITH_DATABASE_URL": database, "RADIOLITH_TIERS_HOT_URL": f"memory://{database[-40:]}{seed}"}
        await app.initialised(home, ENVIRON | environ)
        history = History(seed, home, ENVIRON | environ)
        before = await lived(history)
        for key, value in environ.items():
            monkeypatch.setenv(key, value)
        same(history, seed, before, await asyncio.to_thread(app.rebuild, home))


def difference(before: list[str], after: list[str]) -> str:
    lost = [line for line in before if line not in after]
    came = [line for line in after if line not in before]
    return "\n".join(["", *(f"- {line}" for line in lost), *(f"+ {line}" for line in came)])
