"""Working on what is in the outbox: who has it, what became of each instance, and how it ends.

Owns: changes of rows of `transfers` and `transfer_items` after they were ordered. Must never: write for a holder whose lease
somebody else has taken: each change names the lease it was read with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from radiolith.index import copies
from radiolith.index.outbox import (
    COLUMNS,
    KEEP,
    KEEP_FAILED,
    ItemState,
    Mark,
    State,
    Transfer,
    Why,
    clipped,
    transfer_of,
)
from radiolith.index.session import Writer
from radiolith.index.uids import pack_uid

ASK_AGAIN = 60_000_000  # microseconds until the peer is asked about what its result left out
ROUNDS = 2  # times an instance is sent that the peer took and then does not commit to


def claim(tx: Writer, number: int, owner: str, now: int, until: int, early: bool = False) -> Transfer | None:
    """Take up a live transfer that is due, until then; None when somebody else has it or it has ended.

    early: one that waits is taken although it is not due.
    """
    row = tx.one(
        "UPDATE transfers SET owner = ?, next_at = ?, changed_at = ?, attempts = attempts + 1,"  # noqa: S608
        " state = CASE WHEN state = 0 THEN 1 ELSE state END"
        f" WHERE id = ? AND state < 3 AND (next_at <= ? OR (? = 1 AND state = 0)) RETURNING {COLUMNS}",
        (owner, until, now, number, now, int(early)),
    )
    return transfer_of(row) if row else None


def renew(tx: Writer, claimed: Transfer, now: int, until: int) -> Transfer | None:
    """Go on holding a transfer: None when it was taken over, cancelled or sent again since. Every mark is made in a
    transaction that renews, so that two holders cannot both write."""
    row = tx.one(
        f"UPDATE transfers SET next_at = ?, changed_at = ? WHERE {_MINE} RETURNING {COLUMNS}",  # noqa: S608
        (until, now, *_mine(claimed)),
    )
    return transfer_of(row) if row else None


_MINE = "id = ? AND state = ? AND owner = ? AND next_at = ?"


def _mine(claimed: Transfer) -> tuple[Any, ...]:
    return claimed.id, int(claimed.state), claimed.owner, claimed.next_at


def mark(tx: Writer, claimed: Transfer, marks: Sequence[Mark], now: int, until: int) -> Transfer | None:
    """Note what became of items, and renew. The counters follow; progress starts the back-off anew."""
    mine = renew(tx, claimed, now, until)
    if mine is None or not marks:
        return mine
    tx.run_many(
        "UPDATE transfer_items SET state = ?, tries = tries + ?, status = ?, said = ? WHERE transfer_id = ?"
        " AND position >= ? AND position <= ?",
        [
            (
                int(one.state),
                int(one.state is ItemState.SENT),
                one.status,
                clipped(one.said),
                mine.id,
                one.position,
                last,
            )
            for one, last in _runs(marks)
        ],
    )
    sent, refused, gone = (
        sum(one.state is state for one in marks) for state in (ItemState.SENT, ItemState.REFUSED, ItemState.GONE)
    )
    row = tx.one(
        "UPDATE transfers SET delivered = delivered + ?, failed = failed + ?, total = total - ?,"  # noqa: S608
        f" attempts = CASE WHEN ? > 0 THEN 1 ELSE attempts END WHERE id = ? RETURNING {COLUMNS}",
        (sent, refused, gone, sent, mine.id),
    )
    if sent and mine.why is not Why.NOTE:
        copies.note(tx, mine.tenant_id, mine.study, mine.peer, now)
    return transfer_of(row) if row else None


def _runs(marks: Sequence[Mark]) -> list[tuple[Mark, int]]:
    """Neighbours of which the same is said as one: its first mark and its last position. Most series are a single one."""
    runs: list[tuple[Mark, int]] = []
    for one in sorted(marks, key=lambda mark: mark.position):
        first, last = runs[-1] if runs else (None, 0)
        if first is not None and one == replace(first, position=one.position) and one.position == last + 1:
            runs[-1] = first, one.position
        else:
            runs.append((one, one.position))
    return runs


def postpone(tx: Writer, numbers: Sequence[int], until: int) -> None:
    """Nobody but who ordered them begins these before then."""
    for number in sorted(numbers):
        tx.run(
            "UPDATE transfers SET next_at = ? WHERE id = ? AND state = 0 AND attempts = 0 AND next_at < ?",
            (until, number, until),
        )


def hand_on(tx: Writer, numbers: Sequence[int], said: str, now: int) -> None:
    """Who wanted to begin these will not: they are due, for whoever comes first."""
    for number in sorted(numbers):
        tx.run(
            "UPDATE transfers SET next_at = ?, said = ?, changed_at = ? WHERE id = ? AND state = 0 AND attempts = 0",
            (now, clipped(said), now, number),
        )


def leave(tx: Writer, claimed: Transfer, state: State, next_at: int, said: str, now: int) -> bool:
    """Give a claimed transfer back in another state; False when it is ours no more."""
    done = tx.run(
        f"UPDATE transfers SET state = ?, next_at = ?, said = ?, owner = '', changed_at = ? WHERE {_MINE}",  # noqa: S608
        (int(state), next_at, clipped(said), now, *_mine(claimed)),
    )
    if done and state is State.DELIVERED:
        tx.run("DELETE FROM transfer_items WHERE transfer_id = ?", (claimed.id,))
    return bool(done)


def await_commitment(tx: Writer, claimed: Transfer, transaction_uid: str, now: int, until: int) -> Transfer | None:
    """Everything is sent and the peer is about to be asked whether it keeps it."""
    row = tx.one(
        "UPDATE transfers SET state = ?, commitment = ?, next_at = ?, changed_at = ?,"  # noqa: S608
        " attempts = CASE WHEN state = ? THEN attempts ELSE 1 END"
        f" WHERE {_MINE} RETURNING {COLUMNS}",
        (int(State.AWAITING), transaction_uid, until, now, int(State.AWAITING), *_mine(claimed)),
    )
    return transfer_of(row) if row else None


def awaiting(tx: Writer, tenant_id: int, transaction_uid: str) -> Transfer | None:
    """The transfer a commitment's result belongs to, locked; None when nobody waits for it."""
    row = tx.one(
        f"SELECT {COLUMNS} FROM transfers WHERE tenant_id = ? AND commitment = ? AND commitment <> ''"  # noqa: S608
        f" AND state = ?{tx.lock_rows}",
        (tenant_id, transaction_uid, int(State.AWAITING)),
    )
    return transfer_of(row) if row else None


