"""What words make of rows, headers and names: corrections, moves, merges, splits, undo, and the races between them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import pytest

from radiolith.index import facts, instances, patients, words
from radiolith.index.database import Database
from radiolith.index.dump import dump
from radiolith.index.search import search
from radiolith.index.session import Writer
from radiolith.index.uids import pack_uid
from radiolith.model import Fact, Held, Identity, Incoming, Level, Match, Outcome, Overlay, Query
from tests import campaign
from tests.index.conftest import TENANT
from tests.index.objects import Maker
from tests.index.test_corrections_model import History
from tests.index.test_insertion import counted as counted_rows
from tests.index.test_insertion import recount

STUDY_UID, PATIENT_ID, NAME, ACCESSION = 0x0020000D, 0x00100020, 0x00100010, 0x00080050
AT = 1_800_000_000_000_000


def counted(database: Database) -> list[tuple[object, ...]]:
    """Series that show something, with their counts."""
    return [row for row in counted_rows(database) if row[2] or row[3]]


class Archive:
    """A database, and people who say things about what is in it, one after the other."""

    def __init__(self, database: Database):
        self.database, self.maker, self.said = database, Maker(1), 0

    def store(self, identity: Identity, patient: str = "P1", **changes: Any) -> instances.Verdict:
        return self.put(self.made(identity, patient, **changes))

    def made(self, identity: Identity, patient: str = "P1", **changes: Any) -> Incoming:
        one = self.maker.one(identity, policy=changes.pop("policy", "first"))
        described = one.description
        described.patient.update(
            patient_id=patient, issuer=None, issuer_key="", issuer_type="", claimed=None, traits=None
        )
        described.patient.update(patient_name=changes.pop("name", "Wrong^Name"), birth_date=19600101, sex="F")
        described.study.update(
            accession="A1", study_code="1", description="old", study_date=20240101, accession_issuer=None
        )
        described.series.update(description="s", requests=None)
        return replace(one, **changes)

    def put(self, one: Incoming) -> instances.Verdict:
        with self.database.write() as tx:
            return instances.insert(tx, [one])[0]

    def say(self, kind: str, at: int = 0, **body: Any) -> str:
        """Its operation."""
        self.said += 1
        op = body.pop("op", f"{self.said:032x}")
        told: dict[str, object] = {"op": op, "why": "CORRECT", "reason": "because"} | body
        with self.database.write() as tx:
            applied = facts.apply(
                tx, Fact(kind, at or AT + self.said, "ann", TENANT.uid, told), b"w" * 8 + self.said.to_bytes(8, "big")
            )
        assert applied.known, applied.problem
        return op

    def undo(self, op: str, *, again: bool = False) -> None:
        self.say("undo", undoes=op, again=again)

    def found(self, level: Level = Level.STUDY, **keys: str) -> list[str]:
        """Study UIDs a search finds."""
        tags = {"patient": PATIENT_ID, "study": STUDY_UID, "accession": ACCESSION, "series": 0x0020000E, "name": NAME}
        matches = tuple(Match((tags[key],), (value,)) for key, value in keys.items())
        asked = ((PATIENT_ID,), (STUDY_UID,))
        with self.database.read(20) as read:
            rows = search(read, TENANT.id, Query(level, matches, asked)).rows
        return sorted(str((row.get(STUDY_UID) or row[PATIENT_ID])[1]) for row in rows)

    def shows(self, study: str, tag: int) -> str:
        with self.database.read(20) as read:
            (row,) = search(read, TENANT.id, Query(Level.STUDY, (Match((STUDY_UID,), (study,)),), ((tag,),))).rows
        return str(row[tag][1] or "")

    def held(self, *names: str, **how: Any) -> list[Held]:
        with self.database.read(20) as read:
            return list(instances.locate(read, TENANT.id, *names, **how))

    def lines(self) -> list[str]:
        """The dump, without what was said and when."""
        with self.database.snapshot() as read:
            rows = [json.loads(line) for line in dump(read)]
        shown = [row for row in rows if row[0] not in ("word", "operation", "fact")]
        for _, row in shown:
            row.pop("changed_at", None)
            row.pop("old_names", None)
        return [json.dumps(row) for row in shown]


@pytest.fixture
def archive(database: Database) -> Archive:
    return Archive(database)


ONE = Identity("1.1", "1.1.1", "1.1.1.1")
TWO = Identity("1.1", "1.1.1", "1.1.1.2")
OTHER = Identity("1.2", "1.2.1", "1.2.1.1")
RIGHT = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Right^Name"}]}}


def edits(overlay: Overlay | None) -> dict[int, Any]:
    """tag -> value of the last edit, None for one that is taken away."""
    assert overlay is not None
    return {
        one.tag: None if one.value is None else json.loads(one.value).get("Value")
        for step in overlay.steps
        for one in step.edits
    }


# ---------------------------------------------------------------- corrections


def test_a_corrected_name_is_in_rows_searches_and_headers_and_undone_everywhere(archive: Archive) -> None:
    archive.store(ONE)
    before = archive.lines()
    op = archive.say("amend", of=[["patient", "P1", ""]], set=RIGHT)
    assert archive.shows("1.1", NAME) == "Right^Name"
    assert (archive.found(name="Right"), archive.found(name="Wrong")) == (["1.1"], [])
    (held,) = archive.held("1.1")
    assert edits(held.overlay) == {NAME: [{"Alphabetic": "Right^Name"}]}
    assert held.overlay is not None
    step = held.overlay.steps[0]
    assert (step.operation.hex(), step.by, step.why) == (op, "ann", "CORRECT")
    later = archive.store(Identity("1.1", "1.1.2", "1.1.2.1")).held
    assert later.overlay == held.overlay  # what comes later follows, a new series too
    archive.undo(op)
    assert (archive.found(name="Right"), archive.found(name="Wrong")) == ([], ["1.1"])
    assert archive.held("1.1", "1.1.1")[0].overlay is None
    archive.undo(op, again=True)
    assert archive.held("1.1", "1.1.1")[0].overlay == held.overlay
    archive.undo(op)
    assert set(before) <= set(archive.lines()) | {line for line in before if '"study"' in line or '"patient"' in line}


def test_undone_means_as_before(archive: Archive) -> None:
    archive.store(ONE)
    archive.store(TWO)
    archive.store(OTHER, "P2")
    before = archive.lines()
    said = [
        archive.say("amend", of=[["study", "1.1"], ["series", "1.1", "1.1.1"]], set={"0008103E": {"vr": "LO", "Value": ["x"]}},
                    remove=["00081030", {"tag": "00091001", "creator": "ACME"}]),
        archive.say("place", of=[["study", "1.1"]], to={"patient": ["P7", "HOSP"]}),
        archive.say("place", of=[["instance", "1.1", "1.1.1", "1.1.1.2"]],
                    to={"study": "1.1", "series": "1.8"}),
        archive.say("place", of=[["study", "1.2"]], to={"study": "1.1"}),
        archive.say("into", of=[["patient", "P2", ""]], to=["patient", "P1", ""]),
        archive.say("reject", reason="113001", items=[["1.1", "1.1.1", "1.1.1.1"]]),
    ]  # fmt: skip
    assert archive.lines() != before
    for op in Random(5).sample(said, len(said)):
        archive.undo(op)
    kept = [line for line in archive.lines() if '["history"' not in line]
    assert kept == before
    assert counted(archive.database) == recount(archive.database)


def test_the_study_shows_the_old_accession_number_as_a_way_in(archive: Archive) -> None:
    archive.store(ONE)
    archive.say("amend", of=[["study", "1.1"]], set={"00080050": {"vr": "SH", "Value": ["B2"]}})
    archive.say("amend", of=[["study", "1.1"]], set={"00080050": {"vr": "SH", "Value": ["C3"]}})
    assert archive.shows("1.1", ACCESSION) == "C3"
    assert [archive.found(accession=one) for one in ("A1", "B2", "C3", "D")] == [["1.1"]] * 3 + [[]]


def test_the_later_word_holds_and_an_earlier_one_shows_again(archive: Archive) -> None:
    archive.store(ONE)
    second = archive.say("amend", at=AT + 500, of=[["study", "1.1"]], set={"00081030": {"vr": "LO", "Value": ["two"]}})
    archive.say("amend", at=AT + 400, of=[["study", "1.1"]], set={"00081030": {"vr": "LO", "Value": ["one"]}})
    assert archive.shows("1.1", 0x00081030) == "two"
    archive.said += 600
    archive.undo(second)
    assert archive.shows("1.1", 0x00081030) == "one"


def noted(real: Callable[..., Any], ran: list[str]) -> Callable[..., Any]:
    def spy(tx: Writer, sql: str, *more: Any) -> Any:
        ran.append(sql)
        return real(tx, sql, *more)

    return spy


def test_how_much_is_done_does_not_depend_on_the_number_of_instances(
    fresh: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correction of a patient touches rows of patients, studies and series: no instance, no header."""
    counts: list[int] = []
    for size in (2, 40):
        archive = Archive(fresh("sqlite"))
        for number in range(size):
            archive.store(Identity("1.1", f"1.1.{number % 2}", f"1.1.{number % 2}.{number}"))
        ran: list[str] = []
        with monkeypatch.context() as spied:
            for name in ("run", "one", "all"):
                spied.setattr(Writer, name, noted(getattr(Writer, name), ran))
            archive.say("amend", of=[["patient", "P1", ""]], set=RIGHT)
        counts.append(len(ran))
        assert not [sql for sql in ran if "UPDATE instances" in sql]
    assert counts[0] == counts[1]


