"""The life of one decoder process: read a request, do it, answer, until the connection ends.

Owns: the table of operations and the translation of everything that can go wrong into an answer. Runs confined (see
`confine`): nothing may be imported or opened here, `warm_up` has done all that in the zygote. Must never keep anything
beyond the one object its connection is about, because there is nothing else it could know.
"""

from __future__ import annotations

import resource
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from radiolith import model
from radiolith.codecs import wire
from radiolith.codecs.description import PixelDescription
from radiolith.codecs.header import Header, Opened
from radiolith.codecs.limits import Limits

MAX_REASON = 300  # characters of a reason sent back


@dataclass
class Served:
    """The one object this process is about."""

    limits: Limits
    opened: Opened | None = None
    parsed: Header | None = None
    descriptions: dict[int, PixelDescription] = field(default_factory=dict[int, PixelDescription])

    def need(self) -> Header:
        """The parsed header; parsed on first use, so that a bad one is the answer to a question."""
        if self.parsed is None:
            if self.opened is None:
                raise model.BadInput("no object was opened")
            self.parsed = Header(self.opened)
        return self.parsed

    def describe(self, frame: int) -> PixelDescription:
        """Description of frame `frame` (from 0); only multi-frame objects differ by frame."""
        header = self.need()
        key = frame if header.per_frame else 0
        if key not in self.descriptions:
            self.descriptions.clear()  # one is enough: frames come in order
            self.descriptions[key] = header.describe(key)
        return self.descriptions[key]


Answer = tuple[wire.Control, list[memoryview]]
Operation = Callable[[Served, wire.Control, list[bytearray]], Answer]
OPERATIONS: dict[str, Operation] = {}


def operation(name: str) -> Callable[[Operation], Operation]:
    """Register a function as the operation `name`."""

    def register(function: Operation) -> Operation:
        OPERATIONS[name] = function
        return function

    return register


def serve(connection: socket.socket, limits: Limits) -> None:
    """Answer requests on `connection` until its end."""
    served = Served(limits)

    def fill(buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            got = connection.recv_into(buffer[done:])
            if not got:
                raise EOFError
            done += got

    while True:
        signal.setitimer(signal.ITIMER_REAL, limits.idle_seconds)  # SIGALRM's default action ends the process
        try:
            control, blobs = wire.read_blocking(limits.request_bytes, fill)
        except (EOFError, OSError):
            signal.setitimer(signal.ITIMER_REAL, 0)
            return
        signal.setitimer(signal.ITIMER_REAL, limits.request_seconds * 1.2 + 1)  # the client's clock comes first
        answer, out = _answer(served, control, blobs)
        del blobs
        usage = resource.getrusage(resource.RUSAGE_SELF)
        answer["cpu"] = usage.ru_utime + usage.ru_stime
        if control.get("op") == "open":
            continue
        for piece in wire.pack(answer, out):
            connection.sendall(piece)


def _answer(served: Served, control: wire.Control, blobs: list[bytearray]) -> Answer:
    try:
        return OPERATIONS[str(control.get("op"))](served, control, blobs)
    except model.Failure as failure:
        return _refusal(type(failure).__name__, str(failure)), []
    except MemoryError:
        limit = served.limits.memory_bytes >> 20
        return _refusal("LimitExceeded", f"decoding this would take more than {limit} MiB of memory"), []
    except RecursionError:
        return _refusal("BadInput", "sequences nested too deeply"), []
    except Exception as error:
        # A codec's text speaks of markers and sizes; another library's might quote an attribute's value.
        kind = type(error)
        text = f": {error}" if kind.__module__.startswith("imagecodecs") else ""
        return _refusal("Unsupported", f"the image could not be processed: {kind.__name__}{text}"), []


def _refusal(kind: str, reason: str) -> wire.Control:
    printable = "".join(c if c.isprintable() else "?" for c in reason)
    return {"failure": kind, "reason": printable[:MAX_REASON]}
