"""The report that a peer makes of what it was asked to keep: N-EVENT-REPORT as SCU of storage commitment (PS3.4 J.3.3).

Owns: its reading, and the answer. Must never: decide what a report means for what was sent (`archive.outbox` does). Which side
it reaches us on does not matter: our association or one of the peer's.

Limits: REFERENCES in a report.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from radiolith.dicom.limits import Limits, Unparsable
from radiolith.dicom.reader import Scan, scan
from radiolith.dicom.wanted import Wanted as Kept
from radiolith.dimse.operation import ACTION_MAX, Operation
from radiolith.dimse.status import Refused, Status
from radiolith.model import NotFound

REFERENCES = 200_000
"""Instances of one request, 150 bytes each; `operation.ACTION_MAX` is what we would take."""
SUCCESS, FAILURES = 1, 2
"""Event types (PS3.4 J.3.3)."""
NO_SUCH_EVENT = 0x0113
"""PS3.7 10.1.1.1.8."""

TRANSACTION, SOP_SEQUENCE, FAILED_SEQUENCE = 0x00081195, 0x00081199, 0x00081198
SOP_CLASS, SOP_INSTANCE, REASON = 0x00081150, 0x00081155, 0x00081197

_ITEM = {SOP_CLASS: "UI", SOP_INSTANCE: "UI", REASON: "US"}
_KEPT = Kept({TRANSACTION: "UI"}, {SOP_SEQUENCE: _ITEM, FAILED_SEQUENCE: _ITEM})
_LIMITS = Limits(depth=8, elements=5 * REFERENCES, kept_items=REFERENCES, kept_bytes=ACTION_MAX)
_REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0213: "resource limitation",
    0x0122: "referenced SOP class not supported",
    0x0119: "class and instance conflict",
    0x0131: "duplicate transaction UID",
}
"""PS3.3 C.14.1.1."""


@dataclass(frozen=True, slots=True)
class Report:
    """An N-EVENT-REPORT: SOP Instance UIDs that are kept, and those that are not with the reason in words."""

    transaction_uid: str
    kept: tuple[str, ...]
    refused: dict[str, str]


Reported = Callable[[Operation, Report], Awaitable[None]]


def serving(reported: Reported) -> Callable[[Operation], Awaitable[None]]:
    """The service of N-EVENT-REPORT: answered once `reported` has noted the result; what that raises is the answer."""

    async def serve(operation: Operation) -> None:
        if operation.command.number("EventTypeID") not in (SUCCESS, FAILURES):
            raise Refused(NO_SUCH_EVENT, "no such event type")
        await reported(operation, read_report(operation.data, operation.context.transfer_syntax))
        operation.respond(Status.SUCCESS, EventTypeID=operation.command.number("EventTypeID"))

    return serve


def read_report(data: bytes, transfer_syntax: str) -> Report:
    """Raises Refused. An instance in both lists is not kept."""
    try:
        found = scan(data, transfer_syntax=transfer_syntax, limits=_LIMITS, wanted=_KEPT)
    except Unparsable as problem:
        raise Refused(Status.PROCESSING_FAILURE, f"the event information is not readable: {problem}") from problem
    transaction = found.uid(TRANSACTION)
    if not transaction:
        raise Refused(Status.INVALID_ARGUMENT, "TransactionUID is missing", TRANSACTION)
    refused = dict(_items(found, FAILED_SEQUENCE))
    kept = tuple(uid for uid, _ in _items(found, SOP_SEQUENCE) if uid not in refused)
    return Report(transaction, kept, refused)


def _items(found: Scan, sequence: int) -> Iterator[tuple[str, str]]:
    """(SOP Instance UID, failure reason in words) of the items of a sequence."""
    for item in found.sequences.get(sequence, ()):
        uid = item.get(SOP_INSTANCE, ("UI", b""))[1].decode("ascii", "replace").strip("\0 ")
        reason = int.from_bytes(item.get(REASON, ("US", b""))[1], "big" if found.big_endian else "little")
        if uid:
            yield uid, f"{_REASONS.get(reason, 'not kept')} (reason 0x{reason:04X})"


async def to_outbox(operation: Operation, report: Report) -> None:
    """For the transfers of this archive that wait for it."""
    if operation.moving is None:
        raise NotFound("nothing is sent from here")
    await operation.moving.outbox.committed(
        operation.caller.principal, report.transaction_uid, report.kept, report.refused
    )
