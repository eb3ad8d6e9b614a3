"""Where records lie, when they move.

Owns: switching rows from one place to another, and the life of a segment that no row names any more. Must never: name a
place whose record is not durable, or let a segment go in the transaction that switches its rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.index import codes
from radiolith.index.session import Reader, Writer
from radiolith.model import Place

DROPPED = 2  # state of a segment whose rows have switched; 0 open, 1 sealed


@dataclass(frozen=True, slots=True)
class Move:
    """`row` of `instances` or `quarantine`; changed only where the row still names `old`."""

    row: int
    old: Place
    new: Place


def move(tx: Writer, table: str, moves: list[Move]) -> int:
    """Switch rows; how many of them still named the old place. `table`: 'instances' or 'quarantine'."""
    if table not in ("instances", "quarantine"):
        raise ValueError(table)
    done = 0
    for one in moves:
        done += tx.run(
            f"UPDATE {table} SET segment_id = ?, place_start = ?, place_length = ?"  # noqa: S608
            " WHERE id = ? AND segment_id = ? AND place_start = ?",
            (
                codes.segment_number(tx, one.new.segment),
                one.new.offset,
                one.new.length,
                one.row,
                codes.segment_number(tx, one.old.segment),
                one.old.offset,
            ),
        )
    return done


def quarantine_row(read: Reader, object_id: bytes) -> int | None:
    row = read.one("SELECT id FROM quarantine WHERE object_id = ?", (object_id,))
    return int(row[0]) if row else None


def drop_segment(tx: Writer, uid: bytes, at: int) -> None:
    """No row names it any more; it may be deleted once nobody can still be reading it."""
    number = codes.segment_number(tx, uid)
    tx.run("UPDATE segments SET state = ?, dropped_at = ? WHERE id = ?", (DROPPED, at, number))


def dropped(read: Reader, before: int, limit: int = 1000) -> list[bytes]:
    """Segments dropped before a time."""
    rows = read.all(
        "SELECT uid FROM segments WHERE state = ? AND dropped_at < ? ORDER BY id LIMIT ?", (DROPPED, before, limit)
    )
    return [bytes(row[0]) for row in rows]


def forget_segment(tx: Writer, uid: bytes) -> None:
    """The segment is gone from its tier."""
    tx.run("UPDATE segments SET dropped_at = NULL, bytes = 0 WHERE uid = ? AND state = ?", (uid, DROPPED))
