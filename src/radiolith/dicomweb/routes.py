"""URL → function: the DICOMweb edge on one page, and the loop every request goes through.

Owns: the table of routes (capabilities are generated from it), sign-in, and the one place where a failure becomes an
answer. Must never: know what a handler does. `Edge` is a plain ASGI application; mount it where the service shall be.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from time import monotonic, perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from radiolith import metrics
from radiolith.archive.ports import Archive
from radiolith.config import Limits
from radiolith.dicomweb import (
    bulkdata,
    capabilities,
    commitment,
    nonpatient,
    qido,
    removal,
    rendered,
    status,
    stow,
    wado,
    wadouri,
)
from radiolith.dicomweb.auth import Identities, authenticate
from radiolith.dicomweb.call import Call, ClientGone, service_url
from radiolith.dicomweb.respond import Answer
from radiolith.dicomweb.rows import NON_PATIENT
from radiolith.dicomweb.status import NoSuchMethod
from radiolith.dicomweb.table import Route, Table
from radiolith.model import Failure, NotFound

_STUDY = "studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"

ROUTES: tuple[Route, ...] = (
    # the hot ones first, for the reader; looking up costs the same for all
    Route("GET", _FRAMES, wado.frames, "Retrieve Frames", "frames"),
    Route("GET", _SERIES + "/instances", qido.instances, "Search for Study Series Instances", "search"),
    Route("GET", "studies", qido.studies, "Search for Studies", "search"),
    Route("POST", "studies", stow.store, "Store Instances", "store"),
    Route("POST", _STUDY, stow.store, "Store Study Instances", "store"),
    Route("GET", "series", qido.series, "Search for Series", "search"),
    Route("GET", "instances", qido.instances, "Search for Instances", "search"),
    Route("GET", _STUDY + "/series", qido.series, "Search for Study Series", "search"),
    Route("GET", _STUDY + "/instances", qido.instances, "Search for Study Instances", "search"),
    *(
        Route("GET", at + end, function, f"Retrieve {what}{name}", kind)
        for at, what in ((_STUDY, "Study"), (_SERIES, "Series"), (_INSTANCE, "Instance"))
        for end, name, function, kind in (
            ("", "", wado.objects, "retrieve"),
            ("/metadata", " Metadata", wado.metadata, "metadata"),
            ("/bulkdata", " Bulkdata", bulkdata.everything, "bulkdata"),
            ("/pixeldata", " Pixel Data", wado.pixeldata, "bulkdata"),
            ("/rendered", " Rendered", rendered.rendered, "rendered"),
            ("/thumbnail", " Thumbnail", rendered.thumbnail, "rendered"),
            ("/archive", " as ZIP", wado.archive_zip, "retrieve"),
        )
    ),
    Route("GET", _INSTANCE + "/bulkdata/{path*}", bulkdata.by_path, "Retrieve Bulkdata", "bulkdata"),
    Route("GET", _FRAMES + "/rendered", rendered.rendered, "Retrieve Rendered Frames", "rendered"),
    Route("GET", _FRAMES + "/thumbnail", rendered.thumbnail, "Retrieve Frame Thumbnail", "rendered"),
    *(Route("DELETE", at, removal.reject, "Reject (IOCM)", "other") for at in (_STUDY, _SERIES, _INSTANCE)),
    *(Route("POST", at + "/restore", removal.restore, "Restore", "other") for at in (_STUDY, _SERIES, _INSTANCE)),
    Route("GET", "{view:rejected}/studies", qido.studies, "Search for Rejected Studies", "search"),
    Route("GET", "{view:rejected}/series", qido.series, "Search for Rejected Series", "search"),
    Route("GET", "{view:rejected}/instances", qido.instances, "Search for Rejected Instances", "search"),
    Route("POST", "commitment-requests/{transaction}", commitment.request, "Request Storage Commitment", "other"),
    Route("GET", "commitment-requests/{transaction}", commitment.result, "Check Storage Commitment", "other"),
    *(
        Route(method, f"{{category:{category}}}{end}", function, title, kind)
        for category in NON_PATIENT
        for method, end, function, title, kind in (
            ("GET", "", nonpatient.search, "Search for Non-Patient Instances", "search"),
            ("POST", "", stow.store, "Store Non-Patient Instances", "store"),
            ("GET", "/{instance}", nonpatient.retrieve, "Retrieve Non-Patient Instance", "retrieve"),
            ("POST", "/{instance}", stow.store, "Store Non-Patient Instance", "store"),
            ("GET", "/{instance}/bulkdata/{path*}", bulkdata.by_path, "Retrieve Bulkdata", "bulkdata"),
        )
    ),
    Route("GET", "wado", wadouri.wado, "Retrieve by URI (WADO-URI)", "retrieve"),
    Route("GET", "capabilities", capabilities.describer(lambda: ROUTES), "Retrieve Capabilities", "other"),
    Route("GET", "", capabilities.describer(lambda: ROUTES), "Retrieve Capabilities", "other"),
)
TABLE = Table(ROUTES)
_OBJECT_BYTES = frozenset({"retrieve", "frames", "bulkdata"})


@dataclass(frozen=True, slots=True)
class Options:
    """`service`: the service's absolute URL where the request does not tell it (behind a proxy that rewrites paths).
    `origins`: foreign pages that may call this service from a browser; none by default (CORS)."""

    service: str = ""
    origins: frozenset[str] = frozenset()


class Edge:
    def __init__(
        self,
        archive: Archive,
        identities: Identities,
        limits: Limits | None = None,
        options: Options | None = None,
        random: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], float] = monotonic,
    ):
        self._archive, self._identities = archive, identities
        self._limits, self._options = limits or Limits(), options or Options()
        self._random, self._clock = random, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is spoken here")
        begun, kind = perf_counter(), "other"
        headers = dict(scope["headers"])
        foreign = self._cross_origin(headers)
        seen = _Seen(send, foreign)
        try:
            route, names = self._route(scope)
            kind = route.kind
            answer = _preflight(scope, headers, foreign) or await self._answer(scope, receive, headers, route, names)
            await answer(scope, receive, seen)
        except ClientGone:
            return
        except Exception as error:
            if seen.begun:  # too late to say what happened: the server cuts the connection
                raise
            failed = self._failed(error) if isinstance(error, Failure) else self._surprised()
            await failed(scope, receive, seen)
        finally:
            if kind in _OBJECT_BYTES:
                metrics.bytes_sent.add(amount=seen.bytes)
            if seen.begun:
                metrics.http_requests.add(f"{min(max(seen.status // 100, 2), 5)}xx")
                metrics.http_seconds.observe(perf_counter() - begun, kind)

    def _route(self, scope: Scope) -> tuple[Route, dict[str, str]]:
        path = str(scope["path"]).removeprefix(str(scope.get("root_path", ""))).strip("/")
        found, names = TABLE.find(path)
        if not found:
            raise NotFound("there is no such resource")
        method = str(scope["method"])
        if method == "OPTIONS":
            described = found.values() if path else ROUTES
            function = capabilities.options(described, allowed(found))
            return Route("OPTIONS", path, function, "Retrieve Capabilities", "other"), names
        route = found.get("GET" if method == "HEAD" else method)
        if route is None:
            raise NoSuchMethod(allowed(found))
        return route, names

    async def _answer(
        self, scope: Scope, receive: Receive, headers: dict[bytes, bytes], route: Route, names: dict[str, str]
    ) -> ASGIApp:
        method, scheme, client = str(scope["method"]), str(scope["scheme"]), scope.get("client")
        principal = await authenticate(self._identities, method, headers, scheme, str(client[0]) if client else "")
        service = service_url(scope, headers, self._options.service)
        call = Call(scope, receive, self._archive, self._limits, principal, names, headers, service, self._clock)
        return await route.function(call)

    def _failed(self, failure: Failure) -> Answer:
        number = status.correlation(self._random)
        code = status.code(failure)
        if code >= 500:
            status.log.error("%s: %s: %s", number, type(failure).__name__, failure)
        body = status.problem(failure, number)
        return Answer(body, "application/problem+json", status=code, headers=status.headers(failure))

    def _surprised(self) -> Answer:
        number = status.correlation(self._random)
        status.log.exception("%s: unexpected", number)
        return Answer(status.unexpected(number), "application/problem+json", status=500)

    def _cross_origin(self, headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """CORS for the pages on the list, each named by itself and never by '*'. They may send credentials, which is for
        a proxy's sign-in or a client certificate: our own session still counts for our own pages alone (`auth`)."""
        origin = headers.get(b"origin", b"")
        if not self._options.origins or origin.decode("latin-1") not in self._options.origins:
            return []
        return [(b"access-control-allow-origin", origin), *_FOREIGN_MAY]


