"""All that is held under one identity, and what becomes of it when something arrives or is decided.

Owns: reading an identity's rows under the study's lock, the decisions about it, and writing back which row is current,
in conflict or rejected. Must never: decide which version is current (current.py does), or touch counts but through a Tally.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from radiolith.index import codes
from radiolith.index.counts import Tally
from radiolith.index.current import Standing, Switch, Version, current
from radiolith.index.session import Reader, Values, Writer

IN_CHUNK = 100  # values of one IN list: below every limit, and few different statements to prepare


class Decision(IntEnum):
    """What a row of `decisions` is about. The value is in the database."""

    REJECTED = 1  # value: the reason code, '' when restored
    CURRENT = 2  # value: the object id in hex


@dataclass(slots=True)
class HeldRow:
    """One row of `instances`, as far as standing and counts need it."""

    id: int
    version: int
    current: bool
    conflict: bool
    policy: int
    reason: int
    sop_class: int
    received_at: int
    source: int
    size: int
    object_id: bytes
    sha256: bytes
    encoding_of: bytes | None
    home_id: int | None = None  # the series it was received in, where it is shown in another one
    names: set[bytes] = field(default_factory=set[bytes])  # object ids of duplicates
    fresh: bool = False  # not in the database yet
    counted: tuple[int, int, int] | None = None  # what the counts hold of it now

    @property
    def order(self) -> tuple[int, bytes]:
        return self.received_at, self.object_id

    def contribution(self) -> tuple[int, int, int]:
        return self.reason, self.size, self.sop_class


_COLUMNS = (
    "id, version, current, conflict, policy, reason, class, received_at, source, size, object_id, sha256, encoding_of,"
    " home_id"
)


def load(read: Reader, keys: Iterable[tuple[int, bytes]]) -> dict[tuple[int, bytes], list[HeldRow]]:
    """The rows of identities given as (series row, packed SOP UID); identities without rows are left out."""
    wanted = set(keys)
    uids = sorted({uid for _, uid in wanted})
    found: dict[tuple[int, bytes], list[HeldRow]] = {}
    for start in range(0, len(uids), IN_CHUNK):
        chunk = uids[start : start + IN_CHUNK]
        marks = ", ".join("?" * len(chunk))
        for row in read.all(f"SELECT series_id, uid, {_COLUMNS} FROM instances WHERE uid IN ({marks})", chunk):  # noqa: S608
            key = (row[0], bytes(row[1]))
            if key in wanted:
                held = HeldRow(row[2], row[3], bool(row[4]), bool(row[5]), *row[6:])
                held.counted = held.contribution() if held.current else None
                found.setdefault(key, []).append(held)
    by_id = {held.id: held for rows in found.values() for held in rows}
    ids = sorted(by_id)
    for start in range(0, len(ids), IN_CHUNK):
        chunk = ids[start : start + IN_CHUNK]
        marks = ", ".join("?" * len(chunk))
        sql = f"SELECT instance_id, object_id FROM duplicates WHERE instance_id IN ({marks})"  # noqa: S608
        for row_id, object_id in read.all(sql, chunk):
            by_id[row_id].names.add(bytes(object_id))
    return found


def present(read: Reader, object_ids: Sequence[bytes]) -> set[bytes]:
    """Which of these records a committed transaction indexed: as a version, a duplicate or in quarantine."""
    found: set[bytes] = set()
    for start in range(0, len(object_ids), IN_CHUNK):
        chunk = object_ids[start : start + IN_CHUNK]
        marks = ", ".join("?" * len(chunk))
        for table in ("instances", "duplicates", "quarantine"):
            sql = f"SELECT object_id FROM {table} WHERE object_id IN ({marks})"  # noqa: S608
            found.update(bytes(row[0]) for row in read.all(sql, chunk))
    return found


def voided(read: Reader, object_ids: Sequence[bytes]) -> set[bytes]:
    """Which of these records were refused for good."""
    if read.one("SELECT 1 FROM voids LIMIT 1") is None:
        return set()
    found: set[bytes] = set()
    for start in range(0, len(object_ids), IN_CHUNK):
        chunk = object_ids[start : start + IN_CHUNK]
        sql = f"SELECT object_id FROM voids WHERE object_id IN ({', '.join('?' * len(chunk))})"  # noqa: S608
        found.update(bytes(row[0]) for row in read.all(sql, chunk))
    return found


@dataclass(frozen=True, slots=True)
class Decided:
    """The decisions about one identity."""

    reason: str = ""
    switch: Switch | None = None


def has_decisions(read: Reader, tenant_id: int, study: bytes) -> bool:
    return read.one("SELECT 1 FROM history WHERE tenant_id = ? AND study = ? LIMIT 1", (tenant_id, study)) is not None


def last_decision(read: Reader, tenant_id: int, study: bytes) -> int:
    """Time of the latest decision about anything in a study, or of its undoing."""
    row = read.one(
        "SELECT MAX(h.at), MAX(COALESCE(o.undone_at, 0)) FROM history h LEFT JOIN operations o ON o.tenant_id = h.tenant_id"
        " AND o.op = h.op WHERE h.tenant_id = ? AND h.study = ? AND h.kind <> 'encoding'",
        (tenant_id, study),
    )
    return max(row[0], row[1]) if row and row[0] else 0


class Decisions:
    """What was decided about instances, by the names they were received under. Each series and study is looked up once."""

    def __init__(self, read: Reader, tenant_id: int):
        self._read, self._tenant_id = read, tenant_id
        self._names: dict[int, tuple[bytes, bytes]] = {}
        self._any: dict[bytes, bool] = {}

    def named(self, series_id: int, study: bytes, series: bytes) -> None:
        """Say what a series row was received as, where that is known."""
        self._names[series_id] = study, series

    def of(self, key: tuple[int, bytes], rows: Iterable[HeldRow]) -> Decided:
        """What holds of the rows shown as one instance, given as (series row, packed SOP UID): the newest decision about any
        identity they were received under."""
        reason, switch = "", None
        last: dict[int, tuple[int, bytes]] = {}
        for series_id in sorted({row.home_id or key[0] for row in rows}):
            for kind, at, fact, value in self._about(series_id, key[1]):
                said = (at, bytes(fact))
                if said < last.get(kind, (0, b"")):
                    continue
                last[kind] = said
                if kind == Decision.REJECTED:
                    reason = value
                elif kind == Decision.CURRENT:
                    switch = Switch(at, bytes(fact), bytes.fromhex(value))
        return Decided(reason, switch)

    def _about(self, series_id: int, sop: bytes) -> list[Values]:
        if series_id not in self._names:
            row = self._read.one(
                "SELECT s.uid, e.uid FROM series e CROSS JOIN studies s WHERE e.id = ? AND s.id = e.study_id",
                (series_id,),
            ) or (b"", b"")
            self._names[series_id] = bytes(row[0]), bytes(row[1])
        study, series = self._names[series_id]
        if study not in self._any:
            self._any[study] = has_decisions(self._read, self._tenant_id, study)
        if not self._any[study]:
            return []
        return self._read.all(
            "SELECT kind, at, fact, value FROM decisions WHERE tenant_id = ? AND study = ? AND series = ? AND sop = ?",
            (self._tenant_id, study, series, sop),
        )


def standing(read: Reader, rows: Sequence[HeldRow], decision: Decided) -> Standing:
    """Which of the rows is current."""
    if len(rows) == 1 and rows[0].encoding_of is None:
        return Standing(rows[0].id, frozenset())
    versions = [
        Version(
            row.id,
            row.received_at,
            row.object_id,
            row.policy,
            codes.source(read, row.source).peer,
            row.encoding_of,
            frozenset(row.names),
        )
        for row in rows
    ]
    return current(versions, decision.switch)


@dataclass(frozen=True, slots=True)
class Parent:
    """Where an identity's counts go; `counted` is False under the root of non-patient objects."""

    series_id: int
    study_id: int
    counted: bool = True


