"""What a completed study brought, or what is left of one, for notifications of availability (PS3.4 R.3.2).

Must never: write.
"""

from __future__ import annotations

from radiolith.index import codes
from radiolith.index.arrivals import Completion
from radiolith.index.session import Reader
from radiolith.index.uids import unpack_uid

INSTANCES = 50_000
"""Of one notification, 150 bytes each: more are not named."""


def arrived(read: Reader, completion: Completion) -> dict[str, list[tuple[str, str]]]:
    """Series UID -> (SOP class, SOP instance) of the current instances that came in this round."""
    rows = read.all(
        "SELECT e.uid, i.class, i.uid FROM series e JOIN instances i ON i.series_id = e.id WHERE e.study_id = ?"
        " AND i.id BETWEEN ? AND ? AND i.current = 1 AND i.reason = 0 ORDER BY e.id, i.id LIMIT ?",
        (completion.study_id, completion.first, completion.last, INSTANCES),
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for series, sop_class, sop in rows:
        found.setdefault(unpack_uid(bytes(series)), []).append((codes.decode(read, sop_class), unpack_uid(bytes(sop))))
    return found


def whole(read: Reader, study_id: int) -> tuple[dict[str, list[tuple[str, str]]], frozenset[str]]:
    """The same of all that a study holds, and the SOP instances of it that are rejected (IHE RAD TF-2 4.49.4.1.2.2)."""
    rows = read.all(
        "SELECT e.uid, i.class, i.uid, i.reason FROM series e JOIN instances i ON i.series_id = e.id WHERE e.study_id = ?"
        " AND i.current = 1 ORDER BY e.id, i.id LIMIT ?",
        (study_id, INSTANCES),
    )
    found: dict[str, list[tuple[str, str]]] = {}
    rejected: set[str] = set()
    for series, sop_class, sop, reason in rows:
        uid = unpack_uid(bytes(sop))
        found.setdefault(unpack_uid(bytes(series)), []).append((codes.decode(read, sop_class), uid))
        if reason:
            rejected.add(uid)
    return found, frozenset(rejected)
