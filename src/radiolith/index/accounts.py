"""Tenants, users, tokens, peers and sessions, as rows.

Owns: reading accounts that facts made (facts.py writes them), and sessions and last uses, which no fact makes. Must never:
see a password or a token's secret (an argon2 string and a SHA-256 are all that is stored), or decide what a role may do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from radiolith.index import registry
from radiolith.index.registry import Entry, Word
from radiolith.index.session import Reader, Writer
from radiolith.model import Tenant


@dataclass(frozen=True, slots=True)
class User:
    name: str
    role: str
    password: str  # argon2 hash string
    at: int
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])  # whatever else the fact said


@dataclass(frozen=True, slots=True)
class Token:
    secret: str  # SHA-256 of the secret, hex
    name: str
    role: str
    at: int  # created
    expires: int | None
    used_at: int | None

    @property
    def id(self) -> str:
        """What people call it by: 48 bits of the digest, which say nothing about the secret."""
        return self.secret[:12]


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    at: int
    more: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Session:
    secret: bytes  # SHA-256 of the cookie's value
    tenant_id: int
    user: str
    created_at: int
    seen_at: int
    expires_at: int
    address: str = ""


# ---------------------------------------------------------------- tenants


def tenants(read: Reader) -> list[Tenant]:
    """All tenants by name; those that only other facts have named so far have the name ''."""
    return [
        Tenant(row[0], bytes(row[1]), row[2]) for row in read.all("SELECT id, uid, name FROM tenants ORDER BY name, id")
    ]


def tenant_since(read: Reader, tenant_id: int) -> int:
    """When a tenant was made, in microseconds; 0 where only other facts have named it."""
    row = read.one("SELECT at FROM tenants WHERE id = ?", (tenant_id,))
    return row[0] if row else 0


def tenant_row(tx: Writer, uid: bytes) -> int:
    """The row of a tenant, made nameless when it is new: its own fact may come later."""
    look = "SELECT id FROM tenants WHERE uid = ?"
    made = "INSERT INTO tenants(uid, name, at, fact) VALUES (?, '', 0, ?) ON CONFLICT DO NOTHING RETURNING id"
    row = tx.one(look, (uid,)) or tx.one(made, (uid, b"")) or tx.one(look, (uid,))
    if row is None:
        raise RuntimeError("a tenant was neither found nor made")
    return row[0]


def put_tenant(tx: Writer, uid: bytes, name: str, word: Word) -> bool:
    row_id = tenant_row(tx, uid)
    sql = "UPDATE tenants SET name = ?, at = ?, fact = ? WHERE id = ? AND (at < ? OR (at = ? AND fact < ?))"
    return bool(tx.run(sql, (name, word.at, word.fact, row_id, word.at, word.at, word.fact)))


# ---------------------------------------------------------------- users, tokens, peers


def _user(entry: Entry) -> User:
    more = {key: value for key, value in entry.body.items() if key not in ("name", "role", "password")}
    return User(entry.name, str(entry.body.get("role", "")), str(entry.body.get("password", "")), entry.at, more)


def user(read: Reader, tenant_id: int, name: str) -> User | None:
    entry = registry.get(read, tenant_id, "user", name)
    return _user(entry) if entry else None


def users(read: Reader, tenant_id: int) -> list[User]:
    return [_user(entry) for entry in registry.entries(read, tenant_id, "user")]


def _token(entry: Entry, used_at: int | None) -> Token:
    body, expires = entry.body, entry.body.get("expires")
    return Token(
        entry.name,
        str(body.get("name", "")),
        str(body.get("role", "")),
        entry.at,
        int(expires) if expires else None,
        used_at,
    )


def token(read: Reader, secret: bytes) -> tuple[int, Token] | None:
    """(tenant row, token) by the SHA-256 of its secret. Expiry is the caller's to judge."""
    row = read.one(
        "SELECT r.tenant_id, u.used_at FROM registry r LEFT JOIN token_uses u ON u.secret = ?"
        " WHERE r.kind = 'token' AND r.name = ? AND r.removed = 0",
        (secret, secret.hex()),
    )
    if row is None:
        return None
    entry = registry.get(read, row[0], "token", secret.hex())
    return (row[0], _token(entry, row[1])) if entry else None


def tokens(read: Reader, tenant_id: int) -> list[Token]:
    used = {bytes(row[0]).hex(): row[1] for row in read.all("SELECT secret, used_at FROM token_uses")}
    return [_token(entry, used.get(entry.name)) for entry in registry.entries(read, tenant_id, "token")]


def token_used(tx: Writer, secret: bytes, at: int) -> None:
    tx.run(
        "INSERT INTO token_uses(secret, used_at) VALUES (?, ?) ON CONFLICT (secret) DO UPDATE SET used_at = excluded.used_at",
        (secret, at),
    )


def peer(read: Reader, tenant_id: int, name: str) -> Peer | None:
    entry = registry.get(read, tenant_id, "peer", name)
    return Peer(entry.name, entry.at, entry.body) if entry else None


def peers(read: Reader, tenant_id: int) -> list[Peer]:
    return [Peer(entry.name, entry.at, entry.body) for entry in registry.entries(read, tenant_id, "peer")]


# ---------------------------------------------------------------- sessions

_SESSION = "secret, tenant_id, user_name, created_at, seen_at, expires_at, address"


def put_session(tx: Writer, session: Session) -> None:
    values = (
        session.secret,
        session.tenant_id,
        session.user,
        session.created_at,
        session.seen_at,
        session.expires_at,
        session.address,
    )
    tx.run(f"INSERT INTO sessions({_SESSION}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608


def session(read: Reader, secret: bytes) -> Session | None:
    row = read.one(f"SELECT {_SESSION} FROM sessions WHERE secret = ?", (secret,))  # noqa: S608
    return Session(bytes(row[0]), *row[1:]) if row else None


def session_seen(tx: Writer, secret: bytes, at: int, expires_at: int) -> None:
    tx.run("UPDATE sessions SET seen_at = ?, expires_at = ? WHERE secret = ?", (at, expires_at, secret))


def drop_session(tx: Writer, secret: bytes) -> None:
    tx.run("DELETE FROM sessions WHERE secret = ?", (secret,))


def drop_sessions(tx: Writer, tenant_id: int, user_name: str) -> int:
    """Sign a user out everywhere."""
    return tx.run("DELETE FROM sessions WHERE tenant_id = ? AND user_name = ?", (tenant_id, user_name))


def expire_sessions(tx: Writer, now: int) -> int:
    return tx.run("DELETE FROM sessions WHERE expires_at <= ?", (now,))
