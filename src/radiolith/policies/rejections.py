"""The follower of rejections: obeys notes of those who may reject, and has those told who hold copies of what was rejected here.

Owns: the cursor, and whose note is obeyed: that of a peer with the setting `rejects` (IHE RAD IOCM, TF-3 4.66). Others wait
for a person, as a notice about the device. Peers that got something of a study from us are sent a note when instances of it are
rejected, and when they come back those with the setting `notes` = 'all', but never who has said so itself: what came as a note
goes to others only, and a note that changes nothing here is passed on to nobody, so that no note goes round in a circle.

Must never: compose or send (the outbox does), or follow a change older than OLD: after a rebuild the feed begins anew. Obeying is
repeatable; orders, notices and the cursor are one transaction. Limits: BATCH changes a round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from radiolith.archive.notes import Notes
from radiolith.archive.outbox import ordered
from radiolith.archive.subjects import home_of
from radiolith.dicom.notes import KEY_OBJECT, TITLES, Note
from radiolith.index import accounts, changes, copies, devices, heldrows
from radiolith.index import notes as questions
from radiolith.index.accounts import Peer
from radiolith.index.changes import Change, ChangeKind
from radiolith.index.database import Database
from radiolith.index.devices import Device, Oddity
from radiolith.index.outbox import REJECTION, RESTORATION, Why, Wish
from radiolith.index.session import Reader, Writer
from radiolith.model import Failure, Held, Principal, Tenant
from radiolith.policies.following import FOLLOW
from radiolith.trust.devices import PEER_ROLE

T = TypeVar("T")
BATCH = 500  # changes read at a time: a note of ours lists as many instances at most
OLD = 5 * 86_400_000_000  # microseconds: a change that nobody followed for so long is told to nobody any more
NAME = "rejections"
NOTES = ("rejected", "all", "none")
"""What a peer is told: rejections, restorations too, or nothing."""
_ARRIVED = (ChangeKind.STORED, ChangeKind.VERSION)
_TOLD = {ChangeKind.REJECTED: REJECTION, ChangeKind.RESTORED: RESTORATION}
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A rejection note that came. `sender`: the peer that may reject, None where nobody entitled has sent it."""

    tenant: Tenant
    held: Held
    note: Note
    sender: Peer | None


@dataclass(frozen=True, slots=True)
class _Order:
    wish: Wish
    ids: list[int]


