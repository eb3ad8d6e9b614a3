"""A chest and upper belly in Hounsfield units: slices of it are the CT, its shadow is the chest radiograph.

Heights run from 0 (below the liver) to 300 mm (above the lungs). One nodule of 12 mm sits in the left upper lobe; the
structured report measures it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from radiolith.cli.phantom.shapes import Ellipsoid, Grid, Image, blend, ellipse, grain

AIR, LUNG, FAT, WATER, MUSCLE, BLOOD, LIVER, BONE = -1000.0, -860.0, -95.0, 0.0, 50.0, 42.0, 62.0, 420.0
HEIGHT = 300.0
"""Millimetres from the lowest slice to the highest."""
WIDTH, DEPTH = 360.0, 360.0
"""Field of view in mm."""

NODULE = Ellipsoid((82.0, -18.0, 232.0), (6.0, 6.0, 6.0), 38.0)
LUNGS = (
    Ellipsoid((-78.0, -4.0, 175.0), (62.0, 86.0, 118.0), LUNG, 0.10),
    Ellipsoid((78.0, -4.0, 178.0), (62.0, 86.0, 116.0), LUNG, -0.10),
)
_BELLY = (
    Ellipsoid((-62.0, 2.0, 52.0), (84.0, 78.0, 74.0), LIVER),
    Ellipsoid((8.0, -26.0, 62.0), (62.0, 42.0, 40.0), LIVER),
    Ellipsoid((96.0, 42.0, 62.0), (30.0, 42.0, 46.0), 52.0, 0.35),
    Ellipsoid((54.0, -34.0, 42.0), (52.0, 36.0, 46.0), 24.0, 0.4),
    Ellipsoid((54.0, -52.0, 52.0), (34.0, 14.0, 24.0), AIR, 0.1),
    Ellipsoid((-52.0, 62.0, 20.0), (28.0, 24.0, 46.0), 34.0, 0.3),
    Ellipsoid((60.0, 62.0, 24.0), (28.0, 24.0, 48.0), 34.0, -0.3),
    Ellipsoid((-50.0, 64.0, 20.0), (12.0, 9.0, 26.0), FAT, 0.3),
    Ellipsoid((58.0, 64.0, 24.0), (12.0, 9.0, 26.0), FAT, -0.3),
)
_CHEST = (
    Ellipsoid((22.0, -32.0, 138.0), (60.0, 48.0, 54.0), 30.0, 0.5),
    Ellipsoid((34.0, -26.0, 130.0), (34.0, 26.0, 34.0), 64.0, 0.5),
    Ellipsoid((4.0, -46.0, 142.0), (28.0, 22.0, 34.0), 60.0, 0.5),
    Ellipsoid((0.0, -22.0, 200.0), (30.0, 34.0, 46.0), FAT),
    Ellipsoid((-16.0, -28.0, 206.0), (13.0, 13.0, 46.0), BLOOD + 20),
    Ellipsoid((8.0, -30.0, 196.0), (15.0, 15.0, 40.0), BLOOD + 20),
    Ellipsoid((10.0, -8.0, 222.0), (26.0, 16.0, 14.0), BLOOD + 20, 0.6),
)


@dataclass(frozen=True, slots=True)
class _Vessel:
    """A branch inside a lung: a straight piece of a tube that thins out."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float


@cache
def _vessels() -> tuple[_Vessel, ...]:
    """A tree from each hilum outwards, three generations deep."""
    random = np.random.default_rng(20)
    vessels: list[_Vessel] = []

    def grow(start: np.ndarray, direction: np.ndarray, length: float, radius: float, depth: int) -> None:
        end = start + direction / np.linalg.norm(direction) * length
        vessels.append(_Vessel(tuple(start), tuple(end), radius))
        if depth:
            for _ in range(3):
                grow(end, direction + random.normal(0, 0.75, 3), length * 0.72, radius * 0.66, depth - 1)

    for side in (-1.0, 1.0):
        hilum = np.array([side * 28.0, 4.0, 185.0])
        for _ in range(9):
            grow(hilum, np.array([side * 1.1, 0.0, 0.0]) + random.normal(0, 0.85, 3), 34.0, 4.4, 3)
    return tuple(vessels)


