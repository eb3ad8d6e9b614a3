"""What is held, sent to peers: as it is stored where they take it, made over where they do not, and what breaks on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from radiolith import app
from radiolith.codecs.sandbox import Decoders
from radiolith.dicom.reader import scan
from radiolith.dimse import suboperations
from radiolith.dimse.association import Wanted
from radiolith.dimse.calls import Ours, Target, Unreachable
from radiolith.dimse.committed import Report
from radiolith.dimse.delivery import DimseDelivery, Means, Pair, plan, send
from radiolith.dimse.operation import Operation
from radiolith.dimse.scu import connect
from radiolith.dimse.sending import Lost
from radiolith.dimse.sopclasses import EXPLICIT_LE, IMPLICIT_LE, UNCOMPRESSED
from radiolith.index.outbox import State
from radiolith.jobs import outbox
from radiolith.model import Damaged, Held, Identity, Level, Query
from radiolith.storage.blobs import microseconds
from radiolith.trust.certificates import secured
from tests.archive.homes import opened, principal, store
from tests.archive.objects import CT, EXPLICIT, IMPLICIT, ROOT, Made
from tests.dimse.peers import dcmqrscp, serving, storescp
from tests.ports import free_port

JPEG = "1.2.840.10008.1.2.4.50"


def made(number: int, pixels: int = 512) -> Made:
    return Made(
        f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.{number}", number=number, pixels=bytes(range(256)) * (pixels // 256)
    )


async def everything(graph: app.Graph) -> list[Held]:
    """The current instances of patients, in the order of their numbers."""
    who, page = principal(graph), await graph.archive.query.search(principal(graph), Query(Level.STUDY, limit=500))
    studies = [str(row[0x0020000D][1]) for row in page.rows]
    return [held for study in studies for held in await graph.archive.retrieve.locate(who, study)]


async def dataset(graph: app.Graph, held: Held) -> bytes:
    original = b"".join([bytes(p) async for p in graph.archive.retrieve.original(held).chunks()])
    return original[held.layout.dataset_start : held.layout.dataset_end]


def written(folder: Path) -> dict[str, tuple[str, bytes]]:
    """SOP Instance UID -> transfer syntax and dataset of the Part 10 files of a folder."""
    found: dict[str, tuple[str, bytes]] = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "index.dat" and path.suffix != ".cfg":
            data = path.read_bytes()
            seen = scan(data)
            uid = seen.meta[0x00020003].decode().strip("\0 ")
            found[uid] = (seen.layout.transfer_syntax, data[seen.layout.dataset_start :])
    return found


def ours(graph: app.Graph) -> Ours:
    return Ours(graph.archive, principal(graph))


@asynccontextmanager
async def filled(home: Path, *objects: bytes, decoders: Decoders | None = None) -> AsyncGenerator[app.Graph]:
    async with opened(home, decoders) as graph:
        for data in objects:
            await store(graph, data)
        yield graph


# ---------------------------------------------------------------- what is proposed


def test_every_stored_syntax_has_its_context_and_every_class_an_uncompressed_one() -> None:
    pairs = [(CT, JPEG), ("1.2.3", EXPLICIT_LE), (CT, JPEG), (CT, IMPLICIT_LE)]
    ((wanted, covered),) = plan(pairs)
    assert covered == set(pairs)
    assert [(each.abstract_syntax, each.transfer_syntaxes) for each in wanted] == [
        (CT, (JPEG,)), (CT, UNCOMPRESSED), ("1.2.3", (EXPLICIT_LE,)), ("1.2.3", UNCOMPRESSED), (CT, (IMPLICIT_LE,)),
    ]  # fmt: skip
    ((wanted, _),) = plan([(CT, EXPLICIT_LE)], JPEG)
    assert [each.transfer_syntaxes for each in wanted] == [(EXPLICIT_LE,), (JPEG,), UNCOMPRESSED]


@pytest.mark.parametrize("classes", [1, 63, 64, 65, 128, 200])
def test_more_contexts_than_an_association_has_take_more_associations(classes: int) -> None:
    pairs: list[Pair] = [(f"1.2.{number}", syntax) for number in range(classes) for syntax in (JPEG, EXPLICIT_LE)]
    batches = plan(pairs)
    assert all(len(wanted) <= 128 for wanted, _ in batches)
    assert [pair for _, covered in batches for pair in sorted(covered)] == sorted(
        pairs, key=lambda p: _place(p, batches)
    )
    assert sum(len(covered) for _, covered in batches) == len(pairs)
    for wanted, covered in batches:
        for sop_class, stored in covered:
            offered = [each.transfer_syntaxes for each in wanted if each.abstract_syntax == sop_class]
            assert (stored,) in offered and UNCOMPRESSED in offered


def _place(pair: Pair, batches: Sequence[tuple[Any, set[Pair]]]) -> tuple[int, Pair]:
    return next(number for number, (_, covered) in enumerate(batches) if pair in covered), pair


# ---------------------------------------------------------------- to DCMTK


async def test_a_sample_of_the_corpus_travels_untouched(corpus_files: list[Path], tmp_path: Path) -> None:
    step = max(1, len(corpus_files) // 60)
    async with filled(tmp_path / "home") as graph:
        for path in corpus_files[::step]:
            if path.stat().st_size < 4 << 20:
                await store(graph, path.read_bytes())
        helds = await everything(graph)
        async with storescp(tmp_path / "in", "+xa", "-pm") as target:
            results = [result async for result in send(target, "ME", ours(graph), helds)]
        found = written(tmp_path / "in")
        assert len(results) == len({result.instance.instance_id for result in results}) == len(helds)
        sent = [result.instance for result in results if result.status == 0]
        assert len(sent) > 20 and len(sent) > len(helds) * 0.7, [(r.status, r.reason) for r in results]
        untouched = 0
        for held in sent:
            syntax, body = found[held.identity.sop]
            if syntax == held.layout.transfer_syntax:
                untouched += 1
                assert body == await dataset(graph, held)
        assert untouched > len(sent) * 0.9


async def test_what_the_peer_does_not_take_is_made_over(tmp_path: Path) -> None:
    objects = [made(1), made(2), made(3)]
    async with filled(tmp_path / "home", *(each.part10() for each in objects)) as graph:
        async with storescp(tmp_path / "in", "+xi") as target:
            results = [r async for r in send(target, "ME", ours(graph), await everything(graph))]
        assert [result.status for result in results] == [0, 0, 0]
    found = written(tmp_path / "in")
    assert found == {each.sop: (IMPLICIT, each.dataset(IMPLICIT)) for each in objects}


async def test_a_preferred_syntax_is_made_where_it_can_be(tmp_path: Path) -> None:
    one = made(1)
    async with filled(tmp_path / "home", one.part10()) as graph, storescp(tmp_path / "in", "+xa") as target:
        helds = await everything(graph)
        assert [r.status async for r in send(target, "ME", ours(graph), helds, IMPLICIT_LE)] == [0]
        assert written(tmp_path / "in")[one.sop] == (IMPLICIT, one.dataset(IMPLICIT))
        assert [r.status async for r in send(target, "ME", ours(graph), helds, "1.2.840.10008.1.2.4.100")] == [0]
        assert written(tmp_path / "in")[one.sop] == (EXPLICIT, one.dataset(EXPLICIT))


async def test_a_class_nobody_takes_is_refused_and_the_others_go(tmp_path: Path) -> None:
    private = bytes(made(2).part10()).replace(
        CT.encode() + b"\0", b"1.2.826.0.1.3680043.10.99"[: len(CT)].ljust(len(CT) + 1, b"\0")
    )
    async with filled(tmp_path / "home", made(1).part10(), private, made(3).part10()) as graph:
        helds = await everything(graph)
        async with dcmqrscp(tmp_path / "peer") as target:
            results = {r.instance.number: r.status async for r in send(target, "ME", ours(graph), helds)}
            assert results == {1: 0, 2: 0x0122, 3: 0}
            alone = [held for held in helds if held.number == 2]
            (result,) = [r async for r in send(target, "ME", ours(graph), alone)]
            assert result.status == 0x0122 and "abstract-syntax-not-supported" in result.reason


async def test_large_objects_flow_through_many_pdus(tmp_path: Path) -> None:
    large = made(1, 6 << 20)
    async with filled(tmp_path / "home", large.part10(), made(2).part10()) as graph:
        helds = await everything(graph)
        async with storescp(tmp_path / "in", "+xa", "-pdu", "4096") as target:
            assert [r.status async for r in send(target, "ME", ours(graph), helds)] == [0, 0]
    assert written(tmp_path / "in")[large.sop] == (EXPLICIT, large.dataset())


async def test_to_ourselves(tmp_path: Path) -> None:
    async with (
        filled(tmp_path / "one", *(made(number).part10() for number in range(1, 21))) as graph,
        opened(tmp_path / "two") as other,
        serving(other) as target,
    ):
        helds = await everything(graph)
        assert [r.status async for r in send(target, "ME", ours(graph), helds)] == [0] * 20
        back = await everything(other)
        assert sorted(held.sha256 for held in back) == sorted(held.sha256 for held in helds)


# ---------------------------------------------------------------- what breaks


async def test_an_instance_that_cannot_be_read_does_not_stand_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(tmp_path / "home", *(made(number).part10() for number in (1, 2, 3))) as graph:
        reading: Any = graph.archive.retrieve._reading
        really = reading.read_into_now

        def read(held: Held, *rest: Any) -> None:
            if held.number == 2:
                raise Damaged("bytes at rest failed authentication")
            really(held, *rest)

        monkeypatch.setattr(reading, "read_into_now", read)
        async with storescp(tmp_path / "in", "+xa") as target:
            results = {
                r.instance.number: r.status async for r in send(target, "ME", ours(graph), await everything(graph))
            }
        assert results == {1: 0, 2: 0xA700, 3: 0}
        assert set(written(tmp_path / "in")) == {made(1).sop, made(3).sop}


async def test_one_that_breaks_off_costs_its_association_and_the_others_go_over_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an object cannot be taken back: the peer must not keep it, and must not wait for the rest."""
    async with filled(tmp_path / "home", *(made(number, 2 << 20).part10() for number in (1, 2, 3))) as graph:
        really = suboperations._behind

        async def half(stream: Any, skip: int) -> AsyncGenerator[Any]:
            async for piece in really(stream, skip):
                if b"".join([made(2).sop.encode()]) in bytes(piece[:1000]):
                    yield piece[:30_000]
                    raise Damaged("bytes at rest failed authentication")
                yield piece

        monkeypatch.setattr(suboperations, "_behind", half)
        async with storescp(tmp_path / "in", "+xa") as target:
            results = {
                r.instance.number: r.status async for r in send(target, "ME", ours(graph), await everything(graph))
            }
        assert results == {1: 0, 2: 0xA700, 3: 0}
        assert set(written(tmp_path / "in")) == {made(1).sop, made(3).sop}


