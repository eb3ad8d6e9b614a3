"""An edge over the verbs in memory, with a few objects in it."""

from __future__ import annotations

import pytest

from radiolith.dicomweb.routes import Edge
from radiolith.model import Held, Identity, Layout, Pixels
from tests.dicomweb.fake import FakeArchive, FakeIdentities
from tests.dicomweb.objects import ct

EXPLICIT = "1.2.840.10008.1.2.1"
JPEG2000 = "1.2.840.10008.1.2.4.90"


@pytest.fixture
def archive() -> FakeArchive:
    return FakeArchive()


@pytest.fixture
def edge(archive: FakeArchive) -> Edge:
    return Edge(archive, FakeIdentities(), random=lambda n: bytes(n))  # type: ignore[arg-type]


@pytest.fixture
def slices(archive: FakeArchive) -> list[Held]:
    """Study 1.2, series 1.2.3: three CT slices in Explicit VR Little Endian."""
    for n in (1, 2, 3):
        archive.keep(ct(study="1.2", series="1.2.3", sop=f"1.2.3.{n}"), None)
    for kept in archive.kept.values():
        layout = kept.held.layout
        kept.frames = [kept.data[layout.pixel_start : layout.pixel_start + layout.pixel_length]]
        kept.document = {"00080018": {"vr": "UI", "Value": [kept.held.identity.sop]}}
    return [kept.held for kept in archive.kept.values()]


@pytest.fixture
def compressed(archive: FakeArchive) -> Held:
    """Study 1.9: three JPEG 2000 frames in one object."""
    frames = [b"frame one", b"frame two", b"frame three"]
    layout = Layout(
        JPEG2000, 0, 100, 100, 50, Pixels.ENCAPSULATED, 0x7FE00010, 50, 50, frames=3, rows=4, columns=4, samples=1,
        bits_allocated=16,
    )  # fmt: skip
    identity = Identity("1.9", "1.9.1", "1.9.1.1")
    return archive.add(identity, bytes(100), layout, "1.2.840.10008.5.1.4.1.1.2", frames=frames)
