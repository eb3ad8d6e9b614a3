"""Segments as files: the backend of a file tier, over a Disk.

Owns: the open segment of this process and its lock, the order of steps of docs/format/segment.md, recovery. Must
never: continue a segment after any failed step, sync one again after a failed sync, or write to one that is damaged.
"""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from radiolith.model import Damaged, Failure, NoSpace, NotFound, Place, Unavailable
from radiolith.storage.backends import COMPLETE, Known, Problem, Recovered, Sealed, SegmentInfo
from radiolith.storage.backends.disk import NO_SPACE, Disk, File, failure, read_all, read_bytes, write_all
from radiolith.storage.format import BLOCK, HEAD_SIZE, MERGE, SEGMENT_BYTES, STREAM, Buffer, Malformed, aligned
from radiolith.storage.segments import Assembly, Survey, copy_records, read_footer, survey

# Free space at which new records are refused: room to seal, to recover, and for the index.
RESERVE_BYTES = 256 * 1024 * 1024
HANDLES = 256  # descriptors kept for reading; a process may have 1,024
_STRIDE = 8 * 1024 * 1024  # bytes of a stream between two looks at the free space and hints to the device
_WINDOW = 1024 * 1024
_DIRECTORY = "segments"


def segment_path(segment: bytes) -> str:
    name = segment.hex()
    return f"{_DIRECTORY}/{name[:2]}/{name}.seg"


