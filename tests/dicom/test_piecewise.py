"""Headers behind a window, and documents made piece by piece, are what they are for headers held whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from random import Random

import orjson
import pytest

from radiolith.dicom import encoding, json, piecewise, syntax, tokens, window
from radiolith.dicom.encoding import element_header, rewrite
from radiolith.dicom.inflate import inflated
from radiolith.dicom.json import to_json
from radiolith.dicom.limits import Unparsable
from radiolith.dicom.piecewise import bulk_paths, json_pieces, xml_pieces
from radiolith.dicom.reader import scan
from radiolith.dicom.tokens import Tokens
from radiolith.dicom.window import Window
from radiolith.dicom.xml import to_xml
from radiolith.model import LimitExceeded, NotFound
from tests import campaign

EXPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"


def element(tag: int, vr: str, value: bytes) -> bytes:
    return element_header(tag, vr, len(value)) + value


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """So little at a time that a small header meets many edges; no less than a private creator's value, looked at twice."""
    monkeypatch.setattr(window, "WINDOW_BYTES", 270)
    monkeypatch.setattr(piecewise, "BATCH_BYTES", 300)


def forward(data: bytes) -> Window:
    """A window that refuses to go back, as a deflated dataset would make it costly."""
    reached = 0

    def read(start: int, stop: int) -> bytes:
        nonlocal reached
        assert start >= reached, "read backwards"
        reached = stop
        return data[start:stop]

    return Window(read, len(data))


def made(make: Callable[[], object]) -> object:
    try:
        return make()
    except (LimitExceeded, NotFound) as failure:
        return str(failure)


@pytest.mark.usefixtures("narrow")
def test_whatever_the_header_says(corpus_files: list[Path]) -> None:
    rounds = campaign.count("headers through a window", 3, 200)
    compared = 0
    for path in corpus_files:
        data = path.read_bytes()
        try:
            found = scan(data)
        except (Unparsable, LimitExceeded):
            continue
        layout, written = found.layout, found.actual_encoding
        if layout.header_end > 10_000 or syntax.encoding(layout.transfer_syntax).deflated:
            continue
        random = Random(path.name)
        header = data[layout.dataset_start : layout.header_end + 12]
        for number in range(rounds):
            variant = bytearray(header)
            for _ in range(number % 4):
                variant[random.randrange(len(variant))] = random.choice(b"\0\1\x10\xff\xfe019 A\\")
            compare(bytes(variant), written)
            compared += 1
    assert compared >= 30 * rounds


def compare(data: bytes, written: str) -> None:
    how = syntax.encoding(written)
    assert made(lambda: list(Tokens(forward(data), how))) == made(lambda: list(Tokens(data, how)))
    paths: list[str] = []
    whole = made(lambda: to_json(data, written, bulk_uri=lambda path: paths.append(path) or path))
    assert made(lambda: b"".join(json_pieces((data, b""), written, bulk_uri=str))) == whole  # it is walked twice
    assert made(lambda: to_json(forward(data), written, bulk_uri=str)) == whole
    assert made(lambda: list(chain.from_iterable(bulk_paths((forward(data), b""), written)))) in (paths, whole)
    document = made(lambda: to_xml(data, written, bulk_uri=str))
    assert made(lambda: b"".join(xml_pieces((forward(data), b""), written, bulk_uri=str))) == document
    explicit = made(lambda: rewrite(data, written, EXPLICIT))
    assert made(lambda: rewrite(forward(data), written, EXPLICIT)) == explicit
    for path in paths[:2]:
        place = made(lambda p=path: json.find(data, written, p))  # type: ignore[misc]
        assert made(lambda p=path: json.find(forward(data), written, p)) == place  # type: ignore[misc]


@pytest.mark.parametrize(("size", "vr"), [(1000, "OW"), (1001, "OB"), (1001, "OW"), (1002, "OF"), (1000, "OD")])
def test_long_values_are_rewritten_piece_by_piece(monkeypatch: pytest.MonkeyPatch, size: int, vr: str) -> None:
    value = Random(size).randbytes(size)
    data = struct.pack(">HH2sHI", 0x0009, 0x1010, vr.encode(), 0, size) + value
    data += struct.pack(">HH2sH", 0x0010, 0x0020, b"LO", 2) + b"ID"
    whole = rewrite(data, BIG, EXPLICIT)
    monkeypatch.setattr(encoding, "PIECE", 64)
    pieces = list(encoding.rewritten(data, BIG, EXPLICIT))
    assert b"".join(pieces) == whole and max(map(len, pieces)) < 64 + 30 and len(pieces) > 10


