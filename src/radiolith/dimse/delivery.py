"""Sending to a peer: what C-MOVE, rules and people order goes out here, over as many associations as it takes.

Owns: which presentation contexts are proposed, and going on behind an instance that breaks an association. Must never: retry
later or remember anything (`jobs.outbox` does), or hold an object. Each (SOP class, stored transfer syntax) is proposed in a
context of its own, so that what is stored travels untouched where the peer takes it; one context per class has the
uncompressed syntaxes, which every peer must take (PS3.5 10.1), for what has to be made.

Limits: `items.CONTEXTS_MAX` contexts an association; REPORT_SECONDS that an association stays open for a commitment's result.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from radiolith.archive.notes import Composed, Order
from radiolith.archive.outbox import Priority, Result, Transfer, Why
from radiolith.archive.ports import Archive
from radiolith.archive.retrieve import Retrieve
from radiolith.dicom.notes import KEY_OBJECT
from radiolith.dimse import asking_commitment, committed, suboperations
from radiolith.dimse.association import Wanted
from radiolith.dimse.calls import NothingAccepted, Ours, Record, Target
from radiolith.dimse.commands import FIELD, Command, Plain
from radiolith.dimse.committed import Report, Reported
from radiolith.dimse.items import CONTEXTS_MAX
from radiolith.dimse.messages import Buffer
from radiolith.dimse.operation import Operation
from radiolith.dimse.scu import Association, connect
from radiolith.dimse.sending import ANSWER_SECONDS, Lost
from radiolith.dimse.sopclasses import KEPT, STORAGE, STORAGE_COMMITMENT, UNCOMPRESSED
from radiolith.dimse.status import Service, Status, comment, trouble
from radiolith.index.accounts import Peer
from radiolith.model import Failure, Held, Principal, Unavailable

REPORT_SECONDS = 5.0
"""A peer that verifies quickly reports on the association of the request; others open one of their own."""
_PRIORITIES = {Priority.MEDIUM: 0, Priority.HIGH: 1, Priority.LOW: 2}  # (0000,0700), PS3.7 9.1.1

_EXPLICIT, _IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
T = TypeVar("T")
R = TypeVar("R")
Pair = tuple[str, str]
"""SOP class, stored transfer syntax."""

PROPOSES: Mapping[tuple[str, str], tuple[str, ...]] = {("C-STORE-RQ", uid): KEPT for uid in STORAGE}
"""As in `asking`: of what is kept, each in the syntax it is stored in, and uncompressed."""


def plan(pairs: Iterable[Pair], prefer: str = "") -> list[tuple[list[Wanted], set[Pair]]]:
    """The contexts to propose and the pairs they are for, for each association that is needed; in the pairs' order.

    prefer: a transfer syntax to propose for every class, '' for none.
    """
    batches: list[tuple[list[Wanted], set[Pair]]] = []
    classes: set[str] = set()
    for pair in dict.fromkeys(pairs):
        sop_class, stored = pair
        direct = Wanted(sop_class, (stored,))
        others = [Wanted(sop_class, (prefer,))] if prefer else []
        others.append(Wanted(sop_class, UNCOMPRESSED))
        needed = 1 if sop_class in classes else 1 + len(others)
        if not batches or len(batches[-1][0]) + needed > CONTEXTS_MAX:
            batches.append(([], set()))
            classes = set()
        wanted, covered = batches[-1]
        wanted += [direct] if sop_class in classes else [direct, *others]
        covered.add(pair)
        classes.add(sop_class)
    return batches


def target_of(peer: Peer, tls: ssl.SSLContext | None, record: Record | None = None) -> Target:
    """Raises Unavailable when the peer's fact says no port or address."""
    aet, host, port = peer.more.get("aet"), peer.more.get("address"), peer.more.get("port")
    if not isinstance(aet, str) or not isinstance(host, str) or not isinstance(port, int):
        raise Unavailable(f"of the peer '{peer.name}' no AE title, address or port is known")
    return Target(aet, host, port, tls, peer.name, str(peer.more.get("certificate") or ""), record)


class _Broken(Exception):
    """An association ended in the middle of an instance."""


class Cargo(ABC, Generic[T, R]):
    """Things of one kind that can be sent, and what is told of them."""

    @abstractmethod
    def pair(self, item: T) -> Pair: ...

    @abstractmethod
    def over(self, association: Association, items: Sequence[T]) -> AsyncGenerator[R]:
        """Send each over this association, and tell what the peer answered, in order."""

    @abstractmethod
    def failed(self, item: T, status: int, reason: str) -> R: ...


