"""The objects of one Store request on their way into the archive.

Owns: the pipeline: an object is received while those before it become durable. Must never: let a failure of one object
concern another, or leave anything of an unfinished one. Limits: OUTSTANDING_MAX objects on their way to the disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from radiolith.dicom.reader import Scanner
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.receipts import Misplaced, Named, Outcomes, identity_of, mismatch
from radiolith.model import BadInput, Failure, NotAllowed, Receipt, Source

if TYPE_CHECKING:
    from radiolith.archive.ingest import Intake

OUTSTANDING_MAX = 64  # as many as a group commit takes; more would only wait there


class Reception:
    """The objects of one Store request on their way into the archive, one being received at a time."""

    def __init__(self, call: Call):
        self._call = call
        self._study = call.uid("study")
        self._category = call.names.get("category")  # of non-patient instances
        address = call.scope.get("client")
        self._source = Source("stow", call.principal.name, address[0] if address else "")
        self._intake: Intake | None = None
        self._scanner: Scanner | None = None
        self._named: Named | None = None  # who the object being received is, where its metadata said so
        self._waiting: deque[tuple[asyncio.Future[Receipt], Named | None]] = deque()
        self.outcomes = Outcomes(self._study)

    def begin(self, transfer_syntax: str | None = None, named: Named | None = None) -> None:
        """A new object. A failure that concerns only this one is noted; its bytes are then passed over."""
        self._named = named
        try:
            self._intake = self._call.archive.ingest.begin(
                self._call.principal, self._source, transfer_syntax=transfer_syntax
            )
        except NotAllowed:
            raise
        except Failure as failure:
            self.outcomes.fail(failure, named)
        # To refuse what belongs to another study before it is kept, its UID must be known before the archive is told
        # that the object is complete. Only a target URL that says what belongs there pays for this second look.
        self._scanner = Scanner(transfer_syntax=transfer_syntax) if self._study or self._category else None

    async def write(self, data: bytes | memoryview) -> None:
        intake = self._intake
        if intake is None:
            return
        try:
            await intake.write(data)
        except Failure as failure:
            await self._drop(failure)
            return
        if self._scanner is not None:
            try:
                self._scanner.feed(data)
            except BadInput:  # the archive will find the same, and keep it in quarantine
                self._scanner = None

    async def finish(self) -> None:
        """The object is complete; its receipt is waited for later."""
        intake = self._intake
        if intake is None:
            return None
        if not intake.size:
            return await self._drop(BadInput("a part is empty"))
        mismatch = self._mismatch()
        if mismatch is not None:
            return await self._drop(mismatch)
        self._intake = None
        try:
            self._waiting.append((await intake.finish(more=True), self._named))
        except Failure as failure:
            self.outcomes.fail(failure, self._named)
        if len(self._waiting) >= OUTSTANDING_MAX:  # no push: so many are several batches, which wait for nobody
            await self._take(*self._waiting.popleft())
        return None

    async def refuse(self, failure: Failure, named: Named | None = None) -> None:
        """The object being received cannot become one."""
        self._named = named
        await self._drop(failure)

    def _mismatch(self) -> Misplaced | None:
        if self._scanner is None:
            return None
        try:
            found = identity_of(self._scanner.finish())
        except BadInput:
            return None
        return mismatch(found, self._study, self._category, self._call.uid("instance"))

    async def _drop(self, failure: Failure) -> None:
        intake, self._intake = self._intake, None
        if intake is not None:
            await intake.abort()
        self.outcomes.fail(failure, self._named)

    async def _take(self, future: asyncio.Future[Receipt], named: Named | None) -> None:
        try:
            self.outcomes.take(await asyncio.shield(future))
        except Failure as failure:
            self.outcomes.fail(failure, named)

    async def settle(self) -> None:
        """Wait for all receipts."""
        self._call.archive.ingest.push()
        while self._waiting:
            await self._take(*self._waiting.popleft())

    async def broken(self, failure: Failure) -> None:
        """The body broke off: what is unfinished goes, what is complete counts."""
        intake, self._intake = self._intake, None
        if intake is not None:
            await intake.abort()
        await self.settle()
        self.outcomes.broken = failure

    async def abandon(self) -> None:
        """Nobody waits for the answer any more. What is complete is kept: the sender may have meant it."""
        intake, self._intake = self._intake, None
        if intake is not None:
            await intake.abort()
        for future, _ in self._waiting:
            future.add_done_callback(_seen)


def _seen(future: asyncio.Future[Receipt]) -> None:
    if not future.cancelled():
        future.exception()
