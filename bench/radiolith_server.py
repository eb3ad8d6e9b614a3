"""Radiolith as `radiolith serve` runs it: two workers, encryption, sync and audit on, as they always are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import processes
from client import Address
from dimse import CLIENT_AET
from postgresql import PostgreSQL
from seaweed import BUCKET, SeaweedFS
from server import Server, ServerFailed, end, spawn, sqlite_bytes, tail

COMMAND_SECONDS = 300.0
MEMORY_LIMIT_MB = 4000.0  # of a command


@dataclass(frozen=True, slots=True)
class Imported:
    seconds: float
    peak_mb: float


def executable() -> str | None:
    beside = Path(sys.executable).parent / "radiolith"
    return str(beside) if beside.exists() else shutil.which("radiolith")


class Radiolith(Server):
    name = "radiolith"
    ready_path = "/health/ready"
    aet = "RADIOLITH"
    workers = 2

    def __init__(self, work: Path):
        super().__init__(work)
        self._token = ""
        self.home = self.work / "home"

    def settings(self) -> dict[str, str]:
        """Settings that differ from the defaults, as variables."""
        return {}

    def prepare(self) -> None:
        self._run("init", "--home", str(self.home))
        printed = self._run("token", "--home", str(self.home), "--role", "admin", "--name", "bench").split()
        if not printed:
            raise ServerFailed("radiolith token printed nothing")
        self._token = printed[-1]
        peer = ("--aet", CLIENT_AET, "--address", "127.0.0.1", "--port", str(self.node().sink_port))
        self._run("peer", "--home", str(self.home), "add", "bench", *peer)

    def command(self) -> list[str]:
        http, dimse = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.dimse_port}"
        place = ("--home", str(self.home), "--http", http, "--dimse", dimse, "--aet", self.aet)
        return [_found(), "serve", *place, "--workers", str(self.workers)]

    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("RADIOLITH_")}
        return clean | self.settings()

    def address(self) -> Address:
        return Address(self.port, headers={"Authorization": f"Bearer {self._token}"})

    def index_bytes(self) -> int:
        return sqlite_bytes(self.home / "index.db")

    def import_folder(self, folder: Path) -> Imported:
        """Run `radiolith import` to its end, the interpreter's start included."""
        log = self.work / "import.log"
        begin = time.perf_counter()
        process = spawn([_found(), "import", "--home", str(self.home), "--json", str(folder)], log, self.environment())
        try:
            with processes.Watch(lambda: [process.pid], MEMORY_LIMIT_MB, process.kill) as watch:
                code = process.wait(COMMAND_SECONDS)
                seconds = time.perf_counter() - begin
        finally:
            end(process)
        if code:
            raise ServerFailed(f"radiolith import ended with {code}: {tail(log)}")
        return Imported(seconds, watch.peak_mb)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [_found(), *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            cwd="/",
        )
        if done.returncode:
            said: Sequence[str] = (done.stderr or done.stdout).strip().splitlines()
            raise ServerFailed(f"radiolith {arguments[0]} ended with {done.returncode}: {' '.join(said[-3:])}")
        return done.stdout


class RadiolithPostgreSQL(Radiolith):
    """The index on PostgreSQL; its processes count as the server's."""

    name = "radiolith-postgresql"

    def __init__(self, work: Path):
        super().__init__(work)
        self.database = PostgreSQL(self.work / "postgresql")
        self.services = [self.database]

    def settings(self) -> dict[str, str]:
        return {"RADIOLITH_DATABASE_URL": self.database.url}

    def index_bytes(self) -> int:
        return self.database.size()


class RadiolithS3(RadiolithPostgreSQL):
    """Hot tier on an object store, index on PostgreSQL: what a node of a fleet is."""

    name = "radiolith-s3"

    def __init__(self, work: Path):
        super().__init__(work)
        self.objects = SeaweedFS(self.work / "seaweedfs")
        self.services = [self.database, self.objects]

    def settings(self) -> dict[str, str]:
        return super().settings() | {
            "RADIOLITH_TIERS_HOT_URL": f"s3://{BUCKET}/tier",
            "RADIOLITH_TIERS_HOT_ENDPOINT": self.objects.endpoint,
            "RADIOLITH_TIERS_HOT_REGION": "us-east-1",
            "RADIOLITH_TIERS_HOT_ALLOW_HTTP": "true",
            "RADIOLITH_TIERS_HOT_ACCESS_KEY_ID": "any",
            "RADIOLITH_TIERS_HOT_SECRET_ACCESS_KEY": "any",
        }


def _found() -> str:
    found = executable()
    if found is None:
        raise ServerFailed("the command radiolith is not installed beside this Python")
    return found
