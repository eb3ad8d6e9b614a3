"""Data sets on their way in: an object straight into the archive, an identifier into memory.

Owns: what happens between a command and its last fragment, and the status of a C-STORE. Must never: hold an object, or
refuse one because its identity looks wrong: the archive decides what it is (DESIGN 2.3).

Limits: `operation.DATA_SET_MAX` and ACTION_MAX bytes of a data set that is no object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from radiolith.dimse.commands import FIELD
from radiolith.dimse.operation import ACTION_MAX, DATA_SET_MAX, Operation
from radiolith.dimse.services import service_of
from radiolith.dimse.status import Service, Status, Trouble, comment, trouble
from radiolith.model import BadInput, Failure, LimitExceeded, Receipt, Source, Unavailable

if TYPE_CHECKING:
    from radiolith.archive.ingest import Intake

_LONG = (FIELD["N-ACTION-RQ"], FIELD["N-EVENT-REPORT-RQ"])
DOES_NOT_MATCH = 0xB007
"""Warning: data set does not match SOP class (PS3.4 table B.2-1): the object is kept as what it says it is."""


class Storing:
    """A C-STORE: `done` is called once it was answered."""

    def __init__(self, operation: Operation, done: Callable[[Operation], None]):
        self._operation, self._done = operation, done
        self._trouble: Trouble | None = None
        self._intake: Intake | None = None
        caller = operation.caller
        source = Source("dimse", caller.calling, caller.address)
        try:
            self._intake = operation.archive.ingest.begin(
                caller.principal, source, transfer_syntax=operation.context.transfer_syntax
            )
        except Failure as failure:
            self._trouble = trouble(Service.STORE, failure)

    async def feed(self, data: memoryview) -> None:
        """The next bytes; of an object that was refused they are passed over, as the protocol wants them read."""
        if self._intake is None:
            return
        try:
            await self._intake.write(data)
        except Failure as failure:
            await self._refuse(failure)

    async def finish(self) -> None:
        """The object is complete; it is answered once it is durable."""
        intake, self._intake = self._intake, None
        if intake is not None:
            try:
                if not intake.size:
                    await intake.abort()
                    raise BadInput("there is no data set")
                future = await intake.finish()
            except Failure as failure:
                self._trouble = trouble(Service.STORE, failure)
            else:
                future.add_done_callback(self._settled)
                return
        self._answer()

    async def abort(self) -> None:
        """The association ended in the middle: nothing of the object stays."""
        intake, self._intake = self._intake, None
        if intake is not None:
            await intake.abort()
        self._done(self._operation)

    async def _refuse(self, failure: Failure) -> None:
        intake, self._intake = self._intake, None
        self._trouble = trouble(Service.STORE, failure)
        if intake is not None:
            await intake.abort()

    def _settled(self, future: asyncio.Future[Receipt]) -> None:
        failure = None if future.cancelled() else future.exception()
        if future.cancelled() or failure is not None:
            self._trouble = trouble(Service.STORE, failure or Unavailable("the archive is stopping"))
            self._answer()
            return
        receipt, command = future.result(), self._operation.command
        text = _differs(receipt, command.sop_class, command.sop_instance)
        if text:
            self._operation.respond(DOES_NOT_MATCH, ErrorComment=comment(text))
        else:
            self._operation.respond(Status.SUCCESS)
        self._done(self._operation)

    def _answer(self) -> None:
        assert self._trouble is not None
        self._operation.fail(self._trouble)
        self._done(self._operation)


def _differs(receipt: Receipt, sop_class: str, sop_instance: str) -> str:
    """What the command said of the object that the object does not say of itself."""
    if receipt.identity is None:
        return ""  # in quarantine, with its reason: nothing is lost, and the sender can do nothing about it
    if receipt.sop_class != sop_class:
        return "kept; the data set has another SOP class than the command"
    if receipt.identity.sop != sop_instance:
        return "kept; the data set has another SOP instance than the command"
    return ""


class Collecting:
    """A data set that is no object: whole, then `begin`."""

    def __init__(self, operation: Operation, begin: Callable[[Operation], None]):
        self._operation, self._begin = operation, begin
        self._data = bytearray()
        self._limit = ACTION_MAX if operation.command.field in _LONG else DATA_SET_MAX
        self._over = False

    async def feed(self, data: memoryview) -> None:
        self._over = self._over or len(self._data) + len(data) > self._limit
        if not self._over:
            self._data += data

    async def finish(self) -> None:
        if self._over:
            failure = LimitExceeded(f"a data set of more than {self._limit} bytes")
            self._operation.fail(trouble(service_of(self._operation.command), failure))
            return
        self._operation.data = bytes(self._data)
        self._begin(self._operation)

    async def abort(self) -> None:
        self._over = True
