"""Unknown devices and peers from the command line and through /api/v1."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from radiolith import traces
from radiolith.model import Source
from radiolith.trust.devices import Devices, Knock
from tests.archive.homes import opened
from tests.archive.objects import EXPLICIT, Made
from tests.cli.test_home import Typed, typed  # noqa: F401
from tests.cli.test_traffic import site

SOP = "1.2.3.1.1"


async def called(home: Path) -> None:
    """An unknown device has sent one object."""
    async with opened(home) as graph:
        devices = Devices(graph.database, {"RADIOLITH": "default"}, False)
        stranger = (await devices.admit(Knock("CT1", "RADIOLITH", "10.0.0.5"))).principal
        intake = graph.archive.ingest.begin(stranger, Source("dimse", "CT1", "10.0.0.5"), transfer_syntax=EXPLICIT)
        await intake.write(Made("1.2.3", "1.2.3.1", SOP).dataset())
        await (await intake.finish())


def test_a_device_that_called_is_listed_and_accepted(typed: Typed) -> None:  # noqa: F811
    asyncio.run(called(typed.home))
    (one,) = typed.json("peer", "knocks")
    assert (one["calling"], one["address"], one["admitted"], one["objects"]) == ("CT1", "10.0.0.5", True, 1)
    assert "1 objects set aside are kept now" in typed.done("peer", "accept", "CT1", "--name", "ct", "--port", "11112")
    assert typed.json("peer", "knocks") == [] and typed.json("quarantine", "list") == []
    (peer,) = typed.json("peer", "list")
    assert (peer["name"], peer["aet"], peer["address"], peer["port"]) == ("ct", "CT1", "10.0.0.5", 11112)
    assert typed.json("peer", "reports") == []


def traced(home: Path, **shown: object) -> None:
    """The trace of its call."""
    trace = {"at": 1, "address": "::ffff:10.0.0.5", "calling": "CT1", "called": "RADIOLITH", **shown}
    traces.Ring(home, "worker 0").append(trace)


def test_a_device_that_called_over_tls_is_known_by_its_certificate(typed: Typed) -> None:  # noqa: F811
    asyncio.run(called(typed.home))
    traced(typed.home, tls=True, names=["10.0.0.5", "*.example", "ct1", "ct1.example"])
    traced(typed.home, tls=False, names=[], at=2, direction="outgoing")  # of ours to it: says nothing of what it does
    said = typed.done("peer", "accept", "CT1")
    assert "CT1 is CT1 at 10.0.0.5:2762 with TLS, known by the name ct1.example in its certificate." in said
    (peer,) = typed.json("peer", "list")
    assert (peer["tls"], peer["certificate"], peer["port"]) == (True, "ct1.example", 2762)


@pytest.mark.parametrize(
    ("words", "peer"),
    [
        (("--tls",), (True, None, 2762)),
        (("--tls", "--certificate", "ct1.example", "--port", "104"), (True, "ct1.example", 104)),
        (("--certificate", "ct1.example"), (True, "ct1.example", 2762)),
        ((), (False, None, 104)),
    ],
)
def test_what_is_said_of_an_accepted_device_counts(
    typed: Typed,  # noqa: F811
    words: tuple[str, ...],
    peer: tuple[object, ...],
) -> None:
    asyncio.run(called(typed.home))
    typed.done("peer", "accept", "CT1", *words)
    (found,) = typed.json("peer", "list")
    assert (found["tls"], found.get("certificate"), found["port"]) == peer


def test_what_is_said_counts_more_than_what_was_shown(tmp_path: Path) -> None:
    asyncio.run(called(tmp_path / "home"))
    traced(tmp_path / "home", tls=True, names=["ct1.example"])

    async def work() -> None:
        async with opened(tmp_path / "home") as graph:
            await asyncio.to_thread(calls, graph)

    def calls(graph: object) -> None:
        with site(graph) as client:  # type: ignore[arg-type]
            wrong = client.post(
                "/api/v1/knocks/accept", json={"aet": "CT1", "tls": False, "certificate": "ct1.example"}
            )
            assert wrong.status_code == 400 and "over TLS alone" in wrong.text
            done = client.post("/api/v1/knocks/accept", json={"aet": "CT1", "certificate": ""}).json()
            assert (done["tls"], done["certificate"], done["port"], done["received"]) == (True, "", 2762, 1)
            (peer,) = client.get("/api/v1/peers").json()
            assert (peer["tls"], peer["settings"]) == (True, {})

    asyncio.run(work())


def test_the_api_adds_and_removes(tmp_path: Path) -> None:
    """The same can be said as by `peer add`, and is written as that writes it."""
    wished = {
        "name": "ws", "aet": "WS 1", "address": "10.0.0.0/24", "port": 11112, "tls": True, "certificate": "ws.example",
        "commitment": True, "notify": True, "role": "reader", "services": ["echo", "find"], "syntax": "1.2.840.10008.1.2",
        "charset": "ISO_IR 100", "complete_after": 30,
    }  # fmt: skip
    wrong = [
        {"aet": " WS"}, {"aet": "W\\S"}, {"aet": "A" * 17}, {"aet": ""}, {"address": ""}, {"address": "a b"}, {"port": 0},
        {"syntax": "jpeg"}, {"charset": "\n"}, {"role": "king"}, {"services": ["print"]}, {"name": ""}, {"else": 1},
    ]  # fmt: skip

    async def work() -> None:
        async with opened(tmp_path / "home") as graph:
            await asyncio.to_thread(calls, graph)

    def calls(graph: object) -> None:
        with site(graph) as client:  # type: ignore[arg-type]
            for one in wrong:
                assert 400 <= client.post("/api/v1/peers", json=wished | one).status_code < 500, one
            assert client.get("/api/v1/peers").json() == []
            assert client.post("/api/v1/peers", json=wished).status_code == 204
            assert client.post("/api/v1/peers", json=wished).status_code == 409
            least = {"name": "ct", "aet": "CT", "address": "ct1", "port": 104}
            assert client.post("/api/v1/peers", json=least).status_code == 204
            ct, ws = sorted(client.get("/api/v1/peers").json(), key=lambda peer: peer["name"])
            assert (ct["tls"], ct["settings"]) == (False, {})
            assert (ws["aet"], ws["address"], ws["port"], ws["tls"]) == ("WS 1", "10.0.0.0/24", 11112, True)
            assert ws["settings"] == {
                "certificate": "ws.example", "commitment": True, "notify": True, "role": "reader", "services": "echo,find",
                "syntax": "1.2.840.10008.1.2", "charset": "ISO_IR 100", "quiet": 30,
            }  # fmt: skip
            assert client.delete("/api/v1/peers/ws").status_code == 204
            assert client.delete("/api/v1/peers/ws").status_code == 404
            client.headers["authorization"] = "Bearer archivist"
            assert client.post("/api/v1/peers", json=wished).status_code == 403
            assert client.delete("/api/v1/peers/ct").status_code == 403

    asyncio.run(work())


def test_the_api_lists_and_accepts(tmp_path: Path) -> None:
    asyncio.run(called(tmp_path / "home"))

    async def work() -> None:
        async with opened(tmp_path / "home") as graph:
            await asyncio.to_thread(calls, graph)

    def calls(graph: object) -> None:
        with site(graph) as client:  # type: ignore[arg-type]
            (one,) = client.get("/api/v1/knocks").json()
            assert (one["calling"], one["called"], one["count"], one["objects"]) == ("CT1", "RADIOLITH", 1, 1)
            assert client.post("/api/v1/knocks/accept", json={"aet": "CT9"}).status_code == 404
            done = client.post("/api/v1/knocks/accept", json={"aet": "CT1", "name": "ct"})
            assert done.json() == {
                "name": "ct", "address": "10.0.0.5", "port": 104, "tls": False, "certificate": "", "received": 1, "left": 0,
            }  # fmt: skip
            (peer,) = client.get("/api/v1/peers").json()
            assert (peer["name"], peer["port"], peer["settings"]) == ("ct", 104, {})
            assert client.get("/api/v1/reports").json() == []
            client.headers["authorization"] = "Bearer archivist"
            for path in ("peers", "knocks"):
                assert client.get(f"/api/v1/{path}").status_code == 403

    asyncio.run(work())


def test_a_peer_has_wishes(typed: Typed) -> None:  # noqa: F811
    base = ("peer", "add", "ws", "--aet", "WS", "--address", "10.0.0.0/24", "--port", "104")
    typed.done(*base, "--role", "reader", "--notify", "--syntax", "1.2.840.10008.1.2.1", "--charset", "ISO_IR 192")
    (peer,) = typed.json("peer", "list")
    assert (peer["role"], peer["notify"], peer["charset"]) == ("reader", True, "ISO_IR 192")
