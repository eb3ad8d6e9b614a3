"""Retrieve: objects, metadata, frames, bulk data, ranges, ZIP (PS3.18 10.4)."""

from __future__ import annotations

import asyncio
import io
import zipfile
from dataclasses import replace

import pydicom
import pytest

from radiolith.dicomweb import byteranges
from radiolith.dicomweb.routes import Edge
from radiolith.dicomweb.status import RangeNotSatisfiable
from radiolith.model import Damaged, Failure, Held, Identity, Layout, Pixels, Unavailable
from tests.dicomweb.driver import ask
from tests.dicomweb.fake import FakeArchive, stream_of

LE, JPEG2000, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.50"
INSTANCE = "/studies/1.2/series/1.2.3/instances/1.2.3.1"
MULTIPART = 'multipart/related; type="application/dicom"'


@pytest.mark.parametrize(("target", "count"), [("/studies/1.2", 3), ("/studies/1.2/series/1.2.3", 3), (INSTANCE, 1)])
async def test_objects(edge: Edge, archive: FakeArchive, slices: list[Held], target: str, count: int) -> None:
    reply = await ask(edge, "GET", target, headers={"accept": MULTIPART})
    assert reply.status == 200 and reply.complete
    assert reply.headers["content-type"].startswith(MULTIPART + "; boundary=")
    assert len(reply.parts) == count and int(reply.headers["content-length"]) == len(reply.body)
    for held, (headers, data) in zip(slices, reply.parts, strict=False):
        assert headers["content-type"] == f"application/dicom; transfer-syntax={LE}"
        assert headers["content-location"].endswith("/instances/" + held.identity.sop)
        assert int(headers["content-length"]) == len(data)
        sent, kept = pydicom.dcmread(io.BytesIO(data)), archive.kept[held.identity].data
        assert data[:128] == bytes(128) and sent.SOPInstanceUID == held.identity.sop
        assert data.endswith(kept[held.layout.dataset_start :])


async def test_single_part(edge: Edge, slices: list[Held]) -> None:
    reply = await ask(edge, "GET", INSTANCE, headers={"accept": "application/dicom"})
    assert reply.headers["content-type"] == f"application/dicom; transfer-syntax={LE}"
    assert int(reply.headers["content-length"]) == len(reply.body)
    part = await ask(edge, "GET", INSTANCE, headers={"accept": "application/dicom", "range": "bytes=128-131"})
    assert part.status == 206 and part.body == b"DICM"
    assert (await ask(edge, "GET", "/studies/1.2", headers={"accept": "application/dicom"})).status == 406


async def test_zip(edge: Edge, slices: list[Held]) -> None:
    for reply in (
        await ask(edge, "GET", "/studies/1.2", headers={"accept": "application/zip"}),
        await ask(edge, "GET", "/studies/1.2/archive"),
    ):
        assert reply.headers["content-disposition"] == 'attachment; filename="1.2.zip"'
        with zipfile.ZipFile(io.BytesIO(reply.body)) as file:
            assert file.testzip() is None
            assert file.namelist() == [f"1.2/1.2.3/1.2.3.{n}.dcm" for n in (1, 2, 3)]
            assert pydicom.dcmread(io.BytesIO(file.read("1.2/1.2.3/1.2.3.2.dcm"))).SOPInstanceUID == "1.2.3.2"


async def test_an_empty_zip_is_one() -> None:
    from radiolith.dicomweb.zipout import zipped

    async def none():  # type: ignore[no-untyped-def]
        for nothing in ():
            yield nothing

    body = b"".join([piece async for piece in zipped(none())])
    assert zipfile.ZipFile(io.BytesIO(body)).namelist() == []


