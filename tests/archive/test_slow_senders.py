"""Senders that stall hold up nobody else."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from radiolith.archive.ingest import BUFFERS
from radiolith.model import Outcome
from tests.archive.homes import STOW, opened, principal, store
from tests.archive.objects import Made


async def test_more_stalled_senders_than_buffers(tmp_path: Path) -> None:
    async with opened(tmp_path / "home") as graph:
        who = principal(graph)
        stalled = [graph.archive.ingest.begin(who, STOW) for _ in range(3 * BUFFERS)]
        for number, intake in enumerate(stalled):
            await intake.write(os.urandom(1 if number % 3 else 100_000))
        small = Made("1.2", "1.2.1", "1.2.1.1").part10()
        large = Made("1.2", "1.2.1", "1.2.1.2", pixels=os.urandom(300_000)).part10()
        huge = Made("1.2", "1.2.1", "1.2.1.3", pixels=os.urandom(3_000_000)).part10()
        async with asyncio.timeout(20):
            for data in (small, large, huge):
                receipt = await store(graph, data)
                assert receipt.outcome is Outcome.STORED and receipt.identity is not None
                held = await graph.archive.versions.of(who, receipt.identity)
                pieces = [bytes(p) async for p in graph.archive.retrieve.original(held[0]).chunks()]
                assert b"".join(pieces) == data
        for intake in stalled:
            await intake.abort()
        assert (await store(graph, Made("1.2", "1.2.1", "1.2.1.4").part10())).outcome is Outcome.STORED


async def test_who_is_cancelled_while_the_disk_is_slow_keeps_no_buffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "home") as graph:
        ingest, who = graph.archive.ingest, principal(graph)
        free = graph.store._pool.free

        async def no_room() -> None:
            await asyncio.Event().wait()

        data = Made("1.2", "1.2.1", "1.2.1.1", pixels=os.urandom(300_000)).part10()
        flowing = ingest.begin(who, STOW)
        await flowing.write(Made("1.2", "1.2.1", "1.2.1.2", pixels=os.urandom(3_000_000)).part10())
        filled = [ingest.begin(who, STOW) for _ in range(BUFFERS - 1)]
        for intake in filled:
            await intake.write(data)
        with monkeypatch.context() as slow:
            slow.setattr(graph.committer, "room", no_room)
            tasks = [asyncio.create_task(intake.finish()) for intake in (*filled, flowing)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        async with asyncio.timeout(20):
            assert all([await ingest.borrow() for _ in range(BUFFERS)])
        assert graph.store._pool.free == free


async def test_a_free_buffer_is_not_lost_with_who_was_called_to_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "home") as graph:
        ingest = graph.archive.ingest
        lent = [await ingest.borrow() for _ in range(BUFFERS)]
        first, second = (asyncio.create_task(ingest.borrow()) for _ in range(2))
        await asyncio.sleep(0)
        ingest.give_back(lent.pop())
        first.cancel()  # called, and gone before it came
        async with asyncio.timeout(20):
            assert await second
