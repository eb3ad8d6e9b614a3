"""What a kill costs the next start: recovery of one open segment, by how much had been written to it.

    python bench/after_kill.py [DIRECTORY]     (about 10 s; on the disk that matters)

A process of its own writes and is killed with its segment open, preallocated and without a footer; then recovery is timed,
as the next start runs it before the first request. The page cache of the segment is dropped by recovery itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from radiolith.config import Tier
from radiolith.model import Kind, Scope
from radiolith.storage.blobs import Log
from radiolith.storage.tiers import open_backend

SCOPE, WRAPPED, TENANT = Scope(bytes(16), 0), bytes(40), bytes(16)
OBJECT = 500_000  # bytes, a CT slice


def killed(tier: Tier, count: int) -> None:
    """A child stores `count` objects, a sync each four, and dies."""
    child = os.fork()
    if child == 0:
        log = Log(open_backend(tier))
        for at in range(0, count, 4):
            drafts = []
            for _ in range(min(4, count - at)):
                draft = log.begin(TENANT, Kind.OBJECT)
                draft.write(os.urandom(OBJECT))
                draft.seal(SCOPE, WRAPPED, b"{}")
                drafts.append(draft)
            log.commit(drafts)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def main() -> None:
    base = sys.argv[1] if len(sys.argv) > 1 else None
    for count in (1, 40, 200, 500):
        folder = Path(tempfile.mkdtemp(prefix="radiolith-after-kill-", dir=base))
        try:
            tier = Tier(url=f"file://{folder}/tier")
            killed(tier, count)
            log = Log(open_backend(tier))
            began = time.perf_counter()
            (found,) = log.recover(lambda _: None)
            took = time.perf_counter() - began
            assert found.state == "recovered", found
            written = found.end / 1e6
            print(f"{written:8.1f} MB written of a preallocated segment: {took * 1e3:7.1f} ms to recover")
            log.close()
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
