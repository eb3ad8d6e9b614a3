"""The keyring: one order for all, every entry in every place."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from radiolith.config import Tier
from radiolith.model import Damaged, NotFound, Unavailable
from radiolith.storage.keyring import Entry, Keyring
from radiolith.storage.slots import MAX_PAYLOAD, SLOT
from radiolith.storage.tiers import open_keyring
from tests.storage.seaweed import Seaweed

Open = Callable[[], Keyring]


@pytest.fixture(params=["files", "objects", "mixed", "s3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same keyring again, as another process of the same host would."""
    name = f"{tmp_path.name}-{os.getpid()}"
    file, other = f"file://{tmp_path}/a/keyring", f"file://{tmp_path}/b/keyring"
    if request.param == "files":
        return lambda: open_keyring([file, other], Tier())
    if request.param == "objects":
        return lambda: open_keyring([f"memory://{name}/one", f"memory://{name}/two"], Tier())
    if request.param == "mixed":
        return lambda: open_keyring([file, f"memory://{name}/one"], Tier())
    seaweed: Seaweed = request.getfixturevalue("seaweed")
    return lambda: open_keyring([f"{seaweed.tier.url}/{name}/k1", f"{seaweed.tier.url}/{name}/k2"], seaweed.tier)


def payloads(entries: Sequence[Entry]) -> list[bytes]:
    return [entry.payload for entry in entries]


def test_entries_keep_their_order_and_positions(opened: Open) -> None:
    keyring = opened()
    assert payloads(keyring.append(lambda seen: [b"one", b"two"])) == [b"one", b"two"]
    assert keyring.append(lambda seen: []) == []
    assert [entry.position for entry in keyring.append(lambda seen: [b"three"])] == [2]
    again = opened()
    assert payloads(list(again.entries())) == [b"one", b"two", b"three"]
    assert payloads(list(again.entries(2))) == [b"three"]
    assert again.read(1).payload == b"two"
    for position in (3, 1000, -1):
        with pytest.raises(NotFound):
            again.read(position)
    assert not list(again.check()) and again.repair() == 0


def test_propose_sees_what_others_appended_and_the_loser_adopts_it(opened: Open) -> None:
    """Insert-if-absent: both want an entry, one makes it."""
    first, second = opened(), opened()
    known: set[bytes] = set()

    def if_absent(seen: Sequence[Entry]) -> list[bytes]:
        known.update(payloads(seen))
        return [] if b"scope" in known else [b"scope"]

    assert len(first.append(lambda seen: [b"scope"])) == 1
    assert second.append(if_absent) == []
    first.append(lambda seen: [b"more"])
    assert [entry.position for entry in second.append(lambda seen: [b"last"])] == [2]
    assert payloads(list(first.entries())) == [b"scope", b"more", b"last"]
    assert first.read(2).payload == b"last"


def test_many_writers_one_order(opened: Open) -> None:
    keyrings = [opened() for _ in range(3)]
    returned: list[Entry] = []

    def work(keyring: Keyring, name: int) -> None:
        for number in range(5):
            returned.extend(keyring.append(lambda seen, number=number: [b"%d-%d" % (name, number)] * (1 + number % 3)))

    threads = [threading.Thread(target=work, args=(keyring, index)) for index, keyring in enumerate(keyrings)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    returned.sort(key=lambda entry: entry.position)
    assert [entry.position for entry in returned] == list(range(27))
    assert list(opened().entries()) == returned
    assert not list(opened().check())


def _append(places: list[str], name: int) -> None:
    keyring = open_keyring(places, Tier())
    for number in range(20):
        keyring.append(lambda seen, number=number: [b"%d-%d" % (name, number)])


def test_processes_of_one_host_exclude_each_other(tmp_path: Path) -> None:
    places = [f"file://{tmp_path}/a/keyring", f"file://{tmp_path}/b/keyring"]
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(places, name)) for name in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    keyring = open_keyring(places, Tier())
    assert len(set(payloads(list(keyring.entries())))) == 40
    assert (tmp_path / "a/keyring").read_bytes() == (tmp_path / "b/keyring").read_bytes()


