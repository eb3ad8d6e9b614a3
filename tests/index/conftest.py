"""Both databases behind one fixture: every test of the index that asks for `database` runs on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from radiolith.index.accounts import put_tenant
from radiolith.index.database import Database, open_database
from radiolith.index.migrations import migrate
from radiolith.index.registry import Word
from radiolith.model import Tenant
from tests import postgres

TENANT = Tenant(1, b"T" * 16, "default")


@cache
def _template() -> str:
    """Name of a migrated PostgreSQL database to copy."""
    url = postgres.shared().fresh()
    migrate(url)
    return postgres.shared().name(url)


def fresh_url(kind: str, folder: Path) -> str:
    """URL of a migrated, empty database."""
    if kind == "sqlite":
        folder.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{folder / 'index.db'}"
        migrate(url)
        return url
    if reason := postgres.why_not():
        pytest.skip(reason)
    return postgres.shared().fresh(_template())


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Database]]:
    """Makes databases with the tenant TENANT in row 1."""
    made: list[Database] = []

    def make(kind: str) -> Database:
        database = open_database(fresh_url(kind, tmp_path / f"{kind}{len(made)}"))
        made.append(database)
        with database.write() as tx:
            put_tenant(tx, TENANT.uid, TENANT.name, Word(1, b"F" * 16))
        return database

    yield make
    for database in made:
        database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, fresh: Callable[[str], Database]) -> Database:
    return fresh(request.param)
