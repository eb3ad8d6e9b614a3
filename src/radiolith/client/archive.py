"""The archive as a script sees it.

Must never: hold more than one object. Errors are ArchiveError everywhere.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from radiolith.client.events import Event, follow
from radiolith.client.parts import parts
from radiolith.client.transport import ArchiveError, Transport

Json = dict[str, Any]
"""A header in the DICOM JSON model (PS3.18 F.2): tag -> vr and Value."""
_JSON = "application/dicom+json"
_OBJECTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class Client:
    """`address`: of the archive, as http://127.0.0.1:8050; `token`: of `radiolith token`."""

    def __init__(self, address: str, token: str, *, timeout: float = 60, context: ssl.SSLContext | None = None):
        self._transport = Transport(address, token, timeout, context)

    def changes(
        self, after: str = "latest", *, kinds: Sequence[str] = (), remember: str | Path | None = None
    ) -> Generator[Event]:
        """What happens, without end, also while the archive restarts.

        after: a cursor, '' for the beginning, 'latest' for from now on. kinds: none for all. remember: a file that keeps the
        place; an event counts as dealt with when the next is asked for, so one may come twice after a kill, and none is lost.
        """
        return follow(self._transport, after, kinds, remember)

    def studies(self, **keys: str) -> list[Json]:
        """Studies by keys of QIDO-RS: PatientID='4711', StudyDate='20260101-', limit='10', includefield='all'."""
        return self._transport.json("GET", "/dicom-web/studies", query=keys, accept=_JSON) or []

    def metadata(self, study: str, series: str = "", instance: str = "") -> list[Json]:
        """Headers of all instances of a study, a series, or of one instance."""
        return self._transport.json("GET", f"{_place(study, series, instance)}/metadata", accept=_JSON) or []

    def retrieve(self, study: str, series: str = "", instance: str = "") -> Iterator[bytes]:
        """DICOM files (PS3.10) as they are kept, one at a time."""
        with self._transport.open("GET", _place(study, series, instance), accept=_OBJECTS) as answer:
            try:
                yield from parts(answer, answer.headers.get("content-type", ""))
            except ValueError as error:
                raise ArchiveError(0, str(error)) from error

    def thumbnail(self, study: str, series: str = "", instance: str = "", *, size: int = 256) -> bytes:
        """A JPEG picture of it."""
        place = _place(study, series, instance)
        with self._transport.open(
            "GET", f"{place}/thumbnail", query={"viewport": f"{size},{size}"}, accept="image/jpeg"
        ) as answer:
            return answer.read()

    def store(self, files: Iterable[bytes]) -> Json:
        """Keep DICOM files; the answer of STOW-RS (PS3.18 10.5.3): what was kept, and what was refused and why."""
        mark = uuid.uuid4().hex.encode()
        body = b"".join(b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (mark, file) for file in files)
        kind = f'multipart/related; type="application/dicom"; boundary={mark.decode()}'
        with self._transport.open(
            "POST", "/dicom-web/studies", accept=_JSON, body=(kind, body + b"--%s--\r\n" % mark)
        ) as answer:
            return json.loads(answer.read())

    def send(self, peer: str, study: str, series: str = "", instance: str = "") -> list[Json]:
        """Order that it goes to a DICOM node, by its name; the transfers made. The archive tries until it is there."""
        place = {"study": study, "series": series, "instance": instance}
        return self._transport.json("POST", "/api/v1/outbox", body={"peer": peer, "places": [place]})

    def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """Any call of /api/v1, as JSON: call('GET', 'devices')."""
        return self._transport.json(method, f"/api/v1/{path}", query=query, body=body)


def _place(study: str, series: str, instance: str) -> str:
    path = f"/dicom-web/studies/{study}"
    if series:
        path += f"/series/{series}"
    return f"{path}/instances/{instance}" if instance else path
