"""The conformance suite, once for each backend; and what only one kind of backend has."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from radiolith.config import Tier
from radiolith.model import Kind, NoSpace, Unavailable
from radiolith.storage.backends import Backend, Steps
from radiolith.storage.backends.bucket import Bucket
from radiolith.storage.backends.files import FileBackend
from radiolith.storage.backends.layers import Retry, SegmentCache
from radiolith.storage.backends.local import LocalDisk
from radiolith.storage.backends.object import OBJECT_BYTES, ObjectBackend
from radiolith.storage.blobs import Log
from radiolith.storage.check import check_backend
from radiolith.storage.tiers import open_backend as open_tier
from tests.storage.conformance import Conformance
from tests.storage.records import TENANT, Clock, draft, intact, simulated, store
from tests.storage.seaweed import Seaweed
from tests.storage.simulated_disk import SimulatedDisk


class TestLocal(Conformance):
    @pytest.fixture
    def open_backend(self, tmp_path: Path) -> Callable[[], Backend]:
        return lambda: open_tier(Tier(url=f"file://{tmp_path}/tier"))


class TestSimulated(Conformance):
    @pytest.fixture
    def open_backend(self) -> Callable[[], Backend]:
        disk, rng = SimulatedDisk(), random.Random(1)
        return lambda: FileBackend(disk, clock=Clock(), random=rng.randbytes, segment_bytes=1 << 20, reserve_bytes=0)


class TestMemory(Conformance):
    @pytest.fixture
    def open_backend(self, tmp_path: Path) -> Callable[[], Backend]:
        return lambda: open_tier(Tier(url=f"memory://{tmp_path.name}/tier"))


class TestS3(Conformance):
    @pytest.fixture
    def open_backend(self, seaweed: Seaweed, tmp_path: Path) -> Callable[[], Backend]:
        prefix = f"{tmp_path.name}-{os.getpid()}"
        return lambda: open_tier(seaweed.at(prefix))


# ---------------------------------------------------------------- files


def test_a_dead_writers_segment_is_sealed_and_a_living_ones_left_alone(tmp_path: Path) -> None:
    """A real process, killed with a batch written: recovery waits for its lock, then seals."""
    script = """if True:
        import sys, os
        from radiolith.config import Tier
        from radiolith.storage.tiers import open_backend
        from radiolith.storage.blobs import Log
        from tests.storage.records import store
        log = Log(open_backend(Tier(url=sys.argv[1])))
        store(log, [b"acknowledged" * 10])
        print("stored", flush=True)
        sys.stdin.read()
    """
    url = f"file://{tmp_path}/tier"
    log = Log(open_tier(Tier(url=url)))
    writer = subprocess.Popen(
        [sys.executable, "-c", script, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert writer.stdin and writer.stdout
    try:
        assert writer.stdout.readline() == b"stored\n"
        assert log.recover(lambda segment: None) == []
        (info,) = log.segments()
        assert not info.sealed
        assert not list(check_backend(log.backend))
    finally:
        writer.kill()
        writer.wait()
        writer.stdin.close()
        writer.stdout.close()
    (found,) = log.recover(lambda segment: None)
    assert found.state == "recovered"
    assert len(list(log.records(found.segment))) == 1


def test_a_footer_is_read_while_its_segment_is_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file shrinks between the look at its size and the look at its end."""
    log = Log(open_tier(Tier(url=f"file://{tmp_path}/tier")))
    store(log, [b"acknowledged" * 10])
    (info,) = log.segments()
    backend, size = log.backend, log.backend.size
    seen: list[int] = []

    def sealed_behind(segment: bytes) -> int:
        seen.append(size(segment))
        if len(seen) == 2:
            backend.seal()
        return seen[-1]

    monkeypatch.setattr(backend, "size", sealed_behind)
    assert log.footer(info.id) and seen[-1] < seen[0]


def test_an_absent_volume_is_not_written_beside(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="mounted"):
        open_tier(Tier(url=f"file://{tmp_path}/tier"), create=False)
    assert not list(tmp_path.iterdir())


def test_a_volume_that_goes_away_is_unavailable(tmp_path: Path) -> None:
    log = Log(open_tier(Tier(url=f"file://{tmp_path}/tier")))
    os.rmdir(tmp_path / "tier" / "segments")
    with pytest.raises(Unavailable):
        store(log, [b"x"])
    assert not list((tmp_path / "tier").iterdir())


def test_a_full_disk_refuses_and_goes_on_when_there_is_space() -> None:
    disk = SimulatedDisk(capacity=200_000)
    log = simulated(disk, segment_bytes=65536)
    kept = store(log, [b"a" * 1000])
    refused = 0
    while True:
        made = log.begin(TENANT, Kind.OBJECT)
        made.write(bytes(3000))
        try:
            made.seal(kept[0].blob.scope, kept[0].blob.wrapped_key, b"{}")
            log.commit([made])
        except NoSpace:
            refused += 1
            break
    assert all(intact(log, each) for each in kept), "reads go on"
    disk.capacity *= 10
    assert log.commit([made])[0] is not None, "the same draft, once there is space"
    large = draft(log, bytes(100_000))
    disk.capacity = 1
    assert large.streaming
    made.discard()


def test_the_reserve_is_kept() -> None:
    disk = SimulatedDisk(capacity=1000)
    backend = FileBackend(disk, clock=Clock(), random=os.urandom, reserve_bytes=2000)
    with pytest.raises(NoSpace, match="reserve"):
        Log(backend).begin(TENANT, Kind.OBJECT)


