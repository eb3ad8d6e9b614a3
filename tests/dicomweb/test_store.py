"""Store: what is answered for what is sent, and that nothing of an unfinished part stays (PS3.18 10.5)."""

from __future__ import annotations

import asyncio
import io
import zipfile
from xml.etree import ElementTree

import pytest

from radiolith.dicomweb import call as call_module
from radiolith.dicomweb import reception, zipin
from radiolith.dicomweb.routes import Edge
from radiolith.model import Failure, NoSpace, Unavailable
from tests.dicomweb.driver import LEAVE, STALL, ask
from tests.dicomweb.fake import FakeArchive, FakeIdentities, FakeIntake
from tests.dicomweb.objects import STOW, ct, stow_body


def chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


async def test_three_objects(edge: Edge, archive: FakeArchive) -> None:
    datas = [ct(sop=f"1.2.3.{n}") for n in (1, 2, 3)]
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=chunks(stow_body(datas), 100))
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/dicom+json"
    assert reply.json["00081190"] == {"vr": "UR", "Value": ["http://pacs.example/dicom-web/studies/1.2"]}
    items = reply.json["00081199"]["Value"]
    assert [item["00081155"]["Value"] for item in items] == [["1.2.3.1"], ["1.2.3.2"], ["1.2.3.3"]]
    assert items[0]["00081150"]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]
    url = "http://pacs.example/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1"
    assert items[0]["00081190"]["Value"] == [url]
    assert "00081198" not in reply.json and "0008119A" not in reply.json
    assert [kept.data for kept in archive.kept.values()] == datas


async def test_the_answers_are_asked_for_once_however_many_objects(edge: Edge, archive: FakeArchive) -> None:
    """A push per object would make each a batch of its own."""
    datas = [ct(sop=f"1.2.3.{n}") for n in range(reception.OUTSTANDING_MAX + 5)]
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=stow_body(datas))
    assert reply.status == 200 and len(archive.kept) == len(datas)
    assert archive.pushes == 1


async def test_the_same_again_is_success_other_content_a_warning(edge: Edge) -> None:
    first, other = ct(), ct(PatientID="P2")
    await ask(edge, "POST", "/studies", headers=STOW, body=stow_body([first]))
    again = await ask(edge, "POST", "/studies", headers=STOW, body=stow_body([first]))
    assert again.status == 200
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=stow_body([other]))
    assert reply.status == 202
    (item,) = reply.json["00081199"]["Value"]
    assert item["00081196"] == {"vr": "US", "Value": [0xB001]}


async def test_what_is_no_dicom_goes_to_quarantine_and_is_named(edge: Edge, archive: FakeArchive) -> None:
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=stow_body([ct(), b"no DICOM at all" * 20]))
    assert reply.status == 202
    (item,) = reply.json["0008119A"]["Value"]
    assert item["00081197"]["Value"] == [0xC001]
    assert item["00000902"]["Value"][0].startswith("quarantine ")
    assert len(archive.quarantined) == 1 and len(archive.kept) == 1


async def test_another_study_is_refused_before_it_is_kept(edge: Edge, archive: FakeArchive) -> None:
    reply = await ask(edge, "POST", "/studies/1.2", headers=STOW, body=stow_body([ct(), ct(study="1.7", sop="1.7.1")]))
    assert reply.status == 202
    (item,) = reply.json["00081198"]["Value"]
    assert item["00081155"]["Value"] == ["1.7.1"] and item["00081197"]["Value"] == [0xA901]
    assert {identity.study for identity in archive.kept} == {"1.2"}
    assert archive.aborted == 1
    alone = await ask(edge, "POST", "/studies/1.2", headers=STOW, body=stow_body([ct(study="1.7")]))
    assert alone.status == 409


async def test_single_part(edge: Edge, archive: FakeArchive) -> None:
    reply = await ask(edge, "POST", "/studies", headers={"content-type": "application/dicom"}, body=chunks(ct(), 99))
    assert reply.status == 200 and len(archive.kept) == 1


