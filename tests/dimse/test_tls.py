"""DICOM over TLS in both directions: who gets in, who does not and why, with DCMTK, pynetdicom and ourselves."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from radiolith import config
from radiolith.archive.associations import hints
from radiolith.dimse import asking, handshake
from radiolith.dimse.diagnosis import diagnose
from radiolith.dimse.handshake import Listener
from radiolith.dimse.scu import Target, Unreachable, connect
from radiolith.dimse.sending import Lost
from radiolith.dimse.wire import Wire
from radiolith.model import BadInput
from radiolith.trust.certificates import LOOK, Certificates
from radiolith.trust.devices import Knock, UnknownCalling
from tests.archive.homes import principal
from tests.archive.objects import ROOT, Made, numbered
from tests.dimse.authorities import Authority, Pair
from tests.dimse.peers import program, running
from tests.dimse.served import AET, Served, Setting, served
from tests.dimse.speaker import Speaker
from tests.dimse.test_delivery import dataset


@dataclass
class World:
    """`good`: the archive's certificates; `device` one that it believes, `foreign` one that it does not."""

    folder: Path
    authority: Authority
    foreign: Authority
    own: Pair
    device: Pair
    found: Served

    def dimse(self, **changed: Any) -> config.Dimse:
        return dimse(self.own, self.authority, **changed)

    def context(self, pair: Pair | None = None, authority: Authority | None = None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=(authority or self.authority).file)
        if pair is not None:
            made.load_cert_chain(pair.certificate, pair.key)
        return made

    def target(self, **changed: Any) -> Target:
        tls = Certificates(self.dimse(tls_certificate=self.device.certificate, tls_key=self.device.key, **changed))
        return Target(AET, "127.0.0.1", self.found.port, tls.client())

    def failed(self, before: int) -> str:
        """How the connection after the `before` ones ended, and what is said about it. An association of an earlier test may
        end, and leave its trace, only now."""

        def those() -> list[dict[str, Any]]:
            return [one for one in self.found.traces[before:] if one["outcome"] == "no association was requested"]

        self.found.until(those, "a trace")
        (trace,) = those()
        assert trace["address"] == "127.0.0.1"
        (hint,) = hints(trace, [AET], [])
        assert hint
        return f"{trace['end']} | {hint}"


def dimse(own: Pair, authority: Authority, **changed: Any) -> config.Dimse:
    given: dict[str, Any] = {"tls_certificate": own.certificate, "tls_key": own.key, "tls_authorities": authority.file}
    return config.Dimse(**given | changed)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("tls")
    authority, foreign = Authority(folder), Authority(folder, "foreign")
    own, device = authority.sign("127.0.0.1", file="own"), authority.sign("ct1.example", "127.0.0.1", file="device")
    tls = Certificates(dimse(own, authority))
    with served(folder / "home", Setting(near=False, age=25, tls=tls)) as found:
        who, accounts = principal(found.graph), found.graph.accounts
        for name, more in {
            "CT1": {"address": "ct1.example"},
            "PINNED": {"address": "10.9.9.0/24", "certificate": "CT1.example"},
            "OTHER": {"address": "mr.example"},
        }.items():
            about = {"aet": name, "port": 104, "tls": True} | more
            found.ask(lambda name=name, about=about: accounts.add_peer(who, name.lower(), about))
        yield World(folder, authority, foreign, own, device, found)


