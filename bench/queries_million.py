"""Queries at 2,000 and at 1,000,000 studies, on SQLite and PostgreSQL: does latency depend on what is held?

    python bench/queries_million.py [--studies 1000000] [--instances 10] [--databases sqlite,postgresql] [--folder DIR]

Rows are generated straight into the index (patients, identifiers, names, studies, series, instances), not through ingest.
Each query runs REPEATS times with changing values; medians and 95th percentiles of searching and building the answer, in
milliseconds. PostgreSQL is a private cluster with default settings but fsync=off while loading. No ANALYZE is run: the
plans do not need it. Page cache warm. Takes about 2 minutes per database with one instance a study, 12 with ten.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from radiolith.index import instances, schema
from radiolith.index.accounts import put_tenant
from radiolith.index.database import Database, open_database
from radiolith.index.layouts import pack_layout
from radiolith.index.migrations import migrate
from radiolith.index.person import name_keys, sound_keys
from radiolith.index.registry import Word
from radiolith.index.search import search
from radiolith.index.session import Writer
from radiolith.index.uids import pack_uid
from radiolith.model import Layout, Level, Match, Pixels, Query
from tests import postgres

SMALL = 2_000
REPEATS = 40
PATIENTS_PER_NAME = 10  # name prefixes match ten, as in bench/query of the reference harness
ROOT = "1.2.826.0.1.3680043.8.498."
MODALITIES = ("CT", "MR", "CR", "US")
LAYOUT = Layout("", 396, 526_000, 526_000, 1700, Pixels.NATIVE, 0x7FE00010, 1712, 524_288, 1, 512, 512, 1, 16)


def study_uid(number: int) -> str:
    return f"{ROOT}{number * 2654435761 % 10**14:014d}.{number}"


def family(number: int) -> str:
    """Ten patients share a family name; names are spread over the alphabet."""
    n = number // PATIENTS_PER_NAME * 7919
    return "".join(chr(97 + n // 26**k % 26) for k in range(6)).capitalize()


class Rows:
    """Generates the rows of every table, in order of their ids."""

    def __init__(self, studies: int, instances: int):
        self.studies, self.instances = studies, instances

    def day(self, n: int) -> int:
        return (2000 + n * 7919 % 25) * 10_000 + (1 + n % 12) * 100 + 1 + n % 28

    def patients(self) -> Iterator[tuple[Any, ...]]:
        for n in range(1, self.studies + 1):
            yield (
                n,
                1,
                None,
                bytes(24),
                0,
                f"{family(n)}^Given{n}",
                f"PID{n:08d}",
                None,
                19_000_101 + n % 28,
                "F",
                None,
            )

    def patient_identifiers(self) -> Iterator[tuple[Any, ...]]:
        for n in range(1, self.studies + 1):
            yield (1, f"PID{n:08d}", "", "", "", n)

    def names(self) -> Iterator[tuple[Any, ...]]:
        for n in range(1, self.studies + 1):
            raw = f"{family(n)}^Given{n}"
            for key in name_keys(raw):
                yield (1, 0, key, n)
            for key in sound_keys(raw):
                yield (1, 1, key, n)

    def study_rows(self) -> Iterator[tuple[Any, ...]]:
        for n in range(1, self.studies + 1):
            yield (
                n, 1, pack_uid(study_uid(n)), n, bytes(24), self.day(n), "101500", f"ACC{n:08d}", None, f"S{n}", "Thorax",
                None, None, MODALITIES[n % 4], "1", 1, self.instances, 0, 1000, n,
            )  # fmt: skip

    def study_modalities(self) -> Iterator[tuple[Any, ...]]:
        for n in range(1, self.studies + 1):
            yield (1, MODALITIES[n % 4], self.day(n), n)

    def series(self) -> Iterator[tuple[Any, ...]]:
        for n in range(1, self.studies + 1):
            yield (
                n, 1, n, pack_uid(study_uid(n) + ".1"), bytes(24), 1, MODALITIES[n % 4], "Series", "CHEST", None, None, None,
                None, None, None, None, f"1:{self.instances}", self.instances, 0, 1000,
            )  # fmt: skip

    def instance_rows(self) -> Iterator[tuple[Any, ...]]:
        random, layout = Random(1), pack_layout(LAYOUT)
        for n in range(1, self.studies + 1):
            uid = study_uid(n)
            for place in range(1, self.instances + 1):
                secret = random.randbytes(88)
                yield (
                    (n - 1) * self.instances + place, 1, n, pack_uid(f"{uid}.1.{place}"), 0, 1, 0, 0, 0, place, 1, 2, None,
                    None, 512, 512, 16, None, n, 3, 4, 1, n, 1000, 1, 1000, secret[:16], secret[16:56], secret[56:88], layout,
                    None,
                )  # fmt: skip


TABLES: tuple[tuple[str, Callable[[Rows], Iterator[tuple[Any, ...]]]], ...] = (
    ("patients", Rows.patients),
    ("patient_identifiers", Rows.patient_identifiers),
    ("names", Rows.names),
    ("studies", Rows.study_rows),
    ("study_modalities", Rows.study_modalities),
    ("series", Rows.series),
    ("instances", Rows.instance_rows),
)


def load(database: Database, rows: Rows) -> float:
    """Fill an empty index; returns seconds. Indices of the filled tables are made afterwards."""
    started = time.perf_counter()
    filled = {name for name, _ in TABLES}
    indices = [i for i in schema.INDICES if i.table in filled and i.only in ("", database.dialect)]
    with database.write() as tx:
        put_tenant(tx, b"T" * 16, "default", Word(1, b"F" * 16))
        tx.run("INSERT INTO codes(id, tenant_id, kind, value) VALUES (1, 0, 1, '1.2.840.10008.5.1.4.1.1.2')")
        tx.run("INSERT INTO codes(id, tenant_id, kind, value) VALUES (2, 0, 2, '1.2.840.10008.1.2.1')")
        tx.run("INSERT INTO segments(uid, tier, state, indexed_end, bytes) VALUES (?, 'hot', 1, 0, 0)", (b"S" * 16,))
        tx.run("INSERT INTO scopes(tenant_id, kind, study, uid, position) VALUES (1, 0, ?, ?, 0)", (b"", b"s" * 16))
        for index in indices:
            tx.run(f"DROP INDEX {index.name}")
    for name, generate in TABLES:
        made = generate(rows)
        while chunk := list(islice(made, 100_000)):
            with database.write() as tx:
                _insert(tx, name, chunk)
    with database.write() as tx:
        for index in indices:
            tx.run(schema.create_index(index, database.dialect))
    database.checkpoint()
    return time.perf_counter() - started


def _insert(tx: Writer, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if tx.dialect == "postgresql":
        cursor = tx._connection.cursor()
        with cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    tx.run_many(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)


# ---------------------------------------------------------------- queries


def key(level: Level = Level.STUDY, **values: str) -> Query:
    tags = {
        "accession": 0x00080050, "patient": 0x00100020, "name": 0x00100010, "dates": 0x00080020, "modality": 0x00080061,
        "study": 0x0020000D, "series": 0x0020000E, "sop": 0x00080018, "sex": 0x00100040,
    }  # fmt: skip
    return Query(level, tuple(Match((tags[name],), (value,)) for name, value in values.items()))


QUERIES: dict[str, Callable[[int], Query]] = {
    "AccessionNumber": lambda n: key(accession=f"ACC{n:08d}"),
    "PatientID": lambda n: key(patient=f"PID{n:08d}"),
    "name prefix, 10 matches": lambda n: key(name=f"{family(n)}*"),
    "name, fuzzy": lambda n: Query(Level.STUDY, (Match((0x00100010,), (f"{family(n)}^Given{n}",)),), fuzzy=True),
    "84 days, limit 100": lambda n: key(dates="20120101-20120324"),
    "all studies, limit 100": lambda n: key(),
    "ModalitiesInStudy, limit 100": lambda n: key(modality="MR"),
    "modality and dates": lambda n: key(modality="CT", dates="20050101-20071231"),
    "PatientSex (no index), limit 100": lambda n: key(sex="F"),
    "continuation, limit 100": lambda n: key(),
    "series of a study": lambda n: key(Level.SERIES, study=study_uid(n)),
    "instances of a series": lambda n: key(Level.INSTANCE, study=study_uid(n), series=study_uid(n) + ".1"),
    "SOPInstanceUID": lambda n: key(Level.INSTANCE, sop=study_uid(n) + ".1.1"),
    "all instances, limit 100": lambda n: key(Level.INSTANCE),
    "patients, limit 100": lambda n: key(Level.PATIENT),
}


def measure(database: Database, studies: int) -> dict[str, tuple[float, float, int]]:
    """Query -> median ms, 95th percentile ms, rows."""
    random, found = Random(5), dict[str, tuple[float, float, int]]()
    for name, make in QUERIES.items():
        times: list[float] = []
        rows, cursor = 0, ""
        for turn in range(REPEATS + 3):
            query = make(random.randrange(1, studies + 1))
            if name.startswith("continuation"):
                query = Query(query.level, cursor=cursor)
            started = time.perf_counter()
            with database.read() as read:
                page = search(read, 1, query)
            if turn >= 3:
                times.append((time.perf_counter() - started) * 1000)
            rows, cursor = len(page.rows), page.cursor
        found[name] = (statistics.median(times), sorted(times)[int(len(times) * 0.95)], rows)
    times = []
    for _ in range(REPEATS):
        uid = study_uid(random.randrange(1, studies + 1))
        started = time.perf_counter()
        with database.read() as read:
            held = list(instances.locate(read, 1, uid, uid + ".1", uid + ".1.1"))
        times.append((time.perf_counter() - started) * 1000)
        assert len(held) == 1
    found["locate one instance"] = (statistics.median(times), sorted(times)[int(len(times) * 0.95)], 1)
    return found


def run(kind: str, studies: int, count: int, folder: Path) -> dict[str, tuple[float, float, int]]:
    with ExitStack() as stack:
        if kind == "postgresql":
            url = stack.enter_context(postgres.cluster()).fresh()
        else:
            url = f"sqlite:///{folder / f'{studies}.db'}"
        migrate(url)
        database = open_database(url)
        stack.callback(database.close)
        seconds = load(database, Rows(studies, count))
        print(f"{kind}: {studies:,} studies, {studies * count:,} instances loaded in {seconds:.0f} s", flush=True)
        return measure(database, studies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1_000_000)
    parser.add_argument("--instances", type=int, default=10, help="a study")
    parser.add_argument("--databases", default="sqlite,postgresql")
    parser.add_argument("--folder", type=Path, default=None, help="for the SQLite files; needs 3 KB a study")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        for kind in chosen.databases.split(","):
            small = run(kind, SMALL, chosen.instances, Path(folder))
            large = run(kind, chosen.studies, chosen.instances, Path(folder))
            print(f"\n{kind:34}  {SMALL:>9,} studies     {chosen.studies:>9,} studies   ratio  rows")
            for name in small:
                (a, a95, few), (b, b95, rows) = small[name], large[name]
                print(f"{name:34}  {a:7.3f} / {a95:7.3f}    {b:7.3f} / {b95:7.3f}   {b / a:5.2f}  {few} {rows}")
            print(flush=True)


if __name__ == "__main__":
    main()
