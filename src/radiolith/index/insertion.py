"""Rows for what became durable: one call per batch, inside its transaction.

Owns: the order in which rows are locked and written. Must never: commit, or let the result depend on which of two
transactions came first. Locks are taken in one order everywhere (codes, patients, studies, each sorted), and everything
below a study is changed under its row's lock, so two senders of one identity end in one state on both databases.

The columns of a patient, study or series are those of its instance with the smallest (received_at, object id); that key
stays in the row as `first_key`. Of two records with the same bytes the one with the smaller key is kept, the other's id is
noted in `duplicates`. So rows are a function of the set of records, whatever the order a rebuild reads them in.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from radiolith.index import codes
from radiolith.index.attributes import INSTANCE_COLUMNS, NO_NUMBER, PATIENT_COLUMNS, SERIES_COLUMNS, STUDY_COLUMNS
from radiolith.index.changes import ChangeKind, record
from radiolith.index.codes import Code, ScopeKind
from radiolith.index.counts import Tally, unlist_modalities
from radiolith.index.current import POLICIES
from radiolith.index.heldrows import read_row
from radiolith.index.identities import (
    UNDECIDED,
    HeldRow,
    Parent,
    decided,
    has_decisions,
    last_decision,
    load,
    settle,
    voided,
)
from radiolith.index.layouts import pack_layout
from radiolith.index.person import NameKind, write_names
from radiolith.index.session import Writer
from radiolith.index.uids import pack_uid
from radiolith.model import BadInput, Held, Incoming, Outcome

UID_MAX = 512  # characters; the standard has 64, and an index entry must fit a page of either database
Columns = dict[str, "str | int | None"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one incoming object. `held` is its row; for a DUPLICATE the row that was there already.

    `replayed`: this very record was indexed before (recovery, or a commit whose answer was lost), or is void; nothing
    changed. `others`: what else is held under the identity, when that is not nothing.
    """

    outcome: Outcome
    held: Held
    replayed: bool = False
    others: tuple[Held, ...] = ()


@dataclass(slots=True)
class _Item:
    """One incoming object on its way through the batch."""

    incoming: Incoming
    study: bytes
    series: bytes
    sop: bytes
    key: bytes  # received_at and object id: what decides whose attributes a row shows
    parent: Parent = field(default_factory=lambda: Parent(0, 0))
    row: HeldRow | None = None
    outcome: Outcome = Outcome.STORED
    replayed: bool = False


def first_key(received_at: int, object_id: bytes) -> bytes:
    return received_at.to_bytes(8, "big") + object_id


def insert(tx: Writer, incoming: Sequence[Incoming]) -> list[Verdict]:
    """Give durable objects their rows, changes and counts; one verdict each, in order.

    Idempotent: a record that has its row already is `replayed`. Raises BadInput for an unknown policy or a UID that fits
    no index.
    """
    void = voided(tx, [one.blob.object_id for one in incoming])
    if not void:
        return _Batch(tx, incoming).run() if incoming else []
    kept = [one for one in incoming if one.blob.object_id not in void]
    verdicts = iter(_Batch(tx, kept).run() if kept else [])
    return [next(verdicts) if one.blob.object_id not in void else _refused(one) for one in incoming]


def _refused(one: Incoming) -> Verdict:
    """A record that was refused when it came: it gets no row, whoever reads it again."""
    return Verdict(Outcome.DUPLICATE, _own_held(one, 0, False, ""), replayed=True)


