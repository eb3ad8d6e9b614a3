"""Grey pixels to display values: modality, VOI and presentation transformations (PS3.3 C.11, PS3.4 N.2).

Owns: the chain stored value -> modality value -> VOI -> 0 (black) to 255 (white). Integers go through a table of the
values between the frame's lowest and highest; floating ones are computed pixel by pixel. Runs in decoder processes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from radiolith.codecs.colour import table
from radiolith.codecs.decode import Array, values
from radiolith.codecs.description import Lut, PixelDescription, Window
from radiolith.model import BadInput

Floats = NDArray[np.float32]
MAX_TABLE = 65_536  # entries: every value of 16-bit pixels


@dataclass(frozen=True, slots=True)
class Tone:
    """The transformations to apply. `window` wins over `voi`; with neither, the range of the frame is used."""

    slope: float = 1.0
    intercept: float = 0.0
    modality: Lut | None = None
    window: Window | None = None
    voi: Lut | None = None
    presentation: Lut | None = None
    inverse: bool = False


def tone_of(p: PixelDescription, window: Window | None = None) -> Tone:
    """What the object itself asks for: its first VOI LUT or window; `window` replaces both.

    A request's window applies to modality values, as the object's own does.
    """
    chosen = window or (p.windows[0] if p.windows and not p.voi_luts else None)
    return Tone(
        slope=p.slope,
        intercept=p.intercept,
        modality=p.modality_lut,
        window=chosen,
        voi=p.voi_luts[0] if p.voi_luts and chosen is None else None,
        inverse=p.photometric == "MONOCHROME1" or p.inverse,
    )


def to_grey(p: PixelDescription, pixels: Array, tone: Tone) -> Array:
    """Display values, u8, of decoded `pixels`; padding is black."""
    stored = values(p, pixels)
    if p.bits_stored == 1 and tone.window is None and tone.voi is None:
        return np.where((stored != 0) != tone.inverse, np.uint8(255), np.uint8(0))
    if not p.floating:
        low, high = int(stored.min()), int(stored.max())
        if high - low < MAX_TABLE:
            return _by_table(p, stored, tone, (low, high))
    return _computed(p, stored, tone)


def _by_table(p: PixelDescription, stored: Array, tone: Tone, ends: tuple[int, int]) -> Array:
    """Through a table with one entry for each value from the lowest to the highest of the frame."""
    low, high = ends
    entries = np.arange(low, high + 1, dtype=np.int64)
    kept = entries
    if p.padding is not None:
        outside = (entries < p.padding[0]) | (entries > p.padding[1])
        kept = entries[outside]
    if tone.window is None and tone.voi is None:
        if len(kept) and len(kept) < len(entries):  # only values that occur, without padding, make the window
            kept = np.unique(stored[(stored < p.padding[0]) | (stored > p.padding[1])]) if p.padding else kept
        tone = _with_range(tone, kept if len(kept) else entries)
    grey = _grey(_modality(entries.astype(np.float32), entries, tone), tone)
    if len(kept) < len(entries) and p.padding is not None:
        grey[(entries >= p.padding[0]) & (entries <= p.padding[1])] = 0
    cells = stored.view(f"u{stored.dtype.itemsize}")
    index = cells - cells.dtype.type(
        low & ((1 << 8 * cells.dtype.itemsize) - 1)
    )  # wraps round to the distance from low
    return grey.take(index, mode="clip")


def _with_range(tone: Tone, stored: Array) -> Tone:
    """The tone with a window that spans what the stored values become."""
    reached = _modality(stored.astype(np.float32), stored, tone)
    low, high = float(reached.min()), float(reached.max())
    width = max(high - low, 1e-30)
    return replace(tone, window=Window(low + width / 2, width, "LINEAR_EXACT"))


def _computed(p: PixelDescription, stored: Array, tone: Tone) -> Array:
    """Value by value, for floating point and for integers spread too wide for a table."""
    numbers = np.nan_to_num(stored.astype(np.float32), nan=0.0, posinf=3e38, neginf=-3e38)
    padded = np.zeros(stored.shape, bool)
    if p.padding is not None:
        padded = (stored >= p.padding[0]) & (stored <= p.padding[1])
    if tone.window is None and tone.voi is None:
        kept = numbers[~padded]
        tone = _with_range(tone, kept if len(kept) else numbers)
    whole = None if p.floating else stored.astype(np.int64)
    grey = _grey(_modality(numbers, whole, tone), tone)
    grey[padded] = 0
    return grey


def _modality(numbers: Floats, stored: Array | None, tone: Tone) -> Floats:
    """Modality values: through the LUT if there is one, else rescaled."""
    if tone.modality is not None and stored is not None and stored.dtype.kind != "f":
        entries = table(tone.modality)
        return entries.take(np.clip(stored - tone.modality.first, 0, len(entries) - 1)).astype(np.float32)
    if tone.slope == 1.0 and tone.intercept == 0.0:
        return numbers
    return numbers * np.float32(tone.slope) + np.float32(tone.intercept)


def _grey(modality: Floats, tone: Tone) -> NDArray[np.uint8]:
    """VOI and presentation transformation of modality values; new array."""
    if tone.window is not None:
        unit = windowed(modality, tone.window)
    elif tone.voi is not None:
        entries = table(tone.voi)
        index = np.clip(modality - tone.voi.first, 0, len(entries) - 1).astype(np.int32)
        unit = entries.take(index).astype(np.float32) / ((1 << tone.voi.bits) - 1)
    else:
        raise BadInput("a rendering without window")
    if tone.presentation is not None:
        entries = table(tone.presentation)
        index = np.rint(unit * (len(entries) - 1)).astype(np.int32)
        unit = entries.take(np.clip(index, 0, len(entries) - 1)).astype(np.float32) / (
            (1 << tone.presentation.bits) - 1
        )
    if tone.inverse:
        unit = np.float32(1.0) - unit
    return np.rint(np.clip(unit, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)


def windowed(values: Floats, window: Window) -> Floats:
    """0 to 1 for modality values under a window (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    center, width = np.float32(window.center), np.float32(window.width)
    if window.function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.float32(1.0) / (np.float32(1.0) + np.exp(np.float32(-4.0) * (values - center) / width))
    if window.function == "LINEAR_EXACT":
        unit = (values - center) / width + np.float32(0.5)
    elif window.width <= 1:
        return (values > center - np.float32(0.5)).astype(np.float32)
    else:
        unit = (values - (center - np.float32(0.5))) / (width - np.float32(1.0)) + np.float32(0.5)
    return np.clip(unit, 0.0, 1.0)
