"""Who might be the same person: what speaks for it and against it; and how corrections and differences are said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiolith.archive.corrections import corrections
from radiolith.archive.difference import compared
from radiolith.archive.likeness import LIKELY, SHOWN_FROM, Traits, likeness, unidentified
from radiolith.model import BadInput, Level, LimitExceeded


def person(name: str = "Müller^Jörg", born: int | None = 19650312, sex: str = "M", id: str = "", **more: Any) -> Traits:
    return Traits(frozenset({(id, "")}) if id else frozenset(), name=name, birth_date=born, sex=sex, **more)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (person("Mueller^Joerg"), "the same name in another spelling"),
        (person("Jörg^Müller"), "family and given name exchanged"),
        (person("Muller^Jürg"), "a name that sounds the same"),
        (person(born=19651203), "day and month of the birth date exchanged"),
        (person(born=19650321), "birth dates that differ by one slip of the keys"),
        (person(born=19650313), "birth dates that differ by one slip of the keys"),
    ],
)
def test_slips_of_people_are_likely_the_same_and_told(other: Traits, reason: str) -> None:
    found = likeness(person(), other)
    assert found.score >= SHOWN_FROM and reason in found.reasons
    assert found == likeness(other, person()), "whichever comes first"


def test_certain_signs_weigh_most_and_others_weigh_against() -> None:
    claims = person("Doe^Jane", None, "", claimed=frozenset({("77", "")}))
    assert likeness(claims, person("Doe^Jane", None, "", "77")).score >= LIKELY
    assert likeness(person(), person()).score >= LIKELY
    same_id = likeness(
        person(id="5"), Traits(frozenset({("5", "medium:X")}), name="Doe^Jane", birth_date=19800101, sex="F")
    )
    assert same_id.score < SHOWN_FROM, "an ID alone of another house says nothing"
    assert same_id.reasons[0] == "the same ID of another issuer" and "another name" in same_id.reasons
    assert likeness(person(), Traits()).score == 0


TEXTS = st.text("MüllerJorgDe^= ", max_size=12)
PEOPLE = st.builds(
    Traits, st.frozensets(st.tuples(st.sampled_from("123"), st.sampled_from(["", "X"]))), st.just(frozenset()), TEXTS,
    st.one_of(st.none(), st.integers(19000101, 20251231)), st.sampled_from(["", "M", "F", "O"]),
)  # fmt: skip


@given(PEOPLE, PEOPLE)
def test_a_likeness_is_the_same_both_ways_and_bounded(one: Traits, other: Traits) -> None:
    found = likeness(one, other)
    assert found == likeness(other, one) and 0 <= found.score <= 100


def test_who_nobody_has_identified() -> None:
    assert unidentified("Notfall^Unbekannt", "7") == "the name has the word 'notfall'"
    assert unidentified("Müller^Jörg", "") == "no patient ID"
    assert unidentified("", "7") == "no patient name"
    assert not unidentified("Doering^Anna", "7")


# ---------------------------------------------------------------- corrections


def test_values_are_said_in_words_numbers_or_json() -> None:
    made = corrections(
        Level.SERIES,
        {"SeriesDescription": "Knie rechts", "(0018,1030)": "P", "SeriesNumber": 5,
         "0009,1001:ACME 1.1": {"vr": "LO", "Value": ["x"]}},
        ["00081070", "0009,1002:ACME 1.1"],
    )  # fmt: skip
    assert made.body() == {
        "set": {
            "0008103E": {"vr": "LO", "Value": ["Knie rechts"]}, "00181030": {"vr": "LO", "Value": ["P"]},
            "00200011": {"vr": "IS", "Value": [5]}, "00090001": {"vr": "LO", "Value": ["x"], "creator": "ACME 1.1"},
        },
        "remove": ["00081070", {"tag": "00090002", "creator": "ACME 1.1"}],
    }  # fmt: skip
    assert corrections(Level.PATIENT, {"PatientName": "Doe^Jane=山田"}).body()["set"] == {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane", "Ideographic": "山田"}]}
    }
    assert corrections(Level.STUDY, {"AccessionNumber": ""}).body()["set"] == {"00080050": {"vr": "SH"}}


@pytest.mark.parametrize(
    ("level", "values", "said"),
    [
        (Level.STUDY, {"PatientName": "x"}, "belongs to the patient"),
        (Level.STUDY, {"Modality": "CT"}, "belongs to the series"),
        (Level.SERIES, {"StudyDate": "20240101"}, "belongs to the study"),
        (Level.STUDY, {"PatientID": "1"}, "move the study to another patient"),
        (Level.PATIENT, {"PatientID": "1"}, "merge the patient into the right one"),
        (Level.SERIES, {"InstanceNumber": "1"}, "each single instance"),
        (Level.STUDY, {"ModalitiesInStudy": "CT"}, "worked out"),
        (Level.STUDY, {"SOPInstanceUID": "1.2"}, "never change"),
        (Level.STUDY, {"StudyInstanceUID": "1.2"}, "moved, not renamed"),
        (Level.STUDY, {"Rows": 5}, "cannot be corrected"),
        (Level.STUDY, {"Nonsense": "x"}, "neither a keyword"),
        (Level.STUDY, {"00091001": "x"}, "creator"),
        (Level.STUDY, {"0009,1001:ACME": "x"}, "in no dictionary"),
        (Level.STUDY, {"RequestAttributesSequence": "x"}, "sequence"),
        (Level.STUDY, {"StudyDescription": True}, "a text, a number"),
        (Level.STUDY, {"StudyID": "1", "00200010": "2"}, "twice"),
        (Level.STUDY, {}, "no attribute"),
    ],
)
def test_what_cannot_be_corrected_is_said_with_what_to_do(level: Level, values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        corrections(level, values)


def test_a_correction_is_bounded() -> None:
    many = {f"(0009,10{number:02X}):ACME": {"vr": "UT", "Value": ["x" * 60_000]} for number in range(5)}
    with pytest.raises(LimitExceeded):
        corrections(Level.STUDY, {key.replace("(", "").replace(")", ""): value for key, value in many.items()})


# ---------------------------------------------------------------- differences


def test_differences_are_named_down_to_the_item() -> None:
    old = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]}, "00080060": {"vr": "CS", "Value": ["CT"]},
        "00400275": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["A"]}}]},
        "00081030": {"vr": "LO", "Value": ["x" * 500]}, "00090010": {"vr": "LO"},
    }  # fmt: skip
    new = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane", "Ideographic": "山"}]}, "00080060": old["00080060"],
        "00400275": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["B"]}}, {}]},
        "7FE00010": {"vr": "OW", "InlineBinary": "AAAA"},
    }  # fmt: skip
    found = {change.keyword: (change.old, change.new) for change in compared(old, new)}
    assert found["PatientName"] == ("Doe^Jane", "Doe^Jane=山")
    assert found["RequestAttributesSequence[1] > ScheduledProcedureStepID"] == ("A", "B")
    assert found["PixelData"] == ("", "3 bytes") and found["StudyDescription"][0].endswith("…")
    assert "Modality" not in found and "(0009,0010)" in found
    assert compared(old, old) == []
