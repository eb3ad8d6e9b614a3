"""The bytes of a segment and of a keyring: one table of structs, one format number.

Owns: every magic, size and field order of docs/format/segment.md and docs/format/keyring.md. Must never: do I/O, or
hold a key. Part of the wire format, all of it: a change here is a new format number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

FORMAT = 1
CHUNK = 64 * 1024  # bytes of payload in one chunk
TAG = 16  # bytes AES-GCM adds to a chunk
BLOCK = 4096  # batches and footers start on multiples of this; no disk tears inside without our seeing it
MAX_META = 1024 * 1024  # bytes of metadata in one record: a rebuild holds one at a time
MAX_RECORDS = 65_536  # in one segment: bounds the footer to 2.6 MB
SEGMENT_BYTES = 256 * 1024 * 1024  # where a writer seals its segment and starts another

SEGMENT_MAGIC, BATCH_MAGIC = b"RLSEGMNT", b"RLBATCH1"
FOOTER_MAGIC, TAIL_MAGIC = b"RLFOOTER", b"RLSEALED"
RECORD_MAGIC, TRAILER_MAGIC, END_MAGIC = b"RLRC", b"RLTR", b"RLEN"

STREAM = 1  # flag of a segment and of its only batch: one record, written while it was received
MERGE = 2  # flag of a segment: copies of records; it exists as a whole or not at all
RECOVERED = 1  # flag of a footer: sealed by recovery, the last batch may be cut short

SEGMENT_HEADER = Struct("<8sHHI16s8sQ12x")  # magic, format, flags, chunk, segment, epoch, created | crc
BATCH_HEADER = Struct("<8sHHI16sQQQ4x")  # magic, format, flags, count, segment, number, durable end, length | crc
FOOTER_HEADER = Struct("<8sHHI16sQQ12x")  # magic, format, flags, count, segment, data end, batches | crc
TAIL = Struct("<8sHHI16sQQ12x")  # magic, format, 0, footer crc, segment, footer offset, footer length | crc
FOOTER_ENTRY = Struct("<QQB7x16s")  # offset, length, kind, object id
RECORD_HEADER = Struct("<4sHBBQ16s16s")  # magic, format, kind, 0, length, object id, tenant | crc
TRAILER = Struct("<4sHBB16s16s16sQ40sQI")  # magic, format, kind, 0, object, tenant, scope, position, key, size, meta
END = Struct("<QII4s")  # length, metadata size, crc, magic
CRC = Struct("<I")

HEAD_SIZE = 64  # segment header, batch header, footer header, tail: each with its crc
RECORD_HEADER_SIZE = RECORD_HEADER.size + CRC.size
SMALLEST_RECORD = RECORD_HEADER_SIZE + TAG + TRAILER.size + TAG + END.size

Buffer = bytes | bytearray | memoryview


class Malformed(Exception):
    """Bytes that are not what the format asks for. Internal: becomes a Problem or Damaged further up."""


def with_crc(head: bytes) -> bytes:
    return head + CRC.pack(crc32(head))


def aligned(offset: int) -> int:
    """The next multiple of BLOCK at or after `offset`."""
    return -(-offset // BLOCK) * BLOCK


def chunk_count(size: int) -> int:
    return max(1, -(-size // CHUNK))


def record_length(size: int, meta: int) -> int:
    """Bytes of a whole record with `size` bytes of payload and `meta` bytes of metadata."""
    return RECORD_HEADER_SIZE + size + TAG * chunk_count(size) + TRAILER.size + meta + TAG + END.size


def _checked(kind: str, layout: Struct, magic: bytes, data: Buffer) -> tuple[int | bytes, ...]:
    """The fields of a head that ends in the crc of what comes before; raises Malformed."""
    if len(data) < layout.size + CRC.size:
        raise Malformed(f"{kind} cut short")
    fields = layout.unpack_from(data)
    if fields[0] != magic:
        raise Malformed(f"{kind}: no magic")
    head = data[: layout.size]
    if CRC.unpack_from(data, layout.size)[0] != crc32(head):
        raise Malformed(f"{kind}: checksum differs")
    if fields[1] != FORMAT:
        raise Malformed(f"{kind}: format {fields[1]}, known is {FORMAT}")
    if layout.pack(*fields) != head:
        raise Malformed(f"{kind}: reserved bytes are not zero")
    return fields[2:]


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    segment: bytes
    epoch: bytes
    created: int  # microseconds
    flags: int = 0

    def pack(self) -> bytes:
        """The whole first block."""
        head = SEGMENT_HEADER.pack(SEGMENT_MAGIC, FORMAT, self.flags, CHUNK, self.segment, self.epoch, self.created)
        return with_crc(head).ljust(BLOCK, b"\0")

    @classmethod
    def parse(cls, data: Buffer) -> SegmentHeader:
        flags, chunk, segment, epoch, created = _checked("segment header", SEGMENT_HEADER, SEGMENT_MAGIC, data)
        if chunk != CHUNK:
            raise Malformed(f"segment header: chunk size {chunk}")
        assert isinstance(segment, bytes) and isinstance(epoch, bytes) and isinstance(created, int)
        assert isinstance(flags, int)
        return cls(segment, epoch, created, flags)


@dataclass(frozen=True, slots=True)
class BatchHeader:
    segment: bytes
    number: int
    durable_end: int
    length: int
    count: int
    flags: int = 0

    def pack(self) -> bytes:
        return with_crc(
            BATCH_HEADER.pack(
                BATCH_MAGIC,
                FORMAT,
                self.flags,
                self.count,
                self.segment,
                self.number,
                self.durable_end,
                self.length,
            )
        )

    @classmethod
    def parse(cls, data: Buffer) -> BatchHeader:
        flags, count, segment, number, durable, length = _checked("batch header", BATCH_HEADER, BATCH_MAGIC, data)
        assert isinstance(segment, bytes) and isinstance(number, int) and isinstance(durable, int)
        assert isinstance(flags, int) and isinstance(count, int) and isinstance(length, int)
        return cls(segment, number, durable, length, count, flags)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a footer."""

    offset: int
    length: int
    kind: int
    object_id: bytes


