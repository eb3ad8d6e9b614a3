"""How long an object store that stands still may keep a sender waiting: once, not one behind the other."""

from __future__ import annotations

import pytest

from radiolith.model import Unavailable
from radiolith.storage.backends.layers import REST, SLOW, Retry, Transient


def test_a_slow_failure_is_not_repeated_and_the_next_call_fails_at_once() -> None:
    now, calls = [0.0], [0]

    def stands_still() -> None:
        calls[0] += 1
        now[0] += 30.0
        raise Transient("timed out")

    retry = Retry(sleep=lambda pause: None, clock=lambda: now[0])
    with pytest.raises(Unavailable):
        retry(stands_still, "writing")
    assert calls == [1]
    with pytest.raises(Unavailable):
        retry(stands_still, "writing")
    assert calls == [1] and now == [30.0]
    now[0] += REST
    assert retry(lambda: "back", "writing") == "back"


def test_a_quick_failure_is_tried_again() -> None:
    now, calls = [0.0], [0]

    def refused() -> str:
        calls[0] += 1
        now[0] += SLOW / 10
        if calls[0] < 3:
            raise Transient("connection refused")
        return "done"

    assert Retry(sleep=lambda pause: None, clock=lambda: now[0])(refused, "writing") == "done"
