"""A private PostgreSQL for the tests: one cluster a test process, one database a test.

Owns: starting and stopping the server. Must never: touch a cluster it did not start. Debian's binaries, a Unix socket
in a temporary folder and no TCP port; as another user when we are root, because PostgreSQL refuses root.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg


@dataclass
class Cluster:
    folder: Path
    binaries: Path
    prefix: tuple[str, ...]
    made: int = 0

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def fresh(self, template: str = "template0") -> str:
        """URL of a new database, empty or a copy of `template` (which nobody may be connected to)."""
        self.made += 1
        name = f"test{self.made}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(
                f"CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8' LOCALE 'C' STRATEGY wal_log"
            )
        return self.url(name)

    def name(self, url: str) -> str:
        return url.split("@/")[1].split("?")[0]

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c max_connections=60 -c shared_buffers=64MB"
        self._control("start", "-l", str(self.folder / "log"), "-o", options)

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def _control(self, verb: str, *more: str) -> None:
        command = [*self.prefix, str(self.binaries / "pg_ctl"), "-D", str(self.folder / "data"), "-w", verb, *more]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


def find_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def why_not() -> str:
    """Why no PostgreSQL can be started here, '' when it can."""
    if find_binaries() is None:
        return "PostgreSQL is not installed (Debian: apt install postgresql)"
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        return "running as root without setpriv: PostgreSQL refuses root"
    return ""


def _prefix(folder: Path) -> tuple[str, ...]:
    if os.getuid() != 0:
        return ()
    with suppress(KeyError):
        user = pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
        return ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    raise RuntimeError("no user 'nobody' to run PostgreSQL as")


@cache
def shared() -> Cluster:
    """The cluster of this test process, started when first asked for and gone when the process ends."""
    running = ExitStack()
    owner = os.getpid()
    made = running.enter_context(cluster())
    atexit.register(lambda: running.close() if os.getpid() == owner else None)
    return made


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running server, gone afterwards. Call only when `why_not()` is ''."""
    binaries = find_binaries()
    if binaries is None:
        raise RuntimeError(why_not())
    folder = Path(tempfile.mkdtemp(prefix="rlpg"))
    folder.chmod(0o755)
    made = Cluster(folder, binaries, _prefix(folder))
    try:
        initdb: Sequence[str] = (
            *made.prefix, str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "-N",
            "--locale=C", "-E", "UTF8",
        )  # fmt: skip
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
