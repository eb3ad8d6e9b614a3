"""The change feed in words: which kinds there are, who may see which, and a page of it.

Owns: KINDS, VISIBLE, the form of cursor and event. Must never: show a change of another tenant, or of a kind that the role does
not see; leave one out that it does. Limits: a look goes through PAGES pages of PAGE changes, however few of them are wanted.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from radiolith.index import changes, events
from radiolith.index.changes import ChangeKind, Cursor
from radiolith.index.events import OF_INSTANCE, OF_QUARANTINE, Named
from radiolith.index.session import Reader
from radiolith.model import BadInput

PAGE, PAGES = 500, 10  # changes of one statement, and statements of one look: some 20 ms
LATEST = "latest"
"""In place of a cursor: from now on."""
_CURSOR = re.compile(r"([0-9a-f]{1,64})\.([0-9]{1,18})\.([0-9]{1,18})")

KINDS: dict[ChangeKind, str] = {
    ChangeKind.STORED: "instance.stored",
    ChangeKind.VERSION: "instance.version",
    ChangeKind.ENCODING: "instance.encoding",
    ChangeKind.REJECTED: "instance.rejected",
    ChangeKind.RESTORED: "instance.restored",
    ChangeKind.SWITCHED: "instance.switched",
    ChangeKind.QUARANTINED: "quarantine.added",
    ChangeKind.RELEASED: "quarantine.released",
    ChangeKind.COMPLETE: "study.complete",
    ChangeKind.AMENDED: "study.amended",
    ChangeKind.PLACED: "study.placed",
    ChangeKind.LABELLED: "labels.changed",
    ChangeKind.PATIENT: "patient.changed",
}
"""What a follower reads; docs/changes.md says what each means."""
NAMES = {name: kind for kind, name in KINDS.items()}

_ALL = frozenset(KINDS)
VISIBLE: dict[str, frozenset[ChangeKind]] = {
    "admin": _ALL,
    "archivist": _ALL,
    "editor": _ALL - OF_QUARANTINE,
    "reader": _ALL - OF_QUARANTINE,
}
"""Roles that follow, and what they see: those that may not look into the quarantine do not hear of it either."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `document`: as JSON, the same on every way out; a UID that the kind does not have is left out."""

    place: Cursor
    kind: str
    at: int  # microseconds
    about: Named

    @property
    def cursor(self) -> str:
        return text(self.place)

    def document(self) -> dict[str, Any]:
        about = self.about
        made: dict[str, Any] = {
            "number": self.place.number,
            "cursor": self.cursor,
            "kind": self.kind,
            "at": datetime.fromtimestamp(self.at / 1_000_000, UTC).isoformat(timespec="microseconds"),
        }
        if about.change.kind in OF_INSTANCE:
            made |= {"study": about.study, "series": about.series, "instance": about.sop}
        elif about.change.kind in OF_QUARANTINE:
            made |= {"quarantined": about.quarantined}
        elif events.is_of_patient(about.change):
            made |= {"patient": {"id": about.patient[0], "issuer": about.patient[1]} if about.patient else None}
        else:
            made |= {"study": about.study}
            if about.change.kind is ChangeKind.COMPLETE:
                made |= {"round": about.round, "instances": about.instances}
        return made


@dataclass(frozen=True, slots=True)
class Seen:
    """`after`: behind the last change looked at, seen or not. `more`: the feed goes on there already."""

    events: list[Event]
    after: Cursor
    more: bool


def text(cursor: Cursor) -> str:
    """A cursor as clients keep it."""
    return f"{cursor.epoch}.{cursor.xid}.{cursor.number}"


def parsed(given: str) -> Cursor:
    """The cursor in a text; '' and '0' are the beginning. Raises BadInput."""
    if given in ("", "0"):
        return Cursor()
    found = _CURSOR.fullmatch(given)
    if found is None:
        raise BadInput(f"'after' is what an answer before ended with, empty for the beginning, or '{LATEST}'")
    return Cursor(found[1], int(found[2]), int(found[3]))


def kinds_of(names: Collection[str]) -> frozenset[ChangeKind]:
    """The kinds by their names, all of them for none. Raises BadInput."""
    unknown = sorted(name for name in names if name not in NAMES)
    if unknown:
        raise BadInput(f"there is no event '{unknown[0]}'; there are: {', '.join(NAMES)}")
    return frozenset(NAMES[name] for name in names) if names else _ALL


def look(
    read: Reader, tenant_id: int, cursor: Cursor, limit: int, wanted: frozenset[ChangeKind], *, until: Cursor | None = None
) -> Seen:  # fmt: skip
    """The next events of a tenant behind a cursor, `limit` at most; `until`: the last change to look at."""
    events_found: list[Event] = []
    for _ in range(PAGES):
        found, after = changes.follow(read, cursor, PAGE)
        more = len(found) == PAGE
        if until is not None and found and (found[-1].xid, found[-1].number) >= (until.xid, until.number):
            found = [one for one in found if (one.xid, one.number) <= (until.xid, until.number)]
            after, more = until, False
        mine = [one for one in found if one.tenant_id == tenant_id and one.kind in wanted]
        if len(mine) > (room := limit - len(events_found)):
            mine, more = mine[:room], True
            after = Cursor(after.epoch, mine[-1].xid, mine[-1].number)
        events_found += [
            Event(Cursor(after.epoch, one.change.xid, one.change.number), KINDS[one.change.kind], one.change.at, one)
            for one in events.named(read, mine)
        ]
        cursor = after
        if not more or len(events_found) == limit:
            return Seen(events_found, cursor, more)
    return Seen(events_found, cursor, True)
