"""The arrival watch: says of every study, by whatever door it came, when it is complete.

Owns: how long to wait. A follower of the change feed: every new instance opens its study and sets its timer; when the feed
has nothing more and a timer has run out, the study is complete and the feed says so, once. Must never: be needed for storing,
or say "complete" twice for one state: the cursor, the timers and the feed change in one transaction each, so a kill repeats
nothing and two nodes that watch do not say it twice.

Limits: QUIET unless the peer has its own; a feed that begins (a new home, a rebuilt index) is not told about what came more
than PAST before: it would all be complete at once, and be sent everywhere again.
"""

from __future__ import annotations

from collections.abc import Callable

from radiolith.index import arrivals, changes
from radiolith.index.arrivals import Arrived, Completion
from radiolith.index.changes import Change, ChangeKind, Cursor
from radiolith.index.database import Database
from radiolith.index.session import Reader

QUIET = 60_000_000  # microseconds without a new instance
PAST = 86_400_000_000  # microseconds before the watch of this feed began
BATCH = 500  # changes of one transaction
NAME = "arrivals"
_BEGUN = "arrivals begun"
_ARRIVING = frozenset({ChangeKind.STORED, ChangeKind.VERSION})


class ArrivalWatch:
    def __init__(self, database: Database, clock: Callable[[], int]):
        self._database, self._clock = database, clock

    def round(self) -> list[Completion]:
        """Follow the feed to its end and say what is complete. Blocks."""
        done: list[Completion] = []
        while not self._follow():
            pass
        while found := self._complete():
            done += found
        return done

    def _follow(self) -> bool:
        """One batch; True when the feed has no more."""
        now = self._clock()
        with self._database.read() as read:
            before = changes.load_cursor(read, NAME)
            found, after = changes.follow(read, before, BATCH)
            begun = self._begun(read, after, now)
            seen = [one for one in found if one.kind in _ARRIVING and one.at >= begun - PAST]
            arrived = self._arrived(read, seen, now)
        if after != before:
            with self._database.write() as tx:
                if changes.advance_cursor(tx, NAME, before, after):
                    changes.save_cursor(tx, _BEGUN, Cursor(after.epoch, 0, begun))
                    arrivals.note(tx, arrived)
        return len(found) < BATCH

    @staticmethod
    def _begun(read: Reader, after: Cursor, now: int) -> int:
        """When the watch of this feed began."""
        known = changes.load_cursor(read, _BEGUN)
        return known.number if known.epoch == after.epoch else now

    def _arrived(self, read: Reader, seen: list[Change], now: int) -> list[Arrived]:
        if not seen:
            return []
        sources = arrivals.sources(read, [one.instance_id for one in seen])
        periods = {tenant: arrivals.quiet_periods(read, tenant) for tenant in {one.tenant_id for one in seen}}
        by_study: dict[tuple[int, int], list[Change]] = {}
        for one in seen:
            by_study.setdefault((one.tenant_id, one.study_id), []).append(one)
        found: list[Arrived] = []
        for (tenant, study), group in by_study.items():
            rows = [one.instance_id for one in group]
            peers = {sources[row].peer for row in rows if row in sources}
            quiet = max((periods[tenant].get(peer, QUIET) for peer in peers), default=QUIET)
            found.append(Arrived(tenant, study, len(rows), min(rows), max(rows), now + quiet))
        return found

    def _complete(self) -> list[Completion]:
        with self._database.read() as read:
            if not arrivals.due(read, self._clock()):
                return []
        with self._database.write() as tx:
            return arrivals.complete(tx, self._clock(), BATCH)
