"""Mutated PDUs: whatever is done to them, the answer is a specified one or an A-ABORT, and what is held is bounded."""

from __future__ import annotations

import os
import random
from struct import pack_into

from radiolith.dimse.association import Accepted, Rejected, agreed, negotiate
from radiolith.dimse.commands import Command
from radiolith.dimse.indications import Aborted, Event, Fragment, Released, ReleaseRequested
from radiolith.dimse.items import ProtocolError
from radiolith.dimse.messages import Assembler, message
from radiolith.dimse.pdu import (
    ASSOCIATE_MAX,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    encode,
)
from radiolith.dimse.states import State
from radiolith.dimse.upperlayer import UpperLayer
from tests.campaign import count
from tests.dimse.samples import (
    ACCEPT,
    ACCEPTOR_STATES,
    CT_IMAGE,
    EVERY_PDU,
    MAX_LENGTH,
    OFFER,
    REQUEST,
    REQUESTOR_STATES,
    acceptor,
    requestor,
)

PDUS = [encode(pdu) for pdu in EVERY_PDU]
STORE = Command.of("C-STORE-RQ", True, MessageID=2, AffectedSOPClassUID=CT_IMAGE, AffectedSOPInstanceUID="2.25.7")
MESSAGE = b"".join(message(3, STORE, bytes(9000), MAX_LENGTH))
LENGTHS = (0, 1, 2, 3, 4, 5, 6, 7, 67, 68, MAX_LENGTH, MAX_LENGTH + 7, 65535, 2**20, 2**20 + 1, 2**31, 2**32 - 1)
STARTS = [(acceptor, state) for state in ACCEPTOR_STATES] + [(requestor, state) for state in REQUESTOR_STATES]
LIKELY = [(acceptor, State(2)), (requestor, State(5)), (acceptor, State(6)), (requestor, State(7))]
SENT = {b"", *(b"\7\0\0\0\0\4\0\0" + bytes(code) for code in ((0, 0), (2, 1), (2, 2), (2, 4), (2, 5), (2, 6)))}
SENT |= {b"\3\0\0\0\0\4\0\1\2\2"}


def mutate(source: random.Random, data: bytearray) -> bytearray:
    """One thing done to some PDUs: bits, bytes, lengths, cuts, repetitions, another PDU spliced in."""
    how, at = source.randrange(8), source.randrange(len(data))
    if how == 0:
        data[at] ^= 1 << source.randrange(8)
    elif how == 1:
        data[at] = source.randrange(256)
    elif how == 2 and len(data) >= 6:
        pack_into(">I", data, 2, source.choice(LENGTHS))
    elif how == 3 and at + 4 <= len(data):
        pack_into(">I", data, at, source.choice(LENGTHS))
    elif how == 4 and at + 2 <= len(data):
        pack_into(">H", data, at, source.choice(LENGTHS) & 0xFFFF)
    elif how == 5:
        del data[at : at + source.randrange(1, 40)]
    elif how == 6:
        data[at:at] = data[at : at + source.randrange(1, 40)]
    else:
        data[at:at] = source.choice(PDUS)[: source.randrange(1, 80)]
    return data or bytearray(1)


class Peer:
    """What a server does with events, with everything checked that may be."""

    def __init__(self, layer: UpperLayer):
        self.layer = layer
        self.assembler = Assembler()
        self.aborts = 0

    def feed(self, data: bytearray) -> None:
        for event in self.layer.receive(data):
            self.handle(event)
        sent = self.layer.pending()
        for start in range(0, len(sent), 10):
            assert sent[start : start + 10] in SENT, sent

    def handle(self, event: Event) -> None:
        layer = self.layer
        match event:
            case Fragment():
                assert layer.state in (State.ESTABLISHED, State.AWAITING_RELEASE_REPLY)
                try:
                    self.assembler.feed(event)
                except ProtocolError as error:
                    assert [type(told) for told in layer.invalid(error)] == [Aborted]
            case AssociateRequest():
                answer = negotiate(event, OFFER)
                sent = layer.send_accept(answer.answer) if isinstance(answer, Accepted) else self.reject(answer)
                assert sent[0] in (2, 3)
            case AssociateAccept():
                try:
                    agreed(REQUEST, event)
                except ProtocolError as error:
                    layer.invalid(error)
            case ReleaseRequested():
                assert layer.owes_release_reply or layer.state is State.COLLISION_ACCEPTOR_REPLY
            case Released():
                assert layer.must_close or layer.owes_release_reply
            case Aborted():
                self.aborts += 1
                assert layer.state in (State.IDLE, State.AWAITING_CLOSE)
            case AssociateReject():
                assert layer.must_close or layer.state is State.AWAITING_CLOSE

    def reject(self, answer: Rejected) -> bytes:
        return self.layer.send_reject(answer.answer)

    def check(self) -> None:
        layer = self.layer
        assert self.aborts <= 1
        assert len(layer._head) < 6 and len(layer._held) <= ASSOCIATE_MAX  # pyright: ignore[reportPrivateUsage]
        assert layer.pending() == b""
        if layer.state is State.AWAITING_CLOSE:
            assert layer.artim, "nobody would ever close this"
        layer.closed()
        assert layer.state is State.IDLE and layer.must_close and not layer.artim


def attempt(source: random.Random) -> None:
    """One mutated conversation, in pieces cut at random; then the bytes of a sane one, which it may refuse but survives."""
    make, state = source.choice(LIKELY if source.random() < 0.8 else STARTS)
    peer = Peer(make(state))
    if state is State.AWAITING_REQUEST:
        data = bytearray(PDUS[source.randrange(2)] + MESSAGE[: source.choice((0, 0, 300))])
    elif state is State.AWAITING_ANSWER:
        data = bytearray(encode(ACCEPT) if source.random() < 0.5 else PDUS[3])
    elif source.random() < 0.5:
        data = bytearray(MESSAGE[: source.choice((200, 300, 5000, len(MESSAGE)))])
    else:
        data = bytearray(source.choice(PDUS) + source.choice(PDUS))
    for _ in range(source.choice((1, 1, 2, 5))):
        data = mutate(source, data)
    cut = source.randrange(len(data) + 1)
    peer.feed(data[:cut])
    peer.feed(data[cut:])
    peer.check()


def test_mutated_pdus() -> None:
    seed = int(os.environ.get("RADIOLITH_SEED", "8"))
    for number in range(count("mutated PDUs", 50_000, 10_000_000)):
        source = random.Random(seed * 1_000_000_007 + number)
        try:
            attempt(source)
        except Exception as error:
            raise AssertionError(f"mutation {number} of seed {seed}: {error!r}") from error
