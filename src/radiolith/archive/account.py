"""An account in words: what came, what was said about it, what was decided, one line each.

Owns: how receptions, operations and decisions read. Must never: look further than what it is given, or put a patient's data into
a line that is not `full`. Limits: DETAILS lines of one operation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from radiolith.archive.difference import in_words
from radiolith.archive.subjects import PatientKey
from radiolith.dicom import dictionary
from radiolith.index import told
from radiolith.index.session import Reader
from radiolith.index.told import Told, Word

DETAILS = 100  # lines of one operation; a split of many instances has one for each


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of an account. `kind`: 'received', 'rejected', 'restored', or that of an operation; `lines`: what, in words."""

    at: int
    kind: str
    by: str
    lines: tuple[str, ...]
    source: str = ""
    op: str = ""
    why: str = ""
    reason: str = ""
    undone: bool = False
    undone_at: int = 0
    undone_by: str = ""


def in_order(found: Iterable[Happening]) -> list[Happening]:
    return sorted(found, key=lambda one: (one.at, one.kind, one.op))


def received(one: told.Reception) -> Happening:
    lines = [f"{one.count} objects" if one.count != 1 else "1 object"]
    if one.versions:
        lines.append(f"{one.versions} of them with other content under a UID that was held")
    if one.encodings:
        lines.append(f"{one.encodings} of them in another transfer syntax")
    source = f"{one.source.door} {one.source.peer} {one.source.address}".strip()
    return Happening(one.first_at, "received", one.principal, tuple(lines), source)


def operations(read: Reader, tenant: int, words: Sequence[Word], *, full: bool) -> list[Happening]:
    """One line for each operation that said any of these words."""
    by_op: dict[bytes, list[Word]] = {}
    for word in words:
        by_op.setdefault(word.op, []).append(word)
    found: list[Happening] = []
    for op, said in by_op.items():
        one = told.operation(read, tenant, op)
        if one is not None and one.kind:
            found.append(operation_told(one, said, 0, full=full))
    return found


def operation_told(one: Told, words: Sequence[Word], count: int, *, full: bool) -> Happening:
    lines = [_line(word, full=full) for word in words[:DETAILS]]
    if len(words) > DETAILS:
        lines.append(f"and {len(words) - DETAILS} more")
    if count:
        lines.append(f"{count} instances")
    return Happening(
        one.at, one.kind, one.by, tuple(lines), "", one.op.hex(), one.why, one.reason, one.undone, one.undone_at,
        one.undone_by,
    )  # fmt: skip


def _line(word: Word, *, full: bool) -> str:
    """One word as a person reads it; `full`: with values and with who it is about."""
    kind, *names = word.subject or ("",)
    if kind in ("patient", "patient-of"):
        who = (
            f"patient {PatientKey(*names) if kind == 'patient' else PatientKey('', '', names[0])}"
            if full
            else "a patient"
        )
    else:
        who = " ".join((kind, *names[-1:])).strip()
    to = word.target[1:] if word.target else ()
    where = (
        (" of ".join(part for part in to if part) if full or word.target[:1] == ("study",) else "another") if to else ""
    )
    said = json.loads(word.value) if word.value else None
    slot, _, rest = word.slot.partition(":")
    if len(slot) == 8 and not set(slot) - set("0123456789ABCDEF"):
        tag = int(slot, 16)
        called = (dictionary.keyword(tag) or dictionary.text(tag)) + (f" of {rest}" if rest else "")
        value = f" = {in_words(said)}" if said is not None else " removed"
        return f"{who}: {called}{value if full or said is None else ' corrected'}"
    words = {
        "place": f"{who} is in study {where}" if where else f"{who} is moved",
        "patient": f"{who} is of patient {where}",
        "into": f"{who} is patient {where}",
        "state": f"{who} is {said}",
        "link": f"{who} is{'' if said else ' not'} the same person as {where or 'another'}",
        "settle": f"case {rest if full else ''} is settled: {said}",
        "label": f"{who}: label {rest}",
    }
    return words.get(slot, f"{who}: {slot}")


_DECIDED = {
    "reject": "rejected",
    "restore": "restored",
    "current": "chosen",
    "resolve": "chosen",
    "encoding": "recognised",
}


def decided(events: Sequence[told.Event]) -> list[Happening]:
    """One line for each rejection, restoration or choice, however many instances it named."""
    groups: dict[tuple[bytes, str], list[told.Event]] = {}
    for event in events:
        groups.setdefault((event.op, event.kind), []).append(event)
    found: list[Happening] = []
    for (op, kind), some in groups.items():
        first = some[0]
        line = f"{len(some)} instances" if len(some) > 1 else f"instance {first.sop}"
        value = f": version {first.value}" if kind in ("current", "resolve") else ""
        reason = first.value if kind == "reject" else ""
        found.append(
            Happening(
                first.at, _DECIDED.get(kind, kind), first.by, (line + value,), "", op.hex(), "", reason, first.undone
            )
        )
    return found
