"""The scan: what an object is, where its header ends and where its frames are, found while its bytes pass by.

Owns: the way from raw bytes (Part 10, with or without preamble and meta information, or a bare dataset, deflated or
not) to a Scan. Must never: hold more than `Limits` allow, recurse, import pydicom, or decide what is stored: a
missing UID is the caller's business, unreadable bytes are Unparsable. The result is the same however the bytes were
cut into `feed`s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from radiolith.dicom import charset as charsets
from radiolith.dicom import layout as layouts
from radiolith.dicom import syntax
from radiolith.dicom.frames import pack_table
from radiolith.dicom.inflate import Inflater
from radiolith.dicom.limits import LIMITS, Limits, Unparsable
from radiolith.dicom.part10 import DICOMDIR, MEDIA_STORAGE_SOP_CLASS, META_AT, PREFIX_AT, TRANSFER_SYNTAX, MetaReader
from radiolith.dicom.plain import Kept
from radiolith.dicom.sniff import actual_encoding
from radiolith.dicom.syntax import Encoding
from radiolith.dicom.walk import Walk
from radiolith.dicom.wanted import (
    EXTENDED_OFFSET_TABLE,
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
    WANTED,
    Wanted,
)
from radiolith.model import Identity, Layout

__all__ = ["Limits", "Scan", "Scanner", "Unparsable", "scan", "text"]

_PIECE = 64 * 1024
"""Bytes of input that are looked at together, and copied for it; what is skipped is not even copied."""

ENDLESS = 1 << 62
"""`Scanner.position` once no data element can follow."""


@dataclass(slots=True)
class Scan:
    """All that is known of an object after one pass. Values are raw, as stored (see `big_endian`)."""

    layout: Layout
    meta: dict[int, bytes]  # file meta information, {} for a bare dataset
    elements: Kept  # wanted top-level tag -> (VR, value)
    sequences: dict[int, list[Kept]]  # wanted sequence -> its items
    charset: tuple[str, ...]  # Specific Character Set, defined terms as given
    actual_encoding: str  # plain transfer syntax UID of how the dataset is really written
    frame_table: bytes  # packed extents of all encapsulated frames, 16 bytes each; b'' when there are none
    warnings: list[str]
    part10: bool  # began with preamble and prefix

    @property
    def big_endian(self) -> bool:
        """Whether binary values are most significant byte first."""
        return self.actual_encoding == syntax.EXPLICIT_BE

    @property
    def identity(self) -> Identity:
        """Study, series and SOP instance UID, '' where missing."""
        return Identity(self.uid(STUDY_INSTANCE_UID), self.uid(SERIES_INSTANCE_UID), self.uid(SOP_INSTANCE_UID))

    @property
    def sop_class(self) -> str:
        """SOP Class UID; that of the meta information where the dataset has none (DICOMDIR)."""
        return self.uid(SOP_CLASS_UID) or _uid(self.meta.get(MEDIA_STORAGE_SOP_CLASS, b""))

    @property
    def is_dicomdir(self) -> bool:
        """A media directory, which is no instance to store."""
        return DICOMDIR in (self.sop_class, _uid(self.meta.get(MEDIA_STORAGE_SOP_CLASS, b"")))

    def uid(self, tag: int) -> str:
        """A UID normalised for look-ups: no padding of NUL or space; bytes that are not ASCII are replaced."""
        found = self.elements.get(tag)
        return _uid(found[1]) if found else ""

    def integer(self, tag: int, default: int = 0) -> int:
        """The first value of a whole-number element, binary or text."""
        return layouts.integer(self.elements, tag, default, big_endian=self.big_endian)


def _uid(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip("\0 \t\r\n")


def text(scan: Scan, tag: int) -> str:
    """A kept text value in Unicode, several values joined by backslashes, padding removed; '' when there is none."""
    found = scan.elements.get(tag)
    return charsets.decode(found[1], scan.charset, found[0]) if found else ""


class _Reader(Protocol):
    """Looks at bytes from `position` on, `need` of them at least."""

    @property
    def position(self) -> int: ...
    @property
    def need(self) -> int: ...
    def run(self, buffer: bytes, base: int) -> None: ...


class _Window:
    """The bytes between what has been fed and what a reader has not looked at yet: seldom more than a header."""

    __slots__ = ("seen", "tail")

    def __init__(self, start: int) -> None:
        self.seen = start  # position behind the last byte fed
        self.tail = bytearray()

    def push(self, data: bytes | memoryview, reader: _Reader) -> None:
        """Shows `data` to the reader, in pieces, without what it skips."""
        view = memoryview(data)
        at, size = 0, len(view)
        tail = self.tail
        while at < size:
            if not tail and reader.position > self.seen:
                step = min(reader.position - self.seen, size - at)
                self.seen += step
                at += step
                continue
            piece = view[at : at + _PIECE]
            at += len(piece)
            self.seen += len(piece)
            if tail or len(piece) < reader.need:
                tail += piece
                if len(tail) < reader.need:
                    continue
                buffer = bytes(tail)
                tail.clear()
            else:
                buffer = bytes(piece)
            base = self.seen - len(buffer)
            reader.run(buffer, base)
            tail += buffer[reader.position - base :]


class _Dataset:
    """A dataset from its first byte: finds its actual encoding, then walks it."""

    def __init__(self, start: int, declared: str, wanted: Wanted, limits: Limits) -> None:
        self.declared = declared
        self.encoding = syntax.EXPLICIT
        self.walk: Walk | None = None
        self.warnings: list[str] = []
        self.done = False
        self._start = start
        self._position = start
        self._wanted = wanted
        self._limits = limits

    @property
    def position(self) -> int:
        return self.walk.position if self.walk and not self.done else self._position

    @property
    def need(self) -> int:
        return self.walk.need if self.walk and not self.done else 8

    def run(self, buffer: bytes, base: int) -> None:
        walk = self.walk or self._begin(buffer[self._start - base :])
        walk.run(buffer, base)
        if walk.end is None:
            return
        if walk.only_zeros and buffer[max(0, walk.end - base) :].strip(b"\0"):
            raise Unparsable("other bytes than data elements where the dataset ends")
        self.done = True
        self._position = base + len(buffer) if walk.only_zeros else ENDLESS

    def _begin(self, head: bytes) -> Walk:
        if len(head) < 8:
            raise Unparsable("there is no dataset")
        declared = syntax.encoding(self.declared) if self.declared else None
        self.encoding = actual_encoding(head, declared)
        if declared is None:
            self.declared = syntax.uid_of(self.encoding)
            self.warnings.append(f"no transfer syntax is given; the bytes are in {self.declared}")
        elif declared != self.encoding:
            self.warnings.append(
                f"transfer syntax {self.declared} is given, but the bytes are in {syntax.uid_of(self.encoding)}"
            )
        self.walk = Walk(self.encoding, self._start, self.declared, self._wanted, self._limits)
        return self.walk


class Scanner:
    """Feed it an object's bytes in any pieces, then `finish`. One scanner, one object."""

    def __init__(self, limits: Limits = LIMITS, *, transfer_syntax: str | None = None, wanted: Wanted = WANTED) -> None:
        self._limits = limits
        self._wanted = wanted
        self._window = _Window(0)
        self._meta: MetaReader | None = None
        self._dataset: _Dataset | None = None
        self._start = 0
        self._inflater: Inflater | None = None
        self._inflated: _Window | None = None
        self._inflated_from = 0
        self._part10 = False
        self._warnings: list[str] = []
        if transfer_syntax is not None:
            self._open_dataset(0, transfer_syntax)

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes; they are not referred to afterwards. Raises Unparsable or LimitExceeded as soon as it is
        clear.
        """
        self._window.push(data, self)

    def finish(self) -> Scan:
        """All bytes were fed. Raises Unparsable when they end too early."""
        window = self._window
        if self._dataset is None and self._meta is None:
            self._sniff(bytes(window.tail))
            if window.tail:
                self.run(bytes(window.tail), 0)
        dataset = self._dataset
        if dataset is None:
            raise Unparsable("the file ends in its meta information")
        inner, end = window, window.seen
        if self._inflater is not None and self._inflated is not None:
            self._inflater.finish()
            inner = self._inflated
            end -= self._inflater.unused if self._inflater.unused > 1 else 0  # one byte of padding belongs to it (A.5)
        walk = dataset.walk
        if walk is None:
            raise Unparsable("there is no dataset")
        walked_to = walk.finish(inner.seen)
        return self._result(dataset, walk, end if inner is not window else walked_to, walked_to)

    @property
    def dataset_start(self) -> int | None:
        """Where the dataset begins in the bytes fed, once that is known."""
        return self._start if self._dataset is not None else None

    # ------------------------------------------------------------ as the window's reader

    @property
    def position(self) -> int:
        if self._inflater is not None:
            return self._inflated_from
        part = self._dataset or self._meta
        return part.position if part is not None else 0

    @property
    def need(self) -> int:
        if self._inflater is not None:
            return 1
        part = self._dataset or self._meta
        return part.need if part is not None else META_AT + 8

    def run(self, buffer: bytes, base: int) -> None:
        """Hands the bytes to the part of the file that they belong to."""
        if self._dataset is None:
            if self._meta is None:
                self._sniff(buffer)
            if self._meta is not None:
                if not self._meta.read(buffer, base):
                    return
                self._warnings += self._meta.warnings
                declared = _uid(self._meta.meta.get(TRANSFER_SYNTAX, b""))
                self._open_dataset(self._meta.position, declared)
        dataset = self._dataset
        if dataset is None:
            return
        if self._inflater is not None and self._inflated is not None:
            for piece in self._inflater.feed(buffer[self._inflated_from - base :]):
                self._inflated.push(piece, dataset)
            self._inflated_from = base + len(buffer)
        elif len(buffer) - (dataset.position - base) >= dataset.need:
            dataset.run(buffer, base)

    def _sniff(self, head: bytes) -> None:
        """The first bytes: Part 10, meta information without preamble, or a dataset; at the end of data any length."""
        self._part10 = head[PREFIX_AT:META_AT] == b"DICM"
        start = META_AT if self._part10 else 0
        if head[start : start + 2] == b"\x02\0":
            if not self._part10:
                self._warnings.append("the preamble is missing")
            self._meta = MetaReader(start, self._limits)
        else:
            if self._part10:
                self._warnings.append("the file meta information is missing")
            self._open_dataset(start, "")

    def _open_dataset(self, start: int, declared: str) -> None:
        self._start = start
        self._dataset = _Dataset(start, declared, self._wanted, self._limits)
        if syntax.encoding(declared).deflated:
            self._inflater = Inflater(self._limits)
            self._inflated = _Window(start)
            self._inflated_from = start

    def _result(self, dataset: _Dataset, walk: Walk, end: int, walked_to: int) -> Scan:
        big = dataset.encoding.big
        span = layouts.Span(dataset.declared, self._start, end, self._window.seen, walked_to, big)
        layout, table, warnings = layouts.build(span, walk.elements, walk.pixels, walk.fragments)
        if walk.is_empty:
            raise Unparsable("there is no data element")
        walk.elements.pop(EXTENDED_OFFSET_TABLE, None)  # it served; up to 16 MB
        encoding = Encoding(dataset.encoding.implicit, big)
        return Scan(
            layout=layout,
            meta=self._meta.meta if self._meta else {},
            elements=walk.elements,
            sequences=walk.sequences,
            charset=charsets.terms(walk.elements.get(SPECIFIC_CHARACTER_SET, ("", b""))[1]),
            actual_encoding=syntax.uid_of(encoding),
            frame_table=pack_table(table),
            warnings=[*self._warnings, *dataset.warnings, *walk.warnings, *warnings],
            part10=self._part10,
        )


def scan(
    data: bytes | memoryview,
    *,
    transfer_syntax: str | None = None,
    limits: Limits = LIMITS,
    wanted: Wanted = WANTED,
) -> Scan:
    """The scan of a whole object in memory. Raises Unparsable or LimitExceeded."""
    scanner = Scanner(limits, transfer_syntax=transfer_syntax, wanted=wanted)
    scanner.feed(data)
    return scanner.finish()
