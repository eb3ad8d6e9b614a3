"""The local file system: the only file of the project's storage that creates, writes, syncs, truncates or removes.

Owns: the system calls, one step of the counter each. Must never: retry a sync, or decide anything. Written for Linux:
flock, fdatasync, fallocate and directory syncs mean what its manual pages say.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence

from radiolith.storage.backends import Steps
from radiolith.storage.format import Buffer

_SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class LocalFile:
    """One descriptor. Closed by `close`, or when the last user lets go of it."""

    __slots__ = ("_descriptor", "_steps")

    def __init__(self, descriptor: int, steps: Steps):
        self._descriptor = descriptor
        self._steps = steps

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read_into(self, into: memoryview, offset: int) -> int:
        return os.preadv(self._descriptor, [into], offset)

    def data(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        while start < stop:
            try:
                first = os.lseek(self._descriptor, start, os.SEEK_DATA)
                behind = os.lseek(self._descriptor, first, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # zeros to the end
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                first, behind = start, stop
            if first < stop:
                yield first, min(behind, stop)
            start = behind

    def write(self, buffers: Sequence[Buffer], offset: int) -> int:
        limit = self._steps("write")
        if limit is not None:
            buffers = [b"".join(buffers)[:limit]]
        return os.pwritev(self._descriptor, buffers, offset)

    def sync(self) -> None:
        self._steps("sync")
        os.fdatasync(self._descriptor)

    def start_writeback(self, offset: int, length: int) -> None:
        _libc.sync_file_range(self._descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)

    def evict(self, offset: int, length: int) -> None:
        os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_DONTNEED)

    def preallocate(self, length: int) -> None:
        self._steps("preallocate")
        try:
            os.posix_fallocate(self._descriptor, 0, length)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise

    def truncate(self, length: int) -> None:
        self._steps("truncate")
        os.ftruncate(self._descriptor, length)

    def lock(self, *, wait: bool = False) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def linked(self) -> bool:
        return os.fstat(self._descriptor).st_nlink > 0

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class LocalDisk:
    """The file system of this machine below `root`."""

    def __init__(self, root: str, steps: Steps | None = None):
        self.root = os.path.abspath(root)
        self.steps = steps or Steps()

    def _path(self, path: str) -> str:
        return os.path.join(self.root, path) if path else self.root

    def create(self, path: str) -> LocalFile:
        self.steps("create")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return LocalFile(os.open(self._path(path), flags, 0o600), self.steps)

    def open(self, path: str, *, write: bool = False) -> LocalFile:
        flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC
        return LocalFile(os.open(self._path(path), flags), self.steps)

    def sync_directory(self, path: str) -> None:
        self.steps("sync directory")
        descriptor = os.open(self._path(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_directory(self, path: str) -> None:
        self.steps("make directory")
        os.mkdir(self._path(path), 0o700)

    def names(self, path: str) -> list[str]:
        return os.listdir(self._path(path))

    def remove(self, path: str) -> None:
        self.steps("remove")
        os.unlink(self._path(path))

    def free(self, path: str) -> int:
        figures = os.statvfs(self._path(path))
        return figures.f_bavail * figures.f_frsize
