"""Counting and timing of the requests for pages and /api/v1; DICOMweb counts its own.

Owns: which of the known kinds a request is counted as. Must never: put anything of a request into a label.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from radiolith import metrics

WAITS = "/api/v1/changes"
"""Counted and not timed: it takes as long as nothing happens."""


def route_of(path: str) -> str:
    """One of metrics.ROUTES."""
    if path.startswith("/api/"):
        return "api"
    return "pages" if path == "/" or path.startswith(("/studies/", "/sign-")) else "other"


class Measured:
    """An ASGI application like the one it wraps, that counts."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app, self._clock = app, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = self._clock(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            if 200 <= status < 600:
                metrics.http_requests.add(f"{status // 100}xx")
            if scope["path"] != WAITS:
                metrics.http_seconds.observe(self._clock() - start, route_of(scope["path"]))
