"""The object graph: what is built from what, started and stopped. The only place that knows everything.

Owns: wiring. Must never: decide anything about an object, a person or a request.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from radiolith import config, metrics, serving
from radiolith.archive import commit, media, outward
from radiolith.archive.accounts import Accounts
from radiolith.archive.commit import Committer
from radiolith.archive.commitment import Commitment
from radiolith.archive.condition import Condition, Watched
from radiolith.archive.encodings import Encodings
from radiolith.archive.ingest import Door, Ingest
from radiolith.archive.pixels import Pixelwork
from radiolith.archive.ports import Archive
from radiolith.archive.query import Query
from radiolith.archive.reading import Reading
from radiolith.archive.rebuild import Rebuild, Report
from radiolith.archive.remove import Remove
from radiolith.archive.retrieve import Retrieve
from radiolith.archive.sidelined import Sidelined
from radiolith.archive.verify import CheckReport, Verify
from radiolith.archive.versions import Versions
from radiolith.codecs.sandbox import Decoders, Zygote, start_zygote
from radiolith.config import Settings
from radiolith.dicomweb.routes import Edge
from radiolith.index import migrations, segments
from radiolith.index.accounts import tenants as accounts_of
from radiolith.index.database import Database, open_database
from radiolith.jobs.housekeeping import Housekeeping, Parts
from radiolith.jobs.merging import Merging
from radiolith.model import BadInput, Conflict, Fact, Failure, Principal
from radiolith.storage.backends.steps_file import open_steps
from radiolith.storage.blobs import Log, microseconds
from radiolith.storage.cache import Cache
from radiolith.storage.keyring import Keyring
from radiolith.storage.tiers import open_backend, open_keyring
from radiolith.trust.audit import ReadAudit
from radiolith.trust.identity import Identities
from radiolith.trust.keys import Keys, read_root_key, recovery_text, write_root_key
from radiolith.web.ports import Inside
from radiolith.web.routes import routes

T = TypeVar("T")
log = structlog.get_logger()
THREADS = 6  # scans, reads and queries of a process; two cores are busy with three, the rest waits for disks
FORMAT = 1  # of the home as a whole; raised with every migration of segments, keyring or database


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything one process holds open."""

    settings: Settings
    name: str  # of the process, as the audit shows it
    database: Database
    store: Log
    keyring: Keyring
    keys: Keys
    committer: Committer
    archive: Archive
    identities: Identities
    accounts: Accounts
    condition: Condition
    reads: ReadAudit
    rebuild: Rebuild
    threads: ThreadPoolExecutor

    async def close(self) -> None:
        """Everything submitted is settled, the open segment sealed, handles given back."""
        await self.committer.stop()
        await self.reads.stop()
        self.store.close()
        self.threads.shutdown(wait=True)
        self.database.close()


def build(settings: Settings, name: str, decoders: Callable[[], Decoders], cache: Cache) -> Graph:
    """All of it, in the process that will use it: after a fork, inside or outside an event loop."""
    clock = microseconds
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="archive")
    database = open_database(settings.database.url)
    steps = open_steps(name)  # one counter for all that this process writes and syncs
    store = Log(open_backend(settings.tiers.hot, steps=steps), pool_bytes=settings.limits.pool_bytes)
    keyring = open_keyring(settings.keys.keyring, settings.tiers.hot, steps=steps)
    keys = Keys(read_root_key(Path(settings.keys.root)), keyring)
    keys.follow_from(_named_scopes(database))
    committer = Committer(commit.Parts(keys, store, database), name, settings.limits.pool_bytes, clock)
    reads = ReadAudit(database, name, clock)
    reading = Reading(store, keys, database, threads)
    pixels = Pixelwork(reading, decoders, cache)
    encodings = Encodings(database, reading, pixels, committer, clock)
    door = Door(store, committer, encodings, settings, threads, clock)
    archive = Archive(
        ingest=Ingest(door),
        query=Query(database, reading, reads, threads),
        retrieve=Retrieve(database, reading, pixels, reads, cache),
        remove=Remove(database, reading, committer, clock),
        versions=Versions(database, reading, committer, clock),
        commitment=Commitment(database, reading, clock),
        quarantine=Sidelined(database, reading, committer, clock),
    )
    accounts = Accounts(database, reading, committer, clock)
    condition = Condition(Watched(settings, database, store, accounts, reading, clock))
    return Graph(
        settings, name, database, store, keyring, keys, committer, archive, Identities(database, settings, clock),
        accounts, condition, reads, Rebuild(store, keys, database, clock), threads,
    )  # fmt: skip


def _named_scopes(database: Database) -> int:
    """Keyring entries before this position are named by committed rows; 0 where there is no index yet."""
    try:
        with database.read() as read:
            return segments.next_scope(read)
    except Failure:
        return 0