class FileBackend:
    """`create` makes the tier's directories; without it a tier whose directory is absent (not mounted, say) is
    Unavailable."""

    def __init__(
        self,
        disk: Disk,
        *,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        segment_bytes: int = SEGMENT_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
        create: bool = True,
    ):
        self.disk = disk
        self.steps = disk.steps
        self._clock = clock
        self._random = random
        self._segment_bytes = segment_bytes
        self._reserve = reserve_bytes
        self._epoch = random(8)
        self._lock = threading.Lock()
        self._active: _Writer | None = None
        self._synced_directories: set[str] = set()
        self._handles: OrderedDict[bytes, File] = OrderedDict()
        self._handles_lock = threading.Lock()
        self._abandoned = 0
        try:
            if create:
                for path, parent in (("", ".."), (_DIRECTORY, "")):
                    self._directory(path, parent)
            disk.names(_DIRECTORY)
        except OSError as error:
            raise Unavailable(
                f"The tier's directory cannot be used ({error.strerror}): is its volume mounted?"
            ) from error

    # ------------------------------------------------------------ writing

    def check_space(self) -> None:
        try:
            free = self.disk.free(_DIRECTORY)
        except OSError as error:
            raise failure(error, "looking at the free space") from error
        if free < self._reserve:
            raise NoSpace(f"The disk is full: {free} bytes free, {self._reserve} are kept in reserve")

    def commit(self, batch: Sequence[Sealed]) -> list[Place]:
        need = aligned(HEAD_SIZE + sum(record.length for record in batch))
        with self._lock:
            try:
                return self._append(batch, need)
            except OSError as error:
                if error.errno in NO_SPACE:
                    raise failure(error, "writing a batch") from error
            try:
                return self._append(batch, need)  # elsewhere: the segment of the first try is dead
            except OSError as error:
                raise failure(error, "writing a batch") from error

    def _append(self, batch: Sequence[Sealed], need: int) -> list[Place]:
        try:
            if self._active is not None and not self._active.fits(need, len(batch)):
                self._seal_active()
            if self._active is None:
                self._active = self._create(0, need)
            return self._active.append(batch)
        except OSError:
            self._abandon()
            raise

    def stream(self) -> FileStream:
        try:
            return FileStream(self, self._create(STREAM, 0))
        except OSError as error:
            raise failure(error, "starting a segment") from error

    def seal(self) -> None:
        with self._lock:
            self._seal_active()

    def close(self) -> None:
        self.seal()
        with self._handles_lock:
            self._handles.clear()

    def _seal_active(self) -> None:
        """A segment that cannot be sealed stays as it is: what it holds is durable, and recovery seals it."""
        active, self._active = self._active, None
        if active is None:
            return
        try:
            if active.assembly.entries:
                active.finish()
            else:
                self._remove(active.segment)
        except OSError:
            self._abandoned += 1
        finally:
            active.file.close()

    def _abandon(self) -> None:
        active, self._active = self._active, None
        if active is not None:
            self._abandoned += 1
            active.file.close()

    def _create(self, flags: int, need: int) -> _Writer:
        """A new segment: named, locked, header and names durable. Raises OSError."""
        room = self.disk.free(_DIRECTORY) - self._reserve
        if room < need + BLOCK:
            raise OSError(errno.ENOSPC, "down to the reserve")
        segment = self._random(16)
        path = segment_path(segment)
        directory = path.rsplit("/", 1)[0]
        if directory not in self._synced_directories:
            self._directory(directory, _DIRECTORY)
            self._synced_directories.add(directory)
        file = self.disk.create(path)
        try:
            # A recovery that comes between create and lock finds an empty file and removes it: hence the look at its
            # name.
            if not file.lock() or not file.linked():
                raise OSError(errno.EAGAIN, "a recovery was faster")
            writer = _Writer(file, Assembly(segment, self._epoch, self._clock(), flags))
            if not flags:
                writer.preallocate(min(self._segment_bytes, max(room, need + BLOCK)))
            write_all(file, [writer.assembly.header.pack()], 0)
            file.sync()
            self.disk.sync_directory(directory)
        except BaseException:
            file.close()
            raise
        return writer

    def _directory(self, path: str, parent: str) -> None:
        """Make sure a directory exists and its name is durable: one that is there may have been made by a process
        that died, or has not come to its sync yet."""
        try:
            self.disk.make_directory(path)
        except FileExistsError:
            pass
        self.disk.sync_directory(parent)

    # ------------------------------------------------------------ reading

    def read_into(self, segment: bytes, offset: int, into: memoryview) -> None:
        file = self._handle(segment)
        try:
            got = read_all(file, into, offset)
        except OSError as error:
            if error.errno == errno.EIO:
                raise Damaged("The disk cannot read a part of a segment") from error
            raise failure(error, "reading") from error
        if got != len(into):
            raise Damaged("A segment ends before a record it should hold")

    def size(self, segment: bytes) -> int:
        try:
            return self._handle(segment).size()
        except OSError as error:
            raise failure(error, "reading") from error

    def _handle(self, segment: bytes) -> File:
        with self._handles_lock:
            file = self._handles.get(segment)
            if file is not None:
                self._handles.move_to_end(segment)
                return file
        try:
            file = self.disk.open(segment_path(segment))
        except FileNotFoundError:
            raise NotFound("No such segment") from None
        except OSError as error:
            raise failure(error, "reading") from error
        with self._handles_lock:
            self._handles[segment] = file
            while len(self._handles) > HANDLES:
                self._handles.popitem(last=False)  # closed when the last reader lets go of it
        return file

    def list(self) -> Iterator[SegmentInfo]:
        try:
            for directory in sorted(self.disk.names(_DIRECTORY)):
                for name in sorted(self.disk.names(f"{_DIRECTORY}/{directory}")):
                    stem = name.removesuffix(".seg")
                    if len(stem) != 32 or stem == name:
                        continue
                    try:
                        file = self.disk.open(f"{_DIRECTORY}/{directory}/{name}")
                    except FileNotFoundError:
                        continue
                    size = file.size()
                    file.close()
                    yield SegmentInfo(bytes.fromhex(stem), size, None)
        except OSError as error:
            raise failure(error, "listing segments") from error

    # ------------------------------------------------------------ recovery

    def recover(self, known: Known, *, remove: bool = True) -> list[Recovered]:
        results: list[Recovered] = []
        for info in self.list():
            mark = known(info.id)
            if mark == COMPLETE:
                continue
            try:
                found = self._recover(info.id, mark or 0, remove and mark is None)
            except OSError as error:
                reason = f"the disk failed in recovery ({error.strerror or error})"
                found = Recovered(info.id, mark or 0, mark or 0, "damaged", problems=[Problem(info.id, 0, reason)])
            if found is not None:
                results.append(found)
        return results

    def _recover(self, segment: bytes, mark: int, remove: bool) -> Recovered | None:
        path = segment_path(segment)
        try:
            file = self.disk.open(path, write=True)
        except FileNotFoundError:
            return None
        try:
            if not file.lock() or not file.linked():
                return None  # its writer lives, or another recovery has just removed it
            size = file.size()

            def read(offset: int, length: int) -> memoryview:
                return read_bytes(file, offset, max(0, min(length, size - offset)))

            try:
                footer = read_footer(read, segment, size)
            except Malformed:
                pass
            else:
                file.sync()  # its writer may have died before the sync that seals
                return Recovered(segment, mark, footer.data_end, "sealed")
            found = survey(read, segment, size, known_end=mark)
            if found.damaged:
                file.sync()
                return Recovered(segment, mark, found.data_end, "damaged", found.torn, found.problems)
            if not found.entries or (found.flags & MERGE and remove):
                if remove:
                    self._remove(segment)
                return Recovered(segment, mark, mark, "removed" if remove else "unfinished", found.torn)
            _seal_survey(file, segment, found)
            return Recovered(segment, mark, found.data_end, "recovered", found.torn)
        finally:
            file.close()

    # ------------------------------------------------------------ moving and deleting

    def merge(self, sources: Sequence[Place], read: Callable[[Place, int, memoryview], None]) -> list[Place]:
        places: list[Place] = []
        writer: _Writer | None = None
        try:
            writer = self._create(MERGE, sum(source.length for source in sources))
            at = 0
            for piece in copy_records(writer.assembly, sources, read, places):
                at = write_all(writer.file, [piece], at)
            writer.file.sync()
        except (OSError, Failure, Malformed) as error:
            if writer is not None:
                self._remove_quietly(writer.segment)
            if isinstance(error, OSError):
                raise failure(error, "merging segments") from error
            if isinstance(error, Malformed):
                raise Damaged(f"A record to be copied is damaged: {error}") from error
            raise
        finally:
            if writer is not None:
                writer.file.close()
        return places

    def delete(self, segment: bytes, not_before: int) -> bool:
        if self._clock() < not_before:
            return False
        try:
            self._remove(segment)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise failure(error, "deleting a segment") from error
        return True

    def _remove(self, segment: bytes) -> None:
        with self._handles_lock:
            self._handles.pop(segment, None)
        path = segment_path(segment)
        self.disk.remove(path)
        self.disk.sync_directory(path.rsplit("/", 1)[0])

    def _remove_quietly(self, segment: bytes) -> None:
        """What stays behind holds no record anybody was told of; recovery removes it."""
        try:
            self._remove(segment)
        except OSError:
            self._abandoned += 1

    def status(self) -> dict[str, int | str]:
        try:
            free = self.disk.free(_DIRECTORY)
        except OSError:
            free = 0
        return {
            "kind": "file",
            "free_bytes": free,
            "reserve_bytes": self._reserve,
            "open_segment_bytes": self._active.assembly.end if self._active else 0,
            "abandoned_segments": self._abandoned,
        }


def _seal_survey(file: File, segment: bytes, found: Survey) -> None:
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


class _Writer:
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

    def __init__(self, backend: FileBackend, writer: _Writer):
        self._backend = backend
        self._writer: _Writer | None = writer
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
            self._backend._remove_quietly(writer.segment)  # pyright: ignore[reportPrivateUsage]
            writer.file.close()

    def _open(self) -> _Writer:
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
            self._backend.check_space()
            writer.file.start_writeback(self._hinted, self._at - self._hinted)
            self._hinted = self._at
