"""Real processes over a real home: started, watched through the step file, killed, looked at from outside.

Owns: the processes it started, each in a session of its own. Everything known about them comes from outside: HTTP, the
step file, /proc.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from radiolith.storage.backends.steps_file import LAYOUT, ROW, ROWS, VARIABLE
from tests.archive.objects import numbered
from tests.ports import free_port

COMMAND = (sys.executable, "-c", "from radiolith.cli.main import main; main()")
PATIENCE = 60.0  # seconds for anything a server should do at once; the machine may be busy
PROJECT = Path(__file__).resolve().parent.parent.parent


def wait(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s: {what}"
        time.sleep(0.005)


@dataclass(frozen=True)
class Row:
    """One process in the step file."""

    @property
    def between(self) -> bool:
        """The kill left something half done: the step before it was not the end of a batch."""
        return self.last not in ("answer", "start")

    at: int
    pid: int
    count: int
    stop: int
    hits: int
    step: str
    hit: str  # the step before which it killed
    last: str  # the step that it had done before
    process: str


class StepFile:
    """The test's side of storage/backends/steps_file.py."""

    def __init__(self, path: Path):
        self.path = path
        path.write_bytes(bytes(ROW * ROWS))

    def rows(self) -> dict[str, Row]:
        data = self.path.read_bytes()
        found: dict[str, Row] = {}
        for at in range(0, ROW * ROWS, ROW):
            pid, _, count, stop, hits, *texts = LAYOUT.unpack_from(data, at)
            step, hit, last, process = (text.rstrip(b"\0").decode() for text in texts)
            if process:
                found[process] = Row(at, pid, count, stop, hits, step, hit, last, process)
        return found

    def arm(self, row: Row, stop: int, victim: int = 0) -> None:
        """Kill `victim` (the process itself for 0) when the row's process is about to take step `stop` or a later one."""
        with self.path.open("r+b") as file:
            os.pwrite(file.fileno(), struct.pack("<i", victim), row.at + 4)
            os.pwrite(file.fileno(), struct.pack("<Q", stop), row.at + 16)


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RADIOLITH_")}
    return {**kept, "PYTHONPATH": str(PROJECT / "src"), **(more or {})}


