"""The database, and the one place that keeps SQLite's discipline.

Owns: opening, transactions, checkpoints, time limits and failures. Must never: know what the rows mean.

SQLite before 3.51.3 can corrupt a WAL database when two connections write or checkpoint at the same moment. So:
* every write transaction *and* every checkpoint runs under one file lock (`<database>.lock`, flock) with a thread mutex
  around it (a flock belongs to the open file, which the threads of a process share);
* `wal_autocheckpoint` is 0 everywhere; `Database.checkpoint()` is called by the jobs process, and by a writer only when
  the WAL has passed WAL_BYTES_MAX because nobody else did it;
* each process keeps one idle connection open (the anchor), opened and closed under the lock, because opening the first
  connection recovers the WAL and closing the last one checkpoints it;
* readers are `query_only` and are interrupted after QUERY_SECONDS_MAX;
* `synchronous=FULL`: a commit that returned is on the disk; NORMAL only for what recovery rolls forward from the log;
* a home on a network file system is refused: neither flock nor the shared-memory index of the WAL works there.
Handles are opened lazily and belong to the process that opened them: a forked child opens its own.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from radiolith.index.session import QUERY_SECONDS_MAX, Memory, Reader, Writer, sqlite_failure
from radiolith.model import BadInput, Unavailable

READERS_MAX = 32  # connections a process; each may hold its page cache (4 MiB)
LOCK_SECONDS_MAX = 10.0  # waiting for another writer; a batch takes milliseconds, so this means one is stuck
WAL_BYTES_MAX = 256 << 20  # a writer checkpoints by itself beyond this: the jobs process must be gone
WAL_BYTES_TRUNCATE = 64 << 20  # checkpoint() also truncates the file beyond this
PROGRESS_STEPS = 20_000  # virtual machine steps between two looks at the clock, about a millisecond
NETWORK_FILE_SYSTEMS = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncpfs",
        "ocfs2",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.glusterfs",
        "fuse.ceph",
    ]
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    done: bool  # the whole WAL is in the database file
    wal_bytes: int


class Database(Protocol):
    """What the rest of the program knows of a database. Thread-safe; usable after a fork."""

    url: str
    dialect: str  # 'sqlite' | 'postgresql'

    def read(self, seconds: float = QUERY_SECONDS_MAX) -> AbstractContextManager[Reader]:
        """Statements that read, each seeing what was committed when it began; LimitExceeded after `seconds`."""
        ...

    def peek(self) -> AbstractContextManager[Reader]:
        """A few short statements of the thread that writes all the time, between two of its transactions: what it looks
        at is in memory. It waits for other writers of this process."""
        ...

    def snapshot(self) -> AbstractContextManager[Reader]:
        """Statements that read one consistent state, without a time limit: for dump and check."""
        ...

    def write(self, *, durable: bool = True) -> AbstractContextManager[Writer]:
        """One transaction: durable when the block ends, rolled back when it raises. Unavailable, NoSpace.

        durable False: for what is in the log already. After a power cut the embedded database may have lost the last
        such transactions (never a part of one), and recovery rolls them forward; see docs/decisions/005.
        """
        ...

    def checkpoint(self) -> Checkpoint: ...

    def close(self) -> None: ...


def open_database(url: str) -> Database:
    """`sqlite:///path` or `postgresql://…`. Opens nothing yet. BadInput for another scheme or a network file system."""
    if url.startswith("sqlite:///"):
        return SqliteDatabase(url)
    if url.startswith(("postgresql://", "postgres://")):
        from radiolith.index.postgresql import PostgresDatabase

        return PostgresDatabase(url)
    raise BadInput(f"database.url must begin with sqlite:/// or postgresql://, not {url.split(':', 1)[0]!r}")


def file_system(path: Path, mountinfo: str = "/proc/self/mountinfo") -> str:
    """The type of the file system `path` lies on, '' when the system does not tell."""
    try:
        lines = Path(mountinfo).read_text().splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    target = str(path.resolve())
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split(" ")[4].encode().decode("unicode_escape")
        if (target == mount or target.startswith(mount.rstrip("/") + "/")) and len(mount) >= best:
            best, kind = len(mount), right.split(" ")[0]
    return kind


class FileLock:
    """A flock with a thread mutex around it. Released by the system when the process dies."""

    def __init__(self, path: Path):
        self._mutex = threading.Lock()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def alone(self) -> Generator[None]:
        """Among the threads of this process."""
        if not self._mutex.acquire(timeout=LOCK_SECONDS_MAX):
            raise Unavailable("the index is busy: another thread has been writing for too long")
        try:
            yield
        finally:
            self._mutex.release()

    @contextmanager
    def held(self) -> Generator[None]:
        deadline = time.monotonic() + LOCK_SECONDS_MAX
        with self.alone():
            self._flock(deadline)
            try:
                yield
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _flock(self, deadline: float) -> None:
        pause = 0.0002
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable("the index is busy: another process has been writing for too long") from None
            time.sleep(pause)
            pause = min(pause * 1.5, 0.002)

    def close(self) -> None:
        """Closes this process's descriptor; in a forked child that leaves the parent's lock alone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Handle:
    """The open connections of one process."""

    def __init__(self, path: Path):
        self.pid = os.getpid()
        self.path = path
        self.lock = FileLock(path.with_name(path.name + ".lock"))
        self.idle: list[sqlite3.Connection] = []
        self.slots = threading.BoundedSemaphore(READERS_MAX)
        self.writer: sqlite3.Connection | None = None
        self.durable: bool | None = None  # whether the writer syncs at a commit; None before it was told
        with self.lock.held():
            self.anchor = connect(path)
            self.anchor.execute(
                "SELECT count(*) FROM sqlite_master"
            ).fetchone()  # recovers the WAL here, under the lock

    def take_idle(self) -> sqlite3.Connection | None:
        try:
            return self.idle.pop()
        except IndexError:  # another thread took the last one
            return None

    def close(self) -> None:
        with self.lock.held():
            while self.idle:
                self.idle.pop().close()
            if self.writer is not None:
                self.writer.close()
            self.anchor.close()
        self.lock.close()


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=2.0, cached_statements=256
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("PRAGMA case_sensitive_like=ON")  # as PostgreSQL; also lets LIKE 'a%' use an index
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute(f"PRAGMA cache_size={-4096 if read_only else -16384}")
    if read_only:
        connection.execute("PRAGMA query_only=ON")
    return connection


