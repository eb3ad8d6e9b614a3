"""Tokens, passwords and sessions against a real home."""

from __future__ import annotations

from pathlib import Path

import pytest

from radiolith.model import NotAllowed, NotAuthenticated
from radiolith.trust import identity
from tests.archive.homes import opened


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


async def test_wrong_passwords_are_counted_and_then_refused_unheard(tmp_path: Path) -> None:
    async with opened(tmp_path / "home", environ={"RADIOLITH_LIMITS_SIGN_IN_ATTEMPTS": "3"}) as graph:
        who = graph.accounts.system("test")
        password = await graph.accounts.add_user(who, "anna", "reader")
        for _ in range(3):
            with pytest.raises(NotAuthenticated):
                await graph.identities.sign_in("anna", "wrong password", "10.0.0.1")
        with pytest.raises(NotAllowed):
            await graph.identities.sign_in("anna", password, "10.0.0.2")
