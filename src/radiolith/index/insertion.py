"""Rows for what became durable: one call per batch, inside its transaction.

Owns: the order in which rows are locked and written. Must never: commit, or let the result depend on which of two
transactions came first. Locks are taken in one order everywhere (codes, patients, studies, each sorted), and everything
below a study is changed under its row's lock, so two senders of one identity end in one state on both databases.

The columns of a patient, study or series are those of its instance with the smallest (received_at, object id); that key
stays in the row as `first_key`. Of two records with the same bytes the one with the smaller key is kept, the other's id is
noted in `duplicates`. So rows are a function of the set of records, whatever the order a rebuild reads them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from radiolith.index import codes, extras, labels, shown
from radiolith.index.attributes import INSTANCE_COLUMNS
from radiolith.index.changes import ChangeKind, record
from radiolith.index.codes import Code, ScopeKind
from radiolith.index.counts import Tally
from radiolith.index.current import POLICIES
from radiolith.index.heldrows import read_row
from radiolith.index.identities import (
    Decisions,
    HeldRow,
    has_decisions,
    last_decision,
    load,
    settle,
    voided,
)
from radiolith.index.layouts import pack_layout
from radiolith.index.parents import Item, Parents, column_values, item_of
from radiolith.index.session import Writer
from radiolith.model import Held, Incoming, Outcome


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
        self.items = [item_of(one) for one in incoming]
        self.parents = Parents(tx, self.tally, self.items)
        self.by_key = sorted(
            self.items, key=lambda item: item.key
        )  # so that within a batch the earlier one is there first
        self.codes: dict[tuple[Code, int], dict[str, int]] = {}
        self.series_new: set[int] = set()
        self.held: dict[tuple[int, bytes], list[HeldRow]] = {}
        self.touched: dict[tuple[int, bytes], Item] = {}  # identities whose standing must be settled
        self.fresh: list[Item] = []
        self.duplicates: list[tuple[bytes, HeldRow]] = []
        self.switched: list[tuple[int, int, int, int]] = []
        self.revised: dict[int, dict[int, set[int]]] = {}  # tenant -> study row -> series rows

    def run(self) -> list[Verdict]:
        self._encode()
        self.series_new = self.parents.make()
        self._label()
        self._load_held()
        for item in self.by_key:
            self._place(item)
        self._settle()
        self._write()
        self.tally.apply(self.tx)
        self._show()
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
            if one.description.extras:
                wanted.setdefault((Code.EXTRA, 0), set()).update(name for name, _ in one.description.extras)
        for kind, tenant_id in sorted(wanted):
            self.codes[kind, tenant_id] = codes.encode(self.tx, kind, tenant_id, wanted[kind, tenant_id])

    def _label(self) -> None:
        """Labels that were given to what had not arrived yet."""
        made = (item for item in self.items if item.study and item.parent.series_id in self.series_new)
        new = {(item.incoming.tenant.id, item.study, *_identifier(item.incoming)) for item in made}
        for tenant_id, study, value, issuer in sorted(new):
            labels.arrived(self.tx, tenant_id, study, (value, issuer))

    # ------------------------------------------------------------ identities

    def _load_held(self) -> None:
        keys = [
            (item.parent.series_id, item.sop) for item in self.items if item.parent.series_id not in self.series_new
        ]
        self.held = load(self.tx, keys) if keys else {}

    def _place(self, item: Item) -> None:
        """Decide what the object is to what is held, and note the rows that follow."""
        one = item.incoming
        key = (item.parent.series_id, item.sop)
        rows = self.held.setdefault(key, [])
        same = next((row for row in rows if row.sha256 == one.sha256), None)
        if same is not None:
            item.row = same
            self._duplicate(item, same, rows)
            return
        item.row = self._new_row(item, max((row.version for row in rows), default=-1) + 1)
        if rows:
            known = one.encoding_of is not None and any(one.encoding_of in row.names | {row.object_id} for row in rows)
            item.outcome = Outcome.ENCODING if known else Outcome.VERSION
        rows.append(item.row)
        self.fresh.append(item)
        self.touched[key] = item

    def _new_row(self, item: Item, version: int) -> HeldRow:
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
            home_id=item.home.series_id if item.home != item.parent else None,
            fresh=True,
        )

    def _duplicate(self, item: Item, row: HeldRow, rows: list[HeldRow]) -> None:
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
        known: dict[int, Decisions] = {}
        for tenant_id, study, study_id in {
            (item.incoming.tenant.id, item.study, item.home.study_id) for item in self.touched.values()
        }:
            if study and study_id in self.parents.studies_new and has_decisions(self.tx, tenant_id, study):
                self.tally.touch(study_id, last_decision(self.tx, tenant_id, study))
        for key, item in self.touched.items():
            tenant_id, rows = item.incoming.tenant.id, self.held[key]
            decisions = known.get(tenant_id) or known.setdefault(tenant_id, Decisions(self.tx, tenant_id))
            decisions.named(item.home.series_id, item.study, item.series)
            taken_over = settle(self.tx, rows, decisions.of(key, rows), item.parent, self.tally)
            if taken_over is not None:
                self.switched.append((tenant_id, item.parent.study_id, taken_over, item.incoming.received_at))
            if len(rows) > 1 and item.study:
                self._revise(item, rows)

    def _revise(self, item: Item, rows: list[HeldRow]) -> None:
        """Which version of an instance is current may have changed: so may rows that show what its header says."""
        revised = self.revised.setdefault(item.incoming.tenant.id, {})
        revised.setdefault(item.parent.study_id, set()).add(item.parent.series_id)
        revised.setdefault(item.home.study_id, set()).update({row.home_id or item.parent.series_id for row in rows})

    def _show(self) -> None:
        """Rows about which something was said, or that show another version now, brought up to date behind the batch."""
        for tenant_id, revised in self.revised.items():
            shown.revise(self.tx, tenant_id, revised)
        changed, people = self.parents.changed, self.parents.patients_changed
        for tenant_id in {item.incoming.tenant.id for item in self.items} if changed or people else ():
            of = {item.home.study_id for item in self.items if item.incoming.tenant.id == tenant_id}
            of |= {item.parent.study_id for item in self.items if item.incoming.tenant.id == tenant_id}
            studies = {study_id: series for study_id, series in changed.items() if study_id in of}
            shown.settle(self.tx, tenant_id, studies, series=set[int]().union(*studies.values()), patients=people)

    # ------------------------------------------------------------ writing

    def _write(self) -> None:
        own = (
            "id",
            "tenant_id",
            "series_id",
            "uid",
            "version",
            "current",
            "conflict",
            "reason",
            "home_id",
            "described",
        )
        own = (*own, *INSTANCE_COLUMNS)
        rows: list[tuple[Any, ...]] = []
        names: tuple[str, ...] = ()
        for item in self.fresh:
            row = item.row
            if row is None:
                continue
            columns = _object_columns(self, item)
            names = tuple(columns)
            described = column_values(item.incoming.description.instance, INSTANCE_COLUMNS)
            head = (row.id, item.incoming.tenant.id, item.parent.series_id, item.sop, row.version)
            usual = self.parents.series_described[item.home.series_id]
            said = item.described if item.described != usual else None
            standing = (int(row.current), int(row.conflict), row.reason, row.home_id, said)
            rows.append((*head, *standing, *described, *columns.values()))
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            self.tx.run_many(f"INSERT INTO instances({', '.join(own + names)}) VALUES ({marks})", rows)  # noqa: S608
        extras.write(
            self.tx,
            [
                (item.incoming.tenant.id, item.row.id, item.incoming.description.extras)
                for item in self.fresh
                if item.row is not None and item.incoming.description.extras
            ],
        )
        self.tx.run_many(
            "INSERT INTO duplicates(object_id, instance_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(object_id, row.id) for object_id, row in self.duplicates],
        )
        record(
            self.tx,
            [_change(item) for item in self.fresh]
            + [(t, ChangeKind.SWITCHED, s, i, at) for t, s, i, at in self.switched],
        )

    def _verdict(self, item: Item) -> Verdict:
        one, row = item.incoming, item.row
        if row is None:
            raise RuntimeError("an object was left out of its batch")
        said = item.home.study_id in self.parents.changed or self.parents.is_said(item.home.study_id)
        if one.blob.object_id != row.object_id or said:
            return Verdict(item.outcome, read_row(self.tx, one.tenant, row.id), item.replayed, self._others(item))
        held = _own_held(one, row.id, row.current, codes.decode(self.tx, row.reason))
        return Verdict(item.outcome, held, item.replayed, self._others(item))

    def _others(self, item: Item) -> tuple[Held, ...]:
        rows = self.held.get((item.parent.series_id, item.sop), [])
        if item.row is None or len(rows) < 2:
            return ()
        return tuple(read_row(self.tx, item.incoming.tenant, row.id) for row in rows if row is not item.row)


def _identifier(one: Incoming) -> tuple[str, str]:
    described = one.description.patient
    return str(described.get("patient_id") or ""), str(described.get("issuer_key") or "")


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


def _object_columns(batch: _Batch, item: Item) -> dict[str, Any]:
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


def _change(item: Item) -> tuple[int, ChangeKind, int, int, int]:
    row_id = item.row.id if item.row is not None else 0
    return item.incoming.tenant.id, _CHANGES[item.outcome], item.parent.study_id, row_id, item.incoming.received_at