def settle(tx: Writer, rows: list[HeldRow], decision: Decided, parent: Parent, tally: Tally) -> int | None:
    """Bring current, conflict and reason of an identity's rows up to date and count the difference.

    Rows that are `fresh` are only changed in memory: the caller inserts them. Returns the row that took over from
    another one, None when none did.
    """
    before = next((row for row in rows if row.current and not row.fresh), None)
    contribution = before.counted if before else None
    verdict = standing(tx, rows, decision)
    reason = codes.encode(tx, codes.Code.REASON, 0, [decision.reason])[decision.reason] if decision.reason else 0
    for row in rows:
        wanted = (row.id == verdict.current, row.id in verdict.conflicts, reason)
        if wanted != (row.current, row.conflict, row.reason):
            row.current, row.conflict, row.reason = wanted
            if not row.fresh:
                tx.run(
                    "UPDATE instances SET current = ?, conflict = ?, reason = ? WHERE id = ?",
                    (int(row.current), int(row.conflict), row.reason, row.id),
                )
    after = next(row for row in rows if row.current)
    for row in rows:
        row.counted = row.contribution() if row is after else None
    if parent.counted:
        if contribution is not None:
            tally.add(parent.series_id, parent.study_id, contribution, -1)
        tally.add(parent.series_id, parent.study_id, after.contribution(), +1)
    return after.id if before is not None and before.id != after.id else None
