"""Statuses of DIMSE responses: the one table, for every service of this edge (PS3.7 annex C, PS3.4 B.2.3, C.4, J.3).

Owns: which status a failure of `model` is in which service, and what of its sentence the peer sees. Must never: know a
request. A peer tries again later what is refused for resources (A700); so that is what a store is answered whenever
the object itself was not at fault.

Limits: ErrorComment is LO, COMMENT_MAX characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from radiolith.dimse.commands import Command, Plain
from radiolith.model import (
    BadInput,
    Conflict,
    Damaged,
    Failure,
    LimitExceeded,
    NoSpace,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Unavailable,
    Unsupported,
)

COMMENT_MAX = 64
"""Characters of an ErrorComment (LO, PS3.7 annex E.1)."""
ELEMENTS_MAX = 64
"""Tags of an OffendingElement."""


class Status:
    """The status codes this edge sends or acts on (PS3.7 annex C, PS3.4 tables B.2-1, C.4-1 to C.4-3)."""

    SUCCESS = 0x0000
    PENDING = 0xFF00
    PENDING_UNSUPPORTED_KEYS = 0xFF01
    CANCEL = 0xFE00

    SUBOPERATIONS_FAILED = 0xB000  # of C-MOVE and C-GET: complete, one or more failures or warnings
    COERCED = 0xB000  # of C-STORE

    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    INVALID_ARGUMENT = 0x0115
    INVALID_SOP_INSTANCE = 0x0117
    NO_SUCH_SOP_CLASS = 0x0118
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION = 0x0123
    NOT_AUTHORIZED = 0x0124
    DUPLICATE_INVOCATION = 0x0210
    UNRECOGNIZED_OPERATION = 0x0211
    MISTYPED_ARGUMENT = 0x0212
    RESOURCE_LIMITATION = 0x0213

    OUT_OF_RESOURCES = 0xA700
    NO_MATCHES_CALCULATED = 0xA701  # of C-MOVE and C-GET: unable to calculate the number of matches
    NO_SUBOPERATIONS = 0xA702  # of C-MOVE and C-GET: unable to perform sub-operations
    DESTINATION_UNKNOWN = 0xA801
    DOES_NOT_MATCH_SOP_CLASS = 0xA900  # the data set of C-STORE, the identifier of C-FIND, C-MOVE and C-GET
    CANNOT_UNDERSTAND = 0xC000  # of C-STORE
    UNABLE_TO_PROCESS = 0xC001  # of C-FIND, C-MOVE and C-GET


class Service(Enum):
    """Which table of statuses holds."""

    STORE = "C-STORE"
    FIND = "C-FIND"
    RETRIEVE = "C-MOVE, C-GET"
    NORMALIZED = "N-ACTION, N-EVENT-REPORT and the other DIMSE-N services"


class Refused(BadInput):
    """A request that is answered with this status. `elements`: tags of the elements at fault, in the data set."""

    def __init__(self, status: int, message: str, *elements: int):
        super().__init__(message)
        self.status = status
        self.elements = elements[:ELEMENTS_MAX]


class Trouble(NamedTuple):
    """What a response says of a failure."""

    status: int
    comment: str
    elements: tuple[int, ...] = ()

    def answer(self, request: Command) -> Command:
        """The response to `request` that says so; it has no data set."""
        fields: dict[str, Plain] = {"ErrorComment": self.comment}
        if self.elements:
            fields["OffendingElement"] = self.elements
        return request.answer(self.status, False, **fields)


_S = Status
_ANY: tuple[tuple[type[Failure], int], ...] = ((NotAuthenticated, _S.NOT_AUTHORIZED), (NotAllowed, _S.NOT_AUTHORIZED))

# The most specific class first: the first match counts; what is in no row is our own fault.
_TABLES: Mapping[Service, tuple[tuple[type[Failure], int], ...]] = {
    Service.STORE: (
        *_ANY,
        (LimitExceeded, _S.OUT_OF_RESOURCES),
        (BadInput, _S.CANNOT_UNDERSTAND),
        (Unsupported, _S.CANNOT_UNDERSTAND),
        (Conflict, _S.DOES_NOT_MATCH_SOP_CLASS),
        (NoSpace, _S.OUT_OF_RESOURCES),
        (Unavailable, _S.OUT_OF_RESOURCES),
    ),
    Service.FIND: (
        *_ANY,
        (LimitExceeded, _S.OUT_OF_RESOURCES),
        (NoSpace, _S.OUT_OF_RESOURCES),
        (Unavailable, _S.OUT_OF_RESOURCES),
    ),
    Service.RETRIEVE: (
        *_ANY,
        (LimitExceeded, _S.NO_MATCHES_CALCULATED),
        (NoSpace, _S.NO_SUBOPERATIONS),
        (Unavailable, _S.NO_SUBOPERATIONS),
    ),
    Service.NORMALIZED: (
        *_ANY,
        (LimitExceeded, _S.RESOURCE_LIMITATION),
        (BadInput, _S.INVALID_ARGUMENT),
        (NotFound, _S.NO_SUCH_SOP_INSTANCE),
        (NoSpace, _S.RESOURCE_LIMITATION),
        (Unavailable, _S.RESOURCE_LIMITATION),
    ),
}
_UNEXPECTED: Mapping[Service, int] = {
    Service.STORE: _S.OUT_OF_RESOURCES,
    Service.FIND: _S.UNABLE_TO_PROCESS,
    Service.RETRIEVE: _S.UNABLE_TO_PROCESS,
    Service.NORMALIZED: _S.PROCESSING_FAILURE,
}
UNEXPECTED_COMMENT = "The request could not be carried out"


def trouble(service: Service, failure: BaseException) -> Trouble:
    """What a service answers to a failure. What is none of `model.Failure` is told without its words."""
    if isinstance(failure, Refused):
        return Trouble(failure.status, comment(str(failure)), failure.elements)
    for kind, status in _TABLES[service]:
        if isinstance(failure, kind):
            return Trouble(status, comment(str(failure)))
    if isinstance(failure, Failure) and not isinstance(failure, Damaged):
        return Trouble(_UNEXPECTED[service], comment(str(failure)))
    return Trouble(_UNEXPECTED[service], UNEXPECTED_COMMENT)


def comment(text: str) -> str:
    """A sentence as an ErrorComment: ASCII, without the backslash that would end a value, cut at a word."""
    plain = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text)
    if len(plain) <= COMMENT_MAX:
        return plain
    cut = plain.rfind(" ", COMMENT_MAX // 2, COMMENT_MAX - 2)
    return plain[: cut if cut > 0 else COMMENT_MAX - 3] + "..."
