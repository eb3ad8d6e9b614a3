"""Objects with large values outside the pixel data, made piece by piece; and, run as a module, a process that reads one
and says how much it grew."""

from __future__ import annotations

import asyncio
import hashlib
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson

from radiolith.app import Graph
from radiolith.archive.ports import Stream
from radiolith.dicom.part10 import file_meta
from radiolith.model import Held, Receipt
from tests.archive.homes import STOW, opened, principal
from tests.archive.objects import EXPLICIT, IMPLICIT, RAW, Made, _element
from tests.dicom.amending import name, overlay, step

DEFLATED = "1.2.840.10008.1.2.1.99"
OUTER, INNER = "00091001", "0040A730/1/0040A730/1/00420011"
"""Paths of the two values: private, and inside two sequences."""

CORRECTED = overlay(step(name("Corrected^Value")))

_PIECE = 1 << 20
_UNDEFINED = 0xFFFFFFFF


def pattern(size: int) -> Iterator[bytes]:
    """Bytes that tell where they are, `size` of them."""
    for at in range(0, size, _PIECE):
        yield (struct.pack("<Q", at) * (_PIECE // 8))[: min(_PIECE, size - at)]


def dataset(large: int, nested: int, *more: bytes) -> Iterator[bytes]:
    """Explicit VR little endian, without pixels; the outer sequence has no length, the inner one has. Even sizes."""
    plain = Made("1.2", "1.2.3", "1.2.3.1", name="Large^Value").dataset()
    at = plain.index(struct.pack("<HH", 0x0010, 0x0010))
    yield plain[:at] + _element(0x00090010, "LO", b"RADIOLITH TEST", EXPLICIT)
    yield struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, large)
    yield from pattern(large)
    yield plain[at:]
    yield struct.pack("<HH2sHIHHI", 0x0040, 0xA730, b"SQ", 0, _UNDEFINED, 0xFFFE, 0xE000, _UNDEFINED)
    value = struct.pack("<HH2sHI", 0x0042, 0x0011, b"OB", 0, nested)
    inner = len(value) + nested
    yield struct.pack("<HH2sHIHHI", 0x0040, 0xA730, b"SQ", 0, inner + 8, 0xFFFE, 0xE000, inner) + value
    yield from pattern(nested)
    yield struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    yield from more


def deflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    machine = zlib.compressobj(6, wbits=-15)
    for piece in pieces:
        yield machine.compress(piece)
    yield machine.flush()


async def keep(graph: Graph, pieces: Iterable[bytes], syntax: str = EXPLICIT) -> Receipt:
    """A file of these dataset bytes, stored as it is made."""
    intake = graph.archive.ingest.begin(principal(graph), STOW)
    await intake.write(file_meta(RAW, "1.2.3.1", syntax))
    for piece in pieces:
        await intake.write(piece)
    return await (await intake.finish())


async def one(graph: Graph) -> Held:
    return (await graph.archive.retrieve.locate(principal(graph), "1.2"))[0]


def digest(pieces: Iterable[bytes]) -> str:
    found = hashlib.blake2b()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()


async def digest_of(stream: Stream) -> str:
    found = hashlib.blake2b()
    async for piece in stream.chunks():
        found.update(piece)
    return found.hexdigest()


def _peak() -> int:
    """Bytes of memory that this process had at most since `_forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


async def _measured(home: Path) -> dict[str, object]:
    async with opened(home) as graph:
        retrieve, held = graph.archive.retrieve, await one(graph)
        async for _ in (await retrieve.bulkdata(held, INNER)).chunks(0, 10):
            pass
        _forget_peak()
        before = _peak()
        found: dict[str, object] = {}
        for form in ("json", "xml"):
            pieces = [piece async for piece in retrieve.metadata_pieces(held, "/", form)]
            found[form] = b"".join(pieces).decode()
        found["paths"] = [path async for path in retrieve.bulk_paths(held)]
        for path in (OUTER, INNER):
            stream = await retrieve.bulkdata(held, path)
            found[path] = [stream.size, await digest_of(stream)]
        recoded = await retrieve.part10(held, (IMPLICIT,))
        found["recoded"] = sum([len(piece) async for piece in recoded.chunks()])
        found["growth"] = _peak() - before
        _forget_peak()
        before = _peak()
        corrected = replace(held, overlay=CORRECTED)
        stream = await retrieve.part10(corrected)
        found["corrected"] = [stream.size, sum([len(piece) async for piece in stream.chunks()])]
        found["corrected json"] = b"".join([p async for p in retrieve.metadata_pieces(corrected, "/")]).decode()
        value = await retrieve.bulkdata(corrected, OUTER)
        found["corrected value"] = [value.size, await digest_of(value)]
        return {**found, "corrected growth": _peak() - before}


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(asyncio.run(_measured(Path(sys.argv[1])))))
