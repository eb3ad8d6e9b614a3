"""Rejection notes (IHE RAD IOCM): those that come are obeyed or become cases, ours are composed.

Owns: what obeying a note means, and who a note of ours is. Must never: reject more than a note lists, or obey one that nobody
entitled has sent (the follower knows by the peer's setting; a person may still say so). A note is one operation named after its
SOP Instance UID: obeying it twice changes nothing, and undoing it takes back all of it. What it lists and is not held is
rejected when it comes (RAD TF-3 4.66.4.2.3.1): it is kept and hidden.

A note itself is hidden with what it rejects, but for one about quality, which people look at. Limits: those of `dicom.notes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from radiolith.archive.description import Description
from radiolith.archive.operations import NOTHING_ASKED, Deed, Operation, Operations, Plan, slices
from radiolith.archive.subjects import home_of
from radiolith.dicom import notes
from radiolith.dicom.notes import KEY_OBJECT, QUALITY, Made, Note, Reference
from radiolith.index import devices, instances
from radiolith.index import notes as questions
from radiolith.index.devices import Device, Notice, Oddity
from radiolith.index.identities import last_decision
from radiolith.index.session import Reader, Writer
from radiolith.index.uids import pack_uid
from radiolith.model import BadInput, Held, Identity, NotFound, Pixels, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.keys import STUDY

NOTE_BYTES = 16 << 20  # of the metadata of one note: 50,000 references have 10 MB


@dataclass(frozen=True, slots=True)
class Composed:
    """A note of ours: its SOP Instance UID, and the instances it is about; `write` gives its bytes."""

    sop: str
    about: tuple[Held, ...]
    explicit: bytes
    implicit: bytes


@dataclass(frozen=True, slots=True)
class Order:
    """Whom a note of ours is for and why. `at`: when it was ordered, microseconds: with the instances it names the note."""

    tenant: bytes
    study: str
    at: int
    system: str


class Notes:
    def __init__(self, operations: Operations, description: Description):
        self._operations, self._deciding, self._description = operations, operations.deciding, description

    # ------------------------------------------------------------ notes that come

    def read_now(self, held: Held) -> Note | None:
        """The note that an object is, None where it is another key object. Blocks. Raises Damaged, LimitExceeded."""
        if held.sop_class != KEY_OBJECT:
            return None
        return notes.read(orjson.loads(self._description.row_now(held, NOTE_BYTES)))

    async def carry_out(self, principal: Principal, held: Held, note: Note) -> int:
        """Do what a note says, on behalf of who sent it; how many instances it is about, 0 when it was done before."""
        op = operation_of(held.identity.sop)

        def plan(read: Reader) -> Plan | None:
            named = self._named(read, principal.tenant.id, held, note)
            if {one.sop for one in named} <= questions.said(read, principal.tenant.id, bytes.fromhex(op)):
                return None
            by_study: dict[str, list[list[str]]] = {}
            for one in sorted(named, key=lambda one: (one.study, one.series, one.sop)):
                by_study.setdefault(one.study, []).append([one.study, one.series, one.sop])
            kind = "reject" if note.reason else "restore"
            body: dict[str, object] = {"reason": note.reason, "note": held.identity.sop}
            deeds = tuple(
                Deed(kind, {**body, "items": items}, (STUDY, study), len(items))
                for study, found in by_study.items()
                for items in slices(found)
            )
            newest = max(last_decision(read, principal.tenant.id, pack_uid(study)) for study in by_study)
            done = Operation(op, kind, 0, "obeys a rejection note", instances=len(named))
            return Plan(done, deeds, newest, held.identity.study)

        made = await self._deciding.look(plan)
        if made is None:
            return 0
        await self._operations.write(principal, NOTHING_ASKED, made)
        return made.operation.instances

    @staticmethod
    def _named(read: Reader, tenant: int, held: Held, note: Note) -> set[Identity]:
        """What a note lists, under the names it was received by; the note itself, where it is to be hidden too."""
        named: set[Identity] = set()
        for one in note.references:
            found = instances.locate(
                read, tenant, one.study, one.series, one.sop, current_only=False, include_rejected=True
            )
            homes = {home_of(each) for each in found}
            named |= homes or {Identity(one.study, one.series, one.sop)}
        if note.reason not in ("", QUALITY):
            named.add(home_of(held))
        return named

    # ------------------------------------------------------------ notes that wait for a person

    async def waiting(self, principal: Principal, limit: int = 100) -> list[Notice]:
        """Notes from those who may not reject, latest first; `subject` is the SOP Instance UID."""
        require(principal, Action.DESK)
        found = await self._deciding.look(lambda read: _waiting(read, principal.tenant.id, limit))
        await self._deciding.note(principal, "", "rejection notes", len(found))
        return found

    async def obey(self, principal: Principal, sop: str) -> int:
        """A person says that a note holds, whoever sent it; how many instances it is about. Raises NotFound, BadInput."""
        require(principal, Action.REJECT)

        def look(read: Reader) -> list[Held]:
            return list(instances.by_sop(read, principal.tenant.id, sop))

        held = next((one for one in await self._deciding.look(look) if one.sop_class == KEY_OBJECT), None)
        if held is None:
            raise NotFound("no key object with this SOP Instance UID is held")
        note = await self._deciding.reading.run(self.read_now, held)
        if note is None or not note.references:
            raise BadInput("this key object rejects nothing")
        count = await self.carry_out(principal, held, note)
        await self._settle(principal, sop)
        return count

    async def dismiss(self, principal: Principal, sop: str) -> None:
        """A person says that a note does not hold: it leaves the list. Raises NotFound."""
        require(principal, Action.REJECT)
        if not await self._settle(principal, sop):
            raise NotFound("no rejection note with this SOP Instance UID waits")

    async def _settle(self, principal: Principal, sop: str) -> int:
        def change(tx: Writer) -> int:
            open_ = [one for one in _waiting(tx, principal.tenant.id, 1_000) if one.subject == sop]
            for one in open_:
                device = Device(principal.tenant.id, one.door, one.peer, 0, 0)
                devices.settle(tx, device, Oddity.NOTE, sop, self._deciding.now())
            return len(open_)

        return await self._deciding.change(change)

    # ------------------------------------------------------------ notes of ours

    def composed_now(self, order: Order, helds: Sequence[Held]) -> list[Composed]:
        """A note for each reason that the instances are rejected for, one that takes back for those that are not. Blocks."""
        about = orjson.loads(self._description.row_now(helds[0], NOTE_BYTES))
        found: list[Composed] = []
        for reason in sorted({held.rejected for held in helds}):
            chosen = tuple(held for held in helds if held.rejected == reason)
            references = tuple(_reference(held) for held in chosen)
            note = Note(reason if reason in notes.TITLES or not reason else QUALITY, references)
            sops = "\n".join(sorted(one.sop for one in references))
            made = Made(
                _uid(order.tenant, f"{order.study} {note.reason} {order.at}\n{sops}"),
                _uid(order.tenant, f"rejection notes of {order.study}"), order.at, order.system,
            )  # fmt: skip
            explicit, implicit = (notes.write(note, about, made, implicit=implied) for implied in (False, True))
            found.append(Composed(made.sop, chosen, explicit, implicit))
        return found


def operation_of(sop: str) -> str:
    """The operation that obeying a note is: the same for everybody who sees the note."""
    return hashlib.blake2b(sop.encode(), digest_size=16).hexdigest()


def _waiting(read: Reader, tenant: int, limit: int) -> list[Notice]:
    return [one for one in devices.notices(read, tenant, 1_000) if one.kind is Oddity.NOTE][:limit]


def _reference(held: Held) -> Reference:
    one = held.identity
    return Reference(one.study, one.series, one.sop, held.sop_class, held.layout.pixels is not Pixels.NONE)


def _uid(tenant: bytes, text: str) -> str:
    """A UID that follows from what it names (PS3.5 B.2): a UUID of version 8 (RFC 9562) as a number."""
    drawn = bytearray(hashlib.blake2b(text.encode(), key=tenant, digest_size=16).digest())
    drawn[6], drawn[8] = drawn[6] & 0x0F | 0x80, drawn[8] & 0x3F | 0x80
    return f"2.25.{int.from_bytes(drawn, 'big')}"
