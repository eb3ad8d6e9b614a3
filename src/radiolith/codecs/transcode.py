"""One frame from one transfer syntax to another. Runs in decoder processes only.

Owns: the colour and bit bookkeeping around decode and encode, and the proof that a lossless target lost nothing: every
such frame is decoded again and compared. Must never pass on a frame that did not come back the same.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from radiolith.codecs import registry
from radiolith.codecs.colour import ybr_full
from radiolith.codecs.decode import Array, Decoded, decode, values
from radiolith.codecs.description import PixelDescription
from radiolith.codecs.encode import ENCODERS, Encoding
from radiolith.codecs.plan import kind_of, obstacle
from radiolith.codecs.requests import Changed
from radiolith.model import Unsupported

_METHODS = {"jpeg": "ISO_10918_1", "jpeg2k": "ISO_15444_1"}
_KEEP_CELLS = ("native", "deflated", "rle")  # encodings of whole cells; the others carry Bits Stored bits


def transcode(
    p: PixelDescription, data: memoryview, target: str, *, bit_offset: int = 0, quality: int | None = None
) -> tuple[bytes, Changed]:
    """The frame in `target`, and what its header must say. Raises Unsupported with the reason, BadInput."""
    why_not = obstacle(kind_of(p), target)
    if why_not:
        raise Unsupported(why_not)
    row = registry.encodable(target)
    found = _colour_for(p, decode(p, data, bit_offset=bit_offset), row)
    pixels = found.pixels
    if row.encode not in _KEEP_CELLS and not np.array_equal(values(p, pixels), pixels):
        raise Unsupported("bits of the pixel cells beyond Bits Stored are in use")
    how = Encoding(p.bits_stored, found.photometric, quality, byte_cells=p.bits_allocated != 1)
    encoded = ENCODERS[row.encode](pixels, how)
    lossy = not row.lossless
    changed = Changed(
        syntax=target,
        photometric=_photometric(found.photometric, row),
        planar=1 if row.encode == "rle" and p.samples > 1 else 0,
        bits_allocated=p.bits_allocated,
        bits_stored=p.bits_stored,
        high_bit=p.high_bit,
        signed=p.signed,
        samples=p.samples,
        lossy=lossy,
        ratio=round(p.native_bits / 8 / len(encoded), 3) if lossy else 0.0,
        method=_METHODS.get(row.encode, "") if lossy else "",
    )
    if not lossy:
        _verify(p, changed, encoded, pixels)
    return encoded, changed


def _colour_for(p: PixelDescription, found: Decoded, row: registry.Syntax) -> Decoded:
    """Colours as the target should carry them.

    What JPEG kept as luminance and chrominance leaves as RGB, as viewers expect of decompressed images; chrominance
    that was stored as such stays, unless the target is lossy and does its own.
    """
    if found.photometric == "YBR_FULL" and (found.lossy or not row.lossless) and found.pixels.dtype == np.uint8:
        return replace(found, pixels=ybr_full(found.pixels), photometric="RGB")
    return found


def _photometric(given: str, row: registry.Syntax) -> str:
    if given == "RGB":
        return {
            "jpeg2k_lossless": "YBR_RCT",
            "htj2k": "YBR_RCT",
            "jpeg2k": "YBR_ICT",
            "jpeg": "YBR_FULL_422",
        }.get(row.encode, "RGB")
    return given


def _verify(p: PixelDescription, changed: Changed, encoded: bytes, pixels: Array) -> None:
    again = replace(p, syntax=changed.syntax, photometric=changed.photometric, planar=0, pixel_vr="")
    back = decode(again, memoryview(encoded)).pixels
    if not np.array_equal(back, pixels):
        raise Unsupported(f"{registry.syntax(changed.syntax).name} does not give back this frame as it was")
