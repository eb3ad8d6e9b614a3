"""What rows and headers are to show: what was received, with the words that count.

Owns: whose description a row shows, which corrections apply to it, and the overlay of a series' headers. Must never: write, or
read a header. `shown.py` writes what this works out; with `until` the same is worked out as of a moment, for what was received
under the names of then (whose rows still tell).

Which words apply: those about the patient, the study as they are shown; those about the series as received and as shown. What is
shown in a study it was not received in also takes the General Study Module of that study, and where it is another patient than
the header names, that patient's identity.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from radiolith.index import edits, overlays, words
from radiolith.index.descriptions import NOBODY, NOTHING, Columns, Described, first
from radiolith.index.session import Reader
from radiolith.index.uids import unpack_uid
from radiolith.index.view import Place, View, united
from radiolith.index.words import FOREVER, Level, Said, Stamp, Subject
from radiolith.model import Edit, Overlay, Step
from radiolith.model import Level as Shows

STUDY_UID, SERIES_UID = 0x0020000D, 0x0020000E


@dataclass(frozen=True, slots=True)
class Pair:
    """A received series with instances in another one, which is `series_id`."""

    home_id: int
    series_id: int
    series: bytes
    series_key: bytes
    study_id: int
    study: bytes
    study_key: bytes
    overlay: bytes | None


@dataclass(frozen=True, slots=True)
class StudyRow:
    id: int
    uid: bytes
    first_key: bytes
    held: bool  # any instance is shown here, rejected ones included


@dataclass(frozen=True)
class ShownStudy:
    """`home`: the patient that headers name; `person`: whose it is shown as; `because`: the words that say so."""

    row: StudyRow
    columns: Columns
    home: Subject
    person: Subject
    because: tuple[Said, ...]

    @cached_property
    def module(self) -> list[Edit]:
        return edits.of_study(self.columns)


@dataclass(frozen=True, slots=True)
class ShownPatient:
    columns: Columns  # with `claimed`
    issuer_type: str
    identity: tuple[Edit, ...]


def person_of(described: Described, study: bytes) -> Subject:
    """Whom a header received under a study names."""
    value = described.patient.get("patient_id")
    return (
        words.patient(str(value), str(described.patient.get("issuer_key") or "")) if value else words.patient_of(study)
    )


def patient_row(read: Reader, tenant_id: int, who: Subject) -> tuple[int, bytes] | None:
    """Row and first key of a patient."""
    if who.study:
        row = read.one("SELECT id, first_key FROM patients WHERE anchor = ? AND tenant_id = ?", (who.study, tenant_id))
    else:
        row = read.one(
            "SELECT p.id, p.first_key FROM patient_identifiers i CROSS JOIN patients p WHERE i.tenant_id = ? AND i.value = ?"
            " AND i.issuer = ? AND p.id = i.patient_id",
            (tenant_id, who.patient, who.issuer),
        )
    return (row[0], bytes(row[1])) if row else None


class Reckoning:
    def __init__(self, read: Reader, tenant_id: int, until: int = FOREVER):
        self.read, self.tenant_id = read, tenant_id
        self.view = View(read, tenant_id, until)
        self._homes: dict[bytes, Subject] = {}
        self._patients: dict[Subject, ShownPatient] = {}
        self._told: dict[bytes, words.Operation] = {}

    # ------------------------------------------------------------ studies

    def row(self, row_id: int) -> StudyRow:
        found = self.read.one("SELECT id, uid, first_key, instances + rejected FROM studies WHERE id = ?", (row_id,))
        if found is None:
            raise RuntimeError("a study row vanished inside its transaction")
        return StudyRow(found[0], bytes(found[1]), bytes(found[2]), found[3] > 0)

    def pairs(self, study_id: int) -> list[Pair]:
        """What is shown in a study and was received elsewhere, or in another series of it."""
        rows = self.read.all(
            "SELECT m.home_id, m.series_id, h.uid, h.first_key, t.id, t.uid, t.first_key, m.overlay FROM series e"
            " CROSS JOIN moved m CROSS JOIN series h CROSS JOIN studies t WHERE e.study_id = ? AND m.series_id = e.id"
            " AND h.id = m.home_id AND t.id = h.study_id ORDER BY t.first_key, h.first_key, m.home_id",
            (study_id,),
        )
        return [
            Pair(row[0], row[1], bytes(row[2]), bytes(row[3]), row[4], bytes(row[5]), bytes(row[6]), row[7])
            for row in rows
        ]

    def study(self, row: StudyRow, pairs: Sequence[Pair]) -> ShownStudy | None:
        """None for one that nothing was received in and nothing is shown in."""
        home, key = row.uid, row.first_key
        if key == NOBODY and pairs:
            home, key = pairs[0].study, pairs[0].study_key  # the smallest: they come in this order
        found = first(self.read, key)
        if found is None:
            return None
        person = person_of(found.described, home)
        told = self.view.told_patient(row.uid)
        path = self.view.patient(told.target_patient if told else person)
        columns = self.corrected(Shows.STUDY, found.described.study, [Subject(Level.STUDY, row.uid)])
        return ShownStudy(row, columns, person, path.end, (*((told,) if told else ()), *path.edges))

    def received(self, key: bytes) -> Described | None:
        """What counts of the record with this first key; None for nobody's."""
        found = first(self.read, key)
        return found.described if found else None

    def home_person(self, study: bytes, key: bytes) -> Subject:
        """Whom the headers received under a study name."""
        if study not in self._homes:
            found = first(self.read, key)
            self._homes[study] = person_of(found.described if found else NOTHING, study)
        return self._homes[study]

    def corrected(self, level: Shows, columns: Columns, subjects: Iterable[Subject]) -> dict[str, str | int | None]:
        """Columns with the newest active word on each attribute, over all these names of one thing."""
        return edits.redescribed(
            level, columns, {one.slot: one.value for one in self._said(subjects) if _is_tag(one.slot)}
        )

    def _said(self, subjects: Iterable[Subject]) -> list[Said]:
        """Active words, oldest first."""
        found: list[Said] = []
        for subject in dict.fromkeys(subjects):
            if subject.level == Level.SERIES:
                found += [one for one in self.view.series(subject.study).get(subject.series, ()) if one.active]
            else:
                found += self.view.active(subject)
        return sorted(found, key=lambda one: one.stamp)

    def series(self, study: bytes, series: bytes, key: bytes, pairs: Sequence[Pair]) -> dict[str, str | int | None]:
        """The columns of a shown series; `pairs`: those into it, smallest first key first."""
        home = (study, series)
        if key == NOBODY and pairs:
            best = min(pairs, key=lambda one: one.series_key)
            home, key = (best.study, best.series), best.series_key
        found = first(self.read, key)
        said = [Subject(Level.SERIES, *home), Subject(Level.SERIES, study, series)]
        return self.corrected(Shows.SERIES, found.described.series if found else {}, said)

    # ------------------------------------------------------------ patients

    def patient(self, who: Subject) -> ShownPatient:
        found = self._patients.get(who)
        if found is None:
            found = self._patients[who] = self._patient(who)
        return found

    def _patient(self, who: Subject) -> ShownPatient:
        row = patient_row(self.read, self.tenant_id, who)
        own = self.described(who)
        if own is None:
            other = self._contributor(who, row[0] if row else 0)
            named = {"patient_id": who.patient or None, "issuer": who.issuer or None, "claimed": None}
            own = replace(other, patient={**other.patient, **named})
        columns = self.corrected(Shows.PATIENT, own.patient, [who])
        sql = "SELECT issuer_type FROM patient_identifiers WHERE patient_id = ? AND value = ?"
        kind = self.read.one(sql, (row[0], who.patient)) if row else None
        issuer_type = str(kind[0]) if kind else ""
        return ShownPatient(columns, issuer_type, tuple(edits.of_patient(columns, who.issuer, issuer_type)))

    def described(self, who: Subject) -> Described | None:
        """What the objects that name a patient say of it; None where none does."""
        row = patient_row(self.read, self.tenant_id, who)
        found = first(self.read, row[1], lambda said, study: self._names(said, study, who)) if row else None
        return found.described if found else None

    def _names(self, said: Described, study_id: int, who: Subject) -> bool:
        if not who.study or said.patient.get("patient_id"):
            return person_of(said, b"") == who
        row = self.read.one("SELECT uid FROM studies WHERE id = ?", (study_id,))
        return row is not None and bytes(row[0]) == who.study

    def _contributor(self, who: Subject, row_id: int) -> Described:
        """Of a patient that no header names: what is said of the first one that was merged into it, or whose study it got."""
        found: list[tuple[bytes, Subject]] = []
        for other in sorted(self._merged(who)):
            row = patient_row(self.read, self.tenant_id, other)
            found += [(row[1], other)] if row else []
        for (study_id,) in self.read.all(
            "SELECT id FROM studies WHERE patient_id = ? AND instances + rejected > 0", (row_id,)
        ):
            study = self.row(study_id)
            shown = self.study(study, self.pairs(study_id) if study.first_key == NOBODY else ())
            row = patient_row(self.read, self.tenant_id, shown.home) if shown else None
            found += [(row[1], shown.home)] if shown and row else []
        best = min(found, default=None)
        return (self.described(best[1]) if best else None) or NOTHING

    def _merged(self, who: Subject) -> set[Subject]:
        """All patients that are shown as this one."""
        reached, new = {who}, [who]
        while new:
            said = words.pointing_at_patient(self.read, self.tenant_id, new.pop())
            for one in said:
                if one.slot == words.INTO and one.subject not in reached:
                    reached.add(one.subject)
                    new.append(one.subject)
        return {one for one in reached if one != who and self.view.patient(one).end == who}

    # ------------------------------------------------------------ headers

    def overlay(
        self, home: tuple[Place, Subject], shown: ShownStudy, series: bytes, others: Iterable[bytes]
    ) -> Overlay | None:
        """The corrections of headers received in a series, given as (study, series) and the patient they name, and shown in a
        series of the study `shown`. `others`: studies received from which something is shown beside it."""
        (study, own_series), person = home
        steps: dict[Stamp, tuple[Said, list[Edit]]] = {}
        because = self.view.because(study, own_series, (shown.row.uid, series))
        moved = (study, own_series) != (shown.row.uid, series)
        if person != shown.person:
            causes = shown.because or because
            _add(steps, _newest(causes), self._identity(person, shown))
        if moved and because:
            _add(steps, _newest(because), _places(study, own_series, shown, series))
        names = [Subject(Level.SERIES, study, own_series), Subject(Level.SERIES, shown.row.uid, series)]
        for one in self._said([shown.person, Subject(Level.STUDY, shown.row.uid), *names]):
            if _is_tag(one.slot):
                _add(steps, one, [edits.edit(one.slot, one.value)])
        uids = united([self.view.moved_from(uid) for uid in sorted({study, shown.row.uid, *others})])
        if not steps and (uids.studies or uids.series or uids.instances):
            cause = self._latest_move({study, shown.row.uid, *others})
            if cause is not None:
                _add(steps, cause, [])
        return overlays.made([self._step(*steps[stamp]) for stamp in sorted(steps)], uids)

    def _identity(self, person: Subject, shown: ShownStudy) -> list[Edit]:
        target = self.patient(shown.person)
        if (
            self.view.patient(person).end == shown.person
        ):  # two numbers of one person: what else is known of it stays true
            known = self._identifiers(person)
            return [*target.identity, *([edits.other_ids(known)] if known else [])]
        said = {one.slot: one.value for one in self._said([shown.person]) if _is_tag(one.slot)}
        rest = [Edit(tag, vr, None) for tag, vr in edits.OF_ANOTHER.items() if f"{tag:08X}" not in said]
        kept = [edits.edit(f"{tag:08X}", said[f"{tag:08X}"]) for tag in edits.OF_ANOTHER if f"{tag:08X}" in said]
        return [*target.identity, *rest, *kept]

    def _identifiers(self, person: Subject) -> list[tuple[str, str, str, str]]:
        """Those by which headers name a patient."""
        described = self.described(person)
        columns: Columns = described.patient if described else {}
        claimed: list[tuple[str, str, str, str]] = [
            (one[0], one[1], one[2], one[3]) for one in json.loads(str(columns.get("claimed") or "[]"))
        ]
        if person.patient:
            kind, issuer_type = str(columns.get("id_type") or ""), str(columns.get("issuer_type") or "")
            claimed.insert(0, (person.patient, person.issuer, issuer_type, kind))
        return claimed

    def _latest_move(self, studies: Iterable[bytes]) -> Said | None:
        found: list[Said] = []
        for study in studies:
            found += [one for one in self.view.active(Subject(Level.STUDY, study)) if one.slot == words.PLACE]
            said = [one for series in self.view.series(study).values() for one in series]
            said += words.below(self.read, self.tenant_id, Level.INSTANCE, study, self.view.until)
            found += [one for one in said if one.active and one.slot == words.PLACE]
        return _newest(found) if found else None

    def _step(self, said: Said, made: list[Edit]) -> Step:
        told = self._told.get(said.op)
        if told is None:
            told = self._told[said.op] = words.told(self.read, self.tenant_id, said.op)
        return Step(said.op, said.at, told.by, told.why, told.origin, tuple(made))


def _is_tag(slot: str) -> bool:
    digits = slot.partition(":")[0]
    return len(digits) == 8 and all(one in "0123456789ABCDEF" for one in digits)


def _newest(said: Iterable[Said]) -> Said:
    return max(said, key=lambda one: one.stamp)


def _add(steps: dict[Stamp, tuple[Said, list[Edit]]], said: Said, made: Sequence[Edit]) -> None:
    steps.setdefault(said.stamp, (said, []))[1].extend(made)


def _places(study: bytes, series: bytes, shown: ShownStudy, shown_series: bytes) -> list[Edit]:
    made: list[Edit] = []
    if study != shown.row.uid:
        made += [edits.uid(STUDY_UID, unpack_uid(shown.row.uid)), *shown.module]
    if series != shown_series:
        made.append(edits.uid(SERIES_UID, unpack_uid(shown_series)))
    return made
