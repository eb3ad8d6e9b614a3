"""The verbs in memory: a test double for protocol tests. What it keeps is real enough to be parsed and handed back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from radiolith.archive.ports import CommitmentResult, Rendering, Stream
from radiolith.dicom.part10 import file_meta
from radiolith.dicom.reader import scan, text
from radiolith.model import (
    BadInput,
    Blob,
    Conflict,
    Count,
    Failure,
    Held,
    Identity,
    Layout,
    LimitExceeded,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Outcome,
    Page,
    Pixels,
    Place,
    Principal,
    Query,
    Receipt,
    Scope,
    Source,
    Tenant,
    Unsupported,
)

TENANT = Tenant(1, b"t" * 16, "default")
EDITOR = Principal(TENANT, "someone", "editor", "token")
READER = Principal(TENANT, "reader", "reader", "token")
TOKEN = "good-token"


class FakeIdentities:
    async def from_bearer(self, token: str, address: str = "") -> Principal:
        if token == TOKEN:
            return EDITOR
        if token == "reader":
            return READER
        raise NotAuthenticated("the token is not known")

    async def from_session(self, cookie: str) -> Principal:
        if cookie == "session":
            return EDITOR
        raise NotAuthenticated("the session is over")


def stream_of(data: bytes, syntax: str = "", document_type: str = "", piece: int = 65536) -> Stream:
    async def opened(start: int, stop: int | None) -> AsyncIterator[bytes]:
        chosen = data[start:stop]
        for at in range(0, len(chosen), piece):
            yield chosen[at : at + piece]

    return Stream(len(data), syntax, opened, document_type=document_type)


@dataclass
class Kept:
    held: Held
    data: bytes
    frames: list[bytes] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=dict)
    bulk: dict[str, bytes] = field(default_factory=dict)
    document_type: str = ""


class FakeArchive:
    """Everything is one class; the edge sees it as all the verbs."""

    def __init__(self) -> None:
        self.kept: dict[Identity, Kept] = {}
        self.quarantined: list[bytes] = []
        self.queries: list[Query] = []
        self.pages: list[Page] = []
        self.counted: list[Query] = []
        self.total = Count(0, True)
        self.begun = self.aborted = self.pushes = 0
        self.decodable = True
        self.ingest_failure: Failure | None = None
        self.commit_failure: Callable[[bytes], Failure | None] = lambda data: None
        self.rejected: list[tuple[Any, ...]] = []
        self.commitments: dict[str, CommitmentResult] = {}
        self.renderings: list[tuple[Held, int, Rendering]] = []
        self.settled: asyncio.Event | None = None
        self.ingest = self.query = self.retrieve = self.remove = self.commitment = self
        self.versions = self.quarantine = self

    # ------------------------------------------------------------ ingest

    def begin(self, principal: Principal, source: Source, *, transfer_syntax: str | None = None) -> FakeIntake:
        if principal.role == "reader":
            raise NotAllowed("the role 'reader' may not store")
        if self.ingest_failure:
            raise self.ingest_failure
        self.begun += 1
        return FakeIntake(self, transfer_syntax)

    def push(self) -> None:
        """Nothing waits for company here."""
        self.pushes += 1

    def keep(self, data: bytes, syntax: str | None) -> Receipt:
        try:
            found = scan(data, transfer_syntax=syntax)
        except BadInput as error:
            self.quarantined.append(data)
            return Receipt(Outcome.QUARANTINED, None, "", hashlib.md5(data).digest(), str(error))
        identity = Identity(text(found, 0x0020000D), text(found, 0x0020000E), text(found, 0x00080018))
        sop_class = text(found, 0x00080016)
        if not identity.sop:
            self.quarantined.append(data)
            return Receipt(Outcome.QUARANTINED, None, "", hashlib.md5(data).digest(), "no SOP Instance UID")
        old = self.kept.get(identity)
        if old is not None:
            same = old.data == data
            outcome = Outcome.DUPLICATE if same else Outcome.VERSION
            return Receipt(outcome, identity, sop_class, old.held.blob.object_id, "" if same else "other content")
        self.add(identity, data, found.layout, sop_class)
        return Receipt(Outcome.STORED, identity, sop_class, b"o" * 16)

    def add(self, identity: Identity, data: bytes, layout: Layout, sop_class: str, **more: Any) -> Held:
        object_id = hashlib.md5(repr(identity).encode() + data[:100]).digest()
        blob = Blob(Place(b"s" * 16, 0, len(data)), object_id, TENANT.uid, Scope(b"k" * 16, 0), b"", len(data))
        held = Held(
            len(self.kept), identity, sop_class, 1, blob, layout, hashlib.sha256(data).digest(), 0,
            Source("stow", "x"), "someone",
        )  # fmt: skip
        self.kept[identity] = Kept(held, data, **more)
        return held

    # ------------------------------------------------------------ query

    async def search(self, principal: Principal, query: Query) -> Page:
        self.queries.append(query)
        return self.pages.pop(0) if self.pages else Page([], False)

    async def count(self, principal: Principal, query: Query) -> Count:
        self.counted.append(query)
        return self.total

    async def non_patient(self, principal: Principal, classes: frozenset[str], query: Query) -> Page:
        return await self.search(principal, query)

    # ------------------------------------------------------------ retrieve

    async def locate(
        self, principal: Principal, study: str, series: str = "", sop: str = "", *, purpose: str = ""
    ) -> list[Held]:
        found = [
            kept.held
            for identity, kept in self.kept.items()
            if identity.study == study and series in ("", identity.series) and sop in ("", identity.sop)
        ]
        if not found:
            raise NotFound("nothing is held under this UID")
        return found

    async def locate_sop(self, principal: Principal, sop: str, *, purpose: str = "") -> list[Held]:
        found = [kept.held for identity, kept in self.kept.items() if identity.sop == sop]
        if not found:
            raise NotFound("nothing is held under this UID")
        return found

    async def part10(self, held: Held, accept: Sequence[str] = ("*",)) -> Stream:
        stored = held.layout.transfer_syntax
        if "*" in accept or stored in accept:
            data = self.kept[held.identity].data[held.layout.dataset_start : held.layout.dataset_end]
            return stream_of(file_meta(held.sop_class, held.identity.sop, stored) + data, stored)
        if not self.decodable:
            raise Unsupported(f"there is no decoder for {stored}")
        return stream_of(b"recoded to " + accept[0].encode(), accept[0])

    async def ahead(self, helds: Iterable[Held], accept: Sequence[str] = ("*",)) -> AsyncIterator[tuple[Held, Stream]]:
        for held in helds:
            yield held, await self.part10(held, accept)

    async def frames(
        self, held: Held, numbers: Sequence[int], accept: Sequence[str] = ("*",)
    ) -> tuple[str, AsyncIterator[Stream]]:
        frames = self.kept[held.identity].frames
        for number in numbers:
            if number < 1:
                raise BadInput("frame numbers start at 1")
            if number > len(frames):
                raise NotFound(f"frame {number} of {len(frames)}")
        stored = held.layout.transfer_syntax
        if "*" in accept or stored in accept:
            syntax = stored
        elif self.decodable:
            syntax = accept[0]
        else:
            raise Unsupported(f"there is no decoder for {stored}")

        async def each() -> AsyncIterator[Stream]:
            for number in numbers:
                prefix = b"" if syntax == stored else b"recoded "
                yield stream_of(prefix + frames[number - 1], syntax)

        return syntax, each()

    async def metadata(self, held: Held, bulk_base: str, form: str = "json") -> bytes:
        if form == "xml":
            return b"<NativeDicomModel/>"
        document = dict(self.kept[held.identity].document)
        for path in self.kept[held.identity].bulk:
            document[path[:8]] = {"vr": "OB", "BulkDataURI": bulk_base + path}
        return orjson.dumps(document)

    async def metadata_pieces(self, held: Held, bulk_base: str, form: str = "json") -> AsyncIterator[bytes]:
        yield await self.metadata(held, bulk_base, form)

    async def bulk_paths(self, held: Held) -> AsyncIterator[str]:
        for path in self.kept[held.identity].bulk:
            yield path

    async def series_metadata(self, helds: Sequence[Held], bulk_base: str) -> AsyncIterator[bytes]:
        for n, held in enumerate(helds):
            i = held.identity
            base = bulk_base.format(study=i.study, series=i.series, sop=i.sop)
            yield (b"," if n else b"[") + await self.metadata(held, base)
        yield b"]"

    async def bulkdata(self, held: Held, path: str) -> Stream:
        kept = self.kept[held.identity]
        if path not in kept.bulk:
            raise NotFound("this object has no such attribute")
        return stream_of(kept.bulk[path], held.layout.transfer_syntax, kept.document_type)

    async def rendered(self, held: Held, frame: int, want: Rendering) -> tuple[str, bytes]:
        self.renderings.append((held, frame, want))
        if held.layout.pixels is not Pixels.NATIVE:
            raise Unsupported("this object has no pixel data to render")
        if want.media_type not in ("image/jpeg", "image/png"):
            raise Unsupported(f"{want.media_type} is not made here")
        return want.media_type, b"a picture"

    # ------------------------------------------------------------ remove, commitment

    async def reject(self, principal: Principal, study: str, series: str = "", sop: str = "", *, reason: str) -> int:
        if reason not in ("113001", "113037", "113038", "113039"):
            raise BadInput("the reason of a rejection is one of …")
        found = await self.locate(principal, study, series, sop)
        self.rejected.append((study, series, sop, reason))
        return len(found)

    async def restore(self, principal: Principal, study: str, series: str = "", sop: str = "") -> int:
        return 3

    async def items(self, principal: Principal, study: str, series: str = "") -> list[tuple[str, str]]:
        return [(held.sop_class, held.identity.sop) for held in await self.locate(principal, study, series)]

    async def request(self, principal: Principal, transaction_uid: str, items: list[tuple[str, str]]) -> None:
        if transaction_uid in self.commitments:
            raise Conflict("this transaction UID is in use")
        held = {kept.held.identity.sop: kept.held.sop_class for kept in self.kept.values()}
        committed = tuple(item for item in items if held.get(item[1]) == item[0])
        failed = tuple((*item, 0x0112) for item in items if item not in committed)
        self.commitments[transaction_uid] = CommitmentResult("done", transaction_uid, 0, committed, failed)

    async def result(self, principal: Principal, transaction_uid: str) -> CommitmentResult | None:
        return self.commitments.get(transaction_uid)


class FakeIntake:
    LIMIT = 50_000_000

    def __init__(self, archive: FakeArchive, syntax: str | None):
        self._archive, self._syntax, self._data, self.size = archive, syntax, bytearray(), 0

    async def write(self, data: bytes | memoryview) -> None:
        self._data += data
        self.size += len(data)
        if self.size > self.LIMIT:
            await self.abort()
            raise LimitExceeded("an object may have limits.object_bytes")

    async def finish(self, *, more: bool = False) -> asyncio.Future[Receipt]:
        async def later() -> Receipt:
            if self._archive.settled is not None:
                await self._archive.settled.wait()
            data = bytes(self._data)
            if failure := self._archive.commit_failure(data):
                raise failure
            return self._archive.keep(data, self._syntax)

        return asyncio.ensure_future(later())

    async def abort(self) -> None:
        self._archive.aborted += 1


def layout_with(held: Held, **changes: Any) -> Held:
    return replace(held, layout=replace(held.layout, **changes))
