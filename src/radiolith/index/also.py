"""Matching keys beside those of the table of columns: labels that people gave, attributes that a setting made searchable.

Owns: what these two kinds of matching mean in SQL (the rest is `matching`'s). Must never: put a value into SQL text, or lead a
search through more than DRIVEN_MAX entries of an index: a value that so many instances have is a condition on what another
key or the dates lead to.
"""

from __future__ import annotations

from collections.abc import Sequence

from radiolith.index import extras, labels, matching, old_names
from radiolith.index.attributes import LABEL_CREATOR, Attribute, Matching
from radiolith.index.extras import Extra
from radiolith.index.matching import ALIAS, Condition, Context, Driver, name_patterns, studies_of
from radiolith.index.patterns import (
    NEVER,
    Sql,
    all_of,
    any_of,
    date_bounds,
    has_wildcard,
    split_range,
    stem,
    successor,
    text_match,
    time_bounds,
)
from radiolith.model import BadInput, Level, LimitExceeded, Match

DRIVEN_MAX = 20_000  # entries of `extras` that a search starts from: 10 ms
_WILD_VRS = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT"})


def of_creator(match: Match) -> bool:
    """Whether a key of our own private block is meant, and not the same element in the block of another creator."""
    return match.creator in ("", LABEL_CREATOR)


def compile_key(context: Context, attribute: Attribute, values: Sequence[str], extra: Extra | None = None) -> Condition:
    """As `matching.compile_key`, for every attribute there is."""
    if attribute.matching not in (Matching.LABEL, Matching.EXTRA):
        return old_names.widened(context, matching.compile_key(context, attribute, values), values)
    if len(values) > matching.VALUES_MAX or any(len(value) > matching.VALUE_MAX for value in values):
        raise LimitExceeded(
            f"{attribute.keyword}: at most {matching.VALUES_MAX} values of {matching.VALUE_MAX} characters"
        )
    if extra is None:
        return _label(context, attribute, values)
    return _extra(context, attribute, extra, values)


# ---------------------------------------------------------------- labels


def _label(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    """'ward' finds the word and every ward=…, 'ward=3' that one; both may have wildcards, '""' is what has no label."""
    owner = f"{ALIAS[attribute.level]}.id"
    level = labels.LEVELS[attribute.level]
    if '""' in values:
        none = f"NOT EXISTS (SELECT 1 FROM labels l WHERE l.level = ? AND l.owner_id = {owner})"  # noqa: S608
        return Condition(attribute, Sql(none, (level,)))
    parts = [_written(value) for value in values]
    match = any_of(parts)
    where = Sql(
        f"EXISTS (SELECT 1 FROM labels l WHERE l.level = ? AND l.owner_id = {owner} AND {match.text})",  # noqa: S608
        (level, *match.params),
    )
    if not all(stem(labels.name_of(value)) for value in values):
        return Condition(attribute, where)
    found = Sql(
        f"SELECT DISTINCT l.owner_id AS id FROM labels l WHERE l.tenant_id = ? AND l.level = ? AND {match.text}",  # noqa: S608
        (context.tenant_id, level, *match.params),
    )
    rank = 9 if any(has_wildcard(value) for value in values) else 6
    if attribute.level is Level.PATIENT:
        return Condition(attribute, where, Driver(rank, studies_of(found), found))
    if attribute.level is Level.SERIES:
        text = f"SELECT DISTINCT e0.study_id AS id FROM ({found.text}) o CROSS JOIN series e0 WHERE e0.id = o.id"  # noqa: S608
        found = Sql(text, found.params)
    return Condition(attribute, where, Driver(rank, found))


def _written(value: str) -> Sql:
    name, mark, rest = value.partition("=")
    named = text_match("l.name", labels.name_of(name))
    if not mark:
        return named
    valued = text_match("l.value", rest.strip())
    return Sql(f"({named.text} AND {valued.text})", (*named.params, *valued.params))


# ---------------------------------------------------------------- attributes of the setting


def _extra(context: Context, attribute: Attribute, extra: Extra, values: Sequence[str]) -> Condition:
    number = extras.number_of(context.read, extra.name)
    if '""' in values:
        none = "NOT EXISTS (SELECT 1 FROM extras x WHERE x.instance_id = i.id AND x.attribute = ?)"
        return Condition(attribute, Sql(none, (number or 0,)))
    match = any_of([_valued(attribute, value) for value in values])
    if number is None:
        return Condition(attribute, NEVER)
    where = Sql(
        f"EXISTS (SELECT 1 FROM extras x WHERE x.instance_id = i.id AND x.attribute = ? AND {match.text})",  # noqa: S608
        (number, *match.params),
    )
    listed = Sql(
        f"SELECT x.instance_id FROM extras x WHERE x.tenant_id = ? AND x.attribute = ? AND {match.text} LIMIT ?",  # noqa: S608
        (context.tenant_id, number, *match.params, DRIVEN_MAX + 1),
    )
    counted = context.read.one(f"SELECT COUNT(*) FROM ({listed.text}) c", listed.params)  # noqa: S608
    if counted is None or counted[0] > DRIVEN_MAX:
        return Condition(attribute, where)
    studies = Sql(
        f"SELECT DISTINCT e0.study_id AS id FROM ({listed.text}) o CROSS JOIN instances i0 CROSS JOIN series e0"  # noqa: S608
        " WHERE i0.id = o.instance_id AND e0.id = i0.series_id",
        listed.params,
    )
    return Condition(attribute, where, Driver(4 if counted[0] < 100 else 9, studies))


def _valued(attribute: Attribute, value: str) -> Sql:
    """One value of a key, by the rules of the VR (PS3.4 C.2.2.2)."""
    column, vr = "x.value", attribute.vr
    if vr == "PN":
        parts = [
            text_match(column, one)
            for pattern in name_patterns(value)
            for one in ([pattern] if pattern.endswith("*") else [pattern, pattern + "^*"])
        ]
        return any_of(parts) if parts else NEVER
    if vr == "DA":
        low, high = date_bounds(attribute, value)
        return Sql(f"({column} >= ? AND {column} <= ?)", (f"{low:08d}", f"{high:08d}"))
    if vr == "TM":
        return Sql(f"({column} >= ? AND {column} < ?)", time_bounds(attribute, value))
    if vr == "DT":
        return _moments(attribute, value)
    if vr in _WILD_VRS:
        return text_match(column, value)
    found = extras.folded(value, vr)
    if not found:
        raise BadInput(f"{attribute.keyword}: the value is none of VR {vr}")
    return any_of([Sql(f"{column} = ?", (one,)) for one in found])


def _moments(attribute: Attribute, value: str) -> Sql:
    """A moment stands for all that is more precise; a range has a dash between two."""
    low, high = split_range(value) or (value, value)
    bounds: list[Sql] = []
    for text, sign in ((low, ">="), (high, "<")):
        found = extras.folded(text, "DT")
        if text and not found:
            raise BadInput(f"{attribute.keyword}: a moment is YYYYMMDDHHMMSS.FFFFFF, or less of it")
        if found:
            bound = found[0] if sign == ">=" else successor(found[0])
            bounds.append(Sql(f"x.value {sign} ?", (bound,)))
    if not bounds:
        raise BadInput(f"{attribute.keyword}: a range needs a beginning or an end")
    whole = all_of(bounds)
    return Sql(f"({whole.text})", whole.params)
