"""Connections that break: at every byte of a small C-STORE, and every PDU of it truncated or followed by nonsense."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from radiolith.dimse.pdu import ABORT, AssociateAccept, encode
from tests import campaign
from tests.archive.objects import RAW, Made
from tests.dimse.served import Served, served
from tests.dimse.speaker import RELEASE, Ended, Speaker, echo, request, store

STUDY, SERIES = "2.25.1", "2.25.2"
PRIVATE = bytes(range(100))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("cut") / "home") as found:
        yield found


def made(sop: str) -> bytes:
    return Made(STUDY, SERIES, sop, private=PRIVATE).dataset()


def say_up_to(archive: Served, spoken: bytes, request_bytes: int, count: int, reset: bool) -> None:
    """The first `count` bytes of a conversation, as a sender would: data only once the association is accepted."""
    peer = Speaker(archive.port)
    peer.say(spoken[: min(count, request_bytes)])
    if count > request_bytes:
        assert isinstance(peer.pdu(), AssociateAccept)
        peer.say(spoken[request_bytes:count])
    peer.cut(reset=reset)


def test_a_connection_cut_at_every_byte(archive: Served) -> None:
    first = encode(request())
    whole = len(first) + len(store(made("2.25.10000"), "2.25.10000"))
    complete: set[str] = set()
    sops = [f"2.25.{10_000 + count}" for count in range(whole + len(RELEASE))]
    for count, sop in enumerate(sops):
        spoken = first + store(made(sop), sop) + RELEASE
        assert len(spoken) == len(sops)
        say_up_to(archive, spoken, len(first), count, reset=count % 2 == 1)
        if count >= whole:
            complete.add(sop)
    archive.idle()
    campaign.chosen["bytes of a C-STORE at which the connection was cut"] = len(sops)
    assert len(sops) > 600
    assert archive.instances() <= complete, "a part of an object was taken for one"
    with Speaker(archive.port) as peer:
        assert isinstance(peer.associate(), AssociateAccept)
        for number, sop in enumerate(sops):
            peer.say(store(made(sop), sop, number + 1))
        answers = [peer.answer() for _ in sops]
        peer.release()
    assert {answer.status for answer in answers} == {0} and {a.message_id for a in answers} == set(
        range(1, len(sops) + 1)
    )
    assert archive.instances() == set(sops)
    with archive.graph.database.read() as read:  # nor was one kept as another version, or set aside
        kept = [read.one(f"SELECT COUNT(*) FROM {table}") for table in ("instances", "quarantine")]
    assert kept == [(len(sops),), (0,)]


def pdus_of(spoken: bytes) -> list[tuple[int, int]]:
    """(start, end) of every PDU."""
    found, at = [], 0
    while at < len(spoken):
        end = at + 6 + int.from_bytes(spoken[at + 2 : at + 6], "big")
        found.append((at, end))
        at = end
    return found


@pytest.mark.parametrize("behind", [b"\x04\0\0\0\0\x03", b"\xff" * 600, b"GET / HTTP/1.1\r\n\r\n", RELEASE])
def test_a_truncated_pdu_and_then_something_else(archive: Served, behind: bytes) -> None:
    """Its rest is read as what it is not: A-ABORT or an end, never an object."""
    sop = "2.25.777"
    before = archive.instances()
    spoken = encode(request()) + store(made(sop), sop, size=200)
    rng = random.Random(len(behind))
    for start, end in pdus_of(spoken):
        for stop in sorted({start + 1, start + 5, start + 6, start + 11, end - 1, *rng.sample(range(start, end), 8)}):
            if stop + len(behind) >= len(spoken):
                continue  # that would be an object of these bytes
            with Speaker(archive.port) as peer:
                peer.say(spoken[:stop] + behind)
                peer.socket.shutdown(1)
                assert peer.ended()
    archive.idle()
    assert archive.instances() == before


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("established", [False, True])
def test_a_length_that_no_pdu_may_have(archive: Served, kind: int, established: bool) -> None:
    lengths = [0, 1, 5, 67, (256 << 10) + 7, (1 << 20) + 1, 1 << 31, (1 << 32) - 1]
    lengths = [n for n in lengths if not (kind in (3, 5, 6, 7) and n == 4)]
    right = {1: range(68, (1 << 20) + 1), 2: range(68, (1 << 20) + 1), 4: range(6, (256 << 10) + 1)}
    wrong = [length for length in lengths if length not in right.get(kind, ())]
    for length in wrong:
        with Speaker(archive.port) as peer:
            if established:
                assert isinstance(peer.associate(), AssociateAccept)
            peer.socket.settimeout(10)
            peer.say(bytes((kind, 0)) + length.to_bytes(4, "big"))
            found, body = peer.hear()
            assert found == ABORT, "answered before any of its data came"
            peer.say(b"\xaa" * 100)
            assert body[2] == (2 if established else 0) or kind == 4
            peer.cut(reset=False)
    archive.idle()


def test_an_association_beside_hostile_ones_goes_on(archive: Served) -> None:
    rng = random.Random(3)
    good = Speaker(archive.port)
    assert isinstance(good.associate(), AssociateAccept)
    spoken = encode(request()) + store(made("2.25.888"), "2.25.888") + RELEASE
    count = campaign.count("hostile connections beside a good one", 200, 20_000)
    with good:
        for number in range(count):
            bad = Speaker(archive.port)
            data = bytearray(spoken)
            for _ in range(rng.randint(1, 5)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            bad.say(
                rng.randbytes(rng.randint(1, 4000)) if number % 4 == 0 else bytes(data[: rng.randrange(len(data) - 20)])
            )
            bad.cut(reset=number % 3 == 0)
            good.say(echo(number % 60_000 + 1))
            assert good.answer().status == 0
        sop = "2.25.889"
        good.say(store(made(sop), sop))
        assert good.answer().status == 0
        good.release()
    archive.idle()
    assert sop in archive.instances()


def test_a_release_inside_a_message_ends_in_order(archive: Served) -> None:
    sop = "2.25.999"
    message = store(made(sop), sop, size=200)
    before = archive.instances()
    for start, _ in pdus_of(message)[1:]:
        with Speaker(archive.port) as peer:
            assert isinstance(peer.associate(), AssociateAccept)
            peer.socket.settimeout(10)
            peer.say(message[:start])
            peer.release()
    archive.idle()
    assert archive.instances() == before


def test_an_abort_inside_a_message_leaves_nothing(archive: Served) -> None:
    """Large enough to have streamed to the log already."""
    sop = "2.25.1001"
    dataset = Made(STUDY, SERIES, sop, pixels=bytes(6_000_000)).dataset()
    message = store(dataset, sop, size=100_000)
    before = archive.instances()
    for share in (0.2, 0.9):
        with Speaker(archive.port) as peer:
            assert isinstance(peer.associate(), AssociateAccept)
            spans = pdus_of(message)
            peer.say(message[: spans[int(len(spans) * share)][0]] + b"\x07\0\0\0\0\x04\0\0\0\0")
            assert peer.ended()
    archive.idle()
    assert archive.instances() == before
    assert "aborted by the peer" in {str(trace["end"]) for trace in archive.traces[-2:]}


def test_what_breaks_the_rules_of_messages_is_aborted(archive: Served) -> None:
    def value(context: int, control: int, data: bytes) -> bytes:
        head = (len(data) + 6).to_bytes(4, "big") + (len(data) + 2).to_bytes(4, "big")
        return b"\x04\0" + head + bytes((context, control)) + data

    sop = "2.25.1002"
    message = store(made(sop), sop)
    (_, command_end), (_, end) = pdus_of(message)
    command, data = message[:command_end], message[command_end + 12 : end]
    wrong = {
        "a context that was not accepted": command + value(5, 2, data),
        "a fragment of another context": command + value(1, 2, data),
        "a fragment of another context, then the right one": command + value(1, 0, data[:50]) + value(3, 2, data[50:]),
        "a command inside a data set": command + value(3, 0, data[:50]) + value(3, 3, data[50:]),
        "data without a command": value(3, 2, data),
        "nonsense for a command": value(3, 3, b"\xff" * 40),
        "an endless command": value(3, 1, bytes(16_000)) * 5,
        "a value longer than its PDU": b"\x04\0\0\0\0\x20\0\0\xff\xff\x03\x02" + bytes(26),
        "an accept": command + b"\x02\0\0\0\0\x44" + bytes(68),
    }
    before = archive.instances()
    for what, said in wrong.items():
        with Speaker(archive.port) as peer:
            assert isinstance(peer.associate(), AssociateAccept)
            peer.say(said)
            try:
                assert peer.hear()[0] == ABORT, what
            except Ended:
                pytest.fail(f"{what}: no A-ABORT")
            peer.cut(reset=False)
    archive.idle()
    assert archive.instances() == before


def test_fragments_up_to_the_one_marked_last_are_one_object(archive: Served) -> None:
    """However it is cut: also into values of no bytes, with the mark on an empty one."""
    sop = "2.25.1003"
    dataset, head = made(sop), store(made(sop), sop)
    command = head[: pdus_of(head)[0][1]]
    with Speaker(archive.port) as peer:
        assert isinstance(peer.associate(), AssociateAccept)
        peer.say(command)
        for at in range(0, len(dataset), 7):
            piece = dataset[at : at + 7]
            peer.say(
                b"\x04\0" + (len(piece) + 12).to_bytes(4, "big") + b"\0\0\0\x02\x03\0"
                + (len(piece) + 2).to_bytes(4, "big") + b"\x03\0" + piece
            )  # fmt: skip
        peer.say(b"\x04\0\0\0\0\x06\0\0\0\x02\x03\x02")
        assert peer.answer().status == 0
        peer.release()
    assert sop in archive.instances()


def test_a_store_where_none_was_agreed_and_one_without_data(archive: Served) -> None:
    from radiolith.dimse.commands import Command
    from radiolith.dimse.messages import message

    before = archive.instances()
    fields = {"MessageID": 1, "AffectedSOPClassUID": RAW, "AffectedSOPInstanceUID": "2.25.1004", "Priority": 0}
    with Speaker(archive.port) as peer:
        assert isinstance(peer.associate(), AssociateAccept)
        peer.say(b"".join(message(1, Command.of("C-STORE-RQ", True, **fields), made("2.25.1004"), 0)))
        assert peer.answer().status == 0x0211
        peer.say(b"".join(message(3, Command.of("C-STORE-RQ", **fields), None, 0)))
        assert peer.answer().status == 0xC000
        peer.say(echo(9))
        assert peer.answer().status == 0
        peer.release()
    assert archive.instances() == before
