"""Names under which a study is found though it shows others now.

Owns: the table `study_names`. Must never: hold names of persons (the wrong person's name must not lead to the images). What a
study was received as and everything it was said to be since, if that was not undone, without what it shows now: numbers of
patients, accession numbers, study ids, study and series UIDs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum

from radiolith.index import words
from radiolith.index.edits import redescribed
from radiolith.index.reckoning import Pair, Reckoning, ShownStudy
from radiolith.index.session import Reader, Writer
from radiolith.index.uids import unpack_uid
from radiolith.index.words import Level, Said, Subject
from radiolith.model import Level as Shows


class Kind(IntEnum):
    """What a name is. The value is in the database."""

    STUDY = 1
    SERIES = 2
    PATIENT = 3
    ACCESSION = 4
    STUDY_ID = 5


Name = tuple[int, str, str]  # kind, value, issuer
_COLUMNS = {Kind.ACCESSION: "accession", Kind.STUDY_ID: "study_code"}
_SLOTS = {"00080050": "accession", "00200010": "study_code"}


def write(tx: Writer, tenant_id: int, reckoning: Reckoning, shown: ShownStudy, pairs: Sequence[Pair]) -> None:
    """Bring the old names of a study up to date; it has none while nothing is shown in it."""
    wanted = set(_names(reckoning, shown, pairs)) if shown.row.held else set[Name]()
    rows = tx.all("SELECT kind, value, issuer FROM study_names WHERE study_id = ?", (shown.row.id,))
    there: set[Name] = {(row[0], row[1], row[2]) for row in rows}
    tx.run_many(
        "DELETE FROM study_names WHERE tenant_id = ? AND kind = ? AND value = ? AND issuer = ? AND study_id = ?",
        [(tenant_id, *name, shown.row.id) for name in sorted(there - wanted)],
    )
    tx.run_many(
        "INSERT INTO study_names(tenant_id, kind, value, issuer, study_id) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(tenant_id, *name, shown.row.id) for name in sorted(wanted - there)],
    )


def forget(tx: Writer, study_id: int) -> None:
    tx.run("DELETE FROM study_names WHERE study_id = ?", (study_id,))


def _names(reckoning: Reckoning, shown: ShownStudy, pairs: Sequence[Pair]) -> Iterator[Name]:
    row = shown.row
    homes = {pair.study: pair.study_key for pair in pairs} | {row.uid: row.first_key}
    now: set[Name] = {(Kind.STUDY, unpack_uid(row.uid), ""), _of_patient(shown.person)}
    now |= {(kind, str(shown.columns.get(column)), "") for kind, column in _COLUMNS.items()}
    for study, key in homes.items():
        for name in _of_home(reckoning, study, key):
            if name not in now:
                yield name
    series = {pair.series_id for pair in pairs}
    uids = {one: uid for one in series if (uid := _uid(reckoning.read, one))}
    for pair in pairs:
        if pair.series != uids.get(pair.series_id):
            yield (Kind.SERIES, unpack_uid(pair.series), "")


def _uid(read: Reader, series_id: int) -> bytes:
    row = read.one("SELECT uid FROM series WHERE id = ?", (series_id,))
    return bytes(row[0]) if row else b""


def _of_home(reckoning: Reckoning, study: bytes, key: bytes) -> Iterator[Name]:
    """All names of a received study: in its headers, and by words, also by those that later ones replaced. What was undone was
    a mistake: a search by a patient's number must not bring up what once was moved to her by error."""
    said = reckoning.view.active(Subject(Level.STUDY, study))
    yield (Kind.STUDY, unpack_uid(study), "")
    for one in said:
        if one.slot == words.PLACE:
            yield (Kind.STUDY, unpack_uid(one.target), "")
        elif one.slot == words.PATIENT:
            yield from _patients(reckoning, one.target_patient)
        elif one.slot in _SLOTS:
            value = redescribed(Shows.STUDY, {}, {one.slot: one.value}).get(_SLOTS[one.slot])
            if value:
                yield (next(kind for kind, column in _COLUMNS.items() if column == _SLOTS[one.slot]), str(value), "")
    described = reckoning.received(key)
    if described is not None:
        yield from _patients(reckoning, reckoning.home_person(study, key))
        for kind, column in _COLUMNS.items():
            if described.study.get(column):
                yield (kind, str(described.study[column]), "")


def _patients(reckoning: Reckoning, who: Subject) -> Iterator[Name]:
    """A patient and those it was merged into, one after the other."""
    reached, new = {who}, [who]
    while new:
        one = new.pop()
        if one.patient:
            yield _of_patient(one)
        said: list[Said] = reckoning.view.active(one)
        for target in {each.target_patient for each in said if each.slot == words.INTO} - reached:
            reached.add(target)
            new.append(target)


def _of_patient(who: Subject) -> Name:
    return Kind.PATIENT, who.patient, who.issuer


def has_any(read: Reader, tenant_id: int) -> bool:
    """Whether a search of this tenant has to look at old names at all."""
    return read.one("SELECT 1 FROM study_names WHERE tenant_id = ? LIMIT 1", (tenant_id,)) is not None
