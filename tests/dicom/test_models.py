"""JSON and XML models against pydicom, and there and back."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from random import Random
from struct import pack
from typing import Any

import orjson
import pytest

from radiolith.dicom import compose, syntax
from radiolith.dicom.compose import Bulk, from_json, from_xml
from radiolith.dicom.encoding import rewrite
from radiolith.dicom.inflate import inflate
from radiolith.dicom.json import attribute_json, find, to_json
from radiolith.dicom.limits import Unparsable
from radiolith.dicom.reader import Scan, scan
from radiolith.dicom.xml import row_to_xml, to_xml
from radiolith.model import LimitExceeded, NotFound
from tests.dicom.mutations import element, nested
from tests.dicom.test_reader import is_unreadable

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG = "1.2.840.10008.1.2.2"

# Why our JSON of a corpus file may differ from pydicom's, by file name; each looked at.
PYDICOM_FAILS = {
    "bad_sequence.dcm": "pydicom stops reading at the broken sequence",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "pydicom reads nothing of a file without its last delimiter",
    "badVR.dcm": "an IS that is no number, which we keep as text; pydicom then leaves out whole sequences",
    "DICOMDIR-nooffset": "the last item is cut; pydicom keeps what it has of it, we keep whole items",
}


def header_of(data: bytes, result: Scan) -> bytes:
    """The dataset's bytes up to and with the header of the pixel data."""
    layout = result.layout
    size = layout.header_end - layout.dataset_start + 12
    if layout.transfer_syntax == syntax.DEFLATED:
        return inflate(data[layout.dataset_start :], size)
    return data[layout.dataset_start : min(layout.dataset_start + size, layout.dataset_end)]


def readable(files: list[Path]) -> list[tuple[Path, bytes, Scan]]:
    """The corpus files that scan, below 1 MB (larger ones are large in their pixels)."""
    found: list[tuple[Path, bytes, Scan]] = []
    for path in files:
        if path.stat().st_size < 1_000_000 and not is_unreadable(path):
            data = path.read_bytes()
            try:
                found.append((path, data, scan(data)))
            except Unparsable:
                continue
    return found


ODD = ("meta_missing_tsyntax.dcm", "nested_priv_SQ.dcm", "priv_SQ.dcm")
"""These have a value of odd length, which is padded when it is written."""


def every(step: int, files: list[tuple[Path, bytes, Scan]]) -> list[tuple[Path, bytes, Scan]]:
    """A part of a large corpus, all of a small one."""
    return files[::step] if len(files) > 100 else files


def as_pydicom(data: bytes) -> dict[str, Any]:
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        try:
            return dataset.to_json_dict(1024, lambda _: "x")
        except Exception:  # a value that pydicom cannot read; whole attributes are missing then
            return dataset.to_json_dict(1024, lambda _: "x", suppress_invalid_tags=True)


