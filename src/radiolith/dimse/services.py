"""What is served: command and SOP class to the function that does it. The one table; nothing else dispatches.

Owns: the table and the offer that negotiation makes from the same rows, so that what is accepted is what is served. Must
never: do a service's work itself, but for Verification, which has none. C-STORE is not in the table: its data set streams
(`reception`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from radiolith.dimse import availability, committed, committing, getting, infomodels, moving, querying, sopclasses
from radiolith.dimse.association import Accepts, Context, Offer
from radiolith.dimse.commands import COMMANDS, FIELD, Command
from radiolith.dimse.items import Window
from radiolith.dimse.operation import Operation
from radiolith.dimse.status import Service, Status

Serve = Callable[[Operation], Awaitable[None]]

WINDOW = Window(16, 16)
"""Operations a requestor may have outstanding, where it asks for more than one: `exchange.OPERATIONS_MAX`."""


async def echo(operation: Operation) -> None:
    operation.respond(Status.SUCCESS)


_MODELS = (sopclasses.PATIENT_ROOT, sopclasses.STUDY_ROOT, sopclasses.PATIENT_STUDY_ONLY)
_FINDS = tuple(model.find for model in _MODELS)
_MOVES = tuple(model.move for model in (*_MODELS, sopclasses.COMPOSITE_ROOT))
_GETS = tuple(model.get for model in (*_MODELS, sopclasses.COMPOSITE_ROOT))

SERVICES: dict[tuple[int, str], Serve] = {
    (FIELD["C-ECHO-RQ"], sopclasses.VERIFICATION): echo,
    **{(FIELD["C-FIND-RQ"], sop_class): querying.serve for sop_class in _FINDS},
    **{(FIELD["C-GET-RQ"], sop_class): getting.serve for sop_class in _GETS},
    **{(FIELD["C-MOVE-RQ"], sop_class): moving.serve for sop_class in _MOVES},
    (FIELD["N-ACTION-RQ"], sopclasses.STORAGE_COMMITMENT): committing.serve,
    (FIELD["N-EVENT-REPORT-RQ"], sopclasses.STORAGE_COMMITMENT): committed.serving(committed.to_outbox),
    (FIELD["N-CREATE-RQ"], sopclasses.INSTANCE_AVAILABILITY): availability.serve,
}

_OTHERS = frozenset(sop_class for _, sop_class in SERVICES)
_OF_FIELD = {
    FIELD["C-STORE-RQ"]: Service.STORE,
    FIELD["C-FIND-RQ"]: Service.FIND,
    FIELD["C-MOVE-RQ"]: Service.RETRIEVE,
    FIELD["C-GET-RQ"]: Service.RETRIEVE,
}


def stores(context: Context) -> bool:
    """Whether objects may be sent to us in this context: it was accepted for that, not for another service."""
    return context.scp and context.abstract_syntax not in _OTHERS


def service_of(command: Command) -> Service:
    """Which table of statuses holds for a command."""
    return _OF_FIELD.get(command.field, Service.NORMALIZED)


_WORDS = {
    "C-ECHO-RQ": "echo",
    "C-FIND-RQ": "find",
    "C-MOVE-RQ": "move",
    "C-GET-RQ": "get",
    "N-ACTION-RQ": "commit",
    "N-EVENT-REPORT-RQ": "commit",
    "N-CREATE-RQ": "store",
}
"""Request -> its word in `trust.devices.SERVICES`."""


def restricted(offered: Offer, words: frozenset[str]) -> Offer:
    """The offer to a peer that may ask for these services alone (none: for all). Storage stays where it may C-GET."""
    if not words:
        return offered
    served = {sop_class: _WORDS[COMMANDS[field].name] for field, sop_class in SERVICES}
    accepts = {
        sop_class: replace(how, scp=how.scp and "store" in words) if sop_class not in served else how
        for sop_class, how in offered.accepts.items()
        if served.get(sop_class, "store" if "store" in words else "get") in words
    }
    return replace(offered, accepts=accepts, unknown=offered.unknown if "store" in words else None)


def offer(max_length: int, unknown_storage: bool) -> Offer:
    """What is accepted: every storage class in every syntax that is kept as it comes, and the services of the table."""
    storage = Accepts(sopclasses.KEPT, scp=True, scu=True)
    accepts = dict.fromkeys(sopclasses.STORAGE, storage)
    plain = Accepts(sopclasses.UNCOMPRESSED)
    accepts |= {sop_class: plain for _, sop_class in SERVICES}
    accepts |= dict.fromkeys(_FINDS, Accepts(sopclasses.UNCOMPRESSED, extended=infomodels.answer_query))
    accepts |= dict.fromkeys(_MOVES + _GETS, Accepts(sopclasses.UNCOMPRESSED, extended=infomodels.answer_retrieval))
    accepts[sopclasses.STORAGE_COMMITMENT] = Accepts(sopclasses.UNCOMPRESSED, scp=True, scu=True)  # we ask others too
    return Offer(accepts, storage if unknown_storage else None, max_length, WINDOW)
