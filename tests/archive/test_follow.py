"""The change feed as programs follow it: no gap on either database, by tenant and role, and awake when something happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from radiolith.archive import follow as following
from radiolith.archive.follow import OWN, Ask, Follow
from radiolith.archive.happenings import KINDS, VISIBLE
from radiolith.archive.reading import Reading
from radiolith.index import facts, instances
from radiolith.index.accounts import put_tenant, tenant_row
from radiolith.index.changes import ChangeKind, record
from radiolith.index.database import Database
from radiolith.index.registry import Word
from radiolith.model import BadInput, Fact, Identity, NotAllowed, Principal, Tenant, Unavailable
from radiolith.trust.access import Action, allows
from tests.index.conftest import TENANT, fresh  # noqa: F401
from tests.index.objects import Maker

READER = Principal(TENANT, "anna", "reader", "token")
ADMIN = Principal(TENANT, "root", "admin", "token")


class Trail:
    def __init__(self) -> None:
        self.notes: list[tuple[str, str, int]] = []

    async def note(self, principal: Principal, study: str, purpose: str, count: int, *, action: str = "") -> None:
        self.notes.append((principal.name, purpose, count))


class Feed:
    """A follower over a database alone."""

    def __init__(self, database: Database):
        self.database, self.trail = database, Trail()
        self.threads = ThreadPoolExecutor(4)
        nothing: Any = None
        trail: Any = self.trail
        self.verb = Follow(Reading(nothing, nothing, database, self.threads), trail, every=0.01)

    def happen(self, kind: ChangeKind, count: int = 1, *, tenant: int = TENANT.id) -> None:
        with self.database.write() as tx:
            record(tx, [(tenant, kind, 1, number, 1_800_000_000_000_000) for number in range(count)])

    async def as_reader(self) -> Principal:
        return READER


@pytest.fixture(params=["sqlite", "postgresql"])
def feed(request: pytest.FixtureRequest, fresh: Callable[[str], Database]) -> Feed:  # noqa: F811
    return Feed(fresh(request.param))


async def numbers(feed: Feed, ask: Ask, principal: Principal = READER) -> list[int]:
    found: list[int] = []
    while True:
        answer = await feed.verb.after(principal, ask)
        found += [event.place.number for event in answer.events]
        ask = Ask(answer.after, ask.limit, ask.kinds)
        if not answer.more:
            return found


async def test_every_event_says_what_it_is_about(feed: Feed) -> None:
    maker = Maker(1)
    item = [["1.2", "1.2.3", "1.2.3.4"]]
    with feed.database.write() as tx:
        instances.insert(tx, [maker.one(Identity("1.2", "1.2.3", "1.2.3.4"))])
        facts.apply(tx, Fact("reject", maker.now, "a", TENANT.uid, {"reason": "113001", "items": item}), b"1" * 16)
        study = tx.all("SELECT id FROM studies")[0][0]
        patient = tx.all("SELECT id FROM patients")[0][0]
        tx.run(
            "INSERT INTO completions(tenant_id, study_id, round, at, instances, first_instance, last_instance)"
            " VALUES (1, ?, 2, 5, 7, 1, 7)",
            (study,),
        )
        done = tx.all("SELECT id FROM completions")[0][0]
        record(tx, [(1, ChangeKind.COMPLETE, study, done, 5), (1, ChangeKind.AMENDED, study, 0, 6)])
        record(tx, [(1, ChangeKind.PATIENT, 0, patient, 7), (1, ChangeKind.STORED, 0, 999_999, 8)])
        record(tx, [(1, ChangeKind.LABELLED, study, 0, 9), (1, ChangeKind.LABELLED, 0, patient, 9)])
    answer = await feed.verb.after(READER, Ask())
    told = [event.document() for event in answer.events]
    place = {"study": "1.2", "series": "1.2.3", "instance": "1.2.3.4"}
    gone = {"study": "", "series": "", "instance": ""}
    with feed.database.read() as read:
        identifier, issuer = read.all("SELECT patient_id, issuer FROM patients")[0]
    expected: list[tuple[str, dict[str, Any]]] = [
        ("instance.stored", place),
        ("instance.rejected", place),
        ("study.complete", {"study": "1.2", "round": 2, "instances": 7}),
        ("study.amended", {"study": "1.2"}),
        ("patient.changed", {"patient": {"id": identifier or "", "issuer": issuer or ""}}),
        ("instance.stored", gone),
        ("labels.changed", {"study": "1.2"}),
        ("labels.changed", {"patient": {"id": identifier or "", "issuer": issuer or ""}}),
    ]
    rest = [{key: one[key] for key in one if key not in ("number", "cursor", "kind", "at")} for one in told]
    assert [(one["kind"], about) for one, about in zip(told, rest, strict=True)] == expected
    assert told[2]["at"] == "1970-01-01T00:00:00.000005+00:00"
    assert not answer.more and not answer.restarted
    assert (await feed.verb.after(READER, Ask(told[1]["cursor"], 1))).events[0].document() == told[2]


async def test_a_page_ends_where_its_limit_is_and_the_next_goes_on(feed: Feed) -> None:
    feed.happen(ChangeKind.STORED, 1203)
    everything = await numbers(feed, Ask(limit=1000))
    assert len(everything) == 1203 and everything == sorted(set(everything))
    assert await numbers(feed, Ask(limit=7)) == everything


async def test_nobody_sees_another_tenant_or_what_the_role_may_not(feed: Feed) -> None:
    with feed.database.write() as tx:
        put_tenant(tx, b"O" * 16, "other", Word(1, b"G" * 16))
        other = tenant_row(tx, b"O" * 16)
    feed.happen(ChangeKind.STORED, tenant=other)
    feed.happen(ChangeKind.QUARANTINED)
    feed.happen(ChangeKind.STORED)
    assert len(await numbers(feed, Ask())) == 1
    assert len(await numbers(feed, Ask(), ADMIN)) == 2
    assert len(await numbers(feed, Ask(), Principal(Tenant(other, b"O" * 16, "other"), "b", "admin", "token"))) == 1
    with pytest.raises(NotAllowed):
        await feed.verb.after(Principal(TENANT, "gate", "writer", "token"), Ask())


def test_every_role_that_follows_has_its_kinds_and_no_other() -> None:
    from radiolith.trust.access import ROLES

    assert set(VISIBLE) == {
        role for role in ROLES if allows(Principal(TENANT, "", role, "token"), Action.FOLLOW)
    }  # fmt: skip
    assert set(KINDS) == set(ChangeKind) - {ChangeKind.FACT}


async def test_chosen_kinds_alone_and_from_now_on(feed: Feed) -> None:
    feed.happen(ChangeKind.STORED, 600)
    feed.happen(ChangeKind.AMENDED)
    feed.happen(ChangeKind.STORED, 600)
    assert len(await numbers(feed, Ask(kinds=("study.amended",)))) == 1
    latest = await feed.verb.after(READER, Ask("latest"))
    assert latest.events == [] and not latest.restarted
    feed.happen(ChangeKind.AMENDED)
    assert len(await numbers(feed, Ask(latest.after))) == 1
    with pytest.raises(BadInput, match=r"study\.finished"):
        await feed.verb.after(READER, Ask(kinds=("study.finished",)))


@pytest.mark.parametrize("after", ["x", "7", "aa.1", "aa.1.2.3", "aa.-1.2", f"aa.1.{'9' * 19}", "aa.1.2\n"])
async def test_a_cursor_that_there_cannot_be_is_refused(feed: Feed, after: str) -> None:
    with pytest.raises(BadInput, match="after"):
        await feed.verb.after(READER, Ask(after))


async def test_a_cursor_of_another_feed_starts_again_and_says_so(feed: Feed) -> None:
    feed.happen(ChangeKind.STORED, 3)
    mine = (await feed.verb.after(READER, Ask("0", 2))).after
    epoch, xid, number = mine.split(".")
    for cursor in (f"{'ab' * 8}.{xid}.{number}", f"{epoch}.{xid}.{int(number) + 1000}"):
        answer = await feed.verb.after(READER, Ask(cursor))
        assert answer.restarted and len(answer.events) == 3 and answer.epoch == epoch
    assert not (await feed.verb.after(READER, Ask(mine))).restarted


async def test_nothing_is_skipped_while_many_write(feed: Feed) -> None:
    """Three writers whose transactions overlap; a follower in small pages that waits all the time."""
    left = [3]

    def write(worker: int) -> None:
        random = Random(worker)
        for _ in range(25):
            with feed.database.write() as tx:
                for _ in range(random.randrange(1, 4)):
                    record(tx, [(TENANT.id, ChangeKind.STORED, worker, 1, 5)])
        left[0] -= 1

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    seen, ask = list[int](), Ask(limit=3)
    while True:
        over = not left[0]
        answer = await feed.verb.waited(feed.as_reader, ask, 0 if over else 0.2)
        seen += [event.place.number for event in answer.events]
        ask = Ask(answer.after, 3)
        if over and not answer.events and not answer.more:
            break
    for thread in threads:
        thread.join()
    with feed.database.read() as read:
        written = [row[0] for row in read.all("SELECT number FROM changes")]
    assert sorted(seen) == sorted(written) and len(seen) > 75


# ---------------------------------------------------------------- waiting


async def test_who_waits_is_told_when_it_happens_and_not_of_what_he_may_not_see(feed: Feed) -> None:
    waiting = asyncio.ensure_future(feed.verb.waited(feed.as_reader, Ask("latest"), 30))
    await _until(lambda: feed.verb._tide._waiting == 1)
    feed.happen(ChangeKind.QUARANTINED)
    await asyncio.sleep(0)
    feed.happen(ChangeKind.STORED)
    answer = await waiting
    assert [event.kind for event in answer.events] == ["instance.stored"]


async def test_who_waits_in_vain_is_told_where_to_go_on(feed: Feed) -> None:
    feed.happen(ChangeKind.QUARANTINED)
    answer = await feed.verb.waited(feed.as_reader, Ask(), 0.05)
    assert answer.events == []
    feed.happen(ChangeKind.STORED)
    assert len((await feed.verb.after(READER, Ask(answer.after))).events) == 1


async def test_a_token_that_is_revoked_meanwhile_hears_nothing_more(feed: Feed) -> None:
    allowed = [True]

    async def caller() -> Principal:
        if not allowed[0]:
            raise NotAllowed("revoked")
        return READER

    waiting = asyncio.ensure_future(feed.verb.waited(caller, Ask("latest"), 30))
    await _until(lambda: feed.verb._tide._waiting == 1)
    allowed[0] = False
    feed.happen(ChangeKind.STORED)
    with pytest.raises(NotAllowed):
        await waiting


async def test_places_are_limited_and_come_back(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [asyncio.ensure_future(feed.verb.waited(feed.as_reader, Ask("latest"), 30)) for _ in range(OWN)]
    await _until(lambda: feed.verb._own.total() == OWN)
    with pytest.raises(Unavailable, match="anna"):
        await feed.verb.waited(feed.as_reader, Ask("latest"), 30)
    monkeypatch.setattr(following, "WAITING", OWN)

    async def root() -> Principal:
        return ADMIN

    with pytest.raises(Unavailable, match="at once already"):
        await feed.verb.waited(root, Ask("latest"), 30)
    feed.happen(ChangeKind.STORED)
    assert all(answer.events for answer in await asyncio.gather(*many))
    assert feed.verb._own == {}


async def test_the_end_of_the_process_answers_everybody(feed: Feed) -> None:
    waiting = asyncio.ensure_future(feed.verb.waited(feed.as_reader, Ask("latest"), 30))
    stream = feed.verb.stream(feed.as_reader, Ask("latest"))
    await anext(stream)
    behind = asyncio.ensure_future(_rest(stream))
    await _until(lambda: feed.verb._tide._waiting == 2)
    feed.verb.end()
    assert (await waiting).events == []
    assert await behind <= 1
    assert feed.verb._own == {}


async def test_a_stream_goes_on_and_gives_signs_of_life(feed: Feed) -> None:
    stream = feed.verb.stream(feed.as_reader, Ask("latest"), beat=0.01)
    assert (await anext(stream)).events == []
    assert (await anext(stream)).events == []
    feed.happen(ChangeKind.STORED, 250)
    told = list[int]()
    while len(told) < 250:
        told += [event.place.number for event in (await anext(stream)).events]
    assert told == sorted(set(told))
    await stream.aclose()
    assert feed.verb._own == {}


async def test_who_waits_hears_that_the_database_is_gone(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = asyncio.ensure_future(feed.verb.waited(feed.as_reader, Ask("latest"), 30))
    await _until(lambda: feed.verb._tide._waiting == 1)

    async def look(question: object) -> object:
        raise Unavailable("down")

    broken: Any = SimpleNamespace(look=look)
    monkeypatch.setattr(feed.verb, "_reading", broken)
    monkeypatch.setattr(feed.verb._tide, "_reading", broken)
    with pytest.raises(Unavailable):
        await waiting


async def test_following_is_on_record(feed: Feed) -> None:
    feed.happen(ChangeKind.STORED, 2)
    await feed.verb.after(READER, Ask())
    assert feed.trail.notes == [("anna", "changes", 2)]


async def _rest(stream: Any) -> int:
    return len([found async for found in stream])


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