async def test_default_is_explicit_little_endian_and_as_stored_where_that_cannot_be(
    edge: Edge, archive: FakeArchive, compressed: Held
) -> None:
    target = "/studies/1.9/series/1.9.1/instances/1.9.1.1"
    reply = await ask(edge, "GET", target, headers={"accept": "application/dicom"})
    assert reply.headers["content-type"].endswith(LE)
    stored = await ask(edge, "GET", target, headers={"accept": "application/dicom; transfer-syntax=*"})
    assert stored.headers["content-type"].endswith(JPEG2000)
    archive.decodable = False
    reply = await ask(edge, "GET", target, headers={"accept": "application/dicom"})
    assert reply.headers["content-type"].endswith(JPEG2000)
    accept = f"application/dicom; transfer-syntax={JPEG}"
    for where in (target, "/studies/1.9"):
        refused = await ask(
            edge,
            "GET",
            where,
            headers={"accept": f"multipart/related; type={accept.split(';')[0]}; transfer-syntax={JPEG}"},
        )
        assert refused.status == 406 and "decoder" in refused.json["detail"]


async def test_another_syntax_for_a_study_with_a_report_in_it(
    edge: Edge, archive: FakeArchive, compressed: Held
) -> None:
    """What has no pixels has no codec; the rest of the study is not refused for that."""
    layout = Layout(LE, 0, 4, 4, 4)
    archive.add(Identity("1.9", "1.9.2", "1.9.2.1"), b"text", layout, "1.2.840.10008.5.1.4.1.1.88.11")
    reply = await ask(edge, "GET", "/studies/1.9", headers={"accept": MULTIPART + f"; transfer-syntax={JPEG}"})
    assert reply.status == 200
    assert [headers["content-type"].rpartition("=")[2] for headers, _ in reply.parts] == [JPEG, LE]


@pytest.mark.parametrize(
    "target",
    ["/studies/9.9", "/studies/1.2/series/9", "/studies/1.2/series/1.2.3/instances/9", "/studies/%2e%2e",
     "/studies/1.2/metadata/x", "/studies/..%2f..%2fetc%2fpasswd", "/nothing", "/studies/1.2%00", "/studies//series",
     "/studies/" + "1" * 65, "/studies/1.2/series/1.2.3/instances/1.2.3.1/bulkdata/" + "1/" * 200],
)  # fmt: skip
async def test_what_is_not_there(edge: Edge, slices: list[Held], target: str) -> None:
    reply = await ask(edge, "GET", target)
    assert reply.status == 404 and reply.headers["content-type"] == "application/problem+json"


async def test_uids_that_are_attacks_stay_names(edge: Edge, archive: FakeArchive) -> None:
    """What a stored object calls itself ends no header and climbs out of no folder."""
    layout = Layout(LE, 0, 4, 4, 4)
    for sop in ("../../etc/x", "1\r\nX-Evil: 1\r\n\r\n--b", "..", '1"2'):
        archive.add(Identity("1.4", "1.4.1", sop), b"data", layout, "1.2.3")
    reply = await ask(edge, "GET", "/studies/1.4")
    assert len(reply.parts) == 4 and not any("x-evil" in headers for headers, _ in reply.parts)
    archived = await ask(edge, "GET", "/studies/1.4/archive")
    with zipfile.ZipFile(io.BytesIO(archived.body)) as file:
        names = file.namelist()
    assert all(name.startswith("1.4/1.4.1/_") and name.count("/") == 2 and '"' not in name for name in names)


# ---------------------------------------------------------------- metadata


@pytest.mark.parametrize(("target", "count"), [("/studies/1.2", 3), ("/studies/1.2/series/1.2.3", 3), (INSTANCE, 1)])
async def test_metadata(edge: Edge, archive: FakeArchive, slices: list[Held], target: str, count: int) -> None:
    archive.kept[slices[0].identity].bulk = {"00091010": b"x" * 5000}
    reply = await ask(edge, "GET", target + "/metadata")
    assert reply.headers["content-type"] == "application/dicom+json"
    assert [item["00080018"]["Value"][0] for item in reply.json] == [f"1.2.3.{n + 1}" for n in range(count)]
    url = f"http://pacs.example/dicom-web{INSTANCE}/bulkdata/00091010"
    assert reply.json[0]["00091010"]["BulkDataURI"] == url
    xml = await ask(edge, "GET", target + "/metadata", headers={"accept": "application/dicom+xml"})
    assert len(xml.parts) == count and xml.parts[0][0]["content-type"] == "application/dicom+xml"
    assert (await ask(edge, "GET", target + "/metadata?charset=latin1")).status == 406


