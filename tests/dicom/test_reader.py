"""The scan against pydicom, against itself in pieces, and against hostile bytes."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path
from random import Random
from struct import pack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radiolith.dicom import wanted
from radiolith.dicom.element import LONG_FORM, SHORT_FORM
from radiolith.dicom.json import to_json
from radiolith.dicom.limits import Limits
from radiolith.dicom.reader import Scan, Scanner, Unparsable, scan, text
from radiolith.model import BadInput, LimitExceeded, Pixels
from tests import campaign
from tests.dicom.mutations import HOSTILE_LENGTHS, META_DEFLATED, element, headers, mutate, nested, part10

IDENTITY = (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)


def in_pieces(data: bytes, sizes: list[int], **options: Any) -> Scan:
    """The scan of `data` fed in pieces of the given sizes, over and over."""
    scanner = Scanner(**options)
    at = turn = 0
    while at < len(data):
        step = sizes[turn % len(sizes)]
        scanner.feed(data[at : at + step])
        at, turn = at + step, turn + 1
    return scanner.finish()


def outcome(data: bytes, sizes: list[int] | None = None) -> Scan | type[BadInput]:
    """The scan, or the kind of refusal."""
    try:
        return in_pieces(data, sizes) if sizes else scan(data)
    except LimitExceeded:
        return LimitExceeded
    except Unparsable:
        return Unparsable


def pydicom_read(data: bytes) -> Any:
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)


def is_unreadable(path: Path) -> str:
    """Why a corpus file is refused, '' if it is not. Every refusal is listed here."""
    if path.suffix in (".txt", ".md", ".json", ".xml", ".dump", ".gz", ".zip", ".icc") or path.name == "README":
        return "no DICOM"
    return {
        "no_meta.dcm": "a stray byte before the first element",
        "rtplan_truncated.dcm": "cut inside its header",
    }.get(path.name, "")


# ---------------------------------------------------------------- the corpus


def test_every_corpus_file_reads_as_pydicom_reads_it(corpus_files: list[Path]) -> None:
    rng = Random(1)
    compared = 0
    for path in corpus_files:
        data = path.read_bytes()
        result = outcome(data)
        pieces = outcome(data, [rng.choice((997, 4096, 16_384, 100_003)) for _ in range(3)])
        assert result == pieces, path
        if is_unreadable(path):
            assert result is Unparsable, path
            continue
        assert isinstance(result, Scan), path
        dataset = pydicom_read(data)
        for tag in IDENTITY:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = str(dataset[tag].value).strip("\0 ") if tag in dataset else ""
            if path.name in PYDICOM_FAILS:
                continue
            assert result.uid(tag) == expected, (path, hex(tag))
        compared += 1
    assert compared >= 50


PYDICOM_FAILS = {
    "bad_sequence.dcm": "pydicom stops reading at the broken sequence",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "pydicom loses the header",
}


def test_corpus_layouts_cover_their_frames(corpus_files: list[Path]) -> None:
    seen: set[Pixels] = set()
    for path in corpus_files:
        result = outcome(path.read_bytes())
        if not isinstance(result, Scan):
            continue
        layout = result.layout
        seen.add(layout.pixels)
        assert 0 <= layout.dataset_start <= layout.dataset_end <= layout.original_size == path.stat().st_size
        if layout.pixels is Pixels.ENCAPSULATED:
            assert len(result.frame_table) == 16 * layout.frames, path
            assert bool(layout.frames_inline) == (layout.frames <= 4), path
    assert {Pixels.NONE, Pixels.NATIVE, Pixels.ENCAPSULATED} <= seen


# ---------------------------------------------------------------- pieces


def small_files(files: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in files if path.stat().st_size < 40_000 and not is_unreadable(path)]


def test_single_bytes_give_the_same_scan(corpus_files: list[Path]) -> None:
    files = small_files(corpus_files)
    for data in Random(2).sample(files, 12):
        assert in_pieces(data, [1]) == scan(data)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 10_000), sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=6))
def test_any_pieces_give_the_same_scan(corpus_files: list[Path], number: int, sizes: list[int]) -> None:
    files = _SMALL or small_files(corpus_files)
    _SMALL[:] = files
    data = files[number % len(files)]
    assert in_pieces(data, sizes) == scan(data)


_SMALL: list[bytes] = []


# ---------------------------------------------------------------- made-up objects


def header(*extra: bytes, frames: int = 1, bits: int = 8, rows: int = 2, columns: int = 3, samples: int = 1) -> bytes:
    """A small image's dataset up to its pixel data."""
    return b"".join(
        (
            element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
            element(0x00080018, "UI", b"1.2.3\0"),
            *extra,
            element(0x0020000D, "UI", b"1.2\0"),
            element(0x0020000E, "UI", b"1.2.4 "),
            element(0x00280002, "US", pack("<H", samples)),
            element(0x00280008, "IS", str(frames).encode().ljust(4)),
            element(0x00280010, "US", pack("<H", rows)),
            element(0x00280011, "US", pack("<H", columns)),
            element(0x00280100, "US", pack("<H", bits)),
        )
    )


