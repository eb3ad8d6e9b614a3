"""A study whose headers are corrected: objects of every encoding, and every way out as a function of the archive.

A way out gives SOP Instance UID -> (transfer syntax, dataset): what a client has in the end.
"""

from __future__ import annotations

import io
import socket
import struct
import zipfile
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from radiolith.app import Graph
from radiolith.archive.outward import export
from radiolith.dicom.amended import Origin, amended
from radiolith.dicom.reader import scan
from radiolith.dicomweb.routes import Edge
from radiolith.dimse import asking, services
from radiolith.dimse.calls import Target
from radiolith.dimse.moving import Moving
from radiolith.dimse.scu import connect
from radiolith.dimse.server import Node, Server, Terms
from radiolith.dimse.sopclasses import STUDY_ROOT
from radiolith.index import heldrows, instances
from radiolith.model import Held, Layout, Overlay
from radiolith.storage.blobs import microseconds
from radiolith.trust.devices import Devices
from tests.archive.homes import opened, principal
from tests.archive.objects import BIG, CT, EXPLICIT, IMPLICIT, RAW, Made, _element
from tests.dicom.amending import edit, name, overlay, removed, step
from tests.dicomweb.driver import ask
from tests.dimse.peers import OURS, serving
from tests.dimse.test_delivery import everything, ours, sender
from tests.dimse.test_scu import keys

DEFLATED, JPEG, MPEG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.100"
STUDY, SERIES = "1.2", "1.2.3"
SYSTEM = "RADIOLITH"
PIXELS = bytes(range(256)) * 2
TAIL = _element(0xFFFCFFFC, "OB", b"behind the pixels", EXPLICIT)
LONG = 1_300_000  # more than a header that is read at once has

Given = dict[str, tuple[str, bytes]]

CORRECTED = overlay(
    step(name("Doe^Jane"), edit(0x00100020, "LO", "P2"), number=1),
    step(edit(0x00081030, "LO", "Abdomen"), removed(0x00080050, "SH"), number=2, why="COERCE"),
)
OTHER = overlay(step(name("Roe^Jane"), number=3))


def objects() -> list[tuple[str, bytes]]:
    """(transfer syntax, Part 10 file): plain, implicit, big endian, deflated, in fragments, video, with something behind
    the pixel data, without pixel data, with a long header in both ways."""
    return [_made(number, kind) for number, kind in enumerate(KINDS, 1)]


KINDS = ("plain", "plain", "implicit", "big", "deflated", "jpeg", "video", "tail", "raw", "long", "long deflated")


def sop(number: int) -> str:
    return f"{SERIES}.{number}"


def _made(number: int, kind: str) -> tuple[str, bytes]:
    one = Made(STUDY, SERIES, sop(number), number=number, pixels=PIXELS)
    if kind in ("raw", "long", "long deflated"):
        private = b"raw" * 100 if kind == "raw" else bytes(range(250)) * (LONG // 250)
        one = replace(one, pixels=b"", private=private)
    syntax = {"implicit": IMPLICIT, "big": BIG, "deflated": DEFLATED, "jpeg": JPEG, "video": MPEG}.get(kind, EXPLICIT)
    if syntax in (EXPLICIT, IMPLICIT, BIG):
        tail = TAIL if kind == "tail" else b""
        if kind != "long deflated":
            return syntax, one.part10(syntax) + tail
        syntax = DEFLATED
    dataset = one.dataset()
    if syntax == DEFLATED:
        machine = zlib.compressobj(wbits=-15)
        dataset = machine.compress(dataset) + machine.flush()
    else:
        at = dataset.index(struct.pack("<HH", 0x7FE0, 0x0010))
        items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data for data in (b"", PIXELS[:100]))
        pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + items
        dataset = dataset[:at] + pixels + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    plain = one.part10(EXPLICIT)
    meta = plain[: len(plain) - len(one.dataset())]
    old = _element(0x00020010, "UI", EXPLICIT.encode(), EXPLICIT)
    new = _element(0x00020010, "UI", syntax.encode(), EXPLICIT)
    length = struct.pack("<I", struct.unpack("<I", meta[140:144])[0] + len(new) - len(old))
    return syntax, meta[:140] + length + meta[144:].replace(old, new) + dataset


def inflated(syntax: str, dataset: bytes) -> bytes:
    return zlib.decompressobj(-15).decompress(dataset) if syntax == DEFLATED else dataset


def expected(over: Overlay | None) -> Given:
    """What every way out has to give, deflated ones inflated."""
    found: Given = {}
    for number, (syntax, file) in enumerate(objects(), 1):
        layout = scan(file).layout
        dataset = inflated(syntax, file[layout.dataset_start :])
        end = edge(layout, dataset)
        header = dataset[:end]
        if over is not None:
            header = amended(header, syntax, over, Origin(SYSTEM))
        found[sop(number)] = syntax, header + dataset[end:]
    return found


def edge(layout: Layout, dataset: bytes) -> int:
    """Where the header of a dataset ends that is not deflated any more."""
    return layout.header_end - layout.dataset_start if layout.pixel_tag else len(dataset)


