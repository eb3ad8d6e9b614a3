"""What makes a process an HTTP node: the application, its server, and the listener of monitors where it is one of its own.

Owns: the wiring of the HTTP edges. Must never: decide anything about an object, a person or a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from radiolith.dicomweb.routes import Edge, Options
from radiolith.dimse.server import Server
from radiolith.graph import Graph
from radiolith.httphead import BoundedHead
from radiolith.web.ports import Inside
from radiolith.web.routes import monitors, routes

CONNECTIONS = 4_000  # of a worker; more are answered 503 at once, so that those that are open are served
MONITORS = 50  # connections of monitors, per worker


class Site:
    """The one ASGI application: DICOMweb under /dicom-web (and WADO-URI under /wado), pages and API beside it."""

    def __init__(self, graph: Graph):
        settings = graph.settings
        self._edge = Edge(
            graph.archive, graph.identities, settings.limits, Options(origins=frozenset(settings.http.cors_origins))
        )
        self._pages = Starlette(routes=routes(inside(graph)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if path.startswith("/dicom-web/") or path == "/dicom-web":
            await self._edge({**scope, "root_path": "/dicom-web"}, receive, send)
        elif path == "/wado":
            await self._edge({**scope, "path": "/dicom-web/wado", "root_path": "/dicom-web"}, receive, send)
        else:
            await self._pages(scope, receive, send)


def inside(graph: Graph) -> Inside:
    return Inside(
        graph.archive, graph.identities, graph.settings, graph.condition, graph.associations, graph.traffic, graph.peers,
        graph.decisions,
    )  # fmt: skip


class Web(uvicorn.Server):
    """The HTTP edge. The DICOM edge beside it ends at the same time, not after it, and so does the listener of monitors; whoever
    waits for changes is answered."""

    def __init__(self, graph: Graph, dicom: Server):
        super().__init__(_config(Site(graph), CONNECTIONS))
        self._graph, self._dicom = graph, dicom
        self._monitors: Monitors | None = None

    async def run_on(self, listening: socket.socket, watched: socket.socket | None) -> None:
        """Serve until told to stop. `watched`: where monitors have a listener of their own."""
        if watched is None:
            await self.serve(sockets=[listening])
            return
        app = Starlette(routes=monitors(inside(self._graph), open_to_all=True))
        self._monitors = Monitors(_config(app, MONITORS))
        await asyncio.gather(self.serve(sockets=[listening]), self._monitors.serve(sockets=[watched]))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._graph.traffic.follow.end()
        if self._monitors is not None:
            self._monitors.should_exit = True
        await asyncio.gather(super().shutdown(sockets), self._dicom.stop())


class Monitors(uvicorn.Server):
    """The listener of /metrics and /health. Signals are those of `Web`, which ends it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _config(app: ASGIApp, connections: int) -> uvicorn.Config:
    return uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", http=BoundedHead, ws="none", timeout_keep_alive=75,
        timeout_graceful_shutdown=15, server_header=False, limit_concurrency=connections, date_header=True,
    )  # fmt: skip
