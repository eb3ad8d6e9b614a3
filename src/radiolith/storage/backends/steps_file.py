"""The step counter, shown to another process and stopped from there: how the kill tests hit a step exactly.

Owns: the layout of that file. Must never: be on by default. Only `RADIOLITH_TEST_STEPS=PATH` in the environment, which
no setting and no command gives, makes a process map PATH (ROWS × ROW bytes, made by the test) and take a row of it.

Row (little-endian): pid u32, victim i32, count u64, stop u64, hits u64, step char[24], hit char[24], process char[16].
Before each step the process writes `count` and `step`. When `stop` is not 0 and `count` has reached it, `stop`
becomes 0, `hits` grows, `hit` is the step, and `victim` gets SIGKILL: a process id, or a group's as a negative
number; 0 means the process itself. A later process of the same name takes the row over, with `stop` as it stands.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct

from radiolith.storage.backends import Steps

VARIABLE = "RADIOLITH_TEST_STEPS"
ROW = 96
ROWS = 32  # of one file: workers, jobs, recovery and commands of one server
LAYOUT = struct.Struct("<IiQQQ16s16s16s16s")


def open_steps(process: str) -> Steps:
    """The counter of this process: a plain one, or one that shows itself where the environment names a file."""
    path = os.environ.get(VARIABLE)
    return Steps(_Shown(path, process)) if path else Steps()


class _Shown:
    """A hook for Steps over one row of the file."""

    def __init__(self, path: str, process: str):
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), ROW * ROWS)
        name = process.encode()[:16].ljust(16, b"\0")
        taken = [self._map[at + ROW - 16 : at + ROW] for at in range(0, ROW * ROWS, ROW)]
        self._at = ROW * (taken.index(name) if name in taken else taken.index(bytes(16)))
        row = list(LAYOUT.unpack_from(self._map, self._at))
        row[0], row[2], row[5], row[8] = os.getpid(), 0, b"start", name
        LAYOUT.pack_into(self._map, self._at, *row)

    def __call__(self, number: int, name: str) -> None:
        at, step = self._at, name.encode()[:16].ljust(16, b"\0")
        _, victim, _, stop, hits, last, _, _, _ = LAYOUT.unpack_from(self._map, at)
        struct.pack_into("<Q", self._map, at + 8, number)
        self._map[at + 32 : at + 48] = step
        if stop and number >= stop:
            self._map[at + 48 : at + 80] = step + last
            struct.pack_into("<QQ", self._map, at + 16, 0, hits + 1)
            os.kill(victim or os.getpid(), signal.SIGKILL)
