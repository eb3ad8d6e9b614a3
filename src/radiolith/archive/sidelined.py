"""The quarantine, seen from the edges: list, look, hand out the exact bytes, release.

What lies there could not be parsed, or says not who it is. Must never: change or drop the bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from radiolith.archive.commit import Committer
from radiolith.archive.ports import Sideline, Stream
from radiolith.archive.reading import Reading
from radiolith.index import quarantine
from radiolith.index.database import Database
from radiolith.index.quarantine import Quarantined
from radiolith.model import AuditEvent, BadInput, Fact, Held, Identity, Layout, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.audit import ReadAudit
from radiolith.trust.keys import QUARANTINE


class Sidelined:
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

    async def list(self, principal: Principal, limit: int = 100, after: str = "") -> list[Sideline]:
        """Latest first, released ones left out; `after` is the id the page before ended with."""
        require(principal, Action.QUARANTINE)

        def look() -> list[Sideline]:
            with self._database.read() as read:
                return [_shown(row) for row in quarantine.quarantined(read, principal.tenant.id, limit, after)]

        found = await self._reading.run(look)
        await self._audit.note(principal, "", "quarantine", len(found))
        return found

    async def get(self, principal: Principal, id: str) -> Sideline:
        require(principal, Action.QUARANTINE)
        row = await self._row(principal, id)
        await self._audit.note(principal, "", "quarantine", 1)
        return _shown(row)

    async def original(self, principal: Principal, id: str) -> Stream:
        """The exact bytes received."""
        require(principal, Action.QUARANTINE)
        row = await self._row(principal, id)
        await self._audit.note(principal, "", "quarantine", 1)
        layout = Layout("", 0, row.size, row.size, row.size)
        held = Held(
            0, Identity("", "", ""), row.sop_class, None, row.blob, layout, row.sha256, row.received_at, row.source,
            row.principal,
        )  # fmt: skip
        return self._reading.stream(held, 0, row.size)

    async def release(self, principal: Principal, id: str) -> None:
        """Somebody has dealt with it: it leaves the list. The bytes stay."""
        require(principal, Action.QUARANTINE)
        row = await self._row(principal, id)
        at = self._clock()
        fact = Fact("release", at, principal.name, principal.tenant.uid, {"object": row.blob.object_id.hex()})
        event = AuditEvent(at, principal.tenant.id, principal.name, "release", detail=id)
        await self._committer.fact(fact, (principal.tenant.uid, QUARANTINE, ""), [event])

    async def _row(self, principal: Principal, id: str) -> Quarantined:
        try:
            object_id = bytes.fromhex(id)
        except ValueError:
            raise BadInput("a quarantine id has 32 hexadecimal digits") from None

        def look() -> Quarantined | None:
            with self._database.read() as read:
                return quarantine.quarantined_one(read, principal.tenant.id, object_id)

        row = await self._reading.run(look)
        if row is None:
            raise NotFound("nothing in quarantine has this id")
        return row


def _shown(row: Quarantined) -> Sideline:
    source = f"{row.source.door} {row.source.peer}".strip()
    return Sideline(
        row.blob.object_id.hex(), row.reason, row.received_at, source, row.principal, row.size, row.sha256.hex(),
        dict(row.guess), row.released,
    )  # fmt: skip
