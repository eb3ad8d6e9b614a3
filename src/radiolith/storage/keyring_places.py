"""Where a keyring lies: a file, or numbered objects. Raw slots in, raw slots out.

Owns: how slots are laid out in each kind of place. Must never: judge a slot; keyring.py does that.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from radiolith.model import Failure, NotFound, Unavailable
from radiolith.storage.backends.bucket import Bucket
from radiolith.storage.backends.disk import Disk, File, failure, read_bytes, write_all
from radiolith.storage.slots import SLOT

_HEADER = "header"


class KeyringPlace(Protocol):
    """Raises NoSpace or Unavailable. Slot n below means the entry of position n; the header is apart."""

    name: str
    shared: bool  # by several hosts: an append there needs no lock, and may find another's instead

    def header(self) -> bytes | None: ...

    def create(self, header: bytes) -> bytes:
        """Make the place; answers the header that is there afterwards, ours or the one of somebody faster."""
        ...

    def replace_header(self, header: bytes) -> None: ...

    def count(self, *, look: bool = True) -> int:
        """Entries the place has room for, valid or not. look=False may answer from memory, for a shared place."""
        ...

    def slots(self, start: int, stop: int) -> bytes:
        """Raw slots, fewer where the place ends."""
        ...

    def append(self, start: int, slots: bytes) -> bool:
        """Durable on return. False: somebody else's entries are there already, nothing was written."""
        ...

    def replace(self, position: int, slots: bytes) -> None:
        """Write over what is there: repair. Durable on return."""
        ...

    def cut(self, count: int) -> None:
        """Drop a torn tail."""
        ...

    def sync(self) -> None:
        """Make durable what others may have written, and read from the disk itself next."""
        ...

    def lock(self) -> bool:
        """Wait for the lock all processes of this host share. False where there is none to take."""
        ...

    def unlock(self) -> None: ...