# ---------------------------------------------------------------- moves


def test_a_study_moved_to_another_patient_is_found_by_both_numbers(archive: Archive) -> None:
    archive.store(ONE)
    archive.store(OTHER, "P2", name="Other^One")
    op = archive.say("place", of=[["study", "1.1"]], to={"patient": ["P2", ""]})
    assert archive.shows("1.1", PATIENT_ID) == "P2"
    assert (archive.found(patient="P2"), archive.found(patient="P1")) == (["1.1", "1.2"], ["1.1"])
    assert archive.found(Level.PATIENT, patient="P1") == ["P2"]
    changed = edits(archive.held("1.1")[0].overlay)
    assert changed[PATIENT_ID] == ["P2"] and changed[NAME] == [{"Alphabetic": "Other^One"}]
    assert changed[0x00101002] is None  # other numbers of the wrong person
    assert archive.held("1.2")[0].overlay is None
    late = archive.store(Identity("1.1", "1.1.9", "1.1.9.1"))
    assert edits(late.held.overlay) == changed
    archive.undo(op)
    assert (archive.found(patient="P2"), archive.found(patient="P1")) == (["1.2"], ["1.1"])


def test_merged_patients_keep_the_old_number_in_headers(archive: Archive) -> None:
    archive.store(ONE)
    archive.store(OTHER, "P2")
    archive.say("into", of=[["patient", "P1", ""]], to=["patient", "P2", ""])
    assert archive.found(patient="P1") == ["1.1"] and archive.found(patient="P2") == ["1.1", "1.2"]
    changed = edits(archive.held("1.1")[0].overlay)
    assert [one["00100020"]["Value"] for one in changed[0x00101002]] == [["P1"]]
    with archive.database.read() as read:
        states = dict(read.all("SELECT patient_id, state FROM patients"))
    assert states == {"P1": patients.State.MERGED, "P2": patients.State.PROVISIONAL}
    archive.store(Identity("1.3", "1.3.1", "1.3.1.1"), "P1")  # its next study goes the same way
    assert archive.shows("1.3", PATIENT_ID) == "P2"


