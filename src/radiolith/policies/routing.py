"""Routing rules: what arrives, by attributes, sender and time, goes to which peer. Pure.

Owns: what a rule is, its check, and the decision for one instance. Must never: read or order anything: a dry run and the
router ask the same function. A rule is judged once for each time a study is complete (never while it arrives), on every
instance that was new then, with the attributes of its series, study and patient as the index has them. What came from the
peer a rule points to is not sent back to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from radiolith.index.described import Described
from radiolith.index.outbox import Priority
from radiolith.model import BadInput, Source
from radiolith.policies.matching import Key, below_series, matches, parse, text

SOURCES_MAX = 100  # senders a rule names
DOORS = ("dimse", "stow", "import")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PRIORITIES = {priority.name.lower(): priority for priority in Priority}
FIELDS = frozenset({"name", "peer", "keys", "sources", "doors", "hours", "days", "zone", "priority", "syntax"})
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)")
_UID = re.compile(r"[0-9]+(\.[0-9]+){2,}")


@dataclass(frozen=True, slots=True)
class Rule:
    """`sources`: AE titles or names with wildcards, any of them; `doors`: of 'dimse', 'stow', 'import'; empty ones mean all.

    `hours`: minutes of the day from and to (over midnight where from > to), `days` 0 Monday to 6, both as clocks in
    `zone` show it when the study is complete; a night counts for the day it began on. `at`: what was complete before is
    not sent.
    """

    name: str
    peer: str
    keys: tuple[Key, ...] = ()
    sources: tuple[str, ...] = ()
    doors: frozenset[str] = frozenset()
    hours: tuple[int, int] | None = None
    days: frozenset[int] = frozenset()
    zone: str = "UTC"
    priority: Priority = Priority.MEDIUM
    syntax: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """Who a rule's peer is: name and AE title, by which what it sent itself is told."""

    name: str
    aet: str


# ---------------------------------------------------------------- from a fact


def rule(body: Mapping[str, Any], at: int = 0) -> Rule:
    """A rule as people write it: name, peer, keys {keyword: [value, …]}, sources, doors, hours '20:00-06:00', days
    'mon-fri' or ['sat', 'sun'], zone (IANA name), priority 'high' | 'medium' | 'low', syntax (UID). Raises BadInput with
    what is wrong."""
    if unknown := sorted(body.keys() - FIELDS):
        raise BadInput(f"a rule has no '{unknown[0]}'; it has: {', '.join(sorted(FIELDS))}")
    keys = body.get("keys") or {}
    if not isinstance(keys, Mapping):
        raise BadInput("the keys of a rule are attributes with their values")
    priority, syntax = str(body.get("priority") or "medium").lower(), str(body.get("syntax") or "")
    if priority not in PRIORITIES:
        raise BadInput(f"there is no priority '{priority}'; there are: {', '.join(PRIORITIES)}")
    if syntax and not (_UID.fullmatch(syntax) and len(syntax) <= 64):
        raise BadInput("a preferred transfer syntax is named by its UID")
    doors = _words(body, "doors")
    if unknown := sorted(set(doors) - set(DOORS)):
        raise BadInput(f"there is no door '{unknown[0]}'; there are: {', '.join(DOORS)}")
    sources = _words(body, "sources")
    if len(sources) > SOURCES_MAX:
        raise BadInput(f"a rule names at most {SOURCES_MAX} senders")
    zone = str(body.get("zone") or "UTC")
    _zone(zone)
    return Rule(
        str(body.get("name") or ""), str(body.get("peer") or ""),
        parse({str(name): _list(values) for name, values in keys.items()}), sources, frozenset(doors),
        _hours(str(body.get("hours") or "")), _days(body.get("days") or ""), zone, PRIORITIES[priority], syntax, at,
    )  # fmt: skip


def _list(values: Any) -> list[str]:
    return [str(one) for one in values] if isinstance(values, (list, tuple)) else [str(values)]


def _words(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in _list(body.get(name) or []) if word.strip())


def _hours(written: str) -> tuple[int, int] | None:
    if not written:
        return None
    found = _HOURS.fullmatch(written)
    low, high = (int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])) if found else (0, 0)
    if low == high or high > 24 * 60:
        raise BadInput("hours are written 08:00-18:00, or 20:00-06:00 over midnight")
    return low, high


def _days(written: Any) -> frozenset[int]:
    """'mon-fri', 'fri-mon', 'sat,sun' or a list of them."""
    found: set[int] = set()
    for word in (part.strip().lower() for one in _list(written) for part in one.split(",")):
        if not word:
            continue
        first, _, last = word.partition("-")
        if first not in DAYS or (last and last not in DAYS):
            raise BadInput(f"days are {', '.join(DAYS)}, or a range of them like mon-fri")
        low, high = DAYS.index(first), DAYS.index(last or first)
        found |= {day % 7 for day in range(low, (high if high >= low else high + 7) + 1)}
    return frozenset(found)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise BadInput(f"there is no time zone '{name}' on this machine") from None


# ---------------------------------------------------------------- the decision


def in_time(rule: Rule, at: int) -> bool:
    """Whether the moment (microseconds) is within the rule's hours and days."""
    if rule.hours is None and not rule.days:
        return True
    local = datetime.fromtimestamp(at / 1_000_000, _zone(rule.zone))
    minute, day = local.hour * 60 + local.minute, local.weekday()
    if rule.hours is not None:
        low, high = rule.hours
        if low < high:
            inside = low <= minute < high
        else:
            inside = minute >= low or minute < high
            day = day if minute >= low else (day - 1) % 7
        if not inside:
            return False
    return not rule.days or day in rule.days


def from_sender(rule: Rule, source: Source, target: Target) -> bool:
    """Whether the rule is about this sender, and would not send its own images back to it."""
    if source.door != "import" and source.peer in (target.name, target.aet):
        return False
    return (not rule.doors or source.door in rule.doors) and (
        not rule.sources or any(text(source.peer, wanted) for wanted in rule.sources)
    )


def chosen(rule: Rule, target: Target, instances: Sequence[Described], at: int) -> list[int]:
    """The instance rows that the rule sends, of those that were new when a study was complete at `at`; in their order."""
    if at < rule.at or not in_time(rule, at):
        return []
    each = below_series(rule.keys)
    known: dict[tuple[int, Source], bool] = {}
    found: list[int] = []
    for one in instances:
        verdict = known.get((one.series_id, one.source))
        if verdict is None or each:
            verdict = from_sender(rule, one.source, target) and matches(rule.keys, one)
            known[one.series_id, one.source] = verdict
        if verdict:
            found.append(one.instance_id)
    return found
