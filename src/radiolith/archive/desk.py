"""The conflict desk: what is unclear, what is proposed and why, and one call that resolves it.

Owns: which verb each answer calls. Must never: resolve anything by itself, or do what a verb does not. An answer is an operation
and can be undone, but for accepting a device, which is undone by removing the peer. Limits: those of `proposals`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from radiolith.archive.amend import Amend
from radiolith.archive.operations import Asked, Deed, Operation, Operations, Plan
from radiolith.archive.patients import Patients
from radiolith.archive.peers import Peers
from radiolith.archive.proposals import KINDS, Case, listed, one, parse
from radiolith.archive.remove import Remove
from radiolith.archive.subjects import PatientKey
from radiolith.archive.versions import Versions
from radiolith.index import told
from radiolith.index.session import Reader
from radiolith.model import BadInput, Conflict, Identity, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.keys import FACTS


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person says about a case. `patient`: whose it is; `version`: which becomes current; `new`: the patient need not be
    known yet; `name`: of a device that becomes a peer."""

    action: str
    patient: PatientKey | None = None
    version: str = ""
    new: bool = False
    name: str = ""
    code: str = "113038"  # why it is rejected, CID 7011


@dataclass(frozen=True, slots=True)
class Verbs:
    """What the desk calls."""

    operations: Operations
    amend: Amend
    patients: Patients
    remove: Remove
    versions: Versions
    peers: Peers