@cache
def _texture(rows: int, columns: int) -> tuple[Image, ...]:
    random = np.random.default_rng(21)
    return tuple(grain(random, (rows, columns), 2) for _ in range(4))


def hounsfield(grid: Grid, z: float) -> Image:
    """The slice at height `z`, without noise."""
    canvas = np.full((grid.y.shape[0], grid.x.shape[1]), AIR, np.float32)
    taper = 1 - 0.16 * float(np.clip((z - 200) / 100, 0, 1)) ** 2
    body = (168.0 * taper, 112.0 * taper)
    blend(canvas, ellipse(grid, (0, 0), body), FAT)
    blend(canvas, ellipse(grid, (0, 0), (body[0] - 15, body[1] - 12)), MUSCLE)
    _ribs(canvas, grid, z, body)
    inner = ellipse(grid, (0, 0), (body[0] - 29, body[1] - 25))
    blend(canvas, inner, FAT + 40 if z < 110 else 20.0)
    for organ in _BELLY:
        organ.paint(canvas, grid, z)
    for lung in LUNGS:
        mask = lung.cover(grid, z)
        if mask is not None:
            blend(canvas, mask * inner, LUNG)
    _branches(canvas, grid, z)
    for organ in _CHEST:
        organ.paint(canvas, grid, z)
    NODULE.paint(canvas, grid, z)
    _middle(canvas, grid, z)
    return canvas


def _ribs(canvas: Image, grid: Grid, z: float, body: tuple[float, float]) -> None:
    """Twelve pairs of slanting rings in the chest wall: each is cut where it passes the slice's height."""
    angle = np.arctan2(np.abs(grid.x) / body[0], -grid.y / body[1])  # 0 in front, pi at the spine
    height = z - 62 * (angle - np.float32(np.pi)) / np.float32(np.pi)
    phase = np.abs(((height - 60) / np.float32(24.0)) % 1 - np.float32(0.5)) * 2
    along = np.clip((phase - np.float32(0.52)) * 7, 0, 1) * (height > 60) * (height < 352)
    along = along * np.clip((angle - np.float32(0.42)) * 9, 0, 1)
    outer = ellipse(grid, (0, 0), (body[0] - 18, body[1] - 15)) - ellipse(grid, (0, 0), (body[0] - 28, body[1] - 24))
    marrow = ellipse(grid, (0, 0), (body[0] - 20.5, body[1] - 17.5)) - ellipse(
        grid, (0, 0), (body[0] - 25.5, body[1] - 21.5)
    )
    blend(canvas, outer * along, BONE)
    blend(canvas, marrow * np.clip((phase - np.float32(0.68)) * 7, 0, 1) * along, 190.0)


def _branches(canvas: Image, grid: Grid, z: float) -> None:
    reach = 9.0
    for vessel in _vessels():
        (x0, y0, z0), (x1, y1, z1) = vessel.start, vessel.end
        if not min(z0, z1) - vessel.radius <= z <= max(z0, z1) + vessel.radius:
            continue
        part = float(np.clip((z - z0) / (z1 - z0), 0, 1)) if abs(z1 - z0) > 1e-6 else 0.5
        slant = float(np.clip(np.hypot(x1 - x0, y1 - y0) / max(abs(z1 - z0), 1.0), 1, 3))
        x, y = x0 + (x1 - x0) * part, y0 + (y1 - y0) * part
        window = _window(grid, (x, y), reach + vessel.radius * slant)
        if window is not None:
            rows, columns = window
            here = Grid(grid.x[:, columns], grid.y[rows, :], grid.step)
            angle = float(np.arctan2(y1 - y0, x1 - x0))
            mask = ellipse(here, (x, y), (vessel.radius * slant, vessel.radius), angle)
            piece = canvas[rows, columns]
            inside = np.clip((-500 - piece) / np.float32(200), 0, 1)
            blend(piece, mask * inside, BLOOD)


