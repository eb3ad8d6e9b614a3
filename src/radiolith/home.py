"""A home: made, opened by a command, rebuilt.

Owns: the home's lock, and what commands do beside a running server or without one. Must never: serve.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from radiolith import config
from radiolith.archive import media, outward
from radiolith.archive.rebuild import Report
from radiolith.archive.verify import CheckReport, Verify
from radiolith.codecs.sandbox import Decoders, Zygote, start_zygote
from radiolith.config import Settings
from radiolith.graph import build, no_decoders, prove, settled
from radiolith.index import migrations, segments
from radiolith.index.accounts import tenants as accounts_of
from radiolith.index.database import open_database
from radiolith.model import BadInput, Conflict, Fact, Failure, NotFound, Principal
from radiolith.storage.blobs import microseconds
from radiolith.storage.cache import Cache
from radiolith.trust.keys import parse_root_key, read_root_key, recovery_text, write_root_key

T = TypeVar("T")


# ---------------------------------------------------------------- a home


@dataclass(frozen=True, slots=True)
class InitResult:
    home: Path
    root_key_path: Path
    recovery_path: Path


def initialise(home: Path, *, join: Path | None = None) -> InitResult:
    """Make a home: settings, root key, recovery file, keyring, index, the tenant `default`. Raises Conflict if it is one.

    join: the recovery file of an archive whose database and hot tier are shared; the home becomes another node of it.
    """
    return asyncio.run(initialised(home, join=join))


async def initialised(home: Path, environ: Mapping[str, str] | None = None, join: Path | None = None) -> InitResult:
    home = home.expanduser().absolute()
    if (home / config.FILE).exists():
        raise Conflict(f"{home} is a home already; choose another folder")
    shared_key = _shared_key(join) if join else None
    home.mkdir(mode=0o700, parents=True, exist_ok=True)  # the index names patients
    config.write_default(home)
    try:
        settings = config.load(home, environ)
        root_path, recovery_path = Path(settings.keys.root), home / "recovery.txt"
        if not root_path.exists():
            write_root_key(root_path, shared_key or os.urandom(32))
        if shared_key and read_root_key(root_path) != shared_key:
            raise Conflict(f"{root_path} holds the root key of another archive than the recovery file")
        write_text(recovery_path, recovery_text(read_root_key(root_path)))
        await asyncio.to_thread(migrations.migrate, settings.database.url)
        await _first_facts(settings, join=join is not None)
    except BaseException:
        (home / config.FILE).unlink()  # so that the same call can be made again
        raise
    return InitResult(home, root_path, recovery_path)


def _shared_key(recovery: Path) -> bytes:
    try:
        return parse_root_key(recovery.read_text("ascii"))
    except OSError as error:
        raise NotFound(f"{recovery} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{recovery} is no recovery file") from None


async def _first_facts(settings: Settings, *, join: bool) -> None:
    graph = build(settings, "init", no_decoders, Cache(None, os.urandom(32)), create=True)
    try:
        if join and not graph.keys.load():
            raise NotFound(
                "there is no archive to join in this tier; give database.url and tiers.hot.url of the first node"
            )
        graph.keys.create()
        await asyncio.to_thread(graph.rebuild.recover, settled(settings))  # a second node joins what the first one made
        with graph.database.read() as read:
            if any(tenant.name == "default" for tenant in accounts_of(read)):
                return
        if join:
            raise NotFound("the database holds no archive to join; give database.url of the first node")
        tenant = os.urandom(16)
        graph.keys.create_tenant(tenant)
        await graph.committer.fact(Fact("tenant", microseconds(), "init", tenant, {"name": "default"}))
    finally:
        await graph.close()


def write_text(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)


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


@contextmanager
def served_once(home: Path) -> Generator[None]:
    """One `serve` a home: two would empty each other's cache and count apart. Raises Conflict."""
    handle = os.open(home / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            # A record lock: unlike a flock it is not kept by the workers of a parent that was killed.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise Conflict("another `radiolith serve` runs on this home; stop it first") from None
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
        self.graph = build(settings, "command", self._decode, cache)
        self.archive, self.identities, self.accounts = (
            self.graph.archive, self.graph.identities, self.graph.accounts,
        )  # fmt: skip
        gc.collect()
        gc.freeze()  # what is loaded is not looked through again with every batch
        self.principal: Principal = self.accounts.system("command")

    def _decode(self) -> Decoders:
        if self._decoders is None:
            self._zygote = start_zygote()
            self._decoders = Decoders(self._zygote.address)
        return self._decoders

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self.graph.close())
        self._runner.close()
        if self._zygote is not None:
            self._zygote.close()

    # ------------------------------------------------------------ what commands do

    def _recover(self) -> None:
        """What a killed command left, where no server runs to do it."""
        self.graph.rebuild.recover(settled(self.settings))

    def _epoch(self) -> str:
        """A rebuilt index may hold less than was once taken: it begins a journal of its own."""
        with self.graph.database.read() as read:
            return migrations.epoch(read)

    def import_paths(
        self, paths: list[Path], progress: media.Progress = lambda _: None, *, domain: str = ""
    ) -> media.ImportSummary:
        """`domain`: whose patient IDs these are, where the headers do not say."""
        self._recover()
        journal = media.Journal(self.settings.home / "imports" / self._epoch())
        try:
            importer = media.Importer(self.archive.ingest, self.principal, journal, progress, domain=domain)
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
        self._recover()
        graph = self.graph
        verify = Verify(graph.store, graph.keyring, graph.keys, graph.database)
        report = verify.run(read_data=read_data, progress=progress)
        report.notes += graph.condition.lost_places()
        return report

    def status(self) -> dict[str, Any]:
        return self.graph.condition.look()

    def confirm_recovery(self) -> None:
        self.run(self.accounts.confirm_recovery(self.principal))

    def confirm_keyring_places(self) -> None:
        self.run(self.graph.condition.confirm_places(self.principal))


@contextmanager
def open_home(home: Path) -> Generator[Home]:
    """For a command: beside a running server or without one. Raises NotFound, Conflict with what to do next."""
    settings = config.load(home)
    with locked(settings.home, alone=False):
        check_version(settings)
        opened = Home(settings)
        try:
            yield opened
        finally:
            opened.close()


def rebuild(home: Path, progress: Callable[[Report], None] = lambda _: None) -> Report:
    """Make the index again from segments and keyring. Needs the home to itself."""
    settings = config.load(home)
    with locked(settings.home, alone=True):
        prove(settings)
        known = _known_ends(settings)
        migrations.erase(settings.database.url)
        migrations.migrate(settings.database.url)

        async def work() -> Report:
            graph = build(settings, "rebuild", no_decoders, Cache(None, os.urandom(32)))
            try:
                return await asyncio.to_thread(graph.rebuild.rebuild, progress, known)
            finally:
                await graph.close()

        return asyncio.run(work())


def _known_ends(settings: Settings) -> dict[bytes, int]:
    """How far each segment went by the index that is about to be erased, as far as it can be read.

    A log that lost its end looks like one whose last batch was never answered: only this index knows better.
    """
    try:
        database = open_database(settings.database.url)
        try:
            with database.read() as read:
                if not migrations.version(read):
                    return {}
                dropped = segments.dropped_segments(read)
                return {segment: end for segment, end in segments.segment_marks(read).items() if segment not in dropped}
        finally:
            database.close()
    except Failure:  # damaged or gone: often the reason for the rebuild
        return {}


def check_version(settings: Settings) -> None:
    """A newer index is refused, an older one copied aside and upgraded."""
    migrations.upgrade(settings.database.url)
