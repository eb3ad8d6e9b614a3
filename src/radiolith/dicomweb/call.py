"""One request as the handlers see it: names from the path, parameters, headers, the body with a clock on it.

Owns: the reading of what a client sent. Must never: authorise (the verbs do) or answer.

Limits: PARAMETERS_MAX query parameters and QUERY_BYTES_MAX bytes of them (a search names some dozens of keys); a body
that stands still for IDLE_SECONDS, or is slower than RATE_MIN bytes a second after GRACE_SECONDS, is given up (408): a
modality on a poor line sends a hundred times that, an attacker who holds connections open less.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from time import monotonic
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from radiolith.archive.ports import Archive
from radiolith.config import Limits
from radiolith.dicom import naming
from radiolith.dicomweb import accept, status
from radiolith.dicomweb.status import TooSlow, UnsupportedMedia
from radiolith.model import BadInput, LimitExceeded, NotFound, Principal

PARAMETERS_MAX = 512
QUERY_BYTES_MAX = 64 * 1024
IDLE_SECONDS = 60.0
GRACE_SECONDS = 60.0
RATE_MIN = 512.0

_HOST = re.compile(r"[0-9A-Za-z_.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


@dataclass(slots=True)
class Call:
    """`names` are the variables of the route; `service` is the absolute URL of the DICOMweb root, no slash behind."""

    scope: Scope
    receive: Receive
    archive: Archive
    limits: Limits
    principal: Principal
    names: dict[str, str]
    headers: dict[bytes, bytes]
    service: str
    clock: Callable[[], float] = monotonic
    warnings: list[str] = field(default_factory=list[str])
    _parameters: dict[str, list[str]] | None = None

    @property
    def parameters(self) -> dict[str, list[str]]:
        """Query parameters in order of appearance, names as sent."""
        if self._parameters is None:
            self._parameters = parse_query(self.scope["query_string"])
        return self._parameters

    def one(self, name: str) -> str | None:
        """A parameter that may be given once; '' counts as given."""
        values = self.parameters.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise BadInput(f"the parameter {name} is given more than once")
        return values[0]

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def uid(self, name: str) -> str:
        """A UID from the path, '' if the route has none by that name."""
        value = self.names.get(name, "")
        return checked_uid(value) if value else ""

    def accepted(self) -> tuple[accept.Range, ...]:
        """What the client accepts, best first."""
        return accept.combined(self.header(b"accept"), self.parameters.get("accept", ()))

    def check_parameters(self, *known: str) -> None:
        """PS3.18 8.3.4: what is not supported is said, never silently ignored."""
        for name in self.parameters:
            if name not in known and name != "accept":
                shown = name if len(name) <= 64 else name[:64] + "..."
                self.warnings.append(f"The parameter {shown} is not supported and was ignored")

    def check_charset(self) -> None:
        """Documents are written in UTF-8; NotAcceptable for a client that takes only something else."""
        charset = self.one("charset") or self.header(b"accept-charset") or "utf-8"
        named = {name.partition(";")[0].strip().lower() for name in charset.split(",")}
        if not named & {"utf-8", "utf8", "*"}:
            raise accept.NotAcceptable("documents are written in UTF-8", ("utf-8",))

    def warning_headers(self) -> list[tuple[str, str]]:
        return [("warning", status.warning(self.service, text)) for text in dict.fromkeys(self.warnings)]

    def content_type(self) -> tuple[str, dict[str, str]]:
        """Media type and parameters of the body; 415 for a coded one, which could be a bomb."""
        if self.headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            raise UnsupportedMedia("a request body must not have a Content-Encoding")
        value = self.header(b"content-type")
        if value is None:
            raise UnsupportedMedia("the request has no Content-Type")
        try:
            return accept.media_type(value)
        except BadInput as error:
            raise UnsupportedMedia(str(error)) from None

    async def body(self) -> AsyncIterator[bytes]:
        """The body piece by piece. Raises TooSlow, or ClientGone when the connection breaks."""
        begun, received = self.clock(), 0
        while True:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    message = await self.receive()
            except TimeoutError:
                raise TooSlow(f"no byte came for {IDLE_SECONDS:.0f} seconds") from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            if piece:
                received += len(piece)
                yield piece
            if not message.get("more_body", False):
                return
            passed = self.clock() - begun
            if passed > GRACE_SECONDS and received < (passed - GRACE_SECONDS) * RATE_MIN:
                raise TooSlow(f"the body comes slower than {RATE_MIN:.0f} bytes a second")

    async def document(self, bytes_max: int) -> bytes:
        """A small body, whole. Raises LimitExceeded past `bytes_max`, before reading where Content-Length says so."""
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:20]) > bytes_max:
            raise LimitExceeded(f"the body is larger than {bytes_max} bytes")
        pieces: list[bytes] = []
        size = 0
        async for piece in self.body():
            size += len(piece)
            if size > bytes_max:
                raise LimitExceeded(f"the body is larger than {bytes_max} bytes")
            pieces.append(piece)
        return b"".join(pieces)


def checked_uid(text: str) -> str:
    """A UID that a client named, as it stands or as dicom/naming spells it; NotFound for what cannot be one."""
    uid = naming.uid_of(text)
    if uid is None:
        raise NotFound("there is nothing by that name")
    return uid


def parse_query(query: bytes) -> dict[str, list[str]]:
    """The query component; raises BadInput for what is not UTF-8 or too much."""
    if len(query) > QUERY_BYTES_MAX:
        raise LimitExceeded(f"the query is longer than {QUERY_BYTES_MAX} bytes")
    if query.count(b"&") >= PARAMETERS_MAX:
        raise LimitExceeded(f"the query has more than {PARAMETERS_MAX} parameters")
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise BadInput("the query is not well formed") from None
    parameters: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise BadInput("the query holds a NUL character")
        parameters.setdefault(name, []).append(value)
    return parameters


def service_url(scope: Scope, headers: dict[bytes, bytes], fixed: str = "") -> str:
    """Absolute URL of the DICOMweb root: `fixed` if set, else from the request; relative if Host is nonsense."""
    root = str(scope.get("root_path", "")).rstrip("/")
    if fixed:
        return fixed.rstrip("/")
    host = headers.get(b"host", b"").decode("latin-1")
    if not _HOST.fullmatch(host):
        return root
    scheme = str(scope.get("scheme", "http"))
    return f"{scheme}://{host}{_forgotten_port(scope, host, scheme)}{root}"


def _forgotten_port(scope: Scope, host: str, scheme: str) -> str:
    """dicomweb-client sends Host without the port. Where it names this very socket, the port is known all the same;
    behind a proxy the Host is the proxy's, and so is its port."""
    address, port = scope.get("server") or ("", None)
    ours = host == address or (host == "localhost" and str(address).startswith("127."))
    return f":{port}" if ours and port and port != _DEFAULT_PORTS.get(scheme) else ""
