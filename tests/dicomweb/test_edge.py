"""What holds for every resource: who may, which headers, what a failure says; and the small services."""

from __future__ import annotations

import random
import re
from typing import Any
from xml.etree import ElementTree

import orjson
import pytest

from radiolith.dicomweb import commitment
from radiolith.dicomweb.call import service_url
from radiolith.dicomweb.routes import ROUTES, Edge, Options
from radiolith.model import Damaged, Held, Page, Principal, Unavailable
from tests import campaign
from tests.dicomweb.driver import Reply, ask
from tests.dicomweb.fake import FakeArchive, FakeIdentities
from tests.dicomweb.mutations import mutated
from tests.dicomweb.objects import STOW, ct, multipart, stow_body

SECURITY = ("x-content-type-options", "x-frame-options", "content-security-policy", "referrer-policy", "cache-control")
INSTANCE = "/studies/1.2/series/1.2.3/instances/1.2.3.1"


def target(pattern: str) -> str:
    for name, value in {
        "{study}": "1.2", "{series}": "1.2.3", "{instance}": "1.2.3.1", "{frames}": "1", "{path*}": "00091010",
        "{transaction}": "1.7",
    }.items():  # fmt: skip
        pattern = pattern.replace(name, value)
    return "/" + re.sub(r"\{\w+:([\w-]+)\}", r"\1", pattern)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.pattern}")
async def test_every_route(edge: Edge, archive: FakeArchive, slices: list[Held], route: Any) -> None:
    """Nobody gets anything without a credential; security headers are on every answer, refusals too."""
    refused = await ask(edge, route.method, target(route.pattern), token=None)
    assert refused.status == 401 and refused.headers["www-authenticate"].startswith("Bearer")
    wrong = await ask(edge, route.method, target(route.pattern), token="nobody")
    granted = await ask(edge, route.method, target(route.pattern))
    absent = await ask(edge, "PATCH", target(route.pattern))
    described = await ask(edge, "OPTIONS", target(route.pattern))
    assert wrong.status == 401 and absent.status == 405 and route.method in absent.headers["allow"]
    assert described.status == 200 and route.method in described.headers["allow"]
    assert granted.status < 500
    for reply in (refused, wrong, granted, absent, described):
        assert all(name in reply.headers for name in SECURITY)
        assert "private" in reply.headers["cache-control"]
        assert not any(name.startswith("access-control") for name in reply.headers)


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"cookie": "radiolith=session"}, 204),
        ("GET", {"cookie": "a=b; __Host-radiolith=session", "sec-fetch-site": "same-origin"}, 204),
        ("GET", {"cookie": "radiolith=session", "sec-fetch-site": "none"}, 204),
        ("GET", {"cookie": "radiolith=session", "sec-fetch-site": "cross-site"}, 403),
        ("GET", {"cookie": "radiolith=session", "sec-fetch-site": "same-site"}, 403),
        ("GET", {"cookie": "radiolith=old"}, 401),
        ("GET", {"cookie": "other=session"}, 401),
        ("GET", {"authorization": "Basic Zm9v"}, 401),
        ("GET", {"authorization": "Bearer "}, 401),
        ("GET", {"authorization": "Bearer \xff"}, 401),
        ("GET", {"authorization": "Bearer " + "x" * 5000}, 400),
        ("POST", {"cookie": "radiolith=session"}, 403),
        ("POST", {"cookie": "radiolith=session", "origin": "http://pacs.example"}, 403),
        ("POST", {"cookie": "radiolith=session", "origin": "http://evil.example", "x-requested-with": "x"}, 403),
        ("POST", {"cookie": "radiolith=session", "origin": "null", "x-requested-with": "x"}, 403),
        ("POST", {"cookie": "radiolith=session", "sec-fetch-site": "cross-site", "origin": "http://pacs.example",
                  "x-requested-with": "x"}, 403),
        ("POST", {"cookie": "radiolith=session", "sec-fetch-site": "same-origin", "x-requested-with": "x"}, 403),
        ("POST", {"cookie": "radiolith=session", "origin": "http://pacs.example", "x-requested-with": "x"}, 200),
    ],
)  # fmt: skip
async def test_credentials(edge: Edge, method: str, headers: dict[str, str], status: int) -> None:
    body = stow_body([ct()]) if method == "POST" else b""
    extra = STOW if method == "POST" else {}
    reply = await ask(edge, method, "/studies", headers={**extra, **headers}, body=body, token=None)
    assert reply.status == status


