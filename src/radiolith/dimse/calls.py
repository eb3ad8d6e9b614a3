"""Calls to a peer: whom we call, where the call is put on record, and in what ways it fails.

Owns: these nouns, for `scu` and whoever uses it. Must never: act.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from radiolith.archive.ports import Archive
from radiolith.dimse.commands import Command
from radiolith.model import Principal, Unavailable


class Unreachable(Unavailable):
    """No connection."""


class AssociationRejected(Unavailable):
    """The peer does not want this association."""


class NothingAccepted(Unavailable):
    """The peer accepted no presentation context for what is to be done."""


class NoAnswer(Unavailable):
    """The peer is silent."""


class Declined(Unavailable):
    """The peer answered with a failure. `status` as in the response, `comment` its Error Comment."""

    def __init__(self, command: Command):
        self.status, self.comment = command.status, command.text("ErrorComment")
        what = command.name.removesuffix("-RSP")
        super().__init__(f"the peer answered {what} with status {self.status:04X}: {self.comment or 'no reason given'}")


@dataclass(frozen=True, slots=True)
class Record:
    """Where the traces of a process's associations go. `tenant`: row id of the tenant on whose behalf we call; `clock`: in
    microseconds."""

    told: Callable[[Mapping[str, Any]], None]
    clock: Callable[[], int]
    tenant: int


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to call. `tls`: how its certificate is checked, None for plain TCP; `name`: what it is called here; `certificate`:
    the name in its certificate, where that is not the host's. `record`: None where nobody keeps one."""

    aet: str
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    name: str = ""
    certificate: str = ""
    record: Record | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.aet} at {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Ours:
    """What serves the peer's requests on an association of ours, and as whom."""

    archive: Archive
    principal: Principal


@dataclass(frozen=True, slots=True)
class Progress:
    """A response to C-MOVE or C-GET (PS3.4 C.4.2.1.4, C.4.3.1.4): sub-operations by their end, -1 where not said.

    `identifier` has the Failed SOP Instance UID List, b'' without one.
    """

    status: int
    remaining: int
    completed: int
    failed: int
    warning: int
    comment: str = ""
    identifier: bytes = b""

    @property
    def pending(self) -> bool:
        return is_pending(self.status)


def is_pending(status: int) -> bool:
    return status in (0xFF00, 0xFF01)
