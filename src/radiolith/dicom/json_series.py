"""DICOM JSON of many similar headers, as the instances of a series have them.

Owns: the comparison with the header before. Must never: give anything else than `json.to_json` would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from json.encoder import encode_basestring

from radiolith.dicom import syntax
from radiolith.dicom.json import BULK_THRESHOLD, Writer
from radiolith.dicom.limits import LIMITS, Limits
from radiolith.dicom.tokens import Tokens

_CAREFUL = frozenset({0x00080005, 0x00280103, 0x00283002, 0x54001004})
"""Attributes whose value decides how others are read."""


@dataclass(slots=True)
class _Part:
    """A top-level element of the header before: where it lies, and what was made of it."""

    start: int  # behind the value before; what lies between is element headers and whole sequences
    value: int
    stop: int
    tag: int
    vr: str
    big: bool
    lead: str  # JSON of what lies before the value
    text: str  # JSON of the value


class SeriesJson:
    """`to_json` for many headers of one kind: what is the same as in the header before is not made again.

    Slices of a series differ in a dozen values of a hundred and forty. Where anything but the bytes of plain values
    differs (length, tags, a nested value, a character set), the header is made in full. The result is the same.
    """

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._before = b""
        self._syntax = ""
        self._charset: tuple[str, ...] = ()
        self._parts: list[_Part] = []
        self._end = 0  # behind the last value
        self._rest = ""  # JSON of the sequences behind it
        self._pixels: tuple[int, str] | None = None  # tag and name piece of the pixel data element

    def to_json(self, data: bytes, transfer_syntax: str, *, bulk_uri: Callable[[str], str], tail: bytes = b"") -> bytes:
        """As the function of that name."""
        if len(data) == len(self._before) and transfer_syntax == self._syntax and not tail:
            found = self._again(data, bulk_uri)
            if found is not None:
                return found
        writer = Writer(bulk_uri, BULK_THRESHOLD)
        encoding = syntax.encoding(transfer_syntax)
        writer.write(data, Tokens(data, encoding, self._limits))
        self._before = b""
        if not tail:
            self._learn(data, transfer_syntax, writer)
        else:
            writer.write(tail, Tokens(tail, encoding, self._limits))
        return writer.result()

    def _learn(self, data: bytes, transfer_syntax: str, writer: Writer) -> None:
        pieces = writer.pieces()
        if not pieces or not writer.marks:
            return
        parts: list[_Part] = []
        index, end = 0, 0
        for at, tag, vr, start, length, big in writer.marks:
            lead = "".join(pieces[index : at + 1])
            if '"BulkDataURI"' in lead:
                return
            parts.append(_Part(end, start, start + length, tag, vr, big, lead, pieces[at + 1]))
            index, end = at + 2, start + length
        rest, self._pixels = pieces[index:], None
        if rest and rest[-1].startswith(',"7FE0'):
            name, _, bulk = rest.pop().partition(',"BulkDataURI":')
            if not bulk:
                return
            self._pixels = int(name[2:10], 16), name
        self._rest = "".join(rest)
        if '"BulkDataURI"' in self._rest:
            return
        self._before, self._syntax, self._charset = data, transfer_syntax, writer.charset
        self._parts, self._end = parts, end

    def _again(self, data: bytes, bulk_uri: Callable[[str], str]) -> bytes | None:
        before, out = self._before, ["{"]
        writer = Writer(bulk_uri, BULK_THRESHOLD)
        writer.charset = self._charset
        for part in self._parts:
            value, stop = part.value, part.stop
            if data[part.start : value] != before[part.start : value]:
                return None
            text = part.text
            if data[value:stop] != before[value:stop] or text.startswith(',"BulkDataURI"'):
                if part.tag in _CAREFUL or (part.tag >> 16 & 1 and part.tag & 0xFFFF < 0x100):
                    return None
                text = writer.plain(data, part.tag, part.vr, value, stop - value, part.big)
            out.append(part.lead)
            out.append(text)
        if data[self._end :] != before[self._end :]:
            return None
        out.append(self._rest)
        if self._pixels is not None:
            tag, name = self._pixels
            out.append(f'{name},"BulkDataURI":{encode_basestring(bulk_uri(f"{tag:08X}"))}}}')
        out.append("}")
        return "".join(out).encode("utf-8", "replace")
