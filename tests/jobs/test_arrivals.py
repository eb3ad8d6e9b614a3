"""The arrival watch: every study is said to be complete, once for each state, across kills and on two nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from radiolith.index import arrivals, facts
from radiolith.index.changes import Cursor, load_cursor
from radiolith.index.database import Database
from radiolith.jobs import arrivals as watching
from radiolith.jobs.arrivals import PAST, QUIET, ArrivalWatch
from radiolith.model import Fact, Source
from tests.index.conftest import TENANT, fresh  # noqa: F401
from tests.jobs.arriving import Ward
from tests.jobs.sending import Killed, Mortal, Overtaken


@pytest.fixture(params=["sqlite", "postgresql"])
def ward(request: pytest.FixtureRequest, fresh: Callable[[str], Database]) -> Ward:  # noqa: F811
    return Ward(fresh(request.param))


def begin(ward: Ward) -> ArrivalWatch:
    watch = ward.watch()
    watch.round()
    return watch


def test_complete_when_nothing_came_for_a_minute_and_again_after_more(ward: Ward) -> None:
    watch = begin(ward)
    ward.send("1.2", range(3))
    assert watch.round() == []
    ward.now += QUIET - 1
    ward.send("1.2", range(3, 5))
    assert watch.round() == []
    ward.now += QUIET - 1
    assert watch.round() == []
    ward.now += 1
    (first,) = watch.round()
    assert (first.round, first.instances) == (1, 5)
    ward.now += QUIET
    assert watch.round() == []
    ward.send("1.2", range(5, 7))
    assert watch.round() == []
    with ward.database.read() as read:
        standing = arrivals.standing(read, TENANT.id, first.study_id)
    assert standing == arrivals.Standing(False, ward.now + QUIET, 1)
    ward.now += QUIET
    (second,) = watch.round()
    assert (second.round, second.instances, second.first > first.last) == (2, 2, True)
    assert len(ward.complete()) == 2


def test_it_goes_on_after_a_restart_and_says_nothing_twice(ward: Ward) -> None:
    begin(ward)
    ward.send_many(["1.2", "1.3"], range(2))
    ward.watch().round()
    ward.now += QUIET  # nobody runs meanwhile
    assert len(ward.watch().round()) == 2
    assert ward.watch().round() == []
    assert len(ward.complete()) == 2


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_transaction_neither_loses_nor_repeats_a_completion(
    ward: Ward, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "BATCH", 2)
    begin(ward)
    for die_at in range(1, 20):
        before = len(ward.complete())
        ward.send_many([f"1.{die_at}.{n}" for n in range(3)], range(2))
        died = False
        for _ in range(2):
            mortal = ArrivalWatch(Mortal(ward.database, die_at, after=after), ward.clock)  # type: ignore[arg-type]
            try:
                mortal.round()
            except Killed:
                died = True
            ward.now += QUIET
        ward.watch().round()
        ward.now += QUIET
        ward.watch().round()
        assert len(ward.complete()) == before + 3, die_at
        if not died:
            assert die_at > 2
            return
    pytest.fail("no watch got through alive")


def test_two_nodes_watch_and_it_is_said_once(ward: Ward) -> None:
    first, second = begin(ward), ward.watch()
    ward.send_many([f"1.{n}" for n in range(4)], range(2))
    cursor = Cursor()
    with ward.database.read() as read:
        cursor = load_cursor(read, watching.NAME)
    first.round()
    with ward.database.read() as read:
        assert load_cursor(read, watching.NAME) != cursor
    second.round()
    ward.now += QUIET
    assert len(first.round()) + len(second.round()) == 4
    assert sorted(ward.complete()) == sorted(set(ward.complete())) and len(ward.complete()) == 4


def test_a_node_that_was_overtaken_while_it_read_notes_nothing(ward: Ward) -> None:
    begin(ward)
    ward.send("1.2", range(3))
    slow: Any = Overtaken(ward.database, lambda: ward.watch().round())
    assert ArrivalWatch(slow, ward.clock).round() == []
    ward.now += QUIET
    slow = Overtaken(ward.database, lambda: None)
    (only,) = ArrivalWatch(slow, ward.clock).round()
    assert only.instances == 3


def test_two_nodes_that_look_at_the_same_moment_say_it_once(fresh: Callable[[str], Database]) -> None:  # noqa: F811
    """PostgreSQL: the second one has seen that the time is up, and waits for the first one's transaction."""
    ward = Ward(fresh("postgresql"))
    watch = begin(ward)
    ward.send("1.2", range(3))
    watch.round()
    ward.now += QUIET
    second: list[list[arrivals.Completion]] = []

    def look() -> None:
        with ward.database.write() as tx:
            second.append(arrivals.complete(tx, ward.now, 10))

    thread = threading.Thread(target=look)
    with ward.database.write() as tx:
        assert len(arrivals.complete(tx, ward.now, 10)) == 1
        thread.start()
        while tx.one("SELECT 1 FROM pg_locks WHERE NOT granted LIMIT 1") is None:
            assert thread.is_alive()
    thread.join()
    assert second == [[]] and len(ward.complete()) == 1


def test_a_peer_may_take_its_own_time(ward: Ward) -> None:
    watch = begin(ward)
    body = {"name": "slow", "aet": "MR1", "quiet": 600}
    with ward.database.write() as tx:
        facts.apply(tx, Fact("peer", 5, "a", TENANT.uid, body), b"p" * 16)
    ward.send("1.2", range(2), source=Source("dimse", "MR1", "10.0.0.2"))
    ward.send("1.3", range(2))
    watch.round()
    ward.now += QUIET
    assert len(watch.round()) == 1
    ward.now += 600_000_000 - QUIET
    assert len(watch.round()) == 1


def test_what_came_long_before_the_watch_is_not_news(ward: Ward) -> None:
    """A rebuilt index replays years: nothing of that is complete now and sent on."""
    ward.send("1.2", range(3))
    ward.now += PAST + 1
    ward.send("1.3", range(3))
    watch = begin(ward)
    ward.now += QUIET
    (only,) = watch.round()
    with ward.database.read() as read:
        assert arrivals.study_uid(read, only.study_id) == "1.3"


def test_objects_of_no_patient_are_no_study(ward: Ward) -> None:
    watch = begin(ward)
    ward.send("", range(2), series="1.9")
    watch.round()
    ward.now += QUIET
    assert watch.round() == []
