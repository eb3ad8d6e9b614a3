"""Search: every kind of matching against a plain oracle, on both databases; pages, limits, hostile values."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from radiolith.index import facts, instances, search
from radiolith.index.database import Database
from radiolith.index.search import search as find
from radiolith.model import BadInput, Count, Fact, Identity, Incoming, Level, LimitExceeded, Match, Page, Query
from tests import campaign
from tests.index.conftest import TENANT
from tests.index.objects import CLASSES, Maker
from tests.index.oracle import World

UID = {Level.STUDY: 0x0020000D, Level.SERIES: 0x0020000E, Level.INSTANCE: 0x00080018}


def ask(database: Database, query: Query) -> Page:
    with database.read(20) as read:
        return find(read, TENANT.id, query)


def total(database: Database, query: Query) -> Count:
    with database.read(20) as read:
        return search.count(read, TENANT.id, query)


def by(level: Level = Level.STUDY, /, **keys: str) -> Query:
    """A query by keyword."""
    from radiolith.index.attributes import BY_KEYWORD

    return Query(level, tuple(Match(BY_KEYWORD[keyword].path, (value,)) for keyword, value in keys.items()))


def uids(page: Page, level: Level = Level.STUDY) -> list[str]:
    return [str(row[UID[level]][1]) for row in page.rows]


def store(database: Database, *incoming: Incoming) -> None:
    with database.write() as tx:
        instances.insert(tx, incoming)


def studies(database: Database, *patients: dict[str, str | int | None], **study: str | int | None) -> list[str]:
    """One study a patient; their UIDs."""
    maker = Maker(1)
    made: list[str] = []
    for number, patient in enumerate(patients):
        one = maker.one(Identity(f"1.{number}", f"1.{number}.1", f"1.{number}.1.1"))
        one.description.patient.update({"patient_id": f"ID{number}", "claimed": None, **patient})
        one.description.study.update(study)
        store(database, one)
        made.append(f"1.{number}")
    return made


# ---------------------------------------------------------------- against the oracle


def world(seed: int) -> tuple[list[Incoming], set[str]]:
    """Objects with distinct identities, and the SOP UIDs that get rejected."""
    maker = Maker(seed, studies=12)
    seen: dict[Identity, Incoming] = {}
    for one in (maker.one() for _ in range(90)):
        seen.setdefault(one.identity, one)
    incoming = list(seen.values())
    rejected = set(maker.random.sample([one.identity.sop for one in incoming], len(incoming) // 4))
    return incoming, rejected


def fill(database: Database, incoming: list[Incoming], rejected: set[str]) -> None:
    items = [[i.study, i.series, i.sop] for i in (one.identity for one in incoming) if i.sop in rejected]
    store(database, *incoming)
    with database.write() as tx:
        facts.apply(tx, Fact("reject", 1, "a", TENANT.uid, {"reason": "113001", "items": items}), b"r" * 16)


VALUES: dict[tuple[int, ...], list[str]] = {
    (0x00100010,): ["Muller", "MÜLLER", "mueller^j*", "M*", "Me?er", "*an*", "Lefevre^Jean Pierre", "山田", "Smith", "Smith^*",
                    "100%*", "Иванов", "^Jo*", "Yamada^T*", "Me*^Ha*", "strasse", "O'Brien^P?t"],
    (0x00100020,): ["P1", "p1", "P*", "*1", "A*B", "X%Y_Z", "X%*", "C1", "P?", "nobody"],
    (0x00100021,): ["HOSP", "1.2.250.1.213.1.4.8"],
    (0x00100030,): ["19600101", "19590101-19601231", "-19650101"],
    (0x00100040,): ["M", "F"],
    (0x00080020,): ["20240101", "20240101-20240131", "20240101-", "-20231231", '""', "19000101-20991231"],
    (0x00080030,): ["1015", "1000-1200", "-101530", "101530-", "10-10", "000000-235959.999999"],
    (0x00080050,): ["A1", "A*", "a1", "A?", '""', "*1"],
    (0x00080061,): ["CT", "MR", "C*", "XX"],
    (0x00080062,): [CLASSES[0], "1.2.3"],
    (0x00080090,): ["Muller*", "Mueller^Anna", "Lef*"],
    (0x00081030,): ["CT Thorax", "CT*", "*%*", "under_score", "!*", "Knie ?inks", '""', "UNDER*"],
    (0x00200010,): ["1", "2", "?"],
    (0x00080060,): ["CT", "US", "?R", '""'],
    (0x0008103E,): ["CT*", "100% done", "*_*"],
    (0x00180015,): ["CHEST", "K*"],
    (0x00200011,): ["1", "2"],
    (0x00200060,): ["L"],
    (0x00400244,): ["20240101", "20240101-20240131", "-20240102"],
    (0x00400245,): ["1000-1200", "235959.999999"],
    (0x00400275, 0x00400009): ["SPS1", "SPS*"],
    (0x00400275, 0x00401001): ["RP1", "*2"],
    (0x00080016,): [CLASSES[1], CLASSES[2]],
    (0x00200013,): ["1", "3"],
    (0x00080023,): ["20240101-20240201"],
    (0x00080033,): ["1000-1100"],
    (0x00280010,): ["512"],
}  # fmt: skip


def query(random: Random, incoming: list[Incoming]) -> Query:
    level = random.choice([Level.STUDY, Level.STUDY, Level.SERIES, Level.INSTANCE])
    paths = random.sample(list(VALUES), random.choice([0, 1, 1, 1, 2, 2, 3]))
    matches = [Match(path, (random.choice(VALUES[path]),)) for path in paths]
    if random.random() < 0.3:
        some = random.sample(incoming, 3)
        tag, pick = random.choice([(0x0020000D, "study"), (0x0020000E, "series"), (0x00080018, "sop")])
        matches.append(Match((tag,), tuple(getattr(one.identity, pick) for one in some)))
    return Query(
        level, tuple(matches), limit=1000, fuzzy=random.random() < 0.3, empty_values=True,
        view=random.choice(["normal", "normal", "rejected"]),
    )  # fmt: skip


def test_search_agrees_with_the_oracle(fresh: Callable[[str], Database]) -> None:
    queries = campaign.count("search queries against the oracle", 300, 20_000)
    worlds = 2
    for seed in range(worlds):
        incoming, rejected = world(seed)
        databases = [fresh("sqlite"), fresh("postgresql")]
        for database in databases:
            fill(database, incoming, rejected)
        expected = {view: World(incoming, rejected, view) for view in ("normal", "rejected")}
        random = Random(seed)
        hits = 0
        for _ in range(queries // worlds):
            asked = query(random, incoming)
            wanted = expected[asked.view].find(asked)
            hits += bool(wanted)
            for database in databases:
                found = uids(ask(database, asked), asked.level)
                assert len(found) == len(set(found)), asked
                assert total(database, asked) == Count(len(found), True), asked
                assert set(found) == wanted, (database.dialect, asked)
        assert hits > queries // worlds // 4  # the campaign asks for things that exist


# ---------------------------------------------------------------- names


SPELLINGS = [
    ("Müller^Jörg", ["Mueller", "muller^jorg", "MÜLLER", "Mull*", "m?ller"]), ("Lefèvre^Luc", ["Lefevre", "LEFEVRE^L*"]),
    ("Dubois^Jean-Pierre", ["Dubois^Jean Pierre", "dubois^jean-p*"]), ("Иванов^Иван", ["Иванов", "иванов^и*"]),
    ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["山田", "yama*", "やまだ^た*", "Yamada^Tarou=山田^太郎"]),
    ("von und zu Guttenberg^Karl", ["Von und zu*", "von und zu guttenberg^KARL"]), ("Straße^Ü", ["Strasse", "STRASSE^UE"]),
    ("Buc^Jérôme", ["buc^jerome"]), ("O'Brien^Pat", ["o'brien", "O'B*^P?t"]),
]  # fmt: skip


def test_a_name_is_found_however_it_is_spelled(database: Database) -> None:
    made = studies(database, *[{"patient_name": stored} for stored, _ in SPELLINGS])
    for uid, (stored, spellings) in zip(made, SPELLINGS, strict=True):
        for asked in spellings:
            assert uids(ask(database, by(PatientName=asked))) == [uid], (stored, asked)


def test_fuzzy_matching_hears_names(database: Database) -> None:
    made = studies(
        database, {"patient_name": "Meier^Hans"}, {"patient_name": "Mayer^Hans"}, {"patient_name": "Schulz^Hans"}
    )
    page = ask(database, Query(Level.STUDY, (Match((0x00100010,), ("Maier^Hans",)),), fuzzy=True))
    assert sorted(uids(page)) == made[:2]
    assert uids(ask(database, by(PatientName="Maier^Hans"))) == []


def test_any_identifier_of_the_patient_finds_the_study(database: Database) -> None:
    ins = "1.2.250.1.213.1.4.8"
    made = studies(database, {"patient_id": "LOCAL", "claimed": f'[["279035121518989", "{ins}", "ISO", "NI"]]'})
    assert uids(ask(database, by(PatientID="279035121518989"))) == made
    assert uids(ask(database, by(PatientID="279035121518989", IssuerOfPatientID=ins))) == made
    assert uids(ask(database, by(PatientID="279035121518989", IssuerOfPatientID="HOSP"))) == []


# ---------------------------------------------------------------- what comes back


def test_default_attributes_of_a_study(database: Database) -> None:
    studies(
        database, {"patient_name": "A^B", "sex": "F", "birth_date": 19600101}, study_date=20240102, study_time="1015",
        accession="ACC", study_code="7", referring="R^D", accession_issuer="RIS&1.2&ISO",
    )  # fmt: skip
    (row,) = ask(database, Query(Level.STUDY, include=((0x00080051,), (0x00080062,), (0x00201200,)))).rows
    assert row[0x00100010] == ("PN", "A^B")
    assert row[0x00100030] == ("DA", "19600101")
    assert row[0x00080020] == ("DA", "20240102")
    assert row[0x00080050] == ("SH", "ACC")
    assert row[0x00080056] == ("CS", "ONLINE")
    assert row[0x0020000D] == ("UI", "1.0")
    assert row[0x00201206] == ("IS", 1) and row[0x00201208] == ("IS", 1) and row[0x00201200] == ("IS", 1)
    assert row[0x00080051] == (
        "SQ",
        [{0x00400031: ("UT", "RIS"), 0x00400032: ("UT", "1.2"), 0x00400033: ("CS", "ISO")}],
    )
    assert str(row[0x00080062][1]) in CLASSES
    assert 0x00100021 not in row


def test_default_attributes_of_an_instance_whose_series_is_named(database: Database) -> None:
    """PS3.18 table 10.6.3-5."""
    one = Maker(1).one(Identity("1.1", "1.1.1", "1.1.1.1"))
    store(database, one)
    (row,) = ask(database, by(Level.INSTANCE, StudyInstanceUID="1.1", SeriesInstanceUID="1.1.1")).rows
    assert row[0x00080056] == ("CS", "ONLINE") and row[0x00083002] == ("UI", one.layout.transfer_syntax)
    assert {0x00080016, 0x00080018, 0x00200013, 0x00280008, 0x00280010, 0x00280011, 0x00280100} <= row.keys()
    assert 0x00080020 not in row and 0x00080060 not in row


def test_series_bring_their_requests_and_their_study_when_it_was_not_given(database: Database) -> None:
    one = Maker(1).one(Identity("1.1", "1.1.1", "1.1.1.1"))
    one.description.series.update(modality="CT", requests='[["S1", "R1", "A"], ["S2", "", ""]]', number=4)
    store(database, one)
    (row,) = ask(database, Query(Level.SERIES)).rows
    assert row[0x00400275] == ("SQ", [
        {0x00400009: ("SH", "S1"), 0x00401001: ("SH", "R1")}, {0x00400009: ("SH", "S2"), 0x00401001: ("SH", None)},
    ])  # fmt: skip
    assert row[0x00200011] == ("IS", 4) and 0x00080020 in row
    (row,) = ask(database, by(Level.SERIES, StudyInstanceUID="1.1")).rows
    assert 0x00080020 not in row and row[0x0020000D] == ("UI", "1.1")


def test_patients(database: Database) -> None:
    studies(database, {"patient_name": "Müller^A"}, {"patient_name": "Meier^B"})
    page = ask(database, Query(Level.PATIENT, (Match((0x00100010,), ("mul*",)),), include=((0x00201200,),)))
    assert [(row[0x00100010][1], row[0x00201200][1]) for row in page.rows] == [("Müller^A", 1)]
    assert len(ask(database, Query(Level.PATIENT)).rows) == 2


# ---------------------------------------------------------------- pages


@pytest.mark.parametrize("level", [Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE])
def test_pages_are_stable_and_complete(database: Database, level: Level) -> None:
    maker = Maker(2, studies=15)
    store(database, *[maker.one() for _ in range(120)])
    whole = ask(database, Query(level, limit=1000))
    assert not whole.more and whole.cursor == ""
    walked, cursor = list[object](), ""
    while True:
        page = ask(database, Query(level, limit=7, cursor=cursor))
        walked += page.rows
        cursor = page.cursor
        if not page.more:
            break
    assert walked == whole.rows
    assert ask(database, Query(level, limit=5, offset=3)).rows == whole.rows[3:8]


def test_studies_come_latest_first(database: Database) -> None:
    maker = Maker(3, studies=15)
    store(database, *[maker.one() for _ in range(60)])
    dates = [str(row[0x00080020][1]) for row in ask(database, Query(Level.STUDY, limit=1000)).rows]
    assert dates == sorted(dates, reverse=True)


def test_a_foreign_continuation_is_refused(database: Database) -> None:
    for cursor in ["x", "AAAA", "🙂", "A" * 4000, "../../etc"]:
        with pytest.raises(BadInput):
            ask(database, Query(Level.STUDY, cursor=cursor))


# ---------------------------------------------------------------- limits


REFUSED = [
        by(StudyDate="yesterday"), by(StudyDate="20240101*"), by(StudyTime="25"), by(StudyDate="-"),
        by(Level.INSTANCE, InstanceNumber="one"),
        by(AccessionNumber='""'), by(PatientID="x" * 2000), Query(Level.STUDY, offset=10_001), Query(Level.STUDY, view="all"),
        Query(Level.STUDY, (Match((0x00080050,), ("A", "B")),)), Query(Level.STUDY, tuple([Match((0x00080050,), ("A",))] * 65)),
        Query(Level.STUDY, (Match((0x0020000D,), tuple(f"1.{n}" for n in range(1001))),)),
    ]  # fmt: skip


def test_what_cannot_be_asked_is_refused(database: Database) -> None:
    for asked in REFUSED:
        with pytest.raises(BadInput):
            ask(database, asked)


def test_keys_without_index_warn_and_are_not_used(database: Database) -> None:
    studies(database, {})
    page = ask(database, Query(Level.STUDY, (Match((0x00181030, 0x1), ("x",)), Match((0x00080201,), ("+0100",)))))
    assert len(page.rows) == 1
    assert len(page.warnings) == 2 and "TimezoneOffsetFromUTC" in page.warnings[1]
    assert ask(database, Query(Level.STUDY, (Match((0x00091001,), ("",)),))).warnings == ()


def test_a_condition_without_index_looks_at_so_many_studies(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    studies(database, *[{"sex": "F" if n else "M"} for n in range(12)], study_date=20240101)
    monkeypatch.setattr(search, "CANDIDATES_MAX", 5)
    monkeypatch.setattr(search, "CANDIDATES_FIRST", 2)
    assert len(ask(database, Query(Level.STUDY, (Match((0x00100040,), ("F",)),), limit=3)).rows) == 3
    with pytest.raises(LimitExceeded, match="narrow"):
        ask(database, by(PatientSex="M"))
    with pytest.raises(LimitExceeded):
        ask(database, by(PatientName="*nobody"))
    assert ask(database, by(PatientSex="M", StudyDate="20230101")).rows == []
    assert len(ask(database, by(PatientSex="M", PatientID="ID0")).rows) == 1


def test_counting_stops(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """At COUNTED_MAX matches, and where a condition without index has looked at as much as it may."""
    studies(database, *({"sex": "M" if number < 3 else "F"} for number in range(8)))
    everything = Query(Level.STUDY)
    assert total(database, everything) == total(database, Query(Level.STUDY, limit=2, offset=5)) == Count(8, True)
    assert total(database, by(PatientSex="M")) == Count(3, True)
    monkeypatch.setattr(search, "COUNTED_MAX", 8)
    assert total(database, everything) == Count(8, True)
    monkeypatch.setattr(search, "COUNTED_MAX", 7)
    assert total(database, everything) == Count(7, False)
    monkeypatch.setattr(search, "CANDIDATES_MAX", 4)
    assert total(database, by(PatientSex="M")) == Count(0, False)
    with pytest.raises(BadInput):
        total(database, by(StudyDate="x"))


def test_a_page_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    studies(database, {}, {}, {})
    monkeypatch.setattr(search, "LIMIT_MAX", 2)
    page = ask(database, Query(Level.STUDY, limit=10**9))
    assert len(page.rows) == 2 and page.more
    assert ask(database, Query(Level.STUDY, limit=0)).rows == []


# ---------------------------------------------------------------- hostile values

INJECTIONS = [
    "' OR '1'='1", "'; DROP TABLE studies; --", '" OR ""="', "1) UNION SELECT * FROM sessions --",
    "%", "_", "\\", "!", "!%", "''",
    "?", "%s", "$1", ":a", "\x00", "\ud800", "\U0010ffff", "*" * 300, "?" * 200, "a" * 1000, "-" * 50, "\\\\",
    "[a-z]", "{}", "İ", "ﬀ",
]  # fmt: skip


def test_values_are_never_sql(database: Database) -> None:
    """Every key with every hostile value: an answer or a clear refusal, and the tables are still there."""
    studies(database, {"patient_name": "A^B"})
    tried = 0
    for path in [*VALUES, (0x0020000D,), (0x0020000E,), (0x00080018,), (0x00080051, 0x00400031)]:
        for value in INJECTIONS:
            for text in (value, f"A{value}*"):
                tried += 1
                try:
                    page = ask(database, Query(Level.STUDY, (Match(path, (text,)),), fuzzy=True, multiple_values=True))
                except BadInput:
                    continue
                universal = not text.replace("\x00", "").strip("* ")
                if universal or not set(text) & set("*?"):
                    assert len(page.rows) in ((1,) if universal else (0, 1)), (path, text)
    assert tried > 1000
    assert len(ask(database, Query(Level.STUDY)).rows) == 1


def test_tenants_do_not_see_each_other(database: Database) -> None:
    maker = Maker(1)
    store(database, *[maker.one() for _ in range(30)])
    with database.read(20) as read:
        for level in Level:
            for path, values in VALUES.items():
                page = find(read, TENANT.id + 1, Query(level, (Match(path, (values[0],)),), empty_values=True))
                assert page.rows == [], (level, path)
