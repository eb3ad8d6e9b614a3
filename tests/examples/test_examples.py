"""The examples as a person runs them, the client, webhooks and the listener of monitors, against a real `radiolith serve`."""

from __future__ import annotations

import csv
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from radiolith.client import ArchiveError, Client, Event, Receiver
from tests.kill.running import PROJECT, Server, environment, run, wait
from tests.ports import free_port

SENDER = "gateway"


class Watched(Server):
    """Says that it is ready on its listener for monitors."""

    def __init__(self, home: Path, token: str):
        self.monitors = free_port()
        environ = {
            "RADIOLITH_METRICS_PORT": str(self.monitors),
            "RADIOLITH_WEBHOOKS_ALLOW_PRIVATE": "true",
            "RADIOLITH_DIMSE_PORT": "0",
        }
        super().__init__(home, token, environ=environ)

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server ended by itself: {self.tail()}"
        try:
            return self.monitored("/health/ready")[0] == 200
        except OSError:
            return False

    def monitored(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.monitors, timeout=10)
        try:
            connection.request("GET", path, headers={"X-Forwarded-For": "192.0.2.1"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def client(self, token: str = "") -> Client:
        return Client(f"http://{self.address}", token or self.token)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    home = tmp_path_factory.mktemp("serve") / "home"
    run("init", "--home", str(home))
    token = run("token", "--home", str(home), "--role", "admin", "--name", SENDER).stdout.split()[-1]
    about = ("--address", "127.0.0.1", "--port", str(free_port()))
    run("peer", "--home", str(home), "add", SENDER, "--aet", "GATEWAY", *about, "--complete-after", "1")
    run("peer", "--home", str(home), "add", "LUNGS", "--aet", "LUNGS", *about)
    found = Watched(home, token)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def ct(study: str, number: int, part: str) -> bytes:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, f"{study}.1.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.InstanceNumber = study, f"{study}.1", number
    made.PatientID, made.PatientName, made.Modality, made.StudyDate = "P1", "Doe^Jane", "CT", "20260105"
    made.BodyPartExamined, made.StationName, made.SeriesDescription = part, "CT1", "axial"
    made.Rows = made.Columns = 64
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    made.PixelData = (np.arange(64 * 64, dtype="<u2") * number).tobytes()
    file = BytesIO()
    made.save_as(file, enforce_file_format=True)
    return file.getvalue()


class Script:
    """An example that runs until the test ends."""

    def __init__(self, server: Server, folder: Path, name: str, *arguments: str):
        self.said = folder / f"{name}.said"
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                (sys.executable, str(PROJECT / "examples" / name), *arguments), cwd=folder, stdout=said, stderr=said,
                env=environment({"RADIOLITH_ADDRESS": f"http://{server.address}", "RADIOLITH_TOKEN": server.token}),
            )  # fmt: skip

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def alive(self) -> bool:
        assert self.process.poll() is None, self.said.read_text()
        return True


def test_three_scripts_react_to_a_complete_study(server: Watched, tmp_path: Path) -> None:
    client, page, table = server.client(), tmp_path / "page", tmp_path / "series.csv"
    with (
        Script(server, tmp_path, "route_by_body_part.py", "LUNGS") as routing,
        Script(server, tmp_path, "headers_to_csv.py", str(table)) as listing,
        Script(server, tmp_path, "picture_page.py", str(page)) as picturing,
    ):
        scripts = (routing, listing, picturing)
        places = (tmp_path / "route_by_body_part.cursor", tmp_path / "headers_to_csv.cursor", page / "cursor")
        wait(
            lambda: all(one.alive() for one in scripts) and all(one.exists() for one in places), "the scripts to follow"
        )
        client.store([ct("1.2.826.1", 1, "CHEST"), ct("1.2.826.1", 2, "CHEST")])
        client.store([ct("1.2.826.2", 1, "FOOT")])
        wait(
            lambda: all(one.alive() for one in scripts) and len(list(page.glob("*.jpg"))) == 2 and _lines(table) == 2
            and client.call("GET", "outbox"),
            "the scripts to react",
        )  # fmt: skip
    with Image.open(page / "1.2.826.1.jpg") as picture:
        assert max(picture.size) == 256
    assert "1.2.826.2.jpg" in (page / "index.html").read_text()
    rows = sorted(csv.reader(table.read_text("utf-8").splitlines()))
    assert rows == [
        ["1.2.826.1", "1.2.826.1.1", "20260105", "CT", "CT1", "axial"],
        ["1.2.826.2", "1.2.826.2.1", "20260105", "CT", "CT1", "axial"],
    ]
    assert [(one["peer"], one["study"]) for one in client.call("GET", "outbox")] == [("LUNGS", "1.2.826.1")]


def _lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines()) if path.exists() else 0


