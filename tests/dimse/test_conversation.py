"""Both ends of the protocol in memory, talking to each other; fragments as they come out of the upper layer."""

from __future__ import annotations

import random
import tracemalloc
from struct import pack

import pytest

from radiolith.dimse.association import Caller, Wanted, agreed, requests
from radiolith.dimse.commands import Command
from radiolith.dimse.indications import Aborted, Cause, Fragment, OutOfTurn, Released, ReleaseRequested
from radiolith.dimse.items import AnsweredContext, UserInformation
from radiolith.dimse.messages import Arrived, Assembler, message
from radiolith.dimse.pdu import AssociateAccept, Data, ReleaseRequest, Value, encode
from radiolith.dimse.states import State
from radiolith.dimse.upperlayer import SLACK, UpperLayer
from tests.dimse.samples import (
    ACCEPT,
    CT_IMAGE,
    MAX_LENGTH,
    REQUEST,
    VERIFICATION,
    acceptor,
    drain,
    established,
)

ECHO = Command.of("C-ECHO-RQ", MessageID=1, AffectedSOPClassUID=VERIFICATION)
STORE = Command.of("C-STORE-RQ", True, MessageID=2, AffectedSOPClassUID=CT_IMAGE, AffectedSOPInstanceUID="2.25.7")


def say(speaker: UpperLayer, context_id: int, command: Command, data: bytes | None = None) -> bytes:
    buffers = speaker.send_data(message(context_id, command, data, speaker.peer_max_length))
    return b"".join(buffers)


def hear(listener: UpperLayer, wire: bytes, piece: int) -> tuple[list[Command], bytes]:
    """The commands of `wire`, and all data of their data sets."""
    assembler, commands, data = Assembler(), list[Command](), bytearray()
    for event in drain(listener, wire, piece):
        assert isinstance(event, Fragment)
        got = assembler.feed(event)
        if isinstance(got, Arrived):
            commands.append(got.command)
        elif got is not None:
            data += got.data
    assert assembler.between_messages
    return commands, bytes(data)


@pytest.mark.parametrize("piece", [1, 13, 4096, 1 << 20])
def test_associate_echo_store_release(piece: int) -> None:
    there, here = established()
    assert there.peer_max_length == MAX_LENGTH
    assert hear(here, say(there, 1, ECHO), piece) == ([ECHO], b"")
    assert hear(there, say(here, 1, ECHO.answer(0)), piece) == ([ECHO.answer(0)], b"")
    data = bytes(n % 253 for n in range(20_001))
    assert hear(here, say(there, 3, STORE, data), piece) == ([STORE], data)
    assert hear(there, say(here, 3, STORE.answer(0)), piece) == ([STORE.answer(0)], b"")
    assert drain(here, there.send_release(), piece) == [ReleaseRequested(collision=False)]
    assert here.owes_release_reply and here.may_send_data and not there.may_send_data
    assert drain(there, here.send_release_reply(), piece) == [Released()]
    assert there.must_close and there.state is State.IDLE
    assert not here.must_close and here.artim
    assert here.closed() == [] and here.must_close and not here.artim


def test_what_is_still_on_its_way_arrives_after_a_release_was_asked_for() -> None:
    there, here = established()
    release = here.send_release()
    assert hear(here, say(there, 1, ECHO), 5) == ([ECHO], b"")
    assert drain(there, release) == [ReleaseRequested(collision=False)]
    assert hear(here, b"", 1) == ([], b"")
    with pytest.raises(OutOfTurn):
        drain(here, b"") or here.send_data([])
    assert b"".join(there.send_data([b"late"])) == b"late"


def test_both_ask_for_release_at_once() -> None:
    there, here = established()
    from_there, from_here = there.send_release(), here.send_release()
    assert drain(there, from_here) == [ReleaseRequested(collision=True)]
    assert drain(here, from_there) == [ReleaseRequested(collision=True)]
    assert there.owes_release_reply and not here.owes_release_reply
    assert drain(here, there.send_release_reply()) == [Released()]
    assert here.owes_release_reply
    assert drain(there, here.send_release_reply()) == [Released()]
    assert there.must_close
    here.closed()
    assert here.state is there.state is State.IDLE


