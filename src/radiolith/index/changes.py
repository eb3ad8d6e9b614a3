"""The change feed: what happened, numbered, for followers with cursors of their own.

Owns: the tables `changes` and `cursors`. Must never: be the only place something is known (a rebuilt index starts a feed
with a new epoch, and followers replay). Gaps in the numbers are normal.

On PostgreSQL numbers are drawn before transactions commit, so a smaller number may appear after a larger one. Each change
therefore carries its transaction's id, and followers read only below the oldest transaction still running, in the order
(transaction id, number): nothing can appear behind a cursor. On SQLite there is one writer, and the number alone does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from radiolith.index.migrations import epoch
from radiolith.index.session import Reader, Writer


class ChangeKind(IntEnum):
    """What happened. The value is in the database; later kinds are added, none is reused."""

    STORED = 0
    VERSION = 1
    ENCODING = 2
    REJECTED = 3
    RESTORED = 4
    SWITCHED = 5
    QUARANTINED = 6
    RELEASED = 7
    FACT = 8
    COMPLETE = 9
    AMENDED = 10
    PLACED = 11
    PATIENT = 12
    LABELLED = 13


@dataclass(frozen=True, slots=True)
class Change:
    """`instance_id` is the row of `instances` (of `quarantine` for QUARANTINED and RELEASED, of `completions` for COMPLETE, of
    `patients` for PATIENT, whose study_id is 0), 0 for FACT, AMENDED, PLACED and LABELLED."""

    number: int
    xid: int
    tenant_id: int
    kind: ChangeKind
    study_id: int
    instance_id: int
    at: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a follower is. The empty one is the beginning of any feed."""

    epoch: str = ""
    xid: int = 0
    number: int = 0


def record(tx: Writer, happened: Sequence[tuple[int, ChangeKind, int, int, int]]) -> None:
    """Append (tenant row, kind, study row, instance row, at) to the feed."""
    if not happened:
        return
    numbers = tx.allocate("changes", len(happened), "number")
    rows = [
        (number, tenant_id, int(kind), study_id, instance_id, at)
        for number, (tenant_id, kind, study_id, instance_id, at) in zip(numbers, happened, strict=True)
    ]
    xid = "CAST(CAST(pg_current_xact_id() AS text) AS bigint)" if tx.dialect == "postgresql" else "0"
    sql = (
        f"INSERT INTO changes(number, tenant_id, kind, study_id, instance_id, at, xid) VALUES (?, ?, ?, ?, ?, ?, {xid})"  # noqa: S608
    )
    tx.run_many(sql, rows)


def follow(read: Reader, cursor: Cursor, limit: int = 500) -> tuple[list[Change], Cursor]:
    """The next changes behind a cursor, and the cursor behind them. A cursor of another epoch starts from the beginning."""
    now = epoch(read)
    at = cursor if cursor.epoch == now else Cursor(now)
    columns = "SELECT number, xid, tenant_id, kind, study_id, instance_id, at FROM changes"
    if read.dialect == "postgresql":
        rows = read.all(
            f"{columns} WHERE xid < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)"
            " AND (xid, number) > (?, ?) ORDER BY xid, number LIMIT ?",
            (at.xid, at.number, limit),
        )
    else:
        rows = read.all(f"{columns} WHERE number > ? ORDER BY number LIMIT ?", (at.number, limit))
    changes = [Change(row[0], row[1], row[2], ChangeKind(row[3]), *row[4:]) for row in rows]
    if changes:
        at = Cursor(now, changes[-1].xid, changes[-1].number)
    return changes, at


def tip(read: Reader) -> Cursor:
    """The end of the feed as a follower sees it now: what is behind it cannot be read yet, or has not happened."""
    now = epoch(read)
    if read.dialect == "postgresql":
        row = read.one(
            "SELECT xid, number FROM changes WHERE xid < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)"
            " ORDER BY xid DESC, number DESC LIMIT 1"
        )
    else:
        row = read.one("SELECT 0, number FROM changes ORDER BY number DESC LIMIT 1")
    return Cursor(now, *row) if row else Cursor(now)


def belongs(read: Reader, cursor: Cursor) -> bool:
    """Whether a cursor is one of this feed: of its epoch, and its change is there (an index that was put back from a copy is
    behind those who followed it)."""
    if cursor.epoch != epoch(read):
        return False
    if not cursor.number:
        return not cursor.xid
    return read.one("SELECT 1 FROM changes WHERE number = ? AND xid = ?", (cursor.number, cursor.xid)) is not None


def load_cursor(read: Reader, name: str) -> Cursor:
    row = read.one("SELECT epoch, xid, number FROM cursors WHERE name = ?", (name,))
    return Cursor(*row) if row else Cursor()


def save_cursor(tx: Writer, name: str, cursor: Cursor) -> None:
    tx.run(
        "INSERT INTO cursors(name, epoch, xid, number) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, xid = excluded.xid, number = excluded.number",
        (name, cursor.epoch, cursor.xid, cursor.number),
    )


def advance_cursor(tx: Writer, name: str, before: Cursor, after: Cursor) -> bool:
    """Move a cursor that still is where it was loaded from; False when another process has moved it meanwhile.

    What a follower does in the same transaction is done once for each change, however many follow under one name.
    """
    values = (after.epoch, after.xid, after.number)
    if before == Cursor():
        sql = "INSERT INTO cursors(name, epoch, xid, number) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        return bool(tx.run(sql, (name, *values)))
    return bool(
        tx.run(
            "UPDATE cursors SET epoch = ?, xid = ?, number = ? WHERE name = ? AND epoch = ? AND xid = ? AND number = ?",
            (*values, name, before.epoch, before.xid, before.number),
        )
    )
