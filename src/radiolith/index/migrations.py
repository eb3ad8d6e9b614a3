"""Bringing a database to the schema this program was written for.

Owns: the numbered steps and the version row. Must never: run by itself (the caller copies a home first), or open a database
that a newer program made. A step is a function of the transaction; each runs in one, so that a step is done or not begun.
See docs/decisions/030.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from radiolith.index import descriptions, schema
from radiolith.index.database import Database, open_database
from radiolith.index.session import Reader, Writer
from radiolith.model import BadInput, Failure, Unavailable

_LOCK = 0x52414449  # PostgreSQL advisory lock: one migration at a time


Step = Callable[[Writer, Callable[[int], bytes]], None]


def _added(number: int) -> Step:
    """The step that makes the tables and indices which came with a version; a fresh database takes all steps in turn."""

    def step(tx: Writer, random: Callable[[int], bytes]) -> None:
        for statement in schema.statements(tx.dialect, number):
            tx.run(statement)

    return step


def _first(tx: Writer, random: Callable[[int], bytes]) -> None:
    _added(1)(tx, random)
    tx.run("INSERT INTO meta(key, value) VALUES ('epoch', ?)", (random(8).hex(),))


def _sixth(tx: Writer, random: Callable[[int], bytes]) -> None:
    _added(6)(tx, random)
    tx.run(
        "INSERT INTO study_patients(tenant_id, study_id, patient_id)"
        " SELECT tenant_id, id, patient_id FROM studies WHERE patient_id IS NOT NULL"
    )
    # what was said before the last word is in the log alone until a rebuild
    tx.run(
        "INSERT INTO history(tenant_id, study, series, sop, at, fact, kind, op, value) SELECT tenant_id, study, series, sop, at,"
        " fact, CASE WHEN kind = 2 THEN 'current' WHEN value = '' THEN 'restore' ELSE 'reject' END, fact, value FROM decisions"
    )
    descriptions.adopt(tx)


STEPS: dict[int, Step] = {
    1: _first,
    2: _added(2),  # failed_sign_ins
    3: _added(3),  # transfers
    4: _added(4),  # arrivals, devices
    5: _added(5),  # peer_reports, knocks
    6: _sixth,  # words, operations, history, overlays, labels, …
}


def version(read: Reader) -> int:
    """The schema version of a database, 0 when it is empty."""
    if read.dialect == "sqlite":
        known = read.one("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'")
    else:
        known = read.one("SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'meta'")
    if known is None:
        return 0
    row = read.one("SELECT value FROM meta WHERE key = 'version'")
    return int(row[0]) if row else 0


def check(database: Database) -> None:
    """Refuse a database that is not exactly ours: BadInput naming both versions; Unavailable when it is unreachable."""
    with database.read() as read:
        found = version(read)
    if found > schema.VERSION:
        raise BadInput(
            f"the index has schema version {found}, this program knows {schema.VERSION}:"
            " it was made by a newer Radiolith; use that one"
        )
    if found < schema.VERSION:
        raise BadInput(
            f"the index has schema version {found}, this program needs {schema.VERSION}: run the upgrade first"
        )


def migrate(url: str, random: Callable[[int], bytes] = os.urandom) -> int:
    """Create or upgrade the database; returns the version it had. BadInput when it is newer than this program."""
    database = open_database(url)
    try:
        before = -1
        while True:
            with database.write() as tx:
                if tx.dialect == "postgresql":
                    tx.all("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
                found = version(tx)
                before = found if before < 0 else before
                if found > schema.VERSION:
                    raise BadInput(
                        f"the index has schema version {found}, this program knows {schema.VERSION}:"
                        " it was made by a newer Radiolith; use that one"
                    )
                if found == schema.VERSION:
                    return before
                STEPS[found + 1](tx, random)
                tx.run(
                    "INSERT INTO meta(key, value) VALUES ('version', ?) ON CONFLICT (key) DO UPDATE SET value = ?",
                    (str(found + 1),) * 2,
                )
    except Failure:
        raise
    finally:
        try:
            database.close()
        except Unavailable:
            pass


def upgrade(url: str) -> None:
    """Bring an older index up to date, after a copy of it was put beside it; refuse a newer one (BadInput)."""
    database = open_database(url)
    try:
        with database.read() as read:
            found = version(read)
        if found == schema.VERSION:
            return
        if 0 < found < schema.VERSION and database.dialect == "sqlite":
            with database.write() as tx:  # nobody writes while the copy is made
                found = version(tx)  # another process may have upgraded meanwhile: its copy is the one to keep
                if found < schema.VERSION:
                    _copy_aside(Path(url.removeprefix("sqlite:///")), found)
    finally:
        database.close()
    migrate(url)


def _copy_aside(path: Path, found: int) -> None:
    """Whole under its name or not there: what an interrupted upgrade left is begun anew."""
    aside = f"{path}.format{found}"
    part = Path(f"{aside}.part")
    for ending in ("", "-journal"):
        Path(f"{part}{ending}").unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as copy:
        source.backup(copy)
    part.replace(aside)


def erase(url: str) -> None:
    """An empty database: the first step of a rebuild. What was there cannot be undone but by the rebuild.

    A SQLite file goes as a file, since it may be too damaged to be opened; nobody else may have it open.
    """
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        for ending in ("-wal", "-shm", ""):  # in this order: a log left behind would be replayed into the next file
            Path(path + ending).unlink(missing_ok=True)
        return
    database = open_database(url)
    try:
        with database.write() as tx:
            for table in schema.TABLES:
                tx.run(f"DROP TABLE IF EXISTS {table.name}")
    finally:
        database.close()


def epoch(read: Reader) -> str:
    """The feed's epoch: a rebuilt index has another one."""
    row = read.one("SELECT value FROM meta WHERE key = 'epoch'")
    return str(row[0]) if row else ""
