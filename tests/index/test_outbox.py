"""The outbox as rows, on both databases: ordered once, held by one, nothing written for who has lost the lease."""

from __future__ import annotations

from dataclasses import replace

import pytest

from radiolith.index import facts, instances, outbox, sending
from radiolith.index.database import Database
from radiolith.index.outbox import ItemState, Mark, Priority, State, Transfer, Why, Wish
from radiolith.model import Fact, Identity
from tests.index.conftest import TENANT
from tests.index.objects import Maker, rows

WISH = Wish(TENANT.id, "ws", "1.2", Why.PERSON, "anna", "anna", 100)


@pytest.fixture
def held(database: Database) -> list[Identity]:
    """Two series of one study and one of another, ten instances in all."""
    maker = Maker(3)
    made = [
        maker.one(Identity(study, f"{study}.{series}", f"{study}.{series}.{number}"))
        for study, series, count in (("1.2", 1, 4), ("1.2", 2, 3), ("1.3", 1, 3))
        for number in range(count)
    ]
    with database.write() as tx:
        instances.insert(tx, made)
    return [one.identity for one in made]


def order(database: Database, wish: Wish = WISH, place: Identity | None = None) -> list[int]:
    with database.write() as tx:
        found = outbox.selected(tx, TENANT.id, [place or Identity("1.2", "", "")])
        return [number for study, ids in found.items() for number in outbox.put(tx, replace(wish, study=study), ids)]


def one(database: Database, number: int) -> Transfer:
    with database.read() as read:
        found = outbox.get(read, TENANT.id, number)
    assert found
    return found


def claim(database: Database, number: int, owner: str, now: int, until: int) -> Transfer | None:
    with database.write() as tx:
        return sending.claim(tx, number, owner, now, until)


def test_places_name_studies_series_and_instances(database: Database, held: list[Identity]) -> None:
    with database.read() as read:
        for place, count in (
            (Identity("1.2", "", ""), 7),
            (Identity("1.2", "1.2.2", ""), 3),
            (Identity("1.2", "1.2.2", "1.2.2.1"), 1),
            (Identity("1.2", "", "1.2.2.1"), 1),
            (Identity("1.4", "", ""), 0),
        ):
            assert sum(map(len, outbox.selected(read, TENANT.id, [place]).values())) == count
        twice = outbox.selected(read, TENANT.id, [Identity("1.2", "1.2.2", ""), Identity("1.2", "", ""), held[-1]])
        assert {study: len(ids) for study, ids in twice.items()} == {"1.2": 7, "1.3": 1}
        assert all(len(set(ids)) == len(ids) for ids in twice.values())
        assert outbox.selected(read, TENANT.id + 1, [Identity("1.2", "", "")]) == {}


