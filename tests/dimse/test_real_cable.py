"""The cable pulled in the middle of a send and of a receive, between two networks: no packet comes, and no word."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from radiolith.dimse.pdu import AssociateAccept
from radiolith.dimse.wire import GONE_SECONDS
from tests import campaign
from tests.archive.objects import CT, EXPLICIT, RAW, ROOT, Made
from tests.dimse.real import SOON, Cable, Network, Node, Sink, serving, until
from tests.dimse.speaker import Speaker, store

GONE = GONE_SECONDS if campaign.LONG else 3
"""Seconds until a peer that the network lost is noticed: the program's own in the long run."""
SHORT: dict[str, Any] = dict(SOON) | {
    "dimse.wire:_ALIVE": {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 3000},
    "dimse.sending:ANSWER_SECONDS": 30.0,
    "jobs.outbox:BEAT": 1.0,
}
REAL = {name: value for name, value in SHORT.items() if name != "dimse.wire:_ALIVE"}


@contextmanager
def cabled(folder: Path) -> Generator[tuple[Node, Network, Cable]]:
    """An archive in a network of its own, another network, and the cable between them."""
    with Network() as here, Network() as there:
        cable = Cable(here, there)
        with (
            here.inside(),
            serving(folder, REAL if campaign.LONG else SHORT, {"RADIOLITH_DIMSE_HOST": "0.0.0.0"}) as node,
        ):
            yield node, there, cable


def ends(node: Node) -> list[dict[str, Any]]:
    """The associations that have ended, latest first."""
    return json.loads(node.command("associations", "--json"))


@pytest.mark.timeout(400)
def test_the_cable_is_pulled_in_the_middle_of_a_receive_and_of_a_send(tmp_path: Path) -> None:
    """Receiving: the association ends within the deadline, nothing of the half object stays, and the same object comes again.
    Sending: the transfer waits, goes on once the cable is back, and nothing comes twice."""
    with cabled(tmp_path) as (node, there, cable):
        node.peer("sink", 11104, address=Cable.RIGHT)
        node.peer("tester", 11105, address=Cable.RIGHT)
        node.peer("local", 11106)
        receive(node, there, cable)
        send(node, there, cable)


def receive(node: Node, there: Network, cable: Cable) -> None:
    sop = f"{ROOT}.8.1.1"
    said = store(Made(f"{ROOT}.8", f"{ROOT}.8.1", sop, private=bytes(3 << 20)).dataset(), sop)
    with there.inside():
        peer = Speaker(node.dicom, host=Cable.LEFT)
        assert isinstance(peer.associate(), AssociateAccept)
        peer.say(said[: 2 << 20])
    before = len(ends(node))
    time.sleep(0.3)  # it has what was sent
    cable.pull()
    spent = until(lambda: len(ends(node)) > before, "the association to end", GONE + 10)
    cable.plug()
    assert ends(node)[0]["problem"] is not False
    assert spent < GONE + 4, f"{spent:.1f} s"
    assert not node.instances(f"{ROOT}.8")
    with there.inside():
        with Speaker(node.dicom, host=Cable.LEFT) as again:
            assert isinstance(again.associate(), AssociateAccept)
            again.say(said)
            assert again.answer().status == 0
            again.release()
        peer.cut(reset=True)
    assert node.instances(f"{ROOT}.8") == {(f"{ROOT}.8.1", sop)}


def send(node: Node, there: Network, cable: Cable) -> None:
    study = f"{ROOT}.9"
    objects = [Made(study, f"{study}.1", f"{study}.1.{n}", number=n, pixels=bytes(64 << 10)) for n in range(1, 81)]
    assert node.put([each.part10() for each in objects], "LOCAL") == {0: 80}

    def slowly(event: Any, before: int) -> int:
        time.sleep(0.02)
        return 0

    sink = Sink([CT, RAW], [EXPLICIT], slowly)
    sink.port = 11104
    with there.inside():
        sink.start("0.0.0.0")
    try:
        body = json.dumps({"peer": "sink", "places": [{"study": study}]}).encode()
        assert node.ask("POST", "/api/v1/outbox", body, {"Content-Type": "application/json"}).status == 201
        until(lambda: len(sink.got) > 20, "the transfer to be under way")
        cable.pull()
        arrived = len(sink.got)
        spent = until(lambda: node.transfers(peer="sink")[0]["state"] == "waiting", "it to be given up", GONE + 40)
        assert spent < GONE + 8, f"{spent:.1f} s"  # that, and one attempt to connect
        (transfer,) = node.transfers(peer="sink")
        assert 0 < transfer["delivered"] < 80 and transfer["said"]
        cable.plug()
        node.ended("sink", seconds=60)
        assert arrived < 80 and set(sink.uids) == {each.sop for each in objects}
        assert sink.twice <= 1, "only the one whose answer was lost comes again"
    finally:
        sink.stop()
