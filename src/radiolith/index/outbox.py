"""The outbox as rows: what is to go where, why, how far it is, and what the peer said last.

Owns: the tables `transfers` and `transfer_items`. Must never: send, decide what a status means, or wait.

A transfer names its instances by identity: an item holds the row of one version, and what is sent is the version that is
current then; what was rejected meanwhile is not sent, and a note does not list what is rejected no more. An item is marked when
the peer has answered for it, so whoever goes on after a crash sends only what has no mark. The rows are working state like
sessions, no facts: after a rebuild the outbox is empty. Limits: ITEMS a transfer (an order of more becomes several); ended ones
are kept KEEP, failed ones KEEP_FAILED.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from radiolith.index.heldrows import JOINED, Homes, held_joined, tenant_uid
from radiolith.index.identities import IN_CHUNK
from radiolith.index.instances import locate
from radiolith.index.session import Reader, Writer
from radiolith.index.uids import pack_uid, unpack_uid
from radiolith.model import Held, Identity

ITEMS = 10_000  # instances of a transfer: a commitment request names them all in one message, about 1.5 MB
KEEP = 30 * 86_400 * 1_000_000  # microseconds a delivered or cancelled transfer is listed
KEEP_FAILED = 365 * 86_400 * 1_000_000  # and a failed one: somebody has to see it
SAID_MAX = 500  # characters of a reason
REJECTION, RESTORATION = "rejection", "restoration"  # who has ordered a note


class State(IntEnum):
    """The value is in the database; those below DELIVERED are live."""

    WAITING = 0
    SENDING = 1  # somebody holds a lease, or died with it
    AWAITING = 2  # all sent; the peer's storage commitment is outstanding
    DELIVERED = 3
    FAILED = 4  # given up, or some instances refused: listed until somebody sends it again
    HELD = 5  # its peer is not known: goes on when there is one by that name
    CANCELLED = 6


class ItemState(IntEnum):
    """The value is in the database."""

    WAITING = 0
    SENT = 1  # the peer said it has it
    REFUSED = 2  # the peer does not want it, and would not later
    GONE = 3  # rejected since it was ordered
    COMMITTED = 4  # the peer said it keeps it


class Why(IntEnum):
    """Who ordered it. The value is in the database."""

    PERSON = 0
    RULE = 1
    MOVE = 2  # a C-MOVE
    NOTE = 3  # what goes is not the instances but a note that they are rejected, or restored: `ordered_by` says which


class Priority(IntEnum):
    """In the order things go. The value is in the database."""

    HIGH = 0
    MEDIUM = 1
    LOW = 2


@dataclass(frozen=True, slots=True)
class Wish:
    """What an order says, apart from the instances."""

    tenant_id: int
    peer: str  # name, as `radiolith peer list` shows it
    study: str
    why: Why
    ordered_by: str  # name of the person or rule, AE title of the C-MOVE's SCU
    principal: str
    at: int
    message_id: int = 0  # of the C-MOVE-RQ
    priority: Priority = Priority.MEDIUM
    syntax: str = ""  # preferred transfer syntax UID; '' sends what is held
    wait: int = 0  # microseconds until a runner takes it up: the head start of who ordered it and begins itself
    key: str | None = None  # ordering again under the same key orders nothing


@dataclass(frozen=True, slots=True)
class Transfer:
    """A row. Times are microseconds."""

    id: int
    tenant_id: int
    peer: str
    study: str
    why: Why
    ordered_by: str
    message_id: int
    principal: str
    priority: Priority
    syntax: str
    state: State
    attempts: int  # since something got through last
    next_at: int
    owner: str
    said: str  # the last reason, in words
    total: int  # instances, without those that are gone
    delivered: int
    failed: int
    commitment: str  # transaction UID of the request that is outstanding
    created_at: int
    changed_at: int


@dataclass(frozen=True, slots=True)
class Item:
    identity: Identity
    state: ItemState
    status: int  # of the peer's last C-STORE-RSP or failure reason, 0 when there is none
    said: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What became of one item. A WAITING one notes why it could not go yet."""

    position: int
    state: ItemState
    status: int = 0
    said: str = ""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a destination is behind."""

    peer: str
    transfers: int  # live
    instances: int  # not delivered of these
    oldest: int  # when the oldest of them was ordered
    said: str  # what the one that changed last says
    failed: int  # transfers given up, not sent again yet


COLUMNS = (
    "id, tenant_id, peer, study, why, ordered_by, message_id, principal, priority, syntax, state, attempts, next_at, owner, said,"
    " total, delivered, failed, commitment, created_at, changed_at"
)


def transfer_of(row: Sequence[Any]) -> Transfer:
    study, why, priority, state = unpack_uid(bytes(row[3])), Why(row[4]), Priority(row[8]), State(row[10])
    return Transfer(row[0], row[1], row[2], study, why, *row[5:8], priority, row[9], state, *row[11:])  # type: ignore[arg-type]


def clipped(said: str) -> str:
    return said.replace("\x00", "").encode("utf-8", "replace").decode()[:SAID_MAX]


# ---------------------------------------------------------------- ordering


def selected(
    read: Reader, tenant_id: int, places: Iterable[Identity], rows: tuple[int, int] = (0, 2**62)
) -> dict[str, list[int]]:
    """Study -> instance rows of what is held and shown under the places, in the order series are shown, each once.

    A place with an empty series or instance means all below it. `rows`: only instances in this range of row numbers.
    """
    found: dict[str, dict[int, None]] = {}
    for place in places:
        sql = (
            "SELECT i.id FROM studies s CROSS JOIN series e CROSS JOIN instances i WHERE s.uid = ? AND s.tenant_id = ?"
            " AND e.study_id = s.id AND i.series_id = e.id AND i.current = 1 AND i.reason = 0 AND i.id >= ? AND i.id <= ?"
        )
        params: list[Any] = [pack_uid(place.study), tenant_id, *rows]
        if place.series:
            sql, params = sql + " AND e.uid = ?", [*params, pack_uid(place.series)]
        if place.sop:
            sql, params = sql + " AND i.uid = ?", [*params, pack_uid(place.sop)]
        sql += " ORDER BY e.number IS NULL, e.number, e.id, i.number, i.id"
        ids = [row[0] for row in read.all(sql, params)]
        if ids or rows[1] < 2**62:
            found.setdefault(place.study, {}).update(dict.fromkeys(ids))
            continue
        for one in locate(read, tenant_id, place.study, place.series or None, place.sop or None):  # by an old name
            found.setdefault(one.identity.study, {})[one.instance_id] = None
    return {study: list(ids) for study, ids in found.items() if ids}


def put(tx: Writer, wish: Wish, ids: Sequence[int]) -> list[int]:
    """Order the instance rows, as one transfer or, of more than ITEMS, several; their numbers. None under a known key."""
    made: list[int] = []
    for part, start in enumerate(range(0, len(ids), ITEMS)):
        key = None if wish.key is None else f"{wish.key} {part}"
        chunk = ids[start : start + ITEMS]
        row = tx.one(
            "INSERT INTO transfers(tenant_id, peer, study, why, ordered_by, message_id, principal, key, priority, syntax, state,"
            " attempts, next_at, owner, said, total, delivered, failed, commitment, created_at, changed_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, '', '', ?, 0, 0, '', ?, ?)"
            " ON CONFLICT DO NOTHING RETURNING id",
            (wish.tenant_id, wish.peer, pack_uid(wish.study), int(wish.why), clipped(wish.ordered_by), wish.message_id,
             clipped(wish.principal), key, int(wish.priority), wish.syntax, wish.at + wish.wait, len(chunk), wish.at, wish.at),
        )  # fmt: skip
        if row is None:
            continue
        made.append(row[0])
        tx.run_many(
            "INSERT INTO transfer_items(transfer_id, position, instance_id, state, tries, status, said)"
            " VALUES (?, ?, ?, 0, 0, 0, '')",
            [(row[0], position, one) for position, one in enumerate(chunk, 1)],
        )
    return made


# ---------------------------------------------------------------- looking


def get(read: Reader, tenant_id: int, number: int) -> Transfer | None:
    row = read.one(f"SELECT {COLUMNS} FROM transfers WHERE id = ? AND tenant_id = ?", (number, tenant_id))  # noqa: S608
    return transfer_of(row) if row else None


def listed(
    read: Reader, tenant_id: int, limit: int = 100, before: int = 0, states: Sequence[State] = (), peer: str = ""
) -> list[Transfer]:
    """Latest first; `before` is the number the page before ended with."""
    where, params = "tenant_id = ? AND id < ?", [tenant_id, before or 2**62]
    if states:
        where, params = f"{where} AND state IN ({', '.join('?' * len(states))})", [*params, *map(int, states)]
    sql = f"SELECT {COLUMNS} FROM transfers WHERE {where}"  # noqa: S608
    values: list[Any] = [*params]
    if peer:
        sql, values = f"{sql} AND peer = ?", [*values, peer]
    return [transfer_of(row) for row in read.all(f"{sql} ORDER BY id DESC LIMIT ?", (*values, limit))]


def items(
    read: Reader, number: int, limit: int = 100, after: int = 0, state: ItemState | None = None
) -> list[tuple[int, Item]]:
    """(position, item) in order, behind position `after`; one state only where given."""
    only = "" if state is None else " AND t.state = ?"
    rows = read.all(
        "SELECT t.position, s.uid, e.uid, i.uid, t.state, t.status, t.said FROM transfer_items t CROSS JOIN instances i"  # noqa: S608
        " CROSS JOIN series e CROSS JOIN studies s WHERE t.transfer_id = ? AND t.position > ? AND i.id = t.instance_id"
        f" AND e.id = i.series_id AND s.id = e.study_id{only} ORDER BY t.position LIMIT ?",
        (number, after, *(() if state is None else (int(state),)), limit),
    )
    return [
        (row[0], Item(Identity(*(unpack_uid(bytes(uid)) for uid in row[1:4])), ItemState(row[4]), row[5], row[6]))
        for row in rows
    ]


def lags(read: Reader, tenant_id: int) -> list[Lag]:
    """Every destination with something live or given up."""
    live = read.all(
        "SELECT peer, COUNT(*), SUM(total - delivered - failed), MIN(created_at) FROM transfers"
        " WHERE tenant_id = ? AND state < 3 GROUP BY peer",
        (tenant_id,),
    )
    sql = "SELECT peer, COUNT(*) FROM transfers WHERE tenant_id = ? AND state IN (4, 5) GROUP BY peer"
    failed = {row[0]: int(row[1]) for row in read.all(sql, (tenant_id,))}
    known = {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in live}
    found: list[Lag] = []
    for peer in sorted(known.keys() | failed.keys()):
        said: list[Any] = []
        for states in ("state < 3", "state IN (4, 5)"):
            sql = f"SELECT said FROM transfers WHERE tenant_id = ? AND peer = ? AND {states} AND said <> ''"  # noqa: S608
            said += read.all(f"{sql} ORDER BY changed_at DESC, id DESC LIMIT 1", (tenant_id, peer))
        found.append(Lag(peer, *known.get(peer, (0, 0, 0)), said[0][0] if said else "", failed.get(peer, 0)))
    return found


def waiting_for(read: Reader, now: int) -> list[tuple[int, str]]:
    """(tenant row, peer) of every destination that has something due."""
    sql = "SELECT DISTINCT tenant_id, peer FROM transfers WHERE state < 3 AND next_at <= ? ORDER BY tenant_id, peer"
    return [(row[0], row[1]) for row in read.all(sql, (now,))]


def due(read: Reader, tenant_id: int, peer: str, now: int, limit: int) -> list[int]:
    """Numbers of transfers to take up now, the most urgent first."""
    rows = read.all(
        "SELECT id FROM transfers WHERE tenant_id = ? AND peer = ? AND state < 3 AND next_at <= ? ORDER BY priority, id LIMIT ?",
        (tenant_id, peer, now, limit),
    )
    return [row[0] for row in rows]


def pending(read: Reader, transfer: Transfer, after: int, limit: int) -> tuple[list[tuple[int, Held]], list[int]]:
    """The next items behind position `after`: (position, the version to send), and positions of which nothing is shown
    any more."""
    rows = read.all(
        "SELECT position, instance_id FROM transfer_items WHERE transfer_id = ? AND position > ? AND state = ?"
        " ORDER BY position LIMIT ?",
        (transfer.id, after, int(ItemState.WAITING), limit),
    )
    rejected = "> 0" if transfer.why is Why.NOTE and transfer.ordered_by == REJECTION else "= 0"
    current: dict[int, int] = {}
    helds: dict[int, Held] = {}
    tenant = tenant_uid(read, transfer.tenant_id)
    for start in range(0, len(rows), IN_CHUNK):
        ids = [row[1] for row in rows[start : start + IN_CHUNK]]
        sql = (
            "SELECT o.id, i.id FROM instances o CROSS JOIN instances i WHERE i.uid = o.uid AND i.series_id = o.series_id"  # noqa: S608
            f" AND i.current = 1 AND i.reason {rejected} AND o.id IN ({', '.join('?' * len(ids))})"
        )
        chunk = {row[0]: row[1] for row in read.all(sql, ids)}
        current |= chunk
        if chunk:
            sql = f"{JOINED} AND i.id IN ({', '.join('?' * len(chunk))})"
            homes = Homes(read, transfer.tenant_id)
            found = (
                held_joined(read, tenant, row, homes) for row in read.all(sql, (transfer.tenant_id, *chunk.values()))
            )
            helds |= {held.instance_id: held for held in found}
    sent = [(position, helds[current[one]]) for position, one in rows if current.get(one) in helds]
    there = {position for position, _ in sent}
    return sent, [position for position, _ in rows if position not in there]


def references(read: Reader, transfer: Transfer) -> list[tuple[str, str]]:
    """(SOP class, SOP instance) of what was sent and is not committed yet: ITEMS at most."""
    rows = read.all(
        "SELECT c.value, i.uid FROM transfer_items t CROSS JOIN instances i CROSS JOIN codes c"
        " WHERE t.transfer_id = ? AND t.state = ? AND i.id = t.instance_id AND c.id = i.class ORDER BY t.position",
        (transfer.id, int(ItemState.SENT)),
    )
    return [(row[0], unpack_uid(bytes(row[1]))) for row in rows]
