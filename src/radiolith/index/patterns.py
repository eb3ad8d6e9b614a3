"""Wildcards, ranges and prefixes as pieces of SQL.

Owns: `Sql` (constant text and its parameters), and what a pattern or a range of one value becomes. Must never: put a
value into SQL text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date as Day
from typing import Any

from radiolith.index.attributes import Attribute, date, time
from radiolith.model import BadInput

ESCAPE = "!"


@dataclass(frozen=True, slots=True)
class Sql:
    """Text and its parameters."""

    text: str
    params: tuple[Any, ...] = ()


NEVER = Sql("1 = 0")


def any_of(parts: Sequence[Sql]) -> Sql:
    if len(parts) == 1:
        return parts[0]
    return Sql("(" + " OR ".join(part.text for part in parts) + ")", tuple(p for part in parts for p in part.params))


def all_of(parts: Sequence[Sql]) -> Sql:
    return Sql(" AND ".join(part.text for part in parts), tuple(p for part in parts for p in part.params))


def union(selects: Sequence[Sql]) -> Sql:
    return Sql(" UNION ".join(one.text for one in selects), tuple(p for one in selects for p in one.params))


# ---------------------------------------------------------------- patterns


def has_wildcard(value: str) -> bool:
    return "*" in value or "?" in value


def stem(pattern: str) -> str:
    """What stands before the first wildcard."""
    cut = min((at for at in (pattern.find("*"), pattern.find("?")) if at >= 0), default=len(pattern))
    return pattern[:cut]


def like(pattern: str) -> str:
    """A wildcard pattern as LIKE wants it, with its own characters escaped."""
    for character in (ESCAPE, "%", "_"):
        pattern = pattern.replace(character, ESCAPE + character)
    return pattern.replace("*", "%").replace("?", "_")


def successor(prefix: str) -> str | None:
    """The smallest text greater than every text that begins with `prefix`, by code point; None when there is none."""
    for at in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[at]) + 1
        if code == 0xD800:
            code = 0xE000  # surrogates are no characters
        if code <= 0x10FFFF:
            return prefix[:at] + chr(code)
    return None


def begins(column: str, prefix: str) -> Sql:
    """`column` begins with `prefix`, as a range an index can walk."""
    end = successor(prefix)
    return Sql(f"{column} >= ?", (prefix,)) if end is None else Sql(f"({column} >= ? AND {column} < ?)", (prefix, end))


def text_match(column: str, value: str) -> Sql:
    """Single value or wildcard matching of a text column."""
    if not has_wildcard(value):
        return Sql(f"{column} = ?", (value,))
    if not value.strip("*"):
        return Sql(f"{column} IS NOT NULL")
    parts: list[Sql] = []
    prefix = stem(value)
    if prefix:
        parts.append(begins(column, prefix))
    if value != prefix + "*":
        parts.append(Sql(f"{column} LIKE ? ESCAPE '{ESCAPE}'", (like(value),)))
    return Sql("(" + all_of(parts).text + ")", all_of(parts).params)


# ---------------------------------------------------------------- ranges


def split_range(value: str) -> tuple[str, str] | None:
    """('a', 'b') of a range 'a-b', 'a-' or '-b'; None when it is a single value."""
    if "-" not in value:
        return None
    low, _, high = value.partition("-")
    return low.strip(), high.strip()


def _day(attribute: Attribute, value: str) -> int:
    found = date(value)
    if found is None:
        raise BadInput(f"{attribute.keyword}: a date is YYYYMMDD, a range YYYYMMDD-YYYYMMDD")
    return found


def date_bounds(attribute: Attribute, value: str) -> tuple[int, int]:
    """First and last day, as numbers; the empty date (0) is in no range."""
    between = split_range(value)
    if between is None:
        day = _day(attribute, value)
        return day, day
    low, high = between
    if not (low or high):
        raise BadInput(f"{attribute.keyword}: a range needs a beginning or an end")
    return (_day(attribute, low) if low else 1), (_day(attribute, high) if high else 99991231)


def _moment(attribute: Attribute, value: str) -> str:
    found = time(value)
    if found is None:
        raise BadInput(f"{attribute.keyword}: a time is HHMMSS.FFFFFF, or less of it; a range has a dash between two")
    return found


def time_bounds(attribute: Attribute, value: str) -> tuple[str, str]:
    """Times t with low <= t < high as text. A time stands for all that is more precise; seconds of 00 may be missing."""
    low, high = split_range(value) or (value, value)
    if not (low or high):
        raise BadInput(f"{attribute.keyword}: a range needs a beginning or an end")
    start = _moment(attribute, low) if low else ""
    if split_range(value) is not None:
        start = start.split(".")[0] if start.endswith(".") or not start.partition(".")[2].strip("0") else start
        while len(start) > 2 and start.endswith("00") and "." not in start:
            start = start[:-2]
    return start, (_moment(attribute, high) + ":") if high else ":"


def days_between(low: int, high: int) -> int:
    """About how many days a range has; many when it is open."""

    def ordinal(day: int) -> int:
        year, month = min(max(day // 10000, 1), 9999), min(max(day // 100 % 100, 1), 12)
        return Day(year, month, 1).toordinal() + day % 100

    return ordinal(high) - ordinal(low) + 1
