"""One matching key, as a condition on rows (PS3.4 C.2.2.2).

Owns: what each kind of matching means in SQL, and which keys lead to their studies through an index. Must never: put a
value into SQL text: conditions are made of constants and column names of the attribute table, values are parameters.

Case and accents: person names are compared folded (dicom.names), everything else as it is, case-sensitive. Names match
component by component: `Müller` finds every Mueller whatever the given name, `Mül*^J*` by prefix; `*` may stand for
several components, as in the standard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from radiolith.dicom import names
from radiolith.index import codes
from radiolith.index.attributes import Attribute, Matching, number
from radiolith.index.patterns import (
    ESCAPE,
    NEVER,
    Sql,
    any_of,
    date_bounds,
    days_between,
    has_wildcard,
    like,
    stem,
    text_match,
    time_bounds,
    union,
)
from radiolith.index.person import NameKind, sound_keys
from radiolith.index.session import Reader
from radiolith.index.uids import pack_uid
from radiolith.model import BadInput, Level, LimitExceeded

VALUES_MAX = 1000  # values of one key: a statement may hold 32,766 parameters on SQLite
VALUE_MAX = 1024  # characters of one value

ALIAS = {Level.PATIENT: "p", Level.STUDY: "s", Level.SERIES: "e", Level.INSTANCE: "i"}


@dataclass(frozen=True, slots=True)
class Driver:
    """A statement giving study rows (`id`) through an index. The smaller the rank, the fewer studies it is likely to give.

    `patients`: the same as patient rows, where that makes sense.
    """

    rank: int
    studies: Sql
    patients: Sql | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A key compiled: `where` holds on rows of the attribute's level, or with `item` on one of RequestAttributesSequence."""

    attribute: Attribute
    where: Sql
    driver: Driver | None = None
    item: bool = False


# ---------------------------------------------------------------- kinds of matching


@dataclass(frozen=True, slots=True)
class Context:
    """What conditions are compiled for."""

    read: Reader
    tenant_id: int
    fuzzy: bool = False
    issuer: str = ""  # Issuer of Patient ID, when the query names one
    rejected: bool = False  # the view
    level: Level = Level.STUDY  # of the query


