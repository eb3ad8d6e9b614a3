"""C-STORE sub-operations: many instances over the contexts of one association, for C-GET, C-MOVE and everything that sends.

Owns: which context an instance takes, and that one which cannot be sent does not stand in the way of the others. Must never:
open an association, or hold an object. The stored transfer syntax travels untouched where the peer takes it; else the
archive makes one that it takes.

Limits: what `Retrieve.ahead` reads ahead: two blocks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from types import MappingProxyType
from typing import NamedTuple

from radiolith.archive.outbox import Result
from radiolith.archive.ports import Stream
from radiolith.archive.retrieve import BLOCK_OBJECTS, Retrieve
from radiolith.dicom.part10 import file_meta
from radiolith.dimse.association import Context
from radiolith.dimse.commands import Command, Plain
from radiolith.dimse.messages import Buffer
from radiolith.dimse.sending import Prepared, Put, Sender
from radiolith.dimse.sopclasses import UNCOMPRESSED
from radiolith.dimse.status import Service, Status, comment, trouble
from radiolith.model import Failure, Held, Unsupported

NO_CONTEXT = "the peer accepted no presentation context for its SOP class"
_RUN = 256  # instances read ahead in one go: of the same class and syntax
SMALL = 1 << 20  # bytes of an object that is read and cut while the one before is on its way; a slice is half of it

_Waiting = tuple[Held, Put]


class _Streamed(NamedTuple):
    """What `Sender.put` and `Sender.prepare` take."""

    context: Context
    command: Command
    pieces: AsyncGenerator[Buffer, None]
    total: int | None


Ways = dict[str, dict[str, Context]]


def ways(contexts: Mapping[int, Context]) -> Ways:
    """SOP class -> transfer syntax -> the context in which we may send it."""
    found: Ways = {}
    for context in contexts.values():
        if context.scu:
            found.setdefault(context.abstract_syntax, {})[context.transfer_syntax] = context
    return found


async def send(
    retrieve: Retrieve,
    sender: Sender,
    contexts: Mapping[int, Context],
    helds: Sequence[Held],
    prefer: str = "",
    *,
    fields: Mapping[str, Plain] = MappingProxyType({}),
    stop: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Result, None]:
    """Send each and tell what the peer answered, in order. `fields` go into every C-STORE-RQ (move originator, priority);
    `prefer` is the transfer syntax to send in where the peer takes it and it can be made, '' the stored one. `stop`: asked
    before each, whether to end behind what is under way.

    What the peer answered is told when the next is on its way: whoever notes it does so while the peer works. Whoever
    ends listening in the middle, and not by `stop`, does not hear what became of that one.

    Raises Lost, TimeoutError when the association is over: the rest was not sent.
    """
    waiting: _Waiting | None = None
    try:
        async with aclosing(_ready((retrieve, sender), ways(contexts), helds, prefer, fields)) as ready:
            async for held, found in ready:
                asked, waiting = waiting, None
                answered = await _answered(sender, asked)
                if stop():
                    if answered is not None:
                        yield answered
                    return
                if answered is not None and not isinstance(found, Prepared):
                    yield answered
                    answered = None
                if isinstance(found, Result):
                    yield found
                    continue
                try:
                    waiting = held, await _put(sender, found)
                except Exception:
                    if answered is not None:
                        yield answered
                    raise
                if answered is not None:
                    yield answered
            asked, waiting = waiting, None
            answered = await _answered(sender, asked)
            if answered is not None:
                yield answered
    finally:
        if waiting is not None:
            sender.forget(waiting[1])


async def _answered(sender: Sender, waiting: _Waiting | None) -> Result | None:
    """What the peer says to the one that is on its way; None where there is none."""
    if waiting is None:
        return None
    held, put = waiting
    answer = await sender.response(put)
    return Result(held, answer.status, comment(answer.text("ErrorComment")))


async def _ready(
    ends: tuple[Retrieve, Sender], table: Ways, helds: Sequence[Held], prefer: str, fields: Mapping[str, Plain]
) -> AsyncGenerator[tuple[Held, Prepared | _Streamed | Result], None]:
    """Each with all that is to be sent, or why it cannot be. A small one has been read and cut already: what fails then has
    cost the association nothing."""
    retrieve, sender = ends
    for run, direct in _runs(helds, table, prefer):
        streams = _ahead(retrieve, run) if direct else _one_by_one(retrieve, run, table, prefer)
        async with aclosing(streams):
            async for held, found in streams:
                if isinstance(found, Result):
                    yield held, found
                    continue
                streamed = _streamed(sender, table[held.sop_class][found.syntax], held, found, fields)
                if streamed.total is None or streamed.total > SMALL:
                    yield held, streamed
                    continue
                try:
                    yield (
                        held,
                        await sender.prepare(streamed.context, streamed.command, streamed.pieces, streamed.total),
                    )
                except (Failure, ValueError) as failure:
                    yield held, _failed(held, failure)


def _runs(helds: Sequence[Held], table: Ways, prefer: str) -> Iterator[tuple[list[Held], bool]]:
    """Neighbours that go as they are stored, read ahead together; and those that do not, by themselves."""
    run: list[Held] = []
    kind = True
    for held in helds:
        stored, accepted = held.layout.transfer_syntax, table.get(held.sop_class, {})
        direct = stored in accepted and (stored == prefer or prefer not in accepted)
        if run and (direct is not kind or len(run) == _RUN):
            yield run, kind
            run = []
        kind = direct
        run.append(held)
    if run:
        yield run, kind


async def _ahead(retrieve: Retrieve, helds: Sequence[Held]) -> AsyncGenerator[tuple[Held, Stream | Result], None]:
    """As stored. Where one of a block cannot be read, those of the block are read one at a time to find out which."""
    at = alone = 0
    while at < len(helds):
        run = helds[at : at + 1] if alone else helds[at:]
        alone = max(0, alone - 1)
        try:
            async with aclosing(retrieve.ahead(run)) as streams:
                async for held, stream in streams:
                    at += 1
                    yield held, stream
        except Failure as failure:
            if len(run) > 1:
                alone = BLOCK_OBJECTS
                continue
            yield helds[at], _failed(helds[at], failure)
            at += 1


async def _one_by_one(
    retrieve: Retrieve, helds: Sequence[Held], table: Ways, prefer: str
) -> AsyncGenerator[tuple[Held, Stream | Result], None]:
    """In another syntax, an uncompressed one first: what was compressed for other instances may not be made for this one."""
    for held in helds:
        accepted = table.get(held.sop_class, {})
        if not accepted:
            yield held, Result(held, Status.SOP_CLASS_NOT_SUPPORTED, NO_CONTEXT)
            continue
        found: Stream | Result | None = None
        if prefer in accepted:
            with suppress(Unsupported):
                found = await retrieve.part10(held, (prefer,))
        try:
            accept = sorted(accepted, key=lambda uid: uid not in UNCOMPRESSED)
            yield held, found or await retrieve.part10(held, accept)
        except Failure as failure:
            yield held, _failed(held, failure)


def _failed(held: Held, failure: Failure | ValueError) -> Result:
    status, words, _ = trouble(Service.STORE, failure)
    return Result(held, status, words)


def _streamed(sender: Sender, context: Context, held: Held, stream: Stream, fields: Mapping[str, Plain]) -> _Streamed:
    command = Command.of(
        "C-STORE-RQ",
        True,
        AffectedSOPClassUID=held.sop_class,
        AffectedSOPInstanceUID=held.identity.sop,
        MessageID=sender.next_id(),
        **{"Priority": 0, **fields},
    )
    meta = len(file_meta(held.sop_class, held.identity.sop, stream.syntax))
    total = None if stream.size is None else stream.size - meta
    return _Streamed(context, command, _behind(stream, meta), total)


async def _put(sender: Sender, found: Prepared | _Streamed) -> Put:
    return await (sender.put_whole(found) if isinstance(found, Prepared) else sender.put(*found))


async def _behind(stream: Stream, skip: int) -> AsyncGenerator[Buffer, None]:
    """The data set: what follows the file meta."""
    async for piece in stream.chunks():
        if skip < len(piece):
            yield memoryview(piece)[skip:] if skip else piece
        skip = max(0, skip - len(piece))
