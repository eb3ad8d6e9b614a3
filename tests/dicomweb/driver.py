"""Drives an ASGI application message by message, so that a test can cut, stall and leave where it wants."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.parser import BytesParser
from typing import Any
from urllib.parse import unquote

import orjson

from tests.dicomweb.fake import TOKEN


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool
    pieces: list[int] = field(default_factory=list)
    all_headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def parts(self) -> list[tuple[dict[str, str], bytes]]:
        """The parts of a multipart body, taken apart by the standard library: another reading than ours."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser().parsebytes(head + self.body)
        assert message.is_multipart(), self.headers["content-type"]
        parts = []
        for part in message.get_payload():
            payload = part.get_payload(decode=True)
            parts.append(({name.lower(): value for name, value in part.items()}, payload))
        return parts


LEAVE = object()
"""As a piece of a body: the client closes the connection here."""
STALL = object()
"""As a piece of a body: from here on the client neither sends nor leaves."""


async def ask(
    app: Any,
    method: str,
    target: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | Iterable[Any] = b"",
    token: str | None = TOKEN,
    leave_after: int | None = None,
) -> Reply:
    """One request. `leave_after`: the client disconnects after that many pieces of the answer."""
    path, _, query = target.partition("?")
    lines = {"host": "pacs.example", **(headers or {})}
    if token:
        lines.setdefault("authorization", f"Bearer {token}")
    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": "/dicom-web" + unquote(path),
        "raw_path": path.encode(),
        "root_path": "/dicom-web",
        "query_string": query.encode("ascii"),
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in lines.items()],
        "client": ("127.0.0.1", 50000),
        "http_version": "1.1",
        "state": {},
    }
    pieces = [body] if isinstance(body, bytes) else list(body)
    sent: list[dict[str, Any]] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if pieces:
            piece = pieces.pop(0)
            if piece is STALL:
                await asyncio.Event().wait()
            if piece is LEAVE:
                gone.set()
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))
        if leave_after is not None and len(sent) > leave_after:
            gone.set()
        await asyncio.sleep(0)

    await app(scope, receive, send)
    if not sent:
        return Reply(0, {}, b"", False)
    lines_out = [(k.decode(), v.decode("latin-1")) for k, v in sent[0]["headers"]]
    bodies = [bytes(message.get("body", b"")) for message in sent[1:]]
    complete = len(sent) > 1 and not sent[-1].get("more_body", False)
    return Reply(sent[0]["status"], dict(lines_out), b"".join(bodies), complete, [len(b) for b in bodies], lines_out)
