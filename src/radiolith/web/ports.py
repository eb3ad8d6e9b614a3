"""What the pages are given beside the verbs: who knows people, and who knows how the archive is.

Owns: two protocols, which `trust.identity` and `app` meet. Must never: know how they do it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from radiolith.archive.associations import Associations
from radiolith.archive.decisions import Decisions
from radiolith.archive.peers import Peers
from radiolith.archive.ports import Archive
from radiolith.config import Settings
from radiolith.metrics import Asked
from radiolith.model import Principal
from radiolith.policies.traffic import Traffic


class Identities(Protocol):
    """The part of trust.identity the pages need. Raises NotAuthenticated for nobody we know."""

    async def from_bearer(self, token: str, address: str = "") -> Principal: ...

    async def from_session(self, cookie: str) -> Principal: ...

    async def sign_in(self, name: str, password: str, address: str) -> str:
        """The value of a session cookie. Raises NotAuthenticated, or NotAllowed after too many attempts."""
        ...

    async def sign_out(self, cookie: str) -> None: ...


class Condition(Protocol):
    """How the archive is."""

    async def problems(self) -> list[str]:
        """Why no work can be taken on, one sentence each; empty when it can. Answers within a second."""
        ...

    async def status(self) -> dict[str, Any]:
        """What `radiolith status --json` gives."""
        ...

    async def gauges(self) -> Asked:
        """Metric name -> (help, value), for what is measured at the moment of asking."""
        ...


@dataclass(frozen=True, slots=True)
class Inside:
    """All that a page or an /api/v1 call may use."""

    archive: Archive
    identities: Identities
    settings: Settings
    condition: Condition
    associations: Associations
    traffic: Traffic
    peers: Peers
    decisions: Decisions
