"""What the upper layer tells its user: indications and confirmations (PS3.8 chapter 7), and data as they arrive.

Owns: these nouns. Must never: hold what a peer sent, but for the associate PDUs themselves, which are events as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from radiolith.dimse.pdu import AssociateAccept, AssociateReject, AssociateRequest


class OutOfTurn(RuntimeError):
    """The service user asked for what the state does not allow; often the peer has aborted or released meanwhile."""


class Fragment(NamedTuple):
    """Bytes of a presentation data value. `last`: these are the last of a value that is marked as last fragment.

    `data` is a view of the buffer that was fed, valid until the iterator goes on.
    """

    context_id: int
    command: bool
    last: bool
    data: memoryview


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    """A-RELEASE indication. After a `collision` the reply may have to wait: see `UpperLayer.owes_release_reply`."""

    collision: bool


@dataclass(frozen=True, slots=True)
class Released:
    """A-RELEASE confirmation: the peer agreed."""


class Cause(Enum):
    """Who ended an association."""

    PEER_USER = "aborted by the peer"
    PEER_PROVIDER = "aborted by the peer's protocol machine"
    HERE = "aborted here, because the peer broke the protocol"
    TRANSPORT = "the connection was lost"


@dataclass(frozen=True, slots=True)
class Aborted:
    """A-ABORT or A-P-ABORT indication; `source` and `reason` of the A-ABORT PDU, `text` for the trace."""

    cause: Cause
    source: int
    reason: int
    text: str


Event = AssociateRequest | AssociateAccept | AssociateReject | Fragment | ReleaseRequested | Released | Aborted
