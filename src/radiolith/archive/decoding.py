"""Decoder sessions, kept for a moment for the next image of the same series.

Owns: which session an object gets. Must never: let a decoder that has seen one series of one tenant see another: what
leaks inside a decoder stays with the patient (docs/decisions/044). Limits: KEPT idle sessions a process for KEEP seconds;
an idle one is closed as soon as another series wants a decoder.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from radiolith.codecs.sandbox import Decoders, Opened, Session
from radiolith.model import BadInput, Held, LimitExceeded, Unsupported

KEPT = 2
KEEP = 0.5  # seconds; a person scrolling asks many times a second
Key = tuple[bytes, str, str]  # tenant, study, series


@dataclass(slots=True)
class _Idle:
    key: Key
    session: Session
    timer: asyncio.TimerHandle


class Decoding:
    """One per process, used from its event loop."""

    def __init__(self, decoders: Callable[[], Decoders]):
        self._decoders = decoders
        self._made: Decoders | None = None
        self._idle: list[_Idle] = []

    @asynccontextmanager
    async def session(self, held: Held, opened: Opened) -> AsyncGenerator[Session]:
        """A decoder for one object. A session that failed in any way is not used again."""
        key = (held.blob.tenant, held.identity.study, held.identity.series)
        session = await self._taken(key, opened)
        try:
            yield session
        except LimitExceeded:
            session.close()
            raise
        except BadInput as wrong:  # the stored image is, not the request
            session.close()
            raise Unsupported(str(wrong)) from None
        except BaseException:
            session.close()
            raise
        self._keep(key, session)

    async def _taken(self, key: Key, opened: Opened) -> Session:
        for idle in self._idle:
            if idle.key == key:
                self._forget(idle)
                try:
                    await idle.session.reopen(opened)
                except BaseException:
                    idle.session.close()
                    raise
                return idle.session
        for idle in self._idle[:]:
            self._end(idle)
        if self._made is None:
            self._made = self._decoders()
        return self._made.lasting_session(opened)

    def _keep(self, key: Key, session: Session) -> None:
        while len(self._idle) >= KEPT:
            self._end(self._idle[0])
        loop = asyncio.get_running_loop()
        idle = _Idle(key, session, loop.call_later(KEEP, lambda: self._end(idle)))
        self._idle.append(idle)

    def _forget(self, idle: _Idle) -> None:
        idle.timer.cancel()
        self._idle.remove(idle)

    def _end(self, idle: _Idle) -> None:
        if idle in self._idle:
            self._forget(idle)
            idle.session.close()

    def close(self) -> None:
        for idle in self._idle[:]:
            self._end(idle)
