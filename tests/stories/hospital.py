"""A hospital around a running archive: a modality that sends (storescu), a workstation that asks and gets (findscu, movescu,
storescp), people at the command line.

Owns: the programs it starts. Everything known about the archive comes from outside.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from tests.archive.objects import Made
from tests.dimse.peers import program
from tests.dimse.real import Node
from tests.kill.running import wait
from tests.ports import free_port

TITLE = "RADIOLITH"
PIXELS = bytes(range(256)) * 32


def study(number: int, instances: int = 3, **values: Any) -> list[Made]:
    """Slices of one series."""
    root = f"1.2.826.0.1.3680043.10.1337.7.{number}"
    first = Made(root, f"{root}.1", f"{root}.1.1", accession=f"A{number}", pixels=PIXELS, **values)
    return [replace(first, sop=f"{root}.1.{n + 1}", number=n + 1) for n in range(instances)]


@dataclass
class Hospital:
    node: Node
    folder: Path
    workstation: Path  # where the workstation puts what it gets
    port: int  # of the workstation
    moved: int = 0

    # ------------------------------------------------------------ devices

    def send(self, objects: Sequence[Made], *, calling: str = "CT1") -> None:
        """As a modality does."""
        folder = self.written(objects)
        done = self._run(
            "storescu", "+sd", "-aet", calling, "-aec", TITLE, "127.0.0.1", str(self.node.dicom), str(folder)
        )
        assert done.returncode == 0, done.stderr

    def written(self, objects: Sequence[Made]) -> Path:
        self.moved += 1
        folder = self.folder / f"files{self.moved}"
        folder.mkdir(parents=True)
        for number, one in enumerate(objects):
            (folder / f"{number}.dcm").write_bytes(one.part10())
        return folder

    def find(self, level: str = "STUDY", **keys: str) -> list[Dataset]:
        """What the workstation is told, by attribute keyword."""
        self.moved += 1
        folder = self.folder / f"found{self.moved}"
        folder.mkdir()
        asked = {"QueryRetrieveLevel": level, "StudyInstanceUID": "", "PatientID": "", "PatientName": ""} | keys
        words = [word for key, value in asked.items() for word in ("-k", f"{key}={value}")]
        done = self._run(
            "findscu", "-S", "-X", "-od", str(folder), "-aec", TITLE, *words, "127.0.0.1", str(self.node.dicom)
        )
        assert done.returncode == 0, done.stderr
        return [dcmread(path, force=True) for path in sorted(folder.iterdir())]

    def move(self, study: str) -> list[Dataset]:
        """What the workstation gets of a study."""
        for path in self.workstation.iterdir():
            path.unlink()
        words = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
        done = self._run(
            "movescu", "-S", "-aec", TITLE, "-aem", "WS", *words, "127.0.0.1", str(self.node.dicom), seconds=120
        )
        assert done.returncode == 0, done.stderr
        return sorted((dcmread(path) for path in self.workstation.iterdir()), key=lambda one: int(one.InstanceNumber))

    @staticmethod
    def _run(name: str, *words: str, seconds: float = 60) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([program(name), *words], capture_output=True, timeout=seconds, check=False)

    # ------------------------------------------------------------ people

    def say(self, *words: str) -> dict[str, Any]:
        """`radiolith … --json`."""
        found: dict[str, Any] = json.loads(self.node.command(*words, "--json"))
        return found

    def cases(self, kind: str = "") -> list[dict[str, Any]]:
        words = ("--kind", kind) if kind else ()
        found: Any = json.loads(self.node.command("desk", "list", *words, "--json"))
        return found if isinstance(found, list) else found["cases"]

    def received(self, one: Made) -> list[bytes]:
        """The exact bytes of every version of an instance, in the order they came."""
        self.moved += 1
        folder = self.folder / f"content{self.moved}"
        found: Any = json.loads(self.node.command("history", "instance", one.sop, "--json"))
        (kept,) = found
        versions = kept["versions"]
        for version in versions:
            self.node.command("history", "content", one.sop, version["id"], str(folder))
        return [(folder / f"{version['id']}.dcm").read_bytes() for version in versions]


@contextmanager
def hospital(node: Node, folder: Path) -> Generator[Hospital]:
    """The node has to run; the workstation is its peer WS."""
    workstation, port = folder / "workstation", free_port()
    workstation.mkdir(parents=True)
    node.peer("ws", port)
    process = subprocess.Popen(
        [program("storescp"), "+xa", "+B", "-od", str(workstation), "-aet", "WS", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait(lambda: _listens(port, process), "the workstation to listen")
        yield Hospital(node, folder, workstation, port)
    finally:
        process.kill()
        process.wait()


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    import socket

    assert process.poll() is None, "the workstation ended"
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0
