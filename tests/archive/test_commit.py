"""What one batch answers when a part of it fails."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from radiolith.model import NoSpace, NotFound
from radiolith.storage.backends.segment_file import FileStream
from tests.archive.homes import opened, principal, store
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
