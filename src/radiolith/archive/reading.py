"""Bytes of held objects, decrypted and verified, as pieces on their way out.

Owns: the path from a Held to plaintext: key, range, read-ahead, the second look when a place has moved. Must never:
authorise or audit (`retrieve` did), or keep a whole object. Limits: pieces of PIECE bytes, one read ahead per stream.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

from radiolith.archive.ports import Stream
from radiolith.dicom.frames import frame_range, split_items, unpack_entry
from radiolith.index import instances
from radiolith.index.database import Database
from radiolith.model import BadInput, Damaged, Held, Layout, LimitExceeded, NotFound, Pixels
from radiolith.storage.blobs import Log
from radiolith.trust.keys import Keys

P = ParamSpec("P")
T = TypeVar("T")
PIECE = 1 << 20  # a multiple of the 64 KiB chunk, so no chunk is opened twice
HEADER_BYTES = 256 << 20  # largest header held for metadata or rendering
INFLATED_BYTES = 1 << 30  # of a deflated object, read through for a frame
DEFLATED = "1.2.840.10008.1.2.1.99"


class Reading:
    """All reads of a process; thread-safe."""

    def __init__(self, store: Log, keys: Keys, database: Database, threads: Executor):
        self._store, self._keys, self._database, self._threads = store, keys, database, threads

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))

    def range_now(self, held: Held, start: int, stop: int) -> bytes:
        """Plaintext bytes [start, stop) of the payload; blocks. Raises Damaged, NotFound."""
        blob = held.blob
        key = self._keys.object_key(blob)
        try:
            return self._store.read(blob, key, start, stop)
        except NotFound:  # the segment was compacted or moved since the row was read: look once more
            with self._database.read() as read:
                again = instances.blob_of(read, blob.object_id)
            if again is None or again.place == blob.place:
                raise Damaged("a segment that a committed row names is missing; run `radiolith check`") from None
            return self._store.read(again, key, start, stop)

    async def range(self, held: Held, start: int, stop: int) -> bytes:
        return await self.run(self.range_now, held, start, stop)

    def stream(self, held: Held, first: int, end: int, syntax: str = "", prefix: bytes = b"") -> Stream:
        """`prefix` and then payload bytes [first, end), read ahead by one piece."""
        shift = len(prefix)

        def opened(start: int, stop: int | None) -> AsyncIterator[bytes]:
            until = shift + end - first if stop is None else min(stop, shift + end - first)
            head = prefix[start:until] if start < shift else b""
            body_from = first + max(0, start - shift)
            body_to = first + max(0, until - shift)
            return self._pieces(held, head, body_from, body_to)

        return Stream(shift + end - first, syntax, opened)

    async def _pieces(self, held: Held, head: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        ahead: asyncio.Future[bytes] | None = None
        try:
            while start < stop or ahead is not None:
                current = ahead or asyncio.ensure_future(self.range(held, start, min(stop, start + PIECE)))
                if ahead is None:
                    start = min(stop, start + PIECE)
                ahead = None
                piece = await current
                if start < stop:
                    ahead = asyncio.ensure_future(self.range(held, start, min(stop, start + PIECE)))
                    start = min(stop, start + PIECE)
                if head:
                    yield head
                    head = b""
                yield piece
            if head:
                yield head
        finally:
            if ahead is not None:
                ahead.cancel()

    # ------------------------------------------------------------ parts of an object

    def header_now(self, held: Held) -> bytes:
        """The dataset's bytes up to the pixel data, inflated where it was deflated; blocks."""
        layout = held.layout
        size = layout.header_end - layout.dataset_start
        if size > HEADER_BYTES:
            raise LimitExceeded(f"a header may have {HEADER_BYTES} bytes, this one has {size}")
        if layout.transfer_syntax == DEFLATED:
            return b"".join(self._inflate(held, 0, size))
        return self.range_now(held, layout.dataset_start, layout.header_end)

    async def header(self, held: Held) -> bytes:
        return await self.run(self.header_now, held)

    def _inflate(self, held: Held, start: int, stop: int) -> list[bytes]:
        """Inflated bytes [start, stop) of a deflated dataset; reads and inflates from its beginning."""
        if stop > INFLATED_BYTES:
            raise LimitExceeded(f"a deflated object is read up to {INFLATED_BYTES} inflated bytes")
        layout, machine = held.layout, zlib.decompressobj(-15)
        at, position, out = 0, layout.dataset_start, list[bytes]()
        while at < stop and not machine.eof:
            data = machine.unconsumed_tail
            if not data:
                if position >= layout.dataset_end:
                    break
                data = self.range_now(held, position, min(layout.dataset_end, position + PIECE))
                position += len(data)
            piece = machine.decompress(data, PIECE)
            if at + len(piece) > start:
                out.append(piece[max(0, start - at) : stop - at])
            at += len(piece)
        return out

    def value_now(self, held: Held, start: int, stop: int) -> bytes:
        """Bytes at layout offsets, whether the object is deflated or not; blocks. For values, not for streams."""
        if held.layout.transfer_syntax == DEFLATED:
            base = held.layout.dataset_start
            return b"".join(self._inflate(held, start - base, stop - base))
        return self.range_now(held, start, stop)

    # ------------------------------------------------------------ frames

    def frame_now(self, held: Held, number: int) -> bytes:
        """One frame as it is encoded: the native slice, or the fragments of an encapsulated one joined; blocks."""
        layout = held.layout
        if layout.pixels is Pixels.NATIVE:
            offset, length, bit = frame_range(layout, _checked(layout, number))
            data = self.value_now(held, offset, offset + length)
            return _unshifted(data, bit) if bit or layout.bits_allocated == 1 else data
        offset, length = self.extent_now(held, number)
        return b"".join(split_items(self.range_now(held, offset, offset + length)))

    def extent_now(self, held: Held, number: int) -> tuple[int, int]:
        """Where an encapsulated frame lies in the payload, item headers included."""
        layout = held.layout
        number = _checked(layout, number)
        if layout.table_offset:
            at = layout.table_offset + 16 * (number - 1)
            return unpack_entry(self.range_now(held, at, at + 16))
        if number > len(layout.frames_inline):
            raise NotFound("the fragments of this object cannot be told apart into frames")
        return layout.frames_inline[number - 1]


def _checked(layout: Layout, number: int) -> int:
    if layout.pixels in (Pixels.NONE, Pixels.VIDEO):
        raise NotFound("this object has no frames" if layout.pixels is Pixels.NONE else "video has no separate frames")
    if number < 1:
        raise BadInput("frame numbers start at 1")
    if number > layout.frames:
        raise NotFound(f"frame {number} of {layout.frames}")
    return number


def _unshifted(data: bytes, bit: int) -> bytes:
    """Bits from `bit` on, moved to the first byte: one-bit frames are packed without padding between them."""
    if not bit:
        return data
    number = int.from_bytes(data, "little") >> bit
    return number.to_bytes(len(data), "little")
