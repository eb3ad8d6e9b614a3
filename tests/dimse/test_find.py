"""C-FIND against an archive: the same answers as QIDO-RS, pages, cancelling, stored headers, and what retrievals name."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

import orjson
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from radiolith.app import Graph
from radiolith.archive.ports import Archive
from radiolith.archive.query import Query as Verb
from radiolith.config import Limits
from radiolith.dicom import dictionary
from radiolith.dicomweb import qido
from radiolith.dicomweb.call import Call
from radiolith.dimse import find as finding
from radiolith.dimse.answers import Answers
from radiolith.dimse.find import Found, find, located
from radiolith.dimse.identifiers import Retrieval, read_query, read_retrieval
from radiolith.dimse.infomodels import PATIENT_ROOT, STUDY_ROOT, Model, Negotiated
from radiolith.dimse.status import Service, trouble
from radiolith.index.database import Database
from radiolith.model import BadInput, Held, Level, NotAllowed, Principal, Query
from tests import campaign
from tests.archive.homes import opened, principal, store
from tests.archive.objects import Made
from tests.dimse.keys import EXPLICIT, IMPLICIT, SYNTAXES, decoded, encoded, keys
from tests.index.conftest import TENANT
from tests.index.test_search import UID, fill, world
from tests.index.test_search import query as generated

EVERYTHING = Negotiated(True, True, True, False, False, True, True)
READER = Principal(TENANT, "tester", "admin", "system")


async def ask(
    archive: Archive, who: Principal, sent: Dataset, model: Model = STUDY_ROOT, syntax: str = EXPLICIT,
    negotiated: Negotiated = EVERYTHING,
) -> list[tuple[int, Dataset]]:  # fmt: skip
    asked = read_query(encoded(sent, syntax), syntax, model, negotiated)
    answers = Answers(asked, syntax, "ARCHIVE")
    return [(found.status, decoded(found.identifier, syntax)) async for found in find(archive, who, asked, answers)]


# ---------------------------------------------------------------- the same as QIDO-RS


class Silent:
    async def note(self, *_: object, **__: object) -> None:
        """The trail has tests of its own."""


def archive_of(database: Database, threads: ThreadPoolExecutor) -> Archive:
    query = Verb(database, cast(Any, None), cast(Any, Silent()), threads)
    return cast(Archive, SimpleNamespace(query=query))


def identifier(query: Query) -> Dataset:
    """The generated query as somebody with DIMSE would ask it."""
    named: dict[str, Any] = {}
    for match in query.matches:
        keyword, value = dictionary.keyword(match.path[0]), "\\".join(match.values)
        if len(match.path) == 2:
            named.setdefault(keyword, {})[dictionary.keyword(match.path[1])] = value
        else:
            named[keyword] = int(value) if dictionary.vr(match.path[0]) == "US" else value
    for tag in UID.values():
        named.setdefault(dictionary.keyword(tag), "")
    return keys("IMAGE" if query.level is Level.INSTANCE else query.level.name, **named)


async def over_http(archive: Archive, query: Query) -> set[str]:
    """The same as somebody with DICOMweb would ask it."""
    parameters = {".".join(dictionary.keyword(tag) for tag in m.path): ",".join(m.values) for m in query.matches}
    flags = {"fuzzymatching": query.fuzzy, "emptyvaluematching": True, "multiplevaluematching": True}
    parameters |= {name: str(value).lower() for name, value in flags.items()} | {"limit": "1000"}
    path = {Level.STUDY: "studies", Level.SERIES: "series", Level.INSTANCE: "instances"}[query.level]
    scope = {"query_string": urlencode(parameters).encode(), "path": f"/{path}", "root_path": "", "headers": []}
    call = Call(scope, cast(Any, None), archive, Limits(), READER, {}, {}, "http://here")
    reply: Any = await {"studies": qido.studies, "series": qido.series, "instances": qido.instances}[path](call)
    if reply.status == 204:
        return set()
    return {row[f"{UID[query.level]:08X}"]["Value"][0] for row in orjson.loads(reply.body)}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_c_find_and_qido_rs_give_the_same_answer(kind: str, fresh: Callable[[str], Database]) -> None:
    database = fresh(kind)
    incoming, rejected = world(3)
    fill(database, incoming, rejected)
    random, hits = Random(3), 0
    number = campaign.count(f"C-FIND against QIDO-RS on {kind}", 150, 10_000)
    with ThreadPoolExecutor(1) as threads:
        archive = archive_of(database, threads)
        for _ in range(number):
            query = generated(random, incoming)
            negotiated = EVERYTHING._replace(fuzzy=query.fuzzy)
            found = await ask(archive, READER, identifier(query), STUDY_ROOT, random.choice(SYNTAXES), negotiated)
            uids = [row[UID[query.level]].value for _, row in found]
            assert len(uids) == len(set(uids)), query
            assert set(uids) == await over_http(archive, query), query
            hits += bool(uids)
    assert hits > number // 5


# ---------------------------------------------------------------- an archive


OBJECTS = [
    Made(f"1.2.{study}", f"1.2.{study}.{series}", f"1.2.{study}.{series}.{number}", patient=f"P{study // 2}",
         issuer="HOSP" if study < 2 else "", accession=f"A{study}", date=f"2024010{study + 1}", number=number,
         modality="CT" if series else "SR", private=b"\1\2\3\4")
    for study in range(6) for series in range(2) for number in range(1, 3)
]  # fmt: skip


@pytest.fixture
async def graph(tmp_path: Path) -> AsyncIterator[Graph]:
    async with opened(tmp_path / "home") as made:
        for one in OBJECTS:
            await store(made, one.part10())
        yield made


def values(found: list[tuple[int, Dataset]], keyword: str) -> list[str]:
    return [str(row[keyword].value) for _, row in found]


async def test_levels(graph: Graph) -> None:
    archive, who = graph.archive, principal(graph)
    patients = await ask(
        archive, who, keys("PATIENT", PatientID="P?", PatientName="", NumberOfPatientRelatedStudies=None), PATIENT_ROOT
    )
    assert sorted(values(patients, "PatientID")) == ["P0", "P1", "P2"]
    assert values(patients, "NumberOfPatientRelatedStudies") == ["2"] * 3
    assert {status for status, _ in patients} == {0xFF00}
    named = keys("STUDY", PatientID="P1", StudyInstanceUID="", ModalitiesInStudy="", NumberOfStudyRelatedInstances=None)
    studies = await ask(archive, who, named, PATIENT_ROOT, negotiated=Negotiated())
    assert sorted(values(studies, "StudyInstanceUID")) == ["1.2.2", "1.2.3"]
    series = await ask(archive, who, keys("SERIES", StudyInstanceUID="1.2.1", SeriesInstanceUID="", Modality="CT"))
    assert values(series, "SeriesInstanceUID") == ["1.2.1.1"]
    below = keys("IMAGE", StudyInstanceUID="1.2.1", SeriesInstanceUID="1.2.1.1", SOPInstanceUID="", InstanceNumber="2")
    assert values(await ask(archive, who, below, negotiated=Negotiated()), "SOPInstanceUID") == ["1.2.1.1.2"]
    everything = await ask(archive, who, keys("IMAGE", SOPInstanceUID=""))
    assert sorted(values(everything, "SOPInstanceUID")) == sorted(one.sop for one in OBJECTS)


def richer() -> bytes:
    """An object whose header says what no index keeps."""
    made = dcmread(io.BytesIO(Made("1.3", "1.3.1", "1.3.1.1", accession="A9").part10()))
    made.PatientComments = "café"
    item = Dataset()
    item.ScheduledProcedureStepID, item.ScheduledProcedureStepDescription, item.RequestedProcedureID = "S", "Knie", "R"
    made.RequestAttributesSequence = [item]
    made.private_block(0x0029, "OURS", create=True).add_new(7, "LO", "ours")
    out = io.BytesIO()
    made.save_as(out)
    return out.getvalue()


async def test_attributes_that_only_stored_headers_have(graph: Graph) -> None:
    await store(graph, richer())
    sent = keys("STUDY", AccessionNumber="A9", PatientComments="", PatientWeight="", SpecificCharacterSet="ISO_IR 100")
    sent.private_block(0x0029, "OURS", create=True).add_new(7, "LO", "")
    [(status, row)] = await ask(graph.archive, principal(graph), sent)
    assert status == 0xFF00
    assert (row.PatientComments, row.PatientWeight) == ("café", None)
    assert row[0x00291007].value == "ours"
    assert row.SpecificCharacterSet == "ISO_IR 100"
    items = {"ScheduledProcedureStepID": "S", "ScheduledProcedureStepDescription": "", "RequestedProcedureID": ""}
    [(_, row)] = await ask(graph.archive, principal(graph), keys("SERIES", RequestAttributesSequence=items))
    [item] = row.RequestAttributesSequence
    assert (item.ScheduledProcedureStepDescription, item.RequestedProcedureID) == ("Knie", "R")


async def test_optional_keys_that_are_not_supported(graph: Graph) -> None:
    sent = keys(AccessionNumber="A1", PatientComments="nothing has it")
    assert [status for status, _ in await ask(graph.archive, principal(graph), sent)] == [0xFF01]
    low = keys(AccessionNumber="A1", Modality="")
    assert [status for status, _ in await ask(graph.archive, principal(graph), low)] == [0xFF01]


async def test_ranges_of_date_and_time_are_combined_where_agreed(fresh: Callable[[str], Database]) -> None:
    from tests.index.test_search import studies

    database = fresh("sqlite")
    studies(database, {"patient_name": "A"}, study_date=20240102, study_time="080000")
    sent = keys(StudyDate="20240101-20240103", StudyTime="100000-120000", StudyInstanceUID="")
    with ThreadPoolExecutor(1) as threads:
        archive = archive_of(database, threads)
        for agreed, number in ((True, 1), (False, 0)):
            found = await ask(archive, READER, sent, negotiated=Negotiated(date_time=agreed))
            assert len(found) == number


async def test_pages_and_cancelling(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "FIRST_PAGE", 2)
    monkeypatch.setattr(finding, "PAGE", 3)
    archive, who = graph.archive, principal(graph)
    sent = encoded(keys("IMAGE", SOPInstanceUID="", StudyInstanceUID=""))
    asked = read_query(sent, IMPLICIT, STUDY_ROOT, EVERYTHING)
    searches: list[Query] = []
    search = archive.query.search

    async def noted(who: Principal, query: Query) -> Any:
        searches.append(query)
        return await search(who, query)

    monkeypatch.setattr(archive.query, "search", noted)
    answers = Answers(asked, IMPLICIT, "ARCHIVE")
    found = [decoded(one.identifier).SOPInstanceUID async for one in find(archive, who, asked, answers)]
    assert sorted(found) == sorted(one.sop for one in OBJECTS)
    assert [query.limit for query in searches] == [2] + [3] * 8
    for stop in (0, 1, 2, 4):
        searches.clear()
        seen: list[Found] = []
        async for one in find(archive, who, asked, answers, lambda stop=stop, seen=seen: len(seen) >= stop):
            seen.append(one)
        assert len(seen) == stop
        assert len(searches) == {0: 0, 1: 1, 2: 1, 4: 2}[stop]


async def test_failures_are_statuses(graph: Graph) -> None:
    archive, who = graph.archive, principal(graph)
    with pytest.raises(BadInput) as caught:
        await ask(archive, who, keys(StudyDate="yesterday"))
    told = trouble(Service.FIND, caught.value)
    assert (told.status, told.elements) == (0xC001, (0x00080020,))
    assert told.comment == "StudyDate: a date is YYYYMMDD, a range YYYYMMDD-YYYYMMDD"
    with pytest.raises(BadInput) as caught:
        await ask(archive, who, keys(StudyInstanceUID=[f"1.{n}" for n in range(1001)]))
    assert trouble(Service.FIND, caught.value).status == 0xA700
    with pytest.raises(NotAllowed) as denied:
        await ask(archive, principal(graph, "nobody"), keys(StudyDate=""))
    assert trouble(Service.FIND, denied.value).status == 0x0124


async def test_mutated_identifiers_are_answered_or_refused_in_words(graph: Graph) -> None:
    sent = keys(
        PatientName="M*", StudyDate="20240101-20240201", StudyTime="10-11", PatientComments="", StudyID="1", Rows=5,
        StudyInstanceUID=["1.2.1", "1.2.2"], RequestAttributesSequence={"RequestedProcedureID": "R*"}, ModalitiesInStudy="CT",
    )  # fmt: skip
    data, random, answered, refused = encoded(sent, EXPLICIT), Random(11), 0, 0
    for _ in range(campaign.count("mutated identifiers against an archive", 200, 20_000)):
        mutated = bytearray(data)
        for _ in range(random.choice([1, 1, 2])):
            mutated[random.randrange(len(mutated))] = random.choice([0, 0x20, 0x2A, 0x2D, 0x5C, random.randrange(256)])
        try:
            asked = read_query(bytes(mutated), EXPLICIT, STUDY_ROOT, EVERYTHING)
            answers = Answers(asked, EXPLICIT, "ARCHIVE")
            async for found in find(graph.archive, principal(graph), asked, answers):
                assert decoded(found.identifier, EXPLICIT).QueryRetrieveLevel
            answered += 1
        except BadInput as failure:
            assert trouble(Service.FIND, failure).status in (0xA700, 0xA900, 0xC001)
            refused += 1
    assert answered
    assert refused


# ---------------------------------------------------------------- what retrievals name


async def named(graph: Graph, sent: Dataset, model: Model = PATIENT_ROOT, relational: bool = False) -> list[str]:
    wanted = read_retrieval(encoded(sent), IMPLICIT, model, Negotiated(relational=relational))
    found: list[Held] = []
    async for helds in located(graph.archive, principal(graph), wanted, purpose="C-MOVE"):
        found += helds
    return sorted(held.identity.sop for held in found)


def sops(*beginnings: str) -> list[str]:
    return sorted(one.sop for one in OBJECTS if one.sop.startswith(beginnings))


async def test_retrievals_of_every_level(graph: Graph) -> None:
    assert await named(graph, keys("PATIENT", PatientID="P1")) == sops("1.2.2.", "1.2.3.")
    assert await named(graph, keys("PATIENT", PatientID="P0", IssuerOfPatientID="HOSP")) == sops("1.2.0.", "1.2.1.")
    assert await named(graph, keys("PATIENT", PatientID="P0", IssuerOfPatientID="OTHER")) == []
    assert await named(graph, keys("STUDY", StudyInstanceUID=["1.2.2", "1.2.4", "9"])) == sops("1.2.2.", "1.2.4.")
    both = keys("STUDY", PatientID="P1", StudyInstanceUID=["1.2.2", "1.2.4"])
    assert await named(graph, both) == sops("1.2.2.")
    assert await named(graph, both, STUDY_ROOT) == sops("1.2.2.", "1.2.4.")
    series = keys("SERIES", StudyInstanceUID="1.2.2", SeriesInstanceUID=["1.2.2.1", "1.2.4.1"])
    assert await named(graph, series) == sops("1.2.2.1.")
    low = keys(
        "IMAGE", StudyInstanceUID="1.2.2", SeriesInstanceUID="1.2.2.1", SOPInstanceUID=["1.2.2.1.2", "1.2.2.0.1"]
    )
    assert await named(graph, low) == ["1.2.2.1.2"]
    low.PatientID = "P2"
    assert await named(graph, low) == []


async def test_relational_retrievals(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "UIDS_AT_ONCE", 2)
    series = keys("SERIES", SeriesInstanceUID=["1.2.2.1", "1.2.4.1", "1.2.5.0"])
    assert await named(graph, series, STUDY_ROOT, relational=True) == sops("1.2.2.1.", "1.2.4.1.", "1.2.5.0.")
    low = keys("IMAGE", SOPInstanceUID=["1.2.2.1.2", "1.2.4.0.1", "1.2.5.0.1"])
    assert await named(graph, low, STUDY_ROOT, relational=True) == ["1.2.2.1.2", "1.2.4.0.1", "1.2.5.0.1"]
    assert await named(graph, keys("PATIENT", PatientID="P1"), PATIENT_ROOT, relational=True) == sops(
        "1.2.2.", "1.2.3."
    )


async def test_retrievals_are_authorised(graph: Graph) -> None:
    with pytest.raises(NotAllowed):
        async for _ in located(graph.archive, principal(graph, "nobody"), Retrieval(Level.STUDY, studies=("1.2.2",))):
            pass


async def test_a_cancelled_retrieval_locates_no_more(graph: Graph) -> None:
    wanted = Retrieval(Level.STUDY, studies=("1.2.2", "1.2.3"))
    seen: list[list[Held]] = []
    async for helds in located(graph.archive, principal(graph), wanted, cancelled=lambda: bool(seen)):
        seen.append(helds)
    assert len(seen) == 1
