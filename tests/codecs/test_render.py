"""Pictures against the equations of the standard, worked out here in plain arithmetic."""

from __future__ import annotations

import io
import math
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageCms
from pydicom.sequence import Sequence

from radiolith.codecs import registry
from radiolith.codecs.sandbox import Decoders, Frame, Opened, Wanted
from radiolith.model import BadInput, LimitExceeded, Unsupported
from tests.codecs import objects

Array = np.ndarray[Any, Any]
PNG = Wanted(media_type="image/png")


def picture(decoders: Decoders, ds: Any, frames: list[Frame], want: Wanted, opened: Opened | None = None) -> Array:
    with decoders.blocking_session(opened or objects.opened(ds)) as session:
        media_type, data = session.render(frames, want)
    assert media_type == want.media_type
    return np.asarray(Image.open(io.BytesIO(bytes(data))))


def drawn(decoders: Decoders, pixels: Array, want: Wanted = PNG, **header: Any) -> Array:
    return picture(decoders, objects.image(pixels, **header), [objects.frame(pixels)], want)


def with_want(**more: Any) -> Wanted:
    return Wanted(**{"media_type": "image/png", **more})


RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def linear(x: float, c: float, w: float) -> int:
    """PS3.3 C.11.2.1.2.1 for an output of 0 to 255."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    if x > c - 0.5 + (w - 1) / 2:
        return 255
    return round(((x - (c - 0.5)) / (w - 1) + 0.5) * 255)


def exact(x: float, c: float, w: float) -> int:
    if x <= c - w / 2:
        return 0
    if x > c + w / 2:
        return 255
    return round(((x - c) / w + 0.5) * 255)


def sigmoid(x: float, c: float, w: float) -> int:
    return round(255 / (1 + math.exp(min(-4 * (x - c) / w, 700))))


@pytest.mark.parametrize(("name", "function"), [("LINEAR", linear), ("LINEAR_EXACT", exact), ("SIGMOID", sigmoid)])
@pytest.mark.parametrize("center_width", [(2000, 1000), (40, 400), (5000, 1), (1024.5, 2.5), (0, 9000)])
def test_windows_follow_the_equations(decoders: Decoders, name: str, function: Any, center_width: Any) -> None:
    center, width = center_width
    expected = np.array([function(float(v), center, width) for v in RAMP.ravel()]).reshape(64, 64)
    got = drawn(decoders, RAMP, stored=12, WindowCenter=center, WindowWidth=width, VOILUTFunction=name)
    assert np.abs(got.astype(int) - expected).max() <= 1
    request = with_want(window=(center, width, name.lower().replace("_", "-")))
    asked = drawn(decoders, RAMP, request, stored=12, WindowCenter=1, WindowWidth=2)
    assert np.array_equal(asked, got), "the request's window replaces the object's"


def test_rescale_comes_before_the_window(decoders: Decoders) -> None:
    hounsfield = RAMP.astype(int) * 2 - 1024
    expected = np.array([linear(float(v), 40, 400) for v in hounsfield.ravel()]).reshape(64, 64)
    got = drawn(decoders, RAMP, stored=12, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
    assert np.abs(got.astype(int) - expected).max() <= 1


def test_without_window_the_frame_fills_the_range_and_padding_stays_black(decoders: Decoders) -> None:
    pixels = np.full((32, 32), -2000, np.int16)
    pixels[8:24, 8:24] = np.linspace(100, 300, 256).reshape(16, 16).astype(np.int16)
    got = drawn(decoders, pixels, PixelPaddingValue=-2000)
    inner = got[8:24, 8:24]
    assert (inner.min(), inner.max()) == (0, 255) and inner[8, 0] in range(120, 136)
    assert got[0, 0] == 0
    inverted = drawn(decoders, pixels, PixelPaddingValue=-2000, photometric="MONOCHROME1")
    assert inverted[0, 0] == 0, "padding is black whatever the polarity"
    assert np.abs(inverted[8:24, 8:24].astype(int) - (255 - inner)).max() <= 1
    assert drawn(decoders, np.full((9, 9), 7, np.uint16)).shape == (9, 9), "a flat image is no division by zero"
    assert drawn(decoders, np.full((9, 9), 7, np.uint16), PixelPaddingValue=7).max() == 0


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("signed", [False, True])
def test_every_depth_and_sign(decoders: Decoders, bits: int, signed: bool) -> None:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    pixels = (
        np.linspace(low, high, 256).round().reshape(16, 16).astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    )
    expected = np.array([exact(float(v), (low + high) / 2, high - low) for v in pixels.ravel()]).reshape(16, 16)
    if bits == 1:
        expected = np.where(pixels != 0, 255, 0)
    assert np.abs(drawn(decoders, pixels, stored=bits).astype(int) - expected).max() <= 1


def test_wide_and_floating_pixels(decoders: Decoders) -> None:
    wide = np.linspace(0, 4e9, 256).astype(np.uint32).reshape(16, 16)
    got = drawn(decoders, wide)
    assert (got[0, 0], got[-1, -1]) == (0, 255) and got[8, 0] in range(125, 132)
    fractions = np.linspace(-0.5, 0.5, 256).astype(np.float32).reshape(16, 16)
    fractions[0, 1] = np.nan
    ds = objects.image(fractions)
    del ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    opened = Opened(objects.header_bytes(ds), registry.EXPLICIT_LE, 0x7FE00008)
    got = picture(decoders, ds, [objects.frame(fractions)], PNG, opened)
    assert (got[0, 0], got[-1, -1]) == (0, 255) and got[8, 0] in range(125, 132)


def lut_item(entries: list[int], first: int, bits: int = 16) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.add_new(0x00283002, "US", [len(entries) % 65536, first & 0xFFFF, bits])
    item.add_new(0x00283006, "OW", np.array(entries, "<u2").tobytes())
    return item


def test_lookup_tables_for_modality_and_voi(decoders: Decoders) -> None:
    pixels = np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.uint16).repeat(4, 0).repeat(4, 1)
    modality = objects.image(pixels, ModalityLUTSequence=Sequence([lut_item([10, 20, 300, 40], 2)]))
    modality.WindowCenter, modality.WindowWidth, modality.VOILUTFunction = 150, 300, "LINEAR_EXACT"
    got = picture(decoders, modality, [objects.frame(pixels)], PNG)[::4, ::4]
    assert got.ravel().tolist() == [exact(v, 150, 300) for v in (10, 10, 10, 20, 300, 40, 40, 40)]
    voi = objects.image(pixels, VOILUTSequence=Sequence([lut_item([0, 100, 255, 30], 3, 8)]))
    got = picture(decoders, voi, [objects.frame(pixels)], PNG)[::4, ::4]
    assert got.ravel().tolist() == [0, 0, 0, 0, 100, 255, 30, 30]


def palette_header(ds: Any, tables: list[list[int]], bits: int = 16, first: int = 0) -> Any:
    for i, table in enumerate(tables):
        ds.add_new(0x00281101 + i, "US", [len(table) % 65536, first, bits])
        data = np.array(table, "<u2").tobytes() if bits == 16 else bytes(table)
        ds.add_new(0x00281201 + i, "OW", data + b"\0" * (len(data) % 2))
    return ds


def test_palettes(decoders: Decoders) -> None:
    pixels = np.array([[0, 1], [2, 3]], np.uint8).repeat(8, 0).repeat(8, 1)
    colours = [[0, 0xFF00, 0x8000, 1], [0xFFFF, 0, 0, 2], [5 << 8, 6 << 8, 7 << 8, 8 << 8]]
    got = picture(decoders, palette_header(objects.image(pixels, photometric="PALETTE COLOR"), colours),
                  [objects.frame(pixels)], PNG)[::8, ::8]  # fmt: skip
    assert got.tolist() == [[[0, 255, 5], [255, 0, 6]], [[128, 0, 7], [0, 0, 8]]]
    narrow = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    got = picture(decoders, palette_header(objects.image(pixels, photometric="PALETTE COLOR"), narrow, 8, 1),
                  [objects.frame(pixels)], PNG)[::8, ::8]  # fmt: skip
    assert got.tolist() == [[[1, 4, 7], [1, 4, 7]], [[2, 5, 8], [3, 6, 9]]], "values outside take the nearest entry"
    with pytest.raises(BadInput, match="without its colour tables"):
        drawn(decoders, pixels, photometric="PALETTE COLOR")


def test_segmented_palettes(decoders: Decoders) -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    ds = objects.image(pixels, photometric="PALETTE COLOR")
    # discrete 2 values, linear 6 steps up to 0x4000, then the discrete segment copied, then linear 6 back to 0
    code = [0, 2, 0x1000, 0x2000, 1, 6, 0x4000, 2, 1, 0, 0, 1, 6, 0x0000]
    for i in range(3):
        ds.add_new(0x00281101 + i, "US", [16, 0, 16])
        ds.add_new(0x00281221 + i, "OW", np.array(code, "<u2").tobytes())
    got = picture(decoders, ds, [objects.frame(pixels)], PNG)[..., 0].ravel()
    assert got[:3].tolist() == [0x10, 0x20, 0x20 + 0x20 // 6] and got[7] == 0x40
    assert got[8:10].tolist() == [0x10, 0x20] and got[15] == 0


def test_colour_spaces(decoders: Decoders) -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [90, 90, 90]]], np.uint8).repeat(8, 0).repeat(8, 1)
    assert np.array_equal(drawn(decoders, rgb), rgb)
    ybr = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    assert np.abs(drawn(decoders, ybr, photometric="YBR_FULL").astype(int) - rgb).max() <= 2
    deep = rgb.astype(np.uint16) << 4
    assert np.abs(drawn(decoders, deep, stored=12).astype(int) - rgb).max() <= 1
    partial = np.zeros((2, 2, 3), np.uint8)
    partial[:] = (235, 128, 128)
    assert drawn(decoders, partial, photometric="YBR_PARTIAL_420").min() == 255


def functional_groups() -> pydicom.Dataset:
    """Two frames: the first has a window of its own, rescale is shared."""
    pixels = np.array([[0, 100], [200, 400]], np.uint16)
    ds = objects.image(pixels, NumberOfFrames=2)
    shared, first, second = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    rescale = pydicom.Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, -100
    shared.PixelValueTransformationSequence = Sequence([rescale])
    for group, center in ((first, 100), (second, 500)):
        window = pydicom.Dataset()
        window.WindowCenter, window.WindowWidth = center, 400
        group.FrameVOILUTSequence = Sequence([window])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence([first, second])
    return ds


def test_functional_groups_speak_for_their_frame(decoders: Decoders) -> None:
    pixels = np.array([[0, 100], [200, 400]], np.uint16)
    for number, center in ((0, 100), (1, 500)):
        got = picture(decoders, functional_groups(), [objects.frame(pixels, number)], PNG)
        expected = [linear(v * 2 - 100, center, 400) for v in (0, 100, 200, 400)]
        assert np.abs(got.ravel().astype(int) - expected).max() <= 1


def test_viewport_scales_crops_and_flips(decoders: Decoders) -> None:
    y, x = np.mgrid[:40, :80]
    pixels = (x * 3).astype(np.uint8)
    window = {"WindowCenter": 128, "WindowWidth": 256, "VOILUTFunction": "LINEAR_EXACT"}

    def seen(*viewport: float | None) -> Array:
        return drawn(decoders, pixels, with_want(viewport=(*viewport, *(None,) * (6 - len(viewport)))), **window)

    assert seen(40, 40).shape == (20, 40), "fits into the viewport, keeping its shape"
    assert seen(160, 160).shape == (80, 160), "and is enlarged to it"
    part = seen(20, 10, 10, 5, 20, 10)
    assert part.shape == (10, 20) and np.abs(part[0].astype(int) - pixels[5, 10:30]).max() <= 1
    assert np.array_equal(seen(20, 10, 10, 5, -20, 10), part[:, ::-1])
    assert np.array_equal(seen(20, 10, None, None, 20, 10), seen(20, 10, 0, 0, 20, 10))
    column = (y * 6).astype(np.uint8)
    flipped = drawn(decoders, column, with_want(viewport=(80, 40, 0, 0, 80, -40)), **window)
    assert flipped[0, 0] > flipped[-1, 0]
    for bad in ((0, 10), (10, 10, 70, 0, 20, 10), (10, 10, 0, 0, 0, 0), (10, 10, -5, 0, 10, 10), (1e9, 1e9),
                (10, 10, float("nan"), 0, 10, 10), (10, 10, float("inf"), 0, 10, 10)):  # fmt: skip
        with pytest.raises(BadInput):
            seen(*bad)
    with pytest.raises(LimitExceeded):
        seen(16000, 16000)


def test_oblong_pixels_are_shown_square(decoders: Decoders) -> None:
    assert drawn(decoders, RAMP, PixelSpacing=[1.0, 0.5]).shape == (128, 64)
    assert drawn(decoders, RAMP, PixelAspectRatio=[1, 2]).shape == (64, 128)
    assert drawn(decoders, RAMP, PixelSpacing=[0.7, 0.7]).shape == (64, 64)


def test_thumbnails_from_a_reduced_resolution(decoders: Decoders) -> None:
    y, x = np.mgrid[:512, :512]
    pixels = ((np.hypot(x - 256, y - 256) < 200) * 4000).astype(np.uint16)
    ds = objects.image(pixels, stored=12, WindowCenter=2048, WindowWidth=4096)
    whole = picture(decoders, ds, [objects.frame(pixels)], with_want(thumbnail=True))
    with decoders.blocking_session(objects.opened(ds)) as session:
        stream = session.transcode(objects.frame(pixels), registry.HTJ2K_RPCL).data
    opened = objects.opened(ds, registry.HTJ2K_RPCL)
    small = picture(decoders, ds, [Frame(0, stream)], with_want(thumbnail=True), opened)
    assert whole.shape == small.shape == (128, 128)
    assert np.abs(whole.astype(int) - small).mean() < 4
    assert small[64, 64] > 240 and small[0, 0] < 10, "overshoots do not wrap round"
    data = picture_bytes(decoders, ds, objects.frame(pixels), Wanted(thumbnail=True))
    assert len(data) < 8000


def picture_bytes(decoders: Decoders, ds: Any, frame: Frame, want: Wanted) -> bytes:
    with decoders.blocking_session(objects.opened(ds)) as session:
        return bytes(session.render([frame], want)[1])


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/gif", "image/jp2", "image/jxl", "image/jph"])
def test_every_media_type_holds_the_picture(decoders: Decoders, media_type: str, colour: bool) -> None:
    y, x = np.mgrid[:48, :64]
    grey = ((x + y) * 2).astype(np.uint8)
    pixels = np.stack((grey, grey // 2, 255 - grey), -1) if colour else grey
    ds = objects.image(pixels, **({} if colour else {"WindowCenter": 128, "WindowWidth": 256}))
    data = picture_bytes(decoders, ds, objects.frame(pixels), Wanted(media_type=media_type))
    if media_type == "image/jxl":
        got = imagecodecs.jpegxl_decode(data)
    elif media_type == "image/jph":
        assert data[4:12] == b"jP  \r\n\x87\n" and data[20:24] == b"jph "
        got = imagecodecs.htj2k_decode(data[data.index(b"\xff\x4f\xff\x51") :])
    else:
        got = np.asarray(Image.open(io.BytesIO(data)).convert("RGB" if colour else "L"))
    tolerance = 60 if media_type == "image/gif" and colour else 16
    assert np.abs(got.reshape(pixels.shape).astype(int) - pixels).mean() < tolerance / 4
    assert np.abs(got.reshape(pixels.shape).astype(int) - pixels).max() <= tolerance


def test_quality_matters_and_is_bounded(decoders: Decoders) -> None:
    noisy = np.random.default_rng(3).integers(0, 255, (64, 64)).astype(np.uint8)
    ds = objects.image(noisy)
    for media_type in ("image/jpeg", "image/jp2", "image/jxl"):
        sizes = [
            len(picture_bytes(decoders, ds, objects.frame(noisy), Wanted(media_type=media_type, quality=q)))
            for q in (10, 60, 95)
        ]
        assert sizes == sorted(sizes) and sizes[0] < sizes[2] * 0.7, media_type
    for quality in (0, 101):
        with pytest.raises(BadInput, match="quality"):
            picture_bytes(decoders, ds, objects.frame(noisy), Wanted(quality=quality))
    with pytest.raises(Unsupported, match="not rendered as video/mp4"):
        picture_bytes(decoders, ds, objects.frame(noisy), Wanted(media_type="video/mp4"))


def test_a_cine_is_an_animation(decoders: Decoders) -> None:
    frames = [np.full((16, 16), v, np.uint8) for v in (0, 100, 200)]
    ds = objects.image(frames[0], NumberOfFrames=3, FrameTime="40", WindowCenter=128, WindowWidth=256)
    with decoders.blocking_session(objects.opened(ds)) as session:
        listed = [objects.frame(f, n) for n, f in enumerate(frames)]
        _, data = session.render(listed, Wanted(media_type="image/gif"))
        with pytest.raises(Unsupported, match="holds one frame"):
            session.render(listed, Wanted())
    animation = Image.open(io.BytesIO(bytes(data)))
    assert animation.n_frames == 3 and animation.info["duration"] == 40
    for n, f in enumerate(frames):
        animation.seek(n)
        assert abs(int(np.asarray(animation.convert("L"))[8, 8]) - int(f[0, 0])) <= 2


def test_colour_profiles(decoders: Decoders) -> None:
    pixels = np.full((16, 16, 3), (200, 30, 60), np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ds = objects.image(pixels, ICCProfile=srgb)
    for media_type in ("image/jpeg", "image/png"):
        for icc, expected in (("", None), ("no", None), ("yes", srgb), ("srgb", None)):
            data = picture_bytes(decoders, ds, objects.frame(pixels), Wanted(media_type=media_type, icc=icc))
            image = Image.open(io.BytesIO(data))
            found = image.info.get("icc_profile")
            assert (found is None) == (icc in ("", "no"))
            if expected:
                assert found == expected
            assert np.abs(np.asarray(image).astype(int) - pixels).max() <= 3
    with pytest.raises(Unsupported, match="adobergb"):
        picture_bytes(decoders, ds, objects.frame(pixels), Wanted(icc="adobergb"))
    with pytest.raises(Unsupported, match="profile cannot be used"):
        picture_bytes(decoders, objects.image(pixels, ICCProfile=bytes(200)), objects.frame(pixels), Wanted(icc="srgb"))


def test_lines_of_text_are_burned_in(decoders: Decoders) -> None:
    dark = np.zeros((256, 256), np.uint8)
    header = {"WindowCenter": 128, "WindowWidth": 256}
    plain = drawn(decoders, dark, **header)
    named = drawn(decoders, dark, with_want(annotation=("Müller^Jörg", "Ελένη Петрова", "x\x00\x1b" * 400)), **header)
    assert plain.max() == 0 and named[:64].max() == 255 and named[200:].max() == 0
    assert drawn(decoders, np.zeros((8, 8), np.uint8), with_want(annotation=("A",) * 50), **header).shape == (8, 8)


# ---------------------------------------------------------------- presentation states


def state(**more: Any) -> Wanted:
    ds = pydicom.Dataset()
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return with_want(
        presentation=objects.header_bytes(ds), presentation_syntax=registry.EXPLICIT_LE, sop_instance="1.2.3"
    )


def item(**more: Any) -> pydicom.Dataset:
    ds = pydicom.Dataset()
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def referenced(sop: str, frames: list[int] | None = None) -> Sequence:
    found = item(ReferencedSOPInstanceUID=sop)
    if frames:
        found.ReferencedFrameNumber = frames
    return Sequence([found])


def test_a_presentation_state_replaces_the_objects_tones(decoders: Decoders) -> None:
    own = {"stored": 12, "WindowCenter": 10, "WindowWidth": 20, "RescaleIntercept": -1000, "RescaleSlope": 1}
    voi = Sequence([
        item(WindowCenter=5, WindowWidth=6, ReferencedImageSequence=referenced("9.9")),
        item(WindowCenter=5, WindowWidth=6, ReferencedImageSequence=referenced("1.2.3", [2])),
        item(WindowCenter=2000, WindowWidth=1000, ReferencedImageSequence=referenced("1.2.3")),
    ])  # fmt: skip
    expected = np.array([linear(float(v), 2000, 1000) for v in RAMP.ravel()]).reshape(64, 64)
    got = drawn(decoders, RAMP, state(SoftcopyVOILUTSequence=voi), **own)
    assert np.abs(got.astype(int) - expected).max() <= 1
    got = drawn(decoders, RAMP, state(SoftcopyVOILUTSequence=voi, PresentationLUTShape="INVERSE"), **own)
    assert np.abs(got.astype(int) - (255 - expected)).max() <= 1
    got = drawn(decoders, RAMP, state(), **own)
    assert (got[0, 0], got[-1, -1]) == (0, 255), "no VOI in the state: the whole range"
    lut = Sequence([lut_item([65535, 0], 0)])
    got = drawn(decoders, RAMP, state(SoftcopyVOILUTSequence=voi, PresentationLUTSequence=lut), **own)
    assert got[0, 0] == 255 and got[-1, -1] == 0


def test_shutter_area_turn_and_flip(decoders: Decoders) -> None:
    pixels = np.full((40, 60), 100, np.uint8)
    pixels[0:4, 0:4] = 255  # marks the upper left corner
    voi = Sequence([item(WindowCenter=128, WindowWidth=256)])
    rectangle = state(
        SoftcopyVOILUTSequence=voi, ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge=11,
        ShutterRightVerticalEdge=20, ShutterUpperHorizontalEdge=6, ShutterLowerHorizontalEdge=10,
        ShutterPresentationValue=0,
    )  # fmt: skip
    got = drawn(decoders, pixels, rectangle)
    assert np.argwhere(got > 50).min(0).tolist() == [5, 10] and np.argwhere(got > 50).max(0).tolist() == [9, 19]
    circle = state(
        SoftcopyVOILUTSequence=voi, ShutterShape="CIRCULAR", CenterOfCircularShutter=[20, 30], RadiusOfCircularShutter=5
    )
    assert 70 < (drawn(decoders, pixels, circle) > 50).sum() < 90
    turned = drawn(decoders, pixels, state(SoftcopyVOILUTSequence=voi, ImageRotation=90))
    assert turned.shape == (60, 40) and turned[1, -2] == 255 and turned[1, 1] < 200
    both = drawn(decoders, pixels, state(SoftcopyVOILUTSequence=voi, ImageRotation=90, ImageHorizontalFlip="Y"))
    assert both[1, 1] == 255
    area = item(PresentationSizeMode="MAGNIFY", PresentationPixelMagnificationRatio=2.0)
    area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [-4, 1], [5, 10]
    shown = drawn(decoders, pixels, state(SoftcopyVOILUTSequence=voi, DisplayedAreaSelectionSequence=Sequence([area])))
    assert shown.shape == (20, 20) and shown[1, 1] == 0 and shown[1, 13] == 255


def graphic(kind: str, data: list[float], **more: Any) -> pydicom.Dataset:
    return item(
        GraphicAnnotationUnits=more.pop("units", "PIXEL"), GraphicDimensions=2, NumberOfGraphicPoints=len(data) // 2,
        GraphicData=data, GraphicType=kind, GraphicFilled=more.pop("filled", "N"),
    )  # fmt: skip


def annotated(**more: Any) -> Wanted:
    sop = more.pop("sop", "1.2.3")
    layer = item(GraphicLayer="L", ReferencedImageSequence=referenced(sop), **more)
    voi = Sequence([item(WindowCenter=128, WindowWidth=256)])
    return state(SoftcopyVOILUTSequence=voi, GraphicAnnotationSequence=Sequence([layer]))


def test_graphics_land_where_they_belong(decoders: Decoders) -> None:
    dark = np.zeros((100, 100), np.uint8)
    line = Sequence([graphic("POLYLINE", [10, 20, 90, 20])])
    got = drawn(decoders, dark, annotated(GraphicObjectSequence=line))
    assert got[19:22, 11:89].max(0).min() == 255 and got[60:].max() == 0
    fraction = Sequence([graphic("POLYLINE", [0.1, 0.5, 0.9, 0.5], units="DISPLAY")])
    got = drawn(decoders, dark, annotated(GraphicObjectSequence=fraction))
    assert got[49:52, 11:89].max(0).min() == 255
    circle = Sequence([graphic("CIRCLE", [50, 50, 50, 20], filled="Y")])
    got = drawn(decoders, dark, annotated(GraphicObjectSequence=circle))
    assert got[50, 50] == 255 and 2600 < (got > 128).sum() < 3100
    ellipse = Sequence([graphic("ELLIPSE", [20, 50, 80, 50, 50, 40, 50, 60])])
    got = drawn(decoders, dark, annotated(GraphicObjectSequence=ellipse))
    assert got[49:52, 19:22].max() == 255 and got[39:42, 49:52].max() == 255 and got[50, 50] == 0
    others = Sequence([graphic("INTERPOLATED", [5, 5, 50, 80, 95, 5]), graphic("POINT", [50, 50])])
    got = drawn(decoders, dark, annotated(GraphicObjectSequence=others))
    assert got[4:7, 4:7].max() == 255 and got[79:82, 49:52].max() == 255 and got[50, 50] == 255
    assert drawn(decoders, dark, annotated(GraphicObjectSequence=line, sop="9.9")).max() == 0, "another image's"


def test_graphics_follow_turns_and_viewports(decoders: Decoders) -> None:
    dark = np.zeros((100, 200), np.uint8)
    want = annotated(GraphicObjectSequence=Sequence([graphic("POINT", [20.5, 80.5])]))
    ds = pydicom.Dataset()
    ds.update(pydicom.filereader.read_dataset(io.BytesIO(want.presentation), False, True))
    ds.ImageRotation = 90
    turned = with_want(
        presentation=objects.header_bytes(ds), presentation_syntax=registry.EXPLICIT_LE, sop_instance="1.2.3",
        viewport=(200, 400, None, None, None, None),
    )  # fmt: skip
    got = drawn(decoders, dark, turned)
    assert got.shape == (400, 200)
    middle = np.argwhere(got > 128).mean(0)
    assert np.abs(middle - (41, 39)).max() < 2, "(20.5, 80.5) turned is (19.5, 20.5), then twice as large"


def test_texts_and_overlays(decoders: Decoders) -> None:
    dark = np.zeros((200, 200), np.uint8)
    words = item(
        AnchorPointAnnotationUnits="PIXEL", AnchorPoint=[100.0, 100.0], UnformattedTextValue="12 mm\r\nKnie",
        AnchorPointVisibility="N",
    )  # fmt: skip
    got = drawn(decoders, dark, annotated(TextObjectSequence=Sequence([words])))
    assert got[100:130, 100:140].max() == 255 and got[:95].max() == 0
    plane = np.zeros((10, 20), np.uint8)
    plane[2:5, 3:9] = 1
    ds = objects.image(dark, WindowCenter=128, WindowWidth=256)
    ds.add_new(0x60000010, "US", 10)
    ds.add_new(0x60000011, "US", 20)
    ds.add_new(0x60000050, "SS", [51, 61])
    ds.add_new(0x60000100, "US", 1)
    ds.add_new(0x60003000, "OW", np.packbits(plane, bitorder="little").tobytes() + b"\0")
    assert picture(decoders, ds, [objects.frame(dark)], PNG).max() == 0, "overlays are not shown unasked"
    voi = Sequence([item(WindowCenter=128, WindowWidth=256)])
    want = pydicom.Dataset()
    want.SoftcopyVOILUTSequence = voi
    want.add_new(0x60001001, "CS", "LAYER")
    shown = with_want(presentation=objects.header_bytes(want), presentation_syntax=registry.EXPLICIT_LE)
    got = picture(decoders, ds, [objects.frame(dark)], shown)
    assert np.array_equal(got[50:60, 60:80] == 255, plane == 1) and (got > 0).sum() == plane.sum()


def test_requests_that_cannot_be(decoders: Decoders) -> None:
    for window in ((0.0, 0.0, "linear"), (0.0, 0.5, "linear"), (float("nan"), 5.0, "linear"), (0.0, 5.0, "cubic")):
        with pytest.raises(BadInput):
            drawn(decoders, RAMP, with_want(window=window))