def test_a_long_value_is_never_read() -> None:
    """Ten values of 1 MB, one inside an item: what is read beside them are element headers and short values."""
    item = element(0x00091010, "OB", bytes(1_000_000)) + element(0x00100020, "LO", b"in")
    inner = element_header(0xFFFEE000, "", len(item), implicit=True) + item
    sequence = element(0x00081140, "SQ", inner)
    data = sequence + b"".join(element(0x00111010 + n, "OB", bytes([n]) * 1_000_000) for n in range(9))
    data += element(0x7FE00010, "OW", b"")
    came = 0

    def read(start: int, stop: int) -> bytes:
        nonlocal came
        came += stop - start
        return data[start:stop]

    document = orjson.loads(b"".join(json_pieces((Window(read, len(data)), b""), EXPLICIT, bulk_uri=str)))
    assert document["00081140"]["Value"][0]["00091010"]["BulkDataURI"] == "00081140/1/00091010"
    assert document["00081140"]["Value"][0]["00100020"]["Value"] == ["in"]
    assert document["00111018"] == {"vr": "OB", "BulkDataURI": "00111018"} and "7FE00010" in document
    assert came <= 2 * 13 * window.WINDOW_BYTES  # it is walked twice: for the order, and for the text
    start, length, vr = json.find(Window(read, len(data)), EXPLICIT, "00081140/1/00091010")
    assert (data[start : start + length], vr) == (bytes(1_000_000), "OB")


def test_the_tail_behind_the_pixel_data() -> None:
    data, tail = element(0x00100020, "LO", b"ID"), element(0xFFFCFFFC, "OB", bytes(5000))
    expected = to_json(data, EXPLICIT, bulk_uri=str, tail=tail)
    assert b"".join(json_pieces((data, forward(tail)), EXPLICIT, bulk_uri=str)) == expected


@pytest.mark.usefixtures("narrow")
def test_elements_out_of_order_are_sorted_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(element(0x00100020 - n, "LO", b"%04d" % n * 9) for n in range(20)) + element(
        0x00100020, "LO", b"x "
    )
    expected = to_json(data, EXPLICIT, bulk_uri=str)
    assert list(orjson.loads(expected)) == sorted(orjson.loads(expected))
    assert b"".join(json_pieces((data, b""), EXPLICIT, bulk_uri=str)) == expected
    monkeypatch.setattr(json, "_REORDER_MAX", 500)
    with pytest.raises(LimitExceeded):
        list(json_pieces((data, b""), EXPLICIT, bulk_uri=str))


def test_private_creators_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CREATORS_MAX", 2)
    many = b"".join(
        element_header(tag << 16 | 0x10, "", 12, implicit=True) + b"GEMS_IDEN_01" for tag in range(0x11, 0x41, 2)
    )
    block = element_header(0x00411002, "", 6, implicit=True) + b"SUITE1"
    last = orjson.loads(to_json(many + block, "1.2.840.10008.1.2", bulk_uri=str))["00411002"]
    assert last["vr"] == "UN"  # GEMS_IDEN_01 owns group 0009 only
    own = element_header(0x00090010, "", 12, implicit=True) + b"GEMS_IDEN_01"
    block = element_header(0x00091002, "", 6, implicit=True) + b"SUITE1"
    found = orjson.loads(to_json(many + own + block, "1.2.840.10008.1.2", bulk_uri=str))
    assert found["00091002"] == {"vr": "SH", "Value": ["SUITE1"]}


def test_inflated_bytes_by_their_offset() -> None:
    random = Random(5)
    data = random.randbytes(300_000) + bytes(1_000_000) + random.randbytes(200_000)
    machine = zlib.compressobj(wbits=-15)
    stored = machine.compress(data) + machine.flush()
    whole = inflated(lambda start, stop: stored[start:stop], len(stored))
    for _ in range(60):
        start = random.randrange(len(data) + 10)
        stop = start + random.choice((0, 1, 70, 100_000, 700_000))
        assert whole.read(start, stop) == data[start:stop]
    reads: list[int] = []
    once = inflated(lambda start, stop: reads.append(start) or stored[start:stop], len(stored))  # type: ignore[func-returns-value]
    assert b"".join(once.read(at, at + 50_000) for at in range(0, len(data), 50_000)) == data
    assert reads == sorted(set(reads)), "it began again"
