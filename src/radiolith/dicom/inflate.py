"""Bounded inflating of a deflated dataset (PS3.5 A.5).

Owns: the zlib stream, its ratio and size limits. Must never: put out more than asked for at once: a bomb costs the
piece it was caught in.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from radiolith.dicom.forward import Forward
from radiolith.dicom.limits import LIMITS, Limits, Unparsable, exceeded

PIECE = 64 * 1024
"""Bytes that come out at once."""

_READ = 256 * 1024  # deflated bytes read at once

_SLICE = 16 * 1024  # bytes that go in at once: zlib hands what it has not consumed back as a copy


def _window_bits(head: bytes) -> int:
    """Raw deflate as the standard says, or the zlib format that some writers use.

    0x78 at the start of raw deflate opens a stored block, which shows in its length and the complement of it.
    """
    zlib_header = head[0] & 0x0F == 8 and int.from_bytes(head[:2], "big") % 31 == 0
    stored = int.from_bytes(head[1:3], "little") ^ int.from_bytes(head[3:5], "little") == 0xFFFF
    return zlib.MAX_WBITS if zlib_header and not stored else -zlib.MAX_WBITS


class Inflater:
    """Deflated bytes in, pieces of inflated bytes out."""

    __slots__ = ("_head", "_limits", "_opened", "_stream", "came_out", "ended", "unused", "went_in")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._head = b""
        self._stream = zlib.decompressobj()
        self._opened = False
        self.went_in = 0
        self.came_out = 0
        self.unused = 0  # bytes behind the end of the stream
        self.ended = False

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """The inflated bytes, in pieces. Raises Unparsable for a broken stream, LimitExceeded for a bomb."""
        for start in range(0, len(data), _SLICE):
            yield from self._inflate(bytes(data[start : start + _SLICE]))

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        self.went_in += len(data)
        if self.ended:
            self.unused += len(data)
            return
        if not self._opened:
            self._head += data
            if len(self._head) < 5:
                return
            self._stream = zlib.decompressobj(_window_bits(self._head))
            self._opened = True
            data, self._head = self._head, b""
        stream = self._stream
        try:
            while not stream.eof and (piece := stream.decompress(data, PIECE)):
                self.came_out += len(piece)
                self._check(self.went_in - len(stream.unconsumed_tail))
                yield piece
                data = stream.unconsumed_tail
        except zlib.error as error:
            raise Unparsable("the deflated dataset is damaged") from error
        if stream.eof:
            self.ended = True
            self.unused = len(stream.unused_data)

    def finish(self) -> None:
        """Raises Unparsable unless the stream came to its end."""
        if not self.ended:
            raise Unparsable("the deflated dataset is cut")

    def _check(self, consumed: int) -> None:
        limits = self._limits
        if self.came_out > limits.inflated_bytes:
            raise exceeded("inflated size", "bytes", limits.inflated_bytes)
        if self.came_out > limits.inflate_free_bytes and self.came_out > consumed * limits.inflate_ratio:
            raise exceeded("inflate ratio", "bytes per byte", limits.inflate_ratio)


def inflate(data: bytes, size: int, limits: Limits = LIMITS) -> bytes:
    """The first `size` inflated bytes of a deflated dataset, or all if it has fewer. `size` is the caller's bound."""
    out = bytearray()
    for piece in Inflater(limits).feed(data):
        out += piece
        if len(out) >= size:
            break
    return bytes(out[:size])


def inflated(read: Callable[[int, int], bytes], stored: int, limits: Limits = LIMITS) -> Forward:
    """The inflated bytes of a deflated dataset by their offset; raises as `Inflater`.

    `read` gives the deflated bytes [start, stop); `stored` is how many there are.
    """

    def pieces() -> Iterator[bytes]:
        inflater = Inflater(limits)
        for start in range(0, stored, _READ):
            yield from inflater.feed(read(start, min(stored, start + _READ)))

    return Forward(pieces)
