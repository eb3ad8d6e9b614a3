"""A dataset as a flat run of tokens: elements, and where sequences and items begin and end.

Owns: the structure of a header that a scan has accepted, with every VR resolved (implicit VR, UN, ambiguous VRs:
PS3.5 6.2.2 and annex A.1). Must never: recurse, copy values, or go beyond the pixel data element. It reads with the
same leniency as `walk`, so what was stored can be shown: the rest of a sequence that is not readable is left out,
and the top level ends where it stops making sense. The data lie in memory or behind a `Window`; then only what is
looked at is read, in ascending order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from radiolith.dicom import dictionary
from radiolith.dicom.element import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    FRAGMENTED,
    IMPLICIT_BE,
    IMPLICIT_LE,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    SHORT_FORM,
    header,
)
from radiolith.dicom.limits import LIMITS, UNDEFINED, Limits, Unparsable, exceeded
from radiolith.dicom.syntax import IMPLICIT, Encoding
from radiolith.dicom.wanted import PIXEL_TAGS
from radiolith.dicom.window import Data, Window

ELEMENT, SEQUENCE, ITEM_START, ITEM_STOP, SEQUENCE_STOP, PIXELS, FRAGMENTS = range(7)

Token = tuple[int, int, str, int, int, bool]
"""(kind, tag, VR, offset of the value, its length, big endian). Nested fragments (FRAGMENTS) are one value, all
items without the delimiter. PIXELS is the last token of the top level; its length may reach beyond the data, or be
UNDEFINED."""

_PIXEL_REPRESENTATION = 0x00280103
_LUT_DESCRIPTOR = 0x00283002
_WAVEFORM_BITS_ALLOCATED = 0x54001004
_DECIDING = frozenset({_PIXEL_REPRESENTATION, _LUT_DESCRIPTOR, _WAVEFORM_BITS_ALLOCATED})
_CAREFUL = _DECIDING | PIXEL_TAGS

_CREATOR_BYTES = 256
"""Of a private creator's value; it may have 64 characters (PS3.5 table 6.2-1)."""

CREATORS_MAX = 4096
"""Private creators kept for one level; beyond, those of other groups are forgotten. Real levels have about 20."""


class _Level:
    """An open sequence or item."""

    __slots__ = ("context", "creators", "encoding", "is_item", "own_end", "stop", "tag")

    def __init__(self, tag: int, is_item: bool, own_end: int | None, stop: int, encoding: Encoding) -> None:
        self.tag = tag
        self.is_item = is_item
        self.own_end = own_end
        self.stop = stop if own_end is None else own_end
        self.encoding = encoding
        self.creators: dict[int, str] = {}
        self.context: dict[int, int] = {}


