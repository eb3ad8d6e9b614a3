"""Devices beside the archive, seen from the edges: the peers, who else has called, and one call that accepts a device.

Owns: that what a device sent before it was accepted is received again as its own. Must never: accept by AE title alone where
several devices call themselves so, or take anything off the quarantine's list before it is held as what it is. Accepting
may be repeated: it goes on where it was interrupted, and takes what has come since on associations that were open.

A device that called over TLS becomes a peer with TLS, known by its certificate if it showed one. That is read from the trace of
its last call, so it must be said again, or the device call again, once that is forgotten (`traces`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from radiolith.archive.accounts import Accounts
from radiolith.archive.associations import Associations
from radiolith.archive.deciding import Deciding
from radiolith.archive.ingest import Ingest
from radiolith.archive.sidelined import Sidelined
from radiolith.index import audit, knocks, peer_reports, quarantine
from radiolith.index.accounts import Peer
from radiolith.index.knocks import Known
from radiolith.index.peer_reports import PeerReport
from radiolith.index.quarantine import Quarantined
from radiolith.index.session import Reader, Writer
from radiolith.model import AuditEvent, BadInput, Conflict, NotFound, Principal, Source
from radiolith.trust.access import SET_ASIDE, Action, require
from radiolith.trust.certificates import name_to_know
from radiolith.trust.devices import PEER_ROLE

PORT, PORT_TLS = 104, 2762
"""Of a device of which nobody has said another (PS3.8 9.1.1, PS3.15 B.12)."""
PAGE = 500  # rows of the quarantine of one look


@dataclass(frozen=True, slots=True)
class Acceptance:
    """`received`: what was set aside and is kept as what it is now; `left`: in quarantine still, each for a reason of its own.
    `port`, `tls`, `certificate`: of the peer as it is entered."""

    name: str
    address: str
    port: int
    tls: bool
    certificate: str
    received: int
    left: int


class Peers:
    def __init__(
        self, deciding: Deciding, accounts: Accounts, ingest: Ingest, sidelined: Sidelined, associations: Associations
    ):
        self._deciding, self._accounts, self._ingest, self._sidelined = deciding, accounts, ingest, sidelined
        self._associations = associations

    async def list(self, principal: Principal) -> list[Peer]:
        return await self._accounts.peers(principal)

    async def add(self, principal: Principal, name: str, body: dict[str, Any]) -> None:
        """As `Accounts.add_peer`. Raises Conflict, BadInput."""
        await self._accounts.add_peer(principal, name, body)

    async def remove(self, principal: Principal, name: str) -> None:
        """Raises NotFound."""
        await self._accounts.remove_peer(principal, name)

    async def knocks(self, principal: Principal) -> list[Known]:
        """Devices that called and are no peers, latest first."""
        require(principal, Action.ACCOUNTS)
        found = await self._deciding.look(lambda read: knocks.listed(read, principal.tenant.id))
        await self._deciding.note(principal, "", "knocks", len(found))
        return found

    async def accept(
        self, principal: Principal, aet: str, *, name: str = "", address: str = "", about: dict[str, Any] | None = None
    ) -> Acceptance:
        """Make a device that called a peer, and receive again what was set aside from it.

        name: '' takes its AE title. address: which one, where several call themselves so. about: further settings of the
        peer; `port`, `tls` and `certificate` are taken from its last call where they are not among them. Raises NotFound,
        Conflict, BadInput.
        """
        require(principal, Action.ACCOUNTS)
        where = await self._address(principal, aet, address)
        peers = await self._accounts.peers(principal)
        same = [peer for peer in peers if (peer.more.get("aet"), peer.more.get("address")) == (aet, where)]
        name, body = (same[0].name, same[0].more) if same else (name or aet, {})
        if not same:
            if any(peer.name == name for peer in peers):
                raise Conflict(f"there is another peer '{name}' already; give this one a name")
            body = {"aet": aet, "address": where} | await self._secured(aet, where, about or {})
            await self._accounts.add_peer(principal, name, body)
        received, left = await self._receive(principal, Source("dimse", aet, where), name)
        certificate = str(body.get("certificate") or "")
        return Acceptance(name, where, int(body.get("port", 0)), bool(body.get("tls")), certificate, received, left)

    async def _secured(self, aet: str, address: str, about: Mapping[str, Any]) -> dict[str, Any]:
        """What was said, and of the rest how the device called the last time. No certificate is '': it is not written."""
        called = await self._associations.shown(aet, address) or {}
        certificate = about.get("certificate")
        tls = bool(about.get("tls", bool(certificate) or bool(called.get("tls"))))
        if certificate and not tls:
            raise BadInput("a certificate is shown over TLS alone")
        if certificate is None and tls:
            certificate = name_to_know(called.get("names", ()))
        body = {"port": PORT_TLS if tls else PORT, **about, "tls": tls, "certificate": certificate}
        return {key: value for key, value in body.items() if key != "certificate" or value}

    async def _address(self, principal: Principal, aet: str, address: str) -> str:
        def look(read: Reader) -> set[str]:
            """On an association that was open when it was accepted it was a stranger still: what came is there to be taken."""
            called = {
                one.caller.address for one in knocks.listed(read, principal.tenant.id) if one.caller.calling == aet
            }
            sent = knocks.quarantined_by(read, principal.tenant.id)
            return called | {source.address for source in sent if (source.door, source.peer) == ("dimse", aet)}

        addresses = sorted(await self._deciding.look(look))
        if address in addresses:
            return address
        if not addresses or address:
            raise NotFound(f"no unknown device has called as '{aet}'{f' from {address}' if address else ''}")
        if len(addresses) > 1:
            raise Conflict(f"'{aet}' has called from several addresses, say which one: {', '.join(addresses)}")
        return addresses[0]

    async def _receive(self, principal: Principal, source: Source, name: str) -> tuple[int, int]:
        """Oldest first, as it came; how many are kept now, and how many were left."""
        peer = Principal(principal.tenant, name, PEER_ROLE, "peer")
        received = left = 0
        for id in reversed(await self._deciding.look(lambda read: _set_aside(read, principal.tenant.id, source))):
            row = await self._deciding.look(lambda read, id=id: _row(read, principal.tenant.id, id))
            stream = await self._sidelined.original(principal, id)
            intake = self._ingest.begin(peer, source, transfer_syntax=row.guess.get("syntax"))
            try:
                async for chunk in stream.chunks():
                    await intake.write(chunk)
            except BaseException:
                await intake.abort()
                raise
            receipt = await (await intake.finish())
            await self._sidelined.release(principal, id)
            received, left = received + (receipt.identity is not None), left + (receipt.identity is None)
        await self._deciding.change(lambda tx: knocks.forget(tx, principal.tenant.id, source.peer, source.address))
        return received, left

    # ------------------------------------------------------------ what peers were not told

    async def reports(self, principal: Principal, limit: int = 100, before: int = 0) -> list[PeerReport]:
        """Results of storage commitment and notifications that no peer has taken yet, latest first."""
        require(principal, Action.SEND)
        found = await self._deciding.look(lambda read: peer_reports.listed(read, principal.tenant.id, limit, before))
        await self._deciding.note(principal, "", "reports to peers", len(found))
        return found

    async def report_again(self, principal: Principal, number: int) -> PeerReport:
        """Make a report once more that was given up, with all its tries; one that waits: now. Raises NotFound, Conflict."""
        require(principal, Action.SEND)

        def change(tx: Writer) -> PeerReport:
            found = _report(tx, principal, number)
            now = self._deciding.now()
            if not peer_reports.again(tx, principal.tenant.id, number, now):
                raise Conflict(f"'{found.to.aet}' has taken report {number}: there is nothing to send again")
            audit.insert(tx, [_changed(principal, now, "report again", found)])
            return _report(tx, principal, number)

        return await self._deciding.change(change)

    async def drop_report(self, principal: Principal, number: int) -> PeerReport:
        """Do not make a report that no peer has taken. Raises NotFound, Conflict."""
        require(principal, Action.SEND)

        def change(tx: Writer) -> PeerReport:
            found = _report(tx, principal, number)
            if not peer_reports.drop(tx, principal.tenant.id, number):
                raise Conflict(f"'{found.to.aet}' has taken report {number}")
            audit.insert(tx, [_changed(principal, self._deciding.now(), "report dropped", found)])
            return found

        return await self._deciding.change(change)


def _report(read: Reader, principal: Principal, number: int) -> PeerReport:
    found = peer_reports.get(read, principal.tenant.id, number)
    if found is None:
        raise NotFound(f"there is no report {number}; radiolith peer reports lists them")
    return found


def _changed(principal: Principal, now: int, action: str, report: PeerReport) -> AuditEvent:
    detail = f"{report.kind.name.lower()} for {report.to.aet}"
    return AuditEvent(now, principal.tenant.id, principal.name, action, "", detail=detail)


def _set_aside(read: Reader, tenant: int, source: Source) -> list[str]:
    """Ids of what was set aside from this device, latest first."""
    found: list[str] = []
    after = ""
    while True:
        page = quarantine.quarantined(read, tenant, PAGE, after)
        found += [row.blob.object_id.hex() for row in page if row.reason == SET_ASIDE and row.source == source]
        if len(page) < PAGE:
            return found
        after = page[-1].blob.object_id.hex()


def _row(read: Reader, tenant: int, id: str) -> Quarantined:
    row = quarantine.quarantined_one(read, tenant, bytes.fromhex(id))
    if row is None:
        raise NotFound("nothing in quarantine has this id")
    return row
