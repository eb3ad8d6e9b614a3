"""One segment file that is being written: as a whole, as a stream, or by recovery.

Owns: the order of writes and syncs inside one file. Must never: sync again after a failed sync; after any OSError the
file is only good to be closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from radiolith.model import Failure, Place, Unavailable
from radiolith.storage.backends import Sealed
from radiolith.storage.backends.disk import NO_SPACE, File, failure, read_bytes, write_all
from radiolith.storage.format import HEAD_SIZE, MERGE, STREAM, Buffer, Malformed, SegmentHeader, Tail, aligned
from radiolith.storage.segments import Assembly, Read, read_footer
from radiolith.storage.survey import Survey, survey

_STRIDE = 8 * 1024 * 1024  # bytes of a stream between two looks at the free space and hints to the device
_WINDOW = 1024 * 1024


def seal_survey(file: File, segment: bytes, found: Survey) -> None:
    """Write the footer in place of a torn tail. The last batch is written again before: where a sync had failed, its
    pages may be clean in the cache and absent on the disk, and a sync alone would not bring them there."""
    stop = found.data_end
    for offset in range(found.last_batch, stop, _WINDOW):
        write_all(file, [read_bytes(file, offset, min(_WINDOW, stop - offset))], offset)
    end = aligned(stop)
    footer = found.footer(segment)
    write_all(file, [bytes(end - stop), footer], stop)
    file.truncate(end + len(footer))
    file.sync()


class Writer:
    """An open, locked segment and what was put into it."""

    def __init__(self, file: File, assembly: Assembly):
        self.file = file
        self.assembly = assembly
        self.capacity = 0

    @property
    def segment(self) -> bytes:
        return self.assembly.header.segment

    def preallocate(self, length: int) -> None:
        """Best effort: a disk without room for a whole segment may still have room for a batch."""
        self.capacity = length
        try:
            self.file.preallocate(length)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self.file.truncate(0)

    def fits(self, need: int, records: int) -> bool:
        return not self.assembly.full and self.assembly.end + need <= self.capacity

    def append(self, batch: Sequence[Sealed]) -> list[Place]:
        at = self.assembly.end
        buffers, places = self.assembly.batch(batch)
        write_all(self.file, buffers, at)
        self.file.sync()
        return places

    def finish(self) -> None:
        end = self.assembly.end
        footer = self.assembly.footer()
        write_all(self.file, [footer], end)
        self.file.truncate(end + len(footer))
        self.file.sync()


class FileStream:
    """A segment of one record, written while it arrives."""

    def __init__(self, writer: Writer, check_space: Callable[[], None], remove: Callable[[bytes], None]):
        self._check_space = check_space
        self._remove = remove
        self._writer: Writer | None = writer
        self._at = 0
        self._hinted = 0
        self._write([writer.assembly.open_stream()])

    def write(self, data: Buffer) -> None:
        self._write([data])

    def flush(self) -> None:
        writer = self._open()
        try:
            writer.file.sync()
        except OSError as error:
            raise self._dead(error) from error

    def commit(self, trailer: Buffer, sealed: Sealed) -> Place:
        writer = self._open()
        place = writer.assembly.close_stream(sealed)
        padding = bytes(writer.assembly.end - place.offset - place.length)
        self._write([trailer, padding, writer.assembly.footer()])
        try:
            writer.file.sync()
        except OSError as error:
            raise self._dead(error) from error
        self._writer = None
        writer.file.close()
        return place

    def discard(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._remove(writer.segment)
            writer.file.close()

    def _open(self) -> Writer:
        if self._writer is None or self._at < 0:
            raise Unavailable("An object's segment failed while it was written")
        return self._writer

    def _dead(self, error: OSError) -> Failure:
        self._at = -1
        return failure(error, "writing a large object")

    def _write(self, buffers: Sequence[Buffer]) -> None:
        writer = self._open()
        try:
            self._at = write_all(writer.file, buffers, self._at)
        except OSError as error:
            raise self._dead(error) from error
        if self._at - self._hinted >= _STRIDE:
            self._check_space()
            writer.file.start_writeback(self._hinted, self._at - self._hinted)
            self._hinted = self._at


def has_tail(file: File, size: int) -> bool:
    try:
        Tail.parse(read_bytes(file, max(0, size - HEAD_SIZE), HEAD_SIZE), size)
    except Malformed:
        return False
    return True


def sealed_end(read: Read, segment: bytes, size: int, mark: int) -> int:
    """Where the data of a sealed segment end; 0 when it is not sealed. A streamed or merged segment is synced once,
    with its footer: the footer alone may have reached the disk, so what the index does not know yet is verified
    first."""
    try:
        footer = read_footer(read, segment, size)
        if mark < footer.data_end and SegmentHeader.parse(read(0, HEAD_SIZE)).flags & (STREAM | MERGE):
            found = survey(read, segment, aligned(footer.data_end))
            if found.entries != footer.entries or found.damaged:
                return 0
    except Malformed:
        return 0
    return footer.data_end
