"""What a transfer syntax UID says about the bytes (PS3.5 annex A).

Owns: the table of encodings. Must never: know codecs. A syntax not listed is explicit VR little endian, as PS3.5 A.4
requires of every syntax defined since.
"""

from __future__ import annotations

from typing import NamedTuple

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
GE_PRIVATE = "1.2.840.113619.5.2"
"""Implicit VR little endian header, native pixels in big endian words (GE, before 2000)."""

PAPYRUS = "1.2.840.10008.1.20"


class Encoding(NamedTuple):
    """How the elements of a dataset are written."""

    implicit: bool = False
    big: bool = False
    deflated: bool = False


EXPLICIT = Encoding()
IMPLICIT = Encoding(implicit=True)
BIG = Encoding(big=True)

_ENCODINGS = {
    IMPLICIT_LE: IMPLICIT,
    GE_PRIVATE: IMPLICIT,
    PAPYRUS: IMPLICIT,
    EXPLICIT_BE: BIG,
    DEFLATED: Encoding(deflated=True),
    "1.2.840.10008.1.2.4.95": Encoding(deflated=True),  # JPIP Referenced Deflate
    "1.2.840.10008.1.2.4.205": Encoding(deflated=True),  # JPIP HTJ2K Referenced Deflate
}

NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, DEFLATED, EXPLICIT_BE, GE_PRIVATE, PAPYRUS})
"""Syntaxes whose pixel data is one value without fragments (PS3.5 A.1 to A.3, A.5)."""

VIDEO = frozenset(f"1.2.840.10008.1.2.4.{number}{suffix}" for number in range(100, 109) for suffix in ("", ".1"))
"""MPEG-2, MPEG-4 and HEVC, fragmentable ones included: one stream over all frames (PS3.5 8.2.5 to 8.2.8)."""


def encoding(uid: str) -> Encoding:
    """The encoding of a transfer syntax; unknown ones are explicit VR little endian."""
    return _ENCODINGS.get(uid, EXPLICIT)


def uid_of(encoding: Encoding) -> str:
    """The plain transfer syntax of an encoding, for what was found rather than declared."""
    if encoding.deflated:
        return DEFLATED
    return IMPLICIT_LE if encoding.implicit else EXPLICIT_BE if encoding.big else EXPLICIT_LE


def is_encapsulated(uid: str) -> bool:
    """Whether pixel data is expected in fragments."""
    return uid not in NATIVE