class Rejections:
    def __init__(self, database: Database, notes: Notes, clock: Callable[[], int]):
        self._database, self._notes, self._clock = database, notes, clock

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; a round that is under way is finished."""
        while not stop.is_set():
            try:
                while await self.round():
                    pass
            except Failure as failure:
                log.warning("rejections are not followed", reason=str(failure))
            except Exception:
                log.exception("rejections are not followed")
            try:
                await asyncio.wait_for(stop.wait(), FOLLOW)
            except TimeoutError:
                pass

    async def round(self) -> bool:
        """The next changes; whether there may be more."""
        before, after, found = await asyncio.to_thread(self._read, self._next)
        if before == after:
            return False
        arrivals = await asyncio.to_thread(self._arrivals, found)
        for one in arrivals:
            if one.sender is not None:
                who = Principal(one.tenant, one.sender.name, str(one.sender.more.get("role") or PEER_ROLE), "peer")
                count = await self._notes.carry_out(who, one.held, one.note)
                log.info("a rejection note was obeyed", peer=one.sender.name, instances=count)
        now = self._clock()
        orders = await asyncio.to_thread(self._read, lambda read: self._orders(read, found, now))

        def write(tx: Writer) -> None:
            if not changes.advance_cursor(tx, NAME, before, after):
                return  # another node follows too
            for order in orders:
                ordered(tx, order.wish, order.wish.study, order.ids)
            for one in arrivals:
                if one.sender is None:
                    _tell(tx, one, now)

        await asyncio.to_thread(self._write, write)
        return len(found) == BATCH

    @staticmethod
    def _next(read: Reader) -> tuple[changes.Cursor, changes.Cursor, list[Change]]:
        before = changes.load_cursor(read, NAME)
        found, after = changes.follow(read, before, BATCH)
        return before, after, found

    # ------------------------------------------------------------ notes that came

    def _arrivals(self, found: Sequence[Change]) -> list[_Arrival]:
        """Blocks. A key object that cannot be read is none."""
        arrived = {one.instance_id: one.tenant_id for one in found if one.kind in _ARRIVED}
        with self._database.read() as read:
            rows = [
                (tenant := _tenant(read, arrived[row]), heldrows.read_row(read, tenant, row))
                for row in questions.of_class(read, KEY_OBJECT, list(arrived))
            ]
        notes: list[_Arrival] = []
        for tenant, held in rows:
            try:
                note = self._notes.read_now(held)
            except Failure as failure:
                log.warning("a key object cannot be read", instance=held.instance_id, reason=str(failure))
                continue
            if note is not None and note.references:
                notes.append(_Arrival(tenant, held, note, self._sender(tenant, held)))
        return notes

    def _sender(self, tenant: Tenant, held: Held) -> Peer | None:
        """Who sent a note, if it may reject here. A token or a medium names nobody that could."""
        if held.source.door != "dimse":
            return None
        with self._database.read() as read:
            peer = accounts.peer(read, tenant.id, held.principal)
        return peer if peer is not None and peer.more.get("rejects") else None

    # ------------------------------------------------------------ notes of ours

    def _orders(self, read: Reader, found: Sequence[Change], now: int) -> list[_Order]:
        """What goes to whom: of each study one order a peer and kind."""
        groups: dict[tuple[int, str, str], list[Held]] = {}
        for one in found:
            if one.kind in _TOLD and now - one.at <= OLD and one.study_id:
                held = heldrows.read_row(read, _tenant(read, one.tenant_id), one.instance_id)
                groups.setdefault((one.tenant_id, held.identity.study, _TOLD[one.kind]), []).append(held)
        orders: list[_Order] = []
        for (tenant, study, what), helds in groups.items():
            studies = {study} | {home_of(held).study for held in helds}
            for name in copies.holders(read, tenant, studies) if study else ():
                peer = accounts.peer(read, tenant, name)
                if peer is None or not _wants(peer, what):
                    continue
                ids = [one.instance_id for one in helds if questions.decided_by(read, tenant, home_of(one)) != name]
                if ids:
                    wish = Wish(tenant, name, study, Why.NOTE, what, "rejections", now)
                    orders.append(_Order(wish, list(dict.fromkeys(ids))))
        return orders

    # ------------------------------------------------------------ inside

    def _read(self, look: Callable[[Reader], T]) -> T:
        with self._database.read() as read:
            return look(read)

    def _write(self, change: Callable[[Writer], None]) -> None:
        with self._database.write() as tx:
            change(tx)


def _wants(peer: Peer, what: str) -> bool:
    wish = str(peer.more.get("notes") or NOTES[0])
    return wish == "all" or (wish == "rejected" and what == REJECTION)


def _tenant(read: Reader, tenant_id: int) -> Tenant:
    return Tenant(tenant_id, heldrows.tenant_uid(read, tenant_id), "")


def _tell(tx: Writer, one: _Arrival, now: int) -> None:
    """Once, whatever is replayed: for a person to obey or dismiss."""
    held = one.held
    what = TITLES[one.note.reason] if one.note.reason else "rejected no more"
    said = (
        f"it sent a note that {len(one.note.references)} instances of study {held.identity.study} are rejected"
        f" ({what}), and may not reject here"
    )
    device = Device(one.tenant.id, held.source.door, held.source.peer, now, now)
    devices.tell(tx, device, Oddity.NOTE, held.identity.sop, said, now)
