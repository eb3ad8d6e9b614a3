"""Do the rows of the index and the records of the log say the same?

Owns: both directions of that comparison. A record below its segment's watermark has a row of its size and hash, or is a
fact that was applied, a void, or a second copy; a row names a record that is there. Must never: change anything, or take
for an error what a running server has stored and not committed yet, or is just merging. Facts have no place in their
rows, so they are compared from the log's side only. Limits: PAGE records or rows at a time, FOOTERS lines of footers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from radiolith.archive.meta import Reception
from radiolith.index import places
from radiolith.index.database import Database
from radiolith.index.places import Named
from radiolith.model import Damaged, Identity, Kind, NotFound
from radiolith.storage.blobs import Log, Record

PAGE = 500  # records or rows asked about in one go
FOOTERS = 131_072  # lines of footers kept while rows are walked: 26 MB
_REBUILD = "stop the server and run `radiolith check --rebuild`"
_RESTORE = (
    "put the segment back from a copy or a backup; what none of them has is lost, and `radiolith check --rebuild` takes"
    " its rows away"
)
_KINDS = {Kind.FACT: "fact", Kind.QUARANTINE: "quarantined object", Kind.OBJECT: "object"}

Told = Callable[[str], None]
"""Takes a problem in words."""


class Agreement:
    """One comparison. `told` hears what is wrong, with UIDs and what to do."""

    def __init__(self, store: Log, database: Database, told: Told):
        self._store, self._database, self._told = store, database, told
        self._footers: OrderedDict[bytes, dict[int, tuple[int, bytes]]] = OrderedDict()
        self._lines = 0

    # ------------------------------------------------------------ records -> rows

    def records(self, found: Sequence[tuple[Record, Reception | None]], mark: int) -> int:
        """Records of one segment, each with what its trailer says (None for a fact); how many of them are newer than
        `mark`, the watermark as it was before they were read. Blocks."""
        with self._database.read() as read:
            rows = places.named(read, [record.object_id for record, _ in found])
            rest = [record.object_id for record, _ in found if record.object_id not in rows]
            spoken = places.spoken_for(read, rest)
        newer = 0
        for record, reception in found:
            row = rows.get(record.object_id)
            if row is not None:
                self._compare(row, record, reception)
            elif record.object_id in spoken:
                continue
            elif record.offset + record.length > mark:
                newer += 1
            else:
                where = f"its record is in segment {record.segment.hex()} at {record.offset}"
                self._told(f"{_record_name(record, reception)}: {where}, and no row of the index names it; {_REBUILD}")
        return newer

    def _compare(self, row: Named, record: Record, reception: Reception | None) -> None:
        """A row that names another place is looked at from the row's side: this record may be a copy."""
        if (row.place.segment, row.place.offset) != (record.segment, record.offset):
            return
        wrong = [] if row.size == record.size else [f"a size of {row.size} bytes, the record {record.size}"]
        if reception is not None and reception.sha256 != row.sha256:
            wrong.append("another SHA-256 than the record")
        if wrong:
            self._told(f"{_record_name(record, reception)}: its row says {' and '.join(wrong)}; {_REBUILD}")

    # ------------------------------------------------------------ rows -> records

    def rows(self) -> Iterator[int]:
        """Walk every row that names a record; yields the count of a page. Blocks."""
        for table in places.TABLES:
            last = 0
            while True:
                with self._database.read() as read:
                    page = places.rows_after(read, table, last, PAGE)
                if not page:
                    break
                last = page[-1].row
                for row in sorted(page, key=lambda one: (one.place.segment, one.place.offset)):
                    self._check_row(row)
                yield len(page)

    def _check_row(self, row: Named) -> None:
        problem = self._problem(row)
        if not problem:
            return
        with self._database.read() as read:  # merged and deleted since the page was read?
            now, identity = places.row_now(read, row), places.identity_of(read, row)
        if now is None:
            return
        if now.place != row.place:
            problem = self._problem(now)
        if problem:
            name = _name(identity, "quarantined object" if row.table == "quarantine" else "object", now.object_id)
            self._told(f"{name}: {problem}")

    def _problem(self, row: Named) -> str:
        """'', or what is wrong with the place a row names."""
        where = f"segment {row.place.segment.hex()}"
        try:
            footer = self._footer(row.place.segment)
            if footer is not None:
                right = footer.get(row.place.offset) == (row.place.length, row.object_id)
            else:
                right = self._store.record(row.place).object_id == row.object_id
        except NotFound:
            return f"{where}, which its row names, is missing; {_RESTORE}"
        except Damaged:
            right = False
        return (
            "" if right else f"its row names a record in {where} at {row.place.offset}, which is not there; {_REBUILD}"
        )

    def _footer(self, segment: bytes) -> dict[int, tuple[int, bytes]] | None:
        if segment in self._footers:
            self._footers.move_to_end(segment)
            return self._footers[segment]
        footer = self._store.footer(segment)
        if footer is None:
            return None  # a segment that is being written: it may be sealed at any moment
        self._footers[segment] = footer
        self._lines += len(footer)
        while self._lines > FOOTERS and len(self._footers) > 1:
            self._lines -= len(self._footers.popitem(last=False)[1])
        return footer


def _record_name(record: Record, reception: Reception | None) -> str:
    return _name(reception.identity if reception else None, _KINDS[record.kind], record.object_id)


def _name(identity: Identity | None, kind: str, object_id: bytes) -> str:
    if identity is None:
        return f"{kind} {object_id.hex()}"
    study = f"study {identity.study}, series {identity.series}, " if identity.study else "non-patient, "
    return f"{study}instance {identity.sop} ({kind} {object_id.hex()})"
