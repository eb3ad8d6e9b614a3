"""The change feed: nothing appears behind a cursor, not even under concurrent PostgreSQL transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

from radiolith.index import facts, instances
from radiolith.index.changes import ChangeKind, Cursor, follow, load_cursor, record, save_cursor
from radiolith.index.database import Database
from radiolith.model import Fact, Identity
from tests.index.conftest import TENANT
from tests.index.objects import Maker


def drain(database: Database, cursor: Cursor, limit: int = 500) -> tuple[list[int], Cursor]:
    found: list[int] = []
    while True:
        with database.read() as read:
            changes, cursor = follow(read, cursor, limit)
        if not changes:
            return found, cursor
        found += [change.instance_id for change in changes]


def test_a_follower_sees_each_change_once_and_goes_on_where_it_was(database: Database) -> None:
    for start in (0, 10):
        with database.write() as tx:
            record(tx, [(TENANT.id, ChangeKind.STORED, 1, start + n, 5) for n in range(10)])
            if start == 0:
                save_cursor(tx, "ledger", Cursor())
    with database.read() as read:
        changes, cursor = follow(read, load_cursor(read, "ledger"), 7)
    assert [change.instance_id for change in changes] == list(range(7))
    with database.write() as tx:
        save_cursor(tx, "ledger", cursor)
    with database.read() as read:
        again = load_cursor(read, "ledger")
    assert drain(database, again, 3)[0] == list(range(7, 20))


def test_a_cursor_of_another_epoch_starts_from_the_beginning(database: Database) -> None:
    with database.write() as tx:
        record(tx, [(TENANT.id, ChangeKind.STORED, 1, 42, 5)])
    assert drain(database, Cursor("other", 10**9, 10**9))[0] == [42]


def test_a_running_transaction_holds_back_what_came_after_it(fresh: Callable[[str], Database]) -> None:
    """A number drawn first and committed last must not be skipped."""
    database = fresh("postgresql")
    with database.write() as slow:
        record(slow, [(TENANT.id, ChangeKind.STORED, 1, 1, 5)])
        with database.write() as fast:
            record(fast, [(TENANT.id, ChangeKind.STORED, 1, 2, 5)])
        seen, cursor = drain(database, Cursor())
        assert seen == []
    assert drain(database, cursor)[0] == [1, 2]


def test_nothing_is_missed_while_many_write(database: Database) -> None:
    """Three writers whose transactions overlap, one follower reading all the time."""
    done = threading.Event()

    def write(worker: int) -> None:
        random = Random(worker)
        for n in range(40):
            with database.write() as tx:
                for part in range(random.randrange(1, 4)):
                    record(tx, [(TENANT.id, ChangeKind.STORED, worker, n * 10 + part, 5)])

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    seen: list[tuple[int, int]] = []

    def read_on(cursor: Cursor) -> Cursor:
        with database.read() as read:
            changes, cursor = follow(read, cursor, 5)
        seen.extend((change.study_id, change.instance_id) for change in changes)
        return cursor

    def follower() -> None:
        cursor = Cursor()
        while not done.is_set():
            cursor = read_on(cursor)
        last = None
        while last != cursor:
            last, cursor = cursor, read_on(cursor)

    watching = threading.Thread(target=follower)
    watching.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watching.join()
    with database.read() as read:
        written = read.all("SELECT study_id, instance_id FROM changes")
    assert sorted(seen) == sorted(written) and len(written) > 100


def test_decisions_are_changes(database: Database) -> None:
    maker = Maker(1)
    one = maker.one(Identity("1.2", "1.2.3", "1.2.3.4"))
    item = [["1.2", "1.2.3", "1.2.3.4"]]
    with database.write() as tx:
        instances.insert(tx, [one])
        facts.apply(tx, Fact("reject", maker.now, "a", TENANT.uid, {"reason": "113001", "items": item}), b"1" * 16)
        facts.apply(tx, Fact("reject", maker.now + 1, "a", TENANT.uid, {"reason": "113037", "items": item}), b"2" * 16)
        facts.apply(tx, Fact("restore", maker.now + 2, "a", TENANT.uid, {"items": item}), b"3" * 16)
        facts.apply(tx, Fact("restore", maker.now + 3, "a", TENANT.uid, {"items": item}), b"4" * 16)
    with database.read() as read:
        kinds = [change.kind for change in follow(read, Cursor())[0]]
    assert kinds == [ChangeKind.STORED, ChangeKind.REJECTED, ChangeKind.REJECTED, ChangeKind.RESTORED]
