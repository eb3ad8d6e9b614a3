"""One zygote for all codec tests of a process, with the probes preloaded and short limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from radiolith.codecs import requests
from radiolith.codecs.sandbox import Decoders, Limits, Zygote, start_zygote
from radiolith.codecs.wire import Control

LIMITS = Limits(
    processes=4, spare=2, memory_bytes=512 << 20, request_seconds=20, queue_seconds=30, reply_bytes=256 << 20
)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with start_zygote(LIMITS, probes=["tests.codecs.probes"]) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_imported_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that wants a file after confinement must show up here and not as a refused image in a hospital."""
    plain = requests.raise_failure

    def strict(control: Control) -> None:
        reason = str(control.get("reason", ""))
        late = ("ModuleNotFoundError", "ImportError", "PermissionError", "FileNotFoundError", "LookupError", "NameError",
                "AttributeError", "TypeError")  # fmt: skip
        assert not any(name in reason for name in late), reason
        plain(control)

    monkeypatch.setattr(requests, "raise_failure", strict)


@pytest.fixture
def decoders(zygote: Zygote) -> Decoders:
    return Decoders(zygote.address, LIMITS)
