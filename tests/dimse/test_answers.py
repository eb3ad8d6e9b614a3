"""Rows as identifiers: the bytes, the character sets, and that pydicom reads what was meant."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from radiolith.dicom import charset as charsets
from radiolith.dicom.charset_out import encode
from radiolith.dimse.answers import Answers
from radiolith.dimse.identifiers import read_query
from radiolith.dimse.infomodels import STUDY_ROOT
from radiolith.model import Row
from tests.dimse.keys import EXPLICIT, IMPLICIT, SYNTAXES, decoded, encoded, keys

ROW: Row = {
    0x00080005: ("CS", "ISO_IR 192"),
    0x00080020: ("DA", "20240131"),
    0x00080030: ("TM", None),
    0x00080050: ("SH", "A1"),
    0x00080061: ("CS", "CT\\MR"),
    0x00100010: ("PN", "Smith^John"),
    0x0020000D: ("UI", "1.2.3"),
    0x00201206: ("IS", 3),
    0x00280010: ("US", 512),
}


def answers(sent: Dataset, syntax: str = EXPLICIT, charset: tuple[str, ...] = ()) -> Answers:
    return Answers(read_query(encoded(sent, syntax), syntax, STUDY_ROOT), syntax, "ARCHIVE", charset)


def test_golden_bytes() -> None:
    sent = keys(charset="", AccessionNumber="A*", StudyTime="", StudyInstanceUID="", NumberOfStudyRelatedSeries="")
    assert answers(sent).encode(ROW) == (
        b"\x08\0\x30\0TM\0\0"
        b"\x08\0\x50\0SH\x02\0A1"
        b"\x08\0\x52\0CS\x06\0STUDY "
        b"\x08\0\x54\0AE\x08\0ARCHIVE "
        b"\x20\0\x0d\0UI\x06\x001.2.3\0"
        b"\x20\0\x06\x12IS\x02\x003 "
    )
    assert answers(sent, IMPLICIT).encode(ROW)[:18] == b"\x08\0\x30\0\0\0\0\0\x08\0\x50\0\x02\0\0\0A1"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_was_asked_comes_back(syntax: str) -> None:
    sent = keys(
        PatientName="", StudyDate="2024-", ModalitiesInStudy="", Rows=None, InstanceAvailability="", PatientWeight="",
        RequestAttributesSequence={"RequestedProcedureID": "", "ScheduledProcedureStepID": "S"}, FrameIncrementPointer=None,
        ReferencedStudySequence=None, ExposureTime="", DetectorActiveDimensions="", EventElapsedTimes=None,
    )  # fmt: skip
    row: Row = {
        **ROW,
        0x00100010: ("PN", "Müller^Jörg"),
        0x00101030: ("DS", "70.5"),
        0x00280009: ("AT", "00181063\\00181065"),
        0x00082130: ("DS", "1\\2.5"),
        0x00081110: ("SQ", [{0x00081155: ("UI", "1.2"), 0x00081150: ("UI", "1.3"), 0x00081199: ("SQ", [])}]),
        0x00400275: ("SQ", [{0x00400009: ("SH", "é"), 0x00400007: ("LO", "x")}, {}]),
    }
    data = answers(sent, syntax).encode(row)
    found: Any = decoded(data, syntax)
    assert set(found.keys()) == {*sent.keys(), 0x00080054}
    assert (found.SpecificCharacterSet, found.QueryRetrieveLevel) == ("ISO_IR 192", "STUDY")
    assert (found.RetrieveAETitle, found.InstanceAvailability) == ("ARCHIVE", "ONLINE")
    assert str(found.PatientName) == "Müller^Jörg"
    assert list(found.ModalitiesInStudy) == ["CT", "MR"]
    assert found.Rows == 512
    assert found.PatientWeight == 70.5
    assert found.FrameIncrementPointer == [0x00181063, 0x00181065]
    assert found.EventElapsedTimes == [1, 2.5]
    assert found["ExposureTime"].is_empty
    assert [item.ReferencedSOPInstanceUID for item in found.ReferencedStudySequence] == ["1.2"]
    first, second = found.RequestAttributesSequence
    assert set(first.keys()) == set(second.keys()) == {0x00400009, 0x00401001}
    assert (first.ScheduledProcedureStepID, second.RequestedProcedureID or "") == ("é", "")


def test_the_character_set_is_named_only_where_it_is_needed() -> None:
    sent = keys(charset="ISO_IR 192", PatientName="")
    assert "SpecificCharacterSet" not in decoded(answers(sent).encode(ROW), EXPLICIT)
    assert 0x00080005 in decoded(answers(sent).encode({**ROW, 0x00100010: ("PN", "é")}), EXPLICIT)


CHARSETS = [
    (("ISO_IR 100",), "Müller^Jörg"), (("ISO_IR 101",), "Wałęsa"), (("ISO_IR 144",), "Иванов^Иван"),
    (("ISO_IR 127",), "قباني^لنزار"), (("ISO_IR 126",), "Διονυσιος"), (("ISO_IR 138",), "שרון^דבורה"),
    (("ISO_IR 148",), "Çavuşoğlu"), (("ISO_IR 166",), "นามสกุล"), (("ISO_IR 13",), "ﾔﾏﾀﾞ^ﾀﾛｳ"), (("GB18030",), "王^小东"),
    (("GBK",), "王^小东"), (("ISO_IR 192",), "王^小东é"), (("", "ISO 2022 IR 87"), "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (("ISO 2022 IR 13", "ISO 2022 IR 87"), "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"), (("", "ISO 2022 IR 149"), "Hong^Gildong=洪^吉洞"),
    (("", "ISO 2022 IR 58"), "Zhang^XiaoDong=张^小东"), (("ISO 2022 IR 100", "ISO 2022 IR 144"), "Müller^Иван"),
    (("", "ISO 2022 IR 87", "ISO 2022 IR 159"), "Yamada=丂田"),
]  # fmt: skip


@pytest.mark.parametrize(("charset", "name"), CHARSETS)
def test_text_in_the_peers_character_set(charset: tuple[str, ...], name: str) -> None:
    sent = keys(charset="", PatientName="")
    found: Any = decoded(answers(sent, EXPLICIT, charset).encode({**ROW, 0x00100010: ("PN", name)}), EXPLICIT)
    raw = encode(name, charset)
    assert raw is not None
    assert charsets.decode(raw, charset, "PN") == name
    assert tuple([found.SpecificCharacterSet] if len(charset) == 1 else found.SpecificCharacterSet) == charset
    shown = str(found.PatientName).replace("\x1b$)A", "")  # pydicom 3.0 leaves the escapes of ISO-IR 58 standing
    assert shown == name


@pytest.mark.parametrize(
    "charset", [("ISO_IR 100",), ("ISO_IR 13",), ("", "ISO 2022 IR 149"), ("what",), ("", "ISO 2022 IR 159")]
)
def test_what_does_not_fit_goes_out_as_utf_8(charset: tuple[str, ...]) -> None:
    assert encode("Müller^😀", charset) is None
    sent = keys(charset="", PatientName="", StudyDescription="")
    row: Row = {**ROW, 0x00081030: ("LO", "é"), 0x00100010: ("PN", "Müller^😀")}
    found: Any = decoded(answers(sent, EXPLICIT, charset).encode(row), EXPLICIT)
    assert (found.SpecificCharacterSet, found.PatientName, found.StudyDescription) == ("ISO_IR 192", "Müller^😀", "é")


def test_the_request_says_what_the_peer_reads() -> None:
    sent = keys(charset="ISO_IR 100", PatientName="")
    found = decoded(answers(sent).encode({**ROW, 0x00100010: ("PN", "Jörg")}), EXPLICIT)
    assert found.SpecificCharacterSet == "ISO_IR 100"


def test_a_private_key_is_answered_from_the_block_of_its_creator() -> None:
    sent = keys(PatientName="")
    block = sent.private_block(0x0029, "OURS", create=True)
    block.add_new(1, "LO", "")
    block.add_new(2, "LO", "")
    made = answers(sent)
    row: Row = {**ROW, 0x00290010: ("LO", "OURS"), 0x00291001: ("LO", "x")}
    found = decoded(made.encode(row), EXPLICIT)
    assert (found[0x00291001].value, found[0x00291002].value or "") == ("x", "")
    other = decoded(made.encode({**row, 0x00290010: ("LO", "OTHERS")}), EXPLICIT)
    assert not other[0x00291001].value


def test_what_a_vr_cannot_hold_is_left_empty() -> None:
    sent = keys(Rows=None, PatientWeight="", StudyDescription="", FrameIncrementPointer=None)
    row: Row = {0x00280010: ("US", "70000"), 0x00280009: ("AT", "x"), 0x00081030: ("LO", "x" * 70_000)}
    data = answers(sent).encode(row)
    assert b"\x08\0\x30\x10UN\0\0" + (70_000).to_bytes(4, "little") in data  # PS3.5 6.2.2 note 5
    found = decoded(data, EXPLICIT)
    assert found["Rows"].is_empty
    assert found["FrameIncrementPointer"].is_empty