_FOREIGN_MAY = (
    (b"access-control-allow-credentials", b"true"),
    (
        b"access-control-expose-headers",
        b"accept-ranges, content-disposition, content-encoding, content-range, etag, link, location, retry-after,"
        b" warning, www-authenticate, x-total-count, x-total-count-at-least",
    ),
)
_PREFLIGHT = (
    ("access-control-allow-methods", "GET, HEAD, POST, DELETE, OPTIONS"),
    (
        "access-control-allow-headers",
        "authorization, accept, accept-charset, content-type, if-none-match, if-range, purpose-of-use, range",
    ),
    ("access-control-max-age", "600"),  # seconds; a page taken off the list may ask so long, and gets no answer
)


def _preflight(scope: Scope, headers: dict[bytes, bytes], foreign: list[tuple[bytes, bytes]]) -> Answer | None:
    """A browser asks, without credentials, whether a page on the list may; all others go on and get their 401."""
    if foreign and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
        return Answer(status=204, headers=_PREFLIGHT)
    return None


def allowed(found: dict[str, Route]) -> str:
    methods = {*found, "OPTIONS"} | ({"HEAD"} if "GET" in found else set())
    return ", ".join(sorted(methods))


class _Seen:
    """Passes messages on, adds what CORS needs, and remembers status and size for the metrics."""

    def __init__(self, send: Send, extra: Iterable[tuple[bytes, bytes]]):
        self._send, self._extra, self.status, self.bytes, self.begun = send, list(extra), 200, 0, False

    def __call__(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status, self.begun = int(message["status"]), True
            if self._extra:
                message["headers"] = [*message["headers"], *self._extra]
        else:
            self.bytes += len(message.get("body", b""))
        return self._send(message)
