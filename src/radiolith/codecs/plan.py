"""Which frames can be turned into which transfer syntax, told before any decoder is asked.

Owns: the rules of PS3.5 8.2 and of our encoders, as one function in plain values. Must never import numpy. An answer of
"can be" is a promise about kinds of images; the verification in `transcode` may still refuse one frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.codecs import registry
from radiolith.codecs.description import PIXEL_DATA, PixelDescription
from radiolith.model import Layout, Pixels

_NATIVE_ENCODERS = ("native", "deflated")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides, of an image. '' or 0 means unknown and is not held against a target."""

    syntax: str
    samples: int
    bits_allocated: int
    bits_stored: int = 0
    high_bit: int = -1
    signed: bool | None = None
    photometric: str = ""
    floating: bool = False
    frames: int = 1
    pixels: int = 0  # rows x columns


def kind_of(p: PixelDescription) -> Kind:
    """The deciding part of a description."""
    return Kind(
        p.syntax, p.samples, p.bits_allocated, p.bits_stored, p.high_bit, p.signed, p.photometric, p.floating,
        p.frames, p.pixels,
    )  # fmt: skip


def plan(layout: Layout, target: str) -> str:
    """'' if the object laid out so can be had in `target` as far as its layout tells; else the reason why not."""
    if layout.pixels is Pixels.VIDEO:
        return "video is not transcoded"
    kind = Kind(
        layout.transfer_syntax,
        layout.samples,
        layout.bits_allocated,
        floating=layout.pixel_tag not in (0, PIXEL_DATA),
        frames=layout.frames,
        pixels=layout.rows * layout.columns,
    )
    if layout.pixels is Pixels.NONE:
        row = registry.SYNTAXES.get(target)
        plain = row is not None and row.encode == "native" and not row.encapsulated
        return "" if plain else "an object without pixels has no compressed form"
    return obstacle(kind, target)


def obstacle(kind: Kind, target: str) -> str:
    """'' if frames of this kind can be encoded in `target`; else the reason why not, for the user."""
    source, row = registry.SYNTAXES.get(kind.syntax), registry.SYNTAXES.get(target)
    if source is None or row is None:
        return f"unknown transfer syntax {(target if source else kind.syntax)[:64]}"
    if not source.decode:
        return f"no decoder for {source.name}"
    if not row.encode:
        return f"no encoder for {row.name}"
    if row.encode == "native":
        packed = kind.bits_allocated == 1 and kind.frames > 1 and kind.pixels % 8 != 0
        return "frames of single bits do not end on a byte" if packed and row.encapsulated else ""
    if kind.floating:
        return "" if row.encode == "deflated" else f"{row.name} has no floating point samples"
    return _depth(kind, row) or _colour(kind, row)


def _depth(kind: Kind, row: registry.Syntax) -> str:
    if row.encode == "deflated":
        return ""
    if kind.bits_allocated == 1:
        return "" if row.encode == "jpeg2k_lossless" else f"{row.name} of single-bit pixels is not offered"
    if row.encode == "rle":
        return "" if kind.samples * kind.bits_allocated <= 120 else "RLE takes at most 15 bytes a pixel"
    if kind.bits_allocated > 16:
        return f"{row.name} takes at most 16 bits a sample"
    if kind.bits_stored and kind.high_bit >= 0 and kind.high_bit != kind.bits_stored - 1:
        return "samples do not start at the lowest bit of their cells"
    if row.encode == "jpegxl" and kind.signed:
        return "JPEG XL has no signed samples"
    if row.encode == "jpeg":
        if kind.signed:
            return "JPEG baseline has no signed samples"
        if (kind.bits_stored or kind.bits_allocated) > 8:
            return "JPEG baseline takes 8 bits a sample"
    return ""


def _colour(kind: Kind, row: registry.Syntax) -> str:
    if kind.samples not in (1, 3) and row.encode not in ("rle", "deflated"):
        return f"{kind.samples} samples a pixel"
    if not kind.photometric:
        return ""
    if kind.samples == 3 and kind.photometric not in _COLOUR:
        return f"{kind.photometric} in {row.name}"
    if kind.photometric == "PALETTE COLOR" and not row.lossless:
        return "palette colour would not survive lossy compression"
    native_ybr = kind.photometric.startswith("YBR_FULL") and not registry.SYNTAXES[kind.syntax].media_type.startswith(
        "image/jpeg"
    )
    if row.encode == "jpegxl" and native_ybr:
        return "JPEG XL would convert the colours"
    return ""
