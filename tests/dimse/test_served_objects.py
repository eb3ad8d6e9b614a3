"""Objects by C-STORE: every real file there and back, a hundred associations at once, one that is large, and memory."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from pydicom.filereader import read_file_meta_info

from radiolith.codecs.sandbox import Decoders
from radiolith.dimse.association import Wanted
from radiolith.dimse.commands import Command
from radiolith.dimse.messages import Outgoing, command_only
from radiolith.dimse.pdu import AssociateAccept
from radiolith.model import Identity
from tests import campaign
from tests.archive.homes import principal
from tests.archive.objects import CT, EXPLICIT, RAW, Made
from tests.dimse.served import Served, Setting, served
from tests.dimse.speaker import STORE_ID, Speaker, store
from tests.kill.running import dataset_of

EVERY = 1 if campaign.LONG else 4
"""Of the files, in runs that are not long."""
CATEGORIES = {"1.2.840.10008.5.1.4.39.1": "color-palettes", "1.2.840.10008.5.1.4.38.1": "hanging-protocols"}
"""Of the classes of the corpus, those of no patient: where they are had (PS3.18 12)."""
DEFLATED = "1.2.840.10008.1.2.1.99"
OTHERS = "1.2.840.10008.5.1.4.1.1.7"
"""The SOP class that is said of files that say none."""
ASSOCIATIONS, OBJECTS, BYTES = 100, 3, 35_000


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("objects") / "home") as found:
        yield found


# ---------------------------------------------------------------- the corpus


class Sent:
    """A file of the corpus as a sender sees it: it reads the meta information and sends what follows that."""

    def __init__(self, path: Path):
        meta = read_file_meta_info(path)
        self.path = path
        self.sop_class = str(meta.get("MediaStorageSOPClassUID") or OTHERS)
        self.sop = str(meta.get("MediaStorageSOPInstanceUID") or "2.25.1")
        self.syntax = str(meta.TransferSyntaxUID)
        self.dataset = dataset_of(path.read_bytes())


def sendable(paths: list[Path]) -> list[Sent]:
    found = list[Sent]()
    for path in paths:
        try:
            found.append(Sent(path))
        except Exception:
            continue  # no Part 10 file: nobody could send it
    return found


def send(archive: Served, files: list[Sent]) -> Counter[str]:
    """Each file in a context of its class and syntax; the statuses."""
    kinds = sorted({(file.sop_class, file.syntax) for file in files})
    statuses = Counter[str]()
    for at in range(0, len(kinds), 120):
        part = kinds[at : at + 120]
        with Speaker(archive.port) as peer:
            accept = peer.associate(tuple(Wanted(sop_class, (syntax,)) for sop_class, syntax in part))
            assert isinstance(accept, AssociateAccept)
            usable = {kind: answer.id for kind, answer in zip(part, accept.contexts, strict=True) if not answer.result}
            for file in files:
                kind = file.sop_class, file.syntax
                if kind not in part:
                    continue
                if kind not in usable:
                    statuses[f"refused: {kind}"] += 1
                    continue
                peer.say(store(file.dataset, file.sop, sop_class=file.sop_class, context=usable[kind], size=1 << 17))
                statuses[f"{peer.answer().status:04X}"] += 1
            peer.release()
    return statuses


def ask(archive: Served, path: str, accept: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", archive.http, timeout=60)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {archive.token}", "Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def listed(archive: Served) -> list[tuple[str, str, str]]:
    found = list[tuple[str, str, str]]()
    while True:
        status, body = ask(archive, f"/dicom-web/instances?limit=100&offset={len(found)}", "application/dicom+json")
        if status == 204:
            return found
        rows = json.loads(body)
        found += [(r["0020000D"]["Value"][0], r["0020000E"]["Value"][0], r["00080018"]["Value"][0]) for r in rows]
        if len(rows) < 100:
            return found


def originals(archive: Served, study: str, series: str, sop: str) -> list[bytes]:
    """The data sets of every state that is held of an instance, as they came."""
    who, kept = principal(archive.graph), archive.graph.archive

    async def all_of_it() -> list[bytes]:
        found = list[bytes]()
        for held in await kept.versions.of(who, Identity(study, series, sop)):
            found.append(b"".join([bytes(piece) async for piece in kept.retrieve.original(held).chunks()]))
        return found

    return archive.ask(all_of_it)


@pytest.mark.timeout(600)
def test_every_file_goes_in_and_comes_back(corpus_files: list[Path], tmp_path: Path, decoders: Decoders) -> None:
    """By C-STORE in; by WADO-RS out in the syntax it came in: the same data set, byte for byte, but for what follows its last
    element."""
    files = sendable(corpus_files[::EVERY])
    datasets = {file.dataset for file in files}
    deflated = {file.dataset for file in files if file.syntax == DEFLATED}
    with served(tmp_path / "home", Setting(http=True), decoders) as archive:
        statuses = send(archive, files)
        refused = {status for status in statuses if status.startswith("refused")}
        assert all("1.2.840.10008.1.3.10" in status for status in refused), "only directories are no objects to keep"
        assert set(statuses) - refused <= {"0000", "B007"}
        held, kept = listed(archive), set[bytes]()
        for study, series, sop in held:
            came = originals(archive, study, series, sop)
            assert came and all(dataset in datasets for dataset in came), f"{sop} is not as it came"
            assert all(sop.encode() in dataset or dataset in deflated for dataset in came), f"{sop} is another object"
            kept.update(came)
            path = f"/dicom-web/studies/{study}/series/{series}/instances/{sop}"
            status, body = ask(archive, path, 'multipart/related; type="application/dicom"; transfer-syntax=*')
            assert status == 200, (path, body[:300])
            head, _, rest = body.partition(b"\r\n\r\n")
            back = dataset_of(rest.rpartition(b"\r\n" + head.split(b"\r\n")[0])[0])
            assert any(one.startswith(back) for one in came), f"{sop} came back altered"
        for file in files:
            if file.sop_class in CATEGORIES:
                path = f"/dicom-web/{CATEGORIES[file.sop_class]}/{file.sop}"
                status, body = ask(archive, path, 'multipart/related; type="application/dicom"; transfer-syntax=*')
                assert status == 200 and file.dataset in body, (path, status)
                kept.add(file.dataset)
        who, quarantine = principal(archive.graph), archive.graph.archive.quarantine
        apart = len(archive.ask(lambda: quarantine.list(who, 1000)))
    campaign.chosen["files of the corpus by C-STORE"] = len(files)
    print(f"{dict(statuses)}; {len(kept)} kept and compared, {apart} in quarantine")
    assert len(kept) + apart >= len(datasets) - sum(statuses[status] for status in refused)
    assert len(kept) > apart


# ---------------------------------------------------------------- many, large, and memory


def test_a_hundred_associations_store_at_once(archive: Served) -> None:
    acknowledged, failed = list[str](), list[object]()
    together = threading.Barrier(ASSOCIATIONS)

    def device(number: int) -> None:
        try:
            with Speaker(archive.port) as peer:
                assert isinstance(peer.associate(), AssociateAccept)
                together.wait(60)
                for each in range(OBJECTS):
                    sop = f"2.25.9{number:03}{each}"
                    dataset = Made(f"2.25.8{number:03}", f"2.25.7{number:03}", sop, private=os.urandom(BYTES)).dataset()
                    peer.say(store(dataset, sop, each + 1))
                    assert peer.answer().status == 0
                    acknowledged.append(sop)
                peer.release()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=device, args=(number,)) for number in range(ASSOCIATIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed, failed[:3]
    assert len(acknowledged) == ASSOCIATIONS * OBJECTS
    assert set(acknowledged) <= archive.instances()
    archive.idle()


def memory(what: str) -> int:
    """Bytes of this process, by the kernel's books."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