class Tokens:
    """Iterate once over the tokens of `data` from the top-level element at `at` on; `creators` are those before it."""

    def __init__(
        self,
        data: Data,
        encoding: Encoding,
        limits: Limits = LIMITS,
        *,
        at: int = 0,
        creators: Mapping[int, str] | None = None,
    ) -> None:
        self._data = data
        self._limits = limits
        self._at = at
        self._count = 0
        self._level = _Level(0, True, None, len(data), encoding)
        self._level.creators.update(creators or {})
        self._stack: list[_Level] = []

    def __iter__(self) -> Iterator[Token]:
        """Raises LimitExceeded; brokenness only shortens the run."""
        while True:
            level = self._level
            if self._at >= level.stop:
                if not self._stack:
                    return
                yield self._close()
                continue
            if level.is_item:
                yield from self._plain(level)
                if self._at >= level.stop:
                    continue
            try:
                token = self._element(level) if level.is_item else self._item(level)
            except Unparsable:
                while self._stack and self._level.own_end is None:
                    yield self._close()
                if not self._stack:
                    return
                self._at = self._level.stop
                continue
            if token is not None:
                yield token
                if token[0] == PIXELS:
                    return
            self._count += 1
            if self._count > self._limits.elements:
                raise exceeded("element count", "elements", self._limits.elements)

    def _seen(self) -> tuple[bytes, int]:
        """Bytes in memory around the present position, and the position of the first of them."""
        data = self._data
        return data.held(self._at) if isinstance(data, Window) else (data, 0)

    def _header(self, end: int, encoding: Encoding) -> tuple[int, str, int, int] | None:
        """`element.header` at the present position."""
        data, at = self._data, self._at
        return data.header(at, end, encoding) if isinstance(data, Window) else header(data, at, end, encoding)

    def _plain(self, level: _Level) -> Iterator[Token]:
        """The fast run over explicit short-form elements that need no resolving."""
        encoding = level.encoding
        if encoding.implicit:
            yield from self._plain_implicit(level)
            return
        data, base = self._seen()
        big, stop = encoding.big, min(level.stop - base, len(data))
        head = EXPLICIT_BE if big else EXPLICIT_LE
        short, at, edge = SHORT_FORM.get, self._at - base, stop - 8
        while at <= edge:
            group, element, code, length = head(data, at)
            vr = short(code)
            value = at + 8
            after = value + length
            if vr is None or after > stop or group == 0xFFFE or group & 1:
                break
            tag = group << 16 | element
            if tag in _DECIDING:
                self._note(level, tag, base + value, length, big)
            yield ELEMENT, tag, vr, base + value, length, big
            at = after
            self._count += 1
        self._at = base + at

    def _plain_implicit(self, level: _Level) -> Iterator[Token]:
        """The same for implicit elements of public tags with one possible VR, which is no sequence."""
        data, base = self._seen()
        big, stop = level.encoding.big, min(level.stop - base, len(data))
        head = IMPLICIT_BE if big else IMPLICIT_LE
        known, at, edge = dictionary.VR.get, self._at - base, stop - 8
        while at <= edge:
            group, element, length = head(data, at)
            tag = group << 16 | element
            vr = known(tag)
            value = at + 8
            after = value + length
            if vr is None or len(vr) != 2 or vr == "SQ" or after > stop or tag in _CAREFUL:
                break
            yield ELEMENT, tag, vr, base + value, length, big
            at = after
            self._count += 1
        self._at = base + at

    # ------------------------------------------------------------ one element

    def _element(self, level: _Level) -> Token | None:
        data = self._data
        found = self._header(len(data), level.encoding)
        if found is None:
            raise Unparsable("the header is cut")
        tag, vr, start, length = found
        if tag >> 16 == 0xFFFE:
            return self._delimiter(level, tag)
        if tag in PIXEL_TAGS and not self._stack:
            return PIXELS, tag, vr or self._pixel_vr(tag, length), start, length, level.encoding.big
        big, inner = level.encoding.big, level.encoding
        if vr == "UN" or not vr:
            said = vr
            vr = self._resolve(level, tag)
            if said:  # PS3.5 6.2.2: what was made UN is implicit VR little endian inside
                big, inner = False, IMPLICIT
        if length == UNDEFINED:
            if vr in FRAGMENTED or tag in PIXEL_TAGS:
                return self._fragments(tag, vr, start, level)
            return self._open(tag, start, None, inner)
        after = start + length
        if after > level.stop:
            raise Unparsable("an element is longer than what holds it")
        if vr == "SQ":
            return self._open(tag, start, after, inner)
        if tag >> 16 & 1 and dictionary.is_creator(tag):
            if len(level.creators) >= CREATORS_MAX:
                level.creators = {known: name for known, name in level.creators.items() if known >> 16 == tag >> 16}
            level.creators[tag] = data[start : min(after, start + _CREATOR_BYTES)].decode("latin_1").strip(" \0")
        elif tag in _DECIDING:
            self._note(level, tag, start, length, big)
        self._at = after
        return ELEMENT, tag, vr, start, length, big

    def _note(self, level: _Level, tag: int, start: int, length: int, big: bool) -> None:
        if length >= 2:
            level.context[tag] = int.from_bytes(self._data[start : start + 2], "big" if big else "little")

    def _pixel_vr(self, tag: int, length: int) -> str:
        if tag & 0xFFFF == 0x10:
            return "OB" if length == UNDEFINED else "OW"
        return dictionary.vr(tag)

    def _resolve(self, level: _Level, tag: int) -> str:
        """The VR of an element whose bytes do not say it."""
        vr = dictionary.VR.get(tag)
        if vr is None:
            creator = level.creators.get(dictionary.creator_tag(tag), "") if tag >> 16 & 1 else ""
            vr = dictionary.vr(tag, creator)
        if len(vr) == 2:
            return vr
        if vr == "US or SS":
            return "SS" if self._context(level, _PIXEL_REPRESENTATION) == 1 else "US"
        if tag == 0x00283006:  # LUT Data
            return "US" if self._context(level, _LUT_DESCRIPTOR) == 1 else "OW"
        if tag >> 16 in (0x5400, 0x003A) and self._context(level, _WAVEFORM_BITS_ALLOCATED) == 8:
            return "OB"
        return "OW"

    def _context(self, level: _Level, tag: int) -> int | None:
        """The nearest value around that decides an ambiguous VR."""
        if tag in level.context:
            return level.context[tag]
        return next((outer.context[tag] for outer in reversed(self._stack) if tag in outer.context), None)

    def _fragments(self, tag: int, vr: str, start: int, level: _Level) -> Token:
        """A nested value in fragments (an encapsulated icon): one token over all its items."""
        limit = self._limits.elements
        self._at = start
        while True:
            self._count += 1
            if self._count > limit:
                raise exceeded("element count", "elements", limit)
            found = self._header(level.stop, level.encoding)
            if found is None:
                raise Unparsable("fragments are cut")
            mark, _, value, length = found
            if mark == SEQUENCE_END:
                size = self._at - start
                self._at += 8
                return FRAGMENTS, tag, vr, start, size, level.encoding.big
            if mark != ITEM or value + length > level.stop:
                raise Unparsable("fragments are broken")
            self._at = value + length

    # ------------------------------------------------------------ levels

    def _open(self, tag: int, start: int, own_end: int | None, encoding: Encoding) -> Token:
        self._push(_Level(tag, False, own_end, self._level.stop, encoding))
        self._at = start
        return SEQUENCE, tag, "SQ", start, UNDEFINED if own_end is None else own_end - start, encoding.big

    def _item(self, level: _Level) -> Token | None:
        found = self._header(len(self._data), level.encoding._replace(implicit=True))
        if found is None:
            raise Unparsable("the header is cut")
        tag, _, start, length = found
        if tag == SEQUENCE_END:
            self._at = start
            return self._close() if level.own_end is None else None
        if tag != ITEM:
            raise Unparsable("no item where one is expected")
        own_end = None if length == UNDEFINED else start + length
        if own_end is not None and own_end > level.stop:
            raise Unparsable("an item is longer than its sequence")
        self._push(_Level(level.tag, True, own_end, level.stop, level.encoding))
        self._at = start
        return ITEM_START, level.tag, "", start, length, level.encoding.big

    def _delimiter(self, level: _Level, tag: int) -> Token | None:
        if not self._stack:
            if tag == ITEM:
                raise Unparsable("an item outside a sequence")
            self._at += 8
            return None
        if tag == ITEM_END:
            self._at += 8
            return self._close() if level.own_end is None else None
        if level.own_end is None:
            return self._close()
        raise Unparsable("a delimiter where an element is expected")

    def _push(self, level: _Level) -> None:
        if len(self._stack) >= 2 * self._limits.depth:
            raise exceeded("sequence depth", "levels", self._limits.depth)
        self._stack.append(self._level)
        self._level = level

    def _close(self) -> Token:
        level = self._level
        self._level = self._stack.pop()
        return ITEM_STOP if level.is_item else SEQUENCE_STOP, level.tag, "", self._at, 0, level.encoding.big
