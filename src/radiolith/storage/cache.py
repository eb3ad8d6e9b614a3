"""Derived bytes worth keeping for a while: metadata documents and rendered pictures.

Owns: a memory part per process and an encrypted part on disk shared by the workers of one start. Must never: hold
something that cannot be made again, survive a restart readable (its key is drawn at start and never written), or be
read without authentication. Limits: MEMORY_BYTES a process, DISK_BYTES a node; whatever is oldest goes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MEMORY_BYTES = 24 << 20  # a process; ten series' metadata, or hundreds of pictures
DISK_BYTES = 1 << 30  # a node
_SWEEP_EVERY = 64  # puts between two looks at the folder's size
Key = tuple[object, ...]


class Cache:
    """Thread-safe. `secret` is the same in all workers of one start; an empty folder means memory only."""

    def __init__(self, folder: Path | None, secret: bytes, random: Callable[[int], bytes] = os.urandom):
        self._folder, self._secret, self._random = folder, secret, random
        self._cipher = AESGCM(hashlib.sha256(b"cache key" + secret).digest())
        self._memory: OrderedDict[Key, bytes] = OrderedDict()
        self._bytes = 0
        self._puts = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> bytes | None:
        with self._lock:
            found = self._memory.get(key)
            if found is not None:
                self._memory.move_to_end(key)
                return found
        if self._folder is None:
            return None
        name = self._name(key)
        try:
            sealed = (self._folder / name).read_bytes()
            found = self._cipher.decrypt(sealed[:12], sealed[12:], name.encode())
        except (FileNotFoundError, InvalidTag, ValueError):
            return None
        self._remember(key, found)
        return found

    def put(self, key: Key, value: bytes) -> None:
        """Best effort: a full disk costs the entry, not the request."""
        self._remember(key, value)
        if self._folder is None or len(value) > DISK_BYTES // 16:
            return
        name = self._name(key)
        nonce = self._random(12)
        sealed = nonce + self._cipher.encrypt(nonce, value, name.encode())
        fresh = self._folder / f"{name}.{os.getpid()}.{threading.get_ident()}"
        with contextlib.suppress(OSError):
            fresh.write_bytes(sealed)
            fresh.rename(self._folder / name)  # readers see a whole entry or none; nothing is synced on purpose
        self._puts += 1
        if self._puts % _SWEEP_EVERY == 0:
            self._sweep()

    def _remember(self, key: Key, value: bytes) -> None:
        if len(value) > MEMORY_BYTES // 4:
            return
        with self._lock:
            old = self._memory.pop(key, b"")
            self._memory[key] = value
            self._bytes += len(value) - len(old)
            while self._bytes > MEMORY_BYTES:
                self._bytes -= len(self._memory.popitem(last=False)[1])

    def _name(self, key: Key) -> str:
        return hashlib.blake2b(repr(key).encode(), key=self._secret[:32], digest_size=20).hexdigest()

    def _sweep(self) -> None:
        assert self._folder is not None
        found: list[tuple[float, int, Path]] = []
        with contextlib.suppress(OSError):
            for entry in os.scandir(self._folder):
                with contextlib.suppress(OSError):
                    stat = entry.stat()
                    found.append((stat.st_mtime, stat.st_size, Path(entry.path)))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= DISK_BYTES:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
