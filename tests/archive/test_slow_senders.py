"""Senders that stall hold up nobody else."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

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
