"""All 13 states and 19 events against a table written by state, as PS3.8 9.2 describes them, and against pynetdicom's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from pynetdicom.fsm import TRANSITION_TABLE

from radiolith.dimse.indications import Aborted, Cause, Fragment, OutOfTurn, Released, ReleaseRequested
from radiolith.dimse.items import ProtocolError
from radiolith.dimse.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ReleaseReply,
    ReleaseRequest,
    encode,
)
from radiolith.dimse.states import TABLE, Happening, State
from radiolith.dimse.upperlayer import UpperLayer
from tests.dimse.samples import (
    ACCEPT,
    ACCEPTOR_STATES,
    DATA,
    REJECT,
    REQUEST,
    REQUESTOR_STATES,
    acceptor,
    drain,
    requestor,
)

# By state: what each event brings about. Events that are not named cannot happen in the state.
ASSOCIATION_PDUS = "3 4 6 10 12 13 19"
ORACLE: dict[int, dict[str, str]] = {
    1: {"1": "AE-1", "5": "AE-5"},
    2: {"3 4 10 12 13 19": "AA-1", "6": "AE-6", "16 18": "AA-2", "17": "AA-5"},
    3: {"7": "AE-7", "8": "AE-8", "15": "AA-1", "16": "AA-3", "17": "AA-4", ASSOCIATION_PDUS: "AA-8"},
    4: {"2": "AE-2", "15": "AA-2", "17": "AA-4"},
    5: {"3": "AE-3", "4": "AE-4", "15": "AA-1", "16": "AA-3", "17": "AA-4", "6 10 12 13 19": "AA-8"},
    6: {"9": "DT-1", "10": "DT-2", "11": "AR-1", "12": "AR-2", "15": "AA-1", "16": "AA-3", "17": "AA-4", "3 4 6 13 19": "AA-8"},
    7: {"10": "AR-6", "12": "AR-8", "13": "AR-3", "15": "AA-1", "16": "AA-3", "17": "AA-4", "3 4 6 19": "AA-8"},
    8: {"9": "AR-7", "14": "AR-4", "15": "AA-1", "16": "AA-3", "17": "AA-4", ASSOCIATION_PDUS: "AA-8"},
    9: {"14": "AR-9", "15": "AA-1", "16": "AA-3", "17": "AA-4", ASSOCIATION_PDUS: "AA-8"},
    10: {"13": "AR-10", "15": "AA-1", "16": "AA-3", "17": "AA-4", "3 4 6 10 12 19": "AA-8"},
    11: {"13": "AR-3", "15": "AA-1", "16": "AA-3", "17": "AA-4", "3 4 6 10 12 19": "AA-8"},
    12: {"14": "AR-4", "15": "AA-1", "16": "AA-3", "17": "AA-4", ASSOCIATION_PDUS: "AA-8"},
    13: {"3 4 10 12 13": "AA-6", "6 19": "AA-7", "16 18": "AA-2", "17": "AR-5"},
}  # fmt: skip


class Outcome(NamedTuple):
    """What can be seen of an action: the next states it may lead to, PDU type sent, event told, timer, closing."""

    next: tuple[int, ...]
    sent: int | None = None
    told: type | None = None
    timer: str = ""
    close: bool = False


ACTIONS = {
    "AE-1": Outcome((4,)),
    "AE-2": Outcome((5,), sent=1),
    "AE-3": Outcome((6,), told=AssociateAccept),
    "AE-4": Outcome((1,), told=AssociateReject, close=True),
    "AE-5": Outcome((2,), timer="starts"),
    "AE-6": Outcome((3,), told=AssociateRequest, timer="stops"),
    "AE-7": Outcome((6,), sent=2),
    "AE-8": Outcome((13,), sent=3, timer="starts"),
    "DT-1": Outcome((6,)),
    "DT-2": Outcome((6,), told=Fragment),
    "AR-1": Outcome((7,), sent=5),
    "AR-2": Outcome((8,), told=ReleaseRequested),
    "AR-3": Outcome((1,), told=Released, close=True),
    "AR-4": Outcome((13,), sent=6, timer="starts"),
    "AR-5": Outcome((1,), timer="stops", close=True),
    "AR-6": Outcome((7,), told=Fragment),
    "AR-7": Outcome((8,)),
    "AR-8": Outcome((9, 10), told=ReleaseRequested),
    "AR-9": Outcome((11,), sent=6),
    "AR-10": Outcome((12,), told=Released),
    "AA-1": Outcome((13,), sent=7, timer="starts"),
    "AA-2": Outcome((1,), timer="stops", close=True),
    "AA-3": Outcome((1,), told=Aborted, close=True),
    "AA-4": Outcome((1,), told=Aborted, close=True),
    "AA-5": Outcome((1,), timer="stops", close=True),
    "AA-6": Outcome((13,)),
    "AA-7": Outcome((13,), sent=7),
    "AA-8": Outcome((13,), sent=7, told=Aborted, timer="starts"),
}
"""`close` of AA-4, AA-5 and AR-5: the transport is gone already, and the owner lets go of its end."""

BY_PEER = {
    3: encode(ACCEPT),
    4: encode(REJECT),
    6: encode(REQUEST),
    10: encode(DATA),
    12: encode(ReleaseRequest()),
    13: encode(ReleaseReply()),
    16: encode(Abort(0, 0)),
}
INVALID = (
    b"\x08\0\0\0\0\4abcd",
    b"\0\0\0\0\0\0",
    b"\xff\0\xff\xff\xff\xff",
    b"\1\0\xff\xff\xff\xff",
    b"\2\0\0\0\0\x43",
    b"\3\0\0\0\0\5",
    b"\4\0\x80\0\0\0",
    b"\4\0\0\0\0\0",
    b"\5\0\0\0\0\0",
    b"\6\0\0\0\0\3",
    b"\7\0\0\0\0\x08",
    b"GET / HTTP/1.1\r\n\r\n",
)
LOCAL: dict[int, Callable[[UpperLayer], bytes]] = {
    2: lambda layer: layer.connected(),
    7: lambda layer: layer.send_accept(ACCEPT),
    8: lambda layer: layer.send_reject(REJECT),
    9: lambda layer: b"".join(bytes(each) for each in layer.send_data([b""])),
    11: lambda layer: layer.send_release(),
    14: lambda layer: layer.send_release_reply(),
    15: lambda layer: layer.send_abort(),
}


def oracle(state: int, event: int) -> str | None:
    return next((action for events, action in ORACLE[state].items() if str(event) in events.split()), None)


def starts() -> list[tuple[str, State]]:
    return [("acceptor", state) for state in ACCEPTOR_STATES] + [("requestor", state) for state in REQUESTOR_STATES]


def make(role: str, state: State) -> UpperLayer:
    layer = acceptor(state) if role == "acceptor" else requestor(state)
    assert layer.state is state
    return layer


def test_every_state_is_reached() -> None:
    assert {state for _, state in starts()} == set(State)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", list(Happening))
def test_the_table_is_the_standards(state: State, event: Happening) -> None:
    row = TABLE.get((state, event))
    name = row.name if row else None
    assert name == oracle(state, event) == TRANSITION_TABLE.get((f"Evt{event}", f"Sta{state}"))
    if row:
        assert tuple(map(int, row.next))[: len(ACTIONS[row.name].next)] == ACTIONS[row.name].next


def observe(layer: UpperLayer, event: int, data: bytes, piece: int) -> tuple[bytes, list[object]]:
    """What is written and told when `event` happens."""
    if event in LOCAL:
        return LOCAL[event](layer), []
    if event == 17:
        return layer.pending(), list(layer.closed())
    if event == 18:
        layer.expired()
        return layer.pending(), []
    told = drain(layer, data, piece)
    return layer.pending(), told


@pytest.mark.parametrize("role,state", starts())
@pytest.mark.parametrize("event", list(Happening))
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_every_cell_does_what_its_action_says(role: str, state: State, event: int, piece: int) -> None:
    expected = oracle(state, event)
    for data in INVALID if event == 19 else (BY_PEER.get(event, b""),):
        if event in (1, 5):  # these make the layer
            return
        layer = make(role, state)
        timer, closing = layer.artim, layer.must_close
        if expected is None:
            if event in LOCAL:
                with pytest.raises(OutOfTurn):
                    observe(layer, event, data, piece)
            else:
                assert observe(layer, event, data, piece) == (b"", [])
            assert (layer.state, layer.artim, layer.pending()) == (state, timer, b"")
            continue
        outcome = ACTIONS[expected]
        sent, told = observe(layer, event, data, piece)
        assert layer.state in outcome.next
        if expected == "AR-8":
            assert layer.state == (9 if role == "requestor" else 10)
        assert (sent[0] if sent else None) == outcome.sent
        told = told[-1:] if outcome.told is Fragment else told  # a piece for each delivery
        assert [type(each) for each in told] == ([outcome.told] if outcome.told else [])
        assert layer.must_close == (closing or outcome.close)
        if outcome.timer == "starts":
            assert layer.artim not in (0, timer)
        else:
            assert layer.artim == (0 if outcome.timer == "stops" else timer)
        check_abort(expected, state, event, sent, told)


def check_abort(action: str, state: int, event: int, sent: bytes, told: list[object]) -> None:
    """Source and reason of what is sent and told when an association breaks (PS3.8 9.3.8)."""
    if action == "AA-1":
        assert sent == b"\7\0\0\0\0\4\0\0\0\0"
    if action in ("AA-7", "AA-8"):
        assert sent[:9] == b"\7\0\0\0\0\4\0\0\2"
        assert (sent[9] == 2) == (event != 19)
    causes = {"AA-3": Cause.PEER_USER, "AA-4": Cause.TRANSPORT, "AA-8": Cause.HERE}
    if told and action in causes:
        assert isinstance(told[0], Aborted)
        assert told[0].cause is causes[action] and told[0].text


def test_a_layer_begins_as_its_role_says() -> None:
    accepting, asking = UpperLayer.acceptor(0), UpperLayer.requestor(REQUEST)
    assert (accepting.state, bool(accepting.artim)) == (2, True)
    assert (asking.state, bool(asking.artim)) == (4, False)


def test_a_request_of_another_protocol_version_is_refused_by_the_provider() -> None:
    data = bytearray(encode(REQUEST))
    data[6:8] = b"\0\2"
    layer = acceptor(State.AWAITING_REQUEST)
    timer = layer.artim
    assert drain(layer, bytes(data)) == [AssociateReject(1, 2, 2)]
    assert layer.pending() == b"\3\0\0\0\0\4\0\1\2\2"
    assert layer.state == 13 and layer.artim not in (0, timer)
    data[6:8] = b"\0\3"
    assert isinstance(drain(acceptor(State.AWAITING_REQUEST), bytes(data))[0], AssociateRequest)


def test_fragments_found_wrong_later_abort_with_their_reason() -> None:
    layer = acceptor(State.ESTABLISHED)
    (told,) = layer.invalid(ProtocolError("interleaved", 5))
    assert told == Aborted(Cause.HERE, 2, 5, "interleaved")
    assert layer.pending() == b"\7\0\0\0\0\4\0\0\2\5"
    assert layer.invalid(ProtocolError("again")) == [] and layer.pending()[0] == 7
    layer.closed()
    assert layer.invalid(ProtocolError("and again")) == [] and layer.pending() == b""


def test_an_abort_of_the_peers_provider_is_told_as_such() -> None:
    (told,) = drain(acceptor(State.ESTABLISHED), encode(Abort(2, 6)))
    assert told == Aborted(Cause.PEER_PROVIDER, 2, 6, Cause.PEER_PROVIDER.value)


def test_only_the_timer_that_runs_expires() -> None:
    layer = acceptor(State.ESTABLISHED)
    layer.expired()
    assert layer.state == 6 and not layer.must_close