async def test_cors_for_pages_on_the_list(archive: FakeArchive) -> None:
    options = Options(origins=frozenset({"https://viewer.example"}))
    edge = Edge(archive, FakeIdentities(), options=options)  # type: ignore[arg-type]
    asked = {"origin": "https://viewer.example", "access-control-request-method": "GET"}
    preflight = await ask(edge, "OPTIONS", "/studies", headers=asked, token=None)
    assert preflight.status == 204 and preflight.headers["access-control-allow-origin"] == "https://viewer.example"
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert "GET" in preflight.headers["access-control-allow-methods"] and "access-control-max-age" in preflight.headers
    real = await ask(edge, "GET", "/studies", headers={"origin": "https://viewer.example"})
    assert real.headers["access-control-allow-origin"] == "https://viewer.example"
    assert real.headers["access-control-allow-credentials"] == "true"
    assert {"etag", "link", "warning"} <= set(real.headers["access-control-expose-headers"].split(", "))
    assert "access-control-allow-methods" not in real.headers
    refused = await ask(edge, "GET", "/studies", headers={"origin": "https://viewer.example"}, token="bad")
    assert refused.status == 401 and refused.headers["access-control-allow-origin"] == "https://viewer.example"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://viewer.example.evil", "http://viewer.example", "null", "*", ""]
)
async def test_cors_for_all_other_pages(archive: FakeArchive, origin: str) -> None:
    listed = Edge(archive, FakeIdentities(), options=Options(origins=frozenset({"https://viewer.example"})))  # type: ignore[arg-type]
    asked = {"origin": origin, "access-control-request-method": "GET"}
    for edge in (listed, Edge(archive, FakeIdentities())):  # type: ignore[arg-type]
        other = await ask(edge, "OPTIONS", "/studies", headers=asked, token=None)
        assert other.status == 401 and not [name for name in other.headers if name.startswith("access-control")]
        real = await ask(edge, "GET", "/studies", headers={"origin": origin})
        assert (
            not [name for name in real.headers if name.startswith("access-control")]
            and "Origin" in real.headers["vary"]
        )


async def test_our_session_is_not_for_pages_on_the_list(archive: FakeArchive) -> None:
    edge = Edge(archive, FakeIdentities(), options=Options(origins=frozenset({"https://viewer.example"})))  # type: ignore[arg-type]
    headers = {"origin": "https://viewer.example", "cookie": "radiolith=session", "sec-fetch-site": "same-site"}
    assert (await ask(edge, "GET", "/studies", headers=headers, token=None)).status == 403


async def test_failures_say_enough_and_no_more(edge: Edge, archive: FakeArchive, caplog: Any) -> None:
    async def broken(*_: object) -> Page:
        raise RuntimeError("secret: /home/x/index.db")

    archive.search = broken  # type: ignore[method-assign, assignment]
    reply = await ask(edge, "GET", "/studies")
    assert reply.status == 500 and b"secret" not in reply.body and b"Traceback" not in reply.body
    assert reply.json["correlation"] in caplog.text and "secret" in caplog.text

    async def damaged(*_: object) -> Page:
        raise Damaged("chunk 3 of /var/lib/x")

    archive.search = damaged  # type: ignore[method-assign, assignment]
    reply = await ask(edge, "GET", "/studies")
    assert reply.status == 500 and b"/var" not in reply.body

    async def down(*_: object) -> Page:
        raise Unavailable("the database does not answer", 9)

    archive.search = down  # type: ignore[method-assign, assignment]
    reply = await ask(edge, "GET", "/studies")
    assert reply.status == 503 and reply.headers["retry-after"] == "9"
    assert reply.json["title"] == "Service Unavailable"


