"""Decoded frames equal a second implementation's, for every corpus file that has pixels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from radiolith.codecs import registry
from radiolith.codecs.codestream import jpegxl_size
from radiolith.codecs.colour import ybr_full
from radiolith.codecs.sandbox import Decoders, Frame, Opened
from radiolith.model import BadInput, Failure, LimitExceeded, Unsupported
from tests.codecs import objects

# Name of the file -> (what differs, why that is right). Everything else must be equal to pydicom's pixel_array.
EXCEPTIONS: dict[str, str] = {
    "VL4_J2KI": "one grey level: rounding of the irreversible colour transform differs between OpenJPEG builds",
    "VL5_J2KI": "one grey level: rounding of the irreversible colour transform differs between OpenJPEG builds",
}
# Files that neither side can decode, and why.
UNDECODABLE: dict[str, str] = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "the codestream's size marker contradicts the header",
    "MR_truncated.dcm": "pixel data shorter than the image",
}


def reference(sample: objects.Sample, index: int) -> np.ndarray[Any, Any]:
    """pydicom's array of one frame; raises what it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = sample.dataset.pixel_array
    return pixels[index] if len(sample.frames) > 1 or int(sample.dataset.get("NumberOfFrames", 1) or 1) > 1 else pixels


def second_decoder(sample: objects.Sample, frame: Frame) -> np.ndarray[Any, Any] | None:
    """For what pydicom's plugins lack: lossless JPEG by another library, 12-bit JPEG by none."""
    if registry.syntax(sample.opened.syntax).decode == "jpeg" and registry.syntax(sample.opened.syntax).lossless:
        return imagecodecs.jpegsof3_decode(bytes(frame.data))
    return None


def signed_as_stored(values: np.ndarray[Any, Any], ds: Any) -> np.ndarray[Any, Any]:
    """A second decoder's unsigned samples with the sign the header asks for."""
    if ds.PixelRepresentation == 0:
        return values
    shift = 32 - ds.BitsStored
    return (values.astype(np.int32) << shift) >> shift


def test_every_corpus_frame_equals_another_decoders(corpus_files: list[Path], decoders: Decoders) -> None:
    compared = seconded = alone = 0
    wrong: list[str] = []
    for path in corpus_files:
        sample = objects.cut_open(path)
        if sample is None:
            continue
        for frame in sample.frames:
            outcome = compare(sample, frame, decoders)
            compared += outcome == "equal"
            seconded += outcome == "second"
            alone += outcome == "alone"
            if outcome not in ("equal", "second", "alone", "excepted"):
                wrong.append(f"{path.name} frame {frame.number}: {outcome}")
    print(f"{compared} frames equal pydicom's, {seconded} a second decoder's, {alone} decoded by us alone")
    assert not wrong, "\n".join(wrong)
    assert compared > 100
    assert decoders.counts.deaths == decoders.counts.kills == 0


def compare(sample: objects.Sample, frame: Frame, decoders: Decoders) -> str:
    try:
        with decoders.blocking_session(sample.opened) as session:
            native = session.decode(frame)
    except Failure as failure:
        return "excepted" if sample.name in UNDECODABLE else f"refused: {failure}"
    ours = objects.array(native)
    if native.photometric == "YBR_FULL" and ours.dtype == np.uint8:
        ours = ybr_full(ours)
    try:
        theirs = reference(sample, frame.number)
        kind = "equal"
    except Exception:
        other = second_decoder(sample, frame)
        if other is None:
            return "alone" if ours.any() else "all zero and nobody to compare with"
        theirs, kind = signed_as_stored(other, sample.dataset), "second"
    if ours.shape != theirs.shape:
        return f"shape {ours.shape}, should be {theirs.shape}"
    distance = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())
    converted = native.photometric == "YBR_FULL" and distance <= 1  # rounding of the colour matrix
    if distance == 0 or converted or (sample.name in EXCEPTIONS and distance <= 1):
        return kind
    return f"differs by up to {distance:g}"


def test_12_bit_lossy_files_come_close_to_their_lossless_twins(corpus_files: list[Path], decoders: Decoders) -> None:
    """No second decoder for 12-bit JPEG is at hand; the same images exist losslessly."""
    twins = {p.name[:-5]: p for p in corpus_files if p.name.endswith("_JPLL")}
    pairs = [(p, twins[p.name[:-5]]) for p in corpus_files if p.name.endswith("_JPLY") and p.name[:-5] in twins]
    if not pairs:
        pytest.skip("the corpus has no images in both 12-bit lossy and lossless JPEG")
    for pair in pairs:
        lossy, lossless = (objects.cut_open(p) for p in pair)
        assert lossy is not None and lossless is not None
        a, b = (objects.array(decoded(decoders, s, s.frames[0])).astype(int) for s in (lossy, lossless))
        assert np.abs(a - b).mean() < 0.01 * (b.max() - b.min()), pair[0].name


def decoded(decoders: Decoders, ds: Any, frame: Frame, syntax: str = registry.EXPLICIT_LE) -> Any:
    opened = ds.opened if isinstance(ds, objects.Sample) else objects.opened(ds, syntax)
    with decoders.blocking_session(opened) as session:
        return session.decode(frame)


