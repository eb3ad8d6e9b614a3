"""The followers of one jobs process, one after the other: arrivals, then devices and routing, which live on completions.

Owns: their rhythm. Must never: let a follower that fails stop the others: images are safe, and what the others do goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from radiolith.jobs.arrivals import ArrivalWatch
from radiolith.jobs.devices import DeviceWatch
from radiolith.model import Failure
from radiolith.policies.router import Router

FOLLOW = 2.0  # seconds between two looks at the feed
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Following:
    arrivals: ArrivalWatch
    devices: DeviceWatch
    router: Router

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; a round that is under way is finished."""
        while not stop.is_set():
            await self.round()
            try:
                await asyncio.wait_for(stop.wait(), FOLLOW)
            except TimeoutError:
                pass

    async def round(self) -> None:
        """Every follower once, to the end of the feed."""
        for name, follow in (
            ("arrivals", self.arrivals.round),
            ("devices", self.devices.round),
            ("routing", self.router.round),
        ):
            await asyncio.to_thread(_guarded, name, follow)


def _guarded(name: str, follow: Callable[[], object]) -> None:
    try:
        follow()
    except Failure as failure:
        log.warning("a follower was interrupted", follower=name, reason=str(failure))
    except Exception:
        log.exception("a follower was interrupted", follower=name)
