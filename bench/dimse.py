"""A lean DICOM upper layer for the clients' side: one socket, one buffer, requests laid out before the clock starts.

It exists, as `client.py` does for HTTP, so that the client's own work is small beside the server's on a machine they
share: data sets are counted or kept, never decoded, and a request is one piece of memory. It speaks just what the
benchmarks need, one message at a time. It must never hide a failure: what is refused, aborted or cut short raises.
It shares no code with the server it measures. PS3.8 for the PDUs, PS3.7 for the messages.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

from client import Piece
from load import ClientFailed

IMPLICIT_LE, EXPLICIT_LE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
VERIFICATION = "1.2.840.10008.1.1"
STUDY_FIND, STUDY_MOVE, STUDY_GET = (f"1.2.840.10008.5.1.4.1.2.2.{k}" for k in (1, 2, 3))

CLIENT_AET = "BENCHSCU"
"""Who all clients are, and the sink too; the servers know it at this machine's address."""
OFFERED_PDU = 131_072  # bytes we take in one PDU: the most that DCMTK's senders use
LARGEST_PDU = 1 << 20  # bytes we send in one, whatever the server would take
BUFFER = 1 << 18
TIMEOUT = 240.0

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
STORE_RQ, GET_RQ, FIND_RQ, MOVE_RQ, ECHO_RQ, RESPONSE = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x8000
SOP_CLASS, COMMAND, MESSAGE_ID, ANSWERED_ID, DESTINATION = 0x0002, 0x0100, 0x0110, 0x0120, 0x0600
PRIORITY, DATA_SET_TYPE, STATUS, SOP_INSTANCE = 0x0700, 0x0800, 0x0900, 0x1000
WITH_DATA, WITHOUT_DATA = 0x0001, 0x0101
PENDING = (0xFF00, 0xFF01)

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_IMPLEMENTATION = b"2.25.15099262"


@dataclass(frozen=True, slots=True)
class Node:
    """Where a server speaks DIMSE, and the port at which it expects CLIENT_AET to listen for what it moves."""

    port: int
    aet: str
    sink_port: int
    host: str = "127.0.0.1"


class Ended(ClientFailed):
    """The other side ended the association; `kind` is the type of the PDU that said so."""

    def __init__(self, kind: int, body: bytes):
        super().__init__(f"the other side sent a PDU of type {kind}: {body[:60].hex()}")
        self.kind = kind


# ---------------------------------------------------------------- receiving


class Incoming:
    """What a socket brings, through one reused buffer. Raises ConnectionError when it ends in the middle."""

    def __init__(self, connection: socket.socket, size: int = BUFFER):
        self._socket = connection
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)
        self._at = self._end = 0  # what is received and not used yet

    def take(self, size: int) -> bytes:
        if self._end - self._at >= size:
            self._at += size
            return bytes(self._view[self._at - size : self._at])
        made = bytearray()
        while True:
            step = min(size - len(made), self._end - self._at)
            made += self._view[self._at : self._at + step]
            self._at += step
            if len(made) == size:
                return bytes(made)
            self._more()

    def skip(self, size: int) -> None:
        while (step := self._end - self._at) < size:
            size -= step
            self._more()
        self._at += size

    def _more(self) -> None:
        self._at, self._end = 0, self._socket.recv_into(self._buffer)
        if not self._end:
            raise ConnectionResetError("the other side closed the connection")


class Message(NamedTuple):
    """A command's elements of group 0000 by element number, and the data set that came with it."""

    context: int
    elements: Mapping[int, bytes]
    size: int
    data: bytes

    def number(self, element: int) -> int:
        return int.from_bytes(self.elements[element], "little")

    def uid(self, element: int) -> str:
        return self.elements[element].rstrip(b"\0 ").decode("ascii")


def next_pdu(incoming: Incoming) -> tuple[int, int]:
    """Type and length of the next PDU, whose body is still to be read."""
    kind, size = struct.unpack(">BxI", incoming.take(6))
    return kind, size


def receive(incoming: Incoming, keep: bool = False) -> Message:
    """The next message, its data set counted, or kept. Raises Ended for any PDU that is no P-DATA-TF."""
    command, kept, size, context = b"", bytearray(), 0, 0
    elements: dict[int, bytes] | None = None
    last = False
    while elements is None or not last:
        kind, left = next_pdu(incoming)
        if kind != DATA:
            raise Ended(kind, incoming.take(min(left, 1024)))
        while left:
            length, context, flags = struct.unpack(">IBB", incoming.take(6))
            left -= length + 4
            if flags & 1:
                command += incoming.take(length - 2)
                if flags & 2:
                    elements = _elements(command)
                    last = elements[DATA_SET_TYPE] == struct.pack("<H", WITHOUT_DATA)
                continue
            size += length - 2
            last = bool(flags & 2)
            if keep:
                kept += incoming.take(length - 2)
            else:
                incoming.skip(length - 2)
    return Message(context, elements, size, bytes(kept))