def test_payloads_have_a_limit(opened: Open) -> None:
    keyring = opened()
    keyring.append(lambda seen: [b"x" * MAX_PAYLOAD, b""])
    assert payloads(list(keyring.entries())) == [b"x" * MAX_PAYLOAD, b""]
    with pytest.raises(ValueError, match="476"):
        keyring.append(lambda seen: [b"x" * (MAX_PAYLOAD + 1)])
    assert len(keyring.append(lambda seen: [b"still works"])) == 1


def test_two_places_at_least() -> None:
    with pytest.raises(ValueError, match="two"):
        open_keyring(["memory://alone"], Tier())


def test_a_lost_place_is_made_again(tmp_path: Path) -> None:
    places = [f"file://{tmp_path}/a/keyring", f"file://{tmp_path}/b/keyring"]
    open_keyring(places, Tier()).append(lambda seen: [b"x"] * 5000)
    for lost in ("a", "b"):
        (tmp_path / lost / "keyring").unlink()
        assert len(list(open_keyring(places, Tier()).entries())) == 5000
        assert (tmp_path / "a/keyring").read_bytes() == (tmp_path / "b/keyring").read_bytes()


def test_a_mirror_behind_is_filled_up(tmp_path: Path) -> None:
    places = [f"file://{tmp_path}/a/keyring", f"file://{tmp_path}/b/keyring"]
    keyring = open_keyring(places, Tier())
    for number in range(9):
        keyring.append(lambda seen, number=number: [b"%d" % number])
    for name in ("a", "b"):
        os.truncate(tmp_path / name / "keyring", SLOT * 4 + 100)
        assert payloads(list(open_keyring(places, Tier()).entries())) == [b"%d" % number for number in range(9)]
        assert (tmp_path / "a/keyring").read_bytes() == (tmp_path / "b/keyring").read_bytes()


def test_places_of_two_keyrings_are_not_mixed(tmp_path: Path) -> None:
    for pair in ("ab", "cd"):
        open_keyring([f"file://{tmp_path}/{name}/keyring" for name in pair], Tier()).append(lambda seen: [b"x"])
    with pytest.raises(Damaged, match="different"):
        open_keyring([f"file://{tmp_path}/{name}/keyring" for name in "ad"], Tier())


def test_a_nodes_mirror_follows_the_shared_place(tmp_path: Path) -> None:
    """Two nodes, each with a file of its own beside the object store."""
    name = f"nodes-{tmp_path.name}"
    nodes = [open_keyring([f"file://{tmp_path}/{node}/keyring", f"memory://{name}/k"], Tier()) for node in "ab"]
    rng = random.Random(1)
    for number in range(20):
        rng.choice(nodes).append(lambda seen, number=number: [b"%d" % number] * (1 + number % 2))
    assert list(nodes[0].entries()) == list(nodes[1].entries())
    assert len(nodes[0]) == 30
    assert (tmp_path / "a/keyring").read_bytes() == (tmp_path / "b/keyring").read_bytes()


def test_a_failed_append_returns_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    from radiolith.storage.backends import Steps

    steps = Steps()
    keyring = open_keyring([f"file://{tmp_path}/{name}/keyring" for name in "ab"], Tier(), steps=steps)
    keyring.append(lambda seen: [b"kept"])
    steps.count = 0
    for fail_at in range(1, 5):
        steps.count = 0

        def hook(number: int, name: str, fail_at: int = fail_at) -> int | None:
            if number == fail_at:
                raise OSError(5, "injected")
            return None

        steps.hook = hook
        with pytest.raises(Unavailable):
            keyring.append(lambda seen: [b"refused"])
        steps.hook = None
        entries = keyring.append(lambda seen: [b"next"])
        assert payloads(entries) == [b"next"]
        assert keyring.read(0).payload == b"kept" and not list(keyring.check())
