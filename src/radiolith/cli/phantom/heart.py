"""A beating heart as ultrasound shows it: the four chambers in a sector, speckled, with a curve below."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from radiolith.cli.phantom.shapes import Grid, Image, ellipse, grain, smooth

Frame = npt.NDArray[np.uint8]

OPENING = 0.68
"""Half of the sector's angle, in radians."""


def frame(columns: int, rows: int, phase: float) -> Frame:
    """One frame, `rows` by `columns` by 3; `phase` runs from 0 to 1 over a heartbeat."""
    grid = Grid.centred(columns, rows, columns / rows * 180.0, 180.0)
    y = grid.y + 84  # depth below the probe
    distance = np.hypot(grid.x, y)
    sector = (np.abs(np.arctan2(grid.x, y)) < OPENING) & (distance > 6) & (distance < 158)
    echo = _tissue(grid, phase) * _speckle(rows, columns, distance.shape, phase)
    echo = echo * np.exp(-distance / 260) * np.clip(distance / 20, 0.4, 1)
    grey = np.where(sector, np.clip(smooth(echo.astype(np.float32)) * 255, 3, 255), 0)
    picture = np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8)
    _flow(picture, grid, phase, sector)
    _curve(picture, phase)
    return picture


def _squeeze(phase: float) -> float:
    """0 relaxed, 1 contracted: quick in, slow out."""
    return float(np.sin(np.pi * min(phase / 0.42, 1.0)) ** 2 if phase < 0.42 else 0.0)


def _tissue(grid: Grid, phase: float) -> Image:
    beat = _squeeze(phase)
    bright = np.full((grid.y.shape[0], grid.x.shape[1]), 0.34, np.float32)
    _fill(bright, ellipse(grid, (2, -2), (58 - 3 * beat, 66 - 2 * beat)), 0.62)
    cavity = 0.05
    _fill(bright, ellipse(grid, (24, -20), (19 - 7 * beat, 36 - 5 * beat), 0.12), cavity)
    _fill(bright, ellipse(grid, (-22, -16), (16 - 5 * beat, 31 - 4 * beat), -0.16), cavity)
    _fill(bright, ellipse(grid, (24, 40), (18 + 3 * beat, 17 + 3 * beat)), cavity)
    _fill(bright, ellipse(grid, (-22, 38), (17 + 3 * beat, 16 + 3 * beat)), cavity)
    swing = 0.75 * (1 - beat) - 0.1
    for side, hinge in ((24, 19.0), (-22, 17.0)):
        for way in (-1, 1):
            tip = (side + way * (hinge - 9 * np.cos(swing)), 20 - 8 * np.sin(swing))
            _fill(bright, ellipse(grid, tip, (9.5, 1.5), -way * swing), 0.95)
    _fill(bright, ellipse(grid, (2, 58), (64, 2.5)), 0.9)
    return bright


def _fill(canvas: Image, mask: Image, value: float) -> None:
    canvas += mask * (np.float32(value) - canvas)


@cache
def _fields(rows: int, columns: int) -> tuple[Image, Image]:
    random = np.random.default_rng(41)
    return grain(random, (rows, columns), 1), grain(random, (rows, columns), 1)


def _speckle(rows: int, columns: int, shape: tuple[int, ...], phase: float) -> Image:
    """Interference of two fields that drift against each other: it flickers as real speckle does."""
    first, second = _fields(rows, columns)
    shift = int(phase * 24)
    return np.hypot(np.roll(first, shift, 0), np.roll(second, -shift, 1)).reshape(shape) * np.float32(0.85)


def _flow(picture: Frame, grid: Grid, phase: float, sector: npt.NDArray[np.bool_]) -> None:
    """Blood towards the probe in red, away from it in blue, through the valve."""
    inflow = float(np.sin(np.pi * np.clip((phase - 0.45) / 0.4, 0, 1)))
    outflow = _squeeze(phase)
    for strength, centre, colour in ((inflow, (24, 8), (230, 60, 20)), (outflow, (12, 2), (30, 90, 235))):
        if strength < 0.15:
            continue
        mask = ellipse(grid, centre, (9, 24 * strength), 0.1) * np.float32(0.75 * strength)
        mask = np.where(sector, mask, 0)[:, :, None]
        picture[:] = (picture * (1 - mask) + np.array(colour, np.float32) * mask).astype(np.uint8)


def _curve(picture: Frame, phase: float) -> None:
    """The electrocardiogram along the lower edge, with a mark where this frame is."""
    rows, columns = picture.shape[:2]
    time = np.arange(columns) / columns * 3
    beat = time % 1
    wave = 0.10 * np.exp(-(((beat - 0.86) / 0.03) ** 2)) + 0.22 * np.exp(-(((beat - 0.30) / 0.06) ** 2))
    spike = np.exp(-(((beat - 0.02) / 0.011) ** 2)) - 0.25 * np.exp(-(((beat - 0.05) / 0.012) ** 2))
    height = (rows - 12 - (wave + spike) * rows * 0.07).astype(int)
    for column in range(1, columns):
        low, high = sorted((height[column - 1], height[column]))
        picture[low : high + 1, column] = (60, 220, 120)
    mark = int((1 + phase) / 3 * columns)
    picture[rows - int(rows * 0.10) : rows - 4, mark : mark + 2] = (250, 220, 90)
