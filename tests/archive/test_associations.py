"""What `radiolith associations` and the API say of a device that cannot send."""

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

from radiolith import config, traces
from radiolith.archive.associations import hints, is_problem
from radiolith.cli.main import app
from radiolith.home import Home, initialise, open_home
from radiolith.index.accounts import Peer
from radiolith.model import NotFound, Principal
from radiolith.web.ports import Inside
from radiolith.web.routes import routes

AT = 1_700_000_000_000_000
OK: dict[str, Any] = {
    "at": AT, "ended_at": AT + 25_000, "address": "10.0.0.5", "calling": "CT1", "called": "RADIOLITH", "principal": "ct1",
    "implementation": "DCMTK", "pdu_bytes": 16384, "outcome": "accepted", "rejection": "", "end": "released",
    "received_bytes": 524288,
    "contexts": [{"service": "CT Image Storage", "syntax": "Explicit VR Little Endian", "result": "acceptance"}],
    "operations": [{"operation": "C-STORE", "status": "0000", "count": 3}],
}  # fmt: skip
STRANGER = OK | {
    "at": AT + 1_000_000,
    "outcome": "rejected: 'CT 9' from 10.0.0.9 is no peer of this archive",
    "rejection": "rejected-permanent, service-user: calling-AE-title-not-recognized",
    "calling": "CT 9", "address": "10.0.0.9", "principal": "", "end": "rejected", "contexts": [], "operations": [],
}  # fmt: skip
NORTH = OK | {"at": AT + 2_000_000, "called": "NORTH"}


def words(trace: dict[str, Any], peers: tuple[Peer, ...] = ()) -> str:
    return " ".join(hints(trace, ["RADIOLITH", "PACS"], peers))


def peer(aet: str, address: str) -> Peer:
    return Peer("known", 0, {"aet": aet, "address": address})


def test_what_went_well_needs_no_hint() -> None:
    assert not is_problem(OK) and words(OK) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"called": "WRONG", "outcome": "rejected: x", "rejection": "a, b: called-AE-title-not-recognized"},
         "The device calls 'WRONG', this archive answers to 'RADIOLITH', 'PACS'."),
        ({"outcome": "rejected: x", "rejection": "a, b: calling-AE-title-not-recognized"},
         "radiolith peer add ct1 --aet CT1 --address 10.0.0.5 --port PORT"),
        ({"outcome": "rejected: x", "rejection": "a, b: local-limit-exceeded"}, "`dimse.associations_per_address`"),
        ({"outcome": "rejected: x", "rejection": "a, b: temporary-congestion"}, "may try again"),
        ({"outcome": "rejected: x", "rejection": "a, b: no-reason-given"}, "user identity"),
        ({"outcome": "no association was requested", "end": "a PDU of unknown type 16H: the peer speaks TLS, this port does not"},
         "switch TLS off"),
        ({"outcome": "no association was requested", "end": "the connection was closed"}, "port check"),
        ({"contexts": [{"service": "CT Image Storage", "syntax": "x", "result": "transfer-syntaxes-not-supported"}]},
         "Nothing was accepted of 'CT Image Storage': transfer-syntaxes-not-supported."),
        ({"end": "aborted by the peer"}, "ended it after 3 requests"),
        ({"end": "the transport connection was closed"}, "a firewall"),
        ({"operations": [{"operation": "C-STORE", "status": "A700", "count": 1}]}, "Status A700: there was no space"),
    ],
)  # fmt: skip
def test_usual_mistakes_have_words(change: dict[str, Any], said: str) -> None:
    assert is_problem(OK | change)
    assert said in words(OK | change)


def test_a_peer_with_another_address_or_other_letters_is_named() -> None:
    refused = {"outcome": "rejected: x", "rejection": "a, b: calling-AE-title-not-recognized"}
    assert "known at 10.9.9.9, this one calls from 10.0.0.5" in words(OK | refused, (peer("CT1", "10.9.9.9"),))
    assert "capital and small letters differ" in words(OK | refused, (peer("ct1", "10.0.0.5"),))


