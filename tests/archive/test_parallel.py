"""Two workers receive one UID at the same moment: one well-defined state, whoever was first."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from radiolith import app
from radiolith.model import Identity, Outcome, Receipt
from tests import campaign
from tests.archive.homes import opened, principal, store
from tests.archive.objects import Made
from tests.archive.test_histories import difference, lines

RACES = campaign.count("races for one UID between two workers", 40, 5_000)
STUDY, SERIES = "1.2.3", "1.2.3.4"


class Worker(threading.Thread):
    """A graph with an event loop of its own, as another process has."""

    def __init__(self, home: Path, name: str, files: list[bytes], start: threading.Barrier):
        super().__init__(name=name)
        self.home, self.files, self.barrier = home, files, start
        self.receipts: list[Receipt] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self.work())
        except BaseException as error:
            self.error = error
            self.barrier.abort()

    async def work(self) -> None:
        async with opened(self.home, name=self.name) as graph:
            for data in self.files:
                await asyncio.to_thread(self.barrier.wait, 30)
                self.receipts.append(await store(graph, data))


@pytest.mark.timeout(0)  # every wait inside has its own end
@pytest.mark.parametrize("same", [True, False])
async def test_parallel_senders_of_one_uid(same: bool, tmp_path: Path) -> None:
    home = tmp_path / "home"
    await app.initialised(home, {})
    start = threading.Barrier(2)
    sops = [f"{SERIES}.{number}" for number in range(RACES)]
    contents = ("one", "one" if same else "two")
    workers = [
        Worker(home, f"w{n}", [Made(STUDY, SERIES, sop, description=content).part10() for sop in sops], start)
        for n, content in enumerate(contents)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        await asyncio.to_thread(worker.join)
    errors = [worker.error for worker in workers if worker.error]
    assert not errors, errors
    second = Outcome.DUPLICATE if same else Outcome.VERSION
    winners: set[int] = set()
    async with opened(home) as graph:
        who = principal(graph)
        for number, sop in enumerate(sops):
            got = [worker.receipts[number].outcome for worker in workers]
            assert sorted(one.value for one in got) == sorted((Outcome.STORED.value, second.value)), (sop, got)
            winners.add(got.index(Outcome.STORED))
            held = await graph.archive.versions.of(who, Identity(STUDY, SERIES, sop))
            assert len(held) == (1 if same else 2)
            assert [one.current for one in held].count(True) == 1
            for one in held:
                stream = graph.archive.retrieve.original(one)
                back = b"".join([bytes(piece) async for piece in stream.chunks()])
                assert back in (worker.files[number] for worker in workers)
        url = graph.settings.database.url
    before = lines(url)
    await asyncio.to_thread(app.rebuild, home)
    assert lines(url) == before, difference(before, lines(url))
    print(f"{RACES} races, won by worker {sorted(winners)}")
