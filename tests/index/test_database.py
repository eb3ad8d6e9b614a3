"""The database's discipline: transactions, limits, outages, forks, and SQLite under several writers that get killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from radiolith.index import database as discipline
from radiolith.index import schema
from radiolith.index.database import Database, FileLock, SqliteDatabase, file_system, open_database
from radiolith.index.migrations import check, migrate
from radiolith.model import BadInput, Damaged, LimitExceeded, Unavailable
from tests import campaign, postgres


def put(database: Database, name: str) -> None:
    with database.write() as tx:
        tx.run("INSERT INTO leases(name, owner, until) VALUES (?, 'o', 0)", (name,))


def names(database: Database) -> list[str]:
    with database.read() as read:
        return [row[0] for row in read.all("SELECT name FROM leases ORDER BY name")]


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    called: list[int] = []
    with pytest.raises(KeyError), database.write() as tx:
        tx.run("INSERT INTO leases(name, owner, until) VALUES ('a', 'o', 0)")
        tx.after_commit(lambda: called.append(1))
        raise KeyError
    assert names(database) == [] and called == []
    with database.write() as tx:
        tx.after_commit(lambda: called.append(1))
        assert called == []
    assert called == [1]


def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises((Unavailable, RuntimeError)), database.read() as read:
        read.all("INSERT INTO leases(name, owner, until) VALUES ('a', 'o', 0)")
    assert names(database) == []


def test_allocated_numbers_are_never_used_again(database: Database) -> None:
    made: list[int] = []
    for count in (3, 2):
        with database.write() as tx:
            tx.run("DELETE FROM changes")
            numbers = tx.allocate("changes", count, "number") + tx.allocate("changes", 1, "number")
            assert tx.allocate("patients", 1) and tx.allocate("changes", 0, "number") == []
            numbers += tx.allocate("changes", 1, "number")
            sql = "INSERT INTO changes(number, tenant_id, kind, study_id, instance_id, at, xid) VALUES (?, 1, 1, 1, 1, 1, 0)"
            tx.run_many(sql, [(number,) for number in numbers])
        made += numbers
    assert len(set(made)) == 9 and sorted(made) == made


SLOW = {
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n",
    "postgresql": "SELECT COUNT(*) FROM generate_series(1, 9000000000)",
}


def test_a_query_that_takes_too_long_is_ended(database: Database) -> None:
    with pytest.raises(LimitExceeded, match="narrow"), database.read(0.2) as read:
        read.all(SLOW[database.dialect])
    assert names(database) == []  # the connection is fit for use


def test_a_snapshot_sees_one_state(database: Database) -> None:
    with database.snapshot() as read:
        assert read.all("SELECT name FROM leases") == []
        put(database, "later")
        assert read.all("SELECT name FROM leases") == []
    assert names(database) == ["later"]


def test_migrate_is_idempotent_and_keeps_data(database: Database) -> None:
    put(database, "kept")
    assert migrate(database.url) == schema.VERSION
    check(database)
    assert names(database) == ["kept"]


def test_a_newer_schema_is_refused(database: Database) -> None:
    with database.write() as tx:
        tx.run("UPDATE meta SET value = '99' WHERE key = 'version'")
    for call in (lambda: check(database), lambda: migrate(database.url)):
        with pytest.raises(BadInput, match=r"version 99.*newer"):
            call()


def test_both_databases_have_the_same_schema(fresh: Callable[[str], Database]) -> None:
    """Tables and columns as the databases themselves tell them."""
    wanted = {(table.name, column) for table in schema.TABLES for column in schema.columns_of(table.name)}
    sqlite = fresh("sqlite")
    with sqlite.read() as read:
        tables = [row[0] for row in read.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {
            (t, row[1]) for t in tables if not t.startswith("sqlite_") for row in read.all(f"PRAGMA table_info({t})")
        }
    assert found == wanted
    with fresh("postgresql").read() as read:
        rows = read.all("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'")
    assert set(rows) == wanted


def test_every_tenants_table_names_the_tenant() -> None:
    """What is left out belongs to the installation, or hangs on a row that names it."""
    without = {table.name for table in schema.TABLES if not any(c.startswith("tenant_id") for c in table.columns)}
    assert without == {
        "meta", "tenants", "segments", "duplicates", "voids", "token_uses", "cursors", "nodes", "leases", "failed_sign_ins",
        "transfer_items", "extra_fills",
    }  # fmt: skip


def test_unknown_urls_and_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput):
        open_database("mysql://x")
    mounts = tmp_path / "mountinfo"
    mounts.write_text("1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /mnt/with\\040space rw - nfs4 server:/x rw\n")
    assert file_system(Path("/mnt/with space/home"), str(mounts)) == "nfs4"
    assert file_system(Path("/home"), str(mounts)) == "ext4"
    monkeypatch.setattr(discipline, "file_system", lambda path: "nfs4")
    with pytest.raises(BadInput, match="network file system"):
        open_database(f"sqlite:///{tmp_path}/index.db")


def test_an_outage_is_told_quickly_and_ends_by_itself(tmp_path: Path) -> None:
    if reason := postgres.why_not():
        pytest.skip(reason)
    with postgres.cluster() as cluster:
        url = cluster.fresh()
        migrate(url)
        database = open_database(url)
        put(database, "before")
        cluster.stop()
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(Unavailable):
                put(database, "during")
            with pytest.raises(Unavailable):
                names(database)
            assert time.monotonic() - started < 5
        cluster.start()
        deadline = time.monotonic() + 10
        while True:
            try:
                put(database, "after")
                break
            except Unavailable:
                assert time.monotonic() < deadline
        assert names(database) == ["after", "before"]
        database.close()


def test_a_forked_child_opens_its_own(database: Database) -> None:
    put(database, "parent")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            put(database, "child")
            code = 0 if names(database) == ["child", "parent"] else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    put(database, "parent again")
    assert names(database) == ["child", "parent", "parent again"]


# ---------------------------------------------------------------- SQLite


def test_the_lock_is_free_when_its_holder_has_died(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import os, sys; from pathlib import Path; from radiolith.index.database import FileLock\n"
        f"with FileLock(Path({str(path)!r})).held(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        lock = FileLock(path)
        got: list[float] = []
        waiting = threading.Thread(target=lambda: got.append(_hold(lock)))
        waiting.start()
        assert not got
        child.kill()
        waiting.join(5)
        assert len(got) == 1
        lock.close()


def _hold(lock: FileLock) -> float:
    with lock.held():
        return time.monotonic()


def test_a_stuck_writer_is_unavailable_not_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discipline, "LOCK_SECONDS_MAX", 0.05)
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    with first.held(), pytest.raises(Unavailable), second.held():
        pass
    first.close()
    second.close()


def test_checkpoints_empty_the_log_and_a_large_one_is_truncated(
    fresh: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = fresh("sqlite")
    put(database, "a")
    done = database.checkpoint()
    assert done.done and done.wal_bytes > 0
    monkeypatch.setattr(discipline, "WAL_BYTES_TRUNCATE", 1)
    assert database.checkpoint().wal_bytes == 0
    monkeypatch.setattr(discipline, "WAL_BYTES_MAX", 1)
    put(database, "b")
    put(database, "c")
    assert os.stat(f"{database.path}-wal").st_size == 0  # type: ignore[attr-defined]


def test_settings_every_connection_runs_with(fresh: Callable[[str], Database]) -> None:
    database = fresh("sqlite")
    with database.read() as read:
        assert [read.one(f"PRAGMA {name}") for name in ("synchronous", "wal_autocheckpoint", "query_only")] == [
            (2,),
            (0,),
            (1,),
        ]
    with database.write() as tx:
        assert [tx.one(f"PRAGMA {name}") for name in ("synchronous", "wal_autocheckpoint")] == [(2,), (0,)]


WRITER = """
import os, sys
from radiolith.index.database import open_database
database = open_database(sys.argv[1])
who, n = sys.argv[2], 0
while True:
    n += 1
    with database.write() as tx:
        tx.run("INSERT INTO leases(name, owner, until) VALUES (?, ?, ?)", (f"{who}/{n}", "x" * 500, n))
        tx.run("UPDATE nodes SET seen_at = seen_at + 1 WHERE name = 'total'")
    os.write(1, f"{n}\\n".encode())
    if n % 7 == 0:
        database.checkpoint()
