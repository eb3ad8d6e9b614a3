"""Routing rules, seen from the edges: make, list, remove, and try one on past traffic.

Owns: rules as facts, who may make them, and the dry run. Must never: order a transfer. Limits: RULES of a tenant; a dry run
looks at TRIED completions and LOOKED_AT instances.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from radiolith.archive.accounts import NAME_MAX
from radiolith.archive.commit import Committer
from radiolith.archive.reading import Reading
from radiolith.index import accounts, arrivals, registry
from radiolith.index.registry import Entry
from radiolith.index.session import Reader
from radiolith.model import AuditEvent, BadInput, Conflict, Fact, LimitExceeded, NotFound, Principal
from radiolith.policies.router import KIND, Ruled, decide
from radiolith.policies.routing import Target, rule
from radiolith.trust.access import Action, require
from radiolith.trust.audit import ReadAudit

RULES = 200  # of a tenant: each is judged for every instance, some 20 microseconds
TRIED = 1000  # completions of a dry run
LOOKED_AT = 100_000  # instances of a dry run, some seconds
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tried:
    """What a rule would have sent when a study was complete."""

    study: str
    at: int
    instances: int  # that the rule sends
    of: int  # that were new then and are still shown


class Routes:
    def __init__(self, reading: Reading, committer: Committer, trail: ReadAudit, clock: Callable[[], int]):
        self._reading, self._committer, self._trail, self._clock = reading, committer, trail, clock

    async def add(self, principal: Principal, body: Mapping[str, Any]) -> None:
        """A rule as `routing.rule` reads it. Raises BadInput, Conflict for a name there is, NotFound for a peer there is
        not, LimitExceeded."""
        require(principal, Action.ACCOUNTS)
        made = rule(body)
        if not 1 <= len(made.name) <= NAME_MAX or not made.name.isprintable() or made.name != made.name.strip():
            raise BadInput(f"a name has 1 to {NAME_MAX} printable characters")

        def check(read: Reader) -> None:
            _target(read, principal, made.peer)
            if registry.get(read, principal.tenant.id, KIND, made.name):
                raise Conflict(f"there is a rule '{made.name}' already")
            if len(registry.entries(read, principal.tenant.id, KIND)) >= RULES:
                raise LimitExceeded(f"there are {RULES} rules, and more are not possible")

        await self._reading.look(check)
        await self._write(principal, "route", dict(body), f"{made.name} to {made.peer}")

    async def remove(self, principal: Principal, name: str) -> None:
        """What it ordered already stays ordered. Raises NotFound."""
        require(principal, Action.ACCOUNTS)
        if await self._reading.look(lambda read: registry.get(read, principal.tenant.id, KIND, name)) is None:
            raise NotFound(f"there is no rule '{name}'")
        await self._write(principal, "route-remove", {"name": name}, name)

    async def list(self, principal: Principal) -> list[Entry]:
        """Rules by name, each as it was made."""
        require(principal, Action.ACCOUNTS)
        found = await self._reading.look(lambda read: registry.entries(read, principal.tenant.id, KIND))
        await self._trail.note(principal, "", "rules", len(found), action=Action.ACCOUNTS.value)
        return found

    async def get(self, principal: Principal, name: str) -> Entry:
        """Raises NotFound."""
        found = next((entry for entry in await self.list(principal) if entry.name == name), None)
        if found is None:
            raise NotFound(f"there is no rule '{name}'")
        return found

    async def trial(self, principal: Principal, body: Mapping[str, Any], since: int) -> list[Tried]:
        """What the rule would have sent of all that was complete since then (microseconds), latest first; studies it would
        have sent nothing of are left out. Looks back `arrivals.KEEP`, TRIED completions and LOOKED_AT instances at most."""
        require(principal, Action.ACCOUNTS)
        made = rule(body)

        def look(read: Reader) -> list[Tried]:
            ruled = [Ruled(made, _target(read, principal, made.peer))]
            found: list[Tried] = []
            seen = 0
            for done in islice(arrivals.completions(read, principal.tenant.id, since), TRIED):
                seen += done.instances
                if seen > LOOKED_AT:
                    break
                (rows,) = decide(read, done, ruled)
                if rows:
                    study = arrivals.study_uid(read, done.study_id)
                    found.append(Tried(study, done.at, len(rows), done.instances))
            return found

        found = await self._reading.look(look)
        await self._trail.note(principal, "", "rule tried", len(found))
        return found

    async def _write(self, principal: Principal, kind: str, body: dict[str, object], detail: str) -> None:
        at = self._clock()
        event = AuditEvent(at, principal.tenant.id, principal.name, kind, detail=detail)
        await self._committer.fact(Fact(kind, at, principal.name, principal.tenant.uid, body), None, [event])


def _target(read: Reader, principal: Principal, name: str) -> Target:
    peer = accounts.peer(read, principal.tenant.id, name)
    if peer is None:
        raise NotFound(f"there is no peer '{name}'")
    return Target(peer.name, str(peer.more.get("aet") or ""))
