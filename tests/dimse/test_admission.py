"""Who is let in, as whom, and how the others are refused: titles, addresses, user identities."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE, build_context
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import Verification

from radiolith.dimse.items import Identity
from radiolith.dimse.pdu import AssociateAccept, AssociateReject
from tests.archive.homes import principal
from tests.archive.objects import Made
from tests.dimse.served import Served, Setting, served
from tests.dimse.speaker import AET, Speaker, echo, store

CALLED, CALLING, IDENTITY = AssociateReject(1, 1, 7), AssociateReject(1, 1, 3), AssociateReject(1, 2, 1)
PASSWORD = "a long enough one"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("open") / "home") as found:
        yield found


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Other machines may call, so loopback is no proof. One peer, one token, one user; a title of a tenant not there."""
    titles = {AET: "default", "SECOND": "default", "NOBODYS": "gone"}
    with served(tmp_path_factory.mktemp("closed") / "home", Setting(titles=titles, near=False, age=25)) as found:
        who, accounts = principal(found.graph), found.graph.accounts
        scanner = {"aet": "SCANNER", "address": "127.0.0.3", "port": 104}
        found.ask(lambda: accounts.add_peer(who, "scanner", scanner))
        found.ask(lambda: accounts.add_peer(who, "net", {"aet": "NET", "address": "127.0.1.0/24", "port": 104}))
        found.ask(lambda: accounts.add_peer(who, "named", {"aet": "NAMED", "address": "localhost", "port": 104}))
        found.ask(lambda: accounts.add_user(who, "ann", "editor", PASSWORD))
        found.token = found.ask(lambda: accounts.add_token(who, "device", "editor"))
        yield found


@pytest.mark.parametrize("nobody", ["ELSEWHERE", "radiolith", "RADIOLITH2", "X" * 16])
def test_a_title_that_is_not_ours(archive: Served, nobody: str) -> None:
    with Speaker(archive.port) as peer:
        assert peer.associate(called=nobody) == CALLED


def test_who_may_call_when_loopback_is_not_open(closed: Served) -> None:
    tries = {
        ("SCANNER", "127.0.0.3", AET): None,
        ("SCANNER", "127.0.0.3", "SECOND"): None,
        ("NET", "127.0.1.77", AET): None,
        ("NAMED", "127.0.0.1", AET): None,
        ("SCANNER", "127.0.0.4", AET): CALLING,  # the title alone is no identity
        ("SCANNER", "127.0.0.1", AET): CALLING,
        ("scanner", "127.0.0.3", AET): CALLING,
        ("NET", "127.0.2.1", AET): CALLING,
        ("OTHER", "127.0.0.3", AET): CALLING,
        ("SCANNER", "127.0.0.3", "ELSEWHERE"): CALLED,
        ("SCANNER", "127.0.0.3", "NOBODYS"): CALLED,
    }
    for (calling, source, called), refused in tries.items():
        with Speaker(closed.port, source=source) as peer:
            answer = peer.associate(calling=calling, called=called)
            assert (answer if refused else isinstance(answer, AssociateAccept)) == (refused or True), (calling, source)
    closed.idle()
    told = [str(trace["outcome"]) for trace in closed.traces]
    assert any(one.startswith("rejected") and "NOBODYS" in one for one in told), told


def test_a_removed_peer_is_out_within_a_second(closed: Served) -> None:
    who, accounts = principal(closed.graph), closed.graph.accounts
    closed.ask(lambda: accounts.add_peer(who, "guest", {"aet": "GUEST", "address": "127.0.0.8", "port": 104}))

    def knock() -> bool:
        with Speaker(closed.port, source="127.0.0.8") as peer:
            return isinstance(peer.associate(calling="GUEST"), AssociateAccept)

    deadline = time.monotonic() + 10
    while not knock():
        assert time.monotonic() < deadline
    removed = time.monotonic()
    closed.ask(lambda: accounts.remove_peer(who, "guest"))
    while knock():
        assert time.monotonic() < removed + 10
    closed.idle()


