"""The verb `history`: who changed what, when and why, from which source it came, and what differs.

Owns: the account of a study, of a patient, of an instance and of operations, and the comparison of two versions. Must never:
change anything, or show a patient's data to who may not retrieve them: an auditor is told which attributes changed, not to what.
Limits: WORDS of one account; PIXEL_BYTES of two pixel data that are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from radiolith.archive import account
from radiolith.archive.account import DETAILS, Happening
from radiolith.archive.affected import held_patient, shown_study
from radiolith.archive.deciding import Deciding
from radiolith.archive.description import Description
from radiolith.archive.difference import compared
from radiolith.archive.operations import Change, op_bytes
from radiolith.archive.ports import Stream
from radiolith.archive.subjects import PatientKey, home_of
from radiolith.index import as_of, instances, persons, told
from radiolith.index.as_of import Snapshot
from radiolith.index.session import Reader
from radiolith.model import BadInput, Held, NotFound, Principal
from radiolith.trust.access import Action, allows, require

WORDS = 5_000  # of one account, and of each of its parts: a study about which more was said is told in part
PIXEL_BYTES = 256 << 20  # compared byte by byte: some tenths of a second
HEADER_BYTES = 4 << 20  # of one header as JSON
SHOWN_SUFFIX = "-shown"
"""Behind a version's id: what it shows with its corrections, rather than what was received."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One instance: every version and encoding as received, in that order, and what was decided about it."""

    versions: tuple[Held, ...]
    happened: tuple[Happening, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """`pixels`: 'none', 'same', 'differ', or 'not compared'."""

    changes: tuple[Change, ...]
    pixels: str


class History:
    def __init__(self, deciding: Deciding, description: Description):
        self._deciding, self._description = deciding, description

    # ------------------------------------------------------------ accounts

    async def of_study(self, principal: Principal, study: str) -> list[Happening]:
        """All that happened to a study, oldest first, under any name it has or had. Raises NotFound."""
        require(principal, Action.HISTORY)
        tenant, full = principal.tenant.id, allows(principal, Action.RETRIEVE)

        def look(read: Reader) -> tuple[str, list[Happening]]:
            shown = shown_study(read, tenant, study).uid
            names = list(dict.fromkeys([shown, *_homes(read, tenant, shown)]))
            found = [account.received(one) for one in told.receptions(read, tenant, shown)]
            words = told.words_about(read, tenant, names, WORDS) + _about_patient(read, tenant, shown)
            found += account.operations(read, tenant, words, full=full)
            for name in names:
                found += account.decided(told.events(read, tenant, name, "", "", WORDS))
            return shown, account.in_order(found)

        shown, found = await self._deciding.look(look)
        await self._deciding.note(principal, shown, "history", len(found))
        return found

    async def of_patient(self, principal: Principal, key: PatientKey) -> list[Happening]:
        """What was said about a patient, oldest first. Raises NotFound."""
        require(principal, Action.HISTORY)
        tenant, full = principal.tenant.id, allows(principal, Action.RETRIEVE)

        def look(read: Reader) -> list[Happening]:
            person = held_patient(read, tenant, key)
            if person.value:
                words = told.words_about_patient(read, tenant, person.value, person.issuer, WORDS)
            else:
                words = [
                    word
                    for word in told.words_about(read, tenant, [person.study], WORDS)
                    if word.subject[:1] == ("patient-of",)
                ]
            return account.in_order(account.operations(read, tenant, words, full=full))

        found = await self._deciding.look(look)
        await self._deciding.note(principal, "", "history", len(found))
        return found

    async def operations(self, principal: Principal, limit: int = 100, after: str = "") -> list[Happening]:
        """What people did, latest first; `after` is the operation the page before ended with."""
        require(principal, Action.HISTORY)
        tenant, last, full = principal.tenant.id, op_bytes(after) if after else b"", allows(principal, Action.RETRIEVE)

        def look(read: Reader) -> list[Happening]:
            return [
                account.operation_told(
                    one, told.words_of(read, tenant, one.op, 2), told.event_count(read, tenant, one.op), full=full
                )
                for one in told.operations(read, tenant, limit, last)
            ]

        found = await self._deciding.look(look)
        await self._deciding.note(principal, "", "operations", len(found))
        return found

    async def operation(self, principal: Principal, op: str) -> Happening:
        """One of them, with all it said. Raises NotFound."""
        require(principal, Action.HISTORY)
        tenant, name, full = principal.tenant.id, op_bytes(op), allows(principal, Action.RETRIEVE)

        def look(read: Reader) -> Happening | None:
            one = told.operation(read, tenant, name)
            if one is None or not one.kind:
                return None
            return account.operation_told(
                one, told.words_of(read, tenant, name, DETAILS), told.event_count(read, tenant, name), full=full
            )

        found = await self._deciding.look(look)
        if found is None:
            raise NotFound(f"there is no operation {op}")
        await self._deciding.note(principal, "", "operations", 1)
        return found

    # ------------------------------------------------------------ versions

    async def of_instance(self, principal: Principal, sop: str) -> list[Kept]:
        """Every instance with this SOP Instance UID (one, but for archives that reuse UIDs). Raises NotFound."""
        require(principal, Action.HISTORY)
        require(principal, Action.RETRIEVE)
        tenant = principal.tenant.id

        def look(read: Reader) -> list[Kept]:
            found: list[Kept] = []
            for one in instances.by_sop(read, tenant, sop, include_rejected=True):
                held = instances.versions(read, tenant, one.identity)
                happened: list[Happening] = []
                for home in dict.fromkeys(home_of(each) for each in held):
                    happened += account.decided(told.events(read, tenant, home.study, home.series, home.sop, WORDS))
                found.append(Kept(tuple(held), tuple(account.in_order(happened))))
            return found

        found = await self._deciding.look(look)
        if not found:
            raise NotFound("nothing is held under this UID")
        await self._deciding.note(principal, found[0].versions[0].identity.study, "versions", len(found))
        return found

    async def content(self, principal: Principal, sop: str, version: str) -> Stream:
        """The exact bytes received of one version: preamble, file meta, dataset and what follows. Raises NotFound."""
        held = await self._version(principal, sop, version)
        return self._deciding.reading.stream(held, 0, held.layout.original_size, held.layout.transfer_syntax)

    async def difference(self, principal: Principal, sop: str, one: str, other: str) -> Difference:
        """What changes from one version to the other: ids as `of_instance` tells them, with `-shown` behind for what a version
        shows with its corrections. Raises NotFound, BadInput."""
        a = await self._version(principal, sop, one.removesuffix(SHOWN_SUFFIX))
        b = await self._version(principal, sop, other.removesuffix(SHOWN_SUFFIX))
        left = a if one.endswith(SHOWN_SUFFIX) else replace(a, overlay=None)
        right = b if other.endswith(SHOWN_SUFFIX) else replace(b, overlay=None)
        old = await self._deciding.reading.walk(left, self._document, left)
        new = await self._deciding.reading.walk(right, self._document, right)
        return Difference(tuple(compared(old, new)), await self._pixels(a, b))

    # ------------------------------------------------------------ as of a moment

    async def as_of(self, principal: Principal, study: str, at: int) -> Snapshot:
        """What was shown under a study UID at a moment (microseconds): received until then, under the decisions of then.

        Raises NotFound, LimitExceeded."""
        require(principal, Action.HISTORY)
        require(principal, Action.RETRIEVE)
        found = await self._deciding.look(lambda read: as_of.snapshot(read, principal.tenant.id, study, at))
        if found is None:
            raise NotFound("nothing was shown under this UID then")
        await self._deciding.note(principal, study, "as of a moment", len(found.helds))
        return found

    def metadata(self, snapshot: Snapshot, base: str) -> AsyncIterator[bytes]:
        """The headers as they were shown then, as a DICOM JSON array; what was rejected then is left out. `base`: of bulk data,
        with {study} {series} {sop} to fill in."""
        return self._description.series([held for held in snapshot.helds if not held.rejected], base)

    def _document(self, held: Held) -> dict[str, Any]:
        return orjson.loads(self._description.row_now(held, HEADER_BYTES))

    async def _pixels(self, a: Held, b: Held) -> str:
        sizes = a.layout.pixel_length, b.layout.pixel_length
        if not any(sizes):
            return "none"
        if a.sha256 == b.sha256:
            return "same"
        if a.layout.transfer_syntax != b.layout.transfer_syntax or max(sizes) > PIXEL_BYTES:
            return "not compared"
        if sizes[0] != sizes[1]:
            return "differ"
        return "same" if await self._digest(a) == await self._digest(b) else "differ"

    async def _digest(self, held: Held) -> bytes:
        start, digest = held.layout.pixel_start, hashlib.sha256()
        stream = self._deciding.reading.value(held, start, start + held.layout.pixel_length)
        async for piece in stream.chunks():
            digest.update(piece)
        return digest.digest()

    async def _version(self, principal: Principal, sop: str, version: str) -> Held:
        require(principal, Action.HISTORY)
        require(principal, Action.RETRIEVE)
        tenant = principal.tenant.id
        if len(version) != 32 or set(version) - set("0123456789abcdef"):
            raise BadInput("a version has 32 hexadecimal digits, small letters")

        def look(read: Reader) -> Held | None:
            for one in instances.by_sop(read, tenant, sop, include_rejected=True):
                for held in instances.versions(read, tenant, one.identity):
                    if held.blob.object_id.hex() == version:
                        return held
            return None

        found = await self._deciding.look(look)
        if found is None:
            raise NotFound("no version of this instance has this id")
        await self._deciding.note(principal, found.identity.study, "versions", 1)
        return found


def _homes(read: Reader, tenant: int, study: str) -> list[str]:
    """Studies, as received, of which something is shown in this one."""
    found = instances.locate(read, tenant, study, include_rejected=True)
    return sorted({held.home.study for held in found if held.home is not None})


def _about_patient(read: Reader, tenant: int, study: str) -> list[told.Word]:
    """What was said about the patient a study is shown under, and about those that are shown as that one."""
    person = persons.of_study(read, tenant, study)
    if person is None or not person.value:
        return []
    return told.words_about_patient(read, tenant, person.value, person.issuer, WORDS)