def test_an_abort_ends_both() -> None:
    there, here = established()
    (told,) = drain(here, there.send_abort())
    assert isinstance(told, Aborted) and told.cause is Cause.PEER_USER
    assert here.must_close and here.state is State.IDLE
    assert there.state is State.AWAITING_CLOSE and there.artim and not there.must_close
    there.expired()
    assert there.must_close
    assert drain(here, b"anything") == [] and drain(there, b"anything") == []


def test_an_abort_in_the_middle_of_a_chunk_stops_the_rest() -> None:
    """The user aborts while events of one chunk are still coming: nothing more is told, whatever is in it."""
    there, here = established()
    wire = say(there, 3, STORE, bytes(10_000)) + say(there, 1, ECHO)
    for piece in (1, 9, 4096, 1 << 20):
        _, here = established()
        seen = 0
        for start in range(0, len(wire), piece):
            for _event in here.receive(wire[start : start + piece]):
                seen += 1
                if seen == 3:
                    assert here.send_abort()[0] == 7
        assert seen == 3 and here.pending() == b""
        assert not here.must_close
        drain(here, b"\7\0\0\0\0\4\0\0\0\0")  # in step still: the abort is understood
        assert here.must_close


@pytest.mark.parametrize("cut", range(1, 13))
def test_an_abort_inside_the_header_of_a_value_keeps_step(cut: int) -> None:
    _, here = established()
    wire = encode(Data((Value(1, False, False, b"abcd"), Value(1, False, True, b"ef"))))
    drain(here, wire[: 6 + cut])
    here.send_abort()
    assert drain(here, wire[6 + cut :]) == []
    drain(here, b"\7\0\0\0\0\4\0\0\0\0")
    assert here.must_close and here.pending() == b""


@pytest.mark.parametrize("piece", [1, 2, 5, 6, 7, 12, 100])
def test_a_value_larger_than_what_has_arrived_comes_in_pieces(piece: int) -> None:
    _, here = established()
    wire = encode(
        Data((Value(1, True, False, b"A" * 50), Value(3, False, True, b"B" * 70), Value(3, False, True, b"")))
    )
    told = drain(here, wire, piece)
    assert all(isinstance(each, Fragment) for each in told)
    fragments = [each for each in told if isinstance(each, Fragment)]
    assert b"".join(each.data for each in fragments if each.command) == b"A" * 50
    assert b"".join(each.data for each in fragments if not each.command) == b"B" * 70
    assert not any(each.last for each in fragments if each.command)
    assert sum(each.last for each in fragments) == 2 and fragments[-1].last and not fragments[-1].data


def test_data_are_views_of_the_buffer_that_was_fed() -> None:
    _, here = established()
    buffer = bytearray(encode(Data((Value(1, False, True, bytes(1000)),))))
    (told,) = here.receive(memoryview(buffer))
    assert isinstance(told, Fragment) and told.data.obj is buffer


BAD_DATA = {
    "value of length 0": b"\0\0\0\0\1\3",
    "value of length 1": b"\0\0\0\1\1\3",
    "value beyond its PDU": b"\0\0\0\3\1\3",
    "value of 4 GiB": b"\xff\xff\xff\xff\1\3",
    "even context": b"\0\0\0\2\2\3",
    "context that was refused": b"\0\0\0\2\5\3",
    "rest too short for a value": b"\0\0\0\2\1\3\0\0\0\2\1",
}


@pytest.mark.parametrize("name", BAD_DATA)
@pytest.mark.parametrize("piece", [1, 1000])
def test_bad_values_abort_with_invalid_parameter(name: str, piece: int) -> None:
    _, here = established()
    body = BAD_DATA[name]
    (told,) = drain(here, pack(">BxI", 4, len(body)) + body, piece)
    assert isinstance(told, Aborted) and (told.cause, told.source, told.reason) == (Cause.HERE, 2, 6)
    assert here.pending() == b"\7\0\0\0\0\4\0\0\2\6"
    drain(here, encode(ReleaseRequest()) + b"\7\0\0\0\0\4\0\0\0\0")
    assert here.must_close, "the next PDU was found"


