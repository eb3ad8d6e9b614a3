"""What peers are to be told by us: results of storage commitment (PS3.4 J.3.3), studies that have become available (R.3.2).

Owns: the table `peer_reports`. Must never: know how a peer is reached, or forget a report that nobody has taken before the
time `jobs.reports` gives it. No facts: after a rebuild a peer asks again. Reports that have ended are kept KEEP.

Whoever sends one holds it until `next_at`, with the number of its attempt as the token of that: marks of an older attempt
are not made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from radiolith.index.session import Reader, Writer

KEEP = 30 * 86_400 * 1_000_000  # microseconds
_COLUMNS = "id, tenant_id, kind, subject, aet, peer, ours, state, attempts, next_at, said, created_at, ended_at"


class Kind(IntEnum):
    """The value is in the database."""

    COMMITMENT = 0
    AVAILABILITY = 1
    UNAVAILABLE = 2  # instances of a study were rejected, or came back


class State(IntEnum):
    """The value is in the database."""

    WAITING = 0
    REPORTED = 1
    GIVEN_UP = 2


@dataclass(frozen=True, slots=True)
class Addressee:
    """Who is to be told: its AE title and, where it is one of ours, its name as a peer; `ours`: the AE title it knows us by,
    '' for the usual one."""

    aet: str
    peer: str = ""
    ours: str = ""


@dataclass(frozen=True, slots=True)
class PeerReport:
    """`subject`: a transaction UID, the row of a completion, or of a study. `said`: why the last attempt failed. Times in
    microseconds."""

    id: int
    tenant_id: int
    kind: Kind
    subject: str
    to: Addressee
    state: State
    attempts: int
    next_at: int
    said: str
    created_at: int
    ended_at: int


def _report(row: Sequence[Any]) -> PeerReport:
    number, tenant, kind, subject, aet, peer, ours, state, *rest = row
    return PeerReport(number, tenant, Kind(kind), subject, Addressee(aet, peer, ours), State(state), *rest)


def put(tx: Writer, tenant_id: int, what: tuple[Kind, str], to: Addressee, times: tuple[int, int]) -> None:
    """Order a report of (kind, subject); who asks again is told again. `times`: now, and when it is due."""
    now, due_at = times
    tx.run(
        f"INSERT INTO peer_reports({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, ?, '', ?, 0)"  # noqa: S608
        " ON CONFLICT (tenant_id, kind, subject, aet) DO UPDATE SET peer = excluded.peer, ours = excluded.ours, state = 0,"
        " next_at = excluded.next_at, said = '', created_at = excluded.created_at, ended_at = 0",
        (
            tx.allocate("peer_reports", 1)[0], tenant_id, int(what[0]), what[1], to.aet, to.peer, to.ours, due_at, now,
        ),
    )  # fmt: skip


def find(read: Reader, tenant_id: int, what: tuple[Kind, str], aet: str) -> PeerReport | None:
    row = read.one(
        f"SELECT {_COLUMNS} FROM peer_reports WHERE tenant_id = ? AND kind = ? AND subject = ? AND aet = ?",  # noqa: S608
        (tenant_id, int(what[0]), what[1], aet),
    )
    return _report(row) if row else None


def due(read: Reader, now: int, limit: int) -> list[PeerReport]:
    """What may be sent now, longest due first; a commitment only once its result is there, or its request is not."""
    columns = ", ".join(f"r.{name}" for name in _COLUMNS.split(", "))
    rows = read.all(
        f"SELECT {columns} FROM peer_reports r LEFT JOIN commitments c ON r.kind = 0 AND c.tenant_id = r.tenant_id"  # noqa: S608
        " AND c.transaction_uid = r.subject WHERE r.state = 0 AND r.next_at <= ? AND (c.state IS NULL OR c.state = 1)"
        " ORDER BY r.next_at, r.id LIMIT ?",
        (now, limit),
    )
    return [_report(row) for row in rows]


def claim(tx: Writer, report: PeerReport, until: int) -> PeerReport | None:
    """Take a report up as it was read; None when somebody else has."""
    row = tx.one(
        "UPDATE peer_reports SET attempts = attempts + 1, next_at = ? WHERE id = ? AND state = 0 AND attempts = ?"  # noqa: S608
        f" AND next_at = ? RETURNING {_COLUMNS}",
        (until, report.id, report.attempts, report.next_at),
    )
    return _report(row) if row else None


def leave(tx: Writer, claimed: PeerReport, state: State, said: str, at: int) -> bool:
    """Mark what became of an attempt. `at`: when it is due again, or when it ended. False when it is not ours any more."""
    ended = at if state is not State.WAITING else 0
    return bool(
        tx.run(
            "UPDATE peer_reports SET state = ?, said = ?, next_at = ?, ended_at = ? WHERE id = ? AND state = 0"
            " AND attempts = ?",
            (int(state), said.replace("\x00", ""), at, ended, claimed.id, claimed.attempts),
        )
    )


def again(tx: Writer, tenant_id: int, number: int, now: int) -> bool:
    """Try one that was given up, from the beginning; one that waits: now. Whoever is making it at this moment marks nothing
    any more once it is taken up anew."""
    return bool(
        tx.run(
            "UPDATE peer_reports SET state = 0, next_at = ?, created_at = ?, ended_at = 0 WHERE id = ? AND tenant_id = ?"
            " AND state <> 1",
            (now, now, number, tenant_id),
        )
    )


def drop(tx: Writer, tenant_id: int, number: int) -> bool:
    """Forget one that no peer has taken."""
    return bool(tx.run("DELETE FROM peer_reports WHERE id = ? AND tenant_id = ? AND state <> 1", (number, tenant_id)))


def listed(read: Reader, tenant_id: int, limit: int = 100, before: int = 0) -> list[PeerReport]:
    """What has not been taken, latest first; `before`: the id that the page before ended with, 0 for the first."""
    rows = read.all(
        f"SELECT {_COLUMNS} FROM peer_reports WHERE tenant_id = ? AND state <> 1 AND id < ? ORDER BY id DESC LIMIT ?",  # noqa: S608
        (tenant_id, before or 1 << 62, limit),
    )
    return [_report(row) for row in rows]


def counts(read: Reader, tenant_id: int) -> tuple[int, int]:
    """How many wait, and how many were given up."""
    rows = read.all(
        "SELECT state, COUNT(*) FROM peer_reports WHERE tenant_id = ? AND state <> 1 GROUP BY state", (tenant_id,)
    )
    found = {row[0]: int(row[1]) for row in rows}
    return found.get(int(State.WAITING), 0), found.get(int(State.GIVEN_UP), 0)


def get(read: Reader, tenant_id: int, number: int) -> PeerReport | None:
    sql = f"SELECT {_COLUMNS} FROM peer_reports WHERE id = ? AND tenant_id = ?"  # noqa: S608
    row = read.one(sql, (number, tenant_id))
    return _report(row) if row else None


def prune(tx: Writer, now: int) -> int:
    return tx.run("DELETE FROM peer_reports WHERE state > 0 AND ended_at < ?", (now - KEEP,))