async def test_a_peer_that_aborts_at_one_instance_gets_the_others(tmp_path: Path) -> None:
    """And one that aborts at every instance is gone: the caller tries again later."""
    async with filled(tmp_path / "home", *(made(number).part10() for number in (1, 2, 3, 4))) as graph:
        helds = await everything(graph)
        async with storescp(tmp_path / "in", "+xa", "--abort-after") as target:
            told = []
            with pytest.raises(Lost, match="A-ABORT"):
                async for result in send(target, "ME", ours(graph), helds):
                    told.append(result)
            assert [(r.instance.number, r.status) for r in told] == [(1, 0x0110)]
            assert "aborted by the peer" in told[0].reason


async def test_nobody_there(tmp_path: Path) -> None:
    async with filled(tmp_path / "home", made(1).part10()) as graph:
        with pytest.raises(Unreachable, match="refuses the connection"):
            async for _ in send(Target("X", "127.0.0.1", free_port()), "ME", ours(graph), await everything(graph)):
                pass


async def test_who_stops_listening_to_the_results_ends_the_association(tmp_path: Path) -> None:
    async with (
        filled(tmp_path / "one", *(made(number).part10() for number in range(1, 9))) as graph,
        opened(tmp_path / "two") as other,
        serving(other) as target,
    ):
        results = send(target, "ME", ours(graph), await everything(graph))
        assert (await anext(results)).status == 0
        await results.aclose()
        await asyncio.sleep(0)
        assert 1 <= len(await everything(other)) < 8
        assert Identity(f"{ROOT}.1", f"{ROOT}.1.1", f"{ROOT}.1.1.1") in [
            held.identity for held in await everything(other)
        ]


