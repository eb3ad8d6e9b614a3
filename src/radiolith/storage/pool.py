"""The buffers that hold drafts on their way to the disk: a stated total, reused.

Owns: every byte of payload in memory between arrival and commit. Must never: grow. Fresh memory costs more than
encrypting into it, so a slab is allocated once and comes back. Slabs hold ciphertext or one chunk of plaintext;
nothing of them is written anywhere but through a draft.
"""

from __future__ import annotations

import ctypes
import threading

from radiolith.model import Unavailable
from radiolith.storage.format import CHUNK, TAG

SLAB = CHUNK + TAG  # bytes: one sealed chunk
POOL_BYTES = 64 * 1024 * 1024  # usual total: about 120 CT images waiting for their sync
MIN_SLABS = 8
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names (glibc's malloc.h)
KEPT_BYTES = 16 << 20  # freed memory a process keeps for what comes next: some dozens of pieces from sockets
MAPPED_BYTES = 4 << 20  # allocations from this size on get and give back pages of their own
_KEPT = 4  # one slab in this many is not for waiting content: it stays for first buffers and for streaming


def keep_freed_memory() -> None:
    """Tell the allocator to keep what is freed. By its defaults every piece read from a socket lay in fresh pages, which
    the kernel clears first: more than a page fault per 4 KiB received. Harmless where the allocator is another one."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, MAPPED_BYTES)


class Pool:
    def __init__(self, total: int = POOL_BYTES):
        self.slabs = max(MIN_SLABS, total // SLAB)
        self._kept = self.slabs // _KEPT
        self._free: list[bytearray] = []
        self._made = 0
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        return self.slabs - self._made + len(self._free)

    def take(self) -> bytearray:
        """A slab for a draft's plaintext or for a chunk on its way; Unavailable when every single one is in use."""
        slab = self._take(0)
        if slab is None:
            raise Unavailable("Every receive buffer is in use", retry_after=1)
        return slab

    def take_to_hold(self) -> bytearray | None:
        """A slab that will wait for a commit; None when the pool is nearly full, and then its draft has to stream."""
        return self._take(self._kept)

    def give(self, slab: bytearray) -> None:
        with self._lock:
            self._free.append(slab)

    def _take(self, keep: int) -> bytearray | None:
        with self._lock:
            if self.slabs - self._made + len(self._free) <= keep:
                return None
            if self._free:
                return self._free.pop()
            self._made += 1
        return bytearray(SLAB)