def differences(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> list[str]:
    """Attributes that differ for no listed reason."""
    found: list[str] = []
    for tag in sorted(ours.keys() | theirs.keys()):
        if tag.endswith("0000") or tag >= "7FE00010":
            continue  # group lengths are no part of the model; pixel data are always bulk data here
        a, b = ours.get(tag), theirs.get(tag)
        if a == b or (a and not b and _pydicom_gives_up(a)):
            continue
        if not a or not b or a["vr"] != b["vr"]:
            found.append(f"{path}{tag}: {a} {b}"[:200])
        elif a["vr"] == "SQ" and len(a.get("Value", [])) == len(b.get("Value", [])):
            for number, (x, y) in enumerate(zip(a.get("Value", []), b.get("Value", []), strict=True), 1):
                found += differences(x, y, f"{path}{tag}/{number}/")
        elif _plain(a.get("Value")) != _plain(b.get("Value")) or a["vr"] == "SQ":
            found.append(f"{path}{tag}: {a} {b}"[:200])
    return found


def _plain(listed: list[Any] | None) -> list[Any] | None:
    """pydicom leaves the padding of values that are not the last, and writes '' for null."""
    return [value.strip() or None if isinstance(value, str) else value for value in listed] if listed else None


def _pydicom_gives_up(attribute: dict[str, Any]) -> bool:
    """suppress_invalid_tags drops an IS that is no integer, with the sequences around it; we keep it as a string."""
    values = attribute.get("Value", [])
    if attribute["vr"] == "SQ":
        return any(_pydicom_gives_up(inner) for item in values for inner in item.values())
    return attribute["vr"] in ("IS", "DS") and any(isinstance(value, (str, float)) for value in values)


def test_json_is_pydicoms_over_the_corpus(corpus_files: list[Path]) -> None:
    compared = 0
    for path, data, result in readable(corpus_files):
        if path.name in PYDICOM_FAILS:
            continue
        ours = orjson.loads(to_json(header_of(data, result), result.actual_encoding, bulk_uri=lambda path: path))
        assert differences(ours, as_pydicom(data)) == [], path
        compared += 1
    assert compared >= 50


def test_bulk_data_paths_find_the_value_as_stored(corpus_files: list[Path]) -> None:
    found = 0
    for _, data, result in readable(corpus_files):
        paths: list[str] = []
        part = header_of(data, result)
        to_json(part, result.actual_encoding, bulk_uri=lambda path, p=paths: p.append(path) or path, bulk_threshold=20)
        for path in paths:
            if path.startswith("7FE0"):
                continue
            start, length, vr = find(part, result.actual_encoding, path)
            assert length > 20 and len(vr) == 2
            assert start + length <= len(part)
            found += 1
    assert found > 5


def test_a_nested_path() -> None:
    item = element(0x00091010, "OB", b"12345678")
    items = b"".join(pack("<HHI", 0xFFFE, 0xE000, len(body)) + body for body in (b"", item))
    data = element(0x00081140, "SQ", items) + element(0x00100020, "LO", b"ID")
    uris: list[str] = []
    to_json(data, EXPLICIT, bulk_uri=lambda path: uris.append(path) or path, bulk_threshold=4)
    assert uris == ["00081140/2/00091010"]
    start, length, vr = find(data, EXPLICIT, uris[0])
    assert (data[start : start + length], vr) == (b"12345678", "OB")
    for wrong in ("00081140/1/00091010", "00091010", "", "x", "00081140/2", "00081140//00091010", "/" * 999):
        with pytest.raises(NotFound):
            find(data, EXPLICIT, wrong)


def test_values_that_json_has_no_word_for() -> None:
    data = b"".join(
        (
            element(0x00080008, "CS", b"A\\\\B "),
            element(0x00081030, "LO", b'say "x" \\ ' + b"\x01\x1f"),
            element(0x00100010, "PN", b"A^B=C^D"),
            element(0x00101030, "DS", b"+01.50\\.5\\1.\\1e5\\x\\\\-0 "),
            element(0x00189073, "FD", pack("<3d", float("nan"), float("inf"), 1.5)),
            element(0x00200013, "IS", b"1A"),
            element(0x00280010, "US", b"\1\2\3\4"),
            element(0x00280011, "US", b"\1\2\3"),
            element(0x00280009, "AT", pack("<HH", 0x18, 0x1063)),
        )
    )
    result = orjson.loads(to_json(data, EXPLICIT, bulk_uri=lambda path: path))
    assert result["00080008"]["Value"] == ["A", None, "B"]
    assert result["00081030"]["Value"] == ['say "x"', "\x01\x1f"]
    assert result["00100010"]["Value"] == [{"Alphabetic": "A^B", "Ideographic": "C^D"}]
    assert result["00101030"]["Value"] == [1.5, 0.5, 1, 100000.0, "x", None, 0]
    assert result["00189073"]["Value"] == ["NaN", "Infinity", 1.5]
    assert result["00200013"]["Value"] == ["1A"]
    assert result["00280010"]["Value"] == [0x0201, 0x0403]
    assert result["00280011"] == {"vr": "US", "InlineBinary": "AQID"}
    assert result["00280009"]["Value"] == ["00181063"]


def test_decimal_strings_keep_their_digits() -> None:
    data = element(0x00101030, "DS", b"0.10\\12.3400")
    assert b"[0.10,12.3400]" in to_json(data, EXPLICIT, bulk_uri=str)


def test_repeated_elements_count_once_and_the_last_one() -> None:
    data = element(0x00100020, "LO", b"first ") + element(0x00080060, "CS", b"CT") + element(0x00100020, "LO", b"last")
    assert to_json(data, EXPLICIT, bulk_uri=str).count(b"00100020") == 1
    assert orjson.loads(to_json(data, EXPLICIT, bulk_uri=str))["00100020"]["Value"] == ["last"]


def test_private_elements_of_implicit_datasets_by_creator() -> None:
    def implicit(tag: int, value: bytes) -> bytes:
        return pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value

    block = implicit(0x00091002, b"SUITE1") + implicit(0x000910FE, b"\1\2")
    known = implicit(0x00090010, b"GEMS_IDEN_01") + block
    result = orjson.loads(to_json(known, IMPLICIT, bulk_uri=str))
    assert result["00091002"] == {"vr": "SH", "Value": ["SUITE1"]}
    assert result["000910FE"]["vr"] == "UN"
    unknown = orjson.loads(to_json(implicit(0x00090010, b"NOBODY") + block, IMPLICIT, bulk_uri=str))
    assert unknown["00091002"]["vr"] == "UN"


def test_big_endian_words_are_turned() -> None:
    data = pack(">HH2sHH", 0x28, 0x10, b"US", 2, 513) + pack(">HH2sHI4s", 0x28, 0x1201, b"OW", 0, 4, b"\1\2\3\4")
    result = orjson.loads(to_json(data, BIG, bulk_uri=str))
    assert result["00280010"]["Value"] == [513]
    assert result["00281201"]["InlineBinary"] == "AgEEAw=="


def test_depth_is_bounded_in_every_writer() -> None:
    data = nested(65)
    for work in (
        lambda: to_json(data, EXPLICIT, bulk_uri=str),
        lambda: to_xml(data, EXPLICIT, bulk_uri=str),
        lambda: rewrite(data, EXPLICIT, IMPLICIT),
        lambda: find(data, EXPLICIT, "00100020"),
    ):
        with pytest.raises(LimitExceeded):
            work()
    to_json(nested(64), EXPLICIT, bulk_uri=str)


# ---------------------------------------------------------------- another encoding


def test_rewritten_headers_have_the_same_json(corpus_files: list[Path]) -> None:
    for path, data, result in every(2, readable(corpus_files)):
        part = header_of(data, result)
        without_pixels = part[: result.layout.header_end - result.layout.dataset_start]
        before = to_json(without_pixels, result.actual_encoding, bulk_uri=str)
        explicit = rewrite(part, result.actual_encoding, EXPLICIT)
        if path.name not in ODD:
            assert _sorted(to_json(explicit, EXPLICIT, bulk_uri=str)) == _sorted(before), path
        implicit = rewrite(explicit, EXPLICIT, IMPLICIT)
        known = {tag: content for tag, content in _sorted(before).items() if content["vr"] in ("UI", "PN", "SQ", "US")}
        again = orjson.loads(to_json(implicit, IMPLICIT, bulk_uri=str))
        for tag, content in known.items():
            if again[tag]["vr"] == content["vr"] != "SQ":
                assert again[tag] == content, (path, tag)
        assert again.keys() == _sorted(before).keys(), path


def _sorted(document: bytes) -> Any:
    return orjson.loads(document)


def test_rewritten_headers_are_what_pydicom_reads(corpus_files: list[Path]) -> None:
    import pydicom
    from pydicom.filebase import DicomBytesIO

    for path, data, result in every(9, readable(corpus_files)):
        if path.name in PYDICOM_FAILS:
            continue
        for target, implicit in ((EXPLICIT, False), (IMPLICIT, True)):
            written = rewrite(header_of(data, result), result.actual_encoding, target)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = pydicom.filereader.read_dataset(DicomBytesIO(written), implicit, True)
                assert str(dataset.get("SOPInstanceUID", "")) == result.identity.sop, path
                assert len(list(dataset.iterall())) > 0


def test_rewriting_pads_and_lengthens() -> None:
    data = pack("<HHI", 0x0010, 0x0020, 3) + b"abc" + pack("<HHI", 0x0018, 0x9810, 70_000) + bytes(70_000)
    written = rewrite(data, IMPLICIT, EXPLICIT)
    assert written.startswith(element(0x00100020, "LO", b"abc "))
    assert written[12:20] == pack("<HH2sH", 0x0018, 0x9810, b"UN", 0)  # US cannot be that long
    with pytest.raises(ValueError, match="not written"):
        rewrite(data, IMPLICIT, BIG)


# ---------------------------------------------------------------- there and back


def no_bulk(uri: str) -> Bulk:
    raise AssertionError(uri)


def test_json_and_xml_come_back(corpus_files: list[Path]) -> None:
    done = 0
    for path, data, result in every(5, readable(corpus_files)):
        part = header_of(data, result)[: result.layout.header_end - result.layout.dataset_start]
        before = to_json(part, result.actual_encoding, bulk_uri=str, bulk_threshold=1 << 30)
        if b'"BulkDataURI"' in before or path.name in (*ODD, "badVR.dcm", "bad_sequence.dcm", "explicit_VR-UN.dcm"):
            continue
        written = b"".join(compose.encode(from_json(before)[0], no_bulk))
        after = to_json(written, EXPLICIT, bulk_uri=str, bulk_threshold=1 << 30)
        assert _comparable(after) == _comparable(before), path
        document = to_xml(part, result.actual_encoding, bulk_uri=str, bulk_threshold=1 << 30)
        written = b"".join(compose.encode(from_xml(document), no_bulk))
        after = to_json(written, EXPLICIT, bulk_uri=str, bulk_threshold=1 << 30)
        assert _without_empty(_comparable(after)) == _without_empty(_comparable(before)), path
        done += 1
    assert done > 5


def _comparable(document: bytes) -> Any:
    """Without character sets: what was composed is in UTF-8."""

    def clean(dataset: dict[str, Any]) -> dict[str, Any]:
        return {tag: inner(content) for tag, content in dataset.items() if tag != "00080005"}

    def inner(content: dict[str, Any]) -> dict[str, Any]:
        if content["vr"] == "SQ":
            return {"vr": "SQ", "Value": [clean(item) for item in content.get("Value", [])]}
        return content

    return clean(orjson.loads(document))


_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def _without_empty(dataset: Any) -> Any:
    """XML numbers values and names parts, and leaves empty ones out: trailing empty ones are not told from none."""
    if isinstance(dataset, dict):
        clean = {key: _without_empty(value) for key, value in dataset.items()}
        clean = {key: value for key, value in clean.items() if key != "Value" or value is not None}
        named = {key: value.rstrip("^") if key in _NAME_GROUPS else value for key, value in clean.items()}
        return {key: value for key, value in named.items() if key not in _NAME_GROUPS or value} or None
    if isinstance(dataset, list):
        listed = [_without_empty(value) for value in dataset]
        while listed and listed[-1] is None:
            listed.pop()
        return listed or None
    return dataset


def test_bulk_data_pass_through_and_must_have_their_length() -> None:
    document = b'{"00080018":{"vr":"UI","Value":["1.2"]},"7FE00010":{"vr":"OW","BulkDataURI":"a"}}'
    attributes = from_json(document)[0]
    assert compose.references(attributes) == ["a"]
    written = b"".join(compose.encode(attributes, lambda _: Bulk(5, [b"ab", b"cde"])))
    assert written.endswith(b"OW\0\0" + pack("<I", 6) + b"abcde\0")
    with pytest.raises(Unparsable):
        list(compose.encode(attributes, lambda _: Bulk(6, [b"ab", b"cde"])))
    fragments = b"".join(compose.encode(attributes, lambda _: Bulk(None, [b"\xfe\xff\0\xe0\0\0\0\0"])))
    assert fragments.endswith(b"\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[",
        b"7",
        b"[[]]",
        b'[{"x":{}}]',
        b'[{"00100020":7}]',
        b'[{"00100020":{"vr":"lo"}}]',
        b'[{"00280010":{"vr":"US","Value":[70000]}}]',
        b'[{"00280010":{"vr":"US","Value":["a"]}}]',
        b'[{"00100020":{"vr":"LO","Value":"x"}}]',
        b'[{"00100020":{"vr":"LO","Value":[{}]}}]',
        b'[{"7FE00010":{"vr":"OW","Value":[1]}}]',
        b'[{"00081140":{"vr":"SQ","Value":[3]}}]',
    ],
)
def test_documents_that_are_no_json_model(document: bytes) -> None:
    with pytest.raises(Unparsable):
        from_json(document)