async def test_a_strange_host_is_not_repeated(edge: Edge, archive: FakeArchive) -> None:
    archive.pages = [Page([{0x0020000D: ("UI", "1.2")}], False)]
    reply = await ask(edge, "GET", "/studies", headers={"host": 'evil"><script>'})
    assert reply.json[0]["00081190"]["Value"] == ["/dicom-web/studies/1.2"]


@pytest.mark.parametrize(
    ("host", "server", "expected"),
    [("10.0.0.1", ("10.0.0.1", 8050), "http://10.0.0.1:8050/x"), ("localhost", ("127.0.0.1", 81), "http://localhost:81/x"),
     ("10.0.0.1:9", ("10.0.0.1", 8050), "http://10.0.0.1:9/x"), ("pacs", ("10.0.0.1", 8050), "http://pacs/x"),
     ("10.0.0.1", ("10.0.0.1", 80), "http://10.0.0.1/x"), ("10.0.0.1", None, "http://10.0.0.1/x"), ("", None, "/x"),
     ("[::1]:80", None, "http://[::1]:80/x")],
)  # fmt: skip
def test_a_host_without_its_port(host: str, server: tuple[str, int] | None, expected: str) -> None:
    scope = {"type": "http", "scheme": "http", "root_path": "/x", "server": server}
    assert service_url(scope, {b"host": host.encode()}) == expected
    assert service_url(scope, {b"host": host.encode()}, "https://fixed/y/") == "https://fixed/y"


# ---------------------------------------------------------------- reject and restore


@pytest.mark.parametrize(
    ("where", "expected"),
    [("/studies/1.2", ("1.2", "", "")), ("/studies/1.2/series/1.2.3", ("1.2", "1.2.3", "")),
     (INSTANCE, ("1.2", "1.2.3", "1.2.3.1"))],
)  # fmt: skip
async def test_delete_rejects(
    edge: Edge, archive: FakeArchive, slices: list[Held], where: str, expected: tuple[str, str, str]
) -> None:
    reply = await ask(edge, "DELETE", where)
    assert reply.status == 200 and reply.json["reason"] == "113001"
    await ask(edge, "DELETE", where + "?reason=113039")
    assert archive.rejected == [(*expected, "113001"), (*expected, "113039")]
    assert (await ask(edge, "DELETE", where + "?reason=999")).status == 400
    assert (await ask(edge, "DELETE", where + "?permanent=true")).status == 400
    assert (await ask(edge, "POST", where + "/restore")).json == {"restored": 3}


async def test_delete_what_is_not_there(edge: Edge) -> None:
    assert (await ask(edge, "DELETE", "/studies/9")).status == 404


# ---------------------------------------------------------------- storage commitment


def reference(sop: str, sop_class: str = "1.2.840.10008.5.1.4.1.1.2") -> dict[str, Any]:
    return {"00081150": {"vr": "UI", "Value": [sop_class]}, "00081155": {"vr": "UI", "Value": [sop]}}


def sequence(tag: str, *items: dict[str, Any]) -> dict[str, Any]:
    return {tag: {"vr": "SQ", "Value": list(items)}}


async def commit(edge: Edge, document: object, transaction: str = "1.7.1") -> Reply:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    headers = {"content-type": "application/dicom+json"}
    return await ask(edge, "POST", f"/commitment-requests/{transaction}", headers=headers, body=body)


