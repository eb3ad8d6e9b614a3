"""What identifiers ask for: every syntax and character set, the rules of the models, and what is refused."""

from __future__ import annotations

import zlib
from random import Random
from typing import Any

import pytest
from pydicom.dataset import Dataset

from radiolith.dimse.identifiers import (
    DEPTH_MAX,
    IDENTIFIER_MAX,
    KEYS_MAX,
    UIDS_MAX,
    Retrieval,
    read_query,
    read_retrieval,
)
from radiolith.dimse.infomodels import (
    BASELINE,
    INSTANCES,
    MODELS,
    PATIENT_ROOT,
    PATIENT_STUDY_ONLY,
    STUDY_ROOT,
    Model,
    Negotiated,
    answer_query,
    answer_retrieval,
)
from radiolith.dimse.status import Refused
from radiolith.model import BadInput, Level, LimitExceeded, Match
from tests import campaign
from tests.dimse.keys import BIG, DEFLATED, EXPLICIT, IMPLICIT, SYNTAXES, encoded, keys

RELATIONAL = Negotiated(relational=True)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_keys_of_every_kind_in_every_syntax(syntax: str) -> None:
    asked = read_query(
        encoded(
            keys(
                PatientName="Mül*^J?rg",
                PatientID="P1",
                StudyDate="20240101-20240131",
                StudyTime="",
                AccessionNumber="A*",
                StudyInstanceUID=["1.2.3", "1.2.4"],
                ModalitiesInStudy=["CT", "MR"],
                Rows=512,
                NumberOfStudyRelatedSeries=None,
                TimezoneOffsetFromUTC="+0100",
                RetrieveAETitle="",
                RequestAttributesSequence={"ScheduledProcedureStepID": "S1", "RequestedProcedureID": ""},
                ProcedureCodeSequence=None,
            ),
            syntax,
        ),
        syntax,
        STUDY_ROOT,
    )
    assert asked.query.level is Level.STUDY
    assert asked.query.matches == (
        Match((0x00080020,), ("20240101-20240131",)),
        Match((0x00080050,), ("A*",)),
        Match((0x00080061,), ("CT", "MR")),
        Match((0x00100010,), ("Mül*^J?rg",)),
        Match((0x00100020,), ("P1",)),
        Match((0x0020000D,), ("1.2.3", "1.2.4")),
        Match((0x00280010,), ("512",)),
        Match((0x00400275, 0x00400009), ("S1",)),
    )
    assert asked.charset == ("ISO_IR 192",)
    assert set(asked.keys[0x00400275].inner or ()) == {0x00400009, 0x00401001}
    assert asked.keys[0x00081032].inner == {}
    assert (0x00080201,) in asked.query.include
    assert (0x00080054,) not in asked.query.include
    assert (0x00400275, 0x00401001) in asked.query.include
    assert asked.unsupported  # Rows are of instances, not of studies


def test_what_every_study_has_is_supported() -> None:
    asked = read_query(encoded(keys(PatientName="", PatientAge="", StudyDate="")), IMPLICIT, STUDY_ROOT)
    assert not asked.unsupported
    assert read_query(encoded(keys("PATIENT", PatientAge="")), IMPLICIT, PATIENT_ROOT).unsupported
    assert read_query(encoded(keys(Modality="")), IMPLICIT, STUDY_ROOT).unsupported


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("", "Smith^John"), ("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 101", "Wałęsa^Lech"), ("ISO_IR 109", "Ĝ^Ħ"),
        ("ISO_IR 110", "Bērziņš^A"), ("ISO_IR 144", "Люкceмбypг"), ("ISO_IR 127", "قباني^لنزار"), ("ISO_IR 126", "Διονυσιος"),
        ("ISO_IR 138", "שרון^דבורה"), ("ISO_IR 148", "Çavuşoğlu^I"), ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"), ("ISO_IR 166", "นามสกุล^ช"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"), ("GB18030", "Wang^XiaoDong=王^小东"), ("GBK", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"), (["", "ISO 2022 IR 58"], "Zhang^XiaoDong=张^小东"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
        (["ISO 2022 IR 100", "ISO 2022 IR 144"], "Müller^Иван"),
    ],
)  # fmt: skip
def test_character_sets(charset: str | list[str], name: str) -> None:
    sent = encoded(keys(charset=charset, PatientName=name, PatientID="P"))
    assert read_query(sent, IMPLICIT, STUDY_ROOT).query.matches[0] == Match((0x00100010,), (name,))


