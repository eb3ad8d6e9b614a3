"""Damage at rest: every byte of a segment and of a keyring flipped, damage told from a torn tail, nothing wrong
delivered."""

from __future__ import annotations

import random

import pytest
from obstore.store import MemoryStore

from radiolith.model import Damaged, Failure, NotFound
from radiolith.storage.backends import Backend
from radiolith.storage.backends.bucket import Bucket
from radiolith.storage.backends.files import segment_path
from radiolith.storage.backends.object import ObjectBackend, object_name
from radiolith.storage.blobs import Log, Record
from radiolith.storage.check import check_backend, check_segment
from radiolith.storage.format import MERGE
from radiolith.storage.keyring import Keyring
from radiolith.storage.keyring_places import KeyringFile, KeyringObjects, KeyringPlace
from tests.storage.records import Clock, Stored, intact, simulated, store
from tests.storage.simulated_disk import SimulatedDisk

PAYLOADS = [b"", b"first object", bytes(range(256)) * 2]


def delivered_wrong(log: Log, objects: list[Stored]) -> bool:
    for each in objects:
        try:
            if log.read(each.blob, each.key, 0, each.blob.size) != each.payload:
                return True
        except (Damaged, NotFound):
            pass
    return False


def flips(content: bytearray, positions: range, rng: random.Random):
    """Each position in turn with one bit changed; put back afterwards."""
    for at in positions:
        before = content[at]
        content[at] ^= 1 << rng.randrange(8)
        yield at
        content[at] = before


@pytest.mark.parametrize("kind", ["pooled", "streamed", "merged", "unsealed", "recovered"])
def test_every_flipped_byte_of_a_segment_is_detected_and_never_delivered(kind: str) -> None:
    disk = SimulatedDisk()
    log = simulated(disk, small=100 if kind == "streamed" else 4000)
    objects = store(log, PAYLOADS[1:2]) if kind == "pooled" else []
    objects += store(log, PAYLOADS)
    if kind == "streamed":
        objects = [each for each in objects if len(each.payload) > 100]
    if kind == "merged":
        log.seal()
        old = [each.blob.place for each in objects]

        def fill(place, offset, into):  # type: ignore[no-untyped-def]
            log.backend.read_into(place.segment, place.offset + offset, into)

        places = log.backend.merge(old, fill)
        assert [place.length for place in places] == [place.length for place in old]
        segment = places[0].segment
    else:
        segment = objects[0].blob.place.segment
    if kind in ("pooled", "streamed", "merged"):
        log.seal()
    if kind == "recovered":
        disk.kill()
        log = simulated(disk, 2)
        found = {each.segment: each.state for each in log.recover(lambda segment: None)}
        assert found[segment] == "recovered"
    if kind == "unsealed":
        disk.kill()
        log = simulated(disk, 2)
    content = disk.content(segment_path(segment))
    if kind == "unsealed":
        del content[3 * 4096 :]  # most of the preallocated zeros: the rest stands for all
    mine = [each for each in objects if each.blob.place.segment == segment]
    keys = {each.blob.object_id: each.key for each in objects}

    def key_of(record: Record) -> bytes:
        return keys[record.object_id]

    assert not list(check_segment(log.backend, segment, key_of))
    missed = [
        at
        for at in flips(content, range(len(content)), random.Random(3))
        if not list(check_segment(log.backend, segment)) or delivered_wrong(log, mine)
    ]
    assert not missed, f"{len(missed)} of {len(content)} flipped bytes not detected, first {missed[:5]}"
    assert all(intact(log, each) for each in mine)


def test_every_flipped_byte_of_an_object_is_detected_and_never_delivered() -> None:
    memory, rng = MemoryStore(), random.Random(5)

    def opened() -> tuple[Bucket, Backend]:
        bucket = Bucket(memory, "tier")
        return bucket, ObjectBackend(bucket, clock=Clock(), random=rng.randbytes)

    _, backend = opened()
    objects = store(Log(backend, random=rng.randbytes), PAYLOADS[1:])
    bucket, backend = opened()
    segment = objects[0].blob.place.segment
    name = object_name(segment)
    content = bytearray(bucket.read(name, 0, bucket.size(name)))
    assert not list(check_backend(backend))
    log = Log(backend)
    for at in flips(content, range(len(content)), rng):
        bucket.replace(name, bytes(content))
        assert list(check_segment(backend, segment)), f"flipped byte {at} not detected"
        assert not delivered_wrong(log, objects), f"flipped byte {at} delivered"


