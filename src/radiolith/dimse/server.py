"""DICOM associations of one process: listening, letting in, draining.

Owns: the listening socket's end in this process and the acceptors behind it. Must never: look into an association.

Limits: `Terms`: associations in all and from one address, of all workers of the node (`slots`); connections beyond twice
either, those in a TLS handshake among them, are closed unheard.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from radiolith.archive.ports import Archive
from radiolith.dimse.acceptor import Acceptor
from radiolith.dimse.association import Offer
from radiolith.dimse.handshake import Listener
from radiolith.dimse.items import Identity
from radiolith.dimse.moving import Moving
from radiolith.dimse.slots import Held
from radiolith.dimse.trace import Trace
from radiolith.dimse.wire import Wire
from radiolith.model import NotAuthenticated, Principal
from radiolith.trust.access import STRANGER
from radiolith.trust.certificates import Certificates
from radiolith.trust.devices import Devices
from radiolith.trust.identity import Identities

STOP_SECONDS = 15.0
"""For associations to end by themselves; then they are aborted. As long as the web server waits."""
_NAME, _NAME_AND_PASSCODE, _JWT = 1, 2, 5
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Terms:
    """What a peer has to keep to; numbers are of all workers of a node."""

    associations: int
    associations_per_address: int
    pdu_bytes: int
    idle_seconds: float


class Node:
    """What all associations of a process have in common. `held`: what the workers of the node share; None: there is but one."""

    def __init__(
        self,
        archive: Archive,
        doors: tuple[Devices, Identities],
        offer: Offer,
        terms: Terms,
        clock: Callable[[], int],
        held: Held | None = None,
    ):
        self.archive, self.offer, self.terms, self.clock = archive, offer, terms, clock
        self.moving: Moving | None = None  # set where something can be sent to peers
        self.devices, self._identities = doors
        self.held = held or Held.of(terms.associations, terms.associations_per_address)

    async def identify(self, identity: Identity, admitted: Principal, address: str) -> Principal:
        """Who a user identity is (PS3.7 D.3.3.7); on a device that nobody has entered it changes nothing: what comes from there
        is set aside. Raises NotAuthenticated with the reason, NotAllowed."""
        try:
            first, second = identity.primary.decode("utf-8"), identity.secondary.decode("utf-8")
        except UnicodeDecodeError:
            raise NotAuthenticated("the user identity is not UTF-8") from None
        if identity.type == _NAME:
            raise NotAuthenticated("a user name without a passcode proves nothing")
        if identity.type == _NAME_AND_PASSCODE:
            cookie = await self._identities.sign_in(first, second, address)
            found = await self._identities.from_session(cookie)
            await self._identities.sign_out(cookie)
        elif identity.type == _JWT:
            found = await self._identities.from_bearer(first, address)
        else:
            raise NotAuthenticated("Kerberos tickets and SAML assertions are not checked here: give name and passcode")
        if found.tenant.id != admitted.tenant.id:
            raise NotAuthenticated("this user belongs to another AE title")
        return admitted if admitted.role == STRANGER else found


class Server:
    """`start` in the process that serves; `told` gets each association's trace when it has ended."""

    def __init__(self, node: Node, told: Callable[[Mapping[str, Any]], None]):
        self._node, self._told = node, told
        self._listening: list[asyncio.Server] = []
        self._secure: list[Listener] = []
        self._running: dict[asyncio.Task[None], Acceptor] = {}
        self._stopping = False

    async def start(self, listening: socket.socket, tls: Certificates | None = None) -> None:
        """With `tls` that is spoken on this socket, and nothing else. May be called for several sockets."""
        if tls is not None:
            listener = Listener(tls, self._node.held.connections.take, self._begun, self._failed)
            listener.start(listening)
            self._secure.append(listener)
            return
        loop = asyncio.get_running_loop()
        self._listening.append(await loop.create_server(lambda: Wire(self._opened), sock=listening))

    def _opened(self, wire: Wire) -> None:
        address = wire.address
        if self._node.held.connections.take(address):
            self._begun(wire, address)
        else:
            wire.cut()

    def _failed(self, address: str, why: str) -> None:
        """A connection that did not get through its TLS handshake."""
        self._node.held.connections.give(address)
        trace = Trace(address, self._node.clock())
        trace.ended_at = trace.at
        trace.ended(f"TLS: {why}")
        self._told(trace.told())

    def _begun(self, wire: Wire, address: str) -> None:
        acceptor = Acceptor(wire, self._node)
        if self._stopping:  # it was accepted in the last moment
            acceptor.drain()
        task = asyncio.get_running_loop().create_task(self._run(acceptor, address))
        self._running[task] = acceptor
        task.add_done_callback(lambda done: self._running.pop(done, None))

    async def _run(self, acceptor: Acceptor, address: str) -> None:
        try:
            await acceptor.run()
        except Exception:
            log.exception("an association failed", address=address)
        finally:
            self._node.held.connections.give(address)
            self._told(acceptor.trace.told())

    async def stop(self) -> None:
        """No new associations; those that are open end in order, or are aborted after STOP_SECONDS. Again: nothing."""
        loop = asyncio.get_running_loop()
        self._stopping = True
        for server in self._listening:
            server.close()
        for listener in self._secure:
            await listener.stop()
        for acceptor in self._running.values():
            acceptor.drain()
        deadline = loop.time() + STOP_SECONDS
        while self._running and loop.time() < deadline:
            await asyncio.wait(list(self._running), timeout=deadline - loop.time())
        late = list(self._running)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