# ---------------------------------------------------------------- commitment


def settle(tx: Writer, found: Transfer, committed: Sequence[str], refused: Mapping[str, str], now: int) -> Transfer:
    """Note a commitment's result, by SOP Instance UID, and what follows: what the peer does not keep is sent once more.

    `refused`: UID -> reason in words. An instance the result does not name stays as it is, and is asked for again.
    """
    named = {pack_uid(uid): None for uid in committed} | {
        pack_uid(uid): reason or "the peer gave no reason" for uid, reason in refused.items()
    }
    rows = tx.all(
        "SELECT t.position, t.tries, i.uid FROM transfer_items t CROSS JOIN instances i"
        " WHERE t.transfer_id = ? AND t.state = ? AND i.id = t.instance_id",
        (found.id, int(ItemState.SENT)),
    )
    marks: list[tuple[int, str, int, int]] = []
    again = lost = 0
    for position, tries, uid in rows:
        reason = named.get(bytes(uid), "")
        if reason is None:
            marks.append((int(ItemState.COMMITTED), "", found.id, position))
        elif reason:
            state = ItemState.WAITING if tries < ROUNDS else ItemState.REFUSED
            again, lost = again + (state is ItemState.WAITING), lost + (state is ItemState.REFUSED)
            marks.append((int(state), clipped(reason), found.id, position))
    tx.run_many("UPDATE transfer_items SET state = ?, said = ? WHERE transfer_id = ? AND position = ?", marks)
    left = len(rows) - len(marks)
    row = tx.one(
        "UPDATE transfers SET delivered = delivered - ?, failed = failed + ?, changed_at = ?, commitment = '', owner = '',"  # noqa: S608
        " attempts = CASE WHEN ? > 0 THEN attempts ELSE 0 END,"
        f" state = ?, next_at = ?, said = ? WHERE id = ? RETURNING {COLUMNS}",
        (again + lost, lost, now, left if not again else 0, *_after(found, again, left, lost, now), found.id),
    )
    if row is None:
        raise RuntimeError("a transfer vanished while its commitment was noted")
    if row[10] == State.DELIVERED:
        tx.run("DELETE FROM transfer_items WHERE transfer_id = ?", (found.id,))
    return transfer_of(row)


