"""The real archive behind a real HTTP server, in a thread: what independent clients are pointed at."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from radiolith import app
from radiolith.codecs.sandbox import Decoders
from tests.archive.homes import opened, principal


@dataclass(frozen=True)
class Served:
    """`url` is the DICOMweb root; tokens of two roles."""

    url: str
    token: str
    reader: str


@contextmanager
def served(home: Path, decoders: Decoders | None = None) -> Iterator[Served]:
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio leaves Nagle on: 40 ms an answer
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    ready, box = threading.Event(), dict[str, object]()

    async def work() -> None:
        async with opened(home, decoders) as graph:
            who = principal(graph)
            tokens = [await graph.accounts.add_token(who, role, role) for role in ("admin", "reader")]
            config = uvicorn.Config(app.Site(graph), log_config=None, access_log=False, lifespan="off", ws="none")
            server = uvicorn.Server(config)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"
            box["served"], box["server"] = Served(url, *tokens), server
            ready.set()
            await server.serve(sockets=[listener])

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            box["error"] = error
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="served", daemon=True)
    thread.start()
    try:
        assert ready.wait(60) and "error" not in box, box.get("error")
        found, server = box["served"], box["server"]
        assert isinstance(found, Served) and isinstance(server, uvicorn.Server)
        try:
            yield found
        finally:
            server.should_exit = True
    finally:
        thread.join(30)
        listener.close()
