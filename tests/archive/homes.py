"""A home in a temporary folder and the object graph over it, for tests of the verbs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from radiolith import app, config
from radiolith.codecs.sandbox import Decoders
from radiolith.model import Principal, Receipt, Source
from radiolith.storage.cache import Cache

STOW = Source("stow", "tests", "127.0.0.1")


@asynccontextmanager
async def opened(
    home: Path, decoders: Decoders | None = None, *, environ: Mapping[str, str] | None = None, name: str = "w1"
) -> AsyncIterator[app.Graph]:
    """The graph of one process over `home`, which is made when it does not exist yet. `environ`: RADIOLITH_… settings."""
    if not (home / config.FILE).exists():
        await app.initialised(home, environ or {})

    def decode() -> Decoders:
        assert decoders is not None, "this test gave no decoders"
        return decoders

    graph = app.build(config.load(home, environ or {}), name, decode, Cache(None, os.urandom(32)))
    small_segments(graph)
    try:
        yield graph
    finally:
        await graph.close()


def small_segments(graph: app.Graph) -> None:
    """A recovery reads all of an open segment, and copies of a home copy it: 4 MiB do here."""
    backend: Any = graph.store.backend
    if hasattr(backend, "_segment_bytes"):
        backend._segment_bytes = 4 << 20


def principal(graph: app.Graph, role: str = "admin") -> Principal:
    return replace(graph.accounts.system("tester"), role=role)


async def store(graph: app.Graph, data: bytes, *, piece: int = 1 << 16, source: Source = STOW) -> Receipt:
    """One object through the verb, in pieces of `piece` bytes."""
    intake = graph.archive.ingest.begin(principal(graph), source)
    for at in range(0, len(data), piece):
        await intake.write(data[at : at + piece])
    return await (await intake.finish())
