"""Where pixels end up: square pixels, quarter turns, flips, the viewport. Runs in decoder processes only.

Owns: PS3.18 8.3.5.1.3 (viewport) and the scaling it needs. Pictures are u8 arrays, grey or RGB.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from radiolith.codecs.decode import Array
from radiolith.codecs.limits import MAX_OUTPUT_PIXELS, MAX_OUTPUT_SIDE
from radiolith.model import BadInput, LimitExceeded

ASPECT_TOLERANCE = 0.01  # pixels less oblong than this are taken as square
Viewport = tuple[float, float, float | None, float | None, float | None, float | None]
THUMBNAIL: Viewport = (128.0, 128.0, None, None, None, None)  # where the request does not say


def resize(picture: Array, rows: int, columns: int) -> Array:
    """The picture in another size; averaged when smaller, interpolated when larger. Raises LimitExceeded."""
    rows, columns = max(1, rows), max(1, columns)
    if rows > MAX_OUTPUT_SIDE or columns > MAX_OUTPUT_SIDE or rows * columns > MAX_OUTPUT_PIXELS:
        raise LimitExceeded(f"a rendered image may have {MAX_OUTPUT_PIXELS} pixels and sides of {MAX_OUTPUT_SIDE}")
    if picture.shape[:2] == (rows, columns):
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR, reducing_gap=2.0))


def squared(picture: Array, aspect: tuple[float, float]) -> Array:
    """The picture with oblong pixels made square by stretching its shorter direction."""
    ratio = aspect[0] / aspect[1]
    if abs(ratio - 1) < ASPECT_TOLERANCE or not 0.05 < ratio < 20:
        return picture
    rows, columns = picture.shape[:2]
    if ratio > 1:
        return resize(picture, round(rows * ratio), columns)
    return resize(picture, rows, round(columns / ratio))


def fit(rows: int, columns: int, height: float, width: float) -> tuple[int, int]:
    """Largest (rows, columns) of the same shape within height x width."""
    scale = min(height / rows, width / columns)
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def view(picture: Array, viewport: Viewport) -> Array:
    """The region of the picture the viewport names, flipped as it says, scaled to fit. Raises BadInput."""
    rows, columns = picture.shape[:2]
    width, height, left, top, region_width, region_height = viewport
    if width < 1 or height < 1 or width > MAX_OUTPUT_SIDE or height > MAX_OUTPUT_SIDE:
        raise BadInput(f"a viewport of {width:g} x {height:g}; 1 to {MAX_OUTPUT_SIDE} are possible")
    x, y = left or 0.0, top or 0.0
    w = columns - x if region_width is None else region_width
    h = rows - y if region_height is None else region_height
    x0, x1 = round(x), round(x + abs(w))
    y0, y1 = round(y), round(y + abs(h))
    if not (0 <= x0 < x1 <= columns and 0 <= y0 < y1 <= rows):
        raise BadInput(f"the viewport's region lies outside the image of {columns} x {rows}")
    region = picture[y0:y1, x0:x1]
    if w < 0:
        region = region[:, ::-1]
    if h < 0:
        region = region[::-1]
    return resize(region, *fit(region.shape[0], region.shape[1], height, width))


def reduction(rows: int, columns: int, viewport: Viewport) -> int:
    """How many halvings leave the whole image at least as large as the viewport wants it."""
    if any(v is not None for v in viewport[2:]):
        return 0
    target_rows, target_columns = fit(rows, columns, max(1.0, viewport[1]), max(1.0, viewport[0]))
    levels = 0
    while levels < 5 and rows >> (levels + 1) >= target_rows and columns >> (levels + 1) >= target_columns:
        levels += 1
    return levels