def test_merged_studies_answer_by_both_uids(archive: Archive) -> None:
    archive.store(ONE)
    archive.store(OTHER, "P2")
    archive.say("place", of=[["study", "1.1"]], to={"study": "1.2"})
    assert archive.found() == archive.found(study="1.1") == archive.found(study="1.2") == ["1.2"]
    assert archive.found(Level.SERIES, study="1.1") == ["1.2", "1.2"]
    (moved,) = archive.held("1.1")
    assert (moved.identity, moved.home) == (Identity("1.2", "1.1.1", "1.1.1.1"), ONE)
    assert [one.home for one in archive.held("1.1", "1.1.1", "1.1.1.1")] == [ONE]
    changed = edits(moved.overlay)
    assert changed[STUDY_UID] == ["1.2"] and changed[PATIENT_ID] == ["P2"]
    assert moved.overlay is not None and moved.overlay.uids.studies == (("1.1", "1.2"),)
    own = next(one for one in archive.held("1.2") if one.home is None)
    assert own.overlay is not None and own.overlay.uids == moved.overlay.uids  # its references may name the other study
    late = archive.store(Identity("1.1", "1.1.1", "1.1.1.7")).held
    assert late.identity.study == "1.2" and late.overlay == moved.overlay
    assert counted(archive.database) == recount(archive.database)


