"""Facts: decisions from the log, applied.

Owns: KINDS, and what each kind does to rows (decisions.py, amendments.py and labels.py have theirs). Must never: depend on the
order facts arrive in (of two about one subject the later by (at, object id) holds), fail on a fact it does not understand (kept,
reported, left for a later version), or undo what an insert said: a void is for records no transaction indexed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from radiolith.index import accounts, amendments, audit, decisions, labels, quarantine, registry
from radiolith.index.heard import Heard, text
from radiolith.index.identities import present
from radiolith.index.registry import Word
from radiolith.index.session import Reader, Writer
from radiolith.model import Fact


@dataclass(frozen=True, slots=True)
class Applied:
    """`known`: False when the kind is not ours or its body is not what the kind needs; `problem` says which."""

    known: bool = True
    problem: str = ""


def apply(tx: Writer, fact: Fact, object_id: bytes) -> Applied:
    """Apply a fact, once: replaying it changes nothing."""
    tenant_id = accounts.tenant_row(tx, fact.tenant)
    kind = KINDS.get(fact.kind)
    made = tx.run(
        "INSERT INTO facts(object_id, tenant_id, kind, at, by_name, known, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (
            object_id,
            tenant_id,
            fact.kind.replace("\x00", ""),
            fact.at,
            fact.by.replace("\x00", ""),
            int(kind is not None),
            "",
        ),
    )
    if made == 0:
        return Applied()
    problem = f"facts of kind {fact.kind!r} are not known to this version"
    if kind is not None:
        try:
            kind(Heard(tx, tenant_id, fact.tenant, Word(fact.at, object_id), fact.by, fact.body))
        except (KeyError, TypeError, ValueError) as error:
            problem = f"a fact of kind {fact.kind!r} has a body that does not fit ({type(error).__name__})"
        else:
            return Applied()
    kept = json.dumps(fact.body, ensure_ascii=True, default=str).replace("\\u0000", "")
    tx.run("UPDATE facts SET known = 0, body = ? WHERE object_id = ?", (kept, object_id))
    return Applied(False, problem)


def is_applied(read: Reader, object_id: bytes) -> bool:
    return read.one("SELECT 1 FROM facts WHERE object_id = ?", (object_id,)) is not None


def unknown(read: Reader) -> list[tuple[bytes, str, int]]:
    """(object id, kind, at) of facts kept but not understood."""
    return [
        (bytes(row[0]), row[1], row[2]) for row in read.all("SELECT object_id, kind, at FROM facts WHERE known = 0")
    ]


# ---------------------------------------------------------------- about records


def _void(fact: Heard) -> None:
    """Refused after they were durable. What a transaction did index stays: somebody may have been told so."""
    objects = [bytes.fromhex(text(one)) for one in fact.body["objects"]]
    indexed = present(fact.tx, objects)
    fact.tx.run_many(
        "INSERT INTO voids(object_id) VALUES (?) ON CONFLICT DO NOTHING",
        [(one,) for one in objects if one not in indexed],
    )


def _release(fact: Heard) -> None:
    object_id = bytes.fromhex(text(fact.body["object"] if "object" in fact.body else fact.body["object_id"]))
    quarantine.release(fact.tx, fact.tenant_id, object_id, fact.word.at)


# ---------------------------------------------------------------- about accounts and settings


def _tenant(fact: Heard) -> None:
    accounts.put_tenant(fact.tx, fact.tenant, text(fact.body["name"]), fact.word)


def _put(kind: str, key: str) -> Callable[[Heard], None]:
    def put(fact: Heard) -> None:
        registry.put(fact.tx, fact.tenant_id, (kind, text(fact.body[key])), fact.body, fact.word)

    return put


def _remove(kind: str, key: str) -> Callable[[Heard], None]:
    def remove(fact: Heard) -> None:
        registry.put(fact.tx, fact.tenant_id, (kind, text(fact.body[key])), None, fact.word)
        if kind == "user":
            accounts.drop_sessions(fact.tx, fact.tenant_id, text(fact.body[key]))

    return remove


def _audit(fact: Heard) -> None:
    audit.copied(fact.tx, fact.tenant_id, fact.body)


def _confirm_recovery(fact: Heard) -> None:
    registry.put(fact.tx, fact.tenant_id, ("setting", "recovery confirmed"), fact.body, fact.word)


KINDS: Mapping[str, Callable[[Heard], None]] = {
    **decisions.KINDS,
    **amendments.KINDS,
    **labels.KINDS,
    "void": _void,  # objects [hex, …]
    "release": _release,  # object, of a quarantined one
    "tenant": _tenant,  # name
    "user": _put("user", "name"),  # name, role, password (argon2 string)
    "user-remove": _remove("user", "name"),
    "token": _put("token", "secret"),  # secret (SHA-256, hex), name, role, expires
    "token-remove": _remove("token", "secret"),
    "peer": _put("peer", "name"),  # name, aet, address, port, …
    "peer-remove": _remove("peer", "name"),
    "route": _put("route", "name"),  # name, peer, what policies.routing.parse reads
    "route-remove": _remove("route", "name"),
    "webhook": _put("webhook", "name"),  # name, url, secret, kinds, role: see archive.webhooks
    "webhook-remove": _remove("webhook", "name"),
    "audit": _audit,  # epoch, through, events: see audit.uncopied
    "confirm-recovery": _confirm_recovery,
}
