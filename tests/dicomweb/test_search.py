"""Search: every parameter of PS3.18 10.6 as a Query, every Row as DICOM JSON and XML."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest

from radiolith.dicomweb import qido
from radiolith.dicomweb.routes import Edge
from radiolith.dicomweb.rows import rows_json
from radiolith.model import BadInput, Count, Level, Match, Page, Row
from tests.dicomweb.driver import ask
from tests.dicomweb.fake import FakeArchive

STUDY, SERIES, SOP, PN, PID = 0x0020000D, 0x0020000E, 0x00080018, 0x00100010, 0x00100020
NS = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


def row(n: int = 1) -> Row:
    return {
        0x00080005: ("CS", "ISO_IR 192"),
        PN: ("PN", "Yamada^Tarou=山田^太郎"),
        PID: ("LO", f"P{n}"),
        STUDY: ("UI", f"1.2.{n}"),
        SERIES: ("UI", f"1.2.{n}.3"),
        SOP: ("UI", f"1.2.{n}.3.4"),
        0x00080061: ("CS", "CT\\SR"),
        0x00201208: ("IS", 7),
        0x00080090: ("PN", ""),
        0x00080050: ("SH", None),
        0x00400275: ("SQ", [{0x00400009: ("SH", "A"), 0x00401001: ("SH", "")}, {}]),
    }


@pytest.mark.parametrize(
    ("target", "level", "matches"),
    [
        ("/studies", Level.STUDY, ()),
        ("/series", Level.SERIES, ()),
        ("/instances", Level.INSTANCE, ()),
        ("/studies/1.2/series", Level.SERIES, (((STUDY,), ("1.2",)),)),
        ("/studies/1.2/instances", Level.INSTANCE, (((STUDY,), ("1.2",)),)),
        ("/studies/1.2/series/1.3/instances", Level.INSTANCE, (((STUDY,), ("1.2",)), ((SERIES,), ("1.3",)))),
        ("/studies?PatientName=M%C3%BCller*", Level.STUDY, (((PN,), ("Müller*",)),)),
        ("/studies?00100010=Smith%5EJ", Level.STUDY, (((PN,), ("Smith^J",)),)),
        ("/studies?StudyDate=20260101-20261231", Level.STUDY, (((0x00080020,), ("20260101-20261231",)),)),
        ("/studies?StudyInstanceUID=1.2,1.3%5C1.4", Level.STUDY, (((STUDY,), ("1.2", "1.3", "1.4")),)),
        ("/studies?StudyInstanceUID=1.2&StudyInstanceUID=1.3", Level.STUDY, (((STUDY,), ("1.2", "1.3")),)),
        ("/series?RequestAttributesSequence.ScheduledProcedureStepID=X", Level.SERIES,
         (((0x00400275, 0x00400009), ("X",)),)),
        ("/series?00400275.00401001=Y", Level.SERIES, (((0x00400275, 0x00401001), ("Y",)),)),
        ("/studies?00091001=private", Level.STUDY, (((0x00091001,), ("private",)),)),
        ("/studies?AccessionNumber=", Level.STUDY, (((0x00080050,), ("",)),)),
        ('/studies?emptyvaluematching=true&AccessionNumber=%22%22', Level.STUDY, (((0x00080050,), ('""',)),)),
        ("/studies?multiplevaluematching=true&PatientID=A%5CB&PatientID=C", Level.STUDY, (((PID,), ("A", "B", "C")),)),
    ],
)  # fmt: skip
async def test_the_query(
    edge: Edge,
    archive: FakeArchive,
    target: str,
    level: Level,
    matches: tuple[tuple[tuple[int, ...], tuple[str, ...]], ...],
) -> None:
    assert (await ask(edge, "GET", target)).status == 204
    (query,) = archive.queries
    assert query.level is level
    assert query.matches == tuple(Match(*match) for match in matches)


async def test_the_flags_and_fields(edge: Edge, archive: FakeArchive) -> None:
    target = (
        "/studies?fuzzymatching=true&emptyvaluematching=TRUE&multiplevaluematching=true&limit=5&offset=10"
        "&includefield=StudyDescription,00081030&includefield=RequestAttributesSequence.ScheduledProcedureStepID"
    )
    await ask(edge, "GET", target)
    await ask(edge, "GET", "/studies?includefield=all")
    first, second = archive.queries
    assert (first.fuzzy, first.empty_values, first.multiple_values, first.limit, first.offset) == (True,) * 3 + (5, 10)
    assert first.include == ((0x00081030,), (0x00400275, 0x00400009))
    assert second.include_all and second.limit == 500


@pytest.mark.parametrize(
    "query",
    ["NoSuchAttribute=1", "0010001=1", "PatientID=1&PatientID=2", "PatientID=1&00100020=2", "limit=x", "limit=-1",
     "limit=0", "offset=-1", "offset=10001", "limit=1&limit=2", "fuzzymatching=maybe", "includefield=Nonsense",
     "PatientID=" + "x" * 2000, "a=%ff", "PatientID=%00", ".=1", "PatientID.=1", "=1", "a" * 70000],
)  # fmt: skip
async def test_bad_queries(edge: Edge, archive: FakeArchive, query: str) -> None:
    reply = await ask(edge, "GET", "/studies?" + query)
    assert reply.status in (400, 413)
    assert reply.json["detail"] and not archive.queries


async def test_the_unknown_number_of_parameters_is_bounded(edge: Edge) -> None:
    assert (await ask(edge, "GET", "/studies?" + "&".join(f"includefield={n}" for n in range(600)))).status == 413


async def test_json(edge: Edge, archive: FakeArchive) -> None:
    archive.pages = [Page([row()], False)]
    reply = await ask(edge, "GET", "/studies")
    assert reply.status == 200 and reply.headers["content-type"] == "application/dicom+json"
    (study,) = reply.json
    assert study["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]}
    assert study["00080061"] == {"vr": "CS", "Value": ["CT", "SR"]}
    assert study["00201208"] == {"vr": "IS", "Value": [7]}
    assert study["00080090"] == {"vr": "PN"} and study["00080050"] == {"vr": "SH"}
    assert study["00400275"]["Value"] == [{"00400009": {"vr": "SH", "Value": ["A"]}, "00401001": {"vr": "SH"}}, {}]
    assert study["00081190"]["Value"] == ["http://pacs.example/dicom-web/studies/1.2.1"]


def test_values_of_each_vr() -> None:
    def value(vr: str, text: str) -> object:
        import orjson

        return orjson.loads(rows_json([{0x00091001: (vr, text)}], Level.PATIENT, ""))[0]["00091001"].get("Value")

    assert value("DS", "1.50\\2") == [1.5, 2.0]
    assert value("DS", "nan") == ["nan"] and value("DS", "x") == ["x"]
    assert value("IS", "007") == [7] and value("IS", "seven") == ["seven"]
    assert value("LT", "a\\b") == ["a\\b"]
    assert value("LO", "a\\\\b") == ["a", None, "b"]
    assert value("PN", "=山田") == [{"Ideographic": "山田"}]


async def test_retrieve_urls_by_level(edge: Edge, archive: FakeArchive) -> None:
    archive.pages = [Page([row()], False), Page([row()], False)]
    series = await ask(edge, "GET", "/series")
    instances = await ask(edge, "GET", "/instances")
    base = "http://pacs.example/dicom-web/studies/1.2.1/series/1.2.1.3"
    assert series.json[0]["00081190"]["Value"] == [base]
    assert instances.json[0]["00081190"]["Value"] == [base + "/instances/1.2.1.3.4"]


async def test_xml(edge: Edge, archive: FakeArchive) -> None:
    archive.pages = [Page([row(1), row(2)], False)]
    headers = {"accept": 'multipart/related; type="application/dicom+xml"'}
    reply = await ask(edge, "GET", "/studies", headers=headers)
    assert len(reply.parts) == 2
    root = ElementTree.fromstring(reply.parts[0][1])
    name = root.find(f"{NS}DicomAttribute[@tag='00100010']")
    assert name is not None and name.get("keyword") == "PatientName"
    assert name.findtext(f"{NS}PersonName/{NS}Ideographic/{NS}FamilyName") == "山田"
    assert root.findtext(f"{NS}DicomAttribute[@tag='00080061']/{NS}Value[@number='2']") == "SR"
    assert root.findtext(f"{NS}DicomAttribute[@tag='00400275']/{NS}Item/{NS}DicomAttribute/{NS}Value") == "A"
    assert (await ask(edge, "GET", "/studies", headers=headers)).status == 204


async def test_hostile_values_stay_values(edge: Edge, archive: FakeArchive) -> None:
    evil = '</Value><script>alert(1)</script>\x01]]>"'
    archive.pages = [Page([{PID: ("LO", evil), STUDY: ("UI", "1.2")}], False)] * 2
    xml = await ask(edge, "GET", "/studies", headers={"accept": "application/dicom+xml"})
    root = ElementTree.fromstring(xml.parts[0][1])
    assert root.findtext(f"{NS}DicomAttribute[@tag='00100020']/{NS}Value") == evil.replace("\x01", "�")
    assert b"<script>" not in xml.body
    assert (await ask(edge, "GET", "/studies")).json[0]["00100020"]["Value"] == [evil]


async def test_more_results_are_announced(edge: Edge, archive: FakeArchive) -> None:
    archive.pages = [Page([row()], True, "next+page")]
    reply = await ask(edge, "GET", "/studies?PatientID=P*&offset=3")
    assert reply.headers["link"] == (
        '<http://pacs.example/dicom-web/studies?PatientID=P%2A&cursor=next%2Bpage>; rel="next"'
    )
    assert "additional results" in reply.headers["warning"]
    archive.pages = [Page([row()], True, "c")]
    asked_for = await ask(edge, "GET", "/studies?limit=1")
    assert "link" in asked_for.headers and "warning" not in asked_for.headers
    await ask(edge, "GET", "/studies?cursor=c")
    assert archive.queries[-1].cursor == "c"


async def test_a_series_is_answered_whole_in_pages(edge: Edge, archive: FakeArchive) -> None:
    archive.pages = [Page([row(n) for n in range(500)], True, "a"), Page([row(n) for n in range(500)], True, "b"),
                     Page([row(1)], False)]  # fmt: skip
    reply = await ask(edge, "GET", "/studies/1.2/series/1.3/instances")
    assert len(reply.json) == 1001 and "content-length" not in reply.headers
    assert [query.cursor for query in archive.queries] == ["", "a", "b"]
    assert all(query.limit == 500 for query in archive.queries)


async def test_long_pages_are_written_beside_the_event_loop(
    edge: Edge, archive: FakeArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: list[bool] = []

    def writing(rows: Sequence[Row], level: Level, service: str) -> bytes:
        writers.append(threading.current_thread() is threading.main_thread())
        return rows_json(rows, level, service)

    monkeypatch.setattr(qido, "rows_json", writing)
    archive.pages = [Page([row(n) for n in range(3)], False), Page([row(n) for n in range(500)], False)]
    assert len((await ask(edge, "GET", "/instances")).json) == 3
    assert len((await ask(edge, "GET", "/instances?includefield=all")).json) == 500
    assert writers == [True, False]


async def test_limit_across_pages(edge: Edge, archive: FakeArchive) -> None:
    archive.pages = [Page([row(n) for n in range(500)], True, "a"), Page([row(n) for n in range(200)], True, "b")]
    reply = await ask(edge, "GET", "/studies/1.2/instances?limit=700")
    assert len(reply.json) == 700 and archive.queries[1].limit == 200


async def test_warnings_of_the_index(edge: Edge, archive: FakeArchive) -> None:
    archive.pages = [Page([], False, warnings=('The key "x" is not indexed\r\nInjected: yes',))]
    reply = await ask(edge, "GET", "/studies?00091001=x")
    assert reply.headers["warning"] == "299 http://pacs.example/dicom-web \"The key 'x' is not indexed??Injected: yes\""


async def test_too_broad(edge: Edge, archive: FakeArchive) -> None:
    async def search(*_: object) -> Page:
        raise BadInput("the key is not indexed")

    archive.search = search  # type: ignore[method-assign, assignment]
    assert (await ask(edge, "GET", "/studies?00091001=x")).status == 400


@pytest.mark.parametrize(
    ("target", "page", "counted", "name", "value"),
    [
        ("/studies?totalcount=true", Page([row(1), row(2)], False), None, "x-total-count", "2"),
        ("/studies?totalcount=true", Page([], False), None, "x-total-count", "0"),
        ("/studies?totalcount=true&offset=7", Page([row(1)], False), None, "x-total-count", "8"),
        ("/studies?totalcount=true&offset=7", Page([], False), Count(3, True), "x-total-count", "3"),
        ("/studies?totalcount=true&limit=1", Page([row(1)], True, "c"), Count(41, True), "x-total-count", "41"),
        ("/studies?totalcount=true&cursor=c", Page([row(1)], False), Count(41, True), "x-total-count", "41"),
        ("/studies?totalcount=true", Page([row(1)], True, "c"), Count(9000, False), "x-total-count-at-least", "9000"),
        (
            "/studies?totalcount=true&offset=4",
            Page([row(1)], True, "c"),
            Count(0, False),
            "x-total-count-at-least",
            "6",
        ),
    ],
)
async def test_the_number_of_all_results(
    edge: Edge, archive: FakeArchive, target: str, page: Page, counted: Count | None, name: str, value: str
) -> None:
    """Only on request, and only counted where the page itself does not tell."""
    archive.pages, archive.total = [page], counted or Count(-1, True)
    reply = await ask(edge, "GET", target)
    assert {n: v for n, v in reply.headers.items() if n.startswith("x-total")} == {name: value}
    assert len(archive.counted) == (counted is not None)
    assert "warning" not in reply.headers or "additional" in reply.headers["warning"]


async def test_nothing_is_counted_unasked(edge: Edge, archive: FakeArchive) -> None:
    for end in ("", "?totalcount=false"):
        archive.pages = [Page([row(1)], True, "c")]
        reply = await ask(edge, "GET", "/studies" + end)
        assert not archive.counted and not any(name.startswith("x-total") for name in reply.headers)
    assert (await ask(edge, "GET", "/studies?totalcount=yes")).status == 400


async def test_rejected_view(edge: Edge, archive: FakeArchive) -> None:
    await ask(edge, "GET", "/rejected/instances")
    assert archive.queries[0].view == "rejected" and archive.queries[0].level is Level.INSTANCE
