"""Where a frame's bytes are, from a Layout alone.

Owns: the arithmetic of native frames, the form of the frame table (16 bytes a frame: offset and length, two unsigned
64-bit little endian numbers) and the cutting of an extent into fragments. Must never: read pixel values, or trust a
count that the data do not cover.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from struct import Struct

from radiolith.dicom.element import ITEM
from radiolith.dicom.limits import Unparsable
from radiolith.model import INLINE_FRAMES, BadInput, Layout, NotFound, Pixels

TABLE_ENTRY = Struct("<QQ")
_ITEM_HEADER = Struct("<HHI")


def frame_bits(layout: Layout) -> int:
    """Bits of one native frame. `samples` counts what is stored: 2 for YBR_FULL_422 (PS3.3 C.7.6.3.1.2)."""
    return layout.rows * layout.columns * layout.samples * layout.bits_allocated


def frame_range(layout: Layout, number: int) -> tuple[int, int, int]:
    """(offset in the payload, bytes, bits to skip in the first byte) of native frame `number`, counted from 0.

    Frames of 1-bit pixels follow each other without padding (PS3.5 8.1.1), so a frame may begin inside a byte. Raises
    NotFound where the data have no such frame, BadInput where frames have no size.
    """
    bits = frame_bits(layout)
    if layout.pixels is not Pixels.NATIVE or bits <= 0:
        raise BadInput("the object has no frames that can be addressed")
    first = number * bits
    if not 0 <= number < layout.frames or first + bits > layout.pixel_length * 8:
        raise NotFound(f"there is no frame {number + 1}")
    start, skip = divmod(first, 8)
    return layout.pixel_start + start, (skip + bits + 7) // 8, skip


def frames_present(layout: Layout) -> int:
    """How many native frames the pixel data cover, at most as many as declared."""
    bits = frame_bits(layout)
    if layout.pixels is not Pixels.NATIVE or bits <= 0:
        return 0
    return min(layout.frames, layout.pixel_length * 8 // bits)


def realign(data: bytes, skip: int, bits: int) -> bytes:
    """A frame of 1-bit pixels (least significant bit first) that began `skip` bits into `data`, moved to bit 0.

    Unused bits of the last byte are zero.
    """
    value = int.from_bytes(data, "little") >> skip & (1 << bits) - 1
    return value.to_bytes((bits + 7) // 8, "little")


def pack_table(extents: array[int]) -> bytes:
    """The frame table as it is stored: extents are offset, length, offset, length …"""
    if sys.byteorder == "big":
        extents = array("Q", extents)
        extents.byteswap()
    return extents.tobytes()


def unpack_table(table: bytes | memoryview) -> list[tuple[int, int]]:
    """All extents of a stored frame table, or of a part of it. Raises struct.error for a torn one."""
    return list(TABLE_ENTRY.iter_unpack(table))


def table_range(layout: Layout, number: int) -> tuple[int, int]:
    """(offset in the payload, bytes) of the entry of encapsulated frame `number`, counted from 0, in the stored table.

    Only for layouts with `table_offset`; the table's length is the payload's beyond it, which the caller checks.
    """
    if not layout.table_offset:
        raise BadInput("the frames cannot be addressed")
    if not 0 <= number < layout.frames:
        raise NotFound(f"there is no frame {number + 1}")
    return layout.table_offset + number * TABLE_ENTRY.size, TABLE_ENTRY.size


def inline_extent(layout: Layout, number: int) -> tuple[int, int] | None:
    """Extent of encapsulated frame `number`, counted from 0, if the layout holds it; None where the table has it."""
    if layout.frames_inline:
        if 0 <= number < len(layout.frames_inline):
            return layout.frames_inline[number]
        raise NotFound(f"there is no frame {number + 1}")
    return None


def split_items(extent: bytes | memoryview) -> Iterator[memoryview]:
    """The fragments of one frame's extent, without their item headers. Raises Unparsable when they do not fit."""
    view = memoryview(extent)
    at, end = 0, len(view)
    while at < end:
        if end - at < 8:
            raise Unparsable("a fragment's item header is cut")
        group, element, length = _ITEM_HEADER.unpack_from(view, at)
        at += 8
        if group << 16 | element != ITEM or length > end - at:
            raise Unparsable("a frame's bytes are no fragments")
        yield view[at : at + length]
        at += length


def fits_inline(frames: int) -> bool:
    """Whether a table of so many frames is held in the layout itself."""
    return frames <= INLINE_FRAMES
