"""One walk over the elements of a dataset as its bytes pass by (PS3.5 chapter 7).

Owns: the state of the walk: where the next element starts, the open sequences and items, what was kept. Must never:
recurse, hold a value that is not wanted, or know files, meta information or deflate (`reader` does).

Positions are absolute. The walk is the same however the bytes are cut: each step either has all the bytes it looks
at, or says in `need` how many it wants from `position` on. One step over plain elements is the hot loop of ingest;
everything unusual leaves it for `_element`, which looks at one element with all care. What a broken sequence of
defined length holds is stepped over with a warning; brokenness at the top level ends the walk: behind the pixel data
with a warning (the rest are trailing bytes), before it as Unparsable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from radiolith.dicom import dictionary, plain
from radiolith.dicom.element import FRAGMENTED, IMPLICIT_BE, IMPLICIT_LE, ITEM, ITEM_END, SEQUENCE_END, header
from radiolith.dicom.fragments import Fragments, PixelElement
from radiolith.dicom.limits import UNDEFINED, Limits, Unparsable, exceeded
from radiolith.dicom.plain import Kept
from radiolith.dicom.syntax import IMPLICIT, Encoding
from radiolith.dicom.wanted import EXTENDED_OFFSET_TABLE, PIXEL_DATA, PIXEL_TAGS, SPECIFIC_CHARACTER_SET, Wanted

_ENDLESS = 1 << 62
_WARNINGS_MAX = 20  # an object is as warned after 20 as after 20,000
_NOTHING: Mapping[int, str] = {}
_ITEM_LEVEL: Mapping[int, str] = {SPECIFIC_CHARACTER_SET: "CS"}

_DISORDER = "elements are out of order or repeated"

ELEMENTS, ITEMS, FRAGMENTS, PIXELS = range(4)


class _Level(NamedTuple):
    """What the walk stands in. `stop` is the nearest defined end around it, `own_end` its own one or None."""

    kind: int
    stop: int
    own_end: int | None
    encoding: Encoding
    want: Mapping[int, str]
    keep: Kept
    last: int


class Walk:
    """See the module. `run` with bytes from `position` on as long as there are any, then `finish`."""

    def __init__(self, encoding: Encoding, start: int, transfer_syntax: str, wanted: Wanted, limits: Limits) -> None:
        self.position = start
        self.need = 8
        self.elements: Kept = {}
        self.sequences: dict[int, list[Kept]] = {}
        self.warnings: list[str] = []
        self.pixels: PixelElement | None = None
        self.fragments: Fragments | None = None
        self.end: int | None = None  # where the dataset ends, once something else follows
        self.only_zeros = False  # what follows must be padding, or the data are unreadable
        self._limits = limits
        self._wanted = wanted
        self._syntax = transfer_syntax
        self._stack: list[_Level] = []
        self._count = 0
        self._kept_bytes = 0
        self._kept_items = 0
        self._top = start  # where the current top-level element starts
        self._items: list[Kept] | None = None  # of the wanted sequence the walk is in
        self._item_want = _NOTHING
        self._level(_Level(ELEMENTS, _ENDLESS, None, encoding, wanted.elements, self.elements, -1))

    # ------------------------------------------------------------ the walk

    def run(self, buffer: bytes, base: int) -> None:
        """Goes as far as `buffer`, whose first byte is at `base`, allows.

        Raises Unparsable or LimitExceeded. Afterwards `position` and `need` say what to come back with.
        """
        end = base + len(buffer)
        while self.position < end and self.end is None:
            if self.position >= self._stop:
                self._close()
                continue
            try:
                if self._kind == ELEMENTS:
                    self._plain(buffer, base)
                    if self.position >= end or self.position >= self._stop:
                        continue
                    done = self._element(buffer, base)
                elif self._kind == ITEMS:
                    done = self._item(buffer, base)
                else:
                    if self._kind == PIXELS and self.fragments is not None and self.fragments.walked_bot:
                        self.position = self.fragments.run(buffer, base, self.position, self._encoding.big)
                        if self.position >= end:
                            continue
                    done = self._fragment(buffer, base)
            except Unparsable as problem:
                self._recover(problem)
                continue
            if not done:
                return
        self.need = 1

    def finish(self, total: int) -> int:
        """All bytes passed, `total` of them; where the dataset ends. Raises Unparsable when it is cut."""
        while self._stack and self.position >= self._stop and self.position <= total:
            self._close()
        if self._kind == PIXELS and self.fragments is not None and self.end is None:
            self._warn("the pixel data have no end")
            self.fragments.cut(total)
            if self.fragments.end < total:
                self._warn("the last fragment of the pixel data is cut")
            return total
        if self.end is not None:
            return self.end
        if self.position == total and not self._stack:
            return total
        if self.pixels is not None and self._in_native_pixels(total):
            self._warn("the pixel data are cut")
            return total
        if self.pixels is not None:
            return self._trail(self._top if self._stack or self.position > total else self.position)
        raise Unparsable(f"the data end in or after {dictionary.text(self._last & 0xFFFFFFFF)}")

    def _in_native_pixels(self, total: int) -> bool:
        pixels = self.pixels
        return pixels is not None and pixels.length != UNDEFINED and pixels.start + pixels.length > total

    # ------------------------------------------------------------ many elements at once

    def _plain(self, buffer: bytes, base: int) -> None:
        """Over plain elements, see `plain`."""
        run = plain.implicit if self._encoding.implicit else plain.explicit
        bounds = self._last, self._floor(), self._limits.value_bytes
        at, last, count, kept, disorder = run(
            buffer, self.position - base, self._stop - base, bounds, (self._want, self._keep), self._encoding.big
        )
        self.position, self._last = base + at, last
        self._account(count, kept)
        if disorder:
            self._warn(_DISORDER)

    def _floor(self) -> int:
        """Tags up to this one are not plain: zeros are padding, and behind the pixel data an element may be junk."""
        return plain.BULK_GROUP if self.pixels is not None and not self._stack else 0

    # ------------------------------------------------------------ one step with all care

    def _element(self, buffer: bytes, base: int) -> bool:
        """One element of any kind; False when more bytes are needed."""
        at = self.position - base
        found = header(buffer, at, len(buffer), self._encoding)
        if found is None:
            self.need = 8 if len(buffer) - at < 8 else 12
            return False
        tag, vr, start, length = found
        if tag >> 16 == 0xFFFE:
            self._delimiter(tag)
            return True
        if not self._stack:
            if self._is_trailing(tag, length):
                return True
            self._top = self.position
        if tag <= self._last:
            self._warn(_DISORDER)
        if length == UNDEFINED:
            self._open(tag, vr, base + start)
            return True
        after = base + start + length
        if after > self._stop:
            raise Unparsable(f"{dictionary.text(tag)} is longer than the item that holds it")
        if tag in PIXEL_TAGS and not self._stack:
            self.pixels = PixelElement(tag, vr, self.position, base + start, length)
        elif (vr == "SQ" or (not vr and tag in dictionary.SEQUENCES)) and length:
            self._open_sequence(tag, base + start, after, self._encoding)
            return True
        elif tag in self._want and not self._take(tag, vr or self._want[tag], buffer, start, length):
            self.need = start - at + length
            return False
        self.position, self._last = after, tag
        self._account(1, 0)
        return True

    def _take(self, tag: int, vr: str, buffer: bytes, start: int, length: int) -> bool:
        """Keeps a wanted value if it is all there; one that is too long is not kept."""
        limits = self._limits
        if length > (limits.offset_table_bytes if tag == EXTENDED_OFFSET_TABLE else limits.value_bytes):
            self._warn(f"{dictionary.text(tag)} is too long to be indexed ({length} bytes)")
            return True
        if start + length > len(buffer):
            return False
        self._keep[tag] = vr, buffer[start : start + length]
        if tag != EXTENDED_OFFSET_TABLE:
            self._account(0, length)
        return True

    def _is_trailing(self, tag: int, length: int) -> bool:
        """Whether the dataset ended before this top-level element: padding, or something behind the pixel data."""
        if tag == 0 and length == 0:
            self.only_zeros = self.pixels is None
            self._trail(self.position)
            return True
        if self.pixels is not None and tag <= self._last:
            self._trail(self.position)
            return True
        return False

    def _trail(self, at: int) -> int:
        self._warn("bytes that are no data elements follow the dataset")
        self.end = at
        return at

    def _delimiter(self, tag: int) -> None:
        """A delimiter or item where an element is expected."""
        level = self._own_end
        if not self._stack:
            if self.pixels is not None:
                self._trail(self.position)
                return
            if tag == ITEM:
                raise Unparsable("an item outside a sequence")
            self._warn("a delimiter stands outside a sequence")
            self.position += 8
        elif tag == ITEM_END:
            self.position += 8
            if level is None:
                self._pop()
            else:
                self._warn("an item of defined length has a delimiter")
        elif tag in (SEQUENCE_END, ITEM) and level is None:
            self._warn("an item has no delimiter")
            self._pop()  # the sequence looks at it next
        else:
            raise Unparsable("a delimiter or item where an element is expected")
        self._account(1, 0)

    def _item(self, buffer: bytes, base: int) -> bool:
        """The header of an item, or the end of the sequence."""
        at = self.position - base
        if len(buffer) - at < 8:
            self.need = 8
            return False
        tag, length = self._item_header(buffer, at)
        start = self.position + 8
        if tag == ITEM:
            own_end = None if length == UNDEFINED else start + length
            if own_end is not None and own_end > self._stop:
                raise Unparsable("an item is longer than the sequence that holds it")
            self.position = start
            self._open_item(own_end)
        elif tag == SEQUENCE_END:
            self.position = start
            if self._own_end is None:
                self._pop()
        else:
            raise Unparsable(f"{dictionary.text(tag)} where an item is expected")
        self._account(1, 0)
        return True

    def _fragment(self, buffer: bytes, base: int) -> bool:
        """One item of a value in fragments: of the pixel data, or of another value in which nothing is of interest."""
        at = self.position - base
        if len(buffer) - at < 8:
            self.need = 8
            return False
        tag, length = self._item_header(buffer, at)
        if tag != ITEM or length == UNDEFINED:
            if tag == SEQUENCE_END:
                self.position += 8
            elif self._kind == FRAGMENTS:
                raise Unparsable(f"{dictionary.text(tag)} where a fragment is expected")
            else:
                self._warn("the pixel data have no delimiter")
            self._pop()
            return True
        after = self.position + 8 + length
        if after > self._stop:
            raise Unparsable("a fragment is longer than the item that holds it")
        pixels = self.fragments if self._kind == PIXELS else None
        if pixels is None:
            self._account(1, 0)
        else:
            self.need = pixels.item(self.position, after, buffer[at + 8 :])
            if self.need:
                return False
        self.position = after
        return True

    # ------------------------------------------------------------ levels

    def _open(self, tag: int, vr: str, start: int) -> None:
        """An element of undefined length: fragments, or a sequence."""
        if tag in PIXEL_TAGS and not self._stack:
            self.pixels = PixelElement(tag, vr, self.position, start, UNDEFINED)
            self.fragments = Fragments(self._syntax, self._limits)
            self._push(PIXELS, None, tag)
            self.position = start
        elif vr in FRAGMENTED or (tag == PIXEL_DATA and vr != "SQ"):
            self._push(FRAGMENTS, None, tag)
            self.position = start
        elif vr in ("SQ", "UN", ""):
            self._open_sequence(tag, start, None, IMPLICIT if vr == "UN" else self._encoding)
        else:
            raise Unparsable(f"{dictionary.text(tag)} with VR {vr} has an undefined length")
        self._account(1, 0)

    def _open_sequence(self, tag: int, start: int, own_end: int | None, encoding: Encoding) -> None:
        if not self._stack:
            inner = self._wanted.sequences.get(tag)
            self._items = None
            if inner is not None:
                self._item_want = {**inner, **_ITEM_LEVEL}
                self._items = self.sequences[tag] = []
        self._push(ITEMS, own_end, tag)
        self._encoding = encoding
        self.position = start

    def _open_item(self, own_end: int | None) -> None:
        keep, want = self._keep, self._want
        if len(self._stack) > 1:  # deeper items add to the outer one what it has not got
            want = {tag: vr for tag, vr in want.items() if tag not in keep} if want else want
        else:
            keep, want = {}, _NOTHING
            if self._items is not None and self._kept_items < self._limits.kept_items:
                self._items.append(keep)
                want = self._item_want
                self._kept_items += 1
            elif self._items is not None:
                self._warn(f"more than {self._limits.kept_items} items: the rest is not indexed")
        self._push(ELEMENTS, own_end, self._last)
        self._keep, self._want, self._last = keep, want, -1

    def _push(self, kind: int, own_end: int | None, tag: int) -> None:
        """Goes into something; `tag` is what the level outside goes on behind."""
        stack = self._stack
        if len(stack) >= 2 * self._limits.depth:
            raise exceeded("sequence depth", "levels", self._limits.depth)
        stack.append(_Level(self._kind, self._stop, self._own_end, self._encoding, self._want, self._keep, tag))
        self._kind, self._own_end = kind, own_end
        if own_end is not None:
            self._stop = own_end

    def _level(self, level: _Level) -> None:
        (self._kind, self._stop, self._own_end, self._encoding, self._want, self._keep, self._last) = level

    def _pop(self) -> None:
        self._level(self._stack.pop())

    def _close(self) -> None:
        """The nearest defined end is reached: leaves all that ends there."""
        while self._own_end is None:
            self._warn("a sequence or item has no delimiter")
            self._pop()
        self._pop()

    def _recover(self, problem: Unparsable) -> None:
        """Steps over the rest of the innermost sequence or item with a defined end; else the dataset ends here."""
        nested = bool(self._stack)
        while self._stack and self._own_end is None:
            self._pop()
        if self._own_end is not None:
            self._warn(f"part of a sequence is not readable: {problem}")
            self.position = self._own_end
            self._pop()
        elif self.pixels is not None:
            self._trail(self._top if nested else self.position)
        else:
            raise problem

    # ------------------------------------------------------------ accounts

    def _item_header(self, buffer: bytes, at: int) -> tuple[int, int]:
        group, element, length = (IMPLICIT_BE if self._encoding.big else IMPLICIT_LE)(buffer, at)
        return group << 16 | element, length

    def _account(self, elements: int, kept: int) -> None:
        self._count += elements
        if self._count > self._limits.elements:
            raise exceeded("element count", "elements", self._limits.elements)
        self._kept_bytes += kept
        if self._kept_bytes > self._limits.kept_bytes:
            raise exceeded("indexed values", "bytes", self._limits.kept_bytes)

    def _warn(self, text: str) -> None:
        if text not in self.warnings and len(self.warnings) < _WARNINGS_MAX:
            self.warnings.append(text)

    @property
    def is_empty(self) -> bool:
        """Whether not one element was seen."""
        return self._count == 0
