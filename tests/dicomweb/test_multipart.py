"""multipart/related: the same parts however the body is cut, and a clear error for everything else."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiolith.dicomweb.multipart import (
    HEADER_BYTES_MAX,
    OUTSIDE_BYTES_MAX,
    End,
    Parser,
    Part,
    Writer,
    checked_boundary,
    content_type,
)
from radiolith.model import BadInput, LimitExceeded

BOUNDARY = "b=0:1"


def parts_of(pieces: list[bytes], boundary: str = BOUNDARY, **limits: int) -> list[tuple[dict[str, str], bytes]]:
    parser = Parser(checked_boundary(boundary), **limits)
    parts: list[tuple[dict[str, str], bytearray]] = []
    complete = 0
    for piece in pieces:
        for event in parser.feed(piece):
            if isinstance(event, Part):
                parts.append((event.headers, bytearray()))
            elif event is End.PART:
                complete += 1
            elif event is not End.BODY:
                parts[-1][1].extend(event)  # type: ignore[arg-type]
    parser.finish()
    assert complete == len(parts)
    return [(headers, bytes(data)) for headers, data in parts]


def body_of(datas: list[bytes], boundary: str = BOUNDARY) -> bytes:
    writer = Writer(boundary)
    return b"".join(writer.part("application/dicom", f"u/{n}") + data for n, data in enumerate(datas)) + writer.end()


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(p % (len(body) + 1) for p in places), len(body)]
    return [body[a:b] for a, b in itertools.pairwise(edges)]


# Data made of pieces of the delimiter itself: what a careless parser trips over.
NASTY = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"\r\n", b"--", b"\r\n--", b"\r\n--b=0", b"b=0:1", b"--b=0:", b"\r\r\n--b=", b"x", b"\0"]
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(NASTY.filter(lambda d: b"\r\n--b=0:1" not in b"\r\n" + d), max_size=5),
    st.lists(st.integers(0, 4000), max_size=9),
)
def test_any_cut_gives_the_same_parts(datas: list[bytes], places: list[int]) -> None:
    body = body_of(datas) if datas else b"--" + BOUNDARY.encode() + b"--"
    expected = [({"content-type": "application/dicom", "content-location": f"u/{n}"}, d) for n, d in enumerate(datas)]
    assert parts_of(cut(body, places)) == expected


def test_one_byte_at_a_time() -> None:
    datas = [b"\r\n--b=0:", b"", b"\r", b"\r\n\r\n"]
    body = b"prose before\r\n" + body_of(datas) + b"prose behind"
    assert [data for _, data in parts_of([bytes([b]) for b in body])] == datas


def test_part_without_headers_and_without_data() -> None:
    assert parts_of([b"--b\r\n\r\n\r\n--b--"], "b") == [({}, b"")]
    assert parts_of([b"--b\r\n\r\n--b--"], "b") == [({}, b"")]
    assert parts_of([b"--b\r\nA: 1\r\n\r\n--b--"], "b") == [({"a": "1"}, b"")]
    assert parts_of([b"--b  \t\r\nA: 1\r\n\r\nx\r\n--b--"], "b") == [({"a": "1"}, b"x")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b",
        b"--b\r\n",
        b"--b\r\nA: 1\r\n\r\nno end",
        b"--b\r\nA: 1\r\n\r\nx\r\n--b",
        b"--b\r\nA: 1\r\n\r\nx\r\n--b-",
        b"--b\r\nno colon\r\n\r\nx\r\n--b--",
        b"--b\r\nA: 1\r\nA: 2\r\n\r\nx\r\n--b--",
        b"--b\r\nA: 1\r\n folded\r\n\r\nx\r\n--b--",
        b"--b\r\nA: 1\n2\r\n\r\nx\r\n--b--",
        b"--b\r\nA: \0\r\n\r\nx\r\n--b--",
        b"--bx\r\nA: 1\r\n\r\nx\r\n--b--",
        b"--b" + b" " * 300,
        b"no delimiter at all",
    ],
)
def test_what_is_not_multipart_is_bad_input(body: bytes) -> None:
    with pytest.raises(BadInput):
        parts_of([body], "b")


def test_limits() -> None:
    with pytest.raises(LimitExceeded):
        parts_of([b"--b\r\nA: " + b"x" * (HEADER_BYTES_MAX + 100)], "b")
    with pytest.raises(LimitExceeded):
        parts_of([b"--b\r\n" + b"".join(b"h%d: 1\r\n" % n for n in range(40)) + b"\r\nx\r\n--b--"], "b")
    with pytest.raises(LimitExceeded):
        parts_of([b"x" * (OUTSIDE_BYTES_MAX + 100)], "b")
    with pytest.raises(LimitExceeded):
        parts_of([b"--b--" + b"x" * (OUTSIDE_BYTES_MAX + 100)], "b")
    with pytest.raises(LimitExceeded):
        parts_of([body_of([b"x"] * 5)], parts_max=4)


@pytest.mark.parametrize("text", [None, "", "x" * 71, "a\r\nb", "ends with space ", "é", 'a"b'])
def test_boundaries_that_are_none(text: str | None) -> None:
    with pytest.raises(BadInput):
        checked_boundary(text)


def test_content_type_quotes_what_needs_it() -> None:
    assert content_type("application/dicom", "x1") == 'multipart/related; type="application/dicom"; boundary=x1'


def test_data_are_views_of_what_was_fed() -> None:
    """The hot path neither joins nor copies: a piece inside a part comes out as one view of it."""
    parser = Parser(b"b")
    list(parser.feed(b"--b\r\nA: 1\r\n\r\nx"))
    piece = bytes(65536)
    (event,) = parser.feed(piece)
    assert isinstance(event, memoryview) and event.obj is piece


def test_random_bytes_never_surprise() -> None:
    rng = random.Random(7)
    alphabet = [b"--b", b"\r\n", b"--", b"A: 1", b"\r\n\r\n", b"\0", b"x" * 50, b":", b" "]
    outcomes = {"parts": 0, "refused": 0}
    for _ in range(2000):
        body = b"".join(rng.choices(alphabet, k=rng.randrange(20)))
        try:
            parts_of(cut(body, [rng.randrange(200) for _ in range(3)]), "b")
            outcomes["parts"] += 1
        except BadInput:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 1000