def test_deep_json_and_xml_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(70):
        deep = {"00081140": {"vr": "SQ", "Value": [deep]}}
    with pytest.raises(LimitExceeded):
        from_json(orjson.dumps(deep))
    with pytest.raises((Unparsable, LimitExceeded)):
        from_json(b"[" * 100_000)
    piece = b'<DicomAttribute tag="00081140" vr="SQ"><Item number="1">'
    with pytest.raises(LimitExceeded):
        from_xml(b"<NativeDicomModel>" + piece * 100_000)
    with pytest.raises(LimitExceeded):
        from_xml(b" " * (compose.MODEL_BYTES_MAX + 1))


@pytest.mark.parametrize(
    "document",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><NativeDicomModel/>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><NativeDicomModel/>',
        b"<NativeDicomModel>&b;</NativeDicomModel>",
        b"<NativeDicomModel>",
        b"<Other/>",
        b"<NativeDicomModel><Value number='1'>x</Value></NativeDicomModel>",
        b"<NativeDicomModel><DicomAttribute vr='LO'/></NativeDicomModel>",
        b"<NativeDicomModel><DicomAttribute tag='00100020' vr='LO'><Value number='999999'>x</Value></DicomAttribute>"
        b"</NativeDicomModel>",
        b"<NativeDicomModel><DicomAttribute tag='00100020' vr='LO'><Value number='-1'>x</Value></DicomAttribute>"
        b"</NativeDicomModel>",
    ],
)
def test_documents_that_are_no_xml_model(document: bytes) -> None:
    with pytest.raises(Unparsable):
        from_xml(document)


