"""Two ranges of a date and its time as one range of moments (combined date-time matching, PS3.4 C.2.2.2.5).

Owns: which attributes go together. Must never: change what an index serves: the days stay a condition of their own, the hours
only bound the first and the last day.
"""

from __future__ import annotations

from collections.abc import Mapping

from radiolith.index.matching import Condition
from radiolith.index.patterns import Sql

Path = tuple[int, ...]
_PAIRS: tuple[tuple[Path, Path], ...] = (
    ((0x00080020,), (0x00080030,)),
    ((0x00400244,), (0x00400245,)),
    ((0x00080023,), (0x00080033,)),
)
_ALIAS: dict[Path, str] = {(0x00080020,): "s", (0x00400244,): "e", (0x00080023,): "i"}


def combine(conditions: list[Condition], given: Mapping[Path, tuple[str, ...]]) -> None:
    """Change the conditions of the pairs of which both are ranges. `given`: the values of each key."""
    for day, hour in _PAIRS:
        days, hours = given.get(day, ()), given.get(hour, ())
        if len(days) == len(hours) == 1 and "-" in days[0] and "-" in hours[0]:
            _combine(conditions, day, hour)


def _combine(conditions: list[Condition], day: Path, hour: Path) -> None:
    dates = next(c for c in conditions if c.attribute.path == day)
    at = next(n for n, c in enumerate(conditions) if c.attribute.path == hour)
    times = conditions[at]
    first, last = dates.where.params
    low, high = times.where.params
    date, time = (f"{_ALIAS[day]}.{c.attribute.column}" for c in (dates, times))
    where = Sql(
        f"({time} IS NOT NULL AND ({date} <> ? OR {time} >= ?) AND ({date} <> ? OR {time} < ?))",
        (first, low, last, high),
    )
    conditions[at] = Condition(times.attribute, where)
