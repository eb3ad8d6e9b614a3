"""The verb `remove`: reject, and take the rejection back.

A rejection is a fact: the objects leave the normal views, stay listed, and come back by one call (IHE RAD IOCM). Nothing
here destroys a byte. Must never: act on more than the instances it names in the fact, so that a rebuild rejects exactly
the same ones.
"""

from __future__ import annotations

from radiolith.archive.operations import NOTHING_ASKED, Deed, Operation, Operations, Plan, slices
from radiolith.archive.ports import Rejected
from radiolith.archive.subjects import home_of
from radiolith.index import instances
from radiolith.index.identities import last_decision
from radiolith.index.session import Reader
from radiolith.index.uids import pack_uid
from radiolith.model import BadInput, Held, Identity, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.keys import NONPATIENT, STUDY

REASONS = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
"""Key Object Selection document titles, PS3.16 CID 7011, as IHE RAD IOCM uses them."""


class Remove:
    def __init__(self, operations: Operations):
        self._operations, self._deciding = operations, operations.deciding

    async def reject(
        self, principal: Principal, study: str, series: str = "", sop: str = "", *, reason: str, op: str = ""
    ) -> int:
        """Take what is under study, series or instance out of the normal views; how many instances that were.

        op: a name for the operation, by which it can be undone; '' draws one. Raises BadInput for a reason that is none,
        NotFound when nothing visible is held there.
        """
        require(principal, Action.REJECT)
        if reason not in REASONS:
            known = ", ".join(f"{code} {text}" for code, text in REASONS.items())
            raise BadInput(f"the reason of a rejection is one of {known}")
        if not study and not sop:
            raise BadInput("non-patient objects belong to no study; name the instance")
        visible = await self._held(principal, study, series, sop, rejected=False)
        return await self._decide(principal, "reject", visible, {"reason": reason}, op)

    async def restore(self, principal: Principal, study: str, series: str = "", sop: str = "", *, op: str = "") -> int:
        """Bring rejected instances back into the normal views; how many. Raises NotFound when none is rejected there."""
        require(principal, Action.RESTORE)
        hidden = await self._held(principal, study, series, sop, rejected=True)
        return await self._decide(principal, "restore", hidden, {}, op)

    async def _held(
        self, principal: Principal, study: str, series: str, sop: str, *, rejected: bool
    ) -> tuple[list[Held], int]:
        """Every version of what is rejected there or is not, and the time of the last decision about any of it."""

        def look(read: Reader) -> tuple[list[Held], int]:
            found = [
                held
                for held in instances.locate(
                    read, principal.tenant.id, study, series or None, sop or None, current_only=False,
                    include_rejected=True,
                )
                if bool(held.rejected) is rejected
            ]  # fmt: skip
            homes = {home_of(held).study for held in found}
            return found, max((last_decision(read, principal.tenant.id, pack_uid(home)) for home in homes), default=0)

        return await self._deciding.look(look)

    async def _decide(
        self, principal: Principal, kind: str, known: tuple[list[Held], int], body: dict[str, object], op: str
    ) -> int:
        """Facts name instances as they were received: what is shown as one may have come under several names."""
        held, newest = known
        if not held:
            what = "rejected" if kind == "restore" else "held"
            raise NotFound(f"nothing {what} under this UID")
        received: dict[str, set[Identity]] = {}
        for one in held:
            home = home_of(one)
            received.setdefault(home.study, set()).add(home)
        deeds = [
            Deed(
                kind,
                body | {"items": items},
                (STUDY if study else NONPATIENT, study),
                len(items),
                str(body.get("reason", "")),
            )
            for study, identities in sorted(received.items())
            for items in slices([[i.study, i.series, i.sop] for i in sorted(identities, key=_by_name)])
        ]
        done = Operation(op, kind, 0, f"{kind}s {len(received)} studies or parts of them")
        await self._operations.write(principal, NOTHING_ASKED, Plan(done, tuple(deeds), newest))
        return len({one.identity for one in held})

    async def rejected(self, principal: Principal, limit: int = 100, after: str = "") -> list[Rejected]:
        """What is rejected, latest first; `after` is the SOP Instance UID the page before ended with."""
        require(principal, Action.QUERY)

        rows = await self._deciding.look(lambda read: instances.rejected(read, principal.tenant.id, limit, after))
        await self._deciding.note(principal, "", "rejected", len(rows))
        return [Rejected(r.study, r.series, r.sop, r.reason, r.at, r.by) for r in rows]


def _by_name(identity: Identity) -> tuple[str, str, str]:
    return identity.study, identity.series, identity.sop
