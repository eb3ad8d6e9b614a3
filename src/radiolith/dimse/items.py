"""Items and sub-items of the A-ASSOCIATE PDUs (PS3.8 9.3.2, 9.3.3; PS3.7 annex D), both ways.

Owns: their bytes, and the failure with which a peer's bytes are refused. Must never: decide what is negotiated. What is
read is lenient where devices in use are wrong without harm (unknown user information sub-items, padding behind UIDs, an
empty version name, sub-items given twice) and strict about every length.

Limits: an item's length field has 16 bits; TRANSFER_SYNTAXES_MAX a context, SUB_ITEMS_MAX in the user information,
RELATED_MAX in a common extended negotiation, and the PDU as a whole (`pdu.ASSOCIATE_MAX`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import pack, unpack_from
from typing import NamedTuple

from radiolith.model import BadInput

CONTEXTS_MAX = 128
"""Presentation contexts of one association: the odd numbers from 1 to 255 (PS3.8 9.3.2.2)."""
TRANSFER_SYNTAXES_MAX = 256
"""Transfer syntaxes proposed in one context; the standard has about 60."""
SUB_ITEMS_MAX = 1024
"""Sub-items of the user information: role, extended and common extended negotiation for each of 128 classes, and some."""
RELATED_MAX = 256
"""Related general SOP classes of one SOP class; real ones have one or two."""

DEFAULT_MAX_LENGTH = 16 * 1024
"""Bytes of a P-DATA-TF PDU that a peer is taken to accept which does not say (it must: PS3.8 D.1)."""


class Reason:
    """Reasons of an A-ABORT by the provider (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


USER = 0
"""Source of an A-ABORT: the service user (PS3.8 table 9-26)."""
PROVIDER = 2
"""Source of an A-ABORT: the service provider."""


class ProtocolError(BadInput):
    """The peer broke the protocol: the association ends with an A-ABORT of this source and reason (PS3.8 9.3.8)."""

    def __init__(self, message: str, reason: int = Reason.INVALID_PARAMETER, source: int = PROVIDER):
        super().__init__(message)
        self.reason = reason if source == PROVIDER else 0  # without meaning when the user aborts
        self.source = source


class ProposedContext(NamedTuple):
    """Presentation context of a request: one abstract syntax, the transfer syntaxes in the requestor's order."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class Result:
    """Results of a presentation context (PS3.8 table 9-18)."""

    ACCEPTED = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


class AnsweredContext(NamedTuple):
    """Presentation context of an answer; `transfer_syntax` means nothing unless `result` is Result.ACCEPTED."""

    id: int
    result: int
    transfer_syntax: str


class Window(NamedTuple):
    """Asynchronous operations window (PS3.7 D.3.3.3): operations outstanding at a time; 0 is unlimited."""

    invoked: int
    performed: int


class Role(NamedTuple):
    """SCP/SCU role selection (PS3.7 D.3.3.4), from the association requestor's point of view in both directions."""

    sop_class: str
    scu: bool
    scp: bool


class Extended(NamedTuple):
    """SOP class extended negotiation (PS3.7 D.3.3.5): bytes whose meaning the service class defines."""

    sop_class: str
    information: bytes


class CommonExtended(NamedTuple):
    """SOP class common extended negotiation (PS3.7 D.3.3.6); in requests only, never answered."""

    sop_class: str
    service_class: str
    related: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """User identity of a request (PS3.7 D.3.3.7): 1 name, 2 name and passcode, 3 Kerberos, 4 SAML, 5 JWT. Never shown."""

    type: int
    response_requested: bool
    primary: bytes = field(repr=False)
    secondary: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class UserInformation:
    """The user information item. `max_length` is bytes of a P-DATA-TF's variable field that its sender accepts, 0 any.

    `identity` and `common_extended` belong to requests, `identity_response` to answers.
    """

    max_length: int = DEFAULT_MAX_LENGTH
    implementation_uid: str = ""
    implementation_version: str = ""
    window: Window | None = None
    roles: tuple[Role, ...] = ()
    extended: tuple[Extended, ...] = ()
    common_extended: tuple[CommonExtended, ...] = ()
    identity: Identity | None = None
    identity_response: bytes | None = None


# ---------------------------------------------------------------- reading


def item_spans(body: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(type, start, end) of the values of the items that fill body[start:end]; ProtocolError when they do not."""
    while start < end:
        if end - start < 4:
            raise ProtocolError(f"{end - start} bytes where an item was expected")
        length = unpack_from(">H", body, start + 2)[0]
        kind, start = body[start], start + 4
        if length > end - start:
            raise ProtocolError(f"item {kind:02X}H of {length} bytes where {end - start} are left")
        yield kind, start, start + length
        start += length


def uid_text(value: bytes) -> str:
    """A UID as text. Padding is no part of it, though some devices send it (PS3.8 annex F)."""
    return value.decode("latin-1").strip("\0 ")


def _counted(body: bytes, start: int, end: int) -> tuple[bytes, int]:
    """The value behind a length of two bytes, and where it ends."""
    if end - start < 2:
        raise ProtocolError("a sub-item ends before its length field")
    length = unpack_from(">H", body, start)[0]
    start += 2
    if length > end - start:
        raise ProtocolError(f"a field of {length} bytes where {end - start} are left in its sub-item")
    return body[start : start + length], start + length


def _exactly(length: int, start: int, end: int, name: str) -> None:
    if end - start != length:
        raise ProtocolError(f"{name} of {end - start} bytes instead of {length}")


def read_proposed(body: bytes, start: int, end: int) -> ProposedContext:
    """Presentation context item of a request (PS3.8 9.3.2.2)."""
    number = _context_id(body, start, end)
    abstract, syntaxes = "", list[str]()
    for kind, first, last in item_spans(body, start + 4, end):
        if kind == 0x30:
            abstract = uid_text(body[first:last])
        elif kind == 0x40:
            syntaxes.append(uid_text(body[first:last]))
            if len(syntaxes) > TRANSFER_SYNTAXES_MAX:
                raise ProtocolError(f"more than {TRANSFER_SYNTAXES_MAX} transfer syntaxes in one presentation context")
    return ProposedContext(number, abstract, tuple(syntaxes))


def read_answered(body: bytes, start: int, end: int) -> AnsweredContext:
    """Presentation context item of an answer (PS3.8 9.3.3.2). The transfer syntax may be missing where it is refused."""
    number, result, syntax = _context_id(body, start, end), body[start + 2], ""
    for kind, first, last in item_spans(body, start + 4, end):
        if kind == 0x40:
            syntax = uid_text(body[first:last])
    if result == Result.ACCEPTED and not syntax:
        raise ProtocolError(f"presentation context {number} is accepted without a transfer syntax")
    return AnsweredContext(number, result, syntax)


def _context_id(body: bytes, start: int, end: int) -> int:
    if end - start < 4:
        raise ProtocolError("a presentation context item of less than 4 bytes")
    number = body[start]
    if not number & 1:
        raise ProtocolError(f"presentation context id {number} is not odd")
    return number


def read_user_information(body: bytes, start: int, end: int) -> UserInformation:
    """User information item (PS3.8 9.3.2.3, annex D). Sub-items that are not known are skipped, as 9.3.1 asks."""
    max_length, window, identity, response = DEFAULT_MAX_LENGTH, None, None, None
    names = {0x52: "", 0x55: ""}
    roles, extended, common = list[Role](), list[Extended](), list[CommonExtended]()
    for count, (kind, first, last) in enumerate(item_spans(body, start, end), 1):
        if count > SUB_ITEMS_MAX:
            raise ProtocolError(f"more than {SUB_ITEMS_MAX} sub-items in the user information")
        if kind == 0x51:
            _exactly(4, first, last, "maximum length sub-item")
            max_length = unpack_from(">I", body, first)[0]
        elif kind in names:
            names[kind] = uid_text(body[first:last])
        elif kind == 0x53:
            _exactly(4, first, last, "asynchronous operations window sub-item")
            window = Window(*unpack_from(">HH", body, first))
        elif kind == 0x54:
            roles.append(_read_role(body, first, last))
        elif kind == 0x56:
            uid, first = _counted(body, first, last)
            extended.append(Extended(uid_text(uid), body[first:last]))
        elif kind == 0x57:
            common.append(_read_common(body, first, last))
        elif kind == 0x58:
            identity = _read_identity(body, first, last)
        elif kind == 0x59:
            response = _counted(body, first, last)[0]
    return UserInformation(
        max_length,
        names[0x52],
        names[0x55],
        window,
        tuple(roles),
        tuple(extended),
        tuple(common),
        identity,
        response,
    )


def _read_role(body: bytes, start: int, end: int) -> Role:
    uid, start = _counted(body, start, end)
    _exactly(2, start, end, "roles of a role selection sub-item")
    return Role(uid_text(uid), body[start] == 1, body[start + 1] == 1)


def _read_common(body: bytes, start: int, end: int) -> CommonExtended:
    uid, start = _counted(body, start, end)
    service, start = _counted(body, start, end)
    listed, _ = _counted(body, start, end)  # what follows is reserved for later versions
    related, at = list[str](), 0
    while at < len(listed):
        value, at = _counted(listed, at, len(listed))
        related.append(uid_text(value))
        if len(related) > RELATED_MAX:
            raise ProtocolError(f"more than {RELATED_MAX} related general SOP classes of one SOP class")
    return CommonExtended(uid_text(uid), uid_text(service), tuple(related))


def _read_identity(body: bytes, start: int, end: int) -> Identity:
    if end - start < 2:
        raise ProtocolError("a user identity sub-item of less than 2 bytes")
    kind, wanted = body[start], body[start + 1] == 1
    primary, start = _counted(body, start + 2, end)
    secondary, start = _counted(body, start, end)
    return Identity(kind, wanted, primary, secondary)


# ---------------------------------------------------------------- writing


def item(kind: int, value: bytes, reserved: int = 0) -> bytes:
    """An item; ValueError when the value is longer than its length field can say."""
    if len(value) > 0xFFFF:
        raise ValueError(f"item {kind:02X}H would be longer than 65535 bytes")
    return pack(">BBH", kind, reserved, len(value)) + value


def _with_length(value: bytes) -> bytes:
    if len(value) > 0xFFFF:
        raise ValueError("a field of a sub-item would be longer than 65535 bytes")
    return pack(">H", len(value)) + value


def _uid(text: str) -> bytes:
    return _with_length(text.encode("latin-1"))


def proposed_bytes(context: ProposedContext) -> bytes:
    """Presentation context item of a request."""
    syntaxes = b"".join(item(0x40, uid.encode("latin-1")) for uid in context.transfer_syntaxes)
    return item(0x20, pack("B3x", context.id) + item(0x30, context.abstract_syntax.encode("latin-1")) + syntaxes)


def answered_bytes(context: AnsweredContext) -> bytes:
    """Presentation context item of an answer."""
    return item(0x21, pack("BxBx", context.id, context.result) + item(0x40, context.transfer_syntax.encode("latin-1")))


def user_information_bytes(user: UserInformation) -> bytes:
    """User information item, sub-items in the order of their types."""
    parts = [item(0x51, pack(">I", user.max_length)), item(0x52, user.implementation_uid.encode("latin-1"))]
    if user.window is not None:
        parts.append(item(0x53, pack(">HH", *user.window)))
    parts += [item(0x54, _uid(role.sop_class) + bytes((role.scu, role.scp))) for role in user.roles]
    if user.implementation_version:
        parts.append(item(0x55, user.implementation_version.encode("latin-1")))
    parts += [item(0x56, _uid(each.sop_class) + each.information) for each in user.extended]
    for common in user.common_extended:
        related = b"".join(_uid(uid) for uid in common.related)
        parts.append(item(0x57, _uid(common.sop_class) + _uid(common.service_class) + _with_length(related)))
    identity = user.identity
    if identity is not None:
        head = bytes((identity.type, identity.response_requested))
        parts.append(item(0x58, head + _with_length(identity.primary) + _with_length(identity.secondary)))
    if user.identity_response is not None:
        parts.append(item(0x59, _with_length(user.identity_response)))
    return item(0x50, b"".join(parts))
