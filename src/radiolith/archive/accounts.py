"""Users, tokens and peers: made, listed and removed, as facts.

Must never: keep, log or return a secret after it was made, or let the last administrator remove itself by accident.
Limits: names of 1 to 64 characters without control characters; passwords of PASSWORD_MIN characters.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, TypeVar

from radiolith.archive.commit import Committer
from radiolith.archive.reading import Reading
from radiolith.index import accounts, figures
from radiolith.index.accounts import Peer, Token, User
from radiolith.index.database import Database
from radiolith.index.session import Reader
from radiolith.model import AuditEvent, BadInput, Conflict, Fact, NotFound, Principal
from radiolith.trust.access import ROLES, Action, require
from radiolith.trust.audit import ReadAudit
from radiolith.trust.devices import SERVICES, split_services
from radiolith.trust.identity import TOKEN_PREFIX, digest, hash_password

PASSWORD_MIN = 10
NAME_MAX = 64
POLICIES = ("first", "newest", "ask")
T = TypeVar("T")


class Accounts:
    def __init__(
        self, database: Database, reading: Reading, committer: Committer, trail: ReadAudit, clock: Callable[[], int]
    ):
        self._database, self._reading, self._committer, self._clock = database, reading, committer, clock
        self._trail = trail

    def system(self, name: str) -> Principal:
        """The principal of commands and jobs on this machine, in the tenant `default`. Blocks; NotFound in no home."""
        with self._database.read() as read:
            tenants = accounts.tenants(read)
        # A lone tenant without a name has lost the one segment with its name; its images are whole.
        lone = len(tenants) == 1 and not tenants[0].name
        for tenant in tenants:
            if tenant.name == "default" or lone:
                return Principal(tenant, name, "admin", "system")
        raise NotFound(
            "this home has no tenant; if images were kept here, `radiolith check --rebuild` brings them back"
        )

    # ------------------------------------------------------------ users

    async def add_user(self, principal: Principal, name: str, role: str, password: str = "") -> str:
        """Returns the password: the one given, or a random one. Raises Conflict when the name is taken."""
        require(principal, Action.ACCOUNTS)
        _named(name)
        _role(role)
        if await self._reading.look(lambda read: accounts.user(read, principal.tenant.id, name)):
            raise Conflict(f"there is a user '{name}' already")
        password = password or secrets.token_urlsafe(12)
        if len(password) < PASSWORD_MIN:
            raise BadInput(f"a password has at least {PASSWORD_MIN} characters")
        hashed = await self._reading.run(hash_password, password)
        await self._write(principal, "user", {"name": name, "role": role, "password": hashed}, f"{name} as {role}")
        return password

    async def remove_user(self, principal: Principal, name: str) -> None:
        require(principal, Action.ACCOUNTS)
        if await self._reading.look(lambda read: accounts.user(read, principal.tenant.id, name)) is None:
            raise NotFound(f"there is no user '{name}'")
        await self._write(principal, "user-remove", {"name": name}, name)

    async def users(self, principal: Principal) -> list[User]:
        require(principal, Action.ACCOUNTS)
        return await self._listed(principal, "users", accounts.users)

    # ------------------------------------------------------------ tokens

    async def add_token(self, principal: Principal, name: str, role: str, expires: int | None = None) -> str:
        """Returns the bearer token, once. expires: microseconds, or None for never."""
        require(principal, Action.ACCOUNTS)
        _named(name)
        _role(role)
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        body: dict[str, object] = {"secret": digest(token).hex(), "name": name, "role": role}
        if expires is not None:
            body["expires"] = expires
        await self._write(principal, "token", body, f"{name} as {role}")
        return token

    async def remove_token(self, principal: Principal, secret: str) -> None:
        """`secret`: the digest that `tokens` lists."""
        require(principal, Action.ACCOUNTS)
        held = await self._reading.look(lambda read: accounts.tokens(read, principal.tenant.id))
        found = next((token for token in held if token.secret == secret), None)
        if found is None:
            raise NotFound("there is no such token")
        await self._write(principal, "token-remove", {"secret": secret}, f"{found.name} {found.id}")

    async def revoke_token(self, principal: Principal, word: str) -> Token:
        """Remove the token that has this id (`Token.id`), or else this name.

        Raises NotFound, or Conflict, naming the ids, where several tokens have the name.
        """
        require(principal, Action.ACCOUNTS)
        held: list[Token] = await self._reading.look(lambda read: accounts.tokens(read, principal.tenant.id))
        found = [token for token in held if token.id == word] or [one for one in held if one.name == word]
        if not found:
            raise NotFound(f"there is no token with the id or name '{word}'")
        if len(found) > 1:
            ids = ", ".join(token.id for token in found)
            raise Conflict(f"{len(found)} tokens are named '{word}'; give one of their ids: {ids}")
        await self.remove_token(principal, found[0].secret)
        return found[0]

    async def tokens(self, principal: Principal) -> list[Token]:
        require(principal, Action.ACCOUNTS)
        return await self._listed(principal, "tokens", accounts.tokens)

    # ------------------------------------------------------------ peers

    async def add_peer(self, principal: Principal, name: str, body: dict[str, Any]) -> None:
        """A device or system we talk to: AE title, address, port, TLS, and what else is wished of it (docs/dicom.md)."""
        require(principal, Action.ACCOUNTS)
        _named(name)
        if body.get("role"):
            _role(str(body["role"]))
        unknown = [word for word in split_services(str(body.get("services", ""))) if word not in SERVICES]
        if unknown:
            raise BadInput(f"there is no service '{unknown[0]}'; there are: {', '.join(SERVICES)}")
        if await self._reading.look(lambda read: accounts.peer(read, principal.tenant.id, name)):
            raise Conflict(f"there is a peer '{name}' already")
        await self._write(principal, "peer", {"name": name, **body}, name)

    async def remove_peer(self, principal: Principal, name: str) -> None:
        require(principal, Action.ACCOUNTS)
        if await self._reading.look(lambda read: accounts.peer(read, principal.tenant.id, name)) is None:
            raise NotFound(f"there is no peer '{name}'")
        await self._write(principal, "peer-remove", {"name": name}, name)

    async def peers(self, principal: Principal) -> list[Peer]:
        require(principal, Action.ACCOUNTS)
        return await self._listed(principal, "peers", accounts.peers)

    # ------------------------------------------------------------ the recovery file

    async def confirm_recovery(self, principal: Principal) -> None:
        """Somebody says that the recovery file lies in a safe place."""
        require(principal, Action.ACCOUNTS)
        await self._write(principal, "confirm-recovery", {}, "")

    async def recovery_confirmed(self, principal: Principal) -> bool:
        return await self._reading.look(lambda read: figures.recovery_confirmed(read, principal.tenant.id))

    # ------------------------------------------------------------ inside

    async def _write(self, principal: Principal, kind: str, body: dict[str, object], detail: str) -> None:
        at = self._clock()
        fact = Fact(kind, at, principal.name, principal.tenant.uid, body)
        event = AuditEvent(at, principal.tenant.id, principal.name, kind, detail=detail)
        await self._committer.fact(fact, None, [event])

    async def _listed(self, principal: Principal, what: str, rows: Callable[[Reader, int], list[T]]) -> list[T]:
        """All of one kind, and on record that somebody looked."""
        found: list[T] = await self._reading.look(lambda read: rows(read, principal.tenant.id))
        await self._trail.note(principal, "", what, len(found), action=Action.ACCOUNTS.value)
        return found


def _named(name: str) -> None:
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable() or name != name.strip():
        raise BadInput(f"a name has 1 to {NAME_MAX} printable characters")


def _role(role: str) -> None:
    if role not in ROLES:
        raise BadInput(f"there is no role '{role}'; there are: {', '.join(ROLES)}")
