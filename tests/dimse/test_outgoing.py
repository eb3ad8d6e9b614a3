"""What an association that we opened leaves: its trace and its part of the metrics, against our own server and bad peers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radiolith import metrics
from radiolith.dimse import asking, scu
from radiolith.dimse.association import Wanted
from radiolith.dimse.calls import AssociationRejected, NoAnswer, NothingAccepted, Record, Target, Unreachable
from radiolith.dimse.delivery import send
from radiolith.dimse.pdu import AssociateReject
from radiolith.dimse.scu import connect
from radiolith.dimse.sopclasses import STUDY_ROOT
from tests.archive.homes import opened
from tests.archive.objects import CT, EXPLICIT
from tests.dimse.peers import serving
from tests.dimse.test_delivery import everything, filled, made, ours
from tests.dimse.test_scu import accepted, keys, played, requested
from tests.ports import free_port


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    metrics.share(1)
    yield
    metrics.share(1)


class Kept:
    """Takes the traces of what is done on behalf of tenant 7."""

    def __init__(self) -> None:
        self.traces: list[dict[str, Any]] = []
        self._now = 1_700_000_000_000_000

    def _clock(self) -> int:
        self._now += 1
        return self._now

    def to(self, target: Target) -> Target:
        record = Record(lambda trace: self.traces.append(dict(trace)), self._clock, 7)
        return dataclasses.replace(target, record=record)

    @property
    def one(self) -> dict[str, Any]:
        (trace,) = self.traces
        return trace


def operations(trace: dict[str, Any]) -> dict[str, int]:
    return {f"{each['operation']} {each['status']}": each["count"] for each in trace["operations"]}


async def echo(target: Target) -> None:
    async with connect(target, asking.for_echo(), "ME") as association:
        await asking.echo(association)


async def test_what_is_sent_is_on_record_without_a_word_about_patients(tmp_path: Path) -> None:
    kept = Kept()
    async with (
        filled(tmp_path / "one", *(made(number).part10() for number in range(1, 6))) as graph,
        opened(tmp_path / "two") as other,
        serving(other) as target,
    ):
        helds = await everything(graph)
        assert [r.status async for r in send(kept.to(target), "ME", ours(graph), helds)] == [0] * 5
    trace = kept.one
    assert (trace["direction"], trace["tenant"], trace["calling"], trace["called"]) == (
        "outgoing",
        7,
        "ME",
        "RADIOLITH",
    )
    assert trace["address"] == f"127.0.0.1:{target.port}" and trace["principal"] == "ourselves"
    assert (trace["outcome"], trace["end"]) == ("accepted", "released")
    assert trace["at"] < trace["ended_at"] and trace["received_bytes"] > 0 and trace["implementation"]
    assert {each["service"] for each in trace["contexts"]} == {"CT Image Storage"}
    assert operations(trace) == {"C-STORE 0000": 5}
    words = json.dumps(trace)
    assert not any(each.identity.sop in words or each.identity.study in words for each in helds)
    assert metrics.dimse_associations.total("outgoing,accepted") == 1
    assert metrics.dimse_operations.total("outgoing,C-STORE,success") == 5
    assert metrics.dimse_seconds.count("outgoing,C-STORE") == 5
    assert metrics.dimse_open.total("outgoing") == 0
    assert metrics.dimse_operations.total("incoming,C-STORE,success") == 5  # the other side, in this process


async def test_what_the_peer_asks_on_our_association_counts_too(tmp_path: Path) -> None:
    kept = Kept()
    async with (
        filled(tmp_path / "one", *(made(number).part10() for number in range(1, 4))) as graph,
        opened(tmp_path / "two") as other,
        serving(graph) as target,
        connect(kept.to(target), asking.for_get(STUDY_ROOT.get, [(CT, "")]), "ME", ours(other)) as association,
    ):
        assert metrics.dimse_open.total("outgoing") == 1
        asked = keys(StudyInstanceUID=made(1).study)
        told = [each async for each in asking.get(association, STUDY_ROOT.get, asked)]
        await association.exchange.quiet()
        assert told[-1].completed == 3
    assert operations(kept.one) == {"C-GET 0000": 1, "C-STORE 0000": 3}
    assert metrics.dimse_operations.total("outgoing,C-GET,success") == 1


async def test_no_connection_is_on_record() -> None:
    kept = Kept()
    with pytest.raises(Unreachable):
        await echo(kept.to(Target("X", "127.0.0.1", free_port(), name="x")))
    assert kept.one["outcome"] == "no connection" and "nothing listens there" in kept.one["end"]
    assert metrics.dimse_associations.total("outgoing,no-connection") == 1
    assert metrics.dimse_open.total("outgoing") == 0


async def test_a_rejection_and_refused_contexts_are_on_record() -> None:
    async def rejects(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        layer, _ = await requested(reader)
        writer.write(layer.send_reject(AssociateReject(1, 1, 3)))
        await reader.read()

    async def accepts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted(reader, writer)
        await reader.read()

    kept = Kept()
    async with played(rejects) as target:
        with pytest.raises(AssociationRejected):
            await echo(kept.to(target))
    assert kept.one["rejection"] == "rejected-permanent, service-user: calling-AE-title-not-recognized"
    assert kept.one["outcome"].startswith("rejected: ")
    assert metrics.dimse_associations.total("outgoing,calling-AE-title-not-recognized") == 1
    kept = Kept()
    async with played(accepts) as target:
        with pytest.raises(NothingAccepted):
            async with connect(kept.to(target), [Wanted("1.2.840.10008.5.1.4.31", (EXPLICIT,))], "ME"):
                pytest.fail("nothing was accepted")
    assert kept.one["outcome"] == "accepted, 1 of 1 contexts refused"
    assert kept.one["contexts"][0]["result"].startswith("abstract-syntax-not-supported")
    assert kept.one["end"] == "ended here: the peer accepted nothing that was proposed"


async def test_silence_and_aborts_are_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def aborts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        layer = await accepted(reader, writer)
        await reader.read(65536)
        writer.write(layer.send_abort())
        await reader.read()

    kept = Kept()
    async with played(aborts) as target:
        with pytest.raises(scu.Lost):
            await echo(kept.to(target))
    assert kept.one["end"] == "aborted by the peer (A-ABORT, service-user, reason 0)"
    assert operations(kept.one) == {"C-ECHO no answer": 1}
    assert metrics.dimse_operations.total("outgoing,C-ECHO,unanswered") == 1
    monkeypatch.setattr(scu, "ASSOCIATE_SECONDS", 0.05)
    kept = Kept()
    async with played(silent) as target:
        with pytest.raises(NoAnswer):
            await echo(kept.to(target))
    assert kept.one["outcome"] == "no answer to the request for an association"
    assert kept.one["end"] == "ended here: the peer did not answer in time"
    assert metrics.dimse_associations.total("outgoing,no-answer") == 1


async def test_a_store_that_is_never_answered_is_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radiolith.dimse.sending.ANSWER_SECONDS", 0.05)

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted(reader, writer)
        await reader.read()

    kept = Kept()
    async with filled(tmp_path / "home", made(1).part10()) as graph, played(deaf) as target:
        helds = await everything(graph)
        results = [r.status async for r in send(kept.to(target), "ME", ours(graph), helds)]
    assert results == [0x0110]
    assert operations(kept.one) == {"C-STORE no answer": 1}
    assert kept.one["end"] == "ended here: the peer did not answer in time"


async def test_who_stops_in_the_middle_is_on_record(tmp_path: Path) -> None:
    kept = Kept()
    async with (
        filled(tmp_path / "one", *(made(number).part10() for number in range(1, 9))) as graph,
        opened(tmp_path / "two") as other,
        serving(other) as target,
    ):
        results = send(kept.to(target), "ME", ours(graph), await everything(graph))
        assert (await anext(results)).status == 0
        await results.aclose()
    assert kept.one["end"] == "ended here: nobody waits for the rest any more"