def test_lengths_around_the_maximum() -> None:
    """What is announced decides, before any of it has come."""
    for limit in (0, 128, MAX_LENGTH):
        accept = AssociateAccept("", "", ACCEPT.contexts, UserInformation(limit))
        for length in (6, limit, limit + 1, limit + SLACK, limit + SLACK + 1, 2**31, 2**32 - 1):
            here = acceptor(State.AWAITING_LOCAL_ANSWER)
            here.send_accept(accept)
            told = drain(here, pack(">BxI", 4, length))
            fits = length >= 6 and (not limit or length <= limit + SLACK)
            assert bool(told) is not fits and here.pending() == (b"" if fits else b"\7\0\0\0\0\4\0\0\2\6")


def test_memory_stays_flat_whatever_is_announced() -> None:
    """64 MB of a 4 GiB PDU to a receiver without limit, then an associate PDU announced at its largest: nothing is kept."""
    layer = acceptor(State.AWAITING_LOCAL_ANSWER)
    layer.send_accept(AssociateAccept("", "", ACCEPT.contexts, UserInformation(0)))
    chunk = bytes(1 << 20)
    tracemalloc.start()
    try:
        drain(layer, pack(">BxIIBB", 4, 2**32 - 1, 2**32 - 5, 1, 0))
        for _ in range(64):
            for event in layer.receive(chunk):
                assert isinstance(event, Fragment)
        waiting = [UpperLayer.acceptor(0) for _ in range(100)]
        for each in waiting:
            drain(each, pack(">BxI", 1, 1024 * 1024) + bytes(100))
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_data_before_the_answer_and_a_second_request_are_unexpected() -> None:
    for wire in (encode(Data((Value(1, True, True, b""),))), encode(REQUEST)):
        layer = acceptor(State.AWAITING_LOCAL_ANSWER)
        (told,) = drain(layer, wire)
        assert isinstance(told, Aborted) and told.reason == 2
        assert layer.pending() == b"\7\0\0\0\0\4\0\0\2\2"


def test_what_the_requestor_may_use_is_what_it_proposed_and_the_acceptor_took() -> None:
    (request,) = requests([Wanted(CT_IMAGE, ("1.2.840.10008.1.2",)), Wanted("1.2.3", ("1.2",))], Caller("A", "B"))
    there = UpperLayer.requestor(request)
    there.connected()
    answers = tuple(AnsweredContext(number, 0, "1.2.840.10008.1.2") for number in (1, 5))
    accept = AssociateAccept("B", "A", answers, UserInformation(MAX_LENGTH))
    drain(there, encode(accept))
    assert list(agreed(request, accept).contexts) == [1]
    assert drain(there, encode(Data((Value(1, True, True, b""),))))[0] == Fragment(1, True, True, memoryview(b""))
    (told,) = drain(there, encode(Data((Value(5, True, True, b""),))))
    assert isinstance(told, Aborted) and told.reason == 6


def test_every_announced_length_is_judged_from_the_header_alone() -> None:
    """T1 of the list of attacks: lengths of all sizes in every PDU type, each answered without waiting for a body."""
    source = random.Random(1)
    for number in range(10_000):
        kind, length = 1 + number % 7, source.getrandbits(source.randrange(1, 33))
        here = acceptor(State.AWAITING_REQUEST if kind == 1 else State.ESTABLISHED)
        told = drain(here, pack(">BxI", kind, length))
        fits = {1: 68 <= length <= 1 << 20, 4: 6 <= length <= MAX_LENGTH + SLACK}.get(kind, length == 4 and kind != 2)
        assert (here.state is State.AWAITING_CLOSE) is not fits, (kind, length, told)
        assert (here.pending()[:1] == b"\7") is not fits
