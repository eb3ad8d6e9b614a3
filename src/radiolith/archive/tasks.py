"""What is handed to the group commit, and its answer.

Owns: the three kinds of work (an object, quarantined bytes, a decision) and the form of a fact's payload. Must never:
make anything durable itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from radiolith.index import facts, quarantine
from radiolith.index.identities import present
from radiolith.index.session import Reader
from radiolith.model import AuditEvent, Fact, Failure, Held, Incoming, Kind, Outcome
from radiolith.storage.blobs import Draft, Log
from radiolith.trust.keys import Label


@dataclass(slots=True)
class ObjectTask:
    """A received object, encrypted, waiting for key, place and rows. `incoming.blob` is filled in by the commit."""

    draft: Draft
    label: Label
    meta: bytes
    incoming: Incoming


@dataclass(slots=True)
class QuarantineTask:
    draft: Draft
    label: Label
    meta: bytes
    row: quarantine.Quarantined  # its blob is filled in by the commit
    tenant: int


FACT_META = b'{"kind":"fact","original_size":0,"name":""}'


@dataclass(slots=True)
class FactTask:
    draft: Draft
    label: Label
    fact: Fact
    audit: tuple[AuditEvent, ...] = ()
    meta: bytes = FACT_META


Task = ObjectTask | QuarantineTask | FactTask


@dataclass(slots=True)
class Settled:
    """The answer for one task: what became of it, and the row as the index now holds it."""

    outcome: Outcome
    object_id: bytes
    held: Held | None = None


def fact_payload(fact: Fact) -> bytes:
    body = {"kind": fact.kind, "at": fact.at, "by": fact.by, "body": fact.body}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def fact_draft(store: Log, fact: Fact) -> Draft:
    """The draft of its record. Raises NoSpace, Unavailable; nothing is held then."""
    draft = store.begin(fact.tenant, Kind.FACT)
    try:
        draft.write(fact_payload(fact))
    except Failure:
        draft.discard()
        raise
    return draft


def load_fact(tenant: bytes, payload: bytes) -> Fact:
    body = json.loads(payload)
    return Fact(body["kind"], body["at"], body["by"], tenant, body["body"])


def is_indexed(read: Reader, task: Task) -> bool:
    object_id = task.draft.object_id
    if isinstance(task, FactTask):
        return facts.is_applied(read, object_id)
    return bool(present(read, [object_id]))
