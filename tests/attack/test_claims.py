"""Numbers in a header that the bytes do not cover: nobody is made to count so far."""

from __future__ import annotations

import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from radiolith.dicom.reader import scan
from tests.dicomweb.objects import dataset, part10

CLAIMED = 2_147_483_647


@pytest.mark.parametrize("there", [1, 2, 3])
def test_encapsulated_frames_that_are_not_there(there: int) -> None:
    ds = dataset(NumberOfFrames=CLAIMED, BitsAllocated=8, BitsStored=8, HighBit=7)
    ds.PixelData = encapsulate([b"\xff\xd8\xff\xd9"] * there, has_bot=False)
    found = scan(part10(ds, JPEGBaseline8Bit))
    assert found.layout.frames <= there and found.warnings


@pytest.mark.parametrize(
    ("rows", "bytes_there", "most"), [(16, 512, 1), (16, 1024, 2), (16, 1026, 3), (0, 512, 1), (1, 64, 2)]
)
def test_native_frames_that_are_not_there(rows: int, bytes_there: int, most: int) -> None:
    ds = dataset(NumberOfFrames=CLAIMED, Rows=rows, PixelData=bytes(bytes_there))
    found = scan(part10(ds, ExplicitVRLittleEndian))
    assert found.layout.frames == most
