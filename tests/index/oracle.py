"""Search as a plain reading of the standard: every object looked at, nothing clever.

Owns: what the index should answer, worked out from descriptions alone. Matching by regular expressions on whole values,
so that it shares no code with the compiler but the folding of names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from radiolith.dicom import names
from radiolith.model import Description, Incoming, Level, Match, Query

Value = "str | int | None"
PATIENT = {0x00100010: "patient_name", 0x00100021: "issuer", 0x00100030: "birth_date", 0x00100040: "sex"}
STUDY = {
    0x00080020: "study_date", 0x00080030: "study_time", 0x00080050: "accession", 0x00080090: "referring",
    0x00081030: "description", 0x00200010: "study_code",
}  # fmt: skip
SERIES = {
    0x00080060: "modality", 0x0008103E: "description", 0x00180015: "body_part", 0x00200011: "number",
    0x00200060: "laterality", 0x00081010: "station", 0x00080080: "institution", 0x00400244: "step_date",
    0x00400245: "step_time",
}  # fmt: skip
INSTANCE = {0x00200013: "number", 0x00080023: "content_date", 0x00080033: "content_time", 0x00280010: "row_count"}
NAMES = {0x00100010, 0x00080090}
DATES = {0x00080020, 0x00100030, 0x00400244, 0x00080023}
TIMES = {0x00080030, 0x00400245, 0x00080033}
PAIRS = {0x00080020: 0x00080030, 0x00400244: 0x00400245, 0x00080023: 0x00080033}


@dataclass
class Series:
    uid: str
    first: Incoming
    visible: list[Incoming] = field(default_factory=list[Incoming])


@dataclass
class Study:
    uid: str
    first: Incoming
    series: dict[str, Series] = field(default_factory=dict[str, Series])

    @property
    def visible(self) -> list[Series]:
        return [one for one in self.series.values() if one.visible]


def arrival(one: Incoming) -> tuple[int, bytes]:
    return one.received_at, one.blob.object_id


class World:
    """What should be held: everything stored, minus what was rejected. No versions: each identity once."""

    def __init__(self, incoming: Iterable[Incoming], rejected: set[str], view: str):
        self.studies: dict[str, Study] = {}
        patients: dict[object, Incoming] = {}
        for one in sorted(incoming, key=arrival):
            study = self.studies.setdefault(one.identity.study, Study(one.identity.study, one))
            series = study.series.setdefault(one.identity.series, Series(one.identity.series, one))
            if (one.identity.sop in rejected) == (view == "rejected"):
                series.visible.append(one)
            patients.setdefault(self.patient_key(one), one)
        self.patients = patients

    @staticmethod
    def patient_key(one: Incoming) -> object:
        described = one.description.patient
        return (described["patient_id"], described["issuer_key"]) if described["patient_id"] else one.identity.study

    def patient(self, study: Study) -> Incoming:
        """The object whose header describes the study's patient."""
        return self.patients[self.patient_key(study.first)]

    # ------------------------------------------------------------ matching

    def find(self, query: Query) -> set[str]:
        """UIDs of the level's entities that match."""
        found: set[str] = set()
        for study in self.studies.values():
            for series in study.visible:
                for one in series.visible:
                    entity = {Level.STUDY: study.uid, Level.SERIES: series.uid, Level.INSTANCE: one.identity.sop}
                    if self.matches(query, study, series, one):
                        found.add(entity[query.level])
        return found

    def matches(self, query: Query, study: Study, series: Series, one: Incoming) -> bool:
        """Whether this path of entities satisfies all keys: those below the level hold together on it."""
        given = {match.path: match for match in query.matches}
        patient, stated = self.patient(study).description, study.first.description
        shown = series.first.description
        for match in query.matches:
            if not [value for value in match.values if value.strip("*")]:
                continue
            if not self.holds(query, match, given, (study, patient, stated, shown, series, one)):
                return False
        return self._requests(query, shown)

    def holds(
        self,
        query: Query,
        match: Match,
        given: dict[tuple[int, ...], Match],
        at: tuple[Study, Description, Description, Description, Series, Incoming],
    ) -> bool:
        study, patient, stated, shown, series, one = at
        tag, values = match.path[0], match.values
        if len(match.path) == 2:
            return True  # RequestAttributesSequence: all keys on one item, see _requests
        if tag == 0x00100020:
            return self._identifier(study, values, given)
        if tag == 0x00100021 and (0x00100020,) in given:
            return True
        if tag == 0x00080061:
            return any(
                text(pattern, other.first.description.series["modality"])
                for pattern in values
                for other in study.visible
            )
        uids = {0x0020000D: study.uid, 0x0020000E: series.uid, 0x00080018: one.identity.sop, 0x00080016: one.sop_class}
        if tag in uids:
            return uids[tag] in values
        if tag == 0x00080062:
            return any(o.sop_class in values for s in study.visible for o in s.visible)
        columns, described = next(
            (columns, source)
            for columns, source in (
                (PATIENT, patient.patient),
                (STUDY, stated.study),
                (SERIES, shown.series),
                (INSTANCE, one.description.instance),
            )
            if tag in columns
        )
        value = described[columns[tag]]
        if '""' in values:
            return value is None
        if tag in PAIRS and (PAIRS[tag],) in given and "-" in values[0] and "-" in given[PAIRS[tag],].values[0]:
            hour = described[columns[PAIRS[tag]]]
            return moment(values[0], given[PAIRS[tag],].values[0], value, hour)
        back = {hour: day for day, hour in PAIRS.items()}
        if tag in back and (back[tag],) in given and "-" in values[0] and "-" in given[back[tag],].values[0]:
            return True
        return any(self.value(query, tag, asked, value) for asked in values)

    def _identifier(self, study: Study, values: tuple[str, ...], given: dict[tuple[int, ...], Match]) -> bool:
        wanted = given[0x00100021,].values[0] if (0x00100021,) in given else ""
        described = self.patient(study).description.patient
        own = {described["issuer_key"], described["issuer"]}
        held = [(described["patient_id"], own)] if described["patient_id"] else []
        held += [(claim[0], {claim[1]}) for claim in json.loads(str(described["claimed"] or "[]"))]
        return any(
            text(pattern, value) and (not wanted or wanted in issuers) for pattern in values for value, issuers in held
        )

    @staticmethod
    def _requests(query: Query, shown: Description) -> bool:
        keys = [
            (m.path[1], m.values) for m in query.matches if len(m.path) == 2 and [v for v in m.values if v.strip("*")]
        ]
        if not keys:
            return True
        place = {0x00400009: 0, 0x00401001: 1}
        items = json.loads(str(shown.series["requests"] or "[]"))
        return any(all(any(text(v, item[place[tag]]) for v in values) for tag, values in keys) for item in items)

    @staticmethod
    def value(query: Query, tag: int, asked: str, value: str | int | None) -> bool:
        if tag in NAMES:
            return value is not None and (name(asked, str(value)) or (query.fuzzy and heard(asked, str(value))))
        if value is None:
            return False
        if tag in DATES:
            low, high = span(asked)
            return (low or "00010101") <= f"{value:08d}" <= (high or "99991231")
        if tag in TIMES:
            low, high = span(asked)
            return within(low, high, str(value), exact="-" not in asked)
        if isinstance(value, int):
            return int(asked) == value
        return text(asked, value)


