"""What an archive shows after records and decisions, worked out from scratch by plain dictionaries.

Owns: the meaning of decisions 100 to 102, as short as it can be said. Must never: import the archive, or be fast. It is
given all records and all facts at once, in any order, and tells what must be shown. Limits: one tenant; records that are
no encodings; the policy 'first' and decisions about the current version.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Identity = tuple[str, str, str]
Patient = tuple[str, ...]  # ('patient', value, issuer), or ('patient-of', study)
Subject = tuple[str, ...]
Stamp = tuple[int, bytes]

PATIENT_ID, ISSUER = "00100020", "00100021"
LEVELS = {"00100010": "patient", "00100030": "patient", "00080050": "study", "00081030": "study", "0008103E": "series"}
"""The attributes that the model knows, as tags: who the patient is stands in the subject."""


@dataclass(frozen=True)
class Record:
    """`values`: tag -> text, of every level."""

    at: int
    object_id: bytes
    home: Identity
    content: bytes  # what two records with the same bytes share
    patient: tuple[str, str] | None  # value and issuer
    values: Mapping[str, str]

    @property
    def key(self) -> Stamp:
        return self.at, self.object_id

    @property
    def person(self) -> Patient:
        return ("patient", *self.patient) if self.patient else ("patient-of", self.home[0])


@dataclass(frozen=True)
class Said:
    """A fact."""

    kind: str
    at: int
    fact: bytes
    body: Mapping[str, Any]

    @property
    def stamp(self) -> Stamp:
        return self.at, self.fact

    @property
    def operation(self) -> str:
        return str(self.body.get("op") or self.fact.hex())


@dataclass
class Instance:
    """A group of versions under one shown identity. `versions`: object ids in the order of their arrival."""

    shown: Identity
    versions: list[Record] = field(default_factory=list)
    current: Record | None = None
    rejected: str = ""


@dataclass
class Shown:
    """Everything that is shown: study -> values, (study, series) -> values, identity -> instance. `patients`: study -> its
    patient. Only what has an instance that is not rejected is a key of `studies` and `series`."""

    instances: dict[Identity, Instance] = field(default_factory=dict)
    studies: dict[str, dict[str, str]] = field(default_factory=dict)
    series: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    patients: dict[str, Patient] = field(default_factory=dict)
    words: dict[Identity, set[str]] = field(default_factory=dict)
    received: dict[str, Patient] = field(default_factory=dict)  # study -> whom its first header names

    def edited(self, instance: Instance) -> set[str]:
        """The tags about which something was said that applies to an instance."""
        return self.words.get(instance.shown, set())


class Reference:
    def __init__(self, records: Iterable[Record], facts: Iterable[Said]):
        self.records = sorted(records, key=lambda one: one.key)
        facts = sorted(facts, key=lambda one: one.stamp)
        undone = {one.body["undoes"]: not one.body.get("again", False) for one in facts if one.kind == "undo"}
        self.facts = [one for one in facts if not undone.get(one.operation, False)]
        self.registers: dict[tuple[Subject, str], tuple[Stamp, Any]] = {}
        for one in self.facts:
            for subject, slot, value in _words(one):
                self.registers[subject, slot] = one.stamp, value  # the later one wins
        self.first: dict[Hashable, Record] = {}
        for record in reversed(self.records):
            for known in (record.person, record.home[0], record.home[:2]):
                self.first[known] = record
        self.studies = self._followed("to study", lambda subject: subject[1], lambda value: value)
        self.into = self._followed("into", lambda subject: subject, lambda value: value)

    def _followed(self, slot: str, source: Any, target: Any) -> dict[Hashable, Hashable]:
        """source -> target of one kind of word, without the newest edge of every circle."""
        edges = {
            source(subject): (target(value), stamp)
            for (subject, name), (stamp, value) in self.registers.items()
            if name == slot
        }
        for start in list(edges):
            path = [start]
            while path[-1] in edges and edges[path[-1]][0] not in path:
                path.append(edges[path[-1]][0])
            if path[-1] in edges:
                circle = path[path.index(edges[path[-1]][0]) :]
                del edges[max(circle, key=lambda node: edges[node][1])]
        return {node: where for node, (where, _) in edges.items()}

    def word(self, subject: Subject, slot: str) -> Any:
        found = self.registers.get((subject, slot))
        return found[1] if found else None

    # ------------------------------------------------------------ places

    def place(self, home: Identity) -> Identity:
        """Where an instance is shown that was received as `home`."""
        study, series, sop = home
        word = self.word(("instance", *home), "place") or self.word(("series", study, series), "place")
        if word is not None:
            study, series = word[0], word[1] or series
        return str(_end(self.studies, study)), series, sop

    def received(self, study: str) -> Record:
        """The record that a shown study shows: its own first one, else that of the first study received that is shown in it."""
        homes = {one.home[0] for one in self.records if self.place(one.home)[0] == study}
        return self.first.get(study) or min((self.first[one] for one in homes), key=lambda one: one.key)

    def patient_of(self, study: str) -> Patient:
        told = self.word(("study", study), "to patient") or self.received(study).person
        return _end(self.into, told)  # type: ignore[return-value]

    # ------------------------------------------------------------ what is shown

    def shown(self) -> Shown:
        shown = Shown()
        for record in self.records:
            where = self.place(record.home)
            group = shown.instances.setdefault(where, Instance(where))
            if record.content not in {one.content for one in group.versions}:
                group.versions.append(record)
        for group in shown.instances.values():
            self._stand(group)
        visible = [one for one in shown.instances.values() if not one.rejected]
        for study in {one.shown[0] for one in visible}:
            shown.patients[study] = self.patient_of(study)
            shown.studies[study] = self.study_values(study, shown.patients[study])
        shown.received = {record.home[0]: self.first[record.home[0]].person for record in self.records}
        for one in visible:
            shown.words[one.shown] = self.tags(one, shown.patients[one.shown[0]])
        for series in {one.shown[:2] for one in visible}:
            homes = [one for one in self.records if self.place(one.home)[:2] == series]
            shown.series[series] = self.series_values(series, homes)
        return shown

    def _stand(self, group: Instance) -> None:
        """Which version is current, and whether the instance is rejected: the newest word about any of its homes."""
        homes = {one.home for one in self.records if self.place(one.home) == group.shown}
        group.current = group.versions[0]
        for one in self.facts:
            items = {tuple(item) for item in one.body.get("items", ())}
            if one.kind in ("reject", "restore") and homes & items:
                group.rejected = one.body["reason"] if one.kind == "reject" else ""

    def study_values(self, study: str, patient: Patient) -> dict[str, str]:
        own = self.received(study)
        values = {tag: own.values.get(tag, "") for tag, level in LEVELS.items() if level == "study"}
        values |= self.edits([("study", study)], "study")
        person = self.first.get(patient) or min(
            (self.first[one] for one in self.behind(patient)), key=lambda one: one.key
        )
        values |= {tag: person.values.get(tag, "") for tag, level in LEVELS.items() if level == "patient"}
        return values | self.edits([patient], "patient")

    def behind(self, patient: Patient) -> set[Patient]:
        """Those whom headers name of whom one that no header names is made: merged into it, or whose study it was given."""
        merged = {one.person for one in self.records if _end(self.into, one.person) == patient}
        studies = {self.place(one.home)[0] for one in self.records}
        return merged | {self.received(one).person for one in studies if self.patient_of(one) == patient}

    def series_values(self, series: tuple[str, str], homes: list[Record]) -> dict[str, str]:
        own = self.first.get(series) or min((self.first[one.home[:2]] for one in homes), key=lambda one: one.key)
        values = {tag: own.values.get(tag, "") for tag, level in LEVELS.items() if level == "series"}
        return values | self.edits([("series", *own.home[:2]), ("series", *series)], "series")

    def tags(self, instance: Instance, patient: Patient) -> set[str]:
        found = {*self.edits([("study", instance.shown[0])], "study"), *self.edits([patient], "patient")}
        homes = {("series", *one.home[:2]) for one in instance.versions[:1]}
        return found | self.edits([*homes, ("series", *instance.shown[:2])], "series").keys()

    def edits(self, subjects: Iterable[Subject], level: str) -> dict[str, str]:
        """The newest word on each attribute, over all these names of one thing."""
        found: dict[str, tuple[Stamp, str]] = {}
        for subject in subjects:
            for tag in (tag for tag, known in LEVELS.items() if known == level):
                said = self.registers.get((subject, tag))
                if said is not None and (tag not in found or said[0] > found[tag][0]):
                    found[tag] = said
        return {tag: value for tag, (_, value) in found.items()}


def _end(edges: Mapping[Hashable, Hashable], start: Hashable) -> Hashable:
    while start in edges:
        start = edges[start]
    return start


def _words(said: Said) -> Iterable[tuple[Subject, str, Any]]:
    """(subject, slot, value) of what a fact says."""
    body = said.body
    subjects: list[Subject] = [tuple(one) for one in body.get("of", ())]
    if said.kind == "amend":
        for subject in subjects:
            for tag, value in body.get("set", {}).items():
                yield subject, tag, _text(value)
            for tag in body.get("remove", ()):
                yield subject, tag, ""
    elif said.kind == "place":
        to = body["to"]
        for subject in subjects:
            if "patient" in to:
                yield subject, "to patient", ("patient", *to["patient"])
            elif subject[0] == "study":
                yield subject, "to study", to["study"]
            else:
                yield subject, "place", (to["study"], to.get("series", ""))
    elif said.kind == "into":
        for subject in subjects:
            yield subject, "into", tuple(body["to"])


def _text(value: Mapping[str, Any]) -> str:
    first = (value.get("Value") or [""])[0]
    return str(first["Alphabetic"] if isinstance(first, Mapping) else first)
