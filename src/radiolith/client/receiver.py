"""What a program checks before it believes that a webhook's request came from the archive.

Owns: signature, age and replay. Limits: REMEMBERED signatures within the tolerance; beyond, the oldest is forgotten.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from radiolith.client.events import Event

REMEMBERED = 100_000
_SIGNATURE = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")


class Forged(Exception):
    """Not from the archive, or not now. Answer 401 and do nothing."""


class Receiver:
    """`tolerance`: seconds that the clocks and the way may take. Thread-safe; one for all requests of a webhook."""

    def __init__(self, secret: str, tolerance: int = 300, clock: Callable[[], float] = time.time):
        self._secret, self._tolerance, self._clock = secret.encode(), tolerance, clock
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def events(self, signature: str | None, body: bytes) -> list[Event]:
        """The events of a request, by its header Radiolith-Signature and the bytes of its body. Raises Forged."""
        found = _SIGNATURE.fullmatch(signature or "")
        if found is None:
            raise Forged("no signature")
        moment, given = int(found[1]), found[2]
        if abs(self._clock() - moment) > self._tolerance:
            raise Forged("the request is too old, or the clocks disagree")
        expected = hmac.new(self._secret, b"%d." % moment + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, given):
            raise Forged("the signature does not fit")
        with self._lock:
            if given in self._seen:
                raise Forged("this very request was here before")
            self._seen[given] = moment
            while len(self._seen) > REMEMBERED or self._clock() - next(iter(self._seen.values())) > 2 * self._tolerance:
                self._seen.popitem(last=False)
        document: dict[str, Any] = json.loads(body)
        return [Event.of(event) for event in document["events"]]
