"""Storage Commitment Push Model, as SCP (PS3.4 annex J).

Owns: the conversation: what an N-ACTION asks, what an N-EVENT-REPORT answers. Must never: judge what is kept: that is the
verb's, which reads the bytes again.

The report goes out on the association of the request when the verification ends while it is open, else on one of our own;
`jobs` sends those that nobody took (`report` makes them). Limits: ITEMS_MAX instances of one request.
"""

from __future__ import annotations

from radiolith.archive.ports import CommitmentResult
from radiolith.dicom import syntax
from radiolith.dimse.answers import Headers
from radiolith.dimse.identifiers import Elements, read_elements
from radiolith.dimse.status import Refused, Status

ITEMS_MAX = 200_000
REQUEST = 1
"""Action type and, for a report without failures, event type."""
FAILURES_EXIST = 2
_TRANSACTION, _REFERENCED, _FAILED = 0x00081195, 0x00081199, 0x00081198
_CLASS, _INSTANCE, _REASON = 0x00081150, 0x00081155, 0x00081197


def read_request(data: bytes, transfer_syntax: str) -> tuple[str, list[tuple[str, str]]]:
    """Transaction UID and (SOP class, SOP instance) of an N-ACTION. Raises Refused."""
    elements = read_elements(data, transfer_syntax)
    transaction = _uid(elements, _TRANSACTION)
    referenced = elements.get(_REFERENCED)
    if not transaction or referenced is None or not isinstance(referenced.value, list) or not referenced.value:
        missing = _REFERENCED if transaction else _TRANSACTION
        raise Refused(Status.INVALID_ARGUMENT, "TransactionUID and ReferencedSOPSequence are needed", missing)
    if len(referenced.value) > ITEMS_MAX:
        raise Refused(Status.RESOURCE_LIMITATION, f"more than {ITEMS_MAX} instances in one request")
    items = [(_uid(item, _CLASS), _uid(item, _INSTANCE)) for item in referenced.value]
    if not all(sop_class and sop for sop_class, sop in items):
        raise Refused(Status.INVALID_ARGUMENT, "an item has no SOP class or no SOP instance", _REFERENCED)
    return transaction, items


def report(result: CommitmentResult, transfer_syntax: str) -> tuple[int, bytes]:
    """Event type and data set of the N-EVENT-REPORT that tells a result (PS3.4 table J.3-2)."""
    headers = Headers(syntax.encoding(transfer_syntax))
    body = headers.element(_TRANSACTION, "UI", _padded(result.transaction_uid))
    if result.failed:
        items = [_item(headers, sop_class, sop, reason) for sop_class, sop, reason in result.failed]
        body += headers.element(_FAILED, "SQ", b"".join(items))
    if result.committed:
        items = [_item(headers, sop_class, sop, None) for sop_class, sop in result.committed]
        body += headers.element(_REFERENCED, "SQ", b"".join(items))
    return (FAILURES_EXIST if result.failed else REQUEST), body


def _item(headers: Headers, sop_class: str, sop: str, reason: int | None) -> bytes:
    body = headers.element(_CLASS, "UI", _padded(sop_class)) + headers.element(_INSTANCE, "UI", _padded(sop))
    if reason is not None:
        order = "big" if headers.order == ">" else "little"
        body += headers.element(_REASON, "US", reason.to_bytes(2, order))
    return headers.item(body)


def _padded(uid: str) -> bytes:
    raw = uid.encode("ascii", "replace")
    return raw + b"\0" * (len(raw) % 2)


def _uid(elements: Elements, tag: int) -> str:
    element = elements.get(tag)
    value = element.value if element is not None else b""
    return value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else ""
