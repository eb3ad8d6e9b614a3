"""`radiolith check`: is everything that the index names really there, and is it what was written?

Owns: the walk over log and keyring, and that every segment the index names is there. Rows are not compared with records:
`check --rebuild` makes them anew. Must never: change anything. Without read_data it looks at structure and
clear parts; with it every byte is decrypted, and the hash of every dataset compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from radiolith.archive import meta
from radiolith.index import segments
from radiolith.index.database import Database
from radiolith.model import Blob, Damaged, Failure, Kind, NotFound, Place, Scope, Unavailable
from radiolith.storage import check
from radiolith.storage.blobs import Log, Record
from radiolith.storage.keyring import Keyring
from radiolith.trust.keys import Keys

PIECE = 1 << 20


@dataclass(slots=True)
class CheckReport:
    segments: int = 0
    records: int = 0
    bytes: int = 0
    keys: int = 0
    problems: list[str] = field(default_factory=list[str])


class Verify:
    def __init__(self, store: Log, keyring: Keyring, keys: Keys, database: Database):
        self._store, self._keyring, self._keys, self._database = store, keyring, keys, database

    def run(self, *, read_data: bool = False, progress: Callable[[CheckReport], None] = lambda _: None) -> CheckReport:
        """Blocks; reports problems in words and goes on."""
        report = CheckReport()
        self._check_keyring(report)
        scopes = {scope.id: scope for _, scope in self._keys.every_scope()}
        with self._database.snapshot() as read:
            marks = segments.segment_marks(read)
        for info in self._store.segments():
            report.segments += 1
            marks.pop(info.id, None)
            for problem in check.check_segment(self._store.backend, info.id):
                report.problems.append(f"segment {info.id.hex()} at {problem.offset}: {problem.reason}")
            self._check_records(info.id, scopes, report, read_data, progress)
            progress(report)
        for missing, end in marks.items():
            if end:
                report.problems.append(f"segment {missing.hex()}, which committed rows name, is missing")
        return report

    def prove_keys(self) -> list[str]:
        """Open one record of every segment: problems in words. Blocks, a tenth of a millisecond a segment."""
        problems: list[str] = []
        scopes = {scope.id: scope for _, scope in self._keys.every_scope()}
        for info in self._store.segments():
            try:
                record = next(iter(self._store.records(info.id, on_problem=lambda _: None)), None)
                if record is not None:
                    self._check_record(record, scopes, CheckReport(), False)
            except NotFound as failure:
                if self._store.exists(info.id):  # else it was merged or removed meanwhile
                    problems.append(f"segment {info.id.hex()}: {failure}")
            except (Damaged, Unavailable, ValueError) as failure:
                problems.append(f"segment {info.id.hex()}: {failure}")
        return problems

    def _check_keyring(self, report: CheckReport) -> None:
        report.problems += [f"keyring in {place}: {problem.reason}" for place, problem in self._keyring.check()]
        try:
            report.keys = self._keys.load()
        except Failure as failure:
            report.problems.append(f"keyring: {failure}")

    def _check_records(
        self,
        segment: bytes,
        scopes: dict[bytes, Scope],
        report: CheckReport,
        read_data: bool,
        progress: Callable[[CheckReport], None],
    ) -> None:
        try:
            for record in self._store.records(segment, on_problem=lambda p: None):  # check.segment has told them
                report.records += 1
                try:
                    self._check_record(record, scopes, report, read_data)
                except (Damaged, NotFound, Unavailable, ValueError) as failure:
                    report.problems.append(f"object {record.object_id.hex()}: {failure}")
                if report.records % 256 == 0:
                    progress(report)
        except (Damaged, NotFound) as failure:
            report.problems.append(f"segment {segment.hex()}: {failure}")

    def _check_record(self, record: Record, scopes: dict[bytes, Scope], report: CheckReport, read_data: bool) -> None:
        scope = scopes.get(record.scope_id)
        if scope is None:
            raise NotFound("the keyring has no key for it")
        place = Place(record.segment, record.offset, record.length)
        blob = Blob(place, record.object_id, record.tenant, scope, record.wrapped_key, record.size)
        key = self._keys.object_key(blob)
        body = self._store.open_meta(record, key)
        if not read_data:
            return
        start, stop, wanted = 0, record.size, b""
        if record.kind is not Kind.FACT:
            reception = meta.load(body)
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
