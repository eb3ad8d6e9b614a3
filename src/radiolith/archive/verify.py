"""`radiolith check`: is everything that the index names really there, and is it what was written?

Owns: the walk over log and keyring; `agreement` compares rows with records on the way. Must never: change anything.
Without read_data it looks at structure and clear parts; with it every byte is decrypted, and the hash of every dataset
compared. Limits: one segment's list of records, one page of rows; PROBLEMS in words, more are counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from radiolith.archive import meta
from radiolith.archive.agreement import PAGE, Agreement
from radiolith.index import segments
from radiolith.index.database import Database
from radiolith.model import Blob, Damaged, Failure, Kind, NotFound, Unavailable
from radiolith.storage import check
from radiolith.storage.blobs import Log, Record
from radiolith.storage.keyring import Keyring
from radiolith.trust.keys import Keys

PIECE = 1 << 20
LOST = 10_000  # scopes whose key was looked for in vain, remembered: 3 MB
PROBLEMS = 10_000  # told in words, 3 MB: a lost segment of an archive of small objects holds more


@dataclass(slots=True)
class CheckReport:
    """`newer`: records no transaction has named yet, a running server's last ones; `unlisted`: problems beyond PROBLEMS."""

    segments: int = 0
    records: int = 0
    rows: int = 0
    newer: int = 0
    bytes: int = 0
    keys: int = 0
    unlisted: int = 0
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])  # right again, but somebody should know what happened

    def add(self, problem: str) -> None:
        if len(self.problems) < PROBLEMS:
            self.problems.append(problem)
        else:
            self.unlisted += 1


Progress = Callable[[CheckReport], None]
Found = tuple[Record, meta.Reception | None]


class Verify:
    def __init__(self, store: Log, keyring: Keyring, keys: Keys, database: Database):
        self._store, self._keyring, self._keys, self._database = store, keyring, keys, database
        self._lost: dict[bytes, str] = {}  # scopes without a key, and why

    def run(self, *, read_data: bool = False, progress: Progress = lambda _: None) -> CheckReport:
        """Blocks; reports problems in words and goes on."""
        self._lost.clear()
        report = CheckReport()
        agreement = Agreement(self._store, self._database, report.add)
        self._check_keyring(report)
        with self._database.snapshot() as read:
            marks, dropped = segments.segment_marks(read), segments.dropped_segments(read)
        missing = {segment for segment, end in marks.items() if end} - dropped
        for info in self._store.segments():
            report.segments += 1
            missing.discard(info.id)
            for problem in check.check_segment(self._store.backend, info.id):
                report.add(f"segment {info.id.hex()} at {problem.offset}: {problem.reason}")
            page: list[Found] = []
            for found in self._records(info.id, report, read_data):
                page.append(found)
                if len(page) == PAGE:
                    report.newer += agreement.records(page, marks.get(info.id, 0))
                    page.clear()
                    progress(report)
            report.newer += agreement.records(page, marks.get(info.id, 0))
            progress(report)
        for segment in sorted(missing):
            if not self._store.exists(segment):  # made since the list was begun
                report.add(f"segment {segment.hex()}, which committed rows name, is missing")
        for count in agreement.rows():
            report.rows += count
            progress(report)
        return report

    def prove_keys(self) -> list[str]:
        """Open one record of every segment: problems in words. Blocks, a tenth of a millisecond a segment."""
        problems: list[str] = []
        for info in self._store.segments():
            try:
                record = next(iter(self._store.records(info.id, on_problem=lambda _: None)), None)
                if record is not None:
                    self._check_record(record, CheckReport(), False)
            except NotFound as failure:
                if self._store.exists(info.id):  # else it was merged or removed meanwhile
                    problems.append(f"segment {info.id.hex()}: {failure}")
            except (Damaged, Unavailable, ValueError) as failure:
                problems.append(f"segment {info.id.hex()}: {failure}")
        return problems

    def _check_keyring(self, report: CheckReport) -> None:
        for place, problem in self._keyring.check():
            report.add(f"keyring in {place}: {problem.reason}")
        try:
            report.keys = self._keys.load()
        except Failure as failure:
            report.add(f"keyring: {failure}")

    def _records(self, segment: bytes, report: CheckReport, read_data: bool) -> Iterator[Found]:
        """The readable records of a segment, each with what its trailer says; None for facts, and where it cannot be
        opened."""
        try:
            for record in self._store.records(segment, on_problem=lambda p: None):  # check_segment has told them
                report.records += 1
                reception = None
                try:
                    reception = self._check_record(record, report, read_data)
                except (Damaged, NotFound, Unavailable, KeyError, ValueError) as failure:
                    report.add(f"object {record.object_id.hex()}: {failure}")
                yield record, reception
        except (Damaged, NotFound) as failure:
            if not isinstance(failure, NotFound) or self._store.exists(segment):  # else it was merged meanwhile
                report.add(f"segment {segment.hex()}: {failure}")

    def _check_record(self, record: Record, report: CheckReport, read_data: bool) -> meta.Reception | None:
        blob = record.blob
        key = self._object_key(blob)
        body = self._store.open_meta(record, key)
        reception = meta.load(body) if record.kind is not Kind.FACT else None
        if not read_data:
            return reception
        start, stop, wanted = 0, record.size, b""
        if reception is not None:
            wanted = reception.sha256
            if reception.layout is not None:
                start, stop = reception.layout.dataset_start, reception.layout.dataset_end
            else:
                stop = reception.size
        digest = hashlib.sha256()
        for at in range(0, record.size, PIECE):
            data = memoryview(self._store.read(blob, key, at, min(record.size, at + PIECE)))
            report.bytes += len(data)
            digest.update(data[max(0, start - at) : max(0, stop - at)])
        if wanted and digest.digest() != wanted:
            raise Damaged("its bytes have another SHA-256 than when it was received")
        return reception

    def _object_key(self, blob: Blob) -> bytes:
        """A scope without a key is looked for in the whole keyring, once."""
        if blob.scope.id in self._lost:
            raise Unavailable(self._lost[blob.scope.id])
        try:
            return self._keys.object_key(blob)
        except Unavailable as failure:
            if len(self._lost) < LOST:
                self._lost[blob.scope.id] = str(failure)
            raise
