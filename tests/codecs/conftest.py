"""One zygote for all codec tests of a process, with the probes preloaded and short limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from radiolith.codecs.sandbox import Decoders, Limits, Zygote, start_zygote

LIMITS = Limits(
    processes=4, spare=2, memory_bytes=512 << 20, request_seconds=20, queue_seconds=30, reply_bytes=256 << 20
)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with start_zygote(LIMITS, probes=["tests.codecs.probes"]) as running:
        yield running


@pytest.fixture
def decoders(zygote: Zygote) -> Decoders:
    return Decoders(zygote.address, LIMITS)
