"""A PostgreSQL of its own for a server that is measured with one: default settings, loopback only, removed with it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from server import Service, end, free_port, spawn, wait_for


def binaries() -> Path | None:
    """The directory of the newest installed server programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgreSQL(Service):
    """A cluster below `work`. Run by root it becomes the system's `postgres` user, since PostgreSQL refuses root."""

    user = "postgres"

    def __init__(self, work: Path):
        self.work = work
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self._account = "postgres" if os.getuid() == 0 else None

    def start(self) -> None:
        programs = binaries()
        if programs is None:
            raise FileNotFoundError("no PostgreSQL server is installed")
        self.work.mkdir(parents=True)
        with tempfile.NamedTemporaryFile("w", prefix="bench-pg-") as secret:
            secret.write(self.password)
            secret.flush()
            if self._account:
                shutil.chown(self.work, self._account, self._account)
                shutil.chown(secret.name, self._account, self._account)
            self._initialise(programs, secret.name)
        command = [str(programs / "postgres"), "-D", str(self.work), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        log = self.work.parent / "postgresql.log"
        self.process = spawn(command, log, {"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", "")}, self._account)
        wait_for(self._answers, self.process, log)

    def _initialise(self, programs: Path, secret: str) -> None:
        command = [str(programs / "initdb"), "-D", str(self.work), "-U", self.user, "-E", "UTF8"]
        subprocess.run(
            [*command, "--locale=C.UTF-8", "-A", "scram-sha-256", f"--pwfile={secret}"],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._account,
            group=self._account,
            extra_groups=[] if self._account else None,
            cwd="/",
        )

    def stop(self) -> None:
        if self.process is not None:
            end(self.process, signal.SIGINT)  # PostgreSQL's fast shutdown; SIGTERM waits for its clients
        self.process = None

    @property
    def url(self) -> str:
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/postgres"

    def size(self) -> int:
        """Bytes of the database: tables, indexes, catalogue."""
        return int(self._ask("SELECT pg_database_size('postgres')"))

    def _answers(self) -> bool:
        try:
            return self._ask("SELECT 1") == "1"
        except subprocess.CalledProcessError:
            return False

    def _ask(self, question: str) -> str:
        programs = binaries()
        assert programs is not None
        command = [str(programs / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, "-Atc", question]
        done = subprocess.run(
            [*command, "postgres"],
            env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout.strip()
