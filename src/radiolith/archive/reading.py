"""Bytes of held objects, decrypted and verified, as pieces on their way out.

Owns: the path from a Held to plaintext: key, range, read-ahead, the second look when a place has moved. Must never:
authorise or audit (`retrieve` did), or keep a whole object. Limits: pieces of PIECE bytes, one read ahead per stream;
for metadata a header of up to WHOLE_BYTES is read at once, a longer one through a window; a frame of up to LONG_FRAME is
read at once, a longer native one in pieces. Long headers are walked by WALKERS threads of their own: a header of 600,000
items takes half a minute, and whoever asks for some of them must not take the threads from everybody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from radiolith import metrics
from radiolith.archive.ports import Stream
from radiolith.dicom import syntax
from radiolith.dicom.forward import Forward
from radiolith.dicom.frames import (
    frame_bits,
    frame_range,
    frames_present,
    inline_extent,
    realign,
    split_items,
    table_range,
    unpack_table,
)
from radiolith.dicom.inflate import inflated
from radiolith.dicom.limits import Unparsable
from radiolith.dicom.sniff import actual_encoding
from radiolith.dicom.window import Data, Window
from radiolith.index import instances
from radiolith.index.database import Database
from radiolith.index.session import Reader
from radiolith.model import BadInput, Damaged, Held, Layout, LimitExceeded, NotFound, Pixels
from radiolith.storage.blobs import Log
from radiolith.trust.keys import Keys

P = ParamSpec("P")
T = TypeVar("T")
Read = Callable[[int, int], bytes]
"""Bytes [start, stop) by their offset; blocks."""
PIECE = 1 << 20  # a multiple of the 64 KiB chunk, so no chunk is opened twice
WHOLE_BYTES = 1 << 20  # of a header read at once for metadata; nearly all are a few KiB
HEADER_BYTES = 256 << 20  # largest header held for rendering or transcoding
LONG_FRAME = 8 << 20  # bytes from which a native frame is read while it is sent
FRAME_BYTES = 256 << 20  # largest frame held, for a decoder or because it is encapsulated; `codecs.limits` has the same
FRAGMENTS = 500_000  # of one value given as a whole, 100 bytes each in memory
INFLATED_BYTES = 1 << 30  # of a deflated object, read through for one frame: about 4 s
WALKERS = 2  # threads; walking is all Python, more would only take turns

_ELEMENT_HEADER = 12  # bytes of the longest one
_ELEMENT_DELIMITER = 8


class Reading:
    """All reads of a process; thread-safe."""

    def __init__(self, store: Log, keys: Keys, database: Database, threads: Executor):
        self._store, self._keys, self._database, self._threads = store, keys, database, threads
        self._walkers = ThreadPoolExecutor(WALKERS, thread_name_prefix="header")

    async def walk(self, held: Held, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`run` for what goes through the header of `held`, in a thread for long headers where it has one."""
        loop = asyncio.get_running_loop()
        threads = self._walkers if is_large(held.layout) else self._threads
        return await loop.run_in_executor(threads, lambda: call(*args, **kwargs))

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))

    async def look(self, question: Callable[[Reader], T]) -> T:
        """Ask the index on a thread; the answer must not be lazy."""

        def ask() -> T:
            with self._database.read() as read:
                return question(read)

        return await self.run(ask)

    def range_now(self, held: Held, start: int, stop: int) -> bytes | bytearray:
        """Plaintext bytes [start, stop) of the payload; blocks. Raises Damaged, NotFound."""
        blob = held.blob
        key = self._keys.object_key(blob)
        try:
            return self._store.read(blob, key, start, stop)
        except Damaged:
            metrics.damaged_reads.add()
            raise
        except NotFound:  # the segment was compacted or moved since the row was read: look once more
            with self._database.read() as read:
                again = instances.blob_of(read, blob.object_id)
            if again is None or again.place == blob.place:
                raise Damaged("a segment that a committed row names is missing; run `radiolith check`") from None
            return self._store.read(again, key, start, stop)

    def read_into_now(self, held: Held, start: int, into: memoryview) -> None:
        """Payload bytes from `start` on into a buffer of the caller; blocks. As `range_now`."""
        try:
            self._store.read_into(held.blob, self._keys.object_key(held.blob), start, into)
        except (Damaged, NotFound):
            into[:] = self.range_now(held, start, start + len(into))

    def stream(self, held: Held, first: int, end: int, syntax: str = "", prefix: bytes = b"") -> Stream:
        """`prefix` and then payload bytes [first, end), read ahead by one piece."""
        return self.flowing(lambda a, b: self.range_now(held, first + a, first + b), end - first, syntax, prefix)

    def flowing(self, read: Read, size: int, syntax: str = "", prefix: bytes = b"") -> Stream:
        """`prefix` and then the `size` bytes that a blocking `read` gives by their offsets, read ahead by one piece."""
        shift = len(prefix)

        def opened(start: int, stop: int | None) -> AsyncIterator[bytes]:
            until = shift + size if stop is None else min(stop, shift + size)
            head = prefix[start:until] if start < shift else b""
            return self._pieces(read, head, max(0, start - shift), max(0, until - shift))

        return Stream(shift + size, syntax, opened)

    async def _pieces(self, read: Read, head: bytes, start: int, stop: int) -> AsyncIterator[bytes]:
        ahead: asyncio.Future[bytes] | None = None
        try:
            while start < stop or ahead is not None:
                current = ahead or asyncio.ensure_future(self.run(read, start, min(stop, start + PIECE)))
                if ahead is None:
                    start = min(stop, start + PIECE)
                ahead = None
                piece = await current
                if start < stop:
                    ahead = asyncio.ensure_future(self.run(read, start, min(stop, start + PIECE)))
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
        if is_deflated(layout):
            return self._inflated(held).read(0, size)
        return bytes(self.range_now(held, layout.dataset_start, layout.header_end))

    async def header(self, held: Held) -> bytes:
        return await self.run(self.header_now, held)

    def opening_now(self, held: Held) -> tuple[bytes, str]:
        """(header, VR of the pixel data element) as a decoder wants them; the VR is only told where it matters: it
        says how the bytes of big-endian 8-bit pixels are paired."""
        layout = held.layout
        header = self.header_now(held)
        if layout.pixels is Pixels.NONE or not syntax.encoding(layout.transfer_syntax).big:
            return header, ""
        element = bytes(self.range_now(held, layout.header_end, layout.header_end + 6))
        return header, element[4:6].decode("ascii", "replace")

    def description_now(self, held: Held) -> tuple[Data, str, Data]:
        """(the dataset up to and with the pixel data element's own header, its actual encoding, what follows the
        pixel data) for metadata, to be walked by one thread; blocks."""
        layout = held.layout
        if is_deflated(layout):
            size = layout.header_end + _ELEMENT_HEADER - layout.dataset_start
            inflated = self._inflated(held)
            header: Data = Window(inflated.read, size) if is_large(layout) else inflated.read(0, size)
        else:
            end = min(layout.header_end + _ELEMENT_HEADER, layout.dataset_end)
            header = self._part(held, layout.dataset_start, end)
        return header, written_as(header[:8], layout.transfer_syntax), self.tail_now(held)

    def tail_now(self, held: Held) -> Data:
        """What follows the pixel data, as metadata take it; blocks."""
        return self._part(held, *tail_of(held.layout))

    def dataset_now(self, held: Held) -> Read:
        """What gives the dataset's bytes by their offset from its first element on, inflated where it was deflated, fewer
        where it ends. For one reader at a time; an inflated one is read forwards."""
        if is_deflated(held.layout):
            return self._inflated(held).read
        base, end = held.layout.dataset_start, held.layout.dataset_end
        return lambda a, b: bytes(self.range_now(held, base + a, min(base + b, end))) if base + a < end else b""

    def _part(self, held: Held, start: int, stop: int) -> Data:
        """Payload bytes [start, stop), held only where they are few."""
        if stop - start <= WHOLE_BYTES:
            return bytes(self.range_now(held, start, stop)) if start < stop else b""
        return Window(lambda first, last: bytes(self.range_now(held, start + first, start + last)), stop - start)

    def forget_cached(self, held: Held) -> None:
        """Make the next read come from the medium, not from memory, where that can be asked for."""
        self._store.backend.forget(held.blob.place)

    def _inflated(self, held: Held) -> Forward:
        """A deflated dataset from its first byte on, read from its beginning."""
        start = held.layout.dataset_start
        return inflated(
            lambda first, last: bytes(self.range_now(held, start + first, start + last)),
            held.layout.dataset_end - start,
        )

    def value_now(self, held: Held, start: int, stop: int) -> bytes:
        """Bytes at layout offsets, whether the object is deflated or not; blocks. For frames, not for streams."""
        layout = held.layout
        _check_length(stop - start)
        if not is_deflated(layout):
            return self.range_now(held, start, stop)
        base = layout.dataset_start
        if stop - base > INFLATED_BYTES:
            raise LimitExceeded(f"frames of a deflated object are read up to {INFLATED_BYTES} inflated bytes")
        return self._inflated(held).read(start - base, stop - base)

    def value(self, held: Held, first: int, end: int, syntax: str = "") -> Stream:
        """Bytes [first, end) at layout offsets as a stream; a deflated object is inflated up to there, not held."""
        if not is_deflated(held.layout):
            return self.stream(held, first, end, syntax)

        async def opened(start: int, stop: int | None) -> AsyncIterator[bytes]:
            inflated, base = self._inflated(held), first - held.layout.dataset_start
            until = end - first if stop is None else min(stop, end - first)
            for at in range(start, until, PIECE):
                piece = await self.run(inflated.read, base + at, base + min(until, at + PIECE))
                yield piece

        return Stream(end - first, syntax, opened)

    # ------------------------------------------------------------ frames

    def frame_now(self, held: Held, number: int) -> bytes:
        """Frame `number` (from 1) as it is encoded: the native slice, or the fragments joined; blocks. LimitExceeded
        beyond FRAME_BYTES."""
        layout = held.layout
        _check(layout, number)
        if layout.pixels is Pixels.NATIVE:
            offset, length, bit = frame_range(layout, number - 1)
            data = self.value_now(held, offset, offset + length)
            return realign(data, bit, frame_bits(layout)) if bit else data
        offset, length = self.extent_now(held, number)
        _check_length(length)
        return b"".join(split_items(self.range_now(held, offset, offset + length)))

    def long_frame(self, held: Held, number: int) -> Stream | None:
        """Native frame `number` (from 1) as a stream, where it is too long to be held; else None."""
        layout = held.layout
        if layout.pixels is not Pixels.NATIVE:
            return None
        offset, length, bit = frame_range(layout, number - 1)
        if bit or length <= LONG_FRAME:
            return None
        return self.value(held, offset, offset + length, layout.transfer_syntax)

    @staticmethod
    def check_number(held: Held, number: int) -> None:
        """Raises BadInput or NotFound with the reason when there is no such frame."""
        _check(held.layout, number)

    def fragments(self, held: Held) -> Stream:
        """All fragments of encapsulated pixel data as one run of bytes, without item headers: a video's stream.

        Ranged, so where each fragment lies is found first: one small read per fragment.
        """
        layout = held.layout
        runs: list[tuple[int, int]] = []  # (offset in the payload, length)
        at, end = layout.pixel_start, layout.pixel_start + layout.pixel_length
        while at + 8 <= end:
            head = self.range_now(held, at, at + 8)
            length = int.from_bytes(head[4:], "little")
            if head[:4] != b"\xfe\xff\x00\xe0" or at + 8 + length > end:
                break
            runs.append((at + 8, length))
            at += 8 + length
            if len(runs) > FRAGMENTS:
                raise LimitExceeded(f"pixel data of more than {FRAGMENTS} fragments are given by frames only")
        size = sum(length for _, length in runs)

        def read(first: int, last: int) -> bytes:
            return self.range_now(held, first, last)

        async def opened(start: int, stop: int | None) -> AsyncIterator[bytes]:
            until, seen = size if stop is None else min(stop, size), 0
            for offset, length in runs:
                first, last = max(start - seen, 0), min(until - seen, length)
                if first < last:
                    async for piece in self._pieces(read, b"", offset + first, offset + last):
                        yield piece
                seen += length

        return Stream(size, layout.transfer_syntax, opened)

    def extent_now(self, held: Held, number: int) -> tuple[int, int]:
        """Where encapsulated frame `number` (from 1) lies in the payload, item headers included."""
        layout = held.layout
        inline = inline_extent(layout, number - 1)
        if inline is not None:
            return inline
        if not layout.table_offset:
            raise NotFound("the fragments of this object cannot be told apart into frames")
        offset, length = table_range(layout, number - 1)
        return unpack_table(self.range_now(held, offset, offset + length))[0]


