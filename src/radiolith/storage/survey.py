"""The batches of a segment, read without trusting its footer.

Owns: the difference between a torn tail and damage (docs/format/segment.md, "Batch header"). Must never: write, or need
a key. Reads at most _WINDOW bytes at a time, whatever the segment's size, and behind the last whole batch only what
`data` says may hold something.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from radiolith.storage.backends import Problem
from radiolith.storage.format import (
    BATCH_MAGIC,
    BLOCK,
    END_MAGIC,
    HEAD_SIZE,
    MAX_META,
    MERGE,
    RECORD_HEADER_SIZE,
    RECOVERED,
    SMALLEST_RECORD,
    STREAM,
    BatchHeader,
    Entry,
    Malformed,
    RecordHeader,
    SegmentHeader,
    aligned,
    pack_footer,
)
from radiolith.storage.segments import Read, Record, read_footer, verify_record

_WINDOW = 1024 * 1024  # bytes read at a time

Ranges = Sequence[tuple[int, int]]
"""(from, to) in order; every byte of a segment outside of them reads as zero."""


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


def survey(read: Read, segment: bytes, size: int, *, known_end: int = 0, data: Ranges | None = None) -> Survey:
    """Walk the batches up to `size`, where the segment, or a valid footer, begins to be something else.

    Everything invalid below a durable end that a later batch repeats, or below `known_end`, is a problem; invalid bytes
    behind that are a torn tail, counted and nothing more.
    """
    return _Surveyor(read, segment, size, known_end, data).run()


class _Surveyor:
    def __init__(self, read: Read, segment: bytes, size: int, known_end: int, data: Ranges | None = None):
        self.read, self.segment, self.size, self.known_end = read, segment, size, known_end
        self.data = data if data is not None else ((0, size),)
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
        for offset, window in self._windows(start):
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
        for offset, window in self._windows(start):
            found = len(window.rstrip(b"\0"))
            if found:
                last = offset + found
        return last - start

    def _windows(self, start: int) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of everything from `start` on that may not be zero, in whole blocks of the format: so no
        header is cut by a file system with smaller blocks."""
        done = start
        for first, behind in self.data:
            stop = min(aligned(behind), self.size)
            for offset in range(max(done, first // BLOCK * BLOCK), stop, _WINDOW):
                yield offset, bytes(self.read(offset, min(_WINDOW, stop - offset)))
            done = max(done, stop)


def entries_of(read: Read, segment: bytes, size: int) -> list[Entry | Problem]:
    """The records of a segment: by its footer, or by a survey where it has none."""
    try:
        return [*read_footer(read, segment, size).entries]
    except Malformed:
        found = survey(read, segment, size)
        return [*found.entries, *found.problems]
