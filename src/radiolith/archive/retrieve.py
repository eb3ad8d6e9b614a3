"""The verb `retrieve`: what is held, handed back: whole objects, frames, bulk data, metadata, pictures.

Authorise and audit in `locate`, durable before the first byte; everything after it reads what was located. Must never:
change anything, fetch from an address a client gave, or deliver a byte that did not authenticate. Limits: see `reading`;
LOCATED instances an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from radiolith.archive.description import Description
from radiolith.archive.headers import Headers
from radiolith.archive.pixels import Pixelwork, Recoding
from radiolith.archive.ports import Rendering, Stream
from radiolith.archive.reading import Reading, is_deflated, written_as
from radiolith.codecs.registry import SYNTAXES
from radiolith.dicom.amended_series import Series
from radiolith.dicom.part10 import file_meta
from radiolith.index import instances
from radiolith.index.database import Database
from radiolith.model import Held, LimitExceeded, NotFound, Pixels, Principal, Unsupported
from radiolith.trust.access import Action, require
from radiolith.trust.audit import ReadAudit

LOCATED = 200_000  # instances of one study in one answer, about 1 KiB each
AS_STORED = "*"
BLOCK_OBJECTS = 8
BLOCK_BYTES = 4 << 20  # of objects read together for one client; two blocks are under way at a time


class Retrieve:
    def __init__(
        self, database: Database, reading: Reading, shown: tuple[Headers, Description, Pixelwork], audit: ReadAudit
    ):
        """`shown`: what makes headers, metadata and pictures."""
        self._database, self._reading, self._audit = database, reading, audit
        self._headers, self._description, self._pixels = shown

    # ------------------------------------------------------------ find, authorise, audit

    async def locate(
        self, principal: Principal, study: str, series: str = "", sop: str = "", *, purpose: str = ""
    ) -> list[Held]:
        """The current instances under study, series or SOP UID, in series and instance order; NotFound when none."""
        require(principal, Action.RETRIEVE)
        found = await self._reading.run(self._find, principal.tenant.id, study, series, sop)
        if not found:
            raise NotFound("nothing is held under this UID")
        await self._audit.note(principal, study, purpose, len(found))
        return found

    def _find(self, tenant: int, study: str, series: str, sop: str) -> list[Held]:
        with self._database.read() as read:
            whole = not study  # the root of non-patient objects
            rows = instances.locate(read, tenant, study, series or ("" if whole else None), sop or None)
            found = list(islice(rows, LOCATED + 1))
        if len(found) > LOCATED:
            raise LimitExceeded(f"more than {LOCATED} instances in one answer; ask series by series")
        return found

    async def locate_sop(self, principal: Principal, sop: str, *, purpose: str = "") -> list[Held]:
        """By SOP Instance UID alone (references name no study)."""
        require(principal, Action.RETRIEVE)

        def look() -> list[Held]:
            with self._database.read() as read:
                return list(instances.by_sop(read, principal.tenant.id, sop))

        found = await self._reading.run(look)
        if not found:
            raise NotFound("nothing is held under this UID")
        await self._audit.note(principal, found[0].identity.study, purpose, len(found))
        return found

    # ------------------------------------------------------------ whole objects

    def original(self, held: Held) -> Stream:
        """The exact bytes received: preamble, file meta, dataset, trailing bytes."""
        return self._reading.stream(held, 0, held.layout.original_size, held.layout.transfer_syntax)

    async def part10(self, held: Held, accept: Sequence[str] = (AS_STORED,)) -> Stream:
        """A Part 10 file with fresh meta, zero preamble and, in the stored syntax, the identical dataset bytes; of what was
        amended the header is the corrected one, and what follows it identical.

        accept: transfer syntax UIDs in order of preference, AS_STORED among them for 'whatever it is'. Raises
        Unsupported when none can be made.
        """
        chosen = await self._choose(held, accept)
        if isinstance(chosen, Held):
            layout = chosen.layout
            head = file_meta(chosen.sop_class, chosen.identity.sop, layout.transfer_syntax)
            return await self._headers.file(chosen, head)
        return await self._pixels.recoded(held, chosen)

    async def ahead(
        self, helds: Iterable[Held], accept: Sequence[str] = (AS_STORED,), depth: int = 2
    ) -> AsyncGenerator[tuple[Held, Stream], None]:
        """`part10` of many, the next `depth` blocks being read and opened while one is on its way out.

        What goes as it is stored is read a block at a time: a hop to a thread costs as much as decrypting a slice.
        """
        queue: list[asyncio.Task[list[tuple[Held, Stream]]]] = []
        blocks, idle = _blocks(helds), list[Series]()
        try:
            while True:
                for block in islice(blocks, depth - len(queue)):
                    queue.append(asyncio.ensure_future(self._files(block, accept, idle)))
                if not queue:
                    return
                for pair in await queue.pop(0):
                    yield pair
        finally:
            for task in queue:
                task.cancel()

    async def _files(
        self, helds: Sequence[Held], accept: Sequence[str], idle: list[Series]
    ) -> list[tuple[Held, Stream]]:
        """`idle`: what blocks before have found out of their headers, for one block at a time."""
        whole = [
            _size(held) <= BLOCK_BYTES
            and (AS_STORED in accept or held.layout.transfer_syntax in accept)
            and not (held.overlay is not None and is_deflated(held.layout))
            for held in helds
        ]
        if all(whole):
            series = idle.pop() if idle else Series()
            files = await self._reading.run(lambda: [self._file_now(held, series) for held in helds])
            idle.append(series)
            return [
                (held, _held_bytes(file, held.layout.transfer_syntax)) for held, file in zip(helds, files, strict=True)
            ]
        return [(held, await self.part10(held, accept)) for held in helds]

    def _file_now(self, held: Held, series: Series) -> bytearray:
        """A small object's fresh meta and the dataset it shows in one buffer; blocks."""
        layout = held.layout
        head = file_meta(held.sop_class, held.identity.sop, layout.transfer_syntax)
        file = bytearray(len(head) + _size(held))
        file[: len(head)] = head
        self._reading.read_into_now(held, layout.dataset_start, memoryview(file)[len(head) :])
        if held.overlay is not None:
            edge = len(head) + layout.header_end - layout.dataset_start
            stored = bytes(memoryview(file)[len(head) : edge])
            encoding = written_as(stored, layout.transfer_syntax)
            file[len(head) : edge] = self._headers.composed(held, stored, encoding, series)
        return file

    async def _choose(self, held: Held, accept: Sequence[str]) -> Held | Recoding:
        """The stored object if it may go as it is, else an encoding held beside it, else what a codec can make."""
        stored = held.layout.transfer_syntax
        if AS_STORED in accept or stored in accept:  # what needs no codec cannot fail and loses nothing
            return held
        beside = {  # the same content, so the same corrections
            other.layout.transfer_syntax: replace(other, identity=held.identity, home=held.home, overlay=held.overlay)
            for other in await self._encodings(held)
        }
        reasons: list[str] = []
        for syntax in accept:
            if syntax in beside:
                return beside[syntax]
            try:
                return await self._pixels.plan(held, syntax)
            except Unsupported as reason:
                reasons.append(str(reason))
        raise Unsupported("; ".join(dict.fromkeys(reasons)) or "no transfer syntax was acceptable")

    async def _encodings(self, held: Held) -> list[Held]:
        def look() -> list[Held]:
            with self._database.read() as read:
                return list(instances.encodings(read, held))

        return await self._reading.run(look)

    # ------------------------------------------------------------ frames

    async def frames(
        self, held: Held, numbers: Sequence[int], accept: Sequence[str] = (AS_STORED,)
    ) -> tuple[str, AsyncIterator[Stream]]:
        """Frames by number from 1, in the order asked for, each as a Stream in one transfer syntax.

        In the stored syntax a frame is one range read. Raises NotFound, BadInput for a wrong number before anything
        is sent, Unsupported when no acceptable syntax can be made.
        """
        chosen = await self._choose_frames(held, accept)
        source = chosen if isinstance(chosen, Held) else held
        for number in (numbers[0], numbers[-1]) if isinstance(numbers, range) else numbers:
            self._reading.check_number(source, number)
        first = None
        if isinstance(chosen, Held) and self._reading.long_frame(source, numbers[0]) is None:
            # read before the answer begins, so that a damaged frame is an error, not a cut
            first = await self._reading.run(self._reading.frame_now, source, numbers[0])
        syntax = chosen.layout.transfer_syntax if isinstance(chosen, Held) else chosen.syntax
        return syntax, self._frames(source, numbers, first, None if isinstance(chosen, Held) else chosen)

    async def _choose_frames(self, held: Held, accept: Sequence[str]) -> Held | Recoding:
        """Native frames look the same in every native little-endian syntax: those need no codec."""
        native = held.layout.pixels is Pixels.NATIVE and _native(held.layout.transfer_syntax)
        if native and any(_native(uid) for uid in accept):
            return held
        return await self._choose(held, accept)

    async def _frames(
        self, held: Held, numbers: Sequence[int], first: bytes | None, recoding: Recoding | None
    ) -> AsyncIterator[Stream]:
        syntax = recoding.syntax if recoding else held.layout.transfer_syntax
        data = first
        for number in numbers:
            if recoding is not None:
                data = await self._pixels.transcode_frame(held, recoding, number)
            elif data is None:
                long = self._reading.long_frame(held, number)
                if long is not None:
                    yield long
                    continue
                data = await self._reading.run(self._reading.frame_now, held, number)
            yield _held_bytes(data, syntax)
            data = None

    async def rendered(self, held: Held, frame: int, want: Rendering) -> tuple[str, bytes]:
        """A picture for a screen; (media type, bytes). Raises Unsupported with the reason where none can be made."""
        return await self._pixels.rendered(held, frame, want)

    # ------------------------------------------------------------ metadata and bulk data

    async def metadata(self, held: Held, bulk_base: str, form: str = "json") -> bytes:
        """The dataset without bulk values: one DICOM JSON object, or one Native DICOM Model document.

        bulk_base: what BulkDataURIs start with, to the last slash; the attribute path follows it. For who needs it
        whole: LimitExceeded beyond DOCUMENT_BYTES of `description`.
        """
        return await self._reading.walk(held, self._description.whole_now, held, bulk_base, form)

    def metadata_pieces(self, held: Held, bulk_base: str, form: str = "json") -> AsyncIterator[bytes]:
        """The same for who hands it on, however long it is."""
        return self._description.pieces(held, bulk_base, form)

    def series_metadata(self, helds: Sequence[Held], bulk_base: str) -> AsyncIterator[bytes]:
        """A JSON array over many instances, a block at a time; `bulk_base` has {study} {series} {sop} to fill in."""
        return self._description.series(helds, bulk_base)

    def bulk_paths(self, held: Held) -> AsyncIterator[str]:
        """The path of every value that the metadata name by reference, in the order of the elements."""
        return self._description.paths(held)

    async def bulkdata(self, held: Held, path: str) -> Stream:
        """The value a BulkDataURI names: 'pixeldata', or an attribute path like '00420011' or '52009229/1/00082112'."""
        if path.lower() in ("pixeldata", "7fe00010", "7fe00008", "7fe00009"):
            return await self._pixel_value(held)
        return await self._description.value(held, path)

    async def _pixel_value(self, held: Held) -> Stream:
        """All of the pixel data: native as it lies; a video's stream without item headers, ranged."""
        layout = held.layout
        if layout.pixels is Pixels.NONE:
            raise NotFound("this object has no pixel data")
        if layout.pixels is Pixels.NATIVE:
            end = layout.pixel_start + layout.pixel_length
            return self._reading.value(held, layout.pixel_start, end, layout.transfer_syntax)
        if is_deflated(layout):
            raise Unsupported("encapsulated pixel data of a deflated object are not taken apart")
        return await self._reading.run(self._reading.fragments, held)


def _native(uid: str) -> bool:
    known = SYNTAXES.get(uid)
    return known is not None and not known.encapsulated and not known.big_endian


def _size(held: Held) -> int:
    return held.layout.dataset_end - held.layout.dataset_start


def _blocks(helds: Iterable[Held]) -> Iterator[list[Held]]:
    """Neighbours read together: BLOCK_OBJECTS of them, or BLOCK_BYTES; a larger object is a block of its own."""
    block: list[Held] = []
    size = 0
    for held in helds:
        if block and (len(block) == BLOCK_OBJECTS or size + _size(held) > BLOCK_BYTES):
            yield block
            block, size = [], 0
        block.append(held)
        size += _size(held)
    if block:
        yield block


def _held_bytes(data: bytes | bytearray, syntax: str) -> Stream:
    async def opened(start: int, stop: int | None) -> AsyncIterator[bytes]:
        yield data[start:stop] if start or stop is not None else data

    return Stream(len(data), syntax, opened)
