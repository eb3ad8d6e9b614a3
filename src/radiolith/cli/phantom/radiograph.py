"""The chest from the front: the phantom's shadow, enlarged to a plate's resolution, with its grain and a marker."""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from PIL import ImageDraw

from radiolith.cli.phantom import thorax
from radiolith.cli.phantom.shapes import Image, grain

LEVELS, COLUMNS = 480, 512
"""The shadow's own resolution: 0.54 by 0.7 mm. Finer would cost seconds and show no more of it."""


@cache
def _shadow() -> Image:
    return thorax.shadow(COLUMNS, LEVELS)


def chest(pixels: int, key: str) -> npt.NDArray[np.uint16]:
    """A square of `pixels`, 12 bits, bone bright; `key` chooses the grain."""
    rows = pixels * 9 // 10
    shadow = np.asarray(Picture.fromarray(_shadow()).resize((pixels, rows), Picture.Resampling.BICUBIC))
    plate = np.zeros((pixels, pixels), np.float32)
    top = (pixels - rows) // 2
    plate[top : top + rows] = shadow
    plate[:top], plate[top + rows :] = shadow[0], shadow[-1]
    random = np.random.default_rng(zlib.crc32(key.encode()))
    plate += grain(random, plate.shape, 1) * np.float32(0.006)
    plate = np.clip(plate * 3500 + 250, 0, 4095)
    letter = Picture.new("L", (pixels, pixels))
    ImageDraw.Draw(letter).text((pixels * 0.93, pixels * 0.05), "L", fill=255, font_size=max(pixels // 24, 8))
    return np.where(np.asarray(letter) > 127, 4000, plate).round().astype(np.uint16)
