"""The pixel data element; the items of encapsulated pixel data, and which of them make a frame (PS3.5 A.4).

Owns: the extents of the fragments of one value and their grouping into frames. Must never: trust an offset table (it is
used only where every offset is the start of an item), or hold a fragment. Memory: 9 bytes a fragment while walking,
16 bytes a frame afterwards, both bounded by `Limits.fragments`.
"""

from __future__ import annotations

from array import array
from itertools import pairwise
from struct import unpack_from
from typing import NamedTuple

from radiolith.dicom.element import IMPLICIT_BE, IMPLICIT_LE
from radiolith.dicom.limits import UNDEFINED, Limits, exceeded

PREFIX = 12
"""Bytes of a fragment that tell whether a codestream starts in it."""

RLE_LOSSLESS = "1.2.840.10008.1.2.5"

_SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG and JPEG-LS: SOI and the next marker
    b"\xff\x4f\xff\x51",  # JPEG 2000 and HTJ2K: SOC, SIZ
    b"\x00\x00\x00\x0cjP  ",  # the same in a JP2 file, which some writers store
    b"\xff\x0a",  # JPEG XL codestream
    b"\x00\x00\x00\x0cJXL ",  # JPEG XL container
)


def starts_frame(prefix: bytes, transfer_syntax: str) -> bool:
    """Whether a frame's codestream begins with these first bytes of a fragment."""
    if transfer_syntax == RLE_LOSSLESS:  # PS3.5 G.5: the number of segments, then the first one's offset, always 64
        return len(prefix) >= 8 and 1 <= prefix[0] <= 15 and prefix[1:8] == b"\0\0\0\x40\0\0\0"
    return prefix.startswith(_SIGNATURES)


class PixelElement(NamedTuple):
    """The top-level pixel data element. `length` is UNDEFINED where fragments follow."""

    tag: int
    vr: str
    offset: int
    start: int
    length: int


class Fragments:
    """The fragments of one value as they pass by."""

    __slots__ = ("_limits", "_syntax", "bot", "end", "offsets", "start", "starts", "truncated", "walked_bot")

    def __init__(self, transfer_syntax: str, limits: Limits) -> None:
        self._syntax = transfer_syntax
        self._limits = limits
        self.walked_bot = False
        self.bot = b""  # the Basic Offset Table's value, '' when empty or too long to keep
        self.start = 0  # of the first fragment's item header
        self.end = 0  # behind the last fragment
        self.offsets = array("Q")  # of the item headers
        self.starts = bytearray()  # 1 where a codestream begins
        self.truncated = False

    def run(self, buffer: bytes, base: int, position: int, big: bool) -> int:
        """Over the fragments from `position` on whose first bytes are in the buffer (which begins at `base`); where
        it stopped."""
        head = IMPLICIT_BE if big else IMPLICIT_LE
        at, edge = position - base, len(buffer) - 8 - PREFIX
        while at <= edge:
            group, element, length = head(buffer, at)
            if element != 0xE000 or group != 0xFFFE or length == UNDEFINED:
                break
            value = at + 8
            self._add(base + at, base + value + length, buffer[value : value + min(length, PREFIX)])
            at = value + length
        return base + at

    def item(self, offset: int, after: int, value: bytes) -> int:
        """Notes one item of the pixel data; the first one is the Basic Offset Table.

        `value` begins with the item's value; 0, or how many bytes from the item's header on are needed to look at it.
        """
        length = after - offset - 8
        if self.walked_bot:
            look = min(length, PREFIX)
        else:
            look = length if length <= self._limits.offset_table_bytes else 0
        if look > len(value):
            return 8 + look
        if self.walked_bot:
            self._add(offset, after, value[:look])
        else:
            self.walked_bot = True
            self.bot = value[:look]
            self.start = self.end = after
        return 0

    def _add(self, offset: int, after: int, prefix: bytes) -> None:
        if len(self.offsets) >= self._limits.fragments:
            raise exceeded("fragment count", "items of pixel data", self._limits.fragments)
        self.offsets.append(offset)
        self.starts.append(starts_frame(prefix, self._syntax))
        self.end = after

    def cut(self, total: int) -> None:
        """The data end at `total`: a fragment that reaches beyond is no fragment."""
        while self.offsets and self.end > total:
            self.end = self.offsets.pop()
            self.starts.pop()
        self.truncated = True

    def frames(self, count: int, extended: bytes) -> tuple[array[int], str]:
        """The frames' extents as offset, length, offset, length …, item headers included, and a warning or ''.

        An empty array means that frames cannot be told apart.
        """
        fragments = len(self.offsets)
        if not fragments:
            return array("Q"), "the pixel data hold no fragment"
        if count == 1:
            return self._table([0]), ""
        if fragments == count:
            return self._table(range(count)), ""
        for value, width in ((extended, 8), (self.bot, 4)):
            chosen = self._by_offsets(value, width, count)
            if chosen:
                return self._table(chosen), ""
        by_marker = [index for index, flag in enumerate(self.starts) if flag]
        if len(by_marker) == count and by_marker[0] == 0:
            return self._table(by_marker), ""
        if self.truncated and len(by_marker) == fragments < count:
            return self._table(range(fragments)), f"only {fragments} of {count} frames are there"
        return array("Q"), f"{fragments} fragments cannot be told into {count} frames"

    def _by_offsets(self, value: bytes, width: int, count: int) -> list[int]:
        """Indexes of the fragments that an offset table names, [] unless it names one for each frame, in order."""
        if len(value) != width * count:
            return []
        wanted = unpack_from(f"<{count}{'Q' if width == 8 else 'I'}", value)
        indexes: list[int] = []
        index, known = 0, len(self.offsets)
        for offset in wanted:
            at = self.start + offset
            while index < known and self.offsets[index] < at:
                index += 1
            if index == known or self.offsets[index] != at or (indexes and indexes[-1] == index):
                return []
            indexes.append(index)
        return indexes if indexes[0] == 0 else []

    def _table(self, firsts: list[int] | range) -> array[int]:
        """Extents of frames whose first fragments are given."""
        table = array("Q", bytes(16 * len(firsts)))
        starts = [self.offsets[index] for index in firsts]
        table[0::2] = array("Q", starts)
        starts.append(self.end)
        table[1::2] = array("Q", (b - a for a, b in pairwise(starts)))
        return table
