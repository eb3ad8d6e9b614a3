"""The pages, /api/v1 and what monitors ask, over an archive that answers from a list.

The verbs have tests of their own; here it is what a browser sends and gets: who is let in, what is asked of the
verbs, what comes out, and that nothing a header says can become markup.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from radiolith import config, metrics
from radiolith.model import Damaged, Level, Unavailable
from radiolith.web import rows
from radiolith.web.measure import route_of
from tests.web.world import HOST, World, study


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


OWN = {"origin": HOST, "sec-fetch-site": "same-origin"}


# ---------------------------------------------------------------- in and out


def test_nobody_sees_the_form_and_nothing_else(world: World) -> None:
    answer = world.client().get("/")
    assert answer.status_code == 200
    assert 'name="password"' in answer.text
    assert world.query.asked == []


def test_signing_in_gives_a_cookie_no_script_and_no_foreign_page_can_use(world: World) -> None:
    answer = world.client().post("/sign-in", data={"user": "anna", "password": "right"}, headers=OWN)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("radiolith=session-1;")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))


def test_with_tls_the_cookie_is_pinned_to_the_host(world: World) -> None:
    headers = OWN | {"x-forwarded-proto": "https", "origin": "https://archive.example"}
    answer = world.client().post("/sign-in", data={"user": "anna", "password": "right"}, headers=headers)
    assert answer.headers["set-cookie"].startswith("__Host-radiolith=session-1;")
    assert "Secure" in answer.headers["set-cookie"]


def test_a_wrong_password_says_so_and_gives_no_cookie(world: World) -> None:
    answer = world.client().post("/sign-in", data={"user": "anna", "password": "wrong"}, headers=OWN)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "wrong" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": HOST, "sec-fetch-site": "cross-site"},
        {"origin": HOST, "sec-fetch-site": "same-site"},
    ],
)
def test_a_form_of_another_site_signs_nobody_in_or_out(world: World, headers: dict[str, str]) -> None:
    client = world.signed_in()
    data = {"user": "anna", "password": "right"}
    assert client.post("/sign-in", data=data, headers=headers).status_code == 403
    assert client.post("/sign-out", headers=headers).status_code == 403
    assert world.people.ended == []


def test_signing_out_ends_the_session(world: World) -> None:
    client = world.signed_in()
    answer = client.post("/sign-out", headers=OWN)
    assert answer.headers["clear-site-data"] == '"cache", "storage"'
    assert answer.status_code == 303
    assert world.people.ended == ["session-1"]


def test_a_session_does_not_count_for_another_sites_page(world: World) -> None:
    answer = world.signed_in().get("/", headers={"sec-fetch-site": "cross-site"})
    assert 'name="password"' in answer.text
    assert world.query.asked == []


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/studies//evil.example", "/api/v1"])
def test_signing_in_leads_to_our_own_pages_only(world: World, target: str) -> None:
    data = {"user": "anna", "password": "right", "next": target}
    assert world.client().post("/sign-in", data=data, headers=OWN).headers["location"] == "/"


def test_a_page_sends_others_to_the_form_and_back(world: World) -> None:
    answer = world.client().get("/studies/1.2.3?page=2")
    assert answer.headers["location"] == "/?next=%2Fstudies%2F1.2.3%3Fpage%3D2"
    data = {"user": "anna", "password": "right", "next": "/studies/1.2.3?page=2"}
    assert world.client().post("/sign-in", data=data, headers=OWN).headers["location"] == "/studies/1.2.3?page=2"


def test_a_form_beyond_its_limit_is_refused(world: World) -> None:
    answer = world.client().post("/sign-in", content=b"user=" + b"a" * 5000, headers=OWN)
    assert answer.status_code == 413


# ---------------------------------------------------------------- what is shown


def test_the_list_shows_studies_with_pictures(world: World) -> None:
    world.query.rows[Level.STUDY] = [study("1.2.3"), study("1.2.4", "Yamada^Tarou=山田^太郎=やまだ^たろう")]
    answer = world.signed_in().get("/")
    assert "Müller, Jörg" in answer.text
    assert "Yamada, Tarou · 山田 太郎" in answer.text
    assert 'src="/dicom-web/studies/1.2.3/thumbnail"' in answer.text
    assert "2025-09-12" in answer.text


def test_nothing_in_a_header_becomes_markup(world: World) -> None:
    world.query.rows[Level.STUDY] = [study("1.2.3", '"><img src=x onerror=alert(1)>')]
    answer = world.signed_in().get("/", params={"name": '"><script>'})
    assert "<script" not in answer.text
    assert "<img src=x" not in answer.text


def test_every_answer_forbids_scripts_frames_and_caching(world: World) -> None:
    for path in ("/", "/studies/1.2", "/health/live", "/nowhere"):
        headers = world.signed_in().get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
    for template in (Path(config.__file__).parent / "web" / "templates").iterdir():
        assert not re.search(r"<script|\sstyle=|\son[a-z]+=|https?://", template.read_text("utf-8")), template


def test_the_search_form_becomes_matching_keys(world: World) -> None:
    asked = {"name": "müller, jör", "id": "X1", "accession": "", "modality": "ct", "from": "2025-01-02", "to": ""}
    world.signed_in().get("/", params=asked)
    query = world.query.asked[0]
    assert {match.path[0]: match.values for match in query.matches} == {
        0x00100010: ("*müller*jör*",),
        0x00100020: ("X1",),
        0x00080061: ("CT",),
        0x00080020: ("20250102-",),
    }


def test_the_list_turns_and_ends(world: World) -> None:
    world.query.rows[Level.STUDY] = [study(f"1.2.{number}") for number in range(120)]
    client = world.signed_in()
    first = client.get("/", params={"name": "x"})
    assert 'href="/?name=x&amp;page=2"' in first.text
    assert 'rel="prev"' not in first.text
    third = client.get("/?page=3")
    assert third.text.count("/thumbnail") == 20
    assert 'rel="next"' not in third.text
    assert client.get("/?page=-1").status_code == client.get("/?page=9999999").status_code == 200
    assert max(query.offset + query.limit for query in world.query.asked) <= 10_000


def test_study_series_and_image(world: World) -> None:
    world.query.rows = {
        Level.STUDY: [study("1.2.3")],
        Level.SERIES: [
            {0x0020000E: ("UI", "1.5"), 0x00080060: ("CS", "CT"), 0x00200011: ("IS", 1), 0x00201209: ("IS", 2)}
        ],
        Level.INSTANCE: [
            {0x00080018: ("UI", "1.6"), 0x00280010: ("US", 512), 0x00280011: ("US", 512), 0x00280008: ("IS", 9)},
            {0x00080018: ("UI", "1.7")},
        ],
    }
    client = world.signed_in()
    assert "/studies/1.2.3/series/1.5" in client.get("/studies/1.2.3").text
    series = client.get("/studies/1.2.3/series/1.5").text
    assert "/studies/1.2.3/series/1.5/image?at=1" in series
    assert "instances/1.7/rendered" in series, "what is no picture opens as a document"
    image = client.get("/studies/1.2.3/series/1.5/image?at=1&frame=3&window=40,400").text
    assert "/frames/3/rendered?window=40,400,linear" in image
    assert "frame=4&amp;window=40,400" in image or "frame=4&window=40,400" in image
    assert client.get("/studies/odd-UID_1.2").status_code == 200 and client.get("/studies/a%22b").status_code == 404
    assert "window=evil" not in client.get('/studies/1.2.3/series/1.5/image?window=evil"').text
    assert client.get("/studies/1.2.3/series/1.5/image?at=3").status_code == 404


def test_what_is_not_there_is_a_page_that_says_so(world: World) -> None:
    client = world.signed_in()
    assert client.get("/studies/1.2.3").status_code == 404
    assert client.get("/studies/..%2f..").status_code == 404
    world.query.failure = Damaged("segment 00ff is broken")
    broken = client.get("/")
    assert broken.status_code == 500
    assert "00ff" not in broken.text
    world.query.failure = Unavailable("The database is down.")
    assert "The database is down." in client.get("/").text


@pytest.mark.parametrize(
    ("accepted", "word"),
    [("de-AT,de;q=0.9,en;q=0.5", "Anmelden"), ("it,fr;q=0.4", "Se connecter"), ("zh", "Sign in"), (";q=x", "Sign in")],
)
def test_the_pages_speak_the_readers_language(world: World, accepted: str, word: str) -> None:
    assert word in world.client().get("/", headers={"accept-language": accepted}).text


# ---------------------------------------------------------------- monitors


def test_alive_and_ready(world: World) -> None:
    client = world.client("192.0.2.1")
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready", "level": "amber"}
    near = world.client("127.0.0.1").get("/health/ready").json()
    assert near["reasons"] == ["one copy of each object is kept"]
    world.condition.reasons = ["The disk is full."]
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200


def test_metrics_are_open_to_this_machine_and_to_a_token(world: World) -> None:
    assert "radiolith_instances 7.0" in world.client().get("/metrics").text
    far = world.client("192.0.2.1")
    assert far.get("/metrics").status_code == 401
    assert far.get("/metrics", headers={"authorization": "Bearer good"}).status_code == 200
    assert world.client().get("/metrics", headers={"x-forwarded-for": "192.0.2.1"}).status_code == 401


def test_requests_are_counted(world: World) -> None:
    metrics.share(1)
    client = world.client()
    client.get("/nowhere")
    client.get("/health/live")
    client.get("/api/v1/status", headers=BEARER)
    assert (metrics.http_requests.total("4xx"), metrics.http_requests.total("2xx")) == (1, 2)
    assert (metrics.http_seconds.count("other"), metrics.http_seconds.count("api")) == (2, 1)


@pytest.mark.parametrize(
    ("path", "route"),
    [("/api/v1/status", "api"), ("/", "pages"), ("/studies/1", "pages"), ("/sign-in", "pages"), ("/etc", "other")],
)
def test_every_request_has_a_known_kind(path: str, route: str) -> None:
    assert route_of(path) == route
    assert route in metrics.ROUTES


# ---------------------------------------------------------------- /api/v1


BEARER = {"authorization": "Bearer good"}


def test_the_api_describes_itself(world: World) -> None:
    document = world.client().get("/api/v1/openapi.json").json()
    assert {"/status", "/rejected", "/rejected/restore", "/quarantine", "/conflicts", "/versions/switch"} <= set(
        document["paths"]
    )


def test_the_api_wants_a_token_or_a_session_of_our_own_page(world: World) -> None:
    client = world.client()
    refused = client.get("/api/v1/rejected")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert client.get("/api/v1/rejected", headers={"authorization": "Bearer bad"}).status_code == 401
    assert client.get("/api/v1/rejected", headers=BEARER).json()[0]["rejected_at"] == "2023-11-14T22:13:20Z"
    inside = world.signed_in()
    assert inside.get("/api/v1/rejected").status_code == 200
    body = {"study": "1.2", "reason": "113001"}
    assert inside.post("/api/v1/rejected", json=body, headers=OWN).status_code == 403
    assert inside.post("/api/v1/rejected", json=body, headers={"x-requested-with": "x"}).status_code == 403
    own = OWN | {"x-requested-with": "pages"}
    assert inside.post("/api/v1/rejected", json=body, headers=own).json() == {"instances": 3}
    assert world.remove.calls == [("anna", "1.2", "", "", "113001")]


def test_api_failures_have_their_status(world: World) -> None:
    client = world.client()
    for place, code in (({"study": ""}, 422), ({"study": "", "instance": "1.9"}, 200), ({"study": "ABC-1_x.70"}, 200)):
        answer = client.post("/api/v1/rejected", json=place | {"reason": "113001"}, headers=BEARER)
        assert answer.status_code == code, "nothing but an instance may be named without a study"
    missing = client.post("/api/v1/rejected/restore", json={"study": "1.2"}, headers=BEARER)
    assert missing.status_code == 404
    assert missing.json()["detail"] == "nothing rejected under this UID"
    assert client.post("/api/v1/rejected/restore", json={"study": "a/b"}, headers=BEARER).status_code == 422


def test_a_question_that_does_not_fit_is_not_repeated_in_the_answer(world: World) -> None:
    """It may be no text: half a pair of surrogates cannot be written."""
    client = world.client()
    for body in (
        b'{"study": "1.2", "reason": "\\ud800"}',
        b'{"study": "\\ud800", "reason": "113001"}',
        b'{"study": 7}',
    ):
        answer = client.post("/api/v1/rejected", content=body, headers=BEARER | {"content-type": "application/json"})
        assert answer.status_code == 422, body
        assert {tuple(one) for one in answer.json()["detail"]} == {("type", "loc", "msg")}


def test_status_needs_the_right(world: World) -> None:
    assert world.client().get("/api/v1/status", headers=BEARER).json()["instances"] == 7
    assert world.signed_in().get("/api/v1/status").status_code == 200


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Müller^Jörg^^Dr.", "Müller, Jörg (Dr.)"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou · 山田 太郎"),
        ("Doe^Jane^Q", "Doe, Jane Q"),
        ("=山田^太郎", "山田 太郎"),
        ("SINGLE", "SINGLE"),
        ("", ""),
        ("^^^^^^^^", ""),
    ],
)
def test_names_as_people_write_them(value: str, shown: str) -> None:
    assert rows.person(value) == shown


def test_series_are_in_the_order_of_their_numbers() -> None:
    numbers = ["10", "", "2", "-1", "--1", "9" * 40]
    lines = [rows.SeriesLine(f"1.{at}", number, "CT", "", 1) for at, number in enumerate(numbers)]
    assert [line.number for line in sorted(lines, key=lambda line: line.order)][:3] == ["-1", "2", "10"]
