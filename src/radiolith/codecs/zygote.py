"""The parent of all decoder processes: preloaded, single-threaded, without network, and never in touch with data.

Owns: forking decoders ahead of need and burying them. It is a fresh program (not a fork of the server), so that no key,
token or patient name of the server is in its memory. Must never read from a connection, import anything late, or
outlive the process that started it. Started by `launch.start_zygote` only.

A decoder waits in accept() on the socket shared by all, announces itself, serves that one connection and exits.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from types import FrameType

from radiolith.codecs import confine
from radiolith.codecs.limits import Limits
from radiolith.codecs.wire import HELLO, MAGIC

_BUSY = struct.Struct("<I")
_EARLY_DEATH_PAUSE_MS = 500  # between forks while decoders die before they serve anyone
_REFILL_PAUSE_MS = 25  # before a used-up spare is replaced while another waits: the processor is the request's first
_CANNOT_CONFINE = 77  # exit status of a decoder that could not lock itself in

Serve = Callable[[socket.socket, Limits], None]
Rehearse = Callable[[Limits], None]


def _noticed(_signal: int, _frame: FrameType | None) -> None:
    """The wakeup descriptor does the work; without a handler it would not be written."""


class Zygote:
    """The loop. `listener` is shared with the decoders; end of file on `control` means the server is gone."""

    def __init__(
        self, listener: socket.socket, control: int, limits: Limits, work: tuple[Rehearse, Serve], *, unconfined: bool
    ):
        self._listener, self._control, self._limits = listener, control, limits
        self._rehearse, self._serve = work
        self._unconfined = unconfined
        self._idle: set[int] = set()
        self._busy: set[int] = set()
        self._early_deaths = 0
        self._refill_at = 0.0
        self._status_r, self._status_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._memory = confine.address_space() + limits.memory_bytes
        self._stopping = False

    def run(self) -> None:
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _noticed)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the server's to handle
        poll = select.poll()
        for fd in (self._control, self._status_r, self._wake_r):
            poll.register(fd, select.POLLIN | select.POLLHUP)
        while not self._stopping:
            pause = self._fill()
            for fd, _ in poll.poll(pause):
                if fd == self._control:
                    self._stopping = True
                else:
                    self._drain(fd)
            self._bury()
        self._end()

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _fill(self) -> int | None:
        """Fork until enough decoders wait; returns milliseconds to wait before the next try, None for no limit."""
        if self._idle and time.monotonic() < self._refill_at:
            return _REFILL_PAUSE_MS
        while len(self._idle) < self._limits.spare and len(self._idle) + len(self._busy) < self._limits.processes:
            if self._early_deaths > self._limits.processes:
                self._early_deaths = 0
                return _EARLY_DEATH_PAUSE_MS
            try:
                pid = os.fork()
            except OSError:  # no memory or no process slot now: keep what we have
                return _EARLY_DEATH_PAUSE_MS
            if pid == 0:
                self._become_decoder()
            self._idle.add(pid)
        return None

    def _drain(self, fd: int) -> None:
        data = os.read(fd, 4096)
        if fd == self._status_r:
            for (pid,) in _BUSY.iter_unpack(data):
                if pid in self._idle:
                    self._idle.remove(pid)
                    self._busy.add(pid)
                    self._refill_at = time.monotonic() + _REFILL_PAUSE_MS / 1000

    def _bury(self) -> None:
        while self._idle or self._busy:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._busy.discard(pid)
            if pid in self._idle:  # died before it had a client, or so quickly that its note is still in the pipe
                self._idle.remove(pid)
                self._early_deaths += status != 0
                if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _CANNOT_CONFINE:
                    sys.stderr.write("radiolith: decoders cannot be confined on this system; none is started\n")
                    sys.stderr.flush()
                    self._stopping = True
            else:
                self._early_deaths = 0

    def _end(self) -> None:
        for pid in self._idle | self._busy:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for _ in range(len(self._idle) + len(self._busy)):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)

    def _become_decoder(self) -> None:
        """Never returns. In the child: lock in, wait for the one connection, serve it, exit."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):  # C libraries complain on stderr, perhaps with pixel values
                os.dup2(null, fd)
            for fd in (null, self._control, self._status_r, self._wake_r, self._wake_w):
                os.close(fd)
            self._rehearse(self._limits)
            layers = confine.confine(self._memory, self._limits.cpu_seconds, signal.SIGKILL)
            if "seccomp" not in layers and not self._unconfined:
                os._exit(_CANNOT_CONFINE)
            connection, _ = self._listener.accept()
            connection.sendall(HELLO.pack(MAGIC, os.getpid()))
            self._listener.close()
            os.write(self._status_w, _BUSY.pack(os.getpid()))
            os.close(self._status_w)
            self._serve(connection, self._limits)
        except BaseException:
            os._exit(1)
        os._exit(0)


def main() -> None:
    """Entry point of the zygote program; its only argument is the JSON written by `launch.start_zygote`."""
    config = json.loads(sys.argv[1])
    if config["die_with_parent"]:
        confine.die_with_parent(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    limits = Limits(**config["limits"])
    listener = socket.socket(fileno=config["listener"])
    started = time.monotonic()
    confine.keep_freed_memory()
    from radiolith.codecs import warm, worker

    for name in config["probes"]:
        importlib.import_module(name).install(worker.OPERATIONS)
    warm.warm_up()
    confine.leave_network()
    os.environ.clear()
    gc.collect()
    gc.freeze()
    if config["verbose"]:
        sys.stderr.write(f"radiolith: decoders ready after {time.monotonic() - started:.2f} s\n")
    try:
        work = (warm.rehearse, worker.serve)
        Zygote(listener, config["control"], limits, work, unconfined=config["unconfined"]).run()
    finally:
        shutil.rmtree(config["directory"], ignore_errors=True)
