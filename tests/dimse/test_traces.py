"""What is on record of an association: its trace, and the metrics, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import pytest

from radiolith import metrics
from radiolith.archive.ports import Archive
from radiolith.dimse import services
from radiolith.dimse.association import Caller, Wanted, requests
from radiolith.dimse.commands import Command
from radiolith.dimse.measure import status_class
from radiolith.dimse.messages import message
from radiolith.dimse.pdu import encode
from radiolith.dimse.server import Node, Server, Terms
from radiolith.model import Principal, Tenant
from radiolith.trust.devices import Admission, Devices, Knock, UnknownCalled
from radiolith.trust.identity import Identities
from tests.dimse.samples import CT_IMAGE, EXPLICIT_LE, VERIFICATION

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ECHO = Command.of("C-ECHO-RQ", MessageID=7, AffectedSOPClassUID=VERIFICATION)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    metrics.share(1)
    yield
    metrics.share(1)


class OneTitle:
    """Lets in whoever calls ARCHIVE."""

    async def admit(self, knock: Knock) -> Admission:
        if knock.called != "ARCHIVE":
            raise UnknownCalled(f"'{knock.called}' is no AE title of this archive")
        return Admission(Principal(Tenant(1, b"\1" * 16, "default"), "ct1", "editor", "peer"), "ct1")


def traced(talk: Talk) -> dict[str, Any]:
    """The trace of one connection to a server."""
    told: list[dict[str, Any]] = []

    async def run() -> None:
        terms = Terms(10, 10, 65536, 60.0)
        doors = cast("tuple[Devices, Identities]", (OneTitle(), None))
        node = Node(cast(Archive, None), doors, services.offer(65536, True), terms, lambda: 1_700_000_000_000_000)
        listening = socket.create_server(("127.0.0.1", 0))
        server = Server(node, lambda trace: told.append(dict(trace)))
        await server.start(listening)
        reader, writer = await asyncio.open_connection(*listening.getsockname()[:2])
        async with asyncio.timeout(20):
            await talk(reader, writer)
            writer.close()
            await writer.wait_closed()
            await server.stop()
        listening.close()

    asyncio.run(run())
    return told[0]


def request(called: str, *wanted: Wanted) -> bytes:
    return encode(requests(wanted, Caller("CT1", called))[0])


async def pdu(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(6)
    return head + await reader.readexactly(int.from_bytes(head[2:], "big"))


def test_an_echo_is_traced_and_counted() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request("ARCHIVE", Wanted(VERIFICATION, (EXPLICIT_LE,)), Wanted(CT_IMAGE, ("1.2.3.4",))))
        assert (await pdu(reader))[0] == 2
        assert metrics.dimse_open.total("incoming") == 1
        writer.write(b"".join(message(1, ECHO, None, 65536)))
        assert (await pdu(reader))[0] == 4

    found = traced(talk)
    assert found["outcome"] == "accepted, 1 of 2 contexts refused"
    assert [(each["service"], each["result"].partition(" ")[0]) for each in found["contexts"]] == [
        ("Verification SOP Class", "acceptance"),
        ("CT Image Storage", "transfer-syntaxes-not-supported"),
    ]
    assert found["operations"] == [{"operation": "C-ECHO", "status": "0000", "count": 1}]
    assert metrics.dimse_open.total("incoming") == 0
    assert metrics.dimse_associations.total("incoming,accepted") == 1
    assert metrics.dimse_operations.total("incoming,C-ECHO,success") == 1
    assert metrics.dimse_seconds.count("incoming,C-ECHO") == 1


def test_a_rejection_is_counted_by_its_reason() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request("OTHER", Wanted(VERIFICATION, (EXPLICIT_LE,))))
        assert (await pdu(reader))[0] == 3

    assert traced(talk)["outcome"] == "rejected: 'OTHER' is no AE title of this archive"
    assert metrics.dimse_associations.total("incoming,called-AE-title-not-recognized") == 1
    assert metrics.dimse_open.total("incoming") == 0


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (bytes.fromhex("16030100c8010000c40303"), "the peer speaks TLS"),
        (b"GET / HTTP/1.1\r\n\r\n", "the peer speaks HTTP"),
    ],
)
def test_another_protocol_is_named(first: bytes, words: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        assert (await pdu(reader))[0] == 7

    found = traced(talk)
    assert words in found["end"]
    assert found["outcome"] == "no association was requested"


def test_statuses_fall_into_their_classes() -> None:
    given = {0: "success", -1: "unanswered", 0xFE00: "cancel", 0xB007: "warning", 0xA700: "failure", 0x0107: "warning"}
    assert {status: status_class(status) for status in given} == given
    assert set(given.values()) == set(metrics.DIMSE_STATUSES)
