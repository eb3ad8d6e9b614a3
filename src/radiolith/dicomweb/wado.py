"""Retrieve Transactions (PS3.18 10.4): whole objects, metadata, frames and pixel data.

Owns: how what the archive hands over is packed. Must never: read an object whole, or say which bytes exist before the
verb has authorised and audited (`locate` comes first everywhere).

Limits: FRAMES_MAX frame numbers a request; JOINED_BYTES of a small answer are sent in one piece; the size of an answer
is added up beforehand for SIZED_MAX objects.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby

from radiolith.archive.ports import Stream
from radiolith.archive.reading import is_large
from radiolith.dicom.naming import name_of
from radiolith.dicom.part10 import file_meta
from radiolith.dicomweb import accept
from radiolith.dicomweb.accept import AS_STORED, EXPLICIT_LE, Choice, NotAcceptable
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.multipart import Writer, content_type
from radiolith.dicomweb.resources import (
    Reply,
    boundary_of,
    bulk_base,
    bulk_template,
    etag,
    instance_url,
    located,
    ranged,
    the_one,
)
from radiolith.dicomweb.respond import Answer, Streamed, coding_of, gathered, unchanged
from radiolith.dicomweb.zipout import zipped
from radiolith.model import BadInput, Held, LimitExceeded, NotFound, Pixels, Unsupported

FRAMES_MAX = 100_000  # more than any object of the corpus has; a list this long is 600 KB of URL
JOINED_BYTES = 4 << 20
SIZED_MAX = 5000  # objects: 10 µs each, which a client waits for the first byte


# ---------------------------------------------------------------- whole objects


async def objects(call: Call) -> Reply:
    """GET study, series or instance."""
    call.check_parameters()
    one = "instance" in call.names
    return await objects_reply(call, accept.instances(call.accepted(), one=one))


async def objects_reply(call: Call, choice: Choice) -> Reply:
    helds = await located(call)
    tag = etag(helds, choice)
    headers = call.warning_headers()
    if unchanged(call.headers, tag):
        return Answer(status=304, etag=tag, headers=headers)
    await _possible(call, helds, choice.syntaxes)
    opened = _opened(call, helds, choice.syntaxes)
    if choice.media == "application/zip":
        name = call.uid("instance") or call.uid("series") or call.uid("study")
        headers.append(("content-disposition", f'attachment; filename="{name}.zip"'))
        files = ((_file_name(held), stream) async for held, stream in opened)
        return Streamed(gathered(zipped(files)), "application/zip", headers=headers, etag=tag)
    if not choice.multipart:
        return await _single(call, helds[0], choice, tag)
    boundary = boundary_of(tag)
    pieces = gathered(_parts(call, opened, boundary))
    size = _known_size(call, helds, choice.syntaxes, boundary)
    return Streamed(pieces, content_type("application/dicom", boundary), size=size, headers=headers, etag=tag)


async def archive_zip(call: Call) -> Reply:
    """GET …/archive: the ZIP for browsers, which cannot set Accept."""
    call.scope["query_string"] = b"accept=application/zip" + (b"&" + call.scope["query_string"]).rstrip(b"&")
    return await objects(call)


async def _single(call: Call, held: Held, choice: Choice, tag: str) -> Reply:
    """One instance as application/dicom, with ranges where its size is known."""
    stream = await _part10(call, held, choice.syntaxes)
    return ranged(call, stream, _object_media(stream.syntax), tag, call.warning_headers())


async def _possible(call: Call, helds: Sequence[Held], wanted: tuple[str, ...]) -> None:
    """406 before the first byte: one object of each stored form is tried. Says which syntaxes there are."""
    if not wanted or AS_STORED in wanted:
        return
    forms = {(h.layout.transfer_syntax, h.layout.pixels, h.layout.bits_allocated, h.layout.samples): h for h in helds}
    for held in forms.values():
        try:
            await _part10(call, held, wanted)
        except Unsupported as reason:
            syntaxes = dict.fromkeys((*(h.layout.transfer_syntax for h in forms.values()), EXPLICIT_LE))
            raise NotAcceptable(
                str(reason), (f'multipart/related; type="application/dicom"; transfer-syntax={uid}' for uid in syntaxes)
            ) from None


def _syntaxes(held: Held, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """What may be sent of this object. Where there are no pixels no codec applies: a plain syntax then."""
    if wanted and held.layout.pixels is Pixels.NONE:
        return (*wanted, EXPLICIT_LE)
    return accept.object_syntaxes(wanted, held.layout.transfer_syntax)


async def _part10(call: Call, held: Held, wanted: tuple[str, ...]) -> Stream:
    """The object in the first syntax that can be made; `object_syntaxes` ends with as-stored where that is allowed."""
    syntaxes = _syntaxes(held, wanted)
    retrieve = call.archive.retrieve
    if wanted or syntaxes == (AS_STORED,):
        return await retrieve.part10(held, syntaxes)
    try:
        return await retrieve.part10(held, (EXPLICIT_LE,))
    except Unsupported:
        return await retrieve.part10(held, (AS_STORED,))


async def _opened(call: Call, helds: Sequence[Held], wanted: tuple[str, ...]) -> AsyncIterator[tuple[Held, Stream]]:
    """Every object with its stream; what goes as it is stored is read ahead by the archive."""
    for syntaxes, group in groupby(helds, key=lambda h: _syntaxes(h, wanted)):
        if not wanted and syntaxes != (AS_STORED,):
            for held in group:
                yield held, await _part10(call, held, wanted)
        else:
            async for pair in call.archive.retrieve.ahead(group, syntaxes):
                yield pair


def _known_size(call: Call, helds: Sequence[Held], wanted: tuple[str, ...], boundary: str) -> int | None:
    """Bytes of the answer, where every object goes as it is stored: then the server need not cut it into chunks, which
    costs a copy of all of it, and the client can show how far it is. None where only sending will tell, as of corrected
    headers."""
    if len(helds) > SIZED_MAX or any(
        held.overlay is not None or _syntaxes(held, wanted) != (AS_STORED,) for held in helds
    ):
        return None
    writer, total = Writer(boundary), 0
    for held in helds:
        layout = held.layout
        size = len(file_meta(held.sop_class, held.identity.sop, layout.transfer_syntax))
        size += layout.dataset_end - layout.dataset_start
        total += size + len(writer.part(_object_media(layout.transfer_syntax), instance_url(call, held), size))
    return total + len(writer.end())


def _object_media(syntax: str) -> str:
    return f"application/dicom; transfer-syntax={syntax}"


async def _parts(call: Call, opened: AsyncIterator[tuple[Held, Stream]], boundary: str) -> AsyncIterator[bytes]:
    writer = Writer(boundary)
    async for held, stream in opened:
        yield writer.part(_object_media(stream.syntax), instance_url(call, held), stream.size)
        async for piece in stream.chunks():
            yield piece
    yield writer.end()


def _file_name(held: Held) -> str:
    i = held.identity
    return "/".join(name_of(uid) for uid in (i.study, i.series, i.sop) if uid) + ".dcm"


# ---------------------------------------------------------------- metadata


async def metadata(call: Call) -> Reply:
    """GET …/metadata: DICOM JSON, or Native DICOM Model XML in multipart/related."""
    call.check_parameters("charset")
    return await metadata_reply(call, accept.documents(call.accepted(), "the metadata"))


async def metadata_reply(call: Call, choice: Choice) -> Reply:
    call.check_charset()
    helds = await located(call)
    tag = etag(helds, choice, call.service, coding_of(call.headers))
    headers = call.warning_headers()
    if unchanged(call.headers, tag):
        return Answer(status=304, etag=tag, headers=headers)
    if choice.multipart:
        boundary = boundary_of(tag)
        pieces = gathered(_metadata_parts(call, helds, choice, boundary))
        return Streamed(pieces, content_type(choice.media, boundary), headers=headers, etag=tag, coding=True)
    if len(helds) == 1 and not is_large(helds[0].layout):
        body = b"[" + await call.archive.retrieve.metadata(helds[0], bulk_base(call, helds[0])) + b"]"
        return Answer(body, choice.media, headers=headers, etag=tag, coding=True)
    pieces = call.archive.retrieve.series_metadata(helds, bulk_template(call))
    return Streamed(pieces, choice.media, headers=headers, etag=tag, coding=True)


async def _metadata_parts(call: Call, helds: Sequence[Held], choice: Choice, boundary: str) -> AsyncIterator[bytes]:
    writer = Writer(boundary)
    xml = choice.media == "application/dicom+xml"
    for held in helds:
        yield writer.part(choice.media, _metadata_url(call, held)) + (b"" if xml else b"[")
        async for piece in call.archive.retrieve.metadata_pieces(held, bulk_base(call, held), "xml" if xml else "json"):
            yield piece
        if not xml:
            yield b"]"
    yield writer.end()


def _metadata_url(call: Call, held: Held) -> str:
    """A non-patient instance is its own metadata (PS3.18 12.1.3)."""
    return instance_url(call, held) + ("/metadata" if held.identity.study else "")


# ---------------------------------------------------------------- frames and pixel data


def frame_numbers(text: str) -> list[int]:
    """A frame list as in the URL: '1,3,2', from 1, in any order (PS3.18 10.4.1.1.6)."""
    words = text.split(",")
    if len(words) > FRAMES_MAX:
        raise LimitExceeded(f"more than {FRAMES_MAX} frame numbers")
    if not all(word.isascii() and word.isdigit() and len(word) < 10 and int(word) for word in words):
        raise BadInput("a frame list is whole numbers from 1, separated by commas")
    return [int(word) for word in words]


async def frames(call: Call) -> Reply:
    """GET …/frames/{list}."""
    call.check_parameters()
    numbers = frame_numbers(call.names["frames"])
    ranges = call.accepted()
    held = await the_one(call)
    return await frames_reply(call, held, numbers, ranges)


async def frames_reply(call: Call, held: Held, numbers: Sequence[int], ranges: Sequence[accept.Range]) -> Reply:
    choices = accept.pixels(ranges, held.layout.transfer_syntax, single=len(numbers) == 1)
    tag = etag([held], numbers, choices)
    headers = call.warning_headers()
    if unchanged(call.headers, tag):
        return Answer(status=304, etag=tag, headers=headers)
    choice, syntax, streams = await _first_possible(call, held, numbers, choices)
    media = accept.pixel_media(syntax)
    if not choice.multipart:
        return ranged(call, await anext(streams), media, tag, headers)
    boundary = boundary_of(tag)
    bare, _, parameter = media.partition(";")
    kind = content_type(bare, boundary, f";{parameter}")
    pieces = _frame_parts(call, held, numbers, media, boundary, streams)
    if len(numbers) == 1 and held.layout.rows * held.layout.columns * 8 < JOINED_BYTES:
        return Answer(b"".join([piece async for piece in pieces]), kind, headers=headers, etag=tag)
    return Streamed(gathered(pieces), kind, headers=headers, etag=tag)


async def _first_possible(
    call: Call, held: Held, numbers: Sequence[int], choices: Sequence[Choice]
) -> tuple[Choice, str, AsyncIterator[Stream]]:
    reasons: list[str] = []
    for choice in choices:
        try:
            syntax, streams = await call.archive.retrieve.frames(held, numbers, choice.syntaxes)
            return choice, syntax, streams
        except Unsupported as error:
            reasons.append(str(error))
    stored = held.layout.transfer_syntax
    own = accept.MEDIA_OF.get(stored, "application/octet-stream")
    raise NotAcceptable(
        "; ".join(dict.fromkeys(reasons)), (f'multipart/related; type="{own}"; transfer-syntax={stored}',)
    )


async def _frame_parts(
    call: Call, held: Held, numbers: Sequence[int], media: str, boundary: str, streams: AsyncIterator[Stream]
) -> AsyncIterator[bytes]:
    writer = Writer(boundary)
    where = instance_url(call, held) + "/frames/"
    order: Iterator[int] = iter(numbers)
    async for stream in streams:
        yield writer.part(media, f"{where}{next(order)}", stream.size)
        async for piece in stream.chunks():
            yield piece
    yield writer.end()


async def pixeldata(call: Call) -> Reply:
    """GET …/pixeldata: every frame of every object, a part each; a video is one part."""
    call.check_parameters()
    ranges = call.accepted()
    helds = [held for held in await located(call) if held.layout.pixels is not Pixels.NONE]
    if not helds:
        raise NotFound("there are no pixel data here")
    if len(helds) == 1:
        if helds[0].layout.pixels is Pixels.VIDEO:
            stream = await call.archive.retrieve.bulkdata(helds[0], "pixeldata")
            return ranged(call, stream, accept.pixel_media(stream.syntax), etag(helds, "video"), call.warning_headers())
        return await frames_reply(call, helds[0], range(1, max(1, helds[0].layout.frames) + 1), ranges)
    tag = etag(helds, "pixeldata", ranges)
    if unchanged(call.headers, tag):
        return Answer(status=304, etag=tag, headers=call.warning_headers())
    plans = {
        held.layout.transfer_syntax: accept.pixels(ranges, held.layout.transfer_syntax, single=False) for held in helds
    }
    boundary = boundary_of(tag)
    kind = content_type(next(iter(plans.values()))[0].media, boundary)
    return Streamed(gathered(_all_pixels(call, helds, plans, boundary)), kind, headers=call.warning_headers(), etag=tag)


async def _all_pixels(
    call: Call, helds: Sequence[Held], plans: dict[str, tuple[Choice, ...]], boundary: str
) -> AsyncIterator[bytes]:
    writer = Writer(boundary)
    for held in helds:
        url = instance_url(call, held)
        if held.layout.pixels is Pixels.VIDEO:
            stream = await call.archive.retrieve.bulkdata(held, "pixeldata")
            yield writer.part(accept.pixel_media(stream.syntax), url + "/pixeldata", stream.size)
            async for piece in stream.chunks():
                yield piece
            continue
        numbers = range(1, max(1, held.layout.frames) + 1)
        _, syntax, streams = await _first_possible(call, held, numbers, plans[held.layout.transfer_syntax])
        media = accept.pixel_media(syntax)
        number = 0
        async for stream in streams:
            number += 1
            yield writer.part(media, f"{url}/frames/{number}", stream.size)
            async for piece in stream.chunks():
                yield piece
    yield writer.end()
