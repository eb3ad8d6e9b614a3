"""The DICOM JSON Model of a header (PS3.18 annex F), written straight from its bytes.

Owns: attributes to JSON and the paths of bulk data. Must never: recurse, load pydicom, or put a long binary value in
line. Memory is the JSON, and the header where it is given as bytes; `piecewise` needs neither. Decisions: group lengths
are left out (F.2.2); decimal strings keep their digits; a DS or IS that is no number stays a string; NaN and infinities
are strings, since JSON has no word for them; a broken number element becomes UN with its bytes in line; of a repeated
element the last one counts.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring
from math import isfinite

from radiolith.dicom import charset as charsets
from radiolith.dicom import syntax, values
from radiolith.dicom.limits import LIMITS, UNDEFINED, Limits, exceeded
from radiolith.dicom.tokens import (
    ELEMENT,
    FRAGMENTS,
    ITEM_START,
    ITEM_STOP,
    PIXELS,
    SEQUENCE,
    SEQUENCE_STOP,
    Token,
    Tokens,
)
from radiolith.dicom.values import BINARY, NUMBERS
from radiolith.dicom.window import Data
from radiolith.model import NotFound, Row

BULK_THRESHOLD = 1024
"""Bytes: longer binary values are given as BulkDataURI. Most headers then fit in one network packet or few."""

TEXT_THRESHOLD = 64 * 1024
"""Bytes: the same for texts and numbers, which many clients read only in line."""

_REORDER_MAX = 8 * 1024 * 1024
"""Bytes of JSON that are sorted out again when a header repeats elements; beyond, the header is refused. Sorting takes
ten times the memory."""

_PIECES_MAX = 4096
"""Pieces of text that are kept apart before they are joined; a piece costs 100 bytes, whatever it holds."""

_PATH_MAX = 2 * 64 + 1
"""Steps of a bulk data path: sequence and item number for each level, and the element."""


def to_json(
    data: Data,
    transfer_syntax: str,
    *,
    bulk_uri: Callable[[str], str],
    bulk_threshold: int = BULK_THRESHOLD,
    tail: Data = b"",
    limits: Limits = LIMITS,
) -> bytes:
    """One JSON object for a dataset.

    `data` begins with the first element and reaches at least up to the pixel data element; where it holds that
    element's header, the pixel data appear as BulkDataURI. `transfer_syntax` is the actual encoding
    (`Scan.actual_encoding`). `bulk_uri` makes the URI of an attribute path ('00091010', '52009229/1/00082112', items
    counted from 1). `tail` holds the elements behind the pixel data. Raises LimitExceeded.
    """
    writer = Writer(bulk_uri, bulk_threshold)
    encoding = syntax.encoding(transfer_syntax)
    for part in (data, tail):
        if part:
            writer.write(part, Tokens(part, encoding, limits))
    return writer.result()


Mark = tuple[int, int, str, int, int, bool]
"""(index of the piece with its name, tag, VR, offset of the value, its length, big endian)"""


class Writer:
    """Tokens in, pieces of JSON out. Keeps the path and the character set of every open level."""

    def __init__(self, bulk_uri: Callable[[str], str], threshold: int) -> None:
        self._bulk_uri = bulk_uri
        self._threshold = threshold
        self._out: list[str] = []
        self._done = bytearray(b"{")
        self.charset: tuple[str, ...] = ()
        self._last = -1
        self._repeats = False
        self._levels: list[tuple[tuple[str, ...], int]] = []  # (character set, last tag) of the levels outside
        self._path: list[str] = []
        self.marks: list[Mark] = []
        """Top-level elements with a value of their own, in order."""

    def write(self, data: Data, tokens: Iterable[Token]) -> None:
        out, quick = self._out.append, _QUICK.get
        for kind, tag, vr, start, length, big in tokens:
            if kind == ELEMENT:
                if tag & 0xFFFF == 0:
                    continue
                if len(self._out) > _PIECES_MAX:
                    self._flush()
                if not self._levels:
                    self.marks.append((len(self._out), tag, vr, start, length, big))
                out(self._name(tag, vr))
                read = quick(vr)
                if read is not None and 0 < length <= _QUICK_MAX and tag != 0x00080005:
                    value = read(data[start : start + length], big)
                    if value is not None:
                        out(value)
                        continue
                out(self._value(data, tag, vr, start, length, big))
            elif kind == SEQUENCE:
                out(self._name(tag, "SQ") + ',"Value":[')
                self._path += (f"{tag:08X}", "0")
            elif kind == ITEM_START:
                number = int(self._path[-1]) + 1
                self._path[-1] = str(number)
                out(",{" if number > 1 else "{")
                self._levels.append((self.charset, self._last))
                self._last = -1
            elif kind == ITEM_STOP:
                out("}")
                self.charset, self._last = self._levels.pop()
            elif kind == SEQUENCE_STOP:
                empty = self._path[-1] == "0"
                del self._path[-2:]
                if empty:  # an empty sequence has no Value
                    self._out[-1] = self._out[-1].removesuffix(',"Value":[') + "}"
                else:
                    out("]}")
            else:  # the pixel data, or fragments inside an item: never in line
                path = "/".join((*self._path, f"{tag:08X}"))
                out(f'{self._name(tag, vr)},"BulkDataURI":{encode_basestring(self._bulk_uri(path))}}}')

    def _name(self, tag: int, vr: str) -> str:
        """An attribute up to its VR, after a comma unless it is the first of its level."""
        name = _name_of(tag, vr)
        last, self._last = self._last, tag
        if tag <= last:
            self._repeats = True
        return name if last >= 0 else name[1:]

    def _value(self, data: Data, tag: int, vr: str, start: int, length: int, big: bool) -> str:
        """The rest of an attribute behind its VR."""
        if not length:
            return "}"
        if length > self._threshold and (vr in BINARY or length > TEXT_THRESHOLD):
            path = "/".join((*self._path, f"{tag:08X}"))
            return f',"BulkDataURI":{encode_basestring(self._bulk_uri(path))}}}'
        raw = data[start : start + length]
        if vr in BINARY:
            return f',"InlineBinary":"{b64encode(values.little_endian(raw, vr, big)).decode()}"}}'
        if tag == 0x00080005:
            self.charset = charsets.terms(raw)
        listed = _listed(raw, vr, self.charset, big)
        if listed is None:
            return f',"InlineBinary":"{b64encode(raw).decode()}"}}'
        return f',"Value":[{listed}]}}' if listed else "}"

    def plain(self, data: bytes, tag: int, vr: str, start: int, length: int, big: bool) -> str:
        """The rest of a top-level element behind its VR, as `write` makes it."""
        read = _QUICK.get(vr)
        if read is not None and 0 < length <= _QUICK_MAX:
            value = read(data[start : start + length], big)
            if value is not None:
                return value
        return self._value(data, tag, vr, start, length, big)

    def pieces(self) -> list[str]:
        """What is written so far, [] when some of it was flushed or elements are out of order."""
        return [] if self._repeats or len(self._done) > 1 else list(self._out)

    def _flush(self) -> None:
        self._done += "".join(self._out).encode("utf-8", "replace")
        self._out.clear()

    def drain(self) -> bytes:
        """What is written so far, taken out; for headers in order, whose JSON is never sorted again."""
        self._flush()
        done = bytes(self._done)
        self._done.clear()
        self.marks.clear()
        return done

    def check(self) -> None:
        """Raises LimitExceeded when more is written than can be sorted; for headers that are out of order."""
        self._flush()
        self.marks.clear()
        if len(self._done) > _REORDER_MAX:
            raise exceeded("disordered header", "bytes of JSON", _REORDER_MAX)

    def result(self) -> bytes:
        self._flush()
        self._done += b"}"
        if not self._repeats:
            return bytes(self._done)
        self.check()
        import orjson

        return orjson.dumps(orjson.loads(self._done), option=orjson.OPT_SORT_KEYS)


# ---------------------------------------------------------------- the usual short values

_NAMES: dict[int, tuple[str, str]] = {}  # tag -> (VR, what _name makes of them)
_NAMES_MAX = 8192

_QUICK_MAX = 256  # bytes


def _name_of(tag: int, vr: str) -> str:
    known = _NAMES.get(tag)
    if known is not None and known[0] == vr:
        return known[1]
    name = f',"{tag:08X}":{{"vr":"{vr}"'
    if len(_NAMES) < _NAMES_MAX:
        _NAMES[tag] = vr, name
    return name


def _quick_text(raw: bytes, _big: bool) -> str | None:
    """One value of printable ASCII without anything to escape, the same in every character set; None for all others."""
    text = raw.decode("latin_1").strip(" \0")
    if text.isascii() and text.isprintable() and text and '"' not in text and "\\" not in text:
        return f',"Value":["{text}"]}}'
    return None


def _quick_person(raw: bytes, _big: bool) -> str | None:
    text = raw.decode("latin_1").strip(" \0")
    if text.isascii() and text.isprintable() and text and '"' not in text and "\\" not in text and "=" not in text:
        return f',"Value":[{{"Alphabetic":"{text}"}}]}}'
    return None


def _quick_number(raw: bytes, _big: bool) -> str | None:
    text = raw.decode("latin_1").strip(" \0")
    if values.NUMBERS_TEXT.fullmatch(text):
        return f',"Value":[{text}]}}'.replace("\\", ",")
    return None


def _quick_unsigned(raw: bytes, big: bool) -> str | None:
    if len(raw) != 2:
        return None
    return f',"Value":[{int.from_bytes(raw, "big" if big else "little")}]}}'


_TEXT = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "SH", "TM", "UI"})

_QUICK: dict[str, Callable[[bytes, bool], str | None]] = {
    **dict.fromkeys(_TEXT, _quick_text),
    "PN": _quick_person,
    "DS": _quick_number,
    "IS": _quick_number,
    "US": _quick_unsigned,
}

# ---------------------------------------------------------------- any value


def _listed(raw: bytes, vr: str, charset: tuple[str, ...], big: bool) -> str | None:
    """The inside of a Value array; '' when there is no value, None when the bytes cannot be read."""
    if vr in NUMBERS:
        found = values.numbers(raw, vr, big)
        if found is None:
            return None
        if vr in ("FL", "FD"):
            return ",".join(repr(n) if isfinite(n) else f'"{_special(n)}"' for n in found)
        return ",".join(map(str, found))
    if vr == "AT":
        tags = values.tags(raw, big)
        return None if tags is None else ",".join(f'"{tag}"' for tag in tags)
    texts = values.texts(raw, vr, charset)
    if vr == "PN":
        return ",".join(map(_person, texts))
    if vr in ("DS", "IS"):
        return ",".join(map(_number, texts))
    if len(texts) == 1:
        return encode_basestring(texts[0])
    return ",".join(encode_basestring(text) if text else "null" for text in texts)


def _special(number: float) -> str:
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"


def _number(text: str) -> str:
    return "null" if not text else values.number_text(text) or encode_basestring(text)


def _person(text: str) -> str:
    if not text:
        return "null"
    if "=" not in text:
        return f'{{"Alphabetic":{encode_basestring(text)}}}'
    inside = ",".join(f'"{name}":{encode_basestring(group)}' for name, group in values.person(text).items())
    return f"{{{inside}}}" if inside else "null"


# ---------------------------------------------------------------- bulk data paths


def find(data: Data, transfer_syntax: str, path: str, limits: Limits = LIMITS) -> tuple[int, int, str]:
    """(offset in `data`, length, VR) of the value that a bulk data path names, as stored.

    `data` as for `to_json`. Raises NotFound; BadInput through a malformed path is NotFound as well: nothing has that
    name.
    """
    steps = path.upper().split("/")
    if len(steps) % 2 == 0 or len(steps) > _PATH_MAX or not all(steps):
        raise NotFound("there are no bulk data by that name")
    here: list[str] = []
    result: tuple[int, int, str] | None = None
    for kind, tag, vr, start, length, _ in Tokens(data, syntax.encoding(transfer_syntax), limits):
        if kind in (ELEMENT, PIXELS, FRAGMENTS):
            if f"{tag:08X}" == steps[-1] and here == steps[:-1] and length != UNDEFINED:
                result = start, length, vr
        elif kind == SEQUENCE:
            here += (f"{tag:08X}", "0")
        elif kind == ITEM_START:
            here[-1] = str(int(here[-1]) + 1)
        elif kind == SEQUENCE_STOP:
            del here[-2:]
    if result is None:
        raise NotFound("there are no bulk data by that name")
    return result


# ---------------------------------------------------------------- answers of searches


def attribute_json(row: Row) -> bytes:
    """One search result as a DICOM JSON object. Values are text as in `model.Row`, a backslash between several."""
    return _row_text_of(row, 0).encode("utf-8", "replace")


def _row_text_of(row: Row, depth: int) -> str:
    """Recursive, but only as deep as the bounded rows of the index."""
    if depth > LIMITS.depth:
        raise exceeded("search result depth", "levels", LIMITS.depth)
    out: list[str] = []
    for tag in sorted(row):
        vr, value = row[tag]
        out.append(_name_of(tag, vr))
        if value is None or value == "" or value == []:
            out.append("}")
        elif isinstance(value, str):
            if vr in _TEXT and value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
                out.append(f',"Value":["{value}"]}}')
            else:
                out.append(f',"Value":[{_row_text(vr, value)}]}}')
        elif isinstance(value, int):
            out.append(f',"Value":[{value}]}}')
        else:
            out.append(f',"Value":[{",".join(_row_text_of(item, depth + 1) for item in value)}]}}')
    return f"{{{''.join(out)[1:]}}}"


def _row_text(vr: str, value: str) -> str:
    several = vr not in values.SINGLE and "\\" in value
    texts = value.split("\\") if several else [value]
    if vr == "PN":
        return ",".join(map(_person, texts))
    if vr in ("DS", "IS") or vr in NUMBERS:
        return ",".join(map(_number, texts))
    return ",".join(encode_basestring(text) if text else "null" for text in texts)
