"""Drafts and their pool: bounded, reused, and never a key for two records."""

from __future__ import annotations

import os
import threading

import pytest

from radiolith.model import Kind, Unavailable
from radiolith.storage.format import CHUNK, MAX_META, TAG
from radiolith.storage.pool import MIN_SLABS, SLAB, Pool
from tests.storage.records import SCOPE, TENANT, WRAPPED, draft, intact, simulated, store
from tests.storage.simulated_disk import SimulatedDisk


def test_the_pool_has_a_total_and_reuses() -> None:
    pool = Pool(10 * SLAB)
    taken = [pool.take() for _ in range(10)]
    with pytest.raises(Unavailable):
        pool.take()
    pool.give(taken[3])
    assert pool.take() is taken[3] and pool.free == 0


def test_waiting_content_leaves_room_for_what_arrives() -> None:
    pool = Pool(8 * SLAB)
    held = 0
    while pool.take_to_hold() is not None:
        held += 1
    assert held == 6 and pool.free == 2


def test_the_pool_is_shared_by_threads() -> None:
    pool = Pool(64 * SLAB)
    seen: set[int] = set()

    def work() -> None:
        for _ in range(300):
            slab = pool.take()
            seen.add(id(slab))
            pool.give(slab)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) <= 8 and pool.free == 64


def test_memory_is_constant_whatever_the_object() -> None:
    log = simulated(SimulatedDisk(), small=1 << 20)
    made = log.begin(TENANT, Kind.OBJECT)
    for _ in range(200):
        made.write(bytes(50_000))
        assert int(log.status()["pool_slabs_free"]) >= MIN_SLABS - 2 or not made.streaming
    made.discard()
    assert log.status()["pool_slabs_free"] == MIN_SLABS


def test_ids_and_keys_are_drawn_for_each_record() -> None:
    log = simulated(SimulatedDisk())
    drafts = [log.begin(TENANT, Kind.OBJECT) for _ in range(500)]
    assert len({each.object_id for each in drafts}) == len({each.key for each in drafts}) == 500
    assert {len(each.object_id) for each in drafts} == {16} and {len(each.key) for each in drafts} == {32}


def test_equal_content_is_not_equal_on_disk() -> None:
    disk = SimulatedDisk()
    log = simulated(disk)
    store(log, [b"the same plain text, twice over", b"the same plain text, twice over"])
    everything = b"".join(bytes(disk.content(path)) for path in disk.files())
    assert b"plain text" not in everything


def test_a_draft_is_sealed_once_and_takes_no_more() -> None:
    log = simulated(SimulatedDisk())
    made = draft(log, b"x")
    with pytest.raises(ValueError, match="sealed"):
        made.write(b"more")
    with pytest.raises(ValueError, match="once"):
        made.seal(SCOPE, WRAPPED, b"")
    with pytest.raises(ValueError, match="sealed draft"):
        log.commit([log.begin(TENANT, Kind.OBJECT)])


@pytest.mark.parametrize(("wrapped", "meta"), [(b"short", b""), (WRAPPED, bytes(MAX_META + 1))])
def test_seal_checks_what_it_is_given(wrapped: bytes, meta: bytes) -> None:
    with pytest.raises(ValueError, match="40 bytes"):
        simulated(SimulatedDisk()).begin(TENANT, Kind.OBJECT).seal(SCOPE, wrapped, meta)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 3])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_in_any_pieces(size: int, kind: type) -> None:
    log = simulated(SimulatedDisk(), small=1 << 20)
    payload = os.urandom(size)
    for step in (1000, CHUNK, CHUNK + TAG, 1 << 20):
        made = log.begin(TENANT, Kind.OBJECT)
        reused = bytearray(step)
        for at in range(0, size, step):
            piece = payload[at : at + step]
            reused[: len(piece)] = piece
            made.write(kind(memoryview(reused)[: len(piece)]))
            reused[:] = bytes(step)  # the caller reuses its buffer at once
        made.seal(SCOPE, WRAPPED, b"{}")
        from tests.storage.records import stored

        assert intact(log, stored(made, log.commit([made])[0], payload))


def test_committing_nothing() -> None:
    assert simulated(SimulatedDisk()).commit([]) == []
