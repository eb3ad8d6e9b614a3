"""Non-patient objects by their SOP class, on both databases."""

from __future__ import annotations

from dataclasses import replace

from radiolith.index import figures, instances, nonpatient
from radiolith.index.database import Database
from radiolith.model import Identity
from tests.index.conftest import TENANT
from tests.index.objects import CLASSES, Maker

HANGING, PALETTE = "1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.39.1"


def test_a_list_of_one_category(database: Database) -> None:
    maker = Maker(3)
    kinds = [HANGING, PALETTE, HANGING, HANGING, CLASSES[0]]
    made = [
        maker.one(Identity("", "", f"1.9.{number}"), sop_class=kind, policy="first")
        for number, kind in enumerate(kinds)
    ]
    version = replace(maker.one(made[0].identity), sop_class=HANGING, policy="first")
    in_a_study = maker.one(sop_class=HANGING)
    with database.write() as tx:
        instances.insert(tx, [*made, version, in_a_study])

    def listed(*classes: str, limit: int = 9, after: nonpatient.Position = nonpatient.START) -> list[str]:
        with database.read() as read:
            return [held.identity.sop for held in nonpatient.listed(read, TENANT.id, classes, after, limit)]

    assert sorted(listed(HANGING)) == ["1.9.0", "1.9.2", "1.9.3"]
    assert sorted(listed(HANGING, PALETTE)) == ["1.9.0", "1.9.1", "1.9.2", "1.9.3"]
    assert listed("1.2.3") == listed() == []
    with database.read() as read:
        pages, after = list[str](), nonpatient.START
        while block := list(nonpatient.listed(read, TENANT.id, [HANGING], after, 1)):
            pages.append(block[0].identity.sop)
            after = nonpatient.position(block[0])
        assert pages == listed(HANGING)
        assert list(nonpatient.listed(read, TENANT.id + 1, [HANGING], nonpatient.START, 9)) == []


def test_they_are_counted_beside_the_studies(database: Database) -> None:
    maker = Maker(4)
    made = [maker.one(Identity("", "", f"1.9.{number}"), sop_class=PALETTE, policy="first") for number in range(3)]
    in_a_study = maker.one()
    with database.write() as tx:
        instances.insert(tx, [*made, in_a_study])
    with database.read() as read:
        found = figures.held(read, TENANT.id)
        assert (found["studies"], found["series"], found["instances"], found["non_patient"]) == (1, 1, 1, 3)
        assert set(figures.held(read, TENANT.id + 1).values()) == {0}


def test_an_empty_archive_has_none(database: Database) -> None:
    with database.read() as read:
        assert list(nonpatient.listed(read, TENANT.id, [HANGING], nonpatient.START, 9)) == []
