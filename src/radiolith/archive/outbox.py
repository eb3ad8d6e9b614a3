"""The outbox, seen from the edges: order a transfer, see how far it is, send again, cancel, note a commitment's result.

Owns: who may order what, and the audit of it. Must never: send (jobs/outbox does, through `Delivery`), or order what the
principal may not retrieve. An order is durable when it returns: a restart, a kill or another node goes on with it.
Limits: PLACES of one order; an order of more than `index.outbox.ITEMS` instances becomes several transfers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from radiolith.archive.reading import Reading
from radiolith.index import accounts, audit, outbox, sending
from radiolith.index.accounts import Peer
from radiolith.index.database import Database
from radiolith.index.outbox import Item, ItemState, Lag, Priority, State, Transfer, Why, Wish
from radiolith.index.session import Reader, Writer
from radiolith.model import AuditEvent, BadInput, Conflict, Held, Identity, LimitExceeded, NotFound, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.audit import ReadAudit

T = TypeVar("T")
HEAD_START = (
    10_000_000  # microseconds: a C-MOVE or a command sends at once and reports on it; a runner takes over after this
)
PLACES = 10_000  # of one order: what a C-MOVE at instance level may list in one identifier


@dataclass(frozen=True, slots=True)
class Result:
    """What a peer answered for one instance.

    status: of the C-STORE-RSP (PS3.4 table B.2-1): 0x0000 and warnings (0xBxxx) mean that the peer has it. Where the
    instance could not be offered at all, the status that says so: 0x0122 no presentation context was accepted for its SOP
    class and any syntax it can be sent in. reason: the peer's Error Comment (0000,0902) or a sentence; no patient data.
    """

    instance: Held
    status: int
    reason: str = ""


class Delivery(Protocol):
    """Sends to one kind of destination. DIMSE's SCU is one; each call may open an association of its own."""

    def deliver(self, transfer: Transfer, peer: Peer, instances: Sequence[Held]) -> AsyncIterator[Result]:
        """Send the instances and give one Result each, at most once and in any order, as soon as the peer has answered
        for it; an instance without a Result was not delivered and is sent again later.

        transfer: `syntax` is the preferred transfer syntax UID ('' keeps what is held); `why` MOVE brings `ordered_by`
        (AE title) and `message_id` for Move Originator (0000,1030) and (0000,1031); `priority` for (0000,0700).
        peer: `more` has aet, address, port, tls and whatever else its fact says. instances: up to 500, all that the
        presentation contexts have to be proposed for.

        Raises a Failure for what concerns the whole call (no connection, association rejected or aborted, a deadline
        passed): its sentence becomes the reason shown, and what has no Result is tried again after a while. The iterator
        is closed (aclose) when the transfer is cancelled or taken over: release or abort the association then.
        """
        ...

    async def ask_commitment(
        self, transfer: Transfer, peer: Peer, transaction_uid: str, references: Sequence[tuple[str, str]]
    ) -> None:
        """Ask the peer to commit to the (SOP class, SOP instance) pairs (N-ACTION, PS3.4 J.3.2).

        Returns when the peer has accepted the request. The result (N-EVENT-REPORT), on this association or another,
        goes to `Outbox.committed`. Raises a Failure when the request was not accepted.
        """
        ...


