"""The jobs process forgets failed sign-ins that matter no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from radiolith.index import sign_ins
from radiolith.jobs.housekeeping import Housekeeping, Parts
from tests.archive.homes import opened

DAY = 24 * 3600 * 1_000_000


async def test_a_sweep_forgets_old_failures_and_keeps_fresh_ones(tmp_path: Path) -> None:
    nothing: Any = None
    async with opened(tmp_path / "home") as graph:
        with graph.database.write() as tx:
            sign_ins.count(tx, b"old", DAY, 1)
            sign_ins.count(tx, b"fresh", 2 * DAY, 1)
        commitment = graph.archive.commitment
        parts = Parts(
            graph.database, graph.store, graph.committer, commitment, nothing, graph.rebuild, None, lambda: 2 * DAY, "n"
        )
        await Housekeeping(parts)._sweep()
        with graph.database.read() as read:
            assert read.all("SELECT subject FROM failed_sign_ins") == [(b"fresh",)]
