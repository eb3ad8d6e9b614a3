"""/api/v1/changes and /api/v1/webhooks over a real server: long poll, server-sent events, clients that go or stop reading."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from radiolith import httpnode
from radiolith.app import Graph
from radiolith.archive.happenings import KINDS
from radiolith.index.changes import ChangeKind, record
from radiolith.web import changes
from tests.archive.homes import opened, principal, store
from tests.archive.objects import numbered


@dataclass
class Served:
    graph: Graph
    port: int
    token: str
    reader: str
    server: uvicorn.Server

    def happen(self, kind: ChangeKind = ChangeKind.STORED, count: int = 1) -> None:
        with self.graph.database.write() as tx:
            record(tx, [(principal(self.graph).tenant.id, kind, 1, 1, 1_800_000_000_000_000)] * count)

    async def send(self, path: str, token: str = "", **more: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        method, _, path = path.rpartition(" ")
        body = more.pop("body", "")
        headers = {
            "host": "x",
            "authorization": f"Bearer {token or self.reader}",
            "content-length": str(len(body)),
            **more,
        }
        lines = [
            f"{method or 'GET'} /api/v1/{path} HTTP/1.1",
            *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        return reader, writer

    async def ask(self, path: str, token: str = "", **more: str) -> tuple[int, Any]:
        reader, writer = await self.send(path, token, connection="close", **more)
        async with asyncio.timeout(60):
            answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body) if body else None

    @property
    def waiting(self) -> int:
        return self.graph.traffic.follow._own.total()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with _served(tmp_path / "home") as found:
        yield found


@asynccontextmanager
async def _served(home: Path) -> AsyncIterator[Served]:
    class Quiet(uvicorn.Server):
        @contextmanager
        def capture_signals(self):
            yield

    async with opened(home) as graph:
        who = principal(graph)
        tokens = [await graph.accounts.add_token(who, role, role) for role in ("admin", "reader")]
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = Quiet(httpnode._config(httpnode.Site(graph), 100))
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        yield Served(graph, listener.getsockname()[1], *tokens, server)
        graph.traffic.follow.end()
        server.should_exit = True
        await running


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, str]]:
    """What an EventSource would see, comments left out (WHATWG HTML 9.2.6)."""
    await reader.readuntil(b"\r\n\r\n")
    fields: dict[str, str] = {}
    async with asyncio.timeout(60):
        while line := await reader.readline():
            text = line.decode().rstrip("\r\n")
            if not text and fields:
                yield fields
                fields = {}
            name, colon, value = text.partition(": ")
            if colon and name in ("id", "event", "data", "retry"):  # chunk sizes are none of these
                fields[name] = value


async def test_what_was_stored_can_be_read_from_the_beginning(served: Served) -> None:
    study, series, sop, data = numbered(1, 1)
    await store(served.graph, data)
    status, answer = await served.ask("changes?kinds=instance.stored")
    assert status == 200 and not answer["more"] and not answer["restarted"]
    (event,) = answer["events"]
    assert (event["kind"], event["study"], event["series"], event["instance"]) == (
        "instance.stored",
        study,
        series,
        sop,
    )
    assert answer["after"] == event["cursor"] and answer["epoch"] in answer["after"]
    status, answer = await served.ask(f"changes?after={event['cursor']}")
    assert answer["events"] == []


async def test_wrong_questions(served: Served) -> None:
    for query in ("after=x", "kinds=x"):
        for accept in ("application/json", "text/event-stream"):
            assert (await served.ask(f"changes?{query}", accept=accept))[0] == 400, query
    for query in ("limit=0", "limit=1001", "wait=31", "wait=nan"):
        assert (await served.ask(f"changes?{query}"))[0] == 422, query


async def test_nobody_follows_without_a_token_or_the_right(served: Served) -> None:
    assert (await served.ask("changes", "nonsense"))[0] == 401
    writer = await served.graph.accounts.add_token(principal(served.graph), "gate", "writer")
    for accept in ("application/json", "text/event-stream"):
        assert (await served.ask("changes", writer, accept=accept))[0] == 403


async def test_a_long_poll_answers_when_it_happens(served: Served) -> None:
    asked = asyncio.ensure_future(served.ask("changes?after=latest&wait=30"))
    await until(lambda: served.waiting == 1)
    served.happen(ChangeKind.QUARANTINED)
    served.happen(ChangeKind.COMPLETE)
    status, answer = await asked
    assert status == 200 and [event["kind"] for event in answer["events"]] == ["study.complete"]


async def test_who_hangs_up_while_waiting_gives_his_place_back(served: Served) -> None:
    _, writer = await served.send("changes?after=latest&wait=30")
    await until(lambda: served.waiting == 1)
    writer.transport.abort()
    await until(lambda: served.waiting == 0)


async def test_a_stream_gives_each_event_its_cursor_and_goes_on_from_the_last(served: Served) -> None:
    served.happen(count=3)
    reader, writer = await served.send("changes", accept="text/event-stream")
    stream = frames(reader)
    assert await anext(stream) == {"retry": str(changes.RETRY)}
    told = [await anext(stream) for _ in range(3)]
    assert all(json.loads(one["data"])["cursor"] == one["id"] and one["event"] == "instance.stored" for one in told)
    assert await anext(stream) == {"id": told[-1]["id"]}, "the sign of life moves the place where a client goes on"
    served.happen(ChangeKind.COMPLETE)
    assert (await anext(stream))["event"] == "study.complete"
    writer.transport.abort()
    await until(lambda: served.waiting == 0)

    reader, writer = await served.send("changes?after=latest", accept="text/event-stream", last_event_id=told[0]["id"])
    stream = frames(reader)
    await anext(stream)
    assert [(await anext(stream))["id"] for _ in range(2)] == [told[1]["id"], told[2]["id"]]
    writer.transport.abort()


async def test_a_stream_says_when_the_feed_begins_again(served: Served) -> None:
    served.happen()
    reader, writer = await served.send("changes", accept="text/event-stream", last_event_id=f"{'ab' * 8}.0.7")
    stream = frames(reader)
    await anext(stream)
    assert (await anext(stream))["event"] == "restarted"
    assert (await anext(stream))["event"] == "instance.stored"
    writer.transport.abort()


async def test_a_stream_ends_when_the_token_is_revoked(served: Served) -> None:
    reader, writer = await served.send("changes?after=latest", accept="text/event-stream", connection="close")
    stream = frames(reader)
    await anext(stream)
    await served.graph.accounts.revoke_token(principal(served.graph), "reader")
    served.graph.identities._known.clear()  # what is remembered for less than a second
    served.happen()
    assert [one async for one in stream if "event" in one] == []
    await until(lambda: served.waiting == 0)
    writer.close()


async def test_a_client_that_does_not_read_is_hung_up_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes.EventStream.__init__, "__defaults__", (0.2,))
    served.happen(count=60_000)
    slow = socket.create_connection(("127.0.0.1", served.port))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = f"GET /api/v1/changes?limit=1000 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {served.reader}\r\n"
    slow.sendall(f"{head}accept: text/event-stream\r\n\r\n".encode())
    await until(lambda: served.waiting == 1)
    await until(lambda: served.waiting == 0)
    await until(lambda: not served.server.server_state.connections)
    slow.close()
    assert (await served.ask("changes?limit=1"))[0] == 200


async def test_webhooks_are_made_listed_and_removed_by_administrators(served: Served) -> None:
    body = json.dumps({"name": "ris", "url": "https://ris.example/hook", "kinds": ["study.complete"]})
    post: dict[str, str] = {"content_type": "application/json", "body": body}
    assert (await served.ask("POST webhooks", **post))[0] == 403
    status, made = await served.ask("POST webhooks", served.token, **post)
    assert status == 201 and made["secret"].startswith("whsec_")
    assert (await served.ask("POST webhooks", served.token, **post))[0] == 409
    status, listed = await served.ask("webhooks", served.token)
    assert status == 200 and made["secret"] not in json.dumps(listed)
    assert [(one["name"], one["kinds"], one["given_up"]) for one in listed] == [("ris", ["study.complete"], 0)]
    assert await served.ask("webhooks/ris/deliveries", served.token) == (200, [])
    assert await served.ask("POST webhooks/ris/deliveries/again", served.token) == (200, {"deliveries": 0})
    assert (await served.ask("POST webhooks/ris/deliveries/7/again", served.token))[0] == 404
    assert (await served.ask("DELETE webhooks/ris", served.token))[0] == 204
    assert (await served.ask("DELETE webhooks/ris", served.token))[0] == 404
    assert (await served.ask("webhooks/ris/deliveries", served.token))[0] == 404


WRONG: list[dict[str, Any]] = [
    {"url": "http://ris.example/"}, {"url": "https://127.0.0.1/"}, {"url": "https://[fe80::1]/"}, {"url": "ftp://x/"},
    {"url": "https://a:b@ris.example/"}, {"url": "https://ris.example/\r\nx: y"}, {"kinds": ["nonsense"]}, {"role": "writer"},
    {"secret": "short"}, {"name": " x"},
]  # fmt: skip


async def test_webhooks_that_must_not_be(served: Served) -> None:
    for change in WRONG:
        body = json.dumps({"name": "ris", "url": "https://ris.example/hook", **change})
        status, _ = await served.ask("POST webhooks", served.token, content_type="application/json", body=body)
        assert status in (400, 403), change
    assert await served.ask("webhooks", served.token) == (200, [])


def test_every_event_is_documented(project: Path) -> None:
    text = (project / "docs" / "changes.md").read_text("utf-8")
    assert [name for name in KINDS.values() if f"`{name}`" not in text] == []


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
