"""Messages in fragments: a command set, then perhaps a data set, in P-DATA-TF PDUs (PS3.7 6.3, PS3.8 annex E).

Owns: putting received fragments together as far as commands go, the order in which they may come, and cutting what is
sent. Must never: hold or copy a data set. Data sets stream through: received ones as the views the upper layer gives,
sent ones as headers between slices of the buffers they come in.

Limits: `commands.COMMAND_MAX` for a command set that arrives; SENT_PDU_MAX for a PDU to a peer that names no limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import pack
from typing import NamedTuple

from radiolith.dimse.commands import COMMAND_MAX, Command, decode_command, encode_command
from radiolith.dimse.indications import Fragment
from radiolith.dimse.items import ProtocolError, Reason

Buffer = bytes | bytearray | memoryview

SENT_PDU_MAX = 256 * 1024
"""Bytes of a P-DATA-TF that is sent to a peer that takes any, or more than this: a peer may hold a PDU whole."""
PEER_PDU_MIN = 128
"""Bytes of a P-DATA-TF that a peer must take at least: below, headers would outweigh data. DCMTK asks for 4096."""
SMALL = 64 * 1024
"""Messages up to this many bytes are joined to one buffer: one copy is cheaper than a long list for the socket."""

_OVERHEAD = 6  # bytes of a value's header; as many as of a PDU's
_LAST, _COMMAND = 2, 1


class Arrived(NamedTuple):
    """A whole command set. If it `has_data_set`, the fragments that follow are that, up to the one marked last."""

    context_id: int
    command: Command


class Assembler:
    """Turns the fragments of one association into messages.

    `feed` gives back an Arrived for the last fragment of a command set, the fragment itself for data of the message
    that arrived last, None for a fragment of a command set that goes on. ProtocolError for what PS3.8 annex E and
    PS3.7 6.3 do not allow: hand it to `UpperLayer.invalid`, nothing may be fed afterwards.
    """

    def __init__(self) -> None:
        self._context_id = 0  # of the message under way, 0 between messages
        self._in_data = False
        self._command = bytearray()

    @property
    def between_messages(self) -> bool:
        """Whether nothing is under way: the moment at which an association may end in order."""
        return not self._context_id

    def feed(self, fragment: Fragment) -> Arrived | Fragment | None:
        context_id, command, last, data = fragment
        if context_id != self._context_id and self._context_id:
            raise _unexpected(f"a fragment in context {context_id} inside a message in context {self._context_id}")
        if self._in_data:
            if command:
                raise _unexpected("a command fragment inside a data set")
            if last:
                self._context_id, self._in_data = 0, False
            return fragment
        if not command:
            raise _unexpected("a data fragment without a command before it that has a data set")
        if len(self._command) + len(data) > COMMAND_MAX:
            raise ProtocolError(f"a command set of more than {COMMAND_MAX} bytes")
        self._context_id = context_id
        self._command += data
        if not last:
            return None
        arrived = Arrived(context_id, decode_command(bytes(self._command)))
        self._command.clear()
        self._in_data = arrived.command.has_data_set
        self._context_id = context_id if self._in_data else 0
        return arrived


def _unexpected(text: str) -> ProtocolError:
    return ProtocolError(text, Reason.UNEXPECTED_PARAMETER)


# ---------------------------------------------------------------- sending


def fragment_size(peer_max_length: int, ours: int = SENT_PDU_MAX) -> int:
    """Bytes of data for one P-DATA-TF to a peer that takes `peer_max_length` (0: any). Even, as every fragment must be.

    The announced maximum counts the PDU's variable field, that is a value's header and its data (PS3.8 D.1).
    """
    maximum = min(peer_max_length, ours) if peer_max_length else ours
    return (maximum - _OVERHEAD) & ~1


def message(context_id: int, command: Command, data: Buffer | None, peer_max_length: int) -> list[Buffer]:
    """A message whose data set is at hand, for one write: one buffer if it is SMALL, else headers and slices of `data`.

    `data` is given exactly if `command.has_data_set`, else ValueError. Command and data set go in PDUs of their own.
    """
    if (data is None) == command.has_data_set:
        raise ValueError(f"{command!r} does not say whether it has a data set")
    size = fragment_size(peer_max_length)
    parts = list(_pdus(context_id, _COMMAND, memoryview(encode_command(command)), size))
    if data is not None:
        parts += _pdus(context_id, 0, memoryview(data), size)
    return [b"".join(parts)] if sum(map(len, parts)) <= SMALL else parts


def command_only(context_id: int, command: Command, peer_max_length: int) -> bytes:
    """The command set's PDUs of a message whose data set follows by `Outgoing` or `Unmeasured`."""
    return b"".join(_pdus(context_id, _COMMAND, memoryview(encode_command(command)), fragment_size(peer_max_length)))


