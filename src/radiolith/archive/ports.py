"""Request and answer types of the verbs, and what the edges hold of the archive.

Owns: the shapes that cross the line between an edge and a verb. Must never: decide or touch an engine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from radiolith.model import Held

if TYPE_CHECKING:
    from radiolith.archive.commitment import Commitment
    from radiolith.archive.ingest import Ingest
    from radiolith.archive.notes import Notes
    from radiolith.archive.query import Query
    from radiolith.archive.remove import Remove
    from radiolith.archive.retrieve import Retrieve
    from radiolith.archive.sidelined import Sidelined
    from radiolith.archive.versions import Versions


@dataclass(frozen=True, slots=True)
class Archive:
    """The verbs of one archive, as every edge gets them."""

    ingest: Ingest
    query: Query
    retrieve: Retrieve
    remove: Remove
    versions: Versions
    commitment: Commitment
    quarantine: Sidelined
    notes: Notes


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes on their way out, read piece by piece; nothing is held whole.

    size: bytes in all, or None where that is only known at the end (a deflated object).
    syntax: transfer syntax UID of what flows, '' where that means nothing.
    open: (start, stop) -> pieces of 64 KiB to 1 MiB; stop None reads to the end. Ranges need a known size.
    """

    size: int | None
    syntax: str
    open: Callable[[int, int | None], AsyncIterator[bytes]]
    vr: str = ""
    document_type: str = ""  # MIME type of an encapsulated document

    def chunks(self, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        return self.open(start, stop)


@dataclass(frozen=True, slots=True)
class Rendering:
    """What a client wants to see (PS3.18 8.3.5). Distances are pixels of the image."""

    media_type: str = "image/jpeg"
    quality: int | None = None  # 1 to 100
    viewport: tuple[float | None, ...] | None = None  # vw, vh, sx, sy, sw, sh; trailing ones may be None
    window: tuple[float, float, str] | None = None  # center, width, 'linear' | 'linear-exact' | 'sigmoid'
    annotation: frozenset[str] = frozenset()  # of {'patient', 'technique'}
    icc: str = ""  # '' | 'no' | 'yes' | 'srgb' | 'adobergb' | 'rommrgb' | 'displayp3'
    presentation: Held | None = None  # a presentation state to apply
    thumbnail: bool = False


@dataclass(frozen=True, slots=True)
class CommitmentResult:
    """Storage commitment, PS3.18 ch. 13: items are (SOP class, SOP instance[, failure reason])."""

    state: str  # 'pending' | 'done'
    transaction_uid: str
    requested_at: int
    committed: tuple[tuple[str, str], ...] = ()
    failed: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Sideline:
    """One quarantined object."""

    id: str  # hex of the object id
    reason: str
    received_at: int
    source: str
    principal: str
    size: int
    sha256: str
    guess: dict[str, str] = field(default_factory=dict[str, str])  # what could be read of its identity
    released: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """One rejected instance, listed until a later part destroys it."""

    study: str
    series: str
    sop: str
    reason: str
    at: int
    by: str
