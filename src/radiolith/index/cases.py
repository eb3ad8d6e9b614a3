"""What is unclear in the index: questions for the conflict desk.

Owns: where to look for each kind of case, along an index and in pages. Must never: propose or decide (archive.desk), or list what
a walk through all rows would have to find.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.index import codes, persons
from radiolith.index.identities import Decision
from radiolith.index.person import NameKind, sound_keys
from radiolith.index.persons import Person
from radiolith.index.session import Reader
from radiolith.index.uids import pack_uid, unpack_uid
from radiolith.model import Identity, Source

STUDIES = 200_000  # the latest, looked at for those with several patients: 50 ms, and years of most houses
LOOKED_AT = 2_000  # rows of one question: 50 ms


@dataclass(frozen=True, slots=True)
class Several:
    """An instance with several contents about which nobody has decided since the last of them came."""

    identity: Identity
    versions: int
    last_at: int
    sources: tuple[Source, ...]  # of each version, in order of reception


def several(read: Reader, tenant_id: int, limit: int, after: str = "") -> list[Several]:
    """By SOP Instance UID; `after` is the last one of the page before."""
    rows = read.all(
        "SELECT DISTINCT i.uid, e.uid, s.uid, i.series_id FROM instances i CROSS JOIN series e CROSS JOIN studies s"
        " WHERE i.tenant_id = ? AND i.version > 0 AND i.encoding_of IS NULL AND i.reason = 0 AND i.uid > ?"
        " AND e.id = i.series_id AND s.id = e.study_id ORDER BY i.uid LIMIT ?",
        (tenant_id, pack_uid(after), LOOKED_AT),
    )
    found: list[Several] = []
    for uid, series, study, series_id in rows:
        one = _several(read, tenant_id, (bytes(study), bytes(series), bytes(uid)), series_id)
        if one is not None:
            found.append(one)
            if len(found) == limit:
                break
    return found


def several_of(read: Reader, tenant_id: int, identity: Identity) -> Several | None:
    key = pack_uid(identity.study), pack_uid(identity.series), pack_uid(identity.sop)
    row = read.one(
        "SELECT e.id FROM studies s CROSS JOIN series e WHERE s.uid = ? AND s.tenant_id = ? AND e.uid = ? AND e.study_id = s.id",
        (key[0], tenant_id, key[1]),
    )
    return _several(read, tenant_id, key, row[0]) if row else None


def _several(read: Reader, tenant_id: int, key: tuple[bytes, bytes, bytes], series_id: int) -> Several | None:
    rows = read.all(
        "SELECT i.received_at, i.source, i.home_id, h.uid, t.uid FROM instances i LEFT JOIN series h ON h.id = i.home_id"
        " LEFT JOIN studies t ON t.id = h.study_id"
        " WHERE i.uid = ? AND i.series_id = ? AND i.encoding_of IS NULL AND i.reason = 0 ORDER BY i.received_at, i.object_id",
        (key[2], series_id),
    )
    if len(rows) < 2:
        return None
    last = rows[-1][0]
    homes = {(bytes(row[4]), bytes(row[3]), key[2]) if row[2] is not None else key for row in rows}
    for study, series, sop in homes:
        decided = read.one(
            "SELECT at FROM decisions WHERE tenant_id = ? AND study = ? AND series = ? AND sop = ? AND kind = ?",
            (tenant_id, study, series, sop, int(Decision.CURRENT)),
        )
        if decided is not None and decided[0] >= last:
            return None
    identity = Identity(unpack_uid(key[0]), unpack_uid(key[1]), unpack_uid(key[2]))
    return Several(identity, len(rows), last, tuple(codes.source(read, row[1]) for row in rows))


@dataclass(frozen=True, slots=True)
class Mixed:
    """A study whose headers name several patients. `study_id` is its row."""

    study: str
    study_id: int
    at: int
    people: tuple[Person, ...]


def mixed(read: Reader, tenant_id: int, limit: int, after: int = 0) -> list[Mixed]:
    """The study made last first, of the latest STUDIES; `after` is the row the page before ended with."""
    rows = read.all(
        "SELECT p.study_id, s.uid, s.changed_at FROM (SELECT study_id FROM study_patients WHERE tenant_id = ? AND study_id < ?"
        " ORDER BY study_id DESC LIMIT ?) p CROSS JOIN studies s WHERE s.id = p.study_id AND s.instances > 0"
        " GROUP BY p.study_id, s.uid, s.changed_at HAVING COUNT(*) > 1 ORDER BY p.study_id DESC LIMIT ?",
        (tenant_id, after or 2**62, STUDIES, limit),
    )
    return [Mixed(unpack_uid(bytes(row[1])), row[0], row[2], people_of(read, tenant_id, row[0])) for row in rows]


def mixed_of(read: Reader, tenant_id: int, study: str) -> Mixed | None:
    row = read.one("SELECT id, changed_at FROM studies WHERE uid = ? AND tenant_id = ?", (pack_uid(study), tenant_id))
    people = people_of(read, tenant_id, row[0]) if row else ()
    return Mixed(study, row[0], row[1], people) if row and len(people) > 1 else None


def people_of(read: Reader, tenant_id: int, study_id: int) -> tuple[Person, ...]:
    """The patients that a study's headers name."""
    rows = read.all(
        "SELECT patient_id FROM study_patients WHERE study_id = ? ORDER BY patient_id LIMIT 20", (study_id,)
    )
    found = (persons.by_row(read, tenant_id, row[0]) for row in rows)
    return tuple(person for person in found if person is not None)


def in_state(read: Reader, tenant_id: int, state: int, limit: int, after: int = 0) -> list[Person]:
    """Patients in a state that is not the usual one, by row."""
    rows = read.all(
        "SELECT id FROM patients WHERE tenant_id = ? AND state = ? AND state <> 0 AND id > ? ORDER BY id LIMIT ?",
        (tenant_id, state, after, limit),
    )
    found = (persons.by_row(read, tenant_id, row[0]) for row in rows)
    return [person for person in found if person is not None]


def nameless(read: Reader, tenant_id: int, words: frozenset[str], limit: int, after: int = 0) -> list[Person]:
    """Patients in the usual state without an ID, or with a name that sounds like one of these words; by row."""
    rows = read.all(
        "SELECT id FROM patients WHERE anchor IS NOT NULL AND tenant_id = ? AND state = 0 AND id > ? ORDER BY id LIMIT ?",
        (tenant_id, after, LOOKED_AT),
    )
    found = {row[0] for row in rows}
    for sound in sorted({key for word in words for key in sound_keys(word)}):
        rows = read.all(
            "SELECT owner_id FROM names WHERE tenant_id = ? AND kind = ? AND name = ? AND owner_id > ? ORDER BY owner_id LIMIT ?",
            (tenant_id, int(NameKind.PATIENT_SOUND), sound, after, LOOKED_AT),
        )
        found.update(row[0] for row in rows)
    people: list[Person] = []
    for row in sorted(found):
        person = persons.by_row(read, tenant_id, row)
        if person is not None and person.state == 0:
            people.append(person)
            if len(people) == limit:
                break
    return people


def first_seen(read: Reader, patient_id: int) -> int:
    """When the first object of a patient came, microseconds; it is in the row's key."""
    row = read.one("SELECT first_key FROM patients WHERE id = ?", (patient_id,))
    return int.from_bytes(bytes(row[0])[:8], "big") if row and row[0] else 0
