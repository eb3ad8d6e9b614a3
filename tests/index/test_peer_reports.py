"""Rows of reports to peers and of knocks, on both databases."""

from __future__ import annotations

import pytest

from radiolith.index import commitments, knocks, peer_reports
from radiolith.index.database import Database
from radiolith.index.knocks import Caller
from radiolith.index.peer_reports import Addressee, Kind, PeerReport, State

CT1 = Addressee("CT1", "ct", "ARCHIVE")
CLOCK = 1_000_000


def order(database: Database, subject: str, to: Addressee = CT1, kind: Kind = Kind.COMMITMENT, at: int = CLOCK) -> None:
    with database.write() as tx:
        peer_reports.put(tx, 1, (kind, subject), to, (at, at + 10))


def due(database: Database, now: int) -> list[PeerReport]:
    with database.read() as read:
        return peer_reports.due(read, now, 10)


def test_a_commitment_is_due_when_its_result_is_there(database: Database) -> None:
    with database.write() as tx:
        assert commitments.add(tx, 1, "1.2", CLOCK, [("1", "2")])
    order(database, "1.2")
    order(database, "9", kind=Kind.AVAILABILITY)
    assert [one.subject for one in due(database, CLOCK + 9)] == []
    assert [one.subject for one in due(database, CLOCK + 10)] == ["9"]
    with database.write() as tx:
        commitments.finish(tx, 1, "1.2", {"committed": [["1", "2"]], "failed": []})
    assert [one.subject for one in due(database, CLOCK + 10)] == ["1.2", "9"]


def test_one_takes_it_and_an_old_attempt_marks_nothing(database: Database) -> None:
    order(database, "1.2")
    (first,) = due(database, CLOCK + 10)
    with database.write() as tx:
        taken = peer_reports.claim(tx, first, CLOCK + 50)
        assert taken is not None and taken.attempts == 1
        assert peer_reports.claim(tx, first, CLOCK + 50) is None
    assert due(database, CLOCK + 49) == []
    (late,) = due(database, CLOCK + 50)
    with database.write() as tx:
        again = peer_reports.claim(tx, late, CLOCK + 99)
        assert again is not None
        assert not peer_reports.leave(tx, taken, State.REPORTED, "", CLOCK + 60)
        assert peer_reports.leave(tx, again, State.WAITING, "nobody\x00 there", CLOCK + 70)
    with database.read() as read:
        (listed,) = peer_reports.listed(read, 1)
    assert (listed.said, listed.next_at, listed.to, listed.ended_at) == ("nobody there", CLOCK + 70, CT1, 0)


def test_who_asks_again_is_told_again_and_what_ended_is_forgotten(database: Database) -> None:
    order(database, "1.2")
    (one,) = due(database, CLOCK + 10)
    with database.write() as tx:
        taken = peer_reports.claim(tx, one, CLOCK + 50)
        assert taken and peer_reports.leave(tx, taken, State.REPORTED, "", CLOCK + 60)
    assert due(database, CLOCK + 100) == []
    order(database, "1.2", Addressee("CT1", "", "OTHER"), at=CLOCK + 200)
    (again,) = due(database, CLOCK + 210)
    assert (again.id, again.to.ours, again.ended_at) == (one.id, "OTHER", 0)
    with database.write() as tx:
        taken = peer_reports.claim(tx, again, CLOCK + 300)
        assert taken and peer_reports.leave(tx, taken, State.GIVEN_UP, "gone", CLOCK + 300)
        assert peer_reports.prune(tx, CLOCK + 300 + peer_reports.KEEP) == 0
        assert peer_reports.prune(tx, CLOCK + 301 + peer_reports.KEEP) == 1


def test_knocks_add_up_within_a_bound(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knocks, "DEVICES", 2)
    one, two, three = (Caller(f"CT{number}", "ARCHIVE", "10.0.0.1") for number in range(3))
    with database.write() as tx:
        assert knocks.note(tx, 1, one, (5, 1, True)) and knocks.note(tx, 1, two, (6, 1, True))
        assert not knocks.note(tx, 1, three, (7, 1, True))
        assert knocks.note(tx, 1, one, (9, 4, False))
        assert knocks.note(tx, 2, three, (7, 1, True))  # another tenant's list
    with database.read() as read:
        found = knocks.listed(read, 1)
    assert [(k.caller, k.first_at, k.last_at, k.count, k.admitted, k.objects) for k in found] == [
        (one, 5, 9, 5, False, 0),
        (two, 6, 6, 1, True, 0),
    ]
    with database.write() as tx:
        assert knocks.forget(tx, 1, "CT0", "10.0.0.1") == 1
        assert knocks.prune(tx, 7 + knocks.KEEP) == 1
