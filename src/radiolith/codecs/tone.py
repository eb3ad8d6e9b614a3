"""Grey pixels to display values: modality, VOI and presentation transformations (PS3.3 C.11, PS3.4 N.2).

Owns: the chain stored value -> modality value -> VOI -> 0 (black) to 255 (white). Integer pixels of up to 16 bits go
through one table of all stored values; wider and floating ones are computed pixel by pixel. Runs in decoder processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radiolith.codecs.colour import table
from radiolith.codecs.decode import Array, values
from radiolith.codecs.description import Lut, PixelDescription, Window
from radiolith.model import BadInput

Floats = NDArray[np.float32]
TABLE_BITS = 16


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
    if p.bits_allocated == 1 or p.bits_stored == 1:
        plain = tone.window is None and tone.voi is None
        lit = values(p, pixels) != 0
        return np.where(lit != tone.inverse, np.uint8(255), np.uint8(0)) if plain else _computed(p, pixels, tone)
    if p.floating or p.bits_stored > TABLE_BITS or p.high_bit >= TABLE_BITS:
        return _computed(p, pixels, tone)
    return _by_table(p, pixels, tone)


def _by_table(p: PixelDescription, pixels: Array, tone: Tone) -> Array:
    size = 1 << p.bits_stored
    stored = np.arange(size, dtype=np.int32)
    if p.signed:
        stored[size // 2 :] -= size
    index = pixels.view(f"u{pixels.dtype.itemsize}")
    if pixels.dtype.itemsize > 2:
        index = index.astype(np.uint16)
    shift = p.high_bit + 1 - p.bits_stored
    if shift:
        index = index >> shift
    if p.bits_stored < index.dtype.itemsize * 8:
        index = index & index.dtype.type(size - 1)
    if tone.window is None and tone.voi is None:
        tone = _with_range(p, tone, _stored_range(p, index, stored))
    grey = _grey(_modality(stored.astype(np.float32), stored, tone), tone)
    if p.padding is not None:
        grey[(stored >= p.padding[0]) & (stored <= p.padding[1])] = 0
    return grey.take(index, mode="clip")


def _stored_range(p: PixelDescription, index: Array, stored: NDArray[np.int32]) -> tuple[float, float]:
    """Lowest and highest stored value in the frame, padding left out."""
    if p.padding is None and not p.signed:
        return float(index.min()), float(index.max())
    present = np.zeros(len(stored), bool)
    present[index] = True
    if p.padding is not None:
        present &= (stored < p.padding[0]) | (stored > p.padding[1])
    found = stored[present]
    return (float(found.min()), float(found.max())) if len(found) else (0.0, 1.0)


def _with_range(p: PixelDescription, tone: Tone, ends: tuple[float, float]) -> Tone:
    """The tone with a window that spans the stored values `ends`."""
    span = np.arange(int(ends[0]), int(ends[1]) + 1, dtype=np.int32) if tone.modality else np.array(ends, np.float32)
    reached = _modality(span.astype(np.float32), span.astype(np.int32), tone)
    low, high = float(reached.min()), float(reached.max())
    width = max(high - low, 1e-6)
    return Tone(
        tone.slope,
        tone.intercept,
        tone.modality,
        Window(low + width / 2, width, "LINEAR_EXACT"),
        None,
        tone.presentation,
        tone.inverse,
    )


def _computed(p: PixelDescription, pixels: Array, tone: Tone) -> Array:
    """Pixel by pixel, for what has no table."""
    stored = values(p, pixels)
    numbers = np.nan_to_num(stored.astype(np.float32), nan=0.0, posinf=3e38, neginf=-3e38)
    padded = None
    if p.padding is not None:
        padded = (stored >= p.padding[0]) & (stored <= p.padding[1])
    if tone.window is None and tone.voi is None:
        kept = numbers if padded is None or bool(padded.all()) else numbers[~padded]
        low, high = float(kept.min()), float(kept.max())
        tone = _with_range(p, Tone(tone.slope, tone.intercept, inverse=tone.inverse), (low, high))
        if low != int(low) or high != int(high) or abs(low) > 1e6 or abs(high) > 1e6:
            ends = sorted((low * tone.slope + tone.intercept, high * tone.slope + tone.intercept))
            width = max(ends[1] - ends[0], 1e-30)
            window = Window((ends[0] + ends[1]) / 2, width, "LINEAR_EXACT")
            tone = Tone(tone.slope, tone.intercept, None, window, inverse=tone.inverse)
    whole = None if p.floating else np.clip(stored, -(2**31), 2**31 - 1).astype(np.int32)
    grey = _grey(_modality(numbers, whole, tone), tone)
    if padded is not None:
        grey[padded] = 0
    return grey


def _modality(numbers: Floats, stored: NDArray[np.int32] | None, tone: Tone) -> Floats:
    """Modality values: through the LUT if there is one, else rescaled."""
    if tone.modality is not None and stored is not None:
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
