"""What is drawn over a picture: overlays, shutters, graphic annotations, text. Runs in decoder processes only.

Owns: strokes, fonts and their sizes. Fonts are read into memory when the zygote starts; later no file opens.
Must never change the picture it is given: results are new arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from radiolith.codecs.decode import Array
from radiolith.codecs.description import Overlay, PixelDescription
from radiolith.codecs.geometry import Placed
from radiolith.codecs.presentation import Graphic, Point, Presentation, Shutter
from radiolith.model import BadInput

_FONTS = (  # with Latin, Greek and Cyrillic at least; otherwise pillow's own
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
    "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
)
TEXT_SHARE = 1 / 32  # height of a line of text to height of the picture
MIN_TEXT, MAX_TEXT = 10, 96  # pixels
CURVE_STEPS = 12  # straight pieces between two points of an interpolated curve
_White = tuple[int, int, int] | int


@cache
def _font_file() -> bytes:
    for name in _FONTS:
        path = Path(name)
        if path.is_file():
            return path.read_bytes()
    return b""


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font in `size` pixels."""
    data = _font_file()
    if data:
        return ImageFont.truetype(BytesIO(data), size, layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(size)


def with_shutter(picture: Array, shutter: Shutter) -> Array:
    """The picture with everything outside the shutter's shapes in its presentation value."""
    rows, columns = picture.shape[:2]
    shown = np.ones((rows, columns), bool)
    if shutter.rectangle is not None:
        left, right, upper, lower = shutter.rectangle
        inside = np.zeros_like(shown)
        inside[max(upper - 1, 0) : max(lower, 0), max(left - 1, 0) : max(right, 0)] = True
        shown &= inside
    if shutter.circle is not None:
        row, column, radius = shutter.circle
        y, x = np.ogrid[1 : rows + 1, 1 : columns + 1]
        shown &= (y - row) ** 2 + (x - column) ** 2 <= radius**2
    if shutter.polygon:
        mask = Image.new("1", (columns, rows))
        ImageDraw.Draw(mask).polygon([(x - 1, y - 1) for x, y in shutter.polygon], fill=1)
        shown &= np.asarray(mask)
    out = picture.copy()
    out[~shown] = shutter.value
    return out


def with_overlays(picture: Array, planes: Iterable[tuple[Overlay, Array]]) -> Array:
    """The picture with overlay planes (as from `overlay_bits`) burned in white."""
    out = picture.copy()
    rows, columns = picture.shape[:2]
    for overlay, bits in planes:
        top, left = overlay.origin[0] - 1, overlay.origin[1] - 1
        y0, y1 = max(top, 0), min(top + bits.shape[0], rows)
        x0, x1 = max(left, 0), min(left + bits.shape[1], columns)
        if y0 < y1 and x0 < x1:
            out[y0:y1, x0:x1][bits[y0 - top : y1 - top, x0 - left : x1 - left] != 0] = 255
    return out


def overlay_bits(overlay: Overlay, p: PixelDescription, pixels: Array, frame: int) -> Array | None:
    """One overlay plane for image frame `frame` (from 0) as (rows, columns) of 0 and 1; None if it has none there."""
    if not overlay.data:
        if p.floating or pixels.ndim != 2 or overlay.bit_position >= 8 * pixels.dtype.itemsize:
            return None
        cells = pixels.view(f"u{pixels.dtype.itemsize}")
        return ((cells >> overlay.bit_position) & 1).astype(np.uint8)
    count = overlay.rows * overlay.columns
    index = frame + 1 - overlay.first_frame if overlay.frames > 1 else 0
    if not 0 <= index < overlay.frames:
        return None
    start = index * count
    packed = np.frombuffer(overlay.data, np.uint8)[start // 8 : (start + count + 7) // 8]
    if len(packed) * 8 < count:
        raise BadInput("an overlay shorter than its rows and columns")
    bits = np.unpackbits(packed, bitorder="little")[start % 8 : start % 8 + count]
    if len(bits) < count:
        raise BadInput("an overlay shorter than its rows and columns")
    return bits.reshape(overlay.rows, overlay.columns)


def annotate(placed: Placed, state: Presentation) -> Array:
    """The picture with the state's graphics and texts; fractions are of the picture as it is."""
    image = Image.fromarray(np.ascontiguousarray(placed.picture))
    draw = ImageDraw.Draw(image)
    white = 255 if image.mode == "L" else (255, 255, 255)
    width = max(1, round(max(image.size) / 512))

    def where(point: Point, relative: bool) -> Point:
        if relative:
            return point[0] * placed.columns, point[1] * placed.rows
        return placed.at(*point)

    for graphic in state.graphics:
        _stroke(draw, graphic, [where(p, graphic.relative) for p in graphic.points], white, width)
    for item in state.texts:
        _write(draw, item.lines, where(item.at, item.relative), _size(image.size[1]), white)
    return np.asarray(image)


def _stroke(draw: ImageDraw.ImageDraw, graphic: Graphic, points: list[Point], white: _White, width: int) -> None:
    fill = white if graphic.filled else None
    if graphic.kind == "POINT":
        for x, y in points:
            reach = 2 * width + 1
            draw.line([(x - reach, y), (x + reach, y)], fill=white, width=width)
            draw.line([(x, y - reach), (x, y + reach)], fill=white, width=width)
        return
    if graphic.kind == "CIRCLE":
        (x, y), rim = points[0], points[1]
        points = _ellipse((x, y), (rim[0] - x, rim[1] - y), (-(rim[1] - y), rim[0] - x))
    elif graphic.kind == "ELLIPSE":
        center = (points[0][0] + points[1][0]) / 2, (points[0][1] + points[1][1]) / 2
        major = points[1][0] - center[0], points[1][1] - center[1]
        minor = points[3][0] - center[0], points[3][1] - center[1]
        points = _ellipse(center, major, minor)
    elif graphic.kind == "INTERPOLATED":
        points = _curve(points)
    if fill is not None and len(points) > 2 and points[0] == points[-1]:
        draw.polygon(points, fill=fill)
    draw.line(points, fill=white, width=width, joint="curve")


def _ellipse(center: Point, major: Point, minor: Point) -> list[Point]:
    angles = [2 * math.pi * i / 72 for i in range(72)]
    around = [
        (
            center[0] + major[0] * math.cos(a) + minor[0] * math.sin(a),
            center[1] + major[1] * math.cos(a) + minor[1] * math.sin(a),
        )
        for a in angles
    ]
    return [*around, around[0]]


def _curve(points: Sequence[Point]) -> list[Point]:
    """A Catmull-Rom curve through the points."""
    out: list[Point] = []
    for i in range(len(points) - 1):
        p0, p1, p2, p3 = points[max(i - 1, 0)], points[i], points[i + 1], points[min(i + 2, len(points) - 1)]
        for step in range(CURVE_STEPS):
            t = step / CURVE_STEPS
            x, y = (
                0.5 * (2 * p1[k] + (p2[k] - p0[k]) * t + (2 * p0[k] - 5 * p1[k] + 4 * p2[k] - p3[k]) * t**2
                       + (3 * p1[k] - p0[k] - 3 * p2[k] + p3[k]) * t**3)
                for k in (0, 1)
            )  # fmt: skip
            out.append((x, y))
    return [*out, points[-1]]


def _size(height: int) -> int:
    return round(min(max(height * TEXT_SHARE, MIN_TEXT), MAX_TEXT))


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[str], at: Point, size: int, white: _White) -> None:
    """White letters with a black rim, readable on anything."""
    black = 0 if white == 255 else (0, 0, 0)
    for number, line in enumerate(lines):
        printable = "".join(c if c.isprintable() else " " for c in line)
        place = (at[0], at[1] + number * size * 1.25)
        draw.text(place, printable, fill=white, font=font(size), stroke_width=max(1, size // 12), stroke_fill=black)


def with_lines(picture: Array, lines: Sequence[str]) -> Array:
    """The picture with lines of text in the upper left corner, small enough to fit its width."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    draw = ImageDraw.Draw(image)
    size = _size(image.size[1])
    longest = max((draw.textlength(line, font=font(size)) for line in lines), default=0.0)
    if longest > image.size[0] * 0.95:
        size = max(6, int(size * image.size[0] * 0.95 / longest))
    margin = max(2, size // 2)
    _write(draw, lines, (margin, margin), size, 255 if image.mode == "L" else (255, 255, 255))
    return np.asarray(image)
