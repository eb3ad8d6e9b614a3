"""What every backend owes the log: one class of tests, run for each backend by test_backends.py."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from radiolith.model import Damaged, Kind, NotFound, Place
from radiolith.storage.backends import COMPLETE, Backend
from radiolith.storage.blobs import Log
from radiolith.storage.check import check_backend
from radiolith.storage.compact import choose, merge
from radiolith.storage.format import CHUNK
from tests.storage.records import TENANT, Clock, Stored, draft, intact, store, stored

SIZES = (0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 500_000)


class Conformance:
    """`open_backend()` opens the same place again, as another process would."""

    @pytest.fixture
    def open_backend(self) -> Callable[[], Backend]:
        raise LookupError("given by the subclass")

    def log(self, open_backend: Callable[[], Backend], **more: int) -> Log:
        return Log(open_backend(), clock=Clock(), **more)

    def payloads(self) -> list[bytes]:
        rng = random.Random(11)
        return [rng.randbytes(size) for size in SIZES]

    def test_what_was_committed_is_read_back(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        objects = store(log, self.payloads())
        assert all(intact(log, each) for each in objects)
        other = self.log(open_backend)  # another process, before the first one has sealed or closed anything
        assert all(intact(other, each) for each in objects)

    @pytest.mark.parametrize("pieces", [1, 7, 100])
    def test_pieces_do_not_matter(self, open_backend: Callable[[], Backend], pieces: int) -> None:
        log = self.log(open_backend)
        assert all(intact(log, each) for each in store(log, self.payloads(), pieces=pieces))

    def test_every_range(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        (each,) = store(log, [random.Random(1).randbytes(3 * CHUNK + 77)])
        size = each.blob.size
        edges = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK, size - 1, size]
        for start in edges:
            for stop in edges:
                if start <= stop:
                    assert log.read(each.blob, each.key, start, stop) == each.payload[start:stop]
        for start, stop in ((-1, 4), (0, size + 1)):
            with pytest.raises(ValueError, match="range"):
                log.read(each.blob, each.key, start, stop)

    def test_large_objects_stream(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        payload = random.Random(2).randbytes(9_000_000)
        made = log.begin(TENANT, Kind.OBJECT)
        for at in range(0, len(payload), 100_000):
            made.write(payload[at : at + 100_000])
        assert made.streaming and made.size == len(payload)
        made.flush()
        each = self._commit(log, made, payload)
        for at in (0, 4_000_001, 8_999_990):
            assert log.read(each.blob, each.key, at, at + 10) == payload[at : at + 10]
        assert intact(log, each)
        (record,) = log.records(each.blob.place.segment)
        assert record.blob == each.blob

    def _commit(self, log: Log, made, payload: bytes) -> Stored:  # type: ignore[no-untyped-def]
        from tests.storage.records import SCOPE, WRAPPED

        made.seal(SCOPE, WRAPPED, b"{}")
        (place,) = log.commit([made])
        return stored(made, place, payload)

    def test_a_full_pool_streams(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend, pool_bytes=1)
        drafts = [draft(log, bytes([number]) * 70_000) for number in range(8)]
        assert {each.streaming for each in drafts} == {False, True}
        places = log.commit(drafts)
        for number, (made, place) in enumerate(zip(drafts, places, strict=True)):
            assert intact(log, stored(made, place, bytes([number]) * 70_000))
        assert log.status()["pool_slabs"] == log.status()["pool_slabs_free"]

    def test_discarded_drafts_leave_nothing(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        small, large = log.begin(TENANT, Kind.OBJECT), log.begin(TENANT, Kind.OBJECT)
        small.write(b"small")
        large.write(bytes(3_000_000))
        assert large.streaming
        for each in (small, large, large):
            each.discard()
        assert not list(log.segments())
        assert log.status()["pool_slabs"] == log.status()["pool_slabs_free"]

    def test_records_tell_what_was_sealed(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        objects = store(log, self.payloads(), meta=b'{"name":"x"}')
        facts = store(log, [b"fact"], kind=Kind.FACT)
        log.seal()
        found = [record for info in log.segments() for record in log.records(info.id)]
        by_id = {record.object_id: record for record in found}
        assert len(found) == len(objects) + 1
        for each in objects + facts:
            assert by_id[each.blob.object_id].blob == each.blob
        assert by_id[facts[0].blob.object_id].kind is Kind.FACT
        record = by_id[objects[3].blob.object_id]
        assert log.open_meta(record, objects[3].key) == b'{"name":"x"}'
        assert log.record(record.place) == record
        with pytest.raises(Damaged):
            log.open_meta(record, bytes(32))

    def test_long_metadata(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        meta = random.Random(3).randbytes(200_000)
        (each,) = store(log, [b"x"], meta=meta)
        assert log.open_meta(log.record(each.blob.place), each.key) == meta

    def test_recovery_reports_what_the_index_lacks(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        first, second = store(log, [b"first"]), store(log, [b"second"])
        log.close()
        log = self.log(open_backend)
        known = {each.blob.place.segment: each.blob.place.offset + each.blob.place.length for each in first}
        found = [
            record.object_id
            for each in log.recover(known.get)
            for record in log.records(each.segment, each.start)
            if each.state == "sealed"
        ]
        assert second[0].blob.object_id in found and first[0].blob.object_id not in found
        assert log.recover(lambda segment: COMPLETE) == []

    def test_absent_segments(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        (each,) = store(log, [b"x" * 100])
        gone = type(each.blob)(
            Place(bytes(16), 4160, each.blob.place.length), *(getattr(each.blob, name) for name in _REST)
        )
        with pytest.raises(NotFound):
            log.read(gone, each.key, 0, 10)
        assert not log.exists(bytes(16)) and log.exists(each.blob.place.segment)
        short = type(each.blob)(
            Place(each.blob.place.segment, 1 << 40, each.blob.place.length),
            *(getattr(each.blob, name) for name in _REST),
        )
        with pytest.raises(Damaged):
            log.read(short, each.key, 0, 10)

    def test_delete_waits(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        (each,) = store(log, [b"x" * 100])
        log.seal()
        segment = each.blob.place.segment
        assert not log.backend.delete(segment, 1 << 60) and intact(log, each)
        assert log.backend.delete(segment, 0) and not log.exists(segment)
        assert log.backend.delete(segment, 0)
        with pytest.raises(NotFound):
            log.read(each.blob, each.key, 0, 10)

    def test_merged_records_are_the_same_bytes(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        objects: list[Stored] = []
        for payload in [*self.payloads(), bytes(2_000_000)]:
            objects += store(log, [payload])
            log.seal()
        segments = [info.id for info in log.segments()]
        assert list(choose(log.segments(), fewest=2)) and not list(choose(log.segments(), fewest=100))
        records = [record for segment in segments for record in log.records(segment)]
        moved_to = merge(log, [record.place for record in records], log.backend)
        switches = {record.object_id: place for record, place in zip(records, moved_to, strict=True)}
        assert {place.segment for place in moved_to}.isdisjoint(segments)
        for segment in segments:
            log.backend.delete(segment, 0)
        for each in objects:
            blob = each.blob
            moved = type(blob)(switches[blob.object_id], *(getattr(blob, name) for name in _REST))
            assert log.read(moved, each.key, 0, blob.size) == each.payload
        assert not list(check_backend(open_backend()))

    def test_many_readers_at_once(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        objects = store(log, self.payloads())
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(lambda each: intact(log, each), objects * 5))

    def test_check_finds_nothing(self, open_backend: Callable[[], Backend]) -> None:
        log = self.log(open_backend)
        objects = store(log, self.payloads())
        keys = {each.blob.object_id: each.key for each in objects}
        assert not list(check_backend(open_backend()))  # beside a living writer
        log.close()
        assert not list(check_backend(open_backend(), lambda record: keys[record.object_id]))
        wrong = list(check_backend(open_backend(), lambda record: bytes(32)))
        assert len(wrong) == len(objects)


_REST = ("object_id", "tenant", "scope", "wrapped_key", "size")
