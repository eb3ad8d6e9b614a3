"""Attributes that a setting made searchable: at ingest, filled in behind for what was held, and again from the log."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from radiolith import app, config
from radiolith.index.dump import dump
from radiolith.jobs import filling
from radiolith.jobs.filling import LEASE, Filling
from radiolith.model import Level, Match, Query
from radiolith.storage.blobs import microseconds
from tests import postgres
from tests.archive.homes import opened, principal, store

SETTING = (
    "PatientAddress,00091001:ACME 1.1,KVP,ReferencedImageSequence.ReferencedSOPInstanceUID,RescaleSlope,OperatorsName"
)
ADDRESS, PRIVATE, KVP = (0x00101040,), (0x00091001,), (0x00180060,)
SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]


def an_object(number: int) -> bytes:
    """Each in another transfer syntax; the private block is reserved at another place each time."""
    syntax = SYNTAXES[number % len(SYNTAXES)]
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66", f"1.{number}.1.1"
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = (
        UID(data.SOPClassUID), UID(data.SOPInstanceUID),
    )  # fmt: skip
    data.StudyInstanceUID, data.SeriesInstanceUID = f"1.{number}", f"1.{number}.1"
    data.SpecificCharacterSet = "ISO_IR 100"
    data.PatientID, data.PatientName = f"P{number}", "Doe^Jane"
    data.PatientAddress = f"Kölner Straße {number}"
    data.OperatorsName = "Müller^Jörg"
    data.KVP, data.RescaleSlope = "120.0", "1.5e1"
    item = Dataset()
    item.ReferencedSOPInstanceUID = f"9.{number}"
    data.ReferencedImageSequence = Sequence([item])
    if number % 2:
        data.private_block(0x0009, "OTHER", create=True).add_new(1, "LO", f"not {number}")
    data.private_block(0x0009, "ACME 1.1", create=True).add_new(1, "LO", f"blue {number}")
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


async def find(graph: app.Graph, path: tuple[int, ...], value: str, creator: str = "") -> tuple[list[str], list[str]]:
    query = Query(Level.STUDY, (Match(path, (value,), creator),))
    page = await graph.archive.query.search(principal(graph), query)
    return sorted(str(row[0x0020000D][1]) for row in page.rows), list(page.warnings)


def job(graph: app.Graph, owner: str = "one") -> Filling:
    return Filling(graph.database, (graph.store, graph.keys), graph.also, microseconds, owner)


async def everything(graph: app.Graph) -> list[str]:
    def look() -> list[str]:
        with graph.database.snapshot() as read:
            return list(dump(read))

    return await asyncio.to_thread(look)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_was_held_is_filled_in_and_what_arrives_brings_its_own(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ: dict[str, str] = {}
    if kind == "postgresql":
        if reason := postgres.why_not():
            pytest.skip(reason)
        environ["RADIOLITH_DATABASE_URL"] = postgres.shared().fresh()
    monkeypatch.setattr(filling, "ROWS", 3)
    home = tmp_path / "home"

    async def before() -> None:
        async with opened(home, environ=environ) as graph:
            for number in range(7):
                await store(graph, an_object(number))
            assert not job(graph).step()
            found, warnings = await find(graph, ADDRESS, "Kölner Straße 3")
            assert len(found) == 7 and "not an indexed key" in warnings[0]

    async def with_setting() -> list[str]:
        async with opened(home, environ=environ | {"RADIOLITH_INDEX_ATTRIBUTES": SETTING}) as graph:
            await store(graph, an_object(7))
            assert await find(graph, ADDRESS, "Kölner*") == (
                ["1.7"],
                ["PatientAddress is being filled in: 0 % of what was held before can be found by it"],
            )
            work = job(graph)
            for _ in range(2):  # noted, then the first rows
                assert work.step()
            assert (await find(graph, ADDRESS, "Kölner*"))[0] == ["1.0", "1.1", "1.2", "1.7"]
            assert (await graph.condition.status())["filled_in"]["KVP"] == "37 %"
            while work.step():
                pass
            assert await find(graph, ADDRESS, "Kölner Straße 3") == (["1.3"], [])
            assert await find(graph, PRIVATE, "blue 5", "ACME 1.1") == (["1.5"], [])
            assert await find(graph, PRIVATE, "not 5", "ACME 1.1") == ([], [])
            assert len((await find(graph, KVP, "1.2e2"))[0]) == 8
            assert len((await find(graph, (0x00281053,), "15"))[0]) == 8
            assert len((await find(graph, (0x00081070,), "muller^J*"))[0]) == 8
            assert await find(graph, (0x00081140, 0x00081155), "9.2") == (["1.2"], [])
            page = await graph.archive.query.search(principal(graph), Query(Level.STUDY, (Match(ADDRESS, ("*ße 4",)),)))
            assert page.rows[0][ADDRESS[0]][1] == "Kölner Straße 4"
            return await everything(graph)

    asyncio.run(before())
    filled = asyncio.run(with_setting())
    for name, value in (environ | {"RADIOLITH_INDEX_ATTRIBUTES": SETTING}).items():
        monkeypatch.setenv(name, value)
    assert app.rebuild(home).damaged == []

    async def again() -> None:
        async with opened(home, environ=environ | {"RADIOLITH_INDEX_ATTRIBUTES": SETTING}) as graph:
            assert await everything(graph) == filled
            assert await find(graph, ADDRESS, "Kölner Straße 3") == (["1.3"], [])
            assert not job(graph).step()

    asyncio.run(again())


def test_a_setting_that_is_gone_takes_its_values_along_and_one_process_works_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "DROPPED", 2)

    async def work() -> None:
        async with opened(tmp_path / "home", environ={"RADIOLITH_INDEX_ATTRIBUTES": "KVP,PatientAddress"}) as graph:
            for number in range(5):
                await store(graph, an_object(number))
            assert job(graph).step()
            assert not job(graph, "two").step()  # the lease is the first one's
        async with opened(tmp_path / "home", environ={"RADIOLITH_INDEX_ATTRIBUTES": "PatientAddress"}) as graph:
            now = microseconds() + 2 * LEASE
            later = Filling(graph.database, (graph.store, graph.keys), graph.also, lambda: now, "two")
            while later.step():
                pass
            with graph.database.read() as read:
                assert read.one("SELECT COUNT(*) FROM extras") == (5,)
                assert read.all("SELECT attribute FROM extra_fills") == [("PatientAddress",)]

    asyncio.run(work())


def test_a_setting_that_names_nothing_stops_the_start_in_words(tmp_path: Path) -> None:
    asyncio.run(app.initialised(tmp_path / "home", {}))
    settings = config.load(tmp_path / "home", {"RADIOLITH_INDEX_ATTRIBUTES": "PatientAdress"})
    with pytest.raises(Exception, match="'PatientAdress' is no attribute"):
        app.build(settings, "w", app.no_decoders, None)  # type: ignore[arg-type]
