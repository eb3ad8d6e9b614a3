"""A lean HTTP/1.1 client: one socket, one buffer, bodies counted rather than kept.

It exists so that the client's own work is small beside the server's on a machine they share. It speaks just what the
benchmarks need: keep-alive, lengths, chunks, bodies in pieces. It must never hide a failure: a short body raises.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

BUFFER = 1 << 18  # bytes read at once; larger ones fall out of the processor's cache
GATHER = 32  # pieces handed to one sendmsg
BOUNDARY = "radiolith-bench-7d1f0c35"

DICOM_JSON = "application/dicom+json"
DICOM_PARTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
FRAME_PARTS = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'

Piece = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server answers: `root` is the DICOMweb root; `headers` go with every request."""

    port: int
    root: str = "/dicom-web"
    host: str = "127.0.0.1"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Reply(NamedTuple):
    """Status, bytes of the body, seconds to the first byte of the answer, and the body when it was asked for."""

    status: int
    size: int
    first_byte_s: float
    body: bytes


class Client:
    """One connection to one server, opened when needed and opened again when the server has closed it."""

    def __init__(self, address: Address, timeout: float = 240.0):
        self._address, self._timeout = address, timeout
        self._socket: socket.socket | None = None
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._at = self._end = 0  # what is received and not used yet
        self._common = "".join(f"{k}: {v}\r\n" for k, v in address.headers.items())

    def get(self, path: str, accept: str = DICOM_JSON, keep: bool = False) -> Reply:
        return self._exchange(self._head("GET", path, accept, ""), (), keep)

    def post(self, path: str, content_type: str, size: int, pieces: Sequence[Piece] | Iterable[Piece]) -> Reply:
        """Send a body of `size` bytes in pieces; the answer's body is kept. A one-shot iterable is not resent."""
        extra = f"Content-Type: {content_type}\r\nContent-Length: {size}\r\n"
        return self._exchange(self._head("POST", path, DICOM_JSON, extra), pieces, keep=True)

    def put(self, path: str) -> Reply:
        """An empty PUT."""
        return self._exchange(self._head("PUT", path, "*/*", "Content-Length: 0\r\n"), (), keep=True)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._at = self._end = 0

    # ------------------------------------------------------------ sending

    def _head(self, method: str, path: str, accept: str, extra: str) -> bytes:
        a = self._address
        lines = f"{method} {a.root}{path} HTTP/1.1\r\nHost: {a.host}:{a.port}\r\nAccept: {accept}\r\n"
        return f"{lines}{self._common}{extra}\r\n".encode()

    def _exchange(self, head: bytes, pieces: Iterable[Piece], keep: bool) -> Reply:
        begin = time.perf_counter()
        reused = self._socket is not None
        try:
            return self._once(head, pieces, keep, begin)
        except (ConnectionError, TimeoutError):
            self.close()
            if not reused or not isinstance(pieces, Sequence):
                raise
        return self._once(head, pieces, keep, begin)  # an idle connection the server had closed meanwhile

    def _once(self, head: bytes, pieces: Iterable[Piece], keep: bool, begin: float) -> Reply:
        connection = self._connected()
        try:
            send_pieces(connection, chain((head,), pieces))
        except ConnectionError:
            # it may have answered and closed while we were still sending: the answer says why
            if not self._receive():
                raise
        return self._reply(begin, keep)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            a = self._address
            self._socket = socket.create_connection((a.host, a.port), timeout=self._timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    # ------------------------------------------------------------ receiving

    def _receive(self) -> int:
        """More bytes behind those waiting; makes room by moving what is left to the front."""
        assert self._socket is not None
        if self._at:
            left = self._end - self._at
            self._view[:left] = bytes(self._view[self._at : self._end])
            self._at, self._end = 0, left
        if self._end == BUFFER:
            raise ConnectionError("a header line is longer than the buffer")
        got = self._socket.recv_into(self._view[self._end :])
        self._end += got
        return got

    def _until(self, mark: bytes) -> bytes:
        """The bytes up to `mark`, which is used up as well."""
        while (found := self._buffer.find(mark, self._at, self._end)) < 0:
            if not self._receive():
                raise ConnectionResetError("the server closed the connection")
        line = bytes(self._view[self._at : found])
        self._at = found + len(mark)
        return line

    def _reply(self, begin: float, keep: bool) -> Reply:
        if self._at == self._end and not self._receive():
            raise ConnectionResetError("the server closed the connection without an answer")
        first = time.perf_counter() - begin
        head = self._until(b"\r\n\r\n").lower()
        status = int(head[9:12])
        if status == 100:
            return self._reply(begin, keep)
        kept = bytearray() if keep else None
        closing = b"\r\nconnection: close" in head or head.startswith(b"http/1.0")
        if status in (204, 304):
            size = 0
        elif (at := head.find(b"\r\ncontent-length:")) >= 0:
            size = int(head[at + 17 :].split(b"\r\n", 1)[0])
            self._take(size, kept)
        elif b"\r\ntransfer-encoding: chunked" in head:
            size = self._chunks(kept)
        else:
            size, closing = self._rest(kept), True
        if closing:
            self.close()
        return Reply(status, size, first, bytes(kept) if kept is not None else b"")

    def _take(self, size: int, kept: bytearray | None) -> None:
        """Use up `size` bytes of the body."""
        while True:
            step = min(size, self._end - self._at)
            if kept is not None:
                kept += self._view[self._at : self._at + step]
            self._at += step
            size -= step
            if not size:
                return
            self._at = self._end = 0
            if not self._receive():
                raise ConnectionError(f"the body ended {size} bytes early")

    def _chunks(self, kept: bytearray | None) -> int:
        total = 0
        while size := int(self._until(b"\r\n").split(b";", 1)[0], 16):
            self._take(size, kept)
            self._take(2, None)
            total += size
        while self._until(b"\r\n"):
            pass
        return total

    def _rest(self, kept: bytearray | None) -> int:
        total = 0
        while True:
            total += self._end - self._at
            if kept is not None:
                kept += self._view[self._at : self._end]
            self._at = self._end = 0
            if not self._receive():
                return total


def send_pieces(connection: socket.socket, pieces: Iterable[Piece]) -> None:
    """Send all of them, GATHER at a time."""
    waiting: list[Piece] = []
    for piece in pieces:
        waiting.append(piece)
        if len(waiting) >= GATHER:
            _send_all(connection, waiting)
            waiting = []
    if waiting:
        _send_all(connection, waiting)


def _send_all(connection: socket.socket, pieces: list[Piece]) -> None:
    """sendmsg until everything is gone; a partial send continues in the middle of a piece."""
    if len(pieces) == 1:
        connection.sendall(pieces[0])
        return
    left = [memoryview(piece) for piece in pieces]
    while left:
        sent = connection.sendmsg(left)
        while left and sent >= len(left[0]):
            sent -= len(left.pop(0))
        if sent:
            left[0] = left[0][sent:]


def store_type() -> str:
    return f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def store_body(objects: Sequence[bytes]) -> bytes:
    """The body of a STOW-RS request, in one piece so that sending it is one call."""
    pieces: list[bytes] = []
    for data in objects:
        pieces += (PART_START, data, b"\r\n")
    return b"".join((*pieces, BODY_END))


PART_START = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
BODY_END = f"--{BOUNDARY}--\r\n".encode()
