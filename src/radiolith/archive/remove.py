"""The verb `remove`: reject, and take the rejection back.

A rejection is a fact: the objects leave the normal views, stay listed, and come back by one call (IHE RAD IOCM). Nothing
here destroys a byte. Must never: act on more than the instances it names in the fact, so that a rebuild rejects exactly
the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from radiolith.archive.commit import Committer
from radiolith.archive.ports import Rejected
from radiolith.archive.reading import Reading
from radiolith.index import instances
from radiolith.index.database import Database
from radiolith.model import AuditEvent, BadInput, Fact, Identity, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.audit import ReadAudit
from radiolith.trust.keys import NONPATIENT, STUDY

REASONS = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
"""Key Object Selection document titles, PS3.16 CID 7011, as IHE RAD IOCM uses them."""

ITEMS = 1_000  # instances one fact names; a larger study takes several, each whole in itself


class Remove:
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
        visible = await self._reading.run(self._identities, principal, study, series, sop, False)
        return await self._decide(principal, "reject", visible, {"reason": reason})

    async def restore(self, principal: Principal, study: str, series: str = "", sop: str = "") -> int:
        """Bring rejected instances back into the normal views; how many. Raises NotFound when none is rejected there."""
        require(principal, Action.RESTORE)
        hidden = await self._reading.run(self._identities, principal, study, series, sop, True)
        return await self._decide(principal, "restore", hidden, {})

    def _identities(self, principal: Principal, study: str, series: str, sop: str, rejected: bool) -> list[Identity]:
        with self._database.read() as read:
            found = instances.locate(
                read, principal.tenant.id, study, series or None, sop or None, include_rejected=True
            )
            return [held.identity for held in found if bool(held.rejected) is rejected]

    async def _decide(
        self, principal: Principal, kind: str, identities: list[Identity], body: dict[str, object]
    ) -> int:
        if not identities:
            what = "rejected" if kind == "restore" else "held"
            raise NotFound(f"nothing {what} under this UID")
        study = identities[0].study
        label = (principal.tenant.uid, STUDY if study else NONPATIENT, study)
        waiting = []
        for items in _slices(identities):
            at = self._clock()
            fact = Fact(
                kind, at, principal.name, principal.tenant.uid,
                body | {"items": [[i.study, i.series, i.sop] for i in items]},
            )  # fmt: skip
            detail = str(body.get("reason", ""))
            event = AuditEvent(at, principal.tenant.id, principal.name, kind, study, count=len(items), detail=detail)
            waiting.append(self._committer.fact(fact, label, [event]))
        for future in waiting:
            await future
        return len(identities)

    async def rejected(self, principal: Principal, limit: int = 100, after: str = "") -> list[Rejected]:
        """What is rejected, latest first; `after` is the SOP Instance UID the page before ended with."""
        require(principal, Action.QUERY)

        def look() -> list[Rejected]:
            with self._database.read() as read:
                rows = instances.rejected(read, principal.tenant.id, limit, after)
                return [Rejected(r.study, r.series, r.sop, r.reason, r.at, r.by) for r in rows]

        found = await self._reading.run(look)
        await self._audit.note(principal, "", "rejected", len(found))
        return found


def _slices(identities: list[Identity]) -> Iterator[list[Identity]]:
    for at in range(0, len(identities), ITEMS):
        yield identities[at : at + ITEMS]
