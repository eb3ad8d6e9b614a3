"""A server under measurement: starting it, knowing its processes, stopping it. Subclasses say which program it is.

Every process started here is ended here, by its id, also when the benchmark is interrupted; should the benchmark
itself be killed, the kernel ends them (PR_SET_PDEATHSIG). Servers listen on 127.0.0.1 or answer only to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import processes
from client import Address, Client
from dimse import Node

START_SECONDS = 60.0
STOP_SECONDS = 40.0
_LIBC = ctypes.CDLL(None)


class ServerFailed(Exception):
    """The server did not start, ended by itself, or took more memory than it may. The message says which."""


class Server(ABC):
    """One archive of one kind, holding its data below `work`."""

    name = ""
    ready_path = "/"
    ready_root = ""
    aet = ""

    def __init__(self, work: Path):
        self.work = work / self.name
        self.port, self.dimse_port, self._sink_port = free_ports(3)
        self.process: subprocess.Popen[bytes] | None = None
        self.services: list[Service] = []

    # ------------------------------------------------------------ what a subclass says

    @abstractmethod
    def prepare(self) -> None:
        """Make an empty archive in `self.work`, which exists and is empty."""

    @abstractmethod
    def command(self) -> list[str]:
        """Program and arguments that serve it in the foreground."""

    def address(self) -> Address:
        return Address(self.port)

    def node(self) -> Node:
        """Where it speaks DIMSE."""
        return Node(self.dimse_port, self.aet, self._sink_port)

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    @abstractmethod
    def index_bytes(self) -> int:
        """Bytes of all tables and indexes of the database. Only while the server is stopped."""

    # ------------------------------------------------------------ life

    def reset(self) -> None:
        """Throw away all data and start empty."""
        self.stop()
        for service in self.services:
            service.stop()
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        for service in self.services:
            service.start()
        self.prepare()
        self.start()

    def start(self) -> float:
        """Start and wait until it answers. The seconds that took."""
        begin = time.perf_counter()
        self.process = spawn(self.command(), self.work / "server.log", self.environment())
        ready = Address(self.port, self.ready_root, headers=self.address().headers)
        wait_for(lambda: self._answers(ready), self.process, self.work / "server.log")
        return time.perf_counter() - begin

    def _answers(self, ready: Address) -> bool:
        client = Client(ready, timeout=2)
        try:
            return client.get(self.ready_path, "*/*").status == 200
        finally:
            client.close()

    def restart(self) -> float:
        """A fresh process on the same data: what it kept in memory is gone."""
        self.stop()
        return self.start()

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)
        self.process = None

    def close(self) -> None:
        """Stop everything, the services below it included."""
        self.stop()
        for service in reversed(self.services):
            service.stop()

    def kill(self) -> None:
        """At once, whatever it is doing."""
        for pid in self.roots():
            for each in processes.tree([pid]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def roots(self) -> list[int]:
        """The processes whose trees are the server: itself, and a database of its own."""
        own = [self.process.pid] if self.process is not None else []
        return own + [service.process.pid for service in self.services if service.counted and service.process]


class Service(ABC):
    """Something a server stands on: a database, an object store. `counted`: its CPU and memory are the server's."""

    counted = True
    process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None:
        """Start in an empty directory and wait until it answers."""

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)
        self.process = None


# ---------------------------------------------------------------- processes


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ones of 127.0.0.1."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _die_with_parent() -> None:
    _LIBC.prctl(1, signal.SIGTERM)


def spawn(
    command: Sequence[str], log: Path, environment: Mapping[str, str], user: str | None = None
) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=dict(environment),
            cwd="/",
            user=user,
            group=user,
            extra_groups=[] if user else None,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )


def end(process: subprocess.Popen[bytes], first: signal.Signals = signal.SIGTERM) -> None:
    """Ask it to stop, wait, then kill it and whatever of its tree is left."""
    family = [pid for pid in processes.tree([process.pid]) if pid != process.pid]
    if process.poll() is None:
        process.send_signal(first)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid in family:
        with contextlib.suppress(OSError):
            if os.getsid(pid) == process.pid:  # its session, hence still the process we saw and no later one
                os.kill(pid, signal.SIGKILL)


def wait_for(check: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Look every 5 ms until `check` holds. Raises ServerFailed with the end of the log."""
    begin = time.perf_counter()
    while True:
        with contextlib.suppress(OSError):
            if check():
                return
        if process.poll() is not None:
            raise ServerFailed(f"ended with {process.returncode}: {tail(log)}")
        if time.perf_counter() - begin > START_SECONDS:
            raise ServerFailed(f"not ready after {START_SECONDS:.0f} s: {tail(log)}")
        time.sleep(0.005)


def tail(log: Path, size: int = 400) -> str:
    try:
        return log.read_bytes()[-size:].decode("utf-8", "replace").strip()
    except OSError:
        return "no log"


def sqlite_bytes(path: Path) -> int:
    """Bytes in use in an SQLite database: pages less free ones. Of a copy, and only while no server has it open."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for each in path.parent.glob(f"{path.name}*"):
            if each.is_file() and not each.name.endswith("-shm"):
                shutil.copy(each, folder)
        with contextlib.closing(sqlite3.connect(Path(folder) / path.name)) as connection:
            size, count, free = (
                int(connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_size", "page_count", "freelist_count")
            )
    return size * (count - free)
