"""Credential to principal: bearer tokens, passwords, sessions.

Owns: the proof of who somebody is. Must never: say which part of a credential was wrong, or take longer for a user that
exists than for one that does not. Limits: attempts.py counts failed tries; two passwords are checked at a time (argon2id
takes 64 MiB each). A decision is remembered REMEMBER: that is how long a revoked token or session may still work.

Refused tokens are recorded but not limited: 256 random bits are not guessed, and one misconfigured device must not lock
out everything else behind its address. A valid request never waits for a write.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from radiolith import metrics
from radiolith.config import Settings
from radiolith.index import accounts, audit
from radiolith.index.database import Database
from radiolith.model import AuditEvent, Failure, NotAllowed, NotAuthenticated, Principal, Tenant
from radiolith.trust.attempts import Attempt, Attempts
from radiolith.trust.audit import ReadAudit

REMEMBER = 0.7  # seconds; a revocation is promised within a second
REMEMBERED = 2_000  # credentials
NAME_MAX = 64  # characters of a name that somebody made up, in the trail
USED_EVERY = 60_000_000  # microseconds between two notes of a token's last use
IDLE = 60 * 60 * 1_000_000  # a session nobody uses ends after an hour
TOKEN_PREFIX = "rl_"
_HASHER = PasswordHasher()


def digest(secret: str) -> bytes:
    """What is kept of a random secret: enough to know it again."""
    return hashlib.sha256(secret.encode()).digest()


@cache
def _dummy() -> str:
    """What is hashed against for a name nobody has; made when first needed, it costs as much as a sign-in."""
    return _HASHER.hash(secrets.token_hex(16))


def hash_password(password: str) -> str:
    return _HASHER.hash(password)


class Identities:
    """`sleep`: how a slowed-down try waits."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Callable[[], int],
        trail: ReadAudit,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        self._database, self._settings, self._clock, self._trail, self._sleep = database, settings, clock, trail, sleep
        self._attempts = Attempts(database, settings.limits.sign_in_attempts, clock)
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._lock = threading.Lock()
        self._checks = asyncio.Semaphore(2)

    # ------------------------------------------------------------ every request

    async def from_bearer(self, token: str, address: str = "") -> Principal:
        """Raises NotAuthenticated for a token that is unknown, removed or expired; `address` is then in the trail."""
        secret = digest(token)
        now = self._clock()
        known = self._recall(secret)
        if known is not None:
            return known
        found = await asyncio.to_thread(self._token, secret, now)
        if found is None:
            metrics.sign_ins.add("refused")
            await asyncio.to_thread(self._tell, AuditEvent(now, 0, "", "login", "", "token", "failure", address))
            raise NotAuthenticated("this token is not known here")
        return self._remember(secret, found)

    async def from_session(self, cookie: str) -> Principal:
        """Raises NotAuthenticated for a session that is unknown, ended or idle too long."""
        secret = digest(cookie)
        now = self._clock()
        known = self._recall(secret)
        if known is not None:
            return known
        found = await asyncio.to_thread(self._session, secret, now)
        if found is None:
            raise NotAuthenticated("this session has ended; sign in again")
        return self._remember(secret, found)

    def _recall(self, secret: bytes) -> Principal | None:
        with self._lock:
            found = self._known.get(secret)
        # By a clock that never jumps: a revoked token must not come back with the hour.
        return found[1] if found is not None and time.monotonic() - found[0] < REMEMBER else None

    def _remember(self, secret: bytes, principal: Principal) -> Principal:
        with self._lock:
            self._known[secret] = (time.monotonic(), principal)
            self._known.move_to_end(secret)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return principal

    def _token(self, secret: bytes, now: int) -> Principal | None:
        with self._database.read() as read:
            found = accounts.token(read, secret)
            if found is None:
                return None
            tenant_id, token = found
            if token.expires is not None and token.expires <= now:
                return None
            tenant = _tenant(accounts.tenants(read), tenant_id)
        if token.used_at is None or now - token.used_at > USED_EVERY:
            try:
                with self._database.write() as tx:
                    accounts.token_used(tx, secret, now)
            except Failure:  # reading goes on where the database takes no writes
                pass
        return Principal(tenant, token.name, token.role, "token")

    def _session(self, secret: bytes, now: int) -> Principal | None:
        with self._database.read() as read:
            session = accounts.session(read, secret)
            if session is None or session.expires_at <= now or now - session.seen_at > IDLE:
                return None
            user = accounts.user(read, session.tenant_id, session.user)
            if user is None or user.at > session.created_at:  # removed, or changed since: sign in again
                return None
            tenant = _tenant(accounts.tenants(read), session.tenant_id)
        if now - session.seen_at > USED_EVERY:
            try:
                with self._database.write() as tx:
                    accounts.session_seen(tx, secret, now, session.expires_at)
            except Failure:
                pass
        return Principal(tenant, user.name, user.role, "user")

    # ------------------------------------------------------------ signing in and out

    async def sign_in(self, name: str, password: str, address: str) -> str:
        """A session cookie's value. Raises NotAuthenticated, or NotAllowed after too many failed attempts."""
        event = AuditEvent(self._clock(), 0, name[:NAME_MAX], "login", "", "password", "failure", address)
        try:
            attempt = await asyncio.to_thread(self._attempts.begin, name, address)
        except NotAllowed:
            metrics.sign_ins.add("refused")
            await asyncio.to_thread(self._tell, replace(event, outcome="refused"))
            raise
        if attempt.wait:
            await self._sleep(attempt.wait)
        async with self._checks:
            found = await asyncio.to_thread(self._check, name, password)
        metrics.sign_ins.add("allowed" if found else "refused")
        if found is None:
            await asyncio.to_thread(self._attempts.failed, attempt)
            await asyncio.to_thread(self._tell, event)
            raise NotAuthenticated("name or password is wrong")
        cookie = secrets.token_urlsafe(32)
        await asyncio.to_thread(self._open, digest(cookie), found, address, attempt)
        return cookie

    async def sign_out(self, cookie: str) -> None:
        secret, now = digest(cookie), self._clock()
        with self._lock:
            self._known.pop(secret, None)

        def drop() -> None:
            with self._database.read() as read:
                found = accounts.session(read, secret)
            if found is None:
                return
            with self._database.write() as tx:
                accounts.drop_session(tx, secret)
                event = AuditEvent(now, found.tenant_id, found.user, "logout", source=found.address)
                audit.insert(tx, [event])

        await asyncio.to_thread(drop)

    def _check(self, name: str, password: str) -> Principal | None:
        """Always hashes once, so that the time taken tells nothing about the name."""
        found: tuple[Tenant, accounts.User] | None = None
        with self._database.read() as read:
            for tenant in accounts.tenants(read):
                user = accounts.user(read, tenant.id, name)
                if user is not None:
                    found = tenant, user
                    break
        try:
            _HASHER.verify(found[1].password if found else _dummy(), password)
        except (VerificationError, InvalidHashError):
            return None
        if found is None:
            return None
        return Principal(found[0], found[1].name, found[1].role, "user")

    def _open(self, secret: bytes, who: Principal, address: str, attempt: Attempt) -> None:
        now = self._clock()
        expires = now + self._settings.limits.session_seconds * 1_000_000
        with self._database.write() as tx:
            self._attempts.succeeded(tx, attempt)
            accounts.put_session(tx, accounts.Session(secret, who.tenant.id, who.name, now, now, expires, address))
            audit.insert(tx, [AuditEvent(now, who.tenant.id, who.name, "login", source=address)])

    def _tell(self, event: AuditEvent) -> None:
        """Into the trail of every tenant: it is not known whose user or program it would have been."""
        try:
            with self._database.read() as read:
                tenants = accounts.tenants(read)
        except Failure:
            return  # the refusal stands; nothing was given
        for tenant in tenants:
            self._trail.tally(replace(event, tenant=tenant.id))


def _tenant(tenants: list[Tenant], tenant_id: int) -> Tenant:
    for tenant in tenants:
        if tenant.id == tenant_id:
            return tenant
    raise NotAuthenticated("this tenant does not exist any more")
