"""Rendered resources, thumbnails, documents and WADO-URI: parameters checked, the right object shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from radiolith.archive.ports import Rendering
from radiolith.dicomweb import documents, rendered
from radiolith.dicomweb.routes import Edge
from radiolith.model import Held, Identity, Layout, Pixels
from tests.dicomweb.driver import ask
from tests.dicomweb.fake import FakeArchive

LE = "1.2.840.10008.1.2.1"
INSTANCE = "/studies/1.2/series/1.2.3/instances/1.2.3.1"
WADO = "/wado?requestType=WADO&studyUID=1.2&seriesUID=1.2.3&objectUID=1.2.3.1"


async def test_parameters_reach_the_verb(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    query = "?quality=80&viewport=100,200,0,,-50,25.5&window=40,400,sigmoid"
    query += "&annotation=patient,technique&iccprofile=sRGB"
    reply = await ask(edge, "GET", INSTANCE + "/rendered" + query, headers={"accept": "image/png"})
    assert reply.status == 200 and reply.headers["content-type"] == "image/png" and reply.body == b"a picture"
    held, frame, want = archive.renderings[0]
    assert held.identity.sop == "1.2.3.1" and frame == 0
    assert want == Rendering(
        "image/png", 80, (100.0, 200.0, 0.0, None, -50.0, 25.5), (40.0, 400.0, "sigmoid"),
        frozenset({"patient", "technique"}), "srgb",
    )  # fmt: skip


@pytest.mark.parametrize(
    "query",
    ["quality=0", "quality=101", "quality=x", "quality=1.5", "quality=", "viewport=1", "viewport=0,1",
     "viewport=1,2,3", "viewport=a,b", "viewport=99999,1", "viewport=1.5,2", "viewport=,", "viewport=10,10,0,0,0,5",
     "viewport=10,10,-1,0,5,5", "viewport=nan,1", "window=1", "window=1,0,linear", "window=1,2,3", "window=x,2,linear",
     "window=1,inf,linear", "window=1,-1,sigmoid", "annotation=everything", "annotation=", "iccprofile=maybe",
     "quality=1&quality=2"],
)  # fmt: skip
async def test_bad_parameters(edge: Edge, archive: FakeArchive, slices: list[Held], query: str) -> None:
    reply = await ask(edge, "GET", INSTANCE + "/rendered?" + query)
    assert reply.status == 400 and reply.json["detail"] and not archive.renderings


async def test_unknown_parameters_are_named(edge: Edge, slices: list[Held]) -> None:
    reply = await ask(edge, "GET", INSTANCE + "/rendered?zoom=3")
    assert reply.status == 200
    assert reply.headers["warning"].endswith('"The parameter zoom is not supported and was ignored"')


async def test_what_stands_for_a_series(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    await ask(edge, "GET", "/studies/1.2/thumbnail?viewport=64,64")
    held, frame, want = archive.renderings[-1]
    assert (held.identity.sop, frame, want.thumbnail, want.viewport) == ("1.2.3.2", 0, True, (64.0, 64.0))
    await ask(edge, "GET", INSTANCE + "/frames/1/thumbnail")
    assert archive.renderings[-1][0].identity.sop == "1.2.3.1" and archive.renderings[-1][1] == 1
    await ask(edge, "GET", "/studies/1.2/series/1.2.3/rendered")
    assert archive.renderings[-1][0].identity.sop == "1.2.3.2"
    assert (await ask(edge, "GET", INSTANCE + "/thumbnail?viewport=1,2,3,4,5,6")).status == 400


async def test_all_of_a_series_in_multipart(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    archive.add(Identity("1.2", "1.2.4", "1.2.4.1"), b"text", Layout(LE, 0, 4, 4, 4), "1.2.840.10008.5.1.4.1.1.66")
    reply = await ask(edge, "GET", "/studies/1.2/rendered", headers={"accept": 'multipart/related; type="image/png"'})
    assert [headers["content-type"] for headers, _ in reply.parts] == ["image/png"] * 3
    one = await ask(edge, "GET", INSTANCE + "/frames/1,1/rendered")
    assert one.status == 406 and "multipart" in one.json["detail"]


async def test_what_cannot_be_rendered_says_why(edge: Edge, archive: FakeArchive, compressed: Held) -> None:
    reply = await ask(edge, "GET", "/studies/1.9/series/1.9.1/instances/1.9.1.1/rendered")
    assert reply.status == 406 and "no pixel data" in reply.json["detail"]
    assert (await ask(edge, "GET", "/studies/1.9/rendered", headers={"accept": "application/dicom"})).status == 406


async def test_a_presentation_state_shows_its_images(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    identity = Identity("1.2", "1.2.9", "1.2.9.1")
    state = archive.add(identity, b"gsps", Layout(LE, 0, 4, 4, 4), "1.2.840.10008.5.1.4.1.1.11.1")
    archive.kept[identity].document = {
        "00081115": {"vr": "SQ", "Value": [{"00081140": {"vr": "SQ", "Value": [
            {"00081155": {"vr": "UI", "Value": ["9.9"]}}, {"00081155": {"vr": "UI", "Value": ["1.2.3.3"]}}]}}]}
    }  # fmt: skip
    reply = await ask(edge, "GET", "/studies/1.2/series/1.2.9/instances/1.2.9.1/rendered")
    assert reply.status == 200
    held, _, want = archive.renderings[-1]
    assert held.identity.sop == "1.2.3.3" and want.presentation is state
    document = archive.kept[identity].document["00081115"]["Value"][0]["00081140"]["Value"]
    document[1]["00081160"] = {"vr": "IS", "Value": [4, 2, "x", -1]}  # it speaks of these two frames only
    where = "/studies/1.2/series/1.2.9/instances/1.2.9.1"
    assert (await ask(edge, "GET", where + "/rendered")).status == 200 and archive.renderings[-1][1] == 4
    assert (await ask(edge, "GET", where + "/thumbnail")).status == 200 and archive.renderings[-1][1] == 4
    many = {"accept": 'multipart/related; type="image/jpeg"'}
    assert (await ask(edge, "GET", where + "/rendered", headers=many)).status == 200
    assert [(held.identity.sop, frame) for held, frame, _ in archive.renderings[-2:]] == [
        ("1.2.3.3", 4),
        ("1.2.3.3", 2),
    ]
    archive.kept[identity].document = {"00081115": {"vr": "SQ", "Value": "nonsense"}}
    assert (await ask(edge, "GET", "/studies/1.2/series/1.2.9/instances/1.2.9.1/rendered")).status == 404


@pytest.mark.parametrize("moved", ["image", "state"])
async def test_a_presentation_state_finds_images_that_were_moved(
    edge: Edge, archive: FakeArchive, slices: list[Held], moved: str
) -> None:
    """SOP Instance UIDs stay, and where it was received tells which of two with the same UID is meant."""
    home = Identity("1.2", "1.2.3" if moved == "image" else "1.2.9", "1.2.3.3" if moved == "image" else "1.2.9.1")
    identity = home if moved == "state" else Identity("1.2", "1.2.9", "1.2.9.1")
    state = archive.add(identity, b"gsps", Layout(LE, 0, 4, 4, 4), "1.2.840.10008.5.1.4.1.1.11.1")
    document = {"00081115": {"vr": "SQ", "Value": [{"00081140": {"vr": "SQ", "Value": [
        {"00081155": {"vr": "UI", "Value": ["1.2.3.3"]}}]}}]}}  # fmt: skip
    image = archive.kept[Identity("1.2", "1.2.3", "1.2.3.3")].held
    stranger = archive.add(Identity("1.7", "1.7.3", "1.2.3.3"), b"other", image.layout, image.sop_class)
    chosen = image if moved == "image" else state
    shown = Identity("1.5", "1.5.1", home.sop)
    kept = archive.kept.pop(home)
    archive.kept[shown] = replace(kept, held=replace(chosen, identity=shown, home=home))
    where = shown if moved == "state" else identity
    archive.kept[where].document = document
    reply = await ask(edge, "GET", f"/studies/{where.study}/series/{where.series}/instances/{where.sop}/rendered")
    assert reply.status == 200
    found = archive.renderings[-1][0]
    assert found.identity.sop == "1.2.3.3" and found is not stranger and (found.home or found.identity).study == "1.2"


# ---------------------------------------------------------------- documents


def code(meaning: str) -> dict[str, Any]:
    return {"vr": "SQ", "Value": [{"00080104": {"vr": "LO", "Value": [meaning]}}]}


def item(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"0040A040": {"vr": "CS", "Value": [kind]}, "0040A043": code(name), **more}


EVIL = "<img src=x onerror=alert(1)>&\"'"
REPORT: dict[str, Any] = {
    "0040A043": code("Chest report"),
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg", "Ideographic": "山田"}]},
    "0040A730": {
        "vr": "SQ",
        "Value": [
            item("CONTAINER", "Findings", **{"0040A730": {"vr": "SQ", "Value": [
                item("TEXT", "Finding", **{"0040A160": {"vr": "UT", "Value": [EVIL + "\nsecond line"]}}),
                item("NUM", "Diameter", **{"0040A300": {"vr": "SQ", "Value": [
                    {"0040A30A": {"vr": "DS", "Value": [12.5]}, "004008EA": code("mm")}]}}),
            ]}}),
            item("CODE", "Impression", **{"0040A168": code("Normal")}),
        ],
    },
}  # fmt: skip


async def test_a_report_as_page_and_as_text(edge: Edge, archive: FakeArchive) -> None:
    identity = Identity("1.5", "1.5.1", "1.5.1.1")
    archive.add(identity, b"sr", Layout(LE, 0, 2, 2, 2), "1.2.840.10008.5.1.4.1.1.88.11", document=REPORT)
    target = "/studies/1.5/series/1.5.1/instances/1.5.1.1/rendered"
    page = await ask(edge, "GET", target)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-disposition"].startswith("attachment")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    html = page.body.decode()
    assert "<img" not in html and "&lt;img" in html and "second line" in html
    assert "12.5 mm" in html and "Müller Jörg / 山田" in html and "<h1>Chest report</h1>" in html
    assert html.count("<ul>") == html.count("</ul>") == 2
    text = await ask(edge, "GET", target, headers={"accept": "text/plain"})
    assert "  Diameter: 12.5 mm\n" in text.body.decode() and "Impression: Normal" in text.body.decode()
    assert (await ask(edge, "GET", target, headers={"accept": "application/pdf"})).status == 406


async def test_an_encapsulated_document(edge: Edge, archive: FakeArchive) -> None:
    identity = Identity("1.6", "1.6.1", "1.6.1.1")
    archive.add(identity, b"pdf", Layout(LE, 0, 3, 3, 3), "1.2.840.10008.5.1.4.1.1.104.1",
                bulk={"00420011": b"%PDF-1.7 ..."}, document_type="application/pdf")  # fmt: skip
    target = "/studies/1.6/series/1.6.1/instances/1.6.1.1"
    for accept in ("*/*", "application/pdf"):
        reply = await ask(edge, "GET", target + "/rendered", headers={"accept": accept})
        assert reply.status == 200 and reply.headers["content-type"] == "application/pdf"
        assert reply.body.startswith(b"%PDF") and reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-disposition"] == 'attachment; filename="1.6.1.1.pdf"'
    assert (await ask(edge, "GET", target + "/rendered", headers={"accept": "text/html"})).status == 406
    bulk = await ask(edge, "GET", target + "/bulkdata/00420011")
    assert bulk.headers["content-type"] == "application/octet-stream"


def test_a_report_without_end_is_refused() -> None:
    deep: dict[str, Any] = item("TEXT", "x")
    for _ in range(documents.DEPTH_MAX + 2):
        deep = item("CONTAINER", "x", **{"0040A730": {"vr": "SQ", "Value": [deep]}})
    with pytest.raises(documents.LimitExceeded):
        list(documents.report({"0040A730": {"vr": "SQ", "Value": [deep]}}))
    assert list(documents.report({})) == [(0, "", "Structured report")]


# ---------------------------------------------------------------- WADO-URI


async def test_wado_uri_picture(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    query = "&contentType=image/png&frameNumber=1&rows=8&columns=8&windowCenter=40&windowWidth=80&imageQuality=70"
    reply = await ask(edge, "GET", WADO + query + "&annotation=patient&region=0,0.25,0.5,1")
    assert reply.status == 200 and reply.headers["content-type"] == "image/png"
    _, frame, want = archive.renderings[0]
    assert frame == 1 and want.viewport == (8.0, 8.0, 0.0, 4.0, 8.0, 12.0)
    assert want.window == (40.0, 80.0, "linear") and want.quality == 70 and want.annotation == {"patient"}


async def test_wado_uri_object(edge: Edge, slices: list[Held], compressed: Held) -> None:
    reply = await ask(edge, "GET", WADO + "&contentType=application/dicom")
    assert reply.headers["content-type"] == "application/dicom" and reply.body[128:132] == b"DICM"
    multiframe = "/wado?requestType=WADO&studyUID=1.9&seriesUID=1.9.1&objectUID=1.9.1.1"
    assert (await ask(edge, "GET", multiframe)).body.startswith(b"recoded to 1.2.840.10008.1.2.1")
    wanted = await ask(edge, "GET", multiframe + "&contentType=application/dicom&transferSyntax=1.2.840.10008.1.2.5")
    assert wanted.body == b"recoded to 1.2.840.10008.1.2.5"


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("?requestType=XERO&studyUID=1", 400), ("?requestType=WADO", 400),
     (WADO.removeprefix("/wado") + "&anonymize=yes", 400), (WADO.removeprefix("/wado") + "&frameNumber=0", 400),
     (WADO.removeprefix("/wado") + "&region=0,0,2,2", 400), (WADO.removeprefix("/wado") + "&windowCenter=1", 400),
     (WADO.removeprefix("/wado") + "&rows=x", 400), (WADO.removeprefix("/wado") + "&contentType=audio/mp3", 406),
     (WADO.removeprefix("/wado") + "&contentType=application/dicom&rows=5", 400),
     (WADO.removeprefix("/wado") + "&presentationUID=1.2.9.1", 400),
     (WADO.removeprefix("/wado").replace("1.2.3.1", "http://evil.example/x"), 404)],
)  # fmt: skip
async def test_wado_uri_refusals(edge: Edge, slices: list[Held], query: str, status: int) -> None:
    assert (await ask(edge, "GET", "/wado" + query)).status == status


async def test_wado_uri_with_a_presentation_state(edge: Edge, archive: FakeArchive, slices: list[Held]) -> None:
    identity = Identity("1.2", "1.2.9", "1.2.9.1")
    state = archive.add(identity, b"gsps", Layout(LE, 0, 4, 4, 4), "1.2.840.10008.5.1.4.1.1.11.1")
    reply = await ask(edge, "GET", WADO + "&presentationUID=1.2.9.1&presentationSeriesUID=1.2.9")
    assert reply.status == 200 and archive.renderings[0][2].presentation is state


async def test_only_a_presentation_state_is_one(edge: Edge, slices: list[Held]) -> None:
    reply = await ask(edge, "GET", WADO + "&presentationUID=1.2.3.2&presentationSeriesUID=1.2.3")
    assert reply.status == 400 and b"no presentation state" in reply.body


def test_the_representative_is_the_middle_image() -> None:
    def held(series: str, sop: str, pixels: Pixels) -> Held:
        return FakeArchive().add(Identity("1", series, sop), b"", Layout(LE, 0, 0, 0, 0, pixels), "1")

    report, *images = [held("1", "0", Pixels.NONE), *(held("2", str(n), Pixels.NATIVE) for n in range(5))]
    assert rendered.representative([report, *images]) is images[2]
    assert rendered.representative([report]) is report
