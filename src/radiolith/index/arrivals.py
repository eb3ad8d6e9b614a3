"""When studies are complete: the durable timers, and each time one ran out.

Owns: the tables `arrivals` and `completions`. Must never: decide how long to wait, or say "complete" outside the transaction
that appends it to the change feed. No facts: a rebuilt index sets its timers again from the feed. A completion is kept KEEP.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from radiolith.index import codes, registry
from radiolith.index.changes import ChangeKind, record
from radiolith.index.identities import IN_CHUNK
from radiolith.index.session import Reader, Writer
from radiolith.index.uids import unpack_uid
from radiolith.model import Source

KEEP = 30 * 86_400 * 1_000_000  # microseconds: longer than any follower lags
PAGE = 200  # completions a statement
_COLUMNS = "id, tenant_id, study_id, round, at, instances, first_instance, last_instance"


@dataclass(frozen=True, slots=True)
class Arrived:
    """New instances of one study, seen in the feed."""

    tenant_id: int
    study_id: int
    instances: int
    first: int  # smallest and greatest row number
    last: int
    due_at: int


@dataclass(frozen=True, slots=True)
class Completion:
    """A study that got nothing new for as long as its senders take. Its instances: rows `first` to `last` of the study."""

    id: int
    tenant_id: int
    study_id: int
    round: int  # 1 for the first time
    at: int
    instances: int  # new ones of this round
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a study is complete; `at`: since when, or when it will be if nothing comes."""

    complete: bool
    at: int
    round: int


def note(tx: Writer, arrived: Sequence[Arrived]) -> None:
    """Open the studies, or keep them open. The root of non-patient objects is no study and never complete."""
    for one in sorted(arrived, key=lambda one: one.study_id):
        tx.run(
            "INSERT INTO arrivals(study_id, tenant_id, state, due_at, round, instances, first_instance, last_instance)"
            " SELECT id, ?, 0, ?, 0, ?, ?, ? FROM studies WHERE id = ? AND LENGTH(uid) > 0"
            " ON CONFLICT (study_id) DO UPDATE SET due_at = excluded.due_at,"
            " instances = CASE arrivals.state WHEN 0 THEN arrivals.instances ELSE 0 END + excluded.instances,"
            " first_instance = CASE WHEN arrivals.state = 0 AND arrivals.first_instance < excluded.first_instance"
            " THEN arrivals.first_instance ELSE excluded.first_instance END,"
            " last_instance = CASE WHEN arrivals.state = 0 AND arrivals.last_instance > excluded.last_instance"
            " THEN arrivals.last_instance ELSE excluded.last_instance END, state = 0",
            (one.tenant_id, one.due_at, one.instances, one.first, one.last, one.study_id),
        )


def due(read: Reader, now: int) -> bool:
    """Whether any time is up."""
    return read.one("SELECT 1 FROM arrivals WHERE state = 0 AND due_at <= ? LIMIT 1", (now,)) is not None


def complete(tx: Writer, now: int, limit: int) -> list[Completion]:
    """Studies whose time is up become complete, and the feed says so: once, whoever else looks at the same moment."""
    due = tx.all(
        "SELECT study_id, due_at FROM arrivals WHERE state = 0 AND due_at <= ? ORDER BY due_at, study_id LIMIT ?",
        (now, limit),
    )
    done: list[Completion] = []
    for study_id, due_at in sorted(due):
        row = tx.one(
            "UPDATE arrivals SET state = 1, round = round + 1 WHERE study_id = ? AND state = 0 AND due_at = ?"
            " RETURNING tenant_id, study_id, round, instances, first_instance, last_instance",
            (study_id, due_at),
        )
        if row is None:
            continue
        (number,) = tx.allocate("completions", 1)
        tx.run(
            f"INSERT INTO completions({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (number, *row[:3], now, *row[3:]),
        )
        tenant_id, study_id, nth, instances, first, last = row
        done.append(Completion(number, tenant_id, study_id, nth, now, instances, first, last))
    record(tx, [(one.tenant_id, ChangeKind.COMPLETE, one.study_id, one.id, now) for one in done])
    return done


def completion(read: Reader, number: int) -> Completion | None:
    """The one a change names; None when it was so long ago that it is forgotten."""
    row = read.one(f"SELECT {_COLUMNS} FROM completions WHERE id = ?", (number,))  # noqa: S608
    return Completion(*row) if row else None


def completions(read: Reader, tenant_id: int, since: int) -> Iterator[Completion]:
    """Those since then, latest first, in pages; lazy: use it inside `read()`."""
    after: tuple[int, int] = (2**62, 0)
    sql = (
        f"SELECT {_COLUMNS} FROM completions WHERE tenant_id = ? AND at >= ? AND (at, id) < (?, ?)"  # noqa: S608
        " ORDER BY at DESC, id DESC LIMIT ?"
    )
    while rows := read.all(sql, (tenant_id, since, *after, PAGE)):
        yield from (Completion(*row) for row in rows)
        after = (rows[-1][4], rows[-1][0])


def study_uid(read: Reader, study_id: int) -> str:
    row = read.one("SELECT uid FROM studies WHERE id = ?", (study_id,))
    return unpack_uid(bytes(row[0])) if row else ""


def standing(read: Reader, tenant_id: int, study_id: int) -> Standing | None:
    """None for a study that came before arrivals were watched."""
    row = read.one(
        "SELECT a.state, a.due_at, a.round FROM arrivals a WHERE a.study_id = ? AND a.tenant_id = ?",
        (study_id, tenant_id),
    )
    return Standing(bool(row[0]), row[1], row[2]) if row else None


def sources(read: Reader, rows: Sequence[int]) -> dict[int, Source]:
    """Where instances came from, by row number."""
    found: dict[int, Source] = {}
    for start in range(0, len(rows), IN_CHUNK):
        chunk = rows[start : start + IN_CHUNK]
        sql = f"SELECT id, source FROM instances WHERE id IN ({', '.join('?' * len(chunk))})"  # noqa: S608
        found |= {row[0]: codes.source(read, row[1]) for row in read.all(sql, chunk)}
    return found


def quiet_periods(read: Reader, tenant_id: int) -> dict[str, int]:
    """AE title and name of each peer that has a setting `quiet` (seconds) of its own -> microseconds."""
    found: dict[str, int] = {}
    for entry in registry.entries(read, tenant_id, "peer"):
        seconds = entry.body.get("quiet")
        if isinstance(seconds, int) and seconds > 0:
            found |= {str(name): seconds * 1_000_000 for name in (entry.body.get("aet"), entry.name) if name}
    return found


def prune(tx: Writer, now: int) -> int:
    return tx.run("DELETE FROM completions WHERE at < ?", (now - KEEP,))
