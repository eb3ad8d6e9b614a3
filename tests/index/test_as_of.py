"""A study as of a moment, and what was said about it: random histories against the reference model cut off at that moment."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from radiolith.index import as_of, cases, facts, instances, persons, told
from radiolith.index.database import Database
from radiolith.model import Fact, Identity
from tests import campaign
from tests.index.conftest import TENANT
from tests.index.objects import Maker
from tests.index.test_corrections_model import History, _record  # pyright: ignore[reportPrivateUsage]
from tests.model.reference import Reference

HISTORIES = campaign.count("studies as of a moment", 60, 10_000)
EACH = 10  # histories one test runs


@pytest.mark.parametrize("first", range(0, HISTORIES, EACH))
def test_a_study_as_of_a_moment_is_what_the_model_says_of_then(first: int, fresh: Callable[[str], Database]) -> None:
    """Every fifth history on PostgreSQL."""
    for seed in range(first, min(first + EACH, HISTORIES)):
        database, history = fresh("postgresql" if seed % 5 == 0 else "sqlite"), History(seed)
        history.play(database)
        moments = sorted({one.received_at for one in history.incoming} | {one.at for one in history.said})
        for at in Random(seed).sample(moments, min(3, len(moments))):
            records = [_record(one) for one in history.incoming if one.received_at <= at]
            then = Reference(records, [one for one in history.said if one.at <= at]).shown()
            for study in {one.shown[0] for one in then.instances.values()}:
                with database.read(20) as read:
                    found = as_of.snapshot(read, TENANT.id, study, at)
                assert found is not None, (seed, at, study)
                wanted = sorted(
                    (one.shown, one.current.object_id, one.rejected)
                    for one in then.instances.values()
                    if one.shown[0] == study and one.current
                )
                shown = sorted(
                    ((held.identity.study, held.identity.series, held.identity.sop), held.blob.object_id, held.rejected)
                    for held in found.helds
                )
                assert shown == wanted, (seed, at, study)
                if study in then.studies:
                    assert (found.columns.get("accession") or "") == then.studies[study]["00080050"], (seed, at, study)
                    assert tuple(found.who.named()) == then.patients[study], (seed, at, study)


def fact(number: int, kind: str, **body: object) -> tuple[Fact, bytes]:
    return Fact(kind, number, "ann", TENANT.uid, {"op": f"{number:032x}", "reason": "", **body}), number.to_bytes(
        16, "big"
    )


def test_what_was_said_is_read_back_on_both_databases(database: Database) -> None:
    maker = Maker(1)
    one = maker.one(Identity("1.1", "1.1.1", "1.1.1.1"), policy="first")
    one.description.patient.update(patient_id="P1", issuer_key="", patient_name="Doe^Jane", birth_date=19650312)
    other = maker.one(Identity("1.1", "1.1.1", "1.1.1.1"), policy="first")
    other.description.patient.update(
        patient_id="P2", issuer_key="medium:X", patient_name="Doe^Jane", birth_date=19651203
    )
    said = [
        fact(10, "amend", why="CORRECT", of=[["study", "1.1"]], set={"00081030": {"vr": "LO", "Value": ["x"]}}),
        fact(20, "reject", items=[["1.1", "1.1.1", "1.1.1.1"]], reason="113001"),
        fact(30, "undo", undoes=f"{20:032x}", again=False),
        fact(40, "settle", conflict="mixed:1.1", **{"as": "kept"}),
        fact(50, "link", of=[["patient", "P1", ""], ["patient", "P2", "medium:X"]], linked=True),
    ]
    with database.write() as tx:
        instances.insert(tx, [one, other])
        for each, object_id in said:
            assert facts.apply(tx, each, object_id).known
    with database.read() as read:
        assert [each.kind for each in told.operations(read, TENANT.id, 10)] == ["link", "settle", "reject", "amend"]
        (rejected,) = [each for each in told.operations(read, TENANT.id, 10) if each.kind == "reject"]
        assert (rejected.undone, rejected.undone_at, rejected.undone_by) == (True, 30, "ann")
        assert [each.op for each in told.operations(read, TENANT.id, 1, rejected.op)] == [(10).to_bytes(16, "big")]
        (word,) = told.words_of(read, TENANT.id, (10).to_bytes(16, "big"), 10)
        assert (word.subject, word.slot) == (("study", "1.1"), "00081030")
        assert [each.slot for each in told.words_about(read, TENANT.id, ["1.1"], 10)] == ["00081030"]
        (event,) = told.events(read, TENANT.id, "1.1", "", "", 10)
        assert (event.kind, event.value, event.undone, event.by) == ("reject", "113001", True, "ann")
        assert told.settled(read, TENANT.id, "mixed:1.1") == "kept" and not told.settled(read, TENANT.id, "mixed:1.2")
        assert len(told.words_about_patient(read, TENANT.id, "P1", "", 10)) == 2
        knowledge = told.knowledge(read, TENANT.id, [["study", "1.1"]])
        assert knowledge.newest == 10 and knowledge != told.knowledge(read, TENANT.id, [["study", "1.2"]])
        assert sum(each.versions for each in told.receptions(read, TENANT.id, "1.1")) == 1
        first = persons.by_identifier(read, TENANT.id, "P1", "")
        assert first is not None and [each.value for each in persons.near(read, TENANT.id, first)] == ["P2"]
        assert [each.value for each in persons.search(read, TENANT.id, ("", "doe", None, None), 10)] == ["P2", "P1"]
        assert [each.value for each in persons.search(read, TENANT.id, ("", "", None, 2), 10)] == ["P2"]
        assert [each.value for each in cases.in_state(read, TENANT.id, 2, 10)] == ["P2"]
        (several,) = cases.several(read, TENANT.id, 10)
        assert several.versions == 2 and cases.several_of(read, TENANT.id, several.identity) == several
        (mixed,) = cases.mixed(read, TENANT.id, 10)
        assert [each.value for each in mixed.people] == ["P1", "P2"] and cases.mixed_of(read, TENANT.id, "1.1") == mixed
        assert cases.nameless(read, TENANT.id, frozenset({"doe"}), 10)[0].value == "P1"
