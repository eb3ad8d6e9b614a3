"""Bytes that an iterator makes, by their offset.

Owns: the position. Must never: hold more than the piece it is at, and what is asked for. Reading forwards makes every piece once;
a step back begins at the beginning. One thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator


class Forward:
    """`make` gives the pieces from the beginning, the same each time."""

    __slots__ = ("_at", "_make", "_piece", "_pieces")

    def __init__(self, make: Callable[[], Iterator[bytes]]) -> None:
        self._make = make
        self._rewind()

    def _rewind(self) -> None:
        self._pieces, self._at, self._piece = self._make(), 0, b""

    def size(self) -> int:
        """Of all of it, which is made once for this."""
        return sum(len(piece) for piece in self._make())

    def read(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop), fewer where they end. Raises what `make` does."""
        if start < self._at:
            self._rewind()
        out: list[bytes] = []
        while True:
            at, piece = self._at, self._piece
            if at + len(piece) > start:
                out.append(piece[max(0, start - at) : max(0, stop - at)])
            following = next(self._pieces, None) if at + len(piece) < stop else None
            if following is None:
                return b"".join(out)
            self._at, self._piece = at + len(piece), following
