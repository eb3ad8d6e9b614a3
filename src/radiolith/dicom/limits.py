"""The limits of reading foreign bytes, and the failure that says they are not readable.

Owns: every bound of the package, with unit and reason. Must never: decide what happens to what was refused (the caller
quarantines). One `Limits` serves any number of scans.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.model import BadInput, LimitExceeded

UNDEFINED = 0xFFFFFFFF
"""The length that says "up to a delimiter" (PS3.5 7.1)."""


class Unparsable(BadInput):
    """The bytes are not DICOM that can be read; the message says what and where, without patient data."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one scan. Memory of a scan is at most about value + kept + 20 bytes a fragment + offset table."""

    depth: int = 64
    """Sequences inside sequences; the deepest real object known (procedure logs) has 17."""

    elements: int = 2_000_000
    """Elements and items outside pixel data; surface meshes and bulk annotations reach some 100,000."""

    value_bytes: int = 64 * 1024
    """A value longer than this is walked over, not kept: nothing that is searched for is longer."""

    kept_bytes: int = 1024 * 1024
    """All kept values of one object together."""

    kept_items: int = 1000
    """Items of wanted sequences that are kept; the ones beyond are walked over, with a warning."""

    meta_bytes: int = 1024 * 1024
    """File meta information as a whole (PS3.10 7.1); real ones are below 1 KiB."""

    fragments: int = 2_000_000
    """Items of encapsulated pixel data: the largest whole-slide levels have about 1,000,000 tiles. 40 MB."""

    offset_table_bytes: int = 16 * 1024 * 1024
    """Basic or extended offset table, 8 bytes for each of `fragments`; a longer one is ignored: it is a hint."""

    inflated_bytes: int = 4 * 1024 * 1024 * 1024
    """What one deflated dataset may become."""

    inflate_ratio: int = 200
    """Inflated : deflated bytes, once more than `inflate_free_bytes` came out; images deflate 2 to 20 times."""

    inflate_free_bytes: int = 64 * 1024 * 1024
    """So much may come out at any ratio: an empty segmentation deflates about 1000 times."""


LIMITS = Limits()


def exceeded(name: str, unit: str, value: int) -> LimitExceeded:
    """The failure for a passed limit, worded the same everywhere."""
    return LimitExceeded(f"the {name} limit of {value} {unit} is exceeded")