def test_a_failed_sync_moves_pooled_drafts_and_refuses_streamed_ones() -> None:
    disk = SimulatedDisk()
    log = simulated(disk)
    first = store(log, [b"first"])[0]
    pooled, streamed = draft(log, b"pooled"), draft(log, bytes(10_000))
    failing = ["sync"]

    def hook(number: int, name: str) -> int | None:
        if failing and name == failing[0]:
            failing.pop()
            raise OSError(5, "injected")
        return None

    disk.steps.hook = hook
    (place,) = log.commit([pooled])
    assert place is not None and place.segment != first.blob.place.segment
    failing.append("sync")
    assert log.commit([streamed]) == [None]
    assert isinstance(streamed.failure, Unavailable)
    disk.steps.hook = None
    assert intact(log, first)
    assert not any(info.length > 9000 and info.sealed for info in log.segments()), "the refused object is gone"


# ---------------------------------------------------------------- object store


class Flaky:
    """A store whose calls fail as told: a list of (call, exception or 'lost answer')."""

    def __init__(self, store: MemoryStore):
        self.store = store
        self.script: list[tuple[str, object]] = []
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., object]:
        real = getattr(self.store, name)

        def call(*args: object, **kwargs: object) -> object:
            self.calls.append(name)
            if self.script and self.script[0][0] == name:
                what = self.script.pop(0)[1]
                if isinstance(what, Exception):
                    raise what
                if what == "lost answer":
                    real(*args, **kwargs)
                    raise GenericError("connection reset")
                if what == "half":
                    return bytes(real(*args, **kwargs))[:-1]
            return real(*args, **kwargs)

        return call


def flaky() -> tuple[Flaky, Log]:
    store_, pauses = Flaky(MemoryStore()), list[float]()
    bucket = Bucket(store_, "tier", retry=Retry(sleep=pauses.append))
    return store_, Log(ObjectBackend(bucket, clock=Clock(), random=os.urandom, cache=SegmentCache(0)))


def test_a_lost_answer_is_found_done() -> None:
    faults, log = flaky()
    faults.script = [("put", "lost answer")]
    (each,) = store(log, [b"x" * 1000])
    assert intact(log, each) and faults.calls.count("put") == 2


@pytest.mark.parametrize("error", [GenericError("503"), OSError(104, "reset"), TimeoutError("slow")])
def test_transient_errors_are_tried_again(error: Exception) -> None:
    faults, log = flaky()
    faults.script = [("put", error), ("put", error)]
    (each,) = store(log, [b"x" * 1000])
    faults.script = [("get_range", error), ("get_range", "half")]
    assert intact(log, each)


def test_errors_end_in_unavailable_and_leave_nothing() -> None:
    faults, log = flaky()
    faults.script = [("put", "lost answer")] + [("put", GenericError("503"))] * 3
    with pytest.raises(Unavailable):
        store(log, [b"x"])
    assert faults.calls.count("put") == 4
    assert not list(log.segments())


def test_a_taken_name_is_never_written_over() -> None:
    faults = Flaky(MemoryStore())
    bucket = Bucket(faults, "tier", retry=Retry(sleep=lambda pause: None))
    assert bucket.create("name", b"theirs") and bucket.create("name", b"theirs")
    assert not bucket.create("name", b"ours, longer")
    assert not bucket.create("name", b"ours")
    assert faults.calls.count("put") == 4, "a conflict is not tried again"
    assert bucket.read("name", 0, 6) == b"theirs"


def test_a_large_batch_becomes_several_objects_or_none() -> None:
    faults, log = flaky()
    payloads = [random.Random(number).randbytes(900_000) for number in range(20)]
    objects = store(log, payloads)
    segments = {each.blob.place.segment for each in objects}
    assert len(segments) == 3 and all(intact(log, each) for each in objects)
    assert all(info.length < OBJECT_BYTES + 100_000 for info in log.segments())
    faults.script = [("put", GenericError("503"))] * 12
    with pytest.raises(Unavailable):
        store(log, payloads)
    assert {info.id for info in log.segments()} == segments


def test_the_writing_node_reads_from_its_cache() -> None:
    faults = Flaky(MemoryStore())
    log = Log(ObjectBackend(Bucket(faults, "tier"), clock=Clock(), random=os.urandom))
    (each,) = store(log, [b"x" * 1000])
    faults.calls.clear()
    assert intact(log, each) and not faults.calls


def test_the_cache_is_bounded() -> None:
    cache = SegmentCache(1000)
    for number in range(10):
        cache.put(bytes([number]), bytes(300))
    assert [cache.get(bytes([number])) is not None for number in range(10)] == [False] * 7 + [True] * 3
    cache.put(b"large", bytes(2000))
    assert cache.get(b"large") is None


def test_steps_of_an_object_store_are_numbered() -> None:
    seen: list[tuple[int, str]] = []
    steps = Steps(lambda number, name: seen.append((number, name)))
    log = Log(open_tier(Tier(url="memory://steps"), steps=steps))
    store(log, [b"x", bytes(2_000_000)])
    names = [name for _, name in seen]
    assert names[-1] == "complete" and set(names) == {"part", "put", "put answered", "complete"}
    assert [number for number, _ in seen] == list(range(1, len(seen) + 1))


def test_local_steps_can_cut_a_write_short(tmp_path: Path) -> None:
    steps = Steps(lambda number, name: 1000 if name == "write" and number % 2 else None)
    disk = LocalDisk(str(tmp_path), steps)
    log = Log(FileBackend(disk, clock=Clock(), random=os.urandom))
    assert all(intact(log, each) for each in store(log, [random.Random(5).randbytes(50_000)] * 3))
