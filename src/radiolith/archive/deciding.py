"""What the verbs that decide about held objects have in common: look, write the decision down, note who looked.

Owns: that a decision is one fact and one audit record of the same moment, in one batch. Must never: authorise (each verb
does, first), or know what is decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from radiolith.archive.commit import Committer
from radiolith.archive.reading import Reading
from radiolith.archive.tasks import Settled
from radiolith.index.database import Database
from radiolith.index.session import Reader, Writer
from radiolith.model import AuditEvent, Fact, Principal
from radiolith.trust.audit import ReadAudit
from radiolith.trust.keys import Label

T = TypeVar("T")
Body = dict[str, object]


class Deciding:
    """One per process, shared by all verbs that decide."""

    def __init__(
        self, database: Database, reading: Reading, committer: Committer, audit: ReadAudit, clock: Callable[[], int]
    ):
        self._database, self.reading, self._committer, self._audit, self._clock = (
            database, reading, committer, audit, clock,
        )  # fmt: skip

    async def look(self, question: Callable[[Reader], T]) -> T:
        """As `Reading.look`."""
        return await self.reading.look(question)

    async def change(self, change: Callable[[Writer], T]) -> T:
        """What is no fact, in a transaction of its own on a thread."""

        def work() -> T:
            with self._database.write() as tx:
                return change(tx)

        return await self.reading.run(work)

    def now(self) -> int:
        """Microseconds: when what is decided now is decided."""
        return self._clock()

    async def note(self, principal: Principal, study: str, what: str, count: int) -> None:
        """Somebody has looked: on record before the answer leaves."""
        await self._audit.note(principal, study, what, count)

    def decide(
        self,
        principal: Principal,
        fact: tuple[str, Body],
        scope: tuple[str, str],
        event: tuple[str, int, str],
        *,
        after: int = 0,
    ) -> asyncio.Future[Settled]:
        """Begin to write a decision; it holds when the future is done. `fact`: kind and body; `scope`: kind of scope
        (trust.keys) and the study or ''; `event`: action, count and detail for the audit trail.

        after: the time of the latest decision that this one was made in the knowledge of: it is later than that, though this
        node's clock may be behind (docs/decisions/100).
        """
        (kind, body), (where, study), (action, count, detail) = fact, scope, event
        at = max(self._clock(), after + 1)
        written = Fact(kind, at, principal.name, principal.tenant.uid, body)
        noted = AuditEvent(at, principal.tenant.id, principal.name, action, study, count=count, detail=detail)
        label: Label = (principal.tenant.uid, where, study)
        return self._committer.fact(written, label, [noted])
