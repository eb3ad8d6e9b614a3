"""Patients as a verb looks at them: one, those of a search, and those who might be the same person.

Owns: questions about rows of patients for people who decide. Must never: write them, score a likeness (archive.likeness
does), or scan: each question goes along an index of identifiers, names or birth dates, and is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from radiolith.index import codes
from radiolith.index.person import NameKind, name_keys, sound_keys
from radiolith.index.session import Reader
from radiolith.index.uids import pack_uid, unpack_uid

SEARCHED = 2_000  # patients looked at for one search: 100 ms
NEAR_MAX = 200  # patients looked at for one question: 20 ms
ORIGINS = 5  # studies looked at for where a patient's objects come from
FOUND_BY_ONE = 100  # of them by one name, sound or date; a name that more have says little


@dataclass(frozen=True, slots=True)
class Person:
    """One row of `patients`. `value`, `issuer`: the identifier it is found by, '' where its objects name none; then `study` is
    one of its studies. `domain`: who assigned the identifier, as the row shows it. `birth_date`: 19650131 or None."""

    id: int
    value: str
    issuer: str
    study: str
    state: int
    name: str
    shown_id: str
    domain: str
    birth_date: int | None
    sex: str


_PERSON = (
    "SELECT p.id, i.value, i.issuer, p.anchor, p.state, p.patient_name, p.patient_id, p.issuer, p.birth_date, p.sex"
    " FROM patients p LEFT JOIN patient_identifiers i ON i.patient_id = p.id"
)


def _person(row: Sequence[Any]) -> Person:
    anchor = unpack_uid(bytes(row[3])) if row[3] else ""
    return Person(
        row[0],
        row[1] or "",
        row[2] or "",
        anchor,
        row[4],
        row[5] or "",
        row[6] or "",
        row[7] or "",
        row[8],
        row[9] or "",
    )


def by_row(read: Reader, tenant_id: int, row_id: int) -> Person | None:
    row = read.one(f"{_PERSON} WHERE p.id = ? AND p.tenant_id = ? ORDER BY i.value LIMIT 1", (row_id, tenant_id))
    return _person(row) if row else None


def by_identifier(read: Reader, tenant_id: int, value: str, issuer: str) -> Person | None:
    row = read.one(
        "SELECT patient_id FROM patient_identifiers WHERE tenant_id = ? AND value = ? AND issuer = ?",
        (tenant_id, value, issuer),
    )
    return by_row(read, tenant_id, row[0]) if row else None


def with_id(read: Reader, tenant_id: int, value: str) -> list[Person]:
    """Patients with this ID, whoever assigned it."""
    rows = read.all(
        "SELECT patient_id FROM patient_identifiers WHERE tenant_id = ? AND value = ? ORDER BY issuer LIMIT ?",
        (tenant_id, value, FOUND_BY_ONE),
    )
    return _persons(read, tenant_id, (row[0] for row in rows))


def by_anchor(read: Reader, tenant_id: int, study: str) -> Person | None:
    """The patient without ID whose first study this is."""
    row = read.one("SELECT id FROM patients WHERE anchor = ? AND tenant_id = ?", (pack_uid(study), tenant_id))
    return by_row(read, tenant_id, row[0]) if row else None


def of_study(read: Reader, tenant_id: int, study: str) -> Person | None:
    """Under whom a study is shown."""
    row = read.one(
        "SELECT patient_id FROM studies WHERE uid = ? AND tenant_id = ? AND patient_id IS NOT NULL",
        (pack_uid(study), tenant_id),
    )
    return by_row(read, tenant_id, row[0]) if row else None


@dataclass(frozen=True, slots=True)
class Shown:
    """A study as it is shown; `instances` are those not rejected."""

    uid: str
    instances: int
    rejected: int
    series: int
    date: int
    description: str


_SHOWN = "SELECT uid, instances, rejected, series, study_date, description FROM studies"


def studies(read: Reader, tenant_id: int, patient_id: int, limit: int) -> list[Shown]:
    """What is shown of a patient, latest first."""
    rows = read.all(
        f"{_SHOWN} WHERE patient_id = ? AND tenant_id = ? AND instances + rejected > 0 ORDER BY study_date DESC, id LIMIT ?",
        (patient_id, tenant_id, limit),
    )
    return [_shown(row) for row in rows]


def study(read: Reader, tenant_id: int, uid: str) -> Shown | None:
    """A study that shows something, by the UID it is shown under."""
    row = read.one(f"{_SHOWN} WHERE uid = ? AND tenant_id = ? AND instances + rejected > 0", (pack_uid(uid), tenant_id))
    return _shown(row) if row else None


def _shown(row: Sequence[Any]) -> Shown:
    return Shown(unpack_uid(bytes(row[0])), row[1], row[2], row[3], row[4] or 0, row[5] or "")


def near(read: Reader, tenant_id: int, person: Person) -> list[Person]:
    """Who might be the same person: who has the same ID elsewhere, a name that is or sounds the same, or was born that day."""
    found: set[int] = set()
    if person.value:
        for table in ("patient_identifiers", "claimed_identifiers"):
            sql = f"SELECT patient_id FROM {table} WHERE tenant_id = ? AND value = ? LIMIT ?"  # noqa: S608
            found.update(row[0] for row in read.all(sql, (tenant_id, person.value, FOUND_BY_ONE)))
    for row in read.all("SELECT value FROM claimed_identifiers WHERE patient_id = ? ORDER BY value", (person.id,)):
        sql = "SELECT patient_id FROM patient_identifiers WHERE tenant_id = ? AND value = ? LIMIT ?"
        found.update(each[0] for each in read.all(sql, (tenant_id, row[0], FOUND_BY_ONE)))
    for kind, keys in ((NameKind.PATIENT, name_keys), (NameKind.PATIENT_SOUND, sound_keys)):
        for key in sorted(keys(person.name)):
            sql = "SELECT owner_id FROM names WHERE tenant_id = ? AND kind = ? AND name = ? LIMIT ?"
            rows = read.all(sql, (tenant_id, int(kind), key, FOUND_BY_ONE))
            if len(rows) < FOUND_BY_ONE or kind is NameKind.PATIENT:
                found.update(row[0] for row in rows)
    if person.birth_date:
        sql = "SELECT id FROM patients WHERE tenant_id = ? AND birth_date IN (?, ?) LIMIT ?"
        dates = (person.birth_date, swapped(person.birth_date) or person.birth_date)
        found.update(row[0] for row in read.all(sql, (tenant_id, *dates, FOUND_BY_ONE)))
    found.discard(person.id)
    return _persons(read, tenant_id, sorted(found)[:NEAR_MAX])


def swapped(date: int) -> int | None:
    """The date with day and month exchanged, where that is another date of the calendar: a frequent slip."""
    year, month, day = date // 10_000, date // 100 % 100, date % 100
    return year * 10_000 + day * 100 + month if day <= 12 and day != month else None


def claimed(read: Reader, row_id: int) -> set[tuple[str, str]]:
    """Other identifiers the patient's objects name (Other Patient IDs Sequence): value and issuer."""
    rows = read.all("SELECT value, issuer FROM claimed_identifiers WHERE patient_id = ?", (row_id,))
    return {(row[0], row[1]) for row in rows}