class KeyringFile:
    shared = False

    def __init__(self, disk: Disk, path: str, *, name: str = ""):
        self._disk = disk
        self._path = path
        self._file: File | None = None
        self.name = name or path

    def header(self) -> bytes | None:
        try:
            if self._file is None:
                self._file = self._disk.open(self._path, write=True)
                self.sync()  # its maker may have died before the header reached the disk
            found = bytes(read_bytes(self._file, 0, SLOT))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure(error, "opening the keyring") from error
        return found or None

    def create(self, header: bytes) -> bytes:
        try:
            try:
                self._disk.make_directory("")
            except FileExistsError:
                pass
            self._disk.sync_directory("..")
            try:
                self._file = self._disk.create(self._path)
            except FileExistsError:
                self._file = self._disk.open(self._path, write=True)
            self._file.lock(wait=True)
            try:
                self.sync()
                found = bytes(read_bytes(self._file, 0, SLOT))
                if len(found) < SLOT or not any(found):  # new, or its maker died before it was written
                    write_all(self._file, [header], 0)
                    found = header
                self._file.sync()
                self._disk.sync_directory("")
            finally:
                self._file.unlock()
        except OSError as error:
            raise failure(error, "making a keyring") from error
        return found

    def replace_header(self, header: bytes) -> None:
        self._write(header, 0)

    def count(self, *, look: bool = True) -> int:
        try:
            return max(0, -(-self._opened().size() // SLOT) - 1)
        except OSError as error:
            raise failure(error, "reading the keyring") from error

    def slots(self, start: int, stop: int) -> bytes:
        try:
            return bytes(read_bytes(self._opened(), (start + 1) * SLOT, (stop - start) * SLOT))
        except OSError:
            return b""  # unreadable sectors are damage, and the other place helps

    def append(self, start: int, slots: bytes) -> bool:
        try:
            self._write(slots, (start + 1) * SLOT)
        except Failure:
            with suppress(Failure):  # what reads back may be absent on the disk: nobody is to take it for durable
                self.cut(start)
            raise
        return True

    def replace(self, position: int, slots: bytes) -> None:
        self._write(slots, (position + 1) * SLOT)

    def cut(self, count: int) -> None:
        try:
            self._opened().truncate((count + 1) * SLOT)
            self._opened().sync()
        except OSError as error:
            raise failure(error, "writing the keyring") from error

    def sync(self) -> None:
        try:
            self._opened().sync()
            self._opened().evict(0, 0)
        except OSError as error:
            raise failure(error, "writing the keyring") from error

    def lock(self) -> bool:
        return self._opened().lock(wait=True)

    def unlock(self) -> None:
        self._opened().unlock()

    def _opened(self) -> File:
        if self._file is None:
            raise Unavailable("This place of the keyring is not open")
        return self._file

    def _write(self, data: bytes, offset: int) -> None:
        try:
            write_all(self._opened(), [data], offset)
            self._opened().sync()
        except OSError as error:
            raise failure(error, "writing the keyring") from error


class KeyringObjects:
    shared = True

    def __init__(self, bucket: Bucket, *, name: str = "object store"):
        self._bucket = bucket
        self.name = name
        self._starts: list[int] = []  # first position of each object known, in order
        self._count = 0

    def header(self) -> bytes | None:
        try:
            return self._bucket.read(_HEADER, 0, SLOT)
        except NotFound:
            return None

    def create(self, header: bytes) -> bytes:
        if self._bucket.create(_HEADER, header):
            return header
        return self._bucket.read(_HEADER, 0, SLOT)

    def replace_header(self, header: bytes) -> None:
        self._bucket.replace(_HEADER, header)

    def count(self, *, look: bool = True) -> int:
        if look:
            after = f"{self._starts[-1]:016x}" if self._starts else ""
            found = [(int(name, 16), size) for name, size, _ in self._bucket.list(after) if len(name) == 16]
            for start, size in sorted(found):
                self._note(start, size // SLOT)
        return self._count

    def slots(self, start: int, stop: int) -> bytes:
        pieces: list[bytes] = []
        stop = min(stop, self._count)
        while start < stop:
            index = bisect_right(self._starts, start) - 1
            first = self._starts[index]
            behind = self._starts[index + 1] if index + 1 < len(self._starts) else self._count
            until = min(stop, behind)
            pieces.append(self._bucket.read(_name(first), (start - first) * SLOT, (until - start) * SLOT))
            start = until
        return b"".join(pieces)

    def append(self, start: int, slots: bytes) -> bool:
        if not self._bucket.create(_name(start), slots):
            return False
        self._note(start, len(slots) // SLOT)
        return True

    def replace(self, position: int, slots: bytes) -> None:
        """Objects are whole: those the range lies in are written anew."""
        at, stop = position, position + len(slots) // SLOT
        while at < stop:
            index = bisect_right(self._starts, at) - 1
            first = self._starts[index]
            behind = self._starts[index + 1] if index + 1 < len(self._starts) else self._count
            until = min(stop, behind)
            whole = bytearray(self.slots(first, behind))
            mine = slots[(at - position) * SLOT : (until - position) * SLOT]
            whole[(at - first) * SLOT : (until - first) * SLOT] = mine
            self._bucket.replace(_name(first), bytes(whole))
            at = until

    def cut(self, count: int) -> None:
        """Objects are never torn."""

    def sync(self) -> None:
        """Objects are durable as soon as they are seen."""

    def lock(self) -> bool:
        return False

    def unlock(self) -> None:
        """Nothing is held."""

    def _note(self, start: int, count: int) -> None:
        if start >= self._count:
            self._starts.append(start)
            self._count = start + count


def _name(start: int) -> str:
    return f"{start:016x}"


def lockable(places: Sequence[KeyringPlace]) -> KeyringPlace | None:
    """The place whose lock excludes the other processes of this host."""
    return next((place for place in places if not place.shared), None)
