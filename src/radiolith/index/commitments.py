"""Storage commitment requests and their results (PS3.4 Annex J, PS3.18 ch. 13).

Owns: the table `commitments`. Must never: judge; archive/commitment re-reads the objects. Results are kept KEEP
microseconds. Requests are no facts: after a rebuild a peer asks again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from radiolith.index.session import Reader, Writer

KEEP = 40 * 86_400 * 1_000_000  # 40 days; peers are promised 30


@dataclass(frozen=True, slots=True)
class Request:
    tenant_id: int
    transaction_uid: str
    requested_at: int
    claimed_at: int
    done: bool
    items: list[list[str]]
    result: dict[str, Any]


_COLUMNS = "tenant_id, transaction_uid, requested_at, claimed_at, state, items, result"


def _request(row: Sequence[Any]) -> Request:
    return Request(row[0], row[1], row[2], row[3], bool(row[4]), json.loads(row[5]), json.loads(row[6]))


def add(tx: Writer, tenant_id: int, transaction_uid: str, at: int, items: Sequence[tuple[str, str]]) -> bool:
    """False when a request with this transaction UID is there already; it stays as it is."""
    return bool(
        tx.run(
            f"INSERT INTO commitments ({_COLUMNS}) VALUES (?, ?, ?, ?, 0, ?, '{{}}') ON CONFLICT DO NOTHING",  # noqa: S608
            (tenant_id, transaction_uid, at, at, json.dumps([list(item) for item in items])),
        )
    )


def get(read: Reader, tenant_id: int, transaction_uid: str) -> Request | None:
    row = read.one(
        f"SELECT {_COLUMNS} FROM commitments WHERE tenant_id = ? AND transaction_uid = ?",  # noqa: S608
        (tenant_id, transaction_uid),
    )
    return _request(row) if row else None


def claim(tx: Writer, tenant_id: int, transaction_uid: str, claimed_at: int, at: int) -> bool:
    """Take over a request whose worker has gone, or go on holding one; False when somebody else was first, or it is done."""
    return bool(
        tx.run(
            "UPDATE commitments SET claimed_at = ? WHERE tenant_id = ? AND transaction_uid = ? AND claimed_at = ? AND state = 0",
            (at, tenant_id, transaction_uid, claimed_at),
        )
    )


def finish(tx: Writer, tenant_id: int, transaction_uid: str, result: dict[str, Any]) -> None:
    tx.run(
        "UPDATE commitments SET state = 1, result = ? WHERE tenant_id = ? AND transaction_uid = ?",
        (json.dumps(result), tenant_id, transaction_uid),
    )


def abandoned(read: Reader, before: int, limit: int = 10) -> list[Request]:
    """Pending requests that nobody has worked on since `before`."""
    rows = read.all(
        f"SELECT {_COLUMNS} FROM commitments WHERE state = 0 AND claimed_at < ? LIMIT ?",  # noqa: S608
        (before, limit),
    )
    return [_request(row) for row in rows]


def prune(tx: Writer, now: int) -> int:
    """Forget results nobody may ask for any more; how many."""
    return tx.run("DELETE FROM commitments WHERE state = 1 AND requested_at < ?", (now - KEEP,))