def test_a_certificate_that_is_not_the_one_known_is_named() -> None:
    refused = OK | {"outcome": "rejected: x", "rejection": "a, b: calling-AE-title-not-recognized"}
    pinned = Peer("ct", 0, {"aet": "CT1", "address": "10.0.0.5", "tls": True, "certificate": "ct1.example"})
    assert "with TLS, this one calls without" in words(refused, (pinned,))
    assert "this one shows no certificate" in words(refused | {"tls": True, "names": []}, (pinned,))
    said = words(refused | {"tls": True, "names": ["10.0.0.5", "ct2", "ct2.example"]}, (pinned,))
    assert "with the name 'ct1.example', that of this one has '10.0.0.5', 'ct2', 'ct2.example'" in said
    assert "--port PORT --tls --certificate ct2.example (" in said


# ---------------------------------------------------------------- a home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("home") / "h"
    initialise(place)
    (place / config.FILE).write_text('[dimse]\ntitles = ["NORTH=north"]\n')
    for number, trace in enumerate((OK, STRANGER, NORTH)):
        traces.Ring(place, f"worker {number % 2}").append(trace)
    yield place


def run(home: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["associations", "--home", str(home), *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_command_lists_and_explains(home: Path) -> None:
    listed = json.loads(run(home, "--json"))
    assert [each["calling"] for each in listed] == ["CT 9", "CT1"], "the newest first, those of the tenant"
    assert [each["problem"] for each in listed] == [True, False]
    assert [each["calling"] for each in json.loads(run(home, "--json", "--problems"))] == ["CT 9"]
    assert len(json.loads(run(home, "--json", "--limit", "1"))) == 1
    shown = run(home, "show", listed[0]["id"])
    assert "rejection    rejected-permanent, service-user: calling-AE-title-not-recognized" in shown
    assert "radiolith peer add ct-9 --aet 'CT 9' --address 10.0.0.9 --port PORT" in shown
    assert "+ CT Image Storage in Explicit VR Little Endian" in run(home, "show", listed[1]["id"])
    assert "show ID" in run(home)


def test_an_unknown_id_is_said_to_be_unknown(home: Path) -> None:
    with open_home(home) as opened, pytest.raises(NotFound):
        opened.run(opened.graph.associations.one(opened.principal, "1"))


class _One:
    def __init__(self, principal: Principal):
        self._principal = principal

    async def from_bearer(self, token: str, address: str = "") -> Principal:
        return self._principal

    async def from_session(self, cookie: str) -> Principal:
        return self._principal


def client(opened: Home, role: str) -> TestClient:
    identities: Any = _One(Principal(opened.principal.tenant, role, role, "token"))
    graph = opened.graph
    given: dict[str, Any] = {
        "archive": graph.archive, "identities": identities, "settings": opened.settings, "condition": graph.condition,
        "associations": graph.associations,
    }  # fmt: skip
    everything: dict[str, Any] = {each.name: given.get(each.name) for each in fields(Inside)}
    inside = Inside(**everything)
    return TestClient(Starlette(routes=routes(inside)), base_url="http://archive.example")


@pytest.mark.parametrize(("role", "status"), [("auditor", 200), ("archivist", 200), ("editor", 403), ("reader", 403)])
def test_who_may_look_over_the_api(home: Path, role: str, status: int) -> None:
    with open_home(home) as opened:
        answer = client(opened, role).get("/api/v1/associations", headers={"authorization": "Bearer x"})
    assert answer.status_code == status


def test_the_api_answers_what_the_command_does(home: Path) -> None:
    with open_home(home) as opened:
        caller = client(opened, "auditor")
        headers = {"authorization": "Bearer x"}
        answer = caller.get("/api/v1/associations?problems=true", headers=headers).json()
        assert [each["calling"] for each in answer] == ["CT 9"] and answer[0]["hints"]
        one = caller.get(f"/api/v1/associations/{answer[0]['id']}", headers=headers).json()
        assert one == answer[0] and one["at"].startswith("2023-11-14")
        assert caller.get("/api/v1/associations/zz", headers=headers).status_code == 404


def test_looking_is_on_record(home: Path) -> None:
    with open_home(home) as opened:
        opened.run(opened.graph.associations.latest(opened.principal))
        with opened.graph.database.read() as read:
            rows = read.all("SELECT purpose FROM audit WHERE purpose = ?", ("associations",))
        assert rows
