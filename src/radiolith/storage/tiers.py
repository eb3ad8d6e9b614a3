"""From settings to a backend and a keyring: tiers are URLs.

Owns: the reading of `file:///DIRECTORY` and `s3://BUCKET/PREFIX` (and `memory://NAME`, for tests). Must never: be
imported below it; obstore is loaded only when a tier needs it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from radiolith.config import Tier
from radiolith.model import BadInput
from radiolith.storage.backends import Backend, Steps
from radiolith.storage.backends.files import FileBackend
from radiolith.storage.backends.local import LocalDisk
from radiolith.storage.blobs import microseconds
from radiolith.storage.keyring import Keyring
from radiolith.storage.keyring_places import KeyringFile, KeyringObjects, KeyringPlace

_memory: dict[str, Any] = {}  # in-memory stores by name: two "nodes" of one test share one


def open_backend(
    tier: Tier,
    *,
    create: bool = True,
    steps: Steps | None = None,
    clock: Callable[[], int] = microseconds,
    random: Callable[[int], bytes] = os.urandom,
) -> Backend:
    """The backend of a tier. `create=False`: a file tier whose directory is absent (its volume not mounted) is
    Unavailable instead of made. Raises BadInput for a URL of another kind."""
    scheme, path = _parts(tier.url)
    if scheme == "file":
        return FileBackend(LocalDisk(path, steps), clock=clock, random=random, create=create, tier=tier.url)
    from radiolith.storage.backends.object import ObjectBackend

    return ObjectBackend(_bucket(tier.url, tier, steps), clock=clock, random=random, tier=tier.url)


def open_keyring(
    places: Sequence[str],
    tier: Tier,
    *,
    steps: Steps | None = None,
    clock: Callable[[], int] = microseconds,
    random: Callable[[int], bytes] = os.urandom,
    lost: Callable[[str], None] = lambda _: None,
) -> Keyring:
    """The keyring in places given as URLs; those in an object store use the credentials of `tier`.

    A file URL names the keyring's file. Object stores come first whatever the order given: several nodes share them,
    so they must decide who was first; files mirror them. Missing places are made and filled, after `lost` was told of those
    that others show to have been there.
    """
    opened = [_place(url, tier, steps) for url in places]
    ordered = sorted(opened, key=lambda place: not place.shared)
    return Keyring(ordered, clock=clock, random=random, lost=lost)


def _place(url: str, tier: Tier, steps: Steps | None) -> KeyringPlace:
    scheme, path = _parts(url)
    if scheme == "file":
        folder, name = os.path.split(path.rstrip("/"))
        return KeyringFile(LocalDisk(folder, steps), name, name=url)
    return KeyringObjects(_bucket(url, tier, steps), name=url)


def _parts(url: str) -> tuple[str, str]:
    scheme, separator, _ = url.partition("://")
    if scheme == "file" and separator:
        return scheme, unquote(urlsplit(url).path)
    if scheme in ("s3", "memory") and separator:
        return scheme, url[len(scheme) + 3 :]
    raise BadInput(f"'{url}' is no tier: file:///DIRECTORY or s3://BUCKET/PREFIX")


def _bucket(url: str, tier: Tier, steps: Steps | None) -> Any:
    from obstore.store import MemoryStore, S3Store

    from radiolith.storage.backends.bucket import Bucket

    scheme, rest = _parts(url)
    name, _, prefix = rest.partition("/")
    if scheme == "memory":
        return Bucket(_memory.setdefault(name, MemoryStore()), prefix, steps=steps)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name):
        raise BadInput(f"'{url}': '{name}' is not the name of a bucket")
    given = {
        "endpoint": tier.endpoint,
        "region": tier.region or ("us-east-1" if tier.endpoint else ""),
        "access_key_id": tier.access_key_id,
        "secret_access_key": tier.secret_access_key,
    }
    config = {key: value for key, value in given.items() if value}
    options = {"allow_http": tier.allow_http, "timeout": "30s", "connect_timeout": "3s"}
    store = S3Store(
        name,
        config=config,  # type: ignore[arg-type]  # keys are S3Config's
        client_options=options,  # type: ignore[arg-type]
        retry_config={"max_retries": 0},  # layers.Retry does that, where it is counted and tested
    )
    return Bucket(store, prefix, steps=steps)
