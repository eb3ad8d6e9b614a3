"""IHE RAD IOCM in both directions: against DCMTK, pynetdicom and a second node of ours."""

from __future__ import annotations

import io
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from pynetdicom import AE

from radiolith import dicomnode
from radiolith.archive.notes import operation_of
from radiolith.dicom.notes import KEY_OBJECT, QUALITY, RESTORE, SAFETY, TITLES
from radiolith.index import outbox
from radiolith.index.outbox import Transfer, Why
from radiolith.jobs.outbox import Sender
from radiolith.model import Identity, Level, Page, Query
from radiolith.policies.rejections import Rejections
from radiolith.storage.blobs import microseconds
from tests.archive.homes import principal, store
from tests.archive.objects import Made
from tests.dimse.peers import program
from tests.dimse.served import Served, Setting, served
from tests.ports import free_port

STUDY = "1.2.3"
SOPS = [f"{STUDY}.1.{number}" for number in range(1, 4)]
PIXELS = bytes(16 * 16 * 2)


@contextmanager
def node(home: Path, aet: str) -> Generator[Served]:
    with served(home, Setting(titles={aet: "default"}, environ={"RADIOLITH_DIMSE_AET": aet})) as found:
        yield found


def knows(one: Served, name: str, aet: str, port: int, **more: object) -> None:
    body: dict[str, Any] = {"aet": aet, "address": "127.0.0.1", "port": port, **more}
    one.ask(lambda: one.graph.accounts.add_peer(principal(one.graph), name, body))


def fill(one: Served) -> None:
    async def work() -> None:
        for number, sop in enumerate(SOPS, 1):
            await store(one.graph, Made(STUDY, f"{STUDY}.1", sop, number=number, pixels=PIXELS).part10())

    one.ask(work)


def send(one: Served, peer: str) -> None:
    one.ask(lambda: one.graph.traffic.outbox.order(principal(one.graph), peer, [Identity(STUDY, "", "")]))
    deliver(one)


def follow(one: Served) -> None:
    """To the end of the feed, and everything that is ordered goes out."""
    rejections = Rejections(one.graph.database, one.graph.archive.notes, microseconds)

    async def work() -> None:
        for _ in range(5):
            await rejections.round()

    one.ask(work)
    deliver(one)


def deliver(one: Served) -> None:
    for each in transfers(one):
        if each.state < outbox.State.DELIVERED:
            sender = Sender(dicomnode._means(one.graph))  # pyright: ignore[reportPrivateUsage]
            ended = one.ask(lambda number=each.id, sender=sender: sender.run(number, early=True))
            assert ended is not None and ended.state is outbox.State.DELIVERED, ended


def transfers(one: Served, why: Why | None = None) -> list[Transfer]:
    with one.graph.database.read() as read:
        found = outbox.listed(read, principal(one.graph).tenant.id, 1000)
    return [each for each in found if why in (None, each.why)]


def shown(one: Served, view: str = "normal") -> set[str]:
    async def look() -> Page:
        return await one.graph.archive.query.search(principal(one.graph), Query(Level.INSTANCE, view=view))

    return {str(row[0x00080018][1]) for row in one.ask(look).rows}


def reject(one: Served, reason: str, *sops: str) -> None:
    for sop in sops:
        one.ask(
            lambda sop=sop: one.graph.archive.remove.reject(
                principal(one.graph), STUDY, f"{STUDY}.1", sop, reason=reason
            )
        )


def restore(one: Served, *sops: str) -> None:
    for sop in sops:
        one.ask(lambda sop=sop: one.graph.archive.remove.restore(principal(one.graph), STUDY, f"{STUDY}.1", sop))


# ---------------------------------------------------------------- two nodes


