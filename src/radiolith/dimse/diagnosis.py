"""Why does it not work? One look at a peer, step by step, in words for whoever has to mend it.

Owns: the order of the steps: name, connection, association, echo. Must never: send anything about a patient.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from radiolith.dimse import asking
from radiolith.dimse.association import Caller, requests
from radiolith.dimse.calls import Target
from radiolith.dimse.scu import Association, open_wire
from radiolith.model import Failure


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried. `seconds` it took."""

    name: str
    good: bool
    words: str
    seconds: float


async def diagnose(target: Target, calling: str) -> AsyncGenerator[Step]:
    """Each step as it ends; the first that is not good is the last."""
    begun = time.perf_counter()

    def step(name: str, words: str, good: bool = True) -> Step:
        nonlocal begun
        before, begun = begun, time.perf_counter()
        return Step(name, good, words, begun - before)

    try:
        found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        yield step("name", f"the host name {target.host} is not known", False)
        return
    yield step("name", f"{target.host} is {', '.join(dict.fromkeys(str(entry[4][0]) for entry in found))}")
    how = "TLS" if target.tls else "TCP"
    try:
        wire = await open_wire(target)
    except Failure as failure:
        yield step("connection", str(failure), False)
        return
    yield step("connection", f"{how} connection to port {target.port}")
    association = Association(wire, requests(asking.for_echo(), Caller(calling, target.aet))[0], target, None)
    name = "association"
    try:
        await association.begin()
        yield step(name, f"{target.aet} accepts {calling}")
        name = "echo"
        await asking.echo(association)
        yield step(name, "C-ECHO answered with success")
        await association.release()
    except Failure as failure:
        yield step(name, str(failure), False)
    finally:
        await association.close()
