"""Who may do what: one table of roles and one pure decision.

Owns: the roles and what each may do. Must never: read the database itself, know a protocol, or be asked by an edge instead of
by a verb. Limits: decisions are per tenant and action; per-study grants are another part's, through the same function.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from radiolith.model import NotAllowed, Principal


class Action(StrEnum):
    STORE = "store"
    QUERY = "query"
    RETRIEVE = "retrieve"
    REJECT = "reject"
    RESTORE = "restore"
    SWITCH = "switch"
    COMMIT = "commit"  # ask for storage commitment
    QUARANTINE = "quarantine"  # list, read and release what was set aside
    AUDIT = "audit"  # read the audit trail
    ACCOUNTS = "accounts"  # users, tokens, peers
    ASSOCIATIONS = "associations"  # what happened on the associations of devices
    STATUS = "status"
    EXPORT = "export"
    SEND = "send"  # order that what is held goes to a peer, send again, cancel; what peers are told
    AMEND = "amend"  # correct, move, merge and split, and undo that
    PATIENTS = "patients"  # link persons, say whether they are verified
    DESK = "desk"  # unclear cases: list and resolve
    LABEL = "label"
    HISTORY = "history"  # who changed what, and every version
    FOLLOW = "follow"  # the change feed
    WEBHOOKS = "webhooks"


_READ = frozenset({Action.QUERY, Action.RETRIEVE, Action.STATUS, Action.FOLLOW})
_WRITE = frozenset({Action.STORE, Action.COMMIT, Action.QUERY, Action.STATUS})
_KEEP = frozenset(
    {
        Action.REJECT,
        Action.RESTORE,
        Action.SWITCH,
        Action.QUARANTINE,
        Action.EXPORT,
        Action.SEND,
        Action.ASSOCIATIONS,
        Action.AMEND,
        Action.PATIENTS,
        Action.DESK,
        Action.LABEL,
        Action.HISTORY,
    }
)

ROLES: dict[str, frozenset[Action]] = {
    "admin": frozenset(Action),
    "archivist": _READ | _WRITE | _KEEP,
    "editor": _READ | _WRITE | {Action.LABEL},
    "reader": _READ,
    "writer": _WRITE - {Action.QUERY} | {Action.STATUS},
    "auditor": frozenset({Action.AUDIT, Action.ASSOCIATIONS, Action.STATUS, Action.HISTORY}),
}
"""admin everything; archivist keeps the house; editor reads and stores; reader reads; writer is a modality or gateway
that may only hand over; auditor sees the trail and no patient."""


STRANGER = "stranger"
"""The role of a device that nobody has accepted yet: no person or peer can be given it."""
SET_ASIDE = "sent by a device that nobody has accepted yet"
_GRANTS = ROLES | {STRANGER: frozenset({Action.STORE})}


def allows(principal: Principal, action: Action) -> bool:
    """Closed by default: an unknown role may do nothing."""
    return action in _GRANTS.get(principal.role, frozenset())


def set_aside(principal: Principal) -> str:
    """Why everything that this principal hands over goes to the quarantine, '' when it does not."""
    return SET_ASIDE if principal.role == STRANGER else ""


refusals: list[Callable[[Principal, Action], None]] = []
"""Who is told of every refusal of this process: its audit. A refused try is an access too."""


def require(principal: Principal, action: Action) -> None:
    """Raises NotAllowed with a sentence that names role and action, and nothing else."""
    if not allows(principal, action):
        for tell in refusals:
            tell(principal, action)
        raise NotAllowed(f"the role '{principal.role}' may not {action.value}")
