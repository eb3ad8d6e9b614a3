"""Failed sign-ins: one count for all workers; nobody is locked out by a stranger elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from radiolith.index import sign_ins
from radiolith.index.database import Database, open_database
from radiolith.model import NotAllowed, NotAuthenticated
from radiolith.trust import attempts
from radiolith.trust.attempts import ADDRESS_TIMES, LOCK, LOCK_MAX, MINUTE, WAIT_MAX, WINDOW, Attempts, network
from radiolith.trust.identity import Identities
from tests.archive.homes import opened, principal
from tests.index.conftest import fresh_url

LIMIT = 3
HERE, ELSEWHERE = "10.0.0.1", "10.0.0.2"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return fresh_url(request.param, tmp_path)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * MINUTE

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worker(url: str, clock: Clock) -> Iterator[Callable[[], Attempts]]:
    """Makes the counting of one more worker, with a database handle of its own."""
    made: list[Database] = []

    def make() -> Attempts:
        made.append(open_database(url))
        return Attempts(made[-1], LIMIT, clock)

    yield make
    for database in made:
        database.close()


def fail(counting: Attempts, name: str = "anna", address: str = HERE) -> float:
    attempt = counting.begin(name, address)
    counting.failed(attempt)
    return attempt.wait


def test_two_workers_have_one_count(worker: Callable[[], Attempts]) -> None:
    one, other = worker(), worker()
    for counting in (one, other, one):
        fail(counting)
    for counting in (one, other):
        with pytest.raises(NotAllowed, match="wait 15 minutes"):
            counting.begin("anna", HERE)
    other.begin("anna", ELSEWHERE)  # the same user elsewhere
    one.begin("ben", HERE)  # another one behind the same address


def test_tries_at_the_same_moment_cannot_pass_the_limit_together(worker: Callable[[], Attempts]) -> None:
    heard: list[bool] = []

    def attempt(counting: Attempts) -> None:
        try:
            counting.begin("anna", HERE)
            heard.append(True)
        except NotAllowed:
            heard.append(False)

    threads = [
        threading.Thread(target=attempt, args=(counting,)) for counting in (worker(), worker()) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heard) == [False] * 9 + [True] * LIMIT


def test_lock_outs_end_by_themselves_and_grow(worker: Callable[[], Attempts], clock: Clock) -> None:
    counting = worker()
    for minutes in (15, 30, 60, 60):
        for _ in range(LIMIT):
            fail(counting)
        clock.now += minutes * MINUTE - 1
        with pytest.raises(NotAllowed):
            counting.begin("anna", HERE)
        clock.now += 1
    assert LOCK_MAX == 60 * MINUTE


def test_a_success_forgets_the_failures_of_its_pair(worker: Callable[[], Attempts]) -> None:
    counting = worker()
    for _ in range(4):
        for _ in range(LIMIT - 1):
            fail(counting)
        attempt = counting.begin("anna", HERE)
        with counting._database.write() as tx:
            counting.succeeded(tx, attempt)


def test_a_window_that_has_passed_counts_no_more(worker: Callable[[], Attempts], clock: Clock) -> None:
    counting = worker()
    for _ in range(LIMIT * 3):
        fail(counting)
        clock.now += WINDOW


def test_an_address_has_a_limit_of_its_own_that_a_clinic_does_not_meet(
    worker: Callable[[], Attempts], clock: Clock
) -> None:
    counting = worker()
    for number in range(LIMIT * ADDRESS_TIMES):
        fail(counting, f"invented {number}")
    with pytest.raises(NotAllowed):
        counting.begin("anna", HERE)
    counting.begin("anna", ELSEWHERE)
    clock.now += LOCK
    counting.begin("anna", HERE)


def test_a_user_is_slowed_down_and_never_refused(worker: Callable[[], Attempts]) -> None:
    counting = worker()
    waits = [fail(counting, "anna", f"10.1.0.{number}") for number in range(LIMIT + 10)]
    assert waits[:LIMIT] == [0.0] * LIMIT
    assert waits[LIMIT:] == sorted(waits[LIMIT:]) and 0 < waits[LIMIT] < 1 and waits[-1] == WAIT_MAX
    assert counting.begin("anna", HERE).wait == WAIT_MAX
    assert counting.begin("ben", HERE).wait == 0


def test_rows_go_when_they_matter_no_more(worker: Callable[[], Attempts], clock: Clock) -> None:
    counting = worker()
    for _ in range(LIMIT):
        fail(counting)
    database = counting._database

    def forget() -> int:
        with database.write() as tx:
            return sign_ins.forget(tx, clock.now)

    clock.now += LOCK
    assert forget() == 0, "what is locked, or was just now, is remembered"
    clock.now += WINDOW + sign_ins.FORGET
    assert forget() == 3


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_what_counts_as_one_address(address: str, counted: str) -> None:
    assert network(address) == counted


async def test_two_workers_of_a_home_refuse_and_slow_down_alike(tmp_path: Path) -> None:
    home, limited, waited = tmp_path / "home", {"RADIOLITH_LIMITS_SIGN_IN_ATTEMPTS": "2"}, list[float]()

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async with opened(home, environ=limited) as one, opened(home, environ=limited, name="w2") as other:
        password = await one.accounts.add_user(principal(one), "anna", "reader")
        people = [Identities(g.database, g.settings, attempts_clock, g.reads, sleep) for g in (one, other)]
        for identities in people:
            with pytest.raises(NotAuthenticated):
                await identities.sign_in("anna", "wrong password", HERE)
        for identities in people:
            with pytest.raises(NotAllowed):
                await identities.sign_in("anna", password, HERE)
        cookie = await people[0].sign_in("anna", password, ELSEWHERE)
        assert waited == [attempts.WAIT_FIRST]
        assert (await people[1].from_session(cookie)).name == "anna"


def attempts_clock() -> int:
    return 4_000_000_000_000_000  # later than the users were made