def test_user_identities(closed: Served) -> None:
    def knock(kind: int, first: str | bytes, second: str = "") -> object:
        primary = first if isinstance(first, bytes) else first.encode()
        identity = Identity(kind, True, primary, second.encode())
        with Speaker(closed.port, source="127.0.0.3") as peer:
            return peer.associate(calling="SCANNER", identity=identity)

    good = knock(2, "ann", PASSWORD)
    assert isinstance(good, AssociateAccept) and good.user.identity_response == b""
    closed.idle()
    assert closed.traces[-1]["principal"] == "ann"
    assert isinstance(knock(5, closed.token), AssociateAccept)
    assert knock(2, "ann", "a wrong password") == IDENTITY
    assert knock(2, "nobody", PASSWORD) == IDENTITY
    assert knock(5, "rl_nonsense") == IDENTITY
    assert knock(1, "ann") == IDENTITY, "a name alone"
    assert knock(3, b"ticket") == IDENTITY and knock(4, b"<saml/>") == IDENTITY
    assert knock(2, b"\xff\xfe", PASSWORD) == IDENTITY
    closed.idle()
    with Speaker(closed.port, source="127.0.0.5") as peer:
        stranger = peer.associate(identity=Identity(2, False, b"ann", PASSWORD.encode()))
        assert stranger == CALLING, "a password does not replace a listed device"


def test_a_password_makes_no_device_of_a_stranger(tmp_path: Path) -> None:
    """On the day on which strangers are let in: what one sends is set aside, whoever uses it."""
    with served(tmp_path / "home", Setting(near=False)) as young:
        who, accounts = principal(young.graph), young.graph.accounts
        token = young.ask(lambda: accounts.add_token(who, "device", "admin"))
        with Speaker(young.port) as peer:
            assert peer.associate(identity=Identity(5, False, b"rl_nonsense")) == IDENTITY
        with Speaker(young.port) as peer:
            assert isinstance(peer.associate(identity=Identity(5, False, token.encode())), AssociateAccept)
            peer.say(store(Made("2.25.16", "2.25.17", "2.25.18").dataset(), "2.25.18"))
            assert peer.answer().status == 0
            peer.release()
        assert young.instances() == set()


def test_pynetdicom_with_a_user(archive: Served) -> None:
    who, accounts = principal(archive.graph), archive.graph.accounts
    archive.ask(lambda: accounts.add_user(who, "bob", "editor", PASSWORD))
    entity = AE("PYNET")
    entity.requested_contexts = [build_context(Verification)]
    for passcode, right in ((PASSWORD, True), ("another one, wrong", False)):
        identity = UserIdentityNegotiation()
        identity.user_identity_type, identity.positive_response_requested = 2, True
        identity.primary_field, identity.secondary_field = b"bob", passcode.encode()
        association = entity.associate("127.0.0.1", archive.port, ae_title=AET, ext_neg=[identity])
        assert association.is_established == right and association.is_rejected != right
        if right:
            assert association.send_c_echo().Status == 0
            association.release()
        else:
            primitive = association.acceptor.primitive
            assert (primitive.result, primitive.result_source, primitive.diagnostic) == (1, 2, 1)
    archive.idle()


def test_a_reader_may_look_and_not_store(closed: Served) -> None:
    who, accounts = principal(closed.graph), closed.graph.accounts
    token = closed.ask(lambda: accounts.add_token(who, "viewer", "reader"))
    with Speaker(closed.port, source="127.0.0.3") as peer:
        accept = peer.associate(calling="SCANNER", identity=Identity(5, False, token.encode()))
        assert isinstance(accept, AssociateAccept)
        peer.say(store(Made("2.25.9", "2.25.10", "2.25.11").dataset(), "2.25.11") + echo(2))
        assert {peer.answer().status, peer.answer().status} == {0x0124, 0}
        peer.release()
    assert "2.25.11" not in closed.instances()
