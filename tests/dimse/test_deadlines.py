"""Peers that are slow, silent, greedy or gone, and the end of the process; time is put forward, not waited for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from radiolith.dimse import acceptor, server
from radiolith.dimse.commands import Command
from radiolith.dimse.messages import message
from radiolith.dimse.pdu import Abort, AssociateAccept, AssociateReject, encode
from radiolith.dimse.wire import BUFFER, GONE_SECONDS, WRITE_MAX
from tests.archive.objects import Made
from tests.dimse.served import Served, Setting, Terms, served
from tests.dimse.speaker import STORE_ID, Ended, Speaker, echo, request, store

IDLE = 120.0
TERMS = Terms(8, 5, 64 << 10, IDLE)
LIMIT, CONGESTION = AssociateReject(2, 3, 2), AssociateReject(2, 3, 1)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("deadlines") / "home", Setting(TERMS)) as found:
        yield found


def made(sop: str, size: int = 100) -> bytes:
    return Made("2.25.1", "2.25.2", sop, private=bytes(size)).dataset()


def open_peer(archive: Served) -> Speaker:
    peer = Speaker(archive.port)
    assert isinstance(peer.associate(), AssociateAccept)
    return peer


def last_end(archive: Served) -> str:
    archive.idle()
    return str(archive.traces[-1]["end"])


# ---------------------------------------------------------------- silence and slowness


@pytest.mark.parametrize("said", [b"", b"\x01", encode(request())[:100]])
def test_a_connection_that_asks_for_nothing_is_cut(archive: Served, said: bytes) -> None:
    with Speaker(archive.port) as peer:
        peer.say(said)
        archive.advance(acceptor.ARTIM_SECONDS - 2)
        assert len(archive.server._running) == 1
        archive.advance(6)
        assert peer.ended()
    assert "ARTIM" in last_end(archive)


def test_a_request_that_drips_is_cut_all_the_same(archive: Served) -> None:
    spoken = encode(request())
    with Speaker(archive.port) as peer, pytest.raises((BrokenPipeError, ConnectionResetError)):
        for at in range(40):
            peer.say(spoken[at : at + 1])
            archive.advance(1.05)
    assert "ARTIM" in last_end(archive)


def test_a_peer_that_does_not_close_is_cut(archive: Served) -> None:
    """After its release was answered, and after it was rejected."""
    with Speaker(archive.port) as peer, Speaker(archive.port) as stranger:
        assert isinstance(peer.associate(), AssociateAccept)
        peer.say(b"\x05\0\0\0\0\x04\0\0\0\0")
        assert peer.hear()[0] == 6
        assert isinstance(stranger.associate(called="ELSEWHERE"), AssociateReject)
        archive.advance(acceptor.ARTIM_SECONDS + 4)
        assert peer.ended() and stranger.ended()
    archive.idle()


def test_an_idle_association_is_aborted_and_a_busy_one_is_not(archive: Served) -> None:
    idle, busy = open_peer(archive), open_peer(archive)
    with idle, busy:
        for number in range(4):
            archive.advance(IDLE / 3, 2)
            busy.say(echo(number + 1))
            assert busy.answer().status == 0
        assert idle.pdu() == Abort(0, 0)
        assert idle.ended()
        archive.until(lambda: len(archive.server._running) == 1, "the idle one to end")
        busy.release()
    archive.idle()
    assert "nothing was asked for too long" in {trace["end"] for trace in archive.traces[-2:]}


def test_a_message_that_drips_is_aborted(archive: Served) -> None:
    """A byte a second of a data set keeps nobody's slot: the whole message must come at a rate."""
    sop = "2.25.50"
    spoken = store(made(sop, 4000), sop)
    with open_peer(archive) as peer:
        peer.say(spoken[:600])
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for at in range(600, 700):
                peer.say(spoken[at : at + 1])
                archive.advance(1.05)
    assert last_end(archive) == "the message came too slowly"
    assert sop not in archive.instances()


def test_a_slow_modem_is_fast_enough(archive: Served) -> None:
    sop = "2.25.51"
    spoken = store(made(sop, 40_000), sop)
    with open_peer(archive) as peer:
        for at in range(0, len(spoken), 400):
            peer.say(spoken[at : at + 400])
            archive.advance(1.05)
        assert peer.answer().status == 0
        peer.release()
    archive.idle()


def test_who_does_not_read_its_answers_is_not_heard_and_then_cut(archive: Served) -> None:
    """Echoes without end: what is not taken stays bounded, and the slot comes back."""
    with Speaker(archive.port, holds=4096) as peer:
        assert isinstance(peer.associate(), AssociateAccept)
        peer.socket.setblocking(False)
        block, said = echo() * 500, 0
        (running,) = archive.server._running.values()
        wire = running._wire

        async def unsent() -> int:
            return wire.transport.get_write_buffer_size()

        stuck, seen = 0, 0
        while stuck < 2_000 and said < 100 << 20:  # turns of the loop in which it read nothing
            try:
                said += peer.socket.send(block[said % len(block) :])
            except BlockingIOError:
                assert archive.ask(unsent) < WRITE_MAX + 2 * BUFFER
                stuck = stuck + 1 if wire.blocked and wire.received == seen else 0
                seen = wire.received
        assert said < 100 << 20, "everything was taken in, whatever came of it"
        for _ in range(20):  # the system may still take some, which begins the period anew
            archive.advance(acceptor.RATE_PERIOD / 4)
            assert archive.ask(unsent) < WRITE_MAX + 2 * BUFFER
            if not archive.server._running:
                break
        archive.idle()
    assert archive.traces[-1]["end"] == "our answers were not taken, or too slowly"


