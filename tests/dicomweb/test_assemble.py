"""Store with metadata and bulk data: parts become the objects they describe (PS3.18 10.5.1)."""

from __future__ import annotations

import io
from typing import Any
from xml.sax.saxutils import escape

import orjson
import pydicom
import pytest
from pydicom.encaps import generate_frames

from radiolith.dicom.part10 import file_meta
from radiolith.dicomweb import assemble, pixelstream
from radiolith.dicomweb.routes import Edge
from tests.dicomweb.driver import Reply, ask
from tests.dicomweb.fake import FakeArchive
from tests.dicomweb.objects import dataset, multipart

JSON = {"content-type": 'multipart/related; type="application/dicom+json"; boundary=b0'}
XML = {"content-type": 'multipart/related; type="application/dicom+xml"; boundary=b0'}
Parts = list[tuple[dict[str, str], bytes]]


def metadata(pixels: str | None = "pixels/1", **more: Any) -> dict[str, Any]:
    ds = dataset(**more)
    del ds.PixelData
    document = ds.to_json_dict()
    if pixels:
        document["7FE00010"] = {"vr": "OW", "BulkDataURI": pixels}
    return document


def json_part(*documents: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    return {"Content-Type": "application/dicom+json; transfer-syntax=1.2.840.10008.1.2.1"}, orjson.dumps(documents)


def bulk(location: str, data: bytes, media: str = "application/octet-stream") -> tuple[dict[str, str], bytes]:
    return {"Content-Type": media, "Content-Location": location}, data


async def send(
    edge: Edge, parts: Parts, headers: dict[str, str] = JSON, size: int = 97, target: str = "/studies"
) -> Reply:
    body = multipart(parts)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return await ask(edge, "POST", target, headers=headers, body=pieces)


def stored(archive: FakeArchive) -> list[pydicom.Dataset]:
    found = []
    for kept in archive.kept.values():
        syntax = kept.held.layout.transfer_syntax
        found.append(pydicom.dcmread(io.BytesIO(file_meta("1.2", "1.2", syntax) + kept.data)))
    return found


PIXELS = bytes(range(256)) * 2


@pytest.mark.parametrize("size", [1, 50, 10**6])
async def test_native_pixel_data(edge: Edge, archive: FakeArchive, size: int) -> None:
    reply = await send(edge, [json_part(metadata()), bulk("pixels/1", PIXELS)], size=size)
    assert reply.status == 200, reply.body
    (ds,) = stored(archive)
    assert ds.PixelData == PIXELS and ds.PatientName == "Müller^Jörg" and ds.Rows == 16
    assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


async def test_two_instances_and_other_bulk_data(edge: Edge, archive: FakeArchive) -> None:
    first, second = metadata("p1", sop="1.2.3.1"), metadata("p2", sop="1.2.3.2")
    first["00091010"] = {"vr": "OB", "BulkDataURI": "b1"}
    first["00090010"] = {"vr": "LO", "Value": ["OURS"]}
    first["FFFCFFFC"] = {"vr": "OB", "InlineBinary": "AAAAAA=="}
    in_order = [json_part(first, second), bulk("b1", b"odd"), bulk("p1", PIXELS), bulk("p2", PIXELS[::-1])]
    assert (await send(edge, in_order)).status == 200
    other_order = [in_order[0], in_order[3], in_order[2], in_order[1]]
    reply = await send(edge, other_order)
    assert reply.status == 200, reply.body  # the same objects again: byte for byte what the first request made
    one, two = stored(archive)
    assert one[0x0009, 0x1010].value == b"odd\0" and one.DataSetTrailingPadding == b"\0\0\0\0"
    assert one.PixelData == PIXELS and two.PixelData == PIXELS[::-1]


async def test_compressed_frames(edge: Edge, archive: FakeArchive) -> None:
    frames = [b"\xff\x4f\xff\x51 frame one", b"\xff\x4f\xff\x51 two", b"\xff\x4f\xff\x51 three!"]
    kind = "image/jp2; transfer-syntax=1.2.840.10008.1.2.4.91"
    reply = await send(edge, [json_part(metadata(NumberOfFrames=3)), *(bulk("pixels/1", f, kind) for f in frames)])
    assert reply.status == 200, reply.body
    (ds,) = stored(archive)
    assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.91"
    assert [f.rstrip(b"\0") for f in generate_frames(ds.PixelData, number_of_frames=3)] == frames


async def test_long_frames_become_fragments(edge: Edge, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixelstream, "FRAGMENT_BYTES_MAX", 100)
    frame = b"\xff\x4f\xff\x51" + bytes(range(250))
    reply = await send(edge, [json_part(metadata()), bulk("pixels/1", frame, "image/jp2")])
    assert reply.status == 200, reply.body
    (ds,) = stored(archive)
    assert next(generate_frames(ds.PixelData, number_of_frames=1)) == frame
    rle = await send(edge, [json_part(metadata(sop="1.2.3.9")), bulk("pixels/1", frame, "image/dicom-rle")])
    assert rle.status == 413 and len(archive.kept) == 1 and archive.aborted == 1


@pytest.mark.parametrize(("marker", "syntax"), [(0xC0, "50"), (0xC1, "51"), (0xC3, "70"), (0xC2, None)])
async def test_jpeg_without_a_syntax(edge: Edge, archive: FakeArchive, marker: int, syntax: str | None) -> None:
    frame = b"\xff\xd8\xff\xe0\x00\x04ab\xff" + bytes([marker]) + b"\x00\x08 frame \xff\xd9"
    reply = await send(edge, [json_part(metadata()), bulk("pixels/1", frame, "image/jpeg")])
    if syntax is None:
        assert reply.status == 409 and not archive.kept
        (failed,) = reply.json["00081198"]["Value"]
        assert failed["00081155"]["Value"] == [metadata()["00080018"]["Value"][0]]
        assert failed["00081197"]["Value"] == [0xC122]
    else:
        assert reply.status == 200
        assert stored(archive)[0].file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4." + syntax


async def test_one_object_that_cannot_be_made_does_not_fail_the_others(edge: Edge, archive: FakeArchive) -> None:
    """Whatever is wrong with it: an unknown JPEG process, no size, too few bytes, bulk data that never come."""
    progressive = b"\xff\xd8\xff\xc2\x00\x08 frame \xff\xd9"
    unsized = metadata("p2", sop="1.2.3.2")
    del unsized["00280010"]
    documents = [metadata("p1", sop="1.2.3.1"), unsized, metadata("p3", sop="1.2.3.3"), metadata("p4", sop="1.2.3.4")]
    documents.append(metadata("p5", sop="1.2.3.5"))
    parts = [bulk("p1", progressive, "image/jpeg"), bulk("p2", PIXELS), bulk("p3", PIXELS[:9]), bulk("p5", PIXELS)]
    reply = await send(edge, [json_part(*documents), *parts])
    assert reply.status == 202, reply.body
    failed = {item["00081155"]["Value"][0]: item["00081197"]["Value"][0] for item in reply.json["00081198"]["Value"]}
    assert failed == {"1.2.3.1": 0xC122, "1.2.3.2": 0xC000, "1.2.3.3": 0xC000, "1.2.3.4": 0xC000}
    assert [item["00081155"]["Value"][0] for item in reply.json["00081199"]["Value"]] == ["1.2.3.5"]
    assert len(archive.kept) == 1 and "0008119A" not in reply.json


async def test_who_may_not_store_is_told_so(edge: Edge, archive: FakeArchive) -> None:
    """Also for an object without bulk data, and without a word about the object."""
    for parts in ([json_part(metadata(None))], [json_part(metadata()), bulk("pixels/1", PIXELS)]):
        reply = await ask(edge, "POST", "/studies", headers=JSON, body=multipart(parts), token="reader")
        assert reply.status == 403 and not archive.kept


async def test_xml_metadata(edge: Edge, archive: FakeArchive) -> None:
    def attribute(tag: str, vr: str, value: str) -> str:
        return f'<DicomAttribute tag="{tag}" vr="{vr}"><Value number="1">{escape(value)}</Value></DicomAttribute>'

    texts = [("00080016", "UI", "1.2.840.10008.5.1.4.1.1.2"), ("00080018", "UI", "1.2.3.4"), ("0020000D", "UI", "1.2"),
             ("0020000E", "UI", "1.2.3"), ("00280002", "US", "1"), ("00280010", "US", "16"), ("00280011", "US", "16"),
             ("00280100", "US", "16"), ("00100020", "LO", "A&B")]  # fmt: skip
    inner = "".join(attribute(*text) for text in texts)
    inner += '<DicomAttribute tag="7FE00010" vr="OW"><BulkData uri="p"/></DicomAttribute>'
    document = f"<NativeDicomModel>{inner}</NativeDicomModel>".encode()
    part = ({"Content-Type": "application/dicom+xml"}, document)
    reply = await send(edge, [part, bulk("p", PIXELS)], XML)
    assert reply.status == 200, reply.body
    (ds,) = stored(archive)
    assert ds.PatientID == "A&B" and ds.PixelData == PIXELS
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><NativeDicomModel>&b;</NativeDicomModel>'
    assert (await send(edge, [({"Content-Type": "application/dicom+xml"}, bomb)], XML)).status == 400


async def test_without_pixel_data_and_with_inline_ones(edge: Edge, archive: FakeArchive) -> None:
    inline = metadata(None, sop="1.2.3.5")
    inline["7FE00010"] = {"vr": "OW", "InlineBinary": "AAAA"}
    assert (await send(edge, [json_part(metadata(None), inline)])).status == 200
    assert len(archive.kept) == 2


async def test_content_id(edge: Edge, archive: FakeArchive) -> None:
    part = ({"Content-Type": "application/octet-stream", "Content-ID": "<p@x>"}, PIXELS)
    assert (await send(edge, [json_part(metadata("cid:p@x")), part])).status == 200


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([], 400),
        ([json_part(metadata())], 400),  # no pixel data came
        ([bulk("pixels/1", PIXELS)], 400),  # no metadata
        ([bulk("pixels/1", PIXELS), json_part(metadata())], 400),  # metadata too late
        ([json_part(metadata()), bulk("pixels/1", PIXELS[:-2])], 400),
        ([json_part(metadata()), bulk("pixels/1", PIXELS + b"12")], 400),
        ([json_part(metadata()), ({"Content-Type": "application/octet-stream"}, PIXELS)], 400),
        (
            [json_part(metadata()), ({"Content-Type": "multipart/related; boundary=x", "Content-Location": "a"}, b"")],
            415,
        ),
        ([({"Content-Type": "application/dicom+json"}, b"not json")], 400),
        ([({"Content-Type": "application/dicom+json"}, b'["x"]')], 400),
        ([json_part(metadata("p"), metadata("p", sop="1.2.3.9"))], 409),
        ([json_part(metadata()), bulk("pixels/1", b"")], 400),
        ([json_part(metadata("http://169.254.169.254/latest"))], 400),
    ],
)
async def test_what_does_not_fit_together(edge: Edge, archive: FakeArchive, parts: Parts, status: int) -> None:
    reply = await send(edge, parts) if parts else await ask(edge, "POST", "/studies", headers=JSON, body=b"--b0--")
    assert reply.status == status, reply.body
    assert not archive.kept and not archive.quarantined and archive.begun == archive.aborted


async def test_large_bulk_data_out_of_order_are_refused_with_the_rule(
    edge: Edge, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "HELD_BYTES_MAX", 300)
    document = metadata()
    document["00091010"] = {"vr": "OB", "BulkDataURI": "b1"}
    wrong = await send(edge, [json_part(document), bulk("pixels/1", PIXELS), bulk("b1", b"x")])
    assert wrong.status == 413 and "pixel data last" in wrong.json["detail"]
    right = await send(edge, [json_part(document), bulk("b1", b"x"), bulk("pixels/1", PIXELS)])
    assert right.status == 200, right.body


async def test_another_study(edge: Edge, archive: FakeArchive) -> None:
    reply = await send(edge, [json_part(metadata(study="1.7")), bulk("pixels/1", PIXELS)], target="/studies/1.2")
    assert reply.status == 409 and not archive.kept


async def test_the_client_breaks_off_in_the_pixel_data(edge: Edge, archive: FakeArchive) -> None:
    body = multipart([json_part(metadata()), bulk("pixels/1", PIXELS)], end=False)
    reply = await ask(edge, "POST", "/studies", headers=JSON, body=body[:-100])
    assert reply.status == 400 and not archive.kept and archive.aborted == 1