def test_an_item_may_have_a_character_set_of_its_own() -> None:
    sent = keys(charset="ISO_IR 192", RequestAttributesSequence={"SpecificCharacterSet": "ISO_IR 100"})
    item: Any = sent.RequestAttributesSequence[0]
    item.add_new(0x00401001, "SH", "é")
    read = read_query(encoded(sent, EXPLICIT), EXPLICIT, STUDY_ROOT)
    assert read.query.matches == (Match((0x00400275, 0x00401001), ("é",)),)


# ---------------------------------------------------------------- models


def refused(status: int, tag: int, sent: Dataset, model: Model, negotiated: Negotiated = BASELINE) -> None:
    with pytest.raises(Refused) as caught:
        read_query(encoded(sent), IMPLICIT, model, negotiated)
    assert (caught.value.status, caught.value.elements) == (status, (tag,))


@pytest.mark.parametrize(
    ("model", "levels"),
    [
        (PATIENT_ROOT, "PATIENT STUDY SERIES IMAGE"), (STUDY_ROOT, "STUDY SERIES IMAGE"),
        (PATIENT_STUDY_ONLY, "PATIENT STUDY"), (INSTANCES, "IMAGE"),
    ],
)  # fmt: skip
def test_levels_of_the_models(model: Model, levels: str) -> None:
    for level in ("PATIENT", "STUDY", "SERIES", "IMAGE"):
        sent = keys(level, PatientID="P", StudyInstanceUID="1.2", SeriesInstanceUID="1.3", SOPInstanceUID="1.4")
        if level in levels:
            assert read_query(encoded(sent), IMPLICIT, model).query.level.name == level.replace("IMAGE", "INSTANCE")
        else:
            refused(0xA900, 0x00080052, sent, model)
    refused(0xA900, 0x00080052, keys("", PatientID="P"), model)
    refused(0xA900, 0x00080052, keys("FRAME", PatientID="P"), model)


def test_unique_keys_of_the_levels_above() -> None:
    refused(0xA900, 0x00100020, keys("STUDY"), PATIENT_ROOT)
    refused(0xA900, 0x00100020, keys("STUDY", PatientID=""), PATIENT_ROOT)
    refused(0xA900, 0x00100020, keys("STUDY", PatientID="P*"), PATIENT_ROOT)
    refused(0xA900, 0x0020000D, keys("SERIES", SeriesInstanceUID="1.2"), STUDY_ROOT)
    refused(0xA900, 0x0020000D, keys("SERIES", StudyInstanceUID=["1.2", "1.3"]), STUDY_ROOT)
    refused(0xA900, 0x0020000E, keys("IMAGE", StudyInstanceUID="1.2", SeriesInstanceUID="*"), STUDY_ROOT)
    for model in (PATIENT_ROOT, STUDY_ROOT):
        sent = keys("IMAGE", SOPInstanceUID=["1.2", "1.3"], SeriesInstanceUID="", PatientID="P*")
        assert read_query(encoded(sent), IMPLICIT, model, RELATIONAL).query.level is Level.INSTANCE


def test_every_query_and_retrieval_class_has_a_model() -> None:
    assert MODELS["1.2.840.10008.5.1.4.1.2.1.1"] is PATIENT_ROOT
    assert MODELS["1.2.840.10008.5.1.4.1.2.2.3"] is STUDY_ROOT
    assert MODELS["1.2.840.10008.5.1.4.1.2.3.2"] is PATIENT_STUDY_ONLY
    assert MODELS["1.2.840.10008.5.1.4.1.2.5.3"] is INSTANCES
    assert "" not in MODELS


def test_extended_negotiation() -> None:
    assert answer_query(bytes((1, 1, 1, 1, 1, 1, 1))) == bytes((1, 1, 1, 0, 0, 1, 1))
    assert answer_query(b"\1\0\1") == b"\1\0\1"
    assert answer_query(b"\1\1\1\0\0\1\1\1\1") == b"\1\1\1\0\0\1\1"
    assert answer_query(b"") is None
    assert answer_retrieval(b"\1\1") == b"\1\0"
    assert Negotiated.of(b"\1\0\1") == Negotiated(relational=True, fuzzy=True)
    assert Negotiated.of(b"\1" * 9) == Negotiated(*[True] * 7)
    sent = encoded(keys())
    assert not read_query(sent, IMPLICIT, STUDY_ROOT).query.combined_times
    agreed = read_query(sent, IMPLICIT, STUDY_ROOT, Negotiated.of(bytes((0, 1, 1, 0, 0, 1)))).query
    assert agreed.combined_times
    assert agreed.fuzzy
    assert agreed.empty_values


