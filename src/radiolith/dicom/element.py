"""The header of one data element: tag, VR and length, in every encoding, well-formed or not (PS3.5 7.1).

Owns: the byte patterns of element headers and what is made of VRs that do not exist. Must never: look at values, or
hold state. Everything here is one look at at most 12 bytes.
"""

from __future__ import annotations

from struct import Struct

from radiolith.dicom.limits import UNDEFINED, Unparsable
from radiolith.dicom.syntax import Encoding

ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD

LONG_FORM = {vr.encode(): vr for vr in ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")}
"""VRs with two reserved bytes and a 32-bit length (PS3.5 table 7.1-1)."""

SHORT_FORM = {
    vr.encode(): vr
    for vr in (
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM"),
        *("UI", "UL", "US"),
    )
}
"""VRs with a 16-bit length (PS3.5 table 7.1-2)."""

KNOWN = LONG_FORM.keys() | SHORT_FORM.keys()

EXPLICIT_LE, EXPLICIT_BE = Struct("<HH2sH").unpack_from, Struct(">HH2sH").unpack_from
IMPLICIT_LE, IMPLICIT_BE = Struct("<HHI").unpack_from, Struct(">HHI").unpack_from
UINT_LE, UINT_BE = Struct("<I").unpack_from, Struct(">I").unpack_from

_FOREIGN_MAX = 1 << 24
"""Bytes: an element without VR amid explicit ones is taken for an implicit one up to this length (16 MiB)."""

FRAGMENTED = frozenset({"OB", "OW", "OF", "OD", "OL", "OV"})
"""VRs whose undefined length means fragments, not items with elements (PS3.5 A.4)."""


def header(buffer: bytes | memoryview, at: int, end: int, encoding: Encoding) -> tuple[int, str, int, int] | None:
    """(tag, VR, where the value starts, its length) of the element at `at`; None when `end` comes too early.

    The VR is '' when the bytes do not say it: implicit VR, delimiters, and implicit elements that some writers mix into
    explicit datasets. The length may be UNDEFINED. Raises Unparsable when no reading makes sense.
    """
    if end - at < 8:
        return None
    if encoding.implicit:
        group, element, length = (IMPLICIT_BE if encoding.big else IMPLICIT_LE)(buffer, at)
        return group << 16 | element, "", at + 8, length
    group, element, code, length = (EXPLICIT_BE if encoding.big else EXPLICIT_LE)(buffer, at)
    tag = group << 16 | element
    if group == 0xFFFE:
        return tag, "", at + 8, (UINT_BE if encoding.big else UINT_LE)(buffer, at + 4)[0]
    short = SHORT_FORM.get(code)
    if short is not None:
        return tag, short, at + 8, length
    long = LONG_FORM.get(code) or _unknown_long(code, length)
    if long is not None:
        if end - at < 12:
            return None
        return tag, long, at + 12, (UINT_BE if encoding.big else UINT_LE)(buffer, at + 8)[0]
    if _is_short_unknown(code):
        return tag, "UN", at + 8, length
    length = (UINT_BE if encoding.big else UINT_LE)(buffer, at + 4)[0]
    if length != UNDEFINED and length > _FOREIGN_MAX:
        raise Unparsable(f"no data element but other bytes where ({group:04X},{element:04X}) was read")
    return tag, "", at + 8, length


def _unknown_long(code: bytes, reserved: int) -> str | None:
    """Two capital letters that are no VR today: a future VR, which has the long form (PS3.5 6.2, note)."""
    return "UN" if reserved == 0 and code.isalpha() and code.isupper() else None


def _is_short_unknown(code: bytes) -> bool:
    """'??', '--', blanks, capitals with a length behind them, or zeros: seen in the field with a 16-bit length."""
    return code == b"\0\0" or (0x20 <= code[0] <= 0x7E and 0x20 <= code[1] <= 0x7E)


def looks_explicit(buffer: bytes, at: int) -> bool:
    """Whether the element at `at` (8 bytes at least) carries a VR."""
    return buffer[at + 4 : at + 6] in KNOWN
