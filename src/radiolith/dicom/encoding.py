"""A header in another encoding: what transcoding needs in front of new pixel data (PS3.5 7.1, annex A).

Owns: writing element headers, and elements out of tokens, in every encoding; the rewriting of a header of any encoding
into implicit or explicit VR little endian. Must never: recurse, touch pixel data, or turn a dataset into big endian
(retired; only what is added to a dataset in big endian is written in it). Rewritten sequences and items have undefined
lengths, group lengths are dropped, values get the even length that the standard asks for; what is UN and unknown keeps
its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from struct import pack
from typing import NamedTuple

from radiolith.dicom import syntax, values
from radiolith.dicom.limits import LIMITS, UNDEFINED, Limits
from radiolith.dicom.syntax import Encoding
from radiolith.dicom.tokens import ELEMENT, FRAGMENTS, ITEM_START, ITEM_STOP, SEQUENCE, SEQUENCE_STOP, Token, Tokens
from radiolith.dicom.window import Data

PIECE = 256 * 1024
"""Bytes of a rewritten header that are handed on at once; a multiple of every word, and even."""

ITEM_HEADER = pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
ITEM_DELIMITER = pack("<HHI", 0xFFFE, 0xE00D, 0)
SEQUENCE_DELIMITER = pack("<HHI", 0xFFFE, 0xE0DD, 0)


class Marks(NamedTuple):
    """What stands around items of undefined length (PS3.5 7.5)."""

    item: bytes
    item_stop: bytes
    sequence_stop: bytes


LITTLE = Marks(ITEM_HEADER, ITEM_DELIMITER, SEQUENCE_DELIMITER)
BIG = Marks(pack(">HHI", 0xFFFE, 0xE000, UNDEFINED), pack(">HHI", 0xFFFE, 0xE00D, 0), pack(">HHI", 0xFFFE, 0xE0DD, 0))

_SHORT_MAX = 0xFFFE
"""The longest even value that a 16-bit length can say; what is longer is written as UN (PS3.5 6.2.2, note 5)."""

_SHORT = frozenset(
    {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI"}
    | {"UL", "US"}
)
_SPACE_PADDED = values.TEXT - {"UI"}


def element_header(tag: int, vr: str, length: int, *, implicit: bool = False, big: bool = False) -> bytes:
    """The header of one element, little endian unless `big`. `length` may be UNDEFINED."""
    order, group, element = ">" if big else "<", tag >> 16, tag & 0xFFFF
    if implicit:
        return pack(order + "HHI", group, element, length)
    if vr not in _SHORT:
        return pack(order + "HH2sHI", group, element, vr.encode("ascii"), 0, length)
    if length > _SHORT_MAX:
        return pack(order + "HH2sHI", group, element, b"UN", 0, length)
    return pack(order + "HH2sH", group, element, vr.encode("ascii"), length)


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
    yield from emitted(header, Tokens(header, syntax.encoding(source), limits), encoding)


def emitted(
    header: Data,
    tokens: Iterable[Token],
    encoding: Encoding,
    changed: Callable[[int, str, bytes], bytes] | None = None,
) -> Iterator[bytes]:
    """The elements that `tokens` of `header` name, written in `encoding`, in pieces of about PIECE bytes.

    `changed` makes of (tag, VR, value as stored) the value to write; it sees no value longer than PIECE.
    """
    implicit, big = encoding.implicit, encoding.big
    marks = BIG if big else LITTLE
    out = bytearray()
    for kind, tag, vr, start, length, turned in tokens:
        if kind == ELEMENT:
            if not tag & 0xFFFF:
                continue
            if length <= PIECE:
                value = header[start : start + length]
                value = value if changed is None else changed(tag, vr, value)
                value = padded(values.little_endian(value, vr, turned is not big), vr)
                out += element_header(tag, vr, len(value), implicit=implicit, big=big)
                out += value
            else:
                out += element_header(tag, vr, length + length % 2, implicit=implicit, big=big)
                for piece in _long_value(header, vr, start, length, turned is not big):
                    out += piece
                    yield bytes(out)
                    out.clear()
        elif kind == SEQUENCE:
            out += element_header(tag, "SQ", UNDEFINED, implicit=implicit, big=big)
        elif kind == ITEM_START:
            out += marks.item
        elif kind == ITEM_STOP:
            out += marks.item_stop
        elif kind == SEQUENCE_STOP:
            out += marks.sequence_stop
        elif kind == FRAGMENTS:
            out += element_header(tag, vr, UNDEFINED, implicit=implicit, big=big)
            for at in range(start, start + length, PIECE):
                out += header[at : min(start + length, at + PIECE)]
                yield bytes(out)
                out.clear()
            out += marks.sequence_stop
        else:
            break  # the pixel data
        if len(out) >= PIECE:
            yield bytes(out)
            out.clear()
    yield bytes(out)


def _long_value(header: Data, vr: str, start: int, length: int, turn: bool) -> Iterator[bytes]:
    """A value of even length, its words in the other byte order where `turn`, in pieces of whole words."""
    turned = turn and length % values.WORD_BYTES.get(vr, 1) == 0
    for at in range(start, start + length, PIECE):
        piece = header[at : min(start + length, at + PIECE)]
        yield padded(values.little_endian(piece, vr, turned), vr)  # only the last one can be of odd length
