"""Routing rules: what they say, when they hold, and that the router orders once for each completion, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from radiolith.index import facts, outbox
from radiolith.index.database import Database
from radiolith.index.outbox import Priority, Transfer, Why
from radiolith.jobs.arrivals import QUIET
from radiolith.model import BadInput, Fact, Source
from radiolith.policies import routing
from radiolith.policies.router import Router
from radiolith.policies.routing import Rule, Target, from_sender, in_time, rule
from tests.index.conftest import TENANT, fresh  # noqa: F401
from tests.jobs.arriving import Ward
from tests.jobs.sending import Killed, Mortal

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(params=["sqlite", "postgresql"])
def ward(request: pytest.FixtureRequest, fresh: Callable[[str], Database]) -> Ward:  # noqa: F811
    ward = Ward(fresh(request.param))
    say(ward, "peer", {"name": "ws", "aet": "WS1"})
    say(ward, "peer", {"name": "pacs", "aet": "PACS"})
    ward.watch().round()
    return ward


def say(ward: Ward, kind: str, body: dict[str, Any]) -> None:
    key = f"{kind} {body['name']}".encode().ljust(16)[:16]
    with ward.database.write() as tx:
        facts.apply(tx, Fact(kind, ward.now, "a", TENANT.uid, body), key)


def complete(ward: Ward) -> None:
    ward.watch().round()
    ward.now += QUIET
    ward.watch().round()


def ordered(ward: Ward) -> list[Transfer]:
    with ward.database.read() as read:
        return outbox.listed(read, TENANT.id, 1000)[::-1]


# ---------------------------------------------------------------- what a rule says


def test_a_rule_as_people_write_it() -> None:
    made = rule(
        {
            "name": "night", "peer": "ws", "keys": {"Modality": ["CT", "MR"], "StudyDescription": "*Thorax*"},
            "sources": ["CT*"], "doors": ["dimse"], "hours": "20:00-06:00", "days": "fri-mon", "zone": "Europe/Berlin",
            "priority": "high", "syntax": "1.2.840.10008.1.2.4.201",
        },
        7,
    )  # fmt: skip
    assert [(key.attribute.keyword, key.values) for key in made.keys] == [
        ("Modality", ("CT", "MR")), ("StudyDescription", ("*Thorax*",)),
    ]  # fmt: skip
    assert (made.hours, made.days, made.priority) == ((1200, 360), frozenset({4, 5, 6, 0}), Priority.HIGH)
    assert rule({"name": "all", "peer": "ws"}) == Rule("all", "ws")


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "red"}, {"keys": {"Nothing": "1"}}, {"keys": ["Modality"]}, {"hours": "20-06"}, {"hours": "08:00-08:00"},
        {"hours": "25:00-26:00"}, {"hours": "08:00-24:30"}, {"days": "someday"}, {"days": "mon-xyz"}, {"zone": "Nowhere/Atall"},
        {"zone": "../../etc/passwd"}, {"priority": "urgent"}, {"syntax": "JPEG"}, {"doors": ["window"]},
        {"sources": [str(n) for n in range(200)]},
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_rule_is_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        rule({"name": "x", "peer": "ws", **wrong})


@pytest.mark.parametrize(
    ("hours", "days", "moment", "wanted"),
    [
        ("", "", (2026, 7, 4, 3, 0), True),
        ("08:00-18:00", "", (2026, 7, 6, 8, 0), True),
        ("08:00-18:00", "", (2026, 7, 6, 18, 0), False),
        ("18:00-24:00", "", (2026, 7, 6, 23, 59), True),
        ("20:00-06:00", "", (2026, 7, 6, 5, 59), True),
        ("20:00-06:00", "", (2026, 7, 6, 6, 0), False),
        ("20:00-06:00", "fri", (2026, 7, 4, 3, 0), True),  # Saturday morning is Friday's night
        ("20:00-06:00", "sat", (2026, 7, 4, 3, 0), False),
        ("20:00-06:00", "sat", (2026, 7, 4, 22, 0), True),
        ("", "sat,sun", (2026, 7, 4, 0, 0), True),
        ("", "mon-fri", (2026, 7, 4, 0, 0), False),
        ("02:00-03:00", "", (2026, 12, 4, 2, 30), True),
    ],
)
def test_hours_and_days_by_the_clock_of_the_zone(hours: str, days: str, moment: tuple[int, ...], wanted: bool) -> None:
    made = rule({"name": "x", "peer": "ws", "hours": hours, "days": days, "zone": "Europe/Berlin"})
    at = datetime(*moment, tzinfo=BERLIN)  # type: ignore[arg-type, misc]
    assert in_time(made, int(at.timestamp() * 1_000_000)) is wanted


def test_senders_and_no_way_back() -> None:
    target = Target("ws", "WS1")
    by_name = Rule("x", "ws", sources=("CT*", "MR1"))
    assert from_sender(by_name, Source("dimse", "CT7", ""), target)
    assert not from_sender(by_name, Source("dimse", "MR2", ""), target)
    assert not from_sender(Rule("x", "ws", doors=frozenset({"dimse"})), Source("stow", "CT7", ""), target)
    for peer in ("ws", "WS1"):
        assert not from_sender(Rule("x", "ws"), Source("dimse", peer, ""), target)
    assert from_sender(Rule("x", "ws"), Source("import", "ws", ""), target)


# ---------------------------------------------------------------- the router


def test_each_completion_orders_what_is_new_in_it_once(ward: Ward) -> None:
    say(
        ward,
        "route",
        {"name": "ct", "peer": "ws", "keys": {"Modality": "CT"}, "priority": "high", "syntax": "1.2.840.10008.1.2.1"},
    )
    say(ward, "route", {"name": "mr", "peer": "pacs", "keys": {"Modality": "MR"}})
    ward.send("1.2", range(3))
    complete(ward)
    assert Router(ward.database, ward.clock).round() == 1
    ward.send("1.2", range(3, 5))
    complete(ward)
    assert Router(ward.database, ward.clock).round() == 1
    assert Router(ward.database, ward.clock).round() == 0
    first, second = ordered(ward)
    assert (first.peer, first.study, first.total, first.why, first.ordered_by) == ("ws", "1.2", 3, Why.RULE, "ct")
    assert (first.priority, first.syntax, second.total) == (Priority.HIGH, "1.2.840.10008.1.2.1", 2)
    with ward.database.read() as read:
        sops = [[item.identity.sop for _, item in outbox.items(read, one.id)] for one in (first, second)]
        audit = read.all("SELECT principal, purpose, count, detail FROM audit WHERE action = 'send' ORDER BY id")
    assert sops == [["1.2.1.0", "1.2.1.1", "1.2.1.2"], ["1.2.1.3", "1.2.1.4"]]
    assert audit == [("rule ct", "rule ct", 3, "ws"), ("rule ct", "rule ct", 2, "ws")]


def test_keys_of_instances_choose_instances(ward: Ward) -> None:
    say(ward, "route", {"name": "first", "peer": "ws", "keys": {"InstanceNumber": ["1", "3"]}})
    ward.send("1.2", range(5))
    complete(ward)
    Router(ward.database, ward.clock).round()
    assert [one.total for one in ordered(ward)] == [2]


def test_a_rule_sends_nothing_from_before_it_and_nothing_after_it_is_removed(ward: Ward) -> None:
    ward.send("1.2", range(2))
    complete(ward)
    ward.now += 1
    say(ward, "route", {"name": "all", "peer": "ws"})
    Router(ward.database, ward.clock).round()
    assert ordered(ward) == []
    ward.send("1.3", range(2))
    complete(ward)
    Router(ward.database, ward.clock).round()
    assert len(ordered(ward)) == 1
    ward.now += 1
    say(ward, "route-remove", {"name": "all"})
    ward.send("1.4", range(2))
    complete(ward)
    Router(ward.database, ward.clock).round()
    assert len(ordered(ward)) == 1


def test_broken_rules_and_unknown_peers_do_not_stop_the_others(ward: Ward) -> None:
    say(ward, "route", {"name": "a", "peer": "ws", "keys": {"GoneAttribute": "1"}})
    say(ward, "route", {"name": "b", "peer": "nobody"})
    say(ward, "route", {"name": "c", "peer": "pacs"})
    ward.send("1.2", range(2))
    complete(ward)
    Router(ward.database, ward.clock).round()
    assert [one.ordered_by for one in ordered(ward)] == ["c"]


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_transaction_orders_everything_once(ward: Ward, after: bool) -> None:
    for name, peer in (("a", "ws"), ("b", "pacs")):
        say(ward, "route", {"name": name, "peer": peer})
    total = 0
    for die_at in range(1, 12):
        ward.send_many([f"1.{die_at}.{n}" for n in range(3)], range(2))
        complete(ward)
        total += 3
        died = False
        try:
            Router(Mortal(ward.database, die_at, after=after), ward.clock).round()  # type: ignore[arg-type]
        except Killed:
            died = True
        Router(ward.database, ward.clock).round()
        made = ordered(ward)
        assert len(made) == total * 2 == len({(one.ordered_by, one.study) for one in made}), die_at
        assert {one.total for one in made} == {2}
        if not died:
            assert die_at > 3
            return
    pytest.fail("no router got through alive")


def test_a_cursor_that_went_back_orders_nothing_twice(ward: Ward) -> None:
    say(ward, "route", {"name": "a", "peer": "ws"})
    ward.send_many(["1.2", "1.3"], range(2))
    complete(ward)
    assert Router(ward.database, ward.clock).round() == 2
    with ward.database.write() as tx:
        tx.run("DELETE FROM cursors WHERE name = 'routing'")
    assert Router(ward.database, ward.clock).round() == 0
    assert len(ordered(ward)) == 2


def test_a_large_completion_is_judged_in_pages(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radiolith.policies.router.INSTANCES", 2)
    monkeypatch.setattr("radiolith.index.described.PAGE", 3)
    say(ward, "route", {"name": "a", "peer": "ws", "sources": ["CT1"]})
    ward.send("1.2", range(7))
    ward.send("1.2", range(7, 9), source=Source("dimse", "MR1", ""))
    complete(ward)
    Router(ward.database, ward.clock).round()
    assert [one.total for one in ordered(ward)] == [7]


def test_what_is_chosen_keeps_the_order_of_the_series(ward: Ward) -> None:
    ward.send("1.2", [3, 1, 2])
    with ward.database.read() as read:
        (study,) = read.all("SELECT id FROM studies")[0]
        from radiolith.index.described import described

        found = list(described(read, study, 0, 2**62))
    rows = routing.chosen(Rule("x", "ws"), Target("ws", "WS1"), found, 5)
    assert rows == [one.instance_id for one in found] and [one.row[0x00200013][1] for one in found] == [1, 2, 3]
    assert routing.chosen(replace(Rule("x", "ws"), at=6), Target("ws", "WS1"), found, 5) == []
