"""What the index knows of segments, nodes and leases: where recovery goes on, who is alive, who does a job.

Owns: the tables `segments` (beyond numbers), `nodes` and `leases`. Must never: believe a watermark beyond what a committed
transaction indexed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from radiolith.index import codes
from radiolith.index.places import DROPPED
from radiolith.index.session import Reader, Writer


def note_segments(tx: Writer, ends: Mapping[bytes, int]) -> None:
    """Every record of these segments before the offset has its rows in this transaction or an earlier one."""
    for uid in sorted(ends):
        number = codes.segment_number(tx, uid)
        tx.run(
            "UPDATE segments SET indexed_end = ?, bytes = ? WHERE id = ? AND indexed_end < ?",
            (ends[uid], ends[uid], number, ends[uid]),
        )


def record_segment(tx: Writer, uid: bytes, tier: str, *, sealed: bool, indexed_end: int) -> None:
    """What recovery or a rebuild found out about a whole segment."""
    number = codes.segment_number(tx, uid)
    tx.run(
        "UPDATE segments SET tier = ?, state = ?,"
        " indexed_end = CASE WHEN indexed_end < ? THEN ? ELSE indexed_end END WHERE id = ?",
        (tier, int(sealed), indexed_end, indexed_end, number),
    )


def segment_marks(read: Reader) -> dict[bytes, int]:
    """Segment id -> offset before which everything is indexed."""
    return {bytes(row[0]): row[1] for row in read.all("SELECT uid, indexed_end FROM segments")}


def sealed_segments(read: Reader) -> set[bytes]:
    """Segments that are sealed and wholly indexed: recovery need not open them. Dropped ones are among them."""
    return {bytes(row[0]) for row in read.all("SELECT uid FROM segments WHERE state > 0")}


def dropped_segments(read: Reader) -> set[bytes]:
    """Segments whose rows have switched to copies: they may be deleted at any moment, or are gone already."""
    return {bytes(row[0]) for row in read.all("SELECT uid FROM segments WHERE state = ?", (DROPPED,))}


def next_scope(read: Reader) -> int:
    """Keyring position behind the last scope that a row names."""
    row = read.one("SELECT MAX(position) FROM (SELECT position FROM scopes ORDER BY id DESC LIMIT 1000) AS latest")
    return int(row[0]) + 1 if row and row[0] is not None else 0


# ---------------------------------------------------------------- nodes and leases


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    started_at: int
    seen_at: int
    body: str


def beat(tx: Writer, name: str, started_at: int, at: int, body: str = "") -> None:
    """A process says that it lives. `body` is shown by status."""
    tx.run(
        "INSERT INTO nodes(name, started_at, seen_at, body) VALUES (?, ?, ?, ?) ON CONFLICT (name)"
        " DO UPDATE SET started_at = excluded.started_at, seen_at = excluded.seen_at, body = excluded.body",
        (name, started_at, at, body),
    )


def nodes(read: Reader, since: int = 0) -> list[Node]:
    rows = read.all("SELECT name, started_at, seen_at, body FROM nodes WHERE seen_at >= ? ORDER BY name", (since,))
    return [Node(*row) for row in rows]


def take_lease(tx: Writer, name: str, owner: str, now: int, until: int) -> bool:
    """Take or renew: True when `owner` has it until `until`. Somebody else's holds until it has run out."""
    tx.run("INSERT INTO leases(name, owner, until) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (name, owner, until))
    return bool(
        tx.run(
            "UPDATE leases SET owner = ?, until = ? WHERE name = ? AND (owner = ? OR until < ?)",
            (owner, until, name, owner, now),
        )
    )


def renew_lease(tx: Writer, name: str, owner: str, held: int, until: int) -> bool:
    """Go on holding a lease that `owner` has until `held`: False when anybody has taken it since, `owner` itself
    included. Whoever writes under a lease does it in a transaction that renews: so two holders cannot overlap."""
    return bool(
        tx.run(
            "UPDATE leases SET until = ? WHERE name = ? AND owner = ? AND until = ?",
            (until, name, owner, held),
        )
    )
