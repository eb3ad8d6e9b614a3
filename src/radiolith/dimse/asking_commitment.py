"""Storage commitment as SCU: asking a peer to keep what it was sent (PS3.4 J.3.2). Its report: `committed`.

Owns: the action information of the N-ACTION. Must never: wait for the result.

Limits: REFERENCES of one request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import pack

from radiolith.dicom.encoding import element_header, padded
from radiolith.dicom.syntax import encoding
from radiolith.dimse import sopclasses
from radiolith.dimse.association import Wanted
from radiolith.dimse.calls import Declined
from radiolith.dimse.commands import Command
from radiolith.dimse.committed import REFERENCES, SOP_CLASS, SOP_INSTANCE, SOP_SEQUENCE, TRANSACTION
from radiolith.dimse.scu import Association
from radiolith.model import LimitExceeded

REQUEST = 1
"""Action type (PS3.4 J.3.2)."""

PROPOSES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("N-ACTION-RQ", sopclasses.STORAGE_COMMITMENT): sopclasses.UNCOMPRESSED
}
"""As in `asking`."""


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