def _window(grid: Grid, centre: tuple[float, float], reach: float) -> tuple[slice, slice] | None:
    """The part of the grid within `reach` of a point, or None where there is none."""
    first = np.searchsorted(grid.x[0], [centre[0] - reach, centre[0] + reach])
    second = np.searchsorted(grid.y[:, 0], [centre[1] - reach, centre[1] + reach])
    if first[0] == first[1] or second[0] == second[1]:
        return None
    return slice(int(second[0]), int(second[1])), slice(int(first[0]), int(first[1]))


def _middle(canvas: Image, grid: Grid, z: float) -> None:
    """Spine, aorta, windpipe and breastbone: what runs through all heights."""
    disc = 0.5 + 0.5 * float(np.cos(2 * np.pi * z / 27))
    blend(canvas, ellipse(grid, (0, 62), (21, 17)), BONE * 0.8 if disc < 0.85 else 90.0)
    blend(canvas, ellipse(grid, (0, 62), (18, 14)), 190.0 if disc < 0.85 else 95.0)
    blend(canvas, ellipse(grid, (0, 84), (9.5, 8)), 30.0)
    ring = ellipse(grid, (0, 84), (14, 12)) - ellipse(grid, (0, 84), (10, 8.5))
    blend(canvas, ring, BONE)
    blend(canvas, ellipse(grid, (0, 101), (4, 10)), BONE)
    for side in (-1, 1):
        blend(canvas, ellipse(grid, (side * 24, 84), (13, 4), side * 0.35), BONE * (0.4 + 0.6 * (1 - disc)))
    blend(canvas, ellipse(grid, (16, 38), (12, 12)), BLOOD + 25)
    if z < 120:
        blend(canvas, ellipse(grid, (-18, 36), (13, 10)), BLOOD)
    if z > 190:
        blend(canvas, ellipse(grid, (0, 10), (9, 8.5)), 40.0)
        blend(canvas, ellipse(grid, (0, 10), (7.5, 7)), AIR)
    elif z > 168:
        fork = (190 - z) * 1.1
        for side in (-1, 1):
            blend(canvas, ellipse(grid, (side * fork, 12), (8, 7)), 40.0)
            blend(canvas, ellipse(grid, (side * fork, 12), (6.5, 5.5)), AIR)
    if z > 130:
        blend(canvas, ellipse(grid, (0, -88), (16, 6)), BONE * 0.7)
        blend(canvas, ellipse(grid, (0, -88), (12, 3.5)), 160.0)


def noisy(canvas: Image, number: int) -> Image:
    """The slice as a scanner gives it: grain that is stronger inside the body, another pattern in every slice."""
    fields = _texture(*canvas.shape)
    texture = np.roll(fields[number % len(fields)], (number * 37, number * 91), (0, 1))
    strength = np.where(canvas > -900, np.float32(13.0), np.float32(6.0))
    return canvas + texture * strength


def shadow(columns: int, levels: int) -> Image:
    """The chest from the front: attenuation summed up from front to back, `levels` by `columns`, 0 to 1."""
    grid = Grid.centred(columns, 96, WIDTH, DEPTH * 0.62)
    rows: list[Image] = []
    for z in np.linspace(HEIGHT, 40.0, levels):
        attenuation = (hounsfield(grid, float(z)) + 1000) / 1000
        rows.append(np.where(attenuation > 1.15, 1 + (attenuation - 1) * 1.8, attenuation).sum(axis=0))
    total = np.stack(rows) / np.float32(np.percentile(rows, 99.5))
    return np.tanh(total * np.float32(1.15)) / np.float32(np.tanh(1.15))
