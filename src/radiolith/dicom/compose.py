"""Datasets composed from the JSON and XML models, as STOW-RS sends them (PS3.18 10.5, annex F; PS3.19 annex A).

Owns: reading the two models and writing explicit VR little endian. Must never: resolve a reference by itself (the
caller gives the bytes of bulk data), read a DTD or an entity, or go deeper than `Limits.depth`. Text is written as
UTF-8, and Specific Character Set says so.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from struct import error as StructError
from struct import pack
from typing import Any, cast
from xml.parsers import expat

import orjson

from radiolith.dicom import dictionary, values
from radiolith.dicom.encoding import ITEM_DELIMITER, ITEM_HEADER, SEQUENCE_DELIMITER, element_header, padded
from radiolith.dicom.limits import LIMITS, UNDEFINED, Limits, Unparsable, exceeded
from radiolith.dicom.wanted import SPECIFIC_CHARACTER_SET

MODEL_BYTES_MAX = 8 * 1024 * 1024
"""Bytes of one JSON or XML document; bulk data come beside it. Metadata of 500 instances have about 5 MB, and 8 MB of
empty objects become about 200 MB while they are read."""

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_VR = re.compile(r"[A-Z]{2}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that is somewhere else."""

    uri: str


@dataclass(frozen=True, slots=True)
class Bulk:
    """The bytes of a referenced value. `length` None means fragments: `pieces` are items, without the final
    delimiter."""

    length: int | None
    pieces: Iterable[bytes]


Attributes = dict[int, tuple[str, "bytes | Reference | list[Attributes]"]]
"""tag -> (VR, encoded value | reference | items)."""


# ---------------------------------------------------------------- to bytes


def encode(attributes: Attributes, bulk: Callable[[str], Bulk]) -> Iterator[bytes]:
    """The dataset in explicit VR little endian, in pieces. Bulk data pass through piece by piece.

    Raises Unparsable when bulk data have another length than they claim.
    """
    yield from _encode({**attributes, SPECIFIC_CHARACTER_SET: ("CS", b"ISO_IR 192")}, bulk)


def _encode(attributes: Attributes, bulk: Callable[[str], Bulk]) -> Iterator[bytes]:
    """Recursive, as deep as the readers below let attributes be."""
    for tag in sorted(attributes):
        vr, value = attributes[tag]
        if tag == SPECIFIC_CHARACTER_SET:  # an item's own no longer holds: its texts are in UTF-8 like all others
            value = b"ISO_IR 192"
        if isinstance(value, list):
            yield element_header(tag, "SQ", UNDEFINED)
            for item in value:
                yield ITEM_HEADER
                yield from _encode(item, bulk)
                yield ITEM_DELIMITER
            yield SEQUENCE_DELIMITER
        elif isinstance(value, Reference):
            yield from _encode_bulk(tag, vr, bulk(value.uri))
        else:
            even = padded(value, vr)
            yield element_header(tag, vr, len(even)) + even


def _encode_bulk(tag: int, vr: str, source: Bulk) -> Iterator[bytes]:
    if source.length is None:
        yield element_header(tag, vr, UNDEFINED)
        yield from source.pieces
        yield SEQUENCE_DELIMITER
        return
    length = source.length + source.length % 2
    if length >= UNDEFINED:
        raise Unparsable(f"{dictionary.text(tag)} is too long for a data element")
    yield element_header(tag, vr, length)
    seen = 0
    for piece in source.pieces:
        seen += len(piece)
        yield piece
    if seen != source.length:
        raise Unparsable(f"the bulk data of {dictionary.text(tag)} have another length than announced")
    if source.length % 2:
        yield b"\0"


def references(attributes: Attributes) -> list[str]:
    """The URIs of all bulk data that are referred to, in the order they will be asked for."""
    found: list[str] = []
    for tag in sorted(attributes):
        value = attributes[tag][1]
        if isinstance(value, Reference):
            found.append(value.uri)
        elif isinstance(value, list):
            for item in value:
                found += references(item)
    return found


# ---------------------------------------------------------------- from JSON


def from_json(document: bytes, limits: Limits = LIMITS) -> list[Attributes]:
    """The datasets of a DICOM JSON document: an array of objects, or one object.

    Raises Unparsable for what is not the JSON model, LimitExceeded for size and depth.
    """
    if len(document) > MODEL_BYTES_MAX:
        raise exceeded("metadata", "bytes", MODEL_BYTES_MAX)
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise Unparsable("the metadata are not JSON") from error
    listed: list[object] = cast("list[object]", parsed) if isinstance(parsed, list) else [parsed]
    return [_json_attributes(entry, 0, limits) for entry in listed]


