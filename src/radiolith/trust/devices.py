"""Who a calling device is: AE title and network address (or certificate) to principal.

Owns: the decision whether an association is let in, and as whom. Must never: take an AE title alone for an identity, or ask
a name server about a stranger. The tenant follows from the called AE title.

While only loopback listens, any calling AE title from this machine is the principal `local` (DESIGN 2.9). For STRANGERS after
a tenant was made, a device that is no peer may hand over what is then set aside (`trust.access`); afterwards it is refused. Both
are listed (`knocks`).

Limits: what is known of the peers of a tenant is remembered REMEMBER seconds: that is how long a removed peer may still
get in. A device that the list has no room for is refused at any time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from radiolith.config import Dimse
from radiolith.index import accounts
from radiolith.index.accounts import Peer
from radiolith.index.database import Database
from radiolith.index.knocks import Caller
from radiolith.model import NotAllowed, Principal, Tenant
from radiolith.storage.blobs import microseconds
from radiolith.trust.access import STRANGER
from radiolith.trust.knocks import Knocks

REMEMBER = 0.7
RESOLVED = 60.0
"""Seconds for which a peer's host name stands for the addresses it had."""
LOCAL_ROLE = "editor"
"""Of whoever calls from this machine while nobody else can: all services, nothing of the administration."""
PEER_ROLE = "editor"
"""Of a peer of which nothing else was said."""
STRANGERS = 86_400_000_000
"""Microseconds after a tenant was made in which devices that nobody has entered yet may send: the day of the installation."""
UNKNOWN = "unknown device"
"""Name of the principal of a stranger; which one it was is the source of what it sent."""


SERVICES = ("echo", "store", "find", "move", "get", "commit")
"""What a peer may be restricted to."""


def split_services(text: str) -> list[str]:
    """'store, commit' -> ['store', 'commit']."""
    return [word.strip() for word in text.split(",") if word.strip()]


def titles(dimse: Dimse) -> dict[str, str]:
    """AE title -> name of the tenant: what this archive answers to."""
    further = (entry.partition("=") for entry in dimse.titles)
    return {dimse.aet: "default"} | {title: tenant or "default" for title, _, tenant in further}


class UnknownCalled(NotAllowed):
    """No AE title of this archive."""


class UnknownCalling(NotAllowed):
    """No peer has this AE title and calls from there."""


@dataclass(frozen=True, slots=True)
class Knock:
    """Who calls whom, from where. `names`: those in the peer's verified certificate, none without one; `tls`: it is spoken."""

    calling: str
    called: str
    address: str
    names: frozenset[str] = frozenset()
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """`services`: all that it may ask for, of SERVICES; none said means all. `charset`: defined terms of what it reads."""

    principal: Principal
    peer: str  # name of the peer, '' for one that is let in as local
    services: frozenset[str] = frozenset()
    charset: tuple[str, ...] = ()


class Devices:
    """`titles`: AE title -> name of the tenant. `open_to_loopback`: nothing but loopback listens, on any door."""

    def __init__(
        self,
        database: Database,
        titles: Mapping[str, str],
        open_to_loopback: bool,
        clock: Callable[[], int] = microseconds,
    ):
        self._database, self._titles, self._open, self._clock = database, titles, open_to_loopback, clock
        self._knocks = Knocks(database, clock)
        self._known: dict[str, tuple[float, Tenant | None, list[Peer]]] = {}
        self._made: dict[int, int] = {}  # when each tenant was made
        self._addresses: dict[str, tuple[float, frozenset[str]]] = {}

    async def admit(self, knock: Knock) -> Admission:
        """Raises UnknownCalled, UnknownCalling, Unavailable."""
        name = self._titles.get(knock.called)
        if name is None:
            raise UnknownCalled(f"'{knock.called[:16]}' is no AE title of this archive")
        tenant, peers = await self._tenant(name)
        if tenant is None:
            raise UnknownCalled(f"the AE title '{knock.called[:16]}' belongs to a tenant that does not exist")
        for peer in peers:
            if peer.more.get("aet") == knock.calling and await self._is_from(peer, knock):
                role = str(peer.more.get("role") or PEER_ROLE)
                charset = str(peer.more.get("charset") or "")
                return Admission(
                    Principal(tenant, peer.name, role, "peer"),
                    peer.name,
                    frozenset(split_services(str(peer.more.get("services") or ""))),
                    tuple(charset.split("\\")) if charset else (),
                )
        if self._open and _is_loopback(knock.address):
            return Admission(Principal(tenant, "local", LOCAL_ROLE, "local"), "")
        return await self._stranger(tenant, knock)

    async def _stranger(self, tenant: Tenant, knock: Knock) -> Admission:
        """A device that nobody has entered: on the list, and for a while let in."""
        early = self._clock() - self._made.get(tenant.id, 0) < STRANGERS
        caller = Caller(knock.calling[:16], knock.called[:16], plain(knock.address))
        listed = await self._knocks.note(tenant.id, caller, admitted=early)
        if early and listed:
            return Admission(Principal(tenant, UNKNOWN, STRANGER, "stranger"), "")
        raise UnknownCalling(f"'{knock.calling[:16]}' from {knock.address} is no peer of this archive")

    async def peer_with(self, tenant: Tenant, aet: str) -> Peer | None:
        """The peer of this tenant with this AE title: where a C-MOVE may send. None when there is none."""
        for look_again in (False, True):  # it may have been entered a moment ago
            if look_again:
                self._known.pop(tenant.name, None)
            _, peers = await self._tenant(tenant.name)
            found = next((peer for peer in peers if peer.more.get("aet") == aet), None)
            if found is not None:
                return found
        return None

    async def _tenant(self, name: str) -> tuple[Tenant | None, list[Peer]]:
        known = self._known.get(name)
        if known is None or time.monotonic() - known[0] > REMEMBER:
            tenant, peers = await asyncio.to_thread(self._look, name)
            known = self._known[name] = (time.monotonic(), tenant, peers)
        return known[1], known[2]

    def _look(self, name: str) -> tuple[Tenant | None, list[Peer]]:
        with self._database.read() as read:
            tenant = next((tenant for tenant in accounts.tenants(read) if tenant.name == name), None)
            if tenant is None:
                return None, []
            self._made[tenant.id] = accounts.tenant_since(read, tenant.id)
            return tenant, accounts.peers(read, tenant.id)

    async def _is_from(self, peer: Peer, knock: Knock) -> bool:
        """A verified certificate says it alone; a peer of which a certificate is known must show it."""
        host, certificate = str(peer.more.get("address", "")), str(peer.more.get("certificate") or "")
        if peer.more.get("tls") and not knock.tls:
            return False
        if knock.names or certificate:
            return (certificate or host).lower() in knock.names
        try:
            return ipaddress.ip_address(plain(knock.address)) in ipaddress.ip_network(host, strict=False)
        except ValueError:
            return plain(knock.address) in await self._resolved(host)

    async def _resolved(self, host: str) -> frozenset[str]:
        known = self._addresses.get(host)
        if known is None or time.monotonic() - known[0] > RESOLVED:
            try:
                found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except OSError:
                found = []
            known = self._addresses[host] = (time.monotonic(), frozenset(plain(str(entry[4][0])) for entry in found))
        return known[1]


def plain(address: str) -> str:
    """An IPv4 address that came in over IPv6 is an IPv4 address."""
    return address.removeprefix("::ffff:").partition("%")[0]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(plain(address)).is_loopback
    except ValueError:
        return False
