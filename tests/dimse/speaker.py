"""A peer that says exactly what a test wants it to say: bytes over a plain socket, read back as PDUs."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from types import TracebackType

from radiolith.dimse.association import Caller, Wanted, requests
from radiolith.dimse.commands import Command, decode_command
from radiolith.dimse.messages import message
from radiolith.dimse.pdu import AssociateRequest, Pdu, ReleaseRequest, decode, encode
from tests.archive.objects import EXPLICIT, RAW
from tests.dimse.samples import IMPLICIT_LE, VERIFICATION

AET = "RADIOLITH"
"""Whom every association here calls, unless it says otherwise."""
CONTEXTS = (Wanted(VERIFICATION, (IMPLICIT_LE,)), Wanted(RAW, (EXPLICIT,)))
"""Context 1 and 3 of every association here, unless others are given."""
ECHO_ID, STORE_ID = 1, 3
RELEASE = encode(ReleaseRequest())


def request(wanted: Sequence[Wanted] = CONTEXTS, **caller: object) -> AssociateRequest:
    who = {"calling": "TESTER", "called": AET, **caller}
    return requests(wanted, Caller(**who))[0]  # type: ignore[arg-type]


def echo(number: int = 1) -> bytes:
    command = Command.of("C-ECHO-RQ", MessageID=number, AffectedSOPClassUID=VERIFICATION)
    return b"".join(message(ECHO_ID, command, None, 0))


def store(
    dataset: bytes, sop: str, number: int = 1, *, size: int = 16384, sop_class: str = RAW, context: int = STORE_ID
) -> bytes:
    """A C-STORE-RQ with its data set in PDUs of `size`."""
    command = Command.of(
        "C-STORE-RQ", True, MessageID=number, AffectedSOPClassUID=sop_class, AffectedSOPInstanceUID=sop, Priority=0
    )
    return b"".join(message(context, command, dataset, size))


class Ended(Exception):
    """The connection is over."""


class Speaker:
    """`say` bytes, `hear` PDUs; `nagle` leaves the system's delays on, as old peers do; `holds` bytes unread."""

    def __init__(self, port: int, *, nagle: bool = False, source: str = "", holds: int = 0, host: str = "127.0.0.1"):
        self.socket = socket.socket()
        self.socket.settimeout(30)
        if holds:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, holds)
        if source:
            self.socket.bind((source, 0))
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        if not nagle:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Speaker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def hear(self) -> tuple[int, bytes]:
        """(type, variable field) of the next PDU. Raises Ended."""
        kind, length = struct.unpack(">BxI", self._exactly(6))
        return kind, self._exactly(length)

    def pdu(self) -> Pdu:
        return decode(*self.hear())

    def answer(self) -> Command:
        """The next response; what belongs to no command set is passed over."""
        while True:
            kind, body = self.hear()
            assert kind == 4, (kind, body)
            if body[5] & 1:
                return decode_command(body[6:])

    def associate(self, wanted: Sequence[Wanted] = CONTEXTS, **caller: object) -> Pdu:
        self.say(encode(request(wanted, **caller)))
        return self.pdu()

    def release(self) -> None:
        self.say(RELEASE)
        kind, _ = self.hear()
        assert kind == 6
        self.socket.close()

    def ended(self) -> bool:
        """Nothing more comes; whatever came before is passed over."""
        try:
            while True:
                self.hear()
        except (Ended, OSError):
            return True

    def cut(self, *, reset: bool) -> None:
        """End the connection without a word; `reset`: and without sending what the system still holds."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise Ended
            data += more
        return bytes(data)
