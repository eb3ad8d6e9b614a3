"""Searching non-patient objects (PS3.18 12.6): their headers are what is matched.

Owns: the order, the bound and what is returned. Must never: authorise or audit (`query` does). An archive holds few of
them (protocols, palettes, templates: tens to some thousands) and they have no attributes in common, so none is indexed:
a search reads up to LOOKED_AT headers of a category, and where that is not enough it is refused, never answered in part.
A SOP Instance UID leads to its object at once. Every plain attribute is returned, a sequence where it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from radiolith.dicom.match import matches
from radiolith.index import instances, nonpatient
from radiolith.index.database import Database
from radiolith.model import BadInput, Held, LimitExceeded, Page, Query, Row

LOOKED_AT = 5000  # headers of one search, 0.3 ms each
BLOCK = 200  # objects listed at a time
PAGE_BYTES = 16 << 20  # of JSON behind one page with sequences in it: an inventory can be long
_CLASS, _SOP = 0x00080016, 0x00080018
_CURSOR = re.compile(r"(-?[0-9]{1,10})\.([0-9]{1,18})")


def search(
    database: Database, tenant: int, classes: frozenset[str], query: Query, read: Callable[[Held], tuple[Row, int]]
) -> Page:
    """A page of the objects of these SOP classes; blocks. Raises BadInput, LimitExceeded.

    `read` gives an object's attributes and how many bytes they are as JSON, 0 where it cannot be read: such an object is
    listed by its UIDs, and a Warning says that other keys were not looked at.
    """
    asked = {match.path[0] for match in query.matches} | {path[0] for path in query.include}
    found: list[tuple[Held, Row]] = []
    left, size, unread = 0 if query.cursor else query.offset, 0, 0
    for number, held in enumerate(_candidates(database, tenant, classes, query)):
        if number == LOOKED_AT:
            raise LimitExceeded(f"{LOOKED_AT} objects were looked at without filling the page; ask by SOP Instance UID")
        described, length = read(held)
        unread += not length
        row = {_CLASS: ("UI", held.sop_class), _SOP: ("UI", held.identity.sop), **described}
        if not all(matches(row, match.path, match.values) for match in query.matches):
            continue
        if left:
            left -= 1
            continue
        size += length if query.include_all or asked else 0
        if size > PAGE_BYTES and found:
            raise LimitExceeded("all attributes of so many objects are too much at once: ask for smaller pages")
        found.append((held, _shown(row, query.include_all, asked)))
        if len(found) > query.limit:
            break
    more = len(found) > query.limit
    found = found[: query.limit]
    cursor = "{}.{}".format(*nonpatient.position(found[-1][0])) if more and found else ""
    warnings = (f"{unread} objects could not be read and were matched by their UIDs alone",) if unread else ()
    return Page([row for _, row in found], more, cursor, warnings)


def _candidates(database: Database, tenant: int, classes: frozenset[str], query: Query) -> Iterator[Held]:
    uids = next((match.values for match in query.matches if match.path == (_SOP,) and any(match.values)), None)
    if uids is not None:
        yield from _named(database, tenant, classes, sorted(set(uids)))
        return
    after = _position(query.cursor)
    while True:
        with database.read() as read:
            block = list(nonpatient.listed(read, tenant, classes, after, BLOCK))
        yield from block
        if len(block) < BLOCK:
            return
        after = nonpatient.position(block[-1])


def _named(database: Database, tenant: int, classes: frozenset[str], uids: list[str]) -> Iterator[Held]:
    for uid in uids:
        with database.read() as read:
            helds = list(instances.locate(read, tenant, "", "", uid))
        yield from (held for held in helds if held.sop_class in classes)


def _position(cursor: str) -> nonpatient.Position:
    if not cursor:
        return nonpatient.START
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise BadInput("the cursor is not one of ours")
    return int(found[1]), int(found[2])


def _shown(row: Row, everything: bool, asked: set[int]) -> Row:
    return {tag: value for tag, value in row.items() if everything or tag in asked or value[0] != "SQ"}
