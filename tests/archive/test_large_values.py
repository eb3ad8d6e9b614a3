"""Values of any size outside the pixel data cost the memory of small ones (DESIGN 2, sentence 6)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from radiolith.app import Graph
from radiolith.archive import description, encodings, query, reading
from radiolith.archive.pixels import Pixelwork
from radiolith.archive.reading import is_large
from radiolith.dicom.reader import scan
from radiolith.dicomweb.routes import Edge
from radiolith.index.database import Database
from radiolith.model import Held, Level, LimitExceeded, Outcome, Query, Receipt
from tests.archive.homes import opened, principal, store
from tests.archive.large_values import DEFLATED, INNER, OUTER, dataset, deflated, digest, keep, one, pattern
from tests.archive.objects import EXPLICIT, IMPLICIT, Made, _element
from tests.dicomweb.driver import ask

LARGE, NESTED = 300 << 20, 3_000_000
GROWTH = 24 << 20  # bytes: pieces of 1 MiB, one read ahead, the pool's buffers, a window


@pytest.fixture
async def graph(tmp_path: Path) -> AsyncIterator[Graph]:
    async with opened(tmp_path / "home") as made:
        yield made


def test_a_value_of_300_mib_costs_no_memory(tmp_path: Path) -> None:
    async def filled() -> Receipt:
        async with opened(tmp_path / "home") as graph:
            return await keep(graph, dataset(LARGE, NESTED))

    assert asyncio.run(filled()).outcome is Outcome.STORED
    reader = [sys.executable, "-m", "tests.archive.large_values", str(tmp_path / "home")]
    done = subprocess.run(reader, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = orjson.loads(done.stdout)
    metadata = orjson.loads(found["json"])
    assert metadata[OUTER] == {"vr": "OB", "BulkDataURI": f"/{OUTER}"}
    inside = metadata["0040A730"]["Value"][0]["0040A730"]["Value"][0]["00420011"]
    assert inside == {"vr": "OB", "BulkDataURI": f"/{INNER}"}
    assert metadata["00100010"]["Value"] == [{"Alphabetic": "Large^Value"}]
    assert f'<BulkData uri="/{OUTER}"/>' in found["xml"] and f'<BulkData uri="/{INNER}"/>' in found["xml"]
    assert found["paths"] == [OUTER, INNER]
    assert found[OUTER] == [LARGE, digest(pattern(LARGE))]
    assert found[INNER] == [NESTED, digest(pattern(NESTED))]
    assert LARGE + NESTED < found["recoded"] < LARGE + NESTED + 2000
    size, sent = found["corrected"]
    assert size == sent and LARGE + NESTED < sent < LARGE + NESTED + 2000
    corrected = orjson.loads(found["corrected json"])
    assert corrected["00100010"]["Value"] == [{"Alphabetic": "Corrected^Value"}] and "04000561" in corrected
    assert found["corrected value"] == found[OUTER]
    assert found["growth"] < GROWTH, f"grew by {found['growth'] >> 20} MiB"
    assert found["corrected growth"] < GROWTH, f"grew by {found['corrected growth'] >> 20} MiB"


# ---------------------------------------------------------------- over the web, in every encoding

SMALL, ROOM = 2_200_000, 1_300_000  # larger than a header that is read at once
INSTANCE = "/studies/1.2/series/1.2.3/instances/1.2.3.1"


def edge(graph: Graph) -> Edge:
    return Edge(graph.archive, graph.identities, graph.settings.limits)


async def token(graph: Graph) -> str:
    return await graph.accounts.add_token(principal(graph), "tests", "admin")


@pytest.mark.parametrize("syntax", [EXPLICIT, DEFLATED])
async def test_metadata_values_and_ranges_over_the_web(graph: Graph, syntax: str) -> None:
    pieces = dataset(SMALL, ROOM)
    assert (await keep(graph, deflated(pieces) if syntax == DEFLATED else pieces, syntax)).outcome is Outcome.STORED
    assert is_large((await one(graph)).layout)
    app, key = edge(graph), await token(graph)
    outer, inner = b"".join(pattern(SMALL)), b"".join(pattern(ROOM))
    metadata = await ask(app, "GET", INSTANCE + "/metadata", token=key)
    assert metadata.status == 200 and metadata.headers["content-type"] == "application/dicom+json"
    (document,) = metadata.json
    assert document[OUTER]["BulkDataURI"] == f"http://pacs.example/dicom-web{INSTANCE}/bulkdata/{OUTER}"
    assert (await ask(app, "GET", "/studies/1.2/metadata", token=key)).json == [document]
    native = await ask(app, "GET", INSTANCE + "/metadata", token=key,
                       headers={"accept": 'multipart/related; type="application/dicom+xml"'})  # fmt: skip
    assert f"{INSTANCE}/bulkdata/{INNER}".encode() in native.parts[0][1]
    for path, value in ((OUTER, outer), (INNER, inner)):
        url = f"{INSTANCE}/bulkdata/{path}"
        assert (await ask(app, "GET", url, token=key)).body == value
        part = await ask(app, "GET", url, token=key, headers={"range": "bytes=1048570-1200000"})
        assert part.status == 206 and part.body == value[1048570:1200001]
        assert part.headers["content-range"] == f"bytes 1048570-1200000/{len(value)}"
        last = await ask(app, "GET", url, token=key, headers={"range": "bytes=-7"})
        assert last.body == value[-7:]
    plain = await ask(app, "GET", INSTANCE, token=key,
                      headers={"accept": f"application/dicom; transfer-syntax={EXPLICIT}"})  # fmt: skip
    again = scan(plain.body)
    assert again.layout.transfer_syntax == EXPLICIT and outer in plain.body and inner in plain.body
    every = await ask(app, "GET", INSTANCE + "/bulkdata", token=key)
    assert [body for _, body in every.parts] == [outer, inner]
    assert (await ask(app, "GET", f"{INSTANCE}/bulkdata/00091002", token=key)).status == 404


async def test_a_series_of_small_and_large_is_one_list(graph: Graph) -> None:
    for number in (2, 3):
        await store(graph, Made("1.2", "1.2.3", f"1.2.3.{number}", number=number, private=b"x" * 9).part10())
    await keep(graph, dataset(SMALL, ROOM))
    found = (await ask(edge(graph), "GET", "/studies/1.2/metadata", token=await token(graph))).json
    assert [document["00080018"]["Value"] for document in found] == [["1.2.3.1"], ["1.2.3.2"], ["1.2.3.3"]]
    assert "BulkDataURI" in found[0][OUTER] and "InlineBinary" in found[1][OUTER]


async def test_blocks_of_a_series_are_bounded_by_bytes(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 8):
        await store(graph, Made("1.2", "1.2.3", f"1.2.3.{number}", number=number, private=b"x" * 1000).part10())
    helds = await graph.archive.retrieve.locate(principal(graph), "1.2")
    monkeypatch.setattr(description, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(description, "BLOCK_INSTANCES", 3)
    pieces = [piece async for piece in graph.archive.retrieve.series_metadata(helds, "{study}/{series}/{sop}/")]
    assert [piece.count(b"1.2.840.10008.5.1.4.1.1.66") for piece in pieces] == [2, 2, 2, 1, 0]
    monkeypatch.setattr(description, "BLOCK_BYTES", 1 << 20)
    again = [piece async for piece in graph.archive.retrieve.series_metadata(helds, "{study}/{series}/{sop}/")]
    assert [piece.count(b"1.2.840.10008.5.1.4.1.1.66") for piece in again] == [3, 3, 1, 0]
    assert b"".join(again) == b"".join(pieces)
    assert [piece async for piece in graph.archive.retrieve.series_metadata([], "")] == [b"[]"]


# ---------------------------------------------------------------- elements behind the pixel data, searches


async def test_elements_behind_the_pixel_data_of_any_length(graph: Graph) -> None:
    tail = _element(0xFFFCFFFC, "OB", b"".join(pattern(ROOM)), EXPLICIT)
    made = Made("1.2", "1.2.3", "1.2.3.1", pixels=bytes(512)).part10() + tail
    assert (await store(graph, made)).outcome is Outcome.STORED
    held = await one(graph)
    assert is_large(held.layout)
    retrieve = graph.archive.retrieve
    document = orjson.loads(await retrieve.metadata(held, "/"))
    assert document["FFFCFFFC"] == {"vr": "OB", "BulkDataURI": "/FFFCFFFC"} and "7FE00010" in document
    stream = await retrieve.bulkdata(held, "FFFCFFFC")
    assert b"".join([piece async for piece in stream.chunks()]) == b"".join(pattern(ROOM))


def texts(count: int) -> bytes:
    """So many private texts of 60 KB, which stand in line."""
    return b"".join(_element(0x00511010 + n, "UT", b"%d" % (n % 10) * 60_000, EXPLICIT) for n in range(count))


async def test_a_document_that_is_needed_whole_is_bounded(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    await keep(graph, dataset(0, 0, texts(30)))
    held, retrieve = await one(graph), graph.archive.retrieve
    whole = await retrieve.metadata(held, "/")
    assert b"".join([piece async for piece in retrieve.metadata_pieces(held, "/")]) == whole
    assert len(whole) > 30 * 60_000
    monkeypatch.setattr(description, "DOCUMENT_BYTES", 1 << 20)
    with pytest.raises(LimitExceeded):
        await retrieve.metadata(held, "/")


async def test_searches_read_headers_within_bounds(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside the transaction of the search: a reader that is not closed keeps a database from being tidied."""
    await store(graph, Made("1.2", "1.2.3", "1.2.3.2", number=2, private=b"x" * 9).part10())
    await keep(graph, dataset(SMALL, ROOM, texts(20)))
    open_reads = 0
    database = graph.archive.query._database
    plain = type(database).read

    @contextmanager
    def counted(self: Database):  # type: ignore[no-untyped-def]
        nonlocal open_reads
        with plain(self) as read:
            open_reads += 1
            try:
                yield read
            finally:
                open_reads -= 1

    monkeypatch.setattr(type(database), "read", counted)
    described = description.Description.row_now

    def row_now(self: description.Description, held: Held, limit: int) -> bytes:
        assert open_reads == 0, "headers are read while a transaction is open"
        return described(self, held, limit)

    monkeypatch.setattr(description.Description, "row_now", row_now)
    wanted = Query(Level.INSTANCE, include_all=True, limit=10)
    rows = (await graph.archive.query.search(principal(graph), wanted)).rows
    assert [0x00511010 in row for row in rows] == [True, False]
    assert 0x00090010 in rows[0] and 0x00091001 not in rows[0]
    monkeypatch.setattr(query, "ROW_BYTES", 1 << 20)
    rows = (await graph.archive.query.search(principal(graph), wanted)).rows
    assert [0x00090010 in row for row in rows] == [False, True]
    monkeypatch.setattr(query, "ROW_BYTES", 4 << 20)
    monkeypatch.setattr(query, "PAGE_BYTES", 1 << 20)
    with pytest.raises(LimitExceeded):
        await graph.archive.query.search(principal(graph), wanted)


