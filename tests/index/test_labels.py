"""Labels as words: set, replaced, undone, in any order, on both databases."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from radiolith.index import facts, instances, labels
from radiolith.index.changes import ChangeKind, Cursor, follow
from radiolith.index.database import Database
from radiolith.index.dump import dump
from radiolith.index.labels import Subject
from radiolith.index.uids import pack_uid
from radiolith.model import Fact, Identity, Incoming, Level
from tests.index.conftest import TENANT
from tests.index.objects import Maker

STUDY, SERIES = ["study", "1.1"], ["series", "1.1", "1.1.1"]
PATIENT = ["patient", "P1", "HOSP"]


def an_object(series: str = "1.1.1") -> Incoming:
    one = Maker(len(series) * 10 + int(series[-1])).one(Identity("1.1", series, f"{series}.1"))
    one.description.patient.update({"patient_id": "P1", "issuer_key": "HOSP", "claimed": None})
    return one


def word(of: list[str], name: str, value: str = "", *, op: int = 1, gone: bool = False) -> dict[str, object]:
    return {"op": f"{op:032x}", "reason": "", "of": [of], "name": name, "value": value, "gone": gone}


def say(database: Database, at: int, body: dict[str, object], object_id: int | None = None) -> facts.Applied:
    with database.write() as tx:
        return facts.apply(tx, Fact("label", at, "ann", TENANT.uid, body), (object_id or at).to_bytes(16, "big"))


def store(database: Database, *incoming: Incoming) -> None:
    with database.write() as tx:
        instances.insert(tx, incoming)


def shown(database: Database, of: list[str]) -> list[str]:
    level = {"patient": Level.PATIENT, "study": Level.STUDY, "series": Level.SERIES}[of[0]]
    with database.read() as read:
        row = labels.row_of(read, TENANT.id, labels.subject(of))
        assert row is not None
        return labels.shown(read, level, [row]).get(row, [])


@pytest.mark.parametrize("of", [STUDY, SERIES, PATIENT])
def test_the_last_word_about_a_name_holds(database: Database, of: list[str]) -> None:
    store(database, an_object())
    assert say(database, 10, word(of, "urgent")).known
    say(database, 12, word(of, "ward", "3"))
    say(database, 11, word(of, "ward", "2"))  # comes later, was said before
    assert shown(database, of) == ["urgent", "ward=3"]
    say(database, 13, word(of, "urgent", gone=True))
    assert shown(database, of) == ["ward=3"]
    assert [one for one in (STUDY, SERIES, PATIENT) if shown(database, one)] == [of]


def test_words_and_objects_in_any_order_show_the_same(fresh: object) -> None:
    things: list[object] = [an_object(), (10, word(STUDY, "a", "1")), (11, word(SERIES, "b")), (9, word(PATIENT, "c"))]
    for number, order in enumerate(permutations(things)):
        if number % 6 and number != 23:
            continue
        database: Database = fresh("sqlite")  # type: ignore[operator]
        for thing in order:
            store(database, thing) if isinstance(thing, Incoming) else say(database, *thing)  # type: ignore[misc]
        assert [shown(database, of) for of in (STUDY, SERIES, PATIENT)] == [["a=1"], ["b"], ["c"]]


def test_an_undone_operation_shows_what_was_there_before(database: Database) -> None:
    store(database, an_object())
    say(database, 10, word(STUDY, "ward", "2", op=1))
    say(database, 11, word(STUDY, "ward", "3", op=2))
    for undone, expected in ((1, ["ward=2"]), (0, ["ward=3"])):
        with database.write() as tx:
            tx.run("UPDATE operations SET undone = ? WHERE op = ?", (undone, (2).to_bytes(16, "big")))
            labels.undone(tx, TENANT.id, (2).to_bytes(16, "big"), 20)
        assert shown(database, STUDY) == expected


def test_followers_hear_of_labels_that_changed_and_of_no_others(database: Database) -> None:
    store(database, an_object())
    for at in (10, 11):  # the same said twice changes nothing
        say(database, at, word(STUDY, "urgent"))
    say(database, 12, word(PATIENT, "vip"))
    with database.read() as read:
        found = [one for one in follow(read, Cursor())[0] if one.kind is ChangeKind.LABELLED]
    assert [(bool(one.study_id), bool(one.instance_id), one.at) for one in found] == [
        (True, False, 10),
        (False, True, 12),
    ]


def test_a_series_shown_elsewhere_takes_its_labels_along(database: Database) -> None:
    store(database, an_object(), an_object("1.1.2"))
    say(database, 10, word(SERIES, "keep"))
    with database.write() as tx:
        home, target = (
            labels.row_of(tx, TENANT.id, Subject(2, pack_uid("1.1"), pack_uid(uid))) for uid in ("1.1.1", "1.1.2")
        )
        tx.run("UPDATE instances SET series_id = ?, home_id = ? WHERE series_id = ?", (target, home, home))
        labels.resettle(tx, TENANT.id, [home or 0, target or 0])
    assert shown(database, ["series", "1.1", "1.1.2"]) == ["keep"]
    say(database, 11, word(SERIES, "later"))
    assert shown(database, ["series", "1.1", "1.1.2"]) == ["keep", "later"]


@pytest.mark.parametrize(
    "body",
    [
        word(["instance", "1", "2", "3"], "x"), word(["study"], "x"), word(STUDY, ""), {"op": "1", "of": []},
        {**word(STUDY, "x"), "gone": "no"}, {**word(STUDY, "x"), "of": [7]},
    ],
)  # fmt: skip
def test_a_body_that_does_not_fit_is_kept_and_changes_nothing(database: Database, body: dict[str, object]) -> None:
    store(database, an_object())
    assert not say(database, 10, body).known
    assert shown(database, STUDY) == []


def test_labels_in_use_are_counted_page_by_page(database: Database) -> None:
    store(database, an_object(), an_object("1.1.2"))
    for at, (of, name, value) in enumerate(
        [(STUDY, "ward", "3"), (SERIES, "ward", "3"), (PATIENT, "ward", "4"), (STUDY, "a", "")], 10
    ):
        say(database, at, word(of, name, value, op=at))
    with database.read() as read:
        assert labels.used(read, TENANT.id, 2) == [("a", "", 1), ("ward", "3", 2)]
        assert labels.used(read, TENANT.id, 2, ("ward", "3")) == [("ward", "4", 1)]


def test_the_dump_names_labels_by_what_they_are_on(database: Database) -> None:
    store(database, an_object())
    with database.snapshot() as read:
        before = list(dump(read))
    random = Random(1)
    said = [(10, word(STUDY, "a", "ü")), (11, word(SERIES, "b", op=2)), (12, word(PATIENT, "c", op=3))]
    random.shuffle(said)
    for at, body in said:
        say(database, at, body)
    with database.snapshot() as read:
        after = [line for line in dump(read) if line.startswith('["label"')]
    assert not any(line.startswith('["label"') for line in before)
    assert [line.replace(" ", "") for line in after] == [
        '["label",{"is":["P1","HOSP"],"name":"c","value":""}]',
        '["label",{"is":["1.1"],"name":"a","value":"ü"}]',
        '["label",{"is":["1.1","1.1.1"],"name":"b","value":""}]',
    ]
