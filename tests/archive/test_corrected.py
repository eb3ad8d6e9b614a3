"""A corrected header leaves by every door, and by every door the same; pixels and the bytes received stay as they are."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson
import pytest

from radiolith.archive.outward import export
from radiolith.codecs.sandbox import Decoders
from radiolith.dicom.amended import Origin, amended
from radiolith.dicom.json import to_json
from radiolith.dicom.reader import scan
from radiolith.dicom.xml import to_xml
from radiolith.model import Outcome
from tests.archive.corrected import (
    ANY,
    CORRECTED,
    DEFLATED,
    DOORS,
    KINDS,
    LONG,
    OTHER,
    PIXELS,
    SERIES,
    STUDY,
    TAIL,
    Corrections,
    Web,
    edge,
    expected,
    inflated,
    objects,
    sop,
)
from tests.archive.homes import opened, principal, store
from tests.archive.large_values import INNER, dataset, deflated, keep, pattern
from tests.archive.large_values import one as one_of
from tests.archive.objects import BIG, CT, EXPLICIT, IMPLICIT, Made
from tests.dicom.amending import edit, name, overlay, step

JPEG_LS = "1.2.840.10008.1.2.4.80"
NEARLY = overlay(step(name("Roe^Jana"), number=3))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the objects, stored once; nothing below changes it but peers and tokens."""
    home = tmp_path_factory.mktemp("corrected") / "home"

    async def fill() -> None:
        async with opened(home) as graph:
            for _, file in objects():
                assert (await store(graph, file)).outcome is Outcome.STORED

    asyncio.run(fill())
    return home