def _after(found: Transfer, again: int, left: int, lost: int, now: int) -> tuple[int, int, str]:
    """State, when it is due and what it says, after a commitment's result."""
    if again:
        return int(State.WAITING), now, f"{again} instances were taken but not committed to; they are sent again"
    if left:
        return (
            int(State.AWAITING),
            now + ASK_AGAIN,
            f"the result did not name {left} instances; they are asked for again",
        )
    failed = found.failed + lost
    if failed:
        return int(State.FAILED), 0, found.said if not lost else f"{lost} instances were taken but not committed to"
    return int(State.DELIVERED), 0, ""


# ---------------------------------------------------------------- by order of a person


def again(tx: Writer, tenant_id: int, number: int, now: int) -> bool:
    """Send what is missing of a transfer that failed, is held or was cancelled; of one that waits: now."""
    sql = (
        "UPDATE transfers SET state = ?, next_at = ?, attempts = 0, owner = '', failed = 0, changed_at = ? WHERE id = ?"
    )
    done = tx.run(
        f"{sql} AND tenant_id = ? AND state IN (?, ?, ?, ?)",
        (int(State.WAITING), now, now, number, tenant_id,
         *map(int, (State.WAITING, State.FAILED, State.HELD, State.CANCELLED))),
    )  # fmt: skip
    if done:
        tx.run(
            "UPDATE transfer_items SET state = ?, tries = 0 WHERE transfer_id = ? AND state = ?",
            (int(ItemState.WAITING), number, int(ItemState.REFUSED)),
        )
    return bool(done)


def cancel(tx: Writer, tenant_id: int, number: int, said: str, now: int) -> bool:
    """Stop a transfer that was not delivered: whoever sends it finds its lease gone at the next mark."""
    return bool(
        tx.run(
            "UPDATE transfers SET state = ?, owner = '', said = ?, changed_at = ? WHERE id = ? AND tenant_id = ?"
            " AND state IN (?, ?, ?, ?, ?)",
            (int(State.CANCELLED), clipped(said), now, number, tenant_id,
             *map(int, (State.WAITING, State.SENDING, State.AWAITING, State.FAILED, State.HELD))),
        )
    )  # fmt: skip


# ---------------------------------------------------------------- housekeeping


def resume_held(tx: Writer, now: int) -> int:
    """What was held for want of a peer goes on where one by that name is known now; how many."""
    return tx.run(
        "UPDATE transfers SET state = ?, next_at = ?, changed_at = ? WHERE state = 5 AND EXISTS (SELECT 1 FROM registry r"
        " WHERE r.tenant_id = transfers.tenant_id AND r.kind = 'peer' AND r.name = transfers.peer AND r.removed = 0)",
        (int(State.WAITING), now, now),
    )


def prune(tx: Writer, now: int) -> int:
    """Forget what ended long ago; how many transfers."""
    old = "state > 2 AND changed_at < ? AND (state NOT IN (4, 5) OR changed_at < ?)"
    bounds = (now - KEEP, now - KEEP_FAILED)
    tx.run(f"DELETE FROM transfer_items WHERE transfer_id IN (SELECT id FROM transfers WHERE {old})", bounds)  # noqa: S608
    return tx.run(f"DELETE FROM transfers WHERE {old}", bounds)  # noqa: S608