def test_a_key_is_ordered_once_and_large_orders_are_cut(
    database: Database, held: list[Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "ITEMS", 3)
    numbers = order(database, replace(WISH, key="rule 1"))
    assert [one(database, number).total for number in numbers] == [3, 3, 1]
    assert order(database, replace(WISH, key="rule 1")) == []
    assert len(order(database)) == len(order(database)) == 3


def test_one_holder_and_marks_under_the_lease_only(database: Database, held: list[Identity]) -> None:
    (number,) = order(database)
    first = claim(database, number, "a", 100, 200)
    assert first and first.state is State.SENDING
    assert claim(database, number, "b", 150, 250) is None
    with database.write() as tx:
        first = sending.mark(tx, first, [Mark(1, ItemState.SENT), Mark(2, ItemState.REFUSED, 0xA900, "no")], 160, 300)
    assert first and (first.delivered, first.failed, first.next_at) == (1, 1, 300)
    second = claim(database, number, "b", 301, 400)  # a is silent for too long
    assert second and second.attempts == 2
    with database.write() as tx:
        assert sending.mark(tx, first, [Mark(3, ItemState.SENT)], 310, 410) is None
        assert not sending.leave(tx, first, State.DELIVERED, 0, "", 310)
        assert sending.await_commitment(tx, first, "1.2.3", 310, 410) is None
        left, gone = outbox.pending(tx, second, 0, 10)
    assert [position for position, _ in left] == [3, 4, 5, 6, 7] and gone == []


def test_what_was_rejected_since_is_not_sent(database: Database, held: list[Identity]) -> None:
    (number,) = order(database)
    item = [[held[0].study, held[0].series, held[0].sop]]
    with database.write() as tx:
        facts.apply(tx, Fact("reject", 10**16, "a", TENANT.uid, {"reason": "113001", "items": item}), b"1" * 16)
        claimed = sending.claim(tx, number, "a", 100, 200)
        assert claimed
        left, gone = outbox.pending(tx, claimed, 0, 100)
        assert len(left) == 6 and len(gone) == 1
        claimed = sending.mark(tx, claimed, [Mark(gone[0], ItemState.GONE)], 100, 200)
    assert claimed and claimed.total == 6


def test_urgent_first_and_only_what_is_due(database: Database, held: list[Identity]) -> None:
    (low,) = order(database, replace(WISH, priority=Priority.LOW))
    (high,) = order(database, replace(WISH, priority=Priority.HIGH))
    (other,) = order(database, replace(WISH, peer="pacs", at=500))
    with database.read() as read:
        assert outbox.waiting_for(read, 100) == [(TENANT.id, "ws")]
        assert outbox.waiting_for(read, 500) == [(TENANT.id, "pacs"), (TENANT.id, "ws")]
        assert outbox.due(read, TENANT.id, "ws", 100, 9) == [high, low]
        lags = {lag.peer: lag for lag in outbox.lags(read, TENANT.id)}
    assert (lags["ws"].transfers, lags["ws"].instances, lags["ws"].oldest) == (2, 14, 100)
    assert lags["pacs"].oldest == 500 and other


def test_again_sends_what_is_missing_and_cancel_ends_it(database: Database, held: list[Identity]) -> None:
    (number,) = order(database)
    claimed = claim(database, number, "a", 100, 200)
    assert claimed
    with database.write() as tx:
        marks = [Mark(1, ItemState.REFUSED, 0xC000, "odd"), *(Mark(at, ItemState.SENT) for at in range(2, 8))]
        claimed = sending.mark(tx, claimed, marks, 110, 210)
        assert claimed and sending.leave(tx, claimed, State.FAILED, 110, "refused", 110)
    with database.read() as read:
        assert outbox.lags(read, TENANT.id)[0].failed == 1
        (position, item), *rest = outbox.items(read, number, state=ItemState.REFUSED)
        assert (position, item.status, item.said, rest) == (1, 0xC000, "odd", [])
    with database.write() as tx:
        assert sending.again(tx, TENANT.id, number, 300)
        claimed = sending.claim(tx, number, "a", 300, 400)
        assert claimed and [at for at, _ in outbox.pending(tx, claimed, 0, 9)[0]] == [1]
        assert sending.cancel(tx, TENANT.id, number, "enough", 310)
        assert sending.mark(tx, claimed, [], 310, 410) is None
        assert not sending.cancel(tx, TENANT.id, number, "enough", 310)
        assert not sending.cancel(tx, TENANT.id + 1, number, "enough", 310)
    assert one(database, number).state is State.CANCELLED


def test_a_commitment_is_settled_by_instance(database: Database, held: list[Identity]) -> None:
    (number,) = order(database, place=Identity("1.3", "", ""))
    claimed = claim(database, number, "a", 100, 200)
    assert claimed
    sops = [identity.sop for identity in held[-3:]]
    with database.write() as tx:
        claimed = sending.mark(tx, claimed, [Mark(at, ItemState.SENT) for at in (1, 2, 3)], 100, 200)
        assert claimed
        claimed = sending.await_commitment(tx, claimed, "9.9", 100, 200)
        assert claimed and claimed.state is State.AWAITING
        assert sorted(sop for _, sop in outbox.references(tx, claimed)) == sorted(sops)
        waiting = sending.awaiting(tx, TENANT.id, "9.9")
        assert waiting and sending.awaiting(tx, TENANT.id, "") is None
        after = sending.settle(tx, waiting, sops[:1], {sops[1]: "no such instance"}, 110)
        assert (after.state, after.delivered, after.next_at) == (State.WAITING, 2, 110)
        assert sending.awaiting(tx, TENANT.id, "9.9") is None  # an answer that comes twice changes nothing
        claimed = sending.claim(tx, number, "a", 120, 200)
        assert claimed and [held.identity.sop for _, held in outbox.pending(tx, claimed, 0, 9)[0]] == [sops[1]]
        at = outbox.pending(tx, claimed, 0, 9)[0][0][0]
        claimed = sending.mark(tx, claimed, [Mark(at, ItemState.SENT)], 120, 200)
        claimed = claimed and sending.await_commitment(tx, claimed, "9.10", 120, 200)
        assert claimed and sorted(sop for _, sop in outbox.references(tx, claimed)) == sorted(sops[1:])
        after = sending.settle(tx, claimed, [], {sops[1]: "no such instance"}, 130)
        assert (after.state, after.failed) == (State.AWAITING, 1)  # one refused for good, one not answered
        after = sending.settle(tx, after, sops, {}, 140)
        assert (after.state, after.delivered, after.failed) == (State.FAILED, 2, 1)


def test_delivered_ones_keep_no_items_and_are_forgotten_one_day(database: Database, held: list[Identity]) -> None:
    done, failed = order(database) + order(database)
    for number, state in ((done, State.DELIVERED), (failed, State.FAILED)):
        claimed = claim(database, number, "a", 100, 200)
        assert claimed
        with database.write() as tx:
            assert sending.leave(tx, claimed, state, 0, "", 100)
    with database.write() as tx:
        assert rows(tx, "transfer_items") == 7
        assert sending.prune(tx, 100 + outbox.KEEP) == 0
        assert sending.prune(tx, 101 + outbox.KEEP) == 1
        assert sending.prune(tx, 101 + outbox.KEEP_FAILED) == 1
        assert rows(tx, "transfer_items") == rows(tx, "transfers") == 0


def test_what_lacks_a_peer_goes_on_when_it_is_there(database: Database, held: list[Identity]) -> None:
    (number,) = order(database)
    claimed = claim(database, number, "a", 100, 200)
    assert claimed
    with database.write() as tx:
        assert sending.leave(tx, claimed, State.HELD, 0, "no peer", 100)
        assert sending.resume_held(tx, 300) == 0
        facts.apply(tx, Fact("peer", 5, "a", TENANT.uid, {"name": "ws", "aet": "WS"}), b"p" * 16)
        assert sending.resume_held(tx, 300) == 1
    assert one(database, number).state is State.WAITING


def test_marks_of_neighbours_touch_nothing_between_and_beside_them(database: Database, held: list[Identity]) -> None:
    (number,) = order(database)
    claimed = claim(database, number, "a", 110, 210)
    assert claimed
    marks = [Mark(at, ItemState.SENT) for at in (6, 2, 1, 4)] + [Mark(3, ItemState.REFUSED, 0xA900, "no")]
    with database.write() as tx:
        after = sending.mark(tx, claimed, marks, 120, 220)
    assert after and (after.delivered, after.failed) == (4, 1)
    with database.read() as read:
        states = {position: item.state for position, item in outbox.items(read, number)}
    sent, refused, waiting = ItemState.SENT, ItemState.REFUSED, ItemState.WAITING
    assert states == {1: sent, 2: sent, 3: refused, 4: sent, 5: waiting, 6: sent, 7: waiting}
