"""The processes of `serve`: one parent that serves nothing, its children, and their end.

Owns: forking, restarting and stopping processes. Must never: open a database, a segment or a loop in the parent; know
what a child does. A child that dies is started again after a pause that doubles from PAUSE_FIRST to PAUSE_LAST seconds
while it keeps dying, so that a broken disk does not become a fork storm. Limits: STOP_SECONDS for a clean stop.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from radiolith.model import BadInput, Unavailable

STOP_SECONDS = 20.0  # for requests under way to end; then the children are killed
PAUSE_FIRST, PAUSE_LAST = 0.05, 5.0
HEALTHY_SECONDS = 10.0  # a child that lived so long starts again at once
BACKLOG = 1024
_PR_SET_PDEATHSIG = 1
log = structlog.get_logger()


def listen(address: str) -> socket.socket:
    """A listening socket for HOST:PORT; port 0 takes a free one. Raises BadInput, Unavailable with what to do."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535 or not host:
        raise BadInput(f"'{address}' is no address; one looks like 127.0.0.1:8050")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        made.bind((host.strip("[]"), int(port)))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise Unavailable(
            f"cannot listen on {address}: {error.strerror}; another archive may be running there"
        ) from None
    made.setblocking(False)
    return made


GC_THRESHOLDS = (10_000, 20, 20)
"""Objects between two looks for garbage in cycles. By default a look comes with every second image and finds nothing; ten
thousand objects are some MB."""


@dataclass(slots=True)
class _Child:
    name: str
    pid: int
    since: float
    pause: float = PAUSE_FIRST


class Supervisor:
    """Runs `roles` (name -> what the child does, its exit code as answer) until told to stop. `ended` is called with the
    name of a child that has ended, before it is started again."""

    def __init__(
        self,
        roles: Mapping[str, Callable[[], int]],
        look_after: Callable[[], None] = lambda: None,
        ended: Callable[[str], None] = lambda name: None,
    ):
        self._roles, self._look_after, self._ended = roles, look_after, ended
        self._children: dict[int, _Child] = {}
        self._due: dict[str, tuple[float, float]] = {}  # name -> when to start, and the pause that was
        self._stopping = False

    def run(self) -> int:
        """Blocks until SIGTERM or SIGINT and everything has ended. 0, or 1 when a child had to be killed."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._note)
        gc.collect()
        gc.freeze()  # what is loaded stays shared with the children
        gc.set_threshold(*GC_THRESHOLDS)
        for name in self._roles:
            self._start(name, PAUSE_FIRST)
        while not self._stopping:
            self._sleep(wake_read, self._until_due())
            self._reap()
            if not self._stopping:
                self._look_after()
            for name, (when, pause) in list(self._due.items()):
                if when <= time.monotonic() and not self._stopping:
                    del self._due[name]
                    self._start(name, pause)
        return self._stop(wake_read)

    def _note(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._stopping = True

    def _until_due(self) -> float:
        if not self._due:
            return 60.0
        return max(0.0, min(when for when, _ in self._due.values()) - time.monotonic())

    @staticmethod
    def _sleep(wake: int, seconds: float) -> None:
        ready, _, _ = select.select([wake], [], [], seconds)
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)

    def _start(self, name: str, pause: float) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._children[pid] = _Child(name, pid, time.monotonic(), pause)
            return
        code = 1
        try:
            self._become_child(parent)
            code = self._roles[name]()
        except BaseException:
            log.exception("process failed", process=name)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    @staticmethod
    def _become_child(parent: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes on SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self._children.pop(pid, None)
            if child is None:
                continue
            self._ended(child.name)
            if self._stopping:
                continue
            lived = time.monotonic() - child.since
            pause = PAUSE_FIRST if lived > HEALTHY_SECONDS else min(PAUSE_LAST, child.pause * 2)
            code = os.waitstatus_to_exitcode(status)
            log.warning("process ended and is started again", process=child.name, code=code, pause=pause)
            self._due[child.name] = (time.monotonic() + pause, pause)

    def _stop(self, wake: int) -> int:
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self._children and time.monotonic() < deadline:
            self._sleep(wake, 0.1)
            self._reap()
        for pid, child in list(self._children.items()):
            log.error("process did not stop and is killed", process=child.name)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return 1 if self._children else 0


def in_child(work: Callable[[], int]) -> int:
    """Run `work` in a process of its own and wait: what it opens is closed for sure when the parent forks workers."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = work()
        except BaseException:
            log.exception("process failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
