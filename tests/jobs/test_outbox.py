"""The runner of the outbox against a destination in memory: nothing lost, nothing sent that was noted, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from radiolith.index import sending
from radiolith.index.database import Database
from radiolith.index.outbox import ItemState, Priority, State
from radiolith.jobs import outbox
from radiolith.jobs.outbox import ASKS, ATTEMPTS, COMMITMENT, FIRST, LEASE, LONGEST, Runner, Sender, pause
from radiolith.jobs.outcomes import standing
from tests.index.conftest import TENANT, fresh  # noqa: F401
from tests.jobs.sending import BROKEN, Killed, Mortal, Slow, World


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, fresh: Callable[[str], Database]) -> World:  # noqa: F811
    return World(fresh(request.param))


@pytest.fixture
def small(fresh: Callable[[str], Database]) -> World:  # noqa: F811
    """On SQLite only: what is shown does not depend on the database."""
    return World(fresh("sqlite"))


async def drain(world: World, runner: Runner | None = None) -> None:
    """Everything that is due now, to its end."""
    runner = runner or Runner(world.means())
    while await runner.start():
        await runner.settled()


async def test_all_is_delivered_once_and_on_record(world: World) -> None:
    number = world.order()
    await drain(world)
    done = world.transfer(number)
    assert (done.state, done.delivered, done.failed, done.said) == (State.DELIVERED, 12, 0, "")
    assert world.destination.kept == world.sops() and set(world.destination.offered.values()) == {1}
    assert world.trail.notes == [("anna", "send to ws", 12)]


async def test_a_broken_connection_waits_longer_each_time_and_goes_on_behind_what_arrived(small: World) -> None:
    number = small.order()
    small.destination.refuses = BROKEN
    waits = []
    for _ in range(12):
        await drain(small)
        waits.append(small.transfer(number).next_at - small.clock.now)
        small.clock.now += waits[-1]
    assert waits[:3] == [FIRST // 2, FIRST, FIRST * 2] and waits[-1] == LONGEST // 2
    assert small.transfer(number).said == str(BROKEN)
    small.destination.refuses = None
    small.destination.answer = lambda sop, times: BROKEN if len(small.destination.kept) == 5 and times == 1 else 0
    await drain(small)
    assert (small.transfer(number).delivered, small.transfer(number).state) == (5, State.WAITING)
    assert small.transfer(number).next_at - small.clock.now == FIRST // 2  # something got through: from the beginning
    small.clock.now += LONGEST
    await drain(small)
    assert small.transfer(number).state is State.DELIVERED
    assert sorted(small.destination.offered.values()) == [1] * 11 + [2]  # the one that broke off had no answer


async def test_it_gives_up_one_day_and_again_starts_anew(small: World) -> None:
    number = small.order()
    small.destination.refuses = BROKEN
    for _ in range(ATTEMPTS):
        await drain(small)
        small.clock.now += LONGEST
    given_up = small.transfer(number)
    assert given_up.state is State.FAILED and "80 attempts" in given_up.said and str(BROKEN) in given_up.said
    small.destination.refuses = None
    with small.database.write() as tx:
        assert sending.again(tx, TENANT.id, number, small.clock.now)
    await drain(small)
    assert small.transfer(number).state is State.DELIVERED


async def test_one_refused_instance_does_not_hold_up_the_others(world: World) -> None:
    number = world.order()
    odd = sorted(world.sops())[3]
    world.destination.answer = lambda sop, times: 0xA900 if sop == odd else 0
    await drain(world)
    done = world.transfer(number)
    assert (done.state, done.delivered, done.failed) == (State.FAILED, 11, 1)
    assert "0xA900" in done.said and world.destination.kept == world.sops() - {odd}
    with world.database.read() as read:
        (_, item), *rest = outbox.outbox.items(read, number, state=ItemState.REFUSED)
    assert item.identity.sop == odd and rest == []
    with world.database.write() as tx:
        sending.again(tx, TENANT.id, number, world.clock.now)
    world.destination.answer = lambda sop, times: 0xB000
    await drain(world)
    assert world.transfer(number).state is State.DELIVERED
    assert [sop for sop, times in world.destination.offered.items() if times > 1] == [odd]


async def test_out_of_resources_is_tried_later(small: World) -> None:
    number = small.order()
    full = sorted(small.sops())[:4]
    small.destination.answer = lambda sop, times: 0xA700 if sop in full and times == 1 else 0
    await drain(small)
    assert (small.transfer(number).state, small.transfer(number).delivered) == (State.WAITING, 8)
    assert "0xA700" in small.transfer(number).said
    small.clock.now += FIRST
    await drain(small)
    assert small.transfer(number).state is State.DELIVERED
    assert sorted(small.destination.offered.values()) == [1] * 8 + [2] * 4


@pytest.mark.parametrize("after", [False, True])
async def test_a_kill_at_any_transaction_loses_nothing_and_repeats_only_what_was_not_noted(
    world: World, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die before or after the n-th transaction, for every n until a runner gets through alive."""
    monkeypatch.setattr(outbox, "MARKS", 3)
    monkeypatch.setattr(outbox, "BATCH", 5)
    for die_at in range(1, 30):
        world.destination.__init__()
        number = world.order()
        kept_before: set[str] = set()
        try:
            sender = Sender(world.means(Mortal(world.database, die_at, after=after)))
            await sender.run(number)
            died = False
        except Killed:
            died = True
        kept_before = set(world.destination.kept)
        noted = world.transfer(number).delivered
        world.clock.now += LEASE + 1
        await drain(world)
        done = world.transfer(number)
        assert (done.state, done.delivered, done.failed) == (State.DELIVERED, 12, 0), die_at
        assert world.destination.kept == world.sops()
        repeated = sum(times - 1 for times in world.destination.offered.values())
        assert repeated == (len(kept_before) - noted if noted < 12 else 0) <= 3, die_at
        if not died:
            assert die_at > 5
            return
    pytest.fail("no runner got through alive")


