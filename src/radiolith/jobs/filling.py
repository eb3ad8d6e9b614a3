"""Fills in, for what is held already, the attributes that the setting `index.attributes` made searchable.

Owns: how far that has come (`extra_fills`), and taking away the values of attributes that the setting no longer names. Must
never: hold up what serves: rows are read and written a few at a time with a pause between. One process of all nodes works,
under a lease; who follows goes on where the last transaction ended. What arrives meanwhile brings its values itself.

Limits: ROWS instances a transaction; an object whose header cannot be read is passed over (`check` tells of it). A header costs
one range read and about a millisecond: a million instances take half an hour or more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from radiolith.archive.rescan import rescanned
from radiolith.dicom.limits import Unparsable
from radiolith.index import extras, segments
from radiolith.index.database import Database
from radiolith.index.extras import Extras
from radiolith.model import Conflict, Damaged, Failure, LimitExceeded, NotFound
from radiolith.storage.blobs import Log
from radiolith.trust.keys import Keys

ROWS = 100  # instances of one transaction
DROPPED = 5_000  # values of an attribute no longer named that one transaction takes away
PAUSE = 0.05  # seconds between two transactions: others get the writer's turn
POLL = 60.0  # seconds between two looks whether there is anything to do
LEASE = 120_000_000  # microseconds a process may be silent before another fills in
NAME = "filling"
log = structlog.get_logger()


class Filling:
    """`where`: log and keys. `owner`: how this process is called in the lease."""

    def __init__(self, database: Database, where: tuple[Log, Keys], also: Extras, clock: Callable[[], int], owner: str):
        self._database, self._also, self._clock, self._owner = database, also, clock, owner
        self._store, self._keys = where

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            more = False
            try:
                more = await asyncio.to_thread(self.step)
            except Failure as failure:
                log.warning("attributes are not filled in", reason=str(failure))
            except Exception:
                log.exception("attributes are not filled in")
            try:
                await asyncio.wait_for(stop.wait(), PAUSE if more else POLL)
            except TimeoutError:
                pass

    def step(self) -> bool:
        """One transaction's worth; whether there is more to do. Blocks."""
        with self._database.read() as read:
            fills = {fill.name: fill for fill in extras.fills(read)}
        names = [one.name for one in self._also.known]
        stale = sorted(fills.keys() - set(names))
        new = [name for name in names if name not in fills]
        pending = [fill for name in names if (fill := fills.get(name)) and not fill.complete]
        if not (stale or new or pending) or not self._take():
            return False
        if stale:
            with self._database.write() as tx:
                extras.forget(tx, stale[0], DROPPED)
        elif new:
            with self._database.write() as tx:
                extras.begin(tx, new, self._clock())
        else:
            self._fill(min(fill.done for fill in pending), max(fill.last for fill in pending))
        return True

    def _take(self) -> bool:
        now = self._clock()
        with self._database.write() as tx:
            return segments.take_lease(tx, NAME, self._owner, now, now + LEASE)

    def _fill(self, after: int, last: int) -> None:
        """The next rows, for every attribute that has not come further yet."""
        with self._database.read() as read:
            rows = extras.to_fill(read, after, last, ROWS)
        found: list[tuple[int, int, tuple[tuple[str, str], ...]]] = []
        for tenant_id, row_id, blob, layout in rows:
            try:
                scan = rescanned(self._store, self._keys, blob, layout, self._also.wanted)
            except (Damaged, NotFound, Unparsable, LimitExceeded) as failure:
                log.warning("a header cannot be read", instance=row_id, reason=str(failure))
                continue
            found.append((tenant_id, row_id, self._also.values(scan)))
        done = rows[-1][1] if len(rows) == ROWS else last
        now = self._clock()
        with self._database.write() as tx:
            if not segments.take_lease(tx, NAME, self._owner, now, now + LEASE):
                raise Conflict("another process fills in")
            extras.write(tx, found)
            for one in self._also.known:
                extras.advance(tx, one.name, done, now)
