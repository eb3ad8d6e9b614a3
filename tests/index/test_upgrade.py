"""Databases of every format so far are brought to the present schema: the same tables as a fresh one, every row kept."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from radiolith.index import migrations, schema
from radiolith.index.database import Database, open_database
from radiolith.index.dump import dump
from radiolith.index.migrations import check, migrate, upgrade, version
from radiolith.model import BadInput
from tests import postgres
from tests.index.conftest import fresh_url

HERE = Path(__file__).parent
FORMATS = sorted(int(path.name.removeprefix("format-").removesuffix(".db.gz")) for path in HERE.glob("format-*.db.gz"))
OLDER = [number for number in FORMATS if number < schema.VERSION]


def on_sqlite(number: int, folder: Path) -> str:
    """URL of a database as that version left it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"format-{number}.db"
    path.write_bytes(gzip.decompress((HERE / f"format-{number}.db.gz").read_bytes()))
    return f"sqlite:///{path}"


def on_postgresql(number: int, folder: Path) -> str:
    """The same rows in that version's tables on PostgreSQL."""
    if reason := postgres.why_not():
        pytest.skip(reason)
    source = on_sqlite(number, folder).removeprefix("sqlite:///")
    url = postgres.shared().fresh()
    with closing(sqlite3.connect(source)) as old, psycopg.connect(url) as new:
        new.execute((HERE / f"format-{number}.sql").read_bytes())
        for (table,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"):
            rows = old.execute(f"SELECT * FROM {table}")
            marks = ", ".join(["%s"] * len(rows.description))
            names = ", ".join(column[0] for column in rows.description)
            new.cursor().executemany(f"INSERT INTO {table}({names}) VALUES ({marks})".encode(), rows.fetchall())
    return url


MADE = {"sqlite": on_sqlite, "postgresql": on_postgresql}


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=FORMATS)
def number(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def upgraded(kind: str, number: int, tmp_path: Path) -> Iterator[Database]:
    url = MADE[kind](number, tmp_path / "old")
    upgrade(url)
    database = open_database(url)
    yield database
    database.close()


def described(database: Database) -> list[tuple[Any, ...]]:
    """Everything a database says of its own tables and indices."""
    with database.snapshot() as read:
        if database.dialect == "sqlite":
            return read.all(
                "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY 1, 2"
            )
        columns = read.all(
            "SELECT table_name, ordinal_position, column_name, data_type, is_nullable, column_default, collation_name,"
            " is_identity FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
        )
        return columns + read.all("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")


def test_the_upgraded_schema_is_the_fresh_one(upgraded: Database, kind: str, tmp_path: Path) -> None:
    fresh = open_database(fresh_url(kind, tmp_path / "fresh"))
    try:
        assert described(upgraded) == described(fresh) != []
    finally:
        fresh.close()
    check(upgraded)


def test_every_row_is_kept(upgraded: Database, number: int) -> None:
    with upgraded.snapshot() as read:
        lines = "".join(line + "\n" for line in dump(read))
    assert lines == (HERE / f"format-{number}.jsonl").read_text()


@pytest.mark.parametrize("older", OLDER)
def test_an_older_embedded_database_is_copied_first_and_the_first_copy_stays(older: int, tmp_path: Path) -> None:
    url = on_sqlite(older, tmp_path)
    copy = tmp_path / f"format-{older}.db.format{older}"
    upgrade(url)
    kept = copy.read_bytes()
    database = open_database(f"sqlite:///{copy}")
    with database.read() as read:
        assert version(read) == older
    database.close()
    upgrade(url)  # nothing to do, and nothing to copy
    assert copy.read_bytes() == kept


def test_a_killed_upgrade_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'index.db'}"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setitem(migrations.STEPS, schema.VERSION, killed)
        with pytest.raises(KeyboardInterrupt):
            migrate(url)
    assert migrate(url) == schema.VERSION - 1
    assert migrate(url) == schema.VERSION


@pytest.mark.parametrize("older", OLDER)
def test_versions_that_do_not_fit_are_named(older: int, kind: str, tmp_path: Path) -> None:
    database = open_database(MADE[kind](older, tmp_path))
    with pytest.raises(BadInput, match=f"version {older}.*upgrade"):
        check(database)
    upgrade(database.url)
    with database.write() as tx:
        tx.run("UPDATE meta SET value = '999' WHERE key = 'version'")
    database.close()
    with pytest.raises(BadInput, match="newer"):
        upgrade(database.url)


def test_there_is_a_step_and_a_fixture_for_every_version() -> None:
    versions = set(range(1, schema.VERSION + 1))
    assert migrations.STEPS.keys() == versions == set(FORMATS)
    assert {one.since for one in (*schema.TABLES, *schema.ADDED, *schema.INDICES)} <= versions
    assert sqlite3.sqlite_version_info >= (3, 35)  # RETURNING, MATERIALIZED