async def carry(
    target: Target, calling: str, ours: Ours | None, cargo: Cargo[T, R], items: Sequence[T], prefer: str = ""
) -> AsyncGenerator[R]:
    """Send each to `target`, and tell what became of it as soon as that is known, each at most once.

    One that breaks its association (the peer aborts or is silent, its bytes turn out damaged on the way) is told as failed
    and the others go on over a new one; when the next one breaks that too, the peer is gone. Raises Unavailable for what
    concerns the peer and not an item.
    """
    for wanted, covered in plan(map(cargo.pair, items), prefer):
        left = [item for item in items if cargo.pair(item) in covered]
        lost = False  # the item before this one lost its association
        while left:
            told = 0
            try:
                async with aclosing(_over_one(target, calling, ours, wanted, (cargo, left))) as results:
                    async for result in results:
                        told, lost = told + 1, False
                        yield result
                left = []
            except NothingAccepted as nothing:
                for item in left:
                    yield cargo.failed(item, Status.SOP_CLASS_NOT_SUPPORTED, str(nothing))
                left = []
            except _Broken as broken:
                cause = broken.__cause__
                if told == len(left) or (lost and _is_gone(cause)):
                    raise Lost(str(broken)) from None
                lost = _is_gone(cause)
                yield cargo.failed(left[told], _status(cause), str(broken))
                left = left[told + 1 :]


async def _over_one(
    target: Target, calling: str, ours: Ours | None, wanted: Sequence[Wanted], what: tuple[Cargo[T, R], Sequence[T]]
) -> AsyncGenerator[R]:
    """Over one association. Raises _Broken in the middle, NothingAccepted and other Unavailable before."""
    cargo, items = what
    async with connect(target, wanted, calling, ours) as association:
        try:
            async with aclosing(cargo.over(association, items)) as results:
                async for result in results:
                    yield result
        except TimeoutError as late:
            association.abort("ended here: the peer did not answer in time")
            raise _Broken(f"{target} has not answered C-STORE for {ANSWER_SECONDS:.0f} s") from late
        except Lost as lost:
            raise _Broken(f"{target}: {association.why or lost}") from lost
        except (Failure, ValueError) as failure:
            raise _Broken(str(failure)) from failure


def _is_gone(cause: BaseException | None) -> bool:
    return isinstance(cause, Unavailable | TimeoutError)


def _status(cause: BaseException | None) -> int:
    """For an item on its way when its association ended: the peer may take it later, unless its bytes are at fault."""
    return Status.PROCESSING_FAILURE if cause is None or _is_gone(cause) else trouble(Service.STORE, cause).status


# ---------------------------------------------------------------- what is held


class _Holdings(Cargo[Held, Result]):
    def __init__(self, retrieve: Retrieve, prefer: str, fields: Mapping[str, Plain]):
        self._retrieve, self._prefer, self._fields = retrieve, prefer, fields

    def pair(self, item: Held) -> Pair:
        return item.sop_class, item.layout.transfer_syntax

    def over(self, association: Association, items: Sequence[Held]) -> AsyncGenerator[Result]:
        return suboperations.send(
            self._retrieve, association.sender, association.contexts, items, self._prefer, fields=self._fields
        )

    def failed(self, item: Held, status: int, reason: str) -> Result:
        return Result(item, status, reason)


def send(
    target: Target, calling: str, ours: Ours, helds: Sequence[Held], prefer: str = "", **fields: Plain
) -> AsyncGenerator[Result]:
    """`carry` for instances of the archive; `prefer` and `fields` as in `suboperations.send`."""
    return carry(target, calling, ours, _Holdings(ours.archive.retrieve, prefer, fields), helds, prefer)


# ---------------------------------------------------------------- notes of rejection


@dataclass(frozen=True, slots=True)
class Told:
    """What the peer answered for a note."""

    note: Composed
    status: int
    reason: str = ""


