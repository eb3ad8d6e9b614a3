"""PDUs: golden bytes of each kind, every truncation, byte by byte, round trips, and pynetdicom as the other reader."""

from __future__ import annotations

from struct import pack
from typing import Any

import pynetdicom.pdu as peers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiolith.dimse.items import (
    AnsweredContext,
    CommonExtended,
    Extended,
    Identity,
    ProposedContext,
    ProtocolError,
    Reason,
    Role,
    UserInformation,
    Window,
)
from radiolith.dimse.pdu import (
    ASSOCIATE_MAX,
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    Data,
    Pdu,
    ReleaseReply,
    ReleaseRequest,
    Value,
    check_header,
    decode,
    encode,
)
from radiolith.dimse.states import State
from tests.dimse.samples import DATA, EVERY_PDU, FULL_ACCEPT, FULL_REQUEST, REQUEST, acceptor, drain, requestor

PEERS: dict[int, type[Any]] = {
    1: peers.A_ASSOCIATE_RQ,
    2: peers.A_ASSOCIATE_AC,
    3: peers.A_ASSOCIATE_RJ,
    4: peers.P_DATA_TF,
    5: peers.A_RELEASE_RQ,
    6: peers.A_RELEASE_RP,
    7: peers.A_ABORT_RQ,
}


def golden(text: str) -> bytes:
    """Bytes of annotated lines: hexadecimal digits or 'text', then # and what they are."""
    parts: list[bytes] = []
    for line in text.strip().splitlines():
        value = line.split("#")[0].strip()
        parts.append(value[1:-1].encode() if value.startswith("'") else bytes.fromhex(value))
    return b"".join(parts)