def test_uids_lose_their_padding() -> None:
    result = scan(part10(header()))
    assert (result.identity.sop, result.identity.study, result.identity.series) == ("1.2.3", "1.2", "1.2.4")
    assert result.sop_class == "1.2.840.10008.5.1.4.1.1.7"


def test_cut_native_pixels_are_kept_with_a_warning() -> None:
    data = part10(header(frames=10) + element(0x7FE00010, "OB", bytes(31), length=60))
    result = scan(data)
    assert result.layout.pixel_length == 31
    assert any("cut" in warning for warning in result.warnings)


def test_a_header_that_is_cut_is_refused() -> None:
    whole = part10(header())
    for size in range(len(whole) - 9, len(whole)):
        with pytest.raises(Unparsable):
            scan(whole[:size])


def test_trailing_bytes_are_told_from_the_dataset() -> None:
    body = header() + element(0x7FE00010, "OB", bytes(6))
    for junk in (bytes(512), b"\0", b"trailing text of some kind", b"\x08\0\x05\0CS\x02\0 A"):
        result = scan(part10(body + junk))
        assert result.layout.dataset_end == result.layout.original_size - len(junk), junk
        assert any("follow the dataset" in warning for warning in result.warnings)
    padding = element(0xFFFCFFFC, "OB", bytes(100))
    assert scan(part10(body + padding)).layout.dataset_end == len(part10(body + padding))


def test_zeros_behind_a_dataset_without_pixels_are_padding_and_text_is_not() -> None:
    assert scan(part10(header() + bytes(1000))).layout.dataset_end == len(part10(header()))
    with pytest.raises(Unparsable):
        scan(part10(header() + bytes(100) + b"x" + bytes(100)))


def test_a_broken_sequence_of_defined_length_costs_only_itself() -> None:
    broken = element(0x00081140, "SQ", b"no item at all  ")
    result = scan(part10(header(broken)))
    assert result.identity.study == "1.2"
    assert any("part of a sequence" in warning for warning in result.warnings)


def test_wrong_transfer_syntax_is_found_out() -> None:
    implicit = pack("<HHI", 8, 0x18, 6) + b"1.2.3\0" + pack("<HHI", 0x20, 0xD, 4) + b"1.2\0"
    result = scan(part10(implicit))
    assert result.actual_encoding == "1.2.840.10008.1.2"
    assert result.layout.transfer_syntax == "1.2.840.10008.1.2.1"
    assert result.identity.study == "1.2"
    explicit = scan(header(), transfer_syntax="1.2.840.10008.1.2")
    assert explicit.actual_encoding == "1.2.840.10008.1.2.1"
    assert explicit.identity.sop == "1.2.3"
    assert scan(header()).actual_encoding == "1.2.840.10008.1.2.1"


def test_missing_preamble_and_meta() -> None:
    assert scan(part10(header())[132:]).identity.study == "1.2"
    assert scan(bytes(128) + b"DICM" + header()).identity.study == "1.2"