async def test_commitment(edge: Edge, slices: list[Held]) -> None:
    reply = await commit(edge, sequence("00081199", reference("1.2.3.1"), reference("9.9")))
    assert reply.status == 200 and reply.headers["content-type"] == "application/dicom+json"
    assert reply.json["00081195"]["Value"] == ["1.7.1"]
    assert reply.json["00081199"]["Value"] == [reference("1.2.3.1")]
    assert reply.json["00081198"]["Value"][0]["00081197"] == {"vr": "US", "Value": [0x0112]}
    assert (await ask(edge, "GET", "/commitment-requests/1.7.1")).json == reply.json
    assert (await commit(edge, sequence("00081199", reference("1.2.3.1")))).status == 409
    assert (await ask(edge, "GET", "/commitment-requests/1.8")).status == 404


async def test_commitment_of_a_study_and_of_a_series(edge: Edge, slices: list[Held]) -> None:
    study = {"0020000D": {"vr": "UI", "Value": ["1.2"]}}
    reply = await commit(edge, sequence("00081110", study))
    assert len(reply.json["00081199"]["Value"]) == 3
    series = {**study, **sequence("00081115", {"0020000E": {"vr": "UI", "Value": ["1.2.3"]}})}
    assert len((await commit(edge, sequence("00081110", series), "1.7.2")).json["00081199"]["Value"]) == 3
    listed = {
        "00081150": reference("")["00081150"],
        **sequence("0008114A", {"00081155": reference("1.2.3.2")["00081155"]}),
    }
    one = {**study, **sequence("00081115", sequence("00081112", listed))}
    assert (await commit(edge, sequence("00081110", one), "1.7.3")).json["00081199"]["Value"] == [reference("1.2.3.2")]


async def test_a_short_commitment_request_cannot_name_a_study_without_end(
    edge: Edge, archive: FakeArchive, slices: list[Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    items = archive.items

    async def counted(principal: Principal, study: str, series: str = "") -> list[tuple[str, str]]:
        nonlocal looked
        looked += 1
        return await items(principal, study, series)

    monkeypatch.setattr(archive, "items", counted)
    monkeypatch.setattr(commitment, "ITEMS_MAX", 10)
    study = {"0020000D": {"vr": "UI", "Value": ["1.2"]}}
    assert (await commit(edge, sequence("00081110", *[study] * 1000))).status == 413
    assert looked == 4 and not archive.commitments


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[]", b"[1]", b'"x"', b"{}", {"00081199": 1}, {"00081199": {"Value": [1]}},
     {"00081199": {"Value": [{}]}}, sequence("00081199", {"00081150": {"Value": [1]}}), sequence("00081110", {}),
     sequence("00081110", {"0020000D": 7})],
)  # fmt: skip
async def test_commitment_requests_that_are_none(edge: Edge, document: object) -> None:
    assert (await commit(edge, document)).status == 400


async def test_commitment_takes_json_only(edge: Edge) -> None:
    reply = await ask(edge, "POST", "/commitment-requests/1", headers={"content-type": "text/plain"}, body=b"{}")
    assert reply.status == 415
    long = {"content-type": "application/json", "content-length": str(10**12)}
    assert (await ask(edge, "POST", "/commitment-requests/1", headers=long, body=b"{}")).status == 413


# ---------------------------------------------------------------- capabilities


async def test_capabilities(edge: Edge) -> None:
    plain = await ask(edge, "GET", "/capabilities")
    assert len(plain.json["resources"]) == len(ROUTES)
    wadl = await ask(edge, "OPTIONS", "/", headers={"accept": "application/vnd.sun.wadl+xml"})
    root = ElementTree.fromstring(wadl.body)
    space = "{http://wadl.dev.java.net/2009/02}"
    resources = root.findall(f"{space}resources/{space}resource")
    assert {r.get("path") for r in resources} >= {"studies", "rejected/studies", "wado"}
    assert sum(len(r.findall(f"{space}method")) for r in resources) == len(ROUTES)
    api = await ask(edge, "GET", "/", headers={"accept": "application/vnd.oai.openapi+json"})
    assert api.json["openapi"] == "3.1.0" and "/studies/{study}/metadata" in api.json["paths"]
    one = await ask(edge, "OPTIONS", "/studies/1.2")
    assert one.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, POST"
    assert {r["method"] for r in one.json["resources"]} == {"GET", "POST", "DELETE"}
    assert (await ask(edge, "GET", "/", headers={"accept": "image/png"})).status == 406


