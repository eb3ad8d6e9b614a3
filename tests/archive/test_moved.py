"""Corrected by the verbs, and every door looked at: references still lead to what they name, old names too, and an undo brings
everything back as it was."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from radiolith.app import Graph
from radiolith.archive.outward import export
from radiolith.archive.subjects import PatientKey, of_patient, of_study
from radiolith.codecs.sandbox import Decoders
from radiolith.dimse.infomodels import STUDY_ROOT
from radiolith.model import Identity, Outcome, Source
from tests.archive.corrected import Web
from tests.archive.homes import opened, principal, store
from tests.dicomweb.objects import dataset, part10
from tests.dimse.test_find import named

IMAGES, OTHER = ("1.2.3.1", "1.2.3.2"), "1.5.3.1"
STATE, NOTE, REPORT = "1.2.9.1", "1.2.8.1", "1.2.7.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
GSPS, KOS, SR = "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.5.1.4.1.1.88.33"


def _item(**more: Any) -> Dataset:
    found = Dataset()
    for keyword, value in more.items():
        setattr(found, keyword, value)
    return found


def _text(sop: str, sop_class: str, modality: str, **more: Any) -> bytes:
    """An object without pixels, in a series of its own in study 1.2."""
    made = dataset(series=sop[:-2], sop=sop, SOPClassUID=sop_class, Modality=modality, **more)
    for keyword in ("PixelData", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"):
        delattr(made, keyword)
    return part10(made)


def _named() -> list[Dataset]:
    return [_item(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=sop) for sop in IMAGES]


def objects() -> list[bytes]:
    """Two images with a presentation state, a key object note and a report about them; and another study of the patient."""
    images = [part10(dataset(sop=sop, InstanceNumber=n)) for n, sop in enumerate(IMAGES, 1)]
    relation = [_item(SeriesInstanceUID="1.2.3", ReferencedImageSequence=_named())]
    series = [_item(SeriesInstanceUID="1.2.3", ReferencedSOPSequence=_named())]
    evidence = [_item(StudyInstanceUID="1.2", ReferencedSeriesSequence=series)]
    content = [_item(RelationshipType="CONTAINS", ValueType="IMAGE", ReferencedSOPSequence=_named()[:1])]
    return [
        *images,
        _text(STATE, GSPS, "PR", ReferencedSeriesSequence=relation),
        _text(NOTE, KOS, "KO", CurrentRequestedProcedureEvidenceSequence=evidence, ContentSequence=content),
        _text(REPORT, SR, "SR", CurrentRequestedProcedureEvidenceSequence=evidence, ContentSequence=content),
        part10(dataset(study="1.5", series="1.5.3", sop=OTHER)),
    ]


@pytest.fixture
async def graph(tmp_path: Path, decoders: Decoders) -> AsyncIterator[Graph]:
    async with opened(tmp_path / "home", decoders) as made:
        for file in objects():
            assert (await store(made, file)).outcome is Outcome.STORED
        yield made


async def parts(web: Web, path: str) -> dict[str, Dataset]:
    reply = await web.get(path, accept='multipart/related; type="application/dicom"; transfer-syntax=*')
    assert reply.status == 200, (path, reply.body)
    read = [pydicom.dcmread(io.BytesIO(body)) for _, body in reply.parts]
    return {str(one.SOPInstanceUID): one for one in read}


async def everything(graph: Graph, web: Web) -> dict[str, Any]:
    """All there is to see of study 1.2 without its URLs: to be compared with what is seen after an undo."""
    found: dict[str, Any] = {}
    for path in ("/studies/1.2", "/studies/1.2/metadata", "/studies/1.2/series/1.2.3", "/studies/1.5/metadata"):
        reply = await web.get(path, accept_encoding="identity")
        found[path] = reply.status, reply.headers.get("etag"), reply.body
    for level in ("studies", "series", "instances"):
        found[level] = (await web.get(f"/{level}?includefield=all&limit=50")).body
    return found


async def test_a_corrected_name_is_everywhere_and_goes_again(graph: Graph, tmp_path: Path) -> None:
    web, who, amend = await Web.of(graph), principal(graph), graph.decisions.amend
    before = await everything(graph, web)
    done = await amend.change(who, of_patient(PatientKey("P1")), {"PatientName": "Doe^Jane", "PatientSex": "F"})
    more = await amend.change(who, of_study("1.2"), {"StudyDescription": "Abdomen"}, [])
    shown = await parts(web, "/studies/1.2")
    assert set(shown) == {*IMAGES, STATE, NOTE, REPORT}
    for one in shown.values():
        assert (one.PatientName, one.PatientSex, one.StudyDescription) == ("Doe^Jane", "F", "Abdomen")
        old = one.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
        assert str(old.PatientName) == "Müller^Jörg" and len(one.OriginalAttributesSequence) == 2
    assert all(bytes(shown[sop].PixelData) == bytes(range(256)) * 2 for sop in IMAGES)
    for row in (await web.get("/studies?includefield=all")).json + (await web.get("/studies/1.2/metadata")).json:
        assert row["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}]
    assert (await web.get("/studies?PatientName=Doe*")).json and (
        await web.get("/studies?PatientName=M*")
    ).status == 204
    await export(graph.archive, who, [], tmp_path / "out")
    assert {str(pydicom.dcmread(path).PatientName) for path in (tmp_path / "out").rglob("*.dcm")} == {"Doe^Jane"}
    await amend.undo(who, more.op)
    assert "StudyDescription" not in (await parts(web, "/studies/1.2"))[IMAGES[0]]
    await amend.undo(who, done.op)
    assert await everything(graph, web) == before


async def test_headers_say_who_corrected(tmp_path: Path) -> None:
    environ = {"RADIOLITH_AMEND_SYSTEM": "Radiolith St. Anna"}
    async with opened(tmp_path / "home", environ=environ) as graph:
        await store(graph, objects()[0], source=Source("dimse", "CT1", "10.0.0.5"))
        await store(graph, objects()[1], source=Source("stow", "token of a person", "10.0.0.6"))
        await graph.decisions.amend.change(principal(graph), of_study("1.2"), {"StudyDescription": "Abdomen"})
        shown = await parts(await Web.of(graph), "/studies/1.2")
        items = [shown[sop].OriginalAttributesSequence[0] for sop in IMAGES]
        assert {item.ModifyingSystem for item in items} == {"Radiolith St. Anna"}
        assert [item.SourceOfPreviousValues or "" for item in items] == ["CT1", ""]  # a name of a person stays here


async def test_a_moved_series_is_found_by_all_that_names_it(graph: Graph) -> None:
    web, who = await Web.of(graph), principal(graph)
    before = await everything(graph, web)
    state = f"/studies/1.2/series/{STATE[:-2]}/instances/{STATE}/rendered"
    picture = (await web.get(state, accept="image/png")).body
    done = await graph.decisions.amend.move_series(who, ("1.2", "1.2.3"), "1.5")
    moved = await parts(web, "/studies/1.2/series/1.2.3")  # by the name of before
    assert set(moved) == set(IMAGES)
    uids = {(str(one.StudyInstanceUID), str(one.SeriesInstanceUID)) for one in moved.values()}
    ((study, series),) = uids
    assert study == "1.5" and series != "1.2.3"
    assert set(await parts(web, f"/studies/1.5/series/{series}")) == set(IMAGES)
    assert (await web.get(f"/studies/1.2/series/1.2.3/instances/{IMAGES[0]}/frames/1")).status == 200
    assert set(await parts(web, "/studies/1.2")) == {STATE, NOTE, REPORT}

    wanted = Dataset()
    wanted.QueryRetrieveLevel, wanted.StudyInstanceUID, wanted.SeriesInstanceUID = "SERIES", "1.2", "1.2.3"
    assert await named(graph, wanted, STUDY_ROOT) == list(IMAGES)

    reply = await web.get(state, accept="image/png")
    assert reply.status == 200 and reply.body == picture
    old = f"/wado?requestType=WADO&studyUID=1.2&seriesUID=1.2.3&objectUID={IMAGES[0]}"
    seen = await web.get(f"{old}&presentationUID={STATE}&presentationSeriesUID={STATE[:-2]}", accept="image/png")
    assert seen.status == 200
    for sop in (NOTE, REPORT):
        path = f"/studies/1.2/series/{sop[:-2]}/instances/{sop}"
        one = (await parts(web, path))[sop]
        (there,) = one.CurrentRequestedProcedureEvidenceSequence
        assert there.StudyInstanceUID == "1.5" and there.ReferencedSeriesSequence[0].SeriesInstanceUID == series
        listed = [item.ReferencedSOPInstanceUID for item in there.ReferencedSeriesSequence[0].ReferencedSOPSequence]
        assert listed == list(IMAGES)
        assert (await web.get(path + "/rendered", accept="text/html")).status == 200

    commitment = graph.archive.commitment
    assert sorted(await commitment.items(who, "1.2", "1.2.3")) == [(CT, sop) for sop in IMAGES]
    await commitment.request(who, "1.9", [(CT, sop) for sop in (*IMAGES, OTHER)])
    await commitment.idle()
    result = await commitment.result(who, "1.9")
    assert result is not None and len(result.committed) == 3 and not result.failed
    versions = await graph.archive.versions.of(who, Identity("1.2", "1.2.3", IMAGES[0]))
    files = [b"".join([bytes(p) async for p in graph.archive.retrieve.original(one).chunks()]) for one in versions]
    assert files == [objects()[0]]

    await graph.decisions.amend.undo(who, done.op)
    assert await everything(graph, web) == before


async def test_a_study_of_another_patient_says_so_in_every_header(graph: Graph) -> None:
    web, who, amend = await Web.of(graph), principal(graph), graph.decisions.amend
    await store(
        graph, part10(dataset(study="1.6", series="1.6.1", sop="1.6.1.1", PatientID="P7", PatientName="Roe^Jane"))
    )
    before = await everything(graph, web)
    done = await amend.move_study(who, "1.2", PatientKey("P7"))
    for one in (await parts(web, "/studies/1.2")).values():
        assert (one.PatientID, one.PatientName) == ("P7", "Roe^Jane")
    rows = (await web.get("/studies?PatientID=P7")).json
    assert {row["0020000D"]["Value"][0] for row in rows} == {"1.2", "1.6"}
    assert {row["00100020"]["Value"][0] for row in (await web.get("/studies/1.2/metadata")).json} == {"P7"}
    await amend.undo(who, done.op)
    assert await everything(graph, web) == before
