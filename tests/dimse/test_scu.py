"""Our side of associations we open: against DCMTK, pynetdicom, our own server, and peers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from pynetdicom import AE, evt

from radiolith.dimse import asking, asking_commitment, calls, committed, scu, sending
from radiolith.dimse.association import Accepted, negotiate, reject_text
from radiolith.dimse.calls import Target
from radiolith.dimse.commands import FIELD
from radiolith.dimse.delivery import send
from radiolith.dimse.diagnosis import diagnose
from radiolith.dimse.files import Saving, below, look, send_files
from radiolith.dimse.indications import Fragment
from radiolith.dimse.operation import Operation
from radiolith.dimse.pdu import AssociateReject, AssociateRequest
from radiolith.dimse.scu import connect
from radiolith.dimse.services import offer
from radiolith.dimse.sopclasses import PATIENT_ROOT, STORAGE_COMMITMENT, STUDY_ROOT, VERIFICATION
from radiolith.dimse.status import Refused
from radiolith.dimse.upperlayer import UpperLayer
from radiolith.model import BadInput, Unavailable
from tests.archive.homes import opened, principal, store
from tests.archive.objects import CT, EXPLICIT, IMPLICIT
from tests.dimse.peers import dcmqrscp, serving, storescp
from tests.dimse.test_delivery import everything, filled, made, ours, written
from tests.ports import free_port


def keys(**values: str) -> Callable[[str], bytes]:
    level = values.pop("level", "STUDY")
    return lambda syntax: asking.identifier(level, {asking.path_of(k): v for k, v in values.items()}, syntax)


async def echoed(target: Target) -> None:
    async with connect(target, asking.for_echo(), "ME") as association:
        await asking.echo(association)
        await asking.echo(association)


# ---------------------------------------------------------------- real peers


async def test_echo_to_dcmtk_and_to_ourselves(tmp_path: Path) -> None:
    async with storescp(tmp_path / "in") as target:
        await echoed(target)
    async with opened(tmp_path / "home") as graph, serving(graph) as target:
        await echoed(target)


async def test_find_move_and_get_with_dcmtk(tmp_path: Path) -> None:
    objects = [made(number) for number in range(1, 6)]
    async with (
        filled(tmp_path / "home", *(each.part10() for each in objects)) as graph,
        storescp(tmp_path / "moved", "+xa") as mover,
        dcmqrscp(tmp_path / "peer", mover) as target,
    ):
        assert [r.status async for r in send(target, "ME", ours(graph), await everything(graph))] == [0] * 5
        async with connect(target, asking.for_query(PATIENT_ROOT.find), "ME") as association:
            asked = keys(level="PATIENT", PatientID="P*", PatientName="")
            found = [data async for _, data in asking.find(association, PATIENT_ROOT.find, asked)]
            assert len(found) == 1 and b"P1" in found[0]
        async with connect(target, asking.for_query(STUDY_ROOT.move), "ME") as association:
            asked = keys(StudyInstanceUID=objects[0].study)
            told = [each async for each in asking.move(association, STUDY_ROOT.move, asked, "STORE")]
        assert (told[-1].status, told[-1].completed, told[-1].failed) == (0, 5, 0)
        assert written(tmp_path / "moved") == {each.sop: (EXPLICIT, each.dataset()) for each in objects}
        async with connect(target, asking.for_query(STUDY_ROOT.move), "ME") as association:
            with pytest.raises(calls.Declined, match="A801"):
                async for _ in asking.move(association, STUDY_ROOT.move, asked, "NOBODY"):
                    pass
        folder = tmp_path / "got"
        folder.mkdir()
        async with connect(target, asking.for_get(STUDY_ROOT.get), "ME", ours(graph)) as association:
            association.exchange.storing = Saving.into(folder)
            told = [each async for each in asking.get(association, STUDY_ROOT.get, asked)]
        assert told[-1].status == 0 and told[-1].completed == 5
        assert {uid: data for uid, (_, data) in written(folder).items()} == {o.sop: o.dataset() for o in objects}
        assert not list(folder.glob("*.part"))


async def test_find_and_get_from_ourselves_into_another_archive(tmp_path: Path) -> None:
    objects = [made(number, 64 << 10) for number in range(1, 11)]
    async with (
        filled(tmp_path / "one", *(each.part10() for each in objects)) as graph,
        opened(tmp_path / "two") as other,
        serving(graph) as target,
    ):
        async with connect(target, asking.for_query(STUDY_ROOT.find), "ME") as association:
            asked = keys(level="IMAGE", StudyInstanceUID=objects[0].study, SeriesInstanceUID=objects[0].series,
                         SOPInstanceUID="")  # fmt: skip
            found = [status async for status, _ in asking.find(association, STUDY_ROOT.find, asked)]
            assert found == [0xFF00] * 10
            async with aclosing(asking.find(association, STUDY_ROOT.find, asked)) as matches:
                assert (await anext(matches))[0] == 0xFF00
            # cancelled, and the association goes on
            assert len([1 async for _ in asking.find(association, STUDY_ROOT.find, asked)]) == 10
        async with connect(target, asking.for_get(STUDY_ROOT.get, [(CT, "")]), "ME", ours(other)) as association:
            told = [p async for p in asking.get(association, STUDY_ROOT.get, keys(StudyInstanceUID=objects[0].study))]
            await association.exchange.quiet()
        assert (told[-1].status, told[-1].completed, told[-1].failed) == (0, 10, 0)
        assert {held.sha256 for held in await everything(other)} == {held.sha256 for held in await everything(graph)}


async def test_files_go_as_they_are_beside_the_archive(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    one, two = made(1), made(2)
    (folder / "a.dcm").write_bytes(one.part10())
    (folder / "deep" / "b").write_bytes(two.part10(IMPLICIT))
    (folder / "bare").write_bytes(made(3).dataset())
    (folder / "note.txt").write_bytes(b"no image")
    (folder / "empty").write_bytes(b"")
    (folder / "link").symlink_to(folder / "a.dcm")
    files, wrong = [], []
    for path in below([folder]):
        try:
            files.append(look(path))
        except BadInput:
            wrong.append(path.name)
    assert sorted(wrong) == ["empty", "note.txt"]
    async with storescp(tmp_path / "in", "+xa") as target:
        assert [(r.file.path.name, r.status) async for r in send_files(target, "ME", files)] == [
            ("a.dcm", 0), ("bare", 0), ("b", 0),
        ]  # fmt: skip
        (folder / "a.dcm").write_bytes(b"")
        results = {r.file.path.name: r.status async for r in send_files(target, "ME", files)}
        assert results["bare"] == results["b"] == 0 and results["a.dcm"] != 0
    found = written(tmp_path / "in")
    assert found[one.sop] == (EXPLICIT, one.dataset()) and found[two.sop] == (IMPLICIT, two.dataset(IMPLICIT))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
async def test_commitment_by_pynetdicom_is_asked_for_and_reported(tmp_path: Path, syntax: str) -> None:
    """The report comes on the same association: one instance kept, one not."""
    asked: list[Any] = []

    def kept_one(event: Any) -> tuple[int, None]:
        information = event.action_information
        asked.append(information)
        report = type(information)()
        report.TransactionUID = information.TransactionUID
        report.ReferencedSOPSequence = [information.ReferencedSOPSequence[0]]
        report.FailedSOPSequence = [information.ReferencedSOPSequence[1]]
        report.FailedSOPSequence[0].FailureReason = 0x0112
        event.assoc.ae._pending = report
        return 0x0000, None

    def answered(event: Any) -> None:  # once the N-ACTION-RSP is out
        report = getattr(event.assoc.ae, "_pending", None)
        if report is not None and type(event.message).__name__ == "N_ACTION_RSP":
            event.assoc.ae._pending = None
            import threading

            threading.Thread(
                target=lambda: event.assoc.send_n_event_report(report, 2, STORAGE_COMMITMENT, "1.2.840.10008.1.20.1.1"),
                daemon=True,
            ).start()

    entity = AE(ae_title="KEEPER")
    entity.add_supported_context(STORAGE_COMMITMENT, [syntax])
    port = free_port()
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_ACTION, kept_one), (evt.EVT_DIMSE_SENT, answered)]
    )
    reports: list[committed.Report] = []
    came = asyncio.Event()

    async def reported(operation: Operation, report: committed.Report) -> None:
        reports.append(report)
        came.set()

    try:
        async with (
            opened(tmp_path / "home") as graph,
            connect(Target("KEEPER", "127.0.0.1", port), asking_commitment.wanted(), "ME", ours(graph)) as association,
        ):
            serve = committed.serving(reported)
            association.exchange.served = {(FIELD["N-EVENT-REPORT-RQ"], STORAGE_COMMITMENT): serve}
            await asking_commitment.ask(association, "2.25.99", [(CT, "1.2.3"), (CT, "1.2.4")])
            async with asyncio.timeout(10):
                await came.wait()
            await association.exchange.quiet()
    finally:
        server.shutdown()
    assert [item.ReferencedSOPInstanceUID for item in asked[0].ReferencedSOPSequence] == ["1.2.3", "1.2.4"]
    assert reports == [committed.Report("2.25.99", ("1.2.3",), {"1.2.4": "no such object instance (reason 0x0112)"})]


def test_a_report_that_is_broken_is_refused() -> None:
    good = asking_commitment.information("1.2.3", [(CT, "1.2.4")], implicit=False)
    assert committed.read_report(good, EXPLICIT).kept == ("1.2.4",)
    for cut in range(1, len(good)):
        try:
            found = committed.read_report(good[:cut], EXPLICIT)
        except Refused:
            continue
        assert found.kept in ((), ("1.2.4",))
    with pytest.raises(Refused, match="TransactionUID"):
        committed.read_report(good[14:], EXPLICIT)


# ---------------------------------------------------------------- peers that misbehave

MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def played(peer: Peer) -> AsyncGenerator[Target]:
    done: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        done.append(task)
        try:
            await peer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Target("PEER", "127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        async with asyncio.timeout(20):  # they see the connection end
            await asyncio.gather(*done)


async def requested(reader: asyncio.StreamReader) -> tuple[UpperLayer, AssociateRequest]:
    """An acceptor that has heard the request."""
    layer = UpperLayer.acceptor(16384)
    while True:
        data = await reader.read(65536)
        assert data
        for event in layer.receive(data):
            assert isinstance(event, AssociateRequest)
            return layer, event


async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> UpperLayer:
    layer, request = await requested(reader)
    answer = negotiate(request, offer(16384, True))
    assert isinstance(answer, Accepted)
    writer.write(layer.send_accept(answer.answer))
    return layer


async def test_every_rejection_is_said_in_the_words_of_the_standard() -> None:
    for result, source, reason in ((1, 1, 3), (1, 1, 7), (2, 3, 2), (1, 2, 2)):
        reject = AssociateReject(result, source, reason)

        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Any = reject) -> None:
            layer, _ = await requested(reader)
            writer.write(layer.send_reject(answer))
            await reader.read()

        async with played(peer) as target:
            with pytest.raises(calls.AssociationRejected) as told:
                await echoed(target)
            assert reject_text(reject) in str(told.value) and "PEER at 127.0.0.1" in str(told.value)
            steps = [(step.name, step.good) async for step in diagnose(target, "ME")]
            assert steps == [("name", True), ("connection", True), ("association", False)]


async def test_refused_contexts_unknown_hosts_and_closed_ports() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted(reader, writer)
        await reader.read()

    async with played(peer) as target:
        with pytest.raises(calls.NothingAccepted, match="abstract-syntax-not-supported"):
            async with connect(target, asking.for_query(MODALITY_WORKLIST), "ME"):
                pytest.fail("nothing was accepted")
    with pytest.raises(calls.Unreachable, match="nothing listens there"):
        await echoed(Target("X", "127.0.0.1", free_port()))
    with pytest.raises(calls.Unreachable, match=r"nowhere\.invalid is not known"):
        await echoed(Target("X", "nowhere.invalid", 104))
    steps = [step async for step in diagnose(Target("X", "nowhere.invalid", 104), "ME")]
    assert [(step.name, step.good) for step in steps] == [("name", False)]
    assert all(
        issubclass(each, Unavailable)
        for each in (calls.Unreachable, calls.NothingAccepted, calls.NoAnswer, calls.Declined)
    )


async def test_a_peer_that_says_nothing_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scu, "ASSOCIATE_SECONDS", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with played(silent) as target:
        with pytest.raises(calls.NoAnswer, match="does not answer the request for an association"):
            await echoed(target)

    monkeypatch.setattr(scu, "ASSOCIATE_SECONDS", 10)
    ends: list[bytes] = []

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted(reader, writer)
        ends.append(await reader.read())

    async with played(deaf) as target, connect(target, asking.for_echo(), "ME") as association:
        context = association.context(VERIFICATION)
        command = asking.Command.of("C-ECHO-RQ", MessageID=1, AffectedSOPClassUID=VERIFICATION)
        with pytest.raises(calls.NoAnswer, match="has not answered C-ECHO"):
            async for _ in association.responses(context, command, seconds=0.05):
                pass
        association.abort()
    assert ends[0].endswith(pack(">BxIxxBB", 7, 4, 0, 0)), "the peer is told with an A-ABORT"


async def test_a_peer_that_does_not_agree_to_release_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scu, "RELEASE_SECONDS", 0.05)

    async def stubborn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted(reader, writer)
        await reader.read()

    async with played(stubborn) as target, connect(target, asking.for_echo(), "ME"):
        pass


@pytest.mark.parametrize("how", ["abort", "close", "release", "nonsense"])
async def test_an_association_that_ends_in_the_middle_is_told(how: str) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        layer = await accepted(reader, writer)
        async with asyncio.timeout(10):
            while not any(isinstance(event, Fragment) for event in layer.receive(await reader.read(65536))):
                pass
        if how != "close":
            sent = {"abort": layer.send_abort, "release": layer.send_release, "nonsense": lambda: b"\x63" * 100}[how]()
            writer.write(sent)
            await reader.read()

    words = {
        "abort": "aborted by the peer .A-ABORT, service-user, reason 0.",
        "close": "the transport connection was closed",
        "release": "the peer ended the association .A-RELEASE.",
        "nonsense": "unknown type 63H",
    }
    async with played(peer) as target:
        with pytest.raises(sending.Lost, match=words[how]):
            await echoed(target)


async def test_an_error_of_ours_aborts_and_is_not_hidden(tmp_path: Path) -> None:
    ends: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted(reader, writer)
        ends.append(await reader.read())

    async with played(peer) as target:
        with pytest.raises(ZeroDivisionError):
            async with connect(target, asking.for_echo(), "ME"):
                raise ZeroDivisionError
    assert ends == [pack(">BxIxxBB", 7, 4, 0, 0)]


async def test_a_request_nobody_serves_here_is_refused(tmp_path: Path) -> None:
    """A C-STORE on an association without an archive behind it."""
    from radiolith.dimse.commands import Command
    from radiolith.dimse.messages import Arrived, Assembler, message

    answers: list[Command] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        layer = await accepted(reader, writer)
        command = Command.of("C-ECHO-RQ", MessageID=9, AffectedSOPClassUID=VERIFICATION)
        for part in message(1, command, None, 0):
            writer.write(part)
        assembler = Assembler()
        while not answers:
            for event in layer.receive(await reader.read(65536)):
                assert isinstance(event, Fragment)
                got = assembler.feed(event)
                if isinstance(got, Arrived):
                    answers.append(got.command)
        writer.write(layer.send_abort())
        await reader.read()

    async with played(peer) as target, connect(target, asking.for_echo(), "ME") as association:
        with pytest.raises(sending.Lost):
            await asking.echo(association)
    assert (answers[0].name, answers[0].status) in (("C-ECHO-RSP", 0x0211), ("C-ECHO-RQ", 0))


# ---------------------------------------------------------------- identifiers


def test_identifiers_in_both_encodings() -> None:
    paths = {asking.path_of("PatientName"): "Müller*", asking.path_of("00200010"): "",
             asking.path_of("RequestAttributesSequence.ScheduledProcedureStepID"): "7"}  # fmt: skip
    explicit = asking.identifier("STUDY", paths, EXPLICIT)
    assert explicit.startswith(b"\x08\0\x05\0CS\x0a\0ISO_IR 192") and "Müller*".encode() in explicit
    assert b"\x40\0\x75\x02SQ\0\0" in explicit and b"\x10\0\0\0\x40\0\x09\0SH\x02\x007 " not in explicit
    implicit = asking.identifier("STUDY", paths, IMPLICIT)
    assert b"CS" not in implicit.replace(b"ISO", b"") and len(implicit) < len(explicit) + 8
    with pytest.raises(BadInput):
        asking.path_of("NoSuchKeyword")
    with pytest.raises(BadInput):
        asking.identifier("IMAGE", {asking.path_of("Rows"): "many"}, EXPLICIT)


async def test_a_file_of_a_get_never_leaves_its_folder(tmp_path: Path) -> None:
    """The name is the peer's; what it says is no path."""
    async with filled(tmp_path / "home", made(1).part10()) as graph:
        who = principal(graph)
        evil = made(2).part10().replace(made(2).sop.encode(), (b"../" * 20)[: len(made(2).sop)])
        await store(graph, evil)
        assert who.tenant
        folder = tmp_path / "deep" / "got"
        folder.mkdir(parents=True)
        async with (
            serving(graph) as target,
            connect(target, asking.for_get(STUDY_ROOT.get, [(CT, "")]), "ME", ours(graph)) as association,
        ):
            association.exchange.storing = Saving.into(folder)
            asked = keys(StudyInstanceUID=made(1).study)
            told = [each async for each in asking.get(association, STUDY_ROOT.get, asked)]
        assert told[-1].completed == 2
        assert sorted(path.parent for path in tmp_path.rglob("*.dcm")) == [folder, folder]
