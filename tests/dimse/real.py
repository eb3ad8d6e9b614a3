"""`radiolith serve` as real processes with a DICOM port, and what stands around it: sinks that count, networks, memory.

Owns: the processes, namespaces and threads it starts. Everything known about the archive comes from outside: DICOM, HTTP,
the command line, /proc.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from typer.testing import CliRunner

from radiolith.cli.main import app as radiolith
from radiolith.dicom.reader import scan
from radiolith.dimse.association import Wanted
from radiolith.dimse.pdu import AssociateAccept
from tests.dimse import hurried
from tests.dimse.samples import VERIFICATION
from tests.dimse.speaker import Speaker, store
from tests.kill.running import PROJECT, Server, dataset_of, environment, made_home, wait
from tests.ports import free_port

SOON: Mapping[str, Any] = {
    "jobs.outbox:FIRST": 1_000_000,
    "jobs.outbox:LEASE": 4_000_000,
    "jobs.outbox:BEAT": 3.0,
    "jobs.outbox:POLL": 0.3,
    "archive.outbox:HEAD_START": 2_000_000,
    "dimse.sending:ANSWER_SECONDS": 3.5,
    "dimse.scu:CONNECT_SECONDS": 2.0,
    "dimse.scu:ASSOCIATE_SECONDS": 2.0,
    "policies.following:FOLLOW": 0.3,
}
"""A first retry after 0.5 to 1 second instead of 5 to 10, a lost sender's work taken over after 4 instead of 120, …"""