# ---------------------------------------------------------------- a home


@dataclass(frozen=True, slots=True)
class InitResult:
    home: Path
    root_key_path: Path
    recovery_path: Path


def initialise(home: Path) -> InitResult:
    """Make a home: settings, root key, recovery file, keyring, index, the tenant `default`. Raises Conflict if it is one."""
    return asyncio.run(initialised(home))


async def initialised(home: Path, environ: Mapping[str, str] | None = None) -> InitResult:
    home = home.expanduser().absolute()
    if (home / config.FILE).exists():
        raise Conflict(f"{home} is a home already; choose another folder")
    home.mkdir(parents=True, exist_ok=True)
    config.write_default(home)
    settings = config.load(home, environ)
    root_path, recovery_path = Path(settings.keys.root), home / "recovery.txt"
    if not root_path.exists():
        write_root_key(root_path, os.urandom(32))
    write_text(recovery_path, recovery_text(read_root_key(root_path)))
    await asyncio.to_thread(migrations.migrate, settings.database.url)
    await _first_facts(settings)
    return InitResult(home, root_path, recovery_path)


async def _first_facts(settings: Settings) -> None:
    graph = build(settings, "init", _no_decoders, Cache(None, os.urandom(32)))
    try:
        graph.keys.create()
        await asyncio.to_thread(graph.rebuild.recover)  # a second node joins what the first one made
        with graph.database.read() as read:
            if any(tenant.name == "default" for tenant in accounts_of(read)):
                return
        tenant = os.urandom(16)
        graph.keys.create_tenant(tenant)
        await graph.committer.fact(Fact("tenant", microseconds(), "init", tenant, {"name": "default"}))
    finally:
        await graph.close()


def write_text(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)


def _no_decoders() -> Decoders:
    raise BadInput("this process decodes nothing")


@contextmanager
def locked(home: Path, *, alone: bool) -> Generator[None]:
    """Many commands and one server share a home; a rebuild needs it for itself. Raises Conflict with what to do."""
    handle = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "this needs the home to itself: stop `radiolith serve` and other commands first"
                if alone
                else "the index of this home is being rebuilt; wait until that has ended"
            ) from None
        yield
    finally:
        os.close(handle)


