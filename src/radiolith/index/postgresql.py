"""PostgreSQL behind the same door as SQLite.

Owns: connections (two small pools, readers and writers), the settings they run with, and what an outage looks like.
Must never: hide a lost commit: an error during COMMIT is Unavailable, and the caller finds out by replaying (inserts and
facts are idempotent).
Readers run without sequential scans, hash and merge joins, and in the written join order: search.py writes the plan, so a
missing statistic cannot turn a look-up into a scan.
"""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from psycopg import errors

from radiolith.index.database import Checkpoint
from radiolith.index.session import QUERY_SECONDS_MAX, Contention, Memory, Reader, Writer
from radiolith.model import Damaged, Failure, LimitExceeded, NoSpace, Unavailable

READERS_MAX = 8  # connections a process; a query takes milliseconds
WRITERS_MAX = 4  # group commit makes more useless
CONNECT_SECONDS_MAX = 2  # the least libpq knows
DOWN_SECONDS = 1.0  # after a failed connect, callers are refused at once for this long
LOCK_SECONDS_MAX = 10
_WRITE = (
    f"-c statement_timeout=60s -c lock_timeout={LOCK_SECONDS_MAX}s -c idle_in_transaction_session_timeout=60s"
    " -c jit=off -c synchronous_commit=on"
)
_READ = (
    f"-c statement_timeout={int(QUERY_SECONDS_MAX * 1000)} -c default_transaction_read_only=on -c jit=off"
    " -c enable_seqscan=off -c enable_bitmapscan=off -c enable_sort=off -c enable_hashjoin=off"
    " -c enable_mergejoin=off -c join_collapse_limit=1 -c max_parallel_workers_per_gather=0"
)

PgConnection = psycopg.Connection[tuple[Any, ...]]


def failure(error: psycopg.Error) -> Failure | RuntimeError:
    """What a driver error means to the caller; RuntimeError when the statement is wrong, not the database."""
    if isinstance(error, errors.QueryCanceled):
        return LimitExceeded(
            f"the query took longer than {QUERY_SECONDS_MAX:g} s; narrow it by date, patient or accession number"
        )
    if isinstance(error, (errors.DeadlockDetected, errors.SerializationFailure, errors.LockNotAvailable)):
        return Contention("other transactions were in the way; nothing was written", retry_after=1)
    if isinstance(error, errors.DiskFull):
        return NoSpace("no space left for the index")
    if isinstance(error, (errors.DataCorrupted, errors.IndexCorrupted)):
        return Damaged("the index database is damaged; `radiolith check --rebuild` makes it anew from the log")
    if isinstance(error, (psycopg.ProgrammingError, psycopg.DataError, psycopg.IntegrityError)):
        return RuntimeError(f"a statement of the index failed: {type(error).__name__}")
    return Unavailable(f"the index database is not available ({type(error).__name__})", retry_after=2)


class _Pool:
    """Idle connections of one kind, bounded."""

    def __init__(self, url: str, options: str, limit: int):
        self._url, self._options = url, options
        self._idle: list[PgConnection] = []
        self._slots = threading.BoundedSemaphore(limit)
        self._down_until = 0.0

    @contextmanager
    def connection(self) -> Generator[PgConnection]:
        if not self._slots.acquire(timeout=QUERY_SECONDS_MAX):
            raise Unavailable("too many queries at once", retry_after=1)
        connection: PgConnection | None = None
        try:
            connection = self._take()
            yield connection
        except psycopg.Error as error:
            raise failure(error) from error
        finally:
            if connection is not None:
                self._give_back(connection)
            self._slots.release()

    def _take(self) -> PgConnection:
        while connection := self._take_idle():
            if not connection.closed and not select.select([connection.fileno()], [], [], 0)[0]:
                return connection
            connection.close()  # the server spoke while nobody asked: it has closed the connection
        if time.monotonic() < self._down_until:
            raise Unavailable("the index database is not available", retry_after=2)
        try:
            connection = psycopg.connect(
                self._url,
                autocommit=True,
                options=self._options,
                connect_timeout=CONNECT_SECONDS_MAX,
                prepare_threshold=2,
            )
        except psycopg.OperationalError:
            self._down_until = time.monotonic() + DOWN_SECONDS
            raise
        connection.prepared_max = 400
        return connection

    def _take_idle(self) -> PgConnection | None:
        try:
            return self._idle.pop()
        except IndexError:  # another thread took the last one
            return None

    def _give_back(self, connection: PgConnection) -> None:
        try:
            if not connection.closed and connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.rollback()
        except psycopg.Error:
            connection.close()
        if not connection.closed:
            self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class _Handle:
    def __init__(self, url: str):
        self.pid = os.getpid()
        self.readers = _Pool(url, _READ, READERS_MAX)
        self.writers = _Pool(url, _WRITE, WRITERS_MAX)


_abandoned: list[object] = []  # inherited by a fork: the sockets are the parent's
_databases: weakref.WeakSet[PostgresDatabase] = weakref.WeakSet()


class PostgresDatabase:
    dialect = "postgresql"

    def __init__(self, url: str):
        self.url = url
        self._memory = Memory()
        self._handle_now = _Handle(url)
        _databases.add(self)

    def _handle(self) -> _Handle:
        if self._handle_now.pid != os.getpid():
            self.forget()
        return self._handle_now

    def forget(self) -> None:
        """In a forked child: leave the parent's connections alone."""
        _abandoned.append(self._handle_now)
        self._handle_now = _Handle(self.url)

    @contextmanager
    def read(self, seconds: float = QUERY_SECONDS_MAX) -> Generator[Reader]:
        with self._handle().readers.connection() as connection:
            if seconds != QUERY_SECONDS_MAX:
                connection.execute(
                    "SELECT set_config('statement_timeout', %s, false)", (str(max(1, int(seconds * 1000))),)
                )
            try:
                yield Reader(connection, self.dialect, self._memory)
            finally:
                if seconds != QUERY_SECONDS_MAX and not connection.closed:
                    default = str(int(QUERY_SECONDS_MAX * 1000))
                    connection.execute("SELECT set_config('statement_timeout', %s, false)", (default,))

    def peek(self) -> AbstractContextManager[Reader]:
        """As `read`: the pages are the server's."""
        return self.read()

    @contextmanager
    def snapshot(self) -> Generator[Reader]:
        with self._handle().writers.connection() as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.execute("SET LOCAL statement_timeout = 0")
            try:
                yield Reader(connection, self.dialect, self._memory)
            finally:
                if not connection.closed:
                    connection.execute("ROLLBACK")

    @contextmanager
    def write(self, *, durable: bool = True) -> Generator[Writer]:
        """Always durable: this server's crash is not a crash of ours, so nobody would roll anything forward."""
        with self._handle().writers.connection() as connection:
            connection.execute("BEGIN")
            writer = Writer(connection, self.dialect, self._memory)
            try:
                yield writer
                connection.execute("COMMIT")
            except BaseException:
                if not connection.closed:
                    connection.execute("ROLLBACK")
                raise
        writer.committed()

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(True, 0)  # PostgreSQL does its own

    def close(self) -> None:
        if self._handle_now.pid == os.getpid():
            self._handle_now.readers.close()
            self._handle_now.writers.close()


def _forget_all() -> None:
    for database in list(_databases):
        database.forget()


os.register_at_fork(after_in_child=_forget_all)
