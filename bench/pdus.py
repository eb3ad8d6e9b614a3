"""What the protocol of one C-STORE costs without sockets: parsing the PDUs of an object, and cutting it into PDUs.

Run: python bench/pdus.py. A 0.5 MB object in PDUs of 16, 64 and 256 KiB, read in pieces of 16, 64 and 256 KiB from one
reused buffer, as a server does. Prints the best of several rounds in microseconds of CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from radiolith.dimse.association import Accepted, Accepts, Caller, Offer, Wanted, negotiate, requests
from radiolith.dimse.commands import Command
from radiolith.dimse.messages import Arrived, Assembler, message
from radiolith.dimse.pdu import AssociateRequest, encode
from radiolith.dimse.upperlayer import UpperLayer

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
OBJECT_BYTES = 526_000
ROUNDS = 200


def established(max_length: int) -> UpperLayer:
    """An acceptor with one accepted context for CT images."""
    layer = UpperLayer.acceptor(max_length)
    request = requests([Wanted(CT_IMAGE, (EXPLICIT_LE,))], Caller("SENDER", "ARCHIVE"))[0]
    (event,) = layer.receive(encode(request))
    assert isinstance(event, AssociateRequest)
    answer = negotiate(event, Offer({CT_IMAGE: Accepts((EXPLICIT_LE,))}, max_length=max_length))
    assert isinstance(answer, Accepted)
    layer.send_accept(answer.answer)
    return layer


def store(max_length: int) -> list[bytes | bytearray | memoryview]:
    """The buffers of a C-STORE request."""
    command = Command.of(
        "C-STORE-RQ", True, MessageID=1, Priority=0, AffectedSOPClassUID=CT_IMAGE, AffectedSOPInstanceUID="2.25.1.2.3"
    )
    return message(1, command, bytes(OBJECT_BYTES), max_length)


def parse(layer: UpperLayer, assembler: Assembler, wire: bytes, piece: int) -> int:
    """Bytes of data set in `wire`, read in pieces."""
    view = memoryview(wire)
    total = 0
    for start in range(0, len(wire), piece):
        for event in layer.receive(view[start : start + piece]):
            got = assembler.feed(event)  # type: ignore[arg-type]
            if got is not None and not isinstance(got, Arrived):
                total += len(got.data)
    return total


def best(work: Callable[[], object]) -> float:
    """Microseconds of CPU of the fastest of ROUNDS."""
    fastest = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time_ns()
        work()
        fastest = min(fastest, time.process_time_ns() - started)
    return fastest / 1000


def main() -> None:
    print(f"one object of {OBJECT_BYTES} bytes; microseconds of CPU")
    for max_length in (16 * 1024, 64 * 1024, 256 * 1024):
        wire = b"".join(store(max_length))
        for piece in (16 * 1024, 64 * 1024, 256 * 1024):
            layer, assembler = established(max_length), Assembler()
            assert parse(layer, assembler, wire, piece) == OBJECT_BYTES
            took = best(lambda w=wire, p=piece, u=layer, a=assembler: parse(u, a, w, p))
            print(f"  PDUs of {max_length // 1024:>3} KiB, read by {piece // 1024:>3} KiB: parse {took:6.1f}")
        print(f"  PDUs of {max_length // 1024:>3} KiB: cut for sending {best(lambda m=max_length: store(m)):6.1f}")


if __name__ == "__main__":
    main()
