"""What goes to webhooks: the batch that is on its way, and those that were given up.

Owns: the table `deliveries`, and the names of webhooks' cursors. Must never: know how a target is reached. A webhook has at most
one batch of new events here, and its cursor stands behind it: so its order is that of the feed, whoever sends. Whoever sends one
holds it until `next_at`, with the number of its attempt as the token of that. No facts: after a rebuild the feed begins again.
Batches that were given up are kept KEEP.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from radiolith.index.session import Reader, Values, Writer

KEEP = 30 * 86_400 * 1_000_000  # microseconds
_COLUMNS = "id, tenant_id, webhook, state, attempts, next_at, said, created_at, ended_at, body"


class State(IntEnum):
    """The value is in the database."""

    WAITING = 0
    GIVEN_UP = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes behind `after` up to `until` (cursors as text); `events` of them are told. `latest`: when the last one happened."""

    after: str
    until: str
    events: int
    latest: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """Times in microseconds. `next_at`: when it is due, or until when whoever sends it holds it. `said`: why the last attempt
    failed."""

    id: int
    tenant_id: int
    webhook: str
    state: State
    attempts: int
    next_at: int
    said: str
    created_at: int
    ended_at: int
    batch: Batch


def cursor_name(tenant: bytes, webhook: str) -> str:
    return f"webhook {tenant.hex()} {webhook}"


def put(tx: Writer, of: tuple[int, str], batch: Batch, now: int, until: int) -> Delivery:
    """A new batch of the webhook (tenant row, name), held by who puts it until then."""
    (number,) = tx.allocate("deliveries", 1)
    body = json.dumps({"after": batch.after, "until": batch.until, "events": batch.events, "latest": batch.latest})
    values = (number, *of, int(State.WAITING), 1, until, "", now, 0, body)
    tx.run(f"INSERT INTO deliveries({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608
    return _delivery(values)


def waiting(read: Reader, of: tuple[int, str]) -> Delivery | None:
    """The oldest batch of a webhook that is to be tried, due or not."""
    row = read.one(
        f"SELECT {_COLUMNS} FROM deliveries WHERE webhook = ? AND tenant_id = ? AND state = 0 ORDER BY id LIMIT 1",  # noqa: S608
        (of[1], of[0]),
    )
    return _delivery(row) if row else None


def claim(tx: Writer, one: Delivery, now: int, until: int) -> Delivery | None:
    """Hold a due batch until then; None when somebody else does, or has ended it."""
    held = tx.run(
        "UPDATE deliveries SET attempts = attempts + 1, next_at = ? WHERE id = ? AND state = 0 AND attempts = ?"
        " AND next_at <= ?",
        (until, one.id, one.attempts, now),
    )
    return replace(one, attempts=one.attempts + 1, next_at=until) if held else None


def delivered(tx: Writer, one: Delivery) -> bool:
    """The target has it: there is nothing to remember but the cursor."""
    return bool(tx.run("DELETE FROM deliveries WHERE id = ? AND state = 0 AND attempts = ?", (one.id, one.attempts)))


def leave(tx: Writer, one: Delivery, state: State, said: str, at: int) -> bool:
    """End a claim: to be tried again at `at`, or given up then."""
    due, ended = (at, 0) if state is State.WAITING else (0, at)
    return bool(
        tx.run(
            "UPDATE deliveries SET state = ?, next_at = ?, said = ?, ended_at = ? WHERE id = ? AND state = 0 AND attempts = ?",
            (int(state), due, said, ended, one.id, one.attempts),
        )
    )


def again(tx: Writer, tenant_id: int, number: int, now: int) -> bool:
    """Try a batch that was given up once more; False when it is not given up."""
    return bool(
        tx.run(
            "UPDATE deliveries SET state = 0, attempts = 0, next_at = ?, ended_at = 0"
            " WHERE id = ? AND tenant_id = ? AND state = 1",
            (now, number, tenant_id),
        )
    )


def get(read: Reader, tenant_id: int, number: int) -> Delivery | None:
    row = read.one(f"SELECT {_COLUMNS} FROM deliveries WHERE id = ? AND tenant_id = ?", (number, tenant_id))  # noqa: S608
    return _delivery(row) if row else None


def listed(read: Reader, of: tuple[int, str], limit: int, after: int) -> list[Delivery]:
    """Those of a webhook in their order, behind the number `after`."""
    rows = read.all(
        f"SELECT {_COLUMNS} FROM deliveries WHERE webhook = ? AND tenant_id = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
        (of[1], of[0], after, limit),
    )
    return [_delivery(row) for row in rows]


def given_up(read: Reader, tenant_id: int) -> dict[str, int]:
    """How many of each webhook wait for a person."""
    return dict(
        read.all(
            "SELECT webhook, COUNT(*) FROM deliveries WHERE tenant_id = ? AND state = 1 GROUP BY webhook", (tenant_id,)
        )
    )


def lost(read: Reader, of: tuple[int, str]) -> list[int]:
    """Numbers of the batches of a webhook that were given up, oldest first."""
    sql = "SELECT id FROM deliveries WHERE webhook = ? AND tenant_id = ? AND state = 1 ORDER BY id"
    return [row[0] for row in read.all(sql, (of[1], of[0]))]


def drop(tx: Writer, of: tuple[int, str]) -> None:
    """Everything of a webhook."""
    tx.run("DELETE FROM deliveries WHERE webhook = ? AND tenant_id = ?", (of[1], of[0]))


def forget(tx: Writer, known: Collection[tuple[int, str]], now: int) -> None:
    """What was given up so long ago, and everything of webhooks there are not any more."""
    tx.run("DELETE FROM deliveries WHERE state = 1 AND ended_at < ?", (now - KEEP,))
    for tenant_id, webhook in tx.all("SELECT DISTINCT tenant_id, webhook FROM deliveries"):
        if (tenant_id, webhook) not in known:
            drop(tx, (tenant_id, webhook))


def _delivery(row: Values) -> Delivery:
    body: dict[str, Any] = json.loads(row[9])
    batch = Batch(body["after"], body["until"], body["events"], body["latest"])
    attempts, next_at, said, created_at, ended_at = row[4:9]
    return Delivery(row[0], row[1], row[2], State(row[3]), attempts, next_at, said, created_at, ended_at, batch)
