"""Many small segments become one: for object stores, where every group commit is an object of its own.

Owns: which segments to take together, and the copying. Must never: touch a row, or delete: the caller (a leased job)
switches the rows in one transaction, and deletes the old segments once the longest request time has passed. Copies
are byte-identical, so a crash between copying and switching leaves copies a rebuild recognises by their object ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from radiolith.model import Damaged, Place
from radiolith.storage.backends import Backend, SegmentInfo
from radiolith.storage.blobs import Log, Record
from radiolith.storage.format import MAX_RECORDS, SEGMENT_BYTES

SMALL_SEGMENT = SEGMENT_BYTES // 4  # bytes; smaller ones are worth merging
FEWEST = 8  # segments in one merge: fewer are left until more have come together


@dataclass(frozen=True, slots=True)
class Switch:
    """One record's move: the row that names `old` is to name `new`."""

    object_id: bytes
    old: Place
    new: Place


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
    source: Log, segments: Sequence[bytes], target: Backend, wanted: Callable[[Record], bool] = lambda _: True
) -> list[Switch]:
    """Copy the wanted records of some segments into new ones of `target`, durable on return. Raises Damaged when a
    record cannot be read (then nothing of its segment may be deleted), NoSpace, Unavailable."""
    records = [record for segment in segments for record in source.records(segment) if wanted(record)]
    switches: list[Switch] = []
    for at in range(0, len(records), MAX_RECORDS):
        part = records[at : at + MAX_RECORDS]

        def fill(place: Place, offset: int, into: memoryview) -> None:
            source.backend.read_into(place.segment, place.offset + offset, into)

        places = target.merge([record.place for record in part], fill)
        for record, new in zip(part, places, strict=True):
            if new.length != record.length:
                raise Damaged("A copied record has another length")
            switches.append(Switch(record.object_id, record.place, new))
    return switches
