"""The seven protocol data units of the upper layer (PS3.8 9.3), both ways.

Owns: PDU bytes and the bounds that are checked on a header before anything behind it is read. Must never: keep state.
P-DATA-TF is here for completeness and for small messages; received ones are parsed in place by `upperlayer`, large ones
are cut by `messages`.

Limits: ASSOCIATE_MAX for the only PDUs that are held whole; a P-DATA-TF is bounded by what its receiver announced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import pack, unpack_from

from radiolith.dimse.items import (
    AnsweredContext,
    ProposedContext,
    ProtocolError,
    Reason,
    UserInformation,
    answered_bytes,
    item,
    item_spans,
    proposed_bytes,
    read_answered,
    read_proposed,
    read_user_information,
    uid_text,
    user_information_bytes,
)

ASSOCIATE_MAX = 1024 * 1024
"""Bytes of an A-ASSOCIATE-RQ or -AC: 128 contexts with 60 transfer syntaxes of 30 bytes each are 260 KB."""
ASSOCIATE_MIN = 68
"""The fixed fields of an A-ASSOCIATE-RQ or -AC (PS3.8 table 9-11)."""
HEADER = 6
"""Bytes of a PDU's type, reserved byte and length."""
AE_TITLE_MAX = 16

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
"""The only application context there is (PS3.7 annex A)."""

REQUEST, ACCEPT, REJECT, DATA, RELEASE_REQUEST, RELEASE_REPLY, ABORT = range(1, 8)
"""PDU types."""


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2). AE titles are without padding; `protocol_version` is a set of bits."""

    called: str
    calling: str
    contexts: tuple[ProposedContext, ...]
    user: UserInformation = field(default_factory=UserInformation)
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """A-ASSOCIATE-AC (PS3.8 9.3.3). The AE titles repeat the request's and are not to be tested."""

    called: str
    calling: str
    contexts: tuple[AnsweredContext, ...]
    user: UserInformation = field(default_factory=UserInformation)
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AssociateReject:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4): result 1 permanent, 2 transient; sources and reasons as in table 9-21."""

    result: int
    source: int
    reason: int


@dataclass(frozen=True, slots=True)
class Value:
    """One presentation data value: a fragment of a command or of a data set (PS3.8 9.3.5.1, annex E)."""

    context_id: int
    command: bool
    last: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Data:
    """P-DATA-TF (PS3.8 9.3.5)."""

    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """A-RELEASE-RQ (PS3.8 9.3.6)."""


@dataclass(frozen=True, slots=True)
class ReleaseReply:
    """A-RELEASE-RP (PS3.8 9.3.7)."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A-ABORT (PS3.8 9.3.8): `source` 0 user, 2 provider; `reason` means something for the provider only."""

    source: int
    reason: int


Pdu = AssociateRequest | AssociateAccept | AssociateReject | Data | ReleaseRequest | ReleaseReply | Abort


_NOT_DICOM = {
    0x16: ": the peer speaks TLS, this port does not",  # a handshake record (RFC 8446 5.1)
    0x47: ": the peer speaks HTTP, this port speaks DICOM",  # GET
    0x50: ": the peer speaks HTTP, this port speaks DICOM",  # POST, PUT
}
"""First bytes of other protocols, for whoever set the wrong port: an A-ABORT does not tell."""


def check_header(kind: int, length: int, data_max: int) -> None:
    """Whether a PDU of this type may be this long. `data_max`: bytes allowed for P-DATA-TF, 0 is any.

    ProtocolError otherwise: to be asked before a byte behind the header is read or memory for it is set aside.
    """
    if kind == DATA:
        wrong = length < HEADER or (data_max and length > data_max)
    elif kind in (REQUEST, ACCEPT):
        wrong = not ASSOCIATE_MIN <= length <= ASSOCIATE_MAX
    elif REQUEST <= kind <= ABORT:
        wrong = length != 4
    else:
        raise ProtocolError(f"a PDU of unknown type {kind:02X}H{_NOT_DICOM.get(kind, '')}", Reason.UNRECOGNIZED_PDU)
    if wrong:
        raise ProtocolError(f"a PDU of type {kind:02X}H announces {length} bytes")


# ---------------------------------------------------------------- reading


def decode(kind: int, body: bytes | memoryview) -> Pdu:
    """The PDU of type `kind` whose variable field, all that follows the header, is `body`.

    Raises ProtocolError with the reason of the A-ABORT that answers it (PS3.8 9.3.8).
    """
    check_header(kind, len(body), 0)
    return _READERS[kind](bytes(body))


def _read_request(body: bytes) -> AssociateRequest:
    version, called, calling = _fixed(body)
    application, contexts, user = "", list[ProposedContext](), UserInformation()
    seen: set[int] = set()
    for item_type, start, end in item_spans(body, ASSOCIATE_MIN, len(body)):
        if item_type == 0x10:
            application = uid_text(body[start:end])
        elif item_type == 0x20:
            contexts.append(read_proposed(body, start, end))
            _once(contexts[-1].id, seen)
        elif item_type == 0x50:
            user = read_user_information(body, start, end)
    return AssociateRequest(called, calling, tuple(contexts), user, application, version)


