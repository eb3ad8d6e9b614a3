"""Two servers with homes of their own share PostgreSQL and an object store: one archive."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from radiolith import app, config
from radiolith.archive.rebuild import ALIVE, Rebuild
from radiolith.archive.verify import Verify
from radiolith.codecs.sandbox import Decoders
from radiolith.jobs.merging import GRACE, LEASE, SETTLED, Merging
from radiolith.storage.blobs import microseconds
from radiolith.storage.cache import Cache
from tests import campaign, postgres
from tests.archive.objects import numbered
from tests.kill.running import Client, Server, StepFile, dataset_of, made_home, run, wait
from tests.storage.seaweed import Seaweed

OBJECTS = campaign.count("objects stored on one node, read on the other", 40, 4_000)
KILLS = campaign.count("kills of one node of two", 3, 200)


@dataclass
class Pair:
    first: Server
    second: Server
    environ: dict[str, str]


def settings(database: str, seaweed: Seaweed, prefix: str) -> dict[str, str]:
    tier = seaweed.at(prefix)
    return {
        "RADIOLITH_DATABASE_URL": database,
        "RADIOLITH_TIERS_HOT_URL": tier.url,
        "RADIOLITH_TIERS_HOT_ENDPOINT": tier.endpoint,
        "RADIOLITH_TIERS_HOT_REGION": tier.region,
        "RADIOLITH_TIERS_HOT_ACCESS_KEY_ID": tier.access_key_id,
        "RADIOLITH_TIERS_HOT_SECRET_ACCESS_KEY": tier.secret_access_key,
        "RADIOLITH_TIERS_HOT_ALLOW_HTTP": "true",
    }


@pytest.fixture(scope="module")
def pair(seaweed: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if reason := postgres.why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("nodes")
    environ = settings(postgres.shared().fresh(), seaweed, f"nodes-{random.randrange(10**9)}")
    token = made_home(folder / "a", environ)
    run("init", "--home", str(folder / "b"), "--join", str(folder / "a" / "recovery.txt"), environ=environ)
    servers = [Server(folder / name, token, StepFile(folder / f"{name} steps"), environ) for name in ("a", "b")]
    for server in servers:
        server.start(ready=False)
    try:
        for server in servers:
            server.wait_ready()
        yield Pair(*servers, environ)
    finally:
        for server in servers:
            server.kill_group()


@pytest.mark.timeout(0)  # every wait inside has its own end
def test_what_one_node_acknowledged_the_other_reads(pair: Pair) -> None:
    """At once: the reading node is asked as soon as the answer of the storing one has arrived."""
    first, second = pair.first, pair.second
    rng = random.Random(6)
    for number in range(OBJECTS):
        study, series, sop, data = numbered(60, number)
        one, other = (first, second) if rng.random() < 0.5 else (second, first)
        assert one.store([data]).status == 200
        answer = other.retrieve(study, series, sop)
        assert answer.status == 200, (number, answer)
        assert dataset_of(answer.body) == dataset_of(data)
        assert (series, sop) in other.instances(study)
    print(f"{OBJECTS} objects stored on one node and read on the other at once")


def test_the_same_object_on_both_nodes_is_held_once(pair: Pair) -> None:
    study, series, sop, data = numbered(61, 1)
    assert [node.store([data]).status for node in (pair.first, pair.second)] == [200, 200]
    assert pair.first.instances(study) == pair.second.instances(study) == {(series, sop)}


def test_a_rejection_on_one_node_holds_on_the_other(pair: Pair) -> None:
    study, _, _, data = numbered(62, 1)
    assert pair.first.store([data]).status == 200
    assert pair.second.ask("DELETE", f"/dicom-web/studies/{study}").status in (200, 204)
    assert pair.first.instances(study) == set()


@pytest.mark.timeout(0)  # every wait inside has its own end
def test_killing_a_node_loses_nothing_acknowledged(pair: Pair, tmp_path: Path) -> None:
    """The dying node's client goes on to the other one, where everything it was told about is; and the node comes back."""
    rng = random.Random(7)
    first, second = pair.first, pair.second
    client = Client(first, 63, tmp_path / "list")
    try:
        for _ in range(KILLS):
            before = len(client.acknowledged())
            client.start()
            wait(lambda before=before: len(client.acknowledged()) > before + 5, f"load: {first.tail()}")
            assert first.steps is not None
            rows = [row for name, row in first.steps.rows().items() if name.startswith("worker")]
            for row in rows:
                first.steps.arm(row, row.count + rng.randint(1, 8), -first.pid)
            assert first.process is not None
            assert first.process.wait(60) == -signal.SIGKILL
            client.server = second  # what it reads from; it goes on sending to the dead one until it is stopped
            client.stop()
            assert client.compare()
            study, series, sop, data = numbered(64, rng.randrange(10**6))
            assert second.store([data]).status == 200
            client.server = first
            first.start()
            assert dataset_of(first.retrieve(study, series, sop).body) == dataset_of(data)
            client.compare()
    finally:
        client.stop()
    print(f"{KILLS} kills of a node, {len(client.acknowledged())} objects acknowledged")