async def test_an_answer_is_told_when_the_next_is_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever notes it does so while the peer works; told to stop, it ends behind what is under way, in order."""
    async with (
        filled(tmp_path / "one", *(made(number).part10() for number in range(1, 6))) as graph,
        opened(tmp_path / "two") as other,
        serving(other) as target,
    ):
        helds, events, really = await everything(graph), list[str](), suboperations._put
        numbers = {held.identity.sop: held.number for held in helds}

        async def put(*args: Any) -> Any:
            events.append(f"put {numbers[args[1].command.sop_instance]}")
            return await really(*args)

        monkeypatch.setattr(suboperations, "_put", put)
        stop = False
        wanted = [Wanted(CT, (EXPLICIT_LE,))]
        async with connect(target, wanted, "ME") as association:
            sub = suboperations.send(
                graph.archive.retrieve, association.sender, association.contexts, helds, stop=lambda: stop
            )
            async for result in sub:
                assert result.status == 0
                events.append(f"told {result.instance.number}")
                stop = result.instance.number == 2
            assert events == ["put 1", "put 2", "told 1", "put 3", "told 2", "told 3"]
            assert association.open
        assert [held.number for held in await everything(other)] == [1, 2, 3]


# ---------------------------------------------------------------- for the outbox


def sender(graph: app.Graph) -> outbox.Sender:
    """What sends the outbox's transfers, over DIMSE."""

    async def reported(operation: Operation, report: Report) -> None:
        await graph.traffic.outbox.committed(
            operation.caller.principal, report.transaction_uid, report.kept, report.refused
        )

    delivery = DimseDelivery(
        Means(graph.archive, lambda tenant: "ME", lambda peer: secured(), reported, lambda *_: principal(graph))
    )
    return outbox.Sender(
        outbox.Means(graph.database, delivery, graph.reads, microseconds, lambda: 0.0, lambda: "2.25.77", "a test")
    )


