"""Tokens, passwords and sessions against a real home."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from radiolith.app import Graph
from radiolith.index import audit
from radiolith.model import AuditEvent, Conflict, NotAllowed, NotAuthenticated, NotFound
from radiolith.trust import identity
from radiolith.trust.audit import TALLIES
from tests.archive.homes import opened, principal


async def test_a_token_works_until_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "REMEMBER", 0)
    async with opened(tmp_path / "home") as graph:
        who = graph.accounts.system("test")
        token = await graph.accounts.add_token(who, "gateway", "writer")
        found = await graph.identities.from_bearer(token)
        assert (found.name, found.role, found.tenant.name) == ("gateway", "writer", "default")
        with pytest.raises(NotAuthenticated):
            await graph.identities.from_bearer(token + "x")
        listed = await graph.accounts.tokens(who)
        assert token not in repr(listed)
        await graph.accounts.remove_token(who, listed[0].secret)
        with pytest.raises(NotAuthenticated):
            await graph.identities.from_bearer(token)


async def test_an_expired_token_is_none(tmp_path: Path) -> None:
    async with opened(tmp_path / "home") as graph:
        token = await graph.accounts.add_token(graph.accounts.system("test"), "old", "reader", expires=1)
        with pytest.raises(NotAuthenticated):
            await graph.identities.from_bearer(token)


async def test_sign_in_session_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "REMEMBER", 0)
    async with opened(tmp_path / "home") as graph:
        who = graph.accounts.system("test")
        password = await graph.accounts.add_user(who, "Jürgen", "reader")
        cookie = await graph.identities.sign_in("Jürgen", password, "127.0.0.1")
        assert (await graph.identities.from_session(cookie)).name == "Jürgen"
        await graph.identities.sign_out(cookie)
        with pytest.raises(NotAuthenticated):
            await graph.identities.from_session(cookie)


async def test_removing_a_user_ends_its_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "REMEMBER", 0)
    async with opened(tmp_path / "home") as graph:
        who = graph.accounts.system("test")
        password = await graph.accounts.add_user(who, "eve", "admin")
        cookie = await graph.identities.sign_in("eve", password, "127.0.0.1")
        await graph.accounts.remove_user(who, "eve")
        with pytest.raises(NotAuthenticated):
            await graph.identities.from_session(cookie)


async def test_what_comes_in_and_what_does_not_is_on_record(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with opened(home, environ={"RADIOLITH_LIMITS_SIGN_IN_ATTEMPTS": "2"}) as graph:
        password = await graph.accounts.add_user(graph.accounts.system("test"), "anna", "reader")
        cookie = await graph.identities.sign_in("anna", password, "10.0.0.1")
        await graph.identities.sign_out(cookie)
        await graph.identities.sign_out(cookie)  # nobody is signed in any more
        for _ in range(2):
            with pytest.raises(NotAuthenticated):
                await graph.identities.sign_in("anna", "wrong password", "10.0.0.2")
        for _ in range(3):
            with pytest.raises(NotAllowed):
                await graph.identities.sign_in("anna", password, "10.0.0.2")
        for number in range(5):
            with pytest.raises(NotAuthenticated):
                await graph.identities.from_bearer(f"guess {number}", "10.0.0.3")
    async with opened(home) as graph:
        found = trail(graph)
    kept = {
        (e.action, e.purpose, e.outcome, e.principal, e.source): e.count for e in found if e.action.startswith("log")
    }
    assert kept == {
        ("login", "", "success", "anna", "10.0.0.1"): 1,
        ("logout", "", "success", "anna", "10.0.0.1"): 1,
        ("login", "password", "failure", "anna", "10.0.0.2"): 2,
        ("login", "password", "refused", "anna", "10.0.0.2"): 3,
        ("login", "token", "failure", "", "10.0.0.3"): 5,
    }


async def test_a_flood_of_bad_tokens_does_not_fill_the_trail(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with opened(home) as graph:
        for number in range(TALLIES * 3):
            graph.identities._tell(
                AuditEvent(1, 0, "", "login", "", "token", "failure", f"10.0.{number % 256}.{number}")
            )
    async with opened(home) as graph:
        found = [event for event in trail(graph) if event.purpose == "token"]
    assert len(found) == TALLIES + 1
    assert sum(event.count for event in found) == TALLIES * 3
    assert max(event.count for event in found if event.detail == "and others") > 1


async def test_lists_of_people_tokens_and_peers_are_on_record(tmp_path: Path) -> None:
    async with opened(tmp_path / "home") as graph:
        who = principal(graph)
        for listed in (graph.accounts.users, graph.accounts.tokens, graph.accounts.peers):
            await listed(who)
        assert {event.purpose for event in trail(graph) if event.action == "accounts"} == {"users", "tokens", "peers"}
        with pytest.raises(NotAllowed):
            await graph.accounts.tokens(principal(graph, "reader"))


async def test_a_token_is_revoked_by_id_or_by_a_name_that_is_one_tokens_own(tmp_path: Path) -> None:
    async with opened(tmp_path / "home") as graph:
        who = principal(graph)
        for name in ("ct", "ct", "mr"):
            await graph.accounts.add_token(who, name, "writer")
        with pytest.raises(Conflict, match="2 tokens"):
            await graph.accounts.revoke_token(who, "ct")
        with pytest.raises(NotFound):
            await graph.accounts.revoke_token(who, "xa")
        assert (await graph.accounts.revoke_token(who, "mr")).name == "mr"
        first = (await graph.accounts.tokens(who))[0]
        await graph.accounts.revoke_token(who, first.id)
        assert [token.name for token in await graph.accounts.tokens(who)] == ["ct"]


async def test_a_revoked_token_is_none_within_a_second_for_every_worker(tmp_path: Path, monkeypatch: Any) -> None:
    now = [100.0]
    monkeypatch.setattr(identity.time, "monotonic", lambda: now[0])
    home = tmp_path / "home"
    async with opened(home) as one, opened(home, name="w2") as other:
        token = await one.accounts.add_token(principal(one), "ct", "writer")
        for graph in (one, other):
            await graph.identities.from_bearer(token)
        await other.accounts.revoke_token(principal(other), "ct")
        now[0] += 0.99
        for graph in (one, other):
            with pytest.raises(NotAuthenticated):
                await graph.identities.from_bearer(token)


def trail(graph: Graph) -> list[AuditEvent]:
    with graph.database.read() as read:
        return [event for _, event in audit.events(read, principal(graph).tenant.id, limit=2000)]
