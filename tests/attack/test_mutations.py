"""Mutated objects and hostile bodies, uploaded to real processes: clear answers, no crash, bounded memory.

The clients keep the list of what they saw; the memory is that of all processes of the server, as the kernel counts it.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import campaign
from tests.attack import uploads
from tests.dicomweb.objects import ct
from tests.kill.running import Server, made_home, wait

PARTS = 50  # of a request
CLIENTS = 2
WARM = 20  # requests before memory is measured: caches, pools and decoders are there then
MEMORY_MAX = 300 << 20  # bytes all processes may have more than after warming up: room for the pools, none for a leak
CLEAR = {200, 202, 400, 409, 413, 415}


def memory(server: Server) -> int:
    """Bytes of memory of all its processes, what they share counted once (PSS)."""
    total = 0
    for pid in server.group():
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                total += int(line.split()[1]) * 1024 if line.startswith("Pss:") else 0
        except (OSError, ValueError):
            continue  # it ended meanwhile
    return total


@dataclass
class Seen:
    """What the clients saw. `bad`: answers that are none of the clear ones, with the seed that made them."""

    answers: Counter[int] = field(default_factory=Counter[int])
    items: Counter[str] = field(default_factory=Counter[str])
    bad: list[str] = field(default_factory=list[str])


class Client:
    """One sender, one connection, one request after another."""

    def __init__(self, server: Server, seen: Seen):
        self._server, self._seen, self._connection = (
            server,
            seen,
            http.client.HTTPConnection(server.address, timeout=60),
        )

    def close(self) -> None:
        self._connection.close()

    def send(self, what: str, body: bytes, headers: dict[str, str]) -> None:
        try:
            lines = {"Authorization": f"Bearer {self._server.token}", "Accept": "application/dicom+json", **headers}
            self._connection.request("POST", "/dicom-web/studies", body, lines)
            answer = self._connection.getresponse()
            status, text = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            # The server may refuse a body before it has all come, and the answer may be lost with the connection. A
            # process that died would not answer the next one either.
            self._connection.close()
            status, text = (413, b"") if isinstance(error, ConnectionError) else (0, repr(error).encode())
        self._seen.answers[status] += 1
        if status not in CLEAR:
            self._seen.bad.append(f"{what}: {status} {text[:300]!r}")
        elif status in (200, 202):
            document = json.loads(text)
            for tag, outcome in (("00081199", "stored"), ("0008119A", "quarantined")):
                self._seen.items[outcome] += len(document.get(tag, {}).get("Value", []))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("attacked") / "home"
    running = Server(home, made_home(home))
    running.start()
    try:
        yield running
    finally:
        running.kill_group()


def both(work: list[tuple[int, int]], server: Server, seen: Seen, bases: list[bytes]) -> None:
    """Two clients share `work`: (seed, number of parts) of requests."""
    lock = threading.Lock()

    def run() -> None:
        client = Client(server, seen)
        while True:
            with lock:
                if not work:
                    return client.close()
                seed, parts = work.pop()
            client.send(f"seed {seed}", uploads.body(uploads.objects(bases, seed, parts)), {
                "Content-Type": uploads.CONTENT_TYPE})  # fmt: skip

    clients = [threading.Thread(target=run) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()


def works(server: Server, number: int) -> None:
    """The next good request works: stored, found and read."""
    study = f"2.25.{number}"
    assert server.store([ct(study=study, series=f"{study}.1", sop=f"{study}.1.1")]).status == 200
    assert server.instances(study) == {(f"{study}.1", f"{study}.1.1")}
    assert server.retrieve(study, f"{study}.1", f"{study}.1.1").status == 200


def test_mutated_objects(server: Server, corpus_files: list[Path]) -> None:
    total = campaign.count("mutated uploads", 20_000, 200_000)
    bases, seen, processes = uploads.small(corpus_files), Seen(), None
    requests = [(seed, min(PARTS, total - seed * PARTS)) for seed in range((total + PARTS - 1) // PARTS)]
    both(requests[:WARM], server, seen, bases)
    before, processes = memory(server), set(server.group())
    both(requests[WARM:], server, seen, bases)
    assert not seen.bad, seen.bad[:5]
    assert seen.items["stored"] + seen.items["quarantined"] == total, (seen.items, seen.answers)
    assert min(seen.items["stored"], seen.items["quarantined"]) > total // 10, "the mutations have lost their teeth"
    after = memory(server)
    assert after - before < MEMORY_MAX, f"{(after - before) >> 20} MiB more than before"
    assert processes <= set(server.group()), "a process died"
    works(server, 1)
    print(f"\n{total} mutated objects: {dict(seen.items)}, answers {dict(seen.answers)}, "
          f"memory {before >> 20} -> {after >> 20} MiB")  # fmt: skip


def test_hostile_bodies(server: Server, corpus_files: list[Path]) -> None:
    total = campaign.count("hostile multipart bodies, real server", 500, 20_000)
    bases, seen = uploads.small(corpus_files), Seen()
    processes = set(server.group())
    client = Client(server, seen)
    for seed in range(total):
        good = uploads.body(uploads.objects(bases, seed, 3))
        client.send(f"broken {seed}", uploads.broken(good, seed), {"Content-Type": uploads.CONTENT_TYPE})
    for what, headers, body in uploads.crafted(ct(study="2.25.7", series="2.25.7.1", sop="2.25.7.1.1")):
        client.send(what, body, headers)
    client.close()
    assert not seen.bad, seen.bad[:5]
    assert processes <= set(server.group()), "a process died"
    works(server, 2)


def test_what_was_stored_can_be_asked_for(server: Server) -> None:
    """Every way to read, over mutated objects: an answer or a clear refusal, never a failure inside."""
    wait(server.ready, "the server after the campaigns")
    rows = json.loads(server.get("/dicom-web/instances?limit=1000").body)
    wanted = campaign.count("mutated objects read in every way", 60, 1000)
    bad: list[str] = []
    answers: Counter[str] = Counter()
    for row in rows[:: max(1, len(rows) // wanted)]:
        at = row["00081190"]["Value"][0].partition(server.address)[2]
        for end, accept, may_be_cut in WAYS:
            try:
                answer = server.get(at + end, accept)
                what, good = str(answer.status), answer.status in READ
            except http.client.IncompleteRead:
                what, good = "cut", may_be_cut
            answers[what] += 1
            if not good:
                bad.append(f"{at}{end} as {accept}: {what}")
    assert not bad, bad[:5]
    assert answers["200"] > sum(answers.values()) // 4 and answers["cut"] < sum(answers.values()) // 20, answers
    print(f"\nmutated objects read: {dict(answers)}")
    works(server, 3)


READ = {200, 400, 404, 406, 410, 413}
WAYS = (
    # the end of the address, what is accepted, and whether the answer may be cut off: what is decoded while it is sent
    # meets a damaged frame when the answer has begun, and a short answer must look short
    ("", 'multipart/related; type="application/dicom"; transfer-syntax=*', False),
    ("", "application/dicom", True),
    ("", "application/zip", True),
    ("/metadata", "application/dicom+json", False),
    ("/metadata", 'multipart/related; type="application/dicom+xml"', False),
    ("/frames/1", "application/octet-stream", False),
    ("/frames/1", 'multipart/related; type="image/*"; transfer-syntax=*', False),
    ("/bulkdata", "application/octet-stream", False),
    ("/bulkdata/7FE00010", "application/octet-stream", False),
    ("/rendered", "image/png", False),
    ("/thumbnail", "image/jpeg", False),
)