def test_a_sequence_written_as_unknown_is_walked_as_implicit() -> None:
    item = pack("<HHI", 0x0010, 0x0020, 4) + b"ID 1"
    inside = pack("<HHI", 0xFFFE, 0xE000, len(item)) + item + pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data = part10(header(element(0x00101002, "UN", inside, length=0xFFFFFFFF)))
    assert scan(data).sequences[0x00101002] == [{0x00100020: ("LO", b"ID 1")}]


def test_deeper_items_add_only_what_the_outer_one_has_not_got() -> None:
    deep = element(0x00100020, "LO", b"deep") + element(0x00400032, "UT", b"1.2 ")
    inner = element(0x00100024, "SQ", pack("<HHI", 0xFFFE, 0xE000, len(deep)) + deep)
    item = element(0x00100020, "LO", b"own ") + inner
    data = part10(header(element(0x00101002, "SQ", pack("<HHI", 0xFFFE, 0xE000, len(item)) + item)))
    assert scan(data).sequences[0x00101002] == [{0x00100020: ("LO", b"own "), 0x00400032: ("UT", b"1.2 ")}]


def test_text_is_decoded() -> None:
    name = element(0x00080005, "CS", b"ISO_IR 192") + element(0x00080018, "UI", b"1.2.3\0")
    data = part10(name + element(0x00100010, "PN", "Müller^Jörg ".encode()))
    assert text(scan(data), 0x00100010) == "Müller^Jörg"
    assert text(scan(data), wanted.ROWS) == ""


def test_a_media_directory_is_recognised(corpus_files: list[Path]) -> None:
    found = [path for path in corpus_files if path.name == "DICOMDIR"]
    assert found
    assert all(scan(path.read_bytes()).is_dicomdir for path in found)


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("defined", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 63, 64, 65, 100, 1000, 100_000])
def test_depth_is_bounded(depth: int, defined: bool) -> None:
    data = part10(header(nested(depth, defined=defined)))
    start = time.perf_counter()
    if depth <= 64:
        assert scan(data).identity.study == "1.2"
    else:
        with pytest.raises(LimitExceeded, match="sequence depth limit of 64 levels"):
            scan(data)
        assert time.perf_counter() - start < 2


def test_element_count_is_bounded() -> None:
    tiny = element(0x00091001, "LO", b"")
    with pytest.raises(LimitExceeded, match="element count limit of 5000 elements"):
        scan(part10(header(tiny * 6000)), limits=Limits(elements=5000))
    ordered = b"".join(element(0x00110000 + number, "LO", b"") for number in range(6000))
    with pytest.raises(LimitExceeded):
        scan(part10(header(ordered)), limits=Limits(elements=5000))


