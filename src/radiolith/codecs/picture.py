"""A finished picture to image file bytes, and back to nothing else. Runs in decoder processes only.

Owns: the rendered media types (PS3.18 8.7.4), quality, colour profile embedding. Pictures are u8 arrays,
(rows, columns) grey or (rows, columns, 3) RGB.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image, ImageCms

from radiolith.codecs.decode import Array
from radiolith.codecs.encode import Encoding, htj2k, j2k_decibel
from radiolith.model import Unsupported

DEFAULT_QUALITY = 90
SUBSAMPLE_BELOW = 90  # JPEG quality under which colour is stored at half resolution
MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/jp2", "image/jxl", "image/jph")
_ICC_CHUNK = 65_519  # bytes of profile in one JPEG APP2 segment


@cache
def srgb_profile() -> bytes:
    """The sRGB colour profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def to_srgb(drawn: Array, profile: bytes) -> Array:
    """RGB in the colour space of `profile` converted to sRGB. Raises Unsupported for a profile that is not for RGB."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        target = ImageCms.ImageCmsProfile(BytesIO(srgb_profile()))
        image = Image.fromarray(np.ascontiguousarray(drawn))
        converted = ImageCms.profileToProfile(image, source, target)
    except (ImageCms.PyCMSError, OSError, ValueError):
        raise Unsupported("the image's colour profile cannot be used") from None
    return drawn if converted is None else np.asarray(converted)


def encode(
    frames: Sequence[Array], media_type: str, *, quality: int | None = None, icc: bytes = b"", seconds: float = 0.1
) -> bytes:
    """The picture (or the frames of an animation, GIF only) as a file. Raises Unsupported for other media types."""
    if media_type == "image/gif":
        return _gif(frames, seconds)
    if len(frames) != 1:
        raise Unsupported(f"{media_type} holds one frame, {len(frames)} were asked for")
    picture = np.ascontiguousarray(frames[0])
    colour = picture.ndim == 3
    level = quality or DEFAULT_QUALITY
    if media_type == "image/jpeg":
        return _jpeg(picture, level, icc if colour else b"")
    if media_type == "image/png":
        return _png(picture, icc if colour else b"")
    if media_type == "image/jp2":
        decibel = 0 if quality is None or quality >= 100 else j2k_decibel(quality)
        return bytes(
            imagecodecs.jpeg2k_encode(
                picture, level=decibel, codecformat="jp2", reversible=decibel == 0, mct=colour, numthreads=1
            )
        )
    if media_type == "image/jxl":
        if level >= 100:
            return bytes(imagecodecs.jpegxl_encode(picture, effort=3, lossless=True, numthreads=1))
        return bytes(imagecodecs.jpegxl_encode(picture, effort=3, distance=_distance(level), numthreads=1))
    if media_type == "image/jph":
        return _jph(picture)
    raise Unsupported(f"images are not rendered as {media_type[:64]}")


def _distance(quality: int) -> float:
    """JPEG XL's butteraugli distance for a JPEG quality, as libjxl maps it."""
    return 0.1 + (100 - quality) * 0.09 if quality >= 30 else 53 / 3000 * quality**2 - 23 / 20 * quality + 25.0


def _jpeg(picture: Array, level: int, icc: bytes) -> bytes:
    options: dict[str, Any] = {}
    if picture.ndim == 3:
        options = {"colorspace": "rgb", "outcolorspace": "ycbcr"}
        options["subsampling"] = "444" if level >= SUBSAMPLE_BELOW else "420"
    data = bytes(imagecodecs.jpeg8_encode(picture, level=level, **options))
    if not icc:
        return data
    parts = [icc[i : i + _ICC_CHUNK] for i in range(0, len(icc), _ICC_CHUNK)]
    segments = b"".join(
        struct.pack(">HH12sBB", 0xFFE2, 16 + len(part), b"ICC_PROFILE\0", number, len(parts)) + part
        for number, part in enumerate(parts, 1)
    )
    return data[:2] + segments + data[2:]


def _png(picture: Array, icc: bytes) -> bytes:
    data = bytes(imagecodecs.png_encode(picture, level=6))
    if not icc:
        return data
    body = b"iCCP" + b"ICC Profile\0\0" + zlib.compress(icc)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]  # after the signature and IHDR


def _gif(frames: Sequence[Array], seconds: float) -> bytes:
    first, *rest = (Image.fromarray(np.ascontiguousarray(f)) for f in frames)
    if first.mode == "RGB":
        first, *rest = (image.quantize(256, method=Image.Quantize.FASTOCTREE) for image in (first, *rest))
    out = BytesIO()
    more: dict[str, Any] = {}
    if rest:
        more = {"save_all": True, "append_images": rest, "duration": max(20, round(seconds * 1000)), "loop": 0}
    first.save(out, "GIF", **more)
    return out.getvalue()


def _jph(picture: Array) -> bytes:
    """A JPH file (ISO/IEC 15444-15 annex D): signature, type, header and codestream boxes."""
    colour = picture.ndim == 3
    rows, columns = picture.shape[:2]
    stream = htj2k(picture, Encoding(8, "RGB" if colour else "MONOCHROME2"))

    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(body), kind) + body

    size = box(b"ihdr", struct.pack(">IIHBBBB", rows, columns, 3 if colour else 1, 7, 7, 0, 0))
    space = box(b"colr", struct.pack(">BBBI", 1, 0, 0, 16 if colour else 17))  # sRGB, greyscale
    return (
        box(b"jP  ", b"\r\n\x87\n")
        + box(b"ftyp", b"jph \0\0\0\0jph ")
        + box(b"jp2h", size + space)
        + box(b"jp2c", stream)
    )