class Outbox:
    def __init__(self, database: Database, reading: Reading, trail: ReadAudit, clock: Callable[[], int]):
        self._database, self._reading, self._trail, self._clock = database, reading, trail, clock

    # ------------------------------------------------------------ orders

    async def order(  # noqa: PLR0913 - what an order says
        self,
        principal: Principal,
        peer: str,
        places: Sequence[Identity],
        *,
        ordered_by: str = "",
        message_id: int | None = None,
        priority: Priority = Priority.MEDIUM,
        syntax: str = "",
        begins: bool = False,
    ) -> list[Transfer]:
        """Send what is held under the places (an empty series or instance means all below) to a peer known by name.

        A C-MOVE gives its AE title as `ordered_by` and its message id. One transfer per study, in the order asked for.
        `begins`: who orders sends at once itself, as a C-MOVE always does; a runner takes over when it does not.
        Raises NotFound for an unknown peer or when nothing is held there; LimitExceeded, BadInput.
        """
        require(principal, Action.RETRIEVE if message_id is not None else Action.SEND)
        if len(places) > PLACES:
            raise LimitExceeded(f"an order names at most {PLACES} studies, series or instances, this one {len(places)}")
        if not places or any(not place.study for place in places):
            raise BadInput("an order names studies, or series and instances in them")
        why = Why.PERSON if message_id is None else Why.MOVE
        wish = Wish(
            principal.tenant.id, peer, "", why, ordered_by or principal.name, principal.name, self._clock(),
            message_id or 0, priority, syntax, HEAD_START if begins or message_id is not None else 0,
        )  # fmt: skip
        return await self._reading.run(self._order, wish, places)

    def _order(self, wish: Wish, places: Sequence[Identity]) -> list[Transfer]:
        with self._database.write() as tx:
            if accounts.peer(tx, wish.tenant_id, wish.peer) is None:
                raise NotFound(f"there is no peer '{wish.peer}'")
            found = outbox.selected(tx, wish.tenant_id, places)
            if not found:
                raise NotFound("nothing is held under this UID")
            made = [number for study, ids in found.items() for number in ordered(tx, wish, study, ids)]
            return [one for number in made if (one := outbox.get(tx, wish.tenant_id, number))]

    async def again(self, principal: Principal, number: int) -> Transfer:
        """Send what is missing of a transfer that failed, is held or was cancelled. Raises NotFound, Conflict."""
        require(principal, Action.SEND)

        def change(tx: Writer, now: int) -> bool:
            return sending.again(tx, principal.tenant.id, number, now)

        return await self._change(principal, number, "send again", change)

    async def cancel(self, principal: Principal, number: int) -> Transfer:
        """Send nothing more of a transfer; what has arrived stays there. Raises NotFound, Conflict."""
        require(principal, Action.SEND)

        def change(tx: Writer, now: int) -> bool:
            return sending.cancel(tx, principal.tenant.id, number, f"cancelled by {principal.name}", now)

        return await self._change(principal, number, "send cancelled", change)

    async def stop(self, principal: Principal, numbers: Sequence[int]) -> None:
        """C-CANCEL: who ordered transfers by C-MOVE ends those that have not ended."""
        require(principal, Action.RETRIEVE)

        def work() -> None:
            with self._database.write() as tx:
                for number in numbers:
                    found = outbox.get(tx, principal.tenant.id, number)
                    if found and found.why is Why.MOVE and found.principal == principal.name:
                        said = f"cancelled by {found.ordered_by} (C-CANCEL)"
                        sending.cancel(tx, principal.tenant.id, number, said, self._clock())

        await self._reading.run(work)

    async def _change(
        self, principal: Principal, number: int, action: str, change: Callable[[Writer, int], bool]
    ) -> Transfer:
        def work() -> Transfer:
            now = self._clock()
            with self._database.write() as tx:
                found = _known(tx, principal, number)
                if not change(tx, now):
                    raise Conflict(f"transfer {number} is {found.state.name.lower()}: there is nothing to change")
                event = AuditEvent(now, principal.tenant.id, principal.name, action, found.study, detail=found.peer)
                audit.insert(tx, [event])
                return _known(tx, principal, number)

        return await self._reading.run(work)

    # ------------------------------------------------------------ looking

    async def list(
        self, principal: Principal, limit: int = 100, before: int = 0, *, states: Sequence[State] = (), peer: str = ""
    ) -> list[Transfer]:
        """Latest first; `before` is the number the page before ended with."""
        require(principal, Action.SEND)
        found = await self._reading.look(
            lambda read: outbox.listed(read, principal.tenant.id, limit, before, states=states, peer=peer)
        )
        await self._trail.note(principal, "", "outbox", len(found))
        return found

    async def lags(self, principal: Principal) -> list[Lag]:
        """How far each destination is behind, and why: names of peers and figures, no patient. For whoever may see how the
        archive is."""
        require(principal, Action.STATUS)
        return await self._reading.look(lambda read: outbox.lags(read, principal.tenant.id))

    async def get(self, principal: Principal, number: int) -> Transfer:
        """Raises NotFound."""
        require(principal, Action.SEND)
        found = await self._reading.look(lambda read: _known(read, principal, number))
        await self._trail.note(principal, found.study, "outbox", 1)
        return found

    async def items(
        self, principal: Principal, number: int, limit: int = 100, after: int = 0, state: ItemState | None = None
    ) -> list[tuple[int, Item]]:
        """(position, item) of a transfer that has not been delivered whole. Raises NotFound."""
        require(principal, Action.SEND)

        def look(read: Reader) -> tuple[str, list[tuple[int, Item]]]:
            return _known(read, principal, number).study, outbox.items(read, number, limit, after, state)

        study, found = await self._reading.look(look)
        await self._trail.note(principal, study, "outbox", len(found))
        return found

    # ------------------------------------------------------------ what a peer reports

    async def committed(
        self, principal: Principal, transaction_uid: str, kept: Sequence[str], refused: Mapping[str, str]
    ) -> Transfer:
        """A storage commitment's result (N-EVENT-REPORT, PS3.4 J.3.3) for what we sent, by SOP Instance UID.

        refused: UID -> failure reason in words. Raises NotFound when nothing of ours waits for this transaction.
        """
        require(principal, Action.COMMIT)

        def work() -> Transfer:
            now = self._clock()
            with self._database.write() as tx:
                found = sending.awaiting(tx, principal.tenant.id, transaction_uid)
                if found is None:
                    raise NotFound("no transfer waits for this transaction UID")
                after = sending.settle(tx, found, kept, refused, now)
                detail = f"{found.peer}: {len(kept)} kept, {len(refused)} not"
                audit.insert(
                    tx, [AuditEvent(now, found.tenant_id, principal.name, "committed", found.study, detail=detail)]
                )
                return after

        return await self._reading.run(work)


def ordered(tx: Writer, wish: Wish, study: str, ids: Sequence[int]) -> list[int]:
    """Order instance rows of one study and leave the audit record in the same transaction; the transfers made."""
    made = outbox.put(tx, replace(wish, study=study), ids)
    if made:
        purpose = {Why.PERSON: "ordered", Why.RULE: f"rule {wish.ordered_by}", Why.MOVE: f"C-MOVE of {wish.ordered_by}"}
        purpose |= {Why.NOTE: f"note of {wish.ordered_by}"}
        event = AuditEvent(
            wish.at, wish.tenant_id, wish.principal, "send", study, purpose[wish.why], count=len(ids), detail=wish.peer
        )
        audit.insert(tx, [event])
    return made


def _known(read: Reader, principal: Principal, number: int) -> Transfer:
    found = outbox.get(read, principal.tenant.id, number)
    if found is None:
        raise NotFound(f"there is no transfer {number}")
    return found
