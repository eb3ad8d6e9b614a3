"""What a correction costs who reads: metadata and objects of a series with corrected headers, against one as received.

    python bench/amended_metadata.py [SLICES]     (200; about 20 s)

One archive in a temporary folder, in this process, without HTTP, with two series of the same kind in studies of two patients;
one patient is corrected by the verb. Each round asks for both, from finding the instances to the last byte; which is first
changes, and what was cached is forgotten in between. The ratio is that of the fastest rounds; the goal for metadata is 1.2.
`amended_headers.py` is the same without the archive around it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import corpus
from radiolith import app, config
from radiolith.archive.description import Description
from radiolith.archive.subjects import PatientKey, of_patient, of_study
from radiolith.graph import no_decoders
from radiolith.model import Principal, Source
from radiolith.storage.cache import Cache

ROUNDS = 12
BASE = "http://pacs.example/dicom-web/studies/{study}/series/{series}/instances/{sop}/bulkdata/"
PERSON = {"PatientName": "Doe^Jane", "PatientBirthDate": "19700101", "PatientSex": "F", "PatientComments": "corrected"}
LETTERS = {"PatientName": "Доу^Джейн"}
"""Which the character set of the headers has not: all their texts become UTF-8."""


async def drained(pieces: AsyncIterator[bytes]) -> int:
    return sum([len(piece) async for piece in pieces])


class Asked:
    """The questions, to one archive."""

    def __init__(self, graph: app.Graph, who: Principal):
        self.retrieve: Any = graph.archive.retrieve
        self.who = who

    async def first(self, study: str) -> int:
        reading, headers = self.retrieve._reading, self.retrieve._headers
        self.retrieve._description = Description(reading, headers, Cache(None, bytes(32)))
        return await self.again(study)

    async def again(self, study: str) -> int:
        helds = await self.retrieve.locate(self.who, study)
        return await drained(self.retrieve.series_metadata(helds, BASE))

    async def objects(self, study: str) -> int:
        total = 0
        async for _, stream in self.retrieve.ahead(await self.retrieve.locate(self.who, study)):
            total += await drained(stream.chunks())
        return total


async def measured(asked: Asked, studies: tuple[str, str], slices: int) -> None:
    """`studies`: as received, and corrected."""
    rows = {"metadata, first": asked.first, "metadata, again": asked.again, "objects": asked.objects}
    for name, question in rows.items():
        best = [(1e9, 1e9), (1e9, 1e9)]
        sizes = [await question(study) for study in studies]
        assert sizes[0] < sizes[1], "the corrected ones hold what was before"
        for number in range(ROUNDS):
            for which in (number % 2, 1 - number % 2):
                wall, cpu = time.perf_counter(), time.process_time()
                await question(studies[which])
                spent = time.perf_counter() - wall, time.process_time() - cpu
                best[which] = min(best[which][0], spent[0]), min(best[which][1], spent[1])
        (wall, cpu), (wall_2, cpu_2) = best
        each = 1e6 / slices
        print(f"  {name:16} as received {wall * each:6.0f} us ({cpu * each:5.0f} CPU)   corrected {wall_2 * each:6.0f} us"
              f" ({cpu_2 * each:5.0f} CPU)   x {wall_2 / wall:.2f} (x {cpu_2 / cpu:.2f} CPU)")  # fmt: skip


async def main(slices: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        await app.initialised(home, {})
        graph = app.build(config.load(home, {}), "bench", no_decoders, Cache(None, bytes(32)))
        who = replace(graph.accounts.system("bench"), role="admin")
        both = [corpus.series(1, slices, study=number) for number in (1, 2)]
        for file in corpus.instances("mr", both[0] + both[1]):
            intake = graph.archive.ingest.begin(who, Source("stow", "bench"))
            await intake.write(file.replace(b"ISO_IR 192", b"ISO_IR 100"))  # as most modalities write
            await (await intake.finish())
        studies = both[0][0].values()["study"], both[1][0].values()["study"]
        patient = of_patient(PatientKey(both[1][0].values()["patient"], "KLINIKUM-SUED"))
        (held, *_) = await graph.archive.retrieve.locate(who, studies[0])
        print(
            f"{slices} slices with headers of {held.layout.header_end - held.layout.dataset_start} bytes; a slice costs"
        )
        for title, person in (("five attributes", PERSON), ("other letters", LETTERS)):
            await graph.decisions.amend.change(who, patient, person)
            await graph.decisions.amend.change(who, of_study(studies[1]), {"StudyDescription": title})
            print(f"{title}:")
            await measured(Asked(graph, who), studies, slices)
        await graph.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