class Corrections:
    """What the index says of the study: an overlay, or none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, over: Overlay | None = CORRECTED):
        self.overlay = over
        read = heldrows.held

        def held(*row: Any) -> Held:
            return replace(read(*row), overlay=self.overlay)

        for module in (heldrows, instances):
            monkeypatch.setattr(module, "held", held)


# ---------------------------------------------------------------- over the web


class Web:
    """A client of DICOMweb."""

    def __init__(self, graph: Graph, token: str):
        self.edge = Edge(graph.archive, graph.identities, graph.settings.limits)
        self.token = token

    @classmethod
    async def of(cls, graph: Graph) -> Web:
        return cls(graph, await graph.accounts.add_token(principal(graph), "tests", "admin"))

    async def get(self, path: str, **headers: str) -> Any:
        lines = {key.replace("_", "-"): value for key, value in headers.items()}
        return await ask(self.edge, "GET", path, token=self.token, headers=lines)


def _files(files: list[bytes]) -> Given:
    found: Given = {}
    for file in files:
        seen = scan(file)
        uid = seen.meta[0x00020003].decode().strip("\0 ")
        found[uid] = seen.layout.transfer_syntax, file[seen.layout.dataset_start :]
    assert len(found) == len(files)
    return found


ANY = "; transfer-syntax=*"


def multipart(path: str) -> Callable[[Graph, Path], Awaitable[Given]]:
    async def get(graph: Graph, folder: Path) -> Given:
        accept = f'multipart/related; type="application/dicom"{ANY}'
        reply = await (await Web.of(graph)).get(path, accept=accept)
        assert reply.status == 200 and "content-length" not in reply.headers, reply
        return _files([body for _, body in reply.parts])

    return get


async def singly(graph: Graph, folder: Path) -> Given:
    """One after the other, with the length said beforehand where it is known."""
    web, found = await Web.of(graph), list[bytes]()
    for number, kind in enumerate(KINDS, 1):
        path = f"/studies/{STUDY}/series/{SERIES}/instances/{sop(number)}"
        reply = await web.get(path, accept=f"application/dicom{ANY}")
        known = None if "deflated" in kind else str(len(reply.body))
        assert reply.status == 200 and reply.headers.get("content-length") == known
        parts = await web.get(path, accept=f'multipart/related; type="application/dicom"{ANY}')
        assert [body for _, body in parts.parts] == [reply.body]
        assert parts.headers.get("content-length") in (None, str(len(parts.body)))
        found.append(reply.body)
    return _files(found)


async def as_zip(graph: Graph, folder: Path) -> Given:
    reply = await (await Web.of(graph)).get(f"/studies/{STUDY}", accept=f"application/zip{ANY}")
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        return _files([archive.read(name) for name in archive.namelist()])


async def wado_uri(graph: Graph, folder: Path) -> Given:
    web, found = await Web.of(graph), list[bytes]()
    for number, (syntax, _) in enumerate(objects(), 1):
        query = f"requestType=WADO&studyUID={STUDY}&seriesUID={SERIES}&objectUID={sop(number)}"
        reply = await web.get(f"/wado?{query}&contentType=application/dicom&transferSyntax={syntax}")
        assert reply.status == 200
        found.append(reply.body)
    return _files(found)


# ---------------------------------------------------------------- over DIMSE, and to a folder


async def _kept(graph: Graph) -> Given:
    """What another archive has got, byte for byte."""
    found: Given = {}
    for held in await everything(graph):
        file = b"".join([bytes(p) async for p in graph.archive.retrieve.original(held).chunks()])
        found[held.identity.sop] = held.layout.transfer_syntax, file[held.layout.dataset_start :]
    return found


@asynccontextmanager
async def moving(graph: Graph) -> AsyncGenerator[Target]:
    """Our server, with an outbox for C-MOVE."""
    devices = Devices(graph.database, {OURS: "default"}, True)
    node = Node(
        graph.archive, (devices, graph.identities), services.offer(256 * 1024, True), Terms(9, 9, 256 * 1024, 60.0),
        microseconds,
    )  # fmt: skip
    node.moving = Moving(graph.traffic.outbox, sender(graph), devices.peer_with)
    server, listening = Server(node, lambda told: None), socket.create_server(("127.0.0.1", 0))
    await server.start(listening)
    try:
        yield Target(OURS, "127.0.0.1", int(listening.getsockname()[1]))
    finally:
        await server.stop()


async def c_move(graph: Graph, folder: Path) -> Given:
    async with opened(folder / "other") as other, serving(other) as destination, moving(graph) as target:
        about = {"aet": destination.aet, "address": "127.0.0.1", "port": destination.port, "tls": False}
        await graph.accounts.add_peer(principal(graph), "other", about)
        async with connect(target, asking.for_query(STUDY_ROOT.move), "WS") as association:
            told = asking.move(association, STUDY_ROOT.move, keys(StudyInstanceUID=STUDY), destination.aet)
            async with aclosing(told) as progress:
                last = [each async for each in progress][-1]
        assert last.completed == len(KINDS), last
        return await _kept(other)


async def c_get(graph: Graph, folder: Path) -> Given:
    stored = [(RAW if kind in ("raw", "long", "long deflated") else CT, syntax) for kind, (syntax, _) in
              zip(KINDS, objects(), strict=True)]  # fmt: skip
    async with opened(folder / "mine") as mine, serving(graph) as target:
        async with connect(target, asking.for_get(STUDY_ROOT.get, stored), "WS", ours(mine)) as association:
            told = asking.get(association, STUDY_ROOT.get, keys(StudyInstanceUID=STUDY))
            async with aclosing(told) as progress:
                last = [each async for each in progress][-1]
        assert last.completed == len(KINDS), last
        return await _kept(mine)


async def exported(graph: Graph, folder: Path) -> Given:
    summary = await export(graph.archive, principal(graph), [STUDY], folder / "out")
    assert summary.files == len(KINDS) and not summary.failed
    return _files([path.read_bytes() for path in (folder / "out").rglob("*.dcm")])


DOORS: dict[str, Callable[[Graph, Path], Awaitable[Given]]] = {
    "study": multipart(f"/studies/{STUDY}"),
    "series": multipart(f"/studies/{STUDY}/series/{SERIES}"),
    "instance": singly,
    "zip": as_zip,
    "WADO-URI": wado_uri,
    "C-MOVE": c_move,
    "C-GET": c_get,
    "export": exported,
}