# ---------------------------------------------------------------- frames


async def test_one_frame(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    frame = archive.kept[slices[0].identity].frames[0]
    reply = await ask(edge, "GET", INSTANCE + "/frames/1")
    ((headers, data),) = reply.parts
    assert data == frame
    assert headers["content-type"] == f"application/octet-stream; transfer-syntax={LE}"
    assert int(reply.headers["content-length"]) == len(reply.body)
    single = await ask(edge, "GET", INSTANCE + "/frames/1", headers={"accept": "application/octet-stream"})
    assert single.body == frame
    some = await ask(
        edge, "GET", INSTANCE + "/frames/1", headers={"accept": "application/octet-stream", "range": "bytes=10-19"}
    )
    assert some.status == 206 and some.body == frame[10:20]


async def test_frame_lists(edge: Edge, archive: FakeArchive, compressed: Held) -> None:
    target = "/studies/1.9/series/1.9.1/instances/1.9.1.1/frames/"
    as_stored = {"accept": 'multipart/related; type="application/octet-stream"; transfer-syntax=*'}
    reply = await ask(edge, "GET", target + "3,1,2", headers=as_stored)
    assert [data for _, data in reply.parts] == [b"frame three", b"frame one", b"frame two"]
    assert [h["content-location"].rpartition("/")[2] for h, _ in reply.parts] == ["3", "1", "2"]
    assert reply.headers["content-type"].startswith('multipart/related; type="image/jp2"')
    decoded = await ask(edge, "GET", target + "1,2")
    assert [data for _, data in decoded.parts] == [b"recoded frame one", b"recoded frame two"]
    archive.decodable = False
    refused = await ask(edge, "GET", target + "1", headers={"accept": "multipart/related; type=image/jls"})
    assert refused.status == 406 and refused.json["available"] == [
        f'multipart/related; type="image/jp2"; transfer-syntax={JPEG2000}'
    ]
    fallback = await ask(edge, "GET", target + "1")
    assert fallback.parts[0][1] == b"frame one"


@pytest.mark.parametrize(
    ("numbers", "status"),
    [("0", 400), ("4", 404), ("1,4", 404), ("x", 400), ("1,,2", 400), ("-1", 400), ("٣", 400), ("1 ", 400)],
)
async def test_bad_frame_lists(edge: Edge, compressed: Held, numbers: str, status: int) -> None:
    reply = await ask(edge, "GET", f"/studies/1.9/series/1.9.1/instances/1.9.1.1/frames/{numbers}")
    assert reply.status == status


async def test_pixeldata(edge: Edge, slices: list[Held], compressed: Held, archive: FakeArchive) -> None:
    one = await ask(edge, "GET", INSTANCE + "/pixeldata")
    assert len(one.parts) == 1
    study = await ask(edge, "GET", "/studies/1.2/pixeldata")
    assert [data for _, data in study.parts] == [archive.kept[h.identity].frames[0] for h in slices]
    every = await ask(edge, "GET", "/studies/1.9/pixeldata", headers={"accept": "multipart/related; type=image/jp2"})
    assert len(every.parts) == 3


# ---------------------------------------------------------------- bulk data and ranges


async def test_bulkdata(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    kept = archive.kept[slices[0].identity]
    kept.bulk = {"00091010": bytes(range(256)) * 20, "52009229/1/00082112": b"nested" * 500}
    reply = await ask(edge, "GET", INSTANCE + "/bulkdata/00091010")
    assert reply.body == kept.bulk["00091010"] and reply.headers["accept-ranges"] == "bytes"
    nested = await ask(edge, "GET", INSTANCE + "/bulkdata/52009229/1/00082112", headers={"accept": "multipart/related"})
    assert nested.parts[0][1] == kept.bulk["52009229/1/00082112"]
    assert (await ask(edge, "GET", INSTANCE + "/bulkdata/00091099")).status == 404
    for target in ("/studies/1.2/bulkdata", INSTANCE + "/bulkdata"):
        all_of_it = await ask(edge, "GET", target)
        assert {data for _, data in all_of_it.parts} == set(kept.bulk.values())
    assert (await ask(edge, "GET", "/studies/1.2/series/1.2.3/instances/1.2.3.2/bulkdata")).status == 404


async def test_ranges(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    data = bytes(range(256)) * 4
    archive.kept[slices[0].identity].bulk = {"00091010": data}
    target = INSTANCE + "/bulkdata/00091010"
    whole = await ask(edge, "GET", target)
    for header, status, body in [
        ("bytes=0-0", 206, data[:1]),
        ("bytes=-10", 206, data[-10:]),
        ("bytes=1000-", 206, data[1000:]),
        ("bytes=0-5,3-10", 206, data[:11]),
        ("bytes=500-100", 200, data),
        ("lines=1-2", 200, data),
        ("bytes=1024-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=" + ",".join("0-0" for _ in range(9)), 416, None),
    ]:
        reply = await ask(edge, "GET", target, headers={"range": header})
        assert reply.status == status, header
        if body is not None:
            assert reply.body == body
        else:
            assert reply.headers["content-range"] == "bytes */1024"
    two = await ask(edge, "GET", target, headers={"range": "bytes=0-9, 100-109"})
    assert two.status == 206
    assert [(h["content-range"], d) for h, d in two.parts] == [
        ("bytes 0-9/1024", data[:10]), ("bytes 100-109/1024", data[100:110])]  # fmt: skip
    stale = await ask(edge, "GET", target, headers={"range": "bytes=0-9", "if-range": '"old"'})
    assert stale.status == 200
    fresh = await ask(edge, "GET", target, headers={"range": "bytes=0-9", "if-range": whole.headers["etag"]})
    assert fresh.status == 206


def test_range_sets_are_merged_in_linear_time() -> None:
    assert byteranges.parse("bytes=5-9,0-4,20-30", 100) == [(0, 10), (20, 31)]
    with pytest.raises(RangeNotSatisfiable):
        byteranges.parse("bytes=" + "0-," * 100_000, 100)


async def test_video_is_one_ranged_stream(edge: Edge, archive: FakeArchive) -> None:
    mp4 = "1.2.840.10008.1.2.4.102"
    layout = Layout(mp4, 0, 10, 10, 10, Pixels.VIDEO, 0x7FE00010, frames=90)
    archive.add(Identity("1.8", "1.8.1", "1.8.1.1"), b"0123456789", layout, "1.2.840.10008.5.1.4.1.1.77.1.4.1",
                bulk={"pixeldata": b"a film"})  # fmt: skip
    reply = await ask(edge, "GET", "/studies/1.8/pixeldata", headers={"range": "bytes=2-5"})
    assert reply.status == 206 and reply.body == b"film"
    assert reply.headers["content-type"] == f"video/mp4; transfer-syntax={mp4}"


# ---------------------------------------------------------------- caching, HEAD, failures on the way


@pytest.mark.parametrize(
    "target",
    ["/studies/1.2", INSTANCE, "/studies/1.2/metadata", INSTANCE + "/metadata", INSTANCE + "/frames/1",
     INSTANCE + "/bulkdata/00091010", INSTANCE + "/rendered", INSTANCE + "/thumbnail", "/studies/1.2/pixeldata"],
)  # fmt: skip
async def test_etag_and_head(edge: Edge, archive: FakeArchive, slices: list[Held], target: str) -> None:
    archive.kept[slices[0].identity].bulk = {"00091010": b"x" * 2000}
    full = await ask(edge, "GET", target)
    assert full.status == 200 and full.headers["cache-control"] == "private, no-cache"
    again = await ask(edge, "GET", target, headers={"if-none-match": 'W/"x", ' + full.headers["etag"]})
    assert again.status == 304 and not again.body and again.headers["etag"] == full.headers["etag"]
    head = await ask(edge, "HEAD", target)
    assert head.status == 200 and not head.body and head.headers["etag"] == full.headers["etag"]
    assert head.headers["content-type"] == full.headers["content-type"]
    other = await ask(edge, "GET", target, headers={"if-none-match": '"other"'})
    assert other.status == 200


async def test_the_etag_tells_representations_apart(edge: Edge, slices: list[Held]) -> None:
    tags = {
        (await ask(edge, "GET", "/studies/1.2/metadata", headers={"accept": accept})).headers["etag"]
        for accept in ("application/dicom+json", "application/json", "application/dicom+xml")
    }
    assert len(tags) == 3


async def test_damage_on_the_way_cuts_the_answer(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    """A client must see that bytes are missing: no final boundary, no end of the message."""
    original = archive.part10

    async def part10(held: Held, accept: object = ()) -> object:
        if held.identity.sop != "1.2.3.2":
            return await original(held)
        intact = stream_of(b"x" * 1_000_000, LE)

        async def opened(start: int, stop: int | None):  # type: ignore[no-untyped-def]
            yield b"x" * 600_000
            raise Damaged("a chunk failed authentication")

        return replace(intact, open=opened)

    archive.part10 = part10  # type: ignore[method-assign, assignment]
    reply = await ask(edge, "GET", "/studies/1.2")
    assert reply.status == 200 and not reply.complete
    assert not reply.body.rstrip().endswith(b"--")
    archive.kept.pop(slices[0].identity)


@pytest.mark.parametrize(("failure", "code"), [(Damaged("a chunk"), 500), (Unavailable("the store is away", 7), 503)])
@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/studies/1.2", {}),
        ("/studies/1.2", {"accept": "application/zip"}),
        ("/studies/1.2/series/1.2.3/instances/1.2.3.1", {"accept": "application/dicom"}),
        ("/studies/1.2/series/1.2.3/instances/1.2.3.1", {"accept": "application/dicom", "range": "bytes=0-9"}),
        ("/studies/1.2/series/1.2.3/instances/1.2.3.1", {"accept": "application/dicom", "range": "bytes=0-9,20-29"}),
        ("/studies/1.2/metadata", {"accept-encoding": "zstd"}),
        ("/studies/1.2/metadata", {"accept": 'multipart/related; type="application/dicom+xml"'}),
    ],
)
async def test_what_cannot_be_read_at_all_is_an_error_not_a_cut(
    edge: Edge,
    archive: FakeArchive,
    slices: list[Held],
    target: str,
    headers: dict[str, str],
    failure: Failure,
    code: int,
) -> None:
    """The head leaves behind the first piece: a backend that is down is a status and a document."""

    async def opened(start: int, stop: int | None):  # type: ignore[no-untyped-def]
        raise failure
        yield b""

    async def part10(held: Held, accept: object = ()) -> object:
        return replace(stream_of(b"x" * 1000, LE), open=opened)

    async def pieces(*_: object):  # type: ignore[no-untyped-def]
        raise failure
        yield b""

    async def one(*_: object) -> bytes:
        raise failure

    archive.part10 = part10  # type: ignore[method-assign, assignment]
    archive.series_metadata, archive.metadata = pieces, one  # type: ignore[method-assign, assignment]
    reply = await ask(edge, "GET", target, headers=headers)
    assert reply.status == code and reply.complete and reply.headers["content-type"] == "application/problem+json"
    assert reply.json["status"] == code and "etag" not in reply.headers and "content-encoding" not in reply.headers
    assert reply.headers.get("retry-after") == ("7" if code == 503 else None)
    archive.kept.pop(slices[0].identity)


async def test_a_client_that_leaves_stops_the_reading(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    read = 0

    async def endless(start: int, stop: int | None):  # type: ignore[no-untyped-def]
        nonlocal read
        for _ in range(10_000):
            read += 1
            yield bytes(70_000)
            await asyncio.sleep(0)

    async def part10(held: Held, accept: object = ()) -> object:
        return replace(stream_of(b"", LE), size=700_000_000, open=endless)

    archive.part10 = part10  # type: ignore[method-assign, assignment]
    reply = await ask(edge, "GET", INSTANCE, headers={"accept": "application/dicom"}, leave_after=10)
    assert read < 50 and not reply.complete
