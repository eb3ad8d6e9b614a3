"""Outbox, routing rules and devices over a real home, as a person types them and as a script calls them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from radiolith import app
from radiolith.archive.outbox import Outbox
from radiolith.cli import main
from radiolith.index import outbox, peer_reports, sending
from radiolith.index.database import Database
from radiolith.index.outbox import State, Why, Wish
from radiolith.index.peer_reports import Addressee, Kind
from radiolith.jobs.arrivals import QUIET, ArrivalWatch
from radiolith.jobs.devices import DeviceWatch
from radiolith.model import Identity, NotAllowed, NotAuthenticated, NotFound, Principal, Source
from radiolith.policies.router import Router
from radiolith.storage.blobs import microseconds
from radiolith.web.ports import Inside
from radiolith.web.routes import routes
from tests.archive.homes import opened, principal, store
from tests.archive.objects import Made
from tests.cli.test_home import RUN, Typed

CT = Source("dimse", "CT1", "10.0.0.1")
PEER = ("--aet", "WS1", "--address", "127.0.0.1", "--port", "11112")


def follow(database: Database) -> None:
    """What the jobs process does, with everything that has come complete."""
    watch = ArrivalWatch(database, microseconds)
    watch.round()
    later = microseconds() + QUIET + 1
    ArrivalWatch(database, lambda: later).round()
    DeviceWatch(database, lambda: later, lambda held: "").round()
    Router(database, lambda: later).round()


async def arrive(home: Path, study: str, numbers: list[int], modality: str = "CT") -> None:
    async with opened(home) as graph:
        for number in numbers:
            made = Made(
                study, f"{study}.1", f"{study}.1.{number}", number=number, modality=modality, pixels=b"\1\2" * 256
            )
            await store(graph, made.part10(), source=CT)
        await asyncio.to_thread(follow, graph.database)


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    monkeypatch.delenv("RADIOLITH_HOME", raising=False)
    typed = Typed(tmp_path / "home")
    typed.done("init")
    typed.done("peer", "add", "ws", *PEER, "--commitment", "--complete-after", "30")
    return typed


def test_rules_from_dry_run_to_delivery(typed: Typed) -> None:
    asyncio.run(arrive(typed.home, "1.2.1", [1, 2]))
    asyncio.run(arrive(typed.home, "1.2.2", [1, 2, 3], "MR"))
    assert typed.json("peer", "list")[0]["quiet"] == 30
    rule = ("route", "add", "ct", "--to", "ws", "--match", "Modality=CT", "--match", "Modality=US", "--from", "CT*")
    assert "2 instances of 1 completions" in typed.done(*rule, "--dry-run")
    assert typed.json("route", "list") == []
    typed.done(*rule, "--hours", "00:00-24:00", "--priority", "high")
    (found,) = typed.json("route", "list")
    assert found["keys"] == {"Modality": ["CT", "US"]} and found["peer"] == "ws"
    assert "Modality=CT|US, from CT*, 00:00-24:00" in typed.done("route", "list")
    assert typed.json("route", "try", "ct")[0]["study"] == "1.2.1"
    assert typed.json("outbox", "list") == {"destinations": [], "transfers": []}
    asyncio.run(arrive(typed.home, "1.2.3", [1, 2, 4]))
    said = typed.json("outbox", "list")
    (transfer,) = said["transfers"]
    assert (transfer["study"], transfer["instances"], transfer["ordered_by"]) == ("1.2.3", 3, "rule ct")
    assert said["destinations"][0]["instances"] == 3
    number = str(transfer["id"])
    assert len(typed.json("outbox", "show", number)["missing"]) == 3
    assert "1.2.3.1.4" in typed.done("outbox", "show", number)
    assert "0 of 3 instances" in typed.done("outbox", "cancel", number)
    assert "3 instances go to ws again" in typed.done("outbox", "again", number)
    assert typed.json("outbox", "list", "--state", "failed")["transfers"] == []
    assert typed.run("outbox", "list", "--state", "lost").exit_code == 2
    with pytest.raises(NotFound):
        typed.done("outbox", "show", "99")
    typed.done("route", "remove", "ct")
    assert typed.json("route", "list") == []
    assert "CT1: series 1.2.3.1: instance number 3 is missing between 1 and 4" in typed.done("devices")
    known = typed.json("devices")
    assert known["devices"][0]["name"] == "CT1" and known["devices"][0]["addresses"] == ["10.0.0.1"]
    assert [one["kind"] for one in known["notices"]] == ["gap"]


def test_a_wrong_rule_makes_nothing(typed: Typed) -> None:
    for words in (
        ("--to", "nobody"), ("--to", "ws", "--match", "Colour=red"), ("--to", "ws", "--hours", "night"),
        ("--to", "ws", "--match", "StudyDate=tomorrow"),
    ):  # fmt: skip
        result = RUN.invoke(main.app, ["route", "--home", str(typed.home), "add", "x", *words])
        assert result.exit_code != 0
    assert typed.run("route", "add", "x", "--to", "ws", "--match", "Modality").exit_code == 2
    assert typed.json("route", "list") == []


# ---------------------------------------------------------------- over HTTP and to the end


class People:
    """Bearer tokens that are roles."""

    def __init__(self, graph: app.Graph):
        self.graph = graph

    async def from_bearer(self, token: str, address: str = "") -> Principal:
        if token not in ("admin", "archivist", "editor", "reader", "writer", "auditor"):
            raise NotAuthenticated("no such token")
        return principal(self.graph, token)


@contextmanager
def site(graph: app.Graph) -> Iterator[TestClient]:
    people: Any = People(graph)
    inside = Inside(
        graph.archive, people, graph.settings, graph.condition, graph.associations, graph.traffic, graph.peers,
        graph.decisions,
    )  # fmt: skip
    with TestClient(Starlette(routes=routes(inside))) as client:
        client.headers["authorization"] = "Bearer admin"
        yield client


async def test_the_api_orders_shows_and_cancels(tmp_path: Path) -> None:
    await arrive_in_new_home(tmp_path / "home")
    async with opened(tmp_path / "home") as graph:
        await asyncio.to_thread(calls, graph)


async def arrive_in_new_home(home: Path) -> None:
    async with opened(home) as graph:
        body = {"aet": "WS1", "address": "127.0.0.1", "port": 11112}
        await graph.accounts.add_peer(principal(graph), "ws", body)
    await arrive(home, "1.2.1", [1, 2, 5])


def calls(graph: app.Graph) -> None:
    with site(graph) as client:
        order = {"peer": "ws", "places": [{"study": "1.2.1"}], "priority": "low"}
        made = client.post("/api/v1/outbox", json=order)
        assert made.status_code == 201, made.text
        (transfer,) = made.json()
        assert (transfer["state"], transfer["total"], transfer["why"]) == ("waiting", 3, "person")
        url = f"/api/v1/outbox/{transfer['id']}"
        assert client.get(url).json() == transfer
        assert client.get("/api/v1/outbox", params={"state": "waiting", "peer": "ws"}).json() == [transfer]
        assert client.get("/api/v1/outbox", params={"before": transfer["id"]}).json() == []
        items = client.get(f"{url}/instances", params={"state": "waiting", "limit": 2}).json()
        assert [item["instance"] for item in items] == ["1.2.1.1.1", "1.2.1.1.2"]
        (lag,) = client.get("/api/v1/outbox/destinations").json()
        assert (lag["peer"], lag["instances"], lag["failed"]) == ("ws", 3, 0)
        assert client.post(f"{url}/cancel").json()["state"] == "cancelled"
        assert client.post(f"{url}/cancel").status_code == 409
        assert client.post(f"{url}/again").json()["state"] == "waiting"
        assert client.get("/api/v1/outbox/99").status_code == 404
        for wrong in ({**order, "peer": "x"}, {**order, "places": [{"study": "9.9"}]}):
            assert client.post("/api/v1/outbox", json=wrong).status_code == 404
        assert client.post("/api/v1/outbox", json={**order, "places": []}).status_code == 422
        rule = {"name": "all", "peer": "ws", "keys": {"Modality": "CT"}, "sources": ["CT?"]}
        assert client.post("/api/v1/routes/try", json=rule).json()[0]["instances"] == 3
        assert client.post("/api/v1/routes", json=rule).status_code == 204
        assert client.post("/api/v1/routes", json=rule).status_code == 409
        assert client.post("/api/v1/routes", json={**rule, "name": "b", "hours": "x"}).status_code == 400
        (shown,) = client.get("/api/v1/routes").json()
        assert (shown["name"], shown["keys"], shown["zone"]) == ("all", {"Modality": "CT"}, "UTC")
        assert client.delete("/api/v1/routes/all").status_code == 204
        assert client.delete("/api/v1/routes/all").status_code == 404
        assert [one["name"] for one in client.get("/api/v1/devices").json()] == ["CT1"]
        assert "3 to 4 are missing" in client.get("/api/v1/devices/notices").json()[0]["said"]
        paths = client.get("/api/v1/openapi.json").json()["paths"]
        assert {"/outbox", "/outbox/{id}/again", "/routes/try", "/devices/notices"} <= paths.keys()
        refused(client, url, order, rule)


def refused(client: TestClient, url: str, order: dict[str, Any], rule: dict[str, Any]) -> None:
    """Who may not. 403 for every role and call that has no right to it."""
    for role, may in (
        ("archivist", {"outbox", "lag", "devices"}),
        ("editor", {"lag", "devices"}),
        ("reader", {"lag", "devices"}),
        ("writer", {"lag"}),
        ("auditor", {"lag"}),
    ):
        client.headers["authorization"] = f"Bearer {role}"
        for name, answer in (
            ("outbox", client.get("/api/v1/outbox")),
            ("lag", client.get("/api/v1/outbox/destinations")),
            ("outbox", client.get(url)),
            ("outbox", client.get(f"{url}/instances")),
            ("outbox", client.post("/api/v1/outbox", json=order)),
            ("outbox", client.post(f"{url}/cancel")),
            ("outbox", client.post(f"{url}/again")),
            ("outbox", client.get("/api/v1/reports")),
            ("outbox", client.post("/api/v1/reports/9/again")),
            ("outbox", client.post("/api/v1/reports/9/drop")),
            ("routes", client.get("/api/v1/routes")),
            ("routes", client.post("/api/v1/routes", json={**rule, "name": role})),
            ("routes", client.post("/api/v1/routes/try", json=rule)),
            ("routes", client.delete("/api/v1/routes/all")),
            ("devices", client.get("/api/v1/devices")),
            ("devices", client.get("/api/v1/devices/notices")),
        ):
            assert (answer.status_code == 403) == (name not in may), (role, answer.url)
    client.headers["authorization"] = "Bearer nobody"
    assert client.get("/api/v1/outbox").status_code == 401


async def test_a_move_is_a_retrieval_and_ends_with_a_cancel_and_a_commitment_is_the_peers_word(tmp_path: Path) -> None:
    await arrive_in_new_home(tmp_path / "home")
    async with opened(tmp_path / "home") as graph:
        outbox: Outbox = graph.traffic.outbox
        reader, writer = principal(graph, "reader"), principal(graph, "writer")
        wanted = [Identity("1.2.1", "1.2.1.1", "1.2.1.1.1"), Identity("1.2.1", "1.2.1.1", "1.2.1.1.5")]
        (moved,) = await outbox.order(reader, "ws", wanted, ordered_by="STATION", message_id=7)
        assert (moved.why.name, moved.ordered_by, moved.message_id, moved.total) == ("MOVE", "STATION", 7, 2)
        assert moved.next_at > microseconds()
        with pytest.raises(NotAllowed):
            await outbox.order(reader, "ws", wanted)
        with pytest.raises(NotAllowed):
            await outbox.order(writer, "ws", wanted, ordered_by="CT1", message_id=1)
        await outbox.stop(reader, [moved.id, 99])
        cancelled = await outbox.get(principal(graph), moved.id)
        assert cancelled.state is State.CANCELLED and "C-CANCEL" in cancelled.said
        with pytest.raises(NotFound):
            await outbox.committed(writer, "1.2.3", [], {})


# ---------------------------------------------------------------- what somebody has to look at


def give_up(graph: app.Graph, study: str = "1.2.1") -> tuple[int, int]:
    """A transfer to the peer that failed and one to somebody who is no peer any more; their numbers."""
    numbers: list[int] = []
    with graph.database.write() as tx:
        ids = outbox.selected(tx, graph.accounts.system("x").tenant.id, [Identity(study, "", "")])[study]
        for peer, state in (("ws", State.FAILED), ("gone", State.HELD)):
            wish = Wish(1, peer, study, Why.PERSON, "anna", "anna", microseconds() - 90_000_000)
            (number,) = outbox.put(tx, wish, ids)
            claimed = sending.claim(tx, number, "me", microseconds(), microseconds() + 1)
            assert claimed and sending.leave(tx, claimed, state, 0, "the line is down", microseconds())
            numbers.append(number)
    return numbers[0], numbers[1]


def give_up_a_report(graph: app.Graph) -> int:
    now = microseconds()
    with graph.database.write() as tx:
        peer_reports.put(tx, 1, (Kind.COMMITMENT, "1.2.3.4"), Addressee("CT1", "ct"), (now, now))
        peer_reports.put(tx, 1, (Kind.AVAILABILITY, "7"), Addressee("RIS"), (now, now))
        found = peer_reports.find(tx, 1, (Kind.COMMITMENT, "1.2.3.4"), "CT1")
        assert found
        taken = peer_reports.claim(tx, found, now + 9)
        assert taken and peer_reports.leave(tx, taken, peer_reports.State.GIVEN_UP, "nobody there", now)
        return found.id


def gauges(text: str) -> dict[str, float]:
    lines = (
        line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(("radiolith_outbox", "radiolith_reports"))
    )
    return {name: float(value) for name, value in lines}


async def test_what_was_given_up_is_said_with_what_to_do_and_measured(tmp_path: Path) -> None:
    await arrive_in_new_home(tmp_path / "home")
    async with opened(tmp_path / "home") as graph:
        await asyncio.to_thread(watched, graph)


def watched(graph: app.Graph) -> None:
    def reasons() -> list[str]:
        return [reason["text"] for reason in graph.condition.look()["reasons"] if reason["level"] == "amber"]

    assert not any("radiolith outbox" in text or "peer reports" in text for text in reasons())
    failed, held = give_up(graph)
    report = give_up_a_report(graph)
    said = "\n".join(reasons())
    assert "1 transfer to 'ws' given up" in said and "radiolith outbox again ID" in said
    assert "1 transfer to 'gone', no peer of this archive" in said and "radiolith peer add" in said
    assert "1 report to peers given up" in said and "radiolith peer again ID" in said
    with site(graph) as client:
        client.post("/api/v1/outbox", json={"peer": "ws", "places": [{"study": "1.2.1"}]})
        graph.condition._known = None
        found = gauges(client.get("/metrics").text)
        oldest = found.pop('radiolith_outbox_oldest_seconds{peer="ws"}')
        assert 0 <= oldest < 60
        assert found == {
            'radiolith_outbox_transfers{peer="ws"}': 1, 'radiolith_outbox_transfers{peer=""}': 0,
            'radiolith_outbox_instances{peer="ws"}': 3, 'radiolith_outbox_instances{peer=""}': 0,
            'radiolith_outbox_oldest_seconds{peer=""}': 0,
            'radiolith_outbox_failed{peer="ws"}': 1, 'radiolith_outbox_failed{peer=""}': 1,
            "radiolith_reports_waiting": 1, "radiolith_reports_given_up": 1,
        }  # fmt: skip
        status = client.get("/api/v1/status").json()
        assert status["outbox"]["ws"]["failed"] == 1 and status["reports"] == {"waiting": 1, "given_up": 1}
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "level": "amber"})
        assert client.get(f"/api/v1/reports/{report + 99}").status_code in (404, 405)
        assert client.post(f"/api/v1/reports/{report + 99}/again").status_code == 404
        again = client.post(f"/api/v1/reports/{report}/again")
        assert (again.json()["state"], again.json()["attempts"]) == ("waiting", 1)
        assert client.post(f"/api/v1/reports/{report}/drop").status_code == 204
        assert client.post(f"/api/v1/reports/{report}/drop").status_code == 404
        for number in (failed, held):
            assert client.post(f"/api/v1/outbox/{number}/cancel").json()["state"] == "cancelled"
    assert not any("radiolith outbox" in text or "peer reports" in text for text in reasons())


def test_all_that_failed_is_sent_again_by_one_command(typed: Typed) -> None:
    asyncio.run(arrive(typed.home, "1.2.1", [1, 2]))

    async def fail() -> None:
        async with opened(typed.home) as graph:
            await asyncio.to_thread(give_up, graph)
            await asyncio.to_thread(give_up, graph)
            await asyncio.to_thread(give_up_a_report, graph)

    asyncio.run(fail())
    assert "again ID sends it" in typed.done("outbox", "list", "--state", "failed")
    assert typed.run("outbox", "again").exit_code == 2 and typed.run("outbox", "again", "1", "--all").exit_code == 2
    assert "No transfer has failed" in typed.done("outbox", "again", "--all", "--peer", "gone")
    again = typed.json("outbox", "again", "--all", "--peer", "ws")
    assert [one["state"] for one in again] == ["waiting", "waiting"]
    assert typed.json("outbox", "list", "--state", "failed")["transfers"] == []
    (waiting, given_up) = typed.json("peer", "reports")
    assert (waiting["state"], given_up["state"]) == ("waiting", "given up")
    assert "radiolith peer again ID" in typed.done("peer", "reports")
    assert "CT1 is told again" in typed.done("peer", "again", str(given_up["id"]))
    assert "RIS is not told" in typed.done("peer", "drop", str(waiting["id"]))
    assert [one["state"] for one in typed.json("peer", "reports")] == ["waiting"]
    with pytest.raises(NotFound):
        typed.done("peer", "again", "999")
