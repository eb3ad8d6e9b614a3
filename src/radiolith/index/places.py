"""Where records lie: which row names which, and what changes when they move.

Owns: switching rows from one place to another, the life of a segment that no row names any more, and the questions of a
comparison of rows with records. Must never: name a place whose record is not durable, or let a segment go in the
transaction that switches its rows. Answers come in pages the caller sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from radiolith.index import codes
from radiolith.index.identities import IN_CHUNK
from radiolith.index.session import Reader, Values, Writer
from radiolith.index.uids import unpack_uid
from radiolith.model import Identity, Place

TABLES = ("instances", "quarantine")  # those whose rows name a record's place
DROPPED = 2  # state of a segment whose rows have switched; 0 open, 1 sealed


@dataclass(frozen=True, slots=True)
class Move:
    """`row` of `instances` or `quarantine`; changed only where the row still names `old`."""

    row: int
    old: Place
    new: Place


def move(tx: Writer, table: str, moves: list[Move]) -> int:
    """Switch rows; how many of them still named the old place. `table`: 'instances' or 'quarantine'."""
    if table not in TABLES:
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


@dataclass(frozen=True, slots=True)
class Named:
    """A row that names a record: of `instances` or `quarantine`. `size`: payload bytes; `sha256`: of the dataset, or
    of the bytes as received."""

    table: str
    row: int
    object_id: bytes
    place: Place
    size: int
    sha256: bytes


_NAMED = "SELECT id, object_id, segment_id, place_start, place_length, size, sha256 FROM "


def _named(read: Reader, table: str, row: Values) -> Named:
    place = Place(codes.segment_uid(read, row[2]), row[3], row[4])
    return Named(table, row[0], bytes(row[1]), place, row[5], bytes(row[6]))


def named(read: Reader, object_ids: Sequence[bytes]) -> dict[bytes, Named]:
    """The row of each record; those without a row of these tables are left out."""
    found: dict[bytes, Named] = {}
    for chunk in _chunks(object_ids):
        for table in TABLES:
            sql = f"{_NAMED}{table} WHERE object_id IN ({_marks(chunk)})"
            found.update((bytes(row[1]), _named(read, table, row)) for row in read.all(sql, chunk))
    return found


def spoken_for(read: Reader, object_ids: Sequence[bytes]) -> set[bytes]:
    """Records that need no row of their own: facts that were applied, void ones, second copies of what is held."""
    found: set[bytes] = set()
    for chunk in _chunks(object_ids):
        for table in ("facts", "voids", "duplicates"):
            sql = f"SELECT object_id FROM {table} WHERE object_id IN ({_marks(chunk)})"  # noqa: S608
            found.update(bytes(row[0]) for row in read.all(sql, chunk))
    return found


def _chunks(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for at in range(0, len(values), IN_CHUNK):
        yield values[at : at + IN_CHUNK]


def _marks(values: Sequence[bytes]) -> str:
    return ", ".join("?" * len(values))


def rows_after(read: Reader, table: str, row: int, limit: int) -> list[Named]:
    """The next rows of 'instances' or 'quarantine' by number."""
    if table not in TABLES:
        raise ValueError(table)
    return [
        _named(read, table, one) for one in read.all(f"{_NAMED}{table} WHERE id > ? ORDER BY id LIMIT ?", (row, limit))
    ]


def row_now(read: Reader, one: Named) -> Named | None:
    """The same row as it is now."""
    found = read.one(f"{_NAMED}{one.table} WHERE id = ?", (one.row,))
    return _named(read, one.table, found) if found else None


def identity_of(read: Reader, one: Named) -> Identity | None:
    """What a row of `instances` is a version of; None for quarantine, and where its series or study has no row."""
    if one.table != "instances":
        return None
    row = read.one(
        "SELECT s.uid, e.uid, i.uid FROM instances i JOIN series e ON e.id = i.series_id JOIN studies s ON s.id = e.study_id"
        " WHERE i.id = ?",
        (one.row,),
    )
    return Identity(unpack_uid(row[0]), unpack_uid(row[1]), unpack_uid(row[2])) if row else None


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