def test_the_system_watches_for_pulled_cables(archive: Served) -> None:
    with open_peer(archive) as peer:
        (running,) = archive.server._running.values()
        handle = running._wire.transport.get_extra_info("socket")
        assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        every = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        count = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert idle + every * count <= GONE_SECONDS <= 60
        assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == GONE_SECONDS * 1000
        peer.release()


# ---------------------------------------------------------------- crowds


def test_associations_of_one_address_are_limited_and_others_still_get_in(archive: Served) -> None:
    mine = [open_peer(archive) for _ in range(TERMS.associations_per_address)]
    with Speaker(archive.port) as one_more:
        assert one_more.associate() == LIMIT
    with Speaker(archive.port, source="127.0.0.2") as neighbour:
        assert isinstance(neighbour.associate(), AssociateAccept)
        neighbour.release()
    for peer in mine:
        peer.release()
    archive.idle()
    open_peer(archive).release()
    archive.idle()


def test_associations_in_all_are_limited(archive: Served) -> None:
    held = []
    for number in range(TERMS.associations):
        peer = Speaker(archive.port, source=f"127.0.0.{number + 2}")
        assert isinstance(peer.associate(), AssociateAccept)
        held.append(peer)
    with Speaker(archive.port) as one_more:
        assert one_more.associate() == LIMIT
    held[0].release()
    archive.until(lambda: len(archive.server._running) <= TERMS.associations - 1, "one to end")
    open_peer(archive).release()
    for peer in held[1:]:
        peer.release()
    archive.idle()


def test_connections_that_say_nothing_keep_nobody_out(archive: Served) -> None:
    silent = [Speaker(archive.port, source="127.0.0.9") for _ in range(40)]
    with Speaker(archive.port) as peer:
        assert isinstance(peer.associate(), AssociateAccept)
        peer.release()
    cut = 0
    for each in silent:
        each.socket.settimeout(0.05)
        try:
            cut += each.ended() if each.socket.recv(1) == b"" else 0
        except TimeoutError:
            pass
        except OSError:
            cut += 1
    assert cut == 40 - 2 * TERMS.associations_per_address, "unheard connections of one address"
    for each in silent:
        each.cut(reset=False)
    archive.idle()


def test_requests_under_way_are_limited_and_all_are_answered(archive: Served) -> None:
    with open_peer(archive) as peer:
        peer.say(b"".join(echo(number + 1) for number in range(300)))
        assert {peer.answer().message_id for _ in range(300)} == set(range(1, 301))
        peer.release()
    archive.idle()


# ---------------------------------------------------------------- the end of the process


def test_at_the_end_what_is_under_way_is_finished(tmp_path: Path) -> None:
    """Who is storing goes on to its release; who is silent is aborted; nobody is let in who came too late."""
    with served(tmp_path / "home", Setting(TERMS)) as archive:
        storing, idle, waiting = open_peer(archive), open_peer(archive), Speaker(archive.port)
        archive.until(lambda: len(archive.server._running) == 3, "three connections")
        first, second = "2.25.60", "2.25.61"
        spoken = store(made(first, 2000), first, 1)
        storing.say(spoken[:700])
        stopping = asyncio.run_coroutine_threadsafe(archive.server.stop(), archive.loop)
        archive.until(lambda: archive.server._stopping, "the end to begin")
        with pytest.raises(OSError):
            late = Speaker(archive.port)
            late.associate()
        assert isinstance(waiting.associate(), AssociateAccept), "it was here before: none is refused in a restart"
        waiting.release()
        storing.say(spoken[700:])
        assert storing.answer().status == 0
        storing.say(store(made(second), second, 2))
        assert storing.answer().status == 0
        storing.release()
        archive.advance(acceptor.DRAIN_IDLE + 2)
        assert idle.pdu() == Abort(0, 0)
        idle.cut(reset=False)
        stopping.result(10)
        assert {trace["end"] for trace in archive.traces} == {"released", "this process ends; call again"}
        assert archive.instances() == {first, second}


def test_who_never_ends_is_aborted_between_two_messages(tmp_path: Path) -> None:
    with served(tmp_path / "home", Setting(TERMS)) as archive:
        stored: list[str] = []
        with open_peer(archive) as peer:
            stopping = asyncio.run_coroutine_threadsafe(archive.server.stop(), archive.loop)
            with pytest.raises((Ended, OSError, AssertionError)):  # an A-ABORT where an answer was awaited
                for number in range(200):
                    sop = f"2.25.7{number}"
                    peer.say(store(made(sop), sop, number + 1))
                    assert peer.answer().status == 0
                    stored.append(sop)
                    archive.advance(0.3, 0.1)
        stopping.result(10)
        assert len(stored) * 0.3 >= acceptor.DRAIN_SECONDS - 1.5
        assert archive.traces[-1]["end"] == "this process ends; call again"
        assert set(stored) <= archive.instances()


def test_who_hangs_in_a_message_is_aborted_at_last(tmp_path: Path) -> None:
    sop = "2.25.80"
    with served(tmp_path / "home", Setting(TERMS)) as archive, open_peer(archive) as peer:
        peer.say(store(made(sop, 9000), sop)[:5000])
        stopping = asyncio.run_coroutine_threadsafe(archive.server.stop(), archive.loop)
        archive.advance(server.STOP_SECONDS + 2)
        assert peer.pdu() == Abort(0, 0)
        stopping.result(10)
        assert archive.instances() == set()


# ---------------------------------------------------------------- cancelling


def test_a_cancel_that_comes_for_nothing_is_passed_over(archive: Served) -> None:
    cancel = Command.of("C-CANCEL-RQ", MessageIDBeingRespondedTo=77)
    with open_peer(archive) as peer:
        peer.say(b"".join(message(STORE_ID, cancel, None, 0)) + echo(3))
        assert peer.answer().message_id == 3
        peer.release()
    archive.idle()
