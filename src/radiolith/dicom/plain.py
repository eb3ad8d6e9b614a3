"""The hot loops of the walk: over elements that need no thought.

Owns: two pure functions. An element is plain when it has a known VR (or is implicit), a defined length within what
holds it, is no sequence, and stands before the pixel data; a wanted one must be all there and short enough. The loop
stops in front of the first that is not, which `walk` looks at with all care. Must never: raise, hold state, or make
an object for an element that is not wanted.

Arguments of both: the buffer, the index to begin at, the index where the holding item ends (or far away), the bounds
(last tag; highest tag that is not plain from below; longest kept value in bytes), what is wanted and where it is
kept, the byte order. Both return the index to go on from (beyond the buffer when a value is), the last tag, the
elements walked, the bytes kept, and whether tags came out of order.
"""

from __future__ import annotations

from collections.abc import Mapping

from radiolith.dicom import dictionary
from radiolith.dicom.element import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_BE,
    IMPLICIT_LE,
    LONG_FORM,
    SHORT_FORM,
    UINT_BE,
    UINT_LE,
)
from radiolith.dicom.limits import UNDEFINED

Kept = dict[int, tuple[str, bytes]]
"""tag -> (VR, raw value)"""

BULK_GROUP = 0x7FE00000
"""From the pixel data group on, delimiters included, nothing is plain."""

Walked = tuple[int, int, int, int, bool]


def explicit(
    buffer: bytes, at: int, stop: int, bounds: tuple[int, int, int], keeping: tuple[Mapping[int, str], Kept], big: bool
) -> Walked:
    """Explicit VR."""
    head, uint = (EXPLICIT_BE, UINT_BE) if big else (EXPLICIT_LE, UINT_LE)
    short, long = SHORT_FORM.get, LONG_FORM.get
    want, keep = keeping
    last, floor, value_max = bounds
    size = len(buffer)
    edge = min(size - 12, stop - 8)
    count = kept = 0
    disorder = False
    while at <= edge:
        group, element, code, length = head(buffer, at)
        tag = group << 16 | element
        if not floor < tag < BULK_GROUP:
            break
        vr = short(code)
        if vr is not None:
            after = at + 8 + length
        else:
            vr = long(code)
            if vr is None or vr == "SQ":
                break
            length = uint(buffer, at + 8)[0]
            if length == UNDEFINED:
                break
            after = at + 12 + length
        if after > stop:
            break
        if tag in want:
            if after > size or length > value_max:
                break
            keep[tag] = vr, buffer[after - length : after]
            kept += length
        if tag <= last:
            disorder = True
        last = tag
        at = after
        count += 1
    return at, last, count, kept, disorder


def implicit(
    buffer: bytes, at: int, stop: int, bounds: tuple[int, int, int], keeping: tuple[Mapping[int, str], Kept], big: bool
) -> Walked:
    """Implicit VR, where only the dictionary tells a sequence."""
    head = IMPLICIT_BE if big else IMPLICIT_LE
    sequences = dictionary.SEQUENCES
    want, keep = keeping
    last, floor, value_max = bounds
    size = len(buffer)
    edge = min(size, stop) - 8
    count = kept = 0
    disorder = False
    while at <= edge:
        group, element, length = head(buffer, at)
        tag = group << 16 | element
        if not floor < tag < BULK_GROUP or length == UNDEFINED or tag in sequences:
            break
        after = at + 8 + length
        if after > stop:
            break
        if tag in want:
            if after > size or length > value_max:
                break
            keep[tag] = want[tag], buffer[after - length : after]
            kept += length
        if tag <= last:
            disorder = True
        last = tag
        at = after
        count += 1
    return at, last, count, kept, disorder
