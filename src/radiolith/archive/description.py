"""What an object's header says: metadata documents, the paths of its bulk data, and the values behind them.

Owns: the choice between a header read at once, whose document is cached, and one of any size that is walked through a
window while its document is sent. Must never: authorise or audit (`retrieve` did), or hold a bulk value. Limits:
WHOLE_BYTES of `reading`; DOCUMENT_BYTES of a document asked for as a whole; a block of a series' metadata is made of
BLOCK_INSTANCES instances or BLOCK_BYTES of headers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TypeVar

from radiolith.archive.headers import Headers, tag_of
from radiolith.archive.ports import Stream
from radiolith.archive.reading import Reading, described_by, is_deflated, is_large, tail_of
from radiolith.dicom.amended_series import Series
from radiolith.dicom.json import find, to_json
from radiolith.dicom.json_series import SeriesJson
from radiolith.dicom.limits import LIMITS, Limits
from radiolith.dicom.piecewise import bulk_paths, json_pieces, xml_pieces
from radiolith.dicom.window import Data
from radiolith.dicom.xml import to_xml
from radiolith.model import Held, LimitExceeded, NotFound
from radiolith.storage.cache import Cache

T = TypeVar("T")
DOCUMENT_BYTES = 16 << 20  # of metadata that are needed whole: a report to render, a row of a search
BLOCK_INSTANCES = 64
BLOCK_BYTES = 2 << 20  # of headers whose JSON is made and sent together; it is about three times as long
ROW_LIMITS = Limits(elements=20_000)  # of a long header for a row of a search: about 0.3 s
ROW_INFLATED = 64 << 20  # bytes of a deflated header for a row: about 0.2 s
_TYPE_BYTES = 256  # of MIME Type of Encapsulated Document; it may have 64 characters


class Description:
    """Thread-safe; what ends in `_now` blocks."""

    def __init__(self, reading: Reading, headers: Headers, cache: Cache):
        self._reading, self._headers, self._cache = reading, headers, cache

    # ------------------------------------------------------------ one object

    def whole_now(self, held: Held, base: str, form: str = "json") -> bytes:
        """The document in one piece. Raises LimitExceeded when it has more than DOCUMENT_BYTES."""
        return (
            self._bounded(held, base, form, DOCUMENT_BYTES) if is_large(held.layout) else self._kept(held, base, form)
        )

    def row_now(self, held: Held, limit: int) -> bytes:
        """The JSON for a row of a search, of at most `limit` bytes; not kept, one search would fill the cache.

        A page may have hundreds of rows: LimitExceeded for a header that takes seconds to walk through as well.
        """
        if is_large(held.layout):
            if is_deflated(held.layout) and described_by(held.layout) > ROW_INFLATED:
                raise LimitExceeded(f"more than {ROW_INFLATED} bytes would have to be inflated")
            return self._joined(self._pieces(held, "", "json", ROW_LIMITS), limit)
        return self._bounded(held, "", "json", limit)

    def _bounded(self, held: Held, base: str, form: str, limit: int) -> bytes:
        large = is_large(held.layout)
        return self._joined(self._pieces(held, base, form) if large else (self._made(held, base, form),), limit)

    @staticmethod
    def _joined(pieces: Iterable[bytes], limit: int) -> bytes:
        made = bytearray()
        for piece in pieces:
            made += piece
            if len(made) > limit:
                raise LimitExceeded(f"the metadata of this object have more than {limit} bytes")
        return bytes(made)

    async def pieces(self, held: Held, base: str, form: str = "json") -> AsyncIterator[bytes]:
        """The document of a header of any size."""
        if not is_large(held.layout):
            yield await self._reading.run(self._kept, held, base, form)
            return
        async for piece in self._each(held, self._pieces(held, base, form)):
            if piece:
                yield piece

    def _kept(self, held: Held, base: str, form: str) -> bytes:
        key = ("metadata", form, base, tag_of(held))
        found = self._cache.get(key)
        if found is None:
            found = self._made(held, base, form)
            self._cache.put(key, found)
        return found

    def _made(self, held: Held, base: str, form: str) -> bytes:
        header, encoding, tail = self._headers.description_now(held)
        make = to_json if form == "json" else to_xml
        return make(header, encoding, bulk_uri=lambda path: base + path, tail=tail)

    def _pieces(self, held: Held, base: str, form: str, limits: Limits = LIMITS) -> Iterator[bytes]:
        """Reads nothing before the first piece is asked for: that is done in a thread."""
        header, encoding, tail = self._headers.description_now(held, limits)
        make = json_pieces if form == "json" else xml_pieces
        yield from make((header, tail), encoding, bulk_uri=lambda path: base + path, limits=limits)

    async def _each(self, held: Held, blocking: Iterator[T]) -> AsyncIterator[T]:
        """What a blocking iterator over the header gives, taken in a thread."""
        while (item := await self._reading.walk(held, next, blocking, None)) is not None:
            yield item

    # ------------------------------------------------------------ a series

    async def series(self, helds: Sequence[Held], base: str) -> AsyncIterator[bytes]:
        """A JSON array over many instances, a block at a time; `base` has {study} {series} {sop} to fill in."""
        before, corrected = b"[", Series()
        for block in _blocks(helds):
            if is_large(block[0].layout):
                async for piece in self.pieces(block[0], base.format(**_names(block[0]))):
                    yield before + piece
                    before = b""
            else:
                yield before + await self._reading.run(self._block, block, base, corrected)
            before = b","
        yield b"]" if helds else b"[]"

    def _block(self, helds: Sequence[Held], base: str, corrected: Series) -> bytes:
        key = ("metadata-block", base, *(tag_of(held) for held in helds))
        found = self._cache.get(key)
        if found is None:
            alike = SeriesJson(), corrected
            found = b",".join(self._one_of_series(alike, held, base) for held in helds)
            self._cache.put(key, found)
        return found

    def _one_of_series(self, alike: tuple[SeriesJson, Series], held: Held, base: str) -> bytes:
        series, corrected = alike
        header, encoding, tail = self._headers.description_now(held, series=corrected)
        assert isinstance(header, bytes) and isinstance(tail, bytes), "large ones are not made in blocks"
        start = base.format(**_names(held))
        return series.to_json(header, encoding, bulk_uri=lambda path: start + path, tail=tail)

    # ------------------------------------------------------------ bulk data

    async def paths(self, held: Held) -> AsyncIterator[str]:
        """The path of every value that the metadata name by reference, in the order of the elements."""
        header, encoding, tail = await self._reading.walk(held, self._headers.description_now, held)
        async for some in self._each(held, bulk_paths((header, tail), encoding)):
            for path in some:
                yield path

    async def value(self, held: Held, path: str) -> Stream:
        """The value of an attribute path like '00420011' or '52009229/1/00082112'; NotFound when there is none."""
        return await self._reading.walk(held, self._value_now, held, path)

    def _value_now(self, held: Held, path: str) -> Stream:
        header, encoding, tail = self._headers.description_now(held)
        base = held.layout.dataset_start
        try:
            start, length, vr = find(header, encoding, path)
        except NotFound:
            if not tail:
                raise
            start, length, vr = find(tail, encoding, path)
            base, header = tail_of(held.layout)[0], tail
        document = _document_type(header, encoding) if path.lower() == "00420011" else ""
        if held.overlay is None or header is tail:
            stream = self._reading.value(held, base + start, base + start + length, encoding)
        else:  # where it lies among corrections
            stream = self._reading.flowing(lambda a, b: header[start + a : start + b], length, encoding)
        return Stream(stream.size, stream.syntax, stream.open, vr, document)


def _blocks(helds: Sequence[Held]) -> Iterator[Sequence[Held]]:
    """Neighbours whose metadata are made together; a large one is a block of its own."""
    start, size = 0, 0
    for at, held in enumerate(helds):
        own = described_by(held.layout)
        alone = is_large(held.layout) or (at > start and is_large(helds[start].layout))
        if at > start and (alone or at - start == BLOCK_INSTANCES or size + own > BLOCK_BYTES):
            yield helds[start:at]
            start, size = at, 0
        size += own
    if start < len(helds):
        yield helds[start:]


def _names(held: Held) -> dict[str, str]:
    return {"study": held.identity.study, "series": held.identity.series, "sop": held.identity.sop}


def _document_type(header: Data, encoding: str) -> str:
    """MIME Type of Encapsulated Document (0042,0012), or '' when it says none."""
    try:
        start, length, _ = find(header, encoding, "00420012")
    except NotFound:
        return ""
    return header[start : start + min(length, _TYPE_BYTES)].decode("ascii", "replace").strip("\0 ")
