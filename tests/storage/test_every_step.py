"""Fail, tear, kill and cut the power at step N, for N = 1, 2, 3 … until it no longer happens: nothing acknowledged
is lost."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from radiolith.model import Failure
from radiolith.storage.backends import Steps
from radiolith.storage.backends.files import segment_path
from radiolith.storage.blobs import Log
from radiolith.storage.check import check_backend
from radiolith.storage.compact import merge
from radiolith.storage.keyring import Keyring
from radiolith.storage.keyring_places import KeyringFile
from tests.storage.records import Clock, Stored, intact, simulated, store
from tests.storage.simulated_disk import PowerLoss, SimulatedDisk


@dataclass
class World:
    """A disk, and what a client was told."""

    disk: SimulatedDisk
    objects: list[Stored] = field(default_factory=list)
    entries: dict[int, bytes] = field(default_factory=dict)
    lives: int = 0

    def log(self) -> Log:
        self.lives += 1
        return simulated(self.disk, self.lives, segment_bytes=16384, small=2000)

    def keyring(self) -> Keyring:
        places = [KeyringFile(self.disk, "a"), KeyringFile(self.disk, "b")]
        return Keyring(places, clock=Clock(), random=bytes)

    def known(self, segment: bytes) -> int | None:
        ends = [e.blob.place.offset + e.blob.place.length for e in self.objects if e.blob.place.segment == segment]
        return max(ends, default=None)

    def append(self, keyring: Keyring, *payloads: bytes) -> None:
        for entry in keyring.append(lambda seen: payloads):
            self.entries[entry.position] = entry.payload


def storing(world: World) -> None:
    log = world.log()
    for payloads in ([b"one"], [b"two", b"three" * 200], [b"x" * 5000], [b"four"] * 3, [b"y" * 9000, b"five"]):
        world.objects += store(log, payloads)


def sealing(world: World) -> None:
    log = world.log()
    for _ in range(3):
        world.objects += store(log, [b"some", b"objects"])
        log.seal()
    log.close()


def recovering(world: World) -> None:
    hook, world.disk.steps.hook = world.disk.steps.hook, None
    if not world.objects:
        log = world.log()
        world.objects += store(log, [b"before the crash", b"x" * 4000]) + store(log, [b"last batch"])
        place = world.objects[-1].blob.place
        torn = store(log, [b"torn" * 50])[0]
        world.disk.kill()
        content = world.disk.content(segment_path(place.segment))
        content[torn.blob.place.offset + 50 : torn.blob.place.offset + 120] = bytes(70)
    world.disk.steps.hook, world.disk.steps.count = hook, 0
    for found in world.log().recover(world.known):
        assert found.state != "damaged" or "disk failed" in str(found.damage[0]), found


def keys(world: World) -> None:
    keyring = world.keyring()
    world.append(keyring, b"one")
    world.append(keyring, b"two", b"three", b"four")
    world.append(keyring, b"five" * 100)


def compacting(world: World) -> None:
    log = world.log()
    for payload in (b"one", b"x" * 5000, b"two"):
        world.objects += store(log, [payload])
        log.seal()
    segments = [info.id for info in log.segments()]
    records = [record for segment in segments for record in log.records(segment)]
    moved = merge(log, [record.place for record in records], log.backend)
    switches = {record.object_id: place for record, place in zip(records, moved, strict=True)}
    world.objects = [
        Stored(
            type(each.blob)(
                switches[each.blob.object_id], each.blob.object_id, each.blob.tenant, each.blob.scope,
                each.blob.wrapped_key, each.blob.size,
            ),
            each.key, each.payload,
        )
        for each in world.objects
    ]  # fmt: skip
    for segment in segments:
        log.backend.delete(segment, 0)


def still_true(world: World) -> None:
    world.disk.steps.hook = None
    log = world.log()
    for found in log.recover(world.known):
        assert not found.damage, found
        assert found.state == "removed" or list(log.records(found.segment))
    for each in world.objects:
        assert intact(log, each)
    problems = list(check_backend(log.backend))
    assert not problems, problems
    keyring = world.keyring()
    for position, payload in world.entries.items():
        assert keyring.read(position).payload == payload
    assert not list(keyring.check())


SCENARIOS = [storing, sealing, recovering, keys, compacting]


def steps_of(scenario: Callable[[World], None]) -> int:
    world = World(SimulatedDisk(1))
    scenario(world)
    return world.disk.steps.count


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("end", ["kill", "power loss", "torn write"])
def test_stopping_at_every_step(scenario: Callable[[World], None], end: str) -> None:
    total = steps_of(scenario)
    assert total > 5
    for at in range(1, total + 1):
        for seed in range(1 if end == "kill" else 6):
            world = World(SimulatedDisk(seed))

            def hook(number: int, name: str, at: int = at) -> int | None:
                if number == at and end == "torn write" and name == "write":
                    return 700
                if number > at or (number == at and end != "torn write"):
                    raise PowerLoss
                return None

            world.disk.steps.hook = hook
            with pytest.raises(PowerLoss) if end != "torn write" or at < total else _whatever():
                scenario(world)
            if end == "kill":
                world.disk.kill()
            else:
                world.disk.power_loss()
            still_true(world)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT, "short"])
def test_failing_at_every_step(scenario: Callable[[World], None], error: int | str) -> None:
    """Success is true, or the caller is told; afterwards the same process goes on, or a new one recovers."""
    total = steps_of(scenario)
    for at in range(1, total + 1):
        world = World(SimulatedDisk(at))

        def hook(number: int, name: str, at: int = at) -> int | None:
            if number == at and error == "short":
                return 33 if name == "write" else None
            if number == at:
                raise OSError(error, f"injected at {name}")
            return None

        world.disk.steps.hook = hook
        try:
            scenario(world)
        except Failure:
            assert error != "short"
        world.disk.power_loss()
        still_true(world)


class _whatever:
    """A context in which anything may happen, also nothing."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, value: object, trace: object) -> bool:
        return isinstance(value, PowerLoss)


def test_the_step_counter_counts_every_step() -> None:
    names: list[str] = []
    disk = SimulatedDisk()
    disk.steps = Steps(lambda number, name: names.append(name))
    log = simulated(disk)
    store(log, [b"x"])
    log.close()
    assert names == [
        "make directory", "sync directory", "make directory", "sync directory",  # the tier
        "make directory", "sync directory", "create", "preallocate", "write", "sync", "sync directory",  # the segment
        "write", "sync",  # the batch
        "write", "truncate", "sync",  # footer
    ]  # fmt: skip