def pack_footer(segment: bytes, entries: Sequence[Entry], data_end: int, batches: int, flags: int = 0) -> bytes:
    """Footer and tail, to be written at aligned(data_end)."""
    head = FOOTER_HEADER.pack(FOOTER_MAGIC, FORMAT, flags, len(entries), segment, data_end, batches)
    lines = (FOOTER_ENTRY.pack(entry.offset, entry.length, entry.kind, entry.object_id) for entry in entries)
    footer = b"".join((with_crc(head), *lines))
    tail = TAIL.pack(TAIL_MAGIC, FORMAT, 0, crc32(footer), segment, aligned(data_end), len(footer))
    return footer + with_crc(tail)


@dataclass(frozen=True, slots=True)
class Tail:
    segment: bytes
    footer_offset: int
    footer_length: int
    footer_crc: int

    @classmethod
    def parse(cls, data: Buffer, size: int) -> Tail:
        """`data` are the last HEAD_SIZE bytes of a segment of `size` bytes."""
        zero, crc, segment, offset, length = _checked("tail", TAIL, TAIL_MAGIC, data)
        assert isinstance(segment, bytes) and isinstance(crc, int)
        assert isinstance(offset, int) and isinstance(length, int)
        if zero != 0 or offset % BLOCK or offset < BLOCK or offset + length + HEAD_SIZE != size:
            raise Malformed("tail: footer does not end where the segment ends")
        return cls(segment, offset, length, crc)


@dataclass(frozen=True, slots=True)
class Footer:
    entries: list[Entry]
    data_end: int
    batches: int
    flags: int

    @classmethod
    def parse(cls, data: Buffer, tail: Tail) -> Footer:
        if crc32(data) != tail.footer_crc:
            raise Malformed("footer: checksum differs")
        flags, count, segment, data_end, batches = _checked("footer", FOOTER_HEADER, FOOTER_MAGIC, data)
        assert isinstance(count, int) and isinstance(flags, int) and isinstance(data_end, int)
        assert isinstance(batches, int)
        if segment != tail.segment:
            raise Malformed("footer of another segment")
        if count > MAX_RECORDS or HEAD_SIZE + count * FOOTER_ENTRY.size != len(data):
            raise Malformed("footer: number of records and length differ")
        if aligned(data_end) != tail.footer_offset:
            raise Malformed("footer: not where the data end")
        lines = FOOTER_ENTRY.iter_unpack(memoryview(data)[HEAD_SIZE:])
        return cls([Entry(*line) for line in lines], data_end, batches, flags)


def pack_record_header(kind: int, length: int, object_id: bytes, tenant: bytes) -> bytes:
    return with_crc(RECORD_HEADER.pack(RECORD_MAGIC, FORMAT, kind, 0, length, object_id, tenant))


@dataclass(frozen=True, slots=True)
class RecordHeader:
    kind: int
    length: int  # 0: streamed, alone in its batch
    object_id: bytes
    tenant: bytes

    @classmethod
    def parse(cls, data: Buffer) -> RecordHeader:
        kind, zero, length, object_id, tenant = _checked("record header", RECORD_HEADER, RECORD_MAGIC, data)
        assert isinstance(kind, int) and isinstance(length, int)
        assert isinstance(object_id, bytes) and isinstance(tenant, bytes)
        if zero != 0 or kind not in (1, 2, 3):
            raise Malformed("record header: unknown kind")
        if length and length < SMALLEST_RECORD:
            raise Malformed("record header: impossible length")
        return cls(kind, length, object_id, tenant)


@dataclass(frozen=True, slots=True)
class Trailer:
    """The clear part of a trailer. `pack()` is the associated data of the sealed metadata."""

    kind: int
    object_id: bytes
    tenant: bytes
    scope_id: bytes
    scope_position: int
    wrapped_key: bytes
    size: int
    meta_size: int

    def pack(self) -> bytes:
        return TRAILER.pack(
            TRAILER_MAGIC,
            FORMAT,
            self.kind,
            0,
            self.object_id,
            self.tenant,
            self.scope_id,
            self.scope_position,
            self.wrapped_key,
            self.size,
            self.meta_size,
        )

    @classmethod
    def parse(cls, data: Buffer) -> Trailer:
        if len(data) < TRAILER.size:
            raise Malformed("trailer cut short")
        magic, number, kind, zero, *rest = TRAILER.unpack_from(data)
        if magic != TRAILER_MAGIC or number != FORMAT or zero != 0:
            raise Malformed("trailer: no magic, or another format")
        return cls(kind, *rest)


@dataclass(frozen=True, slots=True)
class End:
    length: int
    meta_size: int
    crc: int

    @classmethod
    def parse(cls, data: Buffer) -> End:
        if len(data) < END.size:
            raise Malformed("record end cut short")
        length, meta, crc, magic = END.unpack_from(data)
        if magic != END_MAGIC or meta > MAX_META or length < SMALLEST_RECORD + meta:
            raise Malformed("record end: no magic, or an impossible length")
        return cls(length, meta, crc)


def pack_end(length: int, meta_size: int, crc: int) -> bytes:
    """`crc` runs over chunks, trailer and sealed metadata; this adds the first 12 bytes of the end to it."""
    head = Struct("<QI").pack(length, meta_size)
    return head + CRC.pack(crc32(head, crc)) + END_MAGIC
