"""Instance Availability Notification (PS3.4 annex R), both ways: what an N-CREATE says is available.

Owns: the attributes of a notification. Must never: change anything here because of one: what others hold is on record, and
that is all. Limits: `operation.DATA_SET_MAX` bytes of one that comes in.
"""

from __future__ import annotations

import uuid

from radiolith.dicom import syntax
from radiolith.dicom.limits import Limits, Unparsable
from radiolith.dicom.reader import scan
from radiolith.dicom.wanted import STUDY_INSTANCE_UID
from radiolith.dicom.wanted import Wanted as Kept
from radiolith.dimse import sopclasses
from radiolith.dimse.answers import Headers
from radiolith.dimse.commands import Command
from radiolith.dimse.committing import padded
from radiolith.dimse.operation import DATA_SET_MAX, Operation
from radiolith.dimse.status import Refused, Status
from radiolith.jobs.reports import Available

_PERFORMED_STEP, _SERIES, _SERIES_UID, _INSTANCES = 0x00081111, 0x00081115, 0x0020000E, 0x00081199
_CLASS, _INSTANCE, _AVAILABILITY, _RETRIEVE_FROM = 0x00081150, 0x00081155, 0x00080056, 0x00080054
_KEPT = Kept({STUDY_INSTANCE_UID: "UI"}, {_SERIES: {_SERIES_UID: "UI"}})
_LIMITS = Limits(depth=8, kept_items=10_000, kept_bytes=DATA_SET_MAX)


async def serve(operation: Operation) -> None:
    """Answer one N-CREATE-RQ: on record is who says which study is available; nothing else follows from it here."""
    try:
        found = scan(operation.data, transfer_syntax=operation.context.transfer_syntax, limits=_LIMITS, wanted=_KEPT)
    except Unparsable as problem:
        raise Refused(Status.PROCESSING_FAILURE, f"the attribute list is not readable: {problem}") from problem
    study = found.uid(STUDY_INSTANCE_UID)
    if not study:
        raise Refused(Status.INVALID_ARGUMENT, "StudyInstanceUID is needed", STUDY_INSTANCE_UID)
    if not found.sequences.get(_SERIES):
        raise Refused(Status.INVALID_ARGUMENT, "ReferencedSeriesSequence is needed", _SERIES)
    await operation.archive.commitment.told_available(operation.caller.principal, study)
    named = operation.command.sop_instance
    operation.respond(Status.SUCCESS, AffectedSOPInstanceUID=named or f"2.25.{uuid.uuid4().int}")


def notification(message_id: int, instance: str) -> Command:
    return Command.of(
        "N-CREATE-RQ", True, MessageID=message_id, AffectedSOPClassUID=sopclasses.INSTANCE_AVAILABILITY,
        AffectedSOPInstanceUID=instance,
    )  # fmt: skip


def attributes(what: Available, retrieve_from: str, transfer_syntax: str) -> bytes:
    """The attribute list of a notification (PS3.4 table R.3.2-1): what is held is online, what is rejected is unavailable."""
    headers = Headers(syntax.encoding(transfer_syntax))
    title = retrieve_from.encode("ascii", "replace")
    online, gone = (headers.element(_AVAILABILITY, "CS", word) for word in (b"ONLINE", b"UNAVAILABLE "))
    where = headers.element(_RETRIEVE_FROM, "AE", title + b" " * (len(title) % 2))
    series: list[bytes] = []
    for uid, instances in what.series.items():
        items = [
            headers.item(
                where + (gone if sop in what.rejected else online) + headers.element(_CLASS, "UI", padded(sop_class)) +
                headers.element(_INSTANCE, "UI", padded(sop))
            )
            for sop_class, sop in instances
        ]  # fmt: skip
        named = headers.element(_SERIES_UID, "UI", padded(uid))
        series.append(headers.item(headers.element(_INSTANCES, "SQ", b"".join(items)) + named))
    return (
        headers.element(_PERFORMED_STEP, "SQ", b"")
        + headers.element(_SERIES, "SQ", b"".join(series))
        + headers.element(STUDY_INSTANCE_UID, "UI", padded(what.study))
    )
