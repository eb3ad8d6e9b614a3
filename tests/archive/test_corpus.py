"""Every real file: stored or quarantined with a reason, and handed back exactly."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from radiolith.codecs.sandbox import Decoders
from radiolith.model import Outcome
from tests.archive.homes import opened, principal, store


@pytest.fixture(scope="module")
def pieces() -> tuple[int, ...]:
    return (1 << 20, 4_097)


async def test_every_file_is_kept_and_comes_back_exactly(
    corpus_files: list[Path], pieces: tuple[int, ...], tmp_path: Path, decoders: Decoders
) -> None:
    outcomes: Counter[str] = Counter()
    async with opened(tmp_path / "home", decoders) as graph:
        who = principal(graph)
        for number, path in enumerate(corpus_files):
            data = path.read_bytes()
            receipt = await store(graph, data, piece=pieces[number % 2])
            outcomes[receipt.outcome.value] += 1
            if receipt.outcome is Outcome.QUARANTINED:
                assert receipt.reason, path
                stream = await graph.archive.quarantine.original(who, receipt.object_id.hex())
                assert b"".join([bytes(p) async for p in stream.chunks()]) == data, path
                continue
            assert receipt.identity is not None
            held = await graph.archive.versions.of(who, receipt.identity)
            mine = next(h for h in held if h.blob.object_id == receipt.object_id)
            back = b"".join([bytes(p) async for p in graph.archive.retrieve.original(mine).chunks()])
            if receipt.outcome is not Outcome.DUPLICATE:  # the same dataset may come in a file with other meta
                assert back == data, path
            dataset = back[mine.layout.dataset_start : mine.layout.dataset_end]
            assert dataset in data, path
            given = await graph.archive.retrieve.part10(mine)
            whole = b"".join([bytes(p) async for p in given.chunks()])
            assert len(whole) == given.size
            assert whole.endswith(dataset) and hashlib.sha256(dataset).digest() == mine.sha256, path
    print(dict(outcomes))
    assert sum(outcomes.values()) == len(corpus_files)
    assert outcomes["stored"] + outcomes["version"] + outcomes["encoding"] > outcomes["quarantined"] * 5