class _Batch:
    def __init__(self, tx: Writer, incoming: Sequence[Incoming]):
        self.tx = tx
        self.tally = Tally()
        self.items = [_item(one) for one in incoming]
        self.by_key = sorted(
            self.items, key=lambda item: item.key
        )  # so that within a batch the earlier one is there first
        self.codes: dict[tuple[Code, int], dict[str, int]] = {}
        self.series_new: set[int] = set()
        self.held: dict[tuple[int, bytes], list[HeldRow]] = {}
        self.touched: dict[tuple[int, bytes], _Item] = {}  # identities whose standing must be settled
        self.fresh: list[_Item] = []
        self.duplicates: list[tuple[bytes, HeldRow]] = []
        self.switched: list[tuple[int, int, int, int]] = []

    def run(self) -> list[Verdict]:
        self._encode()
        patients = self._patients()
        studies = self._studies(patients)
        self._series(studies)
        self._load_held()
        for item in self.by_key:
            self._place(item)
        self._settle()
        self._write()
        self.tally.apply(self.tx)
        return [self._verdict(item) for item in self.items]

    # ------------------------------------------------------------ codes

    def _encode(self) -> None:
        wanted: dict[tuple[Code, int], set[str]] = {}
        for item in self.items:
            one = item.incoming
            wanted.setdefault((Code.SOP_CLASS, 0), set()).add(one.sop_class)
            wanted.setdefault((Code.SYNTAX, 0), set()).add(one.layout.transfer_syntax)
            wanted.setdefault((Code.SOURCE, one.tenant.id), set()).add(codes.source_text(one.source))
            wanted.setdefault((Code.PRINCIPAL, one.tenant.id), set()).add(one.principal)
        for kind, tenant_id in sorted(wanted):
            self.codes[kind, tenant_id] = codes.encode(self.tx, kind, tenant_id, wanted[kind, tenant_id])

    # ------------------------------------------------------------ parents

    def _patients(self) -> dict[tuple[Any, ...], int]:
        """Patient key -> row. Every object's patient gets a row, so that the set of patients depends on no order."""
        best: dict[tuple[Any, ...], _Item] = {}
        for item in self.items:
            if item.study:
                key = _patient_key(item)
                if key not in best or item.key < best[key].key:
                    best[key] = item
        return {key: self._patient(key, best[key]) for key in sorted(best)}

    def _patient(self, key: tuple[Any, ...], item: _Item) -> int:
        described = item.incoming.description.patient
        row = self._find_patient(key)
        if row is None:
            row_id = self.tx.allocate("patients", 1)[0]
            if self._make_patient(key, item, row_id):
                self._write_patient_sets(item, row_id, None)
                return row_id
            row = self._find_patient(key)
        if row is None:
            raise RuntimeError("a patient was neither found nor made")
        if item.key < bytes(row[1]):
            before = self.tx.one(
                f"SELECT first_key, patient_name FROM patients WHERE id = ?{self.tx.lock_rows}", (row[0],)
            )
            if before is not None and item.key < bytes(before[0]):
                sets = ", ".join(f"{column} = ?" for column in PATIENT_COLUMNS)
                sql = f"UPDATE patients SET first_key = ?, {sets} WHERE id = ?"  # noqa: S608
                self.tx.run(sql, (item.key, *_values(described, PATIENT_COLUMNS), row[0]))
                self._write_patient_sets(item, row[0], before[1])
        return row[0]

    def _find_patient(self, key: tuple[Any, ...]) -> Any:
        if key[0] == "anchor":
            return self.tx.one(
                "SELECT id, first_key FROM patients WHERE anchor = ? AND tenant_id = ?", (key[2], key[1])
            )
        return self.tx.one(
            "SELECT p.id, p.first_key FROM patient_identifiers i JOIN patients p ON p.id = i.patient_id"
            " WHERE i.tenant_id = ? AND i.value = ? AND i.issuer = ?",
            key[1:],
        )

    def _make_patient(self, key: tuple[Any, ...], item: _Item, row_id: int) -> bool:
        """False when another transaction just made it."""
        described = item.incoming.description.patient
        anchor = key[2] if key[0] == "anchor" else None
        if anchor is None:
            made = self.tx.run(
                "INSERT INTO patient_identifiers(tenant_id, value, issuer, issuer_type, type, patient_id)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (*key[1:], described.get("issuer_type") or "", described.get("id_type") or "", row_id),
            )
            if made == 0:
                return False
        columns, marks = ", ".join(PATIENT_COLUMNS), ", ?" * len(PATIENT_COLUMNS)
        sql = (
            f"INSERT INTO patients(id, tenant_id, anchor, first_key, state, {columns})"  # noqa: S608
            f" VALUES (?, ?, ?, ?, 0{marks}) ON CONFLICT DO NOTHING"
        )
        return bool(self.tx.run(sql, (row_id, key[1], anchor, item.key, *_values(described, PATIENT_COLUMNS))))

    def _write_patient_sets(self, item: _Item, row_id: int, name_before: str | None) -> None:
        tenant_id, described = item.incoming.tenant.id, item.incoming.description.patient
        write_names(self.tx, NameKind.PATIENT, (tenant_id, row_id), name_before, described.get("patient_name"))
        self.tx.run("DELETE FROM claimed_identifiers WHERE patient_id = ?", (row_id,))
        claimed: list[list[str]] = json.loads(str(described.get("claimed") or "[]"))
        self.tx.run_many(
            "INSERT INTO claimed_identifiers(tenant_id, value, issuer, issuer_type, type, patient_id)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(tenant_id, *identifier, row_id) for identifier in claimed],
        )

    def _studies(self, patients: dict[tuple[Any, ...], int]) -> dict[tuple[int, bytes], int]:
        """(tenant, packed UID) -> row, locked from here to the end of the transaction."""
        best: dict[tuple[int, bytes], _Item] = {}
        for item in self.items:
            key = (item.incoming.tenant.id, item.study)
            if key not in best or item.key < best[key].key:
                best[key] = item
        rows: dict[tuple[int, bytes], int] = {}
        for key in sorted(best):
            item = best[key]
            rows[key] = self._study(key, item, patients[_patient_key(item)] if item.study else None)
        for item in self.items:
            if item.study:
                self.tally.touch(rows[item.incoming.tenant.id, item.study], item.incoming.received_at)
        return rows

    def _study(self, key: tuple[int, bytes], item: _Item, patient_id: int | None) -> int:
        look = f"SELECT id, first_key, study_date, modalities, referring FROM studies WHERE uid = ? AND tenant_id = ?{self.tx.lock_rows}"
        values = _values(item.incoming.description.study, STUDY_COLUMNS)
        row = self.tx.one(look, (key[1], key[0]))
        if row is None:
            columns, marks = ", ".join(STUDY_COLUMNS), ", ?" * len(STUDY_COLUMNS)
            made = self.tx.one(
                "INSERT INTO studies(tenant_id, uid, patient_id, first_key, modalities, classes, series, instances, rejected,"  # noqa: S608
                f" size, changed_at, {columns}) VALUES (?, ?, ?, ?, '', '', 0, 0, 0, 0, 0{marks}) ON CONFLICT DO NOTHING RETURNING id",
                (*key, patient_id, item.key, *values),
            )
            if made is not None:
                self._write_referring(item, made[0], None)
                return made[0]
            row = self.tx.one(look, (key[1], key[0]))
        if row is None:
            raise RuntimeError("a study was neither found nor made")
        if item.key < bytes(row[1]):
            modalities = set(row[3].split("\\")) - {""}
            unlist_modalities(self.tx, (key[0], row[2], row[0]), modalities)
            sets = ", ".join(f"{column} = ?" for column in STUDY_COLUMNS)
            sql = f"UPDATE studies SET first_key = ?, patient_id = ?, modalities = '', {sets} WHERE id = ?"  # noqa: S608
            self.tx.run(sql, (item.key, patient_id, *values, row[0]))
            self._write_referring(item, row[0], row[4])
            self.tally.refresh(row[0])
        return row[0]

    def _write_referring(self, item: _Item, row_id: int, before: str | None) -> None:
        owner = (item.incoming.tenant.id, row_id)
        write_names(self.tx, NameKind.REFERRING, owner, before, item.incoming.description.study.get("referring"))

    def _series(self, studies: dict[tuple[int, bytes], int]) -> None:
        best: dict[tuple[int, bytes], _Item] = {}
        for item in self.items:
            key = (studies[item.incoming.tenant.id, item.study], item.series)
            if key not in best or item.key < best[key].key:
                best[key] = item
        rows = {key: self._one_series(key, best[key]) for key in sorted(best)}
        for item in self.items:
            study_id = studies[item.incoming.tenant.id, item.study]
            item.parent = Parent(rows[study_id, item.series], study_id, counted=bool(item.study))

    def _one_series(self, key: tuple[int, bytes], item: _Item) -> int:
        """The study's lock makes this the only transaction that can be here."""
        described = item.incoming.description.series
        values = _values(described, SERIES_COLUMNS)
        row = self.tx.one("SELECT id, first_key, modality FROM series WHERE uid = ? AND study_id = ?", (key[1], key[0]))
        if row is None:
            columns, marks = ", ".join(SERIES_COLUMNS), ", ?" * len(SERIES_COLUMNS)
            made = self.tx.one(
                f"INSERT INTO series(tenant_id, study_id, uid, first_key, classes, instances, rejected, size, {columns})"  # noqa: S608
                f" VALUES (?, ?, ?, ?, '', 0, 0, 0{marks}) RETURNING id",
                (item.incoming.tenant.id, *key, item.key, *values),
            )
            if made is None:
                raise RuntimeError("a series was not made")
            self.series_new.add(made[0])
            self._write_requests(item, made[0])
            return made[0]
        if item.key < bytes(row[1]):
            sets = ", ".join(f"{column} = ?" for column in SERIES_COLUMNS)
            self.tx.run(f"UPDATE series SET first_key = ?, {sets} WHERE id = ?", (item.key, *values, row[0]))  # noqa: S608
            self.tx.run("DELETE FROM series_requests WHERE series_id = ?", (row[0],))
            self._write_requests(item, row[0])
            if item.study:
                self.tally.refresh(key[0])
        return row[0]

    def _write_requests(self, item: _Item, series_id: int) -> None:
        requests: list[list[str]] = json.loads(str(item.incoming.description.series.get("requests") or "[]"))
        self.tx.run_many(
            "INSERT INTO series_requests(series_id, item, tenant_id, step, procedure, accession) VALUES (?, ?, ?, ?, ?, ?)",
            [(series_id, number, item.incoming.tenant.id, *request) for number, request in enumerate(requests)],
        )

    # ------------------------------------------------------------ identities

    def _load_held(self) -> None:
        keys = [
            (item.parent.series_id, item.sop) for item in self.items if item.parent.series_id not in self.series_new
        ]
        self.held = load(self.tx, keys) if keys else {}

    def _place(self, item: _Item) -> None:
        """Decide what the object is to what is held, and note the rows that follow."""
        one = item.incoming
        key = (item.parent.series_id, item.sop)
        rows = self.held.setdefault(key, [])
        same = next((row for row in rows if row.sha256 == one.sha256), None)
        if same is not None:
            item.row = same
            self._duplicate(item, same, rows)
            return
        item.row = self._new_row(item, len(rows))
        if rows:
            known = one.encoding_of is not None and any(one.encoding_of in row.names | {row.object_id} for row in rows)
            item.outcome = Outcome.ENCODING if known else Outcome.VERSION
        rows.append(item.row)
        self.fresh.append(item)
        self.touched[key] = item

    def _new_row(self, item: _Item, version: int) -> HeldRow:
        one = item.incoming
        return HeldRow(
            id=0,
            version=version,
            current=False,
            conflict=False,
            policy=POLICIES[one.policy],
            reason=0,
            sop_class=self.codes[Code.SOP_CLASS, 0][one.sop_class],
            received_at=one.received_at,
            source=self.codes[Code.SOURCE, one.tenant.id][codes.source_text(one.source)],
            size=one.blob.size,
            object_id=one.blob.object_id,
            sha256=one.sha256,
            encoding_of=one.encoding_of,
            fresh=True,
        )

    def _duplicate(self, item: _Item, row: HeldRow, rows: list[HeldRow]) -> None:
        one = item.incoming
        item.outcome = Outcome.DUPLICATE
        if one.blob.object_id == row.object_id or one.blob.object_id in row.names:
            item.replayed = True
            if one.blob.object_id == row.object_id:
                item.outcome = (
                    Outcome.STORED if row.version == 0 else Outcome.ENCODING if row.encoding_of else Outcome.VERSION
                )
            return
        if (one.received_at, one.blob.object_id) >= row.order:
            row.names.add(one.blob.object_id)
            self._note_duplicate(row, one.blob.object_id)
            return
        # the record that was there was received later: what a row shows must not depend on the order of commits
        self._note_duplicate(row, row.object_id)
        row.names.add(row.object_id)
        taken = self._new_row(item, row.version)
        row.policy, row.received_at, row.source, row.size = taken.policy, taken.received_at, taken.source, taken.size
        row.object_id, row.encoding_of, row.sop_class = taken.object_id, taken.encoding_of, taken.sop_class
        columns = _object_columns(self, item)
        sets = ", ".join(f"{column} = ?" for column in columns)
        self.tx.run(f"UPDATE instances SET {sets} WHERE id = ?", (*columns.values(), row.id))  # noqa: S608
        self.touched[item.parent.series_id, item.sop] = item

    def _note_duplicate(self, row: HeldRow, object_id: bytes) -> None:
        self.duplicates.append((object_id, row))

    def _settle(self) -> None:
        """Numbers for new rows, then the standing of every identity that changed."""
        numbers = self.tx.allocate("instances", len(self.fresh))
        for item, number in zip(self.fresh, numbers, strict=True):
            if item.row is not None:
                item.row.id = number
        studies = {(item.incoming.tenant.id, item.study) for item in self.touched.values()}
        ruled = {key for key in studies if has_decisions(self.tx, *key)}
        for item in self.touched.values():
            if item.study and (item.incoming.tenant.id, item.study) in ruled:
                self.tally.touch(item.parent.study_id, last_decision(self.tx, item.incoming.tenant.id, item.study))
        for key, item in self.touched.items():
            tenant_id = item.incoming.tenant.id
            decision = UNDECIDED
            if (tenant_id, item.study) in ruled:
                decision = decided(self.tx, tenant_id, (item.study, item.series, item.sop))
            taken_over = settle(self.tx, self.held[key], decision, item.parent, self.tally)
            if taken_over is not None:
                self.switched.append((tenant_id, item.parent.study_id, taken_over, item.incoming.received_at))

    # ------------------------------------------------------------ writing

    def _write(self) -> None:
        own = ("id", "tenant_id", "series_id", "uid", "version", "current", "conflict", "reason", *INSTANCE_COLUMNS)
        rows: list[tuple[Any, ...]] = []
        names: tuple[str, ...] = ()
        for item in self.fresh:
            row = item.row
            if row is None:
                continue
            columns = _object_columns(self, item)
            names = tuple(columns)
            described = _values(item.incoming.description.instance, INSTANCE_COLUMNS)
            head = (row.id, item.incoming.tenant.id, item.parent.series_id, item.sop, row.version)
            rows.append((*head, int(row.current), int(row.conflict), row.reason, *described, *columns.values()))
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self.tx.run_many(f"INSERT INTO instances({', '.join(own + names)}) VALUES ({marks})", rows)  # noqa: S608
        self.tx.run_many(
            "INSERT INTO duplicates(object_id, instance_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(object_id, row.id) for object_id, row in self.duplicates],
        )
        record(
            self.tx,
            [_change(item) for item in self.fresh]
            + [(t, ChangeKind.SWITCHED, s, i, at) for t, s, i, at in self.switched],
        )

    def _verdict(self, item: _Item) -> Verdict:
        one, row = item.incoming, item.row
        if row is None:
            raise RuntimeError("an object was left out of its batch")
        if one.blob.object_id != row.object_id:
            return Verdict(item.outcome, read_row(self.tx, one.tenant, row.id), item.replayed, self._others(item))
        held = _own_held(one, row.id, row.current, codes.decode(self.tx, row.reason))
        return Verdict(item.outcome, held, item.replayed, self._others(item))

    def _others(self, item: _Item) -> tuple[Held, ...]:
        rows = self.held.get((item.parent.series_id, item.sop), [])
        if item.row is None or len(rows) < 2:
            return ()
        return tuple(read_row(self.tx, item.incoming.tenant, row.id) for row in rows if row is not item.row)


