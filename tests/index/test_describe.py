"""What the index takes from a header."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from radiolith.dicom.reader import scan
from radiolith.index.attributes import TEXT_MAX, clean, date, describe, is_indexed, number, time
from radiolith.model import Description, Failure


def described(dataset: Dataset) -> Description:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPInstanceUID = "1.2.3"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return describe(scan(file.getvalue()))


def item(**values: str) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def test_columns_of_every_level() -> None:
    dataset = item(
        SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jörg=山田", PatientID=" 42 ",
        PatientBirthDate="19600101", PatientSex="M",
        StudyDate="20240131", StudyTime="101530.25", AccessionNumber="A1", StudyID="7", Modality="CT", SeriesNumber="3",
        InstanceNumber="12", NumberOfFrames="2", BodyPartExamined="CHEST",
    )  # fmt: skip
    dataset.Rows, dataset.Columns, dataset.BitsAllocated = 512, 256, 16
    found = described(dataset)
    assert found.patient["patient_name"] == "Müller^Jörg=山田"
    assert (found.patient["patient_id"], found.patient["birth_date"], found.patient["issuer_key"]) == (
        "42",
        19600101,
        "",
    )
    assert (found.study["study_date"], found.study["study_time"], found.study["accession"]) == (
        20240131,
        "101530.25",
        "A1",
    )
    assert (found.series["modality"], found.series["number"], found.series["body_part"]) == ("CT", 3, "CHEST")
    assert found.instance == {
        "number": 12, "frames": 2, "row_count": 512, "column_count": 256, "bits": 16, "content_date": None, "content_time": None,
    }  # fmt: skip


def test_the_french_identity() -> None:
    """INS: issuer by OID, traits; the local number is the header's own identifier."""
    dataset = item(PatientID="LOCAL", IssuerOfPatientID="CHU", PatientBirthName="Durand")
    ins = item(PatientID="279035121518989", TypeOfPatientID="TEXT")
    ins.IssuerOfPatientIDQualifiersSequence = [
        item(UniversalEntityID="1.2.250.1.213.1.4.8", UniversalEntityIDType="ISO", IdentifierTypeCode="INS")
    ]
    dataset.OtherPatientIDsSequence = [ins]
    found = described(dataset).patient
    assert (found["issuer"], found["issuer_key"]) == ("CHU", "CHU")
    (claimed,) = json.loads(str(found["claimed"]))
    assert claimed[:3] == ["279035121518989", "1.2.250.1.213.1.4.8", "ISO"]
    assert json.loads(str(found["traits"])) == {"birth_name": "Durand"}


def test_the_universal_issuer_is_the_identitys() -> None:
    dataset = item(PatientID="1", IssuerOfPatientID="CHU")
    dataset.IssuerOfPatientIDQualifiersSequence = [item(UniversalEntityID="1.2.3", UniversalEntityIDType="ISO")]
    found = described(dataset).patient
    assert (found["issuer"], found["issuer_key"], found["issuer_type"]) == ("CHU", "1.2.3", "ISO")


def test_sequences() -> None:
    dataset = item(AccessionNumber="A")
    dataset.IssuerOfAccessionNumberSequence = [
        item(LocalNamespaceEntityID="RIS", UniversalEntityID="1.2", UniversalEntityIDType="ISO")
    ]
    dataset.RequestAttributesSequence = [
        item(ScheduledProcedureStepID="S", RequestedProcedureID="R"),
        item(RequestedProcedureID="R2"),
    ]
    found = described(dataset)
    assert found.study["accession_issuer"] == "RIS&1.2&ISO"
    assert [one[:2] for one in json.loads(str(found.series["requests"]))] == [["S", "R"], ["", "R2"]]


@pytest.mark.parametrize(
    ("read", "value", "wanted"),
    [
        (date, "20240131", 20240131), (date, "2024.01.31", 20240131), (date, "20241301", None), (date, "yesterday", None),
        (date, "", None), (time, "1015", "1015"), (time, "10:15:30", "101530"), (time, "101530.123456", "101530.123456"),
        (time, "25", None), (time, "1060", None), (number, " 7 ", 7), (number, "-3", -3), (number, "1.0", 1), (number, "1\\2", 1),
        (number, "9" * 30, None), (number, "x", None), (number, "inf", None), (number, "٣", 3),
        (clean, " a\x00b\n ", "ab"), (clean, "\x00", None),
        (clean, "x" * 999, "x" * TEXT_MAX), (clean, "a\ud800b", "ab"),
    ],
)  # fmt: skip
def test_values_that_break_their_vr_are_empty(read: object, value: str, wanted: object) -> None:
    assert read(value) == wanted  # type: ignore[operator]


def test_what_the_index_can_return() -> None:
    assert is_indexed((0x00100010,)) and is_indexed((0x00400275,)) and is_indexed((0x00400275, 0x00400009))
    assert not is_indexed((0x00181030, 0x1)) and not is_indexed((0x00180050,))


def test_every_file_of_the_corpus_is_described(corpus_files: list[Path]) -> None:
    tried = 0
    for path in corpus_files:
        if path.stat().st_size > 4 << 20:
            continue
        try:
            found = scan(path.read_bytes())
        except Failure:
            continue
        made = describe(found)
        tried += 1
        for level in (made.patient, made.study, made.series, made.instance):
            for value in level.values():
                assert value is None or (isinstance(value, (str, int)) and "\x00" not in str(value))
                str(value).encode()
    print(f"{tried} files described")
    assert tried > 50
