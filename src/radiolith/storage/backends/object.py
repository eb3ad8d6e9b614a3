"""Segments as objects: the backend of an object-store tier.

Owns: names of objects, cutting of batches into objects. A batch is one immutable object, a whole sealed segment, put
on condition that its name is free. Must never: write an object twice, or show one that is not complete: there is
nothing to recover here, only objects that no index row names yet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from radiolith.model import Damaged, Failure, NotFound, Place, Unavailable
from radiolith.storage.backends import COMPLETE, Known, Problem, Recovered, Sealed, SegmentInfo
from radiolith.storage.backends.bucket import Bucket, PartWriter
from radiolith.storage.backends.layers import SegmentCache
from radiolith.storage.format import BLOCK, HEAD_SIZE, MAX_RECORDS, MERGE, STREAM, Buffer, Malformed
from radiolith.storage.segments import Assembly, copy_records, read_footer

OBJECT_BYTES = 8 * 1024 * 1024  # of records in one object: one put stays short, and a lost one costs little
_PUTS_AT_ONCE = 4
_FOLDER = "segments"


def object_name(segment: bytes) -> str:
    return f"{_FOLDER}/{segment[:8].hex()}/{segment[8:].hex()}.seg"


class ObjectBackend:
    def __init__(
        self,
        bucket: Bucket,
        *,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        object_bytes: int = OBJECT_BYTES,
        cache: SegmentCache | None = None,
        tier: str = "",
    ):
        self.tier = tier
        self.steps = bucket.steps
        self._bucket = bucket
        self._clock = clock
        self._object_bytes = object_bytes
        self._cache = cache or SegmentCache()
        self._epoch = random(8)
        self._sequence = 0
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    # ------------------------------------------------------------ writing

    def check_space(self) -> None:
        """An object store has no end that could be seen from here."""

    def commit(self, batch: Sequence[Sealed]) -> list[Place]:
        groups = list(self._groups(batch))
        if len(groups) == 1:
            return self._put(groups[0])
        if self._executor is None:
            self._executor = ThreadPoolExecutor(_PUTS_AT_ONCE, "object-put")
        waiting = [self._executor.submit(self._put, group) for group in groups]
        failures = [error for future in waiting if (error := future.exception()) is not None]
        if not failures:
            return [place for future in waiting for place in future.result()]
        for future in waiting:  # all or none: what was put is taken back
            if future.exception() is None:
                self._remove_quietly(future.result()[0].segment)
        raise failures[0]

    def _groups(self, batch: Sequence[Sealed]) -> Iterator[list[Sealed]]:
        group: list[Sealed] = []
        size = 0
        for record in batch:
            if group and (size + record.length > self._object_bytes or len(group) == MAX_RECORDS):
                yield group
                group, size = [], 0
            group.append(record)
            size += record.length
        if group:
            yield group

    def _put(self, group: Sequence[Sealed]) -> list[Place]:
        assembly = self._assembly(0)
        buffers, places = assembly.batch(group)
        data = b"".join((assembly.header.pack(), *buffers, assembly.footer()))
        segment = assembly.header.segment
        try:
            created = self._bucket.create(object_name(segment), data)
        except Failure:
            self._remove_quietly(segment)  # it may have arrived all the same
            raise
        if not created:
            raise Unavailable("An object of this node's epoch exists already: two processes drew the same epoch")
        self._cache.put(segment, data)
        return places

    def stream(self) -> ObjectStream:
        assembly = self._assembly(STREAM)
        writer = self._bucket.writer(object_name(assembly.header.segment))
        return ObjectStream(assembly, writer, self._remove_quietly)

    def _assembly(self, flags: int) -> Assembly:
        with self._lock:
            sequence, self._sequence = self._sequence, self._sequence + 1
        return Assembly(self._epoch + sequence.to_bytes(8, "big"), self._epoch, self._clock(), flags)

    # ------------------------------------------------------------ reading

    def read_into(self, segment: bytes, offset: int, into: memoryview) -> None:
        held = self._cache.get(segment)
        if held is None:
            self._bucket.read_into(object_name(segment), offset, into)
            return
        if offset + len(into) > len(held):
            raise Damaged("A segment ends before a record it should hold")
        into[:] = held[offset : offset + len(into)]

    def forget(self, place: Place) -> None:
        self._cache.drop(place.segment)

    def size(self, segment: bytes) -> int:
        held = self._cache.get(segment)
        return len(held) if held is not None else self._bucket.size(object_name(segment))

    def busy(self, segment: bytes) -> bool:
        return False

    def list(self) -> Iterator[SegmentInfo]:
        for name, size, modified in self._bucket.list():
            parts = name.split("/")
            if len(parts) == 3 and parts[0] == _FOLDER and len(parts[1]) == 16 and len(parts[2]) == 20:
                yield SegmentInfo(bytes.fromhex(parts[1] + parts[2][:16]), size, True, modified)

    def recover(self, known: Known, *, remove: bool = True) -> list[Recovered]:
        """Objects are whole. Those the index does not know wholly are reported, a living node's newest among them."""
        results: list[Recovered] = []
        for info in self.list():
            mark = known(info.id)
            if mark is not None and (mark == COMPLETE or mark == info.length):
                continue
            size = info.length

            def read(offset: int, length: int, segment: bytes = info.id, size: int = size) -> memoryview:
                into = memoryview(bytearray(max(0, min(length, size - offset))))
                self._bucket.read_into(object_name(segment), offset, into)
                return into

            try:
                end = read_footer(read, info.id, size).data_end
                results.append(Recovered(info.id, mark or 0, end, "sealed"))
            except NotFound:
                continue
            except Malformed as problem:
                damage = [Problem(info.id, max(0, size - HEAD_SIZE), str(problem))]
                results.append(Recovered(info.id, mark or 0, size, "damaged", damage=damage))
        return results

    # ------------------------------------------------------------ moving and deleting

    def merge(self, sources: Sequence[Place], read: Callable[[Place, int, memoryview], None]) -> list[Place]:
        places: list[Place] = []
        assembly = self._assembly(MERGE)
        segment = assembly.header.segment
        writer = self._bucket.writer(object_name(segment))
        try:
            for piece in copy_records(assembly, sources, read, places):
                writer.write(piece)
            writer.close()
        except (Malformed, Failure) as error:  # an upload that was not closed is no object, and the bucket forgets it
            self._remove_quietly(segment)
            if isinstance(error, Malformed):
                raise Damaged(f"A record to be copied is damaged: {error}") from error
            raise
        return places

    def delete(self, segment: bytes, not_before: int) -> bool:
        if self._clock() < not_before:
            return False
        self._cache.drop(segment)
        self._bucket.delete(object_name(segment))
        return True

    def _remove_quietly(self, segment: bytes) -> None:
        """What stays behind holds no record anybody was told of."""
        self._cache.drop(segment)
        try:
            self._bucket.delete(object_name(segment))
        except Failure:
            pass

    def seal(self) -> None:
        """Every object is sealed."""

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def status(self) -> dict[str, int | str]:
        return {"kind": "object", "epoch": self._epoch.hex(), "objects_written": self._sequence}


class ObjectStream:
    """A multipart upload of one record. `flush` has nothing to do: parts leave as they fill."""

    def __init__(self, assembly: Assembly, writer: PartWriter, remove: Callable[[bytes], None]):
        self._assembly = assembly
        self._writer: PartWriter | None = writer
        self._remove = remove
        self._held = bytearray(assembly.open_stream())

    def write(self, data: Buffer) -> None:
        self._held += data
        if len(self._held) >= _HOLD:
            self._send()

    def flush(self) -> None:
        """Parts leave as they fill."""

    def commit(self, trailer: Buffer, sealed: Sealed) -> Place:
        place = self._assembly.close_stream(sealed)
        padding = self._assembly.end - place.offset - place.length
        self._held += trailer
        self._held += bytes(padding)
        self._held += self._assembly.footer()
        self._send()
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        return place

    def discard(self) -> None:
        if self._writer is not None:
            self._writer = None
            self._remove(self._assembly.header.segment)

    def _send(self) -> None:
        if self._writer is None:
            raise Unavailable("An object's upload failed while it was written")
        self._writer.write(self._held)
        self._held = bytearray()


_HOLD = 256 * BLOCK  # bytes gathered before they go to the upload: 1 MiB
