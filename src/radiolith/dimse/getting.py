"""The C-GET service on an association (PS3.4 C.4.3).

Owns: the conversation: sub-operations on the same association, their counters, cancel, the last response. Must never: find or
read anything itself. Limits: what is named is located an entity at a time; COUNTED instances are located before the first is
sent, so that the counters are right; beyond, `remaining` grows while the rest is being located.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from radiolith.archive.outbox import Result
from radiolith.dicom import syntax
from radiolith.dimse.answers import Headers
from radiolith.dimse.find import located
from radiolith.dimse.identifiers import read_retrieval
from radiolith.dimse.infomodels import MODELS, Negotiated
from radiolith.dimse.operation import Operation
from radiolith.dimse.status import Status, comment
from radiolith.dimse.suboperations import send
from radiolith.model import Held

COUNTED = 20_000
"""Instances held as rows of 1 KiB before the first is sent."""
TOLD_EACH = 32
"""Sub-operations that get a pending response each."""
TOLD_EVERY = 0.1
"""Seconds between two pending responses from there on: people see it move, and a peer that waits hears of us. One for each
sub-operation of a long series is a write and a wake-up of the peer beside every image (`bench/compare.py --only cmove`)."""
FAILED_UIDS_MAX = 1_000
"""UIDs in a Failed SOP Instance UID List: 64 KiB, as much as its explicit VR can hold."""
_FAILED_LIST = 0x00080058


class Counters:
    """Sub-operations by how they ended (PS3.4 C.4.2.1.6)."""

    def __init__(self) -> None:
        self.remaining = self.completed = self.failed = self.warnings = 0
        self.failed_uids: list[str] = []
        self.said = ""  # why the first that failed did
        self.located = False  # all that is named: before that, `remaining` is not all
        self._told = 0.0

    def count(self, sop: str, status: int) -> None:
        self.remaining -= 1
        if status == Status.SUCCESS:
            self.completed += 1
        elif status & 0xF000 == 0xB000:
            self.warnings += 1
        else:
            self.failed += 1
            if len(self.failed_uids) < FAILED_UIDS_MAX:
                self.failed_uids.append(sop)

    def tell(self, operation: Operation, result: Result) -> None:
        """Count one, and say how far it is: after each of the first, later where the last time is TOLD_EVERY ago."""
        self.count(result.instance.identity.sop, result.status)
        if self.failed == 1 and not self.said:
            self.said = result.reason
        now = time.monotonic()
        due = self.completed + self.failed + self.warnings <= TOLD_EACH or now - self._told >= TOLD_EVERY
        if due and self.remaining > 0 and not operation.cancelled:
            self._told = now
            operation.respond(Status.PENDING, None, **self.fields(remaining=True))

    def fields(self, *, remaining: bool) -> dict[str, int]:
        """`remaining` is in pending and cancelled responses only."""
        told = {
            "NumberOfCompletedSuboperations": min(self.completed, 0xFFFF),
            "NumberOfFailedSuboperations": min(self.failed, 0xFFFF),
            "NumberOfWarningSuboperations": min(self.warnings, 0xFFFF),
        }
        return told | ({"NumberOfRemainingSuboperations": min(self.remaining, 0xFFFF)} if remaining else {})

    def status(self) -> int:
        """Of the last response."""
        if not self.failed and not self.warnings:
            return Status.SUCCESS
        return Status.SUBOPERATIONS_FAILED if self.completed or self.warnings else Status.NO_SUBOPERATIONS

    def end(self, operation: Operation, said: str = "") -> None:
        """The last response, with the list of what failed, and why in words where it is known."""
        early = self.remaining > 0 or not self.located
        status = Status.CANCEL if operation.cancelled and early else self.status()
        data = None
        if self.failed_uids:
            headers = Headers(syntax.encoding(operation.context.transfer_syntax))
            uids = "\\".join(self.failed_uids).encode("ascii", "replace")
            data = headers.element(_FAILED_LIST, "UI", uids + b"\0" * (len(uids) % 2))
        fields: dict[str, int | str] = {**self.fields(remaining=status == Status.CANCEL)}
        if said and status != Status.SUCCESS:
            fields["ErrorComment"] = said
        operation.respond(status, data, **fields)


async def serve(operation: Operation) -> None:
    """Answer one C-GET-RQ; what it raises before the first sub-operation is a failure for `status.trouble`."""
    counters = Counters()
    async with aclosing(_portions(operation, counters)) as portions:
        async for helds in portions:
            await _send(operation, helds, counters)
            if operation.cancelled:
                break
    counters.end(operation, comment(counters.said))


async def _send(operation: Operation, helds: list[Held], counters: Counters) -> None:
    """Up to a cancel: what is under way then is counted as it ends."""
    results = send(
        operation.archive.retrieve, operation.sender, operation.contexts, helds, stop=lambda: operation.cancelled
    )
    async with aclosing(results):
        async for result in results:
            counters.tell(operation, result)


async def _portions(operation: Operation, counters: Counters) -> AsyncGenerator[list[Held], None]:
    """What is named, in portions to send: the first COUNTED together."""
    context, caller = operation.context, operation.caller
    negotiated = Negotiated.of(context.extended)
    wanted = read_retrieval(operation.data, context.transfer_syntax, MODELS[context.abstract_syntax], negotiated)
    first: list[Held] = []
    counting = True
    found = located(operation.archive, caller.principal, wanted, purpose="C-GET", cancelled=lambda: operation.cancelled)
    async with aclosing(found):
        async for helds in found:
            counters.remaining += len(helds)
            if not counting:
                yield helds
                continue
            first += helds
            if len(first) >= COUNTED:
                counting = False
                yield first
                first = []
    counters.located = not operation.cancelled
    if first:
        yield first
