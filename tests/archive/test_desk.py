"""The conflict desk: every kind of case, what is proposed, what each answer does, and that it can be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from radiolith import app
from radiolith.archive.desk import Answer
from radiolith.archive.operations import Asked
from radiolith.archive.proposals import ANSWERS, KINDS, Case
from radiolith.archive.subjects import PatientKey
from radiolith.index import knocks
from radiolith.model import BadInput, Conflict, NotFound, Source
from tests.archive.homes import opened, principal, store
from tests.archive.objects import Made

PIXELS = bytes(512)
ASKED = Asked()


def made(number: int, sop: str = "1", **more: str) -> bytes:
    return Made(f"1.{number}", f"1.{number}.1", f"1.{number}.1.{sop}", pixels=PIXELS, **more).part10()  # type: ignore[arg-type]


@asynccontextmanager
async def archive(tmp_path: Path, *objects: bytes) -> AsyncIterator[app.Graph]:
    domains = {"RADIOLITH_PATIENTS_DOMAINS": "cd=medium:Rotkreuz,portal=inbox:portal"}
    async with opened(tmp_path / "home", environ=domains) as graph, asyncio.timeout(60):
        for data in objects:
            await store(graph, data)
        yield graph


async def only(graph: app.Graph, kind: str) -> Case:
    (case,) = await graph.decisions.desk.list(principal(graph), kind)
    assert case.kind == kind and case.reasons and case.proposal.action in case.answers
    assert await graph.decisions.desk.get(principal(graph), case.key) == case
    return case


async def resolved(graph: app.Graph, case: Case, answer: Answer) -> None:
    """Tried, done, gone from the desk, undone, and back."""
    desk, who = graph.decisions.desk, principal(graph)
    tried = await desk.resolve(who, case.key, answer, Asked(dry_run=True))
    assert tried.dry_run and not tried.op
    assert [one.key for one in await desk.list(who, case.kind)] == [case.key], "only tried"
    done = await desk.resolve(who, case.key, answer, ASKED)
    assert await desk.list(who, case.kind) == []
    with pytest.raises(NotFound):
        await desk.get(who, case.key)
    await desk.undo(who, done.op, ASKED)
    assert [one.key for one in await desk.list(who, case.kind)] == [case.key]


async def test_a_foreign_medium_is_no_patient_of_ours_until_somebody_says_so(tmp_path: Path) -> None:
    async with archive(tmp_path, made(1, patient="7", name="Müller^Jörg")) as graph:
        await store(graph, made(2, patient="7", name="Mueller^Joerg"), source=Source("import", "cd"))
        case = await only(graph, "foreign")
        assert case.people == (PatientKey("7", "medium:Rotkreuz"),) and case.studies == ("1.2",)
        assert [one.key for one in case.candidates] == [PatientKey("7")]
        for answer in (Answer("assign", PatientKey("7")), Answer("keep"), Answer("reject", code="113038")):
            await resolved(graph, case, answer)
        linked = await graph.decisions.desk.resolve(principal(graph), case.key, Answer("link", PatientKey("7")), ASKED)
        found = await graph.decisions.patients.get(principal(graph), PatientKey("7"))
        assert found.linked == (PatientKey("7", "medium:Rotkreuz"),) and len(found.studies) == 1
        await graph.decisions.desk.undo(principal(graph), linked.op, ASKED)
        assert (await graph.decisions.patients.get(principal(graph), PatientKey("7"))).linked == ()


async def test_an_upload_waits_for_whose_it_is(tmp_path: Path) -> None:
    async with archive(tmp_path, made(1, patient="7")) as graph:
        await store(graph, made(2, patient="9", name="Doe^Jane"), source=Source("stow", "portal"))
        case = await only(graph, "inbox")
        assert case.proposal.action == "keep"
        with pytest.raises(BadInput, match="whose it is"):
            await graph.decisions.desk.resolve(principal(graph), case.key, Answer("assign"), ASKED)
        await resolved(graph, case, Answer("assign", PatientKey("7")))


async def test_an_emergency_patient_is_identified_two_days_later(tmp_path: Path) -> None:
    async with archive(tmp_path, made(1, patient="", name="Notfall^Unbekannt"), made(2, patient="7")) as graph:
        case = await only(graph, "emergency")
        await resolved(graph, case, Answer("assign", PatientKey("7")))
        named = made(3, patient="99", name="X^Trauma")
        await store(graph, named)
        assert len(await graph.decisions.desk.list(principal(graph), "emergency")) == 2


async def test_other_content_under_a_uid_is_adopted_or_not(tmp_path: Path) -> None:
    async with archive(tmp_path, made(1), made(1, description="again")) as graph:
        case = await only(graph, "versions")
        assert case.proposal.action == "adopt", "the same sender sent it again"
        for answer in (Answer("adopt"), Answer("keep"), Answer("reject")):
            await resolved(graph, case, answer)
        with pytest.raises(Conflict):
            await graph.decisions.desk.resolve(principal(graph), case.key, Answer("adopt"), Asked(expected="x"))
        await store(graph, made(1, description="from elsewhere"), source=Source("stow", "other"))
        assert (await only(graph, "versions")).proposal.action == "keep"


async def test_one_study_under_two_patients(tmp_path: Path) -> None:
    async with archive(tmp_path, made(1, patient="7"), made(1, "2", patient="8", name="Doe^Jane")) as graph:
        case = await only(graph, "mixed")
        assert case.people == (PatientKey("7"), PatientKey("8")) and case.proposal.action == "assign"
        await graph.decisions.desk.resolve(principal(graph), case.key, Answer("merge", PatientKey("8")), ASKED)
        assert (await graph.decisions.patients.get(principal(graph), PatientKey("7"))).state == "merged"
        await graph.decisions.desk.resolve(principal(graph), case.key, Answer("keep"), ASKED)
        assert await graph.decisions.desk.list(principal(graph), "mixed") == []


async def test_bytes_that_cannot_be_read_and_a_device_nobody_knows(tmp_path: Path) -> None:
    async with archive(tmp_path, made(1)[:400]) as graph:
        await resolved(graph, await only(graph, "unreadable"), Answer("reject"))
        who = principal(graph)
        with graph.database.write() as tx:
            knocks.note(tx, who.tenant.id, knocks.Caller("CT9", "RADIOLITH", "10.0.0.9"), (1, 3, True))
        case = await only(graph, "stranger")
        await resolved(graph, case, Answer("reject"))
        await graph.decisions.desk.resolve(who, case.key, Answer("accept", name="ct9"), ASKED)
        assert [peer.name for peer in await graph.peers.list(who)] == ["ct9"]


async def test_all_cases_come_in_pages_and_wrong_keys_are_refused(tmp_path: Path) -> None:
    objects = [made(number, patient="", name="Unknown") for number in range(1, 6)]
    async with archive(tmp_path, *objects, made(7), made(7, description="x")) as graph:
        desk, who = graph.decisions.desk, principal(graph)
        everything = [case.key for case in await desk.list(who)]
        assert len(everything) == 6 and everything[0].startswith("versions:")
        paged: list[str] = []
        while page := await desk.list(who, limit=2, after=paged[-1] if paged else ""):
            paged += [case.key for case in page]
        assert paged == everything
        for key in ("", "nothing", "versions", "versions:1", "emergency:1", "unreadable:zz", "mixed:9.9", "stranger:a"):
            with pytest.raises((BadInput, NotFound)):
                await desk.get(who, key)
        with pytest.raises(BadInput):
            await desk.list(who, "odd")
        with pytest.raises(BadInput, match="answered by"):
            await desk.resolve(who, everything[0], Answer("accept"), ASKED)
        assert set(ANSWERS) == set(KINDS)