def _own_held(one: Incoming, row_id: int, is_current: bool, reason: str) -> Held:
    number = one.description.instance.get("number")
    return Held(
        row_id,
        one.identity,
        one.sop_class,
        number if isinstance(number, int) else None,
        one.blob,
        one.layout,
        one.sha256,
        one.received_at,
        one.source,
        one.principal,
        is_current,
        reason,
        one.encoding_of,
    )


def _item(one: Incoming) -> _Item:
    if one.policy not in POLICIES:
        raise BadInput(f"no such policy for versions: {one.policy!r}")
    identity = one.identity
    if max(len(identity.study), len(identity.series), len(identity.sop)) > UID_MAX:
        raise BadInput(f"a UID may have {UID_MAX} characters here (64 in the standard)")
    key = first_key(one.received_at, one.blob.object_id)
    return _Item(one, pack_uid(identity.study), pack_uid(identity.series), pack_uid(identity.sop), key)


def _patient_key(item: _Item) -> tuple[Any, ...]:
    """Whose object it is: an identifier, or for want of one the study itself."""
    described = item.incoming.description.patient
    value = described.get("patient_id")
    if value:
        return ("identifier", item.incoming.tenant.id, value, described.get("issuer_key") or "")
    return ("anchor", item.incoming.tenant.id, item.study)


