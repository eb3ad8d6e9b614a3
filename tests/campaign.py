"""How often a randomised campaign repeats: few in every run, many in the long one.

Owns: the one switch (`RADIOLITH_LONG`, set by `make test-long`: 1, or the share of the long counts that there is time for)
and the record of what was chosen, which the terminal summary prints so that a log shows how much was tried. Must never:
decide what is tried.
"""

from __future__ import annotations

import os

SHARE = float(os.environ.get("RADIOLITH_LONG", "") or 0)
"""How much of the long counts: 1 all, 0.01 a hundredth, 0 none: the counts of every run."""
LONG = SHARE > 0
"""True in the long run."""

chosen: dict[str, int] = {}
"""Campaign name -> repetitions, in the order they were asked for in this process."""


def count(name: str, normal: int, long: int) -> int:
    """Repetitions of the campaign `name`: `normal` in every run, `long` in the long one, or a share of that but never
    fewer than `normal`. Remembered for the summary."""
    repetitions = max(normal, round(long * SHARE)) if LONG else normal
    chosen[name] = repetitions
    return repetitions
