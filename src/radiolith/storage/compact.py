"""Many small segments become one: for object stores, where every group commit is an object of its own.

Owns: which segments to take together, and the copying. Must never: touch a row, or delete: the caller (a leased job)
switches the rows in one transaction, and deletes the old segments once the longest request time has passed. Copies
are byte-identical, so a crash between copying and switching leaves copies a rebuild recognises by their object ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from radiolith.model import Damaged, Place
from radiolith.storage.backends import Backend, SegmentInfo
from radiolith.storage.blobs import Log
from radiolith.storage.format import MAX_RECORDS, SEGMENT_BYTES

SMALL_SEGMENT = SEGMENT_BYTES // 4  # bytes; smaller ones are worth merging
FEWEST = 8  # segments in one merge: fewer are left until more have come together


def choose(
    segments: Iterable[SegmentInfo], *, small: int = SMALL_SEGMENT, target: int = SEGMENT_BYTES, fewest: int = FEWEST
) -> Iterator[list[bytes]]:
    """Groups of small sealed segments, oldest first, each about `target` bytes."""
    group: list[bytes] = []
    size = 0
    for info in sorted(segments, key=lambda info: (info.modified, info.id)):
        if not info.sealed or info.length >= small:
            continue
        if group and size + info.length > target:
            if len(group) >= fewest:
                yield group
            group, size = [], 0
        group.append(info.id)
        size += info.length
    if len(group) >= fewest:
        yield group


def merge(
    source: Log, records: Sequence[Place], target: Backend, during: Callable[[], None] = lambda: None
) -> list[Place]:
    """Copy whole records into new segments of `target`, durable on return; where each lies now. `during` is called
    before each piece; what it raises ends the copy. Raises Damaged when a record cannot be read (then nothing of its
    segment may be deleted), NoSpace, Unavailable."""

    def fill(place: Place, offset: int, into: memoryview) -> None:
        during()
        source.backend.read_into(place.segment, place.offset + offset, into)

    copies: list[Place] = []
    for at in range(0, len(records), MAX_RECORDS):
        copies += target.merge(records[at : at + MAX_RECORDS], fill)
    if [copy.length for copy in copies] != [record.length for record in records]:
        raise Damaged("A copied record has another length")
    return copies
