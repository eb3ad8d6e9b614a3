"""Random histories of records and corrections, in random order, against the reference model: rows, counts and versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import pytest

from radiolith.index import facts, instances
from radiolith.index.database import Database
from radiolith.index.search import search
from radiolith.model import Fact, Identity, Incoming, Level, Query, Row
from tests import campaign
from tests.index.conftest import TENANT
from tests.index.objects import Maker
from tests.model.reference import Patient, Record, Reference, Said, Shown

HISTORIES = campaign.count("corrections against the reference model", 300, 100_000)
EACH = 25  # histories one test runs
STUDIES, PATIENTS = ("1.2.1", "1.2.2", "1.2.3"), (("P1", ""), ("P2", "HOSP"), ("P3", ""), None)
NEW_STUDIES, NEW_SERIES = ("1.9.1", "1.9.2"), ("1.8.1", "1.8.2")
NAMES = ("Adams^Ann", "Brown^Bob", "Müller^Jörg", "")
ALL = (
    "amend", "amend", "amend", "patient", "study", "series", "instance", "into", "undo", "undo", "reject", "restore",
)  # fmt: skip
KINDS = ALL
TEXTS = ("Alpha", "Beta", "Gamma", "")


class History:
    """A plan: what was received, what was said, in which order both come."""

    def __init__(self, seed: int):
        self.rng = rng = Random(seed)
        self.maker = Maker(seed)
        self.clock = 1_700_000_000_000_000
        self.incoming = [self.received() for _ in range(rng.randint(4, 14))]
        self.said: list[Said] = []
        for _ in range(rng.randint(1, 12)):
            self.said.append(self.say())

    def now(self) -> int:
        """Two moments in ten are the same: ties are broken by ids."""
        self.clock += self.rng.choice((0, 0, 1, 1, 1, 1, 5, 900, 900, 4000))
        return self.clock

    def received(self) -> Incoming:
        rng = self.rng
        study = rng.choice(STUDIES)
        series = f"{study}.{rng.randrange(2)}"
        one = self.maker.one(
            Identity(study, series, f"{series}.{rng.randrange(3)}"), policy="first", received_at=self.now()
        )
        person = rng.choice(PATIENTS)
        described = one.description
        described.patient.update(
            patient_id=person[0] if person else None, issuer_key=person[1] if person else "", issuer=(person or ("", ""))[1],
            issuer_type="", claimed=None, patient_name=rng.choice(NAMES) or None, birth_date=rng.choice((19600101, None)),
        )  # fmt: skip
        described.study.update(accession=rng.choice(TEXTS) or None, description=rng.choice(TEXTS) or None)
        described.series.update(description=rng.choice(TEXTS) or None)
        return one

    # ------------------------------------------------------------ what people say

    def say(self) -> Said:
        rng = self.rng
        kind = rng.choice(KINDS)
        body: dict[str, Any] = {"op": rng.randbytes(16).hex(), "why": "CORRECT", "reason": "because"}
        match kind:
            case "amend":
                body |= self.amendment()
            case "patient":
                body |= {"of": [["study", self.study()]], "to": {"patient": list(self.person())}}
            case "study":
                body |= {"of": [["study", self.study()]], "to": {"study": self.study()}}
            case "series":
                home = self.home()
                to = {"study": self.study(), "series": rng.choice((*NEW_SERIES, home[1]))}
                body |= {"of": [["series", *home[:2]]], "to": to}
            case "instance":
                body |= {
                    "of": [["instance", *self.home()]],
                    "to": {"study": self.study(), "series": rng.choice(NEW_SERIES)},
                }
            case "into":
                body |= {"of": [self.subject_of_patient()], "to": ["patient", *self.person()]}
            case "undo":
                ops = [one.operation for one in self.said if one.kind != "undo"] or ["00" * 16]
                body |= {"undoes": rng.choice(ops), "again": rng.random() < 0.3}
            case _:
                body |= {"items": [list(self.home())]} | ({"reason": "113001"} if kind == "reject" else {})
        fact = {"patient": "place", "study": "place", "series": "place", "instance": "place"}.get(kind, kind)
        return Said(fact, self.now(), rng.randbytes(16), body)

    def amendment(self) -> dict[str, Any]:
        rng = self.rng
        level = rng.choice(("patient", "study", "series"))
        name: dict[str, Any] = {"vr": "PN", "Value": [{"Alphabetic": rng.choice(NAMES[:3])}]}
        sets: dict[str, dict[str, Any]] = {
            "patient": rng.choice(({"00100010": name}, {"00100030": {"vr": "DA", "Value": ["19991231"]}})),
            "study": rng.choice(({"00081030": _lo("SO")}, {"00080050": {"vr": "SH", "Value": [rng.choice("XYZ")]}})),
            "series": {"0008103E": _lo(rng.choice(("one", "two")))},
        }
        subject = {"patient": self.subject_of_patient, "study": lambda: ["study", self.study()], "series": self.series}[
            level
        ]()
        if rng.random() < 0.2:
            return {"of": [subject], "set": {}, "remove": list(sets[level])}
        return {"of": [subject], "set": sets[level], "remove": []}

    def home(self) -> tuple[str, str, str]:
        """Of something received, most often."""
        one = self.rng.choice(self.incoming).identity
        return one.study, one.series, one.sop

    def series(self) -> list[str]:
        if self.rng.random() < 0.2:
            return ["series", self.study(), self.rng.choice(NEW_SERIES)]
        return ["series", *self.home()[:2]]

    def study(self) -> str:
        return self.rng.choice((*STUDIES, *STUDIES, *NEW_STUDIES))

    def person(self) -> tuple[str, str]:
        return self.rng.choice((("P1", ""), ("P2", "HOSP"), ("P3", ""), ("P9", "NEW")))

    def subject_of_patient(self) -> list[str]:
        return ["patient-of", self.study()] if self.rng.random() < 0.15 else ["patient", *self.person()]

    # ------------------------------------------------------------ both sides

    def reference(self) -> Shown:
        return Reference(map(_record, self.incoming), self.said).shown()

    def play(self, database: Database) -> None:
        """In any order, a few at a time."""
        items: list[Incoming | Said] = [*self.incoming, *self.said]
        self.rng.shuffle(items)
        while items:
            batch = [items.pop(0) for _ in range(min(len(items), self.rng.randint(1, 4)))]
            with database.write() as tx:
                instances.insert(tx, [one for one in batch if isinstance(one, Incoming)])
                for one in batch:
                    if isinstance(one, Said):
                        applied = facts.apply(tx, Fact(one.kind, one.at, "ann", TENANT.uid, dict(one.body)), one.fact)
                        assert applied.known, applied.problem


def _lo(text: str) -> dict[str, Any]:
    return {"vr": "LO", "Value": [text]}


def _record(one: Incoming) -> Record:
    described = one.description
    values = {
        "00100010": described.patient["patient_name"], "00100030": described.patient["birth_date"],
        "00080050": described.study["accession"], "00081030": described.study["description"],
        "0008103E": described.series["description"],
    }  # fmt: skip
    person = described.patient["patient_id"]
    return Record(
        one.received_at, one.blob.object_id, (one.identity.study, one.identity.series, one.identity.sop), one.sha256,
        (str(person), str(described.patient["issuer_key"])) if person else None,
        {tag: str(value) for tag, value in values.items() if value},
    )  # fmt: skip


def rows(database: Database, level: Level, tags: Iterable[int]) -> list[tuple[str, ...]]:
    with database.read(20) as read:
        page = search(read, TENANT.id, Query(level, (), tuple((tag,) for tag in tags), limit=1000))
    return found_rows(page.rows, tags)


def found_rows(found: Iterable[Row], tags: Iterable[int]) -> list[tuple[str, ...]]:
    return sorted(tuple(str(row[tag][1] or "") if tag in row else "" for tag in tags) for row in found)


STUDY_TAGS = (0x0020000D, 0x00100020, 0x00100021, 0x00100010, 0x00100030, 0x00080050, 0x00081030, 0x00201208)
SERIES_TAGS = (0x0020000D, 0x0020000E, 0x0008103E, 0x00201209)
INSTANCE_TAGS = (0x0020000D, 0x0020000E, 0x00080018)


def expected(shown: Shown) -> tuple[list[tuple[str, ...]], ...]:
    visible = [one for one in shown.instances.values() if not one.rejected]
    studies = []
    for uid, values in shown.studies.items():
        count = str(sum(one.shown[0] == uid for one in visible))
        who = _identifier(shown.patients[uid])
        studies.append((uid, *who, *(values[tag] for tag in ("00100010", "00100030", "00080050", "00081030")), count))
    series = [
        (*uid, values["0008103E"], str(sum(one.shown[:2] == uid for one in visible)))
        for uid, values in shown.series.items()
    ]
    return sorted(studies), sorted(series), sorted(one.shown for one in visible)


def _identifier(patient: Patient) -> tuple[str, str]:
    return (patient[1], patient[2]) if patient[0] == "patient" else ("", "")


def standing(database: Database, shown: Shown) -> None:
    """Versions and the current one of every instance, rejected ones too."""
    for one in shown.instances.values():
        with database.read(20) as read:
            held = list(instances.locate(read, TENANT.id, *one.shown, current_only=False, include_rejected=True))
        assert [each.blob.object_id for each in held] == [each.object_id for each in one.versions], one.shown
        (now,) = [each for each in held if each.current]
        assert one.current is not None
        assert (now.blob.object_id, now.rejected) == (one.current.object_id, one.rejected), one.shown
        homes = [each.home or each.identity for each in held]
        assert [(each.study, each.series, each.sop) for each in homes] == [each.home for each in one.versions], (
            one.shown
        )


@pytest.mark.parametrize("first", range(0, HISTORIES, EACH))
def test_what_is_shown_is_what_the_model_says(first: int, fresh: Callable[[str], Database]) -> None:
    """Every fifth history on PostgreSQL."""
    for seed in range(first, min(first + EACH, HISTORIES)):
        database = fresh("postgresql" if seed % 5 == 0 else "sqlite")
        history = History(seed)
        history.play(database)
        shown = history.reference()
        found = tuple(rows(database, level, tags) for level, tags in (
            (Level.STUDY, STUDY_TAGS), (Level.SERIES, SERIES_TAGS), (Level.INSTANCE, INSTANCE_TAGS),
        ))  # fmt: skip
        for what, one, wanted in zip(("studies", "series", "instances"), found, expected(shown), strict=True):
            assert one == wanted, f"seed {seed}, {what}: {one} != {wanted}; said {history.said}"
        standing(database, shown)
