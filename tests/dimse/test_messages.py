"""Command sets, messages in fragments, and what is cut for sending; pynetdicom encodes and decodes the same."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode as peer_decode
from pynetdicom.dsutils import encode as peer_encode

from radiolith.dimse.commands import COMMAND_MAX, COMMANDS, Command, Plain, decode_command, encode_command
from radiolith.dimse.indications import Fragment
from radiolith.dimse.items import ProtocolError
from radiolith.dimse.messages import (
    PEER_PDU_MIN,
    SENT_PDU_MAX,
    SMALL,
    Arrived,
    Assembler,
    Outgoing,
    Unmeasured,
    command_only,
    fragment_size,
    message,
    streamed,
)
from radiolith.dimse.pdu import Data, Value, decode
from tests.dimse.samples import CT_IMAGE, VERIFICATION

ECHO = Command.of("C-ECHO-RQ", MessageID=7, AffectedSOPClassUID=VERIFICATION)
STORE = Command.of(
    "C-STORE-RQ",
    True,
    MessageID=8,
    Priority=0,
    AffectedSOPClassUID=CT_IMAGE,
    AffectedSOPInstanceUID="2.25.1.2",
    MoveOriginatorApplicationEntityTitle="MOVER",
    MoveOriginatorMessageID=3,
)


def test_golden_bytes_of_an_echo() -> None:
    expected = bytes.fromhex("0000 0000 04000000 38000000")  # group length: 56
    expected += bytes.fromhex("0000 0200 12000000") + b"1.2.840.10008.1.1\0"
    expected += bytes.fromhex("0000 0001 02000000 3000")  # C-ECHO-RQ
    expected += bytes.fromhex("0000 1001 02000000 0700")  # message id
    expected += bytes.fromhex("0000 0008 02000000 0101")  # no data set
    assert encode_command(ECHO) == expected
    assert decode_command(expected) == ECHO


VALUES: dict[str, Plain] = {
    "OffendingElement": (0x00100010, 0x7FE00010),
    "AttributeIdentifierList": (0x00100020,),
    "ErrorComment": "why not",
    "MoveDestination": "TARGET",
    "MoveOriginatorApplicationEntityTitle": "MOVER",
}


def filled(field: int) -> Command:
    """A command with every field the standard gives it."""
    spec = COMMANDS[field]
    values: dict[str, Plain] = {}
    for number, keyword in enumerate((*spec.mandatory, *spec.optional)):
        values[keyword] = VALUES.get(keyword, f"1.2.{number}" if keyword.endswith("UID") else number + 1)
    return Command(field, values, bool(field & 1))


@pytest.mark.parametrize("field", COMMANDS)
def test_pynetdicom_reads_and_writes_the_same_commands(field: int) -> None:
    command = filled(field)
    data = encode_command(command)
    theirs: Dataset = peer_decode(BytesIO(data), True, True)
    assert theirs.CommandField == field
    assert (theirs.CommandDataSetType != 0x0101) == command.has_data_set
    for keyword, value in command.items():
        other: Any = getattr(theirs, keyword)
        if isinstance(value, tuple):
            assert [int(tag) for tag in (other if hasattr(other, "__iter__") else [other])] == list(value)
        else:
            assert other == value
    assert decode_command(data) == command and not command.missing
    assert peer_encode(theirs, True, True) == data


def test_commands_say_what_they_lack_and_what_they_answer() -> None:
    bare = Command.of("C-STORE-RQ", True, MessageID=1)
    assert bare.missing == ["AffectedSOPClassUID", "AffectedSOPInstanceUID"]
    answer = STORE.answer(0xA700, ErrorComment="full")
    assert (answer.name, answer.message_id, answer.status) == ("C-STORE-RSP", 8, 0xA700)
    assert (answer.sop_class, answer.sop_instance, answer.is_response) == (CT_IMAGE, "2.25.1.2", True)
    action = Command.of(
        "N-ACTION-RQ", True, MessageID=2, RequestedSOPClassUID="1", RequestedSOPInstanceUID="2", ActionTypeID=1
    )
    assert dict(action.answer(0)) == {
        "MessageIDBeingRespondedTo": 2,
        "Status": 0,
        "AffectedSOPClassUID": "1",
        "AffectedSOPInstanceUID": "2",
    }
    assert "MOVER" not in repr(STORE)
    assert Command.of("C-CANCEL-RQ", MessageIDBeingRespondedTo=9).message_id == 9


def test_tolerated_in_command_sets() -> None:
    data = encode_command(ECHO)
    assert decode_command(data[12:]) == ECHO  # no group length
    assert decode_command(data[:8] + b"\xff\xff\xff\xff" + data[12:]) == ECHO
    retired = bytes.fromhex("0000 0100 04000000 00000000")
    assert decode_command(data[:12] + retired + data[12:]) == ECHO
    empty = bytes.fromhex("0000 0009 00000000")
    assert decode_command(data + empty) == ECHO


REFUSED = [
    b"",
    encode_command(ECHO)[:-1],
    encode_command(ECHO)[:-10],
    encode_command(ECHO).replace(b"\x30\0\0\0\x10\1", b"\x31\0\0\0\x10\1"),
    encode_command(ECHO) + b"\x08\0\x05\0\0\0\0\0",
    encode_command(ECHO).replace(b"\x10\1\2\0\0\0", b"\x10\1\xff\xff\xff\xff"),
    encode_command(Command.of("C-ECHO-RSP", MessageIDBeingRespondedTo=1)),
    encode_command(Command.of("C-ECHO-RQ")),
    encode_command(ECHO)[:12] + bytes.fromhex("0000 1001 04000000 07000000") + encode_command(ECHO)[38:],
]


@pytest.mark.parametrize("data", REFUSED)
def test_command_sets_that_cannot_be_answered_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_command(data)
    assert (caught.value.source, caught.value.reason) == (0, 0)


def test_what_has_no_place_in_a_command_is_not_written() -> None:
    for values in ({"PatientID": "1"}, {"MessageID": 65536}, {"OffendingElement": (1 << 33,)}):
        with pytest.raises(ValueError):
            encode_command(Command.of("C-ECHO-RQ", **values))  # type: ignore[arg-type]


# ---------------------------------------------------------------- receiving


def fragment(context_id: int, command: bool, last: bool, data: bytes) -> Fragment:
    return Fragment(context_id, command, last, memoryview(data))


def test_a_message_streams_through() -> None:
    assembler, data = Assembler(), encode_command(STORE)
    assert assembler.between_messages
    assert assembler.feed(fragment(3, True, False, data[:20])) is None
    assert not assembler.between_messages
    assert assembler.feed(fragment(3, True, True, data[20:])) == Arrived(3, STORE)
    for last in (False, False, True):
        piece = fragment(3, False, last, b"data")
        assert not assembler.between_messages
        assert assembler.feed(piece) is piece
    assert assembler.between_messages
    assert assembler.feed(fragment(1, True, True, encode_command(ECHO))) == Arrived(1, ECHO)
    assert assembler.between_messages


COMMAND = fragment(1, True, True, encode_command(STORE))
ORDERS = [
    ([fragment(1, False, True, b"")], 5),
    ([COMMAND, COMMAND], 5),
    ([COMMAND, fragment(3, False, True, b"")], 5),
    ([COMMAND, fragment(1, False, True, b""), fragment(1, False, True, b"")], 5),
    ([fragment(1, True, False, b"\0"), fragment(1, False, True, b"")], 5),
    ([fragment(1, True, False, b"\0"), fragment(3, True, True, b"")], 5),
    ([fragment(1, True, True, encode_command(ECHO)), fragment(1, False, True, b"")], 5),
    ([fragment(1, True, True, b"")], 0),
    ([fragment(1, True, False, bytes(COMMAND_MAX)), fragment(1, True, False, b"\0")], 6),
]


@pytest.mark.parametrize("fragments,reason", ORDERS)
def test_every_other_order_is_refused(fragments: list[Fragment], reason: int) -> None:
    assembler = Assembler()
    for each in fragments[:-1]:
        assembler.feed(each)
    with pytest.raises(ProtocolError) as caught:
        assembler.feed(fragments[-1])
    assert caught.value.reason == reason


# ---------------------------------------------------------------- sending


def values(parts: list[Any]) -> list[Value]:
    """The values of P-DATA-TF PDUs that were cut, each PDU read by itself."""
    wire, found, at = b"".join(parts), list[Value](), 0
    while at < len(wire):
        length = int.from_bytes(wire[at + 2 : at + 6], "big")
        pdu = decode(wire[at], wire[at + 6 : at + 6 + length])
        assert isinstance(pdu, Data)
        found += pdu.values
        at += 6 + length
    return found


def check(found: list[Value], data: bytes, maximum: int) -> None:
    """One value a PDU, none longer than allowed, all even but perhaps the last, only the last marked."""
    assert b"".join(each.data for each in found) == data
    assert [each.last for each in found] == [False] * (len(found) - 1) + [True]
    assert all(len(each.data) % 2 == 0 for each in found[:-1])
    assert all(len(each.data) + 6 <= maximum for each in found)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 3000), st.integers(PEER_PDU_MIN, 900), st.lists(st.integers(0, 700), max_size=12))
def test_cut_data_sets_come_together_again(total: int, maximum: int, cuts: list[int]) -> None:
    data = bytes(n % 251 for n in range(total))
    whole = values(message(3, STORE, data, maximum))
    check([each for each in whole if each.command], encode_command(STORE), maximum)
    check([each for each in whole if not each.command], data, maximum)
    bounds = [0, *sorted(min(cut * 5, total) for cut in cuts), total]
    pieces = [data[a:b] for a, b in pairwise(bounds)]
    check(values([part for parts in streamed(3, pieces, total, maximum) for part in parts]), data, maximum)
    unmeasured = Unmeasured(3, maximum)
    parts = [part for piece in pieces for part in unmeasured.feed(piece)]
    check(values([*parts, *unmeasured.finish()]), data, maximum)


def test_small_messages_are_one_write_and_large_ones_are_not_copied() -> None:
    assert len(message(1, ECHO, None, 16384)) == 1
    assert len(message(3, STORE, bytes(SMALL - 500), 0)) == 1
    data = bytearray(2 * SMALL)
    parts = message(3, STORE, data, 16384)
    assert len(parts) > 8 and sum(isinstance(part, memoryview) and part.obj is data for part in parts) == 9
    outgoing = Outgoing(3, len(data), 0)
    views = [part for part in outgoing.feed(data) if isinstance(part, memoryview)]
    assert [view.obj for view in views] == [data] and outgoing.complete


def test_a_command_before_streamed_data() -> None:
    wire = command_only(3, STORE, 16384)
    assert values([wire]) == [Value(3, True, True, encode_command(STORE))]


def test_a_data_set_is_exactly_as_long_as_was_said() -> None:
    with pytest.raises(ValueError, match="1 bytes more"):
        Outgoing(1, 3, 0).feed(b"four")
    with pytest.raises(ValueError, match="shorter"):
        list(streamed(1, [b"abc"], 4, 0))
    for command, data in ((ECHO, b""), (STORE, None)):
        with pytest.raises(ValueError, match="does not say"):
            message(1, command, data, 0)


def test_fragment_sizes() -> None:
    assert fragment_size(0) == fragment_size(2**32 - 1) == SENT_PDU_MAX - 6
    assert fragment_size(16384) == 16378 and fragment_size(16385) == 16378
    assert fragment_size(0, 100) == 94
