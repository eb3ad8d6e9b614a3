"""PDUs, conversations and states for the tests of the protocol."""

from __future__ import annotations

from radiolith.dimse.association import Accepted, Accepts, Caller, Offer, Wanted, negotiate, requests
from radiolith.dimse.items import (
    AnsweredContext,
    CommonExtended,
    Extended,
    Identity,
    ProposedContext,
    Role,
    UserInformation,
    Window,
)
from radiolith.dimse.pdu import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    Data,
    Pdu,
    ReleaseReply,
    ReleaseRequest,
    Value,
    encode,
)
from radiolith.dimse.states import State
from radiolith.dimse.upperlayer import UpperLayer

VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
MAX_LENGTH = 4096

REQUEST = AssociateRequest(
    "ARCHIVE",
    "SENDER",
    (ProposedContext(1, VERIFICATION, (IMPLICIT_LE,)), ProposedContext(3, CT_IMAGE, (EXPLICIT_LE, IMPLICIT_LE))),
    UserInformation(MAX_LENGTH, "1.2.3", "TEST"),
)
ACCEPT = AssociateAccept(
    "ARCHIVE",
    "SENDER",
    (AnsweredContext(1, 0, IMPLICIT_LE), AnsweredContext(3, 0, EXPLICIT_LE)),
    UserInformation(MAX_LENGTH, "1.2.4", "TEST2"),
)
REJECT = AssociateReject(1, 1, 7)
DATA = Data((Value(1, True, True, b"\1\2"),))
FULL_REQUEST = AssociateRequest(
    "ARCHIVE",
    "SENDER",
    REQUEST.contexts,
    UserInformation(
        0,
        "1.2.3",
        "TEST",
        Window(3, 0),
        (Role(CT_IMAGE, True, True),),
        (Extended(CT_IMAGE, b"\1\0\1"),),
        (CommonExtended("1.2.9", "1.2.840.10008.4.2", (CT_IMAGE, VERIFICATION)),),
        Identity(2, True, b"name", b"secret"),
    ),
)
FULL_ACCEPT = AssociateAccept(
    "ARCHIVE",
    "SENDER",
    (*ACCEPT.contexts, AnsweredContext(5, 3, IMPLICIT_LE)),
    UserInformation(
        65536,
        "1.2.4",
        "TEST2",
        Window(1, 1),
        (Role(CT_IMAGE, True, False),),
        (Extended(CT_IMAGE, b"\1"),),
        identity_response=b"ticket",
    ),
)
EVERY_PDU: tuple[Pdu, ...] = (
    REQUEST,
    FULL_REQUEST,
    ACCEPT,
    FULL_ACCEPT,
    REJECT,
    DATA,
    Data((Value(1, True, True, b"command"), Value(3, False, False, b"data"), Value(3, False, True, b""))),
    ReleaseRequest(),
    ReleaseReply(),
    Abort(2, 6),
)

OFFER = Offer(
    {
        VERIFICATION: Accepts((EXPLICIT_LE, IMPLICIT_LE)),
        CT_IMAGE: Accepts((EXPLICIT_LE, IMPLICIT_LE), scu=True),
    },
    max_length=MAX_LENGTH,
)


def acceptor(state: State) -> UpperLayer:
    """An acceptor that has come to `state` by what a peer and a user may do."""
    layer = UpperLayer.acceptor(MAX_LENGTH)
    if state is State.AWAITING_REQUEST:
        return layer
    if state is State.IDLE:
        layer.closed()
        return layer
    drain(layer, encode(REQUEST))
    if state is State.AWAITING_LOCAL_ANSWER:
        return layer
    if state is State.AWAITING_CLOSE:
        layer.send_reject(REJECT)
        return layer
    layer.send_accept(ACCEPT)
    return released(layer, state)


def requestor(state: State) -> UpperLayer:
    """A requestor that has come to `state`."""
    layer = UpperLayer.requestor(REQUEST)
    if state is State.AWAITING_TRANSPORT:
        return layer
    layer.connected()
    if state is State.AWAITING_ANSWER:
        return layer
    drain(layer, encode(ACCEPT))
    if state is State.IDLE:
        layer.closed()
    if state is State.AWAITING_CLOSE:
        layer.send_abort()
    return layer if state in (State.IDLE, State.AWAITING_CLOSE) else released(layer, state)


def released(layer: UpperLayer, state: State) -> UpperLayer:
    """From an established association on."""
    if state is State.ESTABLISHED:
        return layer
    if state is State.AWAITING_LOCAL_RELEASE_REPLY:
        drain(layer, encode(ReleaseRequest()))
        return layer
    layer.send_release()
    if state is State.AWAITING_RELEASE_REPLY:
        return layer
    drain(layer, encode(ReleaseRequest()))
    if state is State.COLLISION_REQUESTOR_REPLY:
        layer.send_release_reply()
    if state is State.COLLISION_ACCEPTOR_LOCAL_REPLY:
        drain(layer, encode(ReleaseReply()))
    return layer


ACCEPTOR_STATES = tuple(State(number) for number in (1, 2, 3, 6, 7, 8, 10, 12, 13))
REQUESTOR_STATES = tuple(State(number) for number in (1, 4, 5, 6, 7, 8, 9, 11, 13))


def drain(layer: UpperLayer, data: bytes, piece: int = 1 << 20) -> list[object]:
    """All events of `data` fed in pieces; views are copied, so that they can be compared."""
    found: list[object] = []
    for start in range(0, len(data), piece):
        for event in layer.receive(memoryview(bytearray(data[start : start + piece]))):
            found.append(event._replace(data=bytes(event.data)) if isinstance(event, tuple) else event)  # type: ignore[call-arg]
    return found


def established() -> tuple[UpperLayer, UpperLayer]:
    """Requestor and acceptor after a negotiation between them."""
    request = requests(
        [Wanted(VERIFICATION, (IMPLICIT_LE,)), Wanted(CT_IMAGE, (EXPLICIT_LE,))], Caller("SENDER", "ARCHIVE")
    )[0]
    there, here = UpperLayer.requestor(request), UpperLayer.acceptor(MAX_LENGTH)
    (asked,) = drain(here, there.connected())
    assert isinstance(asked, AssociateRequest)
    answer = negotiate(asked, OFFER)
    assert isinstance(answer, Accepted)
    assert drain(there, here.send_accept(answer.answer)) == [answer.answer]
    return there, here