@pytest.mark.parametrize("door", DOORS)
async def test_every_door_gives_the_same(
    home: Path, door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrections = Corrections(monkeypatch)
    async with opened(home) as graph:
        given = await DOORS[door](graph, tmp_path)
        wanted = expected(CORRECTED)
        assert given.keys() == wanted.keys()
        for uid, (syntax, dataset) in given.items():
            assert syntax == wanted[uid][0] and len(dataset) % 2 == 0
            assert inflated(syntax, dataset) == wanted[uid][1], f"{door}: {uid}"
        corrections.overlay = None
        for number, (_, file) in enumerate(objects(), 1):
            (held,) = await graph.archive.retrieve.locate(principal(graph), STUDY, SERIES, sop(number))
            assert b"".join([bytes(p) async for p in graph.archive.retrieve.original(held).chunks()]) == file


def test_the_test_is_about_something() -> None:
    """Every header differs, and what lies behind it does not."""
    before, after = expected(None), expected(CORRECTED)
    for uid, (syntax, data) in after.items():
        was = before[uid][1]
        assert b"Doe^Jane" in data and b"Abdomen" in data and b"Doe^Jane" not in was
        layout = scan(data, transfer_syntax=EXPLICIT if syntax == DEFLATED else syntax).layout
        behind = data[edge(layout, data) :]
        assert was.endswith(behind) and (PIXELS[:100] in behind or layout.pixel_tag == 0 or syntax == BIG)
    assert len(KINDS) == len(after)


async def test_metadata_are_those_of_the_bytes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Corrections(monkeypatch)
    async with opened(home) as graph:
        web = await Web.of(graph)
        wanted, natives = [], []
        for number, (syntax, dataset) in enumerate(expected(CORRECTED).values(), 1):
            tail = TAIL if dataset.endswith(TAIL) else b""
            base = f"http://pacs.example/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{sop(number)}/bulkdata/"
            named = partial(str.__add__, base)
            wanted.append(orjson.loads(to_json(dataset, syntax, bulk_uri=named, tail=tail)))
            natives.append(to_xml(dataset, syntax, bulk_uri=named, tail=tail))
        for path in (f"/studies/{STUDY}", f"/studies/{STUDY}/series/{SERIES}"):
            assert (await web.get(path + "/metadata")).json == wanted
        for number, one in enumerate(wanted, 1):
            path = f"/studies/{STUDY}/series/{SERIES}/instances/{sop(number)}"
            assert (await web.get(path + "/metadata")).json == [one]
            native = await web.get(path + "/metadata", accept='multipart/related; type="application/dicom+xml"')
            assert [body for _, body in native.parts] == [natives[number - 1]]
        rows = (await web.get(f"/studies/{STUDY}/instances?includefield=all&limit=50")).json
        shown = ("00080015", "04000561")  # what the index keeps itself is not this module's to correct
        assert [[row[tag] for tag in shown] for row in rows] == [[one[tag] for tag in shown] for one in wanted]


INSTANCE = f"/studies/{STUDY}/series/{SERIES}/instances"
TAGGED = {
    f"/studies/{STUDY}": f"application/zip{ANY}",
    f"{INSTANCE}/{sop(1)}": "application/dicom",
    f"/studies/{STUDY}/metadata": "application/dicom+json",
    f"{INSTANCE}/{sop(2)}/metadata": 'multipart/related; type="application/dicom+xml"',
    f"{INSTANCE}/{sop(1)}/bulkdata/00081030": "*/*",
    f"{INSTANCE}/{sop(1)}/rendered?annotation=patient": "image/png",
    f"/wado?requestType=WADO&studyUID={STUDY}&seriesUID={SERIES}&objectUID={sop(3)}&contentType=application/dicom": "",
}


@pytest.mark.parametrize("path", TAGGED)
async def test_tags_turn_with_every_correction(
    home: Path, path: str, decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And come back with the undo, as the bytes do; no cache gives what was shown before."""
    corrections = Corrections(monkeypatch, None)
    async with opened(home, decoders) as graph:
        web = await Web.of(graph)
        seen: dict[str, bytes] = {}
        before = ""
        for over in (None, CORRECTED, OTHER, None, CORRECTED):
            corrections.overlay = over
            reply = await web.get(path, accept=TAGGED[path], if_none_match=f'"{before}"')
            assert reply.status == 200, reply
            before = reply.headers["etag"].strip('"')
            assert seen.setdefault(before, reply.body) == reply.body
            if path == f"/studies/{STUDY}/metadata":  # some of it comes out of a cache, some does not
                names = {one["00100010"]["Value"][0]["Alphabetic"] for one in reply.json}
                shown = {None: "M\u00fcller^J\u00f6rg", CORRECTED.digest: "Doe^Jane", OTHER.digest: "Roe^Jane"}
                assert names == {shown[over.digest if over else None]}
            again = await web.get(path, accept=TAGGED[path], if_none_match=f'"{before}"')
            assert again.status == 304 and not again.body
        assert len(seen) == 3
        assert len(set(seen.values())) == (2 if path.endswith("00081030") else 3)  # one correction leaves it alone


async def test_ranges_are_of_the_corrected_object(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corrections = Corrections(monkeypatch)
    async with opened(home) as graph:
        web = await Web.of(graph)
        for number in (1, KINDS.index("long") + 1):
            path, accept = f"{INSTANCE}/{sop(number)}", f"application/dicom{ANY}"
            whole = (await web.get(path, accept=accept)).body
            size = len(whole)
            for start, stop in (
                (0, 100),
                (300, 700),
                (size - 20, size),
                (size // 2, size - 5),
                (0, size),
                (900, 350_000),
            ):
                part = await web.get(path, accept=accept, range=f"bytes={start}-{stop - 1}")
                assert part.status == 206 and part.body == whole[start : min(size, stop)]
                assert part.headers["content-range"] == f"bytes {start}-{min(size, stop) - 1}/{size}"
        corrections.overlay = None
        old = (await web.get(path, accept=accept)).headers["etag"]
        corrections.overlay = CORRECTED
        other = await web.get(path, accept=accept, range="bytes=0-99", if_range=old)
        assert other.status == 200 and other.body == whole
        deflated = f"{INSTANCE}/{sop(KINDS.index('deflated') + 1)}"
        assert (await web.get(deflated, accept=accept, range="bytes=0-9")).status == 200


async def test_values_by_reference(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no correction touches is the same; what one does is the corrected value; what one took away is not there."""
    corrections = Corrections(monkeypatch)
    async with opened(home) as graph:
        web = await Web.of(graph)
        for number, kind in enumerate(KINDS, 1):
            path = f"{INSTANCE}/{sop(number)}/bulkdata"
            assert (await web.get(f"{path}/00081030")).body == b"Abdomen "
            assert (await web.get(f"{path}/00080050")).status == 404
            values = [f"{path}/00091001"] if kind in ("raw", "long", "long deflated") else []
            values += [f"{path}/FFFCFFFC"] if kind == "tail" else []
            values += [f"{path}/pixeldata"] if kind in ("plain", "implicit", "big", "deflated", "video") else []
            for value in values:
                corrections.overlay = CORRECTED
                after = await web.get(value)
                part = await web.get(value, range="bytes=7-200")
                corrections.overlay = None
                assert after.status == 200 and after.body == (await web.get(value)).body
                assert part.status == 206 and part.body == after.body[7:201]
                corrections.overlay = CORRECTED


async def test_another_syntax_has_the_corrected_header(
    home: Path, decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    corrections = Corrections(monkeypatch)
    async with opened(home, decoders) as graph:
        who, retrieve = principal(graph), graph.archive.retrieve

        async def made(number: int, syntax: str) -> bytes:
            (held,) = await retrieve.locate(who, STUDY, SERIES, sop(number))
            stream = await retrieve.part10(held, (syntax,))
            file = b"".join([bytes(piece) async for piece in stream.chunks()])
            return file[scan(file).layout.dataset_start :]

        for number, syntax in (
            (1, IMPLICIT),
            (1, JPEG_LS),
            (1, DEFLATED),
            (3, EXPLICIT),
            (4, EXPLICIT),
            (10, IMPLICIT),
        ):
            corrections.overlay = CORRECTED
            after = inflated(syntax, await made(number, syntax))
            corrections.overlay = None
            before = inflated(syntax, await made(number, syntax))
            encoding = EXPLICIT if syntax in (DEFLATED, JPEG_LS) else syntax
            shown, was = (orjson.loads(to_json(data, encoding, bulk_uri=str)) for data in (after, before))
            assert shown["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}] and "00080050" not in shown
            changed = {tag for tag in shown.keys() | was.keys() if shown.get(tag) != was.get(tag)}
            assert changed == {"00100010", "00100020", "00081030", "00080050", "00080015", "04000561"}
            if number < 10:
                mark = b"\xe0\x7f\x10\x00"
                assert after[after.rindex(mark) :] == before[before.rindex(mark) :]


async def test_an_encoding_held_beside_has_the_corrections_of_what_was_asked_for(
    home: Path, decoders: Decoders, tmp_path: Path
) -> None:
    """Whoever looks at an earlier state of the headers has it in every syntax."""
    one = Made("1.7", "1.7.1", "1.7.1.1", pixels=bytes(range(256)))
    async with opened(tmp_path / "home", decoders) as graph:
        assert (await store(graph, one.part10(EXPLICIT))).outcome is Outcome.STORED
        assert (await store(graph, one.part10(IMPLICIT))).outcome is Outcome.ENCODING
        (held,) = await graph.archive.retrieve.locate(principal(graph), "1.7")
        stream = await graph.archive.retrieve.part10(replace(held, overlay=OTHER), (IMPLICIT,))
        file = b"".join([bytes(piece) async for piece in stream.chunks()])
        assert b"Roe^Jane" in file and stream.size == len(file) and stream.syntax == IMPLICIT


async def test_a_picture_has_the_corrected_name(
    home: Path, decoders: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same picture as of an object that was sent with that name."""
    right = Made("1.2", "1.2.3", "1.2.3.1", pixels=PIXELS, name="Doe^Jane", patient="P2")
    accept = {"accept": "image/png"}
    path = f"{INSTANCE}/{sop(1)}/rendered?annotation=patient"
    async with opened(tmp_path / "home", decoders) as graph:
        await store(graph, right.part10())
        wanted = (await (await Web.of(graph)).get(path, **accept)).body
    corrections = Corrections(monkeypatch, None)
    async with opened(home, decoders) as graph:
        web = await Web.of(graph)
        assert (await web.get(path, **accept)).body != wanted
        corrections.overlay = CORRECTED
        assert (await web.get(path, **accept)).body == wanted


@pytest.mark.parametrize("syntax", [EXPLICIT, DEFLATED])
async def test_a_long_header_that_becomes_utf_8(syntax: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that its character set has not: all texts are written anew while the header is read."""
    over = overlay(step(edit(0x00100010, "PN", {"Alphabetic": "Wang^XiaoDong", "Ideographic": "\u738b^\u5c0f\u6771"})))
    pieces = [piece.replace(b"ISO_IR 192", b"ISO_IR 100") for piece in dataset(LONG, LONG)]
    pieces = [piece.replace(b"Thorax", b"Th\xf6rax") for piece in pieces]
    whole = b"".join(pieces)
    wanted = amended(whole, EXPLICIT, over, Origin())
    assert "Th\u00f6rax".encode() in wanted
    Corrections(monkeypatch, over)
    async with opened(tmp_path / "home") as graph:
        await keep(graph, deflated(pieces) if syntax == DEFLATED else pieces, syntax)
        held, retrieve = await one_of(graph), graph.archive.retrieve
        stream = await retrieve.part10(held)
        file = b"".join([bytes(piece) async for piece in stream.chunks()])
        assert inflated(syntax, file[scan(file).layout.dataset_start :]) == wanted
        assert stream.size in (None, len(file))
        document = b"".join([piece async for piece in retrieve.metadata_pieces(held, "/")])
        assert document == to_json(wanted, EXPLICIT, bulk_uri=lambda path: "/" + path)
        value = await retrieve.bulkdata(held, INNER)
        assert b"".join([bytes(piece) async for piece in value.chunks(5, 100)]) == b"".join(pattern(LONG))[5:100]
        if syntax == EXPLICIT:
            assert b"".join([bytes(piece) async for piece in stream.chunks(700, 1_500_000)]) == file[700:1_500_000]


async def test_what_was_rejected_or_corrected_is_still_committed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Corrections(monkeypatch)
    async with opened(tmp_path / "home") as graph:
        who = principal(graph)
        for _, file in objects()[:2]:
            await store(graph, file)
        await graph.archive.remove.reject(who, STUDY, SERIES, sop(1), reason="113001")
        await graph.archive.commitment.request(who, "1.2.9", [(CT, sop(1)), (CT, sop(2)), (CT, "9.9")])
        await graph.archive.commitment.idle()
        result = await graph.archive.commitment.result(who, "1.2.9")
        assert result is not None and result.failed == ((CT, "9.9", 0x0112),)
        assert result.committed == ((CT, sop(1)), (CT, sop(2)))


async def test_an_export_is_replaced_when_the_correction_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two names of one length give files of one size."""
    corrections = Corrections(monkeypatch, OTHER)
    async with opened(home) as graph:
        for over, files in (
            (OTHER, len(KINDS)),
            (OTHER, 2),
            (NEARLY, len(KINDS)),
        ):  # deflated ones have no size to tell
            corrections.overlay = over
            summary = await export(graph.archive, principal(graph), [STUDY], tmp_path)
            assert (summary.files, summary.present) == (files, len(KINDS) - files)
            names = {file.read_bytes().count(b"Roe^Jane") for file in tmp_path.rglob(f"{sop(1)}.dcm")}
            assert names == {over is OTHER}
