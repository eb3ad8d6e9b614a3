"""Rows of a search as identifiers of C-FIND responses (PS3.4 C.4.1.1.3.2).

Owns: what a response holds: each requested key, absent ones with zero length, level and Retrieve AE Title; and its bytes.
Must never: drop a character: text that the peer's character set has not all of goes out as UTF-8 with ISO_IR 192.

Limits: none of its own: a row is at most what `archive.query` puts into one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from radiolith.dicom import dictionary, syntax, values
from radiolith.dicom.charset_out import UTF_8, encode
from radiolith.dicom.element import SHORT_FORM
from radiolith.dimse.identifiers import Asked, Key, Keys
from radiolith.dimse.infomodels import AVAILABILITY, CHARACTER_SET, LEVEL, NAMES, RETRIEVE_AE
from radiolith.model import Row

_SHORT = {vr: code for code, vr in SHORT_FORM.items()}
_SHORT_MAX = 0xFFFE
_CHARSET_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_NUL_PADDED = frozenset({"UI", "OB", "UN"})

Items = list[Row]
Plain = str | int | Items | None


class _Unencodable(Exception):
    """A text that the character set at hand has not all of."""


class Headers:
    """Element headers in one encoding."""

    def __init__(self, encoding: syntax.Encoding):
        order = ">" if encoding.big else "<"
        self.order = order
        self._implicit = encoding.implicit
        self._plain = Struct(order + "HHI").pack
        self._short = Struct(order + "HH2sH").pack
        self._long = Struct(order + "HH2sHI").pack

    def element(self, tag: int, vr: str, value: bytes) -> bytes:
        """Header and value; the value's length is even."""
        length = len(value)
        if self._implicit:
            return self._plain(tag >> 16, tag & 0xFFFF, length) + value
        code = _SHORT.get(vr)
        if code is not None and length <= _SHORT_MAX:
            return self._short(tag >> 16, tag & 0xFFFF, code, length) + value
        code = b"UN" if code is not None else vr.encode("ascii")  # PS3.5 6.2.2, note 5
        return self._long(tag >> 16, tag & 0xFFFF, code, 0, length) + value

    def item(self, content: bytes) -> bytes:
        return self._plain(0xFFFE, 0xE000, len(content)) + content


class _Planned(NamedTuple):
    """A requested key: `empty` is the whole element without a value, or with the only one it can have."""

    tag: int
    key: Key
    empty: bytes
    fixed: bool


