"""Failures as HTTP: what this edge adds to `httpstatus`, one error document, and the reason codes of the Store response.

Owns: what a client is told when something does not work (PS3.18 8.5, 10.5.3, table I.2-2; RFC 9457). Must never: let a
stack trace, a path or a version out; whoever needs those finds them in the log under the correlation id.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from http import HTTPStatus

import orjson

from radiolith import httpstatus
from radiolith.dicomweb.accept import NotAcceptable
from radiolith.model import (
    BadInput,
    Conflict,
    Failure,
    LimitExceeded,
    NoSpace,
    NotAllowed,
    NotAuthenticated,
    Unavailable,
    Unsupported,
)

log = logging.getLogger("radiolith.dicomweb")


class UnsupportedMedia(Unsupported):
    """The media type or content coding of a request's body is not one we read (415)."""


class TooSlow(BadInput):
    """The body came slower than a client that means it sends (408)."""


class NoSuchMethod(Failure):
    """The resource exists, the method does not (405); `allowed` goes into the Allow header."""

    def __init__(self, allowed: str):
        super().__init__("this resource does not have that method")
        self.allowed = allowed


class RangeNotSatisfiable(BadInput):
    """No byte of the range exists (416); `size` is what does."""

    def __init__(self, size: int):
        super().__init__("the range lies outside the resource")
        self.size = size


# What only this edge knows, before the table of all edges.
OWN: tuple[tuple[type[Failure], int], ...] = (
    (RangeNotSatisfiable, 416),
    (TooSlow, 408),
    (NoSuchMethod, 405),
    (UnsupportedMedia, 415),
)

# Failure Reason (0008,1197), PS3.18 table I.2-2 and PS3.7 annex C.
OUT_OF_RESOURCES = 0xA700
DATASET_MISMATCH = 0xA900
STUDY_MISMATCH = 0xA901  # ours, within A9xx: the Study Instance UID is not the one of the target URL
CANNOT_UNDERSTAND = 0xC000
QUARANTINED = 0xC001  # ours, within Cxxx: kept, but not as part of a study; Error Comment gives the quarantine id
SYNTAX_NOT_SUPPORTED = 0xC122
PROCESSING_FAILURE = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORIZED = 0x0124

# Warning Reason (0008,1196), PS3.18 table I.2-1 and within Bxxx our own.
VERSION_KEPT = 0xB001  # other content under a UID we hold: kept as a further version

REASONS: tuple[tuple[type[Failure], int], ...] = (
    (NotAllowed, NOT_AUTHORIZED),
    (LimitExceeded, OUT_OF_RESOURCES),
    (BadInput, CANNOT_UNDERSTAND),
    (Unsupported, SYNTAX_NOT_SUPPORTED),
    (Conflict, DATASET_MISMATCH),
    (NoSpace, OUT_OF_RESOURCES),
    (Unavailable, OUT_OF_RESOURCES),
)


def code(failure: Failure) -> int:
    """HTTP status of a failure."""
    return httpstatus.code(failure, OWN)


def reason(failure: Failure) -> int:
    """Failure Reason of one instance of a Store request."""
    return next((value for kind, value in REASONS if isinstance(failure, kind)), PROCESSING_FAILURE)


def headers(failure: Failure) -> list[tuple[str, str]]:
    """What a status demands beside its body."""
    if isinstance(failure, NotAuthenticated):
        return [("www-authenticate", 'Bearer realm="radiolith"')]
    if isinstance(failure, Unavailable):
        return [("retry-after", str(failure.retry_after))]
    if isinstance(failure, NoSuchMethod):
        return [("allow", failure.allowed)]
    if isinstance(failure, RangeNotSatisfiable):
        return [("content-range", f"bytes */{failure.size}")]
    return []


def correlation(random: Callable[[int], bytes] = os.urandom) -> str:
    """What ties an error answer to the log."""
    return random(8).hex()


def problem(failure: Failure, correlation_id: str) -> bytes:
    """The error document (RFC 9457), `detail` being the failure's own sentence: without patient data by contract."""
    status = code(failure)
    document: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": str(failure) if status != 500 else httpstatus.UNEXPECTED,
        "correlation": correlation_id,
    }
    if isinstance(failure, NotAcceptable) and failure.available:
        document["available"] = list(failure.available)
    return orjson.dumps(document)


def unexpected(correlation_id: str) -> bytes:
    """The error document of something nobody foresaw; the log has the rest."""
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": HTTPStatus(500).phrase,
            "status": 500,
            "detail": httpstatus.UNEXPECTED,
            "correlation": correlation_id,
        }
    )


def warning(service: str, text: str) -> str:
    """A Warning header (PS3.18 8.3.4, 10.6.3): code 299, the service as agent, the text quoted."""
    clean = "".join(c if " " <= c <= "~" else "?" for c in text).replace("\\", "/").replace('"', "'")
    return f'299 {service} "{clean}"'
