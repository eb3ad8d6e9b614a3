"""The corpus through real processes: in by C-STORE, back by C-GET and C-MOVE with DCMTK's programs, and Orthanc on every side."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from radiolith.dicom.reader import scan
from radiolith.dimse import asking
from radiolith.dimse.association import Wanted
from radiolith.dimse.calls import Target
from radiolith.dimse.files import Saving
from radiolith.dimse.scu import connect
from radiolith.dimse.sopclasses import STUDY_ROOT
from tests import campaign
from tests.archive.homes import opened
from tests.archive.objects import EXPLICIT, IMPLICIT, ROOT, Made
from tests.dimse.peers import program
from tests.dimse.real import Network, Node, kind_of, put, serving
from tests.dimse.test_delivery import ours, written
from tests.kill.running import run, wait
from tests.ports import free_port

FILES = campaign.count("files of the corpus by C-STORE, C-MOVE and C-GET", 60, 1_000_000)
STUDIES = 20
"""Asked for in one C-GET or C-MOVE."""
LOSSY = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91)}
LOSSY_APART = 4
"""Grey levels or colour values by which two decoders of one lossy picture may differ."""
DIRECTORY = b"1.2.840.10008.1.3.10"
BIG = "1.2.840.10008.1.2.2"


@contextmanager
def daemon(*words: str, port: int, environ: Mapping[str, str] | None = None) -> Generator[None]:
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **(environ or {})}
    )
    try:
        wait(lambda: listening(port, process), f"{words[0]} to listen")
        yield
    finally:
        process.kill()
        process.wait()


def listening(port: int, process: subprocess.Popen[bytes]) -> bool:
    import socket

    assert process.poll() is None, "it ended"
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0


def called(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout + done.stderr


def studies(node: Node) -> list[str]:
    found: list[str] = []
    while True:
        answer = node.get(f"/dicom-web/studies?limit=100&offset={len(found)}")
        if answer.status == 204:
            return found
        found += [row["0020000D"]["Value"][0] for row in json.loads(answer.body)]


def keys(level: str, uids: Sequence[str]) -> list[str]:
    words = (f"QueryRetrieveLevel={level}", "StudyInstanceUID=" + "\\".join(uids))
    return [word for key in words for word in ("-k", key)]


# ---------------------------------------------------------------- the corpus


def named(file: bytes) -> str:
    """SOP Instance UID of the data set: that of the meta information may be another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(dcmread(BytesIO(file), force=True, specific_tags=["SOPInstanceUID"]).get("SOPInstanceUID", ""))


