"""What the log costs alone: drafts committed and ranges read, wall and CPU time of this process.

    python bench/append.py [DIRECTORY]     (about 15 s; on a quiet machine, on the disk that matters)

The floor beside it is what nobody can avoid: encrypting the same bytes, and copying them into the page cache with one sync.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from radiolith.config import Tier
from radiolith.model import Blob, Kind, Scope
from radiolith.storage.blobs import Log
from radiolith.storage.tiers import open_backend

SCOPE, WRAPPED, TENANT = Scope(bytes(16), 0), bytes(40), bytes(16)
META = b'{"original_size":0}' * 30


def timed(name: str, count: int, work: Callable[[], None]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:44} {count / wall:8.0f} /s  {wall / count * 1e3:7.3f} ms wall  {cpu / count * 1e3:7.3f} ms CPU")


def store(log: Log, payload: bytes, count: int, batch: int, piece: int, blobs: list[tuple[Blob, bytes]]) -> None:
    view = memoryview(payload)
    for _ in range(count // batch):
        drafts = []
        for _ in range(batch):
            draft = log.begin(TENANT, Kind.OBJECT)
            for at in range(0, len(payload), piece):
                draft.write(view[at : at + piece])
            draft.seal(SCOPE, WRAPPED, META)
            drafts.append(draft)
        for draft, place in zip(drafts, log.commit(drafts), strict=True):
            assert place is not None
            blobs.append((Blob(place, draft.object_id, TENANT, SCOPE, WRAPPED, draft.size), draft.key))


def floor(folder: Path, size: int, count: int) -> None:
    """Encryption into a reused buffer, and one preallocated file written and synced, nothing else."""
    chunk, into, cipher = bytes(65536), bytearray(65552), AESGCM(bytes(32))
    data = bytearray(size)

    def encrypt() -> None:
        for number in range(count):
            for at in range(0, size, 65536):
                plain = chunk[: min(65536, size - at)]
                cipher.encrypt_into(number.to_bytes(12, "big"), plain, b"", memoryview(into)[: len(plain) + 16])

    def write() -> None:
        handle = os.open(folder / "floor", os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(handle, 0, size * count)
        for number in range(count):
            os.pwritev(handle, [data], number * size)
            os.fdatasync(handle)
        os.close(handle)
        os.unlink(folder / "floor")

    timed(f"floor: encrypt {size:,} B", count, encrypt)
    timed(f"floor: write and sync {size:,} B", count, write)


def main() -> None:
    base = sys.argv[1] if len(sys.argv) > 1 else None
    folder = Path(tempfile.mkdtemp(prefix="radiolith-append-", dir=base))
    try:
        log = Log(open_backend(Tier(url=f"file://{folder}/tier")))
        for size, count in ((500_000, 600), (35_000, 3000), (2_000, 6000)):
            payload = os.urandom(size)
            floor(folder, size, count // 3)
            for batch in (1, 4, 20):
                blobs: list[tuple[Blob, bytes]] = []
                timed(
                    f"store {size:,} B, {batch} a batch, pieces of 64 KiB",
                    count // 2,
                    lambda p=payload, n=count // 2, b=batch, s=blobs: store(log, p, n, b, 65536, s),
                )

            def read(blobs: list[tuple[Blob, bytes]] = blobs, size: int = size) -> None:
                for blob, key in blobs:
                    log.read(blob, key, 0, size)

            def read_reused(blobs: list[tuple[Blob, bytes]] = blobs, size: int = size) -> None:
                into = memoryview(bytearray(size))
                for blob, key in blobs:
                    log.read_into(blob, key, 0, into)

            timed(f"read {size:,} B", len(blobs), read)
            timed(f"read {size:,} B into a reused buffer", len(blobs), read_reused)
        large = os.urandom(1 << 20)

        def stream() -> None:
            draft = log.begin(TENANT, Kind.OBJECT)
            for _ in range(256):
                draft.write(large)
            draft.seal(SCOPE, WRAPPED, META)
            assert log.commit([draft])[0] is not None

        timed("store 268 MB, streamed", 1, stream)
        log.close()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
