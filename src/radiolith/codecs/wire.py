"""Messages between a client and its decoder process: one JSON control part and raw byte strings.

    magic 'RLD1' | u32 length of the JSON | u32 number of byte strings | u64 length of each | JSON | byte strings

Integers are little endian. Owns the layout and its bounds, for both directions; neither side trusts the other: lengths
are checked before anything is allocated. Must never do I/O: both the blocking and the asynchronous client use it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Generator, Sequence
from typing import cast

from radiolith.codecs.limits import CONTROL_BYTES, MAX_BLOBS
from radiolith.model import BadInput

HEAD = struct.Struct("<4sII")
MAGIC = b"RLD1"
HELLO = struct.Struct("<4sI")  # first bytes from a decoder: magic, its process id
Buffer = bytes | bytearray | memoryview
Control = dict[str, object]
Message = tuple[Control, list[bytearray]]


def pack(control: Control, blobs: Sequence[memoryview]) -> list[memoryview]:
    """The pieces of one message in sending order; the blobs are not copied."""
    text = json.dumps(control, separators=(",", ":")).encode()
    sizes = struct.pack(f"<{len(blobs)}Q", *(b.nbytes for b in blobs))
    head = memoryview(HEAD.pack(MAGIC, len(text), len(blobs)) + sizes + text)
    return [head, *(b.cast("B") if b.ndim != 1 or b.format != "B" else b for b in blobs if b.nbytes)]


def receive(max_bytes: int) -> Generator[memoryview, None, Message]:
    """Read one message: yields buffers to fill completely, returns the message. Raises BadInput past a bound."""
    head = memoryview(bytearray(HEAD.size))
    yield head
    magic, text_size, count = cast(tuple[bytes, int, int], HEAD.unpack(head))
    if magic != MAGIC or text_size > CONTROL_BYTES or count > MAX_BLOBS:
        raise BadInput("a malformed message between server and decoder")
    table = memoryview(bytearray(8 * count + text_size))
    yield table
    sizes = cast(tuple[int, ...], struct.unpack(f"<{count}Q", table[: 8 * count]))
    if sum(sizes) > max_bytes:
        raise BadInput(f"a message of {sum(sizes)} bytes between server and decoder; {max_bytes} are allowed")
    control = _control(table[8 * count :])
    blobs: list[bytearray] = []
    for size in sizes:
        blob = bytearray(size)
        if size:
            yield memoryview(blob)
        blobs.append(blob)
    return control, blobs


def _control(text: memoryview) -> Control:
    try:
        value: object = json.loads(bytes(text))
    except (ValueError, RecursionError):
        raise BadInput("a malformed message between server and decoder") from None
    if not isinstance(value, dict):
        raise BadInput("a malformed message between server and decoder")
    return cast(Control, value)


def read_blocking(max_bytes: int, fill: Callable[[memoryview], None]) -> Message:
    """`receive` over a blocking `fill`, which fills the whole buffer or raises."""
    steps = receive(max_bytes)
    try:
        while True:
            fill(next(steps))
    except StopIteration as done:
        return cast(Message, done.value)
    finally:
        steps.close()


def as_view(data: Buffer) -> memoryview:
    """A flat byte view of any contiguous buffer."""
    view = memoryview(data)
    return view if view.ndim == 1 and view.format == "B" else view.cast("B")
