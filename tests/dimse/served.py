"""The real archive behind its real DICOM server (and HTTP server), in a thread whose time a test may put forward."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from radiolith import app
from radiolith.archive.ingest import BUFFERS
from radiolith.codecs.sandbox import Decoders
from radiolith.dimse import services
from radiolith.dimse.server import Node, Server, Terms
from radiolith.dimse.wire import Wire
from radiolith.model import Level, Query
from radiolith.storage.blobs import microseconds
from radiolith.trust.devices import Devices
from tests.archive.homes import opened, principal
from tests.dimse.speaker import AET

TERMS = Terms(200, 200, 256 << 10, 300)
T = TypeVar("T")


class SteppedLoop(asyncio.SelectorEventLoop):
    """Its time is the clock's and what a test put it forward by."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


@dataclass
class Served:
    """`traces`: of the associations that have ended. What is asked of the archive runs in its thread."""

    graph: app.Graph
    server: Server
    node: Node
    loop: SteppedLoop
    port: int
    http: int = 0
    token: str = ""
    traces: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def peer(self) -> tuple[str, ...]:
        """As DCMTK wants it."""
        return "127.0.0.1", str(self.port)

    def ask(self, make: Callable[[], Awaitable[T]], seconds: float = 60) -> T:
        async def run() -> T:
            return await make()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(seconds)

    def advance(self, seconds: float, step: float = 1.05) -> None:
        """Let time pass without waiting: the loop runs what is due after each step."""

        async def forward(by: float) -> None:
            self.loop.ahead += by
            for _ in range(3):
                await asyncio.sleep(0)

        while seconds > 0:
            by = min(step, seconds)
            self.ask(lambda by=by: forward(by))
            seconds -= by

    def until(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Wait for something that other threads bring about, in the loop's own turns."""

        async def wait() -> None:
            deadline = self.loop.time() + seconds
            while not condition():
                assert self.loop.time() < deadline, f"waited {seconds} s: {what}"
                await asyncio.sleep(0.002)

        self.ask(wait, seconds + 10)

    def idle(self) -> None:
        """Nothing is left of any association: no slot, no connection, no buffer."""
        ingest: Any = self.graph.archive.ingest
        self.until(lambda: not self.server._running, "associations to end")
        assert not self.node.held.connections.taken() and not self.node.held.associations.taken()
        self.until(lambda: len(ingest._buffers) + ingest._unmade == BUFFERS, "buffers to come back")

    def instances(self) -> set[str]:
        """SOP instance UIDs of everything the archive lists."""
        who, query = principal(self.graph), self.graph.archive.query
        found: set[str] = set()

        async def all_pages() -> None:
            cursor = ""
            while True:
                page = await query.search(who, Query(Level.INSTANCE, limit=500, cursor=cursor))
                found.update(str(row[0x00080018][1]) for row in page.rows)
                cursor = page.cursor
                if not page.more:
                    return

        self.ask(all_pages)
        return found


@dataclass(frozen=True)
class Setting:
    """How it is served: `titles` AE title -> tenant; `near`: loopback is open; `age` of the home in hours, for strangers;
    `http`: beside it, with a token."""

    terms: Terms = TERMS
    titles: Mapping[str, str] = field(default_factory=lambda: {AET: "default"})
    near: bool = True
    age: int = 0
    http: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
    tls: Any = None


@contextmanager
def served(home: Path, setting: Setting = Setting(), decoders: Decoders | None = None) -> Iterator[Served]:
    with ExitStack() as stack:
        dicom, web = stack.enter_context(_listener()), stack.enter_context(_listener())
        ready, stop, box = threading.Event(), asyncio.Event(), dict[str, Any]()

        async def work() -> None:
            async with opened(home, decoders, environ=setting.environ) as graph:
                devices = Devices(
                    graph.database, setting.titles, setting.near, lambda: microseconds() + setting.age * 3_600_000_000
                )
                offer = services.offer(setting.terms.pdu_bytes, True)
                node = Node(graph.archive, (devices, graph.identities), offer, setting.terms, microseconds)
                traces: list[Mapping[str, Any]] = []
                server = Server(node, traces.append)
                loop: Any = asyncio.get_running_loop()
                found = Served(graph, server, node, loop, dicom.getsockname()[1], traces=traces)
                await server.start(dicom, setting.tls)
                serving = [loop.create_task(_http(graph, found, web, stop))] if setting.http else []
                if setting.http:
                    found.http, found.token = (
                        web.getsockname()[1],
                        await graph.accounts.add_token(principal(graph), "tests", "admin"),
                    )
                box["served"] = found
                ready.set()
                await stop.wait()
                for each in (server.stop(), *serving):
                    await each

        def run() -> None:
            try:
                with asyncio.Runner(loop_factory=SteppedLoop) as runner:
                    runner.run(work())
            except BaseException as error:
                box["error"] = error
                raise
            finally:
                ready.set()

        thread = threading.Thread(target=run, name="served", daemon=True)
        thread.start()
        assert ready.wait(60) and "error" not in box, box.get("error")
        found: Served = box["served"]
        try:
            yield found
        finally:
            found.loop.call_soon_threadsafe(stop.set)
            if not found.server._stopping:
                _hurry(found)
            thread.join(40)
            assert not thread.is_alive(), "the server did not stop"


def _hurry(found: Served) -> None:
    """Nothing in a test waits for peers that went away without a word."""
    for acceptor in list(found.server._running.values()):
        wire: Wire = acceptor._wire
        found.loop.call_soon_threadsafe(wire.cut)


async def _http(graph: app.Graph, found: Served, listener: socket.socket, stop: asyncio.Event) -> None:
    config = uvicorn.Config(app.Site(graph), log_config=None, access_log=False, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    running = asyncio.ensure_future(server.serve(sockets=[listener]))
    await stop.wait()
    server.should_exit = True
    await running


@contextmanager
def _listener() -> Iterator[socket.socket]:
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    try:
        yield listener
    finally:
        listener.close()
