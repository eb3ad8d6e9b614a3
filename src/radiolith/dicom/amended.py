"""The corrected header: what was received with an overlay's edits in it, made while it is read.

Owns: which bytes of a header change. Must never: change a byte of an element that no edit, no moved reference and no
character set concerns, read or write files, or look behind the pixel data element. The same header under the same
overlay gives the same bytes, and a header that shows all of it already comes back as it is: a corrected copy that was
sent back is not corrected twice.

How: one walk over the top level (`outline`) finds what the overlay may concern; then the steps are applied one by one in
memory; then the stored bytes go out with the changed elements in their place. Every step that changed something leaves an
item in the Original Attributes Sequence. Group lengths of changed groups go (retired, PS3.5 7.2). Where a new text is not
in the header's character set, all of it becomes UTF-8 (`recoding`); the first item then names the old one and holds its
prior values as they were. A header that is broken keeps what cannot be read; what is added stands before that.

Limits: elements that change are held, up to HELD_BYTES each; the rest passes in pieces of PIECE bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import merge
from typing import NamedTuple

from radiolith.dicom import charset as charsets
from radiolith.dicom import elements, outline, recoding, references, syntax
from radiolith.dicom.edited import Private, Table, Target, table_of
from radiolith.dicom.elements import Form, NotInCharacterSet
from radiolith.dicom.encoding import PIECE, element_header
from radiolith.dicom.limits import LIMITS, Limits, exceeded
from radiolith.dicom.original_attributes import ORIGINAL_ATTRIBUTES, Origin, item, joined, moment
from radiolith.dicom.outline import Outline, Span
from radiolith.dicom.wanted import (
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
)
from radiolith.dicom.window import Data
from radiolith.model import Overlay

__all__ = ["Origin", "amended", "amended_pieces"]

HELD_BYTES = 16 * 1024 * 1024
"""Of one element that changes, with its prior value; what is longer cannot be corrected."""

_COERCED = 0x00080015  # Instance Coercion DateTime
_PATIENT_ID, _ISSUER = 0x00100020, 0x00100021


def amended(header: Data, encoding: str, overlay: Overlay, origin: Origin, limits: Limits = LIMITS) -> bytes:
    """A header as the overlay shows it, in the encoding it has.

    `header` begins with the dataset's first element and ends at the pixel data element or inside it; `encoding` is the
    actual one (`Scan.actual_encoding`), a deflated dataset inflated. Raises LimitExceeded; for the long ones see
    `amended_pieces`. Overlays without steps change nothing: references that moved are recorded with the last step.
    """
    return b"".join(amended_pieces(header, encoding, overlay, origin, limits))


def amended_pieces(
    header: Data, encoding: str, overlay: Overlay, origin: Origin, limits: Limits = LIMITS
) -> Iterator[bytes]:
    """`amended` in pieces of at most about PIECE bytes, for headers behind a window. Raises as `amended`, before the
    first piece where the limit is that of an element that changes."""
    found = changes(header, encoding, overlay, origin, limits)
    at = 0
    for cut in parts(header, found, limits) if found is not None else ():
        yield from _verbatim(header, at, cut.start)
        yield from cut.pieces
        at = max(at, cut.stop)
    yield from _verbatim(header, at, len(header))


class Cut(NamedTuple):
    """Bytes [start, stop) of the header are to be `pieces`."""

    start: int
    stop: int
    pieces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What becomes of one header."""

    cuts: list[Cut]  # in order; [] when nothing changes
    outline: Outline
    form: Form  # of the header as it was
    recoded: bool  # all other texts become UTF-8
    looked: bool  # `outline.free` is there


