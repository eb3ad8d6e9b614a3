"""Real files of every kind under corrections: what goes out is the corrected header and, byte for byte, what lay behind it."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import orjson
import pydicom
import pytest

from radiolith.codecs.sandbox import Decoders
from radiolith.dicom.amended import Origin, amended
from radiolith.dicom.json import to_json
from radiolith.model import Failure, Held, Unsupported
from tests import campaign
from tests.archive.corrected import edge, inflated
from tests.archive.homes import opened, principal, store
from tests.archive.objects import EXPLICIT, IMPLICIT
from tests.dicom.amending import edit, name, overlay, removed, step

EVERY = 1 if campaign.LONG else 6
"""Of the files, in runs that are not long."""
LATIN = overlay(
    step(name("Doe^Jane"), edit(0x00100020, "LO", "P2"), edit(0x00081030, "LO", "Corrected"), removed(0x00101000)),
    step(edit(0x00100040, "CS", "O"), edit(0x00091001, "LO", "x", creator="RADIOLITH TEST"), number=2, why="COERCE"),
)
KANJI = overlay(step(edit(0x00100010, "PN", {"Alphabetic": "Li^Na", "Ideographic": "李^娜"}), number=3))


async def read(stream: object) -> bytes:
    return b"".join([bytes(piece) async for piece in stream.chunks()])  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore")
async def test_real_files_go_out_corrected(corpus_files: list[Path], tmp_path: Path, decoders: Decoders) -> None:
    outcomes = Counter[str]()
    async with opened(tmp_path / "home", decoders) as graph:
        for number, path in enumerate(corpus_files[::EVERY]):
            if path.stat().st_size > 8 << 20:
                continue
            receipt = await store(graph, path.read_bytes())
            if receipt.identity is None or not receipt.identity.study:
                continue
            helds = await graph.archive.versions.of(principal(graph), receipt.identity)
            (held,) = [one for one in helds if one.blob.object_id == receipt.object_id] or helds[:1]
            for over in (LATIN, KANJI):
                await checked(graph.archive.retrieve, replace(held, overlay=over), outcomes, path, number)
    print(dict(outcomes))
    assert outcomes["given"] > 20 and outcomes["read by pydicom"] > outcomes["given"] * 0.9
    assert outcomes["made over"] > outcomes["given"] // 2


async def checked(retrieve: object, held: Held, outcomes: Counter[str], path: Path, number: int) -> None:
    kept: Held = replace(held, overlay=None)
    layout = held.layout
    stored = (await read(retrieve.original(kept)))[layout.dataset_start : layout.dataset_end]  # type: ignore[attr-defined]
    file = await read(stream := await retrieve.part10(held))  # type: ignore[attr-defined]
    assert stream.size in (None, len(file)), path
    plain = await read(await retrieve.part10(kept))  # type: ignore[attr-defined]
    meta = len(plain) - len(stored)
    assert file[:meta] == plain[:meta]
    before, after = inflated(layout.transfer_syntax, stored), inflated(layout.transfer_syntax, file[meta:])
    end = edge(layout, before)
    encoding = retrieve._headers.description_now(kept)[1]  # type: ignore[attr-defined]
    header = amended(before[:end], encoding, held.overlay, Origin())  # type: ignore[arg-type]
    assert after == header + before[end:] and after != before, path
    outcomes["given"] += 1
    document = orjson.loads(await retrieve.metadata(held, "/"))  # type: ignore[attr-defined]
    wanted = orjson.loads(to_json(header, encoding, bulk_uri=lambda key: "/" + key))
    assert {key: value for key, value in document.items() if int(key, 16) < 0x7FE00000} == {
        key: value for key, value in wanted.items() if int(key, 16) < 0x7FE00000
    }, path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pydicom.dcmread(io.BytesIO(plain))
            seen = pydicom.dcmread(io.BytesIO(file))
            assert str(seen.PatientName).startswith(("Doe^Jane", "Li^Na")), path
            outcomes["read by pydicom"] += 1
        except (AttributeError, ValueError, OSError, KeyError, NotImplementedError) as error:
            outcomes[f"pydicom: {type(error).__name__}"] += 1
    try:
        over = await read(await retrieve.part10(held, (IMPLICIT if number % 2 else EXPLICIT,)))  # type: ignore[attr-defined]
        assert b"Doe^Jane" in over or b"Li^Na" in over, path
        outcomes["made over"] += 1
    except Unsupported:
        outcomes["no codec"] += 1
    except Failure as failure:
        outcomes[f"not made over: {failure}"[:60]] += 1