class NoteCargo(Cargo[Composed, Told]):
    """Notes in explicit VR little endian, or in implicit for a peer that takes nothing else."""

    def pair(self, item: Composed) -> Pair:
        return KEY_OBJECT, _EXPLICIT

    async def over(self, association: Association, items: Sequence[Composed]) -> AsyncGenerator[Told]:
        taken = suboperations.ways(association.contexts).get(KEY_OBJECT, {})
        for item in items:
            syntax = next((one for one in (_EXPLICIT, _IMPLICIT) if one in taken), "")
            if not syntax:
                yield Told(item, Status.SOP_CLASS_NOT_SUPPORTED, suboperations.NO_CONTEXT)
                continue
            command = Command.of(
                "C-STORE-RQ", True, MessageID=association.next_id(), AffectedSOPClassUID=KEY_OBJECT,
                AffectedSOPInstanceUID=item.sop, Priority=0,
            )  # fmt: skip
            data = item.explicit if syntax == _EXPLICIT else item.implicit
            answer = await association.store(taken[syntax], command, _whole(data), len(data))
            yield Told(item, answer.status, comment(answer.text("ErrorComment")))

    def failed(self, item: Composed, status: int, reason: str) -> Told:
        return Told(item, status, reason)


async def _whole(data: bytes) -> AsyncGenerator[Buffer]:
    yield data


# ---------------------------------------------------------------- for the outbox


@dataclass(frozen=True, slots=True)
class Means:
    """`title`: our AE title for a tenant (row id). `secure`: how the certificates of peers with TLS are checked.

    `reported`: notes a commitment's result that came on the association of the request. `record`: where what we do on behalf
    of a tenant is put on record.
    """

    archive: Archive
    title: Callable[[int], str]
    secure: Callable[[Peer], ssl.SSLContext]
    reported: Reported
    principal: Callable[[Transfer, Peer], Principal]
    record: Callable[[int], Record | None] = lambda tenant: None


class DimseDelivery:
    """`archive.outbox.Delivery` over DIMSE."""

    def __init__(self, means: Means):
        self._means = means

    async def deliver(self, transfer: Transfer, peer: Peer, instances: Sequence[Held]) -> AsyncGenerator[Result]:
        if transfer.why is Why.NOTE:
            async for result in self._notes(transfer, peer, instances):
                yield result
            return
        fields: dict[str, Plain] = {"Priority": _PRIORITIES[transfer.priority]}
        if transfer.why is Why.MOVE:
            fields["MoveOriginatorApplicationEntityTitle"] = transfer.ordered_by
            fields["MoveOriginatorMessageID"] = transfer.message_id
        title = self._means.title(transfer.tenant_id)
        prefer = transfer.syntax or str(peer.more.get("syntax") or "")
        sent = send(self._target(transfer, peer), title, self._ours(transfer, peer), instances, prefer, **fields)
        async with aclosing(sent) as results:
            async for result in results:
                yield result

    async def _notes(self, transfer: Transfer, peer: Peer, instances: Sequence[Held]) -> AsyncGenerator[Result]:
        """A note that the instances are rejected, or restored, instead of them; its answer is that for each of them."""
        title = self._means.title(transfer.tenant_id)
        order = Order(instances[0].blob.tenant, transfer.study, transfer.created_at, title)
        composed = await asyncio.to_thread(self._means.archive.notes.composed_now, order, instances)
        async with aclosing(carry(self._target(transfer, peer), title, None, NoteCargo(), composed)) as answers:
            async for told in answers:
                for held in told.note.about:
                    yield Result(held, told.status, told.reason)

    async def ask_commitment(
        self, transfer: Transfer, peer: Peer, transaction_uid: str, references: Sequence[tuple[str, str]]
    ) -> None:
        came = asyncio.Event()

        async def reported(operation: Operation, report: Report) -> None:
            await self._means.reported(operation, report)
            came.set()

        title = self._means.title(transfer.tenant_id)
        target, ours = self._target(transfer, peer), self._ours(transfer, peer)
        async with connect(target, asking_commitment.wanted(), title, ours) as association:
            exchange = association.exchange
            serve = committed.serving(reported)
            exchange.served = {**exchange.served, (FIELD["N-EVENT-REPORT-RQ"], STORAGE_COMMITMENT): serve}
            await asking_commitment.ask(association, transaction_uid, references)
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS):
                    await came.wait()
            await exchange.quiet()

    def _target(self, transfer: Transfer, peer: Peer) -> Target:
        tls = self._means.secure(peer) if peer.more.get("tls") else None
        return target_of(peer, tls, self._means.record(transfer.tenant_id))

    def _ours(self, transfer: Transfer, peer: Peer) -> Ours:
        return Ours(self._means.archive, self._means.principal(transfer, peer))
