"""Which size of PDU a sender with DCMTK is fastest with: `storescu` into Radiolith, which offers one size after the other.

    python bench/pdu_sizes.py                     100 CT slices, one storescu, three rounds
    python bench/pdu_sizes.py --senders 4 --objects 200 --rounds 5
    python bench/pdu_sizes.py --nodelay           storescu with TCP_NODELAY=1, which few devices set

The largest PDU a receiver takes is a setting (`dimse.pdu_bytes`), so this is what the default is chosen by. DCMTK sends
no more than 128 KiB in one, whatever is offered. Prints objects a second (median and range) and the server's CPU per
object. The sizes take turns, so that other work on the machine hits all of them; take the rates as a hint beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import corpus
import processes
from isolation import isolate
from radiolith_server import Radiolith
from server import ServerFailed

SIZES = (16, 32, 64, 128, 256)  # KiB offered
KIB = 1024
SEND_SECONDS = 240.0


class Offering(Radiolith):
    """Radiolith that offers PDUs of `kib` KiB."""

    def __init__(self, work: Path, kib: int):
        self.name = f"radiolith-{kib}"
        self.kib = kib
        super().__init__(work)

    def settings(self) -> dict[str, str]:
        return {"RADIOLITH_DIMSE_PDU_BYTES": str(self.kib * KIB)}


def sent(server: Offering, folders: list[Path], environment: dict[str, str]) -> float:
    """Seconds until every storescu has ended, its start included. Raises ServerFailed when one could not store all."""
    program = shutil.which("storescu") or "storescu"
    node = server.node()
    begin = time.perf_counter()
    running = [
        subprocess.Popen(
            [program, "-aec", node.aet, "+sd", node.host, str(node.port), str(folder)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for folder in folders
    ]
    try:
        for process in running:
            _, said = process.communicate(timeout=SEND_SECONDS)
            if process.returncode:
                raise ServerFailed(f"storescu ended with {process.returncode}: {said[-300:].decode(errors='replace')}")
    finally:
        for process in running:
            process.kill()
            process.wait()
    return time.perf_counter() - begin


def folders(work: Path, run: int, senders: int, objects: int) -> list[Path]:
    """A folder of new CT slices for each sender."""
    made: list[Path] = []
    for k in range(senders):
        folder = work / f"folder-{run}-{k}"
        folder.mkdir()
        for j, data in enumerate(corpus.instances("ct", corpus.series(run, objects // senders, study=k + 1))):
            (folder / f"IM{j:05d}.dcm").write_bytes(data)
        made.append(folder)
    return made


def measure(work: Path, options: argparse.Namespace) -> dict[int, list[tuple[float, float]]]:
    """Of each size, a (objects per second, CPU milliseconds per object) for every round."""
    clean = {k: v for k, v in os.environ.items() if k != "TCP_NODELAY"}
    environment = clean | ({"TCP_NODELAY": "1"} if options.nodelay else {})
    found: dict[int, list[tuple[float, float]]] = {kib: [] for kib in SIZES}
    servers = [Offering(work, kib) for kib in SIZES]
    count = options.objects // options.senders * options.senders
    try:
        for server in servers:
            server.reset()
        for turn in range(options.rounds + 1):
            made = folders(work, turn + 1, options.senders, options.objects)
            for server in servers if turn % 2 else reversed(servers):
                os.sync()
                processes.quiet(server.roots)
                before = processes.cpu_seconds(server.roots())
                seconds = sent(server, made, environment)
                processes.quiet(server.roots)
                used = processes.cpu_seconds(server.roots()) - before
                if turn:  # the first warms up
                    found[server.kib].append((count / seconds, used * 1e3 / count))
            for folder in made:
                shutil.rmtree(folder)
    finally:
        for server in servers:
            server.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objects", type=int, default=100, help="of each round, over all senders (100)")
    parser.add_argument("--senders", type=int, default=1, help="storescu at a time (1)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nodelay", action="store_true", help="storescu sets TCP_NODELAY")
    parser.add_argument("--work", type=Path, help="directory on the disk to measure (the system's temporary one)")
    options = parser.parse_args()
    if shutil.which("storescu") is None:
        sys.exit("Debian's package dcmtk is not installed")
    isolate()
    work = Path(tempfile.mkdtemp(prefix="radiolith-pdus-", dir=options.work))
    try:
        found = measure(work, options)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{options.objects} CT slices of 0.5 MB by {options.senders} storescu, {options.rounds} rounds")
    for kib, rounds in found.items():
        rates = [rate for rate, _ in rounds]
        cpu = statistics.median(cpu for _, cpu in rounds)
        print(
            f"  {kib:>3} KiB offered: {statistics.median(rates):6.0f} objects/s "
            f"[{min(rates):.0f}–{max(rates):.0f}], server CPU {cpu:.2f} ms each"
        )


if __name__ == "__main__":
    main()
