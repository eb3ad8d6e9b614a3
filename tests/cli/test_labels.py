"""Labels from the command line, through /api/v1, DICOMweb and C-FIND."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from tests.archive.homes import opened, principal, store
from tests.archive.objects import Made
from tests.cli.test_home import Typed, typed  # noqa: F401  # pyright: ignore[reportUnusedImport]
from tests.cli.test_traffic import site
from tests.dimse.served import Served, Setting, served

STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


async def fill(home: Path) -> None:
    async with opened(home) as graph:
        for study in "12":
            for series in "12":
                made = Made(study, f"{study}.{series}", f"{study}.{series}.1", patient=f"P{study}", issuer="HOSP")
                await store(graph, made.part10())


def test_labels_are_put_shown_taken_and_undone_from_the_command_line(typed: Typed) -> None:  # noqa: F811
    asyncio.run(fill(typed.home))
    said = typed.done("label", "add", "Ward=3", "--study", "1", "--study", "2", "--reason", "round")
    operation = said.split()[-1]
    assert "Puts the label ward=3 on 2 studies" in said and len(operation) == 32
    typed.done("label", "add", "urgent", "--study", "1", "--series", "1.2")
    typed.done("label", "add", "vip", "--patient", "P2", "--issuer", "HOSP")
    assert typed.json("label", "list") == [
        {"label": "urgent", "count": 1}, {"label": "vip", "count": 1}, {"label": "ward=3", "count": 2},
    ]  # fmt: skip
    typed.done("label", "add", "ward=4", "--study", "1")
    assert typed.json("label", "show", "--study", "1") == ["ward=4"]
    typed.done("label", "undo", operation)
    assert (
        typed.json("label", "show", "--study", "1") == ["ward=4"] and typed.json("label", "show", "--study", "2") == []
    )
    typed.done("label", "undo", operation, "--again")
    assert typed.json("label", "show", "--study", "2") == ["ward=3"]
    typed.done("label", "remove", "ward=3", "--study", "1", "--study", "2")  # has another value on 1
    assert (
        typed.json("label", "show", "--study", "1") == ["ward=4"] and typed.json("label", "show", "--study", "2") == []
    )


@pytest.mark.parametrize(
    "words",
    [
        ("add", "urgent", "--study", "9"), ("add", "a*", "--study", "1"), ("add", "x" * 65, "--study", "1"),
        ("remove", "urgent", "--study", "1"), ("add", "ward=", "--study", "1"), ("undo", "0" * 32), ("undo", "nothing"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_words(typed: Typed, words: tuple[str, ...]) -> None:  # noqa: F811
    asyncio.run(fill(typed.home))
    result = typed.run("label", *words)
    assert result.exit_code and result.exception is not None
    assert typed.json("label", "list") == []
    assert "label" in str(result.exception) or "held" in str(result.exception)


async def test_the_api_labels_and_a_reader_may_only_look(tmp_path: Path) -> None:
    await fill(tmp_path / "home")
    async with opened(tmp_path / "home") as graph:
        await asyncio.to_thread(calls, graph)


def calls(graph: object) -> None:
    with site(graph) as client:  # type: ignore[arg-type]
        of = [{"study": "1"}, {"patient": "P1", "issuer": "HOSP"}]
        made = client.post("/api/v1/labels", json={"label": "Keep", "of": of})
        assert made.status_code == 200, made.text
        assert client.get("/api/v1/labels").json() == [{"label": "keep", "count": 2}]
        assert client.post("/api/v1/labels/of", json={"study": "1"}).json() == ["keep"]
        tried = client.post("/api/v1/labels", json={"label": "x", "of": of, "dry_run": True}).json()
        assert tried["op"] == "" and client.get("/api/v1/labels").json() == [{"label": "keep", "count": 2}]
        assert client.post(f"/api/v1/labels/undo/{made.json()['op']}", json={}).status_code == 200
        assert client.get("/api/v1/labels").json() == []
        assert (
            client.post("/api/v1/labels", json={"label": "x", "of": [{"study": "1", "patient": "P"}]}).status_code
            == 422
        )
        assert client.post("/api/v1/labels", json={"label": "x", "of": [{"study": "9"}]}).status_code == 404
        client.headers["authorization"] = "Bearer reader"
        assert client.post("/api/v1/labels", json={"label": "x", "of": of}).status_code == 403
        assert client.get("/api/v1/labels").status_code == 200


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("labelled") / "home"
    environ = {"RADIOLITH_INDEX_ATTRIBUTES": "PatientAddress,00091001:RADIOLITH TEST"}
    with served(home, Setting(http=True, environ=environ)) as found:

        async def fill() -> None:
            from radiolith.archive.subjects import of_series, of_study

            graph = found.graph
            for study in "12":
                made = Made(study, f"{study}.1", f"{study}.1.1", patient=f"P{study}", private=f"blue {study}".encode())
                await store(graph, made.part10())
            labels = graph.decisions.labels
            await labels.put(principal(graph), [of_study("1")], "urgent")
            await labels.put(principal(graph), [of_study("1")], "Ärzte=3")
            await labels.put(principal(graph), [of_series("2", "2.1")], "keep")

        found.ask(fill)
        yield found


def find(archive: Served, **keys: object) -> list[Dataset]:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID, query.SpecificCharacterSet = "STUDY", "", "ISO_IR 192"
    block = query.private_block(0x7777, "RADIOLITH", create=True)
    block.add_new(2, "LO", str(keys.get("study_labels", "")))
    block.add_new(3, "LO", str(keys.get("series_labels", "")))
    if "private" in keys:
        creator, value = keys["private"]  # type: ignore[misc]
        query.private_block(0x0009, creator, create=True).add_new(1, "LO", value)
    entity = AE("TESTS")
    entity.add_requested_context(STUDY_FIND)
    association = entity.associate("127.0.0.1", archive.port, ae_title="RADIOLITH")
    try:
        answers = list(association.send_c_find(query, STUDY_FIND))
    finally:
        association.release()
    assert answers[-1][0].Status == 0
    return [found for _, found in answers if found is not None]


def test_c_find_matches_and_returns_labels_in_their_private_block(archive: Served) -> None:
    (found,) = find(archive, study_labels="urgent")
    assert found.StudyInstanceUID == "1"
    assert list(found.private_block(0x7777, "RADIOLITH")[2].value) == ["urgent", "ärzte=3"]
    assert [one.StudyInstanceUID for one in find(archive, study_labels="ärzte=*")] == ["1"]
    assert [one.StudyInstanceUID for one in find(archive, series_labels="keep")] == ["2"]
    assert len(find(archive)) == 2 and find(archive, study_labels="none") == []


def test_c_find_matches_private_attributes_of_the_setting_by_their_creator(archive: Served) -> None:
    assert [one.StudyInstanceUID for one in find(archive, private=("RADIOLITH TEST", "blue 2"))] == ["2"]
    assert len(find(archive, private=("ANOTHER", "blue 2"))) == 2


def test_qido_matches_and_returns_labels_and_private_attributes(archive: Served) -> None:
    import urllib.parse
    import urllib.request

    def ask(**query: str) -> list[dict[str, dict[str, object]]]:
        url = f"http://127.0.0.1:{archive.http}/dicom-web/studies?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {archive.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"[]")

    (found,) = ask(StudyLabels="urgent")
    assert found["77771002"]["Value"] == ["urgent", "ärzte=3"] and found["77770010"]["Value"] == ["RADIOLITH"]
    assert [one["0020000D"]["Value"] for one in ask(SeriesLabels="keep")] == [["2"]]
    assert all("77771002" not in one for one in ask()) and len(ask()) == 2
    shown = [one["77771002"].get("Value") for one in ask(includefield="StudyLabels")]
    assert len(shown) == 2 and ["urgent", "ärzte=3"] in shown and None in shown
    assert [one["0020000D"]["Value"] for one in ask(**{"00090010": "RADIOLITH TEST", "00091001": "blue 1"})] == [["1"]]
    assert len(ask(**{"00090010": "ANOTHER", "00091001": "blue 1"})) == 2
