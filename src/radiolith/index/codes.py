"""Small numbers for what repeats in every row: SOP classes, transfer syntaxes, sources, principals, segments, scopes.

Owns: the tables `codes`, `segments` (its numbers) and `scopes`, and what a process remembers of them. Must never: remember a
number before the transaction that made it is durable. New numbers are made in sorted order, so that two transactions that
need the same ones cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from radiolith.index.session import Reader, Writer
from radiolith.index.uids import pack_uid
from radiolith.model import Scope, Source

_SEPARATOR = "\x1f"  # between the parts of a source; AE titles, names and addresses hold no control characters


class Code(IntEnum):
    """What a code stands for. The value is in the database."""

    SOP_CLASS = 1
    SYNTAX = 2
    SOURCE = 3
    PRINCIPAL = 4
    REASON = 5
    EXTRA = 6  # an attribute that a setting made searchable


class ScopeKind(IntEnum):
    """What a scope protects. The value is in the database."""

    STUDY = 0
    NON_PATIENT = 1
    QUARANTINE = 2
    FACTS = 3


def encode(tx: Writer, kind: Code, tenant_id: int, values: Iterable[str]) -> dict[str, int]:
    """The number of each value, made when it is new. Tenant 0 for the standard's own vocabulary."""
    known = tx.memory.recall("codes")
    found: dict[str, int] = {}
    made: dict[Any, int] = {}
    for value in sorted(set(values)):
        number = known.get((kind, tenant_id, value))
        if number is None:
            number = made[(kind, tenant_id, value)] = _code(tx, kind, tenant_id, value)
        found[value] = number
    if made:
        tx.after_commit(lambda: known.update(made))
    return found


def _code(tx: Writer, kind: int, tenant_id: int, value: str) -> int:
    look = "SELECT id FROM codes WHERE kind = ? AND tenant_id = ? AND value = ?"
    row = tx.one(look, (int(kind), tenant_id, value))
    if row is None:
        row = tx.one(
            "INSERT INTO codes(tenant_id, kind, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
            (tenant_id, int(kind), value),
        ) or tx.one(look, (int(kind), tenant_id, value))
    if row is None:
        raise RuntimeError("a code was neither found nor made")
    return int(row[0])


def number_of(read: Reader, kind: Code, tenant_id: int, value: str) -> int | None:
    """The number of a value, None when no row has it."""
    known = read.memory.recall("codes")
    number = known.get((kind, tenant_id, value))
    if number is None:
        row = read.one(
            "SELECT id FROM codes WHERE kind = ? AND tenant_id = ? AND value = ?", (int(kind), tenant_id, value)
        )
        if row is None:
            return None
        number = int(row[0])
        if not isinstance(read, Writer):
            known[(kind, tenant_id, value)] = number
    return number


def decode(read: Reader, number: int) -> str:
    """The text behind a number; 0 is ''."""
    if number == 0:
        return ""
    known = read.memory.recall("code values")
    value = known.get(number)
    if value is None:
        row = read.one("SELECT value FROM codes WHERE id = ?", (number,))
        value = row[0] if row else ""
        if row and not isinstance(read, Writer):  # a writer may see a number that is never committed
            known[number] = value
    return value


def source_text(source: Source) -> str:
    return _SEPARATOR.join(
        part.replace(_SEPARATOR, " ").replace("\x00", "") for part in (source.door, source.peer, source.address)
    )


def source(read: Reader, number: int) -> Source:
    known = read.memory.recall("sources")
    found = known.get(number)
    if found is None:
        parts = decode(read, number).split(_SEPARATOR)
        found = Source(*parts) if len(parts) == 3 else Source("", "")
        if not isinstance(read, Writer):
            known[number] = found
    return found


# ---------------------------------------------------------------- segments' numbers


def segment_number(tx: Writer, uid: bytes) -> int:
    """The row of a segment, made when it is new (hot tier, open, nothing indexed yet)."""
    known = tx.memory.recall("segment numbers")
    number = known.get(uid)
    if number is None:
        look = "SELECT id FROM segments WHERE uid = ?"
        row = (
            tx.one(look, (uid,))
            or tx.one(
                "INSERT INTO segments(uid, tier, state, indexed_end, bytes) VALUES (?, 'hot', 0, 0, 0)"
                " ON CONFLICT DO NOTHING RETURNING id",
                (uid,),
            )
            or tx.one(look, (uid,))
        )
        if row is None:
            raise RuntimeError("a segment row was neither found nor made")
        number = int(row[0])
        made = number
        tx.after_commit(lambda: known.__setitem__(uid, made))
    return number


def segment_uid(read: Reader, number: int) -> bytes:
    known = read.memory.recall("segment uids")
    uid = known.get(number)
    if uid is None:
        row = read.one("SELECT uid FROM segments WHERE id = ?", (number,))
        uid = bytes(row[0]) if row else b""
        if row and not isinstance(read, Writer):
            known[number] = uid
    return uid


# ---------------------------------------------------------------- scopes


def put_scope(tx: Writer, tenant_id: int, kind: ScopeKind, study: str, scope: Scope) -> int:
    """The row of a scope, made when it is new."""
    known = tx.memory.recall("scope numbers")
    number = known.get((tenant_id, scope.id))
    if number is None:
        key = (pack_uid(study), int(kind), tenant_id, scope.id)
        look = "SELECT id FROM scopes WHERE study = ? AND kind = ? AND tenant_id = ? AND uid = ?"
        row = (
            tx.one(look, key)
            or tx.one(
                "INSERT INTO scopes(study, kind, tenant_id, uid, position) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING RETURNING id",
                (*key, scope.position),
            )
            or tx.one(look, key)
        )
        if row is None:
            raise RuntimeError("a scope row was neither found nor made")
        number = int(row[0])
        made = number
        tx.after_commit(lambda: known.__setitem__((tenant_id, scope.id), made))
    return number


def scope(read: Reader, number: int) -> Scope:
    known = read.memory.recall("scopes")
    found = known.get(number)
    if found is None:
        row = read.one("SELECT uid, position FROM scopes WHERE id = ?", (number,))
        found = Scope(bytes(row[0]), row[1]) if row else Scope(b"", 0)
        if row and not isinstance(read, Writer):
            known[number] = found
    return found