def _elements(command: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(command):
        element, length = struct.unpack_from("<HI", command, at + 2)
        found[element] = command[at + 8 : at + 8 + length]
        at += 8 + length
    return found


# ---------------------------------------------------------------- laying out


def text(value: str) -> bytes:
    """An AE title: padded with a blank to an even length."""
    return value.encode("ascii") + b" " * (len(value) % 2)


def uid(value: str) -> bytes:
    return value.encode("ascii") + b"\0" * (len(value) % 2)


def short(value: int) -> bytes:
    return struct.pack("<H", value)


def command_set(elements: Mapping[int, bytes]) -> bytes:
    """Implicit VR Little Endian, ordered, behind its group length."""
    body = b"".join(struct.pack("<HHI", 0, key, len(value)) + value for key, value in sorted(elements.items()))
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def identifier(keys: Mapping[int, str]) -> bytes:
    """Query keys (0xGGGGEEEE to value, empty for what is only to come back) in Implicit VR Little Endian."""
    uids = (0x00080018, 0x0020000D, 0x0020000E)
    out = bytearray()
    for tag, value in sorted(keys.items()):
        raw = uid(value) if tag in uids else text(value)
        out += struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(raw)) + raw
    return bytes(out)


def fragments(context: int, command: bytes, size: int, pieces: Iterable[Piece], max_pdu: int) -> Iterator[Piece]:
    """The PDUs of a message whose data set has `size` bytes: the command in one, `pieces` in PDUs of up to `max_pdu`.

    Headers and slices of the pieces; nothing of the data set is copied. Without a data set `size` is 0."""
    yield _fragment(context, 3, len(command)) + command
    most = (max_pdu - 6) & ~1  # a fragment is even, PS3.8 annex D.1
    room, left = 0, size
    for piece in pieces:
        view, at = memoryview(piece), 0
        while at < len(view):
            if not room:
                room = min(most, left)
                yield _fragment(context, 2 if room == left else 0, room)
            step = min(room, len(view) - at)
            yield view[at : at + step]
            at, room, left = at + step, room - step, left - step
    if left or room:
        raise ValueError(f"the pieces are {left} bytes short of {size}")


def _fragment(context: int, flags: int, size: int) -> bytes:
    return struct.pack(">BxIIBB", DATA, size + 6, size + 2, context, flags)


def stored(sop_class: str, sop_instance: str, number: int) -> bytes:
    """The command set of a C-STORE request."""
    return command_set(
        {
            SOP_CLASS: uid(sop_class),
            COMMAND: short(STORE_RQ),
            MESSAGE_ID: short(number),
            PRIORITY: short(0),
            DATA_SET_TYPE: short(WITH_DATA),
            SOP_INSTANCE: uid(sop_instance),
        }
    )


def data_set(encoded: Piece) -> memoryview:
    """What a Part 10 file holds behind its meta information, which starts with its own length."""
    (length,) = struct.unpack_from("<I", encoded, 140)
    return memoryview(encoded)[144 + length :]


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def user_information(*more: bytes) -> bytes:
    return item(0x50, item(0x51, struct.pack(">I", OFFERED_PDU)) + item(0x52, _IMPLEMENTATION) + b"".join(more))


def associate(kind: int, called: str, calling: str, items: bytes) -> bytes:
    """A-ASSOCIATE-RQ or -AC; the presentation contexts and the user information are `items`."""
    fixed = struct.pack(">H2x16s16s32x", 1, called.ljust(16).encode("ascii"), calling.ljust(16).encode("ascii"))
    return pdu(kind, fixed + item(0x10, _APPLICATION_CONTEXT) + items)


