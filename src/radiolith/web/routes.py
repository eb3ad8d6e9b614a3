"""The table of addresses outside /dicom-web, and the headers every page carries."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from radiolith.model import Failure
from radiolith.web.health import Health
from radiolith.web.measure import Measured
from radiolith.web.pages import Pages, failed
from radiolith.web.ports import Inside

PAGE_HEADERS = {
    # No script at all, no foreign address, no frame around us.
    "content-security-policy": "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
PRIVATE = "no-store"
"""Cache-Control of a page: patients' names do not stay in a shared computer's cache."""


def routes(inside: Inside) -> list[BaseRoute]:
    """Everything but DICOMweb. The last one takes what is left over, so it goes behind all others."""
    pages = Pages(inside)
    own = pages.signed_in_only
    series = "/studies/{study}/series/{series}"
    shown = [
        Route("/", pages.home),
        Route("/sign-in", pages.sign_in, methods=["POST"]),
        Route("/sign-out", pages.sign_out, methods=["POST"]),
        Route("/studies/{study}", own(pages.study)),
        Route(series, own(pages.series)),
        Route(series + "/image", own(pages.image)),
        *([] if inside.settings.metrics.port else monitors(inside)),
        Mount("/static", StaticFiles(packages=[("radiolith.web", "static")])),
    ]
    handlers: dict[Any, Any] = {Failure: failed}
    site = Starlette(routes=shown, exception_handlers=handlers)
    return [Mount("/api/v1", Measured(Late(inside))), Mount("/", Measured(Guarded(site)))]


def monitors(inside: Inside, *, open_to_all: bool = False) -> list[BaseRoute]:
    """What monitors ask. open_to_all: on a listener of their own, whose address says who reaches it."""
    health = Health(inside, open_to_all=open_to_all)
    return [
        Route("/health/live", health.live),
        Route("/health/ready", health.ready),
        Route("/metrics", health.metrics),
    ]


class Late:
    """/api/v1, made when it is first asked for: FastAPI takes half a second to load, and the first image comes first."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self._made: asyncio.Future[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._made is None:
            self._made = asyncio.ensure_future(asyncio.to_thread(self._make))
        await (await self._made)(scope, receive, send)

    def _make(self) -> ASGIApp:
        from radiolith.web import api

        return api.application(self._inside)


class Guarded:
    """An ASGI application like the one it wraps, whose answers carry PAGE_HEADERS."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in PAGE_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", PRIVATE)
            await send(message)

        await self._app(scope, receive, guarding)