def test_the_client_finds_reads_and_stores(server: Watched) -> None:
    client = server.client()
    files = [ct("1.2.826.3", number, "HEAD") for number in (1, 2, 3)]
    stored = client.store(files)
    assert len(stored["00081199"]["Value"]) == 3
    assert [one["0020000D"]["Value"] for one in client.studies(StudyInstanceUID="1.2.826.3")] == [["1.2.826.3"]]
    assert client.studies(PatientID="nobody") == []
    assert len(client.metadata("1.2.826.3")) == 3
    assert client.metadata("1.2.826.3", "1.2.826.3.1", "1.2.826.3.1.2")[0]["00200013"]["Value"] == [2]
    assert sorted(_dataset(one) for one in client.retrieve("1.2.826.3")) == sorted(map(_dataset, files))
    with pytest.raises(ArchiveError, match="404") as failure:
        client.metadata("1.2.826.404")
    assert not failure.value.passes
    with pytest.raises(ArchiveError, match="401"):
        next(server.client("nonsense").changes())


def _dataset(file: bytes) -> bytes:
    return file[144 + int.from_bytes(file[140:144], "little") :]


def test_following_goes_on_through_a_restart_of_the_archive_and_of_the_script(server: Watched, tmp_path: Path) -> None:
    place = tmp_path / "place"
    events = server.client().changes("", kinds=["instance.stored"], remember=place)
    seen: list[Event] = []

    def follow() -> None:
        for event in events:
            seen.append(event)
            if event.instance == "1.2.826.4.1.2":
                return

    following = threading.Thread(target=follow, daemon=True)
    following.start()
    server.client().store([ct("1.2.826.4", 1, "HEAD")])
    wait(lambda: any(event.instance == "1.2.826.4.1.1" for event in seen), "the first event")
    assert server.stop() == 0
    server.start()
    server.client().store([ct("1.2.826.4", 2, "HEAD")])
    wait(lambda: not following.is_alive(), "the event after the restart")
    numbers = [event.number for event in seen]
    assert numbers == sorted(set(numbers))
    again = next(server.client().changes("", kinds=["instance.stored"], remember=place))
    assert again == seen[-1], "an event whose work was not finished comes again"


def test_a_webhook_is_told_through_a_restart(server: Watched) -> None:
    taken: list[Event] = []
    receiver: list[Receiver] = []
    answers = [302, 200]

    class Target(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = answers.pop(0) if len(answers) > 1 else answers[0]
            events = receiver[0].events(self.headers["Radiolith-Signature"], body)
            if status == 200:
                taken.extend(events)
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    target = ThreadingHTTPServer(("127.0.0.1", 0), Target)
    threading.Thread(target=target.serve_forever, daemon=True).start()
    try:
        home, url = ("--home", str(server.home)), f"http://127.0.0.1:{target.server_port}/hook"
        secret = run(
            "webhook", *home, "add", "ris", url, "--kind", "instance.stored", environ=server.environ
        ).stdout.strip()
        receiver.append(Receiver(secret))
        server.client().store([ct("1.2.826.5", 1, "HEAD")])
        waiting = json.loads
        wait(
            lambda: waiting(run("webhook", *home, "deliveries", "ris", "--json").stdout) != [], "the first failure", 60
        )
        assert server.stop() == 0
        server.start()
        wait(lambda: taken, "the webhook to be told")
        assert [event.instance for event in taken] == ["1.2.826.5.1.1"]
        (listed,) = json.loads(run("webhook", *home, "list", "--json").stdout)
        assert (listed["name"], listed["given_up"]) == ("ris", 0) and secret not in str(listed)
        run("webhook", *home, "again", "ris")
        run("webhook", *home, "remove", "ris")
    finally:
        target.shutdown()
        target.server_close()


def test_monitors_have_a_listener_of_their_own(server: Watched) -> None:
    status, text = server.monitored("/metrics")
    assert status == 200 and "radiolith_http_requests_total" in text, "whoever reaches it may read"
    assert server.monitored("/health/live")[0] == 200
    assert server.monitored("/api/v1/status")[0] == 404 and server.monitored("/dicom-web/studies")[0] == 404
    for path in ("/metrics", "/health/live", "/health/ready"):
        assert server.get(path).status == 404


def test_the_feed_on_the_command_line(server: Watched) -> None:
    home = ("--home", str(server.home))
    lines = [json.loads(line) for line in run("changes", *home, "--kind", "instance.stored").stdout.splitlines()]
    assert lines and {line["kind"] for line in lines} == {"instance.stored"}
    rest = run("changes", *home, "--kind", "instance.stored", "--after", lines[-2]["cursor"]).stdout.splitlines()
    assert [json.loads(line) for line in rest] == lines[-1:]
    wrong = run("changes", *home, "--after", "x", check=False)
    assert wrong.returncode == 1 and "after" in wrong.stderr


def test_the_client_needs_nothing_but_its_folder(tmp_path: Path) -> None:
    (tmp_path / "radiolith").mkdir()
    os.symlink(PROJECT / "src" / "radiolith" / "client", tmp_path / "radiolith" / "client")
    command = (
        sys.executable,
        "-S",
        "-I",
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import radiolith.client",
    )
    assert subprocess.run(command, capture_output=True, text=True, env={}).stderr == ""


def test_examples_are_short(project: Path) -> None:
    for path in sorted((project / "examples").glob("*.py")):
        code = path.read_text("utf-8").split('"""', 2)[2]
        assert len([line for line in code.splitlines() if line.strip()]) <= 25, path.name
