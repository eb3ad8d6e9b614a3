"""Attribute matching (PS3.4 C.2.2.2) on attributes at hand, for what no index holds.

Owns: whether values of a `model.Row` match what was asked. Must never: read anything; `index.matching` is the same for SQL.
Dates and times are compared as they are written, a range by prefix; a time zone offset behind them is not looked at. A text
longer than TEXT_MAX matches only as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from radiolith.dicom import dictionary, names
from radiolith.dicom.values import SINGLE
from radiolith.model import Row

EMPTY = '""'
TEXT_MAX = 10_240  # characters: the longest LT
_TEMPORAL = frozenset({"DA", "TM", "DT"})
_NUMERIC = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "UV", "SV"})
_OFFSET = re.compile(r"(?<=[\d.]{10})[+-](?:0\d|1[0-4])[0-5]\d$")
"""Of a DT with hours: '-0500' behind them. A range has a whole date and time there."""


def matches(row: Row, path: Sequence[int], wanted: Sequence[str]) -> bool:
    """Whether an attribute, found under `path`, has one of the values asked for; universal matching is always true.

    Of a sequence any item will do. '""' asks for an attribute without a value.
    """
    asked = [value for value in wanted if value.strip("*")]
    return not asked or any(_one(vr, text, value) for vr, text in _texts(row, path) for value in asked)


def _texts(row: Row, path: Sequence[int]) -> Iterator[tuple[str, str]]:
    """(VR, value) of each value under the path; one empty value where there is none."""
    rows = [row]
    for tag in path[:-1]:
        found = (item[tag][1] for item in rows if tag in item)
        rows = [item for value in found if isinstance(value, list) for item in value]
    none = True
    for item in rows:
        vr, value = item.get(path[-1], ("", None))
        if value is None or value == "" or isinstance(value, list):
            continue
        none = False
        text = str(value)
        for part in [text] if vr in SINGLE else text.split("\\"):
            yield vr, part.strip()
    if none:
        yield dictionary.vr(path[-1]), ""


def _one(vr: str, text: str, wanted: str) -> bool:
    if wanted == EMPTY or not text:
        return wanted == EMPTY and not text
    if vr in _TEMPORAL:
        return _moment(_OFFSET.sub("", text), wanted)
    if vr in _NUMERIC:
        return _number(text) == _number(wanted)
    if vr == "PN":
        return any(wildcard(key, names.fold(wanted).rstrip("^ ")) for key in names.name_keys(text))
    return text == wanted if vr == "UI" else wildcard(text, wanted)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _moment(text: str, wanted: str) -> bool:
    """A single value stands for all that is more precise; a range is closed."""
    wanted = _OFFSET.sub("", wanted)
    low, dash, high = wanted.partition("-")
    if not dash:
        return text.startswith(wanted)
    return (not low or text >= low or low.startswith(text)) and (not high or text[: len(high)] <= high)


def wildcard(text: str, pattern: str) -> bool:
    """'*' is any run of characters, '?' any one. Time is linear in the text for each part between two '*'."""
    if "*" not in pattern and "?" not in pattern:
        return text == pattern
    if len(text) > TEXT_MAX:
        return False
    first, *rest = pattern.split("*")
    if not rest:
        return len(text) == len(first) and _at(text, first, 0)
    *middle, last = rest
    end = len(text) - len(last)
    if not _at(text, first, 0) or end < len(first) or not _at(text, last, end):
        return False
    at = len(first)
    for part in middle:
        at = _find(text, part, at, end)
        if at < 0:
            return False
    return True


def _at(text: str, part: str, at: int) -> bool:
    there = text[at : at + len(part)]
    return there == part or (len(there) == len(part) and all(p in ("?", t) for p, t in zip(part, there, strict=True)))


def _find(text: str, part: str, start: int, end: int) -> int:
    """Behind the first place of `part` in text[start:end], -1 when there is none."""
    if "?" not in part:
        at = text.find(part, start, end)
    else:
        at = next((at for at in range(start, end - len(part) + 1) if _at(text, part, at)), -1)
    return at + len(part) if at >= 0 else -1
