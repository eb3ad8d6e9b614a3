"""What one batch answers when a part of it fails, and when a batch begins."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from radiolith import app
from radiolith.archive import commit, operations
from radiolith.archive.commit import PATIENT_TASKS
from radiolith.index.session import Contention
from radiolith.model import NoSpace, NotFound, Outcome, Receipt
from radiolith.storage.backends.segment_file import FileStream
from radiolith.storage.drafts import Draft
from tests.archive.homes import STOW, opened, principal, store
from tests.archive.objects import Made, numbered


async def test_a_copy_falls_with_the_object_it_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two senders of one large object in one batch, and its own segment fails: neither is told that it is stored."""
    study, series, sop, _ = numbered(80, 0)
    large = Made(study, series, sop, pixels=bytes(2 << 20)).part10()
    going, held = threading.Event(), threading.Event()
    real: Any = FileStream.commit
    failures = 1

    def commit(stream: FileStream, *arguments: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise NoSpace("no room for the last bytes")
        return real(stream, *arguments)

    async with opened(tmp_path / "home") as graph:
        first_batch = graph.store.commit

        def slow(drafts: Any) -> Any:
            held.set()
            going.wait(30)
            return first_batch(drafts)

        monkeypatch.setattr(graph.store, "commit", slow)
        monkeypatch.setattr(FileStream, "commit", commit)
        small = asyncio.create_task(store(graph, Made("1.9", "1.9.1", "1.9.1.1").part10()))
        await asyncio.to_thread(held.wait, 30)  # the commit thread is busy: what comes now is one batch
        copies = [asyncio.create_task(store(graph, large)) for _ in range(2)]
        while graph.committer._queue.qsize() < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        going.set()
        await small
        results = await asyncio.gather(*copies, return_exceptions=True)
        assert [type(result) for result in results] == [NoSpace, NoSpace], results
        with pytest.raises(NotFound):
            await graph.archive.retrieve.locate(principal(graph), study, series, sop)
        await store(graph, large)
        assert await graph.archive.retrieve.locate(principal(graph), study, series, sop)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that were synced; a batch that waits for company does so for a minute."""
    monkeypatch.setattr(commit, "PATIENT_SECONDS", 60.0)
    return []


def _counted(graph: app.Graph, batches: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    real = graph.store.commit

    def counting(drafts: Any) -> Any:
        batches.append(len(drafts))
        return real(drafts)

    monkeypatch.setattr(graph.store, "commit", counting)


async def _sent(graph: app.Graph, number: int, size: int = 100, *, more: bool = True) -> asyncio.Future[Receipt]:
    intake = graph.archive.ingest.begin(principal(graph), STOW)
    await intake.write(Made("1.7", "1.7.1", f"1.7.1.{number}", pixels=bytes(size)).part10())
    return await intake.finish(more=more)


async def test_a_batch_waits_for_company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: list[int]) -> None:
    """Until somebody wants an answer, or there is enough of it; and nobody is forgotten at the end."""
    async with opened(tmp_path / "home") as graph, asyncio.timeout(30):
        _counted(graph, batches, monkeypatch)
        monkeypatch.setattr(commit, "PATIENT_SECONDS", 60.0)  # however slow this machine is: only the words count here
        asked = [await _sent(graph, number) for number in range(3)]
        assert not batches
        graph.archive.ingest.push()
        assert {(await one).outcome for one in asked} == {Outcome.STORED}
        graph.archive.ingest.push()  # of nothing
        asked = [await _sent(graph, 10), await _sent(graph, 11), await _sent(graph, 12, more=False)]
        await asyncio.gather(*asked)
        await asyncio.gather(*[await _sent(graph, 20 + number) for number in range(PATIENT_TASKS)])
        monkeypatch.setattr(commit, "PATIENT_BYTES", 50_000)
        await (await _sent(graph, 40, 60_000))
        assert batches == [3, 3, PATIENT_TASKS, 1]
        last = await _sent(graph, 50)
    assert (await last).outcome is Outcome.STORED


async def test_a_batch_that_nobody_asks_for_waits_only_so_long(tmp_path: Path) -> None:
    async with opened(tmp_path / "home") as graph, asyncio.timeout(30):
        assert (await (await _sent(graph, 1))).outcome is Outcome.STORED


@pytest.mark.parametrize("times", [commit.TRIES - 1, commit.TRIES])
async def test_what_was_in_the_way_of_others_is_tried_again(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the last who wait for each other have gone; then the sender is told to come again, and nothing is held."""
    real, met = commit.instances.insert, 0

    def insert(*arguments: Any) -> Any:
        nonlocal met
        met += 1
        if met <= times:
            raise Contention("others were in the way", retry_after=1)
        return real(*arguments)

    async with opened(tmp_path / "home") as graph, asyncio.timeout(30):
        monkeypatch.setattr(commit.instances, "insert", insert)
        sent = await _sent(graph, 1, more=False)
        if times < commit.TRIES:
            assert (await sent).outcome is Outcome.STORED
        else:
            with pytest.raises(Contention):
                await sent
            with pytest.raises(NotFound):
                await graph.archive.retrieve.locate(principal(graph), "1.7")


async def test_a_large_rejection_goes_on_a_few_facts_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once they would fill the pool, and the event loop would write them to the disk itself."""
    monkeypatch.setattr(operations, "ITEMS", 1)
    monkeypatch.setattr(operations, "UNDER_WAY", 2)
    futures: list[asyncio.Future[Any]] = []
    most = 0
    async with opened(tmp_path / "home") as graph, asyncio.timeout(30):
        asked = [await _sent(graph, number) for number in range(9)]
        await asyncio.gather(*asked)
        real = graph.committer.fact

        def counted(*arguments: Any) -> Any:
            nonlocal most
            futures.append(real(*arguments))
            most = max(most, sum(not future.done() for future in futures))
            return futures[-1]

        monkeypatch.setattr(graph.committer, "fact", counted)
        assert await graph.archive.remove.reject(principal(graph), "1.7", reason="113001") == 9
        with pytest.raises(NotFound):
            await graph.archive.retrieve.locate(principal(graph), "1.7")
        assert await graph.archive.remove.restore(principal(graph), "1.7") == 9
        assert len(await graph.archive.retrieve.locate(principal(graph), "1.7")) == 9
    assert most == 2


async def test_a_fact_that_finds_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "home") as graph:
        free, real = graph.store._pool.free, Draft._seal_chunk

        def full(draft: Draft, plain: Any, *, last: bool) -> None:
            if draft._held:
                raise NoSpace("full")
            real(draft, plain, last=last)

        with monkeypatch.context() as now, pytest.raises(NoSpace):
            now.setattr(Draft, "_seal_chunk", full)
            await graph.accounts.add_peer(principal(graph), "far", {"aet": "X" * 200_000})
        assert graph.store._pool.free == free
