"""Calls of devices that are no peers, counted.

Owns: what of them is written, and when. Must never: write more than once a second for a device, or hold up an association
for one that is known. Calls within a second of another are written with the next one.

Limits: REMEMBERED devices of a process; `index.knocks.DEVICES` rows of a tenant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from radiolith.index import knocks
from radiolith.index.database import Database
from radiolith.index.knocks import Caller

SECOND = 1_000_000  # microseconds
REMEMBERED = 2_000
"""Each a few hundred bytes; more than a table has rows."""


@dataclass(slots=True)
class _Heard:
    at: int
    admitted: bool
    listed: asyncio.Future[bool]
    waiting: int = 0  # calls that are not written yet


class Knocks:
    """One per process. `clock`: microseconds."""

    def __init__(self, database: Database, clock: Callable[[], int]):
        self._database, self._clock = database, clock
        self._heard: dict[tuple[int, Caller], _Heard] = {}

    async def note(self, tenant: int, caller: Caller, *, admitted: bool) -> bool:
        """Count a call; whether the device is on the list: False when there is no room. Raises Unavailable."""
        key, now = (tenant, caller), self._clock()
        heard = self._heard.get(key)
        if heard is None or now - heard.at >= SECOND or heard.admitted != admitted or heard.listed.cancelled():
            count = 1 + (heard.waiting if heard is not None else 0)
            if len(self._heard) >= REMEMBERED:
                self._heard.clear()
            writing = asyncio.ensure_future(asyncio.to_thread(self._write, tenant, caller, (now, count, admitted)))
            writing.add_done_callback(lambda done: self._forget_failed(key, done))
            heard = self._heard[key] = _Heard(now, admitted, writing)
        else:
            heard.waiting += 1
        return await asyncio.shield(heard.listed)

    def _write(self, tenant: int, caller: Caller, seen: tuple[int, int, bool]) -> bool:
        with self._database.write(durable=False) as tx:
            return knocks.note(tx, tenant, caller, seen)

    def _forget_failed(self, key: tuple[int, Caller], done: asyncio.Future[bool]) -> None:
        heard = self._heard.get(key)
        if heard is not None and heard.listed is done and (done.cancelled() or done.exception() is not None):
            del self._heard[key]
