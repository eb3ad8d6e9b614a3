"""What the follower of rejections asks the index: which arrivals may be notes, whether one was obeyed, who decided, whom to tell.

Owns: these questions. Must never: write, or read a header.
"""

from __future__ import annotations

from collections.abc import Sequence

from radiolith.index import codes
from radiolith.index.identities import IN_CHUNK, Decision
from radiolith.index.session import Reader
from radiolith.index.uids import pack_uid, unpack_uid
from radiolith.model import Identity


def of_class(read: Reader, sop_class: str, ids: Sequence[int]) -> list[int]:
    """Those of these instance rows that have the SOP class, in order."""
    number = codes.number_of(read, codes.Code.SOP_CLASS, 0, sop_class)
    if number is None:
        return []
    found: set[int] = set()
    for start in range(0, len(ids), IN_CHUNK):
        chunk = ids[start : start + IN_CHUNK]
        sql = f"SELECT id FROM instances WHERE class = ? AND id IN ({', '.join('?' * len(chunk))})"  # noqa: S608
        found.update(row[0] for row in read.all(sql, (number, *chunk)))
    return [one for one in ids if one in found]


def said(read: Reader, tenant_id: int, operation: bytes) -> set[str]:
    """SOP Instance UIDs that an operation has said something about."""
    rows = read.all("SELECT DISTINCT sop FROM history WHERE tenant_id = ? AND op = ?", (tenant_id, operation))
    return {unpack_uid(bytes(row[0])) for row in rows}


def decided_by(read: Reader, tenant_id: int, received: Identity) -> str:
    """Name of who rejected or restored an instance last; '' where that is not known."""
    row = read.one(
        "SELECT f.by_name FROM decisions d JOIN facts f ON f.object_id = d.fact WHERE d.tenant_id = ? AND d.study = ?"
        " AND d.series = ? AND d.sop = ? AND d.kind = ?",
        (
            tenant_id,
            *(pack_uid(uid) for uid in (received.study, received.series, received.sop)),
            int(Decision.REJECTED),
        ),
    )
    return row[0] if row else ""
