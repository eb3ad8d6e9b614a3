"""Rows of patients, studies and series brought up to date with what they are to show.

Owns: writing what `reckoning` works out: columns, names, lists by modality, the patient of a study, overlays, old names. Must
never: decide what is shown, move instances (`placing` does), or run before the rows of a batch are written. The caller holds the
locks of the studies. Rows that show what they show already are not touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from radiolith.index import overlays, study_names, words
from radiolith.index.attributes import PATIENT_COLUMNS, SERIES_COLUMNS, STUDY_COLUMNS
from radiolith.index.counts import refresh_study, unlist_modalities
from radiolith.index.descriptions import NOBODY
from radiolith.index.patients import Patients, State, unsaid
from radiolith.index.person import NameKind, write_names
from radiolith.index.placing import lock_studies
from radiolith.index.reckoning import Pair, Reckoning, ShownStudy, StudyRow
from radiolith.index.session import Writer
from radiolith.index.view import Place
from radiolith.index.words import Flag, Subject
from radiolith.model import Overlay

Columns = Mapping[str, "str | int | None"]


def settle(
    tx: Writer, tenant_id: int, studies: Iterable[int], *, series: Iterable[int] = (), patients: Iterable[int] = ()
) -> None:
    """Bring study rows up to date, with all that is below them, and the patients they had and have.

    series: rows whose columns may be others though nothing was said about them (another version is current). patients: rows
    that may be others; the studies shown under those that are follow. What follows may be far apart, and nobody may decide
    about it between a look and the writing: arrivals wait here, and two who hold what the other needs are tried again.
    """
    words.lock(tx, tenant_id)
    _Settling(tx, tenant_id, set(series)).run(set(studies), set(patients))


def revise(tx: Writer, tenant_id: int, studies: Mapping[int, set[int]]) -> None:
    """Other versions are current of instances of these studies (row -> series rows): rows that show what those say follow."""
    if not studies:
        return
    people: set[int] = set()
    for study_id in studies:
        people |= {row[0] for row in tx.all("SELECT patient_id FROM study_patients WHERE study_id = ?", (study_id,))}
    settle(tx, tenant_id, studies, series=set[int]().union(*studies.values()), patients=people)


def shown_from(tx: Writer, studies: Iterable[int]) -> set[int]:
    """Studies in which something received under these is shown."""
    found: set[int] = set()
    for row_id in studies:
        flag = tx.one("SELECT words FROM studies WHERE id = ?", (row_id,))
        if flag is None or not (flag[0] or 0) & Flag.PLACED:
            continue
        rows = tx.all(
            "SELECT DISTINCT e.study_id FROM series h CROSS JOIN moved m CROSS JOIN series e WHERE h.study_id = ?"
            " AND m.home_id = h.id AND e.id = m.series_id",
            (row_id,),
        )
        found |= {row[0] for row in rows}
    return found


class _Settling:
    def __init__(self, tx: Writer, tenant_id: int, series: set[int]):
        self.tx, self.tenant_id, self.series = tx, tenant_id, series
        self.reckoning = Reckoning(tx, tenant_id)
        self.patients = Patients(tx, tenant_id)
        self._marked: set[Subject] = set()

    def run(self, studies: set[int], patients: set[int]) -> None:
        known: dict[int, StudyRow] = {}
        self._know(known, studies | shown_from(self.tx, studies))
        for row_id in patients:  # what their rows and headers say is in the corrections of those
            self._also(known, "SELECT study_id FROM study_patients WHERE patient_id = ?", row_id)
            self._also(known, "SELECT id FROM studies WHERE patient_id = ?", row_id)
        self._know(known, shown_from(self.tx, set(known)))
        patients = self._followers(patients)
        for row in list(known.values()):
            patients |= self._place_study(row) | self._unnamed(row.id)
        for row_id in sorted(patients):
            if self._patient(row_id):
                self._also(known, "SELECT id FROM studies WHERE patient_id = ?", row_id)
        for row_id in sorted(known):
            self._study(known[row_id])

    def _also(self, known: dict[int, StudyRow], sql: str, row_id: int) -> None:
        """Studies about which something was said: their headers may show what changed."""
        rows = {study_id for (study_id,) in self.tx.all(sql, (row_id,)) if study_id not in known}
        self._know(
            known, {one for one in rows if self.tx.one("SELECT 1 FROM studies WHERE id = ? AND words > 0", (one,))}
        )

    def _know(self, known: dict[int, StudyRow], rows: set[int]) -> None:
        """Look at these study rows too, under their locks: what another transaction does to them is done, or waits."""
        new = rows - set(known)
        lock_studies(self.tx, new)
        known |= {study_id: self.reckoning.row(study_id) for study_id in sorted(new)}

    # ------------------------------------------------------------ patients

    def _followers(self, patients: set[int]) -> set[int]:
        """With those they were merged into, which may show what headers say of these."""
        found = set(patients)
        for row_id in patients:
            row = self.tx.one("SELECT words FROM patients WHERE id = ?", (row_id,))
            if row is not None and row[0]:
                found.add(self.patients.row(self.reckoning.view.patient(self.patients.name(row_id)).end)[0])
        return found

    def _mark(self, *whom: Subject) -> None:
        """Arrivals that change what these patients' rows show look for studies that show it too."""
        for who in whom:
            if who not in self._marked:
                self._marked.add(who)
                row_id, said = self.patients.row(who)
                if not said:
                    self.tx.run("UPDATE patients SET words = 1 WHERE id = ?", (row_id,))

    def _place_study(self, row: StudyRow) -> set[int]:
        """Whose study it is; the patients whose rows may follow."""
        shown = self.reckoning.study(row, self.reckoning.pairs(row.id))
        before = self.tx.one("SELECT patient_id, home_patient, words FROM studies WHERE id = ?", (row.id,)) or (
            None,
            None,
            0,
        )
        patient_id = home_id = None
        flag = before[2]
        if shown is not None and row.uid:
            patient_id, said = self.patients.row(shown.person)
            home_id, home_said = self.patients.row(shown.home)
            if home_id == patient_id:
                home_id = None
            else:
                self.tx.run("UPDATE patients SET words = 1 WHERE id = ? AND words IS NULL", (home_id,))
            flag = (before[2] or 0) | Flag.SAID if said or home_said else before[2]
        if before != (patient_id, home_id, flag):
            self.tx.run(
                "UPDATE studies SET patient_id = ?, home_patient = ?, words = ? WHERE id = ?",
                (patient_id, home_id, flag, row.id),
            )
        return (
            {one for one in (patient_id, before[0]) if one is not None}
            if before[:2] != (patient_id, home_id)
            else set()
        )

    def _unnamed(self, study_id: int) -> set[int]:
        """The patient of a study, if no header names it: what it shows depends on what is shown under it."""
        row = self.tx.one(
            "SELECT p.id FROM studies s CROSS JOIN patients p WHERE s.id = ? AND p.id = s.patient_id AND p.first_key = ?",
            (study_id, NOBODY),
        )
        return {row[0]} if row else set()

    def _patient(self, row_id: int) -> bool:
        """Whether the row shows something else now."""
        who = self.patients.name(row_id)
        shown = self.reckoning.patient(who)
        names = ("state", *PATIENT_COLUMNS)
        row = self.tx.one(f"SELECT {', '.join(names)} FROM patients WHERE id = ?", (row_id,))  # noqa: S608
        before = dict(zip(names, row or (), strict=False))
        state = self._state(who)
        now: dict[str, Any] = {column: shown.columns.get(column) for column in PATIENT_COLUMNS} | {"state": int(state)}
        claimed: list[list[str]] = sorted(json.loads(str(shown.columns.get("claimed") or "[]")))
        had = [list(one) for one in self._claimed(row_id)]
        changed = {column: value for column, value in now.items() if before.get(column) != value}
        if changed:
            sets = ", ".join(f"{column} = ?" for column in changed)
            self.tx.run(f"UPDATE patients SET {sets} WHERE id = ?", (*changed.values(), row_id))  # noqa: S608
        if "patient_name" in changed:
            owner = (self.tenant_id, row_id)
            write_names(self.tx, NameKind.PATIENT, owner, before["patient_name"], now["patient_name"])
        if had != claimed:
            self.tx.run("DELETE FROM claimed_identifiers WHERE patient_id = ?", (row_id,))
            self.tx.run_many(
                "INSERT INTO claimed_identifiers(tenant_id, value, issuer, issuer_type, type, patient_id)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(self.tenant_id, *one, row_id) for one in claimed],
            )
        return bool(changed) or had != claimed

    def _claimed(self, row_id: int) -> list[Any]:
        return self.tx.all(
            "SELECT value, issuer, issuer_type, type FROM claimed_identifiers WHERE patient_id = ? ORDER BY 1, 2, 3, 4",
            (row_id,),
        )

    def _state(self, who: Subject) -> State:
        if self.reckoning.view.patient(who).end != who:
            return State.MERGED
        said = words.newest(self.reckoning.view.about(who), words.STATE)
        return State[said.value.upper()] if said is not None else unsaid(who.issuer)

    # ------------------------------------------------------------ studies

    def _study(self, row: StudyRow) -> None:
        pairs = self.reckoning.pairs(row.id)
        shown = self.reckoning.study(row, pairs)
        if shown is None:
            study_names.forget(self.tx, row.id)
            return
        said = (self.tx.one("SELECT words FROM studies WHERE id = ?", (row.id,)) or (None,))[0]
        listed = self._columns(row, shown.columns)
        listed = self._series(row, shown, pairs, bool(said)) or listed
        if listed:
            refresh_study(self.tx, row.id)
        if said:
            study_names.write(self.tx, self.tenant_id, self.reckoning, shown, pairs)

    def _columns(self, row: StudyRow, columns: Columns) -> bool:
        """Whether the lists of studies have to be worked out again."""
        sql = f"SELECT modalities, {', '.join(STUDY_COLUMNS)} FROM studies WHERE id = ?"  # noqa: S608
        found = self.tx.one(sql, (row.id,))
        modalities, *values = found or ("", *(None,) * len(STUDY_COLUMNS))
        before: dict[str, Any] = dict(zip(STUDY_COLUMNS, values, strict=True))
        now: dict[str, Any] = {column: columns.get(column) for column in STUDY_COLUMNS}
        now["study_date"] = now["study_date"] or 0
        changed = {column: value for column, value in now.items() if before[column] != value}
        if not changed:
            return False
        again = "study_date" in changed
        if again:
            unlist_modalities(
                self.tx, (self.tenant_id, before["study_date"], row.id), set(modalities.split("\\")) - {""}
            )
            changed["modalities"] = ""
        sets = ", ".join(f"{column} = ?" for column in changed)
        self.tx.run(f"UPDATE studies SET {sets} WHERE id = ?", (*changed.values(), row.id))  # noqa: S608
        if "referring" in changed:
            owner = (self.tenant_id, row.id)
            write_names(self.tx, NameKind.REFERRING, owner, before["referring"], now["referring"])
        return again

    # ------------------------------------------------------------ series

    def _series(self, row: StudyRow, shown: ShownStudy, pairs: Sequence[Pair], said: bool) -> bool:
        """Whether a modality is another one."""
        into: dict[int, list[Pair]] = {}
        for pair in pairs:
            into.setdefault(pair.series_id, []).append(pair)
        told = self.reckoning.view.series(row.uid) if said else {}
        again = False
        known: dict[Any, Overlay | None] = {}
        for series_id, uid, key, overlay in self.tx.all(
            "SELECT id, uid, first_key, overlay FROM series WHERE study_id = ?", (row.id,)
        ):
            uid, key, mine = bytes(uid), bytes(key), into.get(series_id, [])
            if series_id in self.series or uid in told or mine:
                columns = self.reckoning.series(row.uid, uid, key, mine)
                again = self._series_columns(series_id, columns) or again
            if not said:
                continue
            others = tuple(dict.fromkeys(pair.study for pair in pairs))
            if key != NOBODY:
                digest = self._overlay(((row.uid, uid), row.first_key), shown, uid, others, known)
                if digest != _bytes(overlay):
                    self.tx.run("UPDATE series SET overlay = ? WHERE id = ?", (digest, series_id))
            for pair in mine:
                digest = self._overlay(((pair.study, pair.series), pair.study_key), shown, uid, others, known)
                if digest != _bytes(pair.overlay):
                    self.tx.run(
                        "UPDATE moved SET overlay = ? WHERE home_id = ? AND series_id = ?",
                        (digest, pair.home_id, series_id),
                    )
        return again

    def _overlay(
        self,
        home: tuple[Place, bytes],
        shown: ShownStudy,
        series: bytes,
        others: tuple[bytes, ...],
        known: dict[Any, Overlay | None],
    ) -> bytes | None:
        """The digest of the overlay of a pair, kept. Series about which nothing was said share theirs: `known`."""
        place, key = home
        view = self.reckoning.view
        plain = place == (shown.row.uid, series) and series not in view.series(shown.row.uid)
        name = (place[0],) if plain else (*place, series)
        if name not in known:
            person = self.reckoning.home_person(place[0], key)
            if person != shown.person:
                self._mark(person, shown.person)
            known[name] = self.reckoning.overlay((place, person), shown, series, others)
        overlay = known[name]
        return overlays.store(self.tx, self.tenant_id, overlay) if overlay is not None else None

    def _series_columns(self, series_id: int, columns: Columns) -> bool:
        names = ", ".join(SERIES_COLUMNS)
        found = self.tx.one(f"SELECT {names} FROM series WHERE id = ?", (series_id,))  # noqa: S608
        before = dict(zip(SERIES_COLUMNS, found or (), strict=False))
        now: dict[str, Any] = {column: columns.get(column) for column in SERIES_COLUMNS}
        changed = {column: value for column, value in now.items() if before.get(column) != value}
        if changed:
            sets = ", ".join(f"{column} = ?" for column in changed)
            self.tx.run(f"UPDATE series SET {sets} WHERE id = ?", (*changed.values(), series_id))  # noqa: S608
        requests: list[list[str]] = json.loads(str(columns.get("requests") or "[]"))
        rows = self.tx.all(
            "SELECT step, procedure, accession FROM series_requests WHERE series_id = ? ORDER BY item", (series_id,)
        )
        if [list(one) for one in rows] != requests:
            self.tx.run("DELETE FROM series_requests WHERE series_id = ?", (series_id,))
            self.tx.run_many(
                "INSERT INTO series_requests(series_id, item, tenant_id, step, procedure, accession) VALUES (?, ?, ?, ?, ?, ?)",
                [(series_id, place, self.tenant_id, *request) for place, request in enumerate(requests)],
            )
        return "modality" in changed


def _bytes(value: Any) -> bytes | None:
    return bytes(value) if value else None
