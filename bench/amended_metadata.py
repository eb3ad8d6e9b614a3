"""What a correction costs who reads: metadata and objects of a series with corrected headers, against the same as received.

    python bench/amended_metadata.py [SLICES]     (200; about 20 s)

One archive in a temporary folder, in this process, without HTTP. Each round asks once as received and once corrected, who is
first changes; what was cached is forgotten in between. The ratio is that of the fastest rounds; the goal for metadata is 1.2.
`amended_headers.py` is the same without the archive around it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

import corpus
from radiolith import app, config
from radiolith.archive.description import Description
from radiolith.graph import no_decoders
from radiolith.model import Edit, Held, Overlay, Source, Step
from radiolith.storage.cache import Cache

ROUNDS = 12
BASE = "http://pacs.example/dicom-web/studies/{study}/series/{series}/instances/{sop}/bulkdata/"


def edit(tag: int, vr: str, *values: object) -> Edit:
    return Edit(tag, vr, orjson.dumps({"Value": values}))


PERSON = (
    edit(0x00100010, "PN", {"Alphabetic": "Doe^Jane"}), edit(0x00100020, "LO", "4711"), edit(0x00100030, "DA", "19700101"),
    edit(0x00100040, "CS", "F"), edit(0x00081030, "LO", "Chest, corrected"),
)  # fmt: skip
LETTERS = (*PERSON[1:], edit(0x00100010, "PN", {"Alphabetic": "Доу^Джейн"}))
"""Which the character set of the headers has not: all their texts become UTF-8."""


def overlay(name: bytes, edits: tuple[Edit, ...]) -> Overlay:
    return Overlay(name * 16, (Step(b"1" * 16, 1_700_000_000_000_000, "x", "CORRECT", "", edits),))


OVERLAYS = {"five attributes": overlay(b"a", PERSON), "other letters": overlay(b"b", LETTERS)}


async def drained(pieces: AsyncIterator[bytes]) -> int:
    return sum([len(piece) async for piece in pieces])


class Asked:
    """The questions, to one archive."""

    def __init__(self, graph: app.Graph):
        self.retrieve: Any = graph.archive.retrieve
        self.forget()

    def forget(self) -> None:
        """A new, empty cache."""
        self.retrieve._description = Description(self.retrieve._reading, self.retrieve._headers, Cache(None, bytes(32)))

    async def metadata(self, helds: Sequence[Held]) -> int:
        return await drained(self.retrieve.series_metadata(helds, BASE))

    async def first(self, helds: Sequence[Held]) -> int:
        self.forget()
        return await self.metadata(helds)

    async def objects(self, helds: Sequence[Held]) -> int:
        total = 0
        async for _, stream in self.retrieve.ahead(helds):
            total += await drained(stream.chunks())
        return total


async def measured(graph: app.Graph, received: Sequence[Held], over: Overlay) -> None:
    corrected = [replace(held, overlay=over) for held in received]
    asked = Asked(graph)
    rows = {"metadata, first": asked.first, "metadata, again": asked.metadata, "objects": asked.objects}
    for name, question in rows.items():
        best = {0: (1e9, 1e9), 1: (1e9, 1e9)}
        sizes = [await question(received), await question(corrected)]
        assert sizes[0] < sizes[1], "the corrected ones hold what was before"
        for number in range(ROUNDS):
            for which in (number % 2, 1 - number % 2):
                wall, cpu = time.perf_counter(), time.process_time()
                await question((received, corrected)[which])
                spent = time.perf_counter() - wall, time.process_time() - cpu
                best[which] = min(best[which][0], spent[0]), min(best[which][1], spent[1])
        (wall, cpu), (wall_2, cpu_2) = best[0], best[1]
        each = 1e6 / len(received)
        print(f"  {name:16} as received {wall * each:6.0f} us ({cpu * each:5.0f} CPU)   corrected {wall_2 * each:6.0f} us"
              f" ({cpu_2 * each:5.0f} CPU)   x {wall_2 / wall:.2f} (x {cpu_2 / cpu:.2f} CPU)")  # fmt: skip


async def main(slices: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        await app.initialised(home, {})
        graph = app.build(config.load(home, {}), "bench", no_decoders, Cache(None, bytes(32)))
        who = replace(graph.accounts.system("bench"), role="admin")
        names = corpus.series(1, slices)
        for file in corpus.instances("mr", names):
            intake = graph.archive.ingest.begin(who, Source("stow", "bench"))
            await intake.write(file.replace(b"ISO_IR 192", b"ISO_IR 100"))  # as most modalities write
            await (await intake.finish())
        received = await graph.archive.retrieve.locate(who, names[0].values()["study"])
        header = received[0].layout.header_end - received[0].layout.dataset_start
        print(f"{len(received)} slices with headers of {header} bytes; a slice costs")
        for name, over in OVERLAYS.items():
            print(f"{name}:")
            await measured(graph, received, over)
        await graph.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