def test_a_split_series_and_its_late_instances(archive: Archive) -> None:
    archive.store(ONE)
    archive.store(TWO)
    op = archive.say("place", of=[["instance", "1.1", "1.1.1", "1.1.1.2"]], to={"study": "1.1", "series": "2.25.1"})
    assert [one.identity.series for one in archive.held("1.1")] == ["1.1.1", "2.25.1"]
    (moved,) = archive.held("1.1", "2.25.1")
    assert moved.overlay is not None
    assert moved.overlay.uids.instances == ((("1.1", "1.1.1", "1.1.1.2"), ("1.1", "2.25.1")),)
    assert edits(moved.overlay) == {0x0020000E: ["2.25.1"]}
    with archive.database.read() as read:
        assert [one.identity for one in instances.by_sop(read, TENANT.id, "1.1.1.2")] == [moved.identity]
    assert archive.held("1.1", "1.1.1", "1.1.1.2") == [moved]  # by the name it was received under
    archive.undo(op)
    assert {one.identity for one in archive.held("1.1", "1.1.1")} == {ONE, TWO}


def test_an_amended_copy_that_comes_back_is_a_version(archive: Archive) -> None:
    archive.store(ONE)
    archive.say("place", of=[["series", "1.1", "1.1.1"]], to={"study": "1.5", "series": "1.5.1"})
    back = archive.store(Identity("1.5", "1.5.1", "1.1.1.1"))
    assert back.outcome is Outcome.VERSION
    with archive.database.read() as read:
        both = instances.versions(read, TENANT.id, Identity("1.5", "1.5.1", "1.1.1.1"))
        assert [one.home for one in both] == [ONE, None]
        assert instances.find_existing(read, TENANT.id, [ONE])[ONE] == both
    archive.say("reject", reason="113001", items=[["1.1", "1.1.1", "1.1.1.1"]])
    assert archive.held("1.5") == [] and len(archive.held("1.5", include_rejected=True)) == 1
    with archive.database.read() as read:
        assert [one.study for one in instances.rejected(read, TENANT.id)] == ["1.5"]
    archive.say("restore", items=[["1.5", "1.5.1", "1.1.1.1"]])
    assert len(archive.held("1.5")) == 1
    assert counted(archive.database) == recount(archive.database)


def test_a_circle_of_merges_has_an_end(archive: Archive) -> None:
    archive.store(ONE)
    archive.store(OTHER, "P2")
    archive.say("into", of=[["patient", "P1", ""]], to=["patient", "P2", ""])
    archive.say("into", of=[["patient", "P2", ""]], to=["patient", "P1", ""])  # the newest edge is ignored
    assert archive.found(patient="P2") == ["1.1", "1.2"]
    archive.say("place", of=[["study", "1.1"]], to={"study": "1.2"})
    archive.say("place", of=[["study", "1.2"]], to={"study": "1.1"})
    assert archive.found() == ["1.2"]


# ---------------------------------------------------------------- versions, patients


def test_rows_show_the_version_that_is_current(archive: Archive) -> None:
    """The technologist corrects the name and sends again."""
    first = archive.made(ONE)
    archive.put(first)
    again = replace(archive.made(ONE, name="Right^Name", policy="newest"), source=first.source)
    archive.put(again)
    assert archive.shows("1.1", NAME) == "Right^Name"
    op = archive.say("current", identity=["1.1", "1.1.1", "1.1.1.1"], object=first.blob.object_id.hex())
    assert archive.shows("1.1", NAME) == "Wrong^Name"
    archive.undo(op)
    assert archive.shows("1.1", NAME) == "Right^Name"
    archive.undo(op, again=True)
    assert archive.shows("1.1", NAME) == "Wrong^Name"


