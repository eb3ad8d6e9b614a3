"""Confinement of a decoder process: what it may ask of the kernel before it sees the first hostile byte.

Owns: resource limits, Landlock, the seccomp filter, the drop of identity. Order matters: identity first, filter last.
Must never be called in a process that has anything else to do. Linux only; x86-64 and aarch64 have a filter.

What remains is computing, memory, the connection it was born with, and exit. Every other system call fails with EPERM
(libraries probe for files and clocks, so the answer is an error and not death); a foreign architecture's calls kill.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
NOBODY = 65534
KEPT_BYTES = 32 << 20  # allocations up to this size, glibc's own bound, come from the heap
MAX_FILES = 64  # descriptors: the inherited few and one connection

_libc = ctypes.CDLL(None, use_errno=True)

# machine: (AUDIT_ARCH, numbers of the allowed calls, numbers of mmap and mprotect). The calls, in this order:
# read write close fstat lseek munmap brk mremap madvise rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack readv
# writev sendto recvfrom sendmsg shutdown accept accept4 getsockname ppoll futex sched_yield sched_getaffinity getpid
# gettid exit exit_group restart_syscall clock_gettime clock_getres clock_nanosleep gettimeofday getrusage times
# setitimer getitimer getrandom rseq set_robust_list getcpu; on x86-64 also poll and alarm.
_TABLES: dict[str, tuple[int, str, tuple[int, int]]] = {
    "x86_64": (
        0xC000003E,
        "0 1 3 5 8 11 12 25 28 13 14 15 131 19 20 44 45 46 48 43 288 51 271 202 24 204 39 186 60 231 219 228 229 230 "
        "96 98 100 38 36 318 334 273 309 7 37",
        (9, 10),
    ),
    "aarch64": (
        0xC00000B7,
        "63 64 57 80 62 215 214 216 233 134 135 139 132 65 66 206 207 211 210 202 242 204 73 98 124 123 172 178 93 94 "
        "128 113 114 115 169 165 153 103 102 278 293 99 168",
        (222, 226),
    ),
}

_LD, _JEQ, _JSET, _RET = 0x20, 0x15, 0x45, 0x06
_ALLOW, _EPERM, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000
_PROT_EXEC = 4


def _filter(arch: int, allowed: list[int], mapping: tuple[int, int]) -> bytes:
    """The BPF program: a list of allowed numbers; mmap and mprotect unless they ask for executable pages."""

    def op(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
        return struct.pack("=HBBI", code, jt, jf, k)

    program = op(_LD, 4) + op(_JEQ, arch, 1, 0) + op(_RET, _KILL) + op(_LD, 0)
    for number in allowed:
        program += op(_JEQ, number, 0, 1) + op(_RET, _ALLOW)
    for number in mapping:  # 32 = low half of the third argument
        program += op(_JEQ, number, 0, 4) + op(_LD, 32) + op(_JSET, _PROT_EXEC, 0, 1) + op(_RET, _EPERM)
        program += op(_RET, _ALLOW)
    return program + op(_RET, _EPERM)


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _prctl(option: int, value: int, pointer: object = 0) -> bool:
    return _libc.prctl(option, ctypes.c_ulong(value), pointer, ctypes.c_ulong(0), ctypes.c_ulong(0)) == 0


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send `signal_number` to this process when the thread that made it ends."""
    _prctl(PR_SET_PDEATHSIG, signal_number)


def keep_freed_memory() -> None:
    """Have malloc keep what is freed for the next frame: memory fresh from the kernel costs a fault a page."""
    m_trim_threshold, m_mmap_threshold = -1, -3
    for option, value in ((m_mmap_threshold, KEPT_BYTES), (m_trim_threshold, 2 * KEPT_BYTES)):
        if hasattr(_libc, "mallopt"):
            _libc.mallopt(option, value)


def leave_network() -> bool:
    """Move this process into an empty network namespace; False where the system does not permit that."""
    if _libc.unshare(CLONE_NEWNET) == 0:
        return True
    return _libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0


def address_space() -> int:
    """Bytes of address space this process has now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def limit_resources(memory_bytes: int, cpu_seconds: int) -> None:
    """`memory_bytes` is the total address space, the present one included."""
    for what, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_NOFILE, MAX_FILES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def _drop_identity() -> None:
    """root becomes nobody; without root there is nothing to drop."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # a user namespace may not know the id
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)


def _forbid_files() -> bool:
    """Landlock with no rule at all: no path can be opened, made or executed. False on kernels without it."""
    version = _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return False
    rights = (1 << 13) - 1  # the rights of the first version
    rights |= 1 << 13 if version >= 2 else 0  # refer
    rights |= 1 << 14 if version >= 3 else 0  # truncate
    rules = ctypes.create_string_buffer(struct.pack("=Q", rights))
    ruleset = _libc.syscall(LANDLOCK_CREATE_RULESET, rules, 8, 0)
    if ruleset < 0:
        return False
    done = _libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return done


def _filter_calls() -> bool:
    table = _TABLES.get(platform.machine())
    if table is None or struct.calcsize("P") != 8:
        return False
    arch, numbers, mapping = table
    code = _filter(arch, [int(n) for n in numbers.split()], mapping)
    kept = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(kept, ctypes.c_void_p))
    return _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))


def confine(memory_bytes: int, cpu_seconds: int, parent_signal: int) -> list[str]:
    """Give up everything a decoder does not need, for good. Returns the names of the layers in force.

    'seccomp' is among them unless kernel or machine has none: the caller decides whether to go on without.
    """
    layers = ["rlimit"]
    limit_resources(memory_bytes, cpu_seconds)
    _drop_identity()
    die_with_parent(parent_signal)  # a change of identity clears it, so it comes after
    _prctl(PR_SET_DUMPABLE, 0)
    if _prctl(PR_SET_NO_NEW_PRIVS, 1):
        layers.append("no_new_privs")
    if _forbid_files():
        layers.append("landlock")
    if _filter_calls():
        layers.append("seccomp")
    return layers


def machine() -> str:
    """The processor architecture, looked up early: afterwards even uname is denied."""
    return platform.machine()