@pytest.mark.timeout(0)  # every wait inside has its own end
def test_small_segments_are_merged_under_two_reading_nodes(pair: Pair) -> None:
    """What the two have stored so far is merged by a third process, whose clock is ahead; both go on reading, and the
    old segments go an hour later. tests/jobs has every step of it."""
    made = [numbered(65, number) for number in range(12)]
    for number, one in enumerate(made):
        assert (pair.first, pair.second)[number % 2].store([one[3]]).status == 200
    stop, rounds = threading.Event(), [0, 0]

    def reads(at: int) -> None:
        node = (pair.first, pair.second)[at]
        while not stop.is_set():
            for one in made:
                assert dataset_of(node.retrieve(*one[:3]).body) == dataset_of(one[3])
            rounds[at] += 1

    with ThreadPoolExecutor(2) as readers:
        reading = [readers.submit(reads, at) for at in range(2)]
        try:
            merged, before, after = asyncio.run(_merged(pair))
            seen = list(rounds)
            wait(
                lambda: all(r > s for r, s in zip(rounds, seen, strict=True)) or any(r.done() for r in reading),
                "readers",
            )
        finally:
            stop.set()
        for one in reading:
            one.result()
    assert merged >= len(made) and after < before - len(made) + 3
    print(f"{merged} segments of {before} merged, {after} are left; {sum(rounds)} rounds of reading meanwhile")


async def _merged(pair: Pair) -> tuple[int, int, int]:
    """(segments merged, segments before, segments after)."""
    ahead = SETTLED + 60_000_000
    settings = config.load(pair.first.home, pair.environ)
    graph = app.build(settings, "merging", _nothing, Cache(None, bytes(32)))

    def clock() -> int:
        return microseconds() + ahead

    try:
        before = len(list(graph.store.segments()))
        job = Merging(graph.store, graph.database, clock, "the test")
        assert job.take()
        Rebuild(graph.store, graph.keys, graph.database, clock).recover(ALIVE)
        merged = await asyncio.to_thread(job.run)
        assert len(list(graph.store.segments())) > before, "the old ones stay for a while"
        ahead += GRACE + LEASE
        assert job.take()
        await asyncio.to_thread(job.run)
        report = await asyncio.to_thread(Verify(graph.store, graph.keyring, graph.keys, graph.database).run)
        assert report.problems == []
        return merged, before, len(list(graph.store.segments()))
    finally:
        await graph.close()


def _nothing() -> Decoders:
    raise AssertionError("nothing is decoded here")


def test_an_archive_that_is_not_there_cannot_be_joined(pair: Pair, tmp_path: Path) -> None:
    """A mistyped bucket must not become a second, empty archive."""
    recovery = str(pair.first.home / "recovery.txt")
    wrong = pair.environ | {"RADIOLITH_TIERS_HOT_URL": pair.environ["RADIOLITH_TIERS_HOT_URL"] + "-other"}
    failed = run("init", "--home", str(tmp_path / "c"), "--join", recovery, environ=wrong, check=False)
    assert failed.returncode == 1 and "join" in failed.stdout + failed.stderr, failed
    other = tmp_path / "recovery.txt"
    run("init", "--home", str(tmp_path / "d"))
    other.write_bytes((tmp_path / "d" / "recovery.txt").read_bytes())
    failed = run("init", "--home", str(tmp_path / "e"), "--join", str(other), environ=pair.environ, check=False)
    assert failed.returncode == 1 and "root key" in failed.stdout + failed.stderr, failed


def test_the_index_is_made_again_from_the_object_store(pair: Pair, seaweed: Seaweed) -> None:
    """Last: both nodes are stopped, and the database is a fresh one."""
    one = numbered(60, 0)
    for node in (pair.first, pair.second):
        assert node.stop() == 0
    done = run("check", "--home", str(pair.first.home), "--rebuild", "--read-data", environ=pair.environ, check=False)
    assert done.returncode == 0, done.stdout
    pair.second.start()
    began = time.monotonic()
    assert dataset_of(pair.second.retrieve(*one[:3]).body) == dataset_of(one[3])
    assert time.monotonic() - began < 30