async def test_versions_with_long_values_behind_the_pixels_stay_versions(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such values would be compared by their paths: two contents would pass as one in two syntaxes."""

    async def same(self: Pixelwork, held: Held, number: int) -> tuple[object, ...]:
        return ("the pixels",)

    monkeypatch.setattr(Pixelwork, "decoded", same)
    monkeypatch.setattr(encodings, "_HEADER_BYTES", 4096)

    def file(sop: str, syntax: str, fill: bytes, length: int) -> bytes:
        made = Made("1.2", "1.2.3", sop, pixels=bytes(512))
        return made.part10(syntax) + _element(0xFFFCFFFC, "OB", fill * length, syntax)

    for length, other, outcome in (
        (1000, b"a", Outcome.ENCODING),
        (1000, b"b", Outcome.VERSION),
        (8000, b"b", Outcome.VERSION),
    ):
        sop = f"1.2.3.{length}.{other[0]}"
        await store(graph, file(sop, EXPLICIT, b"a", length))
        assert (await store(graph, file(sop, IMPLICIT, other, length))).outcome is outcome, (length, other)


async def test_what_follows_the_pixels_of_a_deflated_object_is_content(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def same(self: Pixelwork, held: Held, number: int) -> tuple[object, ...]:
        return ("the pixels",)

    monkeypatch.setattr(Pixelwork, "decoded", same)
    plain = Made("1.2", "1.2.3", "1.2.3.1", pixels=bytes(512)).dataset()
    await keep(graph, [plain])
    assert (await keep(graph, deflated([plain]), DEFLATED)).outcome is Outcome.ENCODING
    signed = plain + _element(0xFFFAFFFA, "SQ", b"", EXPLICIT)
    assert (await keep(graph, deflated([signed]), DEFLATED)).outcome is Outcome.VERSION


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize("syntax", [EXPLICIT, DEFLATED])
async def test_a_long_frame_is_read_while_it_is_sent(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    pixels = b"".join(pattern(3 << 20))
    made = Made("1.2", "1.2.3", "1.2.3.1", pixels=pixels).dataset()
    await keep(graph, deflated([made]) if syntax == DEFLATED else [made], syntax)
    held, retrieve = await one(graph), graph.archive.retrieve
    monkeypatch.setattr(reading, "LONG_FRAME", 1 << 20)
    monkeypatch.setattr(reading, "FRAME_BYTES", 2 << 20)
    _, streams = await retrieve.frames(held, [1])
    (stream,) = [one async for one in streams]
    pieces = [bytes(piece) async for piece in stream.chunks()]
    assert stream.size == len(pixels) and b"".join(pieces) == pixels
    assert max(map(len, pieces)) <= reading.PIECE
    app, key = edge(graph), await token(graph)
    part = await ask(
        app, "GET", INSTANCE + "/frames/1", token=key,
        headers={"accept": "application/octet-stream", "range": "bytes=2000000-2000099"},
    )  # fmt: skip
    assert (part.status, part.body) == (206, pixels[2_000_000:2_000_100])
    with pytest.raises(LimitExceeded):
        reading.Reading.frame_now(retrieve._reading, held, 1)