# ---------------------------------------------------------------- torn tail or damage


def damage_in_the_middle(*, known: bool) -> None:
    """A damaged batch with whole ones behind it, or below what the index knows, is reported and kept; nothing is
    cut."""
    disk = SimulatedDisk()
    log = simulated(disk)
    batches = [store(log, [bytes([number]) * 500]) for number in range(3)]
    if known:
        batches = batches[:1]
    victim = batches[0 if known else 1][0]
    disk.kill()
    path = segment_path(victim.blob.place.segment)
    if known:
        end = victim.blob.place.offset + victim.blob.place.length
        disk.content(path)[8192:] = bytes(len(disk.content(path)) - 8192)
    disk.content(path)[victim.blob.place.offset + 200] ^= 4
    before = bytes(disk.content(path))
    log = simulated(disk, 2)
    marks = {victim.blob.place.segment: end} if known else {}
    (found,) = log.recover(marks.get)
    assert found.state == "damaged" and found.damage, found
    assert bytes(disk.content(path)) == before, "a damaged segment was written to"
    for (each,) in batches:
        if each is not victim:
            assert intact(log, each)
    problems: list[object] = []
    records = list(log.records(victim.blob.place.segment, on_problem=problems.append))
    assert bool(problems) is not known  # without the index's word it could be a torn tail
    assert len(records) == len(batches) - 1


@pytest.mark.parametrize("known", [False, True])
def test_damage_is_not_taken_for_a_torn_tail(known: bool) -> None:
    damage_in_the_middle(known=known)


@pytest.mark.parametrize("victim", [0, 1, 2, 3])
@pytest.mark.parametrize("where", ["batch header", "record header", "chunk", "trailer"])
def test_damage_to_any_batch_but_the_last_is_kept(victim: int, where: str) -> None:
    disk = SimulatedDisk()
    log = simulated(disk)
    batches = [store(log, [bytes([number]) * 500])[0] for number in range(5)]
    disk.kill()
    place = batches[victim].blob.place
    at = {"batch header": -60, "record header": 20, "chunk": 100, "trailer": place.length - 30}[where]
    disk.content(segment_path(place.segment))[place.offset + at] ^= 1
    log = simulated(disk, 2)
    (found,) = log.recover(lambda segment: None)
    assert found.state == "damaged"
    assert [intact(log, each) for number, each in enumerate(batches) if number != victim] == [True] * 4


def test_a_torn_tail_is_cut_and_what_is_before_it_kept() -> None:
    disk = SimulatedDisk()
    log = simulated(disk)
    whole = store(log, [b"one", b"two"])
    torn = store(log, [b"three" * 100])[0]  # as if its sync had never come back
    disk.kill()
    place = torn.blob.place
    disk.content(segment_path(place.segment))[place.offset + 100 :] = bytes(5000)
    log = simulated(disk, 2)
    (found,) = log.recover(lambda segment: None)
    assert found.state == "recovered" and found.torn > 0
    assert [record.object_id for record in log.records(place.segment)] == [each.blob.object_id for each in whole]
    assert not list(check_backend(log.backend))


def test_an_unfinished_segment_is_kept_in_a_rebuild() -> None:
    disk = SimulatedDisk()
    log = simulated(disk, small=100)
    store(log, [b"x" * 500])
    (path,) = [path for path in disk.files() if path.endswith(".seg")]
    disk.content(path)[-64:] = bytes(64)
    disk.content(path)[4500] ^= 1
    disk.kill()
    log = simulated(disk, 2)
    assert log.recover(lambda segment: None, remove=False)[0].state == "unfinished"
    assert disk.files() == [path]


