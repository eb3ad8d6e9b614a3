"""Who asked for a C-MOVE or a C-GET goes away in the middle: what is said of it, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from radiolith import app
from radiolith.dimse import asking, services
from radiolith.dimse import server as serving_module
from radiolith.dimse.acceptor import STOPPED
from radiolith.dimse.calls import Target
from radiolith.dimse.moving import Moving
from radiolith.dimse.scu import connect
from radiolith.dimse.server import Node, Server, Terms
from radiolith.dimse.sopclasses import STUDY_ROOT
from radiolith.index.outbox import State, Transfer
from radiolith.storage.blobs import microseconds
from radiolith.trust.devices import Devices
from tests.archive.homes import opened, principal
from tests.archive.objects import CT, EXPLICIT, ROOT, Made
from tests.dimse.peers import OURS
from tests.dimse.real import Sink
from tests.dimse.test_delivery import everything, filled, made, ours, sender
from tests.dimse.test_scu import keys

BEFORE, COUNT = 2, 5
STUDIES = f"{ROOT}.1\\{ROOT}.2"


def other(number: int) -> Made:
    """An image of a second study."""
    return Made(f"{ROOT}.2", f"{ROOT}.2.1", f"{ROOT}.2.1.{number}", number=number, pixels=bytes(512))


EVERYTHING = [made(number) for number in range(1, COUNT + 1)] + [other(1), other(2)]


class Place:
    """Our server with an outbox, and a peer that takes BEFORE images and then nothing until `go`."""

    def __init__(self, graph: app.Graph, sink: Sink, go: threading.Event):
        self.graph, self.sink, self.go = graph, sink, go
        devices = Devices(graph.database, {OURS: "default"}, True)
        offer = services.offer(256 * 1024, True)
        node = Node(graph.archive, (devices, graph.identities), offer, Terms(9, 9, 256 * 1024, 60.0), microseconds)
        node.moving = Moving(graph.traffic.outbox, sender(graph), devices.peer_with)
        self.traces: list[dict[str, Any]] = []
        self.server = Server(node, lambda told: self.traces.append(dict(told)))
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.target = Target(OURS, "127.0.0.1", int(self.listening.getsockname()[1]))

    async def transfers(self) -> list[Transfer]:
        """In the order in which they are sent."""
        return (await self.graph.traffic.outbox.list(principal(self.graph)))[::-1]

    async def ended(self) -> dict[str, Any]:
        """The trace of the association on which was asked."""
        await until(lambda: self.traces)
        return self.traces[0]

    async def deliver(self) -> None:
        """As the jobs process does, once the peer works again: everything arrives, once but for an answer that was lost."""
        self.go.set()
        for transfer in await self.transfers():
            after = await sender(self.graph).run(transfer.id)  # not early: it has to be due
            assert after is not None and after.state is State.DELIVERED
        assert set(self.sink.uids) == {each.sop for each in EVERYTHING} and self.sink.twice <= 1


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(4000):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("waited for in vain")


@asynccontextmanager
async def placed(folder: Path) -> AsyncGenerator[Place]:
    go = threading.Event()

    def react(event: Any, before: int) -> int:
        if before < BEFORE or go.is_set():
            return 0
        go.wait(20)
        return 0xA700  # whoever waits for this is gone

    with Sink([CT], [EXPLICIT], react) as sink:
        async with filled(folder / "home", *(each.part10() for each in EVERYTHING)) as graph:
            about = {"aet": "SINK", "address": "127.0.0.1", "port": sink.port, "tls": False}
            await graph.accounts.add_peer(principal(graph), "sink", about)
            place = Place(graph, sink, go)
            await place.server.start(place.listening)
            try:
                yield place
            finally:
                go.set()
                await place.server.stop()


async def moved(place: Place, ending: Callable[[Any, Any, int], Any]) -> None:
    """Ask for both studies, and end as `ending` does when the peer has stopped taking images."""
    async with connect(place.target, asking.for_query(STUDY_ROOT.move), "WS") as association:
        told = asking.move(association, STUDY_ROOT.move, keys(StudyInstanceUID=STUDIES), "SINK")
        async with aclosing(told) as progress:
            async for each in progress:
                if each.completed == BEFORE - 1:  # the next one is told when the one behind it is on its way
                    break
            await until(lambda: len(place.sink.got) == BEFORE)
            context = association.context(STUDY_ROOT.move)
            await ending(association, context, association.sender._last_id)


async def test_a_mover_that_goes_away_is_named_and_the_rest_is_sent_once(tmp_path: Path) -> None:
    async def aborts(association: Any, context: Any, message_id: int) -> None:
        association.abort()

    async with placed(tmp_path) as place:
        await moved(place, aborts)
        trace = await place.ended()
        assert trace["end"] == "aborted by the peer"
        assert trace["operations"] == [{"operation": "C-MOVE", "status": "no answer", "count": 1}]
        first, second = await place.transfers()
        said = "interrupted: WS, who asked for it, went away (aborted by the peer); the rest is sent all the same"
        assert (first.state, first.said) == (State.WAITING, said)
        assert first.delivered >= BEFORE - 1
        assert (second.state, second.said, second.delivered) == (State.WAITING, said, 0)
        await place.deliver()


async def test_a_server_that_stops_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_module, "STOP_SECONDS", 0.05)

    async with placed(tmp_path) as place:

        async def stops(association: Any, context: Any, message_id: int) -> None:
            await place.server.stop()

        await moved(place, stops)
        assert (await place.ended())["end"] == STOPPED
        assert {transfer.said for transfer in await place.transfers()} == {
            "interrupted: the server was stopped; the rest is sent all the same"
        }
        await place.deliver()


async def test_who_cancels_and_goes_has_cancelled(tmp_path: Path) -> None:
    """Both in one moment, as many workstations do."""

    async def cancels(association: Any, context: Any, message_id: int) -> None:
        association.cancel(context, message_id)
        association.abort()

    async with placed(tmp_path) as place:
        await moved(place, cancels)
        await place.ended()
        for transfer in await place.transfers():
            assert (transfer.state, transfer.said) == (State.CANCELLED, "cancelled by WS (C-CANCEL)")


async def test_who_cancels_before_anything_was_found_is_not_told_of_success(tmp_path: Path) -> None:
    async def asks(place: Place) -> int:
        async with connect(place.target, asking.for_query(STUDY_ROOT.move), "WS") as association:
            told = asking.move(association, STUDY_ROOT.move, keys(StudyInstanceUID=STUDIES), "SINK")
            context = association.context(STUDY_ROOT.move)
            asyncio.get_running_loop().call_soon(lambda: association.cancel(context, 1))
            return [each.status async for each in told][-1]

    async with placed(tmp_path) as place:
        assert await asks(place) == 0xFE00
        assert not place.sink.got and await place.transfers() == []


async def test_who_asked_for_a_c_get_goes_away(tmp_path: Path) -> None:
    async with placed(tmp_path) as place, opened(tmp_path / "other") as mine:
        async with connect(place.target, asking.for_get(STUDY_ROOT.get, [(CT, "")]), "WS", ours(mine)) as association:
            told = asking.get(association, STUDY_ROOT.get, keys(StudyInstanceUID=STUDIES))
            async with aclosing(told) as progress:
                async for each in progress:
                    if each.completed == BEFORE:
                        break
                association.abort()
        trace = await place.ended()
        assert trace["end"] == "aborted by the peer"
        assert {"operation": "C-GET", "status": "no answer", "count": 1} in trace["operations"]
        assert BEFORE <= len(await everything(mine)) < len(EVERYTHING)
        assert await place.transfers() == []
