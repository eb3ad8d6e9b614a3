"""Storage Commitment Push Model, as SCP (PS3.4 annex J).

Owns: the conversation: what an N-ACTION asks, what an N-EVENT-REPORT answers, and the report on the association of the
request. Must never: judge what is kept: that is the verb's, which reads the bytes again; or lose a report: its order is
durable before the N-ACTION is answered, and what is not taken here goes out on an association of our own (`reporting`).

Limits: ITEMS_MAX instances of one request; HERE_SECONDS that a result may take to be reported here.
"""

from __future__ import annotations

import asyncio

from radiolith.archive.ports import CommitmentResult
from radiolith.dicom import syntax
from radiolith.dicom.limits import Limits, Unparsable
from radiolith.dicom.reader import scan
from radiolith.dicom.wanted import Wanted as Kept
from radiolith.dimse import sopclasses
from radiolith.dimse.answers import Headers
from radiolith.dimse.commands import Command
from radiolith.dimse.operation import ACTION_MAX, Operation
from radiolith.dimse.sending import Lost
from radiolith.dimse.status import Refused, Status
from radiolith.index.peer_reports import Addressee
from radiolith.model import Conflict

ITEMS_MAX = 200_000
UID_MAX = 64
"""Characters of a Transaction UID (PS3.5 9.1)."""
HERE_SECONDS = 5.0
ANSWER_SECONDS = 20.0
"""For the response to an N-EVENT-REPORT; after that it is due again, elsewhere."""
REQUEST = 1
"""Action type and, for a report without failures, event type."""
FAILURES_EXIST = 2
_TRANSACTION, _REFERENCED, _FAILED = 0x00081195, 0x00081199, 0x00081198
_CLASS, _INSTANCE, _REASON = 0x00081150, 0x00081155, 0x00081197
_KEPT = Kept({_TRANSACTION: "UI"}, {_REFERENCED: {_CLASS: "UI", _INSTANCE: "UI"}})
_LIMITS = Limits(depth=8, elements=8 * ITEMS_MAX, kept_items=ITEMS_MAX + 1, kept_bytes=ACTION_MAX)


async def serve(operation: Operation) -> None:
    """Answer one N-ACTION-RQ once the request is durable; what it raises is a failure for `status.trouble`."""
    command, caller = operation.command, operation.caller
    if command.number("ActionTypeID") != REQUEST:
        raise Refused(Status.NO_SUCH_ACTION, "no such action type")
    if command.sop_instance != sopclasses.STORAGE_COMMITMENT_INSTANCE:
        raise Refused(Status.NO_SUCH_SOP_INSTANCE, "not the well-known instance of storage commitment")
    transaction, items = await asyncio.to_thread(read_request, operation.data, operation.context.transfer_syntax)
    to = Addressee(caller.calling, caller.peer, caller.called)
    try:
        await operation.archive.commitment.request(caller.principal, transaction, items, to)
    except Conflict as conflict:
        raise Refused(Status.INVALID_ARGUMENT, str(conflict), _TRANSACTION) from conflict
    operation.respond(Status.SUCCESS, ActionTypeID=REQUEST)
    operation.behind = lambda: _report_here(operation, transaction)


async def _report_here(operation: Operation, transaction: str) -> None:
    """Tell the result on the association of the request, if it is there in time and the peer has not asked to end."""
    commitment, caller, sender = operation.archive.commitment, operation.caller, operation.sender
    result = await commitment.settled(caller.principal, transaction, HERE_SECONDS)
    if result is None or result.state != "done" or not sender.answered_here:
        return
    lease = int(2 * ANSWER_SECONDS * 1_000_000)
    taken = await commitment.take_report(caller.principal, transaction, caller.calling, lease)
    if taken is None:
        return
    said = "the peer ended the association"
    try:
        if sender.answered_here:
            event, data = await asyncio.to_thread(report, result, operation.context.transfer_syntax)
            told = event_report(sender.next_id(), event)
            answer = await sender.ask(operation.context.id, told, data, ANSWER_SECONDS)
            said = "" if answer.status == Status.SUCCESS else f"the peer answered with status {answer.status:04X}"
    except Lost:
        pass
    except TimeoutError:
        said = f"the peer has not answered for {ANSWER_SECONDS:.0f} s"
    finally:  # also when this ends with its association: it is due at once then
        await commitment.reported(taken, said)


def event_report(message_id: int, event: int) -> Command:
    return Command.of(
        "N-EVENT-REPORT-RQ", True, MessageID=message_id, AffectedSOPClassUID=sopclasses.STORAGE_COMMITMENT,
        AffectedSOPInstanceUID=sopclasses.STORAGE_COMMITMENT_INSTANCE, EventTypeID=event,
    )  # fmt: skip


def read_request(data: bytes, transfer_syntax: str) -> tuple[str, list[tuple[str, str]]]:
    """Transaction UID and (SOP class, SOP instance) of an N-ACTION. Raises Refused."""
    try:
        found = scan(data, transfer_syntax=transfer_syntax, limits=_LIMITS, wanted=_KEPT)
    except Unparsable as problem:
        raise Refused(Status.PROCESSING_FAILURE, f"the action information is not readable: {problem}") from problem
    transaction, referenced = found.uid(_TRANSACTION), found.sequences.get(_REFERENCED, [])
    if not transaction or not referenced:
        missing = _REFERENCED if transaction else _TRANSACTION
        raise Refused(Status.INVALID_ARGUMENT, "TransactionUID and ReferencedSOPSequence are needed", missing)
    if len(transaction) > UID_MAX or not transaction.isascii() or not transaction.isprintable():
        raise Refused(Status.INVALID_ARGUMENT, "the Transaction UID is none", _TRANSACTION)
    if len(referenced) > ITEMS_MAX:
        raise Refused(Status.RESOURCE_LIMITATION, f"more than {ITEMS_MAX} instances in one request")
    items = [(_uid(item, _CLASS), _uid(item, _INSTANCE)) for item in referenced]
    if not all(sop_class and sop for sop_class, sop in items):
        raise Refused(Status.INVALID_ARGUMENT, "an item has no SOP class or no SOP instance", _REFERENCED)
    return transaction, items


def report(result: CommitmentResult, transfer_syntax: str) -> tuple[int, bytes]:
    """Event type and data set of the N-EVENT-REPORT that tells a result (PS3.4 table J.3-2)."""
    headers = Headers(syntax.encoding(transfer_syntax))
    body = headers.element(_TRANSACTION, "UI", padded(result.transaction_uid))
    if result.failed:
        items = [_item(headers, sop_class, sop, reason) for sop_class, sop, reason in result.failed]
        body += headers.element(_FAILED, "SQ", b"".join(items))
    if result.committed:
        items = [_item(headers, sop_class, sop, None) for sop_class, sop in result.committed]
        body += headers.element(_REFERENCED, "SQ", b"".join(items))
    return (FAILURES_EXIST if result.failed else REQUEST), body


def _item(headers: Headers, sop_class: str, sop: str, reason: int | None) -> bytes:
    body = headers.element(_CLASS, "UI", padded(sop_class)) + headers.element(_INSTANCE, "UI", padded(sop))
    if reason is not None:
        order = "big" if headers.order == ">" else "little"
        body += headers.element(_REASON, "US", reason.to_bytes(2, order))
    return headers.item(body)


def padded(uid: str) -> bytes:
    raw = uid.encode("ascii", "replace")
    return raw + b"\0" * (len(raw) % 2)


def _uid(item: dict[int, tuple[str, bytes]], tag: int) -> str:
    return item.get(tag, ("UI", b""))[1].decode("ascii", "replace").strip("\0 ")
