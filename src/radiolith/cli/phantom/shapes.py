"""Painting with ellipses, segments and noise: what the image generators share.

A canvas is a 2-D float32 array; shapes are painted over it in order, with an edge as soft as a pixel. Coordinates are
millimetres: x to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of one slice lie: `x` and `y` broadcast to the slice's shape; `step` is the pixel's size."""

    x: Image
    y: Image
    step: float

    @staticmethod
    def centred(columns: int, rows: int, width: float, height: float) -> Grid:
        """A grid of `columns` by `rows` pixels over `width` by `height` mm around the origin."""
        x = (np.arange(columns, dtype=np.float32) + 0.5) / columns * width - width / 2
        y = (np.arange(rows, dtype=np.float32) + 0.5) / rows * height - height / 2
        return Grid(x[None, :], y[:, None], width / columns)


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """Centre and half axes in mm, turned by `angle` in the slice's plane, filled with `value`."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    value: float
    angle: float = 0.0

    def paint(self, canvas: Image, grid: Grid, z: float) -> None:
        mask = self.cover(grid, z)
        if mask is not None:
            canvas += mask * (np.float32(self.value) - canvas)

    def cover(self, grid: Grid, z: float) -> Image | None:
        """How much of each pixel at height `z` lies inside, 0 to 1; None where nothing does."""
        dz = (z - self.centre[2]) / self.axes[2]
        if abs(dz) >= 1:
            return None
        shrink = float(np.sqrt(1 - dz * dz))
        return ellipse(
            grid, (self.centre[0], self.centre[1]), (self.axes[0] * shrink, self.axes[1] * shrink), self.angle
        )


def ellipse(grid: Grid, centre: tuple[float, float], axes: tuple[float, float], angle: float = 0.0) -> Image:
    """How much of each pixel lies inside an ellipse, 0 to 1, with an edge one pixel wide."""
    x, y = grid.x - np.float32(centre[0]), grid.y - np.float32(centre[1])
    if angle:
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        x, y = x * cos + y * sin, y * cos - x * sin
    radius = np.sqrt((x / np.float32(axes[0])) ** 2 + (y / np.float32(axes[1])) ** 2)
    softness = min(axes) / grid.step
    return np.clip((1 - radius) * np.float32(softness) + np.float32(0.5), 0, 1)


def blend(canvas: Image, mask: Image, value: float | Image) -> None:
    """Paint `value` where `mask` is 1, keep the canvas where it is 0."""
    canvas += mask * (value - canvas)


def smooth(image: Image, passes: int = 1) -> Image:
    """Each pixel the mean of itself and its neighbours, `passes` times (edges wrap round)."""
    for _ in range(passes):
        for axis in (0, 1):
            image = (np.roll(image, 1, axis) + image * 2 + np.roll(image, -1, axis)) / np.float32(4)
    return image


def grain(random: np.random.Generator, shape: tuple[int, int], passes: int) -> Image:
    """Smooth noise of mean 0 and deviation 1: the more passes, the coarser."""
    noise = smooth(random.standard_normal(shape, np.float32), passes)
    return (noise - noise.mean()) / noise.std()
