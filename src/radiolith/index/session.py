"""What a caller holds while it talks to the database: `Reader` and `Writer`.

Owns: the shape both databases share, placeholder translation, and the mapping of driver errors to our failures.
Must never: decide when a transaction begins or ends (database.py and postgresql.py do), or build SQL from values.
Every statement is a constant or compiled from constants; values travel as parameters only, `?` on both databases.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol

from radiolith.model import Damaged, Failure, LimitExceeded, NoSpace, Unavailable

Values = tuple[Any, ...]

QUERY_SECONDS_MAX = (
    2.0  # a reader older than this pins the WAL and starves others; searches are built to take milliseconds
)


MEMORY_ENTRIES_MAX = 20_000  # a map; an entry is about 200 bytes, so 4 MB at worst


class Cursor(Protocol):
    """The part of a DBAPI cursor both drivers share."""

    rowcount: int

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def fetchmany(self, size: int = ..., /) -> list[Any]: ...
    def close(self) -> Any: ...


class Connection(Protocol):
    def execute(self, sql: Any, params: Any = ..., /) -> Any: ...
    def cursor(self) -> Any: ...
    def close(self) -> Any: ...


class Contention(Unavailable):
    """Two transactions waited for each other and this one was given up: rolled back whole, so it may be run again."""


@lru_cache(maxsize=4096)
def to_format_style(sql: str) -> str:
    """`?` placeholders as psycopg wants them. Our statements never hold a question mark or a percent sign as text."""
    return sql.replace("%", "%%").replace("?", "%s")


class Memory:
    """What a process remembers of rows that never change (code numbers, segment ids). One per open database."""

    __slots__ = ("_maps",)

    def __init__(self) -> None:
        self._maps: dict[str, dict[Any, Any]] = {}

    def recall(self, name: str) -> dict[Any, Any]:
        """The map `name`; emptied here when it has grown past MEMORY_ENTRIES_MAX."""
        found = self._maps.setdefault(name, {})
        if len(found) > MEMORY_ENTRIES_MAX:
            found = self._maps[name] = {}
        return found


class Reader:
    """Statements that read. `dialect` is 'sqlite' or 'postgresql'; few callers need to know."""

    __slots__ = ("_connection", "_seconds", "_style", "deadline", "dialect", "lock_rows", "memory")

    def __init__(self, connection: Connection, dialect: str, memory: Memory, seconds: float = 0.0):
        self._connection = connection
        self.dialect = dialect
        self.memory = memory
        self._seconds = seconds
        self.deadline = 0.0  # of the statement that runs, on the monotonic clock: SQLite's progress handler looks at it
        self._style: Callable[[str], str] = to_format_style if dialect == "postgresql" else str
        self.lock_rows = " FOR UPDATE" if dialect == "postgresql" else ""  # SQLite has one writer anyway

    def all(self, sql: str, params: Sequence[Any] = ()) -> list[Values]:
        self.deadline = time.monotonic() + self._seconds
        return self._connection.execute(self._style(sql), params).fetchall()

    def one(self, sql: str, params: Sequence[Any] = ()) -> Values | None:
        self.deadline = time.monotonic() + self._seconds
        return self._connection.execute(self._style(sql), params).fetchone()

    def stream(self, sql: str, params: Sequence[Any] = (), size: int = 500) -> Iterator[Values]:
        """Rows `size` at a time. On PostgreSQL the client holds the whole answer: bound it in the statement."""
        self.deadline = time.monotonic() + self._seconds
        cursor: Cursor = self._connection.execute(self._style(sql), params)
        while rows := cursor.fetchmany(size):
            yield from rows


class Writer(Reader):
    """A write transaction. Nothing is visible to others before the block that opened it ends."""

    __slots__ = ("_after_commit", "_allocated")

    def __init__(self, connection: Connection, dialect: str, memory: Memory):
        super().__init__(connection, dialect, memory)
        self._after_commit: list[Callable[[], None]] = []
        self._allocated: dict[str, int] = {}  # SQLite: the last number of each table given out in this transaction

    def run(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Run one statement; returns the number of rows it touched."""
        return self._connection.execute(self._style(sql), params).rowcount

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """One statement for many rows: prepared once, pipelined on PostgreSQL."""
        if not rows:
            return
        cursor = self._connection.cursor()
        cursor.executemany(self._style(sql), rows)
        cursor.close()

    def allocate(self, table: str, count: int, key: str = "id") -> list[int]:
        """`count` fresh, increasing row numbers of `table`, never used before, even by rows that are gone.

        The caller inserts rows with them in this transaction; on SQLite that is what uses a number up (AUTOINCREMENT).
        """
        if count <= 0:
            return []
        if self.dialect == "postgresql":
            # sequence names are made from our own table names, never from input
            sql = "SELECT nextval(CAST(? AS regclass)) FROM generate_series(1, CAST(? AS int))"
            return sorted(row[0] for row in self.all(sql, (f"{table}_{key}_seq", count)))
        if table not in self._allocated:
            self._allocated = dict(self.all("SELECT name, seq FROM sqlite_sequence")) | self._allocated
        first = self._allocated.get(table, 0) + 1
        self._allocated[table] = first + count - 1
        return list(range(first, first + count))

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run `call` once the transaction is durable; dropped when it rolls back. For caches."""
        self._after_commit.append(call)

    def committed(self) -> None:
        """Called by the database after the commit."""
        calls, self._after_commit = self._after_commit, []
        for call in calls:
            call()


def sqlite_failure(error: sqlite3.Error) -> Failure | RuntimeError:
    """What a driver error means to the caller; RuntimeError when the statement is wrong, not the database."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if isinstance(error, sqlite3.ProgrammingError) or name in ("SQLITE_ERROR", "SQLITE_MISUSE", "SQLITE_RANGE"):
        return RuntimeError(f"a statement of the index failed: {error}")
    if name.startswith("SQLITE_INTERRUPT"):
        return LimitExceeded(
            f"the query took longer than {QUERY_SECONDS_MAX:g} s; narrow it by date, patient or accession number"
        )
    if name.startswith("SQLITE_FULL"):
        return NoSpace("no space left for the index")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return Damaged("the index database is damaged; `radiolith check --rebuild` makes it anew from the log")
    return Unavailable(f"the index database is not available ({name or type(error).__name__})")
