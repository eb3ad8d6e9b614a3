"""Operations for tests only, run inside a decoder process: they try what a taken-over decoder would try."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _open() -> None:
    Path("/etc/passwd").read_bytes()


def _listdir() -> None:
    os.listdir("/")


def _create() -> None:
    Path("/tmp/radiolith-probe").write_bytes(b"x")


def _socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def _unix_socket() -> None:
    socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close()


def _socketpair() -> None:
    for end in socket.socketpair():
        end.close()


def _execute() -> None:
    os.execv("/bin/true", ["true"])


def _spawn() -> None:
    subprocess.run(["/bin/true"], check=True)


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _kill_parent() -> None:
    os.kill(1, 0)


def _executable_memory() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def _trace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def _raise_limit() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setrlimit(resource.RLIMIT_AS, (ctypes.c_ulong * 2)(1 << 40, 1 << 40)) != 0:
        raise OSError(ctypes.get_errno(), "setrlimit")


FORBIDDEN: dict[str, Callable[[], None]] = {
    f.__name__.lstrip("_"): f
    for f in (
        _open, _listdir, _create, _socket, _unix_socket, _socketpair, _execute, _spawn, _fork, _kill_parent,
        _executable_memory, _trace, _raise_limit,
    )
}  # fmt: skip


def _attempt(_served: Any, control: dict[str, Any], _blobs: list[bytearray]) -> tuple[dict[str, Any], list[memoryview]]:
    try:
        FORBIDDEN[control["what"]]()
    except OSError as error:
        return {"denied": error.errno}, []
    return {"denied": 0}, []


def _facts(_served: Any, _control: Any, _blobs: Any) -> tuple[dict[str, Any], list[memoryview]]:
    return {
        "pid": os.getpid(),
        "environment": len(os.environ),
        "files": [fd for fd in range(64) if _is_open(fd)],
    }, []


def _is_open(fd: int) -> bool:
    try:
        os.lseek(fd, 0, os.SEEK_CUR)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def _loop(_served: Any, _control: Any, _blobs: Any) -> tuple[dict[str, Any], list[memoryview]]:
    while True:
        pass


def _native_loop(_served: Any, _control: Any, _blobs: Any) -> tuple[dict[str, Any], list[memoryview]]:
    """Holds the interpreter, as a C decoder in an endless loop does."""
    pattern = b"a" * 50
    import re

    re.match(b"(a*)*(a*)*(a*)*b", pattern)
    return {}, []


def _bomb(_served: Any, _control: Any, _blobs: Any) -> tuple[dict[str, Any], list[memoryview]]:
    kept: list[bytearray] = []
    while True:
        kept.append(bytearray(64 << 20))


def _crash(_served: Any, _control: Any, _blobs: Any) -> tuple[dict[str, Any], list[memoryview]]:
    ctypes.string_at(0)
    return {}, []


def _echo(_served: Any, control: dict[str, Any], blobs: list[bytearray]) -> tuple[dict[str, Any], list[memoryview]]:
    time.monotonic()
    return {"said": control.get("say")}, [memoryview(b) for b in blobs]


def _lie(_served: Any, control: dict[str, Any], _blobs: Any) -> tuple[dict[str, Any], list[memoryview]]:
    """An answer no honest decoder gives."""
    return control["answer"], [memoryview(bytes(n)) for n in control["sizes"]]


def install(operations: dict[str, Any]) -> None:
    """Called in the zygote."""
    operations.update(
        attempt=_attempt, facts=_facts, loop=_loop, native_loop=_native_loop, bomb=_bomb, crash=_crash, echo=_echo,
        lie=_lie,
    )  # fmt: skip
