"""Searching by labels and by attributes that a setting made searchable, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from radiolith.index import also, extras, facts, instances, search
from radiolith.index.attributes import BY_PATH, LABEL_CREATOR, LABEL_CREATOR_TAG, LABELS, Matching
from radiolith.index.database import Database
from radiolith.index.extras import Extras, parse
from radiolith.index.search import search as find
from radiolith.model import BadInput, Fact, Identity, Level, Match, Page, Query
from tests.index.conftest import TENANT
from tests.index.objects import Maker

UID = {Level.STUDY: 0x0020000D, Level.SERIES: 0x0020000E, Level.INSTANCE: 0x00080018}
PATIENT_LABELS, STUDY_LABELS, SERIES_LABELS = (label.path for label in LABELS)


def ask(
    database: Database, level: Level, path: tuple[int, ...], value: str, known: Extras = extras.NONE, **more: object
) -> Page:
    with database.read() as read:
        query = Query(level, (Match(path, (value,)),), **more)  # type: ignore[arg-type]
        page = find(read, TENANT.id, query, known)
        assert search.count(read, TENANT.id, query, known).number >= len(page.rows)
        return page


def uids(page: Page, level: Level = Level.STUDY) -> set[str]:
    return {str(row[UID[level]][1]) for row in page.rows}


# ---------------------------------------------------------------- labels


@pytest.fixture
def labelled(database: Database) -> Database:
    """Studies 1 to 4 of patients P1 to P4, each with the series N.1 and N.2."""
    maker = Maker(5)
    with database.write() as tx:
        for study in "1234":
            for series in "12":
                one = maker.one(Identity(study, f"{study}.{series}", f"{study}.{series}.1"))
                one.description.patient.update(
                    {"patient_id": f"P{study}", "issuer_key": "", "issuer": None, "claimed": None}
                )
                instances.insert(tx, [one])
        said = [
            (["study", "1"], "urgent", ""), (["study", "1"], "ward", "3"), (["study", "2"], "ward", "4"),
            (["study", "3"], "wards", ""), (["series", "2", "2.1"], "keep", ""), (["patient", "P3", ""], "vip", ""),
        ]  # fmt: skip
        for number, (of, name, value) in enumerate(said, 1):
            body: dict[str, object] = {"op": f"{number:032x}", "of": [of], "name": name, "value": value, "gone": False}
            facts.apply(tx, Fact("label", number, "ann", TENANT.uid, body), number.to_bytes(16, "big"))
    return database


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("urgent", {"1"}), ("URGENT", {"1"}), ("ward", {"1", "2"}), ("ward=3", {"1"}), ("ward=*", {"1", "2"}),
        ("ward*", {"1", "2", "3"}), ("*gent", {"1"}), ("ward=5", set()), ("nothing", set()), ("w%", set()), ("'", set()),
    ],
)  # fmt: skip
def test_studies_are_found_by_their_labels(labelled: Database, value: str, found: set[str]) -> None:
    assert uids(ask(labelled, Level.STUDY, STUDY_LABELS, value)) == found


def test_labels_of_other_levels_find_what_is_above_and_below(labelled: Database) -> None:
    assert uids(ask(labelled, Level.STUDY, SERIES_LABELS, "keep")) == {"2"}
    assert uids(ask(labelled, Level.SERIES, SERIES_LABELS, "keep"), Level.SERIES) == {"2.1"}
    assert uids(ask(labelled, Level.STUDY, PATIENT_LABELS, "vip")) == {"3"}
    assert uids(ask(labelled, Level.INSTANCE, STUDY_LABELS, "urgent"), Level.INSTANCE) == {"1.1.1", "1.2.1"}
    assert [row[0x00100020][1] for row in ask(labelled, Level.PATIENT, STUDY_LABELS, "ward").rows] == ["P2", "P1"]
    assert [row[0x00100020][1] for row in ask(labelled, Level.PATIENT, PATIENT_LABELS, "vip").rows] == ["P3"]


def test_what_has_no_label_is_found_where_empty_values_may_be_asked_for(labelled: Database) -> None:
    assert uids(ask(labelled, Level.STUDY, STUDY_LABELS, '""', empty_values=True)) == {"4"}


def test_labels_are_returned_when_asked_for_and_never_else(labelled: Database) -> None:
    row = ask(labelled, Level.STUDY, STUDY_LABELS, "urgent").rows[0]
    assert row[STUDY_LABELS[0]] == ("LO", "urgent\\ward=3")
    assert row[LABEL_CREATOR_TAG] == ("LO", LABEL_CREATOR)
    with labelled.read() as read:
        everything = find(read, TENANT.id, Query(Level.STUDY, include_all=True)).rows
        wanted = find(read, TENANT.id, Query(Level.SERIES, include=(PATIENT_LABELS, SERIES_LABELS))).rows
        patients = find(read, TENANT.id, Query(Level.PATIENT, include=(PATIENT_LABELS,))).rows
    assert not any(tag >> 16 == 0x7777 for row in everything for tag in row)
    shown = {str(row[0x0020000E][1]): (row[PATIENT_LABELS[0]][1], row[SERIES_LABELS[0]][1]) for row in wanted}
    assert shown["3.1"] == ("vip", "") and shown["2.1"] == ("", "keep") and shown["2.2"] == ("", "")
    assert {row[0x00100020][1]: row[PATIENT_LABELS[0]][1] for row in patients}["P3"] == "vip"


def test_the_same_element_of_another_creator_is_no_label(labelled: Database) -> None:
    with labelled.read() as read:
        page = find(read, TENANT.id, Query(Level.STUDY, (Match(STUDY_LABELS, ("urgent",), "OTHER"),)))
    assert len(page.rows) == 4 and page.warnings


# ---------------------------------------------------------------- attributes of the setting

SETTING = [
    "PatientAddress", "KVP", "DateOfLastCalibration", "TimeOfLastCalibration", "AcquisitionDateTime", "OperatorsName",
    "FrameOfReferenceUID", "0009,1001:ACME 1.1", "ReferencedImageSequence.ReferencedSOPInstanceUID", "ImageType",
]  # fmt: skip


@pytest.fixture
def filled(database: Database) -> tuple[Database, Extras]:
    known = parse(SETTING)
    maker = Maker(6)
    told: dict[str, list[tuple[str, str]]] = {
        "1": [
            ("PatientAddress", "Main Street 1"),
            ("KVP", "120"),
            ("DateOfLastCalibration", "20240131"),
            ("ImageType", "AXIAL"),
        ],
        "2": [
            ("PatientAddress", "Main Road 2"),
            ("TimeOfLastCalibration", "1015"),
            ("AcquisitionDateTime", "20240131101530.5"),
        ],
        "3": [("OperatorsName", "muller^jorg"), ("0009,xx01:ACME 1.1", "blue"), ("FrameOfReferenceUID", "1.2.3")],
        "4": [],
    }
    with database.write() as tx:
        for study, values in told.items():
            one = maker.one(Identity(study, f"{study}.1", f"{study}.1.1"))
            instances.insert(tx, [replace(one, description=replace(one.description, extras=tuple(values)))])
        extras.begin(tx, [one.name for one in known.known], 1)
        extras.complete(tx, [one.name for one in known.known], 2)
    return database, known


@pytest.mark.parametrize(
    ("keyword", "value", "found"),
    [
        ("PatientAddress", "Main*", {"1", "2"}), ("PatientAddress", "Main Street 1", {"1"}), ("PatientAddress", "main*", set()),
        ("KVP", "120", {"1"}), ("KVP", "1.2e2", {"1"}), ("KVP", "121", set()), ("ImageType", "AXIAL", {"1"}),
        ("DateOfLastCalibration", "20240101-20240201", {"1"}), ("DateOfLastCalibration", "-20240130", set()),
        ("TimeOfLastCalibration", "10-11", {"2"}), ("TimeOfLastCalibration", "1016-", set()),
        ("AcquisitionDateTime", "20240131", {"2"}), ("AcquisitionDateTime", "20240131101531-", set()),
        ("AcquisitionDateTime", "2024-2025", {"2"}), ("OperatorsName", "Müller", {"3"}), ("OperatorsName", "Mul*", {"3"}),
        ("0009,xx01:ACME 1.1", "bl?e", {"3"}), ("FrameOfReferenceUID", "1.2.3", {"3"}), ("PatientAddress", "100%", set()),
    ],
)  # fmt: skip
def test_an_attribute_of_the_setting_is_matched_by_the_rules_of_its_vr(
    filled: tuple[Database, Extras], keyword: str, value: str, found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, known = filled
    path = next(one.path for one in known.known if one.name == keyword)
    for most in (also.DRIVEN_MAX, 0):  # led by the values, and as a condition on what the dates lead to
        monkeypatch.setattr(also, "DRIVEN_MAX", most)
        page = ask(database, Level.STUDY, path, value, known)
        assert uids(page) == found
        assert not page.warnings
    instances_found = ask(database, Level.INSTANCE, path, value, known)
    assert uids(instances_found, Level.INSTANCE) == {f"{study}.1.1" for study in found}


def test_a_private_attribute_is_asked_for_in_any_block_of_its_creator_and_no_other(
    filled: tuple[Database, Extras],
) -> None:
    database, known = filled
    for tag, creator, expected in (
        (0x00091001, "ACME 1.1", {"3"}), (0x00094201, "ACME 1.1", {"3"}), (0x00091001, "", {"3"}),
        (0x00091001, "OTHER", {"1", "2", "3", "4"}),
    ):  # fmt: skip
        with database.read() as read:
            page = find(read, TENANT.id, Query(Level.STUDY, (Match((tag,), ("blue",), creator),)), known)
        assert uids(page) == expected
        assert bool(page.warnings) is (len(expected) == 4)


def test_until_it_is_filled_in_a_warning_says_how_far(filled: tuple[Database, Extras]) -> None:
    database, known = filled
    with database.write() as tx:
        tx.run("UPDATE extra_fills SET done_row = 1, last_row = 4, state = 0 WHERE attribute = 'KVP'")
    assert "25 %" in ask(database, Level.STUDY, (0x00180060,), "120", known).warnings[0]
    with database.write() as tx:
        extras.advance(tx, "KVP", 4, 5)
        extras.advance(tx, "KVP", 2, 6)
    assert ask(database, Level.STUDY, (0x00180060,), "120", known).warnings == ()


def test_a_setting_that_was_taken_away_no_longer_matches_and_its_values_go(filled: tuple[Database, Extras]) -> None:
    database, _ = filled
    page = ask(database, Level.STUDY, (0x00180060,), "120")
    assert len(page.rows) == 4 and "not an indexed key" in page.warnings[0]
    with database.write() as tx:
        assert not extras.forget(tx, "PatientAddress", 1)
        assert extras.forget(tx, "PatientAddress", 2)
        assert "PatientAddress" not in {one.name for one in extras.fills(tx)}
        assert tx.one("SELECT COUNT(*) FROM extras WHERE value LIKE 'Main%'") == (0,)


@pytest.mark.parametrize(
    "setting", ["PatientName", "PixelData", "Nonsense", "0009,1001", "0010,1001:X", "ReferencedImageSequence"]
)
def test_a_setting_that_names_no_searchable_attribute_is_refused(setting: str) -> None:
    with pytest.raises(BadInput, match=r"index\.attributes"):
        parse([setting])


def test_more_attributes_than_the_limit_are_refused() -> None:
    with pytest.raises(BadInput, match="at most"):
        parse([f"0009,10{number:02X}:ACME" for number in range(extras.ATTRIBUTES_MAX + 1)])


@pytest.mark.parametrize(
    ("keyword", "value"), [("KVP", "many"), ("DateOfLastCalibration", "soon"), ("AcquisitionDateTime", "now")]
)
def test_a_value_that_its_vr_does_not_allow_is_refused(
    filled: tuple[Database, Extras], keyword: str, value: str
) -> None:
    database, known = filled
    path = next(one.path for one in known.known if one.name == keyword)
    with pytest.raises(BadInput, match=keyword):
        ask(database, Level.STUDY, path, value, known)


def test_no_label_takes_the_place_of_an_attribute() -> None:
    assert [one for one in BY_PATH.values() if one.matching is Matching.EXTRA] == []
