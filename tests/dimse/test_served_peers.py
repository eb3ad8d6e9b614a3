"""Other people's programs call us: DCMTK and pynetdicom, with all that they negotiate; and who is let in."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role
from pynetdicom.pdu_primitives import AsynchronousOperationsWindowNegotiation
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from radiolith.dimse.association import Wanted
from radiolith.dimse.commands import Command
from radiolith.dimse.find import FIRST_PAGE
from radiolith.dimse.items import Window
from radiolith.dimse.messages import message
from radiolith.dimse.pdu import AssociateAccept
from radiolith.dimse.sopclasses import STUDY_ROOT
from radiolith.model import Page, Principal, Query
from tests.archive.objects import EXPLICIT, RAW, Made, numbered
from tests.dimse.keys import encoded, keys
from tests.dimse.peers import program
from tests.dimse.served import Served, served
from tests.dimse.speaker import AET, CONTEXTS, STORE_ID, Speaker, echo, store

NODELAY = ({}, {"TCP_NODELAY": "1"})


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("peers") / "home") as found:
        yield found


def run(name: str, *arguments: str, environ: dict[str, str] | None = None) -> str:
    kept = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    done = subprocess.run(
        (program(name), *arguments), env={**kept, **(environ or {})}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def files(folder: Path, seed: int, count: int) -> set[str]:
    found = set[str]()
    for number in range(count):
        _, _, sop, data = numbered(seed, number, large=0.1)
        (folder / f"{number}.dcm").write_bytes(data)
        found.add(sop)
    return found


# ---------------------------------------------------------------- DCMTK


@pytest.mark.parametrize("environ", NODELAY, ids=["with delays", "without"])
def test_echoscu(archive: Served, environ: dict[str, str]) -> None:
    run("echoscu", "-aec", AET, "--repeat", "20", *archive.peer, environ=environ)
    archive.idle()
    assert archive.traces[-1]["operations"] == [{"operation": "C-ECHO", "status": "0000", "count": 20}]


@pytest.mark.parametrize("environ", NODELAY, ids=["with delays", "without"])
@pytest.mark.parametrize("name", ["storescu", "dcmsend"])
def test_dcmtk_sends(archive: Served, tmp_path: Path, name: str, environ: dict[str, str]) -> None:
    sops = files(tmp_path, 100 + len(name) + len(environ), 30)
    options = ("-xe", "+sd") if name == "storescu" else ("+sd",)
    run(name, "-aec", AET, *options, *archive.peer, str(tmp_path), environ=environ)
    archive.idle()
    assert sops <= archive.instances()
    assert {"operation": "C-STORE", "status": "0000", "count": 30} in archive.traces[-1]["operations"]


@pytest.mark.parametrize("pdu", [4096, 16384, 131072])
def test_storescu_with_any_pdu_length(archive: Served, tmp_path: Path, pdu: int) -> None:
    sops = files(tmp_path, 200 + pdu, 6)
    run("storescu", "-aec", AET, "-xe", "+sd", "-pdu", str(pdu), "--max-send-pdu", "4096", *archive.peer, str(tmp_path))
    assert sops <= archive.instances()


def test_a_sender_with_delays_does_not_wait_for_our_system(archive: Served) -> None:
    """It writes command and data set one after the other, and its system keeps the second back until the first is
    acknowledged: 40 ms an object, where our system waits with that for an answer of ours."""
    late, objects = 0, 60
    with Speaker(archive.port, nagle=True) as peer:
        assert isinstance(peer.associate(), AssociateAccept)
        for number in range(objects):
            sop = f"2.25.300{number}"
            spoken = store(Made("2.25.3", "2.25.4", sop, private=bytes(500)).dataset(), sop, number + 1)
            end = 6 + int.from_bytes(spoken[2:6], "big")
            begun = time.monotonic()
            peer.say(spoken[:end])
            peer.say(spoken[end : end + 200])
            peer.say(spoken[end + 200 :])
            assert peer.answer().status == 0
            late += time.monotonic() - begun > 0.035
        peer.release()
    assert late < objects / 3, f"{late} of {objects} answers came 35 ms late or later"


def test_findscu(archive: Served, tmp_path: Path) -> None:
    sops = files(tmp_path, 400, 5)
    run("dcmsend", "-aec", AET, "+sd", *archive.peer, str(tmp_path))
    study, series, sop, _ = numbered(400, 0)
    uids = ("-k", f"StudyInstanceUID={study}", "-k", f"SeriesInstanceUID={series}", "-k", "SOPInstanceUID")
    for model, patient in (("-S", ()), ("-P", ("-k", "PatientID=P0"))):
        said = run(
            "findscu", model, "-v", "-aec", AET, "-k", "QueryRetrieveLevel=IMAGE", *uids, *patient, *archive.peer
        )
        found = {other for other in sops if f"[{other}]" in said.replace("\0", "")}
        assert sop in found and found == {numbered(400, number)[2] for number in (0, 3)}, said
    studies = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID")
    assert study in run("findscu", "-S", "-v", "-aec", AET, *studies, *archive.peer)
    run("findscu", "-S", "-aec", AET, "--cancel", "1", *studies, *archive.peer)
    archive.idle()


def test_findscu_with_a_wrong_identifier(archive: Served) -> None:
    done = subprocess.run(
        (program("findscu"), "-S", "-v", "-aec", AET, "-k", "QueryRetrieveLevel=NONSENSE", *archive.peer),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "DoesNotMatchSOPClass" in done.stdout + done.stderr


def test_a_find_is_cancelled(archive: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two pages, of which the second stands still until the C-CANCEL was heard; and before the first."""
    sops = [f"2.25.500{number}" for number in range(FIRST_PAGE + 20)]
    contexts = (*CONTEXTS, Wanted(STUDY_ROOT.find, (EXPLICIT,)))
    asked = encoded(keys("IMAGE", StudyInstanceUID="2.25.5", SeriesInstanceUID="2.25.6", SOPInstanceUID=""), EXPLICIT)
    command = Command.of("C-FIND-RQ", True, MessageID=7, AffectedSOPClassUID=STUDY_ROOT.find, Priority=0)
    find = b"".join(message(5, command, asked, 0))
    cancel = b"".join(message(5, Command.of("C-CANCEL-RQ", MessageIDBeingRespondedTo=7), None, 0))
    gate, search = asyncio.Event(), archive.graph.archive.query.search

    async def held_up(who: Principal, query: Query) -> Page:
        if query.cursor:
            await gate.wait()
        return await search(who, query)

    with Speaker(archive.port) as peer:
        assert isinstance(peer.associate(contexts), AssociateAccept)
        for number, sop in enumerate(sops):
            peer.say(store(Made("2.25.5", "2.25.6", sop).dataset(), sop, number + 1))
        assert {peer.answer().status for _ in sops} == {0}
        monkeypatch.setattr(archive.graph.archive.query, "search", held_up)
        peer.say(find)
        assert [peer.answer().status for _ in range(FIRST_PAGE)] == [0xFF00] * FIRST_PAGE
        peer.say(cancel + echo(8))
        assert peer.answer().message_id == 8, "it was heard beside the query"
        archive.loop.call_soon_threadsafe(gate.set)
        assert peer.answer().status == 0xFE00
        peer.say(find + cancel)
        assert peer.answer().status == 0xFE00
        peer.say(find)
        statuses = [peer.answer().status for _ in range(len(sops) + 1)]
        assert statuses == [0xFF00] * len(sops) + [0], "the next one is answered whole"
        peer.release()


