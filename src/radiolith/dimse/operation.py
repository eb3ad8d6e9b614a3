"""One request that came in on an association, as a service sees it.

Owns: the request with its identifier, the way back to its peer, and whether it was cancelled. Must never: know a service, or
a socket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radiolith.archive.ports import Archive
from radiolith.dimse.association import Context
from radiolith.dimse.commands import Command, Plain
from radiolith.dimse.sending import Sender
from radiolith.dimse.status import Trouble
from radiolith.model import Principal

if TYPE_CHECKING:
    from radiolith.dimse.moving import Moving

DATA_SET_MAX = 1 << 20
"""Bytes of an identifier: a list of 10,000 UIDs has 650 KB."""
ACTION_MAX = 32 << 20
"""Bytes of what N-ACTION and N-EVENT-REPORT carry: a commitment request of 200,000 instances."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: what the association was accepted as."""

    principal: Principal
    peer: str  # name of the peer, '' for a local one
    calling: str
    called: str
    address: str
    charset: tuple[str, ...] = ()  # what it reads text in; () leaves that to its requests


@dataclass(slots=True)
class Operation:
    """`data`: the whole data set of the request, b'' where it has none. `contexts`: all of the association.

    `cancelled` turns true when the peer says so, and when its association ends: then `gone` says why, unless the peer had
    cancelled before. `status` is that of the last response. `behind`: set by a service that has
    more to do once it has answered; nobody waits for that, and it ends with the association.
    """

    archive: Archive
    caller: Caller
    sender: Sender
    contexts: Mapping[int, Context]
    context: Context
    command: Command
    data: bytes = b""
    moving: Moving | None = None  # of the process; None where nothing can be sent
    cancelled: bool = False
    gone: str = ""
    status: int = -1
    behind: Callable[[], Awaitable[None]] | None = None

    def respond(self, status: int, data: bytes | None = None, **fields: Plain) -> None:
        """Send a response; nothing happens when the association is over."""
        self.status = status
        self.sender.send(self.context.id, self.command.answer(status, data is not None, **fields), data)

    def fail(self, trouble: Trouble) -> None:
        self.status = trouble.status
        self.sender.send(self.context.id, trouble.answer(self.command))