def test_ten_million_tiny_elements_are_refused_in_bounded_memory() -> None:
    piece = element(0x00091001, "LO", b"") * 8192
    scanner = Scanner(Limits(elements=200_000))
    tracemalloc.start()
    with pytest.raises(LimitExceeded):
        scanner.feed(part10(header()))
        for _ in range(10_000_000 // 8192):
            scanner.feed(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_kept_values_are_bounded() -> None:
    long = scan(part10(header(element(0x00081030, "UT", b"x" * 70_000))))
    assert 0x00081030 not in long.elements
    assert any("too long to be indexed" in warning for warning in long.warnings)
    with pytest.raises(LimitExceeded, match="indexed values limit"):
        scan(part10(header(element(0x00081030, "UT", b"x" * 60_000))), limits=Limits(kept_bytes=50_000))


def test_kept_items_are_bounded() -> None:
    item = element(0x00100020, "LO", b"ID")
    items = (pack("<HHI", 0xFFFE, 0xE000, len(item)) + item) * 1500
    result = scan(part10(header(element(0x00101002, "SQ", items))))
    assert len(result.sequences[0x00101002]) == 1000
    assert any("not indexed" in warning for warning in result.warnings)


def test_a_header_of_hundreds_of_megabytes_is_walked_not_held() -> None:
    scanner = Scanner()
    block = bytes(1 << 20)
    tracemalloc.start()
    scanner.feed(part10(b""))
    scanner.feed(element(0x00080018, "UI", b"1.2.3\0") + element(0x00091001, "OB", b"", length=300 << 20))
    for _ in range(300):
        scanner.feed(block)
    scanner.feed(element(0x0020000D, "UI", b"1.2\0"))
    result = scanner.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (result.identity.sop, result.identity.study) == ("1.2.3", "1.2")
    assert peak < 1_000_000


def test_deflate_bombs_are_refused_at_the_cap() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(1 << 20)
    packed = stream.compress(header() + element(0x7FE00010, "OB", b"", length=0xFFFFFF00))
    packed += b"".join(stream.compress(zeros) for _ in range(300)) + stream.flush()
    data = part10(packed, META_DEFLATED)
    assert len(data) < 1 << 20
    tracemalloc.start()
    with pytest.raises(LimitExceeded, match="inflate ratio"):
        scan(data)
    with pytest.raises(LimitExceeded, match="inflated size"):
        scan(data, limits=Limits(inflated_bytes=10 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_numbers_that_overflow_are_only_numbers() -> None:
    data = header(frames=9999, bits=65535, rows=65535, columns=65535, samples=65535)
    result = scan(part10(data + element(0x7FE00010, "OB", bytes(10))))
    assert result.layout.rows == result.layout.samples == 65535 and result.layout.frames == 1, "the one that has bytes"
    assert any("the header describes" in warning for warning in result.warnings)


# ---------------------------------------------------------------- campaign


def test_mutations_end_in_a_scan_or_a_refusal(corpus_files: list[Path]) -> None:
    files = [data for data in small_files(corpus_files) if data[128:132] == b"DICM"]
    slowest = 0.0
    refused = 0
    for seed in range(campaign.count("dicom scan mutations", 3000, 1_000_000)):
        rng = Random(seed)
        data = mutate(rng.choice(files), rng)
        start = time.process_time()
        result = outcome(data)
        slowest = max(slowest, (time.process_time() - start) / (len(data) + 20_000))
        if seed % 5 == 0:
            assert outcome(data, [rng.randrange(1, 5000) for _ in range(3)]) == result, seed
        if not isinstance(result, Scan):
            refused += 1
        elif seed % 3 == 0:
            check_json(data, result, seed)
    assert refused > 0
    assert slowest < 20e-6, "seconds per byte"


def check_json(data: bytes, result: Scan, seed: int) -> None:
    """What was accepted can be shown as JSON, or is refused by a limit."""
    import orjson

    layout = result.layout
    if layout.transfer_syntax == "1.2.840.10008.1.2.1.99":
        return
    part = data[layout.dataset_start : min(layout.header_end + 12, layout.dataset_end)]
    try:
        produced = to_json(part, result.actual_encoding, bulk_uri=lambda path: path)
    except LimitExceeded:
        return
    assert isinstance(orjson.loads(produced), dict), seed


def test_hostile_lengths_in_every_header(corpus_files: list[Path]) -> None:
    """Every length field of small files, set to 40 values (T21)."""
    rng = Random(7)
    files = rng.sample([data for data in small_files(corpus_files) if len(data) < 8000], 5)
    wanted_fields = campaign.count("dicom hostile lengths, fields", 120, 100_000)
    fields = [(data, at) for data in files for at in headers(data)]
    tracemalloc.start()
    for data, at in rng.sample(fields, min(wanted_fields, len(fields))):
        for length in HOSTILE_LENGTHS:
            broken = bytearray(data)
            wide = data[at + 4 : at + 6] not in SHORT_FORM
            place = (at + 8 if data[at + 4 : at + 6] in LONG_FORM else at + 4) if wide else at + 6
            broken[place : place + (4 if wide else 2)] = pack("<I", length)[: 4 if wide else 2]
            outcome(bytes(broken))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_the_scan_needs_no_heavy_imports() -> None:
    """pydicom and numpy cost 0.3 s and 43 MB; a server that receives needs neither."""
    modules = "reader json xml compose names charset encoding frames part10 dictionary"
    imports = "; ".join(f"import radiolith.dicom.{module}" for module in modules.split())
    code = f"import sys; {imports}; print([m for m in ('pydicom', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
