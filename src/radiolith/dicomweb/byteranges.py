"""Range requests (RFC 9110 14), as pure functions.

Limits: RANGES_MAX ranges, checked before anything is computed; sorted and merged, so that no byte is sent twice
(a thousand overlapping ranges once made servers read quadratically).
"""

from __future__ import annotations

import re

from radiolith.dicomweb.status import RangeNotSatisfiable

RANGES_MAX = 8
_RANGE = re.compile(r"\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*")


def parse(header: str, size: int) -> list[tuple[int, int]]:
    """[(start, stop)] to send, merged and in order; [] to send all, because the header is none of ours.

    Raises RangeNotSatisfiable when nothing of it exists or when it asks for too many pieces.
    """
    unit, equals, text = header.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return []
    if text.count(",") >= RANGES_MAX:
        raise RangeNotSatisfiable(size)
    wanted: list[tuple[int, int]] = []
    for element in text.split(","):
        found = _RANGE.fullmatch(element)
        if found is None or not (found[1] or found[2]):
            return []
        if found[1]:
            start, stop = int(found[1]), int(found[2]) + 1 if found[2] else size
            if found[2] and stop <= start:
                return []
        else:
            start, stop = max(0, size - int(found[2])), size
        if start < min(stop, size):
            wanted.append((start, min(stop, size)))
    if not wanted:
        raise RangeNotSatisfiable(size)
    return _merged(sorted(wanted))


def _merged(wanted: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged = [wanted[0]]
    for start, stop in wanted[1:]:
        if start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
