"""What every place for segments owes the log above it.

Owns: the contract. One conformance suite (tests/storage/conformance.py) holds every backend to it. No descriptor,
append or rename shows here; a backend knows lengths and ids of records, never keys or payload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from radiolith.model import Place
from radiolith.storage.format import Buffer


class Steps:
    """Numbers every step that can change what is durable, so that a test can stop at each of them.

    `hook(number, name)` runs before the step. It may raise OSError (the step fails), end the process (a crash), or
    return a number of bytes (a write is cut short there).
    """

    def __init__(self, hook: Callable[[int, str], int | None] | None = None):
        self.count = 0
        self.hook = hook

    def __call__(self, name: str) -> int | None:
        self.count += 1
        return self.hook(self.count, name) if self.hook is not None else None


@dataclass(frozen=True, slots=True)
class Sealed:
    """One whole record, ready to be written."""

    object_id: bytes
    kind: int
    length: int
    buffers: Sequence[Buffer]  # header, chunks, trailer: `length` bytes together


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    id: bytes
    length: int  # bytes of the file or object, preallocation included
    sealed: bool  # it ends in a tail
    modified: int = 0  # microseconds; 0 where unknown


@dataclass(frozen=True, slots=True)
class Problem:
    """Bytes at rest that are not what was written."""

    segment: bytes
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"at byte {self.offset}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Recovered:
    """A segment that may hold records beyond what the index knows."""

    segment: bytes
    start: int  # records from this offset on are unknown to the index
    end: int  # where its data end
    state: str
    """'sealed' (found so), 'recovered' (sealed now), 'damaged' (left as it is), 'removed' (held nothing),
    'unfinished' (kept)"""
    torn: int = 0  # bytes dropped behind the end: never acknowledged
    damage: list[Problem] = field(default_factory=list[Problem])


COMPLETE = -1
"""Answer of a `known` callback: the index noted that this segment is sealed and wholly indexed. It is not opened;
nor is one whose known end is its length."""

Known = Callable[[bytes], int | None]
"""segment id -> end of the last record a committed row names; None: nothing known; COMPLETE: everything."""


class Stream(Protocol):
    """A record on its way into a segment of its own. One thread at a time. Every call raises NoSpace or Unavailable;
    then only `discard` may follow."""

    def write(self, data: Buffer) -> None:
        """Append; may return before the bytes are durable. The caller may reuse `data`."""
        ...

    def flush(self) -> None:
        """Make what was written durable, so that `commit` has little left to do. Optional."""
        ...

    def commit(self, trailer: Buffer, sealed: Sealed) -> Place:
        """Append the trailer and seal the segment, durable on return. `sealed.buffers` is not used."""
        ...

    def discard(self) -> None:
        """Remove every trace. Never raises."""
        ...


class Backend(Protocol):
    """A place for segments. `commit` is called by one thread at a time; everything else by any thread."""

    steps: Steps
    tier: str  # its URL, without credentials

    def check_space(self) -> None:
        """Raise NoSpace when new records should not be begun. Cheap: asked for every record."""
        ...

    def commit(self, batch: Sequence[Sealed]) -> list[Place]:
        """Write the records, all or none, durable on return: data, length and every name on the way to them.

        Raises NoSpace or Unavailable, and then no record of the batch is shown by `read`, though some may be found
        by a later recovery. A sync that failed is not tried again: the batch is written to another segment or refused.
        """
        ...

    def stream(self) -> Stream: ...

    def read_into(self, segment: bytes, offset: int, into: memoryview) -> None:
        """Fill `into`. Raises NotFound (no such segment), Damaged (it ends earlier), Unavailable."""
        ...

    def size(self, segment: bytes) -> int:
        """Bytes of a segment; raises NotFound."""
        ...

    def forget(self, place: Place) -> None:
        """The next read of this record shall come from the medium, past every cache of ours and the system's."""
        ...

    def busy(self, segment: bytes) -> bool:
        """Whether a living writer holds it, so that its end may change at any moment."""
        ...

    def list(self) -> Iterator[SegmentInfo]:
        """Every segment, in no order. What another process adds or removes meanwhile may be missing."""
        ...

    def recover(self, known: Known, *, remove: bool = True) -> list[Recovered]:
        """Bring segments whose writer is dead to a sealed end; idempotent, and a crash inside it is harmless.

        Everything that may hold records beyond `known` is reported, and durable on return. `remove=False` keeps
        unfinished segments (a rebuild, which cannot know whether a record was acknowledged, uses it).
        """
        ...

    def merge(self, sources: Sequence[Place], read: Callable[[Place, int, memoryview], None]) -> list[Place]:
        """Copy whole records, byte for byte, into a new sealed segment; places in the order of `sources`. `read`
        fills a buffer from an offset inside a record: the sources may lie in another backend."""
        ...

    def delete(self, segment: bytes, not_before: int) -> bool:
        """Delete a segment no committed row names any more, once the clock has reached `not_before` (microseconds).

        Earlier nothing happens, and the job that switched the rows asks again. True once it is gone. Raises
        Unavailable."""
        ...

    def seal(self) -> None:
        """Seal the open segment, if there is one."""
        ...

    def close(self) -> None:
        """Seal and let go of everything. Never raises."""
        ...

    def status(self) -> dict[str, int | str]: ...
