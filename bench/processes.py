"""What can be seen of processes from outside: CPU seconds, memory, and how busy the machine is with other work.

Reads /proc only. Memory is the proportional set size over a whole process tree, so that pages shared by forked workers
count once between them. It must never touch a process it was not given.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
MB = 1_000_000
SAMPLE_SECONDS = 0.05
SAMPLE_SHARE = 10  # a sample may cost 1/10 of the time between two: summing up gigabytes of pages takes milliseconds
SAMPLE_LATEST = 0.25


def tree(roots: Iterable[int]) -> list[int]:
    """The living processes among `roots` and all their descendants."""
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                waiting += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        except OSError:
            continue
        found.append(pid)
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system seconds of the trees, those of children already gone included."""
    ticks = 0
    for pid in tree(roots):
        try:
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
        except OSError:
            continue
    return ticks / TICK


def memory_mb(roots: Iterable[int]) -> float:
    """Proportional set size of the trees in MB (10^6 bytes)."""
    total = 0
    for pid in tree(roots):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / MB


def machine_seconds() -> float:
    """Seconds all processors together have been busy since they started."""
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    user, nice, system, _idle, _wait, irq, softirq = fields
    return (user + nice + system + irq + softirq) / TICK


def own_seconds() -> float:
    """CPU seconds of this process and of the clients it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def quiet(roots: Callable[[], Iterable[int]], limit: float = 5.0) -> float:
    """Wait until the trees do next to nothing for 0.3 s, at most `limit` seconds. Answers the seconds waited."""
    begin = time.perf_counter()
    before = cpu_seconds(roots())
    while time.perf_counter() - begin < limit:
        time.sleep(0.3)
        now = cpu_seconds(roots())
        if now - before <= 1 / TICK:
            break
        before = now
    return time.perf_counter() - begin


class Watch:
    """Samples the memory of a server while something happens to it, and stops it when it takes too much.

    `roots` is asked anew each time, since processes come and go. Past `limit_mb`, `stop` is called once: eight clients
    on a large object can ask a server for more memory than the machine has.
    """

    def __init__(self, roots: Callable[[], Iterable[int]], limit_mb: float, stop: Callable[[], None]):
        self._roots, self._limit, self._stop = roots, limit_mb, stop
        self._peak = 0.0
        self.stopped = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Watch:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._sample()

    @property
    def peak_mb(self) -> float:
        return self._peak

    def _sample(self) -> float:
        begin = time.perf_counter()
        now = memory_mb(self._roots())
        self._peak = max(self._peak, now)
        if now > self._limit and not self.stopped:
            self.stopped = True
            self._stop()
        return time.perf_counter() - begin

    def _loop(self) -> None:
        pause = SAMPLE_SECONDS
        while not self._end.wait(pause):
            pause = min(SAMPLE_LATEST, max(SAMPLE_SECONDS, self._sample() * SAMPLE_SHARE))


def disk_bytes(folder: Path) -> int:
    """Bytes of disk the files below `folder` occupy."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                continue
    return total
