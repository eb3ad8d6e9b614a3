"""What happened lately, kept in a bounded ring of lines beside the index, for all processes of a home.

Owns: the files `associations/PROCESS.jsonl`. Must never: be needed for anything but looking at it: a line that cannot be
written is dropped, and nothing waits for the disk to have it.

Limits: FILE_BYTES a file, two files a process: some thousand traces each.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE_BYTES = 2 << 20
FOLDER = "associations"


class Ring:
    """One process's end. `append` from one thread."""

    def __init__(self, home: Path, process: str):
        self._path = home / FOLDER / f"{process.replace(' ', '-')}.jsonl"

    def append(self, trace: Mapping[str, Any]) -> None:
        line = json.dumps(trace, ensure_ascii=False, separators=(",", ":")) + "\n"
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, line.encode())
                full = os.fstat(handle).st_size > FILE_BYTES
            finally:
                os.close(handle)
            if full:
                self._path.replace(self._path.with_suffix(".old.jsonl"))


def latest(home: Path, limit: int) -> list[dict[str, Any]]:
    """The last `limit` traces of all processes, the newest first. A line that was cut off is passed over."""
    found: list[dict[str, Any]] = []
    for path in (home / FOLDER).glob("*.jsonl"):
        with contextlib.suppress(OSError):
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
    found.sort(key=lambda trace: trace.get("at", 0), reverse=True)
    return found[:limit]
