"""Clients as processes of their own, started together: their CPU seconds are theirs, and they really run in parallel.

A client is a function `work(argument, started)`; it makes ready, calls `started()`, which returns when all clients are
ready, does its requests and answers a dictionary of numbers. Clients that outlast `limit` seconds are killed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

FORK = multiprocessing.get_context("fork")
LIMIT = 420.0

Numbers = dict[str, Any]
Started = Callable[[], None]


class ClientFailed(Exception):
    """What a client met: a status it did not expect, a lost connection, or the end of its time."""


def together(
    work: Callable[[Any, Started], Numbers], arguments: Sequence[Any], limit: float = LIMIT
) -> tuple[float, list[Numbers]]:
    """Run one client per argument. Seconds from the common start to the last answer, and what each answered."""
    barrier = FORK.Barrier(len(arguments) + 1)
    running: list[tuple[Any, Connection]] = []
    try:
        for argument in arguments:
            here, there = FORK.Pipe(duplex=False)
            child = FORK.Process(target=_child, args=(work, argument, barrier, there))
            child.start()
            there.close()
            running.append((child, here))
        with contextlib.suppress(Exception):  # broken by a client that failed; its answer says why
            barrier.wait(limit)
        begin = time.perf_counter()
        answers: list[Numbers] = []
        for _, pipe in running:
            if not pipe.poll(max(0.0, limit - (time.perf_counter() - begin))):
                raise ClientFailed(f"a client was not done after {limit:.0f} s")
            answers.append(pipe.recv())
        seconds = time.perf_counter() - begin
    except EOFError:
        raise ClientFailed("a client ended without an answer") from None
    finally:
        for child, pipe in running:
            pipe.close()
            child.join(2)
            if child.is_alive():
                child.kill()
                child.join()
    failures = sorted({str(answer["failure"]) for answer in answers if "failure" in answer})
    if failures:
        raise ClientFailed("; ".join(failures)[:400])
    return seconds, answers


def _child(work: Callable[[Any, Started], Numbers], argument: Any, barrier: Barrier, pipe: Connection) -> None:
    def started() -> None:
        barrier.wait(LIMIT)

    try:
        answer = work(argument, started)
    except BaseException as failure:  # the parent reports it, and no other client may wait for this one
        barrier.abort()
        kind = "" if isinstance(failure, ClientFailed) else f"{type(failure).__name__}: "
        answer = {"failure": f"{kind}{failure}"}
    pipe.send(answer)
    pipe.close()
    os._exit(0)  # no clean-up of what the parent owns


def one(work: Callable[[Started], Numbers], limit: float = LIMIT) -> Numbers:
    """One client; its own `wall_s` counts if it gives one, else from its start to its answer."""
    seconds, answers = together(lambda _, started: work(started), [None], limit)
    return {"wall_s": seconds} | answers[0]


def repeated(call: Callable[[int], int], count: int, seconds: float) -> Numbers:
    """Call after call: median and 95th percentile in milliseconds. `call(k)` answers the bytes it got."""
    times: list[float] = []
    sizes: list[int] = []
    begin = time.perf_counter()
    for k in range(count):
        before = time.perf_counter()
        sizes.append(call(k))
        after = time.perf_counter()
        times.append(after - before)
        if after - begin > seconds:
            break
    ordered = sorted(times)
    return {
        "wall_s": sum(times),
        "n": len(times),
        "median_ms": statistics.median(times) * 1e3,
        "p95_ms": ordered[int(0.95 * (len(ordered) - 1))] * 1e3,
        "reply_bytes": statistics.median(sizes),
    }


def steady(make: Callable[[], Callable[[int], int]], clients: int, seconds: float) -> Numbers:
    """`clients` clients, each with a connection of its own, for `seconds`: requests answered per second."""

    def work(number: int, started: Started) -> Numbers:
        call = make()
        call(number)  # the connection is open when the clock starts
        count = 0
        started()
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            call(number * 1009 + count + clients)
            count += 1
        return {"n": count}

    wall, answers = together(work, list(range(clients)))
    return {"wall_s": wall, "n": sum(answer["n"] for answer in answers), "clients": clients}
