"""The whole: processes, edges and graph put together for `radiolith serve`, and the doors commands use.

Owns: what each process of `serve` does. Must never: decide anything about an object, a person or a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from radiolith import config, dicomnode, metrics, serving
from radiolith.archive.verify import Verify
from radiolith.codecs.sandbox import Decoders, Zygote, start_zygote
from radiolith.config import Settings
from radiolith.dimse.slots import Held
from radiolith.graph import Graph, build, no_decoders, settled
from radiolith.home import (
    Home,
    InitResult,
    check_version,
    initialise,
    initialised,
    locked,
    open_home,
    rebuild,
    served_once,
)
from radiolith.httpnode import Site, Web
from radiolith.jobs.filling import Filling
from radiolith.jobs.housekeeping import Housekeeping, Parts
from radiolith.jobs.merging import Merging
from radiolith.jobs.posting import Post
from radiolith.jobs.webhooks import Means, WebhookRunner
from radiolith.model import BadInput, Unavailable
from radiolith.policies.rejections import Rejections
from radiolith.storage.blobs import microseconds
from radiolith.storage.cache import Cache
from radiolith.storage.tiers import open_backend
from radiolith.trust.certificates import Certificates
from radiolith.trust.keys import read_root_key

FILES = 65_536  # open descriptors of a process
log = structlog.get_logger()
__all__ = [
    "Graph",
    "Home",
    "InitResult",
    "Site",
    "build",
    "initialise",
    "initialised",
    "locked",
    "open_home",
    "rebuild",
    "serve",
]

# ---------------------------------------------------------------- serving


@dataclass(frozen=True, slots=True)
class Node:
    """What the processes of one `serve` have in common; made before the first fork."""

    settings: Settings
    socket: socket.socket
    monitors: socket.socket | None  # of /metrics and /health, where it is not the same
    dimse: socket.socket | None
    dimse_tls: socket.socket | None
    held: Held  # what peers hold of all workers together
    near: bool  # nothing but loopback listens
    decoders: str  # address of the decoders' zygote
    secret: bytes  # of the cache on disk

    def decode(self) -> Decoders:
        return Decoders(self.decoders)

    def cache(self) -> Cache:
        return Cache(self.settings.home / "cache", self.secret)


@dataclass(frozen=True, slots=True)
class Doors:
    """What the command line says about where to listen (HOST:PORT) and as whom; None: as the settings have it."""

    http: str | None = None
    dimse: str | None = None
    aet: str | None = None
    dimse_tls: str | None = None


def serve(home: Path, doors: Doors = Doors(), *, workers: int | None = None) -> int:
    """Run the archive until SIGTERM or SIGINT; the exit code."""
    _raise_file_limit()
    settings = _with_title(config.load(home), doors.aet)
    read_root_key(Path(settings.keys.root))  # a missing one is said here, in words
    if settings.tiers.hot.url.startswith("file:"):
        open_backend(settings.tiers.hot, create=False).close()  # and so is a volume that is not mounted
    address = doors.http or f"{settings.http.host}:{settings.http.port}"
    _near_or_behind_tls(address, settings)
    count = workers or settings.workers or min(8, os.cpu_count() or 1)
    with ExitStack() as opened:
        opened.enter_context(locked(settings.home, alone=False))
        opened.enter_context(served_once(settings.home))
        check_version(settings)
        listening = opened.enter_context(serving.listen(address))
        monitors = _listen_for_monitors(settings)
        dimse = _listen_for_dicom(settings, doors.dimse)
        dimse_tls = _listen_for_tls(settings, doors.dimse_tls)
        for each in (monitors, dimse, dimse_tls):
            if each is not None:
                opened.enter_context(each)
        decoders = opened.enter_context(contextlib.closing(DecoderParent()))
        near = all(_is_loopback(each.getsockname()[0]) for each in (listening, dimse, dimse_tls) if each is not None)
        held = dicomnode.held(settings.dimse, count)
        node = Node(settings, listening, monitors, dimse, dimse_tls, held, near, decoders.address, os.urandom(32))
        _empty_cache(settings.home / "cache")
        metrics.share(count + 1)
        code = serving.in_child(lambda: _recover(settings))
        if code:
            return code
        _announce(node, count)
        workers_named = {f"worker {number}": number for number in range(count)}
        roles: dict[str, Callable[[], int]] = {
            name: lambda number=number: _worker(node, number) for name, number in workers_named.items()
        }
        roles["jobs"] = lambda: _jobs(node, count)

        def ended(name: str) -> None:
            if name in workers_named:
                held.clear(workers_named[name])

        return serving.Supervisor(roles, decoders.look_after, ended).run()


def _with_title(settings: Settings, aet: str | None) -> Settings:
    """The AE title of the command line is checked like that of the settings."""
    return settings if aet is None else config.changed(settings, "dimse.aet", aet)


def _listen_for_dicom(settings: Settings, given: str | None) -> socket.socket | None:
    """None where there is to be no DICOM, or where the usual port is taken and nobody asked for it by name."""
    usual = given is None and settings.dimse.port == config.DIMSE_PORT
    if given is None and not settings.dimse.port:
        return None
    try:
        return serving.listen(given or f"{settings.dimse.host}:{settings.dimse.port}")
    except Unavailable as failure:
        if not usual:
            raise
        log.warning("no DICOM: give another port with --dimse HOST:PORT", reason=str(failure))
        return None


def _listen_for_monitors(settings: Settings) -> socket.socket | None:
    """None where /metrics and /health are on the port of the pages."""
    return serving.listen(f"{settings.metrics.host}:{settings.metrics.port}") if settings.metrics.port else None


def _listen_for_tls(settings: Settings, given: str | None) -> socket.socket | None:
    """None where there is to be none. What is wrong with the certificates is said here, before anything runs: BadInput."""
    certificates = Certificates(settings.dimse)
    certificates.client()
    if given is None and not settings.dimse.tls_port:
        return None
    certificates.server()
    return serving.listen(given or f"{settings.dimse.host}:{settings.dimse.tls_port}")


def _announce(node: Node, workers: int) -> None:
    host, port = node.socket.getsockname()[:2]
    log.info("serving", address=f"http://{host}:{port}/", workers=workers)
    if node.monitors is not None:
        host, port = node.monitors.getsockname()[:2]
        log.info("serving metrics and health", address=f"http://{host}:{port}/metrics")
    for what, each in (("serving DICOM", node.dimse), ("serving DICOM over TLS", node.dimse_tls)):
        if each is not None:
            host, port = each.getsockname()[:2]
            log.info(what, address=f"{host}:{port}", aet=node.settings.dimse.aet)


class DecoderParent:
    """The zygote of the decoders, started again when it ends. `address` stays the same: a link to the present one."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="radiolith-")
        self.address = os.path.join(self._folder, "decoders")
        self._zygote = self._start()

    def _start(self) -> Zygote:
        zygote = start_zygote()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.address)
        os.symlink(zygote.address, self.address)
        return zygote

    def look_after(self) -> None:
        """Called by the parent whenever a child has ended, and once a minute."""
        if not self._zygote.alive:
            log.warning("the decoders' parent ended and is started again")
            self._zygote.close()
            self._zygote = self._start()

    def close(self) -> None:
        self._zygote.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _near_or_behind_tls(address: str, settings: Settings) -> None:
    """Closed by default: beyond this machine only behind something that speaks TLS. Raises BadInput with what to do."""
    host = address.rpartition(":")[0].strip("[]")
    if not _is_loopback(host) and not settings.http.behind_tls:
        raise BadInput(
            f"{host} is reachable from other machines, and this server speaks no TLS itself: put a TLS proxy in front of"
            " it and say so with http.behind_tls = true (RADIOLITH_HTTP_BEHIND_TLS=true), or listen on 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _raise_file_limit() -> None:
    """As many descriptors as the system allows, up to FILES: a connection is one, and so is an open segment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _empty_cache(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    for entry in folder.iterdir():
        entry.unlink(missing_ok=True)


def _recover(settings: Settings) -> int:
    async def work() -> None:
        graph = build(settings, "recovery", no_decoders, Cache(None, os.urandom(32)))
        try:
            report = await asyncio.to_thread(graph.rebuild.recover, settled(graph.settings))
            for problem in report.damaged:
                log.error("damage found", what=problem)
        finally:
            await graph.close()

    asyncio.run(work())
    return 0


def _worker(node: Node, number: int) -> int:
    """One event loop for all edges."""
    metrics.use_row(number)
    node.held.use_row(number)

    async def work() -> None:
        graph = build(node.settings, f"worker {number}", node.decode, node.cache())
        # What a predecessor of ours left when it was killed.
        await asyncio.to_thread(graph.rebuild.recover, settled(graph.settings))
        dicom = dicomnode.server(graph, node.held, near=node.near)
        server = Web(graph, dicom)
        try:
            if node.dimse is not None:
                await dicom.start(node.dimse)
            if node.dimse_tls is not None:
                await dicom.start(node.dimse_tls, Certificates(node.settings.dimse))
            await server.run_on(node.socket, node.monitors)
        finally:
            await dicom.stop()
            await graph.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
    return 0


def _webhooks(graph: Graph) -> WebhookRunner:
    post = Post(allow_private=graph.settings.webhooks.allow_private)
    return WebhookRunner(Means(graph.database, post, graph.reads, microseconds, random.random))


def _jobs(node: Node, row: int) -> int:
    metrics.use_row(row)

    async def work() -> None:
        graph = build(node.settings, "jobs", node.decode, node.cache())
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        objects = node.settings.tiers.hot.url.startswith("s3:")
        name = f"jobs on {socket.gethostname()}"
        merging = Merging(graph.store, graph.database, microseconds, f"{name} {os.getpid()}") if objects else None
        verify = Verify(graph.store, graph.keyring, graph.keys, graph.database)
        parts = Parts(
            graph.database, graph.store, graph.committer, graph.archive.commitment, verify, graph.rebuild, merging,
            microseconds, name,
        )  # fmt: skip
        try:
            runners = (
                Housekeeping(parts),
                graph.traffic.following,
                dicomnode.runner(graph),
                dicomnode.reports(graph),
                _webhooks(graph),
                Rejections(graph.database, graph.archive.notes, microseconds),
                Filling(graph.database, (graph.store, graph.keys), graph.also, microseconds, f"{name} {os.getpid()}"),
            )
            await asyncio.gather(*(runner.run(stop) for runner in runners))
        finally:
            await graph.close()

    asyncio.run(work())
    return 0
