"""The device watch: what is odd is said in words, once, and settled when it is so no more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from radiolith.index import devices
from radiolith.index.database import Database
from radiolith.index.devices import Device, Habits, Notice, Oddity
from radiolith.jobs import habits
from radiolith.jobs.devices import SWEEP, DeviceWatch
from radiolith.jobs.habits import DAY, HOUR, KNOWN, LEARNING, MINUTE
from radiolith.model import Source
from tests.index.conftest import TENANT, fresh  # noqa: F401
from tests.jobs.arriving import Ward
from tests.jobs.sending import Killed, Mortal, Overtaken


@pytest.fixture(params=["sqlite", "postgresql"])
def ward(request: pytest.FixtureRequest, fresh: Callable[[str], Database]) -> Ward:  # noqa: F811
    return Ward(fresh(request.param))


def noticed(ward: Ward, *, settled: bool = False) -> list[Notice]:
    """All that is odd once everything that came is complete."""
    watch, look = ward.watch(), ward.devices()
    watch.round()
    ward.now += HOUR
    watch.round()
    look.round()
    with ward.database.read() as read:
        return devices.notices(read, TENANT.id, settled=settled)


def device(ward: Ward, peer: str = "CT1") -> Device:
    with ward.database.read() as read:
        return next(one for one in devices.listed(read, TENANT.id) if one.peer == peer)


def test_gaps_in_instance_numbers_until_they_are_closed(ward: Ward) -> None:
    ward.send("1.2", [1, 2, 3, 6, 8, 9, 10])
    (gap,) = noticed(ward)
    assert (gap.kind, gap.peer, gap.subject) == (Oddity.GAP, "CT1", "1.2.1")
    assert gap.said == "series 1.2.1: instance numbers 4 to 5, 7 are missing between 1 and 10"
    ward.send("1.2", [4, 5])
    (gap,) = noticed(ward)
    assert "number 7 is missing" in gap.said
    ward.send("1.2", [7], source=Source("stow", "gateway", ""))  # whoever sent the rest
    assert noticed(ward) == []
    assert [one.kind for one in noticed(ward, settled=True)] == [Oddity.GAP]


def test_numbers_that_are_no_count_are_no_gaps(ward: Ward) -> None:
    ward.send("1.2", [10, 20, 30, 40])
    assert noticed(ward) == []


def test_a_series_shorter_than_on_an_earlier_try(ward: Ward) -> None:
    ward.send("1.2", range(1, 11), series="1.2.1")
    assert noticed(ward) == []
    ward.send("1.2", range(1, 8), series="1.2.5")
    ward.send("1.2", range(1, 3), series="1.2.6", number=2)  # another one altogether
    (short,) = noticed(ward)
    assert (short.kind, short.subject) == (Oddity.SHORTER, "1.2.5")
    assert "has 7 instances; an earlier try of it, 1.2.1, has 10" in short.said
    ward.send("1.2", range(8, 11), series="1.2.5")
    assert noticed(ward) == []


def test_a_new_address_and_a_new_version_behind_a_known_title(ward: Ward) -> None:
    ward.send("1.2", range(2))
    assert noticed(ward) == []
    ward.send("1.3", range(2), source=Source("dimse", "CT1", "10.0.0.9"))
    ward.version = "ACME Scan version 6"
    ward.send("1.4", range(2))
    ward.send("1.4", range(2), series="1.4.7", source=Source("import", "/mnt/cd", ""))
    found = {one.kind: one for one in noticed(ward)}
    assert found.keys() == {Oddity.ADDRESS, Oddity.SOFTWARE}
    assert found[Oddity.ADDRESS].said == "came from the address 10.0.0.9 for the first time; so far from 10.0.0.1"
    assert (
        found[Oddity.SOFTWARE].said == "sent as ACME Scan version 6 for the first time; so far as ACME Scan version 5"
    )
    assert len(ward.read) == 3  # one header a new series of a device
    ward.send("1.4", range(2, 4))
    assert len(noticed(ward)) == 2 and len(ward.read) == 3
    assert (device(ward).studies, device(ward).instances) == (4, 8)
    with ward.database.read() as read:
        assert [one.door for one in devices.listed(read)] == ["dimse"]


def test_a_device_silent_beyond_its_habit_until_it_is_heard(ward: Ward) -> None:
    """Sends on weekdays for three weeks, then has a day off, then a week."""
    for day in range(21):
        if day % 7 < 5:
            ward.send(f"1.{day}", range(1))
            assert noticed(ward) == []
            ward.now -= HOUR
        ward.now += DAY
    ward.now += DAY  # a Monday without it, after the weekend
    assert noticed(ward) == []
    ward.now += 4 * DAY
    (silent,) = noticed(ward)
    assert silent.kind is Oddity.SILENT and "silent for 3 days at the longest" in silent.said
    ward.now += SWEEP
    assert len(noticed(ward)) == 1
    ward.send("1.99", range(1))
    assert noticed(ward) == []


def test_clocks_that_are_ahead_or_always_behind_by_the_same_time(ward: Ward) -> None:
    ward.send("1.2", range(2), lag=-10 * MINUTE)
    assert noticed(ward) == []
    ward.send("1.3", range(2), lag=-2 * HOUR)
    (ahead,) = noticed(ward)
    assert ahead.kind is Oddity.CLOCK and "ahead: images came 2 hours before" in ahead.said
    ward.send("1.4", range(2), lag=-2 * HOUR, zone="")  # it may be somewhere else
    assert noticed(ward) == []
    for number in range(4):
        ward.send(f"2.{number}", range(2), lag=9000 * DAY + number * MINUTE)
        found = noticed(ward)
        ward.now += 6 * HOUR
        assert len(found) == int(number >= 2), number
    assert "made 9000 days before it came" in found[0].said
    ward.send("3.1", range(2))
    assert noticed(ward) == []


def test_priors_are_no_wrong_clock(ward: Ward) -> None:
    for number, age in enumerate((800, 801, 30, 2000, 2001, 2002, 5, 90)):
        ward.send(f"2.{number}", range(2), lag=age * DAY)
        assert noticed(ward) == []
        ward.now += 8 * HOUR


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_transaction_counts_every_completion_once(ward: Ward, after: bool) -> None:
    total = 0
    for die_at in range(1, 12):
        ward.send_many([f"1.{die_at}.{n}" for n in range(3)], [1, 3, 4])
        total += 3
        ward.settle(ward.watch().round)
        died = False
        mortal = DeviceWatch(Mortal(ward.database, die_at, after=after), ward.clock, lambda held: "")  # type: ignore[arg-type]
        try:
            mortal.round()
        except Killed:
            died = True
        ward.devices().round()
        assert (device(ward).studies, device(ward).instances) == (total, total * 3)
        if not died:
            break
    else:
        pytest.fail("no watch got through alive")
    with ward.database.read() as read:
        assert len(devices.notices(read, TENANT.id, 1000)) == total


def test_a_node_that_was_overtaken_while_it_read_counts_nothing(ward: Ward) -> None:
    ward.send("1.2", range(3))
    ward.settle(ward.watch().round)
    slow: Any = Overtaken(ward.database, lambda: ward.devices().round())
    DeviceWatch(slow, ward.clock, lambda held: "").round()
    assert (device(ward).studies, device(ward).instances) == (1, 3)


def test_notices_come_in_pages(ward: Ward) -> None:
    ward.send_many([f"1.{n}" for n in range(7)], [1, 3, 4])
    everything = noticed(ward)
    with ward.database.read() as read:
        first = devices.notices(read, TENANT.id, 4)
        rest = devices.notices(read, TENANT.id, 4, devices.position(read, TENANT.id, first[-1].id))
        assert devices.notices(read, TENANT.id + 1) == []
    assert first + rest == everything and len(everything) == 7


# ---------------------------------------------------------------- pure


def test_memory_is_bounded() -> None:
    known = Habits()
    now = 0
    for n in range(5000):
        now += 2 * HOUR
        habits.heard(known, now - 2 * HOUR, now)
        habits.met(known.addresses, str(n), now)
        habits.clock(known, now, n * DAY, True)
    assert len(known.addresses) == KNOWN and str(4999) in known.addresses
    assert len(known.silences) == habits.SILENCES and len(known.lags) == habits.LAGS and known.pauses == 5000


def test_no_habit_no_silence() -> None:
    known = Habits()
    assert habits.silence(known, 0, 0, 10**17) == ""
    for n in range(4):
        habits.heard(known, n * 5 * DAY, (n + 1) * 5 * DAY)
    assert habits.silence(known, 0, LEARNING, 10**17) == ""  # too few pauses
    habits.heard(known, 20 * DAY, 25 * DAY)
    assert habits.silence(known, 0, LEARNING - 1, 10**17) == ""
    assert habits.silence(known, 0, 25 * DAY, 32 * DAY) == ""
    assert habits.silence(known, 0, 25 * DAY, 33 * DAY).startswith("nothing new since 1970-01-26 00:00 UTC, 8 days;")


@pytest.mark.parametrize(
    ("made", "zone", "wanted"),
    [
        ((20240131, "101530.25"), "", datetime(2024, 1, 31, 10, 15, 30, 250_000, UTC)),
        ((20240131, "10"), "+0530", datetime(2024, 1, 31, 4, 30, tzinfo=UTC)),
        ((20240131, "235960"), "-0100", datetime(2024, 2, 1, 0, 59, 59, tzinfo=UTC)),
        ((20240131, "10"), "local", datetime(2024, 1, 31, 10, tzinfo=UTC)),
        ((20240231, "10"), "", None),
        ((20240131, "101530.250000001"), "", datetime(2024, 1, 31, 10, 15, 30, 250_000, UTC)),
    ],
)
def test_times_of_headers(made: tuple[int, str], zone: str, wanted: datetime | None) -> None:
    found = habits.made_at(made, zone)
    assert found == (None if wanted is None else round(wanted.timestamp() * 1_000_000))


def test_many_gaps_are_counted() -> None:
    assert habits.gaps([], 0, 0, 0) == ""
    assert habits.gaps([(2, 2), (4, 6)], 9, 1, 100).startswith("instance numbers 2, 4 to 6 and 5 others are missing")
