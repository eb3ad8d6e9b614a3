"""Verify what is at rest: segments and the keyring, every byte.

Owns: the judgement of a segment as a whole. Must never: change anything. Without keys the checksums speak, for every
byte of a segment that belongs to its structure, a record or padding; with keys every chunk is authenticated too.
Reads one window at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from radiolith.model import Damaged, Failure, NotFound
from radiolith.storage.backends import Backend, Problem
from radiolith.storage.crypto import ChunkOpener, chunk_span, open_meta
from radiolith.storage.format import (
    BLOCK,
    CHUNK,
    HEAD_SIZE,
    RECORD_HEADER_SIZE,
    RECOVERED,
    Malformed,
    aligned,
)
from radiolith.storage.segments import Read, Record, read_footer, read_record
from radiolith.storage.survey import Survey, survey

KeyOf = Callable[[Record], bytes]
"""The object key of a record; raises a Failure when there is none."""

_STRIDE = 16 * CHUNK  # payload bytes decrypted at a time


def check_backend(backend: Backend, key_of: KeyOf | None = None) -> Iterator[Problem]:
    """Every segment of a tier. An object store is read, not this process's cache of it, if the backend is freshly
    opened."""
    for info in backend.list():
        yield from check_segment(backend, info.id, key_of)


def check_segment(backend: Backend, segment: bytes, key_of: KeyOf | None = None) -> Iterator[Problem]:
    """Problems of one segment, in order. A segment that has just been deleted has none, nor has one that changes
    while it is looked at because its writer lives."""
    try:
        while True:
            size = backend.size(segment)
            read = _reader(backend, segment, size)
            found, problems = _looked_at(read, segment, size, lambda: backend.busy(segment))
            if not problems or backend.size(segment) == size:
                break  # else it was sealed meanwhile, which cuts off what had been preallocated
        yield from problems
        if key_of is not None:
            for entry in found.entries:
                yield from _authenticate(read, segment, entry.offset, entry.length, key_of)
    except NotFound:
        return


def _looked_at(read: Read, segment: bytes, size: int, busy: Callable[[], bool]) -> tuple[Survey, list[Problem]]:
    try:
        return _structure(read, segment, size, busy)
    except Damaged as damaged:
        return Survey(), [Problem(segment, 0, str(damaged))]


def _structure(read: Read, segment: bytes, size: int, busy: Callable[[], bool]) -> tuple[Survey, list[Problem]]:
    try:
        footer = read_footer(read, segment, size)
    except Malformed as problem:
        return _unsealed(read, segment, size, str(problem), busy)
    stop = aligned(footer.data_end)
    found = survey(read, segment, stop)
    problems = list(found.problems)
    if found.entries != footer.entries or found.data_end != footer.data_end or found.batches != footer.batches:
        problems.append(Problem(segment, found.data_end, "the footer names other records than the batches hold"))
    elif found.cut and not footer.flags & RECOVERED:
        problems.append(Problem(segment, found.data_end, "the last batch is cut short"))
    if found.torn:
        problems.append(Problem(segment, found.data_end, "bytes behind the last record are not zero"))
    return found, problems


def _unsealed(
    read: Read, segment: bytes, size: int, reason: str, busy: Callable[[], bool]
) -> tuple[Survey, list[Problem]]:
    """A segment that is being written, or was when its process died. Bytes behind the valid end are a torn tail, or
    damage to the last batch: only the index can say which, so they are reported, except where a living writer has
    just put them."""
    found = survey(read, segment, size)
    problems = list(found.problems)
    if busy():
        if problems:  # a batch that was put down between two of our reads looks like one that is damaged
            again = survey(read, segment, size).problems
            problems = [problem for problem in problems if problem in again]
        return found, problems
    if found.torn:
        reason = f"not sealed ({reason}), and bytes behind the last whole record"
        problems.append(Problem(segment, found.data_end, reason))
    elif not found.entries and size > BLOCK + HEAD_SIZE:
        problems.append(Problem(segment, 0, f"not sealed ({reason}), and no record in it"))
    return found, problems


def _authenticate(read: Read, segment: bytes, offset: int, length: int, key_of: KeyOf) -> Iterator[Problem]:
    try:
        record = read_record(read, segment, offset, length)
        key = key_of(record)
        open_meta(key, record.sealed_meta, record.trailer)
        opener = ChunkOpener(key, record.tenant, record.object_id, record.size)
        plain = memoryview(bytearray(_STRIDE))
        for start in range(0, max(1, record.size), _STRIDE):
            stop = min(record.size, start + _STRIDE)
            first, behind, count = chunk_span(record.size, start, stop)
            opener.open(read(offset + RECORD_HEADER_SIZE + behind, count), first, start, plain[: stop - start])
    except (Malformed, Failure) as problem:
        yield Problem(segment, offset, str(problem))


def _reader(backend: Backend, segment: bytes, size: int) -> Read:
    def read(offset: int, length: int) -> memoryview:
        into = memoryview(bytearray(max(0, min(length, size - offset))))
        if len(into):
            backend.read_into(segment, offset, into)
        return into

    return read
