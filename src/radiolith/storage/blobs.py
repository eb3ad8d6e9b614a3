"""The log: drafts in, places out, ranges back.

Owns: the pool of drafts and the way every byte takes into and out of the archive. Must never: know DICOM, decide
about keys, or return a byte that was not authenticated.

Threads: a draft belongs to one thread at a time, `commit` to one committer; everything else may be called from any
thread. Opened after a fork, one per process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from radiolith.model import Blob, Damaged, Failure, Kind, NotFound, Place
from radiolith.storage.backends import Backend, Known, Problem, Recovered, SegmentInfo
from radiolith.storage.crypto import ChunkOpener, chunk_span, open_meta
from radiolith.storage.drafts import SMALL, Draft
from radiolith.storage.format import CHUNK, RECORD_HEADER_SIZE, TAG, Buffer, Entry, Malformed
from radiolith.storage.pool import POOL_BYTES, Pool
from radiolith.storage.segments import Read, Record, read_footer, read_record, verify_record
from radiolith.storage.survey import entries_of

_SCRATCH = 16 * (CHUNK + TAG)  # bytes of ciphertext a reading thread keeps: ranges up to 1 MiB need no fresh memory


def microseconds() -> int:
    return time.time_ns() // 1000


class Log:
    def __init__(
        self,
        backend: Backend,
        *,
        pool_bytes: int = POOL_BYTES,
        small: int = SMALL,
        clock: Callable[[], int] = microseconds,
        random: Callable[[int], bytes] = os.urandom,
    ):
        self.backend = backend
        self.tier = backend.tier
        self._pool = Pool(pool_bytes)
        self._small = small
        self._clock = clock
        self._random = random
        self._thread = threading.local()

    # ------------------------------------------------------------ writing

    def begin(self, tenant: bytes, kind: Kind) -> Draft:
        """A new record of a tenant (its 16-byte uid). Raises NoSpace when the disk is down to its reserve."""
        if kind is not Kind.FACT:  # a decision is small, and what the reserve is for: a token must be revocable
            self.backend.check_space()
        return Draft(
            tenant, kind, pool=self._pool, open_stream=self.backend.stream, random=self._random, small=self._small
        )

    def commit(self, drafts: Sequence[Draft]) -> list[Place | None]:
        """Make sealed drafts durable; blocks. One answer per draft, in order.

        None stands only for a *streamed* draft that was refused; its `failure` says why. Raises NoSpace or
        Unavailable when the pooled ones could not be made durable: none of them is visible, all may be committed
        again or discarded. A draft that has its place already (a streamed one, in a commit tried again) keeps it.
        """
        pooled = [draft for draft in drafts if draft.place is None and not draft.streaming]
        if pooled:
            places = self.backend.commit([draft.record() for draft in pooled])
            for draft, place in zip(pooled, places, strict=True):
                draft.place = place
                draft.discard()
        for draft in drafts:
            if draft.place is None:
                self._commit_streamed(draft)
        return [draft.place for draft in drafts]

    def _commit_streamed(self, draft: Draft) -> None:
        try:
            draft.place = draft.commit_stream()
        except Failure as failure:
            draft.failure = failure
            draft.discard()

    # ------------------------------------------------------------ reading

    def read(self, blob: Blob, key: bytes, start: int, stop: int) -> bytearray:
        """Payload bytes start..stop-1 as a fresh buffer; errors as `read_into`."""
        result = bytearray(stop - start if stop > start else 0)
        self.read_into(blob, key, start, memoryview(result))
        return result

    def read_into(self, blob: Blob, key: bytes, start: int, into: memoryview) -> None:
        """Payload bytes from `start` on into `into`, all of it, authenticated.

        One range read of whole chunks. Raises Damaged when a byte is not what was stored, NotFound when the segment
        has gone (look the place up again), Unavailable; ValueError for a range outside of the payload.
        """
        stop = start + len(into)
        if start < 0 or stop > blob.size:
            raise ValueError(f"range {start}-{stop} of a payload of {blob.size} bytes")
        if not len(into):
            return
        opener = ChunkOpener(key, blob.tenant, blob.object_id, blob.size)
        step = _SCRATCH // (CHUNK + TAG) * CHUNK
        at = start
        while at < stop:
            until = min(stop, (at // CHUNK) * CHUNK + step)
            first, behind, length = chunk_span(blob.size, at, until)
            if RECORD_HEADER_SIZE + behind + length > blob.place.length:
                raise Damaged("A stored object is longer than its record")
            sealed = self._scratch()[:length]
            self.backend.read_into(blob.place.segment, blob.place.offset + RECORD_HEADER_SIZE + behind, sealed)
            opener.open(sealed, first, at, into[at - start : until - start])
            at = until

    def _scratch(self) -> memoryview:
        view = getattr(self._thread, "scratch", None)
        if view is None:
            view = self._thread.scratch = memoryview(bytearray(_SCRATCH))
        return view

    # ------------------------------------------------------------ records

    def record(self, place: Place) -> Record:
        """The record at a place, as its trailer describes it. Raises Damaged, NotFound."""
        try:
            return read_record(self._reader(place.segment), place.segment, place.offset, place.length)
        except Malformed as problem:
            raise Damaged(f"A record is damaged: {problem}") from None

    def verify(self, place: Place) -> None:
        """Look at every byte of a record, without keys. Raises Damaged, NotFound."""
        try:
            verify_record(self._reader(place.segment), place.segment, place.offset, place.length)
        except Malformed as problem:
            raise Damaged(f"A record is damaged: {problem}") from None

    def records(
        self, segment: bytes, start_offset: int = 0, on_problem: Callable[[Problem], None] | None = None
    ) -> Iterator[Record]:
        """The records of a segment from an offset on, in order, one at a time. What cannot be read goes to
        `on_problem`, or is raised as Damaged without it. Raises NotFound."""
        read, entries = self._entries(segment)
        for entry in entries:
            if entry.offset < start_offset:
                continue
            try:
                if isinstance(entry, Problem):
                    raise Malformed(entry.reason)
                record = read_record(read, segment, entry.offset, entry.length)
                if record.object_id != entry.object_id or record.kind.value != entry.kind:
                    raise Malformed("the footer names another record")
            except Malformed as problem:
                if on_problem is None:
                    raise Damaged(f"A record is damaged: {problem}") from None
                on_problem(Problem(segment, entry.offset, str(problem)))
                continue
            yield record

    def _entries(self, segment: bytes) -> tuple[Read, list[Entry | Problem]]:
        while True:
            read, size = self._reader(segment), self.backend.size(segment)
            try:
                return read, entries_of(read, segment, size)
            except Damaged:
                if self.backend.size(segment) == size:
                    raise  # else its writer has sealed it meanwhile: it is shorter now

    def footer(self, segment: bytes) -> dict[int, tuple[int, bytes]] | None:
        """What a sealed segment says it holds: offset -> (length, object id), 200 bytes of memory each; None when it is
        not sealed, or its footer not whole. Raises NotFound, Damaged."""
        while True:
            read, size = self._reader(segment), self.backend.size(segment)
            try:
                footer = read_footer(read, segment, size)
                break
            except Malformed:
                return None
            except Damaged:
                if self.backend.size(segment) == size:
                    raise  # else its writer has sealed it meanwhile, as in `_entries`
        return {entry.offset: (entry.length, entry.object_id) for entry in footer.entries}

    def open_meta(self, record: Record, key: bytes) -> bytes:
        """The metadata of a record; raises Damaged when it, the clear trailer or the key is not what was sealed."""
        return open_meta(key, record.sealed_meta, record.trailer)

    def _reader(self, segment: bytes) -> Read:
        size = self.backend.size(segment)

        def read(offset: int, length: int) -> memoryview:
            into = memoryview(bytearray(max(0, min(length, size - offset))))
            if len(into):
                self.backend.read_into(segment, offset, into)
            return into

        return read

    # ------------------------------------------------------------ segments

    def segments(self) -> Iterator[SegmentInfo]:
        return self.backend.list()

    def recover(self, known: Known, *, remove: bool = True) -> list[Recovered]:
        """See Backend.recover. Then `records(found.segment, found.start)` are those the index does not know."""
        return self.backend.recover(known, remove=remove)

    def exists(self, segment: bytes) -> bool:
        try:
            self.backend.size(segment)
        except NotFound:
            return False
        return True

    def status(self) -> dict[str, int | str]:
        return {**self.backend.status(), "pool_slabs": self._pool.slabs, "pool_slabs_free": self._pool.free}

    def seal(self) -> None:
        """Seal the open segment now, so that it can be copied or checked as a whole."""
        self.backend.seal()

    def close(self) -> None:
        """Seal the open segment and let go of everything."""
        self.backend.close()


__all__ = ["SMALL", "Buffer", "Draft", "Log", "Record", "microseconds"]
