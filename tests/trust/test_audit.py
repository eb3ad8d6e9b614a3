"""Read audit: one record a window, durable before the read goes on, never lost to a failure in silence."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from pathlib import Path

import pytest

from radiolith.index import audit
from radiolith.model import AuditEvent, NotAllowed, Unavailable
from tests.archive.homes import STOW, opened, principal


async def events(graph) -> list[AuditEvent]:
    with graph.database.read() as read:
        found = audit.events(read, principal(graph).tenant.id)
    return [event for _, event in found if event.action in ("retrieve", "query")]


async def test_many_reads_of_one_study_are_one_record_with_a_count(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with opened(home) as graph:
        who = principal(graph)
        await asyncio.gather(*(graph.reads.note(who, "1.2.3", "", 1) for _ in range(50)))
        assert len(await events(graph)) == 1, "durable before the read goes on"
        await graph.reads.note(who, "1.2.4", "", 1)
        await graph.reads.note(who, "1.2.3", "export", 1)
    async with opened(home) as graph:
        found = {(event.study, event.purpose): event.count for event in await events(graph)}
    assert found[("1.2.4", "")] == 1 and found[("1.2.3", "export")] == 1
    assert 1 <= found[("1.2.3", "")] <= 50


async def test_a_read_fails_when_its_record_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "home") as graph:
        good = graph.database.write

        @contextmanager
        def broken(*, durable: bool = True):
            raise Unavailable("down")
            yield

        monkeypatch.setattr(graph.database, "write", broken)
        with pytest.raises(Unavailable):
            await graph.reads.note(principal(graph), "1.2.3", "", 1)
        monkeypatch.setattr(graph.database, "write", good)
        await graph.reads.note(principal(graph), "1.2.3", "", 1)
        assert len(await events(graph)) == 1


async def test_a_refused_try_is_on_record(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with opened(home) as graph:
        with pytest.raises(NotAllowed):
            graph.archive.ingest.begin(principal(graph, "reader"), STOW)
    async with opened(home) as graph:
        with graph.database.read() as read:
            found = [event for _, event in audit.events(read, principal(graph).tenant.id)]
    assert [(event.action, event.outcome) for event in found if event.outcome == "refused"] == [("store", "refused")]
