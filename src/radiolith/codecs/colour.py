"""Colour to RGB: palettes, luminance and chrominance, sample depth. Runs in decoder processes only.

Owns: what PS3.3 C.7.6.3.1.2 says about Photometric Interpretation. Results are (rows, columns, 3) of u8.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from radiolith.codecs.decode import Array
from radiolith.codecs.description import Lut, PixelDescription
from radiolith.model import Unsupported


def table(lut: Lut) -> Array:
    """The entries of a look-up table as u16."""
    return np.frombuffer(lut.data, "<u2")


def to_rgb(p: PixelDescription, samples: Array, photometric: str) -> Array:
    """Samples (as decoded, `photometric` telling their colour space) as 8-bit RGB."""
    if photometric == "PALETTE COLOR":
        return paletted(p, samples)
    if samples.ndim != 3 or samples.shape[2] not in (3, 4):
        raise Unsupported(f"{photometric or 'no photometric interpretation'} with {p.samples} samples")
    if photometric == "CMYK":
        inverted = 255 - eight_bits(p, samples).astype(np.uint16)
        return (inverted[..., :3] * inverted[..., 3:] // 255).astype(np.uint8)
    rgb = eight_bits(p, samples)[..., :3]
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        return ybr_full(rgb)
    if photometric.startswith("YBR_PARTIAL"):
        return _ybr_partial(rgb)
    if photometric in ("RGB", "ARGB", "YBR_RCT", "YBR_ICT", "XYB"):
        return np.ascontiguousarray(rgb)
    raise Unsupported(f"photometric interpretation {photometric[:16]}")


def eight_bits(p: PixelDescription, samples: Array) -> Array:
    """Unsigned samples of `bits_stored` bits brought to 8."""
    if samples.dtype == np.uint8 and p.bits_stored == 8:
        return samples
    top = (1 << p.bits_stored) - 1
    scaled = samples.astype(np.uint64) * 255 // top
    return np.minimum(scaled, 255).astype(np.uint8)


def ybr_full(samples: Array) -> Array:
    """YBR_FULL, 8 bits, to RGB: the JFIF matrix."""
    image = Image.frombytes("YCbCr", (samples.shape[1], samples.shape[0]), np.ascontiguousarray(samples).tobytes())
    return np.asarray(image.convert("RGB"))


def _ybr_partial(samples: Array) -> Array:
    """YBR_PARTIAL_422 and _420 (CCIR 601 ranges), 8 bits, to RGB."""
    y, cb, cr = (samples[..., i].astype(np.float32) for i in range(3))
    y, cb, cr = (y - 16) * (255 / 219), (cb - 128) * (255 / 224), (cr - 128) * (255 / 224)
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=-1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def paletted(p: PixelDescription, samples: Array) -> Array:
    """Stored values through the red, green and blue tables; values outside take the nearest entry."""
    if p.palette is None:
        raise Unsupported("palette colour without its colour tables")
    out = np.empty((*samples.shape[:2], 3), np.uint8)
    for channel, lut in enumerate(p.palette):
        entries = table(lut)
        narrow = (entries >> (lut.bits - 8) if lut.bits > 8 else entries).astype(np.uint8)
        index = np.clip(samples.astype(np.int64) - lut.first, 0, len(narrow) - 1)
        out[..., channel] = narrow.take(index)
    return out
