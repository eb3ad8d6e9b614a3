"""SeaweedFS as the S3 service under a hot tier: one process, loopback only, its own directory. CPU not the server's."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from client import Address, Client
from server import Service, free_port, spawn, wait_for

BUCKET = "bench"


def executable() -> str | None:
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


class SeaweedFS(Service):
    """Speaks S3 on `port` for anybody on this machine; the bucket `bench` is there once it has started."""

    counted = False  # it stands for a service elsewhere

    def __init__(self, work: Path):
        self.work = work
        self.port = free_port()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        found = executable()
        if found is None:
            raise FileNotFoundError("SeaweedFS (weed) is not installed")
        self.work.mkdir(parents=True)
        ports = {name: free_port() for name in ("master", "volume", "filer")}
        grpc = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        command = [found, "server", f"-dir={self.work}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
        command += [f"-{name}.port={port}" for name, port in ports.items()]
        command += [f"-{name}.port.grpc={port}" for name, port in grpc.items()]
        command += [f"-s3.port={self.port}", "-master.volumeSizeLimitMB=1024", "-volume.max=20"]
        log = self.work.parent / "seaweedfs.log"
        self.process = spawn(command, log, dict(os.environ))
        wait_for(self._bucket, self.process, log)

    def _bucket(self) -> bool:
        """Make the bucket; that works as soon as everything behind it is up."""
        client = Client(Address(self.port, ""), timeout=5)
        try:
            return client.put(f"/{BUCKET}").status in (200, 409)
        finally:
            client.close()
