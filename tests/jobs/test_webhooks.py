"""Webhooks over both databases and real sockets: in order, once, signed, tried again, given up, never where they must not."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from radiolith.archive import backlog
from radiolith.archive.webhooks import Webhook, webhook_of
from radiolith.client import Forged, Receiver
from radiolith.index import changes, deliveries, facts, registry
from radiolith.index.changes import ChangeKind, record
from radiolith.index.database import Database
from radiolith.index.deliveries import Delivery, State, cursor_name
from radiolith.jobs import webhooks
from radiolith.jobs.posting import Post
from radiolith.jobs.webhooks import BATCH, GIVE_UP, LEASE, SIGNATURE, Means, WebhookRunner, signature
from radiolith.model import BadInput, Fact, NotAllowed, Principal, Unavailable
from tests import campaign
from tests.index.conftest import TENANT, fresh  # noqa: F401

SECRET = "a secret of the webhook ris"


class Trail:
    def __init__(self) -> None:
        self.notes: list[tuple[str, int]] = []

    async def note(self, principal: Principal, study: str, purpose: str, count: int, *, action: str = "") -> None:
        self.notes.append((principal.name, count))


class Site:
    """An archive with webhooks, a clock, and a target that a test answers for."""

    def __init__(self, database: Database):
        self.database, self.now, self.trail = database, 1_800_000_000_000_000, Trail()
        self.posted: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: Callable[[], str] = lambda: ""  # why it was not taken
        self._facts = 0

    def clock(self) -> int:
        return self.now

    async def post(self, url: str, headers: Any, body: bytes) -> None:
        self.posted.append((url, dict(headers), body))
        if said := self.answer():
            raise Unavailable(said)

    def runner(self, post: Any = None) -> WebhookRunner:
        trail: Any = self.trail
        return WebhookRunner(Means(self.database, post or self.post, trail, self.clock, lambda: 1.0))

    def fact(self, kind: str, **body: Any) -> None:
        self._facts += 1
        with self.database.write() as tx:
            facts.apply(tx, Fact(kind, self.now, "root", TENANT.uid, body), self._facts.to_bytes(16, "big"))

    def hook(self, name: str = "ris", *, begin: bool = True, **more: Any) -> None:
        body = {"name": name, "url": f"http://127.0.0.1/{name}", "secret": SECRET, "kinds": [], "role": "admin", **more}
        if begin:
            with self.database.write() as tx:
                changes.save_cursor(tx, cursor_name(TENANT.uid, name), changes.tip(tx))
        self.fact("webhook", **body)

    def happen(self, count: int = 1, kind: ChangeKind = ChangeKind.STORED, at: int = 0) -> None:
        with self.database.write() as tx:
            record(tx, [(TENANT.id, kind, 1, 1, at or self.now)] * count)

    async def settle(self, runner: WebhookRunner) -> None:
        """Until nothing is to be done at this moment."""
        while await runner.start():
            await runner.settled()

    def told(self, name: str = "ris") -> list[int]:
        return [
            event["number"]
            for url, _, body in self.posted
            if url.endswith(f"/{name}")
            for event in json.loads(body)["events"]
        ]  # fmt: skip

    def numbers(self) -> list[int]:
        with self.database.read() as read:
            return [row[0] for row in read.all("SELECT number FROM changes ORDER BY number")]

    def deliveries(self, name: str = "ris") -> list[Delivery]:
        with self.database.read() as read:
            return deliveries.listed(read, (TENANT.id, name), 100, 0)


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, fresh: Callable[[str], Database]) -> Site:  # noqa: F811
    return Site(fresh(request.param))


# ---------------------------------------------------------------- in order, once, signed


async def test_what_happens_is_told_once_in_order_and_signed(site: Site) -> None:
    site.happen(5)
    site.hook()
    site.hook("done", kinds=["study.complete"])
    runner = site.runner()
    await site.settle(runner)
    assert site.posted == [], "a webhook begins when it is made"
    site.happen(BATCH + 7)
    site.happen(1, ChangeKind.COMPLETE)
    await site.settle(runner)
    await site.settle(runner)
    assert site.told() == site.numbers()[5:]
    assert site.told("done") == site.numbers()[-1:]
    assert site.deliveries() == []
    _, headers, body = site.posted[0]
    assert headers["Content-Type"] == "application/json" and int(headers["Radiolith-Delivery"]) > 0
    assert [event.number for event in Receiver(SECRET, clock=lambda: site.now / 1e6).events(headers[SIGNATURE], body)]
    assert site.trail.notes[0] == ("webhook done", 1) or site.trail.notes[0] == ("webhook ris", BATCH)


async def test_a_role_sees_through_a_webhook_what_it_sees_elsewhere(site: Site) -> None:
    site.hook(role="reader")
    site.happen(1, ChangeKind.QUARANTINED)
    site.happen(1)
    await site.settle(site.runner())
    assert site.told() == site.numbers()[1:]


async def test_two_nodes_tell_everything_once_and_in_order(site: Site) -> None:
    site.hook()
    runners = [site.runner() for _ in range(3)]
    for _ in range(6):
        site.happen(130)
        await asyncio.gather(*(site.settle(runner) for runner in runners))
        await site.settle(runners[0])
    assert site.told() == site.numbers()


async def test_a_batch_that_a_killed_process_held_is_sent_by_the_next_and_none_overtakes_it(site: Site) -> None:
    site.hook()
    site.happen(3)
    under_way = asyncio.Event()

    async def hang(*_: Any) -> None:
        under_way.set()
        await asyncio.Event().wait()

    killed = site.runner(hang)
    await killed.start()
    await under_way.wait()
    for task in killed._under_way.values():
        task.cancel()
    await killed.settled()
    site.happen(2)
    other = site.runner()
    await site.settle(other)
    assert site.posted == [], "it may still be on its way"
    site.now += LEASE
    await site.settle(other)
    assert site.told() == site.numbers()
    assert [json.loads(body)["attempt"] for _, _, body in site.posted] == [2, 1]


async def test_no_batch_is_made_behind_one_that_another_node_has_just_made(site: Site) -> None:
    site.hook()
    site.happen(1)
    with site.database.read() as read:
        (hook,) = webhooks._hooks(read)
    one, other = site.runner(), site.runner()
    taken = await one._take(hook)
    assert taken is not None
    site.happen(1)
    with site.database.read() as read:
        ahead = other._ahead(read, hook)
    with site.database.write() as tx:
        assert webhooks._moved(tx, hook, ahead, site.now) == (False, None)
    assert await one._deliver(hook, taken)
    await site.settle(other)
    assert site.told() == site.numbers()


# ---------------------------------------------------------------- again, and given up


async def test_a_target_that_fails_is_tried_again_later_and_later_and_holds_nobody_up(site: Site) -> None:
    site.hook()
    site.hook("well")
    site.answer = lambda: "answered 500" if site.posted[-1][0].endswith("ris") else ""
    runner, began = site.runner(), site.now
    site.happen(1)
    await site.settle(runner)
    tries = [0]
    for _ in range(5):
        (waiting,) = site.deliveries()
        assert waiting.state is State.WAITING and waiting.said == "answered 500"
        site.now = waiting.next_at - 1
        await site.settle(runner)
        site.now += 1
        tries.append((site.now - began) // 1_000_000)
        await site.settle(runner)
    assert tries == [0, 10, 30, 70, 150, 310]
    assert site.told("well") == site.numbers()
    site.happen(2)
    site.answer = lambda: ""
    site.now += 3_600_000_000
    await site.settle(runner)
    assert site.told()[-3:] == site.numbers()
    assert site.deliveries() == []


async def test_after_three_days_it_is_given_up_and_the_next_goes_on(site: Site) -> None:
    site.hook()
    site.answer = lambda: "answered 503"
    runner = site.runner()
    first = site.now
    site.happen(2)
    await site.settle(runner)
    site.now += GIVE_UP - 3_600_000_000
    site.happen(1)
    late = site.now
    await site.settle(runner)
    assert [one.state for one in site.deliveries()] == [State.WAITING]
    site.now = first + GIVE_UP + 3_600_000_000
    await site.settle(runner)
    assert [one.state for one in site.deliveries()] == [State.GIVEN_UP, State.WAITING], (
        "the second is not three days old"
    )
    site.now = late + GIVE_UP + 3_600_000_000
    await site.settle(runner)
    lost = site.deliveries()
    assert [(one.state, one.said, one.batch.events) for one in lost] == [
        (State.GIVEN_UP, "answered 503", 2),
        (State.GIVEN_UP, "answered 503", 1),
    ]
    with site.database.read() as read:
        (reason,) = backlog.look(read, TENANT.id).reasons()
    assert "webhook again ris" in reason and "2 batches" in reason
    site.happen(1)
    site.answer = lambda: ""
    site.posted.clear()
    await site.settle(runner)
    assert site.told() == site.numbers()[3:]
    with site.database.write() as tx:
        assert deliveries.lost(tx, (TENANT.id, "ris")) == [one.id for one in lost]
        assert all(deliveries.again(tx, TENANT.id, one.id, site.now) for one in lost)
        assert not deliveries.again(tx, TENANT.id, lost[0].id, site.now)
    site.happen(1)
    await site.settle(runner)
    assert site.told() == [site.numbers()[n] for n in (3, 0, 1, 2, 4)], "what was given up goes first"
    assert site.deliveries() == []


async def test_a_server_that_was_off_for_a_week_gives_nothing_up_at_the_first_failure(site: Site) -> None:
    site.hook()
    site.happen(1)
    site.now += 7 * 86_400_000_000
    site.answer = lambda: "no connection"
    await site.settle(site.runner())
    assert [one.state for one in site.deliveries()] == [State.WAITING]


async def test_a_rebuilt_index_tells_the_last_three_days_again(site: Site) -> None:
    site.now += GIVE_UP
    site.happen(600, at=site.now - GIVE_UP - 1)
    site.happen(2, at=site.now - GIVE_UP + 1)
    site.fact("webhook", name="ris", url="http://127.0.0.1/ris", secret=SECRET, kinds=[], role="admin")
    with site.database.write() as tx:
        tx.run("UPDATE registry SET at = 1")
    site.answer = lambda: "answered 500"
    runner = site.runner()
    await site.settle(runner)
    site.answer = lambda: ""
    site.now += 3_600_000_000
    site.posted.clear()
    await site.settle(runner)
    assert site.told() == site.numbers()[600:]


async def test_a_webhook_that_is_removed_is_told_nothing_more(site: Site) -> None:
    site.hook()
    site.answer = lambda: "answered 500"
    site.happen(1)
    runner = site.runner()
    await site.settle(runner)
    site.fact("webhook-remove", name="ris")
    site.now += webhooks.SWEEP
    site.posted.clear()
    await site.settle(runner)
    assert site.posted == [] and site.deliveries() == []


async def test_nothing_is_lost_while_the_target_fails_now_and_then(site: Site) -> None:
    """Random failures, two runners, and every event is taken once, in order."""
    from random import Random

    random, taken = Random(5), list[int]()
    site.hook()

    async def post(url: str, headers: Any, body: bytes) -> None:
        if random.random() < 0.4:
            raise Unavailable("answered 500")
        taken.extend(event["number"] for event in json.loads(body)["events"])

    runners = [site.runner(post), site.runner(post)]
    for _ in range(campaign.count("rounds of webhooks whose target fails now and then", 12, 1000)):
        site.happen(random.randrange(200))
        site.now += random.randrange(3_600_000_000)
        await asyncio.gather(*(site.settle(runner) for runner in runners))
    while taken != site.numbers():
        assert taken == site.numbers()[: len(taken)]
        site.now += 3_600_000_000
        await site.settle(runners[0])


# ---------------------------------------------------------------- one request


@asynccontextmanager
async def target(answer: bytes | None, *, slowly: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A real listener; None never answers."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            received.append(head + await reader.readexactly(int(length[1]) if length else 0))
            if answer is None:
                await reader.read()
            elif slowly:
                for byte in answer:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.02)
            else:
                writer.write(answer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?x=1", received
    finally:
        server.close()


async def test_a_request_as_it_is_on_the_wire() -> None:
    async with target(b"HTTP/1.1 204 No Content\r\n\r\n") as (url, received):
        await Post(allow_private=True)(url, {SIGNATURE: "t=1,v1=x"}, b'{"events": []}')
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hook?x=1 HTTP/1.1\r\nHost: 127.0.0.1:") and b"Radiolith-Signature: t=1,v1=x" in head
    assert body == b'{"events": []}'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 500 Oh\r\n\r\n", "answered 500"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "redirects are not followed"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, "no end of interim"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP"),
        (b"x" * 100_000, "no HTTP"),
        (b"", "without an answer"),
        (b"HTTP/1.1 2000 x\r\n\r\n", "no HTTP"),
    ],
)
async def test_answers_that_are_no_success(answer: bytes, said: str) -> None:
    async with target(answer) as (url, received):
        with pytest.raises(Unavailable, match=said):
            await Post(allow_private=True)(url, {}, b"x")
    assert len(received) == 1


async def test_interim_answers_are_passed_over() -> None:
    async with target(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n") as (url, _):
        await Post(allow_private=True)(url, {}, b"x")


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 200 OK" + b" " * 500])
async def test_a_target_that_hangs_or_drips_has_an_end(answer: bytes | None) -> None:
    async with target(answer, slowly=True) as (url, _):
        with pytest.raises(Unavailable, match="within"):
            await Post(allow_private=True, seconds=0.2)(url, {}, b"x")


async def test_a_target_that_is_not_there() -> None:
    async with target(b"") as (url, _):
        pass
    with pytest.raises(Unavailable, match="no connection"):
        await Post(allow_private=True)(url, {}, b"x")


@pytest.mark.parametrize(
    ("found", "allow"),
    [
        (["127.0.0.1"], False), (["10.0.0.7"], False), (["::1"], False), (["fd00::1"], False), (["100.64.1.1"], False),
        (["93.184.216.34", "127.0.0.1"], False), (["::ffff:127.0.0.1"], False), (["64:ff9b::7f00:1"], False),
        (["169.254.169.254"], True), (["fe80::1%eth0"], True), (["0.0.0.0"], True), (["::"], True), (["224.0.0.1"], True),
        (["192.0.0.192"], True),
        (["::ffff:169.254.169.254"], True), (["2002:a9fe:a9fe::1"], True),
    ],
)  # fmt: skip
async def test_a_name_that_leads_where_webhooks_must_not_go(found: list[str], allow: bool) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return found

    with pytest.raises(NotAllowed):
        await Post(allow_private=allow, resolve=resolve)("https://ris.example/hook", {}, b"x")


async def test_public_targets_get_no_plain_http() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.216.34"]

    with pytest.raises(NotAllowed, match="https only"):
        await Post(allow_private=True, resolve=resolve)("http://ris.example/hook", {}, b"x")
    with pytest.raises(BadInput, match="https is needed"):
        await Post(allow_private=False, resolve=resolve)("http://ris.example/hook", {}, b"x")


# ---------------------------------------------------------------- forged and replayed


def test_a_receiver_takes_what_is_ours_once_and_nothing_else() -> None:
    from random import Random

    random, now = Random(1), 1_800_000_000
    body = json.dumps({"events": []}).encode()
    receiver = Receiver(SECRET, clock=lambda: now)
    good = signature(SECRET, now, body)
    assert receiver.events(good, body) == []
    tries = [
        (good, body), (None, body), ("", body), (good, body + b" "), (good.replace("t=18", "t=17"), body),
        (signature("another secret altogether", now, body), body), (signature(SECRET, now - 301, body), body),
        (signature(SECRET, now + 301, body), body), (good + ",v1=" + "0" * 64, body), (good.upper(), body),
    ]  # fmt: skip
    for _ in range(1000):
        forged = f"t={now},v1={random.randbytes(32).hex()}"
        tries.append((forged, body))
    for given, what in tries:
        with pytest.raises(Forged):
            receiver.events(given, what)
    assert receiver.events(signature(SECRET, now + 1, body), body) == []


def test_a_webhook_is_read_as_it_was_made(site: Site) -> None:
    site.hook(kinds=["study.complete"], role="reader")
    with site.database.read() as read:
        entry = registry.get(read, TENANT.id, "webhook", "ris")
    assert entry is not None
    expected = Webhook("ris", "http://127.0.0.1/ris", ("study.complete",), "reader", site.now, SECRET)
    assert replace(webhook_of(entry)) == expected
