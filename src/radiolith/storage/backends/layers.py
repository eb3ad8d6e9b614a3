"""What lies between the log and an object store: retries, and a cache of what this node wrote.

Owns: both policies, in one place. Must never: retry what has been answered, or hold more bytes than stated.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from radiolith.model import Unavailable

TRIES = 4  # of one call; with the pauses below a store has under a second to come back before a sender is told to wait
FIRST_PAUSE = 0.1  # seconds; doubles
SLOW = 5.0  # seconds after which a failure means a service that stands still; a refused connection takes none
REST = 5.0  # seconds: what Retry-After says, too
CACHE_BYTES = 64 * 1024 * 1024  # of the newest batches: what was just stored is what is asked for next


class Transient(Exception):
    """A call that may succeed when it is tried again."""


class Retry:
    """Calls again after Transient, `tries` times at most, with pauses that double; then Unavailable.

    A call that failed slowly met a service that stands still: it is not tried again, and for REST seconds the next ones
    fail at once, so that senders are refused and not kept waiting one behind the other.
    """

    def __init__(
        self,
        tries: int = TRIES,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._tries = tries
        self._sleep = sleep
        self._clock = clock
        self._rest_until = 0.0

    def __call__(self, action: Callable[[], Any], doing: str, tries: int = 0) -> Any:
        tries = tries or self._tries
        for attempt in range(tries):
            began = self._clock()
            if began < self._rest_until:
                raise Unavailable(f"The object store has just not answered ({doing})")
            try:
                return action()
            except Transient as error:
                slow = self._clock() - began > SLOW
                if slow:
                    self._rest_until = self._clock() + REST
                if slow or attempt == tries - 1:
                    raise Unavailable(f"The object store failed ({doing}: {error})") from error
            self._sleep(FIRST_PAUSE * 2**attempt)
        raise AssertionError("a retry has one try or more")


class SegmentCache:
    """Whole segments this node wrote, newest first, up to a number of bytes. Thread-safe."""

    def __init__(self, limit: int = CACHE_BYTES):
        self._limit = limit
        self._held: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, segment: bytes, data: bytes) -> None:
        if len(data) > self._limit:
            return
        with self._lock:
            self._drop(segment)
            self._held[segment] = data
            self._bytes += len(data)
            while self._bytes > self._limit:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= len(oldest)

    def get(self, segment: bytes) -> bytes | None:
        with self._lock:
            data = self._held.get(segment)
            if data is not None:
                self._held.move_to_end(segment)
            return data

    def drop(self, segment: bytes) -> None:
        with self._lock:
            self._drop(segment)

    def _drop(self, segment: bytes) -> None:
        data = self._held.pop(segment, None)
        if data is not None:
            self._bytes -= len(data)
