"""Peers for the tests of our side: DCMTK's programs, and our own server in the same process. Ports are free ones of 127.0.0.1."""

from __future__ import annotations

import asyncio
import shutil
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from radiolith import app
from radiolith.dimse import services
from radiolith.dimse.calls import Target
from radiolith.dimse.server import Node, Server, Terms
from radiolith.storage.blobs import microseconds
from radiolith.trust.devices import Devices
from tests.ports import free_port

OURS = "RADIOLITH"


def program(name: str) -> str:
    """A program of DCMTK (Debian package dcmtk)."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} of DCMTK is not installed")
    return found


async def answers(port: int, process: Process) -> None:
    """Wait until something listens there."""
    for _ in range(500):
        assert process.returncode is None, "the peer ended"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return
    pytest.fail("the peer does not listen")


@asynccontextmanager
async def running(name: str, *arguments: str, aet: str) -> AsyncGenerator[Target]:
    """A program that listens; its port comes last."""
    port = free_port()
    command = [program(name), *arguments, str(port)]
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
    try:
        await answers(port, process)
        yield Target(aet, "127.0.0.1", port)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def storescp(folder: Path, *arguments: str) -> AsyncGenerator[Target]:
    """DCMTK's storescp, which writes what comes exactly as it comes."""
    folder.mkdir(exist_ok=True)
    async with running("storescp", "+B", "-od", str(folder), "-aet", "STORE", *arguments, aet="STORE") as target:
        yield target


@asynccontextmanager
async def dcmqrscp(folder: Path, destination: Target | None = None) -> AsyncGenerator[Target]:
    """DCMTK's archive, empty; `destination` is whom it can move to."""
    store = folder / "QR"
    store.mkdir(parents=True)
    hosts = f"mover = ({destination.aet}, localhost, {destination.port})" if destination else ""
    (folder / "dcmqrscp.cfg").write_text(
        "NetworkTCPPort = 104\nMaxPDUSize = 131072\nMaxAssociations = 8\n"
        f"HostTable BEGIN\n{hosts}\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQR {store} RW (100, 1024mb) ANY\nAETable END\n"
    )
    async with running("dcmqrscp", "-c", str(folder / "dcmqrscp.cfg"), aet="QR") as target:
        yield target


@asynccontextmanager
async def serving(graph: app.Graph, **terms: Any) -> AsyncGenerator[Target]:
    """Our own server over a graph, in this process."""
    titles: Mapping[str, str] = {OURS: "default"}
    offer = services.offer(256 * 1024, True)
    devices = Devices(graph.database, titles, True)
    limits = Terms(
        **{"associations": 50, "associations_per_address": 50, "pdu_bytes": 256 * 1024, "idle_seconds": 60.0} | terms
    )
    node = Node(graph.archive, (devices, graph.identities), offer, limits, microseconds)
    server = Server(node, lambda told: None)
    listening = socket.create_server(("127.0.0.1", 0))
    await server.start(listening)
    try:
        yield Target(OURS, "127.0.0.1", int(listening.getsockname()[1]), name="ourselves")
    finally:
        await server.stop()