def _json_attributes(entry: object, depth: int, limits: Limits) -> Attributes:
    if depth > limits.depth:
        raise exceeded("sequence depth", "levels", limits.depth)
    if not isinstance(entry, dict):
        raise Unparsable("a dataset is not a JSON object")
    attributes: Attributes = {}
    for key, content in cast("dict[str, object]", entry).items():
        tag = dictionary.tag(key)
        if tag is None or not isinstance(content, dict):
            raise Unparsable("an attribute has no tag or no object")
        if tag >> 16 != 2 and tag & 0xFFFF:
            attributes[tag] = _json_value(tag, cast("dict[str, Any]", content), depth, limits)
    return attributes


def _json_value(
    tag: int, content: Mapping[str, Any], depth: int, limits: Limits
) -> tuple[str, bytes | Reference | list[Attributes]]:
    vr = _vr(tag, content.get("vr"))
    if "BulkDataURI" in content:
        return vr, Reference(str(content["BulkDataURI"]))
    if "InlineBinary" in content:
        return vr, _base64(tag, str(content["InlineBinary"]))
    found = content.get("Value", [])
    if not isinstance(found, list):
        raise Unparsable(f"the Value of {dictionary.text(tag)} is not an array")
    listed = cast("list[Any]", found)
    if vr == "SQ":
        return vr, [_json_attributes({} if item is None else item, depth + 1, limits) for item in listed]
    return vr, value_bytes(tag, vr, [_json_text(vr, value) for value in listed])


def from_value(tag: int, vr: str, content: Mapping[str, Any], limits: Limits = LIMITS) -> bytes | list[Attributes]:
    """One attribute's parsed JSON object (PS3.18 F.2.2) as an encoded value or items.

    Raises Unparsable for what is not the JSON model and for bulk data by reference, LimitExceeded for depth.
    """
    _, value = _json_value(tag, {**content, "vr": vr}, 0, limits)
    if isinstance(value, Reference):
        raise Unparsable(f"{dictionary.text(tag)} needs its value in line")
    return value


