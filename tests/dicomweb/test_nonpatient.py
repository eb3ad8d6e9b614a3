"""The Non-Patient Instance service (PS3.18 chapter 12) over the real archive."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from radiolith.archive import nonpatient, prepare
from radiolith.dicomweb.routes import Edge
from radiolith.dicomweb.rows import NON_PATIENT
from radiolith.graph import Graph
from radiolith.index import facts
from radiolith.model import Fact
from tests.archive.homes import opened, principal
from tests.dicomweb.driver import Reply, ask
from tests.dicomweb.objects import STOW, ct, part10, stow_body

BASE = "http://pacs.example/dicom-web"
HANGING, PALETTE = "1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.39.1"


def protocol(sop: str = "1.9.1", name: str = "Chest", modality: str = "CR", **more: object) -> bytes:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = HANGING, sop
    ds.HangingProtocolName, ds.HangingProtocolLevel = name, "SITE"
    ds.HangingProtocolCreationDateTime = "20240517103000"
    ds.NumberOfPriorsReferenced = 1
    definition = Dataset()
    definition.Modality, definition.Laterality = modality, "R"
    ds.HangingProtocolDefinitionSequence = [definition]
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return part10(ds)


def palette(sop: str = "1.9.2") -> bytes:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = PALETTE, sop
    ds.ContentLabel, ds.ContentCreatorName = "HOT_IRON", "Müller^Jörg"
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ICCProfile = bytes(range(256)) * 8
    return part10(ds)


@dataclass
class Live:
    edge: Edge
    graph: Graph
    token: str

    async def get(self, target: str, accept: str = "*/*", **headers: str) -> Reply:
        target = target.removeprefix(BASE)
        return await ask(self.edge, "GET", target, token=self.token, headers={"accept": accept, **headers})

    async def store(self, target: str, *datas: bytes) -> Reply:
        return await ask(self.edge, "POST", target, token=self.token, headers=STOW, body=stow_body(list(datas)))


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async with opened(tmp_path / "home") as graph:
        token = await graph.accounts.add_token(principal(graph), "tests", "admin")
        yield Live(Edge(graph.archive, graph.identities, graph.settings.limits), graph, token)


def names(reply: Reply) -> list[str]:
    return [row["00720002"]["Value"][0] for row in reply.json]


def test_every_class_kept_without_a_study_has_a_category() -> None:
    assert frozenset().union(*NON_PATIENT.values()) == prepare.NON_PATIENT
    assert sum(map(len, NON_PATIENT.values())) == len(prepare.NON_PATIENT)


async def test_store_search_retrieve(live: Live) -> None:
    data = protocol()
    stored = await live.store("/hanging-protocols", data)
    assert stored.status == 200, stored.body
    (item,) = stored.json["00081199"]["Value"]
    url = item["00081190"]["Value"][0]
    assert url == BASE + "/hanging-protocols/1.9.1"

    (row,) = (await live.get("/hanging-protocols")).json
    assert row["00081190"]["Value"] == [url] and row["00080018"]["Value"] == ["1.9.1"]
    assert row["00720002"]["Value"] == ["Chest"] and row["00720014"]["Value"] == [1]
    assert "0072000C" not in row and "00081155" not in row

    plain = await live.get(url)
    assert plain.headers["content-type"] == "application/dicom+json" and len(plain.json) == 1
    assert plain.json[0]["0072000C"]["Value"][0]["00080060"]["Value"] == ["CR"]
    again = await live.get(url, **{"if-none-match": plain.headers["etag"]})
    assert again.status == 304
    xml = await live.get(url, 'multipart/related; type="application/dicom+xml"')
    assert b'keyword="HangingProtocolName"' in xml.parts[0][1]
    assert xml.parts[0][0]["content-location"] == url
    whole = await live.get(url, "application/dicom")
    assert whole.headers["content-type"].startswith("application/dicom;") and whole.body[:128] == bytes(128)
    assert whole.body.endswith(data[data.index(b"\x08\x00\x05\x00CS") :])
    assert pydicom.dcmread(io.BytesIO(whole.body)).HangingProtocolName == "Chest"
    parts = await live.get(url, 'multipart/related; type="application/dicom"')
    assert parts.parts[0][0]["content-location"] == url
    refused = await live.get(url, "image/jpeg")
    assert refused.status == 406 and "application/dicom+json" in refused.json["available"]
    assert (await live.get("/hanging-protocols", 'multipart/related; type="application/dicom+xml"')).parts


async def test_bulk_data_of_a_palette(live: Live) -> None:
    assert (await live.store("/studies", palette())).status == 200
    (found,) = (await live.get("/color-palettes/1.9.2")).json
    uri = found["00282000"]["BulkDataURI"]
    assert uri == BASE + "/color-palettes/1.9.2/bulkdata/00282000"
    value = await live.get(uri, range="bytes=254-257")
    assert value.status == 206 and value.body == b"\xfe\xff\x00\x01"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["Chest", "Knee", "Skull"]),
        ("HangingProtocolName=K*", ["Knee"]),
        ("00720002=Chest", ["Chest"]),
        ("HangingProtocolDefinitionSequence.Modality=CT", ["Skull"]),
        ("0072000C.00080060=CR&HangingProtocolName=*e*", ["Chest", "Knee"]),
        ("HangingProtocolCreationDateTime=20240101-20241231&limit=2", ["Chest", "Knee"]),
        ("offset=2", ["Skull"]),
        ("SOPInstanceUID=1.9.13,1.9.11,7", ["Chest", "Skull"]),
        ("SOPInstanceUID=1.9.2", []),
        ("HangingProtocolName=Hip", []),
        ("NumberOfPriorsReferenced=1&SOPClassUID=" + HANGING, ["Chest", "Knee", "Skull"]),
        ("SOPClassUID=" + PALETTE, []),
    ],
)
async def test_matching(live: Live, query: str, found: list[str]) -> None:
    kinds = (("1.9.11", "Chest", "CR"), ("1.9.12", "Knee", "CR"), ("1.9.13", "Skull", "CT"))
    await live.store("/studies", *(protocol(*kind) for kind in kinds), palette())
    reply = await live.get("/hanging-protocols?" + query)
    assert reply.status == (200 if found else 204)
    assert not found or names(reply) == found


async def test_what_is_asked_for_is_returned(live: Live) -> None:
    await live.store("/hanging-protocols", protocol())
    for query in ("includefield=HangingProtocolDefinitionSequence", "includefield=all", "0072000C.00080060=CR"):
        (row,) = (await live.get("/hanging-protocols?" + query)).json
        assert row["0072000C"]["Value"][0]["00080060"]["Value"] == ["CR"]


async def test_pages(live: Live) -> None:
    await live.store("/studies", *(protocol(f"1.9.{number}", f"P{number}") for number in range(5)))
    target, seen = "/hanging-protocols?limit=2&totalcount=true", list[str]()
    counted: list[str] = []
    while target:
        reply = await live.get(target)
        seen += names(reply)
        counted += [f"{name}={value}" for name, value in reply.headers.items() if name.startswith("x-total")]
        target = reply.headers.get("link", "").partition(">")[0].removeprefix("<")
    assert seen == [f"P{number}" for number in range(5)] and counted == ["x-total-count-at-least=3"]
    assert (await live.get("/hanging-protocols?totalcount=true")).headers["x-total-count"] == "5"


async def test_a_search_is_refused_rather_than_answered_in_part(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    await live.store("/studies", *(protocol(f"1.9.{number}", f"P{number}") for number in range(5)))
    monkeypatch.setattr(nonpatient, "BLOCK", 2)
    monkeypatch.setattr(nonpatient, "LOOKED_AT", 4)
    assert (await live.get("/hanging-protocols?HangingProtocolName=P4")).status == 413
    assert names(await live.get("/hanging-protocols?limit=3")) == ["P0", "P1", "P2"]
    assert names(await live.get("/hanging-protocols?SOPInstanceUID=1.9.4")) == ["P4"]
    monkeypatch.setattr(nonpatient, "LOOKED_AT", 5)
    assert names(await live.get("/hanging-protocols?HangingProtocolName=P4")) == ["P4"]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/hanging-protocols?NoSuchThing=1", 400),
        ("/hanging-protocols?cursor=x", 400),
        ("/hanging-protocols?cursor=99999999999999999999.1", 400),
        ("/hanging-protocols?limit=0", 400),
        ("/color-palettes/1.9.1", 404),
        ("/hanging-protocols/1.9.77", 404),
        ("/hanging-protocols/1.9.2/bulkdata/00282000", 404),
        ("/hanging-protocols/1.2.3.4", 404),
        ("/inventories", 204),
    ],
)
async def test_what_is_not_there(live: Live, target: str, status: int) -> None:
    await live.store("/studies", protocol(), palette(), ct())
    assert (await live.get(target)).status == status


async def test_a_category_takes_only_its_own(live: Live) -> None:
    mixed = await live.store("/hanging-protocols", protocol(), palette(), ct())
    assert mixed.status == 202 and len(mixed.json["00081199"]["Value"]) == 1
    failed = mixed.json["00081198"]["Value"]
    assert [item["00081155"]["Value"] for item in failed] == [["1.9.2"], ["1.2.3.4"]]
    assert all(item["00081197"]["Value"] == [0xA900] for item in failed)
    assert (await live.get("/color-palettes")).status == 204 and (await live.get("/studies")).status == 204
    assert (await live.store("/hanging-protocols/1.9.5", protocol())).status == 409
    assert (await live.store("/hanging-protocols/1.9.5", protocol("1.9.5"))).status == 200


async def test_they_are_in_no_study(live: Live) -> None:
    """DESIGN 4: a root of their own; no view of studies shows them, and what is rejected is not shown at all."""
    await live.store("/hanging-protocols", protocol(StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3"))
    for target in ("/studies", "/series", "/instances"):
        assert (await live.get(target)).status == 204
    assert (await live.get("/studies/1.2")).status == 404
    tenant = principal(live.graph).tenant
    with live.graph.database.write() as tx:
        body = {"reason": "113001", "items": [["", "", "1.9.1"]]}
        facts.apply(tx, Fact("reject", 1, "a", tenant.uid, body), b"r" * 16)
    assert (await live.get("/hanging-protocols")).status == 204
    assert (await live.get("/hanging-protocols/1.9.1")).status == 404


async def test_another_version_stays_beside(live: Live) -> None:
    await live.store("/hanging-protocols", protocol(name="First"))
    assert (await live.store("/hanging-protocols", protocol(name="Second"))).status == 202
    assert names(await live.get("/hanging-protocols")) == ["First"]


async def test_what_cannot_be_read_is_still_listed(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    await live.store("/hanging-protocols", protocol())
    monkeypatch.setattr(live.graph.archive.query, "_described", lambda held: ({}, 0))
    reply = await live.get("/hanging-protocols")
    (row,) = reply.json
    assert row["00080018"]["Value"] == ["1.9.1"] and "00720002" not in row
    assert "could not be read" in reply.headers["warning"]
    unmatched = await live.get("/hanging-protocols?HangingProtocolName=Chest")
    assert unmatched.status == 204 and "could not be read" in unmatched.headers["warning"]


async def test_long_sequences_are_bounded(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    await live.store("/studies", *(protocol(f"1.9.{number}") for number in range(3)))
    monkeypatch.setattr(nonpatient, "PAGE_BYTES", 900)
    assert (await live.get("/hanging-protocols")).status == 200
    assert (await live.get("/hanging-protocols?includefield=all")).status == 413
    assert (await live.get("/hanging-protocols?includefield=all&limit=1")).status == 200


async def test_roles_and_other_tenants(live: Live) -> None:
    await live.store("/hanging-protocols", protocol())
    reader = await live.graph.accounts.add_token(principal(live.graph), "viewer", "reader")
    reply = await ask(
        live.edge, "POST", "/hanging-protocols", token=reader, headers=STOW, body=stow_body([protocol("1.9.8")])
    )
    assert reply.status == 403
    assert (await ask(live.edge, "GET", "/hanging-protocols", token=reader)).status == 200
    assert (await ask(live.edge, "GET", "/hanging-protocols/1.9.1", token=None)).status == 401


async def test_capabilities_name_every_category(live: Live) -> None:
    listed = (await live.get("/capabilities")).json["resources"]
    for category in NON_PATIENT:
        methods = {item["method"] for item in listed if item["path"] == f"/{category}"}
        assert methods == {"GET", "POST"}
        (one,) = (item for item in listed if item["path"] == f"/{category}/{{instance}}" and item["method"] == "GET")
        assert "application/dicom+json" in one["accept"] and "application/zip" not in one["accept"]
