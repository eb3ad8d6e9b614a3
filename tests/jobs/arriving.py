"""Studies that arrive when a test says so, over rows alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from radiolith.index import instances
from radiolith.index.changes import ChangeKind, Cursor, follow
from radiolith.index.database import Database
from radiolith.jobs.arrivals import ArrivalWatch
from radiolith.jobs.devices import DeviceWatch
from radiolith.model import Description, Held, Identity, Source
from tests.index.objects import Maker

CT = Source("dimse", "CT1", "10.0.0.1")


class Ward:
    def __init__(self, database: Database):
        self.database, self.now = database, 1_800_000_000_000_000
        self.version = "ACME Scan version 5"
        self.read: list[Held] = []
        self._maker = Maker(7)

    def clock(self) -> int:
        return self.now

    def watch(self) -> ArrivalWatch:
        return ArrivalWatch(self.database, self.clock)

    def devices(self) -> DeviceWatch:
        def software(held: Held) -> str:
            self.read.append(held)
            return self.version

        return DeviceWatch(self.database, self.clock, software)

    def send(
        self, study: str, numbers: range | list[int], *, series: str = "", source: Source = CT, lag: int = 0, zone: str = "+0000",
        number: int = 1,
    ) -> None:  # fmt: skip
        """Instances of one series, made `lag` microseconds before now."""
        self.send_many([study], numbers, series=series, source=source, lag=lag, zone=zone, number=number)

    def send_many(
        self, studies: list[str], numbers: range | list[int], *, series: str = "", source: Source = CT, lag: int = 0,
        zone: str = "+0000", number: int = 1,
    ) -> None:  # fmt: skip
        made = datetime.fromtimestamp((self.now - lag) / 1e6, UTC)
        rows = []
        for study in studies:
            uid = series or f"{study}.1"
            for n in numbers:
                one = self._maker.one(Identity(study, uid, f"{uid}.{n}"))
                text = {"modality": "CT", "description": "Thorax", "protocol": None, "station": None, "number": number}
                described = Description(
                    one.description.patient,
                    {**one.description.study, "timezone": zone or None},
                    {**one.description.series, **text, "step_date": None, "step_time": None},
                    {
                        **one.description.instance, "number": n, "content_date": int(made.strftime("%Y%m%d")),
                        "content_time": made.strftime("%H%M%S"),
                    },
                )  # fmt: skip
                rows.append(replace(one, description=described, source=source, received_at=self.now, policy="first"))
        with self.database.write() as tx:
            instances.insert(tx, rows)

    def complete(self) -> list[tuple[str, int]]:
        """(study, round) of every COMPLETE in the feed so far."""
        with self.database.read() as read:
            changes = follow(read, Cursor(), 10_000)[0]
            return [
                (str(row[0]), row[1])
                for one in changes
                if one.kind is ChangeKind.COMPLETE
                for row in read.all("SELECT c.study_id, c.round FROM completions c WHERE c.id = ?", (one.instance_id,))
            ]

    def settle(self, watch: Callable[[], object]) -> None:
        """Nothing comes for an hour; everybody has noticed."""
        watch()
        self.now += 3_600_000_000
        watch()
