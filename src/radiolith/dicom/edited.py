"""What an overlay asks of a header, parsed once; and where private attributes stand in this one (PS3.5 7.8).

Owns: edits as values that can be written, and the blocks of private creators. Must never: change a header. The parsed
overlays of a process are remembered by their digest, TABLES_MAX of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from radiolith.dicom import dictionary, references
from radiolith.dicom.compose import Attributes, from_value
from radiolith.dicom.elements import Form, written
from radiolith.dicom.limits import exceeded
from radiolith.dicom.original_attributes import ORIGINAL_ATTRIBUTES
from radiolith.dicom.outline import Outline, Wanted
from radiolith.dicom.outline import wanted as wanted_of
from radiolith.dicom.wanted import (
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
)
from radiolith.dicom.window import Data
from radiolith.model import Edit, Overlay

TABLES_MAX = 256
"""Parsed overlays that are remembered: a few KiB each, for series being read at the same time."""

_ALWAYS = frozenset({0x00080015, SPECIFIC_CHARACTER_SET, 0x00100021, ORIGINAL_ATTRIBUTES})
_CREATOR_BYTES = 256


@dataclass(frozen=True, slots=True)
class Value:
    """An edit whose value is parsed: little endian and UTF-8 bytes, items, or None where it is taken away."""

    tag: int
    vr: str
    value: bytes | list[Attributes] | None
    creator: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A value and the tag it has in one header."""

    tag: int
    vr: str
    value: bytes | list[Attributes] | None
    creator_tag: int = 0
    creator: str = ""


class Table:
    """An overlay, ready to be applied."""

    def __init__(self, overlay: Overlay) -> None:
        self.overlay = overlay
        self.steps = [(step, tuple(_value(edit) for edit in step.edits)) for step in overlay.steps]
        self.effective = {(value.tag, value.creator): value for _, values in self.steps for value in values}
        """What an attribute is to be in the end."""
        self.places = references.Places(overlay.uids)
        self.study, self.series = self._own(STUDY_INSTANCE_UID), self._own(SERIES_INSTANCE_UID)
        tags = {*_ALWAYS, *(tag for tag, creator in self.effective if not creator)}
        if self.places.any:
            tags |= {STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, *references.TAGS}
            if self.places.by_instance and not (self.study and self.series):
                tags.add(SOP_INSTANCE_UID)
        self.wanted: Wanted = wanted_of(tags, {tag >> 16 for tag, creator in self.effective if creator})

    def _own(self, tag: int) -> str:
        """The UID that an edit gives the header itself, '' where none does."""
        value = self.effective.get((tag, ""))
        return value.value.decode().strip("\0 ") if value is not None and isinstance(value.value, bytes) else ""


def _value(edit: Edit) -> Value:
    if edit.value is None:
        return Value(edit.tag, edit.vr, None, edit.creator)
    return Value(edit.tag, edit.vr, from_value(edit.tag, edit.vr, orjson.loads(edit.value)), edit.creator)


_tables: dict[bytes, Table] = {}


def table_of(overlay: Overlay) -> Table:
    """The parsed overlay. Raises Unparsable for edits that are not the JSON model: nobody checked them."""
    known = _tables.get(overlay.digest)
    if known is not None and (known.overlay is overlay or known.overlay == overlay):
        return known
    made = Table(overlay)
    if len(_tables) >= TABLES_MAX:
        _tables.clear()
    _tables[overlay.digest] = made
    return made


class Private:
    """The private blocks of one header, those that edits need included."""

    def __init__(self, header: Data, found: Outline) -> None:
        self.creators: dict[int, str] = {}
        """Creator element -> name, of the groups that edits concern."""
        self.made: dict[int, str] = {}
        """Those that have to be written."""
        self._header, self._found = header, found
        self._blocks: dict[tuple[int, str], int] = {}
        for tag, spans in found.spans.items():
            if dictionary.is_creator(tag):
                start, stop = spans[-1].value, spans[-1].stop
                raw = header[start : min(stop, start + _CREATOR_BYTES)]
                self.creators[tag] = raw.decode("latin_1").strip(" \0")

    def target(self, value: Value) -> Target | None:
        """Where the value goes in this header; None where there is nothing to take away. Raises LimitExceeded."""
        if not value.creator:
            return Target(value.tag, value.vr, value.value)
        group, low = value.tag >> 16, value.tag & 0xFF
        tag = self._blocks.get((group, value.creator), 0) or self._known(group, low, value.creator)
        if not tag:
            if value.value is None:
                return None
            tag = self._free(group)
            self._blocks[group, value.creator] = tag
        return Target(group << 16 | (tag & 0xFF) << 8 | low, value.vr, value.value, tag, value.creator)

    def use(self, target: Target) -> None:
        """The target is written, so its block has to be there."""
        if target.creator and target.creator_tag not in self.creators:
            self.made[target.creator_tag] = target.creator

    def element(self, target: Target, form: Form) -> bytes:
        """The creator element of a target, b"" of a standard one."""
        span = self._found.last(target.creator_tag)
        if span is not None:
            return self._header[span.start : span.stop]
        return written(target.creator_tag, "LO", target.creator.encode(), form) if target.creator else b""

    def place(self, tag: int) -> int:
        """The offset at which an element has to be inserted."""
        place = self._found.places.get(tag)
        if place is not None:
            return place
        later = [
            spans[0].start for known, spans in self._found.spans.items() if known > tag and known >> 16 == tag >> 16
        ]
        return min(later, default=self._found.places[tag | 0xFFFF])

    def _known(self, group: int, low: int, creator: str) -> int:
        """The creator element of the block that has the element, else of the first one by that name."""
        named = [tag for tag, name in sorted(self.creators.items()) if tag >> 16 == group and name == creator]
        holding = (tag for tag in named if self._found.last(group << 16 | (tag & 0xFF) << 8 | low))
        return next(holding, named[0] if named else 0)

    def _free(self, group: int) -> int:
        used = {tag & 0xFF for tag in (*self.creators, *self._blocks.values()) if tag >> 16 == group}
        used |= {tag >> 8 & 0xFF for tag in self._found.spans if tag >> 16 == group and tag & 0xFF00}
        free = next((block for block in range(0x10, 0x100) if block not in used), None)
        if free is None:
            raise exceeded("private creators", "blocks in a group", 0xF0)
        return group << 16 | free
