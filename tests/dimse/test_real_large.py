"""A multi-frame object that is made while it is sent, larger than memory should ever hold, and back by C-GET."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from radiolith.dimse import asking
from radiolith.dimse.association import Wanted
from radiolith.dimse.calls import Target
from radiolith.dimse.commands import Command
from radiolith.dimse.exchange import Done
from radiolith.dimse.messages import Outgoing, command_only
from radiolith.dimse.operation import Operation
from radiolith.dimse.pdu import AssociateAccept
from radiolith.dimse.scu import connect
from radiolith.dimse.sopclasses import STUDY_ROOT
from tests import campaign
from tests.archive.homes import opened
from tests.archive.objects import CT, ROOT, Made
from tests.dimse.real import Memory, Node, serving
from tests.dimse.speaker import STORE_ID, Speaker
from tests.dimse.test_delivery import ours

JPEG = "1.2.840.10008.1.2.4.70"
FRAME = 1 << 20
FRAMES = campaign.count("frames of 1 MiB in the largest object by C-STORE and C-GET", 1_024, 5_120)
GROWTH = 100 << 20
"""Bytes of all processes together, above what they hold when idle (about 200 MB)."""
STUDY, SOP = f"{ROOT}.5", f"{ROOT}.5.1.1"


def pieces() -> Iterator[bytes]:
    """The data set: lossless JPEG by its name, one fragment a frame, an empty offset table."""
    made = Made(STUDY, f"{STUDY}.1", SOP, pixels=bytes(512))
    head = made.dataset()
    frames = str(FRAMES).encode()
    frames += b" " * (len(frames) % 2)
    at = head.index(struct.pack("<HH", 0x0028, 0x0010))
    number = struct.pack("<HH2sH", 0x0028, 0x0008, b"IS", len(frames)) + frames
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    head = head[:at] + number + head[at : len(head) - 512 - 12]
    yield head + pixels + struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    block = hashlib.shake_256(b"frame").digest(FRAME)
    for frame in range(FRAMES):
        yield struct.pack("<HHI", 0xFFFE, 0xE000, FRAME)
        yield b"\xff\xd8" + struct.pack("<I", frame) + block[6:-2] + b"\xff\xd9"
    yield struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


class Hashing:
    """Takes an object in and keeps its hash."""

    def __init__(self, operation: Operation, done: Done):
        self._operation, self._done, self._hash, self.size = operation, done, hashlib.sha256(), 0

    async def feed(self, data: memoryview) -> None:
        self._hash.update(data)
        self.size += len(data)

    async def finish(self) -> None:
        self._operation.respond(0)
        self._done(self._operation)

    async def abort(self) -> None:
        self._done(self._operation)

    def digest(self) -> str:
        return self._hash.hexdigest()


def sent(node: Node) -> tuple[str, int]:
    """Hash and size of what was sent."""
    total = sum(map(len, pieces()))
    summed = hashlib.sha256()
    command = Command.of(
        "C-STORE-RQ", True, MessageID=1, AffectedSOPClassUID=CT, AffectedSOPInstanceUID=SOP, Priority=0
    )
    with Speaker(node.dicom) as peer:
        peer.socket.settimeout(120)
        assert isinstance(peer.associate((Wanted(CT, (JPEG,)), Wanted(CT, (JPEG,)))), AssociateAccept)
        outgoing = Outgoing(STORE_ID, total, 1 << 17)
        peer.say(command_only(STORE_ID, command, 1 << 17))
        for piece in pieces():
            summed.update(piece)
            peer.say(b"".join(outgoing.feed(piece)))
        assert peer.answer().status == 0
        peer.release()
    return summed.hexdigest(), total


async def got(node: Node, home: Path) -> Hashing:
    found: list[Hashing] = []

    def storing(operation: Operation, done: Done) -> Hashing:
        found.append(Hashing(operation, done))
        return found[-1]

    wanted = [*asking.for_query(STUDY_ROOT.get), Wanted(CT, (JPEG,), scu=False, scp=True)]
    async with opened(home) as graph:
        target = Target("RADIOLITH", "127.0.0.1", node.dicom)
        async with connect(target, wanted, "GETTER", ours(graph)) as association:
            association.exchange.storing = storing
            identifier = partial(asking.identifier, "STUDY", {(0x0020000D,): STUDY})
            told = [each async for each in asking.get(association, STUDY_ROOT.get, identifier)]
    assert (told[-1].status, told[-1].completed) == (0, 1)
    return found[0]


@pytest.mark.timeout(900)
async def test_a_gigabyte_costs_no_memory_on_its_way_in_or_out(tmp_path: Path) -> None:
    with serving(tmp_path / "node", {}) as node:
        node.get("/dicom-web/studies")
        with Memory(node) as inward:
            digest, size = sent(node)
        with Memory(node) as outward:
            back = await got(node, tmp_path / "asker")
    assert (back.digest(), back.size) == (digest, size)
    print(f"{size >> 20} MiB: {inward.before >> 20} MiB idle, {inward.grown >> 20} in, {outward.grown >> 20} out")
    assert inward.grown < GROWTH and outward.grown < GROWTH
