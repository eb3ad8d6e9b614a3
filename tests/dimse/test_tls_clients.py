"""Certificates of devices that are only asked for (`dimse.tls_clients = asked`), or not (`off`): with DCMTK and pynetdicom."""

from __future__ import annotations

import gc
import ssl
import subprocess
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from radiolith.archive.associations import hints
from radiolith.traces import Ring
from radiolith.trust.certificates import Certificates
from radiolith.trust.devices import STRANGERS
from tests.archive.homes import principal
from tests.dimse.authorities import Authority, Pair
from tests.dimse.peers import program
from tests.dimse.served import AET, Served, Setting, served
from tests.dimse.test_tls import dimse

PEERS = {
    "NEAR": {"address": "127.0.0.1"},
    "NET": {"address": "127.0.0.0/8"},
    "PLAIN": {"address": "127.0.0.1", "tls": False},
    "FAR": {"address": "10.9.9.9"},
    "NAMED": {"address": "10.9.9.9", "certificate": "ct1.example"},
    "PINNED": {"address": "127.0.0.1", "certificate": "ct1.example"},
}


@dataclass
class Door:
    """`good`: a certificate with the name ct1.example; `bad` is of an authority that is not believed, `old` has expired."""

    found: Served
    authority: str
    good: Pair
    bad: Pair
    old: Pair

    def echo(self, title: str, pair: Pair | None = None) -> bool:
        """By DCMTK and by pynetdicom, with a certificate or without; they are treated alike."""
        ways = {self._dcmtk(title, pair), self._pynetdicom(title, pair)}
        assert len(ways) == 1, ways
        return ways.pop()

    def _dcmtk(self, title: str, pair: Pair | None) -> bool:
        own = ("+tls", pair.key, pair.certificate) if pair else ("+tla",)
        command = [program("echoscu"), *own, "+cf", self.authority, "-aet", title, "-aec", AET, *self.found.peer]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    def _pynetdicom(self, title: str, pair: Pair | None) -> bool:
        context = ssl.create_default_context(cafile=self.authority)
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        entity = AE(title)
        entity.add_requested_context(Verification)
        found = entity.associate("127.0.0.1", self.found.port, ae_title=AET, tls_args=(context, "127.0.0.1"))
        if not found.is_established:
            del found, entity
            with warnings.catch_warnings():  # it leaves a socket behind when a handshake fails
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
            return False
        good = found.send_c_echo().Status == 0
        found.release()
        return good

    def why_not(self, title: str, pair: Pair | None = None) -> str:
        """It is refused: how each of the two associations ended, and what is to be done about it."""
        self.found.idle()
        before = len(self.found.traces)
        assert not self.echo(title, pair)
        self.found.until(lambda: len(self.found.traces) >= before + 2, "traces")
        graph = self.found.graph
        peers = self.found.ask(lambda: graph.accounts.peers(principal(graph)))
        said = {
            f"{one['rejection'] or one['end']} | {' '.join(hints(one, [AET], peers))}"
            for one in self.found.traces[before:]
        }
        assert len(said) == 1, said
        return said.pop()


@contextmanager
def door(folder: Path, clients: str, age: int = 25) -> Generator[Door]:
    authority, foreign = Authority(folder), Authority(folder, "foreign")
    own = authority.sign("127.0.0.1", file="own")
    tls = Certificates(dimse(own, authority, tls_clients=clients))
    with served(folder / "home", Setting(near=False, age=age, tls=tls)) as found:
        who, accounts = principal(found.graph), found.graph.accounts
        for name, more in PEERS.items():
            about = {"aet": name, "port": 104, "tls": True} | more
            found.ask(lambda name=name, about=about: accounts.add_peer(who, name.lower(), about))
        pairs = (
            authority.sign("ct1.example", file="good"),
            foreign.sign("ct1.example", file="bad"),
            authority.sign("ct1.example", days=(-9, -1), file="old"),
        )
        yield Door(found, authority.file, *pairs)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with door(tmp_path_factory.mktemp("asked"), "asked") as found:
        yield found


@pytest.fixture(scope="module")
def off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with door(tmp_path_factory.mktemp("off"), "off") as found:
        yield found


def test_asked_and_none_shown_network_and_title_say_who_it_is(asked: Door) -> None:
    for title in ("NEAR", "NET", "PLAIN"):
        assert asked.echo(title), title
    for title in ("FAR", "NOBODY"):
        assert "calling-AE-title-not-recognized" in asked.why_not(title), title
    for title in ("NAMED", "PINNED"):  # is to show its certificate, whatever its address
        assert "shows no certificate" in asked.why_not(title)


def test_asked_and_one_shown_its_names_say_who_it_is(asked: Door) -> None:
    for title in ("NAMED", "PINNED"):
        assert asked.echo(title, asked.good), title
    assert "'ct1.example'" in asked.why_not("NEAR", asked.good)  # the address does not help one that says another name


def test_asked_and_a_bad_one_shown_it_is_refused(asked: Door) -> None:
    for title in ("NEAR", "PINNED"):
        assert "not trusted here" in asked.why_not(title, asked.bad)
        assert "has expired" in asked.why_not(title, asked.old)
    assert asked.echo("NEAR")


def test_off_asks_for_none_and_looks_at_none(off: Door) -> None:
    for pair in (None, off.good, off.bad, off.old):
        assert off.echo("NEAR", pair) and off.echo("NET", pair)
    assert "calling-AE-title-not-recognized" in off.why_not("FAR", off.good)
    for title in ("NAMED", "PINNED"):  # nothing that it shows is seen
        assert "dimse.tls_clients" in off.why_not(title, off.good)


def test_a_stranger_with_a_certificate_is_accepted_by_it(tmp_path: Path) -> None:
    """Its address would not do: what it shows has another name."""
    with door(tmp_path, "asked", age=0) as young:
        found, graph = young.found, young.found.graph
        assert young.echo("NEW", young.good)  # as a stranger, on the day of the installation
        found.idle()
        for trace in found.traces:
            Ring(graph.settings.home, "worker 0").append(trace)
        devices: Any = found.node.devices
        now = devices._clock
        devices._clock = lambda: now() + 2 * STRANGERS
        accepted = found.ask(lambda: graph.peers.accept(principal(graph), "NEW"))
        assert (accepted.tls, accepted.certificate, accepted.port) == (True, "ct1.example", 2762)
        devices._known.clear()
        assert young.echo("NEW", young.good)
        assert "shows no certificate" in young.why_not("NEW")