async def test_instances_go_on_while_answers_are_noted_up_to_a_bound(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MARKS", 4)
    number = small.order()
    slow = Slow(small.database, 2)  # behind the claim
    sending_it = asyncio.ensure_future(Sender(small.means(slow)).run(number))
    await asyncio.to_thread(slow.reached.wait, 30)
    for _ in range(50):
        await asyncio.sleep(0)
    assert small.transfer(number).delivered == 0 and len(small.destination.kept) == 4
    slow.go.set()
    done = await sending_it
    assert done and done.state is State.DELIVERED and set(small.destination.offered.values()) == {1}


async def test_a_stop_while_answers_are_noted_loses_none_of_them(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MARKS", 4)
    number = small.order()
    slow = Slow(small.database, 2)
    sending_it = asyncio.ensure_future(Sender(small.means(slow)).run(number))
    await asyncio.to_thread(slow.reached.wait, 30)
    sending_it.cancel()
    for _ in range(50):
        await asyncio.sleep(0)
    slow.go.set()
    with pytest.raises(asyncio.CancelledError):
        await sending_it
    left = small.transfer(number)
    assert (left.state, left.delivered) == (State.WAITING, len(small.destination.kept))
    await drain(small)
    assert set(small.destination.offered.values()) == {1}


async def test_two_runners_share_the_work(world: World) -> None:
    numbers = [world.order() for _ in range(6)]
    both = [Runner(world.means()), Runner(world.means())]
    for _ in range(6):
        await asyncio.gather(*(runner.start() for runner in both))
        await asyncio.gather(*(runner.settled() for runner in both))
    assert {world.transfer(number).state for number in numbers} == {State.DELIVERED}
    assert set(world.destination.offered.values()) == {6}


async def test_peers_take_turns_and_the_urgent_goes_first(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "TOTAL", 1)
    small.add_peer("pacs")
    many = [small.order("ws", 2) for _ in range(4)]
    urgent = small.order("ws", 2, priority=Priority.HIGH)
    other = small.order("pacs", 2)
    await drain(small)
    order = list(dict.fromkeys(small.destination.order))
    assert order[:2] == [("pacs", other), ("ws", urgent)] and [number for _, number in order[2:]] == many
    assert small.destination.most == 1


async def test_parallel_transfers_are_bounded_per_peer(small: World) -> None:
    small.add_peer("pacs")
    gate = asyncio.Event()

    class Slow(type(small.destination)):
        three = asyncio.Event()

        async def deliver(self, transfer, peer, instances):  # type: ignore[no-untyped-def]
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            if self.at_once == 3:
                self.three.set()
            await gate.wait()
            self.at_once -= 1
            for held in instances:
                yield outbox.Result(held, 0)

    small.destination = Slow()
    numbers = [small.order("ws", 1) for _ in range(5)] + [small.order("pacs", 1)]
    runner = Runner(small.means())
    assert await runner.start() == outbox.PER_PEER + 1
    await small.destination.three.wait()
    gate.set()
    await runner.settled()
    await drain(small, runner)
    assert small.destination.most == 3
    assert {small.transfer(number).state for number in numbers} == {State.DELIVERED}


async def test_a_cancelled_transfer_stops_at_the_next_note(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MARKS", 1)
    number = small.order()

    def answer(sop: str, times: int) -> int:
        if len(small.destination.kept) == 4:
            with small.database.write() as tx:
                sending.cancel(tx, TENANT.id, number, "enough", small.clock.now)
        return 0

    small.destination.answer = answer
    await drain(small)
    assert small.transfer(number).state is State.CANCELLED
    assert len(small.destination.kept) == 5 and small.destination.closed == 1


async def test_an_orderly_stop_gives_back_what_is_under_way(small: World) -> None:
    number = small.order()
    reached = asyncio.Event()

    class Endless(type(small.destination)):
        async def deliver(self, transfer, peer, instances):  # type: ignore[no-untyped-def]
            yield outbox.Result(instances[0], 0)
            reached.set()
            await asyncio.Event().wait()

    small.destination = Endless()
    stop = asyncio.Event()
    running = asyncio.ensure_future(Runner(small.means()).run(stop))
    await reached.wait()
    stop.set()
    await running
    left = small.transfer(number)
    assert (left.state, left.delivered, left.next_at) == (State.WAITING, 1, small.clock.now)


async def test_without_its_peer_a_transfer_is_held_until_there_is_one(small: World) -> None:
    number = small.order("gone")
    await drain(small)
    assert small.transfer(number).state is State.HELD and "no peer" in small.transfer(number).said
    small.add_peer("gone")
    small.clock.now += outbox.SWEEP
    await drain(small)
    assert small.transfer(number).state is State.DELIVERED


async def test_delivered_means_committed_where_the_peer_offers_that(world: World) -> None:
    world.add_peer("vault", commitment=True)
    number = world.order("vault")
    await drain(world)
    ((uid, sops),) = world.destination.asked
    waiting = world.transfer(number)
    assert (waiting.state, waiting.commitment, set(sops)) == (State.AWAITING, uid, world.sops())
    world.clock.now += COMMITMENT
    await drain(world)  # no word came: asked again, under another transaction
    assert len(world.destination.asked) == 2 and world.destination.asked[1][0] != uid
    with world.database.write() as tx:
        assert sending.awaiting(tx, TENANT.id, uid) is None
        found = sending.awaiting(tx, TENANT.id, world.destination.asked[1][0])
        assert found
        sending.settle(tx, found, sops[1:], {sops[0]: "processing failure"}, world.clock.now)
    await drain(world)
    assert [sops for _, sops in world.destination.asked[2:]] == [[sops[0]]]
    with world.database.write() as tx:
        found = sending.awaiting(tx, TENANT.id, world.destination.asked[2][0])
        assert found and sending.settle(tx, found, [sops[0]], {}, world.clock.now).state is State.DELIVERED
    assert sum(world.destination.offered.values()) == 13


async def test_a_peer_that_never_commits_is_said_to_be_one(small: World) -> None:
    small.add_peer("vault", commitment=True)
    number = small.order("vault", 3)
    for _ in range(ASKS + 2):
        await drain(small)
        small.clock.now += COMMITMENT
    assert small.transfer(number).state is State.FAILED and "not committed" in small.transfer(number).said
    assert len(small.destination.asked) == ASKS and sum(small.destination.offered.values()) == 3


async def test_a_move_starts_at_once_and_a_runner_takes_over_when_it_died(small: World) -> None:
    number = small.order(wait=5_000_000)
    await drain(small)
    assert small.destination.kept == set()  # its head start
    heard: list[int] = []
    assert await Sender(small.means()).run(number) is None
    done = await Sender(small.means()).run(number, lambda result: heard.append(result.status), early=True)
    assert done and done.state is State.DELIVERED and heard == [0] * 12
    late = small.order(wait=5_000_000)
    small.clock.now += 5_000_000
    await drain(small)
    assert small.transfer(late).state is State.DELIVERED


def test_statuses_as_the_standard_has_them() -> None:
    for status, state in (
        (0x0000, ItemState.SENT), (0xB000, ItemState.SENT), (0xB007, ItemState.SENT), (0x0111, ItemState.SENT),
        (0xA700, ItemState.WAITING), (0xA7FF, ItemState.WAITING), (0x0110, ItemState.WAITING),
        (0xA900, ItemState.REFUSED), (0xC000, ItemState.REFUSED), (0x0122, ItemState.REFUSED),
        (0x0124, ItemState.REFUSED),
    ):  # fmt: skip
        assert standing(status) is state, hex(status)


def test_the_pause_grows_within_its_bounds() -> None:
    for attempts in range(1, 200):
        for random in (0.0, 0.5, 0.999):
            whole = min(LONGEST, FIRST * 2 ** (attempts - 1))
            assert whole // 2 <= pause(attempts, random) <= whole


async def test_nobody_overtakes_who_ordered_several(small: World) -> None:
    """A C-MOVE of two studies: while it sends the first, a runner does not begin the second."""
    first, second = small.order(count=6, wait=5_000_000), small.order(wait=5_000_000)

    def answer(sop: str, times: int) -> int:
        small.clock.now += 4_000_000
        assert Runner(small.means())._choose(small.clock.now, 9) == []
        return 0

    small.destination.answer = answer
    await Sender(small.means()).run(first, early=True, behind=[second])
    done = await Sender(small.means()).run(second, early=True)
    assert done and done.state is State.DELIVERED
