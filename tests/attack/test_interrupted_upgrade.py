"""What an upgrade that was cut short left beside the index is no obstacle to the next one."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from radiolith.index import migrations

BASE = gzip.decompress((Path(__file__).parents[1] / "index" / "format-1.db.gz").read_bytes())


@pytest.mark.parametrize("left", [b"", b"noise" * 1000, BASE[: len(BASE) // 2]])
@pytest.mark.parametrize("name", ["index.db.format1", "index.db.format1.part"])
def test_a_torn_copy_is_made_again(tmp_path: Path, left: bytes, name: str) -> None:
    index = tmp_path / "index.db"
    index.write_bytes(BASE)
    (tmp_path / name).write_bytes(left)
    migrations.upgrade(f"sqlite:///{index}")
    with closing(sqlite3.connect(f"{index}.format1")) as copy:
        assert copy.execute("SELECT value FROM meta WHERE key = 'version'").fetchone() == ("1",)
    assert not (tmp_path / "index.db.format1.part").exists()
