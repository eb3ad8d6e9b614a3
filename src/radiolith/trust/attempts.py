"""How often somebody may try to sign in: counted in the database, the same for every worker and node.

Owns: what a number of failed tries means. Must never: see a password, or let a stranger lock somebody out who is elsewhere.
So there are three counts, each within WINDOW:
* of a (user, address) pair: `limit` tries, then none is heard for LOCK, twice as long after each further round, up to LOCK_MAX.
  A success forgets them.
* of an address: ADDRESS_TIMES as many, since a whole clinic may stand behind one, then none is heard for LOCK.
* of a user, from wherever: beyond `limit` each try waits before it is heard, longer each time, up to WAIT_MAX; it is never
  refused, since anybody can fail in another's name.
A try is counted before it is heard, and taken back if it succeeds: tries at the same moment at many workers cannot pass a
limit together. An IPv6 address counts as its /64, which is what one subscriber has.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from radiolith.index import sign_ins
from radiolith.index.database import Database
from radiolith.index.session import Writer
from radiolith.model import NotAllowed

MINUTE = 60 * 1_000_000
WINDOW = 15 * MINUTE
LOCK = 15 * MINUTE
LOCK_MAX = 60 * MINUTE  # of a pair: who shares a desk with a stranger gets in again within the hour
ADDRESS_TIMES = 20
WAIT_FIRST, WAIT_MAX = 0.25, 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try under way. `wait`: seconds before it may be heard."""

    pair: bytes
    address: bytes
    user: bytes
    wait: float


class Attempts:
    """Blocks: call it on a thread."""

    def __init__(self, database: Database, limit: int, clock: Callable[[], int]):
        self._database, self._limit, self._clock = database, limit, clock

    def begin(self, name: str, address: str) -> Attempt:
        """Count a try. Raises NotAllowed, in words that do not tell whether there is such a user, when it is one too many."""
        where = network(address)
        pair, place, user = _subject("pair", name, where), _subject("address", where), _subject("user", name)
        now = self._clock()
        with self._database.read() as read:  # a flood of refused tries writes nothing
            for subject in (pair, place):
                self._open(sign_ins.get(read, subject), now)
        with self._database.write() as tx:
            # One order for everybody, so that two transactions never wait for each other.
            found = {subject: sign_ins.count(tx, subject, now, WINDOW) for subject in sorted((pair, place, user))}
            for subject, most in ((pair, self._limit), (place, self._limit * ADDRESS_TIMES)):
                self._open(found[subject], now)
                if found[subject].tries > most:  # as many as are allowed are being heard at this moment
                    raise _refusal(LOCK)
        return Attempt(pair, place, user, _wait(found[user].tries - self._limit))

    def failed(self, attempt: Attempt) -> None:
        """It stays counted; at a limit that is the beginning of a lock-out."""
        now, most = self._clock(), self._limit * ADDRESS_TIMES
        with self._database.read() as read:
            pair, place = sign_ins.get(read, attempt.pair), sign_ins.get(read, attempt.address)
        if pair.tries >= self._limit:
            with self._database.write() as tx:
                until = now + min(LOCK << min(pair.rounds, 8), LOCK_MAX)
                sign_ins.lock(tx, attempt.pair, self._limit, until)
        if place.tries >= most:
            with self._database.write() as tx:
                sign_ins.lock(tx, attempt.address, most, now + LOCK)

    @staticmethod
    def succeeded(tx: Writer, attempt: Attempt) -> None:
        """In the transaction that opens the session."""
        for subject in sorted((attempt.pair, attempt.address, attempt.user)):
            if subject == attempt.pair:
                sign_ins.drop(tx, subject)
            else:
                sign_ins.uncount(tx, subject)

    @staticmethod
    def _open(known: sign_ins.Tries, now: int) -> None:
        # Nothing is locked for longer than LOCK_MAX: what says so was written by a clock that was ahead.
        if now < known.locked_until <= now + LOCK_MAX:
            raise _refusal(known.locked_until - now)


def network(address: str) -> str:
    """What counts as one address: an IPv4 address, the /64 of an IPv6 one; anything else as it is."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def _wait(beyond: int) -> float:
    return 0.0 if beyond <= 0 else min(WAIT_FIRST * 2.0 ** min(beyond - 1, 16), WAIT_MAX)


def _refusal(microseconds: int) -> NotAllowed:
    return NotAllowed(f"too many failed sign-ins; wait {-(-microseconds // MINUTE)} minutes")


def _subject(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).digest()