def _pdus(context_id: int, control: int, data: memoryview, size: int) -> Iterator[Buffer]:
    """Header and slice in turn; an empty data set is one empty fragment."""
    start, end = 0, len(data)
    while True:
        stop = min(start + size, end)
        yield _header(context_id, control | (_LAST if stop == end else 0), stop - start)
        yield data[start:stop]
        start = stop
        if start == end:
            return


def _header(context_id: int, control: int, length: int) -> bytes:
    """A PDU of one value: both headers at once (PS3.8 9.3.5)."""
    return pack(">BxIIBB", 4, length + _OVERHEAD, length + 2, context_id, control)


class Outgoing:
    """Cuts a data set of known length that comes in buffers of any size; nothing is copied or held back.

    Headers are written ahead: a PDU may begin in one buffer and end in a later one. `total` bytes must come; `feed`
    raises ValueError past that, and `complete` says whether they did.
    """

    def __init__(self, context_id: int, total: int, peer_max_length: int):
        self._context_id = context_id
        self._left = total
        self._size = fragment_size(peer_max_length)
        self._room = 0  # of the PDU that is being written
        self._begun = False

    @property
    def complete(self) -> bool:
        return self._begun and not self._left

    def feed(self, data: Buffer) -> list[Buffer]:
        """Headers and slices to write for the next bytes. An empty data set is fed once, with b""."""
        view = memoryview(data)
        end = len(view)
        if end > self._left:
            raise ValueError(f"{end - self._left} bytes more than the data set was said to have")
        parts: list[Buffer] = []
        at = 0
        while at < end or not self._begun:
            if not self._room:
                self._room = min(self._size, self._left)
                control = _LAST if self._room == self._left else 0
                parts.append(_header(self._context_id, control, self._room))
                self._begun = True
            stop = min(end, at + self._room)
            if stop > at:
                parts.append(view[at:stop])
            self._room -= stop - at
            self._left -= stop - at
            at = stop
        return parts


class Unmeasured:
    """Cuts a data set whose length is not known before its end; data are copied into PDUs, at most one is held back."""

    def __init__(self, context_id: int, peer_max_length: int):
        self._context_id = context_id
        self._size = fragment_size(peer_max_length)
        self._held = bytearray()

    def feed(self, data: Buffer) -> list[Buffer]:
        """PDUs to write for the next bytes; the last of them are kept for `finish`."""
        view = memoryview(data)
        parts: list[Buffer] = []
        at = 0
        while len(self._held) + len(view) - at > self._size:
            stop = at + self._size - len(self._held)
            self._held += view[at:stop]
            parts += (_header(self._context_id, 0, self._size), bytes(self._held))
            self._held.clear()
            at = stop
        self._held += view[at:]
        return parts

    def finish(self) -> list[Buffer]:
        """The last PDU."""
        return [_header(self._context_id, _LAST, len(self._held)), bytes(self._held)]


def streamed(context_id: int, buffers: Iterable[Buffer], total: int, peer_max_length: int) -> Iterator[list[Buffer]]:
    """What to write for each of `buffers`, a data set of `total` bytes; ValueError when it has another length."""
    outgoing = Outgoing(context_id, total, peer_max_length)
    for buffer in buffers:
        yield outgoing.feed(buffer)
    if not outgoing.complete:
        raise ValueError("the data set is shorter than it was said to be")