def test_a_large_object_costs_no_more_memory_than_a_small_one(archive: Served) -> None:
    head = Made("2.25.20", "2.25.21", "2.25.22", pixels=bytes(1024)).dataset()[: -1024 - 4]
    pieces, piece = campaign.count("256 KB pieces of a large object", 400, 20_000), os.urandom(1 << 18)
    size = pieces * len(piece)
    total = len(head) + 4 + size
    assert size < 1 << 32
    outgoing = Outgoing(STORE_ID, total, 1 << 18)
    command = Command.of(
        "C-STORE-RQ", True, MessageID=1, AffectedSOPClassUID=CT, AffectedSOPInstanceUID="2.25.22", Priority=0
    )
    with Speaker(archive.port) as peer:
        assert isinstance(peer.associate((Wanted(RAW, (EXPLICIT,)), Wanted(CT, (EXPLICIT,)))), AssociateAccept)
        peer.say(command_only(STORE_ID, command, 1 << 18))
        for part in (head, size.to_bytes(4, "little")):
            peer.say(b"".join(outgoing.feed(part)))
        before = 0
        for number in range(pieces):
            if number == 60:  # what is reused for any object is there by now
                Path("/proc/self/clear_refs").write_text("5")
                before = memory("VmRSS")
            peer.say(b"".join(outgoing.feed(piece)))
        assert peer.answer().status == 0
        grown = memory("VmHWM") - before
        peer.release()
    assert "2.25.22" in archive.instances()
    assert grown < 24 << 20, f"{grown >> 20} MiB for an object of {size >> 20} MiB"


def collected() -> int:
    """Bytes of this process in memory, without what only waits to be collected: a cut association leaves objects in a circle."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return memory("VmRSS")


def test_connections_without_end_leave_nothing(archive: Served) -> None:
    """Opened, half asked, aborted, in the middle of an object: no descriptor, no slot and no memory stays."""
    sop = "2.25.30"
    spoken = store(Made("2.25.31", "2.25.32", sop, private=bytes(3000)).dataset(), sop)

    def cycle(number: int) -> None:
        peer = Speaker(archive.port)
        if number % 3:
            assert isinstance(peer.associate(), AssociateAccept)
            peer.say(spoken[: 1 + number * 37 % (len(spoken) - 20)])
        peer.cut(reset=number % 2 == 0)

    count = campaign.count("connections begun and dropped", 1_500, 100_000)
    handles = before = 0
    for number in range(count):
        if number == count // 2:  # buffers that are kept, and what the allocator keeps, are there by now
            archive.idle()
            handles, before = len(os.listdir("/proc/self/fd")), collected()
        cycle(number)
        if number % 100 == 99:
            archive.traces.clear()
    archive.idle()
    assert len(os.listdir("/proc/self/fd")) <= handles + 2
    assert collected() - before < 8 << 20
    assert sop not in archive.instances()
