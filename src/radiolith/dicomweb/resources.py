"""What all retrievals share: finding what a path names, its URLs, its entity tag, and answers in byte ranges.

Must never: answer for objects that `locate` has not authorised and audited.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable

from radiolith.archive.headers import tag_of
from radiolith.archive.ports import Stream
from radiolith.dicomweb import byteranges
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.respond import Answer, Headers, Streamed, gathered
from radiolith.dicomweb.rows import NON_PATIENT, object_path
from radiolith.model import Held, NotFound

Reply = Answer | Streamed


async def located(call: Call) -> list[Held]:
    """What the path names; audited with the purpose a client may give (header Purpose-Of-Use)."""
    purpose = (call.header(b"purpose-of-use") or "")[:64]
    study, series, sop = call.uid("study"), call.uid("series"), call.uid("instance")
    found = await call.archive.retrieve.locate(call.principal, study, series, sop, purpose=purpose)
    category = call.names.get("category")
    if category is not None:
        found = [held for held in found if held.sop_class in NON_PATIENT[category]]
        if not found:
            raise NotFound("nothing is held under this UID in this category")
    return found


async def the_one(call: Call) -> Held:
    """The instance the path names."""
    return (await located(call))[0]


def etag(helds: Iterable[Held], *what: object) -> str:
    """Changes whenever the bytes behind the answer do: other objects, other corrections of them, another representation."""
    digest = hashlib.blake2b(repr(what).encode(), digest_size=16)
    for held in helds:
        digest.update(tag_of(held))
    return digest.hexdigest()


def instance_url(call: Call, held: Held) -> str:
    return call.service + object_path(held.identity, held.sop_class)


def bulk_template(call: Call) -> str:
    return call.service + "/studies/{study}/series/{series}/instances/{sop}/bulkdata/"


def bulk_base(call: Call, held: Held) -> str:
    return instance_url(call, held) + "/bulkdata/"


def boundary_of(tag: str) -> str:
    """A boundary that nobody can put into an object: it is a hash over random ids that are never shown."""
    return f"radiolith-{tag}"


def ranged(call: Call, stream: Stream, media: str, tag: str, headers: Headers = ()) -> Reply:
    """A single part, whole or the byte ranges asked for (RFC 9110 14): 206, 416, or 200 where the size is unknown."""
    lines = list(headers)
    if stream.size is None:
        return Streamed(stream.chunks(), media, headers=lines, etag=tag)
    lines.append(("accept-ranges", "bytes"))
    wanted = _wanted(call, stream.size, tag)
    if not wanted:
        return Streamed(stream.chunks(), media, size=stream.size, headers=lines, etag=tag)
    if len(wanted) == 1:
        start, stop = wanted[0]
        lines.append(("content-range", f"bytes {start}-{stop - 1}/{stream.size}"))
        return Streamed(stream.chunks(start, stop), media, status=206, size=stop - start, headers=lines, etag=tag)
    boundary = boundary_of(tag)
    pieces = gathered(_several(stream, wanted, media, boundary))
    return Streamed(pieces, f"multipart/byteranges; boundary={boundary}", status=206, headers=lines, etag=tag)


def _wanted(call: Call, size: int, tag: str) -> list[tuple[int, int]]:
    header = call.header(b"range")
    condition = call.header(b"if-range")
    if header is None or (condition is not None and condition.strip() != f'"{tag}"'):
        return []
    return byteranges.parse(header, size)


async def _several(stream: Stream, wanted: list[tuple[int, int]], media: str, boundary: str) -> AsyncIterator[bytes]:
    for start, stop in wanted:
        lines = f"\r\n--{boundary}\r\nContent-Type: {media}\r\nContent-Range: bytes {start}-{stop - 1}/{stream.size}"
        yield lines.encode("ascii") + b"\r\n\r\n"
        async for piece in stream.chunks(start, stop):
            yield piece
    yield f"\r\n--{boundary}--\r\n".encode("ascii")
