"""Failures as HTTP statuses: the one table, for every edge that speaks HTTP.

Owns: which status a failure of `model` is, and what of its sentence a client sees. Must never: know a request, or the
failures that only one edge has (it puts those in front of this table).
"""

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

# The most specific class first: the first match counts. What is not in it is our own fault (500), damage among it.
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

UNEXPECTED = "The request could not be carried out."


def code(failure: Failure, own: tuple[tuple[type[Failure], int], ...] = ()) -> int:
    """HTTP status of a failure; `own`: an edge's own rows, which go before the table."""
    return next((status for kind, status in (*own, *STATUS) if isinstance(failure, kind)), 500)


def sentence(failure: Failure) -> str:
    """What the client is told; without patient data by the contract of Failure, and nothing about our own insides."""
    return UNEXPECTED if code(failure) == 500 else str(failure)
