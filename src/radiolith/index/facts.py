"""Facts: decisions from the log, applied.

Owns: KINDS, and what each kind does to rows. Must never: depend on the order facts arrive in (of two about one subject the
later by (at, object id) holds), fail on a fact it does not understand (kept, reported, left for a later version), or undo
what an insert said: a void is for records no transaction indexed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from radiolith.index import accounts, audit, codes, labels, quarantine, registry
from radiolith.index.changes import ChangeKind, record
from radiolith.index.counts import Tally
from radiolith.index.heard import Heard, text
from radiolith.index.identities import Decision, Parent, decided, load, present, settle
from radiolith.index.registry import Word
from radiolith.index.session import Reader, Writer
from radiolith.index.uids import pack_uid
from radiolith.model import Fact

Identity = tuple[bytes, bytes, bytes]  # packed study, series and SOP UID


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


# ---------------------------------------------------------------- about instances


def _identity(item: object) -> Identity:
    if not isinstance(item, (list, tuple)) or len(item) != 3:
        raise ValueError("an identity is a list of three UIDs")
    study, series, sop = (text(part) for part in item)
    return pack_uid(study), pack_uid(series), pack_uid(sop)


def _reject(fact: Heard) -> None:
    _decide(fact, [_identity(item) for item in fact.body["items"]], Decision.REJECTED, text(fact.body["reason"]))


def _restore(fact: Heard) -> None:
    _decide(fact, [_identity(item) for item in fact.body["items"]], Decision.REJECTED, "")


def _current(fact: Heard) -> None:
    object_id = bytes.fromhex(text(fact.body["object"] if "object" in fact.body else fact.body["object_id"]))
    _decide(fact, [_identity(fact.body["identity"])], Decision.CURRENT, object_id.hex())


def _encoding(fact: Heard) -> None:
    """One version turned out to be another one's content in another syntax."""
    study, series, sop = identity = _identity(fact.body["identity"])
    object_id = bytes.fromhex(text(fact.body["object"]))
    original = bytes.fromhex(text(fact.body["encoding_of"]))
    tx = fact.tx
    row = tx.one(f"SELECT id FROM studies WHERE uid = ? AND tenant_id = ?{tx.lock_rows}", (study, fact.tenant_id))  # noqa: S608
    below = tx.one("SELECT id FROM series WHERE uid = ? AND study_id = ?", (series, row[0])) if row else None
    if row is None or below is None:
        raise ValueError("the instance is not held")
    tx.run(
        "UPDATE instances SET encoding_of = ? WHERE uid = ? AND series_id = ? AND object_id = ?",
        (original, sop, below[0], object_id),
    )
    tally = Tally()
    _settle(fact, row[0], [identity], tally)
    tally.apply(tx)


def _decide(fact: Heard, identities: list[Identity], kind: Decision, value: str) -> None:
    """Note a decision about each identity and bring what is held of it up to date."""
    tx, word = fact.tx, fact.word
    if kind is Decision.REJECTED and value:
        codes.encode(tx, codes.Code.REASON, 0, [value])  # before any study is locked, as everywhere
    tally = Tally()
    for study in sorted({identity[0] for identity in identities}):
        row = tx.one(f"SELECT id FROM studies WHERE uid = ? AND tenant_id = ?{tx.lock_rows}", (study, fact.tenant_id))  # noqa: S608
        fresh = [
            identity
            for identity in sorted({identity for identity in identities if identity[0] == study})
            if tx.run(
                "INSERT INTO decisions(tenant_id, study, series, sop, kind, at, fact, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (tenant_id, study, series, sop, kind) DO UPDATE SET at = excluded.at, fact = excluded.fact,"
                " value = excluded.value WHERE (decisions.at, decisions.fact) < (excluded.at, excluded.fact)",
                (fact.tenant_id, *identity, int(kind), word.at, word.fact, value),
            )
        ]
        if row is not None and fresh:
            _settle(fact, row[0], fresh, tally)
            if study:
                tally.touch(row[0], word.at)
    tally.apply(tx)


def _settle(fact: Heard, study_id: int, identities: list[Identity], tally: Tally) -> None:
    tx = fact.tx
    series: dict[bytes, int] = {}
    for uid in sorted({identity[1] for identity in identities}):
        row = tx.one("SELECT id FROM series WHERE uid = ? AND study_id = ?", (uid, study_id))
        if row is not None:
            series[uid] = row[0]
    held = load(tx, [(series[identity[1]], identity[2]) for identity in identities if identity[1] in series])
    happened: list[tuple[int, ChangeKind, int, int, int]] = []
    for identity in identities:
        series_id = series.get(identity[1])
        rows = held.get((series_id, identity[2])) if series_id is not None else None
        if series_id is None or not rows:
            continue
        before = rows[0].reason
        parent = Parent(series_id, study_id, counted=bool(identity[0]))
        taken_over = settle(tx, rows, decided(tx, fact.tenant_id, identity), parent, tally)
        shown = next(row for row in rows if row.current)
        if before != shown.reason:
            change = ChangeKind.REJECTED if shown.reason else ChangeKind.RESTORED
            happened.append((fact.tenant_id, change, study_id, shown.id, fact.word.at))
        if taken_over is not None:
            happened.append((fact.tenant_id, ChangeKind.SWITCHED, study_id, taken_over, fact.word.at))
    record(tx, happened)


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
    "reject": _reject,  # reason, items [[study, series, sop], …]
    "restore": _restore,  # items
    "current": _current,  # identity [study, series, sop], object
    "encoding": _encoding,  # identity, object, encoding_of: applied after the objects it names
    "resolve": _current,  # the same: a choice between versions in conflict
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
    **labels.KINDS,
}
