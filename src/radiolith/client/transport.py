"""Requests to the archive: one address, one token, one connection a request.

Owns: what an answer that is no success becomes. Must never: follow a redirect (the token would go along), or retry: who calls
knows whether that is safe.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit


class ArchiveError(Exception):
    """The archive said no, or could not be reached. `status`: of HTTP, 0 where there was no answer."""

    def __init__(self, status: int, detail: str):
        super().__init__(f"{status}: {detail}" if status else detail)
        self.status, self.detail = status, detail

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (0, 429, 502, 503, 504)


class Transport:
    """`timeout`: seconds without a byte; `context`: for https, what the system trusts unless given."""

    def __init__(self, address: str, token: str, timeout: float = 60, context: ssl.SSLContext | None = None):
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"'{address}' is no address; one looks like https://archive.example")
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")
        self._token, self._timeout = token, timeout
        self._context = (context or ssl.create_default_context()) if parts.scheme == "https" else None

    @contextmanager
    def open(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, accept: str = "application/json",
        body: tuple[str, bytes] | None = None,
    ) -> Generator[http.client.HTTPResponse]:  # fmt: skip
        """An answer of class 2xx, read inside the block. `body`: media type and bytes. Raises ArchiveError."""
        target = f"{self._path}{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        headers = {"Accept": accept, "Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["Content-Type"] = body[0]
        connection = self._connection()
        try:
            connection.request(method, target, body[1] if body else None, headers)
            answer = connection.getresponse()
            if not 200 <= answer.status < 300:
                raise ArchiveError(answer.status, _detail(answer))
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise ArchiveError(0, f"{self._host}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def json(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, accept: str = "application/json",
        body: Any = None,
    ) -> Any:  # fmt: skip
        """A JSON document; None where the answer has none."""
        sent = None if body is None else ("application/json", json.dumps(body).encode())
        with self.open(method, path, query=query, accept=accept, body=sent) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)


def _detail(answer: http.client.HTTPResponse) -> str:
    """What the archive says about it, in words."""
    text = answer.read(1 << 16)
    try:
        found: Any = json.loads(text)
        return str(found["detail"])
    except (ValueError, KeyError, TypeError):
        return text.decode("utf-8", "replace").strip()[:500] or answer.reason
