"""Instances moved to where they are to be shown, after words about places changed.

Owns: moving rows of `instances` between series, the rows of studies and series that words make, the table `moved`. Must never:
change what a row says of its record, or read words without the lock of the studies. A moved row keeps the series it was received
in (`home_id`). Where two received identities are shown as one they become versions of it; who is current is settled anew.
Limits: a decision moves what it bears upon in one transaction; 5,000 instances take about 0.3 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from radiolith.index import words
from radiolith.index.changes import ChangeKind, record
from radiolith.index.counts import Tally
from radiolith.index.descriptions import NOBODY
from radiolith.index.identities import IN_CHUNK, Decisions, HeldRow, Parent, load, settle
from radiolith.index.session import Writer
from radiolith.index.view import Place, View
from radiolith.index.words import Flag, Level


def study_row(tx: Writer, tenant_id: int, uid: bytes, flag: Flag) -> int:
    """The row of a study, made when nothing was received under this name, locked; it is looked at by arrivals from now on."""
    look = f"SELECT id, words FROM studies WHERE uid = ? AND tenant_id = ?{tx.lock_rows}"  # noqa: S608
    row = tx.one(look, (uid, tenant_id))
    if row is None:
        tx.run(
            "INSERT INTO studies(tenant_id, uid, first_key, study_date, modalities, classes, series, instances, rejected, size,"
            " changed_at) VALUES (?, ?, ?, 0, '', '', 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING",
            (tenant_id, uid, NOBODY),
        )
        row = tx.one(look, (uid, tenant_id))
    if row is None:
        raise RuntimeError("a study was neither found nor made")
    if (row[1] or 0) | flag != row[1]:
        tx.run("UPDATE studies SET words = ? WHERE id = ?", (int((row[1] or 0) | flag), row[0]))
    return row[0]


def series_row(tx: Writer, tenant_id: int, study_id: int, uid: bytes) -> int:
    """The row of a series; the study is locked."""
    look = "SELECT id FROM series WHERE uid = ? AND study_id = ?"
    row = tx.one(look, (uid, study_id)) or tx.one(
        "INSERT INTO series(tenant_id, study_id, uid, first_key, classes, instances, rejected, size)"
        " VALUES (?, ?, ?, ?, '', 0, 0, 0) RETURNING id",
        (tenant_id, study_id, uid, NOBODY),
    )
    if row is None:
        raise RuntimeError("a series was neither found nor made")
    return row[0]


def lock_studies(tx: Writer, rows: Iterable[int]) -> None:
    """In the order of their UIDs, as everywhere."""
    if tx.dialect != "postgresql":
        return
    uids: list[tuple[bytes, int]] = []
    numbers = sorted(rows)
    for start in range(0, len(numbers), IN_CHUNK):
        chunk = numbers[start : start + IN_CHUNK]
        found = tx.all(f"SELECT uid, id FROM studies WHERE id IN ({', '.join('?' * len(chunk))})", chunk)  # noqa: S608
        uids += [(bytes(row[0]), row[1]) for row in found]
    for _, row_id in sorted(uids):
        tx.one(f"SELECT id FROM studies WHERE id = ?{tx.lock_rows}", (row_id,))  # noqa: S608


def note_moved(tx: Writer, tenant_id: int, home_id: int, series_id: int) -> None:
    """Something of the received series is shown in the other one."""
    tx.run(
        "INSERT INTO moved(home_id, series_id, tenant_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (home_id, series_id, tenant_id),
    )


def bears_upon(tx: Writer, tenant_id: int, study: bytes) -> set[bytes]:
    """Studies received that something said about where a study is shown bears upon: itself, and what was placed into it."""
    reached, passing = {study}, [study]
    while passing:
        for said in words.pointing_at_study(tx, tenant_id, passing.pop()):
            one = said.subject.study
            if said.subject.level == Level.STUDY and one not in reached:
                passing.append(one)
            reached.add(one)
    return reached


@dataclass(slots=True)
class _Move:
    row_id: int
    sop: bytes
    source: int
    target: int
    home: int


@dataclass(slots=True)
class Moved:
    """Study rows that show something else now."""

    studies: set[int] = field(default_factory=set[int])
    series: set[int] = field(default_factory=set[int])
    instances: int = 0


class Mover:
    """Moves of one transaction. The caller applies the tally, then settles the studies."""

    def __init__(self, tx: Writer, tenant_id: int, at: int, tally: Tally):
        self.tx, self.tenant_id, self.at, self.tally = tx, tenant_id, at, tally
        self.view = View(tx, tenant_id)
        self._study_of: dict[int, int] = {}
        self._targets: dict[Place, int] = {}
        self._decisions = Decisions(tx, tenant_id)

    def run(self, studies: Iterable[bytes]) -> Moved:
        """Bring everything received under these studies to where it is to be shown. Their rows are locked."""
        moved = Moved()
        for uid in sorted(studies):
            study = self.tx.one("SELECT id FROM studies WHERE uid = ? AND tenant_id = ?", (uid, self.tenant_id))
            if study is None:
                continue
            for home_id, series in self.tx.all(
                "SELECT id, uid FROM series WHERE study_id = ? AND first_key <> ? ORDER BY uid", (study[0], NOBODY)
            ):
                self._move(self._wanted(uid, bytes(series), home_id), home_id, moved)
        return moved

    def _wanted(self, study: bytes, series: bytes, home_id: int) -> list[_Move]:
        """What of a received series is not where it should be."""
        default = self._target(self.view.default(study, series).place)
        singles = self.view.singles(study, series)
        rows = self.tx.all(
            "SELECT id, uid, series_id FROM instances WHERE series_id = ? AND home_id IS NULL UNION ALL"
            " SELECT id, uid, series_id FROM instances WHERE home_id = ?",
            (home_id, home_id),
        )
        found: list[_Move] = []
        for row_id, sop, at in rows:
            sop = bytes(sop)
            target = default if sop not in singles else self._target(self.view.place(study, series, sop).place)
            if at != target:
                found.append(_Move(row_id, sop, at, target, home_id))
        return found

    def _target(self, place: Place) -> int:
        """The row of a shown series, locked with its study."""
        found = self._targets.get(place)
        if found is None:
            study_id = study_row(self.tx, self.tenant_id, place[0], Flag.SAID | Flag.PLACED)
            found = self._targets[place] = series_row(self.tx, self.tenant_id, study_id, place[1])
            self._study_of[found] = study_id
        return found

    def _study(self, series_id: int) -> int:
        if series_id not in self._study_of:
            row = self.tx.one("SELECT study_id FROM series WHERE id = ?", (series_id,))
            self._study_of[series_id] = row[0] if row else 0
        return self._study_of[series_id]

    def _move(self, moves: list[_Move], home_id: int, moved: Moved) -> None:
        if not moves:
            return
        keys = {(one.source, one.sop) for one in moves} | {(one.target, one.sop) for one in moves}
        where = {one.row_id: one for one in moves}
        groups: dict[tuple[int, bytes], list[HeldRow]] = {key: [] for key in keys}
        for key, rows in load(self.tx, keys).items():
            for row in rows:
                if row.counted is not None:
                    self.tally.add(key[0], self._study(key[0]), row.counted, -1)
                    row.counted = None
                move = where.get(row.id)
                if move is not None:
                    row.home_id = None if move.target == home_id else home_id
                groups[key if move is None else (move.target, move.sop)].append(row)
        self._write(moves, groups, home_id)
        for key, rows in groups.items():
            if rows:
                self._settle(key, rows)
        self.tx.run(
            "DELETE FROM moved WHERE home_id = ? AND series_id NOT IN"
            " (SELECT series_id FROM instances WHERE home_id = ?)",
            (home_id, home_id),
        )
        for target in sorted({one.target for one in moves} - {home_id}):
            note_moved(self.tx, self.tenant_id, home_id, target)
        moved.studies |= {self._study(series_id) for series_id, _ in keys}
        moved.series |= {series_id for series_id, _ in keys}
        moved.instances += len(moves)

    def _write(self, moves: list[_Move], groups: dict[tuple[int, bytes], list[HeldRow]], home_id: int) -> None:
        """Rows to where they belong; the versions of a group are numbered in the order of reception."""
        alone: dict[int, list[int]] = {}
        crowded: list[_Move] = []
        for one in moves:
            if len(groups[one.target, one.sop]) == 1:
                alone.setdefault(one.target, []).append(one.row_id)
            else:
                crowded.append(one)
        for target, ids in alone.items():
            home = None if target == home_id else home_id
            for start in range(0, len(ids), IN_CHUNK):
                chunk = ids[start : start + IN_CHUNK]
                sql = f"UPDATE instances SET series_id = ?, home_id = ?, version = 0 WHERE id IN ({', '.join('?' * len(chunk))})"  # noqa: S608
                self.tx.run(sql, (target, home, *chunk))
        self.tx.run_many(  # numbers that no group has, until they get theirs
            "UPDATE instances SET series_id = ?, home_id = ?, version = -id WHERE id = ?",
            [(one.target, None if one.target == home_id else home_id, one.row_id) for one in crowded],
        )
        numbers: list[tuple[int, int]] = []
        for rows in groups.values():
            rows.sort(key=lambda row: row.order)
            for number, row in enumerate(rows):
                if row.version != number or len(rows) > 1:
                    numbers.append((number, row.id))
                row.version = number
        self.tx.run_many("UPDATE instances SET version = -id WHERE id = ?", [(row_id,) for _, row_id in numbers])
        self.tx.run_many("UPDATE instances SET version = ? WHERE id = ?", numbers)

    def _settle(self, key: tuple[int, bytes], rows: list[HeldRow]) -> None:
        """Who is current in a group."""
        study_id = self._study(key[0])
        taken_over = settle(self.tx, rows, self._decisions.of(key, rows), Parent(key[0], study_id), self.tally)
        if taken_over is not None:
            record(self.tx, [(self.tenant_id, ChangeKind.SWITCHED, study_id, taken_over, self.at)])