def changes(
    header: Data, encoding: str, overlay: Overlay, origin: Origin, limits: Limits = LIMITS, *, free: bool = False
) -> Changes | None:
    """What an overlay does to a header, None without steps. `free`: the outline tells what nobody looked at."""
    if not overlay.steps:
        return None
    table = table_of(overlay)
    kind = syntax.encoding(encoding)
    kind = kind._replace(deflated=False)
    found = outline.outline(header, kind, table.wanted, limits, free=free)
    span = found.last(SPECIFIC_CHARACTER_SET)
    terms = charsets.terms(_bytes(header, span.value, span.stop)) if span else ()
    form = Form(kind, terms)
    try:
        done = _Amending(header, found, table, form, limits)
        done.apply(origin)
    except NotInCharacterSet:
        done = _Amending(header, found, table, form, limits, recoded=True)
        done.apply(origin)
    cuts = done.cuts()
    return Changes(cuts, found, form, done.recoded and bool(cuts), free)


def parts(header: Data, found: Changes, limits: Limits = LIMITS) -> Iterator[Cut | recoding.Rewritten]:
    """All that is put into the header, in order; each to be used up before the next one is taken, then `stop` is right."""
    ordered = merge(_cuts(found), _recoded(header, found, limits), key=lambda one: one[:2])
    return (part for _, _, part in ordered)


_Part = tuple[int, bool, "Cut | recoding.Rewritten"]
"""(start, whether something goes for it, what stands there)"""


def _cuts(found: Changes) -> Iterator[_Part]:
    for cut in found.cuts:
        yield cut.start, cut.stop > cut.start, cut


def _recoded(header: Data, found: Changes, limits: Limits) -> Iterator[_Part]:
    """What becomes UTF-8 of the elements that no step touches."""
    if found.looked and not _may_need_utf_8(header, found.outline):
        return
    if found.recoded:
        touched = {cut.start for cut in found.cuts if cut.stop > cut.start}
        for one in recoding.recoded(header, found.form.encoding, found.form.terms, limits):
            if one.start not in touched:
                yield one.start, True, one


def _may_need_utf_8(header: Data, found: Outline) -> bool:
    """Whether there is anything but ASCII where texts may be: most headers are not walked twice more."""
    texts = recoding.MAY_HOLD_TEXTS
    return (
        found.odd_creators
        or any(vr in texts and not _is_plain(header, start, stop) for vr, start, stop in found.free)
        or any(not _is_plain(header, start, stop) for start, stop in found.through)
        or any(not _is_plain(header, one.value, one.stop) for spans in found.spans.values() for one in spans)
    )


def _is_plain(header: Data, start: int, stop: int) -> bool:
    raw = header[start:stop]
    return raw.isascii() and b"\x1b" not in raw


def _verbatim(header: Data, start: int, stop: int) -> Iterator[bytes]:
    for at in range(start, stop, PIECE):
        yield header[at : min(stop, at + PIECE)]


def _bytes(header: Data, start: int, stop: int) -> bytes:
    if stop - start > HELD_BYTES:
        raise exceeded("corrected element", "bytes", HELD_BYTES)
    return header[start:stop]


