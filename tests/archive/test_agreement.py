"""`check` compares rows with records: what is missing on either side is told, with UIDs; nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from radiolith import app
from radiolith.archive.verify import PROBLEMS, CheckReport, Verify
from tests import postgres
from tests.archive.homes import opened, principal, store
from tests.archive.objects import numbered

OBJECTS = 6


@pytest.fixture(params=["sqlite", "postgresql"])
async def graph(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[app.Graph]:
    environ: dict[str, str] = {}
    if request.param == "postgresql":
        if reason := postgres.why_not():
            pytest.skip(reason)
        environ["RADIOLITH_DATABASE_URL"] = postgres.shared().fresh()
    async with opened(tmp_path / "home", environ=environ) as graph:
        yield graph


async def filled(graph: app.Graph) -> list[tuple[str, str, str, bytes]]:
    """Objects, a re-sent one, a version, a quarantined one, a rejection."""
    made = [numbered(90, number, large=0) for number in range(OBJECTS)]
    for one in made:
        await store(graph, one[3])
    await store(graph, made[0][3])
    await store(graph, made[1][3].replace(b"Thorax", b"Kopf  "))
    await store(graph, b"no DICOM at all")
    await graph.archive.remove.reject(principal(graph), *made[2][:3], reason="113001")
    return made


def check(graph: app.Graph) -> CheckReport:
    return Verify(graph.store, graph.keyring, graph.keys, graph.database).run()


def change(graph: app.Graph, sql: str, *values: object) -> None:
    with graph.database.write() as tx:
        assert tx.run(sql, values) == 1


def row_of(graph: app.Graph, number: int) -> int:
    with graph.database.read() as read:
        rows = read.all("SELECT id FROM instances WHERE version = 0 ORDER BY id")
    return int(rows[number][0])


async def test_a_healthy_archive_agrees(graph: app.Graph) -> None:
    await filled(graph)
    report = check(graph)
    assert report.problems == []
    assert report.rows == OBJECTS + 2
    assert report.newer == 0
    assert report.records >= report.rows + 2, "facts are records too"
    graph.store.seal()
    assert check(graph).problems == []


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_lost_row_is_found(graph: app.Graph, sealed: bool) -> None:
    made = await filled(graph)
    if sealed:
        graph.store.seal()
    change(graph, "DELETE FROM instances WHERE id = ?", row_of(graph, 3))
    (problem,) = check(graph).problems
    assert all(uid in problem for uid in made[3][:3]) and "no row" in problem and "--rebuild" in problem
    change(graph, "DELETE FROM quarantine WHERE size > ?", 0)
    problems = check(graph).problems
    assert len(problems) == 2 and any("quarantined object" in one for one in problems)
    change(graph, "DELETE FROM facts WHERE kind = ?", "reject")
    problems = check(graph).problems
    assert len(problems) == 3 and any(one.startswith("fact ") for one in problems)


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    ("column", "by", "words"),
    [
        ("place_start", 4096, "not there"),
        ("place_start", 1, "not there"),
        ("place_length", 1, "not there"),
        ("size", 1, "size"),
    ],
)
async def test_an_altered_row_is_found(graph: app.Graph, sealed: bool, column: str, by: int, words: str) -> None:
    made = await filled(graph)
    if sealed:
        graph.store.seal()
    change(graph, f"UPDATE instances SET {column} = {column} + ? WHERE id = ?", by, row_of(graph, 4))
    (problem,) = check(graph).problems
    assert all(uid in problem for uid in made[4][:3]) and words in problem and "--rebuild" in problem


async def test_another_hash_and_another_place_are_found(graph: app.Graph) -> None:
    made = await filled(graph)
    change(graph, "UPDATE instances SET sha256 = ? WHERE id = ?", bytes(32), row_of(graph, 0))
    (problem,) = check(graph).problems
    assert made[0][2] in problem and "SHA-256" in problem
    with graph.database.read() as read:
        other = read.one("SELECT place_start FROM instances WHERE id = ?", (row_of(graph, 5),))
    assert other
    change(graph, "UPDATE instances SET place_start = ? WHERE id = ?", other[0], row_of(graph, 1))
    problems = check(graph).problems
    assert len(problems) == 2 and any(made[1][2] in one and "not there" in one for one in problems)


async def test_a_lost_segment_is_found(graph: app.Graph) -> None:
    made = await filled(graph)
    graph.store.seal()
    late = numbered(91, 1, large=0)
    await store(graph, late[3])
    with graph.database.read() as read:
        row = read.one(
            "SELECT s.uid FROM instances i JOIN segments s ON s.id = i.segment_id WHERE i.id = ?", (row_of(graph, 0),)
        )
    assert row
    name = bytes(row[0]).hex()
    (path,) = (Path(graph.settings.home) / "tier").rglob(f"{name}.seg")
    path.unlink()
    graph.store.backend._handles.clear()  # type: ignore[attr-defined]  # as another process sees it
    report = check(graph)
    assert f"segment {name}, which committed rows name, is missing" in report.problems
    told = [one for one in report.problems if "put the segment back" in one]
    assert len(told) == OBJECTS + 2, report.problems
    assert all(any(made[number][2] in one and made[number][0] in one for one in told) for number in range(OBJECTS))
    assert not any(late[2] in one for one in report.problems)


async def test_what_is_not_committed_yet_is_no_error(graph: app.Graph) -> None:
    """A record is durable before its row is: `check` comes in between."""
    await filled(graph)
    with graph.database.write() as tx:
        tx.run("UPDATE segments SET indexed_end = 0")
        gone = tx.run("DELETE FROM instances WHERE id = ?", (row_of(graph, 5),))
    assert gone == 1
    report = check(graph)
    assert report.problems == [] and report.newer == 1


async def test_a_row_that_moves_meanwhile_is_looked_up_again(graph: app.Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a merge: the page was read, then the rows switched and the old segment went."""
    from radiolith.archive import agreement
    from radiolith.index import places
    from radiolith.storage import compact

    await filled(graph)
    graph.store.seal()
    with graph.database.read() as read:
        old = [row for table in places.TABLES for row in places.rows_after(read, table, 0, 100)]
    groups = [info.id for info in graph.store.segments()]
    records = [record.place for segment in groups for record in graph.store.records(segment)]
    moved = dict(zip(records, compact.merge(graph.store, records, graph.store.backend), strict=True))
    with graph.database.write() as tx:
        for row in old:
            assert places.move(tx, row.table, [places.Move(row.row, row.place, moved[row.place])]) == 1
        for segment in groups:
            places.drop_segment(tx, segment, 1)
    for segment in groups:
        assert graph.store.backend.delete(segment, 0)
    with monkeypatch.context() as patched:

        def stale(_read: object, table: str, after: int, _limit: int) -> list[places.Named]:
            return [row for row in old if row.table == table and row.row > after]

        patched.setattr(agreement.places, "rows_after", stale)
        assert check(graph).problems == []
    assert check(graph).problems == []


