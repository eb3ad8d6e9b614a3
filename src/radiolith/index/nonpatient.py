"""Non-patient objects as the index knows them: a list under a root of their own, without patient, study or series.

Owns: reading that list by SOP class, in the order of arrival. Must never: know their attributes, which no column holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from radiolith.index.attributes import NO_NUMBER
from radiolith.index.codes import Code, number_of
from radiolith.index.heldrows import COLUMNS, held, tenant_uid
from radiolith.index.session import Reader
from radiolith.index.uids import pack_uid
from radiolith.model import Held

START = (-(2**62), 0)
Position = tuple[int, int]
"""(instance number, row): what a list is ordered by and goes on behind."""


def listed(read: Reader, tenant_id: int, classes: Iterable[str], after: Position, limit: int) -> Iterator[Held]:
    """Up to `limit` current objects of these SOP classes behind `after`, none of them rejected."""
    root = read.one(
        "SELECT e.id FROM studies s CROSS JOIN series e WHERE s.uid = ? AND s.tenant_id = ? AND e.uid = ?"
        " AND e.study_id = s.id",
        (pack_uid(""), tenant_id, pack_uid("")),
    )
    found = (number_of(read, Code.SOP_CLASS, 0, name) for name in sorted(classes))
    codes = [number for number in found if number is not None]
    if root is None or not codes:
        return
    marks = ", ".join("?" * len(codes))
    rows = read.all(
        f"SELECT {COLUMNS} FROM instances i WHERE i.series_id = ? AND (i.number, i.id) > (?, ?) AND i.class IN ({marks})"  # noqa: S608
        " AND i.current = 1 AND i.reason = 0 ORDER BY i.number, i.id LIMIT ?",
        (root[0], *after, *codes, limit),
    )
    tenant = tenant_uid(read, tenant_id)
    for row in rows:
        yield held(read, tenant, "", "", row)


def position(of: Held) -> Position:
    return (NO_NUMBER if of.number is None else of.number, of.instance_id)
