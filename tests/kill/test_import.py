"""SIGKILL of `radiolith import` at steps chosen by the test: what its journal calls taken is there, and the same call
again takes the rest."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from radiolith.storage.backends.steps_file import VARIABLE
from tests import campaign
from tests.archive.objects import numbered
from tests.kill.running import COMMAND, StepFile, environment, made_home, run, wait

KILLS = campaign.count("kills of import", 4, 200)
FILES = 40


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def journalled(path: Path) -> bytes:
    """What an import notes of a file it has taken: 16 bytes made of path, size and time."""
    stat = path.stat()
    return hashlib.blake2b(f"{path.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode(), digest_size=16).digest()


def exported(home: Path, folder: Path) -> set[str]:
    """Digests of the exact files, by another program than the one that was killed."""
    run("export", "--home", str(home), "--original", str(folder))
    return {digest(path.read_bytes()) for path in folder.rglob("*.dcm")}


@pytest.mark.timeout(0)  # every wait inside has its own end
def test_an_import_survives_its_kill(tmp_path: Path) -> None:
    rng = random.Random(3)
    home = tmp_path / "home"
    made_home(home)
    steps = StepFile(tmp_path / "steps")
    at: Counter[str] = Counter()
    sent: set[str] = set()
    for number in range(KILLS):
        folder = tmp_path / f"medium {number}"
        folder.mkdir()
        made = {f"{n:03}.dcm": numbered(100 + number, n, large=0.1)[3] for n in range(FILES)}
        for name, data in made.items():
            (folder / name).write_bytes(data)
        command = (*COMMAND, "import", "--home", str(home), str(folder))
        killed = subprocess.Popen(command, env=environment({VARIABLE: str(steps.path)}), stderr=subprocess.DEVNULL)
        wait(lambda pid=killed.pid: (row := steps.rows().get("command")) and row.pid == pid, "the import to begin")
        row = steps.rows()["command"]
        steps.arm(row, rng.randint(1, 25))
        assert killed.wait(60) in (-9, 0)
        hit = steps.rows()["command"]
        at[hit.hit if hit.hits > row.hits else "ended before"] += 1
        steps.arm(row, 0)
        path = home / "imports" / "taken"
        journal = path.read_bytes() if path.exists() else b""
        marks = {journal[start : start + 16] for start in range(0, len(journal), 16)}
        taken = {digest(data) for name, data in made.items() if journalled(folder / name) in marks}
        there = exported(home, tmp_path / "back")
        assert taken <= there, "the journal names files that are not there"
        assert sent <= there <= sent | {digest(data) for data in made.values()}
        summary = json.loads(run("import", "--home", str(home), "--json", str(folder)).stdout)
        assert summary["stored"] + summary["duplicates"] + summary["resumed"] == FILES, summary
        sent |= {digest(data) for data in made.values()}
    assert exported(home, tmp_path / "back") == sent
    print(f"{KILLS} imports killed: {dict(at)}")
    assert "Everything is there" in run("check", "--home", str(home), "--read-data").stdout
