"""`radiolith echo find get move send` and `peer test`, with DCMTK's archive on the other side."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from radiolith.cli import calling, main
from radiolith.cli import send as sending
from radiolith.jobs.outbox import Sender
from radiolith.model import BadInput
from tests.archive.objects import EXPLICIT
from tests.dimse.peers import dcmqrscp, storescp
from tests.dimse.test_delivery import made, written
from tests.ports import free_port

RUN = CliRunner()


async def said(*words: str, code: int = 0) -> str:
    found = await asyncio.to_thread(RUN.invoke, main.app, list(words))
    if found.exit_code != code:
        raise AssertionError(f"{words}: exit code {found.exit_code}\n{found.output}") from found.exception
    return found.stdout


async def test_there_and_back(tmp_path: Path) -> None:
    objects = [made(number) for number in (1, 2, 3)]
    files = tmp_path / "files"
    files.mkdir()
    for each in objects:
        (files / f"{each.number}.dcm").write_bytes(each.part10())
    home, study = ("--home", str(tmp_path / "home")), objects[0].study
    await said("init", *home)
    async with storescp(tmp_path / "moved", "+xa") as mover, dcmqrscp(tmp_path / "peer", mover) as target:
        direct = f"QR@127.0.0.1:{target.port}"
        await said("peer", *home, "add", "qr", "--aet", "QR", "--address", "127.0.0.1", "--port", str(target.port))
        assert "QR at 127.0.0.1" in await said("echo", direct, *home)
        steps = json.loads(await said("peer", *home, "test", "qr", "--json"))
        assert [(step["name"], step["good"]) for step in steps] == [
            ("name", True), ("connection", True), ("association", True), ("echo", True),
        ]  # fmt: skip
        assert "3 instances sent" in await said("send", "qr", str(files), *home)
        found = json.loads(await said("find", direct, "PatientID=P1", *home, "--json"))
        assert [match["0020000D"]["Value"] for match in found] == [[study]]
        table = await said("find", "qr", "PatientID=P1", "AccessionNumber", *home)
        assert "AccessionNumber" in table and "A1" in table
        assert "No matches" in await said("find", "qr", "PatientID=NOBODY", *home)
        assert "3 instances sent to STORE" in await said("move", "qr", "--study", study, "--to", "STORE", *home)
        assert "3 instances now in" in await said("get", "qr", "--study", study, "--to", str(tmp_path / "got"), *home)
        told = json.loads(await said("get", "qr", "--study", study, *home, "--json"))
        assert (told["completed"], told["failed"], told["status"]) == (3, 0, "0000")
    expected = {each.sop: (EXPLICIT, each.dataset()) for each in objects}
    assert written(tmp_path / "moved") == written(tmp_path / "got") == expected
    async with storescp(tmp_path / "again", "+xa") as target:
        direct = f"STORE@127.0.0.1:{target.port}"
        assert json.loads(await said("send", direct, study, *home, "--json"))["sent"] == 3
        assert json.loads(await said("send", direct, objects[0].series, *home, "--json"))["sent"] == 3
    assert written(tmp_path / "again") == expected
    nobody = f"X@127.0.0.1:{free_port()}"
    told = json.loads(await said("send", nobody, study, *home, "--json", code=1))
    assert told["sent"] == 0 and "nothing listens there" in told["failed"][0]["reason"]
    steps = json.loads(await said("peer", *home, "test", "qr", "--json", code=1))
    assert [(step["name"], step["good"]) for step in steps] == [("name", True), ("connection", False)]


@pytest.fixture
def archived(tmp_path: Path) -> tuple[str, ...]:
    """--home of an archive with three instances of a study and the peer `ws`, which listens at no port yet."""
    files = tmp_path / "files"
    files.mkdir()
    for number in (1, 2, 3):
        (files / f"{number}.dcm").write_bytes(made(number).part10())
    home = ("--home", str(tmp_path / "home"))
    for words in (("init", *home), ("import", *home, str(files))):
        assert RUN.invoke(main.app, list(words)).exit_code == 0
    return home


async def test_what_the_archive_holds_goes_by_way_of_the_outbox(archived: tuple[str, ...], tmp_path: Path) -> None:
    study, port = made(1).study, free_port()
    peer = ("peer", *archived, "add", "ws", "--aet", "STORE", "--address", "127.0.0.1", "--port")
    await said(*peer, str(port))
    told = json.loads(await said("send", "ws", study, *archived, "--json", code=1))
    (kept,) = told["transfers"]
    assert (told["sent"], kept["state"], kept["study"]) == (0, "waiting", study)
    (failed,) = told["failed"]
    assert "nothing listens there" in failed["reason"] and f"radiolith outbox show {kept['id']}" in failed["reason"]
    listed = json.loads(await said("outbox", *archived, "list", "--json"))
    assert [(one["id"], one["ordered_by"], one["instances"]) for one in listed["transfers"]] == [
        (kept["id"], "command", 3)
    ]
    async with storescp(tmp_path / "in", "+xa") as target:
        await said("peer", *archived, "remove", "ws")
        await said(*peer, str(target.port))
        assert "3 instances sent to STORE" in await said("send", "ws", study, *archived)
        by_address = f"STORE@127.0.0.1:{target.port}"
        told = json.loads(await said("send", by_address, made(1).series, *archived, "--json"))
        assert (told["sent"], [one["state"] for one in told["transfers"]]) == (3, ["delivered"])
    assert written(tmp_path / "in") == {made(n).sop: (EXPLICIT, made(n).dataset()) for n in (1, 2, 3)}
    assert "no study or series" in str(
        (await asyncio.to_thread(RUN.invoke, main.app, ["send", "ws", "9.9", *archived])).exception
    )


def test_an_interrupted_command_leaves_the_rest_to_the_server(
    archived: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = sending.Done.answered

    def answered(*args: Any) -> None:
        really(*args)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sending.Done, "answered", answered)
    with asyncio.Runner() as runner:
        scp = storescp(tmp_path / "in", "+xa")
        target = runner.run(scp.__aenter__())
        try:
            words = (
                "peer",
                *archived,
                "add",
                "ws",
                "--aet",
                "STORE",
                "--address",
                "127.0.0.1",
                "--port",
                str(target.port),
            )
            assert RUN.invoke(main.app, list(words)).exit_code == 0
            found = RUN.invoke(main.app, ["send", "ws", made(1).study, *archived, "--json"])
        finally:
            runner.run(scp.__aexit__(None, None, None))
    told = json.loads(found.stdout)
    assert found.exit_code == 1 and [one["state"] for one in told["transfers"]] == ["waiting"]
    assert told["failed"][0]["what"] == "interrupted" and "the running server goes on" in told["failed"][1]["reason"]
    (kept,) = json.loads(RUN.invoke(main.app, ["outbox", *archived, "list", "--json"]).stdout)["transfers"]
    assert 1 <= kept["delivered"] < 3 and "interrupted at the command line" in kept["said"]


async def test_what_the_server_has_begun_is_watched_to_its_end(
    archived: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command was so slow that its head start was over."""
    really = Sender.run

    async def late(self: Sender, number: int, *args: Any, **more: Any) -> None:
        assert await really(self, number, early=True)

    monkeypatch.setattr(Sender, "run", late)
    async with storescp(tmp_path / "in", "+xa") as target:
        await said(
            "peer", *archived, "add", "ws", "--aet", "STORE", "--address", "127.0.0.1", "--port", str(target.port)
        )
        assert "3 instances sent to STORE" in await said("send", "ws", made(1).study, *archived)


def test_what_is_retrieved_is_named_from_the_study_down() -> None:
    assert calling.named(["1", "2"], None, None) == ("STUDY", {"StudyInstanceUID": "1\\2"})
    assert calling.named(["1"], ["3", "4"], None)[0] == "SERIES"
    assert calling.named(["1"], ["3"], ["5"])[0] == "IMAGE"
    for wrong in ((None, None, None), (["1", "2"], ["3"], None), (["1"], ["3", "4"], ["5"]), (["1"], None, ["5"])):
        with pytest.raises(BadInput):
            calling.named(*wrong)
