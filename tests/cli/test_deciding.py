"""`radiolith amend`, `history`, `patients`, `desk`, and the same over /api/v1: what a person reads and a script gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from typer.testing import CliRunner

from radiolith.cli.main import app
from radiolith.home import Home, initialise, open_home
from radiolith.model import Conflict, NotFound, Principal
from radiolith.web.ports import Inside
from radiolith.web.routes import routes
from tests.archive.objects import Made

PIXELS = bytes(512)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two patients, one of them with two studies, and a foreign medium."""
    place, files, foreign = tmp_path / "h", tmp_path / "in", tmp_path / "cd"
    initialise(place)
    files.mkdir()
    foreign.mkdir()
    for number, patient in ((1, "P1"), (2, "P2"), (3, "P2")):
        made = Made(
            f"1.{number}", f"1.{number}.1", f"1.{number}.1.1", patient=patient, name="Müller^Jörg", pixels=PIXELS
        )
        (files / f"{number}.dcm").write_bytes(made.part10())
    (foreign / "f").write_bytes(
        Made("1.9", "1.9.1", "1.9.1.1", patient="P1", name="Mueller^Joerg", pixels=PIXELS).part10()
    )
    run(place, "import", str(files))
    run(place, "import", "--foreign", "Rotkreuz", str(foreign))
    return place