def test_mutated_documents_are_read_or_refused() -> None:
    rng = Random(5)
    document = to_xml(
        element(0x00100010, "PN", b"A^B=C")
        + element(0x00081140, "SQ", pack("<HHI", 0xFFFE, 0xE000, 10) + element(0x00100020, "LO", b"ID")),
        EXPLICIT,
        bulk_uri=str,
    )
    for start in (
        document,
        b'[{"00100010":{"vr":"PN","Value":[{"Alphabetic":"A^B"}]},"00280010":{"vr":"US","Value":[1]}}]',
    ):
        for _ in range(1500):
            broken = bytearray(start)
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(broken))
                broken[at : at + rng.randrange(3)] = rng.choice(
                    (b"", b"<", b"9", b"\xff", b'"', b"SQ", b"}", b"[", b"/")
                )
            try:
                read = [from_xml(bytes(broken))] if start is document else from_json(bytes(broken))
                for attributes in read:
                    list(compose.encode(attributes, lambda _: Bulk(0, [])))
            except (Unparsable, LimitExceeded):
                pass


# ---------------------------------------------------------------- search results


def test_search_results_as_json_and_xml() -> None:
    row = {
        0x00100010: ("PN", "Müller^Jörg=山田"),
        0x00080061: ("CS", "CT\\SR"),
        0x00201206: ("IS", 3),
        0x00100021: ("LO", None),
        0x00081030: ("LO", 'a "b" <c>'),
        0x00101030: ("DS", "70.50\\x"),
        0x00400275: ("SQ", [{0x00400009: ("SH", "S1")}]),
        0x00081140: ("SQ", []),
    }
    result = orjson.loads(attribute_json(row))  # type: ignore[arg-type]
    assert result["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg", "Ideographic": "山田"}]
    assert result["00080061"]["Value"] == ["CT", "SR"]
    assert result["00201206"]["Value"] == [3]
    assert result["00100021"] == {"vr": "LO"}
    assert result["00081030"]["Value"] == ['a "b" <c>']
    assert result["00101030"]["Value"] == [70.5, "x"]
    assert result["00400275"]["Value"] == [{"00400009": {"vr": "SH", "Value": ["S1"]}}]
    assert result["00081140"] == {"vr": "SQ"}
    assert orjson.loads(attribute_json({})) == {}
    attributes = from_xml(row_to_xml(row))  # type: ignore[arg-type]
    assert attributes[0x00100010] == ("PN", "Müller^Jörg=山田".encode())
    assert attributes[0x00081030] == ("LO", b'a "b" <c>')
    assert attributes[0x00400275] == ("SQ", [{0x00400009: ("SH", b"S1")}])


def test_an_items_own_character_set_does_not_outlive_composing() -> None:
    item = element(0x00080005, "CS", b"ISO_IR 100") + element(0x00100010, "PN", "Müller".encode("latin-1"))
    data = element(0x00081140, "SQ", pack("<HHI", 0xFFFE, 0xE000, len(item)) + item)
    document = to_json(data, EXPLICIT, bulk_uri=str)
    written = b"".join(compose.encode(from_json(document)[0], no_bulk))
    again = orjson.loads(to_json(written, EXPLICIT, bulk_uri=str))
    assert again["00081140"]["Value"][0]["00100010"]["Value"] == [{"Alphabetic": "Müller"}]