def items(body: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """The items of an A-ASSOCIATE PDU (from byte 68) or of one of its items: type and content."""
    while at < len(body):
        kind, size = struct.unpack_from(">BxH", body, at)
        yield kind, body[at + 4 : at + 4 + size]
        at += 4 + size


# ---------------------------------------------------------------- an association


@dataclass(slots=True)
class Tally:
    """The objects a server sent to us."""

    objects: int = 0
    size: int = 0
    uids: set[str] = field(default_factory=set[str])

    def take(self, message: Message) -> bytes:
        """Count the object of a C-STORE request; the response that says it is stored."""
        self.objects += 1
        self.size += message.size
        self.uids.add(message.uid(SOP_INSTANCE))
        answer = command_set(
            {
                SOP_CLASS: message.elements[SOP_CLASS],
                COMMAND: short(STORE_RQ | RESPONSE),
                ANSWERED_ID: message.elements[MESSAGE_ID],
                DATA_SET_TYPE: short(WITHOUT_DATA),
                STATUS: short(0),
                SOP_INSTANCE: message.elements[SOP_INSTANCE],
            }
        )
        return b"".join(fragments(message.context, answer, 0, (), OFFERED_PDU))


class Association:
    """One association, requested by us; a context manager that releases it. `provides`: of these classes we are SCP.

    Every context proposes one transfer syntax; one that is refused raises where it is used."""

    def __init__(
        self, node: Node, contexts: Sequence[tuple[str, str]], provides: Collection[str] = (), buffer: int = BUFFER
    ):
        self.socket = socket.create_connection((node.host, node.port), timeout=TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._incoming = Incoming(self.socket, buffer)
        self._contexts = {abstract: 2 * k + 1 for k, (abstract, _) in enumerate(contexts)}
        self._number = 0
        proposed = b"".join(
            item(0x20, bytes((2 * k + 1, 0, 0, 0)) + item(0x30, a.encode("ascii")) + item(0x40, t.encode("ascii")))
            for k, (a, t) in enumerate(contexts)
        )
        roles = [item(0x54, struct.pack(">H", len(c)) + c.encode("ascii") + b"\0\1") for c in provides]
        try:
            self.socket.sendall(associate(ASSOCIATE_RQ, node.aet, CLIENT_AET, proposed + user_information(*roles)))
            kind, size = next_pdu(self._incoming)
            body = self._incoming.take(size)
            if kind != ASSOCIATE_AC:
                raise Ended(kind, body)
        except BaseException:
            self.socket.close()
            raise
        self._accepted, self.max_pdu = _accepted(body)

    def __enter__(self) -> Association:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.release()
        self.socket.close()

    def context(self, abstract: str) -> int:
        number = self._contexts[abstract]
        if number not in self._accepted:
            raise ClientFailed(f"the server accepts no {abstract} in the syntax proposed")
        return number

    def receive(self, keep: bool = False) -> Message:
        return receive(self._incoming, keep)

    def confirmed(self, number: int) -> None:
        """Read the answer to C-STORE request `number`. Raises ClientFailed unless it says that all is well."""
        answer = self.receive()
        if answer.number(STATUS) != 0 or answer.number(ANSWERED_ID) != number:
            raise ClientFailed(
                f"C-STORE {number}: status {answer.number(STATUS):04X} for message {answer.number(ANSWERED_ID)}"
            )

    def echo(self) -> None:
        self._ask(ECHO_RQ, VERIFICATION, b"")
        if status := self.receive().number(STATUS):
            raise ClientFailed(f"C-ECHO: status {status:04X}")

    def find(self, query: bytes) -> list[bytes]:
        """C-FIND, study root: the identifiers of the matches."""
        self._ask(FIND_RQ, STUDY_FIND, query)
        found: list[bytes] = []
        while (answer := self.receive(keep=True)).number(STATUS) in PENDING:
            found.append(answer.data)
        if status := answer.number(STATUS):
            raise ClientFailed(f"C-FIND: status {status:04X}")
        return found

    def move(self, query: bytes) -> None:
        """C-MOVE, study root, to the sink. Returns when the server says that all of it is there."""
        self._ask(MOVE_RQ, STUDY_MOVE, query, {DESTINATION: text(CLIENT_AET)})
        while (answer := self.receive()).number(STATUS) in PENDING:
            pass
        if status := answer.number(STATUS):
            raise ClientFailed(f"C-MOVE: status {status:04X}")

    def get(self, query: bytes) -> Tally:
        """C-GET, study root: what came."""
        self._ask(GET_RQ, STUDY_GET, query)
        tally = Tally()
        while True:
            message = self.receive()
            if message.number(COMMAND) == STORE_RQ:
                self.socket.sendall(tally.take(message))
            elif message.number(STATUS) not in PENDING:
                break
        if status := message.number(STATUS):
            raise ClientFailed(f"C-GET: status {status:04X}")
        return tally

    def release(self) -> None:
        self.socket.sendall(pdu(RELEASE_RQ, bytes(4)))
        kind, size = next_pdu(self._incoming)
        if kind != RELEASE_RP:
            raise Ended(kind, self._incoming.take(min(size, 1024)))
        with contextlib.suppress(OSError):
            self.socket.close()

    def _ask(self, command: int, sop_class: str, query: bytes, more: Mapping[int, bytes] | None = None) -> None:
        self._number = self._number % 0xFFFF + 1
        elements = {
            SOP_CLASS: uid(sop_class),
            COMMAND: short(command),
            MESSAGE_ID: short(self._number),
            DATA_SET_TYPE: short(WITH_DATA if query else WITHOUT_DATA),
        }
        if query:
            elements[PRIORITY] = short(0)
        request = command_set(elements | dict(more or {}))
        pieces = (query,) if query else ()
        self.socket.sendall(
            b"".join(fragments(self.context(sop_class), request, len(query), pieces, min(self.max_pdu, OFFERED_PDU)))
        )


def _accepted(body: bytes) -> tuple[set[int], int]:
    """Of an A-ASSOCIATE-AC: the contexts that were accepted, and the bytes to send in one PDU at most."""
    contexts: set[int] = set()
    most = 0
    for kind, content in items(body, 68):
        if kind == 0x21 and content[2] == 0:
            contexts.add(content[0])
        elif kind == 0x50:
            most = next((struct.unpack(">I", value)[0] for sub, value in items(content) if sub == 0x51), 0)
    return contexts, min(most or LARGEST_PDU, LARGEST_PDU)
