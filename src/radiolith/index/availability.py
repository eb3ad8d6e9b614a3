"""What a completed study brought, for the notification that it is available (PS3.4 R.3.2).

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
