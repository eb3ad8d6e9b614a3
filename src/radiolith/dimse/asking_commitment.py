"""Storage commitment as SCU: asking a peer to keep what it was sent, and its report (PS3.4 J.3).

Owns: the action information of the N-ACTION, the reading of an N-EVENT-REPORT. Must never: decide what a report means for
what was sent (`archive.outbox` does). Which side a report reaches us on does not matter: this association or one of the peer's.

Limits: REFERENCES of one request, and in a report.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from struct import pack

from radiolith.dicom.encoding import element_header, padded
from radiolith.dicom.limits import Limits, Unparsable
from radiolith.dicom.reader import Scan, scan
from radiolith.dicom.syntax import encoding
from radiolith.dicom.wanted import Wanted as Kept
from radiolith.dimse import sopclasses
from radiolith.dimse.association import Wanted
from radiolith.dimse.commands import Command
from radiolith.dimse.operation import ACTION_MAX, Operation
from radiolith.dimse.scu import Association, Declined
from radiolith.dimse.status import Refused, Status
from radiolith.model import LimitExceeded

REFERENCES = 200_000
"""Instances of one request, 150 bytes each; `operation.ACTION_MAX` is what we would take."""
REQUEST, SUCCESS, FAILURES = 1, 1, 2
"""Action type of a request; event types of its result (PS3.4 J.3.2, J.3.3)."""
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


def wanted() -> list[Wanted]:
    return [Wanted(sopclasses.STORAGE_COMMITMENT, sopclasses.UNCOMPRESSED)]


async def ask(association: Association, transaction_uid: str, references: Sequence[tuple[str, str]]) -> None:
    """N-ACTION for (SOP class, SOP instance) pairs; returns when the peer has accepted the request. Raises Declined,
    LimitExceeded, and what `Association.ask` raises."""
    if len(references) > REFERENCES:
        raise LimitExceeded(f"a commitment request names at most {REFERENCES} instances, this one {len(references)}")
    context = association.context(sopclasses.STORAGE_COMMITMENT)
    command = Command.of(
        "N-ACTION-RQ", True, MessageID=association.next_id(), RequestedSOPClassUID=sopclasses.STORAGE_COMMITMENT,
        RequestedSOPInstanceUID=sopclasses.STORAGE_COMMITMENT_INSTANCE, ActionTypeID=REQUEST,
    )  # fmt: skip
    implicit = encoding(context.transfer_syntax).implicit
    answer = await association.ask(context, command, information(transaction_uid, references, implicit))
    if answer.status:
        raise Declined(answer)


def information(transaction_uid: str, references: Sequence[tuple[str, str]], implicit: bool) -> bytes:
    """The action information of a request, little endian."""
    items: list[bytes] = []
    for sop_class, sop_instance in references:
        item = _uid(SOP_CLASS, sop_class, implicit) + _uid(SOP_INSTANCE, sop_instance, implicit)
        items.append(pack("<HHI", 0xFFFE, 0xE000, len(item)) + item)
    content = b"".join(items)
    sequence = element_header(SOP_SEQUENCE, "SQ", len(content), implicit=implicit) + content
    return _uid(TRANSACTION, transaction_uid, implicit) + sequence


def _uid(tag: int, uid: str, implicit: bool) -> bytes:
    value = padded(uid.encode("ascii", "replace"), "UI")
    return element_header(tag, "UI", len(value), implicit=implicit) + value


# ---------------------------------------------------------------- the report

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
