"""The device watch: what is odd about who sends to us, noticed when a study is complete, and about who does not.

Owns: the follower of completions and the look for silent devices. Must never: judge (habits does), slow down a store, or
notice the same completion twice: habits, notices and the cursor change in one transaction. Devices are those that send by
DIMSE or STOW-RS; an import is nobody's habit. Limits: SERIES of a completion are looked at, FRESH headers are read.
"""

from __future__ import annotations

from collections.abc import Callable

from radiolith.index import arrivals, changes, devices, instances
from radiolith.index.arrivals import Completion
from radiolith.index.changes import ChangeKind
from radiolith.index.database import Database
from radiolith.index.devices import Device, Oddity, SeriesArrived
from radiolith.index.session import Reader, Writer
from radiolith.jobs import habits
from radiolith.model import Held, Source

SERIES = 200  # of one completion, a few statements each
FRESH = 20  # headers read of one completion: 0.3 ms each
BATCH = 500  # changes read at a time
SWEEP = 60_000_000  # microseconds between two looks for silence
DOORS = frozenset({"dimse", "stow"})
NAME = "devices"
Names = list[tuple[tuple[str, str], str]]  # (door, peer) and the product it sent as


class DeviceWatch:
    """`software`: manufacturer, product and version in an object's header, '' when it says none; blocks."""

    def __init__(self, database: Database, clock: Callable[[], int], software: Callable[[Held], str]):
        self._database, self._clock, self._software = database, clock, software
        self._swept = 0

    def round(self) -> int:
        """Follow the feed to its end, then look for silence; how many completions there were. Blocks."""
        seen = 0
        while True:
            with self._database.read() as read:
                before = changes.load_cursor(read, NAME)
                found, after = changes.follow(read, before, BATCH)
            for change in found:
                if change.kind is ChangeKind.COMPLETE:
                    cursor = changes.Cursor(after.epoch, change.xid, change.number)
                    if not self._completed(change.instance_id, before, cursor):
                        return seen  # another node follows too
                    seen, before = seen + 1, cursor
            if before != after:
                with self._database.write() as tx:
                    changes.advance_cursor(tx, NAME, before, after)
            if len(found) < BATCH:
                break
        now = self._clock()
        if now - self._swept >= SWEEP:
            self._swept = now
            self._sweep(now)
        return seen

    # ------------------------------------------------------------ a completion

    def _completed(self, number: int, before: changes.Cursor, after: changes.Cursor) -> bool:
        with self._database.read() as read:
            done = arrivals.completion(read, number)
            series = devices.series_arrived(read, done, SERIES) if done else []
            fresh = self._fresh(read, done, series) if done else []
        names = [(sender, name) for sender, held in fresh if (name := self._software(held))]
        with self._database.write() as tx:
            if not changes.advance_cursor(tx, NAME, before, after):
                return False
            if done is not None:
                self._observe(tx, done, series, names)
        return True

    @staticmethod
    def _fresh(read: Reader, done: Completion, series: list[SeriesArrived]) -> list[tuple[tuple[str, str], Held]]:
        """One instance of each new series, whose header says what made it."""
        new = [one for one in series if one.fresh and one.source.door in DOORS][:FRESH]
        found = [(one, instances.by_row(read, done.tenant_id, one.fresh)) for one in new]
        return [((one.source.door, one.source.peer), held) for one, held in found if held is not None]

    def _observe(self, tx: Writer, done: Completion, series: list[SeriesArrived], names: Names) -> None:
        sent: dict[tuple[str, str], list[tuple[Source, int, int]]] = {}
        for source, count, received_at in devices.contributions(tx, done):
            if source.door in DOORS:
                sent.setdefault((source.door, source.peer), []).append((source, count, received_at))
        for (door, peer), parts in sorted(sent.items()):
            at = max(received_at for _, _, received_at in parts)
            device = devices.get(tx, done.tenant_id, door, peer) or Device(done.tenant_id, door, peer, at, at)
            habits.heard(device.habits, device.last_at, at)
            devices.settle(tx, device, Oddity.SILENT, None, at)
            device.last_at = max(device.last_at, at)
            device.studies, device.instances = device.studies + 1, device.instances + sum(part[1] for part in parts)
            for source, _, received_at in parts:
                self._address(tx, device, source.address, received_at)
            for key, name in names:
                if key == (door, peer):
                    self._product(tx, device, name, at)
            own = [one for one in series if (one.source.door, one.source.peer) == (door, peer)]
            for one in own:
                self._series(tx, device, one, done.at)
            self._clock_of(tx, device, own)
            devices.put(tx, device)

    @staticmethod
    def _address(tx: Writer, device: Device, address: str, at: int) -> None:
        others = habits.met(device.habits.addresses, address, at) if address else []
        if others:
            said = f"came from the address {address} for the first time; so far from {habits.listing(others)}"
            devices.tell(tx, device, Oddity.ADDRESS, address, said, at)

    @staticmethod
    def _product(tx: Writer, device: Device, name: str, at: int) -> None:
        others = habits.met(device.habits.software, name, at)
        if others:
            said = f"sent as {name} for the first time; so far as {habits.listing(others)}"
            devices.tell(tx, device, Oddity.SOFTWARE, name, said, at)

    @staticmethod
    def _series(tx: Writer, device: Device, one: SeriesArrived, at: int) -> None:
        """What stays odd is said, what is no longer so is settled."""
        odd = {Oddity.GAP: habits.gaps(*devices.number_gaps(tx, one.id)), Oddity.SHORTER: ""}
        earlier = devices.earlier_try(tx, one.id)
        if earlier and earlier[1] > one.present:
            odd[Oddity.SHORTER] = f"has {one.present} instances; an earlier try of it, {earlier[0]}, has {earlier[1]}"
        for kind, said in odd.items():
            if said:
                devices.tell(tx, device, kind, one.uid, f"series {one.uid}: {said}", at)
            else:
                devices.settle(tx, device, kind, one.uid, at)

    @staticmethod
    def _clock_of(tx: Writer, device: Device, series: list[SeriesArrived]) -> None:
        """By the content that was made last: what was made before it may have waited."""
        known = [
            (at, one.received_at, habits.offset(one.timezone) is not None)
            for one in series
            if one.made and (at := habits.made_at(one.made, one.timezone)) is not None
        ]
        if not known:
            return
        made, received_at, zoned = max(known)
        said = habits.clock(device.habits, received_at, received_at - made, zoned)
        if said:
            devices.tell(tx, device, Oddity.CLOCK, "", said, received_at)
        else:
            devices.settle(tx, device, Oddity.CLOCK, "", received_at)

    # ------------------------------------------------------------ silence

    def _sweep(self, now: int) -> None:
        with self._database.read() as read:
            known = devices.listed(read)
        quiet = [(one, habits.silence(one.habits, one.first_at, one.last_at, now)) for one in known]
        with self._database.write() as tx:
            for device, said in quiet:
                if said:
                    devices.tell(tx, device, Oddity.SILENT, str(device.last_at), said, now)
            devices.prune(tx, now)
            arrivals.prune(tx, now)
