"""A network of its own for the whole benchmark, in which there is nothing but a loopback interface.

Orthanc binds every interface (it then refuses clients that are not local), and other work on the machine may hold a
port. In a network namespace neither matters. It takes root on Linux; without it the benchmark runs in the machine's
own network and says so.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1


def isolate() -> bool:
    """Move this process, and all it starts, into a network of its own. Whether that was possible."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.getuid() != 0 or libc.unshare(_NEW_NETWORK):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        _, flags = struct.unpack("16sH14x", fcntl.ioctl(control, _GET_FLAGS, request))
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))
    return True
