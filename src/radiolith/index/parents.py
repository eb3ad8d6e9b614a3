"""Rows of patients, studies and series for a batch of objects.

Owns: finding or making them, in one order of locks, what they show of what was received, and where the words about a study place
what arrives in it. Must never: touch instances or counts but through the Tally. The columns of a row are those of its object with
the smallest (received_at, object id); that key stays in the row as `first_key`, and a smaller one replaces the columns. Where
something was said about the rows, or another version is current, `shown` has the last word, behind the batch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from radiolith.index import descriptions
from radiolith.index.attributes import INSTANCE_COLUMNS, NO_NUMBER, PATIENT_COLUMNS, SERIES_COLUMNS, STUDY_COLUMNS
from radiolith.index.counts import Tally, unlist_modalities
from radiolith.index.current import POLICIES
from radiolith.index.descriptions import NOBODY
from radiolith.index.identities import HeldRow, Parent
from radiolith.index.patients import State, unsaid
from radiolith.index.person import NameKind, write_names
from radiolith.index.placing import note_moved, series_row, study_row
from radiolith.index.session import Writer
from radiolith.index.uids import pack_uid
from radiolith.index.view import View
from radiolith.index.words import Flag
from radiolith.model import BadInput, Incoming, Outcome

UID_MAX = 512  # characters; the standard has 64, and an index entry must fit a page of either database
Columns = dict[str, "str | int | None"]


@dataclass(slots=True)
class Item:
    """One incoming object on its way through the batch."""

    incoming: Incoming
    study: bytes
    series: bytes
    sop: bytes
    key: bytes  # received_at and object id: what decides whose attributes a row shows
    home: Parent = field(default_factory=lambda: Parent(0, 0))  # as received
    parent: Parent = field(default_factory=lambda: Parent(0, 0))  # as shown
    described: int = 0  # row of `descriptions`
    row: HeldRow | None = None
    outcome: Outcome = Outcome.STORED
    replayed: bool = False


def first_key(received_at: int, object_id: bytes) -> bytes:
    return received_at.to_bytes(8, "big") + object_id


def item_of(one: Incoming) -> Item:
    if one.policy not in POLICIES:
        raise BadInput(f"no such policy for versions: {one.policy!r}")
    identity = one.identity
    if max(len(identity.study), len(identity.series), len(identity.sop)) > UID_MAX:
        raise BadInput(f"a UID may have {UID_MAX} characters here (64 in the standard)")
    key = first_key(one.received_at, one.blob.object_id)
    return Item(one, pack_uid(identity.study), pack_uid(identity.series), pack_uid(identity.sop), key)


def _patient_key(item: Item) -> tuple[Any, ...]:
    """Whose object it is: an identifier, or for want of one the study itself."""
    described = item.incoming.description.patient
    value = described.get("patient_id")
    if value:
        return ("identifier", item.incoming.tenant.id, value, described.get("issuer_key") or "")
    return ("anchor", item.incoming.tenant.id, item.study)


def column_values(described: Columns, columns: Sequence[str]) -> tuple[str | int | None, ...]:
    missing = (
        {"study_date": 0} if columns is STUDY_COLUMNS else {"number": NO_NUMBER} if columns is INSTANCE_COLUMNS else {}
    )
    values = (described.get(column) for column in columns)
    return tuple(missing.get(column) if value is None else value for column, value in zip(columns, values, strict=True))


class Parents:
    """The parents of one batch. `items` know their series and study when `make` has returned."""

    def __init__(self, tx: Writer, tally: Tally, items: Sequence[Item]):
        self.tx, self.tally, self.items = tx, tally, items
        self.series_new: set[int] = set()
        self.series_described: dict[int, int] = {}  # series row -> description of what names none of its own
        self.studies_new: set[int] = set()
        self.changed: dict[
            int, set[int]
        ] = {}  # studies about which something was said, and what else now shows their rows
        self.patients_changed: set[int] = set()
        self._homes: dict[int, int | None] = {}  # study row -> the patient its headers name
        self._replaced: set[int] = set()  # studies that show another object's columns
        self._said: dict[int, int] = {}  # study row -> words.Flag
        self._said_patients: set[int] = set()

    def make(self) -> set[int]:
        """Find or make all rows; returns the series made just now. The studies stay locked."""
        self._describe()
        patients = self._patients()
        studies = self._studies(patients)
        self._series(studies)
        self._note_patients(studies, patients)
        self._place()
        return self.series_new

    def is_said(self, study_id: int) -> bool:
        """Whether something was said about a study, so that its rows and headers may show it."""
        return study_id in self._said

    def _describe(self) -> None:
        """The description of each object; those of a series are one, nearly always."""
        before: Item | None = None
        for item in self.items:
            same = before is not None and before.incoming.tenant.id == item.incoming.tenant.id
            if (
                before is not None
                and same
                and descriptions.equal(before.incoming.description, item.incoming.description)
            ):
                item.described = before.described
            else:
                item.described = descriptions.number(self.tx, item.incoming.tenant.id, item.incoming.description)
            before = item

    def _patients(self) -> dict[tuple[Any, ...], int]:
        """Patient key -> row. Every object's patient gets a row, so that the set of patients depends on no order."""
        best: dict[tuple[Any, ...], Item] = {}
        for item in self.items:
            if item.study:
                key = _patient_key(item)
                if key not in best or item.key < best[key].key:
                    best[key] = item
        return {key: self._patient(key, best[key]) for key in sorted(best)}

    def _patient(self, key: tuple[Any, ...], item: Item) -> int:
        described = item.incoming.description.patient
        row = self._find_patient(key)
        if row is None:
            row_id = self.tx.allocate("patients", 1)[0]
            if self._make_patient(key, item, row_id):
                self._write_patient_sets(item, row_id, None, fresh=True)
                return row_id
            row = self._find_patient(key)
        if row is None:
            raise RuntimeError("a patient was neither found nor made")
        if row[2]:
            self._said_patients.add(row[0])
        if item.key < bytes(row[1]):
            # others may share the row's lock: `_find_patient`
            lock = " FOR NO KEY UPDATE" if self.tx.lock_rows else ""
            before = self.tx.one(f"SELECT first_key, patient_name FROM patients WHERE id = ?{lock}", (row[0],))  # noqa: S608
            if before is not None and item.key < bytes(before[0]):
                if row[2]:
                    self.patients_changed.add(row[0])
                sets = ", ".join(f"{column} = ?" for column in PATIENT_COLUMNS)
                sql = f"UPDATE patients SET first_key = ?, {sets} WHERE id = ?"  # noqa: S608
                self.tx.run(sql, (item.key, *column_values(described, PATIENT_COLUMNS), row[0]))
                self._write_patient_sets(item, row[0], before[1])
        return row[0]

    def _find_patient(self, key: tuple[Any, ...]) -> Any:
        """Row, first key and whether anything was said about it. Who says something locks the row against this: a study that
        is made for a patient while that one is merged is either seen by the merge, or sees it."""
        share = " FOR KEY SHARE OF p" if self.tx.lock_rows else ""
        if key[0] == "anchor":
            return self.tx.one(
                f"SELECT p.id, p.first_key, p.words FROM patients p WHERE p.anchor = ? AND p.tenant_id = ?{share}",  # noqa: S608
                (key[2], key[1]),
            )
        return self.tx.one(
            "SELECT p.id, p.first_key, p.words FROM patient_identifiers i JOIN patients p ON p.id = i.patient_id"  # noqa: S608
            f" WHERE i.tenant_id = ? AND i.value = ? AND i.issuer = ?{share}",
            key[1:],
        )

    def _make_patient(self, key: tuple[Any, ...], item: Item, row_id: int) -> bool:
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
            f" VALUES (?, ?, ?, ?, ?{marks}) ON CONFLICT DO NOTHING"
        )
        state = unsaid(key[3]) if anchor is None else State.PROVISIONAL
        shown = column_values(described, PATIENT_COLUMNS)
        return bool(self.tx.run(sql, (row_id, key[1], anchor, item.key, int(state), *shown)))

    def _write_patient_sets(self, item: Item, row_id: int, name_before: str | None, *, fresh: bool = False) -> None:
        tenant_id, described = item.incoming.tenant.id, item.incoming.description.patient
        write_names(self.tx, NameKind.PATIENT, (tenant_id, row_id), name_before, described.get("patient_name"))
        if not fresh:
            self.tx.run("DELETE FROM claimed_identifiers WHERE patient_id = ?", (row_id,))
        claimed: list[list[str]] = json.loads(str(described.get("claimed") or "[]"))
        self.tx.run_many(
            "INSERT INTO claimed_identifiers(tenant_id, value, issuer, issuer_type, type, patient_id)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(tenant_id, *identifier, row_id) for identifier in claimed],
        )
        value = described.get("patient_id")
        if value and not fresh:
            kinds = (described.get("issuer_type") or "", described.get("id_type") or "")
            self.tx.run(
                "UPDATE patient_identifiers SET issuer_type = ?, type = ? WHERE tenant_id = ? AND value = ? AND issuer = ?",
                (*kinds, tenant_id, value, described.get("issuer_key") or ""),
            )

    def _studies(self, patients: dict[tuple[Any, ...], int]) -> dict[tuple[int, bytes], int]:
        """(tenant, packed UID) -> row, locked from here to the end of the transaction."""
        best: dict[tuple[int, bytes], Item] = {}
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

    def _study(self, key: tuple[int, bytes], item: Item, patient_id: int | None) -> int:
        look = (
            "SELECT id, first_key, study_date, modalities, referring, words, patient_id, home_patient, instances + rejected"  # noqa: S608
            f" FROM studies WHERE uid = ? AND tenant_id = ?{self.tx.lock_rows}"
        )
        values = column_values(item.incoming.description.study, STUDY_COLUMNS)
        row = self.tx.one(look, (key[1], key[0]))
        if row is None:
            columns, marks = ", ".join(STUDY_COLUMNS), ", ?" * len(STUDY_COLUMNS)
            made = self.tx.one(
                "INSERT INTO studies(tenant_id, uid, patient_id, first_key, modalities, classes, series, instances, rejected,"  # noqa: S608
                f" size, changed_at, {columns}) VALUES (?, ?, ?, ?, '', '', 0, 0, 0, 0, 0{marks})"
                " ON CONFLICT DO NOTHING RETURNING id",
                (*key, patient_id, item.key, *values),
            )
            if made is not None:
                self._write_referring(item, made[0], None)
                self.studies_new.add(made[0])
                return made[0]
            row = self.tx.one(look, (key[1], key[0]))
        if row is None:
            raise RuntimeError("a study was neither found nor made")
        if row[5]:
            self._said[row[0]] = row[5]
            if not row[8]:  # all that was received in it is shown elsewhere: it begins to show something
                self.changed.setdefault(row[0], set())
        if bytes(row[1]) == NOBODY:
            self.studies_new.add(row[0])
        else:
            self._homes[row[0]] = row[7] or row[6]
        if item.key < bytes(row[1]):
            self._replaced.add(row[0])
            if row[5]:
                self.changed.setdefault(row[0], set())
            modalities = set(row[3].split("\\")) - {""}
            unlist_modalities(self.tx, (key[0], row[2], row[0]), modalities)
            sets = ", ".join(f"{column} = ?" for column in STUDY_COLUMNS)
            mine = "" if row[5] else ", patient_id = ?, home_patient = NULL"
            sql = f"UPDATE studies SET first_key = ?, modalities = ''{mine}, {sets} WHERE id = ?"  # noqa: S608
            self.tx.run(sql, (item.key, *([patient_id] if mine else []), *values, row[0]))
            self._write_referring(item, row[0], row[4])
            self.tally.refresh(row[0])
        return row[0]

    def _write_referring(self, item: Item, row_id: int, before: str | None) -> None:
        owner = (item.incoming.tenant.id, row_id)
        write_names(self.tx, NameKind.REFERRING, owner, before, item.incoming.description.study.get("referring"))

    def _series(self, studies: dict[tuple[int, bytes], int]) -> None:
        best: dict[tuple[int, bytes], Item] = {}
        for item in self.items:
            key = (studies[item.incoming.tenant.id, item.study], item.series)
            if key not in best or item.key < best[key].key:
                best[key] = item
        rows = {key: self._one_series(key, best[key]) for key in sorted(best)}
        for item in self.items:
            study_id = studies[item.incoming.tenant.id, item.study]
            item.home = item.parent = Parent(rows[study_id, item.series], study_id, counted=bool(item.study))

    def _one_series(self, key: tuple[int, bytes], item: Item) -> int:
        """The study's lock makes this the only transaction that can be here."""
        described = item.incoming.description.series
        values = column_values(described, SERIES_COLUMNS)
        row = self.tx.one(
            "SELECT id, first_key, modality, described FROM series WHERE uid = ? AND study_id = ?", (key[1], key[0])
        )
        said = key[0] in self._said
        if row is None:
            columns, marks = ", ".join(SERIES_COLUMNS), ", ?" * len(SERIES_COLUMNS)
            made = self.tx.one(
                "INSERT INTO series(tenant_id, study_id, uid, first_key, classes, instances, rejected, size, described,"  # noqa: S608
                f" {columns}) VALUES (?, ?, ?, ?, '', 0, 0, 0, ?{marks}) RETURNING id",
                (item.incoming.tenant.id, *key, item.key, item.described, *values),
            )
            if made is None:
                raise RuntimeError("a series was not made")
            self.series_new.add(made[0])
            self.series_described[made[0]] = item.described
            self._write_requests(item, made[0])
            if said:
                self.changed.setdefault(key[0], set()).add(made[0])
            return made[0]
        self.series_described[row[0]] = row[3] or item.described
        if row[3] is None:  # made by a word
            self.tx.run("UPDATE series SET described = ? WHERE id = ?", (item.described, row[0]))
        if item.key < bytes(row[1]):
            sets = ", ".join(f"{column} = ?" for column in SERIES_COLUMNS)
            self.tx.run(f"UPDATE series SET first_key = ?, {sets} WHERE id = ?", (item.key, *values, row[0]))  # noqa: S608
            self.tx.run("DELETE FROM series_requests WHERE series_id = ?", (row[0],))
            self._write_requests(item, row[0])
            if item.study:
                self.tally.refresh(key[0])
            if said:
                self.changed.setdefault(key[0], set()).add(row[0])
        return row[0]

    def _write_requests(self, item: Item, series_id: int) -> None:
        requests: list[list[str]] = json.loads(str(item.incoming.description.series.get("requests") or "[]"))
        self.tx.run_many(
            "INSERT INTO series_requests(series_id, item, tenant_id, step, procedure, accession) VALUES (?, ?, ?, ?, ?, ?)",
            [(series_id, number, item.incoming.tenant.id, *request) for number, request in enumerate(requests)],
        )

    # ------------------------------------------------------------ what was said before

    def _note_patients(self, studies: dict[tuple[int, bytes], int], patients: dict[tuple[Any, ...], int]) -> None:
        """Which patients the headers of each study name; studies of patients about which something was said follow it."""
        pairs: dict[tuple[int, int], int] = {}
        for item in self.items:
            if item.study:
                tenant_id = item.incoming.tenant.id
                pairs[studies[tenant_id, item.study], patients[_patient_key(item)]] = tenant_id
        new = [(pair, tenant_id) for pair, tenant_id in sorted(pairs.items()) if self._homes.get(pair[0]) != pair[1]]
        self.tx.run_many(
            "INSERT INTO study_patients(tenant_id, study_id, patient_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            [(tenant_id, *pair) for pair, tenant_id in new],
        )
        for study_id, patient_id in pairs:
            if patient_id in self._said_patients and study_id in self.studies_new | self._replaced:
                self.changed.setdefault(study_id, set())

    def _place(self) -> None:
        """Where the words about a study place what arrives in it."""
        views: dict[int, View] = {}
        placed = [item for item in self.items if item.study and self._said.get(item.home.study_id, 0) & Flag.PLACED]
        sops: dict[tuple[int, bytes, bytes], list[bytes]] = {}
        for item in placed:
            sops.setdefault((item.incoming.tenant.id, item.study, item.series), []).append(item.sop)
        for (tenant_id, study, series), some in sops.items():
            view = views.get(tenant_id) or views.setdefault(tenant_id, View(self.tx, tenant_id))
            view.look((study, series), some)
        rows: dict[tuple[int, bytes, bytes], Parent] = {}
        moved: set[tuple[int, int]] = set()
        for item in placed:
            tenant_id = item.incoming.tenant.id
            place = views[tenant_id].place(item.study, item.series, item.sop).place
            if place == (item.study, item.series):
                continue
            known = rows.get((tenant_id, *place))
            if known is None:
                study_id = study_row(self.tx, tenant_id, place[0], Flag.SAID | Flag.PLACED)
                known = rows[tenant_id, *place] = Parent(series_row(self.tx, tenant_id, study_id, place[1]), study_id)
            if (item.home.series_id, known.series_id) not in moved:
                moved.add((item.home.series_id, known.series_id))
                note_moved(self.tx, tenant_id, item.home.series_id, known.series_id)
            item.parent = known
            self.changed.setdefault(known.study_id, set()).update((known.series_id, item.home.series_id))
            self.changed.setdefault(item.home.study_id, set())