def _read_accept(body: bytes) -> AssociateAccept:
    version, called, calling = _fixed(body)
    application, contexts, user = "", list[AnsweredContext](), UserInformation()
    seen: set[int] = set()
    for item_type, start, end in item_spans(body, ASSOCIATE_MIN, len(body)):
        if item_type == 0x10:
            application = uid_text(body[start:end])
        elif item_type == 0x21:
            contexts.append(read_answered(body, start, end))
            _once(contexts[-1].id, seen)
        elif item_type == 0x50:
            user = read_user_information(body, start, end)
    return AssociateAccept(called, calling, tuple(contexts), user, application, version)


def _fixed(body: bytes) -> tuple[int, str, str]:
    return unpack_from(">H", body)[0], _ae_title(body[4:20]), _ae_title(body[20:36])


def _ae_title(value: bytes) -> str:
    """Spaces around an AE title are not significant (PS3.8 table 9-11); some devices pad with NUL."""
    return value.decode("latin-1").strip("\0 ")


def _once(context_id: int, seen: set[int]) -> None:
    """Each id is given once; being odd, they are at most 128."""
    if context_id in seen:
        raise ProtocolError(f"presentation context id {context_id} is used twice")
    seen.add(context_id)


def _read_reject(body: bytes) -> AssociateReject:
    return AssociateReject(body[1], body[2], body[3])


def _read_data(body: bytes) -> Data:
    values, start, end = list[Value](), 0, len(body)
    while start < end:
        if end - start < HEADER:
            raise ProtocolError(f"{end - start} bytes where a presentation data value was expected")
        length, context_id, control = unpack_from(">IBB", body, start)
        check_value(length, context_id, end - start)
        values.append(
            Value(context_id, bool(control & 1), bool(control & 2), body[start + HEADER : start + 4 + length])
        )
        start += 4 + length
    return Data(tuple(values))


def check_value(length: int, context_id: int, left: int) -> None:
    """Whether a presentation data value item of this length fits into the `left` bytes of its PDU (PS3.8 9.3.5.1)."""
    if length < 2 or length > left - 4:
        raise ProtocolError(f"a presentation data value of {length} bytes where {left - 4} are left in its PDU")
    if not context_id & 1:
        raise ProtocolError(f"presentation context id {context_id} is not odd")


_READERS: dict[int, Callable[[bytes], Pdu]] = {
    REQUEST: _read_request,
    ACCEPT: _read_accept,
    REJECT: _read_reject,
    DATA: _read_data,
    RELEASE_REQUEST: lambda _body: ReleaseRequest(),
    RELEASE_REPLY: lambda _body: ReleaseReply(),
    ABORT: lambda body: Abort(body[2], body[3]),
}


# ---------------------------------------------------------------- writing


def encode(pdu: Pdu) -> bytes:
    """The bytes of a PDU; ValueError when a field does not fit (an AE title over 16 characters, an item over 64 KiB)."""
    match pdu:
        case AssociateRequest():
            contexts = b"".join(map(proposed_bytes, pdu.contexts))
            return _frame(REQUEST, _associate_bytes(pdu, contexts))
        case AssociateAccept():
            contexts = b"".join(map(answered_bytes, pdu.contexts))
            return _frame(ACCEPT, _associate_bytes(pdu, contexts))
        case AssociateReject():
            return _frame(REJECT, bytes((0, pdu.result, pdu.source, pdu.reason)))
        case Data():
            return _frame(DATA, b"".join(map(_value_bytes, pdu.values)))
        case ReleaseRequest():
            return _frame(RELEASE_REQUEST, bytes(4))
        case ReleaseReply():
            return _frame(RELEASE_REPLY, bytes(4))
        case Abort():
            return _frame(ABORT, bytes((0, 0, pdu.source, pdu.reason)))


def _frame(kind: int, body: bytes) -> bytes:
    return pack(">BBI", kind, 0, len(body)) + body


def _associate_bytes(pdu: AssociateRequest | AssociateAccept, contexts: bytes) -> bytes:
    fixed = pack(">HH16s16s32x", pdu.protocol_version, 0, _padded(pdu.called), _padded(pdu.calling))
    application = item(0x10, pdu.application_context.encode("latin-1"))
    return fixed + application + contexts + user_information_bytes(pdu.user)


def _padded(title: str) -> bytes:
    if len(title) > AE_TITLE_MAX:
        raise ValueError(f"an AE title has at most {AE_TITLE_MAX} characters")
    return title.encode("latin-1").ljust(AE_TITLE_MAX)


def _value_bytes(value: Value) -> bytes:
    return pack(">IBB", len(value.data) + 2, value.context_id, value.command | value.last << 1) + value.data
