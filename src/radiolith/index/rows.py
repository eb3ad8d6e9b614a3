"""Answers: which attributes a search returns, and rows made of database rows.

Owns: the choice of columns (tables 10.6.3-3 to 5 of PS3.18, what was asked for, UIDs always) and their conversion. Must
never: decide which rows match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from radiolith.index import codes
from radiolith.index import labels as given
from radiolith.index.attributes import (
    ATTRIBUTES,
    LABEL_CREATOR,
    LABEL_CREATOR_TAG,
    LABELS,
    NO_NUMBER,
    Attribute,
    Matching,
)
from radiolith.index.identities import IN_CHUNK
from radiolith.index.matching import ALIAS
from radiolith.index.session import Reader, Values
from radiolith.index.uids import unpack_uid
from radiolith.model import Level, Row

ORDER = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE)
CHARACTER_SET, REQUESTS, ACCESSION_ISSUER = 0x00080005, 0x00400275, 0x00080051
AVAILABILITY = 0x00080056

KEYS = {
    Level.PATIENT: ("p.id",),
    Level.STUDY: ("s.study_date", "s.id"),
    Level.SERIES: ("s.study_date", "s.id", "e.id"),
    Level.INSTANCE: ("s.study_date", "s.id", "e.id", "i.number", "i.id"),
}
"""What rows are ordered by and a continuation names."""

_COUNTED = {
    "#studies": "(SELECT COUNT(*) FROM studies x WHERE x.patient_id = p.id AND x.instances > 0)",
    "#series": "(SELECT CAST(COALESCE(SUM(x.series), 0) AS BIGINT) FROM studies x WHERE x.patient_id = p.id)",
    "#instances": "(SELECT CAST(COALESCE(SUM(x.instances), 0) AS BIGINT) FROM studies x WHERE x.patient_id = p.id)",
}


_OWNER = {Level.PATIENT: "s.patient_id", Level.STUDY: "s.id", Level.SERIES: "e.id"}
"""The column that names whose labels are shown."""


def up_to(level: Level) -> tuple[Level, ...]:
    return ORDER[: ORDER.index(level) + 1]


def wanted(level: Level, full: Iterable[Level], asked: Iterable[tuple[int, ...]], everything: bool) -> list[Attribute]:
    """The attributes to return: defaults of the levels in `full`, UIDs, and what was asked for by path or sequence tag."""
    asked = set(asked)
    tags = {path[0] for path in asked if len(path) == 1}
    full = set(full)
    return [
        attribute
        for attribute in ATTRIBUTES
        if attribute.level in up_to(level)
        and (
            everything
            or attribute.path in asked
            or attribute.path[0] in tags
            or (attribute.default and attribute.level in full)
            or (attribute.matching is Matching.UID)
            or (attribute.path == (AVAILABILITY,) and level is Level.INSTANCE)  # of studies and of instances, 10.6.3-5
        )
    ] + [label for label in LABELS if label.level in up_to(level) and label.path in asked]


def _date(value: Any) -> str:
    return f"{value:08d}" if value else ""


def _number(value: Any) -> Any:
    return None if value == NO_NUMBER else value


def _same(value: Any) -> Any:
    return value


@dataclass(slots=True)
class Answer:
    """How the rows of one search are read and made."""

    level: Level
    columns: list[str]
    _makers: list[tuple[int, str, int, Callable[[Any], Any]]]
    _requests: bool
    _issuer: int | None
    _labels: list[tuple[Attribute, int]]  # and the column of the row they are on

    @classmethod
    def of(cls, read: Reader, level: Level, attributes: Sequence[Attribute]) -> Answer:
        columns = list(KEYS[level])
        makers: list[tuple[int, str, int, Callable[[Any], Any]]] = []
        labels: list[tuple[Attribute, int]] = []
        issuer = None
        for attribute in attributes:
            if attribute.matching is Matching.LABEL:
                column = _OWNER[attribute.level] if level is not Level.PATIENT else "p.id"
                columns += [column] if column not in columns else []
                labels.append((attribute, columns.index(column)))
            if attribute.matching is Matching.REQUEST or not attribute.column:
                continue
            column = _COUNTED.get(attribute.column) or f"{ALIAS[attribute.level]}.{attribute.column}"
            if column not in columns:
                columns.append(column)
            at = columns.index(column)
            if attribute.matching is Matching.ISSUER:
                issuer = at
            else:
                makers.append((attribute.path[0], attribute.vr, at, _maker(read, attribute)))
        if any(attribute.path == (AVAILABILITY,) for attribute in attributes):
            makers.append((AVAILABILITY, "CS", 0, lambda _: "ONLINE"))
        requests = any(attribute.matching is Matching.REQUEST for attribute in attributes)
        return cls(level, columns, makers, requests, issuer, labels)

    def levels(self) -> set[Level]:
        """The levels whose tables the columns come from."""
        letters = {column.split(".")[0] for column in self.columns}
        letters |= {"p"} if any(column.startswith("(") for column in self.columns) else set()
        return {level for level, alias in ALIAS.items() if alias in letters}

    def rows(self, read: Reader, found: Sequence[Values]) -> list[Row]:
        rows: list[Row] = []
        for values in found:
            row: Row = {CHARACTER_SET: ("CS", "ISO_IR 192")}
            for tag, vr, at, make in self._makers:
                row[tag] = (vr, make(values[at]))
            if self._issuer is not None:
                row[ACCESSION_ISSUER] = ("SQ", _issuer_item(values[self._issuer]))
            rows.append(row)
        for attribute, at in self._labels:
            _add_labels(read, rows, attribute, [values[at] for values in found])
        if self._requests and self.level in (Level.SERIES, Level.INSTANCE):
            self._add_requests(read, found, rows)
        return rows

    def _add_requests(self, read: Reader, found: Sequence[Values], rows: list[Row]) -> None:
        series = sorted({values[2] for values in found})
        items: dict[int, list[Row]] = {}
        for start in range(0, len(series), IN_CHUNK):
            chunk = series[start : start + IN_CHUNK]
            sql = (
                "SELECT series_id, step, procedure FROM series_requests"  # noqa: S608
                f" WHERE series_id IN ({', '.join('?' * len(chunk))}) ORDER BY series_id, item"
            )
            for series_id, step, procedure in read.all(sql, chunk):
                item: Row = {0x00400009: ("SH", step or None), 0x00401001: ("SH", procedure or None)}
                items.setdefault(series_id, []).append(item)
        for values, row in zip(found, rows, strict=True):
            if values[2] in items:
                row[REQUESTS] = ("SQ", items[values[2]])


def _add_labels(read: Reader, rows: Sequence[Row], attribute: Attribute, owners: Sequence[int | None]) -> None:
    known = given.shown(read, attribute.level, sorted({owner for owner in owners if owner}))
    for row, owner in zip(rows, owners, strict=True):
        row[LABEL_CREATOR_TAG] = ("LO", LABEL_CREATOR)
        row[attribute.path[0]] = (attribute.vr, "\\".join(known.get(owner or 0, ())))


def _maker(read: Reader, attribute: Attribute) -> Callable[[Any], Any]:
    match attribute.matching:
        case Matching.UID:
            return unpack_uid
        case Matching.DATE:
            return _date
        case Matching.CLASSES:
            return lambda value: "\\".join(sorted(codes.decode(read, int(part)) for part in value.split(",") if part))
        case Matching.CODE:
            return lambda value: codes.decode(read, value)
        case _:
            return _number if attribute.column == "number" and attribute.level is Level.INSTANCE else _same


def _issuer_item(value: str | None) -> list[Row]:
    if not value:
        return []
    local, _, rest = value.partition("&")
    universal, _, kind = rest.partition("&")
    parts = ((0x00400031, "UT", local), (0x00400032, "UT", universal), (0x00400033, "CS", kind))
    return [{tag: (vr, text) for tag, vr, text in parts if text}]
