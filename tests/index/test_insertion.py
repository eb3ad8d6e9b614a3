"""Rows of instances: outcomes, idempotence, races, and independence of the order of arrival."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from radiolith.index import facts, instances
from radiolith.index.changes import ChangeKind, Cursor, follow
from radiolith.index.database import Database
from radiolith.index.dump import dump
from radiolith.model import BadInput, Fact, Identity, Incoming, Outcome
from tests import campaign
from tests.index.conftest import TENANT
from tests.index.objects import Maker, in_batches, rows

IDENTITY = Identity("1.2.3", "1.2.3.4", "1.2.3.4.5")


def put(database: Database, *incoming: Incoming) -> list[instances.Verdict]:
    with database.write() as tx:
        return instances.insert(tx, incoming)


def text(database: Database) -> str:
    with database.snapshot() as read:
        return "\n".join(dump(read))


def test_what_was_stored_is_located(database: Database) -> None:
    one = Maker(1).one(IDENTITY)
    (verdict,) = put(database, one)
    assert verdict.outcome is Outcome.STORED
    with database.read() as read:
        (held,) = instances.locate(read, TENANT.id, "1.2.3", "1.2.3.4", "1.2.3.4.5")
        assert held == verdict.held
        assert (held.blob, held.layout, held.sha256, held.source) == (one.blob, one.layout, one.sha256, one.source)
        assert list(instances.locate(read, TENANT.id, "1.2.3")) == [held]
        assert instances.by_sop(read, TENANT.id, "1.2.3.4.5") == [held]
        assert instances.by_row(read, TENANT.id, held.instance_id) == held
        assert instances.blob_of(read, one.blob.object_id) == one.blob
        assert not list(instances.locate(read, TENANT.id + 1, "1.2.3"))
        assert not instances.by_sop(read, TENANT.id + 1, "1.2.3.4.5")


def test_the_same_bytes_are_a_duplicate_without_a_change(database: Database) -> None:
    maker = Maker(1)
    one = maker.one(IDENTITY)
    again = replace(maker.one(IDENTITY), sha256=one.sha256)
    put(database, one)
    with database.read() as read:
        _, before = follow(read, Cursor())
    (verdict,) = put(database, again)
    assert verdict.outcome is Outcome.DUPLICATE
    assert verdict.held.blob == one.blob
    with database.read() as read:
        assert follow(read, before)[0] == []
        assert rows(read, "instances") == 1  # type: ignore[arg-type]


def test_other_bytes_are_a_version_and_another_syntax_an_encoding(database: Database) -> None:
    maker = Maker(1)
    one = maker.one(IDENTITY, policy="first")
    version = maker.one(IDENTITY, policy="first")
    encoding = maker.one(IDENTITY, encoding_of=one.blob.object_id)
    verdicts = put(database, one, version, encoding)
    assert [v.outcome for v in verdicts] == [Outcome.STORED, Outcome.VERSION, Outcome.ENCODING]
    assert [v.held.current for v in verdicts] == [True, False, False]
    with database.read() as read:
        kept = instances.versions(read, TENANT.id, IDENTITY)
        assert [held.blob.object_id for held in kept] == [o.blob.object_id for o in (one, version, encoding)]
        assert instances.encodings(read, kept[0]) == [kept[2]]
        assert instances.encodings(read, kept[2]) == [kept[0]]
        assert [change.kind for change in follow(read, Cursor())[0]] == [
            ChangeKind.STORED, ChangeKind.VERSION, ChangeKind.ENCODING,
        ]  # fmt: skip


def test_a_record_indexed_twice_is_replayed(database: Database) -> None:
    batch = Maker(2).many(30)
    first = put(database, *batch)
    before = text(database)
    again = put(database, *batch)
    assert all(verdict.replayed for verdict in again)
    pairs = [(a.outcome, b.outcome) for a, b in zip(first, again, strict=True)]
    assert all(a is b for a, b in pairs if a is not Outcome.DUPLICATE)
    assert text(database) == before


def test_newest_from_the_same_peer_becomes_current_and_is_counted_once(database: Database) -> None:
    maker = Maker(3)
    one = maker.one(IDENTITY)
    two = replace(maker.one(IDENTITY), policy="newest", source=one.source)
    put(database, one)
    (verdict,) = put(database, two)
    assert verdict.held.current and verdict.others[0].blob == one.blob
    with database.read() as read:
        assert [h.blob for h in instances.locate(read, TENANT.id, "1.2.3")] == [two.blob]
        counted = read.one("SELECT instances, size FROM studies")
        assert counted == (1, two.blob.size)


def test_a_conflict_is_listed_until_decided(database: Database) -> None:
    maker = Maker(3)
    one, two = maker.one(IDENTITY, policy="ask"), maker.one(IDENTITY, policy="ask")
    put(database, one, two)
    with database.read() as read:
        assert instances.conflicts(read, TENANT.id) == [IDENTITY]
        assert instances.conflicts(read, TENANT.id, after=IDENTITY.sop) == []
    body: dict[str, object] = {"identity": ["1.2.3", "1.2.3.4", "1.2.3.4.5"], "object": two.blob.object_id.hex()}
    with database.write() as tx:
        facts.apply(tx, Fact("resolve", maker.now + 9, "admin", TENANT.uid, body), b"f" * 16)
    with database.read() as read:
        assert instances.conflicts(read, TENANT.id) == []
        assert [h.blob for h in instances.locate(read, TENANT.id, "1.2.3")] == [two.blob]


def test_non_patient_objects_lie_under_a_hidden_root(database: Database) -> None:
    one = Maker(4).one(Identity("", "", "1.9.9"))
    put(database, one)
    with database.read() as read:
        (held,) = instances.locate(read, TENANT.id, "", "", "1.9.9")
        assert held.blob == one.blob
        assert read.one("SELECT instances FROM studies") == (0,)
        assert rows(read, "patients") == 0  # type: ignore[arg-type]


def test_instances_come_by_number_and_then_arrival(database: Database) -> None:
    maker = Maker(5)
    numbers = [3, None, 1, 2, 1]
    batch = []
    for place, number in enumerate(numbers):
        one = maker.one(Identity("1.2.3", "1.2.3.4", f"1.2.3.4.{place}"))
        one.description.instance["number"] = number
        batch.append(one)
    put(database, *batch)
    with database.read() as read:
        found = [held.number for held in instances.locate(read, TENANT.id, "1.2.3")]
    assert found == [1, 1, 2, 3, None]


def test_long_series_come_in_pages(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "PAGE", 7)
    maker = Maker(6)
    batch = [maker.one(Identity("1.2.3", "1.2.3.4", f"1.2.3.4.{n}")) for n in range(60)]
    put(database, *batch)
    with database.read() as read:
        found = list(instances.locate(read, TENANT.id, "1.2.3", "1.2.3.4"))
    assert len(found) == len({held.identity for held in found}) == 60


def test_equal_ids_of_different_issuers_are_different_patients(database: Database) -> None:
    maker = Maker(7)
    for number, issuer in enumerate(["", "HOSP", "1.2.250.1.213.1.4.8", "HOSP"]):
        one = maker.one(Identity(f"1.{number}", f"1.{number}.1", f"1.{number}.1.1"))
        one.description.patient.update(patient_id="42", issuer_key=issuer)
        put(database, one)
    with database.read() as read:
        assert read.one("SELECT COUNT(DISTINCT patient_id) FROM studies") == (3,)


def test_studies_without_patient_id_have_patients_of_their_own(database: Database) -> None:
    maker = Maker(8)
    for number in range(2):
        one = maker.one(Identity(f"1.{number}", f"1.{number}.1", f"1.{number}.1.1"))
        one.description.patient.update(patient_id=None)
        put(database, one)
    with database.read() as read:
        assert read.one("SELECT COUNT(DISTINCT patient_id) FROM studies") == (2,)


def test_void_records_never_get_rows(database: Database) -> None:
    one = Maker(9).one(IDENTITY)
    body: dict[str, object] = {"objects": [one.blob.object_id.hex()]}
    with database.write() as tx:
        facts.apply(tx, Fact("void", 5, "w", TENANT.uid, body), b"v" * 16)
    (verdict,) = put(database, one)
    assert verdict.replayed
    with database.read() as read:
        assert not list(instances.locate(read, TENANT.id, "1.2.3"))


def test_a_void_does_not_undo_what_was_committed(database: Database) -> None:
    one = Maker(9).one(IDENTITY)
    put(database, one)
    body: dict[str, object] = {"objects": [one.blob.object_id.hex()]}
    with database.write() as tx:
        facts.apply(tx, Fact("void", 5, "w", TENANT.uid, body), b"v" * 16)
    with database.read() as read:
        assert list(instances.locate(read, TENANT.id, "1.2.3"))
        assert instances.present(read, [one.blob.object_id, b"?" * 16]) == {one.blob.object_id}


@pytest.mark.parametrize("change", [{"policy": "best"}, {"identity": Identity("1." + "2" * 600, "1", "1")}])
def test_what_fits_no_index_is_refused_and_leaves_nothing(database: Database, change: dict[str, object]) -> None:
    maker = Maker(10)
    with pytest.raises(BadInput):
        put(database, maker.one(IDENTITY), replace(maker.one(IDENTITY), **change))  # type: ignore[arg-type]
    with database.read() as read:
        assert rows(read, "studies") == 0  # type: ignore[arg-type]


# ---------------------------------------------------------------- counts


def recount(database: Database) -> list[tuple[object, ...]]:
    """What the counts on studies and series should be, counted."""
    sql = (
        "SELECT s.uid, e.uid, SUM(CASE WHEN i.reason = 0 THEN 1 ELSE 0 END), SUM(CASE WHEN i.reason = 0 THEN 0 ELSE 1 END),"
        " SUM(CASE WHEN i.reason = 0 THEN i.size ELSE 0 END) FROM instances i JOIN series e ON e.id = i.series_id"
        " JOIN studies s ON s.id = e.study_id WHERE i.current = 1 AND s.uid <> ? GROUP BY s.uid, e.uid ORDER BY s.uid, e.uid"
    )
    with database.snapshot() as read:
        return [tuple(int(v) if not isinstance(v, bytes) else v for v in row) for row in read.all(sql, (b"",))]


def counted(database: Database) -> list[tuple[object, ...]]:
    sql = (
        "SELECT s.uid, e.uid, e.instances, e.rejected, e.size FROM series e JOIN studies s ON s.id = e.study_id"
        " WHERE s.uid <> ? ORDER BY s.uid, e.uid"
    )
    with database.snapshot() as read:
        return read.all(sql, (b"",))


def decisions(random: Random, maker: Maker, incoming: list[Incoming], count: int) -> list[tuple[Fact, bytes]]:
    made: list[tuple[Fact, bytes]] = []
    for _ in range(count):
        some = random.sample(incoming, min(4, len(incoming)))
        items = [[one.identity.study, one.identity.series, one.identity.sop] for one in some]
        at = random.choice([random.choice(incoming).received_at, maker.now + random.randrange(9)])
        match random.randrange(3):
            case 0:
                kind, body = "reject", {"reason": random.choice(["113001", "113037"]), "items": items}
            case 1:
                kind, body = "restore", {"items": items}
            case _:
                kind, body = "current", {"identity": items[0], "object": some[0].blob.object_id.hex()}
        made.append((Fact(kind, at, "admin", TENANT.uid, body), random.randbytes(16)))
    return made


def test_any_order_gives_the_same_dump(fresh: Callable[[str], Database]) -> None:
    """Objects and facts in any order, in any batches, on either database: one dump."""
    for seed in range(campaign.count("index orders", 12, 400)):
        random, maker = Random(seed), Maker(seed, studies=3)
        incoming = [*maker.many(40), maker.one(Identity("", "", "9.9"))]
        told = decisions(random, maker, incoming, 12)
        dumps: list[str] = []
        for kind in ("sqlite", "sqlite", *(["postgresql"] if seed < 3 else [])):
            database = fresh(kind)
            events: list[object] = [*in_batches(random, incoming), *told]
            for event in events:
                with database.write() as tx:
                    if isinstance(event, list):
                        instances.insert(tx, event)
                    else:
                        facts.apply(tx, *event)  # type: ignore[misc]
            assert counted(database) == recount(database), seed
            dumps.append(text(database))
            random.shuffle(incoming)
            random.shuffle(told)
            database.close()
        lines = [set(one.splitlines()) for one in dumps]
        assert not [sorted(one ^ lines[0]) for one in lines[1:] if one != lines[0]], seed
        assert dumps[0] and all(one == dumps[0] for one in dumps), seed


def test_facts_before_their_objects(fresh: Callable[[str], Database]) -> None:
    maker = Maker(11, studies=2)
    incoming = maker.many(30)
    told = decisions(Random(1), maker, incoming, 10)
    dumps: list[str] = []
    for first in (True, False):
        database = fresh("sqlite")
        with database.write() as tx:
            for fact in told if first else []:
                facts.apply(tx, *fact)
            instances.insert(tx, incoming)
            for fact in told:
                facts.apply(tx, *fact)
        dumps.append(text(database))
        assert counted(database) == recount(database)
    assert dumps[0] == dumps[1]


# ---------------------------------------------------------------- races


def test_parallel_senders_end_in_one_state(database: Database, fresh: Callable[[str], Database]) -> None:
    """Four threads send the same identities, equal and other bytes, in different orders."""
    maker = Maker(12, studies=2)
    incoming = maker.many(80)
    outcomes: list[Outcome] = []
    failures: list[BaseException] = []

    def send(seed: int) -> None:
        random = Random(seed)
        mine = [replace(one, blob=replace(one.blob, object_id=random.randbytes(16))) for one in incoming]
        random.shuffle(mine)
        try:
            for batch in in_batches(random, mine):
                outcomes.extend(verdict.outcome for verdict in put(database, *batch))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    distinct = {(one.identity, one.sha256) for one in incoming}
    with database.read() as read:
        assert rows(read, "instances") == len(distinct)  # type: ignore[arg-type]
    assert len(outcomes) - outcomes.count(Outcome.DUPLICATE) == len(distinct)
    assert counted(database) == recount(database)