def compile_key(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    """The condition of one key that is not universal. Raises BadInput, LimitExceeded."""
    if len(values) > VALUES_MAX:
        raise LimitExceeded(f"{attribute.keyword}: {len(values)} values, at most {VALUES_MAX} are allowed")
    if any(len(value) > VALUE_MAX for value in values):
        raise LimitExceeded(f"{attribute.keyword}: a value may have {VALUE_MAX} characters")
    if '""' in values:
        return _empty(attribute)
    return _COMPILE[attribute.matching](context, attribute, values)


def _column(attribute: Attribute) -> str:
    return f"{ALIAS[attribute.level]}.{attribute.column}"


def _empty(attribute: Attribute) -> Condition:
    """Empty value matching (PS3.4 C.2.2.2.7)."""
    column = _column(attribute)
    match attribute.matching:
        case Matching.MODALITIES | Matching.CLASSES:
            return Condition(attribute, Sql(f"{column} = ''"))
        case Matching.REQUEST:
            sql = (
                f"NOT EXISTS (SELECT 1 FROM series_requests r WHERE r.series_id = e.id AND r.{attribute.column} <> '')"  # noqa: S608
            )
            return Condition(attribute, Sql(sql))
        case Matching.DATE if attribute.column == "study_date":
            return Condition(attribute, Sql(f"{column} = 0"))
        case Matching.NUMBER if _column(attribute) == "i.number":
            return Condition(attribute, Sql(f"{column} = 2147483648"))
        case _:
            return Condition(attribute, Sql(f"{column} IS NULL"))


def _uid(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    packed = tuple(sorted({pack_uid(value) for value in values}))
    marks = ", ".join("?" * len(packed))
    where = Sql(f"{_column(attribute)} IN ({marks})", packed)
    tenant = context.tenant_id
    if attribute.level is Level.STUDY:
        sql = Sql(f"SELECT id FROM studies WHERE uid IN ({marks}) AND tenant_id = ?", (*packed, tenant))  # noqa: S608
        return Condition(attribute, where, Driver(0, sql))
    if attribute.level is Level.SERIES:
        text = f"SELECT DISTINCT study_id AS id FROM series WHERE uid IN ({marks}) AND tenant_id = ?"  # noqa: S608
        sql = Sql(text, (*packed, tenant))
        return Condition(attribute, where, Driver(1, sql))
    sql = Sql(
        "SELECT DISTINCT e0.study_id AS id FROM instances i0 CROSS JOIN series e0"  # noqa: S608
        f" WHERE i0.uid IN ({marks}) AND e0.id = i0.series_id AND i0.tenant_id = ?",
        (*packed, tenant),
    )
    return Condition(attribute, where, Driver(1, sql))


def _text(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    column = _column(attribute)
    where = any_of([text_match(column, value) for value in values])
    exact = not any(has_wildcard(value) for value in values)
    if not attribute.indexed or attribute.level is not Level.STUDY or not all(stem(value) for value in values):
        modality = attribute.keyword == "Modality" and exact and len(values) == 1
        return Condition(attribute, where, _modality_driver(context, values[0]) if modality else None)
    rank = 2 if exact else 7
    selects = [
        Sql(f"SELECT id FROM studies WHERE tenant_id = ? AND {part.text}", (context.tenant_id, *part.params))  # noqa: S608
        for part in (text_match(attribute.column, value) for value in values)
    ]
    return Condition(attribute, where, Driver(rank, union(selects)))


def studies_of(patients: Sql) -> Sql:
    text = f"SELECT s0.id FROM ({patients.text}) o CROSS JOIN studies s0 WHERE s0.patient_id = o.id"  # noqa: S608
    return Sql(text, patients.params)


def _identifier(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    """Any identifier of the patient: the one in the header of the first instance, and those other headers claim."""
    tables = ("patient_identifiers", "claimed_identifiers")
    issued = {table: _issued_by(table, context.issuer) for table in tables}
    match = any_of([text_match("x.value", value) for value in values])
    of_row = [
        Sql(
            f"EXISTS (SELECT 1 FROM {table} x WHERE x.patient_id = p.id AND {match.text}{issued[table].text})",  # noqa: S608
            (*match.params, *issued[table].params),
        )
        for table in tables
    ]
    if not all(stem(value) for value in values):
        return Condition(attribute, any_of(of_row))
    patients = union(
        [
            Sql(
                f"SELECT x.patient_id AS id FROM {table} x WHERE x.tenant_id = ? AND {one.text}{issued[table].text}",  # noqa: S608
                (context.tenant_id, *one.params, *issued[table].params),
            )
            for table in tables
            for one in (text_match("x.value", value) for value in values)
        ]
    )
    exact = not any(has_wildcard(value) for value in values)
    return Condition(attribute, any_of(of_row), Driver(3 if exact else 7, studies_of(patients), patients))


def _issued_by(table: str, issuer: str) -> Sql:
    """The identifier's issuer, by its universal id or, for the header's own identifier, by its local name."""
    if not issuer:
        return Sql("")
    if table == "claimed_identifiers":
        return Sql(" AND x.issuer = ?", (issuer,))
    local = (
        "EXISTS (SELECT 1 FROM patients p0 WHERE p0.id = x.patient_id AND p0.patient_id = x.value AND p0.issuer = ?)"
    )
    return Sql(f" AND (x.issuer = ? OR {local})", (issuer, issuer))


def _name(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    """Folded, component by component; with fuzzy matching also by sound."""
    kind = int(NameKind.PATIENT if attribute.level is Level.PATIENT else NameKind.REFERRING)
    owner = "p.id" if attribute.level is Level.PATIENT else "s.id"
    patterns = [pattern for value in values for pattern in name_patterns(value)]
    spelled = [part for pattern in patterns for part in _name_conditions(pattern)]
    heard = [words for value in values if (words := sorted(_query_sounds(value)))] if context.fuzzy else []
    if not spelled and not heard:
        return Condition(attribute, NEVER)
    of_row = [
        Sql(
            f"EXISTS (SELECT 1 FROM names x WHERE x.owner_id = {owner} AND x.kind = ? AND x.tenant_id = ? AND {part.text})",  # noqa: S608
            (kind, context.tenant_id, *part.params),
        )
        for part in ([any_of(spelled)] if spelled else [])
    ] + [_sounds_like(owner, (context.tenant_id, kind + 1), words) for words in heard]
    if not all(stem(pattern) for pattern in patterns):
        return Condition(attribute, any_of(of_row))
    sql = "SELECT owner_id AS id FROM names x WHERE tenant_id = ? AND kind = ? AND"
    owners = [Sql(f"{sql} {part.text}", (context.tenant_id, kind, *part.params)) for part in spelled]
    owners += [_owners_by_sound((context.tenant_id, kind + 1), words) for words in heard]
    exact = not any(has_wildcard(pattern) for pattern in patterns)
    shortest = min((len(stem(pattern)) for pattern in patterns), default=0)
    rank = 5 if exact else 7 if shortest >= 3 else 10
    found = union(owners)
    if attribute.level is Level.PATIENT:
        return Condition(attribute, any_of(of_row), Driver(rank, studies_of(found), found))
    return Condition(attribute, any_of(of_row), Driver(rank + 1, found))


def name_patterns(value: str) -> list[str]:
    """The folded pattern of each component group; empty components match anything."""
    patterns: list[str] = []
    for group in names.groups(value):
        folded = names.fold(group).rstrip("^ ")
        parts = folded.split("^")
        pattern = "^".join(part or "*" for part in parts)
        if folded:
            patterns.append(pattern)
    return patterns


def _name_conditions(pattern: str) -> list[Sql]:
    """The components named match; those after them are free."""
    if pattern.endswith("*"):
        return [text_match("x.name", pattern)]
    return [text_match("x.name", pattern), text_match("x.name", pattern + "^*")]


def _query_sounds(value: str) -> set[str]:
    """Sounds of the words without wildcards."""
    words = [word for word in names.fold(value.replace("=", "^")).replace("^", " ").split() if not has_wildcard(word)]
    return sound_keys("^".join(words[:2]) + "".join(f" {word}" for word in words[2:]))


def _owners_by_sound(key: tuple[int, int], words: Sequence[str]) -> Sql:
    """Owners of all the words, found by the longest code, which is likely the rarest; `key`: tenant, kind."""
    first, *others = sorted(words, key=lambda word: (-len(word), word))
    text, params = (
        "SELECT owner_id AS id FROM names a WHERE a.tenant_id = ? AND a.kind = ? AND a.name = ?",
        (*key, first),
    )
    for word in others:
        text += (
            " AND (SELECT COUNT(*) FROM names b WHERE b.tenant_id = ? AND b.kind = ? AND b.name = ?"
            " AND b.owner_id = a.owner_id) > 0"  # not EXISTS: a join would walk all owners of the word
        )
        params = (*params, *key, word)
    return Sql(text, params)


def _sounds_like(owner: str, key: tuple[int, int], words: Sequence[str]) -> Sql:
    marks = ", ".join("?" * len(words))
    sql = f"SELECT COUNT(*) FROM names x WHERE x.owner_id = {owner} AND x.tenant_id = ? AND x.kind = ? AND x.name IN ({marks})"  # noqa: S608
    return Sql(f"({sql}) = ?", (*key, *words, len(words)))


def _date(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    column = _column(attribute)
    bounds = [date_bounds(attribute, value) for value in values]
    where = any_of([Sql(f"({column} >= ? AND {column} <= ?)", pair) for pair in bounds])
    days = sum(days_between(*pair) for pair in bounds)
    driver = None
    if attribute.column == "birth_date" and days <= 366:
        patients = union(
            [
                Sql(
                    "SELECT id FROM patients WHERE tenant_id = ? AND birth_date >= ? AND birth_date <= ?",
                    (context.tenant_id, *pair),
                )
                for pair in bounds
            ]
        )
        driver = Driver(6 if days <= 7 else 8, studies_of(patients), patients)
    elif attribute.column == "step_date" and days <= 92:
        sql = "SELECT study_id AS id FROM series WHERE tenant_id = ? AND step_date >= ? AND step_date <= ?"
        driver = Driver(6 if days <= 7 else 8, union([Sql(sql, (context.tenant_id, *pair)) for pair in bounds]))
        driver = Driver(driver.rank, Sql(f"SELECT DISTINCT id FROM ({driver.studies.text}) u", driver.studies.params))  # noqa: S608
    return Condition(attribute, where, driver)


def _time(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    column = _column(attribute)
    bounds = [time_bounds(attribute, value) for value in values]
    return Condition(attribute, any_of([Sql(f"({column} >= ? AND {column} < ?)", pair) for pair in bounds]))


def _number(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    found = [number(value) for value in values]
    if any(one is None for one in found):
        raise BadInput(f"{attribute.keyword}: a whole number is needed")
    return Condition(attribute, Sql(f"{_column(attribute)} IN ({', '.join('?' * len(found))})", tuple(found)))


def _modality_driver(context: Context, value: str) -> Driver:
    sql = "SELECT study_id AS id FROM study_modalities WHERE tenant_id = ? AND modality = ?"
    return Driver(50, Sql(sql, (context.tenant_id, value)))


def _modalities(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    """At least one series has one of the modalities. The condition is on series rows `m`, whatever the level asked for."""
    where = any_of([text_match("m.modality", value) for value in values])
    single = len(values) == 1 and not has_wildcard(values[0])
    return Condition(attribute, where, _modality_driver(context, values[0]) if single else None)


def _classes(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    numbers = [codes.number_of(context.read, codes.Code.SOP_CLASS, 0, value) for value in values]
    known = tuple(one for one in numbers if one is not None)
    if context.rejected and known:  # the column lists what is visible
        marks = ", ".join("?" * len(known))
        sql = (
            "EXISTS (SELECT 1 FROM series m CROSS JOIN instances n WHERE m.study_id = s.id AND m.rejected > 0"  # noqa: S608
            f" AND n.series_id = m.id AND n.current = 1 AND n.reason > 0 AND n.class IN ({marks}))"
        )
        return Condition(attribute, Sql(sql, known))
    parts = [Sql("(',' || s.classes || ',') LIKE ?", (f"%,{one},%",)) for one in known]
    return Condition(attribute, any_of(parts) if parts else NEVER)


def _code(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    kind = codes.Code.SOP_CLASS if attribute.column == "class" else codes.Code.SYNTAX
    numbers = [codes.number_of(context.read, kind, 0, value) for value in values]
    known = [one for one in numbers if one is not None]
    if not known:
        return Condition(attribute, NEVER)
    return Condition(attribute, Sql(f"{_column(attribute)} IN ({', '.join('?' * len(known))})", tuple(known)))


def _request(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    """On an item `r`; items of one series are joined to it by search.py, so that two keys mean the same item."""
    where = any_of([text_match(f"r.{attribute.column}", value) for value in values])
    if not all(stem(value) for value in values):
        return Condition(attribute, where, item=True)
    selects = [
        Sql(
            "SELECT e0.study_id AS id FROM series_requests r0 CROSS JOIN series e0"  # noqa: S608
            f" WHERE r0.tenant_id = ? AND {part.text} AND e0.id = r0.series_id",
            (context.tenant_id, *part.params),
        )
        for part in (text_match(f"r0.{attribute.column}", value) for value in values)
    ]
    found = union(selects)
    studies = Sql(f"SELECT DISTINCT id FROM ({found.text}) u", found.params)  # noqa: S608
    exact = not any(has_wildcard(value) for value in values)
    return Condition(attribute, where, Driver(4 if exact else 8, studies), item=True)


_ISSUER_PARTS = {0x00400031: 0, 0x00400032: 1, 0x00400033: 2}


def _issuer(context: Context, attribute: Attribute, values: Sequence[str]) -> Condition:
    """One of the three parts of 'local&universal&type'."""
    parts: list[Sql] = []
    for value in values:
        pattern = ["%", "%", "%"]
        pattern[_ISSUER_PARTS[attribute.path[1]]] = like(value.replace("&", " "))
        parts.append(Sql(f"s.accession_issuer LIKE ? ESCAPE '{ESCAPE}'", ("&".join(pattern),)))
    return Condition(attribute, any_of(parts))


_COMPILE = {
    Matching.UID: _uid,
    Matching.TEXT: _text,
    Matching.NAME: _name,
    Matching.IDENTIFIER: _identifier,
    Matching.DATE: _date,
    Matching.TIME: _time,
    Matching.NUMBER: _number,
    Matching.MODALITIES: _modalities,
    Matching.CLASSES: _classes,
    Matching.CODE: _code,
    Matching.REQUEST: _request,
    Matching.ISSUER: _issuer,
}
