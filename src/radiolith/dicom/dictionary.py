"""The data dictionary of PS3.6: tags, keywords, VRs and UID names, public and private.

Owns: the look-ups over `tables/` (written from pydicom's tables by tests/dicom/tables.py). Must never: import pydicom,
or decide how a value is read. A tag is an int, group << 16 | element. The public table is read at import (5,000 lines,
about 5 ms), the private one and the UIDs when first asked for. Our own private block (labels) has keywords too.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Entry(NamedTuple):
    """One row of PS3.6 chapter 6. `vr` may be a choice such as 'US or SS'."""

    vr: str
    vm: str
    keyword: str
    name: str


class Uid(NamedTuple):
    """One row of PS3.6 annex A."""

    kind: str
    keyword: str
    name: str


def _lines(name: str) -> list[str]:
    return (files("radiolith.dicom") / "tables" / name).read_text(encoding="utf-8").splitlines()


def _read_elements() -> tuple[dict[int, Entry], dict[str, Entry]]:
    public: dict[int, Entry] = {}
    repeating: dict[str, Entry] = {}
    for line in _lines("elements.tsv"):
        tag, vr, vm, keyword, name = line.split("\t")
        if "x" in tag:
            repeating[tag] = Entry(vr, vm, keyword, name)
        else:
            public[int(tag, 16)] = Entry(vr, vm, keyword, name)
    return public, repeating


_PUBLIC, _REPEATING = _read_elements()
_OWN = {"PatientLabels": 0x77771001, "StudyLabels": 0x77771002, "SeriesLabels": 0x77771003}
_BY_KEYWORD = {entry.keyword: tag for tag, entry in _PUBLIC.items() if entry.keyword} | _OWN

SEQUENCES = frozenset(tag for tag, entry in _PUBLIC.items() if entry.vr == "SQ")
"""Every public tag that is a sequence: where a reader of implicit VR must descend."""

VR: dict[int, str] = {tag: entry.vr for tag, entry in _PUBLIC.items()}
"""Public tag -> VR (or a choice of VRs), for the loops where a call would be too much."""


@cache
def _masks() -> list[tuple[int, int, Entry]]:
    """(mask, value, entry) of the repeating groups: `tag & mask == value`."""
    found: list[tuple[int, int, Entry]] = []
    for pattern, entry in _REPEATING.items():
        mask = int(re.sub("[0-9A-F]", "F", pattern).replace("x", "0"), 16)
        found.append((mask, int(pattern.replace("x", "0"), 16), entry))
    return found


def entry(tag: int) -> Entry | None:
    """The row of a public tag, repeating groups (50xx, 60xx, …) included; None for private and unknown ones."""
    found = _PUBLIC.get(tag)
    if found is not None or tag >> 16 & 1:
        return found
    return next((row for mask, value, row in _masks() if tag & mask == value), None)


def vr(tag: int, creator: str = "") -> str:
    """VR of a tag as the dictionary has it, 'UN' where it is unknown (PS3.5 6.2.2).

    `creator` is the private creator that reserved the block of a private tag. Group lengths are UL, creators LO.
    """
    known = VR.get(tag)
    if known is not None:
        return known
    if tag & 0xFFFF == 0:
        return "UL"
    if tag >> 16 & 1:
        if is_creator(tag):
            return "LO"
        return private_vr(tag, creator) if creator else "UN"
    found = entry(tag)
    return found.vr if found else "UN"


def is_creator(tag: int) -> bool:
    """(gggg,0010-00FF) of an odd group: names the owner of a block."""
    return bool(tag >> 16 & 1) and 0x10 <= tag & 0xFFFF <= 0xFF


def creator_tag(tag: int) -> int:
    """The tag of the creator that reserved the block of a private tag."""
    return tag & 0xFFFF0000 | tag >> 8 & 0xFF


@cache
def _private() -> dict[str, dict[int, str]]:
    table: dict[str, dict[int, str]] = {"RADIOLITH": dict.fromkeys((0x777701, 0x777702, 0x777703), "LO")}
    entries: dict[int, str] = {}
    for line in _lines("private.tsv"):
        if line.startswith("\t"):
            entries = table.setdefault(line[1:], {})
        else:
            element, vr = line.split(" ", 1)
            if re.fullmatch("[0-9A-F]{6}", element):
                entries[int(element, 16)] = vr
    return table


def private_vr(tag: int, creator: str) -> str:
    """VR of a private element in a block reserved by `creator`, 'UN' where unknown."""
    return _private().get(creator, {}).get(tag >> 8 & 0xFFFF00 | tag & 0xFF, "UN")


def keyword(tag: int) -> str:
    """The keyword, '' for private and unknown tags."""
    found = entry(tag)
    return found.keyword if found else ""


def name(tag: int) -> str:
    """The name as printed in PS3.6, '' for private and unknown tags."""
    found = entry(tag)
    return found.name if found else ""


def tag(text: str) -> int | None:
    """The tag of a keyword ('PatientID') or of eight hexadecimal digits ('00100020'); None when it is neither."""
    known = _BY_KEYWORD.get(text)
    if known is not None:
        return known
    return int(text, 16) if re.fullmatch("[0-9A-Fa-f]{8}", text) else None


def text(tag: int) -> str:
    """A tag as people read it: (0010,0020)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@cache
def _uids() -> dict[str, Uid]:
    return {uid: Uid(*rest) for uid, *rest in (line.split("\t") for line in _lines("uids.tsv"))}


def uid(text: str) -> Uid | None:
    """The row of a registered UID, None when it is not registered."""
    return _uids().get(text)


def uid_name(text: str) -> str:
    """The name of a registered UID; any other UID as it is."""
    found = _uids().get(text)
    return found.name if found else text