def run(home: Path, command: str, *arguments: str, code: int = 0) -> str:
    verb, *rest = command.split()
    done = CliRunner().invoke(app, [verb, "--home", str(home), *rest, *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def test_a_correction_is_tried_done_told_and_undone(home: Path) -> None:
    tried = run(home, "amend", "set", "--patient", "P1", "PatientName=Doe^Jane", "--dry-run")
    assert "PatientName: Müller^Jörg -> Doe^Jane" in tried and "Nothing was changed" in tried
    state = json.loads(run(home, "amend", "set", "--patient", "P1", "PatientName=Doe^Jane", "--dry-run", "--json"))[
        "state"
    ]
    done = json.loads(
        run(
            home,
            "amend",
            "set",
            "--patient",
            "P1",
            "PatientName=Doe^Jane",
            "--expected",
            state,
            "--reason",
            "wrong",
            "--json",
        )
    )
    assert done["undo"] == f"radiolith amend undo {done['op']}" and done["changes"][0]["new"] == "Doe^Jane"
    with pytest.raises(Conflict, match="look again"):
        run(home, "amend", "set", "--patient", "P1", "PatientName=Roe", "--expected", state)
    assert "amend by command: wrong" in run(home, "history", "study", "1.1")
    (listed,) = json.loads(run(home, "history", "operations", "--json"))
    assert listed["op"] == done["op"] and listed["lines"] == ["patient P1: PatientName = Doe^Jane"]
    assert "redo" in run(home, "amend", "undo", done["op"])
    assert "Müller^Jörg" in run(home, "patients", "show", "P1")
    assert "undone" in run(home, "history", "show", done["op"])
    assert "counts again" in run(home, "amend", "redo", done["op"])


def test_wrong_usage_is_told_before_anything_is_opened(home: Path) -> None:
    for arguments in (
        ["set", "PatientName=x"],
        ["set", "--patient", "P1", "PatientName"],
        ["split", "1.1", "--instance", "x"],
    ):
        run(home, "amend", *arguments, code=2)
    run(home, "patients", "list", "--birth-date", "1965", code=2)
    run(home, "history", "as-of", "1.1", "yesterday", code=2)
    run(home, "import", "--foreign", "a", "--inbox", "b", str(home), code=2)
    with pytest.raises(NotFound):
        run(home, "amend", "move-study", "1.1", "--patient", "P9")


def test_studies_series_and_patients_from_the_command_line(home: Path) -> None:
    assert "patient P2 -> P1" in run(home, "amend", "move-study", "1.3", "--patient", "P1", "--dry-run")
    moved = json.loads(run(home, "amend", "move-series", "1.2", "1.2.1", "--to", "1.1", "--json"))
    assert moved["instances"] == 1 and "1.1" in moved["studies"]
    merged = json.loads(run(home, "amend", "merge-studies", "1.3", "1.1", "--json"))
    split = json.loads(run(home, "amend", "split", "1.1", "--series", "1.1.1", "--new-study", "--json"))
    for op in (split["op"], merged["op"], moved["op"]):
        run(home, "amend", "undo", op)
    assert "P1" in run(home, "patients", "candidates", "P2")
    assert "same person" in run(home, "patients", "link", "P1", "P2")
    assert "the same person as: P2" in run(home, "patients", "show", "P1")
    assert "not the same person" in run(home, "patients", "unlink", "P1", "P2")
    assert "verified" in run(home, "patients", "state", "P1", "verified")
    run(home, "patients", "merge", "P2", "P1", "--reason", "one person")
    assert [one["id"] for one in json.loads(run(home, "patients", "list", "--state", "merged", "--json"))] == ["P2"]
    assert json.loads(run(home, "patients", "show", "P1", "--json"))["merged"] == [
        {"id": "P2", "issuer": "", "study": ""}
    ]
    assert "into by command: one person" in run(home, "history", "patient", "P2")


def test_versions_and_the_past_from_the_command_line(home: Path, tmp_path: Path) -> None:
    (found,) = json.loads(run(home, "history", "instance", "1.1.1.1", "--json"))
    version = found["versions"][0]["id"]
    run(home, "amend", "set", "--study", "1.1", "StudyDescription=Knee")
    told = run(home, "history", "difference", "1.1.1.1", version, f"{version}-shown")
    assert "StudyDescription" in told and "Pixels: same" in told
    assert "corrected" in run(home, "history", "instance", "1.1.1.1")
    run(home, "history", "content", "1.1.1.1", version, str(tmp_path / "out"))
    assert (tmp_path / "out" / f"{version}.dcm").read_bytes() == (tmp_path / "in" / "1.dcm").read_bytes()
    now = json.loads(run(home, "history", "as-of", "1.1", "2100-01-01", "--json"))
    assert now["study"]["description"] == "Knee" and len(now["instances"]) == 1
    with pytest.raises(NotFound, match="then"):
        run(home, "history", "as-of", "1.1", "2000-01-01")


def test_the_desk_from_the_command_line(home: Path) -> None:
    (case,) = json.loads(run(home, "desk", "list", "--json"))
    assert case["kind"] == "foreign" and case["key"] == "foreign:P1:medium%3ARotkreuz"
    shown = run(home, "desk", "show", case["key"])
    assert "came with a medium from Rotkreuz" in shown and "assign|link|keep|reject" in shown
    done = json.loads(run(home, "desk", "resolve", case["key"], "assign", "--patient", "P1", "--json"))
    assert "Nothing is unclear." in run(home, "desk", "list")
    run(home, "desk", "undo", done["op"])
    assert case["key"] in run(home, "desk", "list")


# ---------------------------------------------------------------- over the API


class _One:
    def __init__(self, principal: Principal):
        self._principal = principal

    async def from_bearer(self, token: str, address: str = "") -> Principal:
        return self._principal

    async def from_session(self, cookie: str) -> Principal:
        return self._principal


@pytest.fixture
def opened(home: Path) -> Iterator[Home]:
    with open_home(home) as found:
        yield found


def client(opened: Home, role: str = "archivist") -> TestClient:
    who = Principal(opened.principal.tenant, role, role, "token")
    given: dict[str, Any] = {
        "archive": opened.graph.archive, "identities": _One(who), "settings": opened.settings,
        "condition": opened.graph.condition, "decisions": opened.graph.decisions,
    }  # fmt: skip
    inside = Inside(**{each.name: given.get(each.name) for each in fields(Inside)})
    made = TestClient(Starlette(routes=routes(inside)), base_url="http://archive.example/api/v1")
    made.headers["authorization"] = "Bearer x"
    return made


def test_the_api_corrects_tells_and_undoes(opened: Home) -> None:
    calls = client(opened)
    body = {"patient": {"id": "P1"}, "set": {"PatientName": "Doe^Jane"}, "reason": "wrong"}
    tried = calls.post("corrections", json={**body, "dry_run": True}).json()
    assert tried["dry_run"] and tried["changes"][0] == {
        "tag": "00100010", "attribute": "PatientName", "old": "Müller^Jörg", "new": "Doe^Jane",
    }  # fmt: skip
    done = calls.post("corrections", json={**body, "expected": tried["state"]}).json()
    assert calls.post("corrections", json={**body, "expected": tried["state"]}).status_code == 409
    (one,) = calls.get("operations").json()
    assert one["op"] == done["op"] and one["reason"] == "wrong"
    assert [each["kind"] for each in calls.get("studies/1.1/history").json()] == ["received", "amend"]
    (kept,) = calls.get("instances/1.1.1.1/versions").json()
    version = kept["versions"][0]
    changes = calls.get(f"instances/1.1.1.1/versions/{version['id']}/difference/{version['shown']}").json()["changes"]
    assert "PatientName" in {each["attribute"] for each in changes}
    content = calls.get(f"instances/1.1.1.1/versions/{version['id']}/content")
    assert content.content[128:132] == b"DICM" and len(content.content) == version["size"]
    then = calls.get("studies/1.1/as-of", params={"moment": "2100-01-01T00:00:00Z"}).json()
    assert then["patient"]["patient_name"] == "Doe^Jane"
    headers = calls.get("studies/1.1/as-of/metadata", params={"moment": "2100-01-01T00:00:00Z"}).json()
    assert headers[0]["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}]
    assert calls.post(f"operations/{done['op']}/undo").status_code == 200
    assert calls.post(f"operations/{done['op']}/undo").status_code == 409
    assert calls.post(f"operations/{done['op']}/redo").json()["kind"] == "undo"


def test_the_api_moves_and_knows_patients_and_cases(opened: Home) -> None:
    calls = client(opened)
    assert calls.post("studies/1.3/move", json={"patient": {"id": "P1"}}).json()["moves"]
    assert calls.post("studies/1.3/merge", json={"into": "1.1"}).json()["instances"] == 1
    assert calls.post("studies/1.2/series/1.2.1/move", json={"study": "1.1"}).status_code == 200
    pieces = [{"series": "1.1.1", "instance": "1.1.1.1"}]
    assert calls.post("studies/1.1/split", json={"pieces": pieces}).json()["instances"] == 1
    (found,) = calls.get("patients", params={"id": "P2"}).json()
    assert found["state"] == "provisional"
    assert calls.get("patients/one", params={"id": "P1"}).json()["studies"]
    assert calls.get("patients/candidates", params={"id": "P2"}).json()[0]["reasons"]
    pair = {"one": {"id": "P1"}, "other": {"id": "P2"}}
    assert calls.post("patients/link", json=pair).status_code == 200
    assert calls.post("patients/link", json=pair).status_code == 409
    assert calls.post("patients/unlink", json=pair).status_code == 200
    assert calls.post("patients/state", json={"patient": {"id": "P1"}, "state": "verified"}).status_code == 200
    assert calls.post("patients/merge", json={"source": {"id": "P2"}, "target": {"id": "P1"}}).status_code == 200
    assert [each["kind"] for each in calls.get("patients/history", params={"id": "P2"}).json()][-1] == "into"
    key = calls.get("desk", params={"kind": "foreign"}).json()[0]["key"]
    assert calls.get("desk/case", params={"key": key}).json()["answers"] == ["assign", "link", "keep", "reject"]
    done = calls.post("desk/resolve", json={"key": key, "action": "keep"}).json()
    assert calls.get("desk", params={"kind": "foreign"}).json() == []
    assert calls.post(f"desk/undo/{done['op']}").status_code == 200


@pytest.mark.parametrize(
    ("call", "body", "status"),
    [
        ("corrections", {"set": {"PatientName": "x"}}, 422),
        ("corrections", {"patient": {"id": "P1"}, "study": "1.1", "set": {}}, 422),
        ("corrections", {"study": "1.1", "set": {"Nonsense": "x"}}, 400),
        ("corrections", {"study": "7.7", "set": {"StudyID": "x"}}, 404),
        ("studies/1.1/move", {"patient": {"id": "nobody"}}, 404),
        ("studies/1.1/merge", {"into": "1.1"}, 409),
        ("operations/zz/undo", {}, 422),
        ("desk/resolve", {"key": "odd", "action": "keep"}, 400),
    ],
)
def test_the_api_says_what_is_wrong(opened: Home, call: str, body: dict[str, Any], status: int) -> None:
    answer = client(opened).post(call, json=body)
    assert answer.status_code == status and answer.json()["detail"]
    assert (
        client(opened, "reader").post("corrections", json={"study": "1.1", "set": {"StudyID": "1"}}).status_code == 403
    )
