"""The parts of a multipart/related answer (RFC 2387), read as they come.

Owns: cutting. Limits: one part is held whole, as is what was read beyond it (PIECE).
"""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from typing import Protocol

PIECE = 1 << 20  # bytes of one read


class Readable(Protocol):
    def read(self, amount: int, /) -> bytes: ...


def parts(body: Readable, content_type: str) -> Iterator[bytes]:
    """The content of each part. Raises ValueError for what is no multipart, or ends before its end."""
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_boundary()
    if not boundary:
        raise ValueError(f"no multipart answer: {content_type}")
    mark = b"\r\n--" + boundary.encode("ascii")
    held = bytearray(b"\r\n")  # the first boundary may stand at the very beginning
    _cut(body, held, mark)
    while True:
        while len(held) < 2:
            _more(body, held)
        if held.startswith(b"--"):
            return
        _cut(body, held, b"\r\n\r\n")
        yield bytes(_cut(body, held, mark))


def _cut(body: Readable, held: bytearray, mark: bytes) -> bytearray:
    """Everything before a mark; `held` goes on behind it."""
    searched = 0
    while (at := held.find(mark, searched)) < 0:
        searched = max(0, len(held) - len(mark))
        _more(body, held)
    found = held[:at]
    del held[: at + len(mark)]
    return found


def _more(body: Readable, held: bytearray) -> None:
    piece = body.read(PIECE)
    if not piece:
        raise ValueError("the answer ended before its last part")
    held += piece
