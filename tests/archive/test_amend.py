"""Correct, move, merge, split and undo through the verbs: what is shown afterwards, who may, what is refused, who was first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from radiolith import app
from radiolith.archive.operations import Asked
from radiolith.archive.patients import Wanted
from radiolith.archive.subjects import PatientKey, of_patient, of_series, of_study
from radiolith.model import BadInput, Conflict, Level, Match, NotAllowed, NotFound, Query
from tests.archive.homes import opened, principal, store
from tests.archive.objects import Made

P1, P2 = PatientKey("P1"), PatientKey("P2")
PIXELS = bytes(512)


def made(study: str = "1.1", series: str = "1.1.1", sop: str = "1.1.1.1", **more: Any) -> bytes:
    return Made(study, series, sop, pixels=PIXELS, **more).part10()


@asynccontextmanager
async def archive(tmp_path: Path, *objects: bytes) -> AsyncIterator[app.Graph]:
    async with opened(tmp_path / "home") as graph, asyncio.timeout(60):
        for data in objects:
            await store(graph, data)
        yield graph


async def names(graph: app.Graph, **keys: str) -> list[str]:
    """Patient names of the studies that a search by these keys finds."""
    tags = {"patient": 0x00100020, "study": 0x0020000D, "accession": 0x00080050}
    matches = tuple(Match((tags[key],), (value,)) for key, value in keys.items())
    page = await graph.archive.query.search(principal(graph), Query(Level.STUDY, matches))
    return [str(row[0x00100010][1]) for row in page.rows]


async def header(graph: app.Graph, study: str) -> dict[str, Any]:
    held = (await graph.archive.retrieve.locate(principal(graph), study))[0]
    pieces = [piece async for piece in graph.archive.retrieve.metadata_pieces(held, "")]
    return orjson.loads(b"".join(pieces))


async def test_a_name_is_corrected_everywhere_and_back(tmp_path: Path) -> None:
    async with archive(tmp_path, made()) as graph:
        amend, who = graph.decisions.amend, principal(graph)
        tried = await amend.change(who, of_patient(P1), {"PatientName": "Doe^Jane"}, (), Asked(dry_run=True))
        assert (tried.op, tried.dry_run, tried.instances) == ("", True, 1)
        assert [(one.keyword, one.old, one.new) for one in tried.changes] == [
            ("PatientName", "Müller^Jörg", "Doe^Jane")
        ]
        assert await names(graph, patient="P1") == ["Müller^Jörg"], "a dry run changes nothing"
        done = await amend.change(
            who, of_patient(P1), {"PatientName": "Doe^Jane"}, (), Asked("wrong", expected=tried.state)
        )
        assert await names(graph, patient="P1") == ["Doe^Jane"]
        assert (await header(graph, "1.1"))["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}]
        await amend.undo(who, done.op)
        assert await names(graph, patient="P1") == ["Müller^Jörg"]
        assert (await header(graph, "1.1"))["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]
        with pytest.raises(Conflict):
            await amend.undo(who, done.op)
        await amend.redo(who, done.op)
        assert await names(graph, patient="P1") == ["Doe^Jane"]


async def test_a_study_goes_to_another_patient_who_must_be_known(tmp_path: Path) -> None:
    other = made("1.2", "1.2.1", "1.2.1.1", patient="P2", name="Doe^Jane")
    async with archive(tmp_path, made(), other) as graph:
        amend, who = graph.decisions.amend, principal(graph)
        with pytest.raises(NotFound, match="say that it is a new one"):
            await amend.move_study(who, "1.1", PatientKey("P3"))
        done = await amend.move_study(who, "1.1", P2)
        assert "name of the two patients differ" in done.warnings
        assert await names(graph, patient="P2") == ["Doe^Jane"] * 2
        shown = await header(graph, "1.1")
        assert (shown["00100020"]["Value"], shown["00100010"]["Value"]) == (["P2"], [{"Alphabetic": "Doe^Jane"}])
        with pytest.raises(Conflict):
            await amend.move_study(who, "1.1", P2)
        await store(graph, made(sop="1.1.1.2"))
        assert (await header(graph, "1.1"))["00100020"]["Value"] == ["P2"], "what arrives later follows"
        await amend.undo(who, done.op)
        assert (await header(graph, "1.1"))["00100020"]["Value"] == ["P1"]


async def test_patients_become_one_and_a_patient_gets_another_id(tmp_path: Path) -> None:
    other = made("1.2", "1.2.1", "1.2.1.1", patient="P2")
    async with archive(tmp_path, made(), other) as graph:
        verbs, who = graph.decisions, principal(graph)
        done = await verbs.amend.merge_patients(who, P2, P1)
        assert len(await names(graph, patient="P1")) == 2
        assert [one.state for one in await verbs.patients.search(who, Wanted(id="P2"))] == ["merged"]
        assert (await verbs.patients.get(who, P1)).merged == (P2,)
        await store(graph, made("1.3", "1.3.1", "1.3.1.1", patient="P2"))
        assert len(await names(graph, patient="P1")) == 3, "a merged patient's new study too"
        await verbs.amend.undo(who, done.op)
        assert len(await names(graph, patient="P1")) == 1
        await verbs.amend.merge_patients(who, P1, PatientKey("N9", "HOSP"), new=True)
        assert (await header(graph, "1.1"))["00100020"]["Value"] == ["N9"]
        assert (await header(graph, "1.1"))["00100021"]["Value"] == ["HOSP"]


async def test_series_move_and_split_with_new_uids_and_old_ones_still_lead_there(tmp_path: Path) -> None:
    objects = [made(sop=f"1.1.1.{number}", number=number) for number in (1, 2, 3)]
    async with archive(tmp_path, *objects, made("1.2", "1.2.1", "1.2.1.1")) as graph:
        amend, who, retrieve = graph.decisions.amend, principal(graph), graph.archive.retrieve
        split = await amend.split(who, "1.1", [("1.1.1", "1.1.1.2")])
        (one,) = await retrieve.locate(who, "1.1", "1.1.1", "1.1.1.2")
        assert one.identity.series.startswith("2.25.") and one.identity.sop == "1.1.1.2"
        moved = await amend.move_series(who, ("1.1", "1.1.1"), "1.2")
        assert {held.identity.sop for held in await retrieve.locate(who, "1.2")} == {"1.2.1.1", "1.1.1.1", "1.1.1.3"}
        await store(graph, made(sop="1.1.1.4"))
        assert len(await retrieve.locate(who, "1.2")) == 4, "what still arrives for the series follows it"
        for op in (moved.op, split.op):
            await amend.undo(who, op)
        assert {held.identity.series for held in await retrieve.locate(who, "1.1")} == {"1.1.1"}
        assert len(await retrieve.locate(who, "1.1")) == 4
        with pytest.raises(BadInput):
            await amend.split(who, "1.1", [("1.1.1", "")])
        apart = await amend.split(who, "1.1", [("1.1.1", "")], new_study=True)
        new = next(uid for uid in apart.studies if uid.startswith("2.25."))
        assert len(await retrieve.locate(who, new)) == 4
        assert len(await retrieve.locate(who, "1.1")) == 4, "the old name leads to it"


async def test_a_study_split_off_stays_with_the_patient_it_was_given_to(tmp_path: Path) -> None:
    objects = [made(), made(series="1.1.2", sop="1.1.2.1"), made("1.2", "1.2.1", "1.2.1.1", patient="P2")]
    async with archive(tmp_path, *objects) as graph:
        amend, who = graph.decisions.amend, principal(graph)
        await amend.move_study(who, "1.1", P2)
        apart = await amend.split(who, "1.1", [("1.1.2", "")], new_study=True)
        new = next(uid for uid in apart.studies if uid.startswith("2.25."))
        assert (await header(graph, new))["00100020"]["Value"] == ["P2"]


async def test_merged_studies_are_one_under_the_patient_of_the_target(tmp_path: Path) -> None:
    async with archive(tmp_path, made(), made("1.2", "1.2.1", "1.2.1.1", patient="P2", name="Doe^Jane")) as graph:
        amend, who = graph.decisions.amend, principal(graph)
        done = await amend.merge_studies(who, "1.1", "1.2")
        assert {held.identity.study for held in await graph.archive.retrieve.locate(who, "1.1")} == {"1.2"}
        assert await names(graph, study="1.2") == ["Doe^Jane"]
        with pytest.raises(Conflict):
            await amend.merge_studies(who, "1.2", "1.1")
        await amend.undo(who, done.op)
        assert (await header(graph, "1.1"))["00100020"]["Value"] == ["P1"]


@pytest.mark.parametrize("role", ["editor", "reader", "writer", "auditor"])
async def test_who_may_not(tmp_path: Path, role: str) -> None:
    async with archive(tmp_path, made()) as graph:
        verbs, who = graph.decisions, principal(graph, role)
        calls = (
            verbs.amend.change(who, of_study("1.1"), {"StudyDescription": "x"}),
            verbs.amend.move_study(who, "1.1", P2), verbs.amend.merge_patients(who, P1, P2),
            verbs.amend.merge_studies(who, "1.1", "1.2"), verbs.amend.move_series(who, ("1.1", "1.1.1"), "1.2"),
            verbs.amend.split(who, "1.1", [("1.1.1", "1.1.1.1")]), verbs.amend.undo(who, "0" * 32),
            verbs.patients.link(who, P1, P2), verbs.patients.set_state(who, P1, "verified"), verbs.desk.list(who),
        )  # fmt: skip
        for call in calls:
            with pytest.raises(NotAllowed):
                await call


async def test_what_is_not_there_or_not_possible_is_said(tmp_path: Path) -> None:
    async with archive(tmp_path, made()) as graph:
        amend, who = graph.decisions.amend, principal(graph)
        for call in (
            amend.change(who, of_study("1.9"), {"StudyDescription": "x"}),
            amend.change(who, of_series("1.1", "1.9"), {"SeriesDescription": "x"}),
            amend.change(who, of_patient(P2), {"PatientName": "x"}),
            amend.merge_patients(who, P2, P1), amend.move_series(who, ("1.1", "1.1.1"), "1.9"),
            amend.split(who, "1.1", [("1.1.1", "1.9")]), amend.undo(who, "0" * 32),
        ):  # fmt: skip
            with pytest.raises(NotFound):
                await call
        for call in (
            amend.change(who, of_study("1.1"), {}), amend.change(who, of_study("1.1"), {"PatientName": "x"}),
            amend.change(who, of_study("1.1"), {"StudyDate": "yesterday"}), amend.undo(who, "zz"),
            amend.change(who, of_patient(PatientKey("")), {"PatientName": "x"}),
            amend.change(who, of_study("1.1"), {"StudyID": "1"}, (), Asked(why="BECAUSE")),
            amend.change(who, of_study("1.1"), {"StudyDescription": "half a \ud800"}),
            amend.change(who, of_study("1.1"), {"StudyDescription": float("nan")}),
            amend.change(who, of_study("1.1"), {"PatientSize": "1e5555"}),
            amend.merge_patients(who, P1, PatientKey("P\\Q"), new=True),
            amend.merge_patients(who, P1, PatientKey(" Q "), new=True),
            amend.move_study(who, "1.1", PatientKey("Q" * 65), new=True),
            amend.move_study(who, "1.1", PatientKey("Q", "HOSP\\OTHER"), new=True),
        ):  # fmt: skip
            with pytest.raises(BadInput):
                await call
        with graph.database.read() as read:
            assert read.one("SELECT COUNT(*) FROM words") == (0,)


async def test_of_two_who_decide_at_once_the_second_is_told(tmp_path: Path) -> None:
    async with archive(tmp_path, made()) as graph:
        amend, who = graph.decisions.amend, principal(graph)
        state = (await amend.change(who, of_study("1.1"), {"StudyID": "1"}, (), Asked(dry_run=True))).state
        results = await asyncio.gather(
            *(amend.change(who, of_study("1.1"), {"StudyID": text}, (), Asked(expected=state)) for text in "AB"),
            return_exceptions=True,
        )
        assert sorted(type(one).__name__ for one in results) == ["Conflict", "Operation"]


async def test_a_later_decision_wins_though_its_clock_is_behind(tmp_path: Path) -> None:
    async with archive(tmp_path, made()) as graph:
        amend, who = graph.decisions.amend, principal(graph)
        first = await amend.change(who, of_study("1.1"), {"StudyDescription": "first"})
        deciding: Any = amend._deciding  # pyright: ignore[reportPrivateUsage]
        ahead = deciding._clock
        deciding._clock = lambda: ahead() - 3_600_000_000
        second = await amend.change(who, of_study("1.1"), {"StudyDescription": "second"})
        assert (await header(graph, "1.1"))["00081030"]["Value"] == ["second"] and second.at > first.at
        await amend.undo(who, second.op)
        assert (await header(graph, "1.1"))["00081030"]["Value"] == ["first"]


async def test_merging_while_studies_arrive_leaves_none_behind(tmp_path: Path) -> None:
    async with archive(tmp_path, made(), made("1.2", "1.2.1", "1.2.1.1", patient="P2")) as graph:
        amend, who = graph.decisions.amend, principal(graph)
        arriving = [store(graph, made(f"5.{n}", f"5.{n}.1", f"5.{n}.1.1", patient="P2")) for n in range(12)]
        await asyncio.gather(*arriving[:6], amend.merge_patients(who, P2, P1), *arriving[6:])
        assert len(await names(graph, patient="P1")) == 14
        with graph.database.read() as read:
            assert read.one("SELECT COUNT(*) FROM patient_identifiers") == (2,)


async def test_all_that_was_done_is_told_and_an_auditor_sees_no_values(tmp_path: Path) -> None:
    async with archive(tmp_path, made()) as graph:
        verbs, who = graph.decisions, principal(graph)
        before = (await graph.archive.retrieve.locate(who, "1.1"))[0].received_at
        done = await verbs.amend.change(who, of_patient(P1), {"PatientName": "Doe^Jane"}, (), Asked("ward called"))
        await graph.archive.remove.reject(who, "1.1", reason="113001")
        await verbs.amend.undo(who, done.op)
        told = await verbs.history.of_study(who, "1.1")
        assert [one.kind for one in told] == ["received", "amend", "rejected"]
        assert (told[1].reason, told[1].undone, told[1].by) == ("ward called", True, "tester")
        assert "PatientName = Doe^Jane" in told[1].lines[0]
        seen = await verbs.history.of_study(principal(graph, "auditor"), "1.1")
        assert [one.kind for one in seen] == [one.kind for one in told]
        assert not any("Doe" in line or "P1" in line for one in seen for line in one.lines)
        latest = await verbs.history.operations(who)
        assert [one.kind for one in latest] == ["reject", "amend"]
        assert (await verbs.history.operation(who, done.op)).undone
        await verbs.amend.undo(who, latest[0].op)
        assert await names(graph, patient="P1") == ["Müller^Jörg"], "a rejection is undone like everything else"
        with pytest.raises(NotFound):
            await verbs.history.as_of(who, "1.1", before - 1)


async def test_as_of_a_moment_shows_what_was_shown_then(tmp_path: Path) -> None:
    async with archive(tmp_path, made(), made("1.2", "1.2.1", "1.2.1.1", patient="P2", name="Doe^Jane")) as graph:
        verbs, who = graph.decisions, principal(graph)
        moments = [graph.committer._clock()]  # pyright: ignore[reportPrivateUsage]
        done = [await verbs.amend.change(who, of_patient(P1), {"PatientName": "Roe^Rita"})]
        moments.append(done[-1].at)
        done.append(await verbs.amend.merge_studies(who, "1.2", "1.1"))
        moments.append(done[-1].at)
        await graph.archive.remove.reject(who, "1.1", reason="113001")
        for one in done:
            await verbs.amend.undo(who, one.op)
        told: list[tuple[list[str], list[str]]] = []
        for at in moments:
            found = await verbs.history.as_of(who, "1.1", at)
            assert not any(held.rejected for held in found.helds)
            pieces = [piece async for piece in verbs.history.metadata(found, "")]
            documents: list[dict[str, Any]] = orjson.loads(b"".join(pieces))
            sops = [held.identity.sop for held in found.helds]
            told.append((sops, [each["00100010"]["Value"][0]["Alphabetic"] for each in documents]))
        assert told == [
            (["1.1.1.1"], ["Müller^Jörg"]), (["1.1.1.1"], ["Roe^Rita"]), (["1.1.1.1", "1.2.1.1"], ["Roe^Rita"] * 2),
        ]  # fmt: skip
        now = await verbs.history.as_of(who, "1.1", graph.committer._clock())  # pyright: ignore[reportPrivateUsage]
        assert [(held.identity.sop, held.rejected) for held in now.helds] == [("1.1.1.1", "113001")]


async def test_versions_and_what_differs_between_them(tmp_path: Path) -> None:
    first, again = made(), made(name="Mueller^Joerg", description="Abdomen")
    async with archive(tmp_path, first, again) as graph:
        verbs, who = graph.decisions, principal(graph)
        (kept,) = await verbs.history.of_instance(who, "1.1.1.1")
        one, other = (held.blob.object_id.hex() for held in kept.versions)
        found = await verbs.history.difference(who, "1.1.1.1", one, other)
        assert found.pixels == "same"
        assert {(each.keyword, each.old, each.new) for each in found.changes} == {
            ("PatientName", "Müller^Jörg", "Mueller^Joerg"), ("StudyDescription", "Thorax", "Abdomen"),
        }  # fmt: skip
        await verbs.amend.change(who, of_study("1.1"), {"StudyDescription": "Knee"})
        shown = await verbs.history.difference(who, "1.1.1.1", one, f"{one}-shown")
        assert ("StudyDescription", "Thorax", "Knee") in {(each.keyword, each.old, each.new) for each in shown.changes}
        stream = await verbs.history.content(who, "1.1.1.1", other)
        assert b"".join([piece async for piece in stream.chunks()]) == again
        for version in ("0" * 32, other.upper()):
            with pytest.raises((NotFound, BadInput)):
                await verbs.history.content(who, "1.1.1.1", version)
        for role in (
            "reader",
            "editor",
            "writer",
            "auditor",
        ):  # what was received may have been rejected, or another patient's
            with pytest.raises(NotAllowed):
                await verbs.history.content(replace(who, role=role), "1.1.1.1", other)
            with pytest.raises(NotAllowed):
                await verbs.history.difference(replace(who, role=role), "1.1.1.1", one, other)


async def test_another_tenant_is_no_part_of_it(tmp_path: Path) -> None:
    async with archive(tmp_path, made()) as graph:
        who = principal(graph)
        stranger = replace(who, tenant=replace(who.tenant, id=who.tenant.id + 1, uid=b"\2" * 16))
        for call in (
            graph.decisions.amend.change(stranger, of_study("1.1"), {"StudyID": "1"}),
            graph.decisions.history.of_study(stranger, "1.1"), graph.decisions.patients.get(stranger, P1),
        ):  # fmt: skip
            with pytest.raises(NotFound):
                await call


async def test_every_decision_and_every_look_is_on_record(tmp_path: Path) -> None:
    async with archive(tmp_path, made()) as graph:
        verbs, who = graph.decisions, principal(graph)
        await verbs.amend.change(who, of_study("1.1"), {"StudyID": "7"}, (), Asked(dry_run=True))
        done = await verbs.amend.change(who, of_study("1.1"), {"StudyID": "7"})
        await verbs.amend.undo(who, done.op)
        await verbs.history.of_study(who, "1.1")
        await verbs.desk.list(who)
        with graph.database.read() as read:
            rows = read.all("SELECT action, purpose, detail FROM audit WHERE principal = 'tester'")
        assert {("amend", done.op), ("undo", done.op)} <= {(row[0], row[2]) for row in rows}
        assert {"amend tried", "history", "desk"} <= {row[1] for row in rows}


async def test_a_correction_writes_its_words_and_no_image(tmp_path: Path) -> None:
    """Of 300 images of 4 KiB: each decision adds one batch of the log, whatever it bears upon."""
    objects = [
        Made("1.1", "1.1.1", f"1.1.1.{number}", number=number, pixels=bytes(4096)).part10() for number in range(1, 301)
    ]
    async with archive(tmp_path, *objects) as graph:
        amend, who = graph.decisions.amend, principal(graph)

        def written() -> int:
            return int(graph.store.status()["open_segment_bytes"])

        before = written()
        await amend.change(who, of_patient(P1), {"PatientName": "Doe^Jane"})
        await amend.change(who, of_study("1.1"), {"StudyDescription": "Knee"})
        done = await amend.move_study(who, "1.1", PatientKey("P7"), new=True)
        await amend.undo(who, done.op)
        assert 0 < written() - before <= 4 * 8192
