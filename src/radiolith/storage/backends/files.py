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
from radiolith.storage.backends.segment_file import FileStream, Writer, has_tail, seal_survey, sealed_end
from radiolith.storage.format import BLOCK, HEAD_SIZE, MERGE, SEGMENT_BYTES, STREAM, Malformed, aligned
from radiolith.storage.segments import Assembly, copy_records
from radiolith.storage.survey import survey

# Free space at which new records are refused: room to seal, to recover, and for the index.
RESERVE_BYTES = 256 * 1024 * 1024
HANDLES = 256  # descriptors kept for reading; a process may have 1,024
_DIRECTORY = "segments"

SPACE_EVERY = 100_000  # microseconds a look at the free space is good for: 100 MB at the fastest


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
        tier: str = "",
    ):
        self.tier = tier
        self.disk = disk
        self.steps = disk.steps
        self._clock = clock
        self._random = random
        self._segment_bytes = segment_bytes
        self._reserve = reserve_bytes
        self._epoch = random(8)
        self._lock = threading.Lock()
        self._active: Writer | None = None
        self._synced_directories: set[str] = set()
        self._handles: OrderedDict[bytes, File] = OrderedDict()
        self._handles_lock = threading.Lock()
        self._abandoned = 0
        self._space_seen = -SPACE_EVERY
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
        now = self._clock()
        if abs(now - self._space_seen) < SPACE_EVERY:
            return
        try:
            free = self.disk.free(_DIRECTORY)
        except OSError as error:
            raise failure(error, "looking at the free space") from error
        if free < self._reserve:
            raise NoSpace(f"The disk is full: {free} bytes free, {self._reserve} are kept in reserve")
        self._space_seen = now

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
            return FileStream(self._create(STREAM, 0), self.check_space, self._remove_quietly)
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

    def _create(self, flags: int, need: int) -> Writer:
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
            writer = Writer(file, Assembly(segment, self._epoch, self._clock(), flags))
            if not flags:
                # Half of what is left at most: preallocated space counts as used, and must not be what refuses others.
                writer.preallocate(min(self._segment_bytes, max(room // 2, need + BLOCK)))
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

    def forget(self, place: Place) -> None:
        try:
            self._handle(place.segment).evict(place.offset, place.length)
        except NotFound:
            pass

    def busy(self, segment: bytes) -> bool:
        try:
            file = self.disk.open(segment_path(segment))
        except OSError:
            return False
        try:
            return not file.lock()
        finally:
            file.close()

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
                    sealed = has_tail(file, size)
                    file.close()
                    yield SegmentInfo(bytes.fromhex(stem), size, sealed)
        except OSError as error:
            raise failure(error, "listing segments") from error

    # ------------------------------------------------------------ recovery

    def recover(self, known: Known, *, remove: bool = True) -> list[Recovered]:
        results: list[Recovered] = []
        for info in self.list():
            mark = known(info.id)
            if mark is not None and mark in (COMPLETE, info.length):
                continue  # a segment that is shorter than what is known of it has lost its end
            try:
                found = self._recover(info.id, mark or 0, remove and mark is None)
            except OSError as error:
                reason = f"the disk failed in recovery ({error.strerror or error})"
                found = Recovered(info.id, mark or 0, mark or 0, "damaged", damage=[Problem(info.id, 0, reason)])
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

            # After a failed sync, pages are clean in the cache and absent on the disk. What nobody was told of yet is
            # judged by what the disk holds.
            file.sync()
            if mark < size:
                file.evict(0, 0)
            # Before anything is read: a page of zeros that was read ahead counts as data.
            ranges = list(file.data(0, size))
            stop = sealed_end(read, segment, size, mark)
            if stop:
                return Recovered(segment, mark, stop, "sealed")
            found = survey(read, segment, size, known_end=mark, data=ranges)
            copy = bool(found.flags & MERGE)  # nobody was told of a copy that was not sealed; its sources are there
            if remove and (copy or not (found.entries or found.damaged)):
                self._remove(segment)
                return Recovered(segment, mark, mark, "removed", found.torn)
            if found.damaged:
                return Recovered(segment, mark, found.data_end, "damaged", found.torn, found.problems)
            if not found.entries:
                return Recovered(segment, mark, mark, "unfinished", found.torn)
            seal_survey(file, segment, found)
            return Recovered(segment, mark, found.data_end, "recovered", found.torn)
        finally:
            file.close()

    # ------------------------------------------------------------ moving and deleting

    def merge(self, sources: Sequence[Place], read: Callable[[Place, int, memoryview], None]) -> list[Place]:
        places: list[Place] = []
        writer: Writer | None = None
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