class Answers:
    """Makes the identifiers of one C-FIND.

    `retrieve_ae`: where instances are retrieved from. `charset`: what the peer wants text in, () for that of its request.
    """

    def __init__(self, asked: Asked, transfer_syntax: str, retrieve_ae: str, charset: tuple[str, ...] = ()):
        encoding = syntax.encoding(transfer_syntax)
        self._deflated = encoding.deflated
        self._headers = Headers(syntax.EXPLICIT if encoding.deflated else encoding)
        self._charset = charset or asked.charset
        fixed = {
            CHARACTER_SET: b"",
            LEVEL: self._text_element(LEVEL, "CS", NAMES[asked.query.level]),
            RETRIEVE_AE: self._text_element(RETRIEVE_AE, "AE", retrieve_ae),
        }
        if AVAILABILITY in asked.keys:
            fixed[AVAILABILITY] = self._text_element(AVAILABILITY, "CS", "ONLINE")
        self._plan = self._planned(asked.keys, fixed)
        self._at = next(number for number, planned in enumerate(self._plan) if planned.tag == CHARACTER_SET)

    def _text_element(self, tag: int, vr: str, text: str) -> bytes:
        return self._headers.element(tag, vr, _even(text.encode("ascii", "replace"), vr))

    def _planned(self, keys: Keys, fixed: dict[int, bytes]) -> list[_Planned]:
        plan = [_Planned(tag, Key("CS"), element, True) for tag, element in fixed.items()]
        for tag, key in keys.items():
            if tag not in fixed:
                plan.append(_Planned(tag, key, self._headers.element(tag, key.vr, b""), False))
        return sorted(plan, key=lambda planned: planned.tag)

    def encode(self, row: Row) -> bytes:
        """The identifier of one match."""
        foreign: list[str] = []

        def preferred(text: str) -> bytes:
            encoded = encode(text, self._charset)
            if encoded is None:
                raise _Unencodable
            foreign.append("\\".join(self._charset))
            return encoded

        def utf8(text: str) -> bytes:
            foreign.append(UTF_8[0])
            return text.encode("utf-8", "replace")

        try:
            parts = self._elements(row, preferred if self._charset else utf8)
        except _Unencodable:
            foreign.clear()
            parts = self._elements(row, utf8)
        if foreign:  # PS3.4 C.4.1.1.3.2: present if and only if it is needed
            parts[self._at] = self._text_element(CHARACTER_SET, "CS", foreign[0])
        data = b"".join(parts)
        if not self._deflated:
            return data
        squeezed = zlib.compress(data, wbits=-zlib.MAX_WBITS)
        return squeezed + b"\0" * (len(squeezed) % 2)

    def _elements(self, row: Row, text: Callable[[str], bytes]) -> list[bytes]:
        parts: list[bytes] = []
        for tag, key, empty, fixed in self._plan:
            found = None if fixed else row.get(tag)
            if found is None or found[1] is None or (tag >> 16 & 1 and not _owned(row, tag, key)):
                parts.append(empty)
            else:
                parts.append(self._element(tag, found[0], found[1], key.inner, text))
        return parts

    def _element(self, tag: int, vr: str, value: Plain, inner: Keys | None, text: Callable[[str], bytes]) -> bytes:
        if isinstance(value, list):
            items = (self._headers.item(self._item(item, inner, text)) for item in value)
            return self._headers.element(tag, "SQ", b"".join(items))
        if isinstance(value, str) and vr in values.TEXT:
            if value.isascii():
                raw = value.encode("ascii")
            else:
                raw = text(value) if vr in _CHARSET_VRS else value.encode("ascii", "replace")
        else:
            raw = _binary(vr, value, self._headers.order)
        return self._headers.element(tag, vr, _even(raw, vr))

    def _item(self, item: Row, inner: Keys | None, text: Callable[[str], bytes]) -> bytes:
        """The requested keys of an item, or all it has; its own character set no longer holds."""
        wanted: Keys = inner or {tag: Key(vr) for tag, (vr, _) in item.items()}
        parts: list[bytes] = []
        for tag in sorted(wanted):
            if tag == CHARACTER_SET:
                continue
            vr, value = item.get(tag) or (wanted[tag].vr, None)
            parts.append(
                self._headers.element(tag, vr, b"")
                if value is None
                else self._element(tag, vr, value, wanted[tag].inner, text)
            )
        return b"".join(parts)


def _owned(row: Row, tag: int, key: Key) -> bool:
    """Whether a private element is of the creator asked for: another one may have the block."""
    if dictionary.is_creator(tag):
        return True
    creator = row.get(dictionary.creator_tag(tag))
    return creator is not None and creator[1] == key.creator != ""


def _even(raw: bytes, vr: str) -> bytes:
    return raw + (b"\0" if vr in _NUL_PADDED else b" ") if len(raw) & 1 else raw


def _binary(vr: str, value: str | int | None, order: str) -> bytes:
    """Numbers and tags; b'' for what the VR cannot hold."""
    if vr in values.TEXT:
        return str(value).encode("ascii")
    texts = str(value).split("\\") if value not in (None, "") else []
    try:
        if vr in values.NUMBERS:
            convert = float if vr in ("FL", "FD") else int
            return Struct(f"{order}{len(texts)}{values.NUMBERS[vr][0]}").pack(*map(convert, texts))
        if vr == "AT":
            words = (int(text[at : at + 4], 16) for text in texts for at in (0, 4))
            return Struct(f"{order}{2 * len(texts)}H").pack(*words)
    except (ValueError, OverflowError, StructError):
        return b""
    return b""
