"""Store Transaction (PS3.18 10.5): what comes in goes to the archive part by part while it arrives.

Owns: the forms a Store request can have. Must never: keep a part.

A body that breaks off is answered with 400 and says what was stored before it broke; of the unfinished part nothing
stays. Limits: those of multipart, zipin, call, reception and the archive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from radiolith.dicomweb import accept
from radiolith.dicomweb.assemble import Assembly
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.multipart import End, Parser, Part, checked_boundary
from radiolith.dicomweb.reception import Reception
from radiolith.dicomweb.resources import Reply
from radiolith.dicomweb.status import UnsupportedMedia
from radiolith.dicomweb.zipin import members
from radiolith.model import BadInput, Conflict, Unsupported

OBJECT = "application/dicom"
DOCUMENTS = ("application/dicom+json", "application/dicom+xml", "application/json")
ZIP = ("application/zip", "application/x-zip-compressed")


async def store(call: Call) -> Reply:
    """POST /studies and /studies/{s}."""
    call.check_parameters()
    wish = accept.documents(call.accepted(), "the response")
    reception = Reception(call)
    try:
        try:
            await _receive(call, reception)
        except (BadInput, Unsupported, Conflict) as failure:  # of the request; those of one object are in the outcomes
            await reception.broken(failure)
            if not reception.outcomes.kept:
                raise
        await reception.settle()
    except BaseException:
        await reception.abandon()
        raise
    return reception.outcomes.reply(call, wish)


async def _receive(call: Call, reception: Reception) -> None:
    media, parameters = call.content_type()
    if media == "multipart/related":
        await _multipart(call, reception, parameters)
    elif media == OBJECT:
        await _single(call, reception)
    elif media in ZIP:
        await _members(reception, members(call.body()))
    else:
        raise UnsupportedMedia(f"a Store request is multipart/related, {OBJECT} or {ZIP[0]}")


async def _multipart(call: Call, reception: Reception, parameters: dict[str, str]) -> None:
    root = parameters.get("type", OBJECT).lower()
    boundary = checked_boundary(parameters.get("boundary"))
    parser = Parser(boundary, header_bytes_max=call.limits.part_header_bytes)
    if root == OBJECT:
        await _objects(call, reception, parser)
        parser.finish()
    elif root in DOCUMENTS:
        await Assembly(call, reception).run(parser)
    else:
        raise UnsupportedMedia(f"the parts of a Store request are {OBJECT}, {DOCUMENTS[0]} or {DOCUMENTS[1]}")


async def _objects(call: Call, reception: Reception, parser: Parser) -> None:
    """Hot: a CT slice is eight pieces through this loop."""
    async for piece in call.body():
        for event in parser.feed(piece):
            if isinstance(event, memoryview | bytes):
                await reception.write(event)
            elif isinstance(event, Part):
                media = event.headers.get("content-type", OBJECT).partition(";")[0].strip().lower()
                if media == OBJECT:
                    reception.begin()
                else:
                    reception.outcomes.fail(UnsupportedMedia(f"a part is {media[:64]}, not {OBJECT}"))
            elif event is End.PART:
                await reception.finish()


async def _single(call: Call, reception: Reception) -> None:
    reception.begin()
    async for piece in call.body():
        await reception.write(piece)
    await reception.finish()


async def _members(reception: Reception, pieces: AsyncIterator[bytes | None]) -> None:
    """Members of a ZIP: their bytes, and None behind each."""
    begun = False
    async for piece in pieces:
        if not begun:
            reception.begin()
        begun = piece is not None
        if piece is None:
            await reception.finish()
        else:
            await reception.write(piece)
