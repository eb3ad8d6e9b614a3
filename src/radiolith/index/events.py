"""Changes with the names of what they are about.

Owns: the step from row numbers to UIDs, a statement a kind of row and page. Must never: filter (the caller asks about changes
of one tenant only), or fail where a row is gone. Names are those that things have now: a study that was moved since is named by
its new place in every change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from radiolith.index.changes import Change, ChangeKind
from radiolith.index.identities import IN_CHUNK
from radiolith.index.session import Reader, Values
from radiolith.index.uids import unpack_uid

OF_INSTANCE = frozenset(
    {
        ChangeKind.STORED,
        ChangeKind.VERSION,
        ChangeKind.ENCODING,
        ChangeKind.REJECTED,
        ChangeKind.RESTORED,
        ChangeKind.SWITCHED,
    }
)
OF_QUARANTINE = frozenset({ChangeKind.QUARANTINED, ChangeKind.RELEASED})


@dataclass(frozen=True, slots=True)
class Named:
    """A change and what it is about. Empty is what the kind does not have, or what is not held any more."""

    change: Change
    study: str = ""
    series: str = ""
    sop: str = ""
    patient: tuple[str, str] | None = None  # Patient ID and local issuer
    quarantined: str = ""  # object id, hex
    round: int = 0  # how many times the study has been complete
    instances: int = 0  # new ones of this round


def is_of_patient(change: Change) -> bool:
    """Labels are of a patient where the change names no study."""
    return change.kind is ChangeKind.PATIENT or (change.kind is ChangeKind.LABELLED and not change.study_id)


def named(read: Reader, changes: Sequence[Change]) -> list[Named]:
    """The same changes in the same order."""
    instances = _rows(
        read,
        "SELECT i.id, st.uid, e.uid, i.uid FROM instances i JOIN series e ON e.id = i.series_id"
        " JOIN studies st ON st.id = e.study_id WHERE i.id IN",
        (one.instance_id for one in changes if one.kind in OF_INSTANCE),
    )
    studies = _rows(
        read,
        "SELECT id, uid FROM studies WHERE id IN",
        (one.study_id for one in changes if one.kind not in OF_INSTANCE and one.study_id),
    )
    quarantined = _rows(
        read,
        "SELECT id, object_id FROM quarantine WHERE id IN",
        (one.instance_id for one in changes if one.kind in OF_QUARANTINE),
    )
    rounds = _rows(
        read,
        "SELECT id, round, instances FROM completions WHERE id IN",
        (one.instance_id for one in changes if one.kind is ChangeKind.COMPLETE),
    )
    patients = _rows(
        read,
        "SELECT id, patient_id, issuer FROM patients WHERE id IN",
        (one.instance_id for one in changes if is_of_patient(one)),
    )

    def of(one: Change) -> Named:
        if one.kind in OF_INSTANCE:
            place = instances.get(one.instance_id)
            if place is None:
                return Named(one)
            study, series, sop = (unpack_uid(bytes(uid)) for uid in place)
            return Named(one, study, series, sop)
        if one.kind in OF_QUARANTINE:
            found = quarantined.get(one.instance_id)
            return Named(one, quarantined=bytes(found[0]).hex() if found else "")
        if is_of_patient(one):
            patient = patients.get(one.instance_id)
            return Named(one, patient=(patient[0] or "", patient[1] or "") if patient else None)
        uid = studies.get(one.study_id)
        study = unpack_uid(bytes(uid[0])) if uid else ""
        nth, new = rounds.get(one.instance_id, (0, 0)) if one.kind is ChangeKind.COMPLETE else (0, 0)
        return Named(one, study, round=nth, instances=new)

    return [of(one) for one in changes]


def _rows(read: Reader, select: str, numbers: Iterable[int]) -> dict[int, Values]:
    """What a statement has for row numbers, by the number."""
    wanted, found = sorted(set(numbers)), dict[int, Values]()
    for start in range(0, len(wanted), IN_CHUNK):
        chunk = wanted[start : start + IN_CHUNK]
        found |= {row[0]: tuple(row[1:]) for row in read.all(f"{select} ({', '.join('?' * len(chunk))})", chunk)}
    return found
