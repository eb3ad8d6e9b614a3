"""Users, tokens, peers and other things facts set: one row a name, the last word wins.

Owns: the table `registry`. Must never: forget that something was removed, or the fact that says so (an older fact may come
later in a rebuild).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from radiolith.index.session import Reader, Writer


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    at: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Word:
    """What a fact says, and when."""

    at: int
    fact: bytes  # object id: who wins among facts of the same microsecond


def put(tx: Writer, tenant_id: int, subject: tuple[str, str], body: Mapping[str, Any] | None, word: Word) -> bool:
    """Set (kind, name) to `body`, or remove it with None; False when a later word is known."""
    text = json.dumps(dict(body or {}), ensure_ascii=False, sort_keys=True).replace("\\u0000", "")
    return bool(
        tx.run(
            "INSERT INTO registry(tenant_id, kind, name, at, fact, removed, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (tenant_id, kind, name) DO UPDATE SET at = excluded.at, fact = excluded.fact,"
            " removed = excluded.removed, body = excluded.body"
            " WHERE (registry.at, registry.fact) < (excluded.at, excluded.fact)",
            (tenant_id, *subject, word.at, word.fact, int(body is None), text),
        )
    )


def get(read: Reader, tenant_id: int, kind: str, name: str) -> Entry | None:
    row = read.one(
        "SELECT name, at, body FROM registry WHERE tenant_id = ? AND kind = ? AND name = ? AND removed = 0",
        (tenant_id, kind, name),
    )
    return Entry(row[0], row[1], json.loads(row[2])) if row else None


def entries(read: Reader, tenant_id: int, kind: str) -> list[Entry]:
    rows = read.all(
        "SELECT name, at, body FROM registry WHERE tenant_id = ? AND kind = ? AND removed = 0 ORDER BY name",
        (tenant_id, kind),
    )
    return [Entry(row[0], row[1], json.loads(row[2])) for row in rows]
