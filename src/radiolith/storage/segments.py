"""One segment as a whole: putting its bytes together, and reading them back without trusting them.

Owns: the order of parts inside a segment, and the difference between a torn tail and damage. Must never: write, or
need a key. Reads at most _WINDOW bytes at a time, whatever the segment's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from radiolith.model import Blob, Kind, Place, Scope
from radiolith.storage.backends import Problem, Sealed
from radiolith.storage.format import (
    BATCH_MAGIC,
    BLOCK,
    END,
    END_MAGIC,
    HEAD_SIZE,
    MAX_META,
    MAX_RECORDS,
    MERGE,
    RECORD_HEADER_SIZE,
    RECOVERED,
    SMALLEST_RECORD,
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
            for at in range(0, source.length, _WINDOW):
                piece = window[: min(_WINDOW, source.length - at)]
                fill(source, at, piece)
                yield piece
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
    crc, at, stop = 0, offset + RECORD_HEADER_SIZE, offset + length - 8
    while at < stop:
        piece = read(at, min(_WINDOW, stop - at))
        if not len(piece):
            raise Malformed("record cut short")
        crc = crc32(piece, crc)
        at += len(piece)
    if crc != End.parse(read(offset + length - END.size, END.size)).crc:
        raise Malformed("record: checksum differs")
    return record


def read_footer(read: Read, segment: bytes, size: int) -> Footer:
    """The footer of a sealed segment; raises Malformed when it is not sealed, or not whole."""
    if size < BLOCK + HEAD_SIZE + HEAD_SIZE:
        raise Malformed("no tail")
    tail = Tail.parse(read(size - HEAD_SIZE, HEAD_SIZE), size)
    if tail.segment != segment:
        raise Malformed("tail of another segment")
    return Footer.parse(read(tail.footer_offset, tail.footer_length), tail)


@dataclass(slots=True)
class Survey:
    """What the batches of a segment hold, found without its footer."""

    flags: int = 0
    entries: list[Entry] = field(default_factory=list[Entry])
    data_end: int = BLOCK  # behind the last valid record
    batches: int = 0
    last_batch: int = 0  # offset of the last batch with a valid record, 0 without one
    cut: bool = False  # the last batch is there in part only
    torn: int = 0  # bytes that are not zero behind the end
    problems: list[Problem] = field(default_factory=list[Problem])

    @property
    def damaged(self) -> bool:
        return bool(self.problems)

    def footer(self, segment: bytes) -> bytes:
        return pack_footer(segment, self.entries, self.data_end, self.batches, RECOVERED if self.cut else 0)


def survey(read: Read, segment: bytes, size: int, *, known_end: int = 0) -> Survey:
    """Walk the batches up to `size`, where the segment, or a valid footer, begins to be something else.

    Everything invalid below a durable end that a later batch repeats, or below `known_end`, is a problem; invalid bytes
    behind that are a torn tail, counted and nothing more.
    """
    return _Surveyor(read, segment, size, known_end).run()


class _Surveyor:
    def __init__(self, read: Read, segment: bytes, size: int, known_end: int):
        self.read, self.segment, self.size, self.known_end = read, segment, size, known_end
        self.found = Survey()

    def run(self) -> Survey:
        found = self.found
        header_problem = self._header()
        offset, number = BLOCK, 0
        while offset + HEAD_SIZE <= self.size:
            reason, bad = self._batch(offset, number)
            if not reason:
                offset, number = aligned(found.data_end), number + 1
                continue
            later = self._later_batch(offset + BLOCK, number)
            if later is None:
                if found.data_end < self.known_end:
                    self._problem(bad, f"{reason}, in what the index knows as stored")
                break
            self._problem(bad, f"{reason}, though batches behind it are whole")
            found.cut = False
            offset, number = later
        if found.data_end < self.known_end and not found.problems:
            self._problem(found.data_end, "the segment ends before what the index knows as stored")
        if not found.problems:
            found.torn = self._bytes_behind(found.data_end)
        if header_problem and (found.entries or found.problems or self.known_end):
            found.problems.insert(0, Problem(self.segment, 0, header_problem))
        return found

    def _problem(self, offset: int, reason: str) -> None:
        self.found.problems.append(Problem(self.segment, offset, reason))

    def _header(self) -> str:
        block = self.read(0, BLOCK)
        try:
            header = SegmentHeader.parse(block)
        except Malformed as problem:
            return str(problem)
        if header.segment != self.segment:
            return "segment header: id of another segment"
        self.found.flags = header.flags
        if any(block[HEAD_SIZE:]):
            self._problem(HEAD_SIZE, "padding is not zero")
        return ""

    def _batch(self, offset: int, number: int) -> tuple[str, int]:
        """Take in the batch at `offset`. ('', 0), or what is wrong and where; valid records before that are taken
        in."""
        found = self.found
        try:
            batch = BatchHeader.parse(self.read(offset, HEAD_SIZE))
        except Malformed as problem:
            return str(problem), offset
        if batch.segment != self.segment or batch.number != number:
            return "batch header: of another place", offset
        at = offset + HEAD_SIZE
        if batch.flags & STREAM:
            return self._streamed(offset, at)
        stop = at + batch.length
        for _ in range(batch.count):
            try:
                length = RecordHeader.parse(self.read(at, RECORD_HEADER_SIZE)).length
                length = length or (batch.length if batch.count == 1 else 0)
                if at + length > min(stop, self.size):
                    raise Malformed("record reaches out of its batch")
                record = verify_record(self.read, self.segment, at, length)
            except Malformed as problem:
                found.cut = found.last_batch == offset
                return str(problem), at
            self._take(offset, record)
            at += length
        if at != stop or not batch.count:
            return "batch header: length and records differ", offset
        if any(self.read(at, aligned(at) - at)):
            self._problem(at, "padding is not zero")
        return "", 0

    def _take(self, offset: int, record: Record) -> None:
        found = self.found
        found.entries.append(Entry(record.offset, record.length, record.kind.value, record.object_id))
        found.data_end = record.offset + record.length
        if found.last_batch != offset:
            found.last_batch = offset
            found.batches += 1

    def _streamed(self, offset: int, at: int) -> tuple[str, int]:
        """The record of a streamed segment ends where its end marker says so: looked for from the segment's end."""
        window = min(self.size - at, MAX_META + 64 * 1024)
        rear = bytes(self.read(self.size - window, window))
        hit = len(rear)
        while (hit := rear.rfind(END_MAGIC, 0, hit)) >= 0:
            stop = self.size - window + hit + len(END_MAGIC)
            if stop - at < SMALLEST_RECORD:
                break
            try:
                record = verify_record(self.read, self.segment, at, stop - at)
            except Malformed:
                continue
            self._take(offset, record)
            if any(self.read(stop, aligned(stop) - stop)):
                self._problem(stop, "padding is not zero")
            return "", 0
        return "streamed record without a valid trailer", at

    def _later_batch(self, start: int, number: int) -> tuple[int, int] | None:
        """The first whole batch header behind an invalid batch that proves the invalid one had been synced."""
        for offset in range(start, self.size, _WINDOW):
            window = bytes(self.read(offset, min(_WINDOW, self.size - offset)))
            hit = -1
            while (hit := window.find(BATCH_MAGIC, hit + 1)) >= 0:
                if hit % BLOCK:
                    continue
                try:
                    batch = BatchHeader.parse(window[hit : hit + HEAD_SIZE])
                except Malformed:
                    continue
                proves = batch.durable_end > self.found.data_end or self.found.flags & MERGE
                if batch.segment == self.segment and batch.number > number and proves:
                    return offset + hit, batch.number
        return None

    def _bytes_behind(self, start: int) -> int:
        """Length from `start` to the last byte that is not zero."""
        last = start
        for offset in range(start, self.size, _WINDOW):
            window = bytes(self.read(offset, min(_WINDOW, self.size - offset))).rstrip(b"\0")
            if window:
                last = offset + len(window)
        return last - start


def entries_of(read: Read, segment: bytes, size: int) -> Iterator[Entry | Problem]:
    """The records of a segment: by its footer, or by a survey where it has none."""
    try:
        yield from read_footer(read, segment, size).entries
    except Malformed:
        found = survey(read, segment, size)
        yield from found.entries
        yield from found.problems
