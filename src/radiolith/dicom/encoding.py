"""A header in another encoding: what transcoding needs in front of new pixel data (PS3.5 7.1, annex A).

Owns: writing element headers, and the rewriting of a header of any encoding into implicit or explicit VR little
endian. Must never: recurse, touch pixel data, or write big endian (retired). Rewritten sequences and items have
undefined lengths, group lengths are dropped, values get the even length that the standard asks for; what is UN and
unknown keeps its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack

from radiolith.dicom import syntax, values
from radiolith.dicom.limits import LIMITS, UNDEFINED, Limits
from radiolith.dicom.tokens import ELEMENT, FRAGMENTS, ITEM_START, ITEM_STOP, SEQUENCE, SEQUENCE_STOP, Tokens
from radiolith.dicom.window import Data

PIECE = 256 * 1024
"""Bytes of a rewritten header that are handed on at once; a multiple of every word, and even."""

ITEM_HEADER = pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
ITEM_DELIMITER = pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_DELIMITER = pack("<HHI", 0xFFFE, 0xE0DD, 0)

_SHORT_MAX = 0xFFFE
"""The longest even value that a 16-bit length can say; what is longer is written as UN (PS3.5 6.2.2, note 5)."""

_SHORT = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI"}
    | {"UL", "US"}
)
_SPACE_PADDED = values.TEXT - {"UI"}


def element_header(tag: int, vr: str, length: int, *, implicit: bool = False) -> bytes:
    """The header of one little endian element. `length` may be UNDEFINED."""
    if implicit:
        return pack("<HHI", tag >> 16, tag & 0xFFFF, length)
    if vr not in _SHORT:
        return pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), 0, length)
    if length > _SHORT_MAX:
        return pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"UN", 0, length)
    return pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode("ascii"), length)


def padded(value: bytes, vr: str) -> bytes:
    """A value of even length (PS3.5 6.2)."""
    if len(value) % 2 == 0:
        return value
    return value + (b" " if vr in _SPACE_PADDED else b"\0")


def rewrite(header: Data, source: str, target: str, limits: Limits = LIMITS) -> bytes:
    """A header (a dataset up to its pixel data) in the encoding of another transfer syntax.

    `source` is the actual encoding (`Scan.actual_encoding`), `target` any transfer syntax that is little endian and
    not deflated. Raises ValueError for another target, LimitExceeded.
    """
    return b"".join(rewritten(header, source, target, limits))


def rewritten(header: Data, source: str, target: str, limits: Limits = LIMITS) -> Iterator[bytes]:
    """`rewrite` in pieces of about PIECE bytes, one at least; long values are not held."""
    encoding = syntax.encoding(target)
    if encoding.big or encoding.deflated:
        raise ValueError(f"headers are not written in {target}")
    implicit = encoding.implicit
    out = bytearray()
    for kind, tag, vr, start, length, big in Tokens(header, syntax.encoding(source), limits):
        if kind == ELEMENT:
            if not tag & 0xFFFF:
                continue
            if length <= PIECE:
                value = padded(values.little_endian(header[start : start + length], vr, big), vr)
                out += element_header(tag, vr, len(value), implicit=implicit)
                out += value
            else:
                out += element_header(tag, vr, length + length % 2, implicit=implicit)
                for piece in _long_value(header, vr, start, length, big):
                    out += piece
                    yield bytes(out)
                    out.clear()
        elif kind == SEQUENCE:
            out += element_header(tag, "SQ", UNDEFINED, implicit=implicit)
        elif kind == ITEM_START:
            out += ITEM_HEADER
        elif kind == ITEM_STOP:
            out += ITEM_DELIMITER
        elif kind == SEQUENCE_STOP:
            out += SEQUENCE_DELIMITER
        elif kind == FRAGMENTS:
            out += element_header(tag, vr, UNDEFINED, implicit=implicit)
            for at in range(start, start + length, PIECE):
                out += header[at : min(start + length, at + PIECE)]
                yield bytes(out)
                out.clear()
            out += SEQUENCE_DELIMITER
        else:
            break  # the pixel data
        if len(out) >= PIECE:
            yield bytes(out)
            out.clear()
    yield bytes(out)


def _long_value(header: Data, vr: str, start: int, length: int, big: bool) -> Iterator[bytes]:
    """A value in little endian and of even length, in pieces of whole words."""
    turned = big and length % values.WORD_BYTES.get(vr, 1) == 0
    for at in range(start, start + length, PIECE):
        piece = header[at : min(start + length, at + PIECE)]
        yield padded(values.little_endian(piece, vr, turned), vr)  # only the last one can be of odd length
