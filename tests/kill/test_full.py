"""No space, no database, no object store: refused at once with the right status, reads go on, and back by itself."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.archive.objects import numbered
from tests.kill.running import Server, dataset_of, made_home, wait
from tests.nodes.test_nodes import settings
from tests.storage.seaweed import Seaweed, seaweed

__all__ = ["seaweed"]
TIER_BYTES = 600 << 20  # the reserve of 256 MiB, two open segments and room for a few hundred objects
QUICK = 15.0  # seconds within which a refusal must have come: the timeouts of database and object store are shorter


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own for the tier."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", f"size={TIER_BYTES}", "tmpfs", str(folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=True)


def test_a_full_disk_refuses_and_recovers_by_itself(small_disk: Path, tmp_path: Path) -> None:
    environ = {"RADIOLITH_TIERS_HOT_URL": f"file://{small_disk}/tier"}
    home = tmp_path / "home"
    server = Server(home, made_home(home, environ), environ=environ)
    server.start()
    try:
        first = numbered(70, 0)
        assert server.store([first[3]]).status == 200
        ballast = small_disk / "ballast"
        _fill(ballast, _free(small_disk) - (200 << 20))  # below the reserve
        refused = server.store([numbered(70, 1)[3]])
        assert refused.status == 507, refused
        many = server.store([numbered(70, number)[3] for number in range(2, 8)])
        assert many.status == 507, many
        assert dataset_of(server.retrieve(*first[:3]).body) == dataset_of(first[3])
        assert server.instances(first[0]) == {first[1:3]}, "what was refused is not there"
        ballast.unlink()
        wait(lambda: server.store([numbered(70, 1)[3]]).status == 200, "stores to work again when there is space")
        assert server.instances(first[0]) == {first[1:3], numbered(70, 1)[1:3]}
        _until_full(server, small_disk)
        assert server.stop() == 0
    finally:
        server.kill_group()


def _until_full(server: Server, disk: Path) -> None:
    """Stores until the disk is really full, large objects too: each is either acknowledged and there, or refused."""
    ballast = disk / "ballast"
    _fill(ballast, max(0, _free(disk) - (262 << 20)))  # a few megabytes above the reserve
    acknowledged = []
    statuses = set()
    for number in range(1000, 1040):
        one = numbered(71, number, large=0.5)
        status = server.store([one[3]]).status
        statuses.add(status)
        if status == 200:
            acknowledged.append(one)
    assert statuses == {200, 507}, statuses
    for one in acknowledged:
        assert dataset_of(server.retrieve(*one[:3]).body) == dataset_of(one[3])
    ballast.unlink()


def _fill(path: Path, size: int) -> None:
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, size))


def _free(disk: Path) -> int:
    figures = os.statvfs(disk)
    return figures.f_bavail * figures.f_frsize


def test_without_database_nothing_is_acknowledged(tmp_path: Path) -> None:
    if reason := postgres.why_not():
        pytest.skip(reason)
    with postgres.cluster() as cluster:
        environ = {"RADIOLITH_DATABASE_URL": cluster.fresh()}
        home = tmp_path / "home"
        server = Server(home, made_home(home, environ), environ=environ)
        server.start()
        try:
            first, second = numbered(72, 0), numbered(72, 1)
            assert server.store([first[3]]).status == 200
            cluster.stop()
            for _ in range(3):
                began = time.monotonic()
                refused = server.store([second[3]], timeout=60)
                assert refused.status == 503 and "Retry-After" in {key.title() for key in refused.headers}, refused
                assert time.monotonic() - began < QUICK
            cluster.start()
            wait(lambda: server.store([second[3]]).status == 200, "stores to work again with the database")
            for one in (first, second):
                wait(lambda one=one: _reads(server, one), "what was acknowledged to be read again")
            wait(lambda: _lists(server, first[0]) == {first[1:3], second[1:3]}, "both, and nothing else, to be listed")
        finally:
            server.kill_group()


def _reads(server: Server, one: tuple[str, str, str, bytes]) -> bool:
    """Whether the object comes back now; never as other bytes. One worker may notice later than the other that the
    database or the object store is back, and refuses or cuts off, for all to see, until then."""
    try:
        answer = server.retrieve(*one[:3])
    except http.client.IncompleteRead:
        return False
    assert answer.status in (200, 503), answer
    assert answer.status == 503 or dataset_of(answer.body) == dataset_of(one[3])
    return answer.status == 200


def _lists(server: Server, study: str) -> set[tuple[str, str]]:
    try:
        return server.instances(study)
    except AssertionError as refused:
        assert "status=503" in str(refused)
        return set()


def test_without_object_store_nothing_is_acknowledged(seaweed: Seaweed, tmp_path: Path) -> None:
    """The service stands still, as an overloaded or cut-off one does, and then goes on."""
    if reason := postgres.why_not():
        pytest.skip(reason)
    environ = settings(postgres.shared().fresh(), seaweed, f"gone-{os.getpid()}")
    home = tmp_path / "home"
    server = Server(home, made_home(home, environ), environ=environ)
    server.start()
    service = _process_of(seaweed)
    try:
        first, second = numbered(73, 0), numbered(73, 1)
        assert server.store([first[3]]).status == 200
        os.kill(service, signal.SIGSTOP)
        began = time.monotonic()
        refused = server.store([second[3]], timeout=200)
        took = time.monotonic() - began
        assert refused.status == 503 and took < 100, f"{refused} after {took:.1f} s"
        assert server.instances(first[0]) == {first[1:3]}, "searching goes on without the object store"
        os.kill(service, signal.SIGCONT)
        wait(lambda: server.store([second[3]]).status == 200, "stores to work again with the object store")
        for one in (first, second):
            wait(lambda one=one: _reads(server, one), "what was acknowledged to be read again")
        print(f"refused after {took:.1f} s")
    finally:
        os.kill(service, signal.SIGCONT)
        server.kill_group()


def _process_of(seaweed: Seaweed) -> int:
    port = f"-s3.port={seaweed.tier.endpoint.rpartition(':')[2]}"
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and port.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
            return int(entry.name)
    raise AssertionError("SeaweedFS is not running")
