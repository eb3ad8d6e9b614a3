"""Who sends to us: what is known of each device's habits, and what was odd, in words.

Owns: the tables `devices` and `device_notices`, and the questions about a completed study that show something odd. Must
never: judge (jobs/habits does), or hold patient data: a notice names series by UID. No facts: after a rebuild habits are
learned again. A notice is kept KEEP after it was settled or, at the latest, after twice that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum

from radiolith.index import codes
from radiolith.index.arrivals import Completion
from radiolith.index.session import Reader, Writer
from radiolith.index.uids import unpack_uid
from radiolith.model import Source

KEEP = 180 * 86_400 * 1_000_000  # microseconds
GAPS = 10  # of one series that are named
TRIES = 20  # earlier series looked at


class Oddity(IntEnum):
    """What a notice is about. The value is in the database."""

    GAP = 0  # instance numbers missing
    SHORTER = 1  # than on an earlier try
    SILENT = 2
    CLOCK = 3
    ADDRESS = 4
    SOFTWARE = 5
    NOTE = 6  # it sent a rejection note and may not reject: a person decides (archive.notes)


@dataclass(slots=True)
class Habits:
    """What is remembered of a device; times in microseconds. Everything is bounded by jobs/habits."""

    addresses: dict[str, int] = field(default_factory=dict[str, int])  # network address -> seen last
    software: dict[str, int] = field(default_factory=dict[str, int])  # product and version -> seen last
    silences: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])  # (ended at, how long), the longest
    pauses: int = 0  # silences in all, long or not
    lags: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])  # (received at, made how long before)


@dataclass(slots=True)
class Device:
    tenant_id: int
    door: str
    peer: str
    first_at: int
    last_at: int  # received something new
    studies: int = 0  # completions, so a study may count twice
    instances: int = 0
    habits: Habits = field(default_factory=Habits)


@dataclass(frozen=True, slots=True)
class Notice:
    id: int
    door: str
    peer: str
    kind: Oddity
    subject: str
    at: int
    said: str
    settled_at: int  # 0 while it holds


@dataclass(frozen=True, slots=True)
class SeriesArrived:
    """A series of a completed study, with what came of it in this round."""

    id: int
    uid: str
    source: Source
    present: int  # instances shown
    fresh: int  # row of an instance, when the series was not there before this round; else 0
    received_at: int  # of the latest
    made: tuple[int, str] | None  # date and time the latest content was made
    timezone: str  # of the study, as in the header


# ---------------------------------------------------------------- what a completion brought


def contributions(read: Reader, done: Completion) -> list[tuple[Source, int, int]]:
    """(source, instances, received last) of a round."""
    rows = read.all(
        "SELECT i.source, COUNT(*), MAX(i.received_at) FROM series e CROSS JOIN instances i"
        " WHERE e.study_id = ? AND i.series_id = e.id AND i.id >= ? AND i.id <= ? GROUP BY i.source ORDER BY i.source",
        (done.study_id, done.first, done.last),
    )
    return [(codes.source(read, row[0]), row[1], row[2]) for row in rows]


def series_arrived(read: Reader, done: Completion, limit: int) -> list[SeriesArrived]:
    rows = read.all(
        "SELECT e.id, e.uid, MAX(i.source), e.instances, MIN(i.id), MAX(i.received_at), s.timezone, e.step_date, e.step_time"
        " FROM studies s CROSS JOIN series e CROSS JOIN instances i"
        " WHERE s.id = ? AND e.study_id = s.id AND i.series_id = e.id AND i.id >= ? AND i.id <= ?"
        " GROUP BY e.id, e.uid, e.instances, s.timezone, e.step_date, e.step_time ORDER BY e.id LIMIT ?",
        (done.study_id, done.first, done.last, limit),
    )
    found: list[SeriesArrived] = []
    for series_id, uid, source, present, row, received_at, timezone, step_date, step_time in rows:
        older = read.one("SELECT 1 FROM instances WHERE series_id = ? AND id < ? LIMIT 1", (series_id, done.first))
        made = read.one(
            "SELECT content_date, content_time FROM instances WHERE series_id = ? AND id >= ? AND id <= ?"
            " AND content_date IS NOT NULL AND content_time IS NOT NULL"
            " ORDER BY content_date DESC, content_time DESC LIMIT 1",
            (series_id, done.first, done.last),
        )
        if made is None and step_date and step_time:
            made = (step_date, step_time)
        found.append(
            SeriesArrived(
                series_id, unpack_uid(bytes(uid)), codes.source(read, source), present, 0 if older else row, received_at,
                (made[0], made[1]) if made else None, timezone or "",
            )
        )  # fmt: skip
    return found


def number_gaps(read: Reader, series_id: int) -> tuple[list[tuple[int, int]], int, int, int]:
    """(runs of missing instance numbers from to, the first GAPS; how many are missing; smallest; greatest) of what is shown."""
    shown = "FROM instances WHERE series_id = ? AND current = 1 AND reason = 0 AND number < 2147483648"
    sql = (
        f"SELECT before + 1, number - 1 FROM (SELECT number, LAG(number) OVER (ORDER BY number) AS before {shown}) AS n"  # noqa: S608
        " WHERE number - before > 1 ORDER BY number LIMIT ?"
    )
    gaps = [(row[0], row[1]) for row in read.all(sql, (series_id, GAPS))]
    if not gaps:
        return [], 0, 0, 0
    span = read.one(f"SELECT MIN(number), MAX(number), COUNT(DISTINCT number) {shown}", (series_id,))
    assert span is not None
    return gaps, span[1] - span[0] + 1 - span[2], span[0], span[1]


def earlier_try(read: Reader, series_id: int) -> tuple[str, int] | None:
    """(UID, instances) of another series of the study that says it is the same one (number, modality, description,
    protocol, station), was there first and has the most instances; None when there is none."""
    same = " AND ".join(
        f"COALESCE(o.{column}, {empty}) = COALESCE(e.{column}, {empty})"
        for column, empty in (("modality", "''"), ("description", "''"), ("protocol", "''"), ("station", "''"))
    )
    row = read.one(
        "SELECT o.uid, o.instances FROM series e CROSS JOIN series o WHERE e.id = ? AND o.study_id = e.study_id"  # noqa: S608
        f" AND o.id < e.id AND o.number = e.number AND {same} ORDER BY o.instances DESC, o.id LIMIT 1",
        (series_id,),
    )
    return (unpack_uid(bytes(row[0])), row[1]) if row else None


# ---------------------------------------------------------------- devices


_DEVICE = "tenant_id, door, peer, first_at, last_at, studies, instances, body"


def _device(row: Sequence[object]) -> Device:
    body = json.loads(str(row[7]))
    habits = Habits(
        body["addresses"], body["software"], [(a, b) for a, b in body["silences"]], body["pauses"],
        [(a, b) for a, b in body["lags"]],
    )  # fmt: skip
    return Device(*row[:7], habits)  # type: ignore[arg-type]


def get(tx: Writer, tenant_id: int, door: str, peer: str) -> Device | None:
    """Locked until the transaction ends."""
    row = tx.one(
        f"SELECT {_DEVICE} FROM devices WHERE tenant_id = ? AND door = ? AND peer = ?{tx.lock_rows}",  # noqa: S608
        (tenant_id, door, peer),
    )
    return _device(row) if row else None


def put(tx: Writer, device: Device) -> None:
    tx.run(
        f"INSERT INTO devices({_DEVICE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant_id, door, peer) DO UPDATE SET"  # noqa: S608
        " last_at = excluded.last_at, studies = excluded.studies, instances = excluded.instances, body = excluded.body",
        (device.tenant_id, device.door, device.peer, device.first_at, device.last_at, device.studies, device.instances,
         json.dumps(asdict(device.habits), ensure_ascii=False)),
    )  # fmt: skip


def listed(read: Reader, tenant_id: int | None = None) -> list[Device]:
    """Of one tenant, or of all."""
    where, params = ("", ()) if tenant_id is None else (" WHERE tenant_id = ?", (tenant_id,))
    rows = read.all(f"SELECT {_DEVICE} FROM devices{where} ORDER BY tenant_id, door, peer", params)  # noqa: S608
    return [_device(row) for row in rows]


# ---------------------------------------------------------------- notices


def tell(tx: Writer, device: Device, kind: Oddity, subject: str, said: str, at: int) -> None:
    """Say it once: the same subject again changes the words, and opens it where it was settled."""
    tx.run(
        "INSERT INTO device_notices(tenant_id, door, peer, kind, subject, at, said, settled_at) VALUES (?, ?, ?, ?, ?, ?, ?, 0)"
        " ON CONFLICT (tenant_id, door, peer, kind, subject) DO UPDATE SET said = excluded.said, settled_at = 0,"
        " at = CASE WHEN device_notices.settled_at = 0 THEN device_notices.at ELSE excluded.at END",
        (device.tenant_id, device.door, device.peer, int(kind), subject, at, said),
    )


def settle(tx: Writer, device: Device, kind: Oddity, subject: str | None, at: int) -> int:
    """It is so no more; every subject of the kind with None. Whoever sent the rest, a gap is closed: so by subject alone
    where the kind is about a series."""
    of_series = kind in (Oddity.GAP, Oddity.SHORTER)
    sql = "UPDATE device_notices SET settled_at = ? WHERE tenant_id = ? AND kind = ? AND settled_at = 0"
    params: list[object] = [at, device.tenant_id, int(kind)]
    if not of_series:
        sql, params = f"{sql} AND door = ? AND peer = ?", [*params, device.door, device.peer]
    if subject is not None:
        sql, params = f"{sql} AND subject = ?", [*params, subject]
    return tx.run(sql, params)


def notices(
    read: Reader, tenant_id: int, limit: int = 100, before: tuple[int, int] = (2**62, 0), *, settled: bool = False
) -> list[Notice]:
    """Latest first; `before` is (at, id) of the last one of the page before. `settled`: also those that hold no more."""
    only = "" if settled else " AND settled_at = 0"
    rows = read.all(
        "SELECT id, door, peer, kind, subject, at, said, settled_at FROM device_notices"  # noqa: S608
        f" WHERE tenant_id = ? AND (at, id) < (?, ?){only} ORDER BY at DESC, id DESC LIMIT ?",
        (tenant_id, *before, limit),
    )
    return [Notice(row[0], row[1], row[2], Oddity(row[3]), row[4], row[5], row[6], row[7]) for row in rows]


def position(read: Reader, tenant_id: int, number: int) -> tuple[int, int]:
    """(at, id) of a notice, for the page behind it; (0, 0) when it is gone."""
    row = read.one("SELECT at, id FROM device_notices WHERE id = ? AND tenant_id = ?", (number, tenant_id))
    return (row[0], row[1]) if row else (0, 0)


def prune(tx: Writer, now: int) -> int:
    return tx.run(
        "DELETE FROM device_notices WHERE (settled_at > 0 AND settled_at < ?) OR at < ?", (now - KEEP, now - 2 * KEEP)
    )