class Node(Server):
    """`radiolith serve` with DICOM on `dicom`, its deadlines as `soon` has them."""

    def __init__(self, folder: Path, soon: Mapping[str, Any] = SOON, environ: Mapping[str, str] | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        home = folder / "home"
        super().__init__(home, made_home(home), environ=environ)
        self.dicom = free_port()
        self.environ |= {"RADIOLITH_DIMSE_PORT": str(self.dicom), hurried.VARIABLE: json.dumps(dict(soon))}

    def start(self, *, ready: bool = True) -> None:
        command = (sys.executable, "-m", "tests.dimse.hurried", "serve", "--home", str(self.home))
        paths = {"PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT}"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                (*command, "--http", self.address, "--workers", "2"), env=environment(self.environ) | paths,
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        if ready:
            self.wait_ready()

    def command(self, *words: str, check: bool = True) -> str:
        """`radiolith …` beside the server."""
        group, *rest = words
        done = CliRunner().invoke(radiolith, [group, "--home", str(self.home), *rest])
        assert not check or done.exit_code == 0, f"{words}: {done.output}"
        return done.stdout

    def peer(self, name: str, port: int, *options: str, aet: str = "", address: str = "127.0.0.1") -> None:
        words = ("--aet", aet or name.upper(), "--address", address, "--port", str(port))
        self.command("peer", "add", name, *words, *options)

    def put(self, files: Sequence[bytes], calling: str = "TESTER") -> Counter[int]:
        return put(self.dicom, files, calling)

    def transfers(self, **query: str) -> list[dict[str, Any]]:
        answer = self.get(f"/api/v1/outbox?{'&'.join(f'{k}={v}' for k, v in query.items())}", "application/json")
        assert answer.status == 200, answer
        found = json.loads(answer.body)
        return found if isinstance(found, list) else found["transfers"]

    def ended(self, peer: str, state: str = "delivered", seconds: float = 40) -> list[dict[str, Any]]:
        """Wait until everything for a peer is in `state`, and there is something."""
        try:
            wait(
                lambda: (found := self.transfers(peer=peer)) and all(one["state"] == state for one in found),
                state,
                seconds,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.transfers(peer=peer)} {self.tail()}") from None
        return self.transfers(peer=peer)


@contextmanager
def serving(folder: Path, soon: Mapping[str, Any] = SOON, environ: Mapping[str, str] | None = None) -> Generator[Node]:
    node = Node(folder, soon, environ)
    node.start()
    try:
        yield node
        assert node.stop() == 0, node.tail()
    finally:
        node.kill_group()


def kind_of(file: bytes) -> tuple[str, str, str]:
    """SOP class, SOP instance, transfer syntax as the meta information has them."""
    meta = scan(file).meta
    sop_class, sop, syntax = (meta.get(tag, b"").decode().strip("\0 ") for tag in (0x00020002, 0x00020003, 0x00020010))
    return sop_class, sop, syntax


def put(port: int, files: Sequence[bytes], calling: str = "TESTER") -> Counter[int]:
    """Each file by C-STORE, byte for byte, in a context of its class and syntax; the statuses."""
    kinds = {id(file): kind_of(file) for file in files}
    pairs = list(dict.fromkeys((sop_class, syntax) for sop_class, _, syntax in kinds.values()))
    statuses = Counter[int]()
    for at in range(0, len(pairs), 120):
        part = pairs[at : at + 120]
        with Speaker(port) as peer:
            accept = peer.associate(tuple(Wanted(one, (syntax,)) for one, syntax in part), calling=calling)
            assert isinstance(accept, AssociateAccept)
            size = min(accept.user.max_length or 1 << 16, 1 << 16)
            usable = {pair: answer.id for pair, answer in zip(part, accept.contexts, strict=True) if not answer.result}
            for file in files:
                sop_class, sop, syntax = kinds[id(file)]
                context = usable.get((sop_class, syntax))
                if context is not None:
                    peer.say(store(dataset_of(file), sop, sop_class=sop_class, context=context, size=size))
                    statuses[peer.answer().status] += 1
            peer.release()
    return statuses


# ---------------------------------------------------------------- a peer that counts


class Sink:
    """A Storage SCP by pynetdicom: `got` lists every C-STORE that came, in order, with the hash of its data set.

    `react` may answer another status, wait, or abort: it is called with the event and how many came before.
    """

    def __init__(self, classes: Sequence[str], syntaxes: Sequence[str], react: Callable[[Any, int], int] | None = None):
        self.react = react
        self.got: list[tuple[str, str]] = []
        self.originators: set[tuple[str, int]] = set()
        self.port = free_port()
        self._entity = AE(ae_title="SINK")
        self._entity.maximum_associations = 20
        self._entity.add_supported_context(VERIFICATION)
        for each in classes:
            self._entity.add_supported_context(each, list(syntaxes))
        self._server: Any = None
        self._sockets: list[Any] = []

    def start(self, address: str = "127.0.0.1") -> None:
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store), (evt.EVT_CONN_OPEN, self._opened)]
        self._server = self._entity.start_server((address, self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
        for each in self._sockets:  # pynetdicom leaves one open that was reset before it shut it down
            each.close()
        self._sockets.clear()

    def _opened(self, event: Any) -> None:
        self._sockets.append(event.assoc.dul.socket.socket)

    def __enter__(self) -> Sink:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _store(self, event: Any) -> int:
        status = self.react(event, len(self.got)) if self.react is not None else 0
        if status == 0:
            request = event.request
            self.got.append((str(request.AffectedSOPInstanceUID), _digest(request.DataSet.getvalue())))
            if request.MoveOriginatorApplicationEntityTitle:
                title = str(request.MoveOriginatorApplicationEntityTitle).strip()
                self.originators.add((title, int(request.MoveOriginatorMessageID)))
        return status

    @property
    def uids(self) -> list[str]:
        return [uid for uid, _ in self.got]

    @property
    def twice(self) -> int:
        """How often something came that had come before."""
        return len(self.got) - len(set(self.uids))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---------------------------------------------------------------- networks of their own

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_numbers = iter(range(1 << 20))


class Network:
    """A network namespace (Linux, root) with nothing but a loopback interface, until a cable leads to another one."""

    def __init__(self) -> None:
        self.name = f"rl{os.getpid()}x{next(_numbers)}"

    def __enter__(self) -> Network:
        if os.getuid() != 0 or sys.platform != "linux":
            pytest.skip("a network of its own takes root on Linux")
        try:
            made = subprocess.run(("ip", "netns", "add", self.name), capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("the program `ip` (Debian package iproute2) is not installed")
        if made.returncode:
            pytest.skip(f"no network of its own can be made here: {made.stderr.strip()}")
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(("ip", "netns", "del", self.name), capture_output=True, check=False)

    def ip(self, *words: str) -> str:
        return subprocess.run(("ip", "-n", self.name, *words), capture_output=True, text=True, check=True).stdout

    @contextmanager
    def inside(self) -> Generator[None]:
        """The thread that asks, and the threads and processes it starts meanwhile, are in this network."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/{self.name}", "rb") as there:
            assert libc.setns(there.fileno(), _NEW_NETWORK) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(home.fileno(), _NEW_NETWORK) == 0


class Cable:
    """Between two networks: `left` is 10.77.0.1, `right` 10.77.0.2. Pulled, it drops every packet, and tells nobody."""

    LEFT, RIGHT = "10.77.0.1", "10.77.0.2"

    def __init__(self, left: Network, right: Network):
        self.ends = ((left, "cl", self.LEFT, self.RIGHT), (right, "cr", self.RIGHT, self.LEFT))
        left.ip("link", "add", "cl", "type", "veth", "peer", "name", "cr", "netns", right.name)
        for network, name, address, _ in self.ends:
            network.ip("addr", "add", f"{address}/24", "dev", name)
            network.ip("link", "set", name, "up")

    def pull(self) -> None:
        """The frames of both go to an address that no card has."""
        for network, name, _, other in self.ends:
            network.ip("neigh", "replace", other, "lladdr", "02:00:00:00:00:99", "dev", name, "nud", "permanent")

    def plug(self) -> None:
        for network, name, _, other in self.ends:
            network.ip("neigh", "del", other, "dev", name)


# ---------------------------------------------------------------- memory


class Memory:
    """Watches what the processes of a server hold (PSS, bytes): `peak` above what there was at the beginning."""

    def __init__(self, node: Node):
        self._node, self._stop = node, threading.Event()
        self.before = self.most = self.held()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def held(self) -> int:
        total = 0
        for pid in self._node.group():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)
        return total

    @property
    def grown(self) -> int:
        return self.most - self.before

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.most = max(self.most, self.held())

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)


def until(condition: Callable[[], object], what: str, seconds: float = 30) -> float:
    """Wait for it; how long that took."""
    begun = time.monotonic()
    wait(condition, what, seconds)
    return time.monotonic() - begun
