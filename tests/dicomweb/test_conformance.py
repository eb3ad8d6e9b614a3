"""What PS3.18 lists, item by item, by real requests against a served archive (the table in docs/dicomweb.md)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pydicom
import pydicom.data
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from requests import Response, Session

from radiolith.codecs.sandbox import Decoders
from tests.dicomweb.objects import STOW, ct, stow_body
from tests.dicomweb.served import Served, served

FILES = Path(pydicom.data.__file__).parent / "test_files"
SERIES = "/studies/1.2/series/1.2.3"
INSTANCE = SERIES + "/instances/1.2.3.1"
WADO = "/wado?requestType=WADO&studyUID=1.2&seriesUID=1.2.3&objectUID=1.2.3.1"
DICOM, JSON = "application/dicom", "application/dicom+json"
JP2, HTJ2K, NONE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.201", "1.2.3.4"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, decoders: Decoders) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("conformance") / "home", decoders) as running:
        study = {
            "StudyDate": "20240101",
            "StudyTime": "101500",
            "AccessionNumber": "A1",
            "StudyID": "S1",
            "SeriesNumber": 1,
        }
        datas = [ct(sop=f"1.2.3.{n}", **{**study, "InstanceNumber": n}) for n in (1, 2, 3)]
        others = [(FILES / name).read_bytes() for name in ("JPEG2000.dcm", "test-SR.dcm")]
        with session(running) as client:
            stored = client.post(running.url + "/studies", stow_body([*datas, *others]), headers=STOW)
            assert stored.status_code == 200, stored.text
        yield running


def session(running: Served) -> Session:
    client = Session()
    client.headers["Authorization"] = "Bearer " + running.token
    return client


@pytest.fixture(scope="module")
def client(archive: Served) -> Iterator[Session]:
    with session(archive) as opened:
        yield opened


def get(client: Session, archive: Served, target: str, method: str = "GET", **headers: str) -> Response:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request(method, archive.url + target, headers=lines)


def media(reply: Response) -> str:
    return reply.headers.get("content-type", "").partition(";")[0]


# ---------------------------------------------------------------- common


@pytest.mark.parametrize(
    ("target", "accept", "status", "kind"),
    [
        (INSTANCE, DICOM, 200, DICOM),
        (INSTANCE, "*/*", 200, "multipart/related"),
        (INSTANCE + "?accept=application/dicom", "text/html", 200, DICOM),
        (INSTANCE, "application/dicom;q=0.1, multipart/related;type=application/dicom;q=0.9", 200, "multipart/related"),
        (INSTANCE, f"application/dicom;transfer-syntax={JP2}", 200, DICOM),
        (INSTANCE, f"application/dicom;transfer-syntax={HTJ2K}", 200, DICOM),
        (INSTANCE, "application/dicom;transfer-syntax=*", 200, DICOM),
        (INSTANCE, f"application/dicom;transfer-syntax={NONE}", 406, ""),
        (INSTANCE, "text/html", 406, ""),
        (INSTANCE, "application/zip", 200, "application/zip"),
        (INSTANCE + "/archive", "*/*", 200, "application/zip"),
        (SERIES, DICOM, 406, ""),
        (INSTANCE + "/metadata", "*/*", 200, JSON),
        (INSTANCE + "/metadata", "application/json", 200, "application/json"),
        (INSTANCE + "/metadata", "application/dicom+xml", 200, "multipart/related"),
        (INSTANCE + "/frames/1", "application/octet-stream", 200, "application/octet-stream"),
        (INSTANCE + "/frames/1", "image/jls", 200, "image/jls"),
        (INSTANCE + "/frames/1", 'multipart/related; type="image/jphc"', 200, "multipart/related"),
        (INSTANCE + "/frames/1", "image/jxl", 200, "image/jxl"),
        (INSTANCE + "/frames/1", "image/dicom-rle", 200, "image/dicom-rle"),
        (INSTANCE + "/frames/1", "video/mp4", 406, ""),
        (INSTANCE + "/rendered", "*/*", 200, "image/jpeg"),
        *((INSTANCE + "/rendered", f"image/{one}", 200, f"image/{one}") for one in ("png", "gif", "jp2", "jph", "jxl")),
        (INSTANCE + "/rendered", "image/webp", 406, ""),
        (INSTANCE + "/thumbnail", "image/png", 200, "image/png"),
    ],
)
def test_negotiation(client: Session, archive: Served, target: str, accept: str, status: int, kind: str) -> None:
    """8.3.3, 8.7: header and parameter, q-values, transfer syntaxes; a 406 says what there is."""
    reply = get(client, archive, target, Accept=accept)
    assert reply.status_code == status, reply.text
    assert status == 406 or media(reply) == kind
    assert status != 406 or reply.json()["available"]


def test_charsets(client: Session, archive: Served) -> None:
    assert get(client, archive, INSTANCE + "/metadata", Accept_Charset="utf-8, latin-1").status_code == 200
    assert get(client, archive, INSTANCE + "/metadata?charset=iso-8859-1").status_code == 406


@pytest.mark.parametrize(
    "end", ["", "/metadata", "/frames/1", "/rendered", "/thumbnail", "/pixeldata", "/bulkdata", "/bulkdata/7FE00010"]
)
def test_head_and_entity_tags(client: Session, archive: Served, end: str) -> None:
    whole, head = get(client, archive, INSTANCE + end), get(client, archive, INSTANCE + end, "HEAD")
    assert whole.status_code == head.status_code == 200 and not head.content
    assert (
        head.headers["etag"] == whole.headers["etag"] and head.headers["content-type"] == whole.headers["content-type"]
    )
    assert whole.headers["cache-control"] == "private, no-cache"
    assert get(client, archive, INSTANCE + end, If_None_Match=whole.headers["etag"]).status_code == 304


@pytest.mark.parametrize(
    ("end", "accept"),
    [("", DICOM), ("/frames/1", "application/octet-stream"), ("/pixeldata", "application/octet-stream"),
     ("/bulkdata/7FE00010", "*/*")],
)  # fmt: skip
def test_ranges(client: Session, archive: Served, end: str, accept: str) -> None:
    """8.4, RFC 9110 14: one range, several, none that exists, and If-Range."""
    whole = get(client, archive, INSTANCE + end, Accept=accept)
    part = get(client, archive, INSTANCE + end, Accept=accept, Range="bytes=10-19")
    assert part.status_code == 206 and part.content == whole.content[10:20]
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    several = get(client, archive, INSTANCE + end, Accept=accept, Range="bytes=0-1,-2")
    assert several.status_code == 206 and media(several) == "multipart/byteranges"
    assert get(client, archive, INSTANCE + end, Accept=accept, Range="bytes=99999-").status_code == 416
    other = get(client, archive, INSTANCE + end, Accept=accept, Range="bytes=10-19", If_Range='"other"')
    assert other.status_code == 200 and other.content == whole.content


def test_parameters_that_are_not_supported(client: Session, archive: Served) -> None:
    """8.3.4: said, never silently ignored."""
    for target in (INSTANCE, INSTANCE + "/metadata", INSTANCE + "/rendered", INSTANCE + "/frames/1"):
        assert get(client, archive, target + "?colour=red").headers["warning"].startswith("299 ")
    assert get(client, archive, "/studies?colour=red").status_code == 400
    assert "00091001" in get(client, archive, "/studies?00091001=x").headers["warning"]


def test_capabilities(client: Session, archive: Served) -> None:
    for accept, kind in (
        ("*/*", "application/json"),
        ("application/vnd.sun.wadl+xml", "application/vnd.sun.wadl+xml"),
        ("application/vnd.oai.openapi+json", "application/vnd.oai.openapi+json"),
    ):
        assert media(get(client, archive, "/", "OPTIONS", Accept=accept)) == kind
    plain = get(client, archive, "/", "OPTIONS").json()
    assert plain["conformance"] and any(one["path"] == "/hanging-protocols" for one in plain["resources"])


# ---------------------------------------------------------------- rendered, and WADO-URI


def size(reply: Response) -> tuple[int, int]:
    assert reply.status_code == 200, reply.text
    return Image.open(io.BytesIO(reply.content)).size


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        (INSTANCE + "/rendered", (16, 16)),
        (INSTANCE + "/rendered?viewport=8,8", (8, 8)),
        (INSTANCE + "/rendered?viewport=8,4", (4, 4)),
        (INSTANCE + "/rendered?viewport=32,32,0,0,8,16", (16, 32)),
        (INSTANCE + "/rendered?viewport=8,8,,,-16,", (8, 8)),
        (INSTANCE + "/frames/1/rendered?viewport=8,8", (8, 8)),
        (INSTANCE + "/thumbnail?viewport=8,8", (8, 8)),
        (INSTANCE + "/rendered?quality=30&window=100,50,linear&annotation=patient,technique&iccprofile=srgb", (16, 16)),
        (INSTANCE + "/rendered?window=100,50,linear-exact", (16, 16)),
        (INSTANCE + "/rendered?window=100,50,sigmoid&iccprofile=yes", (16, 16)),
        (SERIES + "/rendered", (16, 16)),
        ("/studies/1.2/rendered", (16, 16)),
        (SERIES + "/thumbnail?viewport=64,64", (64, 64)),
        (WADO, (16, 16)),
        (WADO + "&rows=8&columns=8", (8, 8)),
        (WADO + "&rows=8", (8, 8)),
        (WADO + "&region=0,0,0.5,0.5", (8, 8)),
        (WADO + "&region=0,0,0.5,1&rows=32&columns=32", (16, 32)),
        (
            WADO + "&windowCenter=100&windowWidth=50&imageQuality=40&annotation=patient&charset=utf-8&frameNumber=1",
            (16, 16),
        ),
        (WADO + "&contentType=image/png", (16, 16)),
    ],
)
def test_pictures(client: Session, archive: Served, target: str, shape: tuple[int, int]) -> None:
    """8.3.5, 9.1.2."""
    assert size(get(client, archive, target)) == shape


@pytest.mark.parametrize(
    ("target", "status"),
    [
        *((INSTANCE + "/rendered?" + query, 400) for query in (
            "quality=0", "viewport=8", "window=1", "window=1,0,linear", "window=1,2,cubic",
            "annotation=all", "iccprofile=cmyk",
        )),
        *((WADO + query, 400) for query in (
            "&rows=0", "&region=1,1,0,0", "&windowCenter=1", "&imageQuality=101", "&annotation=all", "&anonymize=yes",
        )),
        (INSTANCE + "/rendered?viewport=8,8,0,0,99,99", 406),
        (WADO + "&frameNumber=2", 404),
        (WADO + "&presentationUID=1.9&presentationSeriesUID=1.8", 404),
        (WADO + "&contentType=application/pdf", 406),
        ("/wado?requestType=OTHER", 400),
        ("/wado?requestType=WADO&studyUID=1.2", 400),
        (INSTANCE + "/frames/2", 404),
        (INSTANCE + "/frames/0", 400),
        ("/studies/1.99", 404),
    ],
)  # fmt: skip
def test_what_is_refused(client: Session, archive: Served, target: str, status: int) -> None:
    reply = get(client, archive, target)
    assert reply.status_code == status, reply.text


def test_objects_by_wado_uri(client: Session, archive: Served) -> None:
    whole = get(client, archive, WADO + "&contentType=application/dicom")
    assert media(whole) == DICOM and pydicom.dcmread(io.BytesIO(whole.content)).SOPInstanceUID == "1.2.3.1"
    packed = get(client, archive, WADO + "&contentType=application/dicom&transferSyntax=" + JP2)
    found = pydicom.dcmread(io.BytesIO(packed.content))
    assert found.file_meta.TransferSyntaxUID == JP2 and (found.pixel_array.tobytes() == bytes(range(256)) * 2)


def test_a_report_as_a_document(client: Session, archive: Served) -> None:
    (report,) = get(client, archive, "/instances?SOPClassUID=1.2.840.10008.5.1.4.1.1.88.33").json()
    url = report["00081190"]["Value"][0].removeprefix(archive.url) + "/rendered"
    assert media(get(client, archive, url)) == media(get(client, archive, url, Accept="text/html")) == "text/html"
    assert media(get(client, archive, url, Accept="text/plain")) == "text/plain"
    assert get(client, archive, url, Accept="image/jpeg").status_code == 406


# ---------------------------------------------------------------- search

STUDY_KEYS = ("StudyDate=20240101", "StudyDate=20231231-20240102", "StudyTime=1000-1100", "AccessionNumber=A1",
              "ModalitiesInStudy=CT", "PatientName=mueller*", "PatientName=MULLER^JORG&fuzzymatching=true", "PatientID=P1",
              "StudyInstanceUID=1.2,9.9", "StudyID=S?", "00200010=S1", "AccessionNumber=A1%5CA2&multiplevaluematching=true",
              "ReferringPhysicianName=%22%22&emptyvaluematching=true&StudyID=S1", "StudyID=S1&limit=1&offset=0")  # fmt: skip


@pytest.mark.parametrize("query", STUDY_KEYS)
def test_study_keys(client: Session, archive: Served, query: str) -> None:
    """Table 10.6.1-5 and the matching of 8.3.4.1.1."""
    rows = get(client, archive, "/studies?" + query).json()
    assert [row["0020000D"]["Value"] for row in rows] == [["1.2"]]


@pytest.mark.parametrize(
    ("target", "count"),
    [
        ("/series?Modality=CT", 1),
        ("/series?SeriesInstanceUID=1.2.3", 1),
        ("/series?SeriesNumber=1&StudyID=S1", 1),
        ("/series?PerformedProcedureStepStartDate=20990101-", 0),
        ("/series?RequestAttributesSequence.ScheduledProcedureStepID=X", 0),
        ("/series?00400275.00401001=X", 0),
        ("/instances?SOPClassUID=1.2.840.10008.5.1.4.1.1.2", 3),
        ("/instances?SOPInstanceUID=1.2.3.1,1.2.3.2", 2),
        ("/studies/1.2/series", 1),
        ("/studies/1.2/instances", 3),
        (SERIES + "/instances?InstanceNumber=2", 1),
        (SERIES + "/instances?limit=2", 2),
        (SERIES + "/instances?offset=2", 1),
    ],
)
def test_series_and_instances(client: Session, archive: Served, target: str, count: int) -> None:
    reply = get(client, archive, target)
    assert (len(reply.json()) if reply.status_code == 200 else 0) == count
    assert reply.status_code == (200 if count else 204)


def test_what_a_search_returns(client: Session, archive: Served) -> None:
    """Tables 10.6.3-3 to 10.6.3-5, paging, and the number of all."""
    study = {0x00080020, 0x00080030, 0x00080050, 0x00080056, 0x00080061, 0x00080090, 0x00081190, 0x00100010, 0x00100020,
             0x00100030, 0x00100040, 0x0020000D, 0x00200010, 0x00201206, 0x00201208}  # fmt: skip
    series = {0x00080060, 0x0008103E, 0x00081190, 0x0020000E, 0x00200011, 0x00201209, 0x00400244, 0x00400245}
    instance = {0x00080016, 0x00080018, 0x00080056, 0x00081190, 0x00083002, 0x00200013, 0x00280008, 0x00280010, 0x00280011,
                0x00280100}  # fmt: skip
    for target, wanted in (
        ("/studies?StudyID=S1", study), ("/studies/1.2/series", series), (SERIES + "/instances", instance),
        ("/series?StudyID=S1", study | series), ("/instances?StudyID=S1", study | series | instance),
    ):  # fmt: skip
        row = get(client, archive, target).json()[0]
        assert not {f"{tag:08X}" for tag in wanted} - set(row), target
    more = get(
        client, archive, "/studies?StudyID=S1&includefield=PhotometricInterpretation,00280100&includefield=00081040"
    ).json()[0]
    assert more["00280004"]["Value"] == ["MONOCHROME2"]
    assert "00200020" not in get(client, archive, "/studies?StudyID=S1").json()[0]
    assert "00280004" in get(client, archive, "/instances?includefield=all&SOPInstanceUID=1.2.3.1").json()[0]
    page = get(client, archive, "/instances?limit=2&totalcount=true")
    assert page.headers["x-total-count"] == "5" and "additional" not in page.headers.get("warning", "")
    follow = page.headers["link"].partition(">")[0].removeprefix("<").removeprefix(archive.url)
    assert len(get(client, archive, follow).json()) == 2


# ---------------------------------------------------------------- store, commitment, and an independent client


def test_store(client: Session, archive: Served) -> None:
    url = archive.url + "/studies"
    single = client.post(url, ct(study="1.5", series="1.5.1", sop="1.5.1.1"), headers={"content-type": DICOM})
    assert single.status_code == 200 and single.json()["00081199"]["Value"][0]["00081155"]["Value"] == ["1.5.1.1"]
    xml = client.post(
        url, ct(study="1.5", series="1.5.1", sop="1.5.1.2"),
        headers={"content-type": DICOM, "accept": "application/dicom+xml"},
    )  # fmt: skip
    assert media(xml) == "application/dicom+xml"
    mixed = client.post(
        url + "/1.5", stow_body([ct(study="1.5", series="1.5.1", sop="1.5.1.3"), ct(study="1.6")]), headers=STOW
    )
    assert mixed.status_code == 202 and mixed.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA901]
    assert client.post(url + "/1.5", stow_body([ct(study="1.6")]), headers=STOW).status_code == 409
    for headers in ({"content-type": "text/plain"}, {}, {**STOW, "content-encoding": "gzip"}):
        assert client.post(url, b"x", headers=headers).status_code == 415
    assert client.post(url, b"x", headers=STOW).status_code == 400
    denied = client.post(url, stow_body([ct()]), headers={**STOW, "authorization": "Bearer " + archive.reader})
    assert denied.status_code == 403
    pieces = stow_body([ct(study="1.5", series="1.5.1", sop="1.5.1.4")])
    chunked = client.post(url, (pieces[at : at + 100] for at in range(0, len(pieces), 100)), headers=STOW)
    assert chunked.status_code == 200
    assert client.delete(url + "/1.5").status_code == 200 and get(client, archive, "/studies/1.5").status_code == 404
    assert client.post(url + "/1.5/restore").status_code == 200
    assert get(client, archive, "/studies/1.5", Accept="application/zip").status_code == 200
    assert client.delete(url + "/1.5").status_code == 200


def test_commitment(client: Session, archive: Served) -> None:
    reference = {
        "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
        "00081155": {"vr": "UI", "Value": ["1.2.3.1"]},
    }
    missing = {**reference, "00081155": {"vr": "UI", "Value": ["1.2.3.77"]}}
    url, lines = archive.url + "/commitment-requests/1.7.1", {"content-type": JSON}
    body = orjson.dumps({"00081199": {"vr": "SQ", "Value": [reference, missing]}})
    asked = client.post(url, body, headers=lines)
    assert asked.status_code == 200 or (asked.status_code == 202 and "retry-after" in asked.headers)
    for _ in range(200):
        found = get(client, archive, "/commitment-requests/1.7.1")
        if found.status_code == 200:
            break
    assert found.json()["00081199"]["Value"][0]["00081155"]["Value"] == ["1.2.3.1"]
    assert found.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0x0112]
    assert get(client, archive, "/commitment-requests/1.7.9").status_code == 404


def test_an_independent_client(client: Session, archive: Served) -> None:
    web = DICOMwebClient(archive.url, session=client)
    assert len(web.search_for_studies(search_filters={"StudyID": "S1"}, fields=["PatientName"])) == 1
    assert len(web.retrieve_study("1.2")) == len(web.retrieve_series_metadata("1.2", "1.2.3")) == 3
    (frame,) = web.retrieve_instance_frames("1.2", "1.2.3", "1.2.3.1", [1])
    assert np.frombuffer(frame, np.uint8).tolist() == list(range(256)) * 2
    assert web.retrieve_instance("1.2", "1.2.3", "1.2.3.2").InstanceNumber == 2
    assert len(web.search_for_instances("1.2", "1.2.3", get_remaining=True, limit=1)) == 3
