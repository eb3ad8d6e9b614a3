"""Every noun that travels between the layers, and every failure.

Owns: the vocabulary. Must never: have behaviour beyond construction and formatting, or import anything of ours.
Times are microseconds since 1970-01-01 UTC as int. UIDs are the normalised text (trailing NUL and spaces removed).
Object ids, segment ids and scope ids are 16 random bytes; nothing in them is derived from a UID.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

# ---------------------------------------------------------------- who and whence


@dataclass(frozen=True, slots=True)
class Tenant:
    id: int  # row id in the index; may differ after a rebuild
    uid: bytes  # 16 random bytes, stable for ever: associated data of every ciphertext
    name: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts. Built by trust/identity only; from the edges on, only this travels."""

    tenant: Tenant
    name: str
    role: str  # one of trust.access.ROLES
    kind: str  # 'user' | 'token' | 'local' | 'system'


@dataclass(frozen=True, slots=True)
class Source:
    """The door an object came through."""

    door: str  # 'stow' | 'dimse' | 'import'
    peer: str  # AE title, token or user name, or file name's folder: what a versioning policy is keyed by
    address: str = ""


# ---------------------------------------------------------------- what is kept


@dataclass(frozen=True, slots=True)
class Identity:
    """Study, series and SOP instance; study and series are '' for non-patient objects."""

    study: str
    series: str
    sop: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What one key protects: a study, the non-patient objects, the quarantine or the tenant's facts."""

    id: bytes
    position: int  # where the keyring holds the entry: a hint, checked against id on read


class Kind(Enum):
    """What a record in a segment is. The value is on disk."""

    OBJECT = 1
    QUARANTINE = 2
    FACT = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies. Only places that a committed row names are read."""

    segment: bytes
    offset: int  # of the record's first byte
    length: int  # of the whole record: header, chunks, trailer


@dataclass(frozen=True, slots=True)
class Blob:
    """All it takes to read one record's payload back: one range read, no second look."""

    place: Place
    object_id: bytes
    tenant: bytes  # Tenant.uid
    scope: Scope
    wrapped_key: bytes  # the object key under the scope key (AES key wrap, 40 bytes)
    size: int  # payload bytes, the frame table behind the original included


class Pixels(Enum):
    NONE = 0
    NATIVE = 1
    ENCAPSULATED = 2
    VIDEO = 3  # encapsulated, one stream over all frames: ranged, never cut into frames


@dataclass(frozen=True, slots=True)
class Layout:
    """How an object's bytes lie in its payload (offsets from the payload's first byte; for a deflated object,
    offsets from `dataset_start` on count inflated bytes and frames are not addressable by range).

    `frames_inline` holds (offset, length) of up to INLINE_FRAMES encapsulated frames, item headers included;
    longer tables lie behind the original in the payload, from `table_offset`, 16 bytes a frame (two u64 LE).
    """

    transfer_syntax: str
    dataset_start: int
    dataset_end: int
    original_size: int
    header_end: int  # offset of the pixel data element, or dataset_end
    pixels: Pixels = Pixels.NONE
    pixel_tag: int = 0  # 7FE00010, 7FE00008 or 7FE00009
    pixel_start: int = 0  # first byte of the value; encapsulated: first byte of the first fragment item
    pixel_length: int = 0  # native: value length; encapsulated: up to and without the sequence delimiter
    frames: int = 0
    rows: int = 0
    columns: int = 0
    samples: int = 0
    bits_allocated: int = 0
    frames_inline: tuple[tuple[int, int], ...] = ()
    table_offset: int = 0


INLINE_FRAMES = 4


@dataclass(frozen=True, slots=True)
class Description:
    """What the index stores of an object's header: column name -> value (str, int or None), per level.

    Made by index.attributes.describe from a scan, the same at ingest and at rebuild. `extras`: (attribute, value) of those that
    a setting made searchable (index.extras).
    """

    patient: dict[str, str | int | None]
    study: dict[str, str | int | None]
    series: dict[str, str | int | None]
    instance: dict[str, str | int | None]
    extras: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Incoming:
    """One durable object about to get its rows."""

    tenant: Tenant
    identity: Identity
    sop_class: str
    description: Description
    layout: Layout
    blob: Blob
    sha256: bytes  # over the dataset as transmitted
    received_at: int
    source: Source
    principal: str
    policy: str = "first"  # which version becomes current: 'first' | 'newest' | 'ask'
    encoding_of: bytes | None = None  # object id of the version whose content this is in another syntax


