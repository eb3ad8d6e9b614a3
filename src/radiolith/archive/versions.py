"""Several contents under one UID: list them, say which is current.

Owns: the switch, a fact. Must never: choose by itself; the setting per peer did that at ingest.
"""

from __future__ import annotations

from collections.abc import Callable

from radiolith.archive.commit import Committer
from radiolith.archive.reading import Reading
from radiolith.index import instances
from radiolith.index.database import Database
from radiolith.model import AuditEvent, BadInput, Fact, Held, Identity, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.audit import ReadAudit
from radiolith.trust.keys import NONPATIENT, STUDY


class Versions:
    def __init__(
        self,
        database: Database,
        reading: Reading,
        committer: Committer,
        audit: ReadAudit,
        clock: Callable[[], int],
    ):
        self._database, self._reading, self._committer = database, reading, committer
        self._audit, self._clock = audit, clock

    async def of(self, principal: Principal, identity: Identity) -> list[Held]:
        """Every version and encoding of one instance in order of reception; NotFound when none is held."""
        require(principal, Action.RETRIEVE)
        found = await self._reading.run(self._look, principal, identity)
        if not found:
            raise NotFound("nothing is held under this UID")
        await self._audit.note(principal, identity.study, "versions", len(found))
        return found

    async def conflicts(self, principal: Principal, limit: int = 100, after: str = "") -> list[Identity]:
        """Instances that hold other content under their UID and wait for somebody to say which is right."""
        require(principal, Action.QUERY)

        def look() -> list[Identity]:
            with self._database.read() as read:
                return instances.conflicts(read, principal.tenant.id, limit, after)

        found = await self._reading.run(look)
        await self._audit.note(principal, "", "conflicts", len(found))
        return found

    async def switch(self, principal: Principal, identity: Identity, object_id: str) -> None:
        """Make one version the current one; resolves the conflict. Raises NotFound, BadInput."""
        require(principal, Action.SWITCH)
        found = await self._reading.run(self._look, principal, identity)
        chosen = next((held for held in found if held.blob.object_id.hex() == object_id), None)
        if chosen is None:
            raise NotFound("no version of this instance has this id")
        if chosen.encoding_of:
            raise BadInput("this is the same content in another syntax; choose the version it belongs to")
        at = self._clock()
        body: dict[str, object] = {
            "identity": [identity.study, identity.series, identity.sop],
            "object": object_id,
        }
        fact = Fact("current", at, principal.name, principal.tenant.uid, body)
        event = AuditEvent(at, principal.tenant.id, principal.name, "switch", identity.study, detail=object_id)
        label = (principal.tenant.uid, STUDY if identity.study else NONPATIENT, identity.study)
        await self._committer.fact(fact, label, [event])

    def _look(self, principal: Principal, identity: Identity) -> list[Held]:
        with self._database.read() as read:
            return list(instances.versions(read, principal.tenant.id, identity))