def run(
    *arguments: str, environ: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """A command of the program, as a person runs it."""
    done = subprocess.run((*COMMAND, *arguments), env=environment(environ), capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done


def made_home(home: Path, environ: Mapping[str, str] | None = None, *options: str) -> str:
    """A home, and a token of an administrator for it."""
    run("init", "--home", str(home), *options, environ=environ)
    return run("token", "--home", str(home), "--role", "admin", environ=environ).stdout.split()[-1]


class Server:
    """`radiolith serve` on a port that stays the same over restarts."""

    def __init__(self, home: Path, token: str, steps: StepFile | None = None, environ: Mapping[str, str] | None = None):
        self.home, self.token, self.steps = home, token, steps
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.environ = {**(environ or {}), **({VARIABLE: str(steps.path)} if steps else {})}
        self.log = home.parent / f"{home.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                (*COMMAND, "serve", "--home", str(self.home), "--http", self.address, "--workers", "2"),
                env=environment(self.environ), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        if ready:
            self.wait_ready()

    def wait_ready(self) -> None:
        wait(self.ready, f"the server to be ready; its log ends: {self.tail()}")

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server ended by itself: {self.tail()}"
        try:
            return self.get("/health/ready", timeout=2).status == 200
        except OSError:
            return False

    def tail(self) -> str:
        return self.log.read_text()[-3000:] if self.log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def group(self) -> list[int]:
        """Every living process of the server's session."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[3]) == self.pid and fields[0] != "Z":
                    found.append(int(entry.name))
        return found

    def kill_group(self) -> None:
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()

    def stop(self) -> int:
        """As a service manager stops it; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(40)
        finally:
            self.kill_group()

    def get(self, path: str, accept: str = "application/dicom+json", timeout: float = 30) -> Answer:
        return self.ask("GET", path, headers={"Accept": accept}, timeout=timeout)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> Answer:
        connection = http.client.HTTPConnection(self.address, timeout=timeout)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self.token}", **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def store(self, files: list[bytes], timeout: float = 30) -> Answer:
        parts = [b"--b\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % data for data in files]
        headers = {
            "Content-Type": 'multipart/related; type="application/dicom"; boundary=b',
            "Accept": "application/dicom+json",
        }
        return self.ask("POST", "/dicom-web/studies", b"".join(parts) + b"--b--\r\n", headers, timeout)

    def instances(self, study: str) -> set[tuple[str, str]]:
        """(series, SOP instance) of everything the archive lists in a study."""
        answer = self.get(f"/dicom-web/studies/{study}/instances?limit=1000")
        if answer.status == 204:
            return set()
        assert answer.status == 200, answer
        return {(row["0020000E"]["Value"][0], row["00080018"]["Value"][0]) for row in json.loads(answer.body)}

    def retrieve(self, study: str, series: str, sop: str) -> Answer:
        path = f"/dicom-web/studies/{study}/series/{series}/instances/{sop}"
        answer = self.get(path, 'multipart/related; type="application/dicom"; transfer-syntax=*')
        if answer.status != 200:
            return answer
        head, _, rest = answer.body.partition(b"\r\n\r\n")
        boundary = head.split(b"\r\n")[0]
        return Answer(200, answer.headers, rest.rpartition(b"\r\n" + boundary)[0])


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def dataset_of(file: bytes) -> bytes:
    """Everything behind the file meta group of a Part 10 file."""
    assert file[128:132] == b"DICM", file[:200]
    (length,) = struct.unpack_from("<I", file, 140)
    return file[144 + length :]


class Client:
    """tests/kill/client.py as a process, and its list. `large`: the share of large objects among those it sends."""

    large = 0.05

    def command(self) -> tuple[str, ...]:
        return sys.executable, "-m", "tests.kill.client", self.server.address, self.server.token

    def __init__(self, server: Server, seed: int, notes: Path):
        self.server, self.seed, self.notes = server, seed, notes
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        first = max(self.sent(), default=-1) + 1
        self.process = subprocess.Popen(
            (*self.command(), str(self.seed), str(first), str(self.notes)),
            stdin=subprocess.PIPE,
            cwd=PROJECT,
            env=environment(),
        )

    def stop(self) -> None:
        if self.process is not None:
            self.process.communicate(timeout=60)
            self.process = None

    def events(self) -> list[tuple[str, int]]:
        if not self.notes.exists():
            return []
        lines = self.notes.read_text().splitlines()
        return [(line[0], int(line[2:])) for line in lines]

    def acknowledged(self) -> set[int]:
        return {number for what, number in self.events() if what == "a"}

    def sent(self) -> set[int]:
        return {number for what, number in self.events() if what == "s"}

    def refusals(self) -> set[int]:
        """HTTP statuses of answers that were no success."""
        return {status for what, status in self.events() if what == "r"}

    def compare(self, since: int = 0) -> int:
        """Every object the archive shows among those from number `since` on is one that was sent, byte for byte, and
        every acknowledged one is shown. How many were read."""
        sent = {n for n in self.sent() if n >= since}
        acknowledged = {n for n in self.acknowledged() if n >= since}
        made = {number: numbered(self.seed, number, large=self.large) for number in sorted(sent)}
        shown: set[tuple[str, str, str]] = set()
        for study in sorted({one[0] for one in made.values()}):
            shown |= {(study, *rest) for rest in self.server.instances(study)}
        unknown = {one for one in shown if int(one[2].rpartition(".")[2]) not in self.sent()}
        assert not unknown, f"listed and never sent: {unknown}"
        missing = {number for number in acknowledged if made[number][:3] not in shown}
        assert not missing, f"acknowledged and not listed: {sorted(missing)}"
        read = 0
        for number, (study, series, sop, data) in made.items():
            if (study, series, sop) in shown:
                answer = self.server.retrieve(study, series, sop)
                assert answer.status == 200, (number, answer)
                assert dataset_of(answer.body) == dataset_of(data), f"object {number} came back altered"
                read += 1
        return read