def test_two_nodes_tell_each_other_and_nothing_goes_round_in_a_circle(tmp_path: Path) -> None:
    with node(tmp_path / "a", "NODEA") as a, node(tmp_path / "b", "NODEB") as b:
        knows(a, "b", "NODEB", b.port, notes="all", rejects=True)
        knows(b, "a", "NODEA", a.port, notes="all", rejects=True)
        fill(a)
        send(a, "b")
        send(b, "a")  # both hold copies of the other's
        reject(a, SAFETY, *SOPS[:2])
        for _ in range(3):
            for one in (a, b):
                follow(one)
        assert shown(a) == shown(b) == {SOPS[2]}
        assert len(transfers(a, Why.NOTE)) == 1 and transfers(b, Why.NOTE) == []
        assert shown(b, "rejected") > set(SOPS[:2])  # and the note itself
        restore(a, SOPS[0])
        for _ in range(3):
            for one in (a, b):
                follow(one)
        assert shown(b) >= {SOPS[0], SOPS[2]} and SOPS[1] not in shown(b)
        assert len(transfers(a, Why.NOTE)) == 2 and transfers(b, Why.NOTE) == []
        reject(b, QUALITY, SOPS[2])  # the other way
        for _ in range(3):
            for one in (a, b):
                follow(one)
        assert SOPS[2] not in shown(a) and len(transfers(a, Why.NOTE)) == 2


# ---------------------------------------------------------------- notes that come