def _json_text(vr: str, value: object) -> str:
    if value is None:
        return ""
    if vr == "PN" and isinstance(value, dict):
        named = cast("dict[str, object]", value)
        groups = [str(named.get(name) or "") for name in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise Unparsable("a value is neither text nor number")
    if isinstance(value, float) and vr not in ("FL", "FD"):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def _vr(tag: int, given: object) -> str:
    if isinstance(given, str) and _VR.fullmatch(given):
        return given
    if given is not None:
        raise Unparsable(f"{dictionary.text(tag)} has no valid VR")
    return dictionary.vr(tag)[:2]


def _base64(tag: int, text: str) -> bytes:
    try:
        return b64decode(text, validate=False)
    except binascii.Error as error:
        raise Unparsable(f"the binary value of {dictionary.text(tag)} is not base 64") from error


def value_bytes(tag: int, vr: str, texts: list[str]) -> bytes:
    """A value in little endian from its values' texts. Raises Unparsable for what the VR cannot hold."""
    try:
        if vr in values.NUMBERS:
            code = values.NUMBERS[vr][0]
            convert = float if vr in ("FL", "FD") else int
            return pack(f"<{len(texts)}{code}", *(convert(text) for text in texts))
        if vr == "AT":
            return b"".join(pack("<HH", int(text[:4], 16), int(text[4:], 16)) for text in texts)
    except (ValueError, StructError, OverflowError) as error:
        raise Unparsable(f"a value of {dictionary.text(tag)} is no {vr}") from error
    if vr in values.BINARY and any(texts):
        raise Unparsable(f"{dictionary.text(tag)} needs InlineBinary or BulkData")
    return "\\".join(texts).encode("utf-8", "replace")


# ---------------------------------------------------------------- from XML


def from_xml(document: bytes, limits: Limits = LIMITS) -> Attributes:
    """The dataset of a Native DICOM Model document.

    Raises Unparsable for what is not the model, with a DTD or with entities, LimitExceeded for size and depth.
    """
    if len(document) > MODEL_BYTES_MAX:
        raise exceeded("metadata", "bytes", MODEL_BYTES_MAX)
    reader = _XmlReader(limits)
    try:
        reader.parser.Parse(document, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: a declared encoding
        raise Unparsable("the metadata are not XML") from error
    return reader.root


@dataclass(slots=True)
class _XmlAttribute:
    """A DicomAttribute being read."""

    tag: int
    vr: str
    texts: dict[int, str] = field(default_factory=dict[int, str])
    items: list[Attributes] = field(default_factory=list["Attributes"])
    name: dict[str, str] = field(default_factory=dict[str, str])  # component group -> parts so far
    value: bytes | Reference | None = None

    def result(self) -> bytes | Reference | list[Attributes]:
        if self.vr == "SQ":
            return self.items
        if self.value is not None:
            return self.value
        if self.texts and max(self.texts) > 10 * len(self.texts) + 1000:
            raise Unparsable(f"the values of {dictionary.text(self.tag)} are not numbered one by one")
        ordered = [self.texts.get(number, "") for number in range(1, max(self.texts, default=0) + 1)]
        return value_bytes(self.tag, self.vr, ordered)


_GROUP_NAMES = ("Alphabetic", "Ideographic", "Phonetic")
_PART_NAMES = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")


class _XmlReader:
    """Events of the parser in, attributes out. The open elements are a stack, not the call stack."""

    def __init__(self, limits: Limits) -> None:
        self.root: Attributes = {}
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse
        self.parser.buffer_text = True
        self._limits = limits
        self._datasets: list[Attributes] = [self.root]
        self._attributes: list[_XmlAttribute] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self._number = 1
        self._group = ""

    def _refuse(self, *_: object) -> None:
        raise Unparsable("the metadata have a document type or entities")

    def _characters(self, text: str) -> None:
        self._text.append(text)

    def _start(self, qualified: str, attributes: dict[str, str]) -> None:
        name = qualified.rpartition(":")[2]
        if not self._open and name != "NativeDicomModel":
            raise Unparsable("the metadata are no Native DICOM Model")
        self._open.append(name)
        if len(self._open) > 8 + 2 * self._limits.depth:
            raise exceeded("sequence depth", "levels", self._limits.depth)
        self._text.clear()
        number = attributes.get("number", "1")
        if name in ("Value", "PersonName", "Item"):
            if not number.isdigit() or not 0 < int(number[:9]) < 1_000_000:
                raise Unparsable("a value has no valid number")
            self._number = int(number[:9])
        if name == "DicomAttribute":
            self._begin_attribute(attributes)
        elif name == "Item":
            self._datasets.append({})
        elif name == "PersonName":
            self._current().name = {}
        elif name in _GROUP_NAMES:
            self._group = name
        elif name == "BulkData":
            self._current().value = Reference(attributes.get("uri", "") or attributes.get("URI", ""))

    def _begin_attribute(self, attributes: dict[str, str]) -> None:
        tag_text = attributes.get("tag", "")
        tag = int(tag_text, 16) if _TAG.fullmatch(tag_text) else dictionary.tag(attributes.get("keyword", ""))
        if tag is None:
            raise Unparsable("an attribute has no tag")
        self._attributes.append(_XmlAttribute(tag, _vr(tag, attributes.get("vr"))))

    def _current(self) -> _XmlAttribute:
        if not self._attributes:
            raise Unparsable("a value stands outside an attribute")
        return self._attributes[-1]

    def _end(self, qualified: str) -> None:
        name = self._open.pop()
        if name == "DicomAttribute":
            done = self._attributes.pop()
            if done.tag >> 16 != 2 and done.tag & 0xFFFF:
                self._datasets[-1][done.tag] = done.vr, done.result()
        elif name == "Item":
            item = self._datasets.pop()
            self._current().items.append(item)
        elif name == "Value":
            self._current().texts[self._number] = "".join(self._text)
        elif name == "InlineBinary":
            self._current().value = _base64(self._current().tag, "".join(self._text))
        elif name in _PART_NAMES:
            self._current().name[f"{self._group}/{name}"] = "".join(self._text)
        elif name == "PersonName":
            self._current().texts[self._number] = _joined(self._current().name)
        self._text.clear()


def _joined(name: dict[str, str]) -> str:
    groups = ("^".join(name.get(f"{group}/{part}", "") for part in _PART_NAMES).rstrip("^") for group in _GROUP_NAMES)
    return "=".join(groups).rstrip("=")
