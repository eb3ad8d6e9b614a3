"""Limits that several processes keep together: exact one after the other, never exceeded at the same moment."""

from __future__ import annotations

import os
import signal

import pytest

from radiolith import serving
from radiolith.dimse.slots import Held, Slots

HERE, THERE = "10.0.0.1", "10.0.0.2"


def test_slots_in_all_and_of_one_address() -> None:
    slots = Slots(3, 2)
    assert slots.take(HERE) and slots.take(HERE) and not slots.take(HERE)
    assert slots.full(HERE) and not slots.full(THERE)
    assert slots.take(THERE) and slots.full(THERE) and not slots.take("10.0.0.3")
    slots.give(HERE)
    assert slots.taken() == 2 and slots.take("10.0.0.3")
    with pytest.raises(ValueError):
        slots.give("10.0.0.4")
    assert not Slots(0, 5).take(HERE) and not Slots(5, 0).take(HERE)


def in_child(slots: Slots, row: int, tries: int) -> int:
    """Pid of a process that takes what it can get, and ends with it."""
    pid = os.fork()
    if pid:
        return pid
    slots.use_row(row)
    for _ in range(tries):
        slots.take(HERE)
    os._exit(0)


def test_a_worker_that_ended_holds_nothing() -> None:
    slots = Slots(10, 10, 3)
    for row, tries in ((1, 4), (2, 9)):
        os.waitpid(in_child(slots, row, tries), 0)
    assert slots.taken() == 10 and not slots.take(HERE)
    slots.clear(2)
    assert slots.taken() == 4
    assert [slots.take(HERE) for _ in range(7)] == [True] * 6 + [False]
    slots.use_row(1)  # whoever takes its place begins with nothing
    assert slots.taken() == 6


def test_workers_at_the_same_moment_never_take_too_many() -> None:
    for _ in range(5):
        slots = Slots(50, 50, 4)
        for child in [in_child(slots, row, 40) for row in (1, 2, 3)]:
            os.waitpid(child, 0)
        assert 0 < slots.taken() <= 50
        while slots.take(HERE):
            pass
        assert slots.taken() == 50


def test_connections_are_twice_as_many() -> None:
    held = Held.of(2, 1)
    assert [held.connections.take(HERE) for _ in range(3)] == [True, True, False]
    assert held.associations.take(HERE) and not held.associations.take(HERE)
    held.clear(0)
    assert held.connections.taken() == held.associations.taken() == 0


def test_the_parent_is_told_of_a_worker_that_was_killed_before_it_starts_the_next() -> None:
    slots = Slots(4, 4, 2)

    def worker() -> int:
        slots.use_row(1)
        assert slots.take(HERE)
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    def ended(name: str) -> None:
        assert (name, slots.taken()) == ("worker", 1)
        slots.clear(1)
        os.kill(os.getpid(), signal.SIGTERM)

    assert serving.in_child(lambda: serving.Supervisor({"worker": worker}, ended=ended).run()) == 0
    assert slots.taken() == 0
