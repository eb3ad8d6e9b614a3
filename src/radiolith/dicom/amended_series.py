"""Corrected headers of one series: what was found out for the headers before is used for the next.

Owns: the comparison with headers before. Must never: give anything else than `amended` would. Slices differ in the
bytes of a dozen values that no correction concerns; where they differ in anything else (length, tags, a value that was
looked at), the header is made in full and becomes one to compare with. Limits: one header of each length, REMEMBERED.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.dicom.amended import Changes, Origin, changes, parts
from radiolith.dicom.limits import LIMITS, Limits
from radiolith.dicom.recoding import MAY_HOLD_TEXTS
from radiolith.model import Overlay

REMEMBERED = 16
"""Headers to compare with: UIDs, numbers and positions of a series have a few lengths. Each costs three times its size."""


@dataclass(frozen=True, slots=True)
class _Before:
    """A header that was corrected: what has to be the same in the next, and what stands between its own bytes."""

    encoding: str
    overlay: Overlay
    origin: Origin
    number: int  # all its bytes
    fixed: int  # a mask of those that have to be the same
    parts: list[tuple[slice, bytes]]  # its own bytes, and what is put behind them


class Series:
    """`amended` for many headers of one kind, in one thread."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._before: dict[int, _Before] = {}  # length of the header -> it

    def amended(self, header: bytes, encoding: str, overlay: Overlay, origin: Origin) -> bytes:
        """As the function of that name."""
        before = self._before.get(len(header))
        if (
            before is not None
            and encoding == before.encoding
            and (overlay is before.overlay or overlay == before.overlay)
            and origin == before.origin
            and not (int.from_bytes(header, "little") ^ before.number) & before.fixed
        ):
            return b"".join([piece for own, new in before.parts for piece in (header[own], new)])
        found = changes(header, encoding, overlay, origin, self._limits, free=True)
        if found is None:
            return header
        made = self._parts(header, found)
        number, fixed = int.from_bytes(header, "little"), _fixed(header, found)
        if len(self._before) >= REMEMBERED:
            self._before.clear()
        self._before[len(header)] = _Before(encoding, overlay, origin, number, fixed, made)
        return b"".join([piece for own, new in made for piece in (header[own], new)])

    def _parts(self, header: bytes, found: Changes) -> list[tuple[slice, bytes]]:
        made: list[tuple[slice, bytes]] = []
        at = 0
        for part in parts(header, found, self._limits):
            new = b"".join(part.pieces)
            made.append((slice(at, max(at, part.start)), new))
            at = max(at, part.stop)
        return [*made, (slice(at, len(header)), b"")]


def _fixed(header: bytes, found: Changes) -> int:
    """The bytes on which the result depends: all but values that nobody looked at. Where texts become UTF-8, all texts
    were looked at."""
    mask = bytearray(b"\xff" * len(header))
    for vr, start, stop in found.outline.free:
        if not found.recoded or vr not in MAY_HOLD_TEXTS:
            mask[start:stop] = bytes(stop - start)
    return int.from_bytes(mask, "little")
