"""An object that cannot be read to its end while it is being sent: the association ends, since half a message is out."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from radiolith.dimse.association import Context
from radiolith.dimse.commands import Command
from radiolith.dimse.pdu import ABORT
from radiolith.dimse.sending import Sender
from radiolith.model import Damaged


class Layer:
    """An established association whose peer takes PDUs of 4 KiB."""

    peer_max_length = 4096
    may_send_data = True
    owes_release_reply = False

    def send_data(self, buffers: list[bytes]) -> list[bytes]:
        return buffers

    def send_abort(self) -> bytes:
        self.may_send_data = False
        return bytes((ABORT, 0, 0, 0, 0, 4, 0, 0, 0, 0))


class Wire:
    ended = blocked = False

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, buffers: list[bytes]) -> None:
        self.sent += [bytes(buffer) for buffer in buffers]

    async def drain(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True


async def _damaged_after(pieces: int) -> AsyncGenerator[bytes]:
    for _ in range(pieces):
        yield bytes(1000)
    raise Damaged("a chunk failed authentication")


@pytest.mark.parametrize(("pieces", "aborted"), [(0, False), (1, True), (3, True)])
async def test_half_a_message(pieces: int, aborted: bool) -> None:
    layer, wire = Layer(), Wire()
    sender = Sender(layer, wire)  # type: ignore[arg-type]
    command = Command.of(
        "C-STORE-RQ", True, AffectedSOPClassUID="1.2", AffectedSOPInstanceUID="1.3", MessageID=1, Priority=0
    )
    with pytest.raises(Damaged):
        await sender.store(Context(1, "1.2", "1.2.840.10008.1.2", True, False), command, _damaged_after(pieces), 10_000)
    assert wire.closed is aborted
    assert (wire.sent[-1:] == [bytes((ABORT, 0, 0, 0, 0, 4, 0, 0, 0, 0))]) is aborted
    assert sender.open is not aborted
