"""A head in slices: what the MR shows, with the grey values of two weightings.

Tissues are painted as numbers first, then looked up in the table of a weighting, as a scanner does it in principle.
Heights run from 0 (level of the eyes) to 130 mm (near the vertex).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from radiolith.cli.phantom.shapes import Grid, Image, ellipse, grain, smooth

HEIGHT = 130.0
FIELD = 240.0
"""Field of view in mm, both ways."""

CONTRASTS: dict[str, dict[str, float]] = {
    "T1": {"air": 8, "scalp": 900, "bone": 60, "marrow": 420, "csf": 130, "grey": 470, "white": 640, "deep": 540},
    "T2": {"air": 8, "scalp": 620, "bone": 50, "marrow": 300, "csf": 980, "grey": 520, "white": 380, "deep": 430},
}
"""Weighting -> tissue -> signal, in arbitrary units."""


@cache
def _folds(rows: int, columns: int) -> tuple[Image, ...]:
    """Coarse noise that bends the border between grey and white matter into folds."""
    random = np.random.default_rng(31)
    passes = max(2, rows // 24)
    return tuple(grain(random, (rows, columns), passes) for _ in range(3))


def signal(grid: Grid, z: float, weighting: str, number: int) -> Image:
    """One slice at height `z`, with noise."""
    tissue = CONTRASTS[weighting]
    part = z / HEIGHT
    size = float(np.sqrt(max(1 - (max(part - 0.18, 0.0) / 1.02) ** 2, 0.05)))
    outer = (76 * size, 96 * size)
    canvas = np.full((grid.y.shape[0], grid.x.shape[1]), tissue["air"], np.float32)
    for shrink, name in ((0, "scalp"), (6, "bone"), (8, "marrow"), (10.5, "bone"), (12.5, "csf")):
        _paint(canvas, ellipse(grid, (0, 0), (outer[0] - shrink, outer[1] - shrink)), tissue[name])
    _brain(canvas, grid, (outer[0] - 15, outer[1] - 15), part, tissue)
    if part < 0.22:
        _face(canvas, grid, part, tissue)
    random = np.random.default_rng(3200 + number)
    noise = random.standard_normal(canvas.shape, np.float32) * np.float32(16)
    return np.abs(smooth(canvas) + noise)


def _paint(canvas: Image, mask: Image, value: float) -> None:
    canvas += mask * (np.float32(value) - canvas)


def _brain(canvas: Image, grid: Grid, axes: tuple[float, float], part: float, tissue: dict[str, float]) -> None:
    fields = _folds(*canvas.shape)
    fold = fields[0] * np.float32(1 - part) + fields[1] * np.float32(part)
    radius = np.sqrt((grid.x / np.float32(axes[0])) ** 2 + (grid.y / np.float32(axes[1])) ** 2)
    brain = np.clip((1 - radius) * np.float32(axes[0]) / grid.step, 0, 1)
    _paint(canvas, brain, tissue["grey"])
    # Furrows run in from the surface where the coarse noise changes its sign; white matter fills what is deeper.
    furrow = np.clip(1 - np.abs(fold) * 9, 0, 1) * np.clip((radius - np.float32(0.74)) * 9, 0, 1)
    _paint(canvas, brain * furrow, tissue["csf"])
    depth = np.float32(0.86) - radius + np.abs(fold) * np.float32(0.16) - np.float32(0.10)
    _paint(canvas, np.clip(depth * 34, 0, 1), tissue["white"])
    gap = np.clip(1.6 - np.abs(grid.x + fold * np.float32(0.8)) / grid.step, 0, 1)
    front = np.clip((np.abs(grid.y) - np.float32(axes[1] * 0.42)) / 6, 0, 1)
    _paint(canvas, brain * gap * front, tissue["csf"])
    if 0.15 < part < 0.62:
        middle = 1 - ((part - 0.38) / 0.24) ** 2
        for side in (-1, 1):
            _paint(canvas, ellipse(grid, (side * 27, 2), (9, 22 * max(middle, 0.2)), side * 0.25), tissue["deep"])
            _paint(canvas, ellipse(grid, (side * 13, 12), (10, 14 * max(middle, 0.2)), side * -0.2), tissue["deep"])
    if 0.25 < part < 0.78:
        span = float(np.sqrt(max(1 - ((part - 0.52) / 0.27) ** 2, 0.02)))
        for side in (-1, 1):
            _paint(canvas, ellipse(grid, (side * 11, -20), (5 * span + 1, 17 * span), side * -0.35), tissue["csf"])
            _paint(canvas, ellipse(grid, (side * 17, 26), (5 * span + 1, 20 * span), side * 0.45), tissue["csf"])
        if part < 0.45:
            _paint(canvas, ellipse(grid, (0, 6), (2.6, 12)), tissue["csf"])


def _face(canvas: Image, grid: Grid, part: float, tissue: dict[str, float]) -> None:
    """Eyes, the fat behind them and the air between."""
    for side in (-1, 1):
        _paint(canvas, ellipse(grid, (side * 31, -66), (21, 26), side * 0.3), tissue["scalp"])
        _paint(canvas, ellipse(grid, (side * 31, -76), (13, 13)), tissue["csf"])
        _paint(canvas, ellipse(grid, (side * 31, -86), (5.5, 2.6)), tissue["deep"])
        _paint(canvas, ellipse(grid, (side * 25, -52), (2.6, 15), side * 0.4), tissue["white"])
    _paint(canvas, ellipse(grid, (0, -70), (10, 24)), tissue["air"])
    _paint(canvas, ellipse(grid, (0, -70), (1.4, 22)), tissue["grey"])
    if part < 0.12:
        for side in (-1, 1):
            _paint(canvas, ellipse(grid, (side * 46, 14), (13, 8), side * 0.6), tissue["bone"])
