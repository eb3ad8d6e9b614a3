"""Several contents under one UID: list them, say which is current.

Owns: the switch, a fact. Must never: choose by itself; the setting per peer did that at ingest.
"""

from __future__ import annotations

from radiolith.archive.operations import Operations
from radiolith.archive.subjects import home_of
from radiolith.index import instances
from radiolith.index.identities import last_decision
from radiolith.index.uids import pack_uid
from radiolith.model import BadInput, Held, Identity, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.keys import NONPATIENT, STUDY


class Versions:
    def __init__(self, operations: Operations):
        self._operations, self._deciding = operations, operations.deciding

    async def of(self, principal: Principal, identity: Identity) -> list[Held]:
        """Every version and encoding of one instance in order of reception; NotFound when none is held."""
        require(principal, Action.RETRIEVE)
        found = await self._look(principal, identity)
        if not found:
            raise NotFound("nothing is held under this UID")
        await self._deciding.note(principal, identity.study, "versions", len(found))
        return found

    async def conflicts(self, principal: Principal, limit: int = 100, after: str = "") -> list[Identity]:
        """Instances that hold other content under their UID and wait for somebody to say which is right."""
        require(principal, Action.QUERY)

        found = await self._deciding.look(lambda read: instances.conflicts(read, principal.tenant.id, limit, after))
        await self._deciding.note(principal, "", "conflicts", len(found))
        return found

    async def switch(self, principal: Principal, identity: Identity, object_id: str, *, op: str = "") -> None:
        """Make one version the current one; resolves the conflict. `op`: a name for the operation, '' draws one. Raises NotFound,
        BadInput."""
        require(principal, Action.SWITCH)
        found = await self._look(principal, identity)
        chosen = next((held for held in found if held.blob.object_id.hex() == object_id), None)
        if chosen is None:
            raise NotFound("no version of this instance has this id")
        if chosen.encoding_of:
            raise BadInput("this is the same content in another syntax; choose the version it belongs to")
        homes = {home_of(held) for held in found}
        newest = await self._deciding.look(
            lambda read: max(last_decision(read, principal.tenant.id, pack_uid(home.study)) for home in homes)
        )
        name = op or self._operations.name()
        for home in sorted(homes, key=lambda one: (one.study, one.series, one.sop)):
            body: dict[str, object] = {
                "op": name, "identity": [home.study, home.series, home.sop], "object": object_id,
            }  # fmt: skip
            scope = (STUDY if home.study else NONPATIENT, home.study)
            await self._deciding.decide(principal, ("current", body), scope, ("switch", 1, object_id), after=newest)

    async def _look(self, principal: Principal, identity: Identity) -> list[Held]:
        return await self._deciding.look(lambda read: list(instances.versions(read, principal.tenant.id, identity)))
