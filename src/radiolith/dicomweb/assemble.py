"""Store with metadata and bulk data (PS3.18 10.5.1, 8.6.1): parts that refer to each other become objects again.

Owns: which bulk part belongs where, and the order in which an object is written. Must never: fetch what a BulkDataURI
names (it is compared with the Content-Location of the parts, nothing else, T45), or hold pixel data that can flow.

The order that needs no memory: metadata first; then for each instance its bulk data, pixel data last. Pixel data that
come when everything else of their instance is known flow straight into the archive, however large. Everything that
comes earlier than it can be used is held, up to HELD_BYTES_MAX in all; past that the request is refused (413) with this
rule. Compressed frames are a part each, in order, under one Content-Location.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from radiolith.dicom import compose
from radiolith.dicom.compose import Attributes, Bulk, Reference
from radiolith.dicomweb import accept
from radiolith.dicomweb.accept import EXPLICIT_LE
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.multipart import End, Parser, Part
from radiolith.dicomweb.pixelstream import PixelStream, named
from radiolith.dicomweb.reception import Reception
from radiolith.dicomweb.status import UnsupportedMedia
from radiolith.model import BadInput, Conflict, Failure, LimitExceeded, NotAllowed

INSTANCES_MAX = 10_000  # of a request: each costs a place in the log, and "{}" is one
HELD_BYTES_MAX = 32 << 20  # of a request; a few such requests fit beside the pool
PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
JSON = ("application/dicom+json", "application/json")
XML = "application/dicom+xml"


@dataclass(slots=True)
class _Instance:
    """One dataset of the metadata. `pixels` is the URI of its pixel data, '' where they are in line or absent."""

    attributes: Attributes
    pixel_tag: int = 0
    pixels: str = ""
    needs: set[str] = field(default_factory=set[str])  # URIs of its other bulk data
    done: bool = False


@dataclass(slots=True)
class _Held:
    """A bulk part in memory; more parts under one location are frames of one value."""

    media: str
    syntax: str
    pieces: list[bytearray] = field(default_factory=list[bytearray])


class Assembly:
    """One request. Feed it through `run`; results go to the reception."""

    def __init__(self, call: Call, reception: Reception):
        self._call, self._reception = call, reception
        self._document: bytearray | None = None
        self._document_media = ""
        self._document_bytes = 0
        self._instances: list[_Instance] = []
        self._by_pixels: dict[str, _Instance] = {}
        self._held: dict[str, _Held] = {}
        self._held_bytes = 0
        self._into: bytearray | None = None  # where a held part goes
        self._flow: PixelStream | None = None  # the instance whose pixel data are flowing
        self._flowing = ""

    async def run(self, parser: Parser) -> None:
        async for piece in self._call.body():
            for event in parser.feed(piece):
                if isinstance(event, memoryview | bytes):
                    await self._data(event)
                elif isinstance(event, Part):
                    await self._begin(event)
                elif event is End.PART:
                    await self._end()
                else:
                    await self._finish_flow()
        parser.finish()
        await self._rest()

    # ------------------------------------------------------------ parts

    async def _begin(self, part: Part) -> None:
        media, parameters = accept.media_type(part.headers.get("content-type", "application/octet-stream"))
        if media in (*JSON, XML):
            await self._finish_flow()
            if self._held:
                raise BadInput("metadata parts come before all bulk data parts")
            self._document, self._document_media = bytearray(), media
            return None
        if media.startswith("multipart/"):
            raise UnsupportedMedia("a part of a multipart request is not multipart itself")
        location = _location(part)
        instance = self._by_pixels.get(location)
        if self._flow is not None and location == self._flowing:
            return await self._flow.begin_part()
        await self._finish_flow()
        syntax = parameters.get("transfer-syntax", "")
        if instance is not None and not instance.done and instance.needs <= self._held.keys():
            return await self._begin_flow(instance, location, media, syntax)
        if instance is not None and instance.done:
            raise BadInput("the parts of one value do not follow each other")
        held = self._held.setdefault(location, _Held(media, syntax))
        self._into = bytearray()
        held.pieces.append(self._into)
        return None

    async def _data(self, data: memoryview | bytes) -> None:
        if self._document is not None:
            self._document_bytes += len(data)
            if self._document_bytes > compose.MODEL_BYTES_MAX:
                raise LimitExceeded(f"the metadata of a request may have {compose.MODEL_BYTES_MAX} bytes")
            self._document += data
        elif self._into is not None:
            self._held_bytes += len(data)
            if self._held_bytes > HELD_BYTES_MAX:
                raise LimitExceeded(
                    f"more than {HELD_BYTES_MAX} bytes of bulk data came before they could be used: send the metadata "
                    "first, then for each instance its bulk data with the pixel data last"
                )
            self._into += data
        elif self._flow is not None:
            await self._flow.write(data)

    async def _end(self) -> None:
        if self._document is not None:
            document, self._document = bytes(self._document), None
            self._read(document)
        elif self._into is not None:
            self._into = None
        elif self._flow is not None:
            await self._flow.end_part()

    def _read(self, document: bytes) -> None:
        found = [compose.from_xml(document)] if self._document_media == XML else compose.from_json(document)
        if len(self._instances) + len(found) > INSTANCES_MAX:
            raise LimitExceeded(f"the metadata of a request may describe {INSTANCES_MAX} instances: send them in parts")
        for attributes in found:
            instance = _Instance(attributes)
            tag = next((tag for tag in PIXEL_TAGS if tag in attributes), 0)
            value = attributes[tag][1] if tag else b""
            needs = compose.references(attributes)
            if isinstance(value, Reference):
                instance.pixel_tag, instance.pixels = tag, value.uri
                needs.remove(value.uri)
                if value.uri in self._by_pixels:
                    raise Conflict("two instances refer to the same pixel data")
                self._by_pixels[value.uri] = instance
            instance.needs = set(needs)
            self._instances.append(instance)

    # ------------------------------------------------------------ objects

    async def _begin_flow(self, instance: _Instance, location: str, media: str, syntax: str) -> None:
        """Everything but the pixel data is known: write it, and let the pixel data follow as they come."""
        if not syntax and media != "image/jpeg":
            syntax = accept.SYNTAXES_OF.get(media, (EXPLICIT_LE,))[0]
        instance.done = True
        self._flowing = location
        self._flow = PixelStream(self._reception, instance.attributes, instance.pixel_tag, self._bulk)
        await self._flow.open(syntax)
        await self._flow.begin_part()

    async def _finish_flow(self) -> None:
        flow, self._flow, self._flowing = self._flow, None, ""
        if flow is not None:
            await flow.finish()

    async def _rest(self) -> None:
        """Instances without pixel data parts, or whose pixel data came too early and were held."""
        if not self._instances:
            raise BadInput("the request holds no metadata")
        for instance in self._instances:
            if instance.done:
                continue
            wanted = instance.needs | ({instance.pixels} if instance.pixels else set())
            missing = wanted - self._held.keys()
            if missing:
                failure = BadInput(f"bulk data of {len(missing)} references are missing")
                self._reception.outcomes.fail(failure, named(instance.attributes))
                continue
            try:
                await self._whole(instance)
            except NotAllowed:
                raise
            except Failure as failure:
                await self._reception.refuse(failure, named(instance.attributes))

    async def _whole(self, instance: _Instance) -> None:
        if instance.pixels:
            held = self._held[instance.pixels]
            await self._begin_flow(instance, instance.pixels, held.media, held.syntax)
            flow = self._flow
            for number, piece in enumerate(held.pieces):
                if flow is not None:
                    if number:
                        await flow.begin_part()
                    await flow.write(bytes(piece))
                    await flow.end_part()
            return await self._finish_flow()
        self._reception.begin(EXPLICIT_LE, named(instance.attributes))
        for piece in compose.encode(instance.attributes, self._bulk):
            await self._reception.write(piece)
        return await self._reception.finish()

    def _bulk(self, uri: str) -> Bulk:
        pieces: Iterable[bytearray] = self._held[uri].pieces
        return Bulk(sum(map(len, pieces)), [bytes(piece) for piece in pieces])


def _location(part: Part) -> str:
    """What a BulkDataURI is compared with: Content-Location, or Content-ID as a cid: URI (RFC 2392)."""
    location = part.headers.get("content-location", "").strip()
    if not location and "content-id" in part.headers:
        location = "cid:" + part.headers["content-id"].strip().strip("<>")
    if not location:
        raise BadInput("a bulk data part has no Content-Location")
    return location
