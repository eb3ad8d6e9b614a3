"""Ports for the programs that tests start: each is given out once on this machine, whoever runs tests beside us.

Owns: the choice. Limits: a program can take a port that nobody here gave out; it is looked at first.
"""

from __future__ import annotations

import itertools
import random
import socket

RANGE = range(10_000, 22_000)
"""Below those that the system gives to outgoing connections (from 32,768 on): one of them took a port between the look
at it and the start of the program that was to listen there."""
_start = random.randrange(len(RANGE))
_turn = itertools.count()
_claims: list[socket.socket] = []


def free_port(also: int = 0) -> int:
    """also: a distance; the port as far above is free too (SeaweedFS listens there for gRPC)."""
    for _ in RANGE:
        port = RANGE[(_start + next(_turn)) % len(RANGE)]
        if all(_claimed(one) and _free(one) for one in {port, port + also}):
            return port
    raise OSError("no free ports")


def _claimed(port: int) -> bool:
    """A name in the kernel that lasts as long as this process: no other is given the port."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0radiolith-tests-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def _free(port: int) -> bool:
    with socket.socket() as found:
        try:
            found.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