def text(pattern: str, value: object) -> bool:
    if value is None:
        return False
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch("".join(parts), str(value), re.DOTALL) is not None


def name(asked: str, value: str) -> bool:
    """One group of what is asked matches one group of the name: the components named, those after them free."""
    keys = names.name_keys(value)
    for group in asked.split("="):
        folded = names.fold(group).rstrip("^ ")
        pattern = "^".join(part or "*" for part in folded.split("^"))
        if folded and any(text(pattern, key) or text(pattern + "^*", key) for key in keys):
            return True
    return False


def heard(asked: str, value: str) -> bool:
    """Every word asked for without wildcards sounds like a word of the family or given name."""
    words = [word for word in re.split(r"[ ^=]+", names.fold(asked)) if word and not set(word) & set("*?")]
    known = {s for key in names.name_keys(value) for part in key.split("^")[:2] for s in names.phonetic(part).split()}
    return bool(words) and all(set(names.phonetic(word).split()) <= known for word in words)


def span(asked: str) -> tuple[str, str]:
    if "-" not in asked:
        return asked, asked
    low, _, high = asked.partition("-")
    return low, high


def micro(value: str, fill: str) -> str:
    whole, _, fraction = value.partition(".")
    return whole + ("0000" if fill == "0" else "5959")[len(whole) - 2 :] + fraction.ljust(6, fill)


def within(low: str, high: str, value: str, *, exact: bool) -> bool:
    if exact:
        return value.startswith(low)
    return (not low or micro(value, "0") >= micro(low, "0")) and (not high or micro(value, "0") <= micro(high, "9"))


def moment(days: str, hours: str, day: object, hour: object) -> bool:
    """Combined date-time matching."""
    if day is None or hour is None:
        return False
    (first, last), (low, high) = span(days), span(hours)
    at = f"{day:08d}" + micro(str(hour), "0")
    return (first or "00010101") + micro(low or "00", "0") <= at <= (last or "99991231") + micro(high or "235959", "9")
