"""Frames from one transfer syntax to another: exact where promised, marked where not, refused where impossible."""

from __future__ import annotations

import io
import warnings
from typing import Any

import imagecodecs
import numpy as np
import openjpeg
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filereader import read_dataset

from radiolith.codecs import registry
from radiolith.codecs.codestream import jpeg2000
from radiolith.codecs.plan import Kind, obstacle, plan
from radiolith.codecs.sandbox import Decoders, Frame, Opened, Transcoded
from radiolith.model import Layout, Pixels, Unsupported
from tests.codecs import objects

LOSSLESS = [r.uid for r in registry.STANDARD if r.encode and r.lossless and r.encode != "native"]


def sample(bits: int, signed: bool, samples: int, shape: tuple[int, int] = (33, 47)) -> np.ndarray[Any, Any]:
    """Noise over the whole range of `bits`, both ends included."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    size = shape if samples == 1 else (*shape, samples)
    dtype = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    pixels = np.random.default_rng(bits).integers(low, high + 1, size).astype(dtype)
    pixels[0, 0], pixels[0, 1] = low, high
    return pixels


def there(decoders: Decoders, ds: Any, frame: Frame, target: str, **more: Any) -> Transcoded:
    syntax = more.pop("syntax", registry.EXPLICIT_LE)
    with decoders.blocking_session(objects.opened(ds, syntax)) as session:
        return session.transcode(frame, target, **more)


def back(decoders: Decoders, ds: Any, found: Transcoded, target: str) -> np.ndarray[Any, Any]:
    """Decoded with the header the transcoding asked for."""
    with decoders.blocking_session(objects.opened(ds)) as session:
        header = bytes(session.rewrite_header(found.changed))
    with decoders.blocking_session(Opened(header, registry.EXPLICIT_LE)) as session:
        assert session.rewrite_header(found.changed) == header, "rewriting twice changes nothing more"
    implicit_or_not = Opened(_in_syntax(header, target), target)
    with decoders.blocking_session(implicit_or_not) as session:
        return objects.array(session.decode(Frame(0, found.data)))


def _in_syntax(header: bytes, target: str) -> bytes:
    """The header as an object in `target` would carry it."""
    return objects.header_bytes(read_dataset(io.BytesIO(header), False, True), target)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", range(1, 17))
def test_lossless_round_trips_for_every_depth_and_sign(
    decoders: Decoders, bits: int, signed: bool, samples: int
) -> None:
    pixels = sample(bits, signed, samples)
    ds = objects.image(pixels, stored=bits)
    kind = Kind(registry.EXPLICIT_LE, samples, ds.BitsAllocated, bits, bits - 1, signed, ds.PhotometricInterpretation)
    done: list[Transcoded] = []
    with decoders.blocking_session(objects.opened(ds)) as session:
        for target in LOSSLESS:
            if obstacle(kind, target):
                with pytest.raises(Unsupported):
                    session.transcode(objects.frame(pixels), target)
            else:
                done.append(session.transcode(objects.frame(pixels), target))
    for found in done:
        assert not found.changed.lossy
        ds.PhotometricInterpretation = found.changed.photometric
        with decoders.blocking_session(objects.opened(ds, found.changed.syntax)) as session:
            decoded = objects.array(session.decode(Frame(0, found.data)))
        assert np.array_equal(decoded, pixels), registry.syntax(found.changed.syntax).name
    assert len(done) >= (8 if not signed else 7)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", range(1, 17))
def test_the_htj2k_precision_is_bits_stored_and_a_second_decoder_agrees(
    decoders: Decoders, bits: int, signed: bool, samples: int
) -> None:
    pixels = sample(bits, signed, samples, (70, 130))
    found = there(decoders, objects.image(pixels, stored=bits), objects.frame(pixels), registry.HTJ2K_RPCL)
    stream = jpeg2000(memoryview(found.data))
    assert (stream.precision, stream.signed) == (bits, signed)
    assert np.array_equal(openjpeg.decode(bytes(found.data)), pixels)


def test_htj2k_is_what_rpcl_asks_for(decoders: Decoders) -> None:
    pixels = sample(12, False, 1, (600, 900))
    data = bytes(there(decoders, objects.image(pixels, stored=12), objects.frame(pixels), registry.HTJ2K_RPCL).data)
    style = data.index(b"\xff\x52")
    assert data[style + 5] == 2, "progression order RPCL"
    assert 900 >> data[style + 9] <= 64, "enough resolutions"
    assert b"\xff\x55" in data[: data.index(b"\xff\x90")], "tile-part lengths in the main header"


@pytest.mark.parametrize(
    ("target", "photometric"),
    [
        (registry.JPEG2K_LOSSLESS, "YBR_RCT"),
        (registry.HTJ2K_LOSSLESS, "YBR_RCT"),
        (registry.JPEGLS_LOSSLESS, "RGB"),
        (registry.JPEG_LOSSLESS, "RGB"),
        (registry.RLE, "RGB"),
        (registry.EXPLICIT_LE, "RGB"),
        (registry.JPEG2K, "YBR_ICT"),
        (registry.JPEG_BASELINE, "YBR_FULL_422"),
    ],
)
def test_colour_says_what_it_became(decoders: Decoders, target: str, photometric: str) -> None:
    y, x = np.mgrid[:64, :64]
    pixels = np.stack((x * 4, y * 4, (x + y) * 2), -1).astype(np.uint8)
    ds = objects.image(pixels)
    found = there(decoders, ds, objects.frame(pixels), target)
    assert found.changed.photometric == photometric
    lossy = not registry.syntax(target).lossless
    assert found.changed.lossy == lossy
    with decoders.blocking_session(objects.opened(ds)) as session:
        header = bytes(session.rewrite_header(found.changed))
    again = read_dataset(io.BytesIO(header), False, True)
    assert again.PhotometricInterpretation == photometric
    assert ("LossyImageCompression" in again) == lossy
    if lossy:
        assert again.LossyImageCompression == "01"
        assert again.LossyImageCompressionMethod in ("ISO_10918_1", "ISO_15444_1")
        assert float(again.LossyImageCompressionRatio) > 1
    _pydicom_reads_it(again, bytes(found.data), target, pixels, 12 if lossy else 0)


def _pydicom_reads_it(ds: Any, data: bytes, syntax: str, pixels: np.ndarray[Any, Any], tolerance: int) -> None:
    row = registry.syntax(syntax)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([data]) if row.encapsulated else data
    ds["PixelData"].VR = "OB"
    if row.encode == "jpeg_lossless":
        return  # pydicom has no plugin for it here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.pixels.pixel_array(ds)
    assert np.abs(theirs.astype(int) - pixels).max() <= tolerance


def test_chrominance_stored_as_such_stays(decoders: Decoders) -> None:
    pixels = sample(8, False, 3)
    ds = objects.image(pixels, photometric="YBR_FULL")
    for target in (registry.JPEG2K_LOSSLESS, registry.HTJ2K_RPCL, registry.JPEG_LOSSLESS, registry.RLE):
        found = there(decoders, ds, objects.frame(pixels), target)
        assert found.changed.photometric == "YBR_FULL"
        assert np.array_equal(back(decoders, ds, found, target), pixels), target
    with pytest.raises(Unsupported, match="convert the colours"):
        there(decoders, ds, objects.frame(pixels), registry.JPEGXL_LOSSLESS)


def test_lossless_jpeg_colour_with_two_huffman_tables(decoders: Decoders) -> None:
    """Noise that libjpeg-turbo encodes well and decodes to something else (seed 3 of several)."""
    pixels = np.random.default_rng(3).integers(0, 256, (33, 47, 3)).astype(np.uint8)
    same = {"colorspace": "ycbcr", "outcolorspace": "ycbcr"}
    stream = imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=8, **same)
    ds = objects.image(pixels, photometric="YBR_FULL")
    with decoders.blocking_session(objects.opened(ds, registry.JPEG_LOSSLESS)) as session:
        native = session.decode(Frame(0, bytes(stream)))
    assert np.array_equal(objects.array(native), pixels) and native.photometric == "YBR_FULL"


def test_jpeg_decompresses_to_rgb(decoders: Decoders) -> None:
    pixels = np.full((16, 16, 3), (200, 30, 60), np.uint8)
    baseline = there(decoders, objects.image(pixels), objects.frame(pixels), registry.JPEG_BASELINE)
    ds = objects.image(pixels, photometric="YBR_FULL_422")
    native = there(decoders, ds, Frame(0, baseline.data), registry.EXPLICIT_LE, syntax=registry.JPEG_BASELINE)
    assert native.changed.photometric == "RGB" and not native.changed.lossy
    assert np.abs(np.frombuffer(native.data, np.uint8).reshape(16, 16, 3).astype(int) - pixels).max() <= 3


def test_planar_and_subsampled_native_colour(decoders: Decoders) -> None:
    pixels = sample(8, False, 3, (6, 8))
    ds = objects.image(pixels, PlanarConfiguration=1)
    planes = Frame(0, np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes())
    found = there(decoders, ds, planes, registry.EXPLICIT_LE)
    assert bytes(found.data) == pixels.tobytes() and found.changed.planar == 0
    ds = objects.image(pixels, photometric="YBR_FULL_422")
    quads = np.zeros((6, 4, 4), np.uint8)
    quads[..., 0], quads[..., 1], quads[..., 2], quads[..., 3] = 10, 20, 30, 40
    found = there(decoders, ds, Frame(0, quads.tobytes()), registry.EXPLICIT_LE)
    out = np.frombuffer(found.data, np.uint8).reshape(6, 8, 3)
    assert found.changed.photometric == "YBR_FULL"
    assert out[0, 0].tolist() == [10, 30, 40] and out[0, 1].tolist() == [20, 30, 40]


def test_overlays_in_unused_bits_are_not_thrown_away(decoders: Decoders) -> None:
    pixels = np.array([[0x1005, 7], [8, 9]], np.uint16).repeat(8, 0).repeat(8, 1)
    ds = objects.image(pixels, stored=12)
    for target in (registry.JPEG2K_LOSSLESS, registry.JPEGLS_LOSSLESS, registry.HTJ2K_LOSSLESS):
        with pytest.raises(Unsupported, match="beyond Bits Stored"):
            there(decoders, ds, objects.frame(pixels), target)
    for target in (registry.RLE, registry.DEFLATED_FRAME):  # these carry whole cells
        with decoders.blocking_session(objects.opened(ds)) as session:
            data = session.transcode(objects.frame(pixels), target).data
        native = there(decoders, ds, Frame(0, data), registry.EXPLICIT_LE, syntax=target)
        assert bytes(native.data) == pixels.tobytes()


def test_big_endian_and_32_bits(decoders: Decoders) -> None:
    for dtype in (np.uint16, np.int16, np.uint32, np.int32):
        pixels = np.random.default_rng(7).integers(0, 1 << 15, (9, 11)).astype(dtype)
        ds = objects.image(pixels)
        swapped = Frame(0, pixels.byteswap().tobytes())
        found = there(decoders, ds, swapped, registry.EXPLICIT_LE, syntax=registry.EXPLICIT_BE)
        assert bytes(found.data) == pixels.tobytes()
        found = there(decoders, ds, swapped, registry.RLE, syntax=registry.EXPLICIT_BE)
        assert np.array_equal(back(decoders, ds, found, registry.RLE), pixels)


def test_single_bits_packed(decoders: Decoders) -> None:
    bits = np.random.default_rng(7).integers(0, 2, (16, 24)).astype(np.uint8)
    ds = objects.image(bits, stored=1)
    ds.BitsAllocated = 1
    frame = Frame(0, np.packbits(bits, bitorder="little").tobytes())
    for target in (registry.DEFLATED_FRAME, registry.JPEG2K_LOSSLESS, registry.EXPLICIT_LE):
        found = there(decoders, ds, frame, target)
        assert np.array_equal(back(decoders, ds, found, target), bits), target
    with pytest.raises(Unsupported, match="single-bit"):
        there(decoders, ds, frame, registry.JPEGLS_LOSSLESS)


def test_headers_are_rewritten_whole(decoders: Decoders) -> None:
    pixels = sample(12, True, 1)
    ds = objects.image(pixels, stored=12)
    ds.PatientName = "Müller^Jörg"
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ExtendedOffsetTable = bytes(8)
    item = pydicom.Dataset()
    item.CodeValue = "113040"
    ds.DerivationCodeSequence = [item]
    ds.add_new(0x00091001, "UN", b"private bytes")
    for syntax in (registry.IMPLICIT_LE, registry.EXPLICIT_LE, registry.EXPLICIT_BE):
        opened = objects.opened(ds, syntax)
        data = pixels if syntax != registry.EXPLICIT_BE else pixels.byteswap()
        with decoders.blocking_session(opened) as session:
            changed = session.transcode(Frame(0, data.tobytes()), registry.JPEGLS_LOSSLESS).changed
            again = read_dataset(io.BytesIO(bytes(session.rewrite_header(changed))), False, True)
        again.is_decompressed = False
        assert str(again.PatientName) == "Müller^Jörg"
        assert again.DerivationCodeSequence[0].CodeValue == "113040"
        assert again[0x00091001].value == b"private bytes"
        assert (again.Rows, again.BitsStored, again.PixelRepresentation) == (33, 12, 1)
        assert "ExtendedOffsetTable" not in again


def test_what_cannot_be_is_told_in_advance() -> None:
    native = Kind(registry.EXPLICIT_LE, 1, 16, 12, 11, False, "MONOCHROME2")
    assert not obstacle(native, registry.HTJ2K_RPCL)
    for kind, target, reason in (
        (native, registry.JPEG_BASELINE, "8 bits"),
        (native, registry.EXPLICIT_BE, "no encoder"),
        (native, "1.2.840.10008.1.2.4.102", "no encoder"),
        (native, "1.2.3", "unknown"),
        (Kind("1.2.840.10008.1.2.4.59", 1, 8), registry.EXPLICIT_LE, "no decoder"),
        (Kind(registry.EXPLICIT_LE, 1, 32, 32, 31), registry.JPEG2K_LOSSLESS, "at most 16 bits"),
        (Kind(registry.EXPLICIT_LE, 1, 16, 12, 15), registry.JPEG2K_LOSSLESS, "lowest bit"),
        (Kind(registry.EXPLICIT_LE, 1, 16, signed=True), registry.JPEGXL_LOSSLESS, "signed"),
        (Kind(registry.EXPLICIT_LE, 1, 32, floating=True), registry.RLE, "floating"),
        (Kind(registry.EXPLICIT_LE, 1, 8, 8, 7, False, "PALETTE COLOR"), registry.JPEG2K, "palette"),
    ):
        assert reason in obstacle(kind, target)
    video = Layout("1.2.840.10008.1.2.4.102", 0, 0, 0, 0, Pixels.VIDEO)
    assert "video" in plan(video, registry.EXPLICIT_LE)
    document = Layout(registry.EXPLICIT_LE, 0, 0, 0, 0)
    assert not plan(document, registry.IMPLICIT_LE) and plan(document, registry.RLE)
    frame = Layout(
        registry.JPEGLS_NEAR, 0, 0, 0, 0, Pixels.ENCAPSULATED, 0x7FE00010, frames=3, samples=3, bits_allocated=8
    )
    assert not plan(frame, registry.EXPLICIT_LE)
