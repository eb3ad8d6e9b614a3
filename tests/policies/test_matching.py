"""A rule's keys mean what a query's keys mean: the pure judgement against the query compiler."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from radiolith.index import instances
from radiolith.index.attributes import BY_PATH
from radiolith.index.database import Database
from radiolith.index.described import Described, described
from radiolith.index.search import search
from radiolith.model import BadInput, Level, LimitExceeded, Match, Query
from radiolith.policies import matching
from tests import campaign
from tests.index.conftest import TENANT, fresh  # noqa: F401
from tests.index.test_search import VALUES, world

MORE = {
    (0x00080051, 0x00400031): ["RIS", "R*", "PACS"],
    (0x00080051, 0x00400032): ["1.2.3", "1.*"],
    (0x00080051, 0x00400033): ["ISO", '""'],
    (0x00400275, 0x00400009): ["SPS1", "SPS*", '""'],
    (0x00100010,): [*VALUES[0x00100010,], '""'],
    (0x00200013,): ["1", "3", '""'],
    (0x00080061,): [*VALUES[0x00080061,], '""', "CT\\MR"],
    (0x00080020,): [*VALUES[0x00080020,], "20240101-20240102", "20231231-20240101"],
    (0x00080023,): ["20240101-20240102", "20231231-20240101", "20240101"],
    (0x00080033,): ["1000-1100", "101530-2000", "10", '""'],
}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_rules_match_what_queries_find(kind: str, fresh: Callable[[str], Database]) -> None:  # noqa: F811
    rounds = campaign.count("rules against the query compiler", 300, 20_000)
    database = fresh(kind)
    incoming, _ = world(11)
    with database.write() as tx:
        instances.insert(tx, incoming)
    everything: list[Described] = []
    with database.read(20) as read:
        for (study,) in read.all("SELECT id FROM studies ORDER BY id"):
            everything += described(read, study, 0, 2**62)
    assert len(everything) == len({one.instance_id for one in everything}) == len(incoming)
    random, values, hits = Random(3), {**VALUES, **MORE}, 0
    for _ in range(rounds):
        paths = random.sample(list(values), random.choice([1, 1, 2, 2, 3]))
        if random.random() < 0.2:  # ranges of a date and its time are one range of moments
            paths = random.choice([[(0x00080020,), (0x00080030,)], [(0x00080023,), (0x00080033,)]])
        asked = {
            path: random.sample(values[path], random.choice([1, 1, 1, 2]) if len(values[path]) > 1 else 1)
            for path in paths
        }
        query = Query(
            Level.INSTANCE, tuple(Match(path, tuple(chosen)) for path, chosen in asked.items()), limit=1000,
            empty_values=True, multiple_values=True,
        )  # fmt: skip
        with database.read(20) as read:
            wanted = {str(row[0x00080018][1]) for row in search(read, TENANT.id, query).rows}
        keys = matching.parse({BY_PATH[path].keyword: chosen for path, chosen in asked.items()})
        found = {str(one.row[0x00080018][1]) for one in everything if matching.matches(keys, one)}
        assert found == wanted, asked
        hits += bool(found) and len(found) < len(everything)
    assert hits > rounds / 4


def test_what_comes_between_two_rows_only(fresh: Callable[[str], Database], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("radiolith.index.described.PAGE", 3)
    database = fresh("sqlite")
    incoming, _ = world(12)
    with database.write() as tx:
        instances.insert(tx, incoming)
    with database.read() as read:
        rows = read.all(
            "SELECT s.id, i.id FROM studies s, series e, instances i WHERE e.study_id = s.id AND i.series_id = e.id"
        )
        for study in {row[0] for row in rows}:
            here = {row[1] for row in rows if row[0] == study and 20 <= row[1] <= 60}
            found = [one.instance_id for one in described(read, study, 20, 60)]
            assert set(found) == here and len(found) == len(here)


def test_what_cannot_be_matched_is_said() -> None:
    for given in ({"NoSuchThing": ["1"]}, {"StudyDate": ["yesterday"]}, {"StudyTime": ["25"]}, {"SeriesNumber": ["x"]}):
        with pytest.raises(BadInput):
            matching.parse(given)
    with pytest.raises(BadInput):
        matching.parse({"NumberOfStudyRelatedSeries": ["1"]})
    with pytest.raises(LimitExceeded):
        matching.parse({"Modality": ["C" * 2000]})
    assert matching.parse({"Modality": ["*"], "PatientName": [""]}) == ()
