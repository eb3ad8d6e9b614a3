"""Where frames are: native arithmetic, fragments into frames, tables."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiolith.dicom import frames
from radiolith.dicom.limits import Limits, Unparsable
from radiolith.dicom.part10 import IMPLEMENTATION_UID, file_meta
from radiolith.dicom.reader import Scan, scan
from radiolith.model import BadInput, Layout, LimitExceeded, NotFound, Pixels
from tests.dicom.mutations import element, part10
from tests.dicom.test_reader import header, in_pieces, outcome

JPEG = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"
MPEG4 = "1.2.840.10008.1.2.4.102"
SOI = b"\xff\xd8\xff\xe0"


def item(value: bytes) -> bytes:
    return pack("<HHI", 0xFFFE, 0xE000, len(value)) + value


def encapsulated(
    fragments: list[bytes],
    *,
    frame_count: int,
    bot: bytes = b"",
    eot: bytes = b"",
    syntax: str = JPEG,
    end: bool = True,
) -> bytes:
    """A file whose pixel data are these fragments."""
    meta = element(0x00020010, "UI", syntax.encode() + b"\0" * (len(syntax) % 2))
    extended = element(0x7FE00001, "OV", eot) if eot else b""
    body = header(frames=frame_count) + extended + element(0x7FE00010, "OB", b"", length=0xFFFFFFFF)
    body += item(bot) + b"".join(map(item, fragments))
    return part10(body + (pack("<HHI", 0xFFFE, 0xE0DD, 0) if end else b""), meta)


def cut(data: bytes, result: Scan) -> list[bytes]:
    """The frames' codestreams by the table."""
    extents = frames.unpack_table(result.frame_table)
    return [b"".join(frames.split_items(data[offset : offset + length])) for offset, length in extents]


# ---------------------------------------------------------------- fragments into frames


def test_one_fragment_a_frame() -> None:
    data = encapsulated([b"aa", b"bbbb", b"cc"], frame_count=3)
    assert cut(data, scan(data)) == [b"aa", b"bbbb", b"cc"]


def test_one_frame_of_many_fragments() -> None:
    data = encapsulated([b"aa", b"bbbb", b"cc"], frame_count=1)
    assert cut(data, scan(data)) == [b"aabbbbcc"]


FOUR = [SOI + b"aa", b"bb", SOI + b"cc", b"dd"]


def test_the_basic_offset_table_is_used_where_it_is_right() -> None:
    data = encapsulated([b"aa", b"bb", b"cc", b"dd"], frame_count=2, bot=pack("<II", 0, 20))
    assert cut(data, scan(data)) == [b"aabb", b"ccdd"]


@pytest.mark.parametrize(
    "bot", [pack("<II", 0, 21), pack("<II", 20, 0), pack("<II", 0, 0), pack("<I", 0), pack("<II", 0, 999)]
)
def test_a_wrong_basic_offset_table_is_not_believed(bot: bytes) -> None:
    data = encapsulated(FOUR, frame_count=2, bot=bot)
    assert cut(data, scan(data)) == [SOI + b"aabb", SOI + b"ccdd"]


def test_the_extended_offset_table_is_used_where_it_is_right() -> None:
    data = encapsulated([b"aa", b"bb", b"cc"], frame_count=2, eot=pack("<QQ", 0, 10))
    assert cut(data, scan(data)) == [b"aa", b"bbcc"]
    wrong = encapsulated([b"aa", b"bb", b"cc"], frame_count=2, eot=pack("<QQ", 0, 11))
    assert scan(wrong).frame_table == b""


def test_codestream_markers_tell_frames_apart() -> None:
    data = encapsulated(FOUR, frame_count=2)
    assert cut(data, scan(data)) == [SOI + b"aabb", SOI + b"ccdd"]
    segment = pack("<16I", 1, 64, *[0] * 14)
    data = encapsulated([segment + b"aa", b"bb", segment + b"cc"], frame_count=2, syntax=RLE)
    assert cut(data, scan(data)) == [segment + b"aabb", segment + b"cc"]


def test_what_cannot_be_told_apart_has_no_frames_and_a_warning() -> None:
    result = scan(encapsulated([b"aa", b"bb", b"cc"], frame_count=2))
    assert result.frame_table == b""
    assert result.layout.table_offset == 0
    assert result.layout.frames_inline == ()
    assert any("cannot be told" in warning for warning in result.warnings)
    assert scan(encapsulated([], frame_count=1)).layout.pixels is Pixels.ENCAPSULATED


def test_cut_pixel_data_keep_the_frames_that_are_there() -> None:
    data = encapsulated([SOI + b"aa", SOI + b"bb", SOI + b"cc"], frame_count=3, end=False)
    result = scan(data)
    assert len(cut(data, result)) == 3
    assert any("no end" in warning for warning in result.warnings)
    shorter = scan(data[:-3])
    assert cut(data, shorter) == [SOI + b"aa", SOI + b"bb"]
    assert any("only 2 of 3" in warning for warning in shorter.warnings)
    assert in_pieces(data[:-3], [7]) == shorter


def test_video_is_one_stream() -> None:
    data = encapsulated([b"stream", b"goes on "], frame_count=500, syntax=MPEG4)
    result = scan(data)
    layout = result.layout
    assert (layout.pixels, result.frame_table) == (Pixels.VIDEO, b"")
    assert (
        b"".join(frames.split_items(data[layout.pixel_start : layout.pixel_start + layout.pixel_length]))
        == b"streamgoes on "
    )