class Desk:
    def __init__(self, verbs: Verbs):
        self._verbs, self._operations, self._deciding = verbs, verbs.operations, verbs.operations.deciding

    # ------------------------------------------------------------ looking

    async def list(self, principal: Principal, kind: str = "", limit: int = 100, after: str = "") -> list[Case]:
        """Open cases, kind by kind; `after` is the key the page before ended with. Raises BadInput."""
        require(principal, Action.DESK)
        if kind and kind not in KINDS:
            raise BadInput(f"a case is one of {', '.join(KINDS)}")
        begun = parse(after)[0] if after else ""
        kinds = [kind] if kind else list(KINDS[KINDS.index(begun) if begun else 0 :])

        def look(read: Reader) -> list[Case]:
            found: list[Case] = []
            for each in kinds:
                found += listed(read, principal.tenant.id, each, limit - len(found), after if each == begun else "")
                if len(found) >= limit:
                    break
            return found

        found = await self._deciding.look(look)
        await self._deciding.note(principal, "", "desk", len(found))
        return found

    async def get(self, principal: Principal, key: str) -> Case:
        """One case with its proposal. Raises NotFound for one that is not open (any more)."""
        require(principal, Action.DESK)
        found = await self._deciding.look(lambda read: one(read, principal.tenant.id, key))
        if found is None:
            raise NotFound("this case is not open; the desk lists those that are")
        await self._deciding.note(principal, found.study, "desk", 1)
        return found

    # ------------------------------------------------------------ answering

    async def resolve(self, principal: Principal, key: str, answer: Answer, asked: Asked) -> Operation:
        """Do what the answer says. Raises NotFound, Conflict, BadInput for an answer this kind of case does not have."""
        require(principal, Action.DESK)
        case = await self.get(principal, key)
        if answer.action not in case.answers:
            raise BadInput(f"a case of this kind is answered by {', '.join(case.answers)}")
        asked.check()
        calls: Mapping[str, Callable[[Principal, Case, Answer, Asked], Awaitable[Operation]]] = {
            "adopt": self._adopt, "assign": self._assign, "merge": self._merge, "link": self._link, "keep": self._keep,
            "accept": self._accept, "reject": self._reject,
        }  # fmt: skip
        return await calls[answer.action](principal, case, answer, asked)

    async def undo(self, principal: Principal, op: str, asked: Asked) -> Operation:
        """The case is open again. Raises NotFound, Conflict."""
        require(principal, Action.DESK)
        return await self._operations.undo(principal, op, asked)

    async def _adopt(self, principal: Principal, case: Case, answer: Answer, asked: Asked) -> Operation:
        identity = Identity(*case.names)
        version = answer.version or case.proposal.version
        return await self._chosen(principal, case, identity, version, asked)

    async def _chosen(
        self, principal: Principal, case: Case, identity: Identity, version: str, asked: Asked
    ) -> Operation:
        op = self._begun(case, asked)
        done = Operation(
            op, "current", self._deciding.now(), f"version {version} is the current one", case.state, (case.study,)
        )
        if not asked.dry_run:
            await self._verbs.versions.switch(principal, identity, version, op=op)
        return _tried(done, asked)

    async def _assign(self, principal: Principal, case: Case, answer: Answer, asked: Asked) -> Operation:
        patient = answer.patient or case.proposal.patient
        if patient is None:
            raise BadInput("say whose it is: a patient ID with its issuer")
        if case.kind == "mixed":
            return await self._verbs.amend.move_study(principal, case.study, patient, asked, new=answer.new)
        return await self._verbs.amend.merge_patients(principal, _patient(case), patient, asked, new=answer.new)

    def _begun(self, case: Case, asked: Asked) -> str:
        """The name of an operation that begins, '' where it is only tried. Raises Conflict when the case is another by now."""
        if asked.expected and asked.expected != case.state:
            raise Conflict("somebody has decided about this meanwhile; look again, then decide")
        return "" if asked.dry_run else self._operations.name()

    async def _merge(self, principal: Principal, case: Case, answer: Answer, asked: Asked) -> Operation:
        """The patients of a study become one: the one it is shown under, or the one named."""
        target = answer.patient or case.proposal.patient or case.people[0]
        others = [one for one in case.people if one != target]
        if len(others) != 1:
            raise BadInput("more than two patients are merged one by one: radiolith patients merge")
        return await self._verbs.amend.merge_patients(principal, others[0], target, asked, new=answer.new)

    async def _link(self, principal: Principal, case: Case, answer: Answer, asked: Asked) -> Operation:
        other = answer.patient or case.proposal.patient
        if other is None:
            raise BadInput("say who the same person is: a patient ID with its issuer")
        return await self._verbs.patients.link(principal, _patient(case), other, asked)

    async def _keep(self, principal: Principal, case: Case, answer: Answer, asked: Asked) -> Operation:
        """It is right as it is: of several versions the current one stays, everything else is only said."""
        if case.kind == "versions":
            return await self._chosen(principal, case, Identity(*case.names), case.proposal.current, asked)
        return await self._settle(principal, case, "kept", asked)

    async def _accept(self, principal: Principal, case: Case, answer: Answer, asked: Asked) -> Operation:
        """A peer of its own; what it sent comes out of the quarantine."""
        aet, address = case.names
        summary = f"accepts the device '{aet}' from {address}"
        if not asked.dry_run:
            done = await self._verbs.peers.accept(principal, aet, name=answer.name, address=address)
            summary += f" as peer {done.name}: {done.received} objects received, {done.left} left in quarantine"
        return _tried(Operation("", "peer", self._deciding.now(), summary), asked)

    async def _reject(self, principal: Principal, case: Case, answer: Answer, asked: Asked) -> Operation:
        if case.kind in ("stranger", "unreadable"):
            return await self._settle(principal, case, "rejected", asked)
        op, count = self._begun(case, asked), 0
        places = [tuple(case.names)] if case.kind == "versions" else [(one, "", "") for one in case.studies]
        if not places:
            raise Conflict("nothing of this patient is shown any more")
        for study, series, sop in places:
            if not asked.dry_run:
                count += await self._verbs.remove.reject(principal, study, series, sop, reason=answer.code, op=op)
        done = Operation(
            op, "reject", self._deciding.now(), f"rejects what is held of case {case.key}", case.state,
            tuple(dict.fromkeys(place[0] for place in places)), instances=count,
        )  # fmt: skip
        return _tried(done, asked)

    async def _settle(self, principal: Principal, case: Case, how: str, asked: Asked) -> Operation:
        tenant = principal.tenant.id

        def plan(read: Reader) -> Plan:
            if told.settled(read, tenant, case.key):
                raise Conflict("somebody has settled this case meanwhile")
            deed = Deed("settle", {"conflict": case.key, "as": how}, (FACTS, ""))
            known = told.knowledge(read, tenant, [])
            done = Operation(
                "", "settle", 0, f"case {case.key} is {how}", known.state, (case.study,) if case.study else ()
            )
            return Plan(done, (deed,))

        return await self._operations.carry_out(principal, asked, plan)


def _tried(operation: Operation, asked: Asked) -> Operation:
    return replace(operation, dry_run=asked.dry_run)


def _patient(case: Case) -> PatientKey:
    return case.people[0]
