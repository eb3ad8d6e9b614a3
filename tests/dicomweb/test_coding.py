"""Content codings: who gets which, and that what comes out is what went in."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import brotli
import pytest
from backports import zstd

from radiolith.dicomweb.coding import chosen
from radiolith.dicomweb.routes import Edge
from radiolith.model import Held, Page
from tests.dicomweb.driver import ask
from tests.dicomweb.fake import FakeArchive
from tests.dicomweb.test_search import row

UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress, "br": brotli.decompress, "zstd": zstd.decompress,
}  # fmt: skip


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("GZIP ; Q=0.5, br;q=0.4", "gzip"),
        ("br;q=0.5, gzip;q=0.5", "br"),
        ("zstd;q=0, br;q=0.000, gzip;q=0.001", "gzip"),
        ("*", "zstd"),
        ("*;q=0.5, gzip", "gzip"),
        ("*, zstd;q=0, br;q=0", "gzip"),
        ("*;q=0", ""),
        ("identity", ""),
        ("identity;q=1, gzip;q=0.5", ""),
        ("identity;q=0.5, gzip", "gzip"),
        ("identity, br", "br"),
        ("deflate, compress", ""),
        ("gzip;q=2, br;q=x", ""),
        ("gzip;level=3", ""),
        (",;,q=1;", ""),
        ("gzip," * 400, ""),
    ],
)
def test_choice(header: str, coding: str) -> None:
    assert chosen(header.encode()) == coding


@pytest.mark.parametrize("coding", UNPACK)
@pytest.mark.parametrize("pages", [1, 3])
async def test_a_search_in_every_coding(edge: Edge, archive: FakeArchive, coding: str, pages: int) -> None:
    """Whole answers and streamed ones."""
    listed = [Page([row(n) for n in range(50)], number < pages - 1, "next") for number in range(pages)]
    target = "/studies" if pages == 1 else "/studies/1.2/instances"
    archive.pages = list(listed)
    plain = await ask(edge, "GET", target)
    archive.pages = list(listed)
    packed = await ask(edge, "GET", target, headers={"accept-encoding": coding})
    assert packed.headers["content-encoding"] == coding and UNPACK[coding](packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 4 and ("vary", "Accept-Encoding") in packed.all_headers
    assert "content-encoding" not in plain.headers and ("vary", "Accept-Encoding") in plain.all_headers
    assert int(packed.headers.get("content-length", len(packed.body))) == len(packed.body)


async def test_small_answers_go_as_they_are(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    archive.pages = [Page([row(1)], False)]
    xml = 'multipart/related; type="application/dicom+xml"'
    for target, accept in (("/studies", "*/*"), ("/studies/1.2/metadata", "*/*"), ("/studies/1.2/metadata", xml)):
        reply = await ask(edge, "GET", target, headers={"accept-encoding": "zstd", "accept": accept})
        assert reply.status == 200 and len(reply.body) < 1400 and "content-encoding" not in reply.headers


async def test_objects_and_pictures_are_not_packed(edge: Edge, slices: list[Held]) -> None:
    for end in ("", "/series/1.2.3/instances/1.2.3.1/frames/1", "/rendered"):
        reply = await ask(edge, "GET", "/studies/1.2" + end, headers={"accept-encoding": "gzip, br, zstd"})
        assert reply.status == 200 and "content-encoding" not in reply.headers


async def test_each_coding_has_an_entity_tag_of_its_own(edge: Edge, slices: list[Held]) -> None:
    """RFC 9110 8.8.3: a strong tag names bytes, and each coding has other bytes."""
    tags: dict[str, str] = {}
    for coding in ("identity", *UNPACK):
        reply = await ask(edge, "GET", "/studies/1.2/metadata", headers={"accept-encoding": coding})
        tags[coding] = reply.headers["etag"]
    assert len(set(tags.values())) == 4
    for coding, tag in tags.items():
        for other in tags:
            headers = {"accept-encoding": other, "if-none-match": tag}
            reply = await ask(edge, "GET", "/studies/1.2/metadata", headers=headers)
            assert reply.status == (304 if other == coding else 200)


async def test_head_says_what_get_would(edge: Edge, archive: FakeArchive) -> None:
    archive.pages = [Page([row(n) for n in range(50)], False)] * 2
    get = await ask(edge, "GET", "/studies", headers={"accept-encoding": "br"})
    head = await ask(edge, "HEAD", "/studies", headers={"accept-encoding": "br"})
    assert head.headers == get.headers and head.body == b""