class Corpus:
    """`sent`: SOP Instance UID, transfer syntax, data set and file of everything that was sent."""

    def __init__(self, paths: Sequence[Path]):
        self.sent: list[tuple[str, str, bytes, bytes]] = []
        for path in paths[:: max(1, len(paths) // FILES)]:
            data = path.read_bytes()
            try:
                seen, sop = scan(data), named(data)
            except Exception:
                continue  # nobody could send it
            if seen.meta.get(0x00020002, b"").strip(b"\0 ") not in (b"", DIRECTORY):
                dataset = data[seen.layout.dataset_start :]
                self.sent.append((sop, seen.layout.transfer_syntax, dataset, data))

    @property
    def files(self) -> list[bytes]:
        return [file for *_, file in self.sent]

    def syntaxes(self, sop: str) -> set[str]:
        """In which ones an instance was sent."""
        return {syntax for uid, syntax, *_ in self.sent if uid == sop}

    def same(self, syntax: str, dataset: bytes) -> bool:
        """Whether this was sent, but for what follows the last element."""
        return any(one == syntax and data.startswith(dataset) for _, one, data, _ in self.sent)


@pytest.fixture(scope="module")
def corpus(corpus_files: list[Path]) -> Corpus:
    return Corpus(corpus_files)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Iterator[Node]:
    with serving(tmp_path_factory.mktemp("peers")) as found:
        statuses = found.put(corpus.files)
        assert set(statuses) <= {0, 0xB007}, statuses
        yield found


def listed(node: Node) -> set[str]:
    return {sop for study in studies(node) for _, sop in node.instances(study)}


@pytest.mark.timeout(600)
def test_the_corpus_comes_back_by_c_move_as_it_went_in(node: Node, corpus: Corpus, tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "in"
    folder.mkdir()
    node.peer("all", port)
    arguments = ("+B", "+xa", "-pm", "-od", str(folder), "-aet", "ALL", str(port))
    uids = studies(node)
    with daemon(program("storescp"), *arguments, port=port):
        for at in range(0, len(uids), STUDIES):
            words = ("-S", "-aec", "RADIOLITH", "-aem", "ALL", *keys("STUDY", uids[at : at + STUDIES]))
            subprocess.run(
                (program("movescu"), *words, "127.0.0.1", str(node.dicom)),
                capture_output=True,
                check=False,
                timeout=300,
            )
    back, held = written(folder), listed(node)
    same = {sop for sop, (syntax, data) in back.items() if corpus.same(syntax, data)}
    print(f"{len(held)} held, {len(back)} came, {len(same)} byte for byte")
    missing = held - set(back)
    said = {one["said"] for one in node.transfers(peer="all", limit="1000") if one["failed"]}
    assert len(missing) <= len(held) * 0.1, (len(missing), said)
    assert not missing or said, "what did not arrive has a reason"
    changed = {sop: (syntax, corpus.syntaxes(sop)) for sop, (syntax, _) in back.items() if sop not in same}
    assert not [one for one in changed.values() if one[1] == {one[0]}], changed
    assert len(changed) < len(held) * 0.1, changed


@pytest.mark.timeout(600)
async def test_the_corpus_comes_back_by_c_get_as_it_went_in(node: Node, corpus: Corpus, tmp_path: Path) -> None:
    """To one who proposes a context for each class and syntax. (Of several syntaxes in one context only one can be agreed on.)"""
    folder = tmp_path / "got"
    folder.mkdir()
    pairs = sorted({(kind_of(file)[0], syntax) for _, syntax, _, file in corpus.sent})
    inward = [Wanted(one, (syntax,), scu=False, scp=True) for one, syntax in pairs]
    uids, failed = studies(node), 0
    for contexts in range(0, len(inward), 127):
        wanted = [*asking.for_query(STUDY_ROOT.get), *inward[contexts : contexts + 127]]
        async with opened(tmp_path / f"home{contexts}") as graph:
            target = Target("RADIOLITH", "127.0.0.1", node.dicom)
            async with connect(target, wanted, "GETTER", ours(graph)) as association:
                association.exchange.storing = Saving.into(folder)
                for uid in uids:
                    identifier = partial(asking.identifier, "STUDY", {(0x0020000D,): uid})
                    told = [each async for each in asking.get(association, STUDY_ROOT.get, identifier)]
                    failed += told[-1].failed
    back, held = written(folder), listed(node)
    changed = {sop: (syntax, corpus.syntaxes(sop)) for sop, (syntax, d) in back.items() if not corpus.same(syntax, d)}
    print(f"{len(held)} held, {len(back)} came, {len(changed)} not byte for byte, {failed} sub-operations failed")
    assert set(back) == held
    assert not changed or len(inward) > 127, changed  # of several associations one takes what the other would have kept


@pytest.mark.timeout(600)
def test_getscu_gets_what_it_takes_and_pixels_stay(node: Node, corpus: Corpus, tmp_path: Path) -> None:
    """It takes only uncompressed syntaxes: what was compressed is decoded or told as failed, and stands in nobody's way."""
    folder = tmp_path / "got"
    folder.mkdir()
    uids = studies(node)
    for at in range(0, len(uids), STUDIES):
        words = ("-S", "-aec", "RADIOLITH", "+B", "-od", str(folder), *keys("STUDY", uids[at : at + STUDIES]))
        subprocess.run(
            (program("getscu"), *words, "127.0.0.1", str(node.dicom)), capture_output=True, check=False, timeout=300
        )
    back, held = written(folder), listed(node)
    kept = made_over = unread = 0
    for sop, (syntax, data) in back.items():
        assert syntax in (EXPLICIT, IMPLICIT, BIG), syntax
        if corpus.same(syntax, data):
            kept += 1
        else:
            same = pixels_equal(corpus, sop, next(path for path in folder.iterdir() if sop in path.name))
            made_over, unread = made_over + (same is not False), unread + (same is None)
            assert same is not False, f"{sop}: other pixels"
    print(
        f"{len(held)} held, {len(back)} came: {kept} byte for byte, {made_over} made over ({unread} nobody could read)"
    )
    assert kept > len(held) * 0.2 and made_over > 0
    assert len(back) > len(held) * 0.6


def pixels_equal(corpus: Corpus, sop: str, path: Path) -> bool | None:
    """To one state of the instance; None where pydicom can decode none. Lossy pictures may differ by rounding."""
    after = dcmread(path)
    decoded = False
    for uid, syntax, _, file in corpus.sent:
        if uid != sop:
            continue
        try:
            before = dcmread(BytesIO(file), force=True).pixel_array
        except Exception:
            continue
        decoded = True
        if before.shape == after.pixel_array.shape:
            apart = int(np.max(np.abs(before.astype(np.int64) - after.pixel_array.astype(np.int64)), initial=0))
            if apart <= (LOSSY_APART if syntax in LOSSY else 0):
                return True
    return False if decoded else None


# ---------------------------------------------------------------- Orthanc


class Orthanc:
    """As Debian packages it, in the network of whoever starts it: its servers bind every address of that."""

    def __init__(self, folder: Path, peers: Mapping[str, tuple[str, int]]):
        self.found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
        if self.found is None:
            pytest.skip("Debian's package orthanc is not installed")
        folder.mkdir()
        self.file, self.http, self.dicom = folder / "orthanc.json", free_port(), free_port()
        chosen = {
            "Name": "tests", "StorageDirectory": str(folder / "store"), "IndexDirectory": str(folder / "index"),
            "Plugins": [], "HttpPort": self.http, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
            "DicomServerEnabled": True, "DicomAet": "ORTHANC", "DicomPort": self.dicom, "DicomCheckCalledAet": False,
            "DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True,
            "DicomModalities": {name: [aet, "127.0.0.1", port] for name, (aet, port) in peers.items()},
        }  # fmt: skip
        self.file.write_text(json.dumps(chosen))

    def ask(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == 200, (path, answer.status, data[:500])
            return json.loads(data)
        finally:
            connection.close()


def test_orthanc_sends_is_sent_to_and_is_asked(tmp_path: Path) -> None:
    study = f"{ROOT}.6"
    objects = [
        Made(study, f"{study}.1", f"{study}.1.{n}", number=n, pixels=bytes(range(256)) * 64) for n in range(1, 9)
    ]
    with Network() as network, network.inside(), serving(tmp_path / "node") as node:
        orthanc = Orthanc(tmp_path / "orthanc", {"radiolith": ("RADIOLITH", node.dicom)})
        assert orthanc.found is not None
        with daemon(orthanc.found, str(orthanc.file), port=orthanc.dicom):
            assert put(orthanc.dicom, [each.part10() for each in objects[:5]]) == {0: 5}
            ids = orthanc.ask("GET", "/instances")
            sent = orthanc.ask("POST", "/modalities/radiolith/store", ids)
            assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (5, 0)
            assert len(node.instances(study)) == 5
            assert node.put([each.part10() for each in objects[5:]]) == {0: 3}
            moved_to(node, orthanc, study)
            got_from(node, orthanc, objects, tmp_path)


def moved_to(node: Node, orthanc: Orthanc, study: str) -> None:
    """By our C-MOVE, asked for by DCMTK; and by its own request to us."""
    node.peer("orthanc", orthanc.dicom)
    words = ("-S", "-aec", "RADIOLITH", "-aem", "ORTHANC", *keys("STUDY", [study]), "127.0.0.1", str(node.dicom))
    called(program("movescu"), *words)
    node.ended("orthanc")
    assert len(orthanc.ask("GET", "/instances")) == 8
    for one in orthanc.ask("GET", "/studies"):
        orthanc.ask("DELETE", f"/studies/{one}")
    asked = {"Level": "Study", "Resources": [{"StudyInstanceUID": study}], "TargetAet": "ORTHANC"}
    orthanc.ask("POST", "/modalities/radiolith/move", asked)
    wait(lambda: len(orthanc.ask("GET", "/instances")) == 8, "the images Orthanc asked for")


def got_from(node: Node, orthanc: Orthanc, objects: Sequence[Made], folder: Path) -> None:
    """`radiolith get` and `radiolith move` from Orthanc."""
    whom, study = f"ORTHANC@127.0.0.1:{orthanc.dicom}", objects[0].study
    told = json.loads(
        run("get", "--home", str(node.home), whom, "--study", study, "--to", str(folder / "got"), "--json").stdout
    )
    assert (told["status"], told["completed"], told["failed"]) == ("0000", 8, 0)
    back = written(folder / "got")
    assert {sop: data for sop, (syntax, data) in back.items() if syntax == EXPLICIT} == {
        each.sop: each.dataset() for each in objects
    }
    assert "8 instances" in run("move", "--home", str(node.home), whom, "--study", study, "--to", "RADIOLITH").stdout
