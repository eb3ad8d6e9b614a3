"""Failed sign-ins as rows, shared by all workers and nodes.

Owns: the table `failed_sign_ins`. Must never: know who a subject is (a digest arrives), or decide what a number of tries
means; trust/attempts does. No fact makes these rows: a rebuilt index has forgotten them. A row goes FORGET
after it last mattered; the jobs process calls `forget`.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.index.session import Reader, Writer

FORGET = 60 * 60 * 1_000_000  # microseconds after the last try or the end of a lock-out; then rounds begin anew


@dataclass(frozen=True, slots=True)
class Tries:
    """What is known of one subject. Times in microseconds."""

    tries: int = 0  # since `since`, those under way included
    since: int = 0
    locked_until: int = 0
    rounds: int = 0  # lock-outs in a row


def get(read: Reader, subject: bytes) -> Tries:
    """All zero for a subject nothing is known of."""
    row = read.one("SELECT tries, since, locked_until, rounds FROM failed_sign_ins WHERE subject = ?", (subject,))
    return Tries(*row) if row else Tries()


def count(tx: Writer, subject: bytes, now: int, window: int) -> Tries:
    """Add a try and answer what is known with it; a window (microseconds) that has passed is begun anew, and
    so is one that a clock which was far ahead has begun.

    The row stays locked until the transaction ends: subjects have to be counted in one order by all.
    """
    alive = now - window + 1, now + window
    row = tx.one(
        "INSERT INTO failed_sign_ins(subject, tries, since, locked_until, rounds, forget_at) VALUES (?, 1, ?, 0, 0, ?)"
        " ON CONFLICT (subject) DO UPDATE SET"
        " tries = CASE WHEN failed_sign_ins.since NOT BETWEEN ? AND ? THEN 1 ELSE failed_sign_ins.tries + 1 END,"
        " since = CASE WHEN failed_sign_ins.since NOT BETWEEN ? AND ? THEN excluded.since ELSE failed_sign_ins.since END,"
        " forget_at = CASE WHEN failed_sign_ins.forget_at > excluded.forget_at"
        " THEN failed_sign_ins.forget_at ELSE excluded.forget_at END"
        " RETURNING tries, since, locked_until, rounds",
        (subject, now, now + window + FORGET, *alive, *alive),
    )
    if row is None:
        raise RuntimeError("a try was neither added nor counted")
    return Tries(*row)


def lock(tx: Writer, subject: bytes, limit: int, until: int) -> None:
    """One more round where `limit` tries are counted: locked until then, counting from nothing afterwards."""
    tx.run(
        "UPDATE failed_sign_ins SET tries = 0, locked_until = ?, rounds = rounds + 1, forget_at = ?"
        " WHERE subject = ? AND tries >= ?",
        (until, until + FORGET, subject, limit),
    )


def uncount(tx: Writer, subject: bytes) -> None:
    """Take back the try that was a success."""
    tx.run("UPDATE failed_sign_ins SET tries = tries - 1 WHERE subject = ? AND tries > 0", (subject,))


def drop(tx: Writer, subject: bytes) -> None:
    tx.run("DELETE FROM failed_sign_ins WHERE subject = ?", (subject,))


def forget(tx: Writer, now: int) -> int:
    """Drop what matters no more; how many rows."""
    return tx.run("DELETE FROM failed_sign_ins WHERE forget_at <= ?", (now,))
