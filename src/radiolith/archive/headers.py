"""Headers as they are shown: the bytes received with the corrections of the overlay in them, composed when they go out.

Owns: the one way from a Held to the header it shows, and the name of that state, which caches and entity tags use. Must
never: be asked where the bytes received are meant (versions, comparison, commitment, `check`), change a byte behind the
header, or keep what it composed. Without an overlay everything is what `reading` gives.

Limits: a header of up to WHOLE_BYTES of `reading` is composed in memory, a longer one while it is read: what is held are
the elements that change. Its size is known before the first byte, so ranges and lengths are those of the amended object;
only a deflated one has none.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from radiolith.archive.ports import Stream
from radiolith.archive.reading import PIECE, Read, Reading, is_deflated, is_large, written_as
from radiolith.dicom.amended import Changes, Origin, amended, amended_pieces, changes
from radiolith.dicom.amended_series import Series
from radiolith.dicom.forward import Forward
from radiolith.dicom.limits import LIMITS, Limits
from radiolith.dicom.window import Data, Window
from radiolith.model import Held, Unsupported

_ELEMENT_HEADER = 12  # bytes of the longest one


def tag_of(held: Held) -> bytes:
    """Names what is shown of an object: its bytes are random enough for their id, an overlay for its digest. The same on
    every node; an undo brings the name back that was there before."""
    return held.blob.object_id + (held.overlay.digest if held.overlay is not None else b"")


@dataclass(frozen=True, slots=True)
class Long:
    """A header that is not held: its bytes by their offset, from the first element on."""

    size: int
    encoding: str  # transfer syntax UID of how it is written
    read: Read


class Headers:
    """Thread-safe; what ends in `_now` blocks."""

    def __init__(self, reading: Reading, system: str = Origin.system):
        """`system`: who corrects, as Modifying System (0400,0563) says it."""
        self._reading, self._system = reading, system

    def description_now(
        self, held: Held, limits: Limits = LIMITS, series: Series | None = None
    ) -> tuple[Data, str, Data]:
        """As `Reading.description_now`: (header with the pixel data element's own header, actual encoding, tail).

        `series`: of headers that are asked for one after the other in one thread.
        """
        if held.overlay is None:
            return self._reading.description_now(held)
        if is_large(held.layout):
            long = self._long_now(held, limits, _ELEMENT_HEADER if held.layout.pixel_tag else 0)
            return Window(long.read, long.size), long.encoding, self._reading.tail_now(held)
        header, encoding, tail = self._reading.description_now(held)
        end = held.layout.header_end - held.layout.dataset_start
        return self.composed(held, header[0:end], encoding, series) + header[end : len(header)], encoding, tail

    def header_now(self, held: Held) -> bytes:
        """As `Reading.header_now`: the dataset up to the pixel data, inflated. Raises LimitExceeded beyond HEADER_BYTES."""
        return self._shown(held, self._reading.header_now(held))

    def opening_now(self, held: Held) -> tuple[bytes, str]:
        """As `Reading.opening_now`: (header, VR of the pixel data element) for a decoder."""
        header, vr = self._reading.opening_now(held)
        return self._shown(held, header), vr

    def composed(self, held: Held, header: bytes, encoding: str, series: Series | None = None) -> bytes:
        """What `held` shows for its stored header. Raises LimitExceeded."""
        if held.overlay is None:
            return header
        make = amended if series is None else series.amended
        return make(header, encoding, held.overlay, self._origin(held))

    async def file(self, held: Held, meta: bytes) -> Stream:
        """`meta` and then the dataset as it is shown, in the stored syntax; what follows the header goes as it lies."""
        layout, reading = held.layout, self._reading
        if held.overlay is None:
            return reading.stream(held, layout.dataset_start, layout.dataset_end, layout.transfer_syntax, meta)
        if is_large(layout):
            long = await reading.walk(held, self._long_now, held)
            header = reading.flowing(long.read, long.size, layout.transfer_syntax, meta)
        else:
            stored = await reading.run(self.header_now, held)
            header = reading.flowing(_nothing, 0, layout.transfer_syntax, meta + stored)
        if is_deflated(layout):
            return self._deflated(held, header, len(meta))
        return _joined(header, reading.stream(held, layout.header_end, layout.dataset_end, layout.transfer_syntax))

    # ------------------------------------------------------------ composing

    def _origin(self, held: Held) -> Origin:
        """A device's AE title is a source worth naming; the name of a token or folder is no business of other places."""
        return Origin(self._system, held.source.peer if held.source.door == "dimse" else "")

    def _shown(self, held: Held, header: bytes) -> bytes:
        return self.composed(held, header, written_as(header, held.layout.transfer_syntax))

    def _long_now(self, held: Held, limits: Limits = LIMITS, behind: int = 0) -> Long:
        """A header of any size, and `behind` bytes of what follows it."""
        over, origin = held.overlay, self._origin(held)
        assert over is not None, "without corrections it is read where it lies"
        read, end = self._reading.dataset_now(held), held.layout.header_end - held.layout.dataset_start
        stored = Window(read, end)
        encoding = written_as(stored[0:8], held.layout.transfer_syntax)
        found = changes(stored, encoding, over, origin, limits)
        rest = read(end, end + behind) if behind else b""
        if found is not None and found.recoded:
            forward = Forward(lambda: chain(amended_pieces(Window(read, end), encoding, over, origin, limits), (rest,)))
            return Long(forward.size(), encoding, forward.read)
        spliced = _Spliced(read, _parts(found, end), rest)
        return Long(spliced.size, encoding, spliced.read)

    def _deflated(self, held: Held, header: Stream, meta: int) -> Stream:
        """Inflated, composed and deflated again while it is sent."""
        read, end = self._reading.dataset_now(held), held.layout.header_end - held.layout.dataset_start

        async def inflated() -> AsyncIterator[bytes]:
            async for piece in header.chunks(meta):
                yield piece
            at = end
            while piece := await self._reading.run(read, at, at + PIECE):
                yield piece
                at += len(piece)

        async def opened(start: int, stop: int | None) -> AsyncIterator[bytes]:
            if start or stop is not None:
                raise Unsupported("a range of an object that is being deflated")
            async for piece in header.chunks(0, meta):
                yield piece
            async for piece in deflated(inflated()):
                yield piece

        return Stream(None, held.layout.transfer_syntax, opened)


async def deflated(dataset: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A dataset deflated on its way, of even length (PS3.5 A.5)."""
    machine, size = zlib.compressobj(wbits=-15), 0
    async for piece in dataset:
        made = machine.compress(piece)
        size += len(made)
        if made:
            yield made
    made = machine.flush()
    yield made + b"\0" * ((size + len(made)) % 2)


def _nothing(start: int, stop: int) -> bytes:
    return b""


def _joined(first: Stream, second: Stream) -> Stream:
    """One stream after the other; the size of the first is known."""
    edge = first.size or 0

    async def opened(start: int, stop: int | None) -> AsyncIterator[bytes]:
        if start < edge:
            async for piece in first.chunks(start, edge if stop is None else min(stop, edge)):
                yield piece
        if stop is None or stop > edge:
            async for piece in second.chunks(max(0, start - edge), None if stop is None else stop - edge):
                yield piece

    return Stream(None if second.size is None else edge + second.size, second.syntax, opened)


# ---------------------------------------------------------------- long headers


class _Span(NamedTuple):
    """Where stored bytes lie."""

    start: int
    stop: int


_Part = bytes | _Span


def _parts(found: Changes | None, end: int) -> Iterator[_Part]:
    at = 0
    for cut in found.cuts if found is not None else ():
        yield _Span(at, max(at, cut.start))
        yield b"".join(cut.pieces)
        at = max(at, cut.stop)
    yield _Span(at, end)


class _Spliced:
    """Stored bytes with new ones between them, by their offset."""

    def __init__(self, read: Read, parts: Iterator[_Part], rest: bytes):
        self._read = read
        self._parts: list[_Part] = [part for part in (*parts, rest) if _length(part)]
        self._starts: list[int] = []
        self.size = 0
        for part in self._parts:
            self._starts.append(self.size)
            self.size += _length(part)

    def read(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.size)
        out: list[bytes] = []
        index = max(0, bisect_right(self._starts, start) - 1)
        while start < stop:
            part, at = self._parts[index], start - self._starts[index]
            until = min(_length(part), stop - self._starts[index])
            if isinstance(part, _Span):
                out.append(self._read(part.start + at, part.start + until))
            else:
                out.append(part[at:until])
            start += until - at
            index += 1
        return b"".join(out)


def _length(part: _Part) -> int:
    return part.stop - part.start if isinstance(part, _Span) else len(part)
