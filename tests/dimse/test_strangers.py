"""Devices that nobody has entered: a day in which they may hand over, then refused; listed; accepted by one call."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from radiolith.index import knocks
from radiolith.index.knocks import Caller
from radiolith.model import Conflict, NotAllowed, NotFound, Principal, Source
from radiolith.trust import devices as devices_module
from radiolith.trust.access import SET_ASIDE, STRANGER
from radiolith.trust.devices import STRANGERS, UNKNOWN, Devices, Knock, UnknownCalling
from radiolith.trust.knocks import Knocks
from tests.archive.homes import opened, principal
from tests.archive.objects import numbered
from tests.dimse.peers import program
from tests.dimse.served import AET, Served, Setting, served

FIND: Any = StudyRootQueryRetrieveInformationModelFind
GET: Any = StudyRootQueryRetrieveInformationModelGet
PUSH: Any = StorageCommitmentPushModel
LATER = 2 * STRANGERS


@pytest.fixture(autouse=True)
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of peers is forgotten when a test says so."""
    monkeypatch.setattr(devices_module, "REMEMBER", 3600.0)


def storescu(found: Served, folder: Path, *numbers: int, title: str = "CT1") -> int:
    """DCMTK sends; its exit code."""
    folder.mkdir(exist_ok=True)
    files = []
    for number in numbers:
        path = folder / f"{number}.dcm"
        path.write_bytes(numbered(9, number, large=0.5)[3])
        files.append(str(path))
    command = [program("storescu"), "-aet", title, "-aec", AET, *found.peer, *files]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode


def known(found: Served) -> list[knocks.Known]:
    return found.ask(lambda: found.graph.peers.knocks(principal(found.graph)))


def aside(found: Served) -> list[Any]:
    return found.ask(lambda: found.graph.archive.quarantine.list(principal(found.graph)))


def test_a_stranger_hands_over_and_is_accepted(tmp_path: Path) -> None:
    """Both small objects and those that stream; what it sent is there afterwards byte for byte, as its own."""
    with served(tmp_path / "home", Setting(near=False)) as found:
        assert storescu(found, tmp_path / "out", *range(6)) == 0
        assert found.instances() == set()
        entries = aside(found)
        assert {entry.reason for entry in entries} == {SET_ASIDE} and {entry.principal for entry in entries} == {
            UNKNOWN
        }
        assert {entry.guess["sop"] for entry in entries} == {numbered(9, n)[2] for n in range(6)}
        (one,) = known(found)
        assert one.caller == Caller("CT1", AET, "127.0.0.1") and one.admitted and (one.count, one.objects) == (1, 6)
        who = principal(found.graph)
        accepted = found.ask(lambda: found.graph.peers.accept(who, "CT1", name="ct"))
        assert (accepted.received, accepted.left, accepted.address) == (6, 0, "127.0.0.1")
        assert found.instances() == {numbered(9, n)[2] for n in range(6)}
        assert aside(found) == [] and known(found) == []
        with found.graph.database.read() as read:
            rows = read.all("SELECT sha256 FROM instances")
        assert {bytes(row[0]).hex() for row in rows} == {entry.sha256 for entry in entries} and len(rows) == 6
        assert storescu(found, tmp_path / "out", 7) == 0  # peers are remembered for a moment: a stranger still
        devices: Any = found.node.devices
        devices._known.clear()
        assert storescu(found, tmp_path / "out", 8) == 0
        assert len(found.instances()) == 7 and len(aside(found)) == 1
        again = found.ask(lambda: found.graph.peers.accept(who, "CT1"))
        assert (again.name, again.received) == ("ct", 1) and len(found.instances()) == 8


def test_a_stranger_may_hand_over_and_nothing_else(tmp_path: Path) -> None:
    with served(tmp_path / "home", Setting(near=False)) as found:
        ae = AE(ae_title="WS1")
        for sop_class in (FIND, GET, PUSH, "1.2.840.10008.1.1"):
            ae.add_requested_context(sop_class)
        association = ae.associate("127.0.0.1", found.port, ae_title=AET)
        assert association.is_established
        assert association.send_c_echo().Status == 0
        keys = Dataset()
        keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", "1.2.3"
        assert [status.Status for status, _ in association.send_c_find(keys, FIND)] == [0x0124]
        assert [status.Status for status, _ in association.send_c_get(keys, GET)] == [0x0124]
        asked = Dataset()
        asked.TransactionUID = "1.2.3.4"
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
        asked.ReferencedSOPSequence = [item]
        status, _ = association.send_n_action(asked, 1, PUSH, StorageCommitmentPushModelInstance)
        assert status.Status == 0x0124
        association.release()


def test_after_a_day_it_is_refused_and_listed(tmp_path: Path) -> None:
    with served(tmp_path / "home", Setting(near=False)) as found:
        devices: Any = found.node.devices
        now = devices._clock
        devices._clock = lambda: now() + LATER
        assert storescu(found, tmp_path / "out", 1) != 0
        found.until(lambda: found.traces, "the trace")
        assert "calling-AE-title-not-recognized" in found.traces[-1]["rejection"]
        (one,) = known(found)
        assert not one.admitted and one.objects == 0
        assert aside(found) == []
        who = principal(found.graph)
        found.ask(lambda: found.graph.peers.accept(who, "CT1"))
        devices._known.clear()
        assert storescu(found, tmp_path / "out", 1) == 0


