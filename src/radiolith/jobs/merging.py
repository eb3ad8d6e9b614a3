"""Many small objects of an object store become few large ones.

A group commit on an object store is one object of a few megabytes at most; reading a series back would be hundreds of
requests after years. This job copies the records of small objects into large ones, switches the rows, and deletes the
small ones when nobody can be reading them any more.

Must never: delete a segment of which a record was not copied, or write a row while another node merges: every
transaction renews the lease, and one that finds it taken meanwhile changes nothing. Every step is repeatable; a kill
between copying and switching leaves copies that no row names, which the next round takes for what they are. Limits: one
group at a time, 250 bytes of memory a record.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import structlog

from radiolith.index import places, segments
from radiolith.index.database import Database
from radiolith.index.session import Writer
from radiolith.model import Conflict, Damaged, Failure, Place
from radiolith.storage import compact
from radiolith.storage.blobs import Log

GRACE = 3600 * 1_000_000  # microseconds: longer than any request lasts
SETTLED = 600 * 1_000_000  # microseconds: younger segments may belong to a commit that is under way
LEASE = 120 * 1_000_000  # microseconds a node may be silent before another merges
ROWS = 500  # switched in one transaction
_LEASE_NAME = "merge"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Copy:
    """A record to be copied, and the row that is to name the copy: none for facts, void records and second copies."""

    place: Place
    table: str
    row: int


class Merging:
    """One per process. `owner`: how this process is called in the lease."""

    def __init__(self, store: Log, database: Database, clock: Callable[[], int], owner: str):
        self._store, self._database, self._clock, self._owner = store, database, clock, owner
        self._until = 0  # end of the lease we hold
        self._damaged: set[bytes] = set()  # segments that are left as they are: `check` tells of them

    def take(self) -> bool:
        """Take the lease, or keep it; False while another process has it."""
        now = self._clock()
        with self._database.write() as tx:
            if not segments.take_lease(tx, _LEASE_NAME, self._owner, now, now + LEASE):
                return False
        self._until = now + LEASE
        return True

    def run(self) -> int:
        """One round under the lease that `take` took; how many segments were merged. Blocks. Raises Conflict when
        another process has taken the lease meanwhile."""
        self._delete_dropped()
        with self._database.read() as read:
            done = segments.sealed_segments(read) - segments.dropped_segments(read)
        now = self._clock()
        done -= self._damaged
        listed = (info for info in self._store.segments() if info.id in done and now - info.modified > SETTLED)
        merged = 0
        for group in compact.choose(listed):
            try:
                self._merge(group)
                merged += len(group)
            except Conflict:
                raise
            except Damaged as damaged:
                log.error("segments could not be merged", reason=str(damaged))
                self._damaged.update(segment for segment in group if not self._sound(segment))
            except Failure as failure:
                log.warning("segments could not be merged", reason=str(failure))
        return merged

    def _sound(self, segment: bytes) -> bool:
        """Whether every byte of every record is what was written."""
        try:
            for place in self._records(segment).values():
                self._store.verify(place)
        except Damaged:
            return False
        return True

    def _records(self, segment: bytes) -> dict[bytes, Place]:
        """Object id -> place, as the footer has it. Without a whole footer nobody can say that a record is missing."""
        footer = self._store.footer(segment)
        if footer is None:
            raise Damaged(f"segment {segment.hex()} has no whole footer")
        return {object_id: Place(segment, offset, length) for offset, (length, object_id) in footer.items()}

    def _merge(self, group: Sequence[bytes]) -> None:
        copies = list(self._copies(group))
        moved = compact.merge(self._store, [copy.place for copy in copies], self._store.backend, self._keep)
        pairs = zip(copies, moved, strict=True)
        while part := list(islice(pairs, ROWS)):
            with self._transaction() as tx:
                for table in places.TABLES:
                    moves = [places.Move(copy.row, copy.place, new) for copy, new in part if copy.table == table]
                    places.move(tx, table, moves)
        now = self._clock()
        with self._transaction() as tx:
            for segment, end in _ends(moved).items():
                segments.record_segment(tx, segment, self._store.tier, sealed=True, indexed_end=end)
            for segment in group:
                places.drop_segment(tx, segment, now)

    def _copies(self, group: Sequence[bytes]) -> Iterator[_Copy]:
        """What of a group is to be copied: each record once, and none whose row names it elsewhere. Such a record is the
        copy of a round that was cut short, or of a batch that was written again."""
        seen: set[bytes] = set()
        for segment in group:
            records = iter(self._records(segment).items())
            while page := list(islice(records, ROWS)):
                with self._database.read() as read:
                    rows = places.named(read, [object_id for object_id, _ in page])
                for object_id, place in page:
                    row = rows.get(object_id)
                    if object_id in seen or (row is not None and row.place != place):
                        continue
                    seen.add(object_id)
                    yield _Copy(place, row.table, row.row) if row is not None else _Copy(place, "", 0)

    def _keep(self) -> None:
        """A long copy on a slow line keeps the lease: else another node begins the same one, and neither ends."""
        if self._clock() > self._until - LEASE // 2:
            with self._transaction():
                pass

    @contextmanager
    def _transaction(self) -> Generator[Writer]:
        """A numbered step that another node's round cannot overlap: the lease is ours, and has been without a gap."""
        self._store.backend.steps("transaction")
        until = self._clock() + LEASE
        with self._database.write() as tx:
            if not segments.renew_lease(tx, _LEASE_NAME, self._owner, self._until, until):
                raise Conflict("another node has taken over merging")
            yield tx
        self._until = until

    def _delete_dropped(self) -> None:
        with self._database.read() as read:
            due = places.dropped(read, self._clock() - GRACE)
        for segment in due:
            if self._store.backend.delete(segment, 0):
                with self._transaction() as tx:
                    places.forget_segment(tx, segment)


def _ends(moved: Sequence[Place]) -> dict[bytes, int]:
    ends: dict[bytes, int] = {}
    for place in moved:
        ends[place.segment] = max(ends.get(place.segment, 0), place.offset + place.length)
    return ends
