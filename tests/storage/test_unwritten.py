"""What was preallocated and never written is not read after a kill, and damage is told from a torn tail all the same."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from radiolith.storage.backends.files import FileBackend, segment_path
from radiolith.storage.backends.local import LocalDisk, LocalFile
from radiolith.storage.blobs import Log
from radiolith.storage.format import BLOCK
from tests.storage.records import Clock, Stored, intact, simulated, store
from tests.storage.simulated_disk import SimulatedDisk

SIZE = 32 << 20  # bytes preallocated


def log_in(folder: Path) -> Log:
    backend = FileBackend(LocalDisk(str(folder)), clock=Clock(), random=os.urandom, segment_bytes=SIZE, reserve_bytes=0)
    return Log(backend, pool_bytes=1 << 22, clock=Clock())


def killed(folder: Path) -> list[Stored]:
    """What a killed process leaves: an open segment, three batches in it."""
    log = log_in(folder)
    objects = [one for number in range(3) for one in store(log, [bytes([number]) * 5000])]
    active = log.backend._active  # type: ignore[attr-defined]
    active.file.close()
    log.backend._active = None  # type: ignore[attr-defined]
    return objects


def reports_holes(folder: Path) -> bool:
    with open(folder / "probe", "wb") as probe:
        os.posix_fallocate(probe.fileno(), 0, 1 << 20)
        try:
            os.lseek(probe.fileno(), 0, os.SEEK_DATA)
        except OSError as error:
            return error.errno == errno.ENXIO
    return False


def test_a_recovery_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not reports_holes(tmp_path):
        pytest.skip("this file system does not tell what was never written")
    objects = killed(tmp_path / "tier")
    seen = 0
    real = LocalFile.read_into

    def counted(self: LocalFile, into: memoryview, offset: int) -> int:
        nonlocal seen
        got = real(self, into, offset)
        seen += got
        return got

    monkeypatch.setattr(LocalFile, "read_into", counted)
    log = log_in(tmp_path / "tier")
    (found,) = log.recover(lambda _: None)
    assert found.state == "recovered" and found.torn == 0
    assert seen < 1 << 20, seen
    assert all(intact(log, one) for one in objects)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_say_is_read_whole(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = killed(tmp_path / "tier")

    def refuse(*_: int) -> int:
        raise OSError(code, "not here")

    with monkeypatch.context() as patched:
        patched.setattr("radiolith.storage.backends.local.os.lseek", refuse)
        log = log_in(tmp_path / "tier")
        (found,) = log.recover(lambda _: None)
    assert found.state == "recovered"
    assert all(intact(log, one) for one in objects)


def test_what_lies_outside_of_the_data_is_zero(tmp_path: Path) -> None:
    """The promise recovery stands on, with writes at the odd places a torn tail has them."""
    disk = LocalDisk(str(tmp_path))
    file = disk.create("file")
    file.preallocate(SIZE)
    for offset in (0, 3 * BLOCK + 17, (1 << 20) - 1, SIZE - 600):
        file.write([b"\1" * 500], offset)
    file.sync()
    file.evict(0, 0)
    ranges = list(file.data(0, SIZE))
    assert ranges == sorted(ranges) and ranges[-1][1] <= SIZE
    content = bytearray(SIZE)
    assert file.read_into(memoryview(content), 0) == SIZE
    for first, stop in ranges:
        content[first:stop] = bytes(stop - first)
    assert not any(content)
    inside = list(file.data(BLOCK, (1 << 20) + 10))
    assert inside and inside[0][0] >= BLOCK and inside[-1][1] <= (1 << 20) + 10
    assert list(file.data(SIZE, SIZE)) == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("victim", [0, 1])
def test_a_batch_that_became_zeros_is_damage_not_the_end(seed: int, victim: int) -> None:
    """To the surveyor it looks like a hole; the batches behind it say that it had been written."""
    disk = SimulatedDisk(seed)
    log = simulated(disk)
    objects = [one for number in range(3) for one in store(log, [bytes([number]) * 3000])]
    disk.kill()
    path = segment_path(objects[0].blob.place.segment)
    content = disk.content(path)
    start = objects[victim].blob.place.offset // BLOCK * BLOCK
    content[start : start + BLOCK] = bytes(BLOCK)
    before = bytes(content)
    (found,) = simulated(disk, 2).recover(lambda _: None)
    assert found.state == "damaged" and found.damage
    assert bytes(disk.content(path)) == before