GOLDEN: dict[str, tuple[Pdu, bytes]] = {
    "request": (
        AssociateRequest(
            "ARCHIVE",
            "SENDER",
            (ProposedContext(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2",)),),
            UserInformation(
                16384,
                "1.2.3",
                "V1",
                Window(2, 0),
                (Role("1.2.4", False, True),),
                (Extended("1.2.5", b"\1\1"),),
                (CommonExtended("1.2.6", "1.2.7", ("1.2.8",)),),
                Identity(2, True, b"me", b"pw"),
            ),
        ),
        golden("""
            01 00 000000f5                       # A-ASSOCIATE-RQ, 245 bytes follow
            0001 0000                            # protocol version 1, reserved
            'ARCHIVE         '                   # called AE title
            'SENDER          '                   # calling AE title
            0000000000000000000000000000000000000000000000000000000000000000  # reserved
            10 00 0015                           # application context
            '1.2.840.10008.3.1.1.1'              #
            20 00 002e 01 00 00 00               # presentation context 1
            30 00 0011                           # abstract syntax
            '1.2.840.10008.1.1'                  #
            40 00 0011                           # transfer syntax
            '1.2.840.10008.1.2'                  #
            50 00 0062                           # user information
            51 00 0004 00004000                  # maximum length
            52 00 0005                           # implementation class UID
            '1.2.3'                              #
            53 00 0004 0002 0000                 # asynchronous operations window: 2 invoked, any performed
            54 00 0009 0005                      # role selection
            '1.2.4'                              #
            00 01                                # SCU no, SCP yes
            55 00 0002                           # implementation version name
            'V1'                                 #
            56 00 0009 0005                      # SOP class extended negotiation
            '1.2.5'                              #
            01 01                                # service class application information
            57 00 0017 0005                      # SOP class common extended negotiation
            '1.2.6'                              #
            0005                                 # service class
            '1.2.7'                              #
            0007 0005                            # related general SOP classes
            '1.2.8'                              #
            58 00 000a 02 01                     # user identity: name and passcode, response wanted
            0002                                 #
            'me'                                 #
            0002                                 #
            'pw'                                 #
        """),
    ),
    "accept": (
        AssociateAccept(
            "ARCHIVE",
            "SENDER",
            (AnsweredContext(1, 0, "1.2.840.10008.1.2"), AnsweredContext(3, 4, "1.2.840.10008.1.2.1")),
            UserInformation(0, "1.2.3", identity_response=b"ok"),
        ),
        golden("""
            02 00 000000b6                       # A-ASSOCIATE-AC, 182 bytes follow
            0001 0000                            # protocol version, reserved
            'ARCHIVE         '                   #
            'SENDER          '                   #
            0000000000000000000000000000000000000000000000000000000000000000  # reserved
            10 00 0015                           # application context
            '1.2.840.10008.3.1.1.1'              #
            21 00 0019 01 00 00 00               # presentation context 1: acceptance
            40 00 0011                           # transfer syntax
            '1.2.840.10008.1.2'                  #
            21 00 001b 03 00 04 00               # presentation context 3: transfer syntaxes not supported
            40 00 0013                           # transfer syntax, not significant
            '1.2.840.10008.1.2.1'                #
            50 00 0019                           # user information
            51 00 0004 00000000                  # maximum length: any
            52 00 0005                           # implementation class UID
            '1.2.3'                              #
            59 00 0004 0002                      # user identity: the server's response
            'ok'                                 #
        """),
    ),
    "reject": (AssociateReject(2, 3, 1), golden("03 00 00000004  00 02 03 01  # transient, presentation, congestion")),
    "data": (
        Data((Value(1, True, True, b"\1\2"), Value(3, False, False, b"\3\4"), Value(3, False, True, b""))),
        golden("""
            04 00 00000016                       # P-DATA-TF, 22 bytes follow
            00000004 01 03 0102                  # context 1: command, last
            00000004 03 00 0304                  # context 3: data set, goes on
            00000002 03 02                       # context 3: data set, last, empty
        """),
    ),
    "release request": (ReleaseRequest(), golden("05 00 00000004 00000000  # A-RELEASE-RQ")),
    "release reply": (ReleaseReply(), golden("06 00 00000004 00000000  # A-RELEASE-RP")),
    "abort": (Abort(2, 6), golden("07 00 00000004 00 00 02 06  # provider, invalid PDU parameter value")),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name: str) -> None:
    pdu, data = GOLDEN[name]
    assert encode(pdu) == data
    assert decode(data[0], memoryview(data)[6:]) == pdu


@pytest.mark.parametrize("pdu", [*EVERY_PDU, *(pdu for pdu, _ in GOLDEN.values())], ids=repr)
def test_pynetdicom_reads_and_writes_the_same(pdu: Pdu) -> None:
    data = encode(pdu)
    peer = PEERS[data[0]]()
    peer.decode(data)
    assert peer.encode() == data
    assert decode(data[0], data[6:]) == pdu


@pytest.mark.parametrize("pdu", EVERY_PDU, ids=repr)
def test_every_truncation_is_refused_or_means_less(pdu: Pdu) -> None:
    """A body cut anywhere, its header saying so: never another failure than ProtocolError, never the same PDU."""
    data = encode(pdu)
    for length in range(len(data) - 6):
        try:
            assert decode(data[0], data[6 : 6 + length]) != pdu
        except ProtocolError as error:
            assert error.reason == Reason.INVALID_PARAMETER


@pytest.mark.parametrize("pdu", EVERY_PDU, ids=repr)
def test_every_truncated_connection_waits_and_then_ends(pdu: Pdu) -> None:
    """The bytes of a PDU up to each position, then the end of the connection: nothing is told of the PDU, nothing sent."""
    data = encode(pdu)
    state = {1: State.AWAITING_REQUEST, 6: State.AWAITING_RELEASE_REPLY}.get(data[0], State.ESTABLISHED)
    for length in range(len(data)):
        layer = requestor(State.AWAITING_ANSWER) if data[0] in (2, 3) else acceptor(state)
        told = drain(layer, data[:length])
        assert data[0] == 4 or not told
        assert layer.pending() == b"" and not layer.must_close
        layer.closed()
        assert layer.state is State.IDLE and layer.must_close


@pytest.mark.parametrize("pdu", EVERY_PDU, ids=repr)
@pytest.mark.parametrize("piece", [1, 2, 3, 5, 11, 67])
def test_however_it_is_delivered_it_means_the_same(pdu: Pdu, piece: int) -> None:
    data = encode(pdu) + encode(Abort(0, 0))
    state = {1: State.AWAITING_REQUEST, 6: State.AWAITING_RELEASE_REPLY}.get(data[0], State.ESTABLISHED)

    def run(piece: int) -> tuple[list[object], bytes, State, bytes]:
        layer = requestor(State.AWAITING_ANSWER) if data[0] in (2, 3) else acceptor(state)
        told = drain(layer, data, piece)
        joined = b"".join(each.data for each in told if isinstance(each, tuple))  # type: ignore[attr-defined]
        return [each for each in told if not isinstance(each, tuple)], joined, layer.state, layer.pending()

    assert run(piece) == run(1 << 20)


text_uid = st.text("0123456789.", min_size=1, max_size=64)
title = st.text("ABCDEFGHIJ_0123456789 ", min_size=1, max_size=16).map(str.strip)
small = st.integers(0, 65535)
information = st.builds(
    UserInformation,
    st.integers(0, 2**32 - 1),
    text_uid,
    st.text("ABCDE_12", max_size=16),
    st.none() | st.builds(Window, small, small),
    st.lists(st.builds(Role, text_uid, st.booleans(), st.booleans()), max_size=3).map(tuple),
    st.lists(st.builds(Extended, text_uid, st.binary(max_size=9)), max_size=3).map(tuple),
    st.lists(st.builds(CommonExtended, text_uid, text_uid, st.lists(text_uid, max_size=3).map(tuple)), max_size=3).map(
        tuple
    ),
    st.none() | st.builds(Identity, st.integers(1, 5), st.booleans(), st.binary(max_size=99), st.binary(max_size=9)),
    st.none() | st.binary(max_size=20),
)
odd = st.integers(0, 127).map(lambda n: 2 * n + 1)
proposed = st.builds(ProposedContext, odd, text_uid, st.lists(text_uid, max_size=4).map(tuple))
answered = st.builds(AnsweredContext, odd, st.integers(0, 4), text_uid)
byte = st.integers(0, 255)
pdus = st.one_of(
    st.builds(
        AssociateRequest,
        title,
        title,
        st.lists(proposed, max_size=5, unique_by=lambda c: c.id).map(tuple),
        information,
        text_uid,
        small,
    ),
    st.builds(
        AssociateAccept,
        title,
        title,
        st.lists(answered, max_size=5, unique_by=lambda c: c.id).map(tuple),
        information,
    ),
    st.builds(AssociateReject, byte, byte, byte),
    st.builds(
        Data,
        st.lists(
            st.builds(Value, odd, st.booleans(), st.booleans(), st.binary(max_size=40)), min_size=1, max_size=4
        ).map(tuple),
    ),
    st.builds(Abort, byte, byte),
)


@settings(max_examples=150, deadline=None)
@given(pdus)
def test_what_is_written_is_read(pdu: Pdu) -> None:
    data = encode(pdu)
    assert decode(data[0], data[6:]) == pdu
    assert len(data) - 6 == int.from_bytes(data[2:6], "big")


def patched(pdu: Pdu, old: bytes, new: bytes) -> bytes:
    """A body with one piece replaced by another of the same length."""
    data = encode(pdu)
    assert data.count(old) == 1 and len(old) == len(new)
    return data.replace(old, new)[6:]


LENIENT = [
    ("NUL behind a UID", b"1.2.840.10008.1.1\x40", b"1.2.840.10008.1.\0\x40", "1.2.840.10008.1."),
    ("space behind a UID", b"1.2.840.10008.1.1\x40", b"1.2.840.10008.1. \x40", "1.2.840.10008.1."),
]


@pytest.mark.parametrize("name,old,new,uid", LENIENT)
def test_padding_is_no_part_of_a_uid(name: str, old: bytes, new: bytes, uid: str) -> None:
    pdu = decode(1, patched(REQUEST, old, new))
    assert isinstance(pdu, AssociateRequest) and pdu.contexts[0].abstract_syntax == uid, name


def test_what_the_field_gets_wrong_without_harm_is_read() -> None:
    pdu = decode(1, patched(REQUEST, b"ARCHIVE         ", b" ARCHIVE\0\0\0\0\0\0\0\0"))
    assert isinstance(pdu, AssociateRequest) and pdu.called == "ARCHIVE"
    unknown = decode(1, patched(FULL_REQUEST, b"\x56\0\0", b"\x6f\0\0"))
    assert isinstance(unknown, AssociateRequest) and unknown.user.extended == () and unknown.user.identity
    nameless = encode(REQUEST).replace(b"\x55\0\0\4TEST", b"\x55\0\0\0").replace(b"\x50\0\0\x19", b"\x50\0\0\x15")
    bare = decode(1, nameless[6:])
    assert isinstance(bare, AssociateRequest) and bare.user.implementation_version == ""
    fixed_only = decode(1, b"\0\1" + bytes(66))
    assert fixed_only == AssociateRequest("", "", (), UserInformation(16384), "")


WRONG = [
    (1, patched(REQUEST, b"\x20\0\0\x2e\1", b"\x20\0\0\x2e\2"), "not odd"),
    (1, patched(REQUEST, b"\x03\0\0\0\x30", b"\x01\0\0\0\x30"), "used twice"),
    (1, patched(REQUEST, b"\x51\0\0\4", b"\x51\0\0\3"), "instead of 4"),
    (1, patched(REQUEST, b"\x55\0\0\4", b"\x55\0\0\5"), "are left"),
    (1, patched(FULL_REQUEST, b"\x53\0\0\4", b"\x53\0\0\5"), "instead of 4"),
    (1, encode(REQUEST)[6:] + b"\0", "item was expected"),
    (1, encode(REQUEST)[6:73], "announces 67 bytes"),
    (2, patched(FULL_ACCEPT, b"\x59\0\0\x08\0\6", b"\x59\0\0\x08\0\7"), "are left"),
    (2, patched(FULL_ACCEPT, b"\x21\0\0\x19\5\0\3", b"\x21\0\0\x19\3\0\3"), "used twice"),
    (4, patched(DATA, b"\0\0\0\4\1", b"\0\0\0\4\2"), "not odd"),
    (4, patched(DATA, b"\0\0\0\4\1", b"\0\0\0\5\1"), "are left"),
    (4, patched(DATA, b"\0\0\0\4\1", b"\0\0\0\1\1"), "of 1 bytes"),
    (4, patched(DATA, b"\0\0\0\4\1", b"\xff\xff\xff\xff\1"), "are left"),
    (4, encode(DATA)[6:] + b"\0\0\0\2\1", "was expected"),
    (3, bytes(5), "announces 5 bytes"),
    (9, bytes(4), "unknown type"),
]


@pytest.mark.parametrize("kind,body,said", WRONG)
def test_wrong_lengths_and_ids_are_refused(kind: int, body: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said) as caught:
        decode(kind, body)
    assert (caught.value.source, caught.value.reason) == (2, 1 if kind == 9 else 6)


def test_counts_are_bounded() -> None:
    many_syntaxes = ProposedContext(1, "1", ("1",) * 257)
    many_roles = UserInformation(roles=(Role("1", True, True),) * 1025)
    many_related = UserInformation(common_extended=(CommonExtended("1", "1", ("",) * 257),))
    for pdu in (
        AssociateRequest("A", "B", (many_syntaxes,)),
        AssociateRequest("A", "B", (), many_roles),
        AssociateRequest("A", "B", (), many_related),
    ):
        with pytest.raises(ProtocolError, match="more than"):
            decode(1, encode(pdu)[6:])


@pytest.mark.parametrize("kind", range(256))
def test_lengths_are_checked_before_anything_is_read(kind: int) -> None:
    allowed = {1: range(68, ASSOCIATE_MAX + 1), 2: range(68, ASSOCIATE_MAX + 1), 4: range(6, 4097)}
    fits = allowed.get(kind, range(4, 5) if kind in (3, 5, 6, 7) else range(0))
    for length in (0, 1, 3, 4, 5, 6, 67, 68, 4096, 4097, ASSOCIATE_MAX, ASSOCIATE_MAX + 1, 2**31, 2**32 - 1):
        if length in fits:
            check_header(kind, length, 4096)
        else:
            with pytest.raises(ProtocolError):
                check_header(kind, length, 4096)


def test_what_does_not_fit_is_not_written() -> None:
    for pdu in (
        AssociateRequest("A" * 17, "B", ()),
        AssociateRequest("A", "B", (), UserInformation(extended=(Extended("1", bytes(65536)),))),
        AssociateRequest("A", "B", (), UserInformation(identity=Identity(5, False, bytes(65536)))),
    ):
        with pytest.raises(ValueError):
            encode(pdu)


def test_a_passcode_is_never_shown() -> None:
    assert "secret" not in repr(FULL_REQUEST) and "name" not in repr(FULL_REQUEST.user.identity)


def test_the_largest_real_request_fits() -> None:
    syntaxes = tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 160))
    contexts = tuple(ProposedContext(n, f"1.2.840.10008.5.1.4.1.1.{n}", syntaxes) for n in range(1, 256, 2))
    data = encode(AssociateRequest("A", "B", contexts))
    assert len(data) < ASSOCIATE_MAX / 3
    assert decode(1, data[6:]) == AssociateRequest("A", "B", contexts)
    assert pack(">I", len(data) - 6) == data[2:6]