def note(code: tuple[str, str, str], *sops: str, sop: str = "1.2.9.1") -> Dataset:
    """A key object that another program has made."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    made.file_meta.MediaStorageSOPClassUID = UID(KEY_OBJECT)
    made.file_meta.MediaStorageSOPInstanceUID = UID(sop)
    made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID, made.SeriesInstanceUID = (
        KEY_OBJECT,
        sop,
        STUDY,
        "1.2.9",
    )
    made.Modality, made.PatientID, made.PatientName = "KO", "P1", "Müller^Jörg"
    made.SpecificCharacterSet = "ISO_IR 100"
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = code
    made.ConceptNameCodeSequence = [title]
    study, series = Dataset(), Dataset()
    study.StudyInstanceUID, series.SeriesInstanceUID = STUDY, f"{STUDY}.1"
    series.ReferencedSOPSequence = []
    for one in sops:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", one
        series.ReferencedSOPSequence.append(item)
    study.ReferencedSeriesSequence = [series]
    made.CurrentRequestedProcedureEvidenceSequence = [study]
    return made


def hand_over(one: Served, dataset: Dataset, calling: str = "CHANGER") -> None:
    entity = AE(calling)
    entity.add_requested_context(KEY_OBJECT)
    association = entity.associate("127.0.0.1", one.port, ae_title="NODEA")
    try:
        assert association.send_c_store(dataset).Status == 0
    finally:
        association.release()


def dcm(reason: str) -> tuple[str, str, str]:
    return reason, "DCM", TITLES[reason]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Served]:
    with node(tmp_path / "a", "NODEA") as found:
        fill(found)
        yield found


@pytest.mark.parametrize("reason", sorted(TITLES))
def test_a_note_of_a_peer_that_may_reject_is_obeyed_once_and_can_be_undone(archive: Served, reason: str) -> None:
    knows(archive, "changer", "CHANGER", 11112, rejects=True)
    sent = note(dcm(reason), SOPS[0], "1.2.3.99")
    hand_over(archive, sent)
    follow(archive)
    visible = {SOPS[1], SOPS[2]} | ({sent.SOPInstanceUID} if reason == QUALITY else set())
    assert shown(archive) == visible
    (found,) = {one.reason for one in rejected(archive)}
    assert found == reason
    fill_late(archive)  # what the note listed and was not held comes hidden
    assert shown(archive) == visible
    graph = archive.graph
    op = operation_of(sent.SOPInstanceUID)
    archive.ask(lambda: graph.decisions.amend.undo(principal(graph), op))
    assert shown(archive) == {*SOPS, "1.2.3.99", sent.SOPInstanceUID}
    with graph.database.write() as tx:  # as after a rebuild: the feed begins anew
        tx.run("DELETE FROM cursors WHERE name = 'rejections'")
    follow(archive)
    assert shown(archive) == {*SOPS, "1.2.3.99", sent.SOPInstanceUID}


def test_what_a_person_restored_stays_so_when_the_feed_begins_anew(archive: Served) -> None:
    knows(archive, "changer", "CHANGER", 11112, rejects=True)
    hand_over(archive, note(dcm(QUALITY), *SOPS))
    follow(archive)
    restore(archive, SOPS[0])
    with archive.graph.database.write() as tx:
        tx.run("DELETE FROM cursors WHERE name = 'rejections'")
    follow(archive)
    assert {SOPS[0]} == shown(archive) & set(SOPS)


def fill_late(one: Served) -> None:
    made = Made(STUDY, f"{STUDY}.1", "1.2.3.99", number=9, pixels=PIXELS).part10()
    one.ask(lambda: store(one.graph, made))


def rejected(one: Served) -> list[Any]:
    return one.ask(lambda: one.graph.archive.remove.rejected(principal(one.graph)))


def test_a_note_that_takes_a_rejection_back_is_obeyed(archive: Served) -> None:
    knows(archive, "changer", "CHANGER", 11112, rejects=True)
    reject(archive, QUALITY, *SOPS)
    hand_over(archive, note(RESTORE, SOPS[1]))
    follow(archive)
    assert SOPS[1] in shown(archive) and not {SOPS[0], SOPS[2]} & shown(archive)


@pytest.mark.parametrize("known", [True, False])
def test_a_note_of_anybody_else_waits_for_a_person(archive: Served, known: bool) -> None:
    if known:
        knows(archive, "changer", "CHANGER", 11112)
    sent = note(dcm(SAFETY), SOPS[0])
    hand_over(archive, sent)
    follow(archive)
    assert shown(archive) == {*SOPS, sent.SOPInstanceUID}
    graph, notes = archive.graph, archive.graph.archive.notes
    (waiting,) = archive.ask(lambda: notes.waiting(principal(graph)))
    assert waiting.subject == sent.SOPInstanceUID and "1 instances of study 1.2.3" in waiting.said
    assert archive.ask(lambda: notes.obey(principal(graph), sent.SOPInstanceUID)) == 2
    assert shown(archive) == set(SOPS[1:])
    assert archive.ask(lambda: notes.waiting(principal(graph))) == []


def test_a_note_is_dismissed_and_other_key_objects_are_none(archive: Served) -> None:
    hand_over(archive, note(dcm(SAFETY), SOPS[0]))
    hand_over(archive, note(("113000", "DCM", "Of Interest"), SOPS[1], sop="1.2.9.2"))
    hand_over(archive, note(("113001", "99OTHER", "Rejected"), SOPS[1], sop="1.2.9.3"))
    follow(archive)
    graph, notes = archive.graph, archive.graph.archive.notes
    assert [one.subject for one in archive.ask(lambda: notes.waiting(principal(graph)))] == ["1.2.9.1"]
    archive.ask(lambda: notes.dismiss(principal(graph), "1.2.9.1"))
    assert archive.ask(lambda: notes.waiting(principal(graph))) == []
    assert shown(archive) >= set(SOPS)


# ---------------------------------------------------------------- notes of ours, to DCMTK


@contextmanager
def storescp(folder: Path, *options: str) -> Generator[int]:
    folder.mkdir()
    port = free_port()
    words = (program("storescp"), *options, "-od", str(folder), "-aet", "DCMTK", str(port))
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with ExitStack() as stack:
        stack.callback(running.wait)
        stack.callback(running.terminate)
        until(lambda: listens(port), "storescp to listen")
        yield port


def listens(port: int) -> bool:
    done = subprocess.run(
        (program("echoscu"), "-aec", "DCMTK", "127.0.0.1", str(port)), capture_output=True, timeout=30
    )
    return done.returncode == 0


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what


@pytest.mark.parametrize("options", [(), ("+xi",)])
def test_dcmtk_holding_copies_is_sent_a_valid_note(archive: Served, tmp_path: Path, options: tuple[str, ...]) -> None:
    with storescp(tmp_path / "in", *options) as port:
        knows(archive, "dcmtk", "DCMTK", port)
        knows(archive, "other", "OTHER", 1)  # holds nothing: is told nothing
        send(archive, "dcmtk")
        reject(archive, QUALITY, SOPS[0])
        reject(archive, SAFETY, SOPS[1])
        follow(archive)
        restore(archive, SOPS[0])
        follow(archive)  # restorations are not asked for
    files = sorted((tmp_path / "in").iterdir())
    notes = {}
    for path in files:
        found = dcmread(path)
        if found.SOPClassUID == KEY_OBJECT:
            notes[found.ConceptNameCodeSequence[0].CodeValue] = (path, found)
    assert set(notes) == {QUALITY, SAFETY} and len(files) == len(SOPS) + 2
    for reason, sop in ((QUALITY, SOPS[0]), (SAFETY, SOPS[1])):
        path, found = notes[reason]
        (study,) = found.CurrentRequestedProcedureEvidenceSequence
        assert study.StudyInstanceUID == found.StudyInstanceUID == STUDY
        (series,) = study.ReferencedSeriesSequence
        assert [one.ReferencedSOPInstanceUID for one in series.ReferencedSOPSequence] == [sop]
        assert [one.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for one in found.ContentSequence] == [sop]
        assert str(found.PatientName) == "Müller^Jörg" and found.PatientID == "P1" and found.AccessionNumber == "A1"
        read = subprocess.run((program("dsrdump"), str(path)), capture_output=True, text=True, timeout=60)
        assert read.returncode == 0 and TITLES[reason] in read.stdout, read.stderr


def test_a_note_is_as_the_standard_says(archive: Served, tmp_path: Path) -> None:
    """dciodvfy, where it is installed, finds no error."""
    with storescp(tmp_path / "in") as port:
        knows(archive, "dcmtk", "DCMTK", port, notes="all")
        send(archive, "dcmtk")
        reject(archive, SAFETY, *SOPS)
        follow(archive)
        restore(archive, *SOPS)
        follow(archive)
    found = [path for path in (tmp_path / "in").iterdir() if dcmread(path).SOPClassUID == KEY_OBJECT]
    assert sorted(dcmread(path).ConceptNameCodeSequence[0].CodeValue for path in found) == [SAFETY, RESTORE[0]]
    for path in found:
        checked = subprocess.run((program("dciodvfy"), str(path)), capture_output=True, text=True, timeout=60)
        errors = [line for line in checked.stderr.splitlines() if line.startswith("Error")]
        assert [line for line in errors if "Retired" not in line] == []
        copy = io.BytesIO()
        dcmwrite(copy, dcmread(path), enforce_file_format=True)


def test_what_was_restored_before_the_note_went_out_is_not_listed(archive: Served, tmp_path: Path) -> None:
    with storescp(tmp_path / "in") as port:
        knows(archive, "dcmtk", "DCMTK", port)
        send(archive, "dcmtk")
        reject(archive, SAFETY, *SOPS[:2])
        rejections = Rejections(archive.graph.database, archive.graph.archive.notes, microseconds)
        archive.ask(rejections.round)
        restore(archive, SOPS[0])
        deliver(archive)
    found = [dcmread(path) for path in (tmp_path / "in").iterdir()]
    (told,) = [one for one in found if one.SOPClassUID == KEY_OBJECT]
    (study,) = told.CurrentRequestedProcedureEvidenceSequence
    assert [one.ReferencedSOPInstanceUID for one in study.ReferencedSeriesSequence[0].ReferencedSOPSequence] == [
        SOPS[1]
    ]


def test_a_peer_that_wants_no_notes_gets_none(archive: Served) -> None:
    with node(archive.graph.settings.home.parent / "b", "NODEB") as b:
        knows(archive, "b", "NODEB", b.port, notes="none")
        send(archive, "b")
        reject(archive, SAFETY, *SOPS)
        follow(archive)
        assert transfers(archive, Why.NOTE) == [] and shown(b) == set(SOPS)
