"""A disk that loses power: what was not synced is dropped, reordered and torn, directory entries too.

Implements radiolith.storage.backends.disk.Disk in memory, so the real writer, recovery and keyring run on it. Two
states per file: `live`, what a process reads back (the page cache), and `durable`, what a power loss leaves for
certain. Between them lie the writes since the last sync, of which a power loss keeps any sectors. A sync that fails
keeps some of them and forgets that the others are missing, as Linux does: a later sync of the same file succeeds
without writing them.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator, Sequence

from radiolith.storage.backends import Steps
from radiolith.storage.format import Buffer


class PowerLoss(BaseException):
    """The machine, or the process, stops here. Not an Exception: nobody may catch it."""


class Inode:
    def __init__(self) -> None:
        self.live = bytearray()
        self.durable = bytearray()
        self.pending: list[tuple[int, bytes] | int] = []  # a write (offset, data), or a new length
        self.links = 0
        self.locked_by: SimulatedFile | None = None

    def settle(self, rng: random.Random, sector: int, keep: float) -> None:
        """Some sectors of what was not synced reach the medium; the rest is gone."""
        for change in self.pending:
            if isinstance(change, int):
                if rng.random() < keep:
                    _resize(self.durable, change)
                continue
            offset, data = change
            whole = rng.random()
            if whole < keep / 2:
                _put(self.durable, offset, data)
            elif whole < keep:
                for start in range(offset // sector * sector, offset + len(data), sector):
                    if rng.random() < 0.5:
                        first, stop = max(start, offset), min(start + sector, offset + len(data))
                        _put(self.durable, first, data[first - offset : stop - offset])
        self.pending = []


class SimulatedFile:
    def __init__(self, disk: SimulatedDisk, inode: Inode):
        self._disk = disk
        self._inode = inode
        self._life = disk.life

    def _step(self, name: str) -> int | None:
        assert self._life == self._disk.life, "a file handle outlived its process"
        return self._disk.steps(name)

    def size(self) -> int:
        return len(self._inode.live)

    def read_into(self, into: memoryview, offset: int) -> int:
        found = self._inode.live[offset : offset + len(into)]
        into[: len(found)] = found
        return len(found)

    def data(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The fewest ranges that the promise allows: every sector of zeros is a hole, written or not."""
        sector, content = self._disk.sector, self._inode.live
        for at in range(start // sector * sector, stop, sector):
            if any(content[at : at + sector]):
                yield max(start, at), min(stop, at + sector)

    def write(self, buffers: Sequence[Buffer], offset: int) -> int:
        data = b"".join(buffers)
        limit = self._step("write")
        if limit is not None:
            data = data[:limit]
        _put(self._inode.live, offset, data)
        self._inode.pending.append((offset, data))
        return len(data)

    def sync(self) -> None:
        try:
            self._step("sync")
        except OSError:
            lengths: list[tuple[int, bytes] | int] = [each for each in self._inode.pending if isinstance(each, int)]
            self._inode.settle(self._disk.rng, self._disk.sector, 0.5)
            self._inode.pending = lengths  # the journal keeps what it knows; data pages are forgotten
            raise
        if not self._disk.lying:
            waiting, self._inode.pending = self._inode.pending, []
            for change in waiting:
                if isinstance(change, int):
                    _resize(self._inode.durable, change)
                else:
                    _put(self._inode.durable, *change)

    def evict(self, offset: int, length: int) -> None:
        if not self._inode.pending:
            self._inode.live[:] = self._inode.durable

    def start_writeback(self, offset: int, length: int) -> None:
        pass

    def preallocate(self, length: int) -> None:
        self._step("preallocate")
        if length > len(self._inode.live):
            _resize(self._inode.live, length)
            self._inode.pending.append(length)

    def truncate(self, length: int) -> None:
        self._step("truncate")
        _resize(self._inode.live, length)
        self._inode.pending.append(length)

    def lock(self, *, wait: bool = False) -> bool:
        if self._inode.locked_by not in (None, self):
            assert not wait, "one thread would wait for itself"
            return False
        self._inode.locked_by = self
        return True

    def unlock(self) -> None:
        if self._inode.locked_by is self:
            self._inode.locked_by = None

    def linked(self) -> bool:
        return self._inode.links > 0

    def close(self) -> None:
        self.unlock()


class SimulatedDisk:
    def __init__(self, seed: int = 0, *, capacity: int = 1 << 40):
        self.rng = random.Random(seed)
        self.sector = self.rng.choice((512, 4096))
        self.steps = Steps()
        self.life = 0
        self.lying = False
        self.capacity = capacity
        self._live: dict[str, dict[str, Inode | None]] = {"": {}}  # directory -> name -> file, None for a directory
        self._durable: dict[str, dict[str, Inode | None]] = {"": {}}

    # ------------------------------------------------------------ Disk

    def create(self, path: str) -> SimulatedFile:
        self.steps("create")
        names, name = self._names(path)
        if name in names:
            raise FileExistsError(errno.EEXIST, path)
        inode = names[name] = Inode()
        inode.links = 1
        return SimulatedFile(self, inode)

    def open(self, path: str, *, write: bool = False) -> SimulatedFile:
        names, name = self._names(path)
        inode = names.get(name)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, path)
        return SimulatedFile(self, inode)

    def sync_directory(self, path: str) -> None:
        self.steps("sync directory")
        if path == "..":
            return
        path = path.strip("/")
        if path not in self._live:
            raise FileNotFoundError(errno.ENOENT, path)
        if not self.lying:
            self._durable[path] = dict(self._live[path])

    def make_directory(self, path: str) -> None:
        self.steps("make directory")
        if path in self._live:
            raise FileExistsError(errno.EEXIST, path)
        names, name = self._names(path)
        names[name] = None
        self._live[path] = {}

    def names(self, path: str) -> list[str]:
        if path not in self._live:
            raise FileNotFoundError(errno.ENOENT, path)
        return list(self._live[path])

    def remove(self, path: str) -> None:
        self.steps("remove")
        names, name = self._names(path)
        inode = names.pop(name, None)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, path)
        inode.links -= 1

    def free(self, path: str) -> int:
        return self.capacity - sum(len(inode.live) for inode in self._files())

    # ------------------------------------------------------------ what happens to it

    def kill(self) -> None:
        """The process dies; the machine stays: everything written is still in the cache, locks and handles are gone."""
        self.life += 1
        for inode in self._files():
            inode.locked_by = None

    def power_loss(self) -> None:
        """Any part of what was not synced is lost, sector by sector; of unsynced directory entries, any."""
        self.life += 1
        rng = self.rng
        keep = rng.choice((0.0, 0.3, 0.7, 1.0))
        seen: dict[int, Inode] = {}
        for path, live in self._live.items():
            durable = self._durable.setdefault(path, {})
            for name in sorted(set(live) | set(durable)):
                if live.get(name, ...) is not durable.get(name, ...) and rng.random() < keep:
                    if name in live:
                        durable[name] = live[name]
                    else:
                        del durable[name]
            seen.update((id(inode), inode) for inode in durable.values() if inode is not None)
        for inode in seen.values():
            inode.settle(rng, self.sector, keep)
            inode.live = bytearray(inode.durable)
            inode.locked_by = None
            inode.links = 1
        reachable: dict[str, dict[str, Inode | None]] = {}
        waiting = [""]
        while waiting:
            path = waiting.pop()
            reachable[path] = self._durable.get(path, {})
            waiting += [f"{path}/{name}".strip("/") for name, inode in reachable[path].items() if inode is None]
        self._durable = reachable
        self._live = {path: dict(names) for path, names in reachable.items()}

    # ------------------------------------------------------------ for tests

    def content(self, path: str) -> bytearray:
        """What a process reads and the medium holds, as one from now on; change it to damage the file."""
        names, name = self._names(path)
        inode = names[name]
        assert inode is not None
        inode.durable, inode.pending = inode.live, []
        return inode.live

    def files(self) -> list[str]:
        found = [
            (path, name) for path, names in self._live.items() for name, inode in names.items() if inode is not None
        ]
        return sorted(f"{path}/{name}".strip("/") for path, name in found)

    def _files(self) -> list[Inode]:
        return [inode for names in self._live.values() for inode in names.values() if inode is not None]

    def _names(self, path: str) -> tuple[dict[str, Inode | None], str]:
        directory, _, name = path.rpartition("/")
        if directory not in self._live:
            raise FileNotFoundError(errno.ENOENT, path)
        return self._live[directory], name


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, length: int) -> None:
    if length < len(content):
        del content[length:]
    else:
        content.extend(bytes(length - len(content)))
