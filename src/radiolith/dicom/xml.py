"""The Native DICOM Model (PS3.19 annex A) of a header, written straight from its bytes.

Owns: attributes to XML. Must never: recurse, load pydicom, or write a character that XML 1.0 has not (it becomes
U+FFFD). Values are those of the JSON model (`json`): the same texts, the same bulk data paths.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from xml.sax.saxutils import escape, quoteattr

from radiolith.dicom import charset as charsets
from radiolith.dicom import dictionary, names, syntax, values
from radiolith.dicom.json import BULK_THRESHOLD, TEXT_THRESHOLD
from radiolith.dicom.limits import LIMITS, Limits, exceeded
from radiolith.dicom.tokens import (
    CREATORS_MAX,
    ELEMENT,
    ITEM_START,
    ITEM_STOP,
    SEQUENCE,
    SEQUENCE_STOP,
    Token,
    Tokens,
)
from radiolith.dicom.window import Data
from radiolith.model import Row

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"

_START = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
_STOP = "</NativeDicomModel>"
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")


def to_xml(
    data: Data,
    transfer_syntax: str,
    *,
    bulk_uri: Callable[[str], str],
    bulk_threshold: int = BULK_THRESHOLD,
    tail: Data = b"",
    limits: Limits = LIMITS,
) -> bytes:
    """One XML document for a dataset; arguments and failures as of `json.to_json`."""
    writer = Writer(bulk_uri, bulk_threshold)
    for part in (data, tail):
        if part:
            writer.write(part, Tokens(part, syntax.encoding(transfer_syntax), limits))
    return writer.result()


class Writer:
    """Tokens in, pieces of XML out. Keeps path, character set and private creators of every open level."""

    def __init__(self, bulk_uri: Callable[[str], str], threshold: int) -> None:
        self._bulk_uri = bulk_uri
        self._threshold = threshold
        self._out: list[str] = [_START]
        self._charset: tuple[str, ...] = ()
        self._creators: dict[int, str] = {}
        self._levels: list[tuple[tuple[str, ...], dict[int, str]]] = []
        self._path: list[str] = []

    def write(self, data: Data, tokens: Iterable[Token]) -> None:
        out = self._out
        for kind, tag, vr, start, length, big in tokens:
            if kind == ELEMENT:
                if tag & 0xFFFF:
                    out.append(self._open(tag, vr))
                    if length > self._threshold and (vr in values.BINARY or length > TEXT_THRESHOLD):
                        out.append(self._bulk(tag))
                    else:
                        out.append(self._value(data[start : start + length], tag, vr, big))
                    out.append("</DicomAttribute>")
            elif kind == SEQUENCE:
                out.append(self._open(tag, "SQ"))
                self._path += (f"{tag:08X}", "0")
            elif kind == ITEM_START:
                self._path[-1] = str(int(self._path[-1]) + 1)
                out.append(f'<Item number="{self._path[-1]}">')
                self._levels.append((self._charset, self._creators))
                self._creators = {}
            elif kind == ITEM_STOP:
                out.append("</Item>")
                self._charset, self._creators = self._levels.pop()
            elif kind == SEQUENCE_STOP:
                del self._path[-2:]
                out.append("</DicomAttribute>")
            else:
                out.append(f"{self._open(tag, vr)}{self._bulk(tag)}</DicomAttribute>")

    def _open(self, tag: int, vr: str) -> str:
        creator = self._creators.get(dictionary.creator_tag(tag)) if tag >> 16 & 1 else None
        return _attribute(tag, vr, creator)

    def _bulk(self, tag: int) -> str:
        path = "/".join((*self._path, f"{tag:08X}"))
        return f"<BulkData uri={quoteattr(self._bulk_uri(path))}/>"

    def _value(self, raw: bytes, tag: int, vr: str, big: bool) -> str:
        if tag == 0x00080005:
            self._charset = charsets.terms(raw)
        if dictionary.is_creator(tag):
            if len(self._creators) >= CREATORS_MAX:
                self._creators = {known: name for known, name in self._creators.items() if known >> 16 == tag >> 16}
            self._creators[tag] = charsets.decode(raw, self._charset)
        listed = None if vr in values.BINARY else _texts(raw, vr, self._charset, big)
        if listed is not None:
            return _values(vr, listed)
        binary = b64encode(values.little_endian(raw, vr, big)).decode()
        return f"<InlineBinary>{binary}</InlineBinary>" if binary else ""

    def drain(self) -> bytes:
        """What is written so far, taken out."""
        done = "".join(self._out).encode("utf-8", "replace")
        self._out.clear()
        return done

    def result(self) -> bytes:
        self._out.append(_STOP)
        return self.drain()


def _attribute(tag: int, vr: str, creator: str | None = None) -> str:
    keyword = dictionary.keyword(tag)
    known = f' keyword="{keyword}"' if keyword else ""
    private = f" privateCreator={quoteattr(_legal(creator))}" if creator else ""
    return f'<DicomAttribute tag="{tag:08X}" vr="{vr}"{known}{private}>'


def _texts(raw: bytes, vr: str, charset: tuple[str, ...], big: bool) -> list[str] | None:
    """The values as text; None when the bytes cannot be read as the VR says."""
    if vr in values.NUMBERS:
        found = values.numbers(raw, vr, big)
        return None if found is None else [str(number) for number in found]
    if vr == "AT":
        return values.tags(raw, big)
    return values.texts(raw, vr, charset)


def _values(vr: str, texts: list[str]) -> str:
    """Value or PersonName elements; an empty value among others is left out, its number is not used."""
    write = _person if vr == "PN" else _plain
    return "".join(write(number, text) for number, text in enumerate(texts, 1) if text)


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)


def _escaped(text: str) -> str:
    return escape(_legal(text), {"\r": "&#13;"})


def _plain(number: int, text: str) -> str:
    return f'<Value number="{number}">{_escaped(text)}</Value>'


def _person(number: int, text: str) -> str:
    groups: list[str] = []
    for name, group in values.person(text).items():
        parts = zip(_PARTS, names.parts(group), strict=False)
        inside = "".join(f"<{part}>{_escaped(value)}</{part}>" for part, value in parts if value)
        groups.append(f"<{name}>{inside}</{name}>")
    return f'<PersonName number="{number}">{"".join(groups)}</PersonName>'


def row_to_xml(row: Row) -> bytes:
    """One search result as an XML document. Values are text as in `model.Row`, a backslash between several."""
    return f"{_START}{_row(row, 0)}{_STOP}".encode("utf-8", "replace")


def _row(row: Row, depth: int) -> str:
    """Recursive, but only as deep as the bounded rows of the index."""
    if depth > LIMITS.depth:
        raise exceeded("search result depth", "levels", LIMITS.depth)
    out: list[str] = []
    for tag in sorted(row):
        vr, value = row[tag]
        out.append(_attribute(tag, vr))
        if isinstance(value, list):
            items = (f'<Item number="{number}">{_row(item, depth + 1)}</Item>' for number, item in enumerate(value, 1))
            out.extend(items)
        elif value is not None and value != "":
            text = str(value)
            out.append(_values(vr, [text] if vr in values.SINGLE else text.split("\\")))
        out.append("</DicomAttribute>")
    return "".join(out)