# ---------------------------------------------------------------- bytes


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_cut_anywhere_it_is_refused_or_shorter_by_whole_keys(syntax: str) -> None:
    whole = encoded(keys(PatientName="A", RequestAttributesSequence={"RequestedProcedureID": "R"}), syntax)
    full = read_query(whole, syntax, STUDY_ROOT).keys
    read = 0
    for end in range(8, len(whole)):
        try:
            found = read_query(whole[:end], syntax, STUDY_ROOT).keys
        except Refused as refusal:
            assert refusal.status in (0xA900, 0xC001)
        else:
            assert found == {tag: full[tag] for tag in list(full)[: len(found)]}
            read += 1
    assert read == 2  # behind the level, and behind the name


def test_undefined_lengths_and_group_lengths() -> None:
    item = b"\x40\x00\x01\x10\x02\x00\x00\x00R1"
    sent = (
        b"\x08\x00\x00\x00\x04\x00\x00\x00\x0e\x00\x00\x00\x08\x00\x52\x00\x06\x00\x00\x00STUDY "
        b"\x40\x00\x75\x02\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" + item + b"\xfe\xff\x0d\xe0\0\0\0\0"
    )
    closed = sent + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert read_query(closed, IMPLICIT, STUDY_ROOT).query.matches == (Match((0x00400275, 0x00401001), ("R1",)),)
    assert 0x00080000 not in read_query(closed, IMPLICIT, STUDY_ROOT).keys
    with pytest.raises(Refused, match="not readable"):
        read_query(sent, IMPLICIT, STUDY_ROOT)


def test_limits() -> None:
    level = encoded(keys(charset=""))
    with pytest.raises(LimitExceeded, match="bytes"):
        read_query(bytes(IDENTIFIER_MAX + 1), IMPLICIT, STUDY_ROOT)
    many = b"".join(b"\x10\x00" + n.to_bytes(2, "little") + bytes(4) for n in range(1, KEYS_MAX + 1))
    with pytest.raises(LimitExceeded, match="keys"):
        read_query(level + many, IMPLICIT, STUDY_ROOT)
    deep = b""
    for _ in range(DEPTH_MAX + 1):
        item = b"\xfe\xff\x00\xe0" + len(deep).to_bytes(4, "little") + deep
        deep = b"\x40\x00\x75\x02" + len(item).to_bytes(4, "little") + item
    with pytest.raises(LimitExceeded, match="levels"):
        read_query(level + deep, IMPLICIT, STUDY_ROOT)
    bomb = zlib.compress(encoded(keys(), EXPLICIT) + b"\x10\0\0\x40UT\0\0\0\0\x40\0" + b" " * (4 << 20), wbits=-15)
    with pytest.raises(LimitExceeded, match="bytes"):
        read_query(bomb, DEFLATED, STUDY_ROOT)


def test_a_long_list_of_character_sets_costs_nothing() -> None:
    terms = b"\\ISO 2022 IR 6" * 50_000
    sent = b"\x08\0\5\0" + len(terms).to_bytes(4, "little") + terms + encoded(keys(charset="", PatientName="x"))
    assert len(read_query(sent, IMPLICIT, STUDY_ROOT).charset) < 30


def test_one_item_a_sequence() -> None:
    sent = keys(RequestAttributesSequence={"RequestedProcedureID": "1"})
    sent.RequestAttributesSequence.append(Dataset())
    refused(0xC001, 0x00400275, sent, STUDY_ROOT)


# ---------------------------------------------------------------- retrievals


def retrieval(sent: Dataset, model: Model = STUDY_ROOT, negotiated: Negotiated = BASELINE) -> Retrieval:
    return read_retrieval(encoded(sent), IMPLICIT, model, negotiated)


