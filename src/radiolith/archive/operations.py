"""Operations: what one act of a person decides, written as facts under one name, and taken back as one.

Owns: names of operations, the check that nothing changed meanwhile, and the order of facts. Must never: authorise (the verbs
do, first), or word a decision. A decision that was made in the knowledge of another comes after it, whatever the clocks of the
nodes say (docs/decisions/100). Two people who decide about one thing at the same moment both get what they said on record; the
later one holds. Limits: ITEMS subjects a fact, UNDER_WAY facts at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from radiolith.archive.deciding import Body, Deciding
from radiolith.archive.tasks import Settled
from radiolith.index import told
from radiolith.index.session import Reader
from radiolith.model import BadInput, Conflict, NotFound, Principal
from radiolith.trust.keys import FACTS

ITEMS = 1_000  # subjects one fact names
UNDER_WAY = 4  # facts of one operation on their way to the disk, up to 150 KB each: others go on meanwhile
REASON_MAX = 1_000  # characters of what a person says about why
WHY = ("CORRECT", "COERCE")  # Reason for the Attribute Modification (0400,0565), PS3.3 C.12.1.1.9


@dataclass(frozen=True, slots=True)
class Change:
    """One attribute, before and after, in words; '' where there is none."""

    tag: str  # eight digits
    keyword: str  # the tag as people read it, where there is none
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Operation:
    """What a decision did, or would do.

    op: 32 hex digits to undo it by, '' of a dry run. kind: 'amend', 'place', 'into', 'patient', 'link', 'undo', … studies,
    series, instances: how much of what is held it is about. changes: attributes that differ now, as of one instance. moves: in
    words. state: names what was known when it was decided: give it back as `expected`, and the decision is refused if somebody
    decided something else about the same meanwhile.
    """

    op: str
    kind: str
    at: int
    summary: str
    state: str = ""
    studies: tuple[str, ...] = ()
    series: int = 0
    instances: int = 0
    changes: tuple[Change, ...] = ()
    moves: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def undo(self) -> str:
        """What to call to take it back, '' for what cannot be."""
        return f"radiolith amend undo {self.op}" if self.op else ""


@dataclass(frozen=True, slots=True)
class Deed:
    """One fact to write: kind, body without what all facts of an operation have, kind of scope and study, how many instances or
    studies it is about, and what the audit trail says of it ('' names the operation)."""

    kind: str
    body: Body
    scope: tuple[str, str]
    count: int = 1
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision that was thought through. `newest`: the time of the last thing known that it rests on."""

    operation: Operation
    deeds: tuple[Deed, ...]
    newest: int = 0
    study: str = ""  # for the audit trail


@dataclass(frozen=True, slots=True)
class Asked:
    """How a person wants it done. `expected`: the state a dry run told; `reason`: a sentence for other people."""

    reason: str = ""
    why: str = "CORRECT"
    expected: str = ""
    dry_run: bool = False

    def check(self) -> None:
        """Raises BadInput."""
        if self.why not in WHY:
            raise BadInput(f"why is one of {' and '.join(WHY)}")
        if len(self.reason) > REASON_MAX or not self.reason.isprintable():
            raise BadInput(f"a reason is a line of up to {REASON_MAX} characters")


NOTHING_ASKED = Asked()


@dataclass(slots=True)
class Operations:
    """One per process. `draw`: random bytes."""

    deciding: Deciding
    draw: Callable[[int], bytes] = os.urandom
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def name(self) -> str:
        """Of a new operation."""
        return self.draw(16).hex()

    def uid(self) -> str:
        """A UID nobody else has (PS3.5 B.2): a random UUID (RFC 9562, version 4) as a number."""
        drawn = bytearray(self.draw(16))
        drawn[6], drawn[8] = drawn[6] & 0x0F | 0x40, drawn[8] & 0x3F | 0x80
        return f"2.25.{int.from_bytes(drawn, 'big')}"

    async def carry_out(self, principal: Principal, asked: Asked, plan: Callable[[Reader], Plan]) -> Operation:
        """Look, compare with what is expected, and write; of a dry run only the first two. Raises Conflict."""
        asked.check()
        async with self._turn:  # what this process decides it decides one after the other
            made = await self.deciding.look(plan)
            if asked.expected and asked.expected != made.operation.state:
                raise Conflict("somebody has decided about this meanwhile; look again, then decide")
            if asked.dry_run:
                await self.deciding.note(principal, made.study, f"{made.operation.kind} tried", 1)
                return replace(made.operation, dry_run=True)
            return await self.write(principal, asked, made)

    async def write(self, principal: Principal, asked: Asked, plan: Plan) -> Operation:
        """All facts of one operation; done when each of them holds."""
        op = plan.operation.op or self.name()
        common: Body = {"op": op, "reason": asked.reason}
        waiting: deque[asyncio.Future[Settled]] = deque()
        for deed in plan.deeds:
            if len(waiting) == UNDER_WAY:
                await waiting.popleft()
            event = (deed.kind, deed.count, deed.detail or op)
            fact = (deed.kind, {**common, **deed.body})
            waiting.append(self.deciding.decide(principal, fact, deed.scope, event, after=plan.newest))
        while waiting:
            await waiting.popleft()
        found = await self.deciding.look(lambda read: told.operation(read, principal.tenant.id, op_bytes(op)))
        return replace(plan.operation, op=op, at=found.at if found else max(self.deciding.now(), plan.newest + 1))

    # ------------------------------------------------------------ taking back

    async def undo(
        self, principal: Principal, op: str, asked: Asked = NOTHING_ASKED, *, again: bool = False
    ) -> Operation:
        """Make that the words of an operation count no more, or count again. Raises NotFound, Conflict."""
        name = op_bytes(op)

        def plan(read: Reader) -> Plan:
            found = told.operation(read, principal.tenant.id, name)
            if found is None:
                raise NotFound(f"there is no operation {op}; `radiolith history operations` lists them")
            if found.undone is not again:
                raise Conflict(f"operation {op} {'holds' if again else 'has been undone'} already")
            state = f"{found.at:x}-{found.undone_at:x}"
            deed = Deed("undo", {"undoes": op, "again": again}, (FACTS, ""), detail=op)
            summary = f"{found.kind} of {found.by} {'counts again' if again else 'counts no more'}"
            done = Operation("", "undo", 0, summary, state)
            return Plan(done, (deed,), max(found.at, found.undone_at))

        done = await self.carry_out(principal, asked, plan)
        # what undoes the undoing is the redo of the same operation: undone once more, it is the operation that is named
        return replace(done, op="" if asked.dry_run else op)


def op_bytes(op: str) -> bytes:
    """Raises BadInput for what no operation is named by."""
    try:
        name = bytes.fromhex(op)
    except ValueError:
        name = b""
    if len(name) != 16:
        raise BadInput("an operation has 32 hexadecimal digits")
    return name


def slices(items: Sequence[list[str]]) -> list[list[list[str]]]:
    """Subjects as they go into facts of ITEMS."""
    return [list(items[at : at + ITEMS]) for at in range(0, len(items), ITEMS)]