class Outcome(Enum):
    STORED = "stored"  # first under its identity
    DUPLICATE = "duplicate"  # same identity, same bytes: nothing changed
    VERSION = "version"  # same identity, other content
    ENCODING = "encoding"  # same identity, same content, other syntax
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What ingest answers for one object, after everything is durable."""

    outcome: Outcome
    identity: Identity | None
    sop_class: str = ""
    object_id: bytes = b""
    reason: str = ""  # quarantine: why; version: what differs
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edit:
    """One attribute of a header, set or taken away. `value`: its DICOM JSON object without "vr" (PS3.18 F.2.2) as bytes;
    None takes it away. `creator`: the private creator of a private tag gggg00ee, '' of a standard one."""

    tag: int
    vr: str
    value: bytes | None
    creator: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """The edits of one decision: an item of the Original Attributes Sequence (PS3.3 C.12.1.1.9)."""

    operation: bytes
    at: int
    by: str
    why: str  # Reason for the Attribute Modification (0400,0565): 'CORRECT' or 'COERCE'
    origin: str  # Source of Previous Values (0400,0564), '' where nobody said
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class UidMap:
    """Where studies, series and instances that a header may refer to are shown now; SOP Instance UIDs never change."""

    studies: tuple[tuple[str, str], ...] = ()  # (received, shown)
    series: tuple[tuple[tuple[str, str], tuple[str, str]], ...] = ()  # (study, series) -> (study, series)
    instances: tuple[tuple[tuple[str, str, str], tuple[str, str]], ...] = ()  # (study, series, sop) -> (study, series)


@dataclass(frozen=True, slots=True)
class Overlay:
    """What the headers of a series show beside what was received. `digest`: 16 bytes over everything else: the same
    header under the same overlay has the same bytes everywhere."""

    digest: bytes
    steps: tuple[Step, ...]
    uids: UidMap = UidMap()


@dataclass(frozen=True, slots=True)
class Held:
    """One version or encoding of an instance as the index knows it, ready to be read.

    `identity` is where it is shown. `home`: the identity it was received under, None when that is the same. `overlay`:
    the corrections of its header, None when it goes out as it came.
    """

    instance_id: int
    identity: Identity
    sop_class: str
    number: int | None  # Instance Number
    blob: Blob
    layout: Layout
    sha256: bytes
    received_at: int
    source: Source
    principal: str
    current: bool = True
    rejected: str = ""  # '' or the reason code
    encoding_of: bytes | None = None
    home: Identity | None = None
    overlay: Overlay | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """A decision that DICOM bytes cannot reproduce, kept in the log.

    kind: see index.facts.KINDS. Applied in the order (at, object_id); the later one wins, so that a rebuild and the
    running archive agree whatever the order of arrival.
    """

    kind: str
    at: int
    by: str
    tenant: bytes
    body: dict[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One audit record. Times are those of the act; `count` is a lower bound after a crash."""

    at: int
    tenant: int
    principal: str
    action: str  # 'store' | 'query' | 'retrieve' | 'reject' | 'restore' | 'login' | ...
    study: str = ""
    purpose: str = ""
    outcome: str = "success"
    source: str = ""
    count: int = 1
    detail: str = ""


# ---------------------------------------------------------------- what is asked


class Level(Enum):
    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    INSTANCE = "INSTANCE"


@dataclass(frozen=True, slots=True)
class Match:
    """One matching key (PS3.4 C.2.2.2). `path` is the attribute's tag, or sequence tags down to it.

    `values` are as sent: wildcards, a range 'a-b', several UIDs; () or ('',) is universal matching, ('""',) asks for an
    empty value where the query allows that. `creator`: of a private attribute, where the query names it.
    """

    path: tuple[int, ...]
    values: tuple[str, ...]
    creator: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """What an edge asks; the same for QIDO-RS, C-FIND and the pages."""

    level: Level
    matches: tuple[Match, ...] = ()
    include: tuple[tuple[int, ...], ...] = ()  # attribute paths wanted beside the defaults of the level
    include_all: bool = False
    limit: int = 100
    offset: int = 0
    cursor: str = ""  # continuation from Page.cursor; opaque
    fuzzy: bool = False
    empty_values: bool = False
    multiple_values: bool = False
    combined_times: bool = True  # a range of dates and one of times are one range of moments (PS3.4 C.2.2.2.5)
    view: str = "normal"  # 'normal' | 'rejected'


Row = dict[int, tuple[str, "str | int | list[Row] | None"]]
"""tag -> (VR, value); several values are joined by a backslash as on the wire; a sequence is a list of rows."""


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Row]
    more: bool  # there are results beyond this page
    cursor: str = ""  # asks for the next page whatever the offset
    warnings: tuple[str, ...] = ()  # ignored keys, in words (HTTP Warning 299)


@dataclass(frozen=True, slots=True)
class Count:
    """How many results a query has: exactly `number`, or at least that many where counting stopped."""

    number: int
    exact: bool


# ---------------------------------------------------------------- what can fail


class Failure(Exception):
    """Root of every expected failure; `str()` is a sentence for the user, without patient data."""


class NotAllowed(Failure):
    """The principal may not do this."""


class NotAuthenticated(Failure):
    """Nobody we know."""


class NotFound(Failure):
    """Nothing by that name in the normal view."""


class BadInput(Failure):
    """The request or the bytes are wrong; a retry will not help."""


class LimitExceeded(BadInput):
    """A named limit was passed. The message gives limit, unit and value."""


class Unsupported(Failure):
    """Well-formed, but not something we can do (a syntax without a decoder, say)."""


class Conflict(Failure):
    """It contradicts what is held."""


class NoSpace(Failure):
    """Disk or quota is full. C-STORE 0xA700, HTTP 507."""


class Unavailable(Failure):
    """A part we need is down; nothing was acknowledged. C-STORE 0xA700, HTTP 503 with Retry-After."""

    def __init__(self, message: str, retry_after: int = 5):
        super().__init__(message)
        self.retry_after = retry_after  # seconds


class Damaged(Failure):
    """Bytes at rest failed authentication. Never delivered; reported by check."""