def test_a_streamed_record_survives_the_loss_of_its_footer() -> None:
    disk = SimulatedDisk()
    log = simulated(disk, small=100)
    (each,) = store(log, [b"y" * 700])
    content = disk.content(segment_path(each.blob.place.segment))
    content[-64:] = bytes(64)
    disk.kill()
    log = simulated(disk, 2)
    assert log.recover(lambda segment: None)[0].state == "recovered"
    assert [record.object_id for record in log.records(each.blob.place.segment)] == [each.blob.object_id]
    assert intact(log, each) and not list(check_backend(log.backend))


def test_swapped_records_are_refused() -> None:
    """Ciphertext of another object or tenant under the right place does not open."""
    log = simulated(SimulatedDisk())
    first, second = store(log, [b"a" * 300, b"b" * 300])
    blob = first.blob
    for other in (
        type(blob)(second.blob.place, blob.object_id, blob.tenant, blob.scope, blob.wrapped_key, blob.size),
        type(blob)(blob.place, blob.object_id, b"another-tenant-1", blob.scope, blob.wrapped_key, blob.size),
        type(blob)(blob.place, second.blob.object_id, blob.tenant, blob.scope, blob.wrapped_key, blob.size),
        type(blob)(blob.place, blob.object_id, blob.tenant, blob.scope, blob.wrapped_key, blob.size - 1),
    ):
        with pytest.raises(Damaged):
            log.read(other, first.key, 0, other.size)
    assert MERGE == 2  # on disk


# ---------------------------------------------------------------- keyring


def keyring_of(places: list[KeyringPlace]) -> Keyring:
    return Keyring(places, clock=Clock(), random=random.Random(9).randbytes)


def test_every_flipped_byte_of_a_keyring_file_is_detected_and_repaired() -> None:
    disk = SimulatedDisk()

    def places() -> list[KeyringPlace]:
        return [KeyringFile(disk, "a"), KeyringFile(disk, "b")]

    keyring = keyring_of(places())
    wanted = [entry.payload for _ in range(2) for entry in keyring.append(lambda seen: [b"payload", b"x" * 476])]
    for name in ("a", "b"):
        content, good = disk.content(name), bytes(disk.content(name))
        for at in flips(content, range(len(content)), random.Random(4)):
            assert list(keyring.check()), f"flipped byte {at} of place {name} not detected"
            assert [keyring.read(position).payload for position in range(4)] == wanted
        for at in range(0, len(content), 97):
            disk.content(name)[at] ^= 0x10
            disk.kill()
            keyring = keyring_of(places())
            assert [entry.payload for entry in keyring.entries()] == wanted
            assert keyring.repair() == 0 and bytes(disk.content(name)) == good


def test_every_flipped_byte_of_a_keyring_in_an_object_store_is_detected() -> None:
    memory = MemoryStore()
    first, second = Bucket(memory, "one"), Bucket(memory, "two")
    keyring = keyring_of([KeyringObjects(first), KeyringObjects(second)])
    for number in range(2):
        keyring.append(lambda seen, number=number: [b"payload %d" % number])
    for name in ("header", f"{0:016x}", f"{1:016x}"):
        good = first.read(name, 0, 512)
        content = bytearray(good)
        for at in flips(content, range(512), random.Random(6)):
            first.replace(name, bytes(content))
            assert list(keyring.check()), f"flipped byte {at} of {name} not detected"
            if name != "header":
                assert keyring.read(int(name, 16)).payload == b"payload %d" % int(name, 16)
        assert keyring.repair() == 0
        assert first.read(name, 0, 512) == good


def test_an_entry_damaged_everywhere_is_reported_and_never_delivered() -> None:
    disk = SimulatedDisk()
    keyring = keyring_of([KeyringFile(disk, "a"), KeyringFile(disk, "b")])
    for _ in range(3):
        keyring.append(lambda seen: [b"payload"])
    for name in ("a", "b"):
        disk.content(name)[2 * 512 + 30] ^= 1
    with pytest.raises(Damaged):
        keyring.read(1)
    problems: list[object] = []
    assert [entry.position for entry in keyring.entries(on_problem=problems.append)] == [0, 2] and problems
    assert keyring.repair() == 1
    disk.kill()
    assert len(keyring_of([KeyringFile(disk, "a"), KeyringFile(disk, "b")])) == 3, "a damaged entry was cut off"


def test_failures_are_failures() -> None:
    assert issubclass(Damaged, Failure)
