"""Where pixels end up: square pixels, displayed area, quarter turns, flips, the viewport. In decoder processes only.

Owns: `Placed`, a picture together with the way from image coordinates to its own, so that what is drawn later lands
where it belongs; PS3.18 8.3.5.1.3 (viewport). Pictures are u8 arrays, (rows, columns) grey or (rows, columns, 3) RGB.
Image coordinates are (column, row), 0 at the upper left corner of the first pixel (PS3.3 C.10.5.1.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from radiolith.codecs.decode import Array
from radiolith.codecs.limits import MAX_OUTPUT_PIXELS, MAX_OUTPUT_SIDE
from radiolith.model import BadInput, LimitExceeded

ASPECT_TOLERANCE = 0.01  # pixels less oblong than this are taken as square
Viewport = tuple[float, float, float | None, float | None, float | None, float | None]
THUMBNAIL: Viewport = (128.0, 128.0, None, None, None, None)  # where the request does not say
Matrix = tuple[float, float, float, float, float, float]  # x' = a x + b y + c, y' = d x + e y + f
_SAME: Matrix = (1, 0, 0, 0, 1, 0)


@dataclass(frozen=True, slots=True)
class Placed:
    """A picture and the affine map from image coordinates to its pixels."""

    picture: Array
    matrix: Matrix = _SAME

    @property
    def rows(self) -> int:
        return self.picture.shape[0]

    @property
    def columns(self) -> int:
        return self.picture.shape[1]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where an image coordinate lies in the picture."""
        a, b, c, d, e, f = self.matrix
        return a * x + b * y + c, d * x + e * y + f

    def then(self, picture: Array, step: Matrix) -> Placed:
        """`picture` is this one after `step`."""
        a, b, c, d, e, f = self.matrix
        g, h, i, j, k, m = step
        combined = (g * a + h * d, g * b + h * e, g * c + h * f + i, j * a + k * d, j * b + k * e, j * c + k * f + m)
        return Placed(picture, combined)


def resize(placed: Placed, rows: int, columns: int) -> Placed:
    """The picture in another size; averaged when smaller, interpolated when larger. Raises LimitExceeded."""
    rows, columns = max(1, rows), max(1, columns)
    if rows > MAX_OUTPUT_SIDE or columns > MAX_OUTPUT_SIDE or rows * columns > MAX_OUTPUT_PIXELS:
        raise LimitExceeded(f"a rendered image may have {MAX_OUTPUT_PIXELS} pixels and sides of {MAX_OUTPUT_SIDE}")
    if (placed.rows, placed.columns) == (rows, columns):
        return placed
    image = Image.fromarray(np.ascontiguousarray(placed.picture))
    scaled = np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR, reducing_gap=2.0))
    return placed.then(scaled, (columns / placed.columns, 0, 0, 0, rows / placed.rows, 0))


def squared(placed: Placed, aspect: tuple[float, float]) -> Placed:
    """The picture with oblong pixels made square by stretching their shorter direction."""
    ratio = aspect[0] / aspect[1]
    if abs(ratio - 1) < ASPECT_TOLERANCE or not 0.05 < ratio < 20:
        return placed
    if ratio > 1:
        return resize(placed, round(placed.rows * ratio), placed.columns)
    return resize(placed, placed.rows, round(placed.columns / ratio))


def fit(rows: int, columns: int, height: float, width: float) -> tuple[int, int]:
    """Largest (rows, columns) of the same shape within height x width."""
    scale = min(height / rows, width / columns)
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def area(placed: Placed, left: int, top: int, right: int, bottom: int) -> Placed:
    """The part of the picture from (left, top) up to and without (right, bottom); black where there is no picture."""
    width, height = right - left, bottom - top
    if width < 1 or height < 1:
        raise BadInput("an empty displayed area")
    if width > MAX_OUTPUT_SIDE or height > MAX_OUTPUT_SIDE or width * height > MAX_OUTPUT_PIXELS:
        raise LimitExceeded(f"a displayed area may have {MAX_OUTPUT_PIXELS} pixels")
    if (left, top, right, bottom) == (0, 0, placed.columns, placed.rows):
        return placed
    out = np.zeros((height, width, *placed.picture.shape[2:]), np.uint8)
    x0, x1 = max(left, 0), min(right, placed.columns)
    y0, y1 = max(top, 0), min(bottom, placed.rows)
    if x0 < x1 and y0 < y1:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = placed.picture[y0:y1, x0:x1]
    return placed.then(out, (1, 0, -left, 0, 1, -top))


def turned(placed: Placed, quarter_turns: int) -> Placed:
    """Turned clockwise by quarter turns."""
    for _ in range(quarter_turns % 4):
        placed = placed.then(np.rot90(placed.picture, -1), (0, -1, placed.rows, 1, 0, 0))
    return placed


def mirrored(placed: Placed) -> Placed:
    """Left and right exchanged."""
    return placed.then(placed.picture[:, ::-1], (-1, 0, placed.columns, 0, 1, 0))


def upside_down(placed: Placed) -> Placed:
    """Top and bottom exchanged."""
    return placed.then(placed.picture[::-1], (1, 0, 0, 0, -1, placed.rows))


def view(placed: Placed, viewport: Viewport) -> Placed:
    """The region of the picture the viewport names, flipped as it says, scaled to fit. Raises BadInput."""
    rows, columns = placed.rows, placed.columns
    width, height, left, top, region_width, region_height = viewport
    if not (1 <= width <= MAX_OUTPUT_SIDE and 1 <= height <= MAX_OUTPUT_SIDE):
        raise BadInput(f"a viewport of {width:g} x {height:g}; 1 to {MAX_OUTPUT_SIDE} are possible")
    x, y = left or 0.0, top or 0.0
    w = columns - x if region_width is None else region_width
    h = rows - y if region_height is None else region_height
    if not all(abs(v) <= MAX_OUTPUT_SIDE * 8 for v in (x, y, w, h)):
        raise BadInput(f"the viewport's region lies outside the image of {columns} x {rows}")
    x0, x1, y0, y1 = round(x), round(x + abs(w)), round(y), round(y + abs(h))
    if not (0 <= x0 < x1 <= columns and 0 <= y0 < y1 <= rows):
        raise BadInput(f"the viewport's region lies outside the image of {columns} x {rows}")
    region = placed.then(placed.picture[y0:y1, x0:x1], (1, 0, -x0, 0, 1, -y0))
    if w < 0:
        region = mirrored(region)
    if h < 0:
        region = upside_down(region)
    return resize(region, *fit(region.rows, region.columns, height, width))


def reduction(rows: int, columns: int, viewport: Viewport) -> int:
    """How many halvings leave the whole image at least as large as the viewport wants it."""
    if any(v is not None for v in viewport[2:]):
        return 0
    target_rows, target_columns = fit(rows, columns, max(1.0, viewport[1]), max(1.0, viewport[0]))
    levels = 0
    while levels < 5 and rows >> (levels + 1) >= target_rows and columns >> (levels + 1) >= target_columns:
        levels += 1
    return levels
