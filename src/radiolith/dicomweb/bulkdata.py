"""Bulk data (PS3.18 10.4.1.1.4): the values that metadata point to, one by one with ranges, or all of them.

Owns: which media type a value has. Must never: follow an address, or hold a value or a header; a bulk path is looked up
in the object's own header.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from radiolith.archive.ports import Stream
from radiolith.dicomweb import accept
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.multipart import Writer, content_type
from radiolith.dicomweb.resources import (
    Reply,
    boundary_of,
    etag,
    instance_url,
    located,
    ranged,
    the_one,
)
from radiolith.dicomweb.respond import Answer, Streamed, gathered, unchanged
from radiolith.dicomweb.wado import frames_reply
from radiolith.model import Held, NotFound, Pixels

PIXEL_PATHS = frozenset({"pixeldata", "7fe00010", "7fe00008", "7fe00009"})
OCTETS = "application/octet-stream"


async def by_path(call: Call) -> Reply:
    """GET …/instances/{i}/bulkdata/{path}: one value."""
    call.check_parameters()
    path = call.names["path"]
    held = await the_one(call)
    if path.lower() in PIXEL_PATHS and held.layout.pixels is Pixels.ENCAPSULATED:
        return await frames_reply(call, held, range(1, max(1, held.layout.frames) + 1), call.accepted())
    choice = accept.bulk(call.accepted())
    tag = etag([held], "bulk", path)
    if unchanged(call.headers, tag):
        return Answer(status=304, etag=tag)
    stream = await call.archive.retrieve.bulkdata(held, path)
    media = _media(held, path, stream.syntax)
    headers = call.warning_headers()
    if stream.document_type:
        headers.append(("content-disposition", "attachment"))
    if not choice.multipart:
        return ranged(call, stream, media, tag, headers)
    boundary = boundary_of(tag)

    async def pieces() -> AsyncIterator[bytes]:
        writer = Writer(boundary)
        yield writer.part(media, f"{instance_url(call, held)}/bulkdata/{path}", stream.size)
        async for piece in stream.chunks():
            yield piece
        yield writer.end()

    return Streamed(gathered(pieces()), content_type(media.partition(";")[0], boundary), headers=headers, etag=tag)


async def everything(call: Call) -> Reply:
    """GET …/bulkdata at study, series or instance: every bulk value, a part each."""
    call.check_parameters()
    accept.bulk(call.accepted())
    helds = await located(call)
    tag = etag(helds, "all bulk data")
    if unchanged(call.headers, tag):
        return Answer(status=304, etag=tag)
    boundary = boundary_of(tag)
    pieces = _every_value(call, helds, boundary)
    first = await anext(pieces, None)
    if first is None:
        raise NotFound("there are no bulk data here")

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    headers = call.warning_headers()
    return Streamed(gathered(all_pieces()), content_type(OCTETS, boundary), headers=headers, etag=tag)


async def _every_value(call: Call, helds: Sequence[Held], boundary: str) -> AsyncIterator[bytes]:
    writer = Writer(boundary)
    retrieve = call.archive.retrieve
    found = False
    for held in helds:
        async for path in retrieve.bulk_paths(held):
            if path.lower() in PIXEL_PATHS and held.layout.pixels is Pixels.ENCAPSULATED:
                url, location = f"{instance_url(call, held)}/frames/", True
                numbers = range(1, max(1, held.layout.frames) + 1)
                _, streams = await retrieve.frames(held, numbers, (accept.AS_STORED,))
            else:
                url, location = f"{instance_url(call, held)}/bulkdata/{path}", False
                streams = _just(await retrieve.bulkdata(held, path))
            number = 0
            async for stream in streams:
                number += 1
                found = True
                where = f"{url}{number}" if location else url
                yield writer.part(_media(held, path, stream.syntax), where, stream.size)
                async for piece in stream.chunks():
                    yield piece
    if found:
        yield writer.end()


async def _just(item: Stream) -> AsyncIterator[Stream]:
    yield item


def _media(held: Held, path: str, syntax: str) -> str:
    """Content-Type of one value; only pixel data have another one than octets (documents are never shown inline)."""
    if path.lower() in PIXEL_PATHS:
        return accept.pixel_media(syntax or held.layout.transfer_syntax)
    return OCTETS
