"""The quarantine, seen from the edges: list, look, hand out the exact bytes, release.

What lies there could not be parsed, or says not who it is. Must never: change or drop the bytes.
"""

from __future__ import annotations

from radiolith.archive.deciding import Deciding
from radiolith.archive.ports import Sideline, Stream
from radiolith.index import quarantine
from radiolith.index.quarantine import Quarantined
from radiolith.model import BadInput, Held, Identity, Layout, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.keys import QUARANTINE


class Sidelined:
    def __init__(self, deciding: Deciding):
        self._deciding = deciding

    async def list(self, principal: Principal, limit: int = 100, after: str = "") -> list[Sideline]:
        """Latest first, released ones left out; `after` is the id the page before ended with."""
        require(principal, Action.QUARANTINE)

        rows = await self._deciding.look(lambda read: quarantine.quarantined(read, principal.tenant.id, limit, after))
        found = [_shown(row) for row in rows]
        await self._deciding.note(principal, "", "quarantine", len(found))
        return found

    async def get(self, principal: Principal, id: str) -> Sideline:
        require(principal, Action.QUARANTINE)
        row = await self._row(principal, id)
        await self._deciding.note(principal, "", "quarantine", 1)
        return _shown(row)

    async def original(self, principal: Principal, id: str) -> Stream:
        """The exact bytes received."""
        require(principal, Action.QUARANTINE)
        row = await self._row(principal, id)
        await self._deciding.note(principal, "", "quarantine", 1)
        layout = Layout("", 0, row.size, row.size, row.size)
        held = Held(
            0, Identity("", "", ""), row.sop_class, None, row.blob, layout, row.sha256, row.received_at, row.source,
            row.principal,
        )  # fmt: skip
        return self._deciding.reading.stream(held, 0, row.size)

    async def release(self, principal: Principal, id: str) -> None:
        """Somebody has dealt with it: it leaves the list. The bytes stay."""
        require(principal, Action.QUARANTINE)
        row = await self._row(principal, id)
        body: dict[str, object] = {"object": row.blob.object_id.hex()}
        await self._deciding.decide(principal, ("release", body), (QUARANTINE, ""), ("release", 1, id))

    async def _row(self, principal: Principal, id: str) -> Quarantined:
        try:
            object_id = bytes.fromhex(id)
        except ValueError:
            raise BadInput("a quarantine id has 32 hexadecimal digits") from None

        row = await self._deciding.look(lambda read: quarantine.quarantined_one(read, principal.tenant.id, object_id))
        if row is None:
            raise NotFound("nothing in quarantine has this id")
        return row


def _shown(row: Quarantined) -> Sideline:
    source = f"{row.source.door} {row.source.peer}".strip()
    return Sideline(
        row.blob.object_id.hex(), row.reason, row.received_at, source, row.principal, row.size, row.sha256.hex(),
        dict(row.guess), row.released,
    )  # fmt: skip
