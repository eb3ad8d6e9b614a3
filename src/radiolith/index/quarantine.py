"""Quarantine: durable bytes that could not become an instance.

Owns: the table `quarantine`. Must never: drop a row; a release only takes it off the list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from radiolith.index import codes
from radiolith.index.changes import ChangeKind, record
from radiolith.index.codes import Code, ScopeKind
from radiolith.index.heldrows import tenant_uid
from radiolith.index.session import Reader, Writer
from radiolith.model import Blob, Place, Source


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One row. `size` and `sha256` are of the bytes as received; `guess`: what could be read of its identity."""

    blob: Blob
    reason: str
    received_at: int
    source: Source
    principal: str
    size: int
    sha256: bytes
    sop_class: str = ""
    guess: Mapping[str, str] = field(default_factory=dict[str, str])
    released: bool = False


_COLUMNS = (
    "segment_id, place_start, place_length, object_id, scope_id, wrapped_key, size, reason, received_at, source, principal,"
    " original_size, sha256, sop_class, guess, released"
)


def add_quarantined(tx: Writer, tenant_id: int, row: Quarantined) -> None:
    """Idempotent per object id; a release that is known already holds."""
    blob = row.blob
    released = tx.one("SELECT 1 FROM released WHERE object_id = ?", (blob.object_id,)) is not None
    values = (
        tx.allocate("quarantine", 1)[0],
        tenant_id,
        codes.segment_number(tx, blob.place.segment),
        blob.place.offset,
        blob.place.length,
        blob.object_id,
        codes.put_scope(tx, tenant_id, ScopeKind.QUARANTINE, "", blob.scope),
        blob.wrapped_key,
        blob.size,
        row.reason.replace("\x00", ""),
        row.received_at,
        codes.encode(tx, Code.SOURCE, tenant_id, [codes.source_text(row.source)])[codes.source_text(row.source)],
        codes.encode(tx, Code.PRINCIPAL, tenant_id, [row.principal])[row.principal],
        row.size,
        row.sha256,
        row.sop_class.replace("\x00", ""),
        json.dumps(dict(row.guess)),
        int(released),
    )
    marks = ", ".join("?" * len(values))
    sql = f"INSERT INTO quarantine(id, tenant_id, {_COLUMNS}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
    if tx.run(sql, values):
        record(tx, [(tenant_id, ChangeKind.QUARANTINED, 0, values[0], row.received_at)])


def _quarantined(read: Reader, tenant: bytes, row: Sequence[Any]) -> Quarantined:
    place = Place(codes.segment_uid(read, row[0]), row[1], row[2])
    return Quarantined(
        Blob(place, bytes(row[3]), tenant, codes.scope(read, row[4]), bytes(row[5]), row[6]),
        row[7],
        row[8],
        codes.source(read, row[9]),
        codes.decode(read, row[10]),
        row[11],
        bytes(row[12]),
        row[13],
        json.loads(row[14]),
        bool(row[15]),
    )


def quarantined(read: Reader, tenant_id: int, limit: int = 100, after: str = "") -> list[Quarantined]:
    """Latest first, released ones left out; `after` is the object id in hex that the page before ended with."""
    start: Sequence[Any] = (2**63 - 1, b"\xff" * 17)
    if after:
        start = read.one(
            "SELECT received_at, object_id FROM quarantine WHERE object_id = ? AND tenant_id = ?",
            (_bytes(after), tenant_id),
        ) or (0, b"")
    rows = read.all(
        f"SELECT {_COLUMNS} FROM quarantine WHERE tenant_id = ? AND (received_at, object_id) < (?, ?) AND released = 0"  # noqa: S608
        " ORDER BY received_at DESC, object_id DESC LIMIT ?",
        (tenant_id, start[0], bytes(start[1]), limit),
    )
    tenant = tenant_uid(read, tenant_id)
    return [_quarantined(read, tenant, row) for row in rows]


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def quarantined_one(read: Reader, tenant_id: int, object_id: bytes) -> Quarantined | None:
    """Released ones too."""
    row = read.one(
        f"SELECT {_COLUMNS} FROM quarantine WHERE object_id = ? AND tenant_id = ?",  # noqa: S608
        (object_id, tenant_id),
    )
    return _quarantined(read, tenant_uid(read, tenant_id), row) if row else None


def release(tx: Writer, tenant_id: int, object_id: bytes, at: int) -> None:
    """Take it off the list, also when its row comes later (a rebuild)."""
    tx.run("INSERT INTO released(object_id, tenant_id) VALUES (?, ?) ON CONFLICT DO NOTHING", (object_id, tenant_id))
    row = tx.one(
        "UPDATE quarantine SET released = 1 WHERE object_id = ? AND tenant_id = ? AND released = 0 RETURNING id",
        (object_id, tenant_id),
    )
    if row is not None:
        record(tx, [(tenant_id, ChangeKind.RELEASED, 0, row[0], at)])
