"""What can be corrected, and what is said about what cannot."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiolith.dicom import syntax
from radiolith.dicom.edits import edits_from, texts_of
from radiolith.model import BadInput, Edit
from tests.dicom.amending import apply, model, overlay, step


def test_keywords_tags_private_ones_and_what_is_removed() -> None:
    document = {
        "set": {
            "PatientName": {"Value": [{"Alphabetic": "Doe^Jane", "Ideographic": "山田"}]},
            "00101000": {"vr": "LO", "Value": ["a", "b"]},
            "0009AB01": {"vr": "LO", "creator": "ACME 1.1", "Value": ["x"]},
            "StudyDate": {"vr": "DA"},
            "PatientSize": {"Value": [1.75]},
        },
        "remove": ["PatientAge", "00091102:ACME 1.1"],
    }
    edits = edits_from(document)
    assert [(f"{e.tag:08X}", e.vr, e.creator, e.value is None) for e in edits] == [
        ("00080020", "DA", "", False),
        ("00090001", "LO", "ACME 1.1", False),
        ("00090002", "UN", "ACME 1.1", True),
        ("00100010", "PN", "", False),
        ("00101000", "LO", "", False),
        ("00101010", "AS", "", True),
        ("00101020", "DS", "", False),
    ]
    assert [texts_of(edit) for edit in edits] == [
        *[(), ("x",), (), ("Doe^Jane=山田",), ("a", "b"), (), ("1.75",)],
    ]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "no attribute"),
        ({"set": []}, "no object"),
        ({"set": {"PatientNmae": {"Value": ["x"]}}}, "neither a keyword"),
        ({"set": {"SOPInstanceUID": {"Value": ["1.2"]}}}, "never change"),
        ({"set": {"StudyInstanceUID": {"Value": ["1.2"]}}}, "moved"),
        ({"set": {"SpecificCharacterSet": {"Value": ["ISO_IR 100"]}}}, "character set"),
        ({"set": {"Rows": {"vr": "US", "Value": [3]}}}, "not for corrections"),
        ({"set": {"PixelData": {"vr": "OW"}}}, "not for corrections"),
        ({"set": {"ReasonForTheAttributeModification": {"Value": ["X"]}}}, "keeps what was changed"),
        ({"remove": ["PerFrameFunctionalGroupsSequence"]}, "describes the frames"),
        ({"set": {"00091001": {"vr": "LO", "Value": ["x"]}}}, "creator is missing"),
        ({"set": {"00090010": {"vr": "LO", "Value": ["x"]}}}, "creator of a private block"),
        ({"set": {"PatientName": {"vr": "LO", "Value": ["x"]}}}, "PatientName (0010,0010) has the VR PN"),
        ({"set": {"PatientName": {"Value": ["x"]}}}, "Alphabetic"),
        ({"set": {"PatientName": {"Value": [{"Alphabetic": "a^b^c^d^e^f"}]}}}, "5 components"),
        ({"set": {"PatientID": {"Value": ["x" * 65]}}}, "at most 64"),
        ({"set": {"PatientID": {"Value": ["x\\y"]}}}, "cannot have"),
        ({"set": {"PatientID": {"Value": ["x\n"]}}}, "cannot have"),
        ({"set": {"PatientID": {"Value": ["x", "y"]}}}, "PatientID (0010,0020) has 1 values, not 2"),
        ({"set": {"PatientBirthDate": {"Value": ["20260230"]}}}, "no DA that there is"),
        ({"set": {"StudyTime": {"Value": ["2561"]}}}, "no TM that there is"),
        ({"set": {"PatientSex": {"Value": ["f"]}}}, "not written as CS"),
        ({"set": {"PatientAge": {"Value": ["45"]}}}, "not written as AS"),
        ({"set": {"FrameOfReferenceUID": {"Value": ["1.02"]}}}, "not written as UI"),
        ({"set": {"PatientSize": {"Value": ["1,75"]}}}, "not written as DS"),
        ({"set": {"SeriesNumber": {"Value": [3_000_000_000]}}}, "no IS that there is"),
        ({"set": {"SeriesNumber": {"Value": [float("nan")]}}}, "does not fit"),
        ({"set": {"00101002": {"vr": "SQ", "Value": [{"00090010": {"vr": "LO"}}]}}}, "cannot stand"),
        ({"set": {"PatientID": {"InlineBinary": "AA=="}}}, "nothing that can be set"),
        ({"set": {"PatientID": {"Value": ["x"]}, "00100020": {"Value": ["y"]}}}, "twice"),
        ({"set": {"PatientID": {"Value": ["x"]}}, "remove": ["PatientID"]}, "twice"),
    ],
)
def test_refused_with_the_reason(document: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match="^(?s:.*)" + said.replace("(", "\\(").replace(")", "\\)")):
        edits_from(document)


def test_what_names_the_patient_is_refused_below_the_patient() -> None:
    document = {"set": {"PatientID": {"Value": ["1"]}}}
    assert edits_from(document)
    with pytest.raises(BadInput, match="move the study"):
        edits_from(document, level="STUDY")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["vr", "Value", "creator", "Alphabetic", "set", "remove", "00100010"])
            | st.text(max_size=9),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
TAGS = st.sampled_from(
    *[
        [
            "PatientName",
            "00100020",
            "00091001",
            "SeriesNumber",
            "00101002",
            "StudyDate",
            "00189073",
            "ImageComments",
            "X",
        ]
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        TAGS,
        st.fixed_dictionaries(
            {"Value": st.lists(JSON, max_size=3)},
            optional={"vr": st.sampled_from(["PN", "LO", "SQ", "FD", "DA", "UN"]), "creator": st.text(max_size=5)},
        )
        | JSON,
        min_size=1,
        max_size=3,
    ),
    JSON,
)
def test_anything_is_refused_or_can_be_written(attributes: dict[str, object], removals: object) -> None:
    try:
        edits = edits_from({"set": attributes, "remove": removals if removals is not None else []})
    except BadInput:
        return
    header = apply(b"", syntax.EXPLICIT_LE, overlay(step(*edits)))
    after = model(header, syntax.EXPLICIT_LE)
    assert _shown(edits) <= after.keys()


def _shown(edits: tuple[Edit, ...]) -> set[str]:
    return {f"{edit.tag:08X}" for edit in edits if edit.value is not None and not edit.creator}


def test_values_come_back_as_they_were_given() -> None:
    document = {
        "set": {
            "00101002": {"vr": "SQ", "Value": [{"00100020": {"vr": "LO", "Value": ["Ä1"]}}]},
            "00189073": {"vr": "FD", "Value": [1.5]},
        }
    }
    for encoding in (syntax.EXPLICIT_LE, syntax.IMPLICIT_LE, syntax.EXPLICIT_BE):
        after = model(apply(b"", encoding, overlay(step(*edits_from(document)))), encoding)
        for key, value in document["set"].items():
            assert orjson.dumps(after[key]) == orjson.dumps(value)