# ---------------------------------------------------------------- pynetdicom


def test_pynetdicom_stores_and_finds(archive: Served) -> None:
    entity = AE("PYNET")
    for sop_class in (
        Verification,
        CTImageStorage,
        RAW,
        StudyRootQueryRetrieveInformationModelFind,
        PatientRootQueryRetrieveInformationModelFind,
    ):
        entity.add_requested_context(sop_class, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    association = entity.associate("127.0.0.1", archive.port, ae_title=AET, max_pdu=0)
    assert association.is_established
    assert association.send_c_echo().Status == 0
    study, _, sop, data = numbered(600, 1)
    assert association.send_c_store(dcmread(BytesIO(data))).Status == 0
    wanted = Dataset()
    wanted.QueryRetrieveLevel, wanted.PatientID, wanted.StudyInstanceUID = "STUDY", "P0", study
    found = list(association.send_c_find(wanted, StudyRootQueryRetrieveInformationModelFind))
    assert [status.Status for status, _ in found] == [0xFF00, 0]
    assert found[0][1].StudyInstanceUID == study
    wanted.QueryRetrieveLevel = "PATIENT"
    statuses = [
        status.Status for status, _ in association.send_c_find(wanted, StudyRootQueryRetrieveInformationModelFind)
    ]
    assert statuses == [0xA900], "no such level in this model"
    association.release()
    assert association.is_released
    assert sop in archive.instances()


def test_pynetdicom_negotiates_roles_and_a_window(archive: Served) -> None:
    entity = AE("PYNET")
    entity.requested_contexts = [build_context(CTImageStorage), build_context(Verification)]
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 9, 3
    roles = [build_role(CTImageStorage, scu_role=True, scp_role=True), build_role(Verification, scp_role=True)]
    association = entity.associate("127.0.0.1", archive.port, ae_title=AET, ext_neg=[*roles, window])
    assert association.is_established
    by_class = {context.abstract_syntax: context for context in association.accepted_contexts}
    assert by_class[CTImageStorage].as_scp and by_class[CTImageStorage].as_scu
    assert Verification not in by_class, "we echo to nobody on his association"
    assert association.acceptor.asynchronous_operations == (9, 3)
    association.release()


def test_a_window_is_used(archive: Served) -> None:
    """Sixteen objects and echoes sent before an answer is read: each is answered under its own number."""
    with Speaker(archive.port) as peer:
        accept = peer.associate(window=Window(0, 1))
        assert isinstance(accept, AssociateAccept) and accept.user.window == Window(16, 1)
        spoken = b""
        for number in range(1, 17):
            sop = f"2.25.700{number}"
            spoken += store(Made("2.25.7", "2.25.8", sop, private=bytes(number * 100)).dataset(), sop, number) + echo(
                100 + number
            )
        peer.say(spoken)
        answers = [peer.answer() for _ in range(32)]
        assert {a.message_id for a in answers} == {*range(1, 17), *range(101, 117)}
        assert {a.status for a in answers} == {0}
        peer.release()


def test_the_data_set_decides_what_an_object_is(archive: Served) -> None:
    """Another class or instance in the command: kept as what the data say, with a warning."""
    dataset = Made("2.25.12", "2.25.13", "2.25.14").dataset()
    with Speaker(archive.port) as peer:
        assert isinstance(peer.associate(), AssociateAccept)
        peer.say(store(dataset, "2.25.15"))
        answer = peer.answer()
        assert answer.status == 0xB007 and "instance" in answer.text("ErrorComment")
        peer.say(store(dataset, "2.25.14", 2, sop_class=CTImageStorage))
        assert peer.answer().status == 0xB007
        peer.say(
            b"".join(
                message(
                    STORE_ID,
                    Command.of(
                        "C-STORE-RQ",
                        True,
                        MessageID=3,
                        AffectedSOPClassUID=RAW,
                        AffectedSOPInstanceUID="2.25.14",
                        Priority=0,
                    ),
                    b"\xff" * 300,
                    0,
                )
            )
        )
        assert peer.answer().status == 0, "quarantined with its reason, nothing is lost"
        peer.release()
    held = archive.instances()
    assert "2.25.14" in held and "2.25.15" not in held
