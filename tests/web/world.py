"""A small world for the pages: people, a verb that answers from a list, a condition; everything a page is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.testclient import TestClient

from radiolith import config
from radiolith.archive.ports import Archive, Rejected
from radiolith.metrics import Asked
from radiolith.model import Failure, Level, NotAuthenticated, NotFound, Page, Principal, Query, Row, Tenant
from radiolith.web.ports import Inside
from radiolith.web.routes import routes

TENANT = Tenant(1, b"\1" * 16, "default")
READER = Principal(TENANT, "anna", "reader", "user")
ADMIN = Principal(TENANT, "root", "admin", "token")
HOST = "http://archive.example"


def study(uid: str, name: str = "Müller^Jörg") -> Row:
    return {
        0x0020000D: ("UI", uid),
        0x00100010: ("PN", name),
        0x00100020: ("LO", "DEMO-1001"),
        0x00080020: ("DA", "20250912"),
        0x00080061: ("CS", "CT\\SR"),
        0x00081030: ("LO", "<script>alert(1)</script>"),
        0x00201208: ("IS", 122),
    }


class People:
    def __init__(self) -> None:
        self.ended: list[str] = []

    async def from_bearer(self, token: str, address: str = "") -> Principal:
        if token != "good":
            raise NotAuthenticated("no such token")
        return ADMIN

    async def from_session(self, cookie: str) -> Principal:
        if cookie != "session-1" or cookie in self.ended:
            raise NotAuthenticated("no such session")
        return READER

    async def sign_in(self, name: str, password: str, address: str) -> str:
        if (name, password) != ("anna", "right"):
            raise NotAuthenticated("wrong")
        return "session-1"

    async def sign_out(self, cookie: str) -> None:
        self.ended.append(cookie)


class Searching:
    """The verb `query`, answering every level from a list and remembering what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Query] = []
        self.rows: dict[Level, list[Row]] = {}
        self.failure: Failure | None = None

    async def search(self, principal: Principal, query: Query) -> Page:
        self.asked.append(query)
        if self.failure:
            raise self.failure
        found = self.rows.get(query.level, [])
        return Page(found[query.offset : query.offset + query.limit], len(found) > query.offset + query.limit)


class Removing:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def rejected(self, principal: Principal, limit: int, after: str) -> list[Rejected]:
        return [Rejected("1.2", "1.3", "1.4", "113001", 1_700_000_000_000_000, "anna")][:limit]

    async def reject(self, principal: Principal, study: str, series: str, sop: str, *, reason: str) -> int:
        self.calls.append((principal.name, study, series, sop, reason))
        return 3

    async def restore(self, principal: Principal, study: str, series: str, sop: str) -> int:
        raise NotFound("nothing rejected under this UID")


class Fine:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    async def problems(self) -> list[str]:
        return self.reasons

    async def status(self) -> dict[str, Any]:
        reason = {"level": "amber", "text": "one copy of each object is kept"}
        return {"instances": 7, "level": "amber", "reasons": [reason]}

    async def gauges(self) -> Asked:
        return {"radiolith_instances": ("Instances held.", 7.0)}


class World:
    def __init__(self, home: Path) -> None:
        self.people, self.query, self.remove, self.condition = People(), Searching(), Removing(), Fine()
        nothing: Any = None
        search: Any = self.query
        remove: Any = self.remove
        archive = Archive(nothing, search, nothing, remove, nothing, nothing, nothing, nothing)
        self.traffic: Any = None
        settings = config.resolve(home, {}, {})
        self.inside = Inside(archive, self.people, settings, self.condition, nothing, self.traffic, nothing, nothing)
        self.app = Starlette(routes=routes(self.inside))

    def client(self, address: str = "127.0.0.1") -> TestClient:
        return TestClient(self.app, base_url=HOST, follow_redirects=False, client=(address, 5000))

    def signed_in(self) -> TestClient:
        client = self.client()
        client.cookies.set("radiolith", "session-1")
        return client
