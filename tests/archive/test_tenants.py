"""Two tenants in one archive: same UIDs, same bytes, and neither sees, counts, changes or fetches anything of the other."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest

from radiolith.app import Graph
from radiolith.dicomweb.routes import Edge
from radiolith.index import audit
from radiolith.index.accounts import tenants
from radiolith.model import Fact, Identity, Level, NotFound, Principal, Query
from tests.archive.homes import STOW, opened, principal
from tests.archive.objects import RAW, Made
from tests.dicomweb.driver import Reply, ask

STUDY, SERIES = "1.2.7", "1.2.7.1"
SAME, OWN = "1.2.7.1.1", "1.2.7.1.2"  # held by both: with equal bytes, with other ones
ONLY = "1.2.777.8"  # a study that A alone holds
WHO = {"a": "Quirin^Anna", "b": "Zeno^Ben"}


def files(tenant: str) -> list[bytes]:
    shared = Made(STUDY, SERIES, SAME, patient="P9", name="Both^Same").part10()
    own = Made(STUDY, SERIES, OWN, patient="P9", name=WHO[tenant], accession=tenant).part10()
    alone = [Made(ONLY, f"{ONLY}.1", f"{ONLY}.1.1", patient="P-A", name="Only^A").part10()] if tenant == "a" else []
    return [shared, own, *alone, f"not DICOM, of {tenant}".encode()]


@dataclass
class Two:
    graph: Graph
    a: Principal
    b: Principal
    edge: Edge
    tokens: dict[str, str]

    async def ask(self, tenant: str, method: str, target: str, **more: object) -> Reply:
        return await ask(self.edge, method, target, token=self.tokens[tenant], **more)  # type: ignore[arg-type]


async def another(graph: Graph) -> Principal:
    """A second tenant, made as `init` makes the first, and its administrator."""
    uid = os.urandom(16)
    graph.keys.create_tenant(uid)
    await graph.committer.fact(Fact("tenant", 1, "tests", uid, {"name": "other"}))
    with graph.database.read() as read:
        return replace(principal(graph), tenant=next(one for one in tenants(read) if one.uid == uid))


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with opened(tmp_path / "home") as graph:
        people = {"a": principal(graph), "b": await another(graph)}
        for name, who in people.items():
            for data in files(name):
                intake = graph.archive.ingest.begin(who, STOW)
                await intake.write(data)
                await (await intake.finish())
        tokens = {name: await graph.accounts.add_token(who, f"{name} admin", "admin") for name, who in people.items()}
        edge = Edge(graph.archive, graph.identities, graph.settings.limits)
        yield Two(graph, people["a"], people["b"], edge, tokens)


async def test_equal_bytes_are_kept_twice_under_keys_of_their_own(two: Two) -> None:
    held = [(await two.graph.archive.versions.of(who, Identity(STUDY, SERIES, SAME)))[0].blob for who in (two.a, two.b)]
    assert held[0].object_id != held[1].object_id
    assert held[0].scope.id != held[1].scope.id
    assert (held[0].tenant, held[1].tenant) == (two.a.tenant.uid, two.b.tenant.uid)


async def test_the_same_uids_are_an_instance_for_each_and_no_versions(two: Two) -> None:
    for name, who in (("a", two.a), ("b", two.b)):
        for sop, data in ((SAME, files(name)[0]), (OWN, files(name)[1])):
            versions = await two.graph.archive.versions.of(who, Identity(STUDY, SERIES, sop))
            assert len(versions) == 1
            pieces = [bytes(piece) async for piece in two.graph.archive.retrieve.original(versions[0]).chunks()]
            assert hashlib.sha256(b"".join(pieces)).digest() == hashlib.sha256(data).digest()
        assert await two.graph.archive.versions.conflicts(who) == []


@pytest.mark.parametrize("level", list(Level))
async def test_a_search_finds_and_counts_its_own(two: Two, level: Level) -> None:
    wanted = {Level.PATIENT: (2, 1), Level.STUDY: (2, 1), Level.SERIES: (2, 1), Level.INSTANCE: (3, 2)}[level]
    for who, count, foreign in ((two.a, wanted[0], "Zeno"), (two.b, wanted[1], "Only")):
        page = await two.graph.archive.query.search(
            who, Query(level, include_all=level is not Level.PATIENT, limit=100)
        )
        assert len(page.rows) == count and not page.more
        assert foreign not in repr(page.rows)


async def test_nothing_of_the_other_can_be_fetched_or_changed(two: Two) -> None:
    archive, alone = two.graph.archive, Identity(ONLY, f"{ONLY}.1", f"{ONLY}.1.1")
    held = (await archive.versions.of(two.a, alone))[0]
    for refused in (
        archive.retrieve.locate(two.b, ONLY),
        archive.retrieve.locate_sop(two.b, alone.sop),
        archive.versions.of(two.b, alone),
        archive.versions.switch(two.b, alone, held.blob.object_id.hex()),
        archive.remove.reject(two.b, ONLY, reason="113001"),
        archive.remove.restore(two.b, ONLY),
        archive.commitment.items(two.b, ONLY),
    ):
        with pytest.raises(NotFound):
            await refused
    await archive.remove.reject(two.b, STUDY, reason="113001")
    assert len(await archive.retrieve.locate(two.a, STUDY)) == 2
    assert await archive.remove.rejected(two.a) == []
    await archive.remove.restore(two.b, STUDY)


async def test_what_was_set_aside_is_its_own(two: Two) -> None:
    lists = [await two.graph.archive.quarantine.list(who) for who in (two.a, two.b)]
    assert [len(one) for one in lists] == [1, 1] and lists[0][0].id != lists[1][0].id
    for call in (two.graph.archive.quarantine.get, two.graph.archive.quarantine.original):
        with pytest.raises(NotFound):
            await call(two.b, lists[0][0].id)
    with pytest.raises(NotFound):
        await two.graph.archive.quarantine.release(two.b, lists[0][0].id)


async def committed(two: Two, who: Principal, transaction: str, sops: list[str]) -> tuple[set[str], set[str]]:
    await two.graph.archive.commitment.request(who, transaction, [(RAW, sop) for sop in sops])
    await two.graph.archive.commitment.idle()
    found = await two.graph.archive.commitment.result(who, transaction)
    assert found is not None and found.state == "done"
    return {item[1] for item in found.committed}, {item[1] for item in found.failed}


async def test_commitment_is_for_ones_own_and_so_are_its_transactions(two: Two) -> None:
    alone = f"{ONLY}.1.1"
    assert await committed(two, two.a, "1.9", [SAME, alone]) == ({SAME, alone}, set())
    assert await two.graph.archive.commitment.result(two.b, "1.9") is None
    assert await committed(two, two.b, "1.9", [SAME, alone]) == ({SAME}, {alone})


async def test_a_writer_may_ask_by_study_for_what_it_stored(two: Two) -> None:
    archive = two.graph.archive
    gateway = replace(two.a, name="gateway", role="writer")
    with pytest.raises(NotFound):
        await archive.commitment.items(gateway, STUDY)  # all of it is somebody else's
    intake = archive.ingest.begin(gateway, STOW)
    await intake.write(Made(STUDY, SERIES, "1.2.7.1.3").part10())
    await (await intake.finish())
    assert await archive.commitment.items(gateway, STUDY, SERIES) == [(RAW, "1.2.7.1.3")]
    assert await archive.commitment.items(gateway, STUDY) == [(RAW, "1.2.7.1.3")]
    assert len(await archive.commitment.items(two.a, STUDY)) == 3
    token = await two.graph.accounts.add_token(two.a, "gateway", "writer")
    body = {"00081110": {"vr": "SQ", "Value": [{"0020000D": {"vr": "UI", "Value": [STUDY]}}]}}
    json = {"content-type": "application/dicom+json"}
    more = {"token": token, "headers": json, "body": orjson.dumps(body)}
    assert (await ask(two.edge, "POST", "/commitment-requests/1.10", **more)).status in (200, 202)  # type: ignore[arg-type]
    assert await committed(two, gateway, "1.10", ["1.2.7.1.3"]) == ({"1.2.7.1.3"}, set())


async def test_accounts_and_trail_are_its_own(two: Two) -> None:
    accounts = two.graph.accounts
    await accounts.add_user(two.a, "anna", "reader")
    await accounts.add_peer(two.a, "ct1", {"aet": "CT1"})
    assert await accounts.users(two.b) == [] and await accounts.peers(two.b) == []
    assert [token.name for token in await accounts.tokens(two.b)] == ["b admin"]
    for refused in (accounts.remove_user(two.b, "anna"), accounts.revoke_token(two.b, "a admin")):
        with pytest.raises(NotFound):
            await refused
    await two.graph.archive.retrieve.locate(two.a, ONLY)
    with two.graph.database.read() as read:
        shown = repr(audit.events(read, two.b.tenant.id, limit=1000))
    assert ONLY not in shown and "anna" not in shown


ADDRESSES = (
    f"/studies/{ONLY}",
    f"/studies/{ONLY}/metadata",
    f"/studies/{ONLY}/series/{ONLY}.1",
    f"/studies/{ONLY}/series/{ONLY}.1/metadata",
    f"/studies/{ONLY}/series/{ONLY}.1/instances/{ONLY}.1.1",
    f"/studies/{ONLY}/series/{ONLY}.1/instances/{ONLY}.1.1/metadata",
    f"/wado?requestType=WADO&studyUID={ONLY}&seriesUID={ONLY}.1&objectUID={ONLY}.1.1&contentType=application/dicom",
)


@pytest.mark.parametrize("address", ADDRESSES)
async def test_dicomweb_has_no_address_of_the_other(two: Two, address: str) -> None:
    assert (await two.ask("a", "GET", address)).status == 200
    foreign = await two.ask("b", "GET", address)
    missing = await two.ask("b", "GET", address.replace(ONLY, "1.2.99"))
    assert foreign.status == missing.status == 404
    assert ONLY.encode() not in foreign.body, "what another holds and what nobody holds look the same"


@pytest.mark.parametrize(
    "what", ["studies", "series", "instances", f"studies/{STUDY}/instances", f"studies/{ONLY}/series"]
)
async def test_dicomweb_searches_its_own(two: Two, what: str) -> None:
    mine, foreign = [await two.ask(name, "GET", f"/{what}?includefield=all") for name in ("a", "b")]
    assert mine.status == 200 and b"Zeno" not in mine.body
    assert b"Quirin" not in foreign.body and b"Only" not in foreign.body and ONLY.encode() not in foreign.body


async def test_dicomweb_gives_each_its_own_under_the_same_uid(two: Two) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        found = await two.ask(name, "GET", f"/studies/{STUDY}/series/{SERIES}/instances/{OWN}/metadata")
        assert WHO[name].split("^")[0].encode() in found.body and WHO[other].split("^")[0].encode() not in found.body


async def test_a_rebuild_keeps_them_apart(tmp_path: Path) -> None:
    from radiolith import home as homes
    from radiolith.index.dump import dump

    home = tmp_path / "home"
    async with opened(home) as graph:
        for name, who in (("a", principal(graph)), ("b", await another(graph))):
            for data in files(name):
                intake = graph.archive.ingest.begin(who, STOW)
                await intake.write(data)
                await (await intake.finish())
        with graph.database.snapshot() as read:
            before = list(dump(read))
    await asyncio.to_thread(homes.rebuild, home)
    async with opened(home) as graph:
        with graph.database.snapshot() as read:
            assert list(dump(read)) == before
