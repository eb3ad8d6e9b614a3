"""Devices that called and are no peers of ours.

Owns: the table `knocks`. Must never: grow beyond DEVICES rows of a tenant, whatever calls under whatever titles, or decide
who is let in. No facts: a rebuilt index begins anew. Rows are kept KEEP after the last call.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.index import codes
from radiolith.index.session import Reader, Writer
from radiolith.model import Source

DEVICES = 500
"""Of a tenant: more than a hospital has, and a list that people can still read."""
KEEP = 30 * 86_400 * 1_000_000  # microseconds


@dataclass(frozen=True, slots=True)
class Caller:
    """AE titles and network address of a call."""

    calling: str
    called: str
    address: str


@dataclass(frozen=True, slots=True)
class Known:
    """One device. `admitted`: as a stranger, the last time it called; `objects`: in quarantine, from this title and address."""

    caller: Caller
    first_at: int
    last_at: int
    count: int
    admitted: bool
    objects: int


def note(tx: Writer, tenant_id: int, caller: Caller, seen: tuple[int, int, bool]) -> bool:
    """Add to what is known of a device; False when there is no room for another. `seen`: when, how often, whether admitted."""
    at, count, admitted = seen
    key = (tenant_id, caller.calling, caller.called, caller.address)
    if tx.run(
        "UPDATE knocks SET last_at = ?, count = count + ?, admitted = ? WHERE tenant_id = ? AND calling = ? AND called = ?"
        " AND address = ?",
        (at, count, int(admitted), *key),
    ):
        return True
    held = tx.one("SELECT COUNT(*) FROM knocks WHERE tenant_id = ?", (tenant_id,))
    if held is not None and held[0] >= DEVICES:
        return False
    tx.run(
        "INSERT INTO knocks(tenant_id, calling, called, address, first_at, last_at, count, admitted)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*key, at, at, count, int(admitted)),
    )
    return True


def listed(read: Reader, tenant_id: int) -> list[Known]:
    """Latest first."""
    rows = read.all(
        "SELECT calling, called, address, first_at, last_at, count, admitted FROM knocks WHERE tenant_id = ?"
        " ORDER BY last_at DESC, calling, called, address",
        (tenant_id,),
    )
    objects = quarantined_by(read, tenant_id)
    return [
        Known(
            Caller(*row[:3]), row[3], row[4], row[5], bool(row[6]),
            objects.get(Source("dimse", row[0], row[2]), 0),
        )
        for row in rows
    ]  # fmt: skip


def quarantined_by(read: Reader, tenant_id: int) -> dict[Source, int]:
    """How much lies in quarantine, by where it came from."""
    rows = read.all(
        "SELECT source, COUNT(*) FROM quarantine WHERE tenant_id = ? AND released = 0 GROUP BY source", (tenant_id,)
    )
    return {codes.source(read, row[0]): row[1] for row in rows}


def forget(tx: Writer, tenant_id: int, calling: str, address: str) -> int:
    """The device is a peer now."""
    return tx.run(
        "DELETE FROM knocks WHERE tenant_id = ? AND calling = ? AND address = ?", (tenant_id, calling, address)
    )


def prune(tx: Writer, now: int) -> int:
    return tx.run("DELETE FROM knocks WHERE last_at < ?", (now - KEEP,))
