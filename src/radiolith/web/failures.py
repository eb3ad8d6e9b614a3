"""Failures as HTTP, for pages and /api/v1: one table."""

from __future__ import annotations

from radiolith.model import (
    BadInput,
    Conflict,
    Failure,
    LimitExceeded,
    NoSpace,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Unavailable,
    Unsupported,
)

# The most specific class first: the first match counts.
STATUS: tuple[tuple[type[Failure], int], ...] = (
    (LimitExceeded, 413),
    (BadInput, 400),
    (NotAuthenticated, 401),
    (NotAllowed, 403),
    (NotFound, 404),
    (Unsupported, 406),
    (Conflict, 409),
    (NoSpace, 507),
    (Unavailable, 503),
)


def code(failure: Failure) -> int:
    """HTTP status of a failure; 500 for one that has none, damage among them."""
    return next((status for kind, status in STATUS if isinstance(failure, kind)), 500)


def sentence(failure: Failure) -> str:
    """What the client is told; without patient data by the contract of Failure, and nothing about our own insides."""
    return str(failure) if code(failure) != 500 else "The request could not be carried out."
