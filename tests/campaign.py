"""How often a randomised campaign repeats: few in every run, many in the long one.

Owns: the one switch (`RADIOLITH_LONG=1`, set by `make test-long`) and the record of what was chosen, which the terminal
summary prints so that a log shows how much was tried. Must never: decide what is tried.
"""

from __future__ import annotations

import os

LONG = os.environ.get("RADIOLITH_LONG", "") not in ("", "0")
"""True in the long run."""

chosen: dict[str, int] = {}
"""Campaign name -> repetitions, in the order they were asked for in this process."""


def count(name: str, normal: int, long: int) -> int:
    """Repetitions of the campaign `name`: `normal` in every run, `long` in the long one. Remembered for the summary."""
    repetitions = long if LONG else normal
    chosen[name] = repetitions
    return repetitions