_abandoned: list[object] = []  # handles inherited by a fork: never used, never closed, the parent's to close
_databases: weakref.WeakSet[SqliteDatabase] = weakref.WeakSet()


class SqliteDatabase:
    dialect = "sqlite"

    def __init__(self, url: str):
        self.url = url
        self.path = Path(url.removeprefix("sqlite:///")).absolute()
        self._handle_now: _Handle | None = None
        self._opening = threading.Lock()
        self._memory = Memory()
        kind = file_system(self.path.parent)
        if kind in NETWORK_FILE_SYSTEMS:
            raise BadInput(f"{self.path.parent} lies on a network file system ({kind}); SQLite needs a local disk")
        _databases.add(self)

    def _handle(self) -> _Handle:
        handle = self._handle_now
        if handle is not None and handle.pid == os.getpid():
            return handle
        with self._opening:
            if self._handle_now is None or self._handle_now.pid != os.getpid():
                try:
                    self._handle_now = _Handle(self.path)
                except sqlite3.Error as error:
                    raise sqlite_failure(error) from error
                except OSError as error:
                    raise Unavailable(f"the index database cannot be opened ({error.strerror})") from error
            return self._handle_now

    def forget(self) -> None:
        """In a forked child: leave the parent's handles alone, but do not keep its lock alive."""
        self._opening = threading.Lock()
        if self._handle_now is not None:
            _abandoned.append(self._handle_now)
            self._handle_now.lock.close()
            self._handle_now = None

    @contextmanager
    def read(self, seconds: float = QUERY_SECONDS_MAX) -> Generator[Reader]:
        handle = self._handle()
        if not handle.slots.acquire(timeout=QUERY_SECONDS_MAX):
            raise Unavailable(f"more than {READERS_MAX} queries at once", retry_after=1)
        connection: sqlite3.Connection | None = None
        try:
            connection = handle.take_idle() or connect(handle.path, read_only=True)
            reader = Reader(connection, self.dialect, self._memory, seconds)
            connection.set_progress_handler(lambda: time.monotonic() > reader.deadline, PROGRESS_STEPS)
            yield reader
        except sqlite3.Error as error:
            raise sqlite_failure(error) from error
        finally:
            if connection is not None:
                if connection.in_transaction:
                    connection.rollback()
                connection.set_progress_handler(None, 0)
                handle.idle.append(connection)
            handle.slots.release()

    @contextmanager
    def peek(self) -> Generator[Reader]:
        """On the writer's connection: every commit empties the page caches of all connections but its own."""
        handle = self._handle()
        try:
            with handle.lock.alone():
                handle.writer = handle.writer or connect(handle.path)
                yield Reader(handle.writer, self.dialect, self._memory)
        except sqlite3.Error as error:
            raise sqlite_failure(error) from error

    @contextmanager
    def snapshot(self) -> Generator[Reader]:
        handle = self._handle()
        connection = connect(handle.path, read_only=True)
        try:
            connection.execute("BEGIN")
            yield Reader(connection, self.dialect, self._memory)
        except sqlite3.Error as error:
            raise sqlite_failure(error) from error
        finally:
            connection.close()  # never the last one: the anchor stays

    @contextmanager
    def write(self, *, durable: bool = True) -> Generator[Writer]:
        handle = self._handle()
        try:
            with handle.lock.held():
                if handle.writer is None:
                    handle.writer = connect(handle.path)
                connection = handle.writer
                if handle.durable is not durable:  # said only when it changes: a PRAGMA costs as much as a row
                    connection.execute("PRAGMA synchronous=FULL" if durable else "PRAGMA synchronous=NORMAL")
                    handle.durable = durable
                connection.execute("BEGIN IMMEDIATE")
                writer = Writer(connection, self.dialect, self._memory)
                try:
                    yield writer
                    connection.execute("COMMIT")
                except BaseException:
                    self._roll_back(handle)
                    raise
                if self._wal_bytes() > WAL_BYTES_MAX:
                    self._checkpoint_held(connection)
        except sqlite3.Error as error:
            raise sqlite_failure(error) from error
        writer.committed()

    def _roll_back(self, handle: _Handle) -> None:
        connection = handle.writer
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            handle.writer, handle.durable = None, None  # after an I/O error nothing it remembers is trusted
            connection.close()

    def checkpoint(self) -> Checkpoint:
        """Move the WAL into the database file, under the lock; truncate the WAL when it has grown large."""
        handle = self._handle()
        try:
            with handle.lock.held():
                return self._checkpoint_held(handle.anchor)
        except sqlite3.Error as error:
            raise sqlite_failure(error) from error

    def _checkpoint_held(self, connection: sqlite3.Connection) -> Checkpoint:
        busy, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if self._wal_bytes() > WAL_BYTES_TRUNCATE and frames == moved:
            connection.execute("PRAGMA busy_timeout=200")  # readers may be at it; the next checkpoint tries again
            busy, frames, moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            connection.execute("PRAGMA busy_timeout=2000")
        return Checkpoint(not busy and frames == moved, self._wal_bytes())

    def _wal_bytes(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_size
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Close this process's connections; the last one of all checkpoints, which is why this takes the lock."""
        handle, self._handle_now = self._handle_now, None
        if handle is not None and handle.pid == os.getpid():
            handle.close()


def _forget_all() -> None:
    for database in list(_databases):
        database.forget()


def _close_all(*_: Any) -> None:
    for database in list(_databases):
        try:
            database.close()
        except (Unavailable, sqlite3.Error):
            continue  # the process is ending; the WAL is complete either way


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_close_all)