def tail_of(layout: Layout) -> tuple[int, int]:
    """Where elements behind the pixel data lie (signatures, padding); an empty range where there are none, or where
    all would have to be inflated to find them."""
    if layout.pixels is Pixels.NONE or is_deflated(layout):
        return 0, 0
    start = layout.pixel_start + layout.pixel_length + (0 if layout.pixels is Pixels.NATIVE else _ELEMENT_DELIMITER)
    return start, max(start, layout.dataset_end)


def described_by(layout: Layout) -> int:
    """Bytes that metadata are made from: header and tail."""
    start, stop = tail_of(layout)
    return layout.header_end - layout.dataset_start + stop - start


def is_large(layout: Layout) -> bool:
    """Whether what metadata are made from is too much to be read at once."""
    start, stop = tail_of(layout)
    return max(layout.header_end + _ELEMENT_HEADER - layout.dataset_start, stop - start) > WHOLE_BYTES


def is_deflated(layout: Layout) -> bool:
    """Whether offsets behind `dataset_start` count inflated bytes."""
    return syntax.encoding(layout.transfer_syntax).deflated


def written_as(header: bytes, declared: str) -> str:
    """The transfer syntax UID of how a dataset's elements are really written: some files say one thing and do another."""
    try:
        return syntax.uid_of(actual_encoding(bytes(header[:8]), syntax.encoding(declared)))
    except Unparsable:
        return declared


def _check_length(length: int) -> None:
    if length > FRAME_BYTES:
        raise LimitExceeded(f"a frame that has to be held may have {FRAME_BYTES} bytes, this one has {length}")


def _check(layout: Layout, number: int) -> None:
    if layout.pixels is Pixels.NONE:
        raise NotFound("this object has no frames")
    if layout.pixels is Pixels.VIDEO:
        raise NotFound("video has no separate frames; retrieve it as video")
    if number < 1:
        raise BadInput("frame numbers start at 1")
    if layout.pixels is Pixels.ENCAPSULATED and not layout.frames_inline and not layout.table_offset:
        raise NotFound("the fragments of this object cannot be told apart into frames")
    present = frames_present(layout) if layout.pixels is Pixels.NATIVE else layout.frames
    if number > present:
        raise NotFound(f"frame {number} of {present}")