class Home:
    """A home opened by a command, beside a running server or without one."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._runner = asyncio.Runner()
        self._zygote: Zygote | None = None
        self._decoders: Decoders | None = None
        cache = Cache(None, os.urandom(32))
        self._graph = build(settings, "command", self._decode, cache)
        self.archive, self.identities, self.accounts = (
            self._graph.archive, self._graph.identities, self._graph.accounts,
        )  # fmt: skip
        self.principal: Principal = self.accounts.system("command")

    def _decode(self) -> Decoders:
        if self._decoders is None:
            self._zygote = start_zygote()
            self._decoders = Decoders(self._zygote.address)
        return self._decoders

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self._graph.close())
        self._runner.close()
        if self._zygote is not None:
            self._zygote.close()

    # ------------------------------------------------------------ what commands do

    def import_paths(self, paths: list[Path], progress: media.Progress = lambda _: None) -> media.ImportSummary:
        journal = media.Journal(self.settings.home / "imports" / "taken")
        try:
            importer = media.Importer(self.archive.ingest, self.principal, journal, progress)
            return self.run(importer.run(paths))
        finally:
            journal.close()

    def export(
        self,
        studies: list[str],
        target: Path,
        *,
        original: bool = False,
        progress: Callable[[outward.ExportSummary], None] = lambda _: None,
    ) -> outward.ExportSummary:
        return self.run(
            outward.export(self.archive, self.principal, studies, target, original=original, progress=progress)
        )

    def check(
        self, *, read_data: bool = False, progress: Callable[[CheckReport], None] = lambda _: None
    ) -> CheckReport:
        graph = self._graph
        verify = Verify(graph.store, graph.keyring, graph.keys, graph.database)
        return verify.run(read_data=read_data, progress=progress)

    def status(self) -> dict[str, Any]:
        return self._graph.condition.look()

    def confirm_recovery(self) -> None:
        self.run(self.accounts.confirm_recovery(self.principal))


@contextmanager
def open_home(home: Path) -> Generator[Home]:
    """For a command: beside a running server or without one. Raises NotFound, Conflict with what to do next."""
    settings = config.load(home)
    with locked(settings.home, alone=False):
        _check_version(settings)
        opened = Home(settings)
        try:
            yield opened
        finally:
            opened.close()


def rebuild(home: Path, progress: Callable[[Report], None] = lambda _: None) -> Report:
    """Make the index again from segments and keyring. Needs the home to itself."""
    settings = config.load(home)
    with locked(settings.home, alone=True):
        migrations.erase(settings.database.url)
        migrations.migrate(settings.database.url)

        async def work() -> Report:
            graph = build(settings, "rebuild", _no_decoders, Cache(None, os.urandom(32)))
            try:
                return await asyncio.to_thread(graph.rebuild.rebuild, progress)
            finally:
                await graph.close()

        return asyncio.run(work())


def _check_version(settings: Settings) -> None:
    """A newer index is refused, an older one copied aside and upgraded."""
    migrations.upgrade(settings.database.url)


# ---------------------------------------------------------------- serving


class Site:
    """The one ASGI application: DICOMweb under /dicom-web (and WADO-URI under /wado), pages and API beside it."""

    def __init__(self, graph: Graph):
        self._edge = Edge(graph.archive, graph.identities, graph.settings.limits)
        inside = Inside(graph.archive, graph.identities, graph.settings, graph.condition)
        self._pages = Starlette(routes=routes(inside))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if path.startswith("/dicom-web/") or path == "/dicom-web":
            await self._edge({**scope, "root_path": "/dicom-web"}, receive, send)
        elif path == "/wado":
            await self._edge({**scope, "path": "/dicom-web/wado", "root_path": "/dicom-web"}, receive, send)
        else:
            await self._pages(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Node:
    """What the processes of one `serve` have in common; made before the first fork."""

    settings: Settings
    socket: socket.socket
    decoders: str  # address of the decoders' zygote
    secret: bytes  # of the cache on disk

    def decode(self) -> Decoders:
        return Decoders(self.decoders)

    def cache(self) -> Cache:
        return Cache(self.settings.home / "cache", self.secret)


def serve(home: Path, *, http: str | None = None, workers: int | None = None) -> int:
    """Run the archive until SIGTERM or SIGINT; the exit code."""
    settings = config.load(home)
    count = workers or settings.workers or min(8, os.cpu_count() or 1)
    with locked(settings.home, alone=False):
        _check_version(settings)
        listening = serving.listen(http or f"{settings.http.host}:{settings.http.port}")
        zygote = start_zygote()
        try:
            node = Node(settings, listening, zygote.address, os.urandom(32))
            _empty_cache(settings.home / "cache")
            metrics.share(count + 1)
            code = serving.in_child(lambda: _recover(settings))
            if code:
                return code
            host, port = listening.getsockname()[:2]
            log.info("serving", address=f"http://{host}:{port}/", workers=count)
            roles: dict[str, Callable[[], int]] = {
                f"worker {number}": lambda number=number: _worker(node, number) for number in range(count)
            }
            roles["jobs"] = lambda: _jobs(node, count)
            return serving.Supervisor(roles).run()
        finally:
            zygote.close()
            listening.close()


def _empty_cache(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    for entry in folder.iterdir():
        entry.unlink(missing_ok=True)


def _recover(settings: Settings) -> int:
    async def work() -> None:
        graph = build(settings, "recovery", _no_decoders, Cache(None, os.urandom(32)))
        try:
            report = await asyncio.to_thread(graph.rebuild.recover)
            for problem in report.damaged:
                log.error("damage found", what=problem)
        finally:
            await graph.close()

    asyncio.run(work())
    return 0


def _worker(node: Node, number: int) -> int:
    """One event loop for all edges."""
    metrics.use_row(number)

    async def work() -> None:
        graph = build(node.settings, f"worker {number}", node.decode, node.cache())
        await asyncio.to_thread(graph.rebuild.recover)  # what a predecessor of ours left when it was killed
        server = uvicorn.Server(
            uvicorn.Config(
                Site(graph), log_config=None, access_log=False, lifespan="off", http="httptools", ws="none",
                timeout_keep_alive=75, timeout_graceful_shutdown=15, server_header=False, date_header=True,
                h11_max_incomplete_event_size=65_536,
            )
        )  # fmt: skip
        try:
            await server.serve(sockets=[node.socket])
        finally:
            await graph.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
    return 0


def _jobs(node: Node, row: int) -> int:
    metrics.use_row(row)

    async def work() -> None:
        graph = build(node.settings, "jobs", node.decode, node.cache())
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        objects = node.settings.tiers.hot.url.startswith("s3:")
        merging = Merging(graph.store, graph.keys, graph.database, microseconds) if objects else None
        verify = Verify(graph.store, graph.keyring, graph.keys, graph.database)
        parts = Parts(
            graph.database, graph.store, graph.committer, graph.archive.commitment, verify, merging,
            microseconds, f"jobs on {socket.gethostname()}",
        )  # fmt: skip
        try:
            await Housekeeping(parts).run(stop)
        finally:
            await graph.close()

    asyncio.run(work())
    return 0