async def test_answer_in_xml(edge: Edge) -> None:
    headers = {**STOW, "accept": "application/dicom+xml"}
    reply = await ask(edge, "POST", "/studies", headers=headers, body=stow_body([ct()]))
    assert reply.status == 200 and reply.headers["content-type"] == "application/dicom+xml"
    root = ElementTree.fromstring(reply.body)
    tags = [e.get("tag") for e in root]
    assert tags == ["00081190", "00081199"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "multipart/related; type=image/jpeg; boundary=b0"}, 415),
        ({"content-type": "multipart/form-data; boundary=b0"}, 415),
        ({"content-type": "multipart/related; type=application/dicom"}, 400),
        ({"content-type": 'multipart/related; type="application/dicom"; boundary="' + "x" * 80 + '"'}, 400),
        ({"content-type": "gibberish;;;==,"}, 415),
        ({**STOW, "content-encoding": "gzip"}, 415),
        ({**STOW, "accept": "image/png"}, 406),
    ],
)
async def test_requests_that_are_none(edge: Edge, archive: FakeArchive, headers: dict[str, str], status: int) -> None:
    reply = await ask(edge, "POST", "/studies", headers=headers, body=stow_body([ct()]))
    assert reply.status == status
    assert not archive.kept and archive.begun == archive.aborted


async def test_no_part_and_empty_parts(edge: Edge, archive: FakeArchive) -> None:
    assert (await ask(edge, "POST", "/studies", headers=STOW, body=b"--b0--")).status == 400
    assert (await ask(edge, "POST", "/studies", headers=STOW, body=b"")).status == 400
    assert (await ask(edge, "POST", "/studies", headers=STOW, body=stow_body([b""]))).status == 400
    assert archive.begun == archive.aborted == 1


async def test_a_body_that_breaks_off(edge: Edge, archive: FakeArchive) -> None:
    """What is complete counts and is named, in a 400; of the unfinished part nothing stays."""
    body = stow_body([ct(sop="1.2.3.1"), ct(sop="1.2.3.2")], end=False)
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=chunks(body[:-50], 64))
    assert reply.status == 400
    assert [item["00081155"]["Value"] for item in reply.json["00081199"]["Value"]] == [["1.2.3.1"]]
    assert reply.json["0008119A"]["Value"][0]["00081197"]["Value"] == [0xC000]
    assert [identity.sop for identity in archive.kept] == ["1.2.3.1"] and archive.aborted == 1
    first = await ask(edge, "POST", "/studies", headers=STOW, body=body[:400])
    assert first.status == 400 and first.headers["content-type"] == "application/problem+json"


async def test_the_client_leaves(edge: Edge, archive: FakeArchive) -> None:
    body = stow_body([ct(sop="1.2.3.1"), ct(sop="1.2.3.2")], end=False)
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=[body[:-50], LEAVE])
    assert reply.status == 0
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [identity.sop for identity in archive.kept] == ["1.2.3.1"] and archive.aborted == 1


async def test_a_body_that_stands_still(edge: Edge, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_module, "IDLE_SECONDS", 0.01)
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=[stow_body([ct()], end=False), STALL])
    assert reply.status == 408
    assert archive.aborted == 1 and not archive.kept


async def test_a_body_that_drips(archive: FakeArchive) -> None:
    """Thirty seconds pass between any two bytes."""
    ticks = iter(range(0, 10**6, 30))
    edge = Edge(archive, FakeIdentities(), clock=lambda: float(next(ticks)))  # type: ignore[arg-type]
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=chunks(stow_body([ct()]), 1))
    assert reply.status == 408 and archive.begun == archive.aborted


@pytest.mark.parametrize(
    ("failure", "status", "extra"),
    [(NoSpace("disk full"), 507, None), (Unavailable("the database is down", 7), 503, ("retry-after", "7"))],
)
async def test_when_nothing_can_be_kept(
    edge: Edge, archive: FakeArchive, failure: Failure, status: int, extra: tuple[str, str] | None
) -> None:
    archive.ingest_failure = failure
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=stow_body([ct()]))
    assert reply.status == status
    assert reply.json["0008119A"]["Value"][0]["00081197"]["Value"] == [0xA700]
    if extra:
        assert reply.headers[extra[0]] == extra[1]
    archive.ingest_failure = None
    archive.commit_failure = lambda data: failure if b"1.2.3.2" in data else None
    datas = [ct(sop="1.2.3.1"), ct(sop="1.2.3.2")]
    assert (await ask(edge, "POST", "/studies", headers=STOW, body=stow_body(datas))).status == 202
    assert [identity.sop for identity in archive.kept] == ["1.2.3.1"]