@pytest.mark.parametrize("commitment", [False, True])
async def test_an_order_is_delivered_and_committed_to(tmp_path: Path, commitment: bool) -> None:
    """To our own server: each instance once, and kept by its word where it is asked for that."""
    async with (
        filled(tmp_path / "one", *(made(number).part10() for number in range(1, 8))) as graph,
        opened(tmp_path / "two") as other,
        serving(other) as target,
    ):
        about = {"aet": target.aet, "address": target.host, "port": target.port, "tls": False, "commitment": commitment}
        await graph.accounts.add_peer(principal(graph), "other", about)
        place = Identity(made(1).study, "", "")
        (transfer,) = await graph.traffic.outbox.order(principal(graph), "other", [place])
        after = await sender(graph).run(transfer.id)
        assert after is not None
        assert (after.state, after.delivered, after.failed, after.said) == (State.DELIVERED, 7, 0, "")
        assert {held.sha256 for held in await everything(other)} == {held.sha256 for held in await everything(graph)}
        assert {held.source.peer for held in await everything(other)} == {"ME"}


async def test_an_order_to_a_peer_that_is_gone_waits_with_the_reason(tmp_path: Path) -> None:
    async with filled(tmp_path / "home", made(1).part10()) as graph:
        about = {"aet": "GONE", "address": "127.0.0.1", "port": free_port(), "tls": False}
        await graph.accounts.add_peer(principal(graph), "gone", about)
        (transfer,) = await graph.traffic.outbox.order(principal(graph), "gone", [Identity(made(1).study, "", "")])
        after = await sender(graph).run(transfer.id)
        assert after is not None and after.state is State.WAITING and "nothing listens there" in after.said
