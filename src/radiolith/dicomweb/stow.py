"""Store Transaction (PS3.18 10.5): what comes in goes to the archive part by part while it arrives.

Owns: the forms a Store request can have. Must never: keep a part, or wait for one to be durable before the next is
received; the answer waits for all.

A body that breaks off is answered with 400 and says what was stored before it broke; of the unfinished part nothing
stays. Limits: OUTSTANDING_MAX parts on their way to the disk at a time; the rest as in multipart, call and archive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from radiolith.dicom.reader import Scanner
from radiolith.dicomweb import accept
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.multipart import End, Parser, Part, checked_boundary
from radiolith.dicomweb.receipts import Outcomes, StudyMismatch, identity_of
from radiolith.dicomweb.resources import Reply
from radiolith.dicomweb.status import UnsupportedMedia
from radiolith.dicomweb.zipin import members
from radiolith.model import BadInput, Failure, NotAllowed, Receipt, Source

if TYPE_CHECKING:
    from radiolith.archive.ingest import Intake

OUTSTANDING_MAX = 64  # as many as a group commit takes; more would only wait there
OBJECT = "application/dicom"
DOCUMENTS = ("application/dicom+json", "application/dicom+xml", "application/json")
ZIP = ("application/zip", "application/x-zip-compressed")


async def store(call: Call) -> Reply:
    """POST /studies and /studies/{s}."""
    call.check_parameters()
    wish = accept.documents(call.accepted(), "the response")
    reception = Reception(call)
    try:
        try:
            await _receive(call, reception)
        except BadInput as failure:
            await reception.broken(failure)
            if not reception.outcomes.kept:
                raise
        await reception.settle()
    except BaseException:
        await reception.abandon()
        raise
    return reception.outcomes.reply(call, wish)


async def _receive(call: Call, reception: Reception) -> None:
    media, parameters = call.content_type()
    if media == "multipart/related":
        await _multipart(call, reception, parameters)
    elif media == OBJECT:
        await _single(call, reception)
    elif media in ZIP:
        await _members(reception, members(call.body()))
    else:
        raise UnsupportedMedia(f"a Store request is multipart/related, {OBJECT} or {ZIP[0]}")


async def _multipart(call: Call, reception: Reception, parameters: dict[str, str]) -> None:
    root = parameters.get("type", OBJECT).lower()
    boundary = checked_boundary(parameters.get("boundary"))
    parser = Parser(boundary, header_bytes_max=call.limits.part_header_bytes)
    if root == OBJECT:
        await _objects(call, reception, parser)
    elif root in DOCUMENTS:
        from radiolith.dicomweb.assemble import Assembly

        await Assembly(call, reception).run(parser)
    else:
        raise UnsupportedMedia(f"the parts of a Store request are {OBJECT}, {DOCUMENTS[0]} or {DOCUMENTS[1]}")
    parser.finish()


async def _objects(call: Call, reception: Reception, parser: Parser) -> None:
    """Hot: a CT slice is eight pieces through this loop."""
    async for piece in call.body():
        for event in parser.feed(piece):
            if isinstance(event, memoryview | bytes):
                await reception.write(event)
            elif isinstance(event, Part):
                media = event.headers.get("content-type", OBJECT).partition(";")[0].strip().lower()
                if media == OBJECT:
                    reception.begin()
                else:
                    reception.outcomes.fail(UnsupportedMedia(f"a part is {media[:64]}, not {OBJECT}"))
            elif event is End.PART:
                await reception.finish()


async def _single(call: Call, reception: Reception) -> None:
    reception.begin()
    async for piece in call.body():
        await reception.write(piece)
    await reception.finish()


async def _members(reception: Reception, pieces: AsyncIterator[bytes | None]) -> None:
    """Members of a ZIP: their bytes, and None behind each."""
    begun = False
    async for piece in pieces:
        if not begun:
            reception.begin()
        begun = piece is not None
        if piece is None:
            await reception.finish()
        else:
            await reception.write(piece)


class Reception:
    """The objects of one Store request on their way into the archive, one being received at a time."""

    def __init__(self, call: Call):
        self._call = call
        self._study = call.uid("study")
        address = call.scope.get("client")
        self._source = Source("stow", call.principal.name, address[0] if address else "")
        self._intake: Intake | None = None
        self._scanner: Scanner | None = None
        self._waiting: deque[asyncio.Future[Receipt]] = deque()
        self.outcomes = Outcomes(self._study)

    def begin(self, transfer_syntax: str | None = None) -> None:
        """A new object. A failure that concerns only this one is noted; its bytes are then passed over."""
        try:
            self._intake = self._call.archive.ingest.begin(
                self._call.principal, self._source, transfer_syntax=transfer_syntax
            )
        except NotAllowed:
            raise
        except Failure as failure:
            self.outcomes.fail(failure)
        # To refuse what belongs to another study before it is kept, its UID must be known before the archive is told
        # that the object is complete. Only POST /studies/{s} pays for this second look.
        self._scanner = Scanner(transfer_syntax=transfer_syntax) if self._study else None

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
            self._waiting.append(await intake.finish())
        except Failure as failure:
            self.outcomes.fail(failure)
        if len(self._waiting) >= OUTSTANDING_MAX:
            await self._take(self._waiting.popleft())
        return None

    async def refuse(self, failure: Failure) -> None:
        """The object being received cannot become one."""
        await self._drop(failure)

    def _mismatch(self) -> StudyMismatch | None:
        if self._scanner is None:
            return None
        try:
            found = identity_of(self._scanner.finish())
        except BadInput:
            return None
        wrong = found.study and found.study != self._study
        return StudyMismatch(found) if wrong else None

    async def _drop(self, failure: Failure) -> None:
        intake, self._intake = self._intake, None
        if intake is not None:
            await intake.abort()
        self.outcomes.fail(failure)

    async def _take(self, future: asyncio.Future[Receipt]) -> None:
        try:
            self.outcomes.take(await asyncio.shield(future))
        except Failure as failure:
            self.outcomes.fail(failure)

    async def settle(self) -> None:
        """Wait for all receipts."""
        while self._waiting:
            await self._take(self._waiting.popleft())

    async def broken(self, failure: BadInput) -> None:
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
        for future in self._waiting:
            future.add_done_callback(_seen)


def _seen(future: asyncio.Future[Receipt]) -> None:
    if not future.cancelled():
        future.exception()
