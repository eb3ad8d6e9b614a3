"""Objects whose headers take long to walk through hold up nobody but those who ask for them."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radiolith.archive import description
from radiolith.archive.reading import is_large
from radiolith.dicom.piecewise import json_pieces
from radiolith.graph import THREADS
from radiolith.model import Identity, Level, Outcome, Query
from tests.archive.homes import STOW, opened, principal, store
from tests.archive.objects import Made

ITEMS = 30_000  # of a report: 1.4 MB, and 60,000 tokens


def items(count: int) -> bytes:
    """Content Sequence of so many items with one short text each."""
    text = struct.pack("<HH2sHI", 0x0040, 0xA160, b"UT", 0, 20) + b"x" * 20
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(text)) + text
    return struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, count * len(item)) + item * count


def with_many_items(sop: str) -> bytes:
    return Made("1.2", "1.2.1", sop).part10() + items(ITEMS)


async def test_stores_and_reads_go_on_while_all_who_walk_a_long_header_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def held_up(*args: Any, **more: Any) -> Iterator[bytes]:
        go.wait()
        yield from json_pieces(*args, **more)

    monkeypatch.setattr(description, "json_pieces", held_up)
    async with opened(tmp_path / "home") as graph:
        who, retrieve = principal(graph), graph.archive.retrieve
        assert (await store(graph, with_many_items("1.2.1.1"))).outcome is Outcome.STORED
        (long,) = await graph.archive.versions.of(who, Identity("1.2", "1.2.1", "1.2.1.1"))
        assert is_large(long.layout)

        async def read() -> bytes:
            return b"".join([piece async for piece in retrieve.metadata_pieces(long, "/")])

        readers = [asyncio.ensure_future(read()) for _ in range(2 * THREADS)]
        try:
            async with asyncio.timeout(20):
                other = Made("1.2", "1.2.2", "1.2.2.1", pixels=bytes(300_000)).part10()
                intake = graph.archive.ingest.begin(who, STOW)
                await intake.write(other)
                assert (await (await intake.finish())).outcome is Outcome.STORED
                (short,) = await graph.archive.versions.of(who, Identity("1.2", "1.2.2", "1.2.2.1"))
                assert await retrieve.metadata(short, "/")
        finally:
            go.set()
        for reader in readers[1:]:
            reader.cancel()
        document, *_ = await asyncio.gather(*readers, return_exceptions=True)
        assert isinstance(document, bytes) and document.count(b"0040A160") == ITEMS


async def test_a_row_of_a_search_is_not_made_from_a_header_that_takes_seconds(tmp_path: Path) -> None:
    async with opened(tmp_path / "home") as graph:
        await store(graph, with_many_items("1.2.1.1"))
        page = await graph.archive.query.search(principal(graph), Query(Level.INSTANCE, include_all=True, limit=5))
        assert len(page.rows) == 1 and 0x0040A730 not in page.rows[0] and 0x00080018 in page.rows[0]


def test_the_first_look_at_a_long_header_is_taken_in_turns() -> None:
    pieces = json_pieces((items(ITEMS), b""), "1.2.840.10008.1.2.1", bulk_uri=str)
    assert next(pieces) == b""
