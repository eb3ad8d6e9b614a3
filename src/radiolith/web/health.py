"""What monitors ask: alive, ready, and the metrics.

`/health/live` says that this process answers; `/health/ready` that the archive can take on work (503 and a sentence
where it cannot), and by `level` whether somebody should look: why is told to this machine only. `/metrics` has numbers
only, no patient's data; it is open to this machine, and to others with a bearer token. A request that came through a
proxy counts as one from elsewhere.
"""

from __future__ import annotations

import ipaddress

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from radiolith import metrics
from radiolith.web import session
from radiolith.web.ports import Inside

FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip", "via")


class Health:
    def __init__(self, inside: Inside, *, open_to_all: bool = False) -> None:
        self._inside, self._open_to_all = inside, open_to_all

    async def live(self, request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(self, request: Request) -> Response:
        problems = await self._inside.condition.problems()
        if problems:
            return JSONResponse({"status": "not ready", "reasons": problems}, 503, {"retry-after": "5"})
        found = await self._inside.condition.status()
        said = {"reasons": [reason["text"] for reason in found["reasons"]]} if _is_near(request) else {}
        return JSONResponse({"status": "ready", "level": found["level"], **said})

    async def metrics(self, request: Request) -> Response:
        if not self._open_to_all and not _is_near(request):
            await session.caller(self._inside.identities, request)
        text = metrics.text(await self._inside.condition.gauges())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


def _is_near(request: Request) -> bool:
    """Whether the request comes from this machine and through no proxy."""
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
