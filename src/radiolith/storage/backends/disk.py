"""What the log and the keyring ask of a file system: the seam between them and the operating system.

Owns: the seam, and the two loops everybody needs over short reads and writes. backends/local.py is the real side, and
tests/storage/simulated_disk.py the one that loses power.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Protocol

from radiolith.model import Failure, NoSpace, Unavailable
from radiolith.storage.backends import Steps
from radiolith.storage.format import Buffer


class File(Protocol):
    """An open file. Offsets and lengths in bytes; every call raises OSError."""

    def size(self) -> int: ...

    def read_into(self, into: memoryview, offset: int) -> int:
        """How many bytes were read: fewer than asked at the end of the file, or at any time."""
        ...

    def data(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Ranges (from, to) inside start..stop in order; every byte outside of them reads as zero. All of it where the
        file system cannot say: what was preallocated and never written need not be read."""
        ...

    def write(self, buffers: Sequence[Buffer], offset: int) -> int:
        """How many bytes were written: perhaps fewer than given."""
        ...

    def sync(self) -> None:
        """Data and length durable. Once it failed nothing is known about any byte since the last success."""
        ...

    def start_writeback(self, offset: int, length: int) -> None:
        """A hint: let the device begin. Promises nothing."""
        ...

    def evict(self, offset: int, length: int) -> None:
        """The next read of these bytes shall come from the medium, not from the page cache; what was not synced stays.
        Length 0: to the end."""
        ...

    def preallocate(self, length: int) -> None:
        """Length and blocks for `length` bytes of zeros."""
        ...

    def truncate(self, length: int) -> None: ...

    def lock(self, *, wait: bool = False) -> bool:
        """Take the advisory lock of the file, held until `close`; False when somebody else holds it."""
        ...

    def unlock(self) -> None: ...

    def linked(self) -> bool:
        """Whether the file still has a name."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """A file system below which paths are plain strings. Every call raises OSError."""

    steps: Steps

    def create(self, path: str) -> File:
        """A new empty file, readable by its owner alone; FileExistsError when there is one."""
        ...

    def open(self, path: str, *, write: bool = False) -> File: ...

    def sync_directory(self, path: str) -> None: ...

    def make_directory(self, path: str) -> None:
        """FileExistsError when there is one."""
        ...

    def names(self, path: str) -> list[str]: ...

    def remove(self, path: str) -> None: ...

    def free(self, path: str) -> int:
        """Bytes an unprivileged process may still write there."""
        ...


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def failure(error: OSError, doing: str) -> Failure:
    """What an OSError means to the layers above; without paths, which mean nothing to them."""
    if error.errno in NO_SPACE:
        return NoSpace(f"The disk is full ({doing})")
    return Unavailable(f"The disk failed ({doing}: {error.strerror or error})")


def write_all(file: File, buffers: Sequence[Buffer], offset: int) -> int:
    """Write every byte, whatever short writes come between; returns the offset behind the last one."""
    waiting = [memoryview(buffer) for buffer in buffers if len(buffer)]
    first = 0
    while first < len(waiting):
        done = file.write(waiting[first : first + 1000] if len(waiting) > 1000 else waiting[first:], offset)
        if done <= 0:
            raise OSError(errno.EIO, "nothing was written")
        offset += done
        while first < len(waiting) and done >= len(waiting[first]):
            done -= len(waiting[first])
            first += 1
        if done:
            waiting[first] = waiting[first][done:]
    return offset


def read_all(file: File, into: memoryview, offset: int) -> int:
    """Read until `into` is full or the file ends; returns the number of bytes."""
    done = 0
    while done < len(into):
        got = file.read_into(into[done:], offset + done)
        if got <= 0:
            break
        done += got
    return done


def read_bytes(file: File, offset: int, length: int) -> memoryview:
    into = memoryview(bytearray(length))
    return into[: read_all(file, into, offset)]