def _persons(read: Reader, tenant_id: int, rows: Iterable[int]) -> list[Person]:
    found = (by_row(read, tenant_id, row) for row in rows)
    return [person for person in found if person is not None]


def series_size(read: Reader, tenant_id: int, study_uid: str, series_uid: str) -> int:
    """How many instances a series shows, rejected ones too; 0 for one that is not shown."""
    row = read.one(
        "SELECT e.instances + e.rejected FROM studies s CROSS JOIN series e"
        " WHERE s.uid = ? AND s.tenant_id = ? AND e.uid = ? AND e.study_id = s.id",
        (pack_uid(study_uid), tenant_id, pack_uid(series_uid)),
    )
    return row[0] if row else 0


def origins(read: Reader, tenant_id: int, patient_id: int) -> set[str]:
    """Where objects of a patient came from: an instance of each of the latest studies tells."""
    rows = read.all(
        "SELECT (SELECT i.source FROM series e CROSS JOIN instances i WHERE e.study_id = s.id AND i.series_id = e.id LIMIT 1)"
        " FROM studies s WHERE s.patient_id = ? AND s.tenant_id = ? ORDER BY s.study_date DESC, s.id LIMIT ?",
        (patient_id, tenant_id, ORIGINS),
    )
    sources = {codes.source(read, row[0]) for row in rows if row[0] is not None}
    known = [source for source in sources if source.door != "import"]  # a medium comes from anywhere
    return {part for source in known for part in (source.address, f"{source.door} {source.peer}") if part}


Asked = tuple[str, str, "int | None", "int | None"]
"""ID, how the name begins, birth date, number of a state; '' and None ask for nothing."""


def search(read: Reader, tenant_id: int, asked: Asked, limit: int, after: int = 0) -> list[Person]:
    """Patients of whom all that is asked holds, the row made last first; `after` is the row the page before ended with.

    The first thing asked that has an index finds them; SEARCHED of those are looked at for the rest.
    """
    value, name, born, state = asked
    before = after or 2**62
    if value:
        rows = read.all(
            "SELECT DISTINCT patient_id FROM patient_identifiers WHERE tenant_id = ? AND value = ? AND patient_id < ?"
            " ORDER BY patient_id DESC LIMIT ?",
            (tenant_id, value, before, SEARCHED),
        )
    elif name:
        key = next(iter(sorted(name_keys(name))), "")
        rows = read.all(
            "SELECT DISTINCT owner_id FROM names WHERE tenant_id = ? AND kind = ? AND name >= ? AND name < ? AND owner_id < ?"
            " ORDER BY owner_id DESC LIMIT ?",
            (tenant_id, int(NameKind.PATIENT), key, key + "\U0010ffff", before, SEARCHED),
        )
    elif born is not None:
        rows = read.all(
            "SELECT id FROM patients WHERE tenant_id = ? AND birth_date = ? AND id < ? ORDER BY id DESC LIMIT ?",
            (tenant_id, born, before, SEARCHED),
        )
    elif state:
        rows = read.all(
            "SELECT id FROM patients WHERE tenant_id = ? AND state = ? AND state <> 0 AND id < ? ORDER BY id DESC LIMIT ?",
            (tenant_id, state, before, SEARCHED),
        )
    else:
        rows = read.all(
            "SELECT id FROM patients WHERE tenant_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
            (tenant_id, before, SEARCHED),
        )
    begins = [key for key in sorted(name_keys(name))] if name else [""]
    found: list[Person] = []
    for row in rows:
        person = by_row(read, tenant_id, row[0])
        if (
            person is None
            or (born is not None and person.birth_date != born)
            or (state is not None and person.state != state)
        ):
            continue
        if name and not any(key.startswith(begin) for key in name_keys(person.name) for begin in begins):
            continue
        found.append(person)
        if len(found) == limit:
            break
    return found
