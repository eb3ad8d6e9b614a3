"""Radiolith and Orthanc, side by side in one run: starts both, measures them in turn, prints a table of ratios.

    python bench/compare.py                      everything, about half an hour on a quiet machine
    python bench/compare.py --quick              small, one repetition: shows that it works, not how fast it is
    python bench/compare.py --only stow-ct,qido  some steps
    python bench/compare.py --postgres --s3      also with the index on PostgreSQL, and a hot tier on SeaweedFS

Every server answers only clients on this machine, keeps its data in a temporary directory and is stopped and removed at
the end, also after Ctrl-C. The exit code is 1 when a row could not be measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orthanc
import postgresql
import radiolith_server
import reading
import report
import retrieving
import seaweed
import sending
import storing
from isolation import isolate
from measure import EXPECTED_FAILURES, Lane, Run, Sizes, reason
from server import Server

RESULTS = Path(__file__).parent / "results"
READING: dict[str, Callable[[Run], None]] = {**reading.STEPS, **retrieving.STEPS}
STEPS: dict[str, Callable[[Run], None]] = {**sending.STEPS, **storing.STEPS, **READING}
"""In this order: those that need an empty archive, then those that need a full one, which the last of them leaves."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    steps = _steps(options.only)
    sizes = Sizes.quick() if options.quick else Sizes()
    if options.reps:
        sizes = dataclasses.replace(sizes, reps=options.reps, large_reps=min(options.reps, sizes.large_reps))
    kinds = _kinds(options)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))  # so that the servers are stopped then, too
    _many_files()
    if not isolate():
        print("not root: the servers share this machine's network; Orthanc's port is open on all interfaces")
    out = options.out or RESULTS / time.strftime("%Y-%m-%dT%H%M%S.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="radiolith-bench-", dir=options.work))
    work.chmod(0o755)  # PostgreSQL runs as another user
    lanes = [Lane(kind(work)) for kind in kinds]
    try:
        with out.open("a", encoding="utf-8") as file:
            run = Run(lanes, sizes, file, options.minutes)
            run.record("run", None, 0, **about(sizes, lanes, options.quick))
            _all(run, steps)
    finally:
        for lane in lanes:
            lane.server.close()
        shutil.rmtree(work, ignore_errors=True)
    print(f"\n{report.markdown(run.records)}\nRecords: {out}")
    return 1 if any("error" in record for record in run.records) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one repetition")
    parser.add_argument("--only", default="", metavar="STEPS", help="some of: " + ", ".join(STEPS))
    parser.add_argument("--reps", type=int, default=0, help="repetitions of every row (3)")
    parser.add_argument("--postgres", action="store_true", help="also both servers with PostgreSQL as index")
    parser.add_argument("--s3", action="store_true", help="also Radiolith on SeaweedFS and PostgreSQL")
    parser.add_argument("--servers", default="", metavar="NAMES", help="only these: orthanc, radiolith, …")
    parser.add_argument("--minutes", type=float, default=90.0, help="after this time no new measurement starts (90)")
    parser.add_argument("--work", type=Path, help="directory on the disk to measure (the system's temporary one)")
    parser.add_argument("--out", type=Path, help="file for the records (bench/results/TIME.jsonl)")
    return parser.parse_args(arguments)


def _steps(only: str) -> list[str]:
    wanted = [step.strip() for step in only.split(",") if step.strip()]
    unknown = [step for step in wanted if step not in STEPS]
    if unknown:
        sys.exit(f"there is no step {', '.join(unknown)}; there are: {', '.join(STEPS)}")
    return [step for step in STEPS if not wanted or step in wanted]


def _kinds(options: argparse.Namespace) -> list[Callable[[Path], Server]]:
    """The servers to measure; says which cannot be, and why."""
    pg = "" if postgresql.binaries() else "no PostgreSQL server is installed"
    own = "" if radiolith_server.executable() else "the command radiolith is not installed beside this Python"
    s3 = pg or own or ("" if seaweed.executable() else "SeaweedFS is not installed")
    offered: list[tuple[type[Server], bool, str]] = [
        (orthanc.Orthanc, True, orthanc.missing()),
        (radiolith_server.Radiolith, True, own),
        (orthanc.OrthancPostgreSQL, options.postgres, pg or orthanc.missing(postgresql=True)),
        (radiolith_server.RadiolithPostgreSQL, options.postgres, pg or own),
        (radiolith_server.RadiolithS3, options.s3, s3),
    ]
    names = [name.strip() for name in options.servers.split(",") if name.strip()]
    chosen: list[Callable[[Path], Server]] = []
    for kind, wanted, lacking in offered:
        if not (kind.name in names if names else wanted):
            continue
        if lacking:
            print(f"{kind.name} is left out: {lacking}", file=sys.stderr)
        else:
            chosen.append(kind)
    if not chosen:
        sys.exit("there is nothing to measure")
    return chosen


def _all(run: Run, steps: Sequence[str]) -> None:
    """The steps in their order; what holds for one server must not end the run of the others."""
    filled = False
    for step in steps:
        print(f"--- {step}", flush=True)
        try:
            if step in READING and not filled:
                reading.load(run)
                filled = True
            STEPS[step](run)
        except EXPECTED_FAILURES as failure:
            run.record(step, None, 0, error=reason(failure))


def about(sizes: Sizes, lanes: Sequence[Lane], quick: bool) -> dict[str, Any]:
    """What a reader must know to compare two files of records."""
    processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "quick": quick,
        "servers": [lane.name for lane in lanes],
        "sizes": dataclasses.asdict(sizes),
        "cores": os.cpu_count(),
        "processor": processors[0].partition(":")[2].strip() if processors else platform.machine(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {"orthanc": _version(orthanc.executable()), "radiolith": _version(radiolith_server.executable())},
        "load_before": os.getloadavg()[0],
    }


def _version(program: str | None) -> str:
    if program is None:
        return ""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    words = (done.stdout or done.stderr).split("\n", 1)[0].split()
    return words[-1] if words else ""


def _many_files() -> None:
    """The usual 1,024 descriptors must not be what limits a server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65_536, hard) if hard > 0 else 65_536, hard))


if __name__ == "__main__":
    sys.exit(main())
