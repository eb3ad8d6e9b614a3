"""DICOM files between a folder and a peer, beside the archive: sent as they are, or written as they come.

Owns: what a file is (class, instance, transfer syntax, where its dataset lies) and the bytes of a written one. Must never: change
a dataset, hold one, or let a peer choose a path.

Limits: PIECE bytes in memory of a file on its way.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from radiolith.dicom.naming import name_of
from radiolith.dicom.part10 import file_meta
from radiolith.dicom.reader import scan
from radiolith.dimse.calls import Target
from radiolith.dimse.commands import Command
from radiolith.dimse.delivery import Cargo, Pair, carry
from radiolith.dimse.exchange import Done
from radiolith.dimse.messages import Buffer
from radiolith.dimse.operation import Operation
from radiolith.dimse.scu import Association
from radiolith.dimse.status import Status, comment
from radiolith.dimse.suboperations import NO_CONTEXT, ways
from radiolith.model import BadInput

PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class DicomFile:
    """`start` and `end`: of the dataset in the file, in bytes."""

    path: Path
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Sent:
    """What the peer answered for a file; `reason` is its Error Comment or a sentence."""

    file: DicomFile
    status: int
    reason: str = ""


def look(path: Path) -> DicomFile:
    """Raises BadInput with the reason when the file cannot be sent; OSError."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise BadInput("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            found = scan(view)
    if found.is_dicomdir:
        raise BadInput("a media directory is no instance")
    sop_class, sop_instance, layout = found.sop_class, found.identity.sop, found.layout
    if not sop_class or not sop_instance:
        raise BadInput("it has no SOP Class UID or no SOP Instance UID")
    return DicomFile(path, sop_class, sop_instance, layout.transfer_syntax, layout.dataset_start, layout.dataset_end)


def below(paths: Sequence[Path]) -> list[Path]:
    """The files named and those in the folders named, without following links out of them."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(each for each in path.rglob("*") if each.is_file() and not each.is_symlink())
        else:
            found.append(path)
    return found


# ---------------------------------------------------------------- out


class _Files(Cargo[DicomFile, Sent]):
    def pair(self, item: DicomFile) -> Pair:
        return item.sop_class, item.transfer_syntax

    async def over(self, association: Association, items: Sequence[DicomFile]) -> AsyncGenerator[Sent]:
        table = ways(association.contexts)
        for item in items:
            context = table.get(item.sop_class, {}).get(item.transfer_syntax)
            if context is None:
                yield Sent(item, Status.SOP_CLASS_NOT_SUPPORTED, f"{NO_CONTEXT} in the transfer syntax of the file")
                continue
            command = Command.of(
                "C-STORE-RQ", True, MessageID=association.next_id(), AffectedSOPClassUID=item.sop_class,
                AffectedSOPInstanceUID=item.sop_instance, Priority=0,
            )  # fmt: skip
            answer = await association.store(context, command, _pieces(item), item.end - item.start)
            yield Sent(item, answer.status, comment(answer.text("ErrorComment")))

    def failed(self, item: DicomFile, status: int, reason: str) -> Sent:
        return Sent(item, status, reason)


async def _pieces(item: DicomFile) -> AsyncGenerator[Buffer]:
    try:
        with item.path.open("rb") as file:
            file.seek(item.start)
            left = item.end - item.start
            while left:
                piece = await asyncio.to_thread(file.read, min(PIECE, left))
                if not piece:
                    raise BadInput(f"{item.path} became shorter while it was sent")
                left -= len(piece)
                yield piece
    except OSError as error:
        raise BadInput(f"{item.path} cannot be read: {error.strerror}") from None


def send_files(target: Target, calling: str, files: Sequence[DicomFile]) -> AsyncGenerator[Sent]:
    """Each as it is. Raises Unavailable for what concerns the peer and not a file (`delivery.carry`)."""
    return carry(target, calling, None, _Files(), files)


# ---------------------------------------------------------------- in


class Saving:
    """The objects of a C-GET as files of a folder, by their SOP Instance UID; a file of that name is replaced when the new
    one is whole. For `Exchange.storing`: `Saving.into(folder)`."""

    def __init__(self, folder: Path, operation: Operation, done: Done):
        self._operation, self._done = operation, done
        command = operation.command
        name = name_of(command.sop_instance)
        self._path = folder / f"{name}.dcm"
        self._part = folder / f"{name}.part"
        self._trouble = "" if name and command.sop_class else "the command has no SOP class or instance"
        if not self._trouble:
            head = file_meta(command.sop_class, command.sop_instance, operation.context.transfer_syntax)
            self._try(lambda: self._part.write_bytes(head))

    @classmethod
    def into(cls, folder: Path) -> Callable[[Operation, Done], Saving]:
        return lambda operation, done: cls(folder, operation, done)

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            self._trouble = f"the file cannot be written: {error.strerror}"

    def _append(self, data: bytes) -> None:
        with self._part.open("ab") as file:
            file.write(data)

    async def feed(self, data: memoryview) -> None:
        if not self._trouble:
            await asyncio.to_thread(self._try, lambda: self._append(bytes(data)))

    async def finish(self) -> None:
        if not self._trouble:
            self._try(lambda: self._part.replace(self._path))
        if self._trouble:
            await self.abort()
            self._operation.respond(Status.OUT_OF_RESOURCES, ErrorComment=comment(self._trouble))
        else:
            self._operation.respond(Status.SUCCESS)
        self._done(self._operation)

    async def abort(self) -> None:
        self._try(lambda: self._part.unlink(missing_ok=True))