def test_what_a_retrieval_names() -> None:
    assert retrieval(keys("STUDY", StudyInstanceUID=["1", "2", "1"])) == Retrieval(Level.STUDY, studies=("1", "2"))
    deep = keys("IMAGE", StudyInstanceUID="1", SeriesInstanceUID="2", SOPInstanceUID=["3", "4"], PatientName="X")
    assert retrieval(deep) == Retrieval(Level.INSTANCE, "", "", ("1",), ("2",), ("3", "4"))
    assert retrieval(keys("PATIENT", PatientID="P", IssuerOfPatientID="H"), PATIENT_ROOT) == Retrieval(
        Level.PATIENT, "P", "H"
    )
    issued = keys("PATIENT", PatientID="P", IssuerOfPatientIDQualifiersSequence={"UniversalEntityID": "1.2"})
    assert retrieval(issued, PATIENT_ROOT).issuer == "1.2"
    below = keys("STUDY", PatientID="P", StudyInstanceUID="1")
    assert retrieval(below, PATIENT_ROOT) == Retrieval(Level.STUDY, "P", "", ("1",))
    assert retrieval(below, STUDY_ROOT) == Retrieval(Level.STUDY, "", "", ("1",))
    assert retrieval(keys("STUDY", PatientID="", StudyInstanceUID="1"), PATIENT_ROOT).studies == ("1",)
    assert retrieval(keys("IMAGE", StudyInstanceUID="*", SOPInstanceUID="3"), INSTANCES) == Retrieval(
        Level.INSTANCE, sops=("3",)
    )
    assert retrieval(keys("SERIES", SeriesInstanceUID="2"), STUDY_ROOT, RELATIONAL).series == ("2",)


@pytest.mark.parametrize(
    ("sent", "tag"),
    [
        (keys("STUDY"), 0x0020000D),
        (keys("STUDY", StudyInstanceUID=""), 0x0020000D),
        (keys("STUDY", StudyInstanceUID="*"), 0x0020000D),
        (keys("STUDY", StudyInstanceUID=["1", ""]), 0x0020000D),
        (keys("STUDY", StudyInstanceUID="1", PatientID="P?"), 0x00100020),
        (keys("SERIES", SeriesInstanceUID="1"), 0x0020000D),
        (keys("IMAGE", StudyInstanceUID="1", SeriesInstanceUID=["1", "2"], SOPInstanceUID="1"), 0x0020000E),
        (keys("PATIENT", PatientID=""), 0x00100020),
        (keys("PATIENT", PatientID="*"), 0x00100020),
        (keys("PATIENT", PatientID=["P", "Q"]), 0x00100020),
        (keys("PATIENT", PatientID="P", IssuerOfPatientID="*"), 0x00100021),
        (keys("", StudyInstanceUID="1"), 0x00080052),
    ],
)
def test_a_retrieval_never_names_more_than_it_says(sent: Dataset, tag: int) -> None:
    with pytest.raises(Refused) as caught:
        retrieval(sent, PATIENT_ROOT)
    assert (caught.value.status, caught.value.elements) == (0xA900, (tag,))


def test_uids_of_one_retrieval_are_limited() -> None:
    sent = keys("STUDY", StudyInstanceUID=[f"1.{n}" for n in range(UIDS_MAX + 1)])
    with pytest.raises(LimitExceeded, match="UIDs"):
        retrieval(sent)


# ---------------------------------------------------------------- mutations


def test_mutated_identifiers_are_read_or_refused() -> None:
    sent = keys(
        PatientName="Mü*", StudyInstanceUID=["1.2", "1.3"], StudyDate="2024-", Rows=5, SpecificCharacterSet="ISO_IR 100",
        RequestAttributesSequence={"RequestedProcedureID": "R", "ScheduledProtocolCodeSequence": {"CodeValue": "1"}},
    )  # fmt: skip
    seeds = [(encoded(sent, syntax), syntax) for syntax in SYNTAXES]
    random = Random(7)
    refusals = 0
    for _ in range(campaign.count("mutated identifiers", 3000, 1_000_000)):
        data, syntax = random.choice(seeds)
        mutated = bytearray(data)
        for _ in range(random.choice([1, 1, 2, 5])):
            at = random.randrange(len(mutated))
            match random.randrange(3):
                case 0:
                    mutated[at] = random.choice([0, 1, 0x1B, 0x5C, 0xFE, 0xFF, random.randrange(256)])
                case 1:
                    del mutated[at : at + random.randrange(1, 5)]
                case _:
                    mutated[at:at] = random.randbytes(random.randrange(1, 5))
        for read in (read_query, read_retrieval):
            try:
                read(bytes(mutated), syntax, random.choice([PATIENT_ROOT, STUDY_ROOT]))
            except BadInput as refusal:
                refusals += 1
                assert len(str(refusal)) < 200
    assert refusals