def test_a_corrected_patient_id_moves_the_study(archive: Archive) -> None:
    first = archive.made(ONE)
    archive.put(first)
    archive.put(replace(archive.made(ONE, "P2", policy="newest"), source=first.source))
    assert archive.shows("1.1", PATIENT_ID) == "P2"
    with archive.database.read() as read:
        assert len(read.all("SELECT patient_id FROM study_patients")) == 2  # a case for a person


def test_linked_patients_are_one_person_and_stay_two(archive: Archive) -> None:
    for number, patient in enumerate(("P1", "P2", "P3")):
        archive.store(Identity(f"1.{number}", f"1.{number}.1", f"1.{number}.1.1"), patient)
    archive.say("link", of=[["patient", "P1", ""], ["patient", "P2", ""]], linked=True)
    op = archive.say("link", of=[["patient", "P3", ""], ["patient", "P2", ""]], linked=True)

    def person(value: str) -> list[str]:
        with archive.database.read() as read:
            return [one.patient for one in patients.linked(read, TENANT.id, words.patient(value))]

    assert person("P1") == person("P3") == ["P1", "P2", "P3"]
    archive.undo(op)
    assert (person("P1"), person("P3")) == (["P1", "P2"], ["P3"])
    assert archive.found(patient="P1") == ["1.0"] and archive.held("1.0")[0].overlay is None


def test_a_patient_is_verified(archive: Archive) -> None:
    archive.store(ONE)
    archive.say("patient", of=[["patient", "P1", ""]], state="verified")
    with archive.database.read() as read:
        assert read.one("SELECT state FROM patients") == (patients.State.VERIFIED,)


BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("amend", {"of": [["study", "1.1"]], "set": {}}),
    ("amend", {"of": [["instance", "1.1", "1.1.1", "1"]], "set": RIGHT}),
    ("amend", {"of": [["study", "1.1"]], "set": {"00081030": {"vr": "LO", "Value": "no list"}}}),
    ("amend", {"of": [["study", "1.1"]], "set": {"zz": {"vr": "LO"}}}),
    ("place", {"of": [["study", "1.1"]], "to": {}}),
    ("place", {"of": [["study", "1.1"]], "to": {"study": "1.2", "series": "1.2.1"}}),
    ("place", {"of": [["patient", "P1", ""]], "to": {"study": "1.2"}}),
    ("into", {"of": [["study", "1.1"]], "to": ["patient", "P1", ""]}),
    ("patient", {"of": [["patient", "P1", ""]], "state": "merged"}),
    ("link", {"of": [["patient", "P1", ""]], "linked": True}),
    ("undo", {"undoes": "12"}),
]


@pytest.mark.parametrize(("kind", "body"), BROKEN)
def test_a_body_that_does_not_fit_changes_nothing(archive: Archive, kind: str, body: dict[str, Any]) -> None:
    archive.store(ONE)
    before = archive.lines()
    with archive.database.write() as tx:
        applied = facts.apply(tx, Fact(kind, AT, "ann", TENANT.uid, {"op": "ab" * 16} | body), b"b" * 16)
    assert not applied.known and archive.lines() == before
    with archive.database.read() as read:
        assert read.all("SELECT 1 FROM words") == []


# ---------------------------------------------------------------- any order, at once


def test_any_order_of_records_and_corrections_gives_the_same_dump(fresh: Callable[[str], Database]) -> None:
    for seed in range(campaign.count("orders of corrections", 25, 20_000)):
        history, dumps = History(seed), list[list[str]]()
        for kind in ("sqlite", "sqlite", *(["postgresql"] if seed < 4 else [])):
            database = fresh(kind)
            history.play(database)
            assert counted(database) == recount(database), seed
            with database.snapshot() as read:
                dumps.append(list(dump(read)))
            database.close()
        assert not [sorted(set(one) ^ set(dumps[0])) for one in dumps[1:] if one != dumps[0]], seed