def test_bits_outside_bits_stored_are_not_values(decoders: Decoders) -> None:
    pixels = np.array([[0xF001, 0x0FFF], [0x8800, 0x1000]], np.uint16)
    native = decoded(decoders, objects.image(pixels, stored=12), objects.frame(pixels))
    assert objects.array(native).tolist() == [[1, 0xFFF], [0x800, 0]]
    signed = pixels.view(np.int16)
    native = decoded(decoders, objects.image(signed, stored=12), objects.frame(signed))
    assert objects.array(native).tolist() == [[1, -1], [-0x800, 0]]


def test_an_unsigned_codestream_of_signed_pixels_gets_its_sign(decoders: Decoders) -> None:
    pixels = np.array([[-5, 100], [-2000, 2047]], np.int16).repeat(8, 0).repeat(8, 1)
    stream = imagecodecs.jpeg2k_encode(
        (pixels.view(np.uint16) & 0xFFF), level=0, codecformat="j2k", bitspersample=12, reversible=True
    )
    native = decoded(decoders, objects.image(pixels, stored=12), Frame(0, bytes(stream)), registry.JPEG2K_LOSSLESS)
    assert np.array_equal(objects.array(native), pixels)


def test_lossy_htj2k_white_does_not_come_out_black(decoders: Decoders) -> None:
    """imagecodecs' own decoder wraps overshoots round; a hard edge from black to white shows it."""
    pixels = np.zeros((64, 64), np.uint8)
    pixels[::2] = 255
    pixels[:, 30:34] = 128
    stream = imagecodecs.htj2k_encode(pixels, level=0.05, reversible=False)
    raw = imagecodecs.htj2k_decode(stream)
    assert np.abs(raw.astype(int) - pixels).max() > 200, "the codec clips now: the detour can go"
    native = decoded(decoders, objects.image(pixels), Frame(0, bytes(stream)), registry.HTJ2K)
    assert np.abs(objects.array(native).astype(int) - pixels).max() < 30


def test_single_bit_frames_start_anywhere_in_a_byte(decoders: Decoders) -> None:
    bits = np.random.default_rng(1).integers(0, 2, (3, 5, 7)).astype(np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    ds = objects.image(bits[0], stored=1, NumberOfFrames=3)
    ds.BitsAllocated = 1
    for n in range(3):
        start = n * 35
        frame = Frame(n, packed[start // 8 : (start + 35 + 7) // 8], start % 8)
        assert np.array_equal(objects.array(decoded(decoders, ds, frame)), bits[n])


def test_floating_point_pixels(decoders: Decoders) -> None:
    for tag, dtype in ((0x7FE00008, np.float32), (0x7FE00009, np.float64)):
        pixels = np.array([[0.5, -1e30], [np.inf, 3.25]], dtype)
        ds = objects.image(pixels)
        del ds.BitsStored, ds.HighBit, ds.PixelRepresentation
        opened = Opened(objects.header_bytes(ds), registry.EXPLICIT_LE, tag)
        with decoders.blocking_session(opened) as session:
            assert np.array_equal(objects.array(session.decode(objects.frame(pixels))), pixels)


@pytest.mark.parametrize("shape", [(8, 8), (256, 256), (40, 48), (33, 1), (300, 200), (9, 5000), (90, 120)])
def test_the_size_in_a_jpeg_xl_header(shape: tuple[int, int]) -> None:
    pixels = np.zeros(shape, np.uint8)
    for container in (False, True):
        stream = imagecodecs.jpegxl_encode(pixels, lossless=True, effort=1, usecontainer=container)
        assert jpegxl_size(memoryview(bytes(stream))) == shape


EXTREMES = [
    {"Rows": 65535, "Columns": 65535},
    {"Rows": 65535, "Columns": 65535, "SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"},
    {"Rows": 65535, "Columns": 65535, "BitsAllocated": 64, "BitsStored": 64, "HighBit": 63},
    {"Rows": 0},
    {"Columns": 0},
    {"SamplesPerPixel": 0},
    {"SamplesPerPixel": 65535},
    {"SamplesPerPixel": 2},
    {"BitsAllocated": 0},
    {"BitsAllocated": 12},
    {"BitsAllocated": 65535},
    {"BitsStored": 0},
    {"BitsStored": 17},
    {"HighBit": 16},
    {"HighBit": 3},
    {"PhotometricInterpretation": "RGB"},
    {"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 3},
]


@pytest.mark.parametrize("change", EXTREMES, ids=str)
@pytest.mark.parametrize(
    "syntax", [registry.EXPLICIT_LE, registry.RLE, registry.JPEG2K, registry.HTJ2K, registry.JPEGLS_NEAR]
)
def test_contradictory_and_extreme_headers_are_refused(decoders: Decoders, change: dict[str, Any], syntax: str) -> None:
    ds = objects.image(np.zeros((8, 8), np.uint16))
    for keyword, value in change.items():
        setattr(ds, keyword, value)
    with (
        pytest.raises((BadInput, Unsupported, LimitExceeded)),
        decoders.blocking_session(objects.opened(ds, syntax)) as session,
    ):
        session.decode(Frame(0, bytes(128)))
    assert decoders.counts.deaths == 0


@pytest.mark.parametrize("row", [r for r in registry.STANDARD if not r.decode], ids=lambda r: r.uid)
def test_what_has_no_decoder_says_so(decoders: Decoders, row: registry.Syntax) -> None:
    ds = objects.image(np.zeros((8, 8), np.uint8))
    with pytest.raises(Unsupported, match="no decoder for"):
        decoded(decoders, ds, Frame(0, bytes(64)), row.uid)
