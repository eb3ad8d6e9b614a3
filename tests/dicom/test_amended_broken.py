"""Corrected headers that are broken, odd, long or in big endian; and what other programs read in all of them."""

from __future__ import annotations

import io
import shutil
import subprocess
import warnings
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radiolith.dicom import syntax
from radiolith.dicom.amended import amended_pieces
from radiolith.dicom.encoding import PIECE
from radiolith.dicom.inflate import inflate
from radiolith.dicom.part10 import file_meta
from radiolith.dicom.reader import Scan, scan
from radiolith.dicom.window import WINDOW_BYTES, Window
from radiolith.model import BadInput, Overlay, UidMap
from tests import campaign
from tests.dicom import mutations
from tests.dicom.amending import ORIGIN, apply, edit, model, name, overlay, removed, step
from tests.dicom.mutations import element
from tests.dicom.test_models import PYDICOM_FAILS, every, header_of, readable

EXPLICIT = syntax.EXPLICIT_LE
PATIENT = overlay(
    step(name("Doe^Jane"), edit(0x00100020, "LO", "4711"), edit(0x00100030, "DA", "19700101")),
    step(edit(0x00081030, "LO", "Chest"), edit(0x00080050, "SH", "A1"), number=2),
)
LETTERS = overlay(
    step(name("Дое^Jane"), edit(0x00091001, "LO", "x", creator="ACME 1.1"), removed(0x00081030)),
    uids=UidMap(studies=(("1.2.1", "1.2.2"),), instances=((("1", "2", "3"), ("4", "5")),)),
)


# ---------------------------------------------------------------- anything


def test_damaged_headers_are_corrected_or_refused(corpus_files: list[Path]) -> None:
    rounds = campaign.count("corrections of damaged headers", 400, 100_000)
    random = Random(7)
    headers = [
        (header_of(data, found), found.actual_encoding)
        for path, data, found in readable(corpus_files)
        if path.stat().st_size < 40_000
    ]
    for number in range(rounds):
        header, encoding = random.choice(headers)
        damaged = mutations.mutate(header, random) if number % 5 else header[: random.randrange(len(header) + 1)]
        for over in (PATIENT, LETTERS):
            try:
                once = apply(damaged, encoding, over)
                assert apply(once, encoding, over) is not None
            except BadInput:
                continue


TAGS = (0x00080050, 0x00081030, 0x00100010, 0x00100020, 0x00100030, 0x0020000D, 0x00200010, 0x00400254)
ELEMENTS = st.lists(
    st.tuples(st.sampled_from(TAGS), st.sampled_from([b"", b"A ", b"B^C ", b"\xe4 ", b"odd", b"x\\y "])), max_size=9
)
VRS = dict(zip(TAGS, ("SH", "LO", "PN", "LO", "DA", "UI", "SH", "LO"), strict=True))


@settings(max_examples=200, deadline=None)
@given(ELEMENTS, st.dictionaries(st.sampled_from(TAGS), st.none() | st.sampled_from(["A", "Ж", ""]), max_size=4))
def test_what_nobody_touched_stays_byte_for_byte(parts: list[tuple[int, bytes]], wanted: dict[int, str | None]) -> None:
    header = b"".join(element(tag, VRS[tag], value) for tag, value in parts)
    edits = [
        removed(tag, VRS[tag])
        if text is None
        else edit(tag, VRS[tag], *([{"Alphabetic": text}] if VRS[tag] == "PN" else [text]) if text else ())
        for tag, text in wanted.items()
    ]
    over = overlay(step(*edits))
    once = apply(header, EXPLICIT, over)
    assert apply(once, EXPLICIT, over) == once
    after = model(once, EXPLICIT)
    for tag, value in parts:
        if tag not in wanted and (b"\xe4" not in value or "00080005" not in after):
            assert element(tag, VRS[tag], value) in once
    for tag, text in wanted.items():
        assert (f"{tag:08X}" in after) == (text is not None)


# ---------------------------------------------------------------- odd ones


def test_a_sequence_without_end_keeps_what_is_added_out_of_it() -> None:
    inside = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + element(0x00081155, "UI", b"1.2 ")
    header = element(0x00080050, "SH", b"A1") + element(0x00081140, "SQ", inside, 0xFFFFFFFF)
    after = apply(header, EXPLICIT, overlay(step(name("Doe"))))
    assert after.endswith(header[10:]) and model(after, EXPLICIT)["00100010"]["Value"] == [{"Alphabetic": "Doe"}]


def test_of_a_repeated_element_one_is_left() -> None:
    header = element(0x00100010, "PN", b"A^") + element(0x00100020, "LO", b"1 ") + element(0x00100010, "PN", b"B^")
    after = apply(header, EXPLICIT, overlay(step(name("Doe"))))
    assert after.count(b"\x10\x00\x10\x00PN") == 2  # itself, and the one that counted among the original attributes
    assert b"A^" not in after and b"B^" in after