def _values(described: Columns, columns: Sequence[str]) -> tuple[str | int | None, ...]:
    missing = (
        {"study_date": 0} if columns is STUDY_COLUMNS else {"number": NO_NUMBER} if columns is INSTANCE_COLUMNS else {}
    )
    values = (described.get(column) for column in columns)
    return tuple(missing.get(column) if value is None else value for column, value in zip(columns, values, strict=True))


def _object_columns(batch: _Batch, item: _Item) -> dict[str, Any]:
    """What of a row belongs to the record, not to the identity."""
    one, blob = item.incoming, item.incoming.blob
    tenant_id = one.tenant.id
    kind = ScopeKind.STUDY if item.study else ScopeKind.NON_PATIENT
    return {
        "policy": POLICIES[one.policy],
        "class": batch.codes[Code.SOP_CLASS, 0][one.sop_class],
        "syntax": batch.codes[Code.SYNTAX, 0][one.layout.transfer_syntax],
        "received_at": one.received_at,
        "source": batch.codes[Code.SOURCE, tenant_id][codes.source_text(one.source)],
        "principal": batch.codes[Code.PRINCIPAL, tenant_id][one.principal],
        "segment_id": codes.segment_number(batch.tx, blob.place.segment),
        "place_start": blob.place.offset,
        "place_length": blob.place.length,
        "scope_id": codes.put_scope(batch.tx, tenant_id, kind, one.identity.study, blob.scope),
        "size": blob.size,
        "object_id": blob.object_id,
        "wrapped_key": blob.wrapped_key,
        "sha256": one.sha256,
        "layout": pack_layout(one.layout),
        "encoding_of": one.encoding_of,
    }


_CHANGES = {
    Outcome.STORED: ChangeKind.STORED,
    Outcome.VERSION: ChangeKind.VERSION,
    Outcome.ENCODING: ChangeKind.ENCODING,
}


def _change(item: _Item) -> tuple[int, ChangeKind, int, int, int]:
    row_id = item.row.id if item.row is not None else 0
    return item.incoming.tenant.id, _CHANGES[item.outcome], item.parent.study_id, row_id, item.incoming.received_at
