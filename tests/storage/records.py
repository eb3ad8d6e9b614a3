"""Drafts with known content, for every test of this package."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from radiolith.model import Blob, Kind, Place, Scope
from radiolith.storage.backends.files import FileBackend
from radiolith.storage.blobs import Log
from radiolith.storage.drafts import Draft
from tests.storage.simulated_disk import SimulatedDisk

TENANT = b"tenant-of-16-byt"
SCOPE = Scope(b"scope-of-16-byte", 7)
WRAPPED = bytes(range(40))


@dataclass(frozen=True)
class Stored:
    blob: Blob
    key: bytes
    payload: bytes


def draft(log: Log, payload: bytes, *, pieces: int = 1, kind: Kind = Kind.OBJECT, meta: bytes = b"{}") -> Draft:
    made = log.begin(TENANT, kind)
    step = max(1, -(-len(payload) // pieces))
    for at in range(0, len(payload), step):
        made.write(payload[at : at + step])
    made.seal(SCOPE, WRAPPED, meta)
    return made


def store(log: Log, payloads: Sequence[bytes], **more: object) -> list[Stored]:
    drafts = [draft(log, payload, **more) for payload in payloads]  # type: ignore[arg-type]
    places = log.commit(drafts)
    return [stored(made, place, payload) for made, place, payload in zip(drafts, places, payloads, strict=True)]


def stored(made: Draft, place: Place | None, payload: bytes) -> Stored:
    if place is None:
        assert made.failure is not None
        raise made.failure
    return Stored(Blob(place, made.object_id, TENANT, SCOPE, WRAPPED, made.size), made.key, payload)


def intact(log: Log, each: Stored) -> bool:
    return log.read(each.blob, each.key, 0, each.blob.size) == each.payload


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


def simulated(disk: SimulatedDisk, seed: int = 1, *, segment_bytes: int = 65536, small: int = 4000) -> Log:
    rng = random.Random(seed)
    backend = FileBackend(disk, clock=Clock(), random=rng.randbytes, segment_bytes=segment_bytes, reserve_bytes=0)
    return Log(backend, pool_bytes=1, small=small, clock=Clock(), random=rng.randbytes)
