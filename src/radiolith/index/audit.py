"""The audit trail as rows.

Owns: the table `audit`. Must never: change a row but for the count of an open read window, or drop one. A follower copies
rows into the log as facts of kind 'audit' (`uncopied`, `AuditCopy`); in a rebuild those facts bring the rows back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from radiolith.index.migrations import epoch
from radiolith.index.session import Reader, Writer
from radiolith.index.uids import pack_uid, unpack_uid
from radiolith.model import AuditEvent

WINDOW = 15 * 60 * 1_000_000  # microseconds of one read record per principal, study, purpose and worker
_CURSOR = "audit to log"
_COLUMNS = "at, tenant_id, principal, action, study, purpose, outcome, source, count, detail"
_TEXT_MAX = 1000  # characters of a text: an attacker's user agent must not fill the trail


def insert(tx: Writer, events: Sequence[AuditEvent]) -> list[int]:
    """Append events; returns their row numbers, in order, for `bump`."""
    numbers = tx.allocate("audit", len(events))
    marks = ", ".join("?" * 11)
    tx.run_many(
        f"INSERT INTO audit(id, {_COLUMNS}) VALUES ({marks})",  # noqa: S608
        [(number, *_values(event)) for number, event in zip(numbers, events, strict=True)],
    )
    return numbers


def _values(event: AuditEvent) -> tuple[Any, ...]:
    return (
        event.at,
        event.tenant,
        _text(event.principal),
        event.action,
        pack_uid(event.study),
        _text(event.purpose),
        event.outcome,
        _text(event.source),
        event.count,
        _text(event.detail),
    )


def _text(value: str) -> str:
    return value.replace("\x00", "").encode("utf-8", "replace").decode()[:_TEXT_MAX]


def bump(tx: Writer, counts: Mapping[int, int]) -> None:
    """Add to the counts of open windows, lazily: what a crash loses makes them lower bounds."""
    tx.run_many(
        "UPDATE audit SET count = count + ? WHERE id = ?", [(count, number) for number, count in sorted(counts.items())]
    )


def events(read: Reader, tenant_id: int, *, before: int = 0, limit: int = 100) -> list[tuple[int, AuditEvent]]:
    """(row number, event), latest first; `before` is the last row number of the page before."""
    rows = read.all(
        f"SELECT id, {_COLUMNS} FROM audit WHERE tenant_id = ? AND id < ? ORDER BY id DESC LIMIT ?",  # noqa: S608
        (tenant_id, before or 2**62, limit),
    )
    return [(row[0], _event(row[1:])) for row in rows]


def _event(row: Sequence[Any]) -> AuditEvent:
    at, tenant_id, principal, action, study, purpose, outcome, source, count, detail = row
    shown = unpack_uid(study) if study else ""
    return AuditEvent(at, tenant_id, principal, action, shown, purpose, outcome, source, count, detail)


# ---------------------------------------------------------------- into the log and back


def uncopied(read: Reader, tenant_id: int, until: int, limit: int = 500) -> dict[str, object] | None:
    """The body of the next fact of kind 'audit': rows of a tenant not yet in the log, none younger than `until`.

    `until` should lie a window and some seconds back, so that counts have settled and no running transaction can add an
    older row. None when there is nothing to copy.
    """
    row = read.one("SELECT number FROM cursors WHERE name = ?", (f"{_CURSOR} {tenant_id}",))
    start = row[0] if row else 0
    rows = read.all(
        f"SELECT id, {_COLUMNS} FROM audit WHERE tenant_id = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
        (tenant_id, start, limit),
    )
    taken: list[Sequence[Any]] = []
    for found in rows:
        if found[1] >= until:
            break
        taken.append(found)
    if not taken:
        return None
    listed = [[found[1], *found[3:5], unpack_uid(bytes(found[5])) if found[5] else "", *found[6:]] for found in taken]
    return {"epoch": epoch(read), "through": taken[-1][0], "events": listed}


def copied(tx: Writer, tenant_id: int, body: Mapping[str, Any]) -> None:
    """Apply a fact of kind 'audit': move the cursor where the rows came from, bring the rows back anywhere else."""
    if body["epoch"] == epoch(tx):
        tx.run(
            "INSERT INTO cursors(name, epoch, xid, number) VALUES (?, ?, 0, ?)"
            " ON CONFLICT (name) DO UPDATE SET number = excluded.number WHERE cursors.number < excluded.number",
            (f"{_CURSOR} {tenant_id}", body["epoch"], body["through"]),
        )
        return
    numbers = insert(tx, [_event((row[0], tenant_id, *row[1:3], pack_uid(row[3]), *row[4:])) for row in body["events"]])
    if numbers:  # they are in the log already
        tx.run(
            "INSERT INTO cursors(name, epoch, xid, number) VALUES (?, ?, 0, ?)"
            " ON CONFLICT (name) DO UPDATE SET number = excluded.number WHERE cursors.number < excluded.number",
            (f"{_CURSOR} {tenant_id}", epoch(tx), numbers[-1]),
        )