def at_once(*works: Callable[[], object]) -> None:
    """Run them together; each is run again while others are in its way, as the commit thread does."""
    failures: list[BaseException] = []
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        try:
            gate.wait()
            for left in (3, 2, 1, 0):
                try:
                    work()
                    return
                except Exception:
                    if not left:
                        raise
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def told(database: Database, kind: str, body: dict[str, Any], at: int) -> None:
    with database.write() as tx:
        assert facts.apply(tx, Fact(kind, at, "ann", TENANT.uid, body), bytes.fromhex(body["op"])).known


def stored(archive: Archive, incoming: list[Incoming]) -> None:
    for one in incoming:
        archive.put(one)


def test_merges_and_arrivals_at_once_leave_nothing_behind(database: Database) -> None:
    """A new study of a patient arrives while he is merged; a series arrives while its study is moved."""
    for number in range(6):
        archive = Archive(database)
        archive.said, archive.maker = number * 100, Maker(number)
        who, into, study, target = f"M{number}", f"T{number}", f"1.{number}.1", f"1.{number}.2"
        archive.store(Identity(study, f"{study}.1", f"{study}.1.1"), who)
        merge: dict[str, Any] = {"op": f"{number:031x}a", "of": [["patient", who, ""]], "to": ["patient", into, ""]}
        move: dict[str, Any] = {"op": f"{number:031x}b", "of": [["study", study]], "to": {"study": target}}
        news = [
            archive.made(Identity(f"1.{number}.{n}", f"1.{number}.{n}.1", f"1.{number}.{n}.1.1"), who) for n in (3, 4)
        ]
        late = [archive.made(Identity(study, f"{study}.{n}", f"{study}.{n}.1"), who) for n in (5, 6)]

        at_once(
            partial(told, database, "into", merge, AT),
            partial(stored, archive, news),
            partial(told, database, "place", move, AT + 1),
            partial(stored, archive, late),
        )
        assert archive.found(patient=into) == [target, f"1.{number}.3", f"1.{number}.4"]
        assert len(archive.held(target)) == 3 and all(one.overlay is not None for one in archive.held(target))
    assert counted(database) == recount(database)


def test_what_follows_an_arrival_waits_for_who_decides(fresh: Callable[[str], Database]) -> None:
    """Otherwise it would look at some words before a decision and at others after it, and write over what the decision wrote."""
    database = fresh("postgresql")
    archive = Archive(database)
    archive.store(ONE)
    archive.say("amend", of=[["study", "1.1"]], set={"00081030": {"vr": "LO", "Value": ["x"]}})
    again = archive.made(ONE, name="Right^Name", policy="newest")
    with database.write() as deciding:
        words.lock(deciding, 1)
        arriving = threading.Thread(target=archive.put, args=(again,))
        arriving.start()
        while arriving.is_alive() and not deciding.one("SELECT 1 FROM pg_locks WHERE NOT granted"):
            pass
        assert arriving.is_alive(), "it has not waited"
    arriving.join(60)
    assert len(archive.held("1.1", current_only=False)) == 2


def test_a_patient_is_answered_with_how_much_there_is(archive: Archive) -> None:
    archive.store(ONE)
    archive.store(Identity("1.2", "1.2.1", "1.2.1.1"))
    asked = Query(Level.PATIENT, (Match((PATIENT_ID,), ("P1",)),), ((0x00201202,), (0x00201204,)))
    with archive.database.read(20) as read:
        (row,) = search(read, TENANT.id, asked).rows
    assert [(type(row[tag][1]), row[tag][1]) for tag in (0x00201202, 0x00201204)] == [(int, 2), (int, 2)]


def test_as_of_a_moment_words_count_that_had_been_said(archive: Archive) -> None:
    archive.store(ONE)
    op = archive.say("amend", at=AT + 10, of=[["study", "1.1"]], set={"00081030": {"vr": "LO", "Value": ["x"]}})
    archive.said = 20
    archive.undo(op)
    study = words.Subject(words.Level.STUDY, pack_uid("1.1"))
    with archive.database.read() as read:
        now, then, before = (
            words.effective(read, TENANT.id, [study], until=moment) for moment in (AT + 99, AT + 15, AT + 5)
        )
    assert (now, before) == ({}, {}) and then[study]["00081030"].value["Value"] == ["x"]
