"""Where C-MOVE sends to: a storage SCP on a plain socket that counts what it gets and keeps nothing of it.

It runs in threads of the client that asks for the move, so that its CPU seconds are the client's. It takes every class
in Explicit VR Little Endian, in which all objects of the benchmarks are, and refuses other syntaxes, so that no server
transcodes. Must never answer for an object of which bytes are missing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

from dimse import (
    ANSWERED_ID,
    ASSOCIATE_AC,
    ASSOCIATE_RQ,
    COMMAND,
    DATA_SET_TYPE,
    ECHO_RQ,
    EXPLICIT_LE,
    MESSAGE_ID,
    OFFERED_PDU,
    RELEASE_RP,
    RELEASE_RQ,
    RESPONSE,
    SOP_CLASS,
    STATUS,
    STORE_RQ,
    WITHOUT_DATA,
    Ended,
    Incoming,
    Message,
    Tally,
    associate,
    command_set,
    fragments,
    item,
    items,
    next_pdu,
    pdu,
    receive,
    short,
    user_information,
)
from load import ClientFailed

SYNTAXES_REFUSED = 4  # PS3.8 table 9-18


class Sink:
    """Listens on `port` of this machine while it is entered; `tallies` has one entry for each association it had."""

    def __init__(self, port: int):
        self._port = port
        self.tallies: list[Tally] = []
        self.failures: list[str] = []

    def __enter__(self) -> Sink:
        self._listening = socket.create_server(("127.0.0.1", self._port))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closing alone does not
        self._listening.close()
        self._thread.join(5)

    def total(self) -> Tally:
        """What came over all associations. Raises ClientFailed when one of them went wrong."""
        if self.failures:
            raise ClientFailed(f"at the sink: {'; '.join(self.failures)[:300]}")
        together = Tally()
        for tally in self.tallies:
            together.objects += tally.objects
            together.size += tally.size
            together.uids |= tally.uids
        return together

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        tally = Tally()
        self.tallies.append(tally)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            try:
                _serve(connection, tally)
            except Ended as ended:
                if ended.kind == RELEASE_RQ:
                    connection.sendall(pdu(RELEASE_RP, bytes(4)))
                else:
                    self.failures.append(str(ended))
            except OSError as failure:
                self.failures.append(str(failure))


def _serve(connection: socket.socket, tally: Tally) -> None:
    """Answer until the other side ends the association, which raises Ended."""
    incoming = Incoming(connection)
    kind, size = next_pdu(incoming)
    request = incoming.take(size)
    if kind != ASSOCIATE_RQ:
        raise Ended(kind, request)
    connection.sendall(_acceptance(request))
    while True:
        message = receive(incoming)
        command = message.number(COMMAND)
        if command == STORE_RQ:
            connection.sendall(tally.take(message))
        elif command == ECHO_RQ:
            connection.sendall(_echoed(message))
        else:
            raise ConnectionError(f"a request {command:04X} to the sink")


def _acceptance(request: bytes) -> bytes:
    called, calling = (request[at : at + 16].decode("ascii").strip() for at in (4, 20))
    answers = b""
    for kind, content in items(request, 68):
        if kind != 0x20:
            continue
        offered = [value.rstrip(b"\0").decode("ascii") for sub, value in items(content, 4) if sub == 0x40]
        refused = 0 if EXPLICIT_LE in offered else SYNTAXES_REFUSED
        answers += item(0x21, bytes((content[0], 0, refused, 0)) + item(0x40, EXPLICIT_LE.encode("ascii")))
    return associate(ASSOCIATE_AC, called, calling, answers + user_information())


def _echoed(message: Message) -> bytes:
    answer = command_set(
        {
            SOP_CLASS: message.elements[SOP_CLASS],
            COMMAND: short(ECHO_RQ | RESPONSE),
            ANSWERED_ID: message.elements[MESSAGE_ID],
            DATA_SET_TYPE: short(WITHOUT_DATA),
            STATUS: short(0),
        }
    )
    return b"".join(fragments(message.context, answer, 0, (), OFFERED_PDU))