"""


def test_writers_checkpoints_and_kills_leave_a_sound_database(fresh: Callable[[str], Database]) -> None:
    """Processes write and checkpoint as workers do and get SIGKILL in turn; nothing acknowledged may be missing."""
    database = fresh("sqlite")
    assert isinstance(database, SqliteDatabase)
    with database.write() as tx:
        tx.run("INSERT INTO nodes(name, started_at, seen_at, body) VALUES ('total', 0, 0, '')")
    kills = campaign.count("SQLite writers killed", 12, 400)
    alive: list[tuple[str, subprocess.Popen[bytes]]] = []
    told: dict[str, int] = {}
    for number in range(kills):
        while len(alive) < 3:
            who = f"w{number}.{len(alive)}"
            command = [sys.executable, "-c", WRITER, database.url, who]
            alive.append((who, subprocess.Popen(command, stdout=subprocess.PIPE)))
        who, victim = alive.pop(0)
        assert victim.stdout is not None
        for _ in range(20):  # it has written that often, beside the others
            told[who] = int(victim.stdout.readline())
            database.checkpoint()
        _kill(who, victim, told)
    for who, victim in alive:
        _kill(who, victim, told)
    with database.read(30) as read:
        assert read.all("PRAGMA integrity_check") == [("ok",)]
        kept = {row[0] for row in read.all("SELECT name FROM leases")}
        assert read.one("SELECT seen_at FROM nodes WHERE name = 'total'") == (len(kept),)
    missing = [f"{who}/{n}" for who, last in told.items() for n in range(1, last + 1) if f"{who}/{n}" not in kept]
    assert missing == []
    print(f"{kills} writers killed, {len(kept)} transactions")


def _kill(who: str, victim: subprocess.Popen[bytes], told: dict[str, int]) -> None:
    victim.send_signal(signal.SIGKILL)
    assert victim.stdout is not None
    lines = victim.stdout.read().split(b"\n")[:-1]
    if lines:
        told[who] = int(lines[-1])
    victim.stdout.close()
    victim.wait()


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    path.write_bytes(b"not a database at all" * 500)
    with pytest.raises(Damaged, match="rebuild"):
        migrate(f"sqlite:///{path}")


def test_the_columns_of_a_key_come_first() -> None:
    """Or SQLite 3.40 calls a sound table damaged (integrity_check of one WITHOUT ROWID)."""
    for table in schema.TABLES:
        assert tuple(column.split(" ")[0] for column in table.columns[: len(table.key)]) == tuple(table.key), table.name
