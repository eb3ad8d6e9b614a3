"""What a decoder process cannot do, and what the server side survives."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import uvloop

from radiolith.codecs import confine, registry, wire
from radiolith.codecs.sandbox import Decoders, Frame, Limits, Opened, Wanted, Zygote, start_zygote
from radiolith.model import BadInput, LimitExceeded, Unavailable, Unsupported
from tests.codecs import objects, probes

NOTHING = Opened(b"", "1.2.840.10008.1.2.1")
RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def ask(decoders: Decoders, op: str, **more: object) -> wire.Control:
    with decoders.blocking_session(NOTHING) as session:
        return session.ask(({"op": op, **more}, []))[0]


def children(pid: int) -> set[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return {int(p) for p in file.read().split()}


@pytest.mark.parametrize("what", sorted(probes.FORBIDDEN))
def test_the_kernel_denies_everything_but_computing(decoders: Decoders, what: str) -> None:
    denied = ask(decoders, "attempt", what=what)["denied"]
    assert denied in (errno.EPERM, errno.EACCES), f"{what} ended with {errno.errorcode.get(int(str(denied)), denied)}"


def test_the_probes_are_not_denied_outside() -> None:
    """The counterpart without which the test above would prove nothing."""
    for name in ("open", "listdir", "socket", "unix_socket", "socketpair", "spawn", "executable_memory"):
        probes.FORBIDDEN[name]()


def test_a_decoder_has_no_environment_and_no_files_but_its_connection(decoders: Decoders) -> None:
    facts = ask(decoders, "facts")
    assert facts["environment"] == 0
    files = facts["files"]
    assert isinstance(files, list)
    assert files[:3] == [0, 1, 2] and len(files) == 4, files


def test_the_tables_of_allowed_calls_are_well_formed() -> None:
    assert set(confine._TABLES) == {"x86_64", "aarch64"}
    for _, numbers, mapping in confine._TABLES.values():
        listed = [int(n) for n in numbers.split()]
        assert len(set(listed)) == len(listed) and not set(mapping) & set(listed)


def test_every_session_has_a_process_of_its_own_that_ends_with_it(zygote: Zygote, decoders: Decoders) -> None:
    pids = [int(str(ask(decoders, "facts")["pid"])) for _ in range(6)]
    assert len(set(pids)) == 6
    deadline = time.monotonic() + 10
    while set(pids) & children(zygote.pid) and time.monotonic() < deadline:
        os.sched_yield()
    assert not set(pids) & children(zygote.pid), "decoders outlive their sessions"
    with decoders.blocking_session(NOTHING) as session:
        first = session.ask(({"op": "facts"}, []))[0]["pid"]
        assert session.ask(({"op": "facts"}, []))[0]["pid"] == first


def test_a_crash_is_a_refusal_and_the_next_session_works(decoders: Decoders) -> None:
    with pytest.raises(Unsupported, match="ended while"):
        ask(decoders, "crash")
    assert decoders.counts.deaths == 1
    assert ask(decoders, "echo", say="again")["said"] == "again"


@pytest.mark.parametrize("op", ["loop", "native_loop"])
def test_an_endless_loop_is_killed_at_the_limit_and_the_slot_is_free(zygote: Zygote, op: str) -> None:
    limits = Limits(request_seconds=0.3, queue_seconds=20)
    decoders = Decoders(zygote.address, limits)
    for _ in range(6):  # more than there are slots
        with pytest.raises(Unsupported, match=r"longer than 0\.3 s"):
            ask(decoders, op)
    assert decoders.counts.kills == 6
    assert ask(Decoders(zygote.address), "echo", say=1)["said"] == 1


def test_a_memory_bomb_is_a_named_limit(decoders: Decoders) -> None:
    with pytest.raises(LimitExceeded, match="512 MiB of memory"):
        ask(decoders, "bomb")
    assert ask(decoders, "echo", say=2)["said"] == 2


def test_no_slot_in_time_is_unavailable_not_a_hang(zygote: Zygote) -> None:
    decoders = Decoders(zygote.address, Limits(queue_seconds=0.2))
    held = [decoders.blocking_session(NOTHING) for _ in range(4)]
    sessions = [context.__enter__() for context in held]
    try:
        for session in sessions:
            session._limits = dataclasses.replace(session._limits, queue_seconds=30)
            session.ask(({"op": "echo"}, []))
        with pytest.raises(Unavailable, match="busy"):
            ask(decoders, "echo")
    finally:
        for context in held:
            context.__exit__(None, None, None)
    assert ask(Decoders(zygote.address), "echo", say=3)["said"] == 3


def test_without_a_zygote_decoding_is_unavailable(tmp_path: object) -> None:
    with pytest.raises(Unavailable, match="not running"):
        ask(Decoders(f"{tmp_path}/nothing"), "echo")


@pytest.mark.parametrize(
    ("answer", "sizes"),
    [
        ({"rows": 1 << 40, "columns": 1, "samples": 1, "dtype": "u1", "photometric": ""}, [1]),
        ({"rows": 4, "columns": 4, "samples": 1, "dtype": "u2", "photometric": "X"}, [16]),
        ({"rows": "4", "columns": 4, "samples": 1, "dtype": "u1", "photometric": "X"}, [16]),
        ({"rows": 4, "columns": 4, "samples": 1, "dtype": "u1", "photometric": 7}, [16]),
        ({"rows": 4, "columns": 4, "samples": 1, "dtype": "u1", "photometric": "X"}, []),
        ({"rows": 4, "columns": 4, "samples": 1, "dtype": "u1", "photometric": "X"}, [8, 8]),
        ({"failure": ["?"], "reason": {}}, []),
        ({}, [300 << 20]),
    ],
)
def test_answers_of_a_taken_over_decoder_are_checked(
    decoders: Decoders, monkeypatch: pytest.MonkeyPatch, answer: object, sizes: object
) -> None:
    lie = {"op": "lie", "answer": answer, "sizes": sizes}
    monkeypatch.setattr("radiolith.codecs.requests.decode_request", lambda _frame: (lie, []))
    with decoders.blocking_session(NOTHING) as session, pytest.raises((Unsupported, BadInput)):
        session.decode(Frame(0, b""))


def test_oversized_requests_are_refused_before_a_decoder_is_asked(zygote: Zygote) -> None:
    decoders = Decoders(zygote.address, Limits(request_bytes=1000, header_bytes=100))
    with pytest.raises(LimitExceeded, match="100 bytes"), decoders.blocking_session(Opened(bytes(101), "")):
        pass
    with decoders.blocking_session(NOTHING) as session, pytest.raises(LimitExceeded, match="1000 bytes"):
        session.decode(Frame(0, bytes(1001)))
    assert decoders.counts.deaths == 0


async def _use(decoders: Decoders) -> None:
    opened = objects.opened(objects.image(RAMP))
    async with decoders.session(opened) as session:
        native = await session.decode(objects.frame(RAMP))
        assert np.array_equal(objects.array(native), RAMP)
        media_type, picture = await session.render([objects.frame(RAMP)], Wanted())
        assert media_type == "image/jpeg" and picture[:2] == b"\xff\xd8"


def test_the_asynchronous_client_on_asyncio_and_uvloop(decoders: Decoders) -> None:
    asyncio.run(_use(decoders))
    uvloop.run(_use(decoders))


def test_a_reused_decoder_knows_the_next_object_and_nothing_of_the_one_before(decoders: Decoders) -> None:
    """Of the same series, but with other rows, columns and bits."""
    first = np.arange(64, dtype=np.uint16).reshape(8, 8)
    second = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)

    async def both() -> None:
        session = decoders.lasting_session(objects.opened(objects.image(first)))
        try:
            for pixels in (first, second, first):
                await session.reopen(objects.opened(objects.image(pixels)))
                native = await session.decode(objects.frame(pixels))
                assert np.array_equal(objects.array(native), pixels)
                changed = (await session.transcode(objects.frame(pixels), registry.EXPLICIT_LE)).changed
                assert changed.bits_allocated == pixels.itemsize * 8
        finally:
            session.close()

    asyncio.run(both())


def test_many_concurrent_sessions_share_the_slots(decoders: Decoders) -> None:
    async def many() -> None:
        await asyncio.gather(*(_use(decoders) for _ in range(20)))

    uvloop.run(many())
    assert decoders.counts.sessions == 20 and decoders.counts.deaths == 0


def test_a_cancelled_request_kills_its_decoder(zygote: Zygote, decoders: Decoders) -> None:
    async def cancel() -> int:
        async with decoders.session(NOTHING) as session:
            pid = int(str((await session._ask(({"op": "facts"}, [])))[0]["pid"]))
            work = asyncio.ensure_future(session._ask(({"op": "loop"}, [])))
            await asyncio.sleep(0.05)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
        return pid

    pid = uvloop.run(cancel())
    deadline = time.monotonic() + 5
    while pid in children(zygote.pid) and time.monotonic() < deadline:
        os.sched_yield()
    assert pid not in children(zygote.pid)


_OWNER = """
import sys, time
from radiolith.codecs.sandbox import start_zygote, Decoders, Opened
zygote = start_zygote()
with Decoders(zygote.address).blocking_session(Opened(b"", "1.2.840.10008.1.2.1")) as session:
    try:
        session.ask(({"op": "nothing"}, []))
    except Exception:
        pass
    print(zygote.pid, zygote.address, flush=True)
    time.sleep(60)
"""


def test_zygote_decoders_and_directory_go_when_the_server_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid_text, address = owner.stdout.readline().split()
    family = {int(pid_text), *children(int(pid_text))}
    assert len(family) >= 2
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 10
    while (any(_running(pid) for pid in family) or os.path.exists(address)) and time.monotonic() < deadline:
        os.sched_yield()
    assert not [pid for pid in family if _running(pid)]
    assert not os.path.exists(os.path.dirname(address))


def _running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_closing_leaves_no_process_and_no_zombie() -> None:
    zygote = start_zygote(Limits(spare=3))
    with Decoders(zygote.address).blocking_session(NOTHING) as session, pytest.raises(Unsupported):
        session.ask(({"op": "nothing"}, []))
    family = {zygote.pid, *children(zygote.pid)}
    zygote.close()
    assert not zygote.alive and not [pid for pid in family if _running(pid)]
    assert not os.path.exists(zygote.address)
    with pytest.raises(ChildProcessError):
        os.waitpid(zygote.pid, os.WNOHANG)
    zygote.close()
