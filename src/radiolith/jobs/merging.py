"""Many small objects of an object store become few large ones.

A group commit on an object store is one object of a few megabytes at most; reading a series back would be hundreds of
requests after years. This job copies the records of small objects into large ones, switches the rows, and deletes the
small ones when nobody can be reading them any more. Must never: delete a segment of which a record was not copied.
Runs under a lease; every step is repeatable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import structlog

from radiolith.archive import meta
from radiolith.index import instances, places, segments
from radiolith.index.accounts import tenants
from radiolith.index.database import Database
from radiolith.model import Blob, Failure, Kind, Place, Scope
from radiolith.storage import compact
from radiolith.storage.blobs import Log, Record
from radiolith.trust.keys import Keys

GRACE = 3600 * 1_000_000  # microseconds: longer than any request lasts
SETTLED = 600 * 1_000_000  # microseconds: younger segments may belong to a commit that is under way
ROWS = 500  # switched in one transaction
log = structlog.get_logger()


class Merging:
    def __init__(self, store: Log, keys: Keys, database: Database, clock: Callable[[], int]):
        self._store, self._keys, self._database, self._clock = store, keys, database, clock

    def run(self) -> int:
        """One round; how many segments were merged. Blocks."""
        self._delete_dropped()
        with self._database.read() as read:
            done = segments.sealed_segments(read)
        now = self._clock()
        listed = (info for info in self._store.segments() if info.id in done and now - info.modified > SETTLED)
        merged = 0
        for group in compact.choose(listed):
            try:
                self._merge(group)
                merged += len(group)
            except Failure as failure:
                log.warning("segments could not be merged", reason=str(failure))
        return merged

    def _merge(self, group: Sequence[bytes]) -> None:
        switches = compact.merge(self._store, group, self._store.backend)
        moved = {(switch.old.segment, switch.old.offset): switch.new for switch in switches}
        scopes = {scope.id: scope for _, scope in self._keys.every_scope()}
        pending: dict[str, list[places.Move]] = {"instances": [], "quarantine": []}
        for record in self._records(group):
            found = self._row(record, scopes)
            if found is not None:
                table, row = found
                pending[table].append(places.Move(row, record.place, moved[record.place.segment, record.place.offset]))
            if len(pending["instances"]) >= ROWS:
                self._switch(pending)
        self._switch(pending)
        now = self._clock()
        with self._database.write() as tx:
            for segment, end in _ends(moved.values()).items():
                segments.record_segment(tx, segment, self._store.tier, sealed=True, indexed_end=end)
            for segment in group:
                places.drop_segment(tx, segment, now)

    def _records(self, group: Sequence[bytes]) -> Iterator[Record]:
        for segment in group:
            yield from self._store.records(segment)

    def _row(self, record: Record, scopes: dict[bytes, Scope]) -> tuple[str, int] | None:
        """Which row names a record; None for facts, voided records and second copies."""
        if record.kind is Kind.FACT:
            return None
        with self._database.read() as read:
            aside = places.quarantine_row(read, record.object_id)
            if aside is not None:
                return "quarantine", aside
            scope = scopes[record.scope_id]
            blob = Blob(record.place, record.object_id, record.tenant, scope, record.wrapped_key, record.size)
            identity = meta.load(self._store.open_meta(record, self._keys.object_key(blob))).identity
            tenant = next(tenant.id for tenant in tenants(read) if tenant.uid == record.tenant)
            if identity is None:
                return None
            held = instances.find_existing(read, tenant, [identity]).get(identity, [])
        mine = next((one.instance_id for one in held if one.blob.object_id == record.object_id), None)
        return ("instances", mine) if mine is not None else None

    def _switch(self, pending: dict[str, list[places.Move]]) -> None:
        with self._database.write() as tx:
            for table, moves in pending.items():
                places.move(tx, table, moves)
                moves.clear()

    def _delete_dropped(self) -> None:
        with self._database.read() as read:
            due = places.dropped(read, self._clock() - GRACE)
        for segment in due:
            if self._store.backend.delete(segment, 0):
                with self._database.write() as tx:
                    places.forget_segment(tx, segment)


def _ends(moved: Iterable[Place]) -> dict[bytes, int]:
    ends: dict[bytes, int] = {}
    for place in moved:
        ends[place.segment] = max(ends.get(place.segment, 0), place.offset + place.length)
    return ends