async def test_who_may_not_store(edge: Edge, archive: FakeArchive) -> None:
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=stow_body([ct()]), token="reader")
    assert reply.status == 403 and archive.begun == 0


async def test_an_object_past_the_limit(edge: Edge, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeIntake, "LIMIT", 1000)
    datas = [ct(), ct(PixelData=b"")]
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=chunks(stow_body(datas[:1]), 100))
    assert reply.status == 413
    reply = await ask(edge, "POST", "/studies", headers=STOW, body=chunks(stow_body(datas), 100))
    assert reply.status == 202 and len(archive.kept) == 1


async def test_the_next_part_is_received_while_the_last_is_not_yet_durable(edge: Edge, archive: FakeArchive) -> None:
    archive.settled = asyncio.Event()
    body = stow_body([ct(sop=f"1.2.3.{n}") for n in range(5)])
    waiting = asyncio.ensure_future(ask(edge, "POST", "/studies", headers=STOW, body=chunks(body, 300)))
    for _ in range(200):
        await asyncio.sleep(0)
    assert archive.begun == 5 and not archive.kept and not waiting.done()
    archive.settled.set()
    assert (await waiting).status == 200


async def test_outstanding_parts_are_bounded(edge: Edge, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "OUTSTANDING_MAX", 2)
    archive.settled = asyncio.Event()
    body = stow_body([ct(sop=f"1.2.3.{n}") for n in range(5)])
    waiting = asyncio.ensure_future(ask(edge, "POST", "/studies", headers=STOW, body=body))
    for _ in range(200):
        await asyncio.sleep(0)
    assert archive.begun == 2
    archive.settled.set()
    assert (await waiting).status == 200 and len(archive.kept) == 5


# ---------------------------------------------------------------- ZIP


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, streamed: bool = False) -> bytes:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

        def seek(self, *a: int) -> int:
            raise OSError

    out = Unseekable() if streamed else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


ZIP = {"content-type": "application/zip"}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
async def test_a_zip_file(edge: Edge, archive: FakeArchive, streamed: bool, size: int) -> None:
    members = {f"a/{n}.dcm": ct(sop=f"1.2.3.{n}") for n in range(3)}
    body = zip_of({"a/": b"", "DICOMDIR": b"x" * 500, **members, "__MACOSX/a": b"y"}, streamed=streamed)
    reply = await ask(edge, "POST", "/studies", headers=ZIP, body=chunks(body, size))
    assert reply.status == 200, reply.body
    assert [kept.data for kept in archive.kept.values()] == list(members.values())
    assert archive.begun == 3


async def test_stored_members(edge: Edge, archive: FakeArchive) -> None:
    body = zip_of({"1": ct()}, zipfile.ZIP_STORED)
    assert (await ask(edge, "POST", "/studies", headers=ZIP, body=chunks(body, 77))).status == 200


async def test_zip_bombs_and_damage(edge: Edge, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipin, "FREE_BYTES", 100_000)
    bomb = zip_of({"zeros": bytes(3_000_000)})
    assert (await ask(edge, "POST", "/studies", headers=ZIP, body=bomb)).status == 413
    monkeypatch.setattr(zipin, "TOTAL_FREE_BYTES", 100_000)
    many = zip_of({f"{n}": bytes(90_000) for n in range(50)})
    assert (await ask(edge, "POST", "/studies", headers=ZIP, body=many)).status in (413, 400)
    good = zip_of({"1": ct()})
    for place in range(0, len(good), 3):
        damaged = good[:place] + bytes([good[place] ^ 0x41]) + good[place + 1 :]
        reply = await ask(edge, "POST", "/studies", headers=ZIP, body=damaged)
        assert reply.status in (200, 202, 400, 413), place
    for place in range(0, len(good) - 200, 7):
        reply = await ask(edge, "POST", "/studies", headers=ZIP, body=good[:place])
        assert reply.status == 400, place
