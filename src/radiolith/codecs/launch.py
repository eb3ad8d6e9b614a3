"""Starting and ending the zygote: a fresh program with nothing of this process in it but a socket and a pipe.

Owns: the private directory, the listening socket's birth, the zygote's command line and its end. Must never fork this
process: its memory holds keys and names that decoders must not have.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from radiolith.codecs.limits import Limits

BACKLOG = 512  # sessions that may wait for a decoder; more are told to come back
STOP_SECONDS = 5.0  # for the zygote to bury its children before it is killed
_PROGRAM = "import sys; sys.path[:] = {path!r}; from radiolith.codecs.zygote import main; main()"


class Zygote:
    """A running zygote. `address` is what `Decoders` need; it stays valid in processes forked from this one."""

    def __init__(self, process: subprocess.Popen[bytes], control: int, directory: str, address: str):
        self._process, self._control, self._directory = process, control, directory
        self.address = address

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End zygote and decoders. Call in the process that started it, once no session is wanted any more."""
        if self._control >= 0:
            os.close(self._control)
            self._control = -1
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None):
        self.close()


def start_zygote(
    limits: Limits | None = None,
    *,
    directory: str | None = None,
    probes: Sequence[str] = (),
    unconfined: bool = False,
) -> Zygote:
    """Start the zygote as a fresh program; sessions may be opened at once, they wait until it is ready (about 1 s).

    `directory`: where its private directory is made (default: the system's for temporary files). `probes`: modules with
    `install(operations)`, for tests. `unconfined` allows decoders without a seccomp filter, where the kernel has none.
    The zygote ends when this process (and every process forked from it) has ended, or on `close`.
    """
    limits = limits or Limits()
    private = tempfile.mkdtemp(prefix="radiolith-", dir=directory)  # 0700
    address = os.path.join(private, "decoders")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
        config = {
            "limits": dataclasses.asdict(limits),
            "listener": listener.fileno(),
            "control": theirs,
            "directory": private,
            "probes": list(probes),
            "unconfined": unconfined,
            "verbose": False,
            # The kernel ties "parent" to the thread; elsewhere only the end of the control pipe counts.
            "die_with_parent": threading.current_thread() is threading.main_thread(),
        }
        program = _PROGRAM.format(path=[p or os.getcwd() for p in sys.path])
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", program, json.dumps(config)],
            env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(listener.fileno(), theirs),
            start_new_session=True,
            cwd="/",
        )
    except BaseException:
        os.close(ours)
        shutil.rmtree(private, ignore_errors=True)
        raise
    finally:
        listener.close()
        os.close(theirs)
    return Zygote(process, ours, private, address)
