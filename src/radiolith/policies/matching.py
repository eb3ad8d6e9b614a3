"""Does an instance match a query's keys? The same words as in queries (PS3.4 C.2.2.2), judged on values instead of rows.

Owns: the pure twin of `index.matching`: single value, UID list, wildcard, range, empty value, person names folded in all
scripts, items of RequestAttributesSequence together. Must never: read anything; a test holds it to the query compiler. What
is judged here are a handful of rules against each arriving instance, where a statement each would cost more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from radiolith.index.attributes import BY_KEYWORD, Attribute, Matching, date, number
from radiolith.index.described import Described, Identifier
from radiolith.index.matching import VALUE_MAX, VALUES_MAX, name_patterns
from radiolith.index.patterns import date_bounds, has_wildcard, time_bounds
from radiolith.index.person import name_keys
from radiolith.model import BadInput, Level, LimitExceeded, Row

KEYS_MAX = 64  # of one rule: as of one query
EMPTY = '""'
_ISSUER, _PATIENT_ID = (0x00100021,), (0x00100020,)
_PAIRS = (((0x00080020,), (0x00080030,)), ((0x00400244,), (0x00400245,)), ((0x00080023,), (0x00080033,)))


@dataclass(frozen=True, slots=True)
class Key:
    attribute: Attribute
    values: tuple[str, ...]


def parse(given: Mapping[str, Sequence[str]]) -> tuple[Key, ...]:
    """Keys by keyword; universal ones are left out. Raises BadInput for an attribute no query can match or a value that is
    none of its kind, LimitExceeded."""
    if len(given) > KEYS_MAX:
        raise LimitExceeded(f"{len(given)} keys, at most {KEYS_MAX} are allowed")
    keys: list[Key] = []
    for keyword, values in given.items():
        attribute = BY_KEYWORD.get(keyword)
        if attribute is None or attribute.matching is Matching.NONE:
            raise BadInput(f"'{keyword}' is not an attribute that can be matched")
        split = _split(attribute, values)
        if len(split) > VALUES_MAX or any(len(value) > VALUE_MAX for value in split):
            raise LimitExceeded(f"{keyword}: at most {VALUES_MAX} values of {VALUE_MAX} characters")
        if split and EMPTY not in split:
            _check(attribute, split)
        if split:
            keys.append(Key(attribute, split))
    return tuple(keys)


def _split(attribute: Attribute, values: Sequence[str]) -> tuple[str, ...]:
    lists = (Matching.UID, Matching.CODE, Matching.CLASSES, Matching.MODALITIES)
    parts = (
        part.strip()
        for value in values
        for part in (value.replace(",", "\\") if attribute.matching in lists else value).split("\\")
    )
    return tuple(part for part in parts if part.strip("*"))


def _check(attribute: Attribute, values: Sequence[str]) -> None:
    for value in values:
        match attribute.matching:
            case Matching.DATE:
                date_bounds(attribute, value)
            case Matching.TIME:
                time_bounds(attribute, value)
            case Matching.NUMBER if number(value) is None:
                raise BadInput(f"{attribute.keyword}: a whole number is needed")
            case _:
                pass


def below_series(keys: Sequence[Key]) -> bool:
    """Whether two instances of one series can be judged differently."""
    return any(key.attribute.level is Level.INSTANCE for key in keys)


def matches(keys: Sequence[Key], one: Described) -> bool:
    """Whether all keys hold on the instance and what it belongs to."""
    given = {key.attribute.path: key for key in keys}
    pairs = [(given[day], given[hour]) for day, hour in _PAIRS if _are_ranges(given.get(day), given.get(hour))]
    issuer = _issuer(given)
    apart = {key.attribute.path for pair in pairs for key in pair} | ({_ISSUER} if issuer else set())
    return (
        all(_holds(key, one, issuer) for key in keys if key.attribute.path not in apart)
        and all(_moment(day, hour, one.row) for day, hour in pairs)
        and _one_item([key for key in keys if key.attribute.matching is Matching.REQUEST], one.row)
    )


def _are_ranges(day: Key | None, hour: Key | None) -> bool:
    """A range of days and one of times are one range of moments (PS3.4 C.2.2.2.5)."""
    return all(key is not None and len(key.values) == 1 and "-" in key.values[0] for key in (day, hour))


def _issuer(given: Mapping[tuple[int, ...], Key]) -> str:
    """Who must have issued the identifier asked for; '' for anybody."""
    key = given.get(_ISSUER)
    if key is None or _PATIENT_ID not in given or len(key.values) != 1 or key.values[0] == EMPTY:
        return ""
    return key.values[0]


def _value(row: Row, path: tuple[int, ...]) -> object:
    found = row.get(path[0])
    return found[1] if found else None


def _holds(key: Key, one: Described, issuer: str) -> bool:
    attribute, values = key.attribute, key.values
    kind, value = attribute.matching, _value(one.row, attribute.path)
    if kind is Matching.REQUEST:
        return True  # all on one item, see _one_item
    if EMPTY in values:
        return value in (None, "", [])
    if kind is Matching.IDENTIFIER:
        known = [x.value for x in one.identifiers if not issuer or _issued(x, issuer, one.row)]
        return any(text(x, wanted) for x in known for wanted in values)
    return any(_JUDGED[kind](attribute, value, wanted) for wanted in values)


def _issued(identifier: Identifier, issuer: str, row: Row) -> bool:
    """By the issuer's universal id or, for the header's own identifier, by its local name."""
    header = _value(row, _PATIENT_ID), _value(row, _ISSUER)
    return identifier.issuer == issuer or (identifier.own and header == (identifier.value, issuer))


def _moment(day: Key, hour: Key, row: Row) -> bool:
    at, moment = date(str(_value(row, day.attribute.path) or "")), str(_value(row, hour.attribute.path) or "")
    if at is None or not moment:
        return False
    first, last = date_bounds(day.attribute, day.values[0])
    low, high = time_bounds(hour.attribute, hour.values[0])
    return first <= at <= last and (at != first or moment >= low) and (at != last or moment < high)


def _one_item(keys: Sequence[Key], row: Row) -> bool:
    """One item of RequestAttributesSequence has what all keys ask for; an empty value means that no item has one."""
    found = _value(row, (0x00400275,))
    items: list[Row] = found if isinstance(found, list) else []
    texts = [{key.attribute.path: str(_value(item, key.attribute.path[1:]) or "") for key in keys} for item in items]
    wanted = [key for key in keys if EMPTY not in key.values]
    return all(not item[key.attribute.path] for key in keys if key not in wanted for item in texts) and (
        not wanted
        or any(all(any(text(item[key.attribute.path], one) for one in key.values) for key in wanted) for item in texts)
    )


# ---------------------------------------------------------------- one value


@lru_cache(maxsize=1024)
def _pattern(wanted: str) -> re.Pattern[str]:
    return re.compile("".join(_WILD.get(character) or re.escape(character) for character in wanted), re.DOTALL)


_WILD = {"*": ".*", "?": "."}


def text(value: str, wanted: str) -> bool:
    """Single value or wildcard matching (PS3.4 C.2.2.2.1 and C.2.2.2.4), case-sensitive."""
    return value == wanted if not has_wildcard(wanted) else _pattern(wanted).fullmatch(value) is not None


def _text(attribute: Attribute, value: object, wanted: str) -> bool:
    return value is not None and text(str(value), wanted)


def _equal(attribute: Attribute, value: object, wanted: str) -> bool:
    return value == wanted


def _listed(attribute: Attribute, value: object, wanted: str) -> bool:
    parts = [part for part in str(value or "").split("\\") if part]
    return wanted in parts if attribute.matching is Matching.CLASSES else any(text(part, wanted) for part in parts)


def _name(attribute: Attribute, value: object, wanted: str) -> bool:
    """The components named match, those after them are free."""
    keys = name_keys(str(value)) if value else set[str]()
    patterns = [p for one in name_patterns(wanted) for p in ((one,) if one.endswith("*") else (one, one + "^*"))]
    return any(text(key, pattern) for key in keys for pattern in patterns)


def _date(attribute: Attribute, value: object, wanted: str) -> bool:
    day = date(str(value or ""))
    low, high = date_bounds(attribute, wanted)
    return day is not None and low <= day <= high


def _time(attribute: Attribute, value: object, wanted: str) -> bool:
    low, high = time_bounds(attribute, wanted)
    return bool(value) and low <= str(value) < high


def _number(attribute: Attribute, value: object, wanted: str) -> bool:
    return value is not None and value == number(wanted)


def _of_issuer(attribute: Attribute, value: object, wanted: str) -> bool:
    """The part of the first item that identifies who issued an accession number."""
    items: list[Row] = value if isinstance(value, list) else []
    return any(text(str(_value(item, attribute.path[1:]) or ""), wanted) for item in items)


_JUDGED = {
    Matching.UID: _equal,
    Matching.CODE: _equal,
    Matching.TEXT: _text,
    Matching.NAME: _name,
    Matching.DATE: _date,
    Matching.TIME: _time,
    Matching.NUMBER: _number,
    Matching.MODALITIES: _listed,
    Matching.CLASSES: _listed,
    Matching.ISSUER: _of_issuer,
}
