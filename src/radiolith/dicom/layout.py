"""From a finished walk to the Layout that frames are read with.

Owns: the interpretation of the pixel description (PS3.3 C.7.6.3). Must never: believe numbers that the bytes do not
cover: they are computed as unbounded ints and only compared.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from radiolith.dicom import syntax
from radiolith.dicom.fragments import Fragments, PixelElement
from radiolith.dicom.frames import fits_inline
from radiolith.dicom.limits import UNDEFINED
from radiolith.dicom.plain import Kept
from radiolith.dicom.wanted import (
    BITS_ALLOCATED,
    COLUMNS,
    EXTENDED_OFFSET_TABLE,
    NUMBER_OF_FRAMES,
    PHOTOMETRIC_INTERPRETATION,
    ROWS,
    SAMPLES_PER_PIXEL,
)
from radiolith.model import Layout, Pixels

_NUMBER_MAX = (1 << 31) - 1
"""IS is at most 2^31 - 1 (PS3.5 table 6.2-1)."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where the dataset lies in the payload, and how it is written."""

    transfer_syntax: str
    start: int
    end: int
    size: int
    header_limit: int  # where the header ends at the latest: the dataset's end, in walked (inflated) positions
    big_endian: bool


def integer(elements: Kept, tag: int, default: int, *, big_endian: bool = False) -> int:
    """The first value of a whole-number element, binary or text whatever its VR says; `default` if there is none."""
    found = elements.get(tag)
    if found is None or not found[1]:
        return default
    vr, raw = found
    if vr in ("IS", "DS", "LO", "SH", "CS") or (vr == "UN" and raw.strip(b" \0").isdigit()):
        text = raw.split(b"\\", 1)[0].strip(b" \0")
        try:
            number = int(text) if len(text) <= 12 else default
        except ValueError:
            number = default
    else:
        width = 4 if vr in ("UL", "SL") and len(raw) >= 4 else 2
        number = int.from_bytes(raw[:width], "big" if big_endian else "little")
    return number if 0 <= number <= _NUMBER_MAX else default


def build(
    span: Span, elements: Kept, pixels: PixelElement | None, fragments: Fragments | None
) -> tuple[Layout, array[int], list[str]]:
    """The layout, the frames' extents where there are fragments, and warnings."""
    if pixels is None:
        return Layout(span.transfer_syntax, span.start, span.end, span.size, span.header_limit), array("Q"), []
    big = span.big_endian
    rows, columns = integer(elements, ROWS, 0, big_endian=big), integer(elements, COLUMNS, 0, big_endian=big)
    bits = integer(elements, BITS_ALLOCATED, 0, big_endian=big)
    samples = integer(elements, SAMPLES_PER_PIXEL, 1, big_endian=big)
    frames = max(1, integer(elements, NUMBER_OF_FRAMES, 1, big_endian=big))
    table, warnings = array("Q"), []
    kind, start, length = Pixels.NATIVE, pixels.start, pixels.length
    if fragments is not None and length == UNDEFINED:
        kind, start, length = Pixels.ENCAPSULATED, fragments.start or pixels.start, fragments.end - fragments.start
        if span.transfer_syntax in syntax.VIDEO:
            kind = Pixels.VIDEO
        else:
            table, warning = fragments.frames(frames, elements.get(EXTENDED_OFFSET_TABLE, ("", b""))[1])
            warnings += [warning] if warning else []
            frames = len(table) // 2  # what is claimed beyond the bytes would only be asked for, one by one
    else:
        length = min(length, span.header_limit - start)
        expected = (rows * columns * samples * bits * frames + 7) // 8
        if samples == 3 and length < expected and _is_subsampled(elements):
            samples, expected = 2, (rows * columns * 2 * bits * frames + 7) // 8
        if length < expected:
            warnings.append(f"the pixel data have {length} bytes where the header describes {expected}")
        if syntax.is_encapsulated(span.transfer_syntax):
            warnings.append("the pixel data of an encapsulated transfer syntax are not in fragments")
            kind = Pixels.NATIVE if expected and length >= expected else Pixels.NONE
        bits_each = rows * columns * samples * bits
        frames = min(frames, max(1, -(-length * 8 // bits_each)) if bits_each else 1)
    inline = len(table) > 0 and fits_inline(len(table) // 2)
    layout = Layout(
        transfer_syntax=span.transfer_syntax,
        dataset_start=span.start,
        dataset_end=span.end,
        original_size=span.size,
        header_end=pixels.offset,
        pixels=kind,
        pixel_tag=pixels.tag,
        pixel_start=start,
        pixel_length=length,
        frames=frames,
        rows=rows,
        columns=columns,
        samples=samples,
        bits_allocated=bits,
        frames_inline=tuple(zip(table[0::2], table[1::2], strict=True)) if inline else (),
        table_offset=span.size if table and not inline else 0,
    )
    return layout, table, warnings


def _is_subsampled(elements: Kept) -> bool:
    """Two samples a pixel are stored for 4:2:2 (PS3.3 C.7.6.3.1.2)."""
    value = elements.get(PHOTOMETRIC_INTERPRETATION, ("", b""))[1].strip(b" \0")
    return value in (b"YBR_FULL_422", b"YBR_PARTIAL_422")
