"""Where a search goes on: the order of rows of each level, and a cursor for the last row given.

Owns: the form of the cursor and the condition it becomes. Must never: trust a cursor beyond its numbers.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence

from radiolith.index.patterns import Sql
from radiolith.index.rows import KEYS
from radiolith.model import BadInput, Level


def cursor_of(values: Sequence[int]) -> str:
    """An opaque text for the client: the keys of the last row it was given."""
    return base64.urlsafe_b64encode(struct.pack(f">{len(values)}q", *values)).decode().rstrip("=")


def position_of(cursor: str, level: Level) -> tuple[int, ...]:
    """The keys in a cursor, () for none. Raises BadInput for one that is not of this level."""
    if not cursor:
        return ()
    keys = len(KEYS[level])
    try:
        return struct.unpack(f">{keys}q", base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (binascii.Error, struct.error, ValueError) as error:
        raise BadInput("the continuation does not belong to this search") from error


def after(level: Level, position: tuple[int, ...]) -> Sql:
    """Rows behind the last one of the page before."""
    if level is Level.PATIENT:
        return Sql("p.id < ?", position)
    date, study = position[:2]
    if level is Level.STUDY:
        return Sql("(s.study_date, s.id) < (?, ?)", (date, study))
    if level is Level.SERIES:
        inner = Sql("e.id > ?", position[2:])
    else:
        inner = Sql("(e.id > ? OR (e.id = ? AND (i.number, i.id) > (?, ?)))", (position[2], *position[2:]))
    return Sql(
        f"s.study_date <= ? AND ((s.study_date, s.id) < (?, ?) OR (s.id = ? AND {inner.text}))",
        (date, date, study, study, *inner.params),
    )
