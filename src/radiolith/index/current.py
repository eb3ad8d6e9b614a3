"""Which version of an instance is current: a pure function.

Owns: that one decision. Must never: read anything. The answer depends on the set of what is held and decided, not on the
order it arrived in, so a running archive and its rebuild agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FIRST, NEWEST, ASK = 0, 1, 2
POLICIES = {"first": FIRST, "newest": NEWEST, "ask": ASK}


@dataclass(frozen=True, slots=True)
class Version:
    """One thing held under an identity. `names`: its object id and those of duplicates of it."""

    row: int
    received_at: int
    object_id: bytes
    policy: int
    peer: str
    encoding_of: bytes | None = None
    names: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Switch:
    """The last decision about the current version of an identity."""

    at: int
    fact: bytes
    object_id: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    current: int  # row
    conflicts: frozenset[int]  # rows somebody should decide about


def order(version: Version) -> tuple[int, bytes]:
    return version.received_at, version.object_id


def current(held: Sequence[Version], switch: Switch | None = None) -> Standing:
    """The standing of an identity with at least one thing held.

    The first received is current. A later one of policy 'newest' takes over when it came from the same peer as the first;
    one of policy 'ask' is a conflict until a decision later than it. A decision puts its version in front until a later
    'newest' takes over. An encoding is never current, unless what it encodes is not held (lost, or not recovered yet).
    """
    named = frozenset[bytes]().union(*(version.names | {version.object_id} for version in held))
    versions = sorted((v for v in held if v.encoding_of is None or v.encoding_of not in named), key=order)
    if not versions:  # encodings of each other: nothing names an original
        versions = sorted(held, key=order)[:1]
    chosen = None
    if switch is not None:
        chosen = next((v for v in versions if switch.object_id == v.object_id or switch.object_id in v.names), None)
    decided = switch.at if switch is not None and chosen is not None else None
    first = now = versions[0]
    conflicts: set[int] = set()
    pending = chosen
    for version in versions[1:]:
        if pending is not None and decided is not None and decided < version.received_at:
            now, pending = pending, None
        if version.policy == NEWEST and version.peer == first.peer:
            now = version
        elif version.policy == ASK and (decided is None or decided < version.received_at):
            conflicts.add(version.row)
    if pending is not None:
        now = pending
    return Standing(now.row, frozenset(conflicts))