class _Amending:
    """One header while the steps are applied to it. Elements are looked up by tag; what changed is in `_now`."""

    def __init__(
        self, header: Data, found: Outline, table: Table, form: Form, limits: Limits, *, recoded: bool = False
    ) -> None:
        self.recoded = recoded
        self._header, self._outline, self._table, self._limits = header, found, table, limits
        self._received = form  # of the stored bytes
        self._form = form.in_utf_8 if recoded else form  # of what is written
        self._now: dict[int, bytes | None] = {}
        self._items: list[bytes] = []
        self._private = Private(header, found)
        self._kept: set[int] = set()  # what the header shows as it is to be in the end
        self._other: set[int] = set()  # what it shows otherwise

    def apply(self, origin: Origin) -> None:
        """Raises NotInCharacterSet unless texts become UTF-8; nothing else is known to fail but limits."""
        targets = [self._private.target(value) for value in self._table.effective.values()]
        for target in targets:
            if target is not None:
                (self._kept if self._shows(target) else self._other).add(target.tag)
        for number, (step, values) in enumerate(self._table.steps, 1):
            priors: dict[int, bytes] = {}
            for value in values:
                target = self._private.target(value)
                if target is not None and target.tag not in self._kept:
                    last = self._table.effective[value.tag, value.creator] is value and target.tag not in self._now
                    self._set(target, priors, differs=last and target.tag in self._other)
            if number == len(self._table.steps):
                self._move(priors)
            if priors:
                self._besides(priors)
                self._items.append(item(step, origin, priors, self._form))
                self._now[_COERCED] = elements.written(_COERCED, "DT", moment(step.at), self._form)

    def _besides(self, priors: dict[int, bytes]) -> None:
        """What stands in an item beside the attributes that a step changed."""
        if self.recoded and not self._items:
            empty = self._empty(SPECIFIC_CHARACTER_SET, "CS")
            priors[SPECIFIC_CHARACTER_SET] = self._stored(SPECIFIC_CHARACTER_SET) or empty
        coerced = self._element(_COERCED)
        if coerced is not None:
            priors[_COERCED] = coerced
        issuer = self._prior(_ISSUER) if _PATIENT_ID in priors and _ISSUER not in priors else None
        if issuer is not None:
            priors[_ISSUER] = issuer

    def cuts(self) -> list[Cut]:
        """What changes, in order; [] when nothing does."""
        if not self._items:
            return []
        if self.recoded:
            self._now[SPECIFIC_CHARACTER_SET] = elements.written(
                SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 192", self._form
            )
        self._now[ORIGINAL_ATTRIBUTES] = self._history()
        for tag, creator in self._private.made.items():
            self._now[tag] = elements.written(tag, "LO", creator.encode("utf_8", "replace"), self._form)
        groups = {tag >> 16 for tag in self._now}
        cuts: list[tuple[int, int, int, bytes]] = []
        for tag, spans in self._outline.spans.items():
            if not tag & 0xFFFF and (self.recoded or tag >> 16 in groups):
                cuts += [(span.start, 1, span.stop, b"") for span in spans]
        for tag in sorted(self._now):
            new, spans = self._now[tag], self._outline.spans.get(tag, [])
            if spans:
                cuts += [(span.start, 1, span.stop, b"") for span in spans[:-1]]
                cuts.append((spans[-1].start, 1, spans[-1].stop, new or b""))
            elif new is not None:
                place = self._private.place(tag)
                cuts.append((place, 0, place, new))
        cuts.sort(key=lambda cut: cut[:2])  # stable: what is put into one place stays in the order of its tags
        return [Cut(start, stop, (new,)) for start, _, stop, new in cuts]

    # ------------------------------------------------------------ elements

    def _stored(self, tag: int) -> bytes | None:
        """The element as it was received."""
        span = self._outline.last(tag)
        return _bytes(self._header, span.start, span.stop) if span else None

    def _element(self, tag: int) -> bytes | None:
        """The element as it is after the steps so far, in the character set it was written in."""
        return self._now[tag] if tag in self._now else self._stored(tag)

    def _empty(self, tag: int, vr: str) -> bytes:
        implicit, big, _ = self._form.encoding
        return element_header(tag, vr, 0, implicit=implicit, big=big)

    def _prior(self, tag: int) -> bytes | None:
        """The element for an item: as it was; in UTF-8 where an earlier item has recorded the change to it."""
        element, span = self._element(tag), self._outline.last(tag)
        if element is None or tag in self._now or span is None:
            return element
        if not span.closed:
            element = elements.respelled(element, self._form.encoding, self._private.creators, self._limits)
        return self._in_utf_8(element) if self.recoded and self._items else element

    def _in_utf_8(self, element: bytes) -> bytes:
        form, creators = self._received, self._private.creators
        for anew in recoding.recoded(element, form.encoding, form.terms, self._limits, creators=creators):
            return b"".join(anew.pieces)
        return element

    # ------------------------------------------------------------ edits

    def _shows(self, target: Target) -> bool:
        """Whether the header shows already what an edit wants."""
        element = self._element(target.tag)
        if target.value is None or element is None:
            return target.value is None and element is None
        mine = elements.written(target.tag, target.vr, target.value, self._form.in_utf_8)
        if element == mine:
            return True
        span = self._outline.last(target.tag)
        if span is not None and target.tag not in self._now and isinstance(target.value, bytes):
            value = element[span.value - span.start :]
            if elements.is_simple(target.vr, value) and elements.is_simple(target.vr, target.value):
                return value.strip(b" \0") == target.value.strip(b" \0")
        form = self._form if target.tag in self._now else self._received
        creator = self._private.element(target, self._received)
        return elements.model(element, form, creator) == elements.model(mine, form.in_utf_8, creator)

    def _set(self, target: Target, priors: dict[int, bytes], *, differs: bool = False) -> None:
        if not differs and self._shows(target):
            return
        tag = target.tag
        if tag not in priors:
            priors[tag] = self._prior(tag) or self._empty(tag, target.vr)
            if target.creator:
                priors[target.creator_tag] = self._private.element(target, self._form)
        if target.value is None:
            self._now[tag] = None
        else:
            self._now[tag] = elements.written(tag, target.vr, target.value, self._form)
            self._private.use(target)

    # ------------------------------------------------------------ places

    def _move(self, priors: dict[int, bytes]) -> None:
        """The own UIDs and the references of the header, where the overlay says that something moved."""
        table = self._table
        if not table.places.any:
            return
        study, series = self._uid(STUDY_INSTANCE_UID), self._uid(SERIES_INSTANCE_UID)
        shown = table.places.of(study, series, self._uid(SOP_INSTANCE_UID))
        for tag, was, edited, uid in (
            (STUDY_INSTANCE_UID, study, table.study, shown[0]),
            (SERIES_INSTANCE_UID, series, table.series, shown[1]),
        ):
            if was and not edited and uid != was:
                self._set(Target(tag, "UI", uid.encode("ascii", "replace")), priors)
        found = self._references()
        own = references.Own(study, table.study or shown[0])
        for tag, items in references.regrouped(found, table.places, own).items():
            if tag not in priors:
                priors[tag] = self._prior(tag) or self._empty(tag, "SQ")
            self._now[tag] = references.sequence(tag, items, self._form.encoding) if items else None

    def _references(self) -> dict[int, list[references.Item]]:
        """The sequences of references that can be taken apart, in the character set of the result."""
        found: dict[int, list[references.Item]] = {}
        left: set[int] = set()
        for tag in references.TAGS:
            span, element = self._outline.last(tag), None
            if span is not None and span.stop - span.start <= references.REFERENCES_BYTES:
                element = self._element(tag)
                if element is not None and self.recoded and tag not in self._now:
                    element = self._in_utf_8(element)
            items = references.parsed(element, self._form.encoding, self._limits) if element else None
            if items is not None:
                found[tag] = items
            elif span is not None:
                left.add(tag)
        if left & references.TOGETHER:
            return {tag: items for tag, items in found.items() if tag not in references.TOGETHER}
        return found

    def _uid(self, tag: int) -> str:
        span = self._outline.last(tag)
        raw = _bytes(self._header, span.value, span.stop) if span else b""
        return raw.decode("ascii", "replace").strip("\0 \t\r\n")

    def _history(self) -> bytes:
        span = self._outline.last(ORIGINAL_ATTRIBUTES)
        stored = self._stored(ORIGINAL_ATTRIBUTES)
        if span is None or stored is None:
            return joined(None, self._items, self._form, lambda: b"")
        if self.recoded:
            recoded = self._in_utf_8(stored)
            if recoded is not stored:
                lead = len(element_header(ORIGINAL_ATTRIBUTES, "SQ", 0, implicit=self._form.encoding.implicit))
                stored, span = recoded, Span(span.tag, "SQ", 0, lead, len(recoded))
        element = stored
        return joined(
            (element, span),
            self._items,
            self._form,
            lambda: elements.respelled(element, self._form.encoding, {}, self._limits),
        )