def test_long_tables_lie_behind_the_object() -> None:
    data = encapsulated([b"%02d" % number for number in range(50)], frame_count=50)
    result = scan(data)
    layout = result.layout
    assert layout.table_offset == len(data)
    payload = data + result.frame_table
    for number in (0, 1, 49):
        start, length = frames.table_range(layout, number)
        (offset, size) = frames.TABLE_ENTRY.unpack(payload[start : start + length])
        assert b"".join(frames.split_items(payload[offset : offset + size])) == b"%02d" % number
    with pytest.raises(NotFound):
        frames.table_range(layout, 50)
    assert frames.inline_extent(layout, 0) is None
    short = scan(encapsulated([b"aa", b"bb"], frame_count=2)).layout
    assert len(short.frames_inline) == 2
    assert frames.inline_extent(short, 1) == short.frames_inline[1]
    with pytest.raises(NotFound):
        frames.inline_extent(short, 2)
    with pytest.raises(BadInput):
        frames.table_range(short, 0)


def test_fragments_are_bounded() -> None:
    from radiolith.dicom.reader import Scanner

    scanner = Scanner(Limits(fragments=1000))
    with pytest.raises(LimitExceeded, match="fragment count limit of 1000"):
        scanner.feed(encapsulated([b""] * 1500, frame_count=1))


def test_broken_items_are_refused() -> None:
    for extent in (b"\xfe\xff\x00\xe0\x04\0\0\0abc", b"\xfe\xff\x00\xe0", b"\0" * 8):
        with pytest.raises(Unparsable):
            list(frames.split_items(extent))


# ---------------------------------------------------------------- native


def native(bits: int, count: int, size: int, *, rows: int = 3, columns: int = 5, samples: int = 1) -> Layout:
    return Layout(
        "1.2.840.10008.1.2.1",
        0,
        10_000,
        10_000,
        100,
        Pixels.NATIVE,
        0x7FE00010,
        112,
        size,
        count,
        rows,
        columns,
        samples,
        bits,
    )


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 8, 16, 32, 64]), st.integers(1, 6))
def test_native_frames_lie_side_by_side(rows: int, columns: int, bits: int, count: int) -> None:
    frame = rows * columns * bits
    layout = native(bits, count, (frame * count + 7) // 8, rows=rows, columns=columns)
    value = int.from_bytes(bytes(range(1, 251)) * 8, "little")
    payload = bytes(112) + (bytes(range(1, 251)) * 8)
    for number in range(count):
        start, length, skip = frames.frame_range(layout, number)
        got = frames.realign(payload[start : start + length], skip, frame)
        assert got == (value >> number * frame & (1 << frame) - 1).to_bytes((frame + 7) // 8, "little")
    assert frames.frames_present(layout) == count
    with pytest.raises(NotFound):
        frames.frame_range(layout, count)
    with pytest.raises(NotFound):
        frames.frame_range(layout, -1)


def test_frames_that_the_data_do_not_cover_are_not_there() -> None:
    layout = native(8, 10, 31)
    assert frames.frames_present(layout) == 2
    assert frames.frame_range(layout, 1) == (112 + 15, 15, 0)
    with pytest.raises(NotFound):
        frames.frame_range(layout, 2)
    with pytest.raises(BadInput):
        frames.frame_range(native(0, 10, 31), 0)
    huge = native(65535, (1 << 31) - 1, 31, rows=65535, columns=65535, samples=65535)
    with pytest.raises(NotFound):
        frames.frame_range(huge, 1 << 30)


def test_subsampled_colour_counts_two_samples_a_pixel() -> None:
    photometric = element(0x00280004, "CS", b"YBR_FULL_422")
    body = header(photometric, frames=2, samples=3, rows=2, columns=4)
    halved = scan(part10(body + element(0x7FE00010, "OB", bytes(32)))).layout
    assert (halved.samples, frames.frame_range(halved, 1)[:2]) == (2, (halved.pixel_start + 16, 16))
    full = scan(part10(body + element(0x7FE00010, "OB", bytes(48)))).layout
    assert full.samples == 3


# ---------------------------------------------------------------- the corpus, by pydicom


def test_corpus_fragments_are_pydicoms(corpus_files: list[Path]) -> None:
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    compared = 0
    for path in corpus_files:
        data = path.read_bytes()
        result = outcome(data)
        if not isinstance(result, Scan) or result.layout.pixels is not Pixels.ENCAPSULATED or len(data) > 1_000_000:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(io.BytesIO(data), force=True)
            if "PixelData" not in dataset:
                continue
            try:
                expected = list(generate_frames(dataset.PixelData, number_of_frames=result.layout.frames))
            except ValueError:
                continue  # pydicom finds no frames
        assert cut(data, result) == expected, path
        compared += 1
    assert compared > 10


# ---------------------------------------------------------------- file meta


def test_fresh_file_meta_is_read_back() -> None:
    from pydicom import dcmread

    for uid in ("1.2.3", "1.2.34"):
        meta = file_meta("1.2.840.10008.5.1.4.1.1.2", uid, "1.2.840.10008.1.2.1")
        assert meta[:132] == bytes(128) + b"DICM"
        read = dcmread(io.BytesIO(meta + header())).file_meta
        assert read.MediaStorageSOPInstanceUID == uid
        assert read.ImplementationClassUID == IMPLEMENTATION_UID
        assert len(IMPLEMENTATION_UID) <= 64
        assert scan(meta + header()).warnings == []
