"""UIDs and layouts in few bytes, and which version is current: pure functions."""

from __future__ import annotations

from itertools import permutations
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from radiolith.index.current import ASK, FIRST, NEWEST, Switch, Version, current
from radiolith.index.layouts import pack_layout, unpack_layout
from radiolith.index.uids import pack_uid, unpack_uid
from radiolith.model import Layout, Pixels

UID = st.text("0123456789.", min_size=0, max_size=64) | st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20
)


@given(UID)
def test_a_uid_comes_back(uid: str) -> None:
    assert unpack_uid(pack_uid(uid)) == uid


@given(st.lists(st.text("0123456789.", min_size=1, max_size=20), min_size=2, max_size=2))
def test_packed_uids_sort_as_their_text(pair: list[str]) -> None:
    assert (pack_uid(pair[0]) < pack_uid(pair[1])) == (pair[0] < pair[1])


def test_a_uid_of_64_characters_takes_32_bytes() -> None:
    assert len(pack_uid("1." + "9" * 62)) == 32


SIZE = st.integers(0, 2**64 - 1)
SMALL = st.integers(0, 255)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    edges = [draw(SIZE) for _ in range(4)]
    if draw(st.booleans()):
        return Layout("1.2", *edges, pixels=draw(st.sampled_from(Pixels)))
    inline = tuple(draw(st.lists(st.tuples(SIZE, SIZE), max_size=4)))
    return Layout(
        "1.2", *edges, draw(st.sampled_from(Pixels)), draw(st.sampled_from([0, 0x7FE00010, 0x7FE00008, 0x7FE00009])),
        draw(SIZE), draw(SIZE), draw(SIZE), draw(SIZE), draw(SIZE), draw(SMALL), draw(SMALL), inline, draw(SIZE),
    )  # fmt: skip


@given(layouts())
def test_a_layout_comes_back(layout: Layout) -> None:
    assert unpack_layout(pack_layout(layout), "1.2") == layout


def test_a_ct_takes_few_bytes() -> None:
    ct = Layout("1.2", 396, 526_000, 526_000, 1700, Pixels.NATIVE, 0x7FE00010, 1712, 524_288, 1, 512, 512, 1, 16)
    assert len(pack_layout(ct)) <= 44


# ---------------------------------------------------------------- current


def version(row: int, at: int, policy: int = FIRST, peer: str = "A", of: bytes | None = None) -> Version:
    return Version(row, at, bytes([row]) * 16, policy, peer, of)


def test_the_first_stays_under_policy_first() -> None:
    assert current([version(1, 10), version(2, 20)]).current == 1


def test_the_newest_of_the_same_peer_takes_over() -> None:
    held = [version(1, 10), version(2, 20, NEWEST), version(3, 30, NEWEST, "B")]
    assert current(held).current == 2


def test_ask_is_a_conflict_until_a_decision_after_it() -> None:
    held = [version(1, 10), version(2, 20, ASK)]
    assert current(held).conflicts == {2}
    assert current(held, Switch(15, b"f", b"\1" * 16)).conflicts == {2}
    decided = current(held, Switch(25, b"f", b"\2" * 16))
    assert (decided.current, decided.conflicts) == (2, frozenset())


def test_a_later_newest_takes_over_from_a_decision() -> None:
    held = [version(1, 10), version(2, 20, NEWEST), version(3, 30, NEWEST)]
    assert current(held, Switch(25, b"f", b"\1" * 16)).current == 3
    assert current(held, Switch(35, b"f", b"\1" * 16)).current == 1


def test_a_decision_for_what_is_not_held_decides_nothing() -> None:
    assert current([version(1, 10), version(2, 20, ASK)], Switch(99, b"f", b"?" * 16)).conflicts == {2}


def test_an_encoding_is_current_only_without_its_original() -> None:
    original, encoding = version(1, 10), version(2, 5, of=b"\1" * 16)
    assert current([original, encoding]).current == 1
    assert current([encoding]).current == 2


def test_a_decision_may_name_a_duplicate() -> None:
    held = [version(1, 10), Version(2, 20, b"\2" * 16, FIRST, "A", None, frozenset({b"d" * 16}))]
    assert current(held, Switch(30, b"f", b"d" * 16)).current == 2


def test_order_of_arrival_does_not_matter() -> None:
    random = Random(1)
    for _ in range(200):
        held = [
            version(
                n,
                random.randrange(5),
                random.choice([FIRST, NEWEST, ASK]),
                random.choice("AB"),
                random.choice([None, None, b"\1" * 16]),
            )
            for n in range(1, 5)
        ]
        switch = random.choice([None, Switch(random.randrange(6), b"f", bytes([random.randrange(1, 6)]) * 16)])
        assert len({repr(current(order, switch)) for order in permutations(held)}) == 1
