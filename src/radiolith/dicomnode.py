"""What makes a process a DICOM node: the associations it takes, and what it sends to its peers.

Owns: the wiring of the DICOM edge, for workers and for the jobs process. Must never: decide anything about an object, a person
or a request.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
import uuid
from collections.abc import Callable
from functools import partial

from radiolith.archive.outbox import Outbox
from radiolith.config import Dimse
from radiolith.dimse import services
from radiolith.dimse.calls import Record
from radiolith.dimse.committed import Report
from radiolith.dimse.delivery import DimseDelivery
from radiolith.dimse.delivery import Means as Deliveries
from radiolith.dimse.moving import Moving
from radiolith.dimse.operation import Operation
from radiolith.dimse.reporting import DimseReporting
from radiolith.dimse.server import Node, Server, Terms
from radiolith.dimse.slots import Held
from radiolith.graph import Graph
from radiolith.index import accounts, heldrows
from radiolith.index.accounts import Peer
from radiolith.index.database import Database
from radiolith.index.outbox import Transfer
from radiolith.jobs.outbox import Means, Runner, Sender
from radiolith.jobs.reports import Reports
from radiolith.model import Principal, Tenant
from radiolith.storage.blobs import microseconds
from radiolith.traces import Ring
from radiolith.trust.certificates import Certificates
from radiolith.trust.devices import PEER_ROLE, Devices, titles


def held(dimse: Dimse, workers: int) -> Held:
    """The limits of associations that all workers have together; made before the fork."""
    return Held.of(dimse.associations, dimse.associations_per_address, workers)


def server(graph: Graph, held: Held, *, near: bool) -> Server:
    """The associations of a worker. near: nothing but loopback listens, on any door."""
    dimse = graph.settings.dimse
    devices = Devices(graph.database, titles(dimse), near)
    terms = Terms(dimse.associations, dimse.associations_per_address, dimse.pdu_bytes, dimse.idle_seconds)
    offer = services.offer(dimse.pdu_bytes, dimse.unknown_classes)
    node = Node(graph.archive, (devices, graph.identities), offer, terms, microseconds, held)
    node.moving = Moving(graph.traffic.outbox, Sender(_means(graph)), devices.peer_with)
    return Server(node, Ring(graph.settings.home, graph.name).append)


def sender(graph: Graph, title: str | None = None) -> Sender:
    """For a command that sends what it has ordered. title: our AE title instead of the setting."""
    return Sender(_means(graph, title))


def runner(graph: Graph) -> Runner:
    """What sends the outbox, in the jobs process."""
    return Runner(_means(graph))


def reports(graph: Graph) -> Reports:
    """What tells peers what they were promised to be told, in the jobs process."""
    database, dimse = graph.database, graph.settings.dimse
    reporting = DimseReporting(lambda tenant: title_of(database, dimse, tenant), _secure(dimse), _recorded(graph))
    return Reports(database, reporting, microseconds, random.random)


def _means(graph: Graph, title: str | None = None) -> Means:
    database, dimse = graph.database, graph.settings.dimse
    delivery = DimseDelivery(
        Deliveries(
            graph.archive,
            lambda tenant: title or title_of(database, dimse, tenant),
            _secure(dimse),
            partial(_to_outbox, graph.traffic.outbox),
            lambda transfer, peer: _as_peer(database, transfer, peer),
            _recorded(graph),
        )
    )
    owner = f"{graph.name} {os.getpid()} on {socket.gethostname()}"
    return Means(database, delivery, graph.reads, microseconds, random.random, _new_uid, owner)


def _recorded(graph: Graph) -> Callable[[int], Record]:
    """Where the associations go that this process opens on behalf of a tenant: beside those that it accepts."""
    told = Ring(graph.settings.home, graph.name).append
    return lambda tenant: Record(told, microseconds, tenant)


async def _to_outbox(outbox: Outbox, operation: Operation, report: Report) -> None:
    """A commitment's result that came on the association of the request."""
    await outbox.committed(operation.caller.principal, report.transaction_uid, report.kept, report.refused)


def title_of(database: Database, dimse: Dimse, tenant_id: int) -> str:
    """Our AE title for a tenant: the first that belongs to it, else the archive's own."""
    with database.read() as read:
        name = next((tenant.name for tenant in accounts.tenants(read) if tenant.id == tenant_id), "")
    return next((title for title, tenant in titles(dimse).items() if tenant == name), dimse.aet)


def _secure(dimse: Dimse) -> Callable[[Peer], ssl.SSLContext]:
    """How peers are checked, and what is shown to them; new files are taken up."""
    certificates = Certificates(dimse)
    return lambda peer: certificates.client()


def _as_peer(database: Database, transfer: Transfer, peer: Peer) -> Principal:
    """As whom a peer asks on an association that we opened to it."""
    with database.read() as read:
        tenant = Tenant(transfer.tenant_id, heldrows.tenant_uid(read, transfer.tenant_id), "")
    return Principal(tenant, peer.name, str(peer.more.get("role") or PEER_ROLE), "peer")


def _new_uid() -> str:
    """PS3.5 B.2."""
    return f"2.25.{uuid.uuid4().int}"