def test_private_blocks_are_found_made_and_kept_apart() -> None:
    header = element(0x00090010, "LO", b"OTHER ") + element(0x00091001, "LO", b"theirs")
    header += element(0x00090011, "LO", b"ACME 1.1") + element(0x00091101, "LO", b"old ")
    after = model(apply(header, EXPLICIT, overlay(step(edit(0x00090001, "LO", "new", creator="ACME 1.1")))), EXPLICIT)
    assert after["00091001"]["Value"] == ["theirs"] and after["00091101"]["Value"] == ["new"]
    prior = after["04000561"]["Value"][0]["04000550"]["Value"][0]
    assert prior["00090011"]["Value"] == ["ACME 1.1"] and prior["00091101"]["Value"] == ["old"]
    after = model(apply(header, EXPLICIT, overlay(step(edit(0x00090001, "LO", "mine", creator="THIRD")))), EXPLICIT)
    assert after["00090012"]["Value"] == ["THIRD"] and after["00091201"]["Value"] == ["mine"]
    again = overlay(step(removed(0x00090001, creator="NOBODY")))
    assert apply(header, EXPLICIT, again) == header


def test_long_headers_pass_through_a_window() -> None:
    big = b"".join(element(0x00181000 + n, "OB", bytes([n]) * 400_000) for n in range(8))
    header = element(0x00080005, "CS", b"ISO_IR 100") + big
    read: list[int] = []

    def at(start: int, stop: int) -> bytes:
        read.append(stop - start)
        return header[start:stop]

    for over in (PATIENT, LETTERS):
        pieces = list(amended_pieces(Window(at, len(header)), EXPLICIT, over, ORIGIN))
        assert b"".join(pieces) == apply(header, EXPLICIT, over)
        assert max(map(len, pieces)) <= PIECE and max(read) <= max(PIECE, WINDOW_BYTES)


# ---------------------------------------------------------------- as others see it


def part10(data: bytes, found: Scan, over: Overlay | None) -> bytes:
    """The whole file, corrected, as a retrieval gives it; deflated ones inflated."""
    layout, encoding = found.layout, found.actual_encoding
    dataset = data[layout.dataset_start : layout.dataset_end]
    uid = encoding if layout.transfer_syntax == syntax.DEFLATED else layout.transfer_syntax
    if layout.transfer_syntax == syntax.DEFLATED:
        dataset = inflate(data[layout.dataset_start :], 1 << 24)
    size = layout.header_end - layout.dataset_start
    header = dataset[:size] if over is None else apply(dataset[:size], encoding, over)
    return file_meta(found.sop_class, found.identity.sop, uid) + header + dataset[size:]


def test_pydicom_reads_the_corrections_and_the_same_pixels(corpus_files: list[Path]) -> None:
    import pydicom

    read = 0
    for path, data, found in every(9, readable(corpus_files)):
        if found.layout.pixel_tag != 0x7FE00010 or path.name in PYDICOM_FAILS:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = pydicom.dcmread(io.BytesIO(part10(data, found, None)))
            for over in (PATIENT, LETTERS):
                after = pydicom.dcmread(io.BytesIO(part10(data, found, over)))
                said = "Дое^Jane" if over is LETTERS else "Doe^Jane"
                assert str(after.PatientName) == said, path
                assert after.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0] is not None
                assert after["PixelData"].value == before["PixelData"].value, path
        read += 1
    assert read > 10


@pytest.mark.skipif(not shutil.which("dcmdump"), reason="dcmdump (Debian: dcmtk) is not installed")
def test_dcmdump_reads_the_corrections(corpus_files: list[Path], tmp_path: Path) -> None:
    read = 0
    for path, data, found in every(17, readable(corpus_files)):
        plain, corrected = tmp_path / "plain", tmp_path / "corrected"
        plain.write_bytes(part10(data, found, None))
        corrected.write_bytes(part10(data, found, PATIENT))
        if subprocess.run(["dcmdump", "-q", plain], capture_output=True).returncode:
            continue
        said = subprocess.run(["dcmdump", "-q", "-Un", corrected], capture_output=True)
        assert said.returncode == 0, (path, said.stderr)
        assert b"(0010,0010) PN [Doe^Jane]" in said.stdout and b"(0400,0561) SQ" in said.stdout, path
        read += 1
    assert read > 10


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (Debian: dicom3tools) is not installed")
def test_dciodvfy_finds_no_new_error(corpus_files: list[Path], tmp_path: Path) -> None:
    looked = 0
    for path, data, found in every(11, readable(corpus_files)):
        if found.is_dicomdir or len(data) > 300_000:
            continue
        before = _errors(tmp_path / "plain", part10(data, found, None))
        for over in (PATIENT, LETTERS):
            new = _errors(tmp_path / "corrected", part10(data, found, over)) - before
            assert not new, (path, new)
        looked += 1
    assert looked > 10


def _errors(path: Path, data: bytes) -> Counter[str]:
    path.write_bytes(data)
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace")
    return Counter(line for line in said.stderr.splitlines() if line.startswith("Error"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 400), st.integers(0, 3))
def test_any_cut_of_a_header_is_corrected(corpus_files: list[Path], number: int, cut: int) -> None:
    files = [path for path in corpus_files if path.suffix == ".dcm" and path.stat().st_size < 9_000]
    data = files[number % len(files)].read_bytes()
    try:
        found = scan(data)
        header = header_of(data, found)
        apply(header[: len(header) - cut * 7], found.actual_encoding, PATIENT)
    except BadInput:
        return
