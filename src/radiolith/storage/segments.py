"""One segment as a whole: putting its bytes together, and reading them back without trusting them.

Owns: the order of parts inside a segment, and reading a record at a known place. Must never: write, or
need a key. Reads at most _WINDOW bytes at a time, whatever the segment's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from isal.isal_zlib import crc32

from radiolith.model import Blob, Kind, Place, Scope
from radiolith.storage.backends import Sealed
from radiolith.storage.format import (
    BLOCK,
    END,
    HEAD_SIZE,
    MAX_RECORDS,
    MERGE,
    RECORD_HEADER_SIZE,
    STREAM,
    TAG,
    TRAILER,
    BatchHeader,
    Buffer,
    End,
    Entry,
    Footer,
    Malformed,
    RecordHeader,
    SegmentHeader,
    Tail,
    Trailer,
    aligned,
    pack_footer,
    record_length,
)

_WINDOW = 1024 * 1024  # bytes read at a time
_COPY_BATCH = 8 * _WINDOW  # bytes of records in one batch of a merged segment
_END_TAIL = 8  # bytes of a record's end that its checksum does not cover: itself and the magic
_GLANCE = 8 * 1024  # bytes read from a record's end: trailer and usual metadata in one read

Read = Callable[[int, int], memoryview]
"""(offset, length) -> that many bytes, or fewer where the segment ends."""


class Assembly:
    """Puts a new segment together, batch by batch. Pure: returns buffers for somebody else to write at `end`."""

    def __init__(self, segment: bytes, epoch: bytes, created: int, flags: int = 0):
        self.header = SegmentHeader(segment, epoch, created, flags)
        self.end = BLOCK  # where the next batch goes
        self.entries: list[Entry] = []
        self._data_end = BLOCK
        self._batches = 0

    @property
    def full(self) -> bool:
        return len(self.entries) >= MAX_RECORDS

    def batch(self, records: Sequence[Sealed]) -> tuple[list[Buffer], list[Place]]:
        """Buffers of one batch, padding included, and where each record will lie."""
        segment = self.header.segment
        durable = BLOCK if self.header.flags & MERGE else self._data_end
        length = sum(record.length for record in records)
        buffers: list[Buffer] = [BatchHeader(segment, self._batches, durable, length, len(records)).pack()]
        places: list[Place] = []
        at = self.end + HEAD_SIZE
        for record in records:
            buffers.extend(record.buffers)
            places.append(Place(segment, at, record.length))
            self.entries.append(Entry(at, record.length, record.kind, record.object_id))
            at += record.length
        self._advance(at)
        if self.end > at:
            buffers.append(bytes(self.end - at))
        return buffers, places

    def open_stream(self) -> bytes:
        """The first bytes of a segment of one streamed record; the record starts right behind them."""
        return self.header.pack() + BatchHeader(self.header.segment, 0, BLOCK, 0, 0, STREAM).pack()

    def close_stream(self, record: Sealed) -> Place:
        place = Place(self.header.segment, BLOCK + HEAD_SIZE, record.length)
        self.entries.append(Entry(place.offset, place.length, record.kind, record.object_id))
        self._advance(place.offset + place.length)
        return place

    def footer(self) -> bytes:
        """To be written at `end`; the segment stops behind it."""
        return pack_footer(self.header.segment, self.entries, self._data_end, self._batches)

    def _advance(self, data_end: int) -> None:
        self._data_end = data_end
        self._batches += 1
        self.end = aligned(data_end)


def copy_records(
    assembly: Assembly, sources: Sequence[Place], fill: Callable[[Place, int, memoryview], None], places: list[Place]
) -> Iterator[Buffer]:
    """The whole of a MERGE segment, piece by piece: `sources` copied byte for byte. `places` grows by where each
    will lie.

    A piece is valid until the next one is asked for. Records are grouped into batches of up to _COPY_BATCH bytes; a
    streamed one, whose header does not know its length, stays alone in its batch.
    """
    yield assembly.header.pack()
    window = memoryview(bytearray(_WINDOW))
    group: list[Place] = []

    def batch() -> Iterator[Buffer]:
        sealed: list[Sealed] = []
        for source in group:
            fill(source, 0, window[:RECORD_HEADER_SIZE])
            header = RecordHeader.parse(window[:RECORD_HEADER_SIZE])
            sealed.append(Sealed(header.object_id, header.kind, source.length, ()))
        (head, *padding), lie = assembly.batch(sealed)
        places.extend(lie)
        yield head
        for source in group:
            crc = Checksum(source.length)
            for at in range(0, source.length, _WINDOW):
                piece = window[: min(_WINDOW, source.length - at)]
                fill(source, at, piece)
                crc.add(piece)
                yield piece
            crc.verify()  # the source is deleted one day: what was altered on its way must not take its place
        yield from padding

    for source in sources:
        fill(source, 0, window[:RECORD_HEADER_SIZE])
        streamed = RecordHeader.parse(window[:RECORD_HEADER_SIZE]).length == 0
        if group and (streamed or sum(each.length for each in group) + source.length > _COPY_BATCH):
            yield from batch()
            group = []
        group.append(source)
        if streamed:
            yield from batch()
            group = []
    if group:
        yield from batch()
    yield assembly.footer()


@dataclass(frozen=True, slots=True)
class Record:
    """One record as its trailer describes it. The payload is not read."""

    segment: bytes
    offset: int
    length: int
    kind: Kind
    object_id: bytes
    tenant: bytes
    scope: Scope
    wrapped_key: bytes
    size: int  # payload bytes
    sealed_meta: bytes
    trailer: bytes  # clear part: associated data of the metadata

    @property
    def scope_id(self) -> bytes:
        return self.scope.id

    @property
    def place(self) -> Place:
        return Place(self.segment, self.offset, self.length)

    @property
    def blob(self) -> Blob:
        return Blob(self.place, self.object_id, self.tenant, self.scope, self.wrapped_key, self.size)


def read_record(read: Read, segment: bytes, offset: int, length: int) -> Record:
    """Header and trailer of the record at a known place; raises Malformed. The checksum over the payload is not
    looked at: `verify_record` does that, and the keys say more."""
    header = RecordHeader.parse(read(offset, RECORD_HEADER_SIZE))
    if header.length not in (0, length):
        raise Malformed("record header: another length than its segment says")
    glance = min(length - RECORD_HEADER_SIZE, _GLANCE)
    rear = read(offset + length - glance, glance)
    end = End.parse(rear[-END.size :])
    behind = TRAILER.size + end.meta_size + TAG + END.size
    if end.length != length or behind > length - RECORD_HEADER_SIZE:
        raise Malformed("record end: another length than its segment says")
    if behind > glance:
        rear = read(offset + length - behind, behind)
    rear = rear[-behind:]
    trailer = Trailer.parse(rear)
    if (trailer.kind, trailer.object_id, trailer.tenant) != (header.kind, header.object_id, header.tenant):
        raise Malformed("trailer: not of this record's header")
    if trailer.meta_size != end.meta_size or record_length(trailer.size, trailer.meta_size) != length:
        raise Malformed("trailer: sizes do not add up")
    return Record(
        segment,
        offset,
        length,
        Kind(trailer.kind),
        trailer.object_id,
        trailer.tenant,
        Scope(trailer.scope_id, trailer.scope_position),
        trailer.wrapped_key,
        trailer.size,
        bytes(rear[TRAILER.size : -END.size]),
        bytes(rear[: TRAILER.size]),
    )


def verify_record(read: Read, segment: bytes, offset: int, length: int) -> Record:
    """`read_record`, and the checksum over all its bytes; raises Malformed."""
    record = read_record(read, segment, offset, length)
    checksum, at, stop = Checksum(length), offset, offset + length
    while at < stop:
        piece = read(at, min(_WINDOW, stop - at))
        if not len(piece):
            raise Malformed("record cut short")
        checksum.add(piece)
        at += len(piece)
    checksum.verify()
    return record


class Checksum:
    """The checksum of a record, fed piece by piece from its first byte to its last."""

    def __init__(self, length: int):
        self._stop = length - _END_TAIL
        self._at = self._crc = 0
        self._end = b""

    def add(self, piece: memoryview) -> None:
        first, stop = max(0, RECORD_HEADER_SIZE - self._at), max(0, self._stop - self._at)
        self._crc = crc32(piece[first:stop], self._crc)
        self._at += len(piece)
        self._end = (self._end + bytes(piece[-END.size :]))[-END.size :]

    def verify(self) -> None:
        """Raises Malformed."""
        if End.parse(self._end).crc != self._crc:
            raise Malformed("record: checksum differs")


def read_footer(read: Read, segment: bytes, size: int) -> Footer:
    """The footer of a sealed segment; raises Malformed when it is not sealed, or not whole."""
    if size < BLOCK + HEAD_SIZE + HEAD_SIZE:
        raise Malformed("no tail")
    tail = Tail.parse(read(size - HEAD_SIZE, HEAD_SIZE), size)
    if tail.segment != segment:
        raise Malformed("tail of another segment")
    return Footer.parse(read(tail.footer_offset, tail.footer_length), tail)