# ---------------------------------------------------------------- hostile input


TYPES = [
    STOW["content-type"], "multipart/related; boundary=b0",
    'multipart/related; type="application/dicom+json"; boundary=b0',
    'multipart/related; type="application/dicom+xml"; boundary=b0', "application/dicom", "application/zip",
    "multipart/related; type=application/dicom; boundary=zz", "multipart/related;;boundary=b0", "", "\xff", "a/b",
]  # fmt: skip


async def test_hostile_bodies(edge: Edge, archive: FakeArchive) -> None:
    """Only clear answers, every intake finished or given up, and the next good request works."""
    rng = random.Random(11)
    metadata = multipart([({"Content-Type": "application/dicom+json"}, b'[{"00080018":{"vr":"UI","Value":["1.2"]}}]')])
    goods = [stow_body([ct(sop=f"1.2.3.{n}") for n in range(3)]), metadata, ct()]
    statuses: dict[int, int] = {}
    for _ in range(campaign.count("hostile multipart bodies", 1000, 100_000)):
        headers = {"content-type": rng.choice(TYPES[:1] * 12 + TYPES)}
        if rng.random() < 0.1:
            headers["content-length"] = rng.choice(["-1", "99999999999999999999", "x", "0"])
        if rng.random() < 0.05:
            headers["accept"] = rng.choice(["text/html", ";;", "application/dicom+xml"])
        where = rng.choice(["/studies", "/studies", "/studies/1.2"])
        reply = await ask(edge, "POST", where, headers=headers, body=mutated(rng, rng.choice(goods[:1] * 3 + goods)))
        assert reply.status in (200, 202, 400, 406, 409, 413, 415), (reply.status, reply.body)
        statuses[reply.status] = statuses.get(reply.status, 0) + 1
    print("hostile bodies by status:", dict(sorted(statuses.items())))
    assert statuses[400] > 300
    good = await ask(edge, "POST", "/studies", headers=STOW, body=stow_body([ct(sop="1.2.3.99")]))
    assert good.status in (200, 202)


async def test_hostile_headers_and_queries(edge: Edge, slices: list[Held]) -> None:
    rng = random.Random(5)
    words = ["studies", "1.2", "series", "1.2.3", "instances", "1.2.3.1", "frames", "1", "metadata", "rendered", "..",
             "%2e%2e", "bulkdata", "%00", "wado", "%ff", "1,2", "thumbnail", "-1", "C:%5Cx", "rejected"]  # fmt: skip
    values = ["*/*", "a/b;q=9", "bytes=0-", "bytes=" + "0-1," * 9, '"', "\xe9", "x" * 9000, "gzip;q=", "image/*",
              'multipart/related; type="', "W/\"x\"", "0", "application/dicom;transfer-syntax=*"]  # fmt: skip
    keys = [
        "limit",
        "offset",
        "includefield",
        "PatientName",
        "window",
        "viewport",
        "quality",
        "accept",
        "fuzzymatching",
    ]
    for _ in range(campaign.count("hostile request lines and headers", 1000, 50_000)):
        path = "/" + "/".join(rng.choices(words, k=rng.randrange(9)))
        query = "&".join(f"{rng.choice(keys)}={rng.choice(words)}" for _ in range(rng.randrange(4)))
        names = rng.sample(["accept", "range", "if-range", "if-none-match", "accept-encoding", "accept-charset"], 3)
        headers = {name: rng.choice(values) for name in names}
        reply = await ask(edge, rng.choice(["GET", "HEAD", "OPTIONS", "GET"]), f"{path}?{query}", headers=headers)
        assert reply.status in (200, 204, 206, 304, 400, 404, 405, 406, 413, 416), (path, query, headers, reply.body)
