"""The verb `remove`: reject, and take the rejection back.

A rejection is a fact: the objects leave the normal views, stay listed, and come back by one call (IHE RAD IOCM). Nothing
here destroys a byte. Must never: act on more than the instances it names in the fact, so that a rebuild rejects exactly
the same ones.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

from radiolith.archive.deciding import Deciding
from radiolith.archive.ports import Rejected
from radiolith.archive.tasks import Settled
from radiolith.index import instances
from radiolith.index.session import Reader
from radiolith.model import BadInput, Identity, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.keys import NONPATIENT, STUDY

REASONS = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
"""Key Object Selection document titles, PS3.16 CID 7011, as IHE RAD IOCM uses them."""

ITEMS = 1_000  # instances one fact names; a larger study takes several, each whole in itself
UNDER_WAY = 4  # facts of one decision on their way to the disk, 150 KB each: others go on meanwhile


class Remove:
    def __init__(self, deciding: Deciding):
        self._deciding = deciding

    async def reject(self, principal: Principal, study: str, series: str = "", sop: str = "", *, reason: str) -> int:
        """Take what is under study, series or instance out of the normal views; how many instances that were.

        Raises BadInput for a reason that is none, NotFound when nothing visible is held there.
        """
        require(principal, Action.REJECT)
        if reason not in REASONS:
            known = ", ".join(f"{code} {text}" for code, text in REASONS.items())
            raise BadInput(f"the reason of a rejection is one of {known}")
        if not study and not sop:
            raise BadInput("non-patient objects belong to no study; name the instance")
        visible = await self._identities(principal, study, series, sop, rejected=False)
        return await self._decide(principal, "reject", visible, {"reason": reason})

    async def restore(self, principal: Principal, study: str, series: str = "", sop: str = "") -> int:
        """Bring rejected instances back into the normal views; how many. Raises NotFound when none is rejected there."""
        require(principal, Action.RESTORE)
        hidden = await self._identities(principal, study, series, sop, rejected=True)
        return await self._decide(principal, "restore", hidden, {})

    async def _identities(
        self, principal: Principal, study: str, series: str, sop: str, *, rejected: bool
    ) -> list[Identity]:
        def look(read: Reader) -> list[Identity]:
            found = instances.locate(
                read, principal.tenant.id, study, series or None, sop or None, include_rejected=True
            )
            return [held.identity for held in found if bool(held.rejected) is rejected]

        return await self._deciding.look(look)

    async def _decide(
        self, principal: Principal, kind: str, identities: list[Identity], body: dict[str, object]
    ) -> int:
        if not identities:
            what = "rejected" if kind == "restore" else "held"
            raise NotFound(f"nothing {what} under this UID")
        study = identities[0].study
        scope = (STUDY if study else NONPATIENT, study)
        detail = str(body.get("reason", ""))
        waiting: deque[asyncio.Future[Settled]] = deque()
        for items in _slices(identities):
            if len(waiting) == UNDER_WAY:
                await waiting.popleft()
            named = body | {"items": [[i.study, i.series, i.sop] for i in items]}
            waiting.append(self._deciding.decide(principal, (kind, named), scope, (kind, len(items), detail)))
        while waiting:
            await waiting.popleft()
        return len(identities)

    async def rejected(self, principal: Principal, limit: int = 100, after: str = "") -> list[Rejected]:
        """What is rejected, latest first; `after` is the SOP Instance UID the page before ended with."""
        require(principal, Action.QUERY)

        rows = await self._deciding.look(lambda read: instances.rejected(read, principal.tenant.id, limit, after))
        await self._deciding.note(principal, "", "rejected", len(rows))
        return [Rejected(r.study, r.series, r.sop, r.reason, r.at, r.by) for r in rows]


def _slices(identities: list[Identity]) -> Iterator[list[Identity]]:
    for at in range(0, len(identities), ITEMS):
        yield identities[at : at + ITEMS]
