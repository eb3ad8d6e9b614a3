"""Instances with all that the index knows of them, for whoever judges them one by one.

Owns: reading the searchable attributes of what came with a completion. Must never: open a stored header, or hold more than a
page of instances.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from radiolith.index import codes
from radiolith.index.attributes import ATTRIBUTES, Matching
from radiolith.index.rows import Answer
from radiolith.index.session import Reader
from radiolith.model import Level, Row, Source

PAGE = 500
_SEARCHED = [attribute for attribute in ATTRIBUTES if attribute.matching is not Matching.NONE]


@dataclass(frozen=True, slots=True)
class Identifier:
    """One identifier of the patient. `own`: it was in the patient's own Patient ID (0010,0020), not only claimed."""

    value: str
    issuer: str
    own: bool


@dataclass(frozen=True, slots=True)
class Described:
    """`row`: every attribute a query can match, of the instance and of the series, study and patient it belongs to."""

    instance_id: int
    series_id: int
    row: Row
    source: Source
    identifiers: tuple[Identifier, ...]


def described(read: Reader, study_id: int, first: int, last: int) -> Iterator[Described]:
    """What is shown of the rows `first` to `last` of a study, in the order series are shown. Use it inside `read()`."""
    answer = Answer.of(read, Level.INSTANCE, _SEARCHED)
    known = _identifiers(read, study_id)
    sql = (
        f"SELECT {', '.join(answer.columns)}, i.source FROM studies s CROSS JOIN patients p CROSS JOIN series e"  # noqa: S608
        " CROSS JOIN instances i WHERE s.id = ? AND p.id = s.patient_id AND e.id = ? AND e.study_id = s.id"
        " AND i.series_id = e.id AND (i.number, i.id) > (?, ?) AND i.id >= ? AND i.id <= ? AND i.current = 1 AND i.reason = 0"
        " ORDER BY i.number, i.id LIMIT ?"
    )
    series = read.all(
        "SELECT DISTINCT e.number IS NULL, e.number, e.id FROM series e CROSS JOIN instances i WHERE e.study_id = ?"
        " AND i.series_id = e.id AND i.id >= ? AND i.id <= ? ORDER BY 1, 2, 3",
        (study_id, first, last),
    )
    for *_, series_id in series:
        after: tuple[int, int] = (-(2**62), 0)
        while found := read.all(sql, (study_id, series_id, *after, first, last, PAGE)):
            for values, row in zip(found, answer.rows(read, found), strict=True):
                yield Described(values[4], series_id, row, codes.source(read, values[-1]), known)
            after = (found[-1][3], found[-1][4])


def _identifiers(read: Reader, study_id: int) -> tuple[Identifier, ...]:
    found: list[Identifier] = []
    for table in ("patient_identifiers", "claimed_identifiers"):
        rows = read.all(
            f"SELECT x.value, x.issuer FROM studies s CROSS JOIN {table} x WHERE s.id = ? AND x.patient_id = s.patient_id"  # noqa: S608
            " ORDER BY x.value, x.issuer",
            (study_id,),
        )
        found += [Identifier(row[0], row[1], table == "patient_identifiers") for row in rows]
    return tuple(found)