def test_accepting_again_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    with served(tmp_path / "home", Setting(near=False)) as found:
        assert storescu(found, tmp_path / "out", *range(4)) == 0
        who, sidelined = principal(found.graph), found.graph.archive.quarantine
        release, count = sidelined.release, 0

        async def failing(*what: Any) -> None:
            nonlocal count
            count += 1
            if count == 3:
                raise NotAllowed("cut here")
            await release(*what)

        cut: Any = sidelined
        cut.release = failing
        with pytest.raises(NotAllowed):
            found.ask(lambda: found.graph.peers.accept(who, "CT1"))
        assert len(aside(found)) == 2 and len(known(found)) == 1
        del cut.release
        assert found.ask(lambda: found.graph.peers.accept(who, "CT1")).received == 2
        assert len(found.instances()) == 4 and aside(found) == []
        with found.graph.database.read() as read:
            assert read.all("SELECT COUNT(*) FROM instances")[0][0] == 4  # the third came twice and is held once


def test_who_is_accepted_must_be_clear(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "home") as graph:
            who = principal(graph)
            with pytest.raises(NotFound):
                await graph.peers.accept(who, "CT1")
            devices = Devices(graph.database, {AET: "default"}, False)
            for address in ("10.0.0.1", "10.0.0.2"):
                await devices.admit(Knock("CT1", AET, address))
            with pytest.raises(Conflict, match=r"10\.0\.0\.1, 10\.0\.0\.2"):
                await graph.peers.accept(who, "CT1")
            with pytest.raises(NotFound):
                await graph.peers.accept(who, "CT1", address="10.0.0.3")
            await graph.accounts.add_peer(who, "CT1", {"aet": "OTHER", "address": "10.0.0.9", "port": 104})
            with pytest.raises(Conflict, match="another peer"):
                await graph.peers.accept(who, "CT1", address="10.0.0.2")
            assert (await graph.peers.accept(who, "CT1", address="10.0.0.2", name="ct")).received == 0
            assert [one.caller.address for one in await graph.peers.knocks(who)] == ["10.0.0.1"]
            for role in ("archivist", "editor", STRANGER):
                with pytest.raises(NotAllowed):
                    await graph.peers.accept(principal(graph, role), "CT1")

    asyncio.run(work())


def test_of_a_flood_of_titles_a_bounded_list_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knocks, "DEVICES", 5)

    async def work() -> None:
        async with opened(tmp_path / "home") as graph:
            devices = Devices(graph.database, {AET: "default"}, False)
            for number in range(5):
                await devices.admit(Knock(f"CT{number}", AET, "10.0.0.1"))
            with pytest.raises(UnknownCalling):
                await devices.admit(Knock("CT5", AET, "10.0.0.1"))
            admitted = await devices.admit(Knock("CT4", AET, "10.0.0.1"))
            assert admitted.principal.role == STRANGER
            assert len(await graph.peers.knocks(principal(graph))) == 5

    asyncio.run(work())


def test_calls_are_written_once_a_second(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "home") as graph:
            now = 1_000_000_000
            heard = Knocks(graph.database, lambda: now)
            caller = Caller("CT1", AET, "10.0.0.1")
            written: list[tuple[int, int, bool]] = []
            write = heard._write
            heard._write = lambda tenant, who, seen: (written.append(seen), write(tenant, who, seen))[1]  # type: ignore
            assert all(await asyncio.gather(*(heard.note(1, caller, admitted=True) for _ in range(20))))
            now += 1_000_000
            assert await heard.note(1, caller, admitted=True)
            assert written == [(1_000_000_000, 1, True), (1_001_000_000, 20, True)]
            (one,) = await graph.peers.knocks(principal(graph))
            assert (one.count, one.first_at, one.last_at) == (21, 1_000_000_000, 1_001_000_000)

    asyncio.run(work())


def test_garbage_of_a_stranger_is_received_again_as_what_it_is(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "home") as graph:
            devices = Devices(graph.database, {AET: "default"}, False)
            stranger = (await devices.admit(Knock("CT1", AET, "10.0.0.1"))).principal
            source = Source("dimse", "CT1", "10.0.0.1")
            intake = graph.archive.ingest.begin(stranger, source, transfer_syntax="1.2.840.10008.1.2.1")
            await intake.write(b"no object at all" * 9)
            receipt = await (await intake.finish())
            assert receipt.identity is None and receipt.reason == SET_ASIDE
            accepted = await graph.peers.accept(principal(graph), "CT1")
            assert (accepted.received, accepted.left) == (0, 1)
            (entry,) = await graph.archive.quarantine.list(principal(graph))
            assert entry.reason != SET_ASIDE and entry.principal == "CT1" and entry.size == 144

    asyncio.run(work())


def test_nobody_can_be_given_the_role_of_a_stranger(tmp_path: Path) -> None:
    from radiolith.model import BadInput

    async def work() -> None:
        async with opened(tmp_path / "home") as graph:
            who: Principal = principal(graph)
            with pytest.raises(BadInput):
                await graph.accounts.add_user(who, "eve", STRANGER)

    asyncio.run(work())