def dcmtk(world: World, name: str, *words: str, pair: Pair | None = None, title: str = "CT1") -> int:
    pair = pair or world.device
    tls = ("+tls", pair.key, pair.certificate, "+cf", world.authority.file)
    done = subprocess.run(
        [program(name), *tls, "-aet", title, "-aec", AET, *world.found.peer, *words],
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    return done.returncode


# ---------------------------------------------------------------- who gets in


def test_dcmtk_echoes_and_stores_by_its_certificate(world: World) -> None:
    assert dcmtk(world, "echoscu") == 0
    assert dcmtk(world, "echoscu", title="PINNED") == 0
    _, _, sop, data = numbered(9, 1)
    path = world.folder / "one.dcm"
    path.write_bytes(data)
    assert dcmtk(world, "storescu", str(path)) == 0
    assert sop in world.found.instances()
    before = len(world.found.traces)
    assert dcmtk(world, "echoscu", title="OTHER") != 0  # a good certificate, of another device
    world.found.until(lambda: any("rejected" in one["outcome"] for one in world.found.traces[before:]), "a trace")


def test_pynetdicom_over_each_version(world: World) -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = world.context(world.device)
        context.minimum_version = context.maximum_version = version
        entity = AE("CT1")
        entity.add_requested_context(Verification)
        found = entity.associate("127.0.0.1", world.found.port, ae_title=AET, tls_args=(context, "127.0.0.1"))
        assert found.is_established
        assert found.send_c_echo().Status == 0
        found.release()


def test_a_large_object_is_the_same_behind_tls(world: World) -> None:
    made = Made(f"{ROOT}.97", f"{ROOT}.97.1", f"{ROOT}.97.1.1", pixels=os.urandom(24 << 20))
    path = world.folder / "large.dcm"
    path.write_bytes(made.part10())
    assert dcmtk(world, "storescu", str(path)) == 0
    graph = world.found.graph

    async def kept() -> bytes:
        (held,) = await graph.archive.retrieve.locate(principal(graph), made.study)
        return await dataset(graph, held)

    assert world.found.ask(kept) == made.dataset()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_ourselves_to_ourselves_on_both_loops(world: World, loop: Any) -> None:
    async def echo() -> None:
        async with connect(world.target(), asking.for_echo(), "CT1") as association:
            await asking.echo(association)
        while not association._wire.ended:  # noqa: ASYNC110 - TLS has an end of its own
            await asyncio.sleep(0.005)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(echo())


# ---------------------------------------------------------------- who does not, and why


def refused(world: World, context: ssl.SSLContext) -> str:
    """Try; what the trace says."""
    before = len(world.found.traces)
    with socket.create_connection(("127.0.0.1", world.found.port)) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as found:
                found.settimeout(10)
                assert not found.recv(1)
        except OSError:
            pass
    return world.failed(before)


def test_certificates_that_are_not_believed(world: World) -> None:
    assert "shows no certificate" in refused(world, world.context())
    stranger = world.foreign.sign("ct1.example", file="stranger")
    assert "not trusted here" in refused(world, world.context(stranger))
    old = world.authority.sign("ct1.example", days=(-9, -1), file="old")
    assert "has expired" in refused(world, world.context(old))
    early = world.authority.sign("ct1.example", days=(1, 9), file="early")
    assert "not valid yet" in refused(world, world.context(early))
    assert "CA of our certificate" in refused(world, world.context(world.device, world.foreign))
    assert dcmtk(world, "echoscu") == 0  # the next one gets in


def test_protocols_that_are_not_spoken(world: World) -> None:
    before = len(world.found.traces)
    with Speaker(world.found.port) as peer, pytest.raises(Exception):  # noqa: B017
        peer.associate()
    assert "plain DICOM" in world.failed(before)
    before = len(world.found.traces)
    with socket.create_connection(("127.0.0.1", world.found.port)) as web:
        web.sendall(b"GET / HTTP/1.1\r\n\r\n")
        web.recv(100)
    assert "speaks HTTP" in world.failed(before)
    weak = world.context(world.device)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
    assert "no cipher suite" in refused(world, weak)
    old = world.context(world.device)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    assert "too old" in refused(world, old)


def test_a_slow_handshake_ends_and_counts_until_then(world: World) -> None:
    before = len(world.found.traces)
    with socket.create_connection(("127.0.0.1", world.found.port)) as slow:
        slow.sendall(b"\x16\x03\x01")
        world.found.until(lambda: world.found.node.held.connections.taken() == 1, "a slot")
        world.found.advance(handshake.HANDSHAKE_SECONDS + 1)
        assert "not over within 10 s" in world.failed(before)
    world.found.idle()


def test_plain_connections_of_a_peer_with_tls(world: World) -> None:
    """Neither its address nor its title helps it; nor does TLS without the certificate that is known of it."""
    devices = world.found.node.devices
    names = frozenset({"ct1.example"})
    admitted = world.found.ask(lambda: devices.admit(Knock("PINNED", AET, "127.0.0.1", names, True)))
    assert admitted.peer == "pinned"
    for knock in (
        Knock("PINNED", AET, "10.9.9.9", frozenset(), True),
        Knock("PINNED", AET, "10.9.9.9", frozenset(), False),
        Knock("PINNED", AET, "10.9.9.9", frozenset({"10.9.9.9"}), True),
        Knock("CT1", AET, "127.0.0.1", names, False),
    ):
        with pytest.raises(UnknownCalling):
            world.found.ask(lambda knock=knock: devices.admit(knock))


# ---------------------------------------------------------------- the peers that we call


async def test_we_say_why_a_peer_is_not_believed(world: World) -> None:
    async def said(target: Target) -> str:
        steps = [step async for step in diagnose(target, "CT1")]
        assert not steps[-1].good
        return steps[-1].words

    port = world.found.port
    foreign = Certificates(dimse(world.device, world.foreign)).client()
    assert "not trusted here" in await said(Target(AET, "127.0.0.1", port, foreign))
    good = world.target().tls
    assert "another name" in await said(Target(AET, "127.0.0.1", port, good, certificate="elsewhere.example"))
    bare = Certificates(config.Dimse(tls_authorities=world.authority.file)).client()
    assert "accept our certificate" in await said(Target(AET, "127.0.0.1", port, bare))
    steps = [step async for step in diagnose(world.target(), "CT1")]
    assert steps[-1].good, steps


async def test_storescp_with_tls_is_a_peer(world: World, tmp_path: Path) -> None:
    tls = ("+tls", world.own.key, world.own.certificate, "+cf", world.authority.file)
    async with running("storescp", *tls, "-od", str(tmp_path), aet="STORE") as peer:
        target = Target(peer.aet, peer.host, peer.port, world.target().tls)
        async with connect(target, asking.for_echo(), "ME") as association:
            await asking.echo(association)
        bare = Certificates(config.Dimse(tls_authorities=world.authority.file)).client()
        with pytest.raises(Lost, match=r"certificate of ours|accept our certificate"):
            async with connect(Target(peer.aet, peer.host, peer.port, bare), asking.for_echo(), "ME"):
                pass
        with pytest.raises(Unreachable, match="not trusted here"):
            foreign = Certificates(dimse(world.device, world.foreign)).client()
            async with connect(Target(peer.aet, peer.host, peer.port, foreign), asking.for_echo(), "ME"):
                pass


# ---------------------------------------------------------------- files


def test_new_files_are_taken_up_and_bad_ones_are_not(tmp_path: Path) -> None:
    now = [100.0]
    authority = Authority(tmp_path)
    pair = authority.sign("here", file="own")
    found = Certificates(dimse(pair, authority), monotonic=lambda: now[0])
    first = found.server()
    authority.sign("here", file="own")
    assert found.server() is first  # looked at once a second at most
    now[0] += LOOK
    second = found.server()
    assert second is not first
    good = Path(pair.certificate).read_bytes()
    Path(pair.certificate).write_text("nothing")
    now[0] += LOOK
    assert found.server() is second and found.client()
    Path(pair.certificate).unlink()
    now[0] += LOOK
    assert found.server() is second
    Path(pair.certificate).write_bytes(good)
    now[0] += LOOK
    assert found.server() is not second


def test_what_is_wrong_with_the_files_is_said(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, other = authority.sign("here", file="own"), authority.sign("there", file="other")
    gone = str(tmp_path / "gone.pem")
    expired = authority.sign("here", days=(-9, -1), file="expired")
    wrong = {
        "names no file, and the port": config.Dimse(),
        "names no file, and a certificate and its key": config.Dimse(tls_certificate=pair.certificate),
        "names no file, and devices": dimse(pair, authority, tls_authorities=""),
        "gone.pem cannot be read": dimse(pair, authority, tls_key=gone),
        "no private key": dimse(pair, authority, tls_key=pair.certificate),
        "no certificate in PEM": dimse(pair, authority, tls_authorities=pair.key),
        "is not the key of": dimse(pair, authority, tls_key=other.key),
        "expired on": dimse(expired, authority),
    }
    for words, settings in wrong.items():
        with pytest.raises(BadInput, match=words):
            Certificates(settings).server()
    assert Certificates(dimse(pair, authority, tls_authorities="", tls_clients="off")).server().verify_mode == 0


def test_the_listener_on_the_loop_of_the_workers(world: World) -> None:
    """What a peer sends together with the end of its handshake is not lost, and a slot is given back once."""

    async def run() -> tuple[list[bytes], list[str]]:
        got, why, names = list[bytes](), list[str](), list[frozenset[str]]()
        done = asyncio.Event()

        def opened(wire: Wire, address: str) -> None:
            async def read() -> None:
                got.append(bytes(await wire.receive()))
                names.append(wire.names)
                wire.cut()
                done.set()

            tasks.append(asyncio.ensure_future(read()))

        tasks: list[asyncio.Task[None]] = []
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        found = Listener(Certificates(world.dimse()), lambda address: True, opened, lambda a, w: why.append(w))
        found.start(listening)
        await asyncio.to_thread(_eager, world.context(world.device), listening.getsockname()[1])
        await asyncio.wait_for(done.wait(), 10)
        await found.stop()
        assert names == [{"ct1.example", "127.0.0.1"}]
        return got, why

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()) == ([b"x" * 5000], [])


def _eager(context: ssl.SSLContext, port: int) -> None:
    """The end of the handshake and data in one segment."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port)) as plain:
        while True:
            try:
                peer.do_handshake()
                break
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
                incoming.write(plain.recv(65536))
        peer.write(b"x" * 5000)
        plain.sendall(outgoing.read())
        plain.settimeout(10)
        with_end = b"?"
        while with_end:
            try:
                with_end = plain.recv(65536)
            except OSError:
                return