async def test_beside_a_server_that_stores(graph: app.Graph) -> None:
    """Checks run one after the other while objects arrive; none of them reports anything."""
    stop = asyncio.Event()
    stored = 0

    async def load() -> None:
        nonlocal stored
        while not stop.is_set():
            await asyncio.gather(*(store(graph, numbered(92, stored + n, large=0)[3]) for n in range(8)))
            stored += 8
            if stored % 64 == 0:
                graph.store.seal()

    task = asyncio.create_task(load())
    seen = 0
    while seen < 4 or stored < 100:
        report = await asyncio.to_thread(check, graph)
        assert report.problems == [], report
        seen += 1
    stop.set()
    await task
    assert check(graph).rows == stored
    print(f"{seen} checks while {stored} objects were stored")


def test_the_report_stays_small() -> None:
    report = CheckReport()
    for number in range(PROBLEMS + 5):
        report.add(str(number))
    assert len(report.problems) == PROBLEMS and report.unlisted == 5


async def test_footers_are_let_go_of(graph: app.Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """More segments than are remembered at a time: read again, not kept."""
    from radiolith.archive import agreement

    monkeypatch.setattr(agreement, "FOOTERS", 2)
    for number in range(5):
        await store(graph, numbered(93, number, large=0)[3])
        graph.store.seal()
    assert check(graph).problems == []
