"""A long dataset seen through a window: any part by its offset, only the last one read held.

Owns: which bytes are in memory. Must never: hold more than WINDOW_BYTES of its own, or read backwards where the caller
goes forwards (a deflated dataset cannot be read backwards). One window serves one walk, in one thread.
"""

from __future__ import annotations

from collections.abc import Callable

from radiolith.dicom.element import header
from radiolith.dicom.syntax import Encoding

WINDOW_BYTES = 128 * 1024
"""Read at once: two chunks of a segment. Longer values that are asked for are read for the caller, not kept."""

_HEADER_BYTES = 12


class Window:
    """Sliced like bytes, with whole positions from 0 to its length."""

    __slots__ = ("_base", "_buffer", "_read", "_size")

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        """`read` gives the bytes [start, stop), fewer where they end; `size` is the length of the whole."""
        self._read, self._size = read, size
        self._base, self._buffer = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        if stop - start > WINDOW_BYTES:
            known = self._known(start)
            return known + self._read(start + len(known), stop)
        self._hold(start, stop)
        return self._buffer[start - self._base : stop - self._base]

    def held(self, at: int) -> tuple[bytes, int]:
        """The bytes in memory, which reach from `at` on as far as an element header at least, and their offset."""
        self._hold(at, min(at + _HEADER_BYTES, self._size))
        return self._buffer, self._base

    def header(self, at: int, end: int, encoding: Encoding) -> tuple[int, str, int, int] | None:
        """As `element.header` of the whole."""
        buffer, base = self.held(at)
        found = header(buffer, at - base, min(end - base, len(buffer)), encoding)
        if found is None:
            return None
        tag, vr, start, length = found
        return tag, vr, base + start, length

    def _hold(self, start: int, stop: int) -> None:
        """Has [start, stop) in memory, which is not longer than a window; what is there already is not read again."""
        if self._base <= start and stop <= self._base + len(self._buffer):
            return
        known = self._known(start)
        self._buffer = known + self._read(start + len(known), min(self._size, start + WINDOW_BYTES))
        self._base = start

    def _known(self, start: int) -> bytes:
        """What is in memory from `start` on."""
        return self._buffer[start - self._base :] if start >= self._base else b""


Data = bytes | Window
"""A dataset from its first element on, in memory or behind a window."""
