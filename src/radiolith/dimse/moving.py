"""The C-MOVE service (PS3.4 C.4.2): what is named is ordered in the outbox, and sent at once by whoever was asked.

Owns: the conversation: counters while it goes, cancel, the last response. Must never: send to an AE title that is no peer, or
lose an order: it is durable before the first instance goes, and when this process ends in the middle, or who asked goes away
without C-CANCEL, the outbox goes on with what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from radiolith.archive.outbox import PLACES, Outbox, Peer, Priority, Result
from radiolith.dimse.find import located
from radiolith.dimse.getting import Counters
from radiolith.dimse.identifiers import Retrieval, read_retrieval
from radiolith.dimse.infomodels import MODELS, Negotiated
from radiolith.dimse.operation import Operation
from radiolith.dimse.status import Refused, Status, comment
from radiolith.jobs.outbox import Sender
from radiolith.jobs.outcomes import Interruption
from radiolith.model import Identity, Level, LimitExceeded, Tenant

HEARD_EVERY = 0.2
"""Seconds between two looks whether the move was cancelled: it has to be honoured within one."""
_PRIORITIES = {0: Priority.MEDIUM, 1: Priority.HIGH, 2: Priority.LOW}  # (0000,0700), PS3.7 9.1.4


@dataclass(frozen=True, slots=True)
class Moving:
    """What this service needs of its process. `peer`: the peer of a tenant with this AE title."""

    outbox: Outbox
    sender: Sender
    peer: Callable[[Tenant, str], Awaitable[Peer | None]]


async def serve(operation: Operation) -> None:
    """Answer one C-MOVE-RQ; what it raises is a failure for `status.trouble`."""
    moving, caller = operation.moving, operation.caller
    destination = operation.command.text("MoveDestination")
    peer = await moving.peer(caller.principal.tenant, destination) if moving and destination else None
    if moving is None or peer is None:
        raise Refused(Status.DESTINATION_UNKNOWN, f"'{destination[:16]}' is no peer of this archive")
    counters = Counters()
    places = await _places(operation)
    counters.located = not operation.cancelled
    if not places or operation.cancelled:
        counters.end(operation)
        return
    transfers = await moving.outbox.order(
        caller.principal,
        peer.name,
        places,
        ordered_by=caller.calling,
        message_id=operation.command.message_id,
        priority=_PRIORITIES.get(operation.command.number("Priority"), Priority.MEDIUM),
    )
    counters.remaining = sum(transfer.total for transfer in transfers)
    said = ""
    waiting = [transfer.id for transfer in transfers]
    try:
        while waiting and not operation.cancelled:
            number = waiting.pop(0)
            said = await _send(operation, moving, (number, waiting), counters) or said
    except asyncio.CancelledError:
        if not operation.gone:  # C-CANCEL was the last that was heard
            await moving.outbox.stop(caller.principal, [transfer.id for transfer in transfers])
        raise
    if operation.cancelled:
        await moving.outbox.stop(caller.principal, [transfer.id for transfer in transfers])
    else:  # what had no answer stays in the outbox; of this move it has failed
        counters.failed += counters.remaining
        counters.remaining = 0
    counters.end(operation, comment(said))


async def _places(operation: Operation) -> list[Identity]:
    """What is named and held, at its level; found, authorised and audited as for every other retrieval."""
    context = operation.context
    wanted = read_retrieval(
        operation.data, context.transfer_syntax, MODELS[context.abstract_syntax], Negotiated.of(context.extended)
    )
    places: dict[Identity, None] = {}
    found = located(
        operation.archive,
        operation.caller.principal,
        wanted,
        purpose="C-MOVE",
        cancelled=lambda: operation.cancelled,
    )
    async with aclosing(found):
        async for helds in found:
            places |= dict.fromkeys(_place(wanted, held.identity) for held in helds)
            if len(places) > PLACES:
                raise LimitExceeded(f"more than {PLACES} series or instances in one move; ask study by study")
    return list(places)


def _place(wanted: Retrieval, identity: Identity) -> Identity:
    if wanted.level is Level.INSTANCE:
        return identity
    return Identity(identity.study, identity.series if wanted.level is Level.SERIES else "", "")


async def _send(operation: Operation, moving: Moving, turn: tuple[int, list[int]], counters: Counters) -> str:
    """Send one transfer of the order while the others wait behind it; why something of it was not sent, or ''."""
    number, behind = turn

    def told(result: Result) -> None:
        counters.tell(operation, result)

    def interrupted() -> Interruption:
        if operation.gone:
            return Interruption(f"interrupted: {operation.gone}; the rest is sent all the same")
        return Interruption(f"cancelled by {operation.caller.calling} (C-CANCEL)", handed_on=False)

    run = moving.sender.run(number, told, early=True, behind=tuple(behind), interrupted=interrupted)
    sending = asyncio.ensure_future(run)
    try:
        while not (await asyncio.wait({sending}, timeout=HEARD_EVERY))[0]:
            if operation.cancelled:
                return ""
        after = sending.result()
        return after.said if after is not None else "another process sends it"
    finally:
        if not sending.done():
            sending.cancel()
            await asyncio.wait({sending})
