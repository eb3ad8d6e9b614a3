"""The edge over the real archive: in process by ASGI messages, and over a socket by dicomweb-client."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pydicom
import pydicom.data
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import ImplicitVRLittleEndian
from requests import Session

from radiolith.archive.commitment import Commitment
from radiolith.codecs.sandbox import Decoders
from radiolith.dicomweb.routes import Edge
from tests import campaign
from tests.archive.homes import opened, principal
from tests.dicomweb.driver import LEAVE, Reply, ask
from tests.dicomweb.mutations import mutated
from tests.dicomweb.objects import STOW, ct, dataset, multipart, part10, stow_body
from tests.dicomweb.served import Served, served

LE = "1.2.840.10008.1.2.1"
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"


@dataclass
class Live:
    edge: Edge
    token: str
    reader: str
    commitment: Commitment

    async def __call__(self, method: str, target: str, **more: object) -> Reply:
        return await ask(self.edge, method, target, token=str(more.pop("token", self.token)), **more)  # type: ignore[arg-type]

    async def store(self, *datas: bytes, target: str = "/studies") -> Reply:
        body = stow_body(list(datas))
        pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)]
        return await self("POST", target, headers=STOW, body=pieces)


@pytest.fixture
async def live(tmp_path: Path, decoders: Decoders) -> AsyncIterator[Live]:
    async with opened(tmp_path / "home", decoders) as graph:
        who = principal(graph)
        token = await graph.accounts.add_token(who, "tests", "admin")
        reader = await graph.accounts.add_token(who, "viewer", "reader")
        yield Live(
            Edge(graph.archive, graph.identities, graph.settings.limits), token, reader, graph.archive.commitment
        )


async def test_store_find_retrieve(live: Live) -> None:
    datas = [ct(sop=f"1.2.3.{n}", InstanceNumber=n) for n in (3, 1, 2)]
    reply = await live.store(*datas)
    assert reply.status == 200, reply.body
    studies = await live("GET", "/studies?PatientName=mueller*&includefield=PatientID")
    assert studies.json[0]["0020000D"]["Value"] == ["1.2"]
    assert studies.json[0]["00201208"]["Value"] == [3]
    instances = await live("GET", "/studies/1.2/series/1.2.3/instances")
    assert [item["00200013"]["Value"] for item in instances.json] == [[1], [2], [3]]
    assert instances.json[0]["00081190"]["Value"][0].endswith("/instances/1.2.3.1")
    assert (await live("GET", "/studies?PatientID=nobody")).status == 204
    series = await live("GET", "/studies/1.2/series/1.2.3")
    for number, (_, data) in enumerate(series.parts, 1):
        original = datas[[3, 1, 2].index(number)]
        assert data[:128] == bytes(128)
        assert data.endswith(original[original.index(b"\x08\x00\x05\x00CS") :])
    frame = await live("GET", "/studies/1.2/series/1.2.3/instances/1.2.3.1/frames/1")
    assert frame.parts[0][1] == bytes(range(256)) * 2
    meta = await live("GET", "/studies/1.2/metadata")
    uri = meta.json[0]["7FE00010"]["BulkDataURI"]
    assert uri.startswith("http://pacs.example/dicom-web/studies/1.2/")
    bulk = await live("GET", uri.removeprefix("http://pacs.example/dicom-web"), headers={"range": "bytes=10-19"})
    assert bulk.status == 206 and bulk.body == bytes(range(10, 20))


async def test_the_store_response_names_versions_and_quarantine(live: Live) -> None:
    assert (await live.store(ct())).status == 200
    assert (await live.store(ct())).status == 200
    version = await live.store(ct(PatientID="other"))
    assert version.status == 202 and version.json["00081199"]["Value"][0]["00081196"]["Value"] == [0xB001]
    quarantined = await live.store(b"this is no DICOM object" * 30)
    assert quarantined.status == 202
    (item,) = quarantined.json["0008119A"]["Value"]
    assert item["00081197"]["Value"] == [0xC001]
    mismatch = await live.store(ct(study="1.77", sop="1.77.1"), target="/studies/1.2")
    assert mismatch.status == 409
    assert (await live("GET", "/studies/1.77")).status == 404


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("uid", ["..", "1/2", "1.2 3", "<script>", "_1.2", "1'--", "1%2F2"])
async def test_an_object_is_found_where_the_archive_says(live: Live, uid: str) -> None:
    """Whatever its UIDs look like: nothing is refused for that, so nothing may be lost by it."""
    reply = await live.store(ct(study=uid, series=uid, sop=uid))
    assert reply.status == 200, reply.body
    (kept,) = reply.json["00081199"]["Value"]
    (listed,) = (await live("GET", "/studies")).json
    for url in (kept["00081190"]["Value"][0], listed["00081190"]["Value"][0]):
        target = url.removeprefix("http://pacs.example/dicom-web")
        found = await live("GET", target + "/metadata")
        assert found.status == 200 and found.json[0]["00080018"]["Value"] == [uid]
        bulk = found.json[0]["7FE00010"]["BulkDataURI"].removeprefix("http://pacs.example/dicom-web")
        assert (await live("GET", bulk)).status == 200
        assert (await live("GET", target + "/instances")).status in (200, 404)
        assert (await live("GET", target, headers={"accept": "application/zip"})).status == 200


async def test_implicit_is_sent_explicit_unless_asked_for(live: Live) -> None:
    implicit = part10(dataset(), ImplicitVRLittleEndian)
    assert (await live.store(implicit)).status == 200
    target = "/studies/1.2/series/1.2.3/instances/1.2.3.4"
    explicit = await live("GET", target, headers={"accept": "application/dicom"})
    assert explicit.headers["content-type"].endswith(LE)
    ds = pydicom.dcmread(io.BytesIO(explicit.body))
    assert ds.file_meta.TransferSyntaxUID == LE and ds == pydicom.dcmread(io.BytesIO(implicit))
    stored = await live("GET", target, headers={"accept": "application/dicom; transfer-syntax=*"})
    assert stored.headers["content-type"].endswith(ImplicitVRLittleEndian)
    assert implicit.endswith(stored.body[-500:])


async def test_reject_and_restore(live: Live) -> None:
    await live.store(ct(sop="1.2.3.1"), ct(sop="1.2.3.2"))
    gone = await live("DELETE", "/studies/1.2/series/1.2.3/instances/1.2.3.1?reason=113037")
    assert gone.status == 200 and gone.json == {"rejected": 1, "reason": "113037"}
    assert (await live("GET", "/studies/1.2/series/1.2.3/instances/1.2.3.1/metadata")).status == 404
    assert len((await live("GET", "/studies/1.2/instances")).json) == 1
    rejected = await live("GET", "/rejected/instances")
    assert [item["00080018"]["Value"][0] for item in rejected.json] == ["1.2.3.1"]
    assert (await live("DELETE", "/studies/1.2", token=live.reader)).status == 403
    back = await live("POST", "/studies/1.2/restore")
    assert back.json == {"restored": 1}
    assert len((await live("GET", "/studies/1.2/instances")).json) == 2


async def test_commitment(live: Live) -> None:
    await live.store(ct())
    ds = dataset()
    items = [(ds.SOPClassUID, "1.2.3.4"), (ds.SOPClassUID, "9.9.9")]
    body = {"00081199": {"vr": "SQ", "Value": [
        {"00081150": {"vr": "UI", "Value": [c]}, "00081155": {"vr": "UI", "Value": [i]}} for c, i in items]}}  # fmt: skip
    headers = {"content-type": "application/dicom+json"}
    reply = await live("POST", "/commitment-requests/1.5.1", headers=headers, body=orjson.dumps(body))
    assert reply.status in (200, 202)
    await live.commitment.idle()
    reply = await live("GET", "/commitment-requests/1.5.1")
    assert reply.status == 200
    assert [i["00081155"]["Value"] for i in reply.json["00081199"]["Value"]] == [["1.2.3.4"]]
    assert reply.json["00081198"]["Value"][0]["00081197"]["Value"] == [0x0112]


async def test_metadata_and_bulk_data_give_the_object_back(live: Live) -> None:
    ds = dataset()
    pixels = ds.PixelData
    del ds.PixelData
    document = ds.to_json_dict()
    document["7FE00010"] = {"vr": "OW", "BulkDataURI": "p"}
    parts = [
        ({"Content-Type": "application/dicom+json"}, orjson.dumps([document])),
        ({"Content-Type": "application/octet-stream", "Content-Location": "p"}, pixels),
    ]
    headers = {"content-type": 'multipart/related; type="application/dicom+json"; boundary=b0'}
    reply = await live("POST", "/studies", headers=headers, body=multipart(parts))
    assert reply.status == 200, reply.body
    target = "/studies/1.2/series/1.2.3/instances/1.2.3.4"
    back = pydicom.dcmread(io.BytesIO((await live("GET", target, headers={"accept": "application/dicom"})).body))
    assert back.PixelData == pixels and back.PatientName == "Müller^Jörg"


async def test_metadata_of_too_many_instances(live: Live) -> None:
    """Three bytes are an instance here; a small body must not keep the archive busy for minutes."""
    body = multipart([({"Content-Type": "application/dicom+json"}, b"[" + b",".join([b"{}"] * 10_001) + b"]")])
    headers = {"content-type": 'multipart/related; type="application/dicom+json"; boundary=b0'}
    reply = await live("POST", "/studies", headers=headers, body=body)
    assert reply.status == 413 and "10000 instances" in reply.json["detail"]


async def test_pictures(live: Live) -> None:
    await live.store(ct())
    target = "/studies/1.2/series/1.2.3/instances/1.2.3.4"
    picture = await live("GET", target + "/rendered?window=128,256,linear", headers={"accept": "image/png"})
    assert picture.status == 200 and picture.body.startswith(b"\x89PNG")
    assert (await live("GET", target + "/thumbnail")).body.startswith(b"\xff\xd8")
    old = await live("GET", "/wado?requestType=WADO&studyUID=1.2&seriesUID=1.2.3&objectUID=1.2.3.4")
    assert old.status == 200 and old.headers["content-type"] == "image/jpeg"
    again = await live("GET", target + "/rendered", headers={"if-none-match": "*"})
    assert again.status == 304


async def test_compressed_frames(live: Live) -> None:
    """As stored: the very fragments. Decoded: what pydicom decodes."""
    path = TEST_FILES / "JPEG2000.dcm"
    data = path.read_bytes()
    ds = pydicom.dcmread(path)
    assert (await live.store(data)).status == 200
    target = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    stored = await live(
        "GET", target + "/frames/1", headers={"accept": 'multipart/related; type="image/*"; transfer-syntax=*'}
    )
    assert stored.parts[0][0]["content-type"].startswith("image/jp2") and stored.parts[0][1] in data
    raw = await live("GET", target + "/frames/1", headers={"accept": "application/octet-stream"})
    assert raw.status == 200, raw.body
    assert np.array_equal(np.frombuffer(raw.body, ds.pixel_array.dtype), ds.pixel_array.ravel())


async def test_a_large_multiframe_object(live: Live) -> None:
    """Past what is held in one buffer: received, kept and cut into frames all the same."""
    size = 512 * 512 * 2
    frames = [bytes([n]) * size for n in range(40)]
    big = ct(Rows=512, Columns=512, NumberOfFrames=len(frames), PixelData=b"".join(frames))
    assert (await live.store(big, ct(sop="1.2.3.5"))).status == 200
    target = "/studies/1.2/series/1.2.3/instances/1.2.3.4"
    reply = await live("GET", target + "/frames/40,1,17")
    assert [data for _, data in reply.parts] == [frames[39], frames[0], frames[16]]
    assert (await live("GET", target + "/frames/41")).status == 404
    part = await live("GET", target + "/bulkdata/7FE00010", headers={"range": f"bytes={size - 1}-{size}"})
    assert part.status == 206 and part.body == b"\x00\x01"
    whole = await live("GET", target, headers={"accept": "application/dicom"})
    assert len(whole.body) == int(whole.headers["content-length"]) and whole.body[-1] == 39


async def test_hostile_bodies_against_the_archive(live: Live) -> None:
    """Clear answers only, and the next good request works."""
    rng = random.Random(3)
    good = stow_body([ct(sop=f"1.2.3.{n}") for n in range(3)])
    for _ in range(campaign.count("hostile multipart bodies, real archive", 150, 20_000)):
        reply = await live("POST", "/studies", headers=STOW, body=mutated(rng, good))
        assert reply.status in (200, 202, 400, 409, 413, 415), reply.body
    assert (await live.store(ct(sop="1.2.3.99"))).status == 200


async def test_a_client_that_leaves_in_the_middle(live: Live) -> None:
    body = stow_body([ct(sop="1.2.3.1"), ct(sop="1.2.3.2")], end=False)
    assert (await live("POST", "/studies", headers=STOW, body=[body[:-100], LEAVE])).status == 0
    for _ in range(200):
        found = await live("GET", "/studies/1.2/instances")
        if found.status == 200:
            break
    assert [item["00080018"]["Value"] for item in found.json] == [["1.2.3.1"]]
    assert (await live.store(ct(sop="1.2.3.2"))).status == 200


# ---------------------------------------------------------------- an independent client over a socket


@pytest.fixture(scope="module")
def archive_url(tmp_path_factory: pytest.TempPathFactory, decoders: Decoders) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served") / "home", decoders) as found:
        yield found


@pytest.fixture(scope="module")
def client(archive_url: Served) -> Iterator[DICOMwebClient]:
    with Session() as session:
        session.headers["Authorization"] = f"Bearer {archive_url.token}"
        session.trust_env = False
        client = DICOMwebClient(archive_url.url, session=session)
        client.store_instances([_sent(n) for n in range(1, 6)])
        yield client


def _sent(n: int) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(ct(sop=f"1.2.3.{n}", InstanceNumber=n)))


def test_client_searches(client: DICOMwebClient) -> None:
    (study,) = client.search_for_studies(search_filters={"PatientID": "P1"}, fields=["StudyDescription"])
    assert study["0020000D"]["Value"] == ["1.2"]
    assert len(client.search_for_series("1.2")) == 1
    assert len(client.search_for_instances("1.2", "1.2.3")) == 5
    assert len(client.search_for_instances(limit=2, offset=1)) == 2
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    assert len(client.search_for_instances(get_remaining=True, limit=2)) == 5


def test_client_retrieves(client: DICOMwebClient) -> None:
    assert [ds.InstanceNumber for ds in client.retrieve_series("1.2", "1.2.3")] == [1, 2, 3, 4, 5]
    assert len(client.retrieve_study("1.2")) == 5
    ds = client.retrieve_instance("1.2", "1.2.3", "1.2.3.2")
    assert ds.SOPInstanceUID == "1.2.3.2" and ds.PixelData == bytes(range(256)) * 2
    assert ds.file_meta.TransferSyntaxUID == LE
    assert len(client.retrieve_study_metadata("1.2")) == 5
    (metadata,) = [client.retrieve_instance_metadata("1.2", "1.2.3", "1.2.3.2")]
    assert pydicom.Dataset.from_json(metadata, lambda *_: b"").PatientName == "Müller^Jörg"
    (frame,) = client.retrieve_instance_frames("1.2", "1.2.3", "1.2.3.2", [1])
    assert frame == bytes(range(256)) * 2
    (bulk,) = client.retrieve_bulkdata(metadata["7FE00010"]["BulkDataURI"])
    assert bulk == bytes(range(256)) * 2
    picture = client.retrieve_instance_rendered("1.2", "1.2.3", "1.2.3.2", media_types=("image/png",))
    assert picture.startswith(b"\x89PNG")


def test_client_deletes(client: DICOMwebClient) -> None:
    client.delete_instance("1.2", "1.2.3", "1.2.3.5")
    assert len(client.search_for_instances("1.2", "1.2.3")) == 4


def test_a_real_server_streams_and_cuts(archive_url: Served, client: DICOMwebClient) -> None:
    with Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {archive_url.token}"
        archive = session.get(archive_url.url + "/studies/1.2", headers={"Accept": "application/zip"})
        with zipfile.ZipFile(io.BytesIO(archive.content)) as file:
            assert file.testzip() is None and len(file.namelist()) >= 4
        head = session.head(archive_url.url + "/studies/1.2/series/1.2.3/instances/1.2.3.1/frames/1")
        assert head.status_code == 200 and not head.content
        chunked = session.post(archive_url.url + "/studies", headers=STOW, data=iter([stow_body([ct(sop="1.2.3.77")])]))
        assert chunked.status_code == 200
        broken = session.post(
            archive_url.url + "/studies", headers=STOW, data=stow_body([ct(sop="1.2.3.78")], end=False)
        )
        assert broken.status_code == 400
        reader = {"Authorization": f"Bearer {archive_url.reader}"}
        assert session.delete(archive_url.url + "/studies/1.2", headers=reader).status_code == 403
        assert session.get(archive_url.url + "/studies", headers={"Authorization": "Bearer x"}).status_code == 401
