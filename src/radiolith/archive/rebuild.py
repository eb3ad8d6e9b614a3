"""The index made again from the log: after a kill for the tail of it, and whole when the database is gone.

Owns: the way from a record to its rows, the same for both. Must never: invent a time, an order or a decision that no
record holds. Limits: facts are sorted by 100 bytes each in memory; objects stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import structlog

from radiolith.archive import meta
from radiolith.archive.rescan import rescanned
from radiolith.archive.tasks import load_fact
from radiolith.dicom.reader import Unparsable
from radiolith.index import accounts, audit, extras, facts, instances, quarantine, segments
from radiolith.index.database import Database
from radiolith.index.extras import NONE, Extras
from radiolith.model import (
    AuditEvent,
    Blob,
    Damaged,
    Fact,
    Incoming,
    Kind,
    LimitExceeded,
    NotFound,
    Place,
    Scope,
    Tenant,
    Unavailable,
)
from radiolith.storage.backends import COMPLETE, Problem
from radiolith.storage.blobs import Log, Record
from radiolith.trust.keys import Keys

_FIRST = ("tenant", "void")
ALIVE = 120_000_000  # microseconds within which a living node has committed what it wrote
BATCH = 500  # objects a transaction; half a second of work, and what a kill repeats
log = structlog.get_logger()
Progress = Callable[["Report"], None]


@dataclass(slots=True)
class Report:
    segments: int = 0
    objects: int = 0
    quarantined: int = 0
    facts: int = 0
    voided: int = 0
    damaged: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class _Decision:
    at: int
    object_id: bytes
    kind: str
    blob: Blob


class Rebuild:
    """Reads records and writes rows. One at a time per home. `also`: attributes searchable beside the table's."""

    def __init__(self, store: Log, keys: Keys, database: Database, clock: Callable[[], int], also: Extras = NONE):
        self._store, self._keys, self._database, self._clock, self._also = store, keys, database, clock, also
        self._tenants: dict[bytes, Tenant] = {}
        self._scopes: dict[bytes, Scope] = {}

    # ------------------------------------------------------------ after a kill

    def recover(self, settled: int = 0) -> Report:
        """Seal what dead writers left, and roll forward every valid record the index does not have yet.

        settled: microseconds; younger segments are left alone. On an object store the batches of living nodes cannot
        be told from those of dead ones, and a living node commits its own within seconds.
        """
        report = Report()
        with self._database.read() as read:
            marks, complete = segments.segment_marks(read), segments.sealed_segments(read)
            self._tenants = {tenant.uid: tenant for tenant in accounts.tenants(read)}
        found = self._store.recover(lambda segment: COMPLETE if segment in complete else marks.get(segment))
        if settled and found:
            born = {info.id: info.modified for info in self._store.segments()}
            found = [one for one in found if self._clock() - born.get(one.segment, 0) > settled]
        if not found:
            return report
        self._adopt_scopes()
        decisions: list[_Decision] = []
        there = [one for one in found if one.state != "removed"]
        for one in found:
            report.segments += 1
            report.damaged += [f"segment {one.segment.hex()} at {p.offset}: {p.reason}" for p in one.damage]
        for one in there:  # as in `rebuild`: what is void must not get rows, wherever the fact lies
            self._collect_facts(one.segment, one.start, decisions, report)
        self._decide_first(decisions, report)
        void = self._void(decisions)
        for one in there:
            self._index(self._objects(one.segment, one.start, void, report), report, recovered=True)
        self._decide_rest(decisions, report)
        with self._database.write() as tx:
            for one in found:
                if one.state in ("sealed", "recovered"):
                    segments.record_segment(tx, one.segment, self._store.tier, sealed=True, indexed_end=one.end)
        log.info("recovered", segments=report.segments, objects=report.objects, facts=report.facts)
        return report

    # ------------------------------------------------------------ everything

    def rebuild(self, progress: Progress = lambda _: None, known: Mapping[bytes, int] | None = None) -> Report:
        """Fill an empty database from segments and keyring.

        known: how far each segment went by the index before this one; what is missing of that is reported as damage.
        """
        report = Report()
        self._adopt_scopes()
        decisions: list[_Decision] = []
        known = known or {}
        for one in self._store.recover(known.get, remove=False):
            report.damaged += [f"segment {one.segment.hex()} at {p.offset}: {p.reason}" for p in one.damage]
        infos = list(self._store.segments())
        missing = {segment for segment, end in known.items() if end} - {info.id for info in infos}
        report.damaged += [f"segment {segment.hex()}: it is gone, and the index knew it" for segment in sorted(missing)]
        for info in infos:  # facts first: tenants must exist, and what is void must not get rows
            self._collect_facts(info.id, 0, decisions, report)
        self._decide_first(decisions, report)
        void = self._void(decisions)
        for info in infos:
            report.segments += 1
            self._index(self._objects(info.id, 0, void, report), report, progress=progress)
            progress(report)
        self._decide_rest(decisions, report)
        with self._database.write() as tx:
            for info in infos:
                segments.record_segment(tx, info.id, self._store.tier, sealed=True, indexed_end=info.length)
            extras.complete(tx, [one.name for one in self._also.known], self._clock())
        return report

    def _adopt_scopes(self) -> None:
        self._scopes = {}
        for _, scope in self._keys.every_scope():
            self._scopes[scope.id] = scope

    def _collect_facts(self, segment: bytes, start: int, decisions: list[_Decision], report: Report) -> None:
        for record in self._records(segment, start, report):
            if record.kind == Kind.FACT:
                try:
                    self._add_fact(record, decisions)
                except (Damaged, NotFound, KeyError, ValueError) as failure:
                    report.damaged.append(f"fact {record.object_id.hex()}: {failure or type(failure).__name__}")

    def _decide_first(self, decisions: list[_Decision], report: Report) -> None:
        """Facts that objects depend on: tenants, and which records do not exist."""
        self._decide([d for d in decisions if d.kind in _FIRST], report)

    def _decide_rest(self, decisions: list[_Decision], report: Report) -> None:
        self._decide([d for d in decisions if d.kind not in _FIRST], report)

    def _void(self, decisions: list[_Decision]) -> set[bytes]:
        void: set[bytes] = set()
        for decision in decisions:
            if decision.kind == "void":
                objects = self._fact(decision).body["objects"]
                void |= {bytes.fromhex(str(one)) for one in objects}  # type: ignore[union-attr]
        return void

    # ------------------------------------------------------------ records to rows

    def _records(self, segment: bytes, start: int, report: Report) -> Iterator[Record]:
        def problem(found: Problem) -> None:
            report.damaged.append(f"segment {segment.hex()} at {found.offset}: {found.reason}")

        try:
            yield from self._store.records(segment, start, problem)
        except (Damaged, NotFound) as failure:
            report.damaged.append(f"segment {segment.hex()}: {failure}")

    def _objects(self, segment: bytes, start: int, void: set[bytes], report: Report) -> Iterator[Record]:
        for record in self._records(segment, start, report):
            if record.kind != Kind.FACT and record.object_id not in void:
                yield record

    def _index(
        self,
        records: Iterator[Record],
        report: Report,
        *,
        recovered: bool = False,
        progress: Progress = lambda _: None,
    ) -> None:
        objects: list[Incoming] = []
        sidelined: list[tuple[int, quarantine.Quarantined]] = []
        for record in records:
            try:
                self._add_object(record, objects, sidelined)
            except (Damaged, NotFound, Unavailable, Unparsable, LimitExceeded, KeyError, ValueError) as failure:
                report.damaged.append(f"object {record.object_id.hex()}: {failure or type(failure).__name__}")
            if len(objects) + len(sidelined) >= BATCH:
                self._write(objects, sidelined, report, recovered)
                progress(report)
        self._write(objects, sidelined, report, recovered)

    def _add_object(
        self, record: Record, objects: list[Incoming], sidelined: list[tuple[int, quarantine.Quarantined]]
    ) -> None:
        blob, reception = self._opened(record)
        tenant = self._tenant(record.tenant)
        if reception.kind == "quarantine" or reception.identity is None or reception.layout is None:
            row = quarantine.Quarantined(
                blob, reception.reason, reception.received_at, reception.source, reception.principal, reception.size,
                reception.sha256, reception.sop_class, reception.guess or {},
            )  # fmt: skip
            sidelined.append((tenant.id, row))
            return
        layout = reception.layout
        found = rescanned(self._store, self._keys, blob, layout, self._also.wanted)
        described = meta.in_domain(self._also.describe(found), reception.domain)
        objects.append(
            Incoming(
                tenant, reception.identity, reception.sop_class, described, layout, blob, reception.sha256, reception.received_at,
                reception.source, reception.principal, reception.policy,
            )
        )  # fmt: skip

    def _opened(self, record: Record) -> tuple[Blob, meta.Reception]:
        scope = self._scopes.get(record.scope_id)
        if scope is None:
            raise NotFound("the key of its scope does not exist")
        place = Place(record.segment, record.offset, record.length)
        blob = Blob(place, record.object_id, record.tenant, scope, record.wrapped_key, record.size)
        return blob, meta.load(self._store.open_meta(record, self._keys.object_key(blob)))

    def _add_fact(self, record: Record, decisions: list[_Decision]) -> None:
        scope = self._scopes.get(record.scope_id)
        if scope is None:
            raise NotFound("the key of its scope does not exist")
        place = Place(record.segment, record.offset, record.length)
        blob = Blob(place, record.object_id, record.tenant, scope, record.wrapped_key, record.size)
        fact = self._read_fact(blob)
        decisions.append(_Decision(fact.at, record.object_id, fact.kind, blob))

    def _read_fact(self, blob: Blob) -> Fact:
        payload = self._store.read(blob, self._keys.object_key(blob), 0, blob.size)
        return load_fact(blob.tenant, payload)

    def _fact(self, decision: _Decision) -> Fact:
        return self._read_fact(decision.blob)

    def _write(
        self,
        objects: list[Incoming],
        sidelined: list[tuple[int, quarantine.Quarantined]],
        report: Report,
        recovered: bool,
    ) -> None:
        if not objects and not sidelined:
            return
        with self._database.write() as tx:
            verdicts = instances.insert(tx, objects)
            for tenant, row in sidelined:
                quarantine.add_quarantined(tx, tenant, row)
            if recovered:
                fresh = [one for one, verdict in zip(objects, verdicts, strict=True) if not verdict.replayed]
                audit.insert(tx, self._recovered(fresh))  # of a merge that was cut short every copy has its row
        report.objects += len(objects)
        report.quarantined += len(sidelined)
        objects.clear()
        sidelined.clear()

    def _recovered(self, objects: list[Incoming]) -> list[AuditEvent]:
        """Stored, but its sender was never answered: the trail says so."""
        now = self._clock()
        counts: dict[tuple[int, str, str], int] = {}
        for one in objects:
            key = (one.tenant.id, one.principal, one.identity.study)
            counts[key] = counts.get(key, 0) + 1
        return [
            AuditEvent(now, tenant, principal, "store", study, outcome="recovered", source="recovery", count=count)
            for (tenant, principal, study), count in counts.items()
        ]

    def _decide(self, decisions: list[_Decision], report: Report) -> None:
        decisions.sort(key=lambda d: (d.at, d.object_id))
        for at in range(0, len(decisions), BATCH):
            with self._database.write() as tx:
                for decision in decisions[at : at + BATCH]:
                    facts.apply(tx, self._fact(decision), decision.object_id)
                    report.facts += 1
                    report.voided += decision.kind == "void"

    def _tenant(self, uid: bytes) -> Tenant:
        if uid not in self._tenants:
            with self._database.read() as read:
                self._tenants = {tenant.uid: tenant for tenant in accounts.tenants(read)}
        if uid not in self._tenants:  # the segment with its fact is lost
            with self._database.write() as tx:
                self._tenants[uid] = Tenant(accounts.tenant_row(tx, uid), uid, "")
        return self._tenants[uid]
