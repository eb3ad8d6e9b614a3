"""Writes the fixture of the current schema version: `python -m tests.index.fixture`, once per version, then kept for ever.

`format-N.db.gz` is the SQLite database, `format-N.jsonl` its canonical dump, `format-N.sql` the same tables on PostgreSQL.
"""

from __future__ import annotations

import gzip
import sys
import tempfile
from pathlib import Path

from radiolith.index import facts, instances, schema
from radiolith.index.accounts import put_tenant
from radiolith.index.database import open_database
from radiolith.index.dump import dump
from radiolith.index.migrations import migrate
from radiolith.index.registry import Word
from radiolith.model import Fact
from tests.index.conftest import TENANT
from tests.index.objects import Maker


def write(folder: Path) -> Path:
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "index.db"
        url = f"sqlite:///{path}"
        migrate(url, lambda size: b"e" * size)
        database = open_database(url)
        maker = Maker(1, studies=2)
        incoming = maker.many(15)
        items = [[one.identity.study, one.identity.series, one.identity.sop] for one in incoming[:3]]
        with database.write() as tx:
            put_tenant(tx, TENANT.uid, TENANT.name, Word(1, b"F" * 16))
            instances.insert(tx, incoming)
            facts.apply(tx, Fact("reject", maker.now, "a", TENANT.uid, {"reason": "113001", "items": items}), b"r" * 16)
            facts.apply(
                tx, Fact("user", 5, "a", TENANT.uid, {"name": "anna", "role": "admin", "password": "x"}), b"u" * 16
            )
        with database.snapshot() as read:
            lines = "".join(line + "\n" for line in dump(read))
        database.checkpoint()
        database.close()
        target = folder / f"format-{schema.VERSION}"
        target.with_suffix(".db.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        target.with_suffix(".jsonl").write_text(lines)
        made = [one for number in range(1, schema.VERSION + 1) for one in schema.statements("postgresql", number)]
        target.with_suffix(".sql").write_text("".join(f"{statement};\n" for statement in made))
        return target


if __name__ == "__main__":
    sys.stdout.write(f"{write(Path(__file__).parent)}\n")
