"""One measurement: a row, a server, a repetition; what is recorded around it, and in which order servers take turns.

Every record says how busy the machine was with other work meanwhile (`other_cores`): a wall time beside a large one
means little. A measurement that fails is a record too, with the reason; the run goes on.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import processes
from client import Client
from corpus import Name
from load import ClientFailed, Numbers
from server import Server, ServerFailed

MEMORY_LIMIT_MB = 14_000.0  # of one server; past it the server is killed and the measurement has failed
SETTLE_SECONDS = 4.0

EXPECTED_FAILURES = (ClientFailed, ServerFailed, OSError, subprocess.SubprocessError, sqlite3.Error)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything. The defaults are a full run; a quick one shows that it works, not how fast it is."""

    reps: int = 3
    ct: int = 400
    mr: int = 1000
    studies: int = 2000
    folder: int = 800
    series: int = 200
    frames: int = 512
    large_frames: int = 4096
    large_reps: int = 2
    calls: int = 100
    each_of_many: int = 40
    call_seconds: float = 5.0
    seconds: float = 3.0

    @classmethod
    def quick(cls) -> Sizes:
        return cls(
            reps=1,
            ct=100,
            mr=200,
            studies=120,
            folder=100,
            series=40,
            frames=32,
            large_frames=256,
            large_reps=1,
            calls=30,
            each_of_many=5,
            call_seconds=2.0,
            seconds=0.7,
        )


@dataclass(slots=True)
class Lane:
    """A server taking its turns, and what was found out about it on the way."""

    server: Server
    given_up: set[str] = field(default_factory=set[str])
    loaded: bool = False

    @property
    def name(self) -> str:
        return self.server.name

    def client(self) -> Client:
        return Client(self.server.address())


class Run:
    """The servers, the sizes, and the file of records."""

    def __init__(self, lanes: Sequence[Lane], sizes: Sizes, out: TextIO, minutes: float):
        self.lanes, self.sizes = lanes, sizes
        self.records: list[Numbers] = []
        self._out = out
        self._deadline = time.monotonic() + minutes * 60
        self._run = 0

    def fresh(self) -> int:
        """A number for names no repetition has used."""
        self._run += 1
        return self._run

    def turns(self, row: str, reps: int | None = None) -> Iterator[tuple[int, Lane]]:
        """(repetition, server) in turn; who goes first changes. A server that failed in this row is not asked again."""
        for rep in range(self.sizes.reps if reps is None else reps):
            for lane in self.lanes if rep % 2 == 0 else reversed(self.lanes):
                if row not in lane.given_up:
                    yield rep, lane

    def record(self, row: str, lane: Lane | None, rep: int, **numbers: Any) -> None:
        line = {"row": row, "server": lane.name if lane else "", "rep": rep} | {
            key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in numbers.items()
        }
        self.records.append(line)
        print(json.dumps(line), file=self._out, flush=True)
        shown = {k: v for k, v in line.items() if k not in ("row", "server", "rep", "client_cpu_s", "bytes")}
        print(f"{row:20} {line['server']:22} {rep}  {_brief(shown)}", flush=True)

    def measured(
        self,
        row: str,
        lane: Lane,
        rep: int,
        action: Callable[[], Numbers],
        *,
        storing: bool = False,
        serving: bool = True,
    ) -> Numbers | None:
        """Do `action`, add what it cost, write the record. None when it failed."""
        if time.monotonic() > self._deadline:
            lane.given_up.add(row)
            self.record(row, lane, rep, error="left out: the time for the whole run was up")
            return None
        server = lane.server
        watch = processes.Watch(server.roots, MEMORY_LIMIT_MB, server.kill)
        try:
            if serving and not server.alive():
                server.start()
            if not serving:
                server.stop()
            if storing:
                os.sync()  # nobody pays for writing back what another one stored
            for each in self.lanes:
                processes.quiet(each.server.roots, SETTLE_SECONDS)
            numbers = self._around(server, watch, action, storing)
        except EXPECTED_FAILURES as failure:
            said = f"stopped, took more than {MEMORY_LIMIT_MB:.0f} MB: " if watch.stopped else ""
            lane.given_up.add(row)
            self.record(row, lane, rep, error=f"{said}{reason(failure)}")
            return None
        self.record(row, lane, rep, **numbers)
        return numbers

    @staticmethod
    def _around(server: Server, watch: processes.Watch, action: Callable[[], Numbers], storing: bool) -> Numbers:
        roots = server.roots
        cpu, own, machine = processes.cpu_seconds(roots()), processes.own_seconds(), processes.machine_seconds()
        begin = time.perf_counter()
        with watch:
            numbers = action()
        took = time.perf_counter() - begin
        used = processes.cpu_seconds(roots()) - cpu
        client = processes.own_seconds() - own
        other = processes.machine_seconds() - machine - used - client
        if storing:  # what it puts off until later is part of what storing costs
            processes.quiet(roots, SETTLE_SECONDS)
            used = processes.cpu_seconds(roots()) - cpu
        wall = numbers.setdefault("wall_s", took)
        if "n" in numbers:
            numbers["per_s"] = numbers["n"] / wall
            if storing:
                numbers["cpu_ms"] = 1e3 * (used + numbers.get("command_cpu_s", 0.0)) / numbers["n"]
        if "bytes" in numbers:
            numbers["mb_s"] = numbers["bytes"] / wall / processes.MB
        return numbers | {
            "server_cpu_s": used,
            "client_cpu_s": client,
            "other_cores": max(0.0, other) / took,
            "peak_mb": max(watch.peak_mb, numbers.get("peak_mb", 0.0)),
        }


def reason(failure: BaseException) -> str:
    """One line for a record."""
    kind = "" if isinstance(failure, ClientFailed | ServerFailed) else f"{type(failure).__name__}: "
    return f"{kind}{failure}"[:400]


def _brief(numbers: Numbers) -> str:
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in numbers.items())


def held(lane: Lane, name: Name) -> int:
    """Instances of the study that the server says it holds."""
    client = lane.client()
    try:
        uid = name.uid(3)
        reply = client.get(f"/studies?StudyInstanceUID={uid}&includefield=00201208", keep=True)
    finally:
        client.close()
    found = json.loads(reply.body) if reply.status == 200 and reply.body else []
    return int(found[0]["00201208"]["Value"][0]) if found else 0


def expect_held(lane: Lane, name: Name, count: int) -> None:
    """Raises ClientFailed when the server acknowledged what it does not hold."""
    there = held(lane, name)
    if there != count:
        raise ClientFailed(f"{there} of {count} acknowledged instances are found")
