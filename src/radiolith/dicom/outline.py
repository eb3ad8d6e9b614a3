"""The top level of a dataset: where the elements lie that somebody wants, and where others would have to stand.

Owns: one quick walk that looks at no value and into no sequence of defined length. Must never: recurse, hold more than
what was wanted, or read otherwise than `tokens`: what that leaves out lies behind `end` here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from radiolith.dicom import dictionary
from radiolith.dicom.element import (
    EXPLICIT_BE,
    EXPLICIT_LE,
    IMPLICIT_BE,
    IMPLICIT_LE,
    ITEM,
    SHORT_FORM,
    header,
)
from radiolith.dicom.encoding import BIG, LITTLE
from radiolith.dicom.limits import LIMITS, UNDEFINED, Limits, Unparsable, exceeded
from radiolith.dicom.syntax import Encoding
from radiolith.dicom.tokens import CREATORS_MAX, FRAGMENTS, SEQUENCE, SEQUENCE_STOP, Tokens
from radiolith.dicom.wanted import PIXEL_TAGS
from radiolith.dicom.window import Data, Window

_CREATOR_BYTES = 256
_SEQUENCE_STOP_BYTES = 8


class Span(NamedTuple):
    """A top-level element: its bytes are [start, stop), its value begins at `value`. `vr` is '' where the bytes do not
    say it; `closed` is False when a sequence of undefined length ends without its delimiter."""

    tag: int
    vr: str
    start: int
    value: int
    stop: int
    closed: bool = True


class Wanted(NamedTuple):
    """What an outline is to hold: elements by tag, all elements of some groups, and every group length."""

    tags: frozenset[int]
    groups: frozenset[int] = frozenset()


@dataclass(slots=True)
class Outline:
    """What the walk found. Of a repeated element the last one counts, as everywhere."""

    spans: dict[int, list[Span]] = field(default_factory=dict[int, list[Span]])
    places: dict[int, int] = field(default_factory=dict[int, int])
    """Wanted tag -> the offset at which it would have to be inserted: before the first element with a higher tag."""
    end: int = 0
    """Behind the last element that can be read: the pixel data element, the end, or what makes no sense."""
    free: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])
    """(VR, value, stop) of elements of defined length that were not wanted, private creators not among them; this and the
    next only where it was asked for."""
    through: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """(start, stop) of elements of undefined length that were not wanted: their end was looked for inside."""
    odd_creators: bool = False
    """A private creator is not in ASCII."""

    def last(self, tag: int) -> Span | None:
        """The element that counts."""
        found = self.spans.get(tag)
        return found[-1] if found else None


class _Walk:
    def __init__(self, data: Data, encoding: Encoding, wanted: Wanted, limits: Limits) -> None:
        self.result = Outline()
        self._data, self._encoding, self._limits = data, encoding, limits
        self._tags, self._groups = wanted
        self._size = len(data)
        self._at = self._count = 0
        self._creators: dict[int, str] = {}
        self._pending = sorted({*wanted.tags, *(group << 16 | 0xFFFF for group in wanted.groups)}, reverse=True)
        self._next = self._pending[-1] if self._pending else UNDEFINED

    def run(self, free: bool) -> Outline:
        end: int | None = None
        try:
            while self._at < self._size:
                self._plain(free)
                if self._at < self._size and not self._careful(free):
                    break
                self._count += 1
                if self._count > self._limits.elements:
                    raise exceeded("element count", "elements", self._limits.elements)
        except Unparsable:
            pass
        except _Open as unclosed:
            end = unclosed.start
        self.result.end = self._at if end is None else end
        for tag in self._pending:
            self.result.places[tag] = self.result.end
        return self.result

    def _pass(self, tag: int, start: int) -> None:
        """Everything that belongs before `tag` belongs before `start`."""
        while self._pending and self._pending[-1] < tag:
            self.result.places[self._pending.pop()] = start
        self._next = self._pending[-1] if self._pending else UNDEFINED

    def _plain(self, free: bool) -> None:
        """The quick run over what needs no thought."""
        data, encoding = self._data, self._encoding
        buffer, base = data.held(self._at) if isinstance(data, Window) else (data, 0)
        implicit, short, known = encoding.implicit, SHORT_FORM.get, dictionary.VR.get
        if implicit:
            head = IMPLICIT_BE if encoding.big else IMPLICIT_LE
        else:
            head = EXPLICIT_BE if encoding.big else EXPLICIT_LE
        at, tags, groups, note, next_ = self._at - base, self._tags, self._groups, self._note, self._next
        stop = min(self._size - base, len(buffer))
        edge, count = stop - 8, 0
        while at <= edge:
            if implicit:
                group, element, length = head(buffer, at)
                vr = known(group << 16 | element)
            else:
                group, element, code, length = head(buffer, at)
                vr = short(code)
            value = at + 8
            after = value + length
            if vr is None or after > stop or group >= 0x7FE0 or (group & 1 and element < 0x100):
                break
            tag = group << 16 | element
            if tag > next_:
                self._pass(tag, base + at)
                next_ = self._next
            if tag in tags or group in groups or not element:
                note(Span(tag, "" if implicit else vr, base + at, base + value, base + after))
            elif free and length:
                self.result.free.append((vr, base + value, base + after))
            at = after
            count += 1
        self._at = base + at
        self._count += count

    def _careful(self, free: bool) -> bool:
        """One element of any kind; False when the walk ends before it."""
        data, at, encoding = self._data, self._at, self._encoding
        found = (
            data.header(at, self._size, encoding)
            if isinstance(data, Window)
            else header(data, at, self._size, encoding)
        )
        if found is None:
            return False
        tag, vr, value, length = found
        if tag >> 16 == 0xFFFE:
            self._at = at + 8
            return tag != ITEM
        if tag in PIXEL_TAGS:
            self._pass(tag, at)
            return False
        after, closed = (value + length, True) if length != UNDEFINED else self._closing(at)
        if after > self._size:
            return False
        self._pass(tag, at)
        creator = bool(tag >> 16 & 1) and dictionary.is_creator(tag)
        if creator and length != UNDEFINED:
            self._creator(tag, data[value : min(after, value + _CREATOR_BYTES)])
        if tag in self._tags or tag >> 16 in self._groups or not tag & 0xFFFF:
            self._note(Span(tag, vr, at, value, after, closed))
        elif free and length not in (0, UNDEFINED) and not creator:
            self.result.free.append((vr, value, after))
        elif free and length == UNDEFINED:
            self.result.through.append((at, after))
        self._at = after
        if not closed:
            raise _Open(at)
        return True

    def _creator(self, tag: int, raw: bytes) -> None:
        if len(self._creators) >= CREATORS_MAX:
            self._creators = {known: name for known, name in self._creators.items() if known >> 16 == tag >> 16}
        self.result.odd_creators |= not raw.isascii() or b"\x1b" in raw
        self._creators[tag] = raw.decode("latin_1").strip(" \0")

    def _closing(self, at: int) -> tuple[int, bool]:
        """Where the element of undefined length at `at` ends, and whether a delimiter says so."""
        depth = 0
        for kind, _, _, start, length, _ in Tokens(
            self._data, self._encoding, self._limits, at=at, creators=self._creators
        ):
            if kind == FRAGMENTS and not depth:
                return start + length + _SEQUENCE_STOP_BYTES, True
            if kind == SEQUENCE:
                depth += 1
            elif kind == SEQUENCE_STOP:
                depth -= 1
                if not depth:
                    mark = self._data[max(at, start - _SEQUENCE_STOP_BYTES) : start][:4]
                    return start, mark in (LITTLE.sequence_stop[:4], BIG.sequence_stop[:4])
        raise Unparsable("an element of undefined length does not end")

    def _note(self, span: Span) -> None:
        self.result.spans.setdefault(span.tag, []).append(span)


class _Open(Exception):
    """A sequence that begins at `start` has no end: nothing can be put behind it."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.start = start


def outline(data: Data, encoding: Encoding, wanted: Wanted, limits: Limits = LIMITS, *, free: bool = False) -> Outline:
    """The outline of `data`, which begins with a dataset's first element. Raises LimitExceeded."""
    return _Walk(data, encoding, wanted, limits).run(free)


def wanted(tags: Iterable[int], groups: Iterable[int] = ()) -> Wanted:
    """What `outline` is to hold."""
    return Wanted(frozenset(tags), frozenset(groups))
