"""Homes of every format so far are read: exact bytes, the same index after a rebuild; a newer index is refused."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from radiolith import config
from radiolith import home as homes
from radiolith.index import schema
from radiolith.index.dump import dump
from radiolith.index.migrations import version
from radiolith.model import BadInput, Identity, NotFound
from tests.archive.homes import opened, principal

HERE = Path(__file__).parent
FORMATS = sorted(path.name.removesuffix(".tar.gz") for path in HERE.glob("home-format-*.tar.gz"))


@pytest.fixture(params=FORMATS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    with tarfile.open(HERE / f"{request.param}.tar.gz") as archive:
        # Python before 3.11.4 (Debian 12 has 3.11.2) knows no filters; later ones warn without.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return tmp_path / "home", json.loads((HERE / f"{request.param}.json").read_text())


def canonical(home: Path) -> list[str]:
    with homes.open_home(home) as found, found.graph.database.snapshot() as read:
        return list(dump(read))


async def test_every_object_comes_back_exactly(kept: tuple[Path, dict[str, str]]) -> None:
    home, files = kept
    homes.check_version(config.load(home))  # as every command and `serve` begin
    async with opened(home) as graph:
        who = principal(graph)
        for sop, digest in files.items():
            study = f"1.2.{int(sop[-1]) % 2}"
            versions = await graph.archive.versions.of(who, Identity(study, f"{study}.1", sop))
            found = set()
            for held in versions:
                pieces = [bytes(piece) async for piece in graph.archive.retrieve.original(held).chunks()]
                found.add(hashlib.sha256(b"".join(pieces)).hexdigest())
            assert digest in found
        with pytest.raises(NotFound):
            await graph.archive.retrieve.locate(who, "1.2.1", "1.2.1.1", "1.2.3.1")
        assert len(await graph.archive.quarantine.list(who)) == 1
        assert [user.name for user in await graph.accounts.users(who)] == ["anna"]


def test_check_and_rebuild_agree(kept: tuple[Path, dict[str, str]]) -> None:
    home, _ = kept
    with homes.open_home(home) as found:
        assert found.check(read_data=True).problems == []
    before = canonical(home)
    homes.rebuild(home)
    assert canonical(home) == before


def test_a_command_and_serve_upgrade_an_older_home_with_a_copy(kept: tuple[Path, dict[str, str]]) -> None:
    home, _ = kept
    with closing(sqlite3.connect(home / "index.db")) as database:
        found = int(database.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()[0])
    homes.check_version(config.load(home))  # what `serve` and open_home do first
    with homes.open_home(home) as command, command.graph.database.read() as read:
        assert version(read) == schema.VERSION
    assert (home / f"index.db.format{found}").exists() == (found < schema.VERSION)


def test_a_newer_index_is_refused(kept: tuple[Path, dict[str, str]]) -> None:
    home, _ = kept
    with sqlite3.connect(home / "index.db") as database:
        database.execute("UPDATE meta SET value = '999' WHERE key = 'version'")
    database.close()
    with pytest.raises(BadInput, match="newer"), homes.open_home(home):
        pass
