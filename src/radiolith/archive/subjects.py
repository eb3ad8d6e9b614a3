"""What a decision is about, in the words of facts: a patient, a study, a series, an instance.

Owns: these nouns and how a fact names them (docs/decisions/100: as received). Must never: look anything up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from radiolith.model import BadInput, Held, Identity, Level

UID_MAX = 128  # characters of a UID that a person may name; the standard has 64
ID_MAX = 300  # characters of a patient ID or its issuer: as many as the index keeps


@dataclass(frozen=True, slots=True)
class PatientKey:
    """A patient by identifier and its issuer ('' is ours), or, where the objects name none, by one study of that patient."""

    value: str
    issuer: str = ""
    study: str = ""

    def __str__(self) -> str:
        if not self.value:
            return f"the patient of study {self.study}"
        return f"{self.value} of {self.issuer}" if self.issuer else self.value

    def named(self) -> list[str]:
        """As a fact names it."""
        return ["patient", self.value, self.issuer] if self.value else ["patient-of", self.study]


@dataclass(frozen=True, slots=True)
class Subject:
    """`level` says which of the names count."""

    level: Level
    patient: PatientKey | None = None
    study: str = ""
    series: str = ""
    sop: str = ""

    def named(self) -> list[str]:
        """As a fact names it."""
        if self.level is Level.PATIENT and self.patient is not None:
            return self.patient.named()
        if self.level is Level.STUDY:
            return ["study", self.study]
        if self.level is Level.SERIES:
            return ["series", self.study, self.series]
        return ["instance", self.study, self.series, self.sop]


def of_patient(key: PatientKey) -> Subject:
    return Subject(Level.PATIENT, key)


def of_study(study: str) -> Subject:
    return Subject(Level.STUDY, study=study)


def of_series(study: str, series: str) -> Subject:
    return Subject(Level.SERIES, study=study, series=series)


def of_instance(identity: Identity) -> Subject:
    return Subject(Level.INSTANCE, study=identity.study, series=identity.series, sop=identity.sop)


def home_of(held: Held) -> Identity:
    """The identity it was received under."""
    return held.home or held.identity


def checked(subject: Subject) -> Subject:
    """The same. Raises BadInput for one that names nothing, or what no index could hold."""
    key = subject.patient
    if subject.level is Level.PATIENT:
        if key is None or not (key.value or key.study):
            raise BadInput("name the patient: an ID with its issuer, or a study of a patient without ID")
        _short((key.value, key.issuer), ID_MAX, "a patient ID and its issuer")
        _short((key.study,), UID_MAX, "a UID")
        return subject
    names = {Level.STUDY: (subject.study,), Level.SERIES: (subject.study, subject.series)}.get(
        subject.level, (subject.study, subject.series, subject.sop)
    )
    if not all(names):
        raise BadInput("name the study, and for a series or an instance what lies above it too")
    _short(names, UID_MAX, "a UID")
    return subject


def _short(texts: Sequence[str], most: int, what: str) -> None:
    if any(len(text) > most or not text.isprintable() for text in texts):
        raise BadInput(f"{what} has up to {most} printable characters")
