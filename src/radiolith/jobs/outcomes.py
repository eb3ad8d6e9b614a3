"""How sending ends: what a peer's answer means for an instance, and why a transfer is left in the middle.

Owns: these verdicts. Must never: act on them (`outbox` does).
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.index.outbox import ItemState

_DUPLICATE = 0x0111  # the peer has it already: what a lost answer leads to
_REFUSED_LATER = frozenset({0x0110, 0x0210, 0x0213})  # processing failure, duplicate invocation, resource limitation


def standing(status: int) -> ItemState:
    """What a C-STORE status (PS3.4 table B.2-1, PS3.7 annex C) means for an instance: the peer has it, will not have it, or
    (0xA7xx out of resources, 0x0110 processing failure) may have it later."""
    if status in (0x0000, 0x0001, 0x0107, 0x0116, _DUPLICATE) or status >> 12 == 0xB:
        return ItemState.SENT
    if status >> 8 == 0xA7 or status in _REFUSED_LATER:
        return ItemState.WAITING
    return ItemState.REFUSED


@dataclass(frozen=True, slots=True)
class Interruption:
    """Why a transfer is left in the middle. `handed_on`: somebody else goes on at once, with what waits behind it as well."""

    said: str = "interrupted: the server was stopped"
    handed_on: bool = True
