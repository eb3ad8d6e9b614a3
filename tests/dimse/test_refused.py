"""When an object is answered, and with what: the archive is told to wait, to fail and to be full."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from radiolith.dimse.pdu import AssociateAccept
from radiolith.model import Damaged, LimitExceeded, NoSpace, NotAllowed, Receipt, Unavailable
from tests.archive.objects import Made
from tests.dimse.served import Served, served
from tests.dimse.speaker import RELEASE, Speaker, echo, store


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("refused") / "home") as found:
        yield found


def made(sop: str, size: int = 100) -> bytes:
    return Made("2.25.1", "2.25.2", sop, private=bytes(size)).dataset()


def test_an_object_is_answered_once_it_is_durable(archive: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch it is in stands still: no answer, though the association is heard, and a release waits for it too."""
    gate = asyncio.Event()
    ingest = archive.graph.archive.ingest
    begin = ingest.begin

    def slow(*given: object, **named: object) -> object:
        intake = begin(*given, **named)  # type: ignore[arg-type]
        finish = intake.finish

        async def finished() -> asyncio.Future[Receipt]:
            future = await finish()

            async def later() -> Receipt:
                await gate.wait()
                return await future

            return asyncio.ensure_future(later())

        intake.finish = finished  # type: ignore[method-assign]
        return intake

    monkeypatch.setattr(ingest, "begin", slow)
    with Speaker(archive.port) as peer:
        assert isinstance(peer.associate(), AssociateAccept)
        peer.say(store(made("2.25.40"), "2.25.40", 1))
        for number in range(2, 12):
            peer.say(echo(number))
            assert peer.answer().message_id == number, "the object was answered before it was durable"
        peer.say(RELEASE)
        archive.loop.call_soon_threadsafe(gate.set)
        answer = peer.answer()
        assert (answer.message_id, answer.status) == (1, 0)
        assert peer.hear()[0] == 6, "released after the answer"
    archive.idle()
    assert "2.25.40" in archive.instances()


@pytest.mark.parametrize("where", ["begin", "write", "finish", "durable"])
@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (NoSpace("the disk is full"), 0xA700),
        (Unavailable("the database is gone"), 0xA700),
        (NotAllowed("not yours"), 0x0124),
        (LimitExceeded("too large"), 0xA700),
        (Damaged("a secret detail"), 0xA700),
    ],
)
def test_a_failure_wherever_it_happens_is_a_status(
    archive: Served, monkeypatch: pytest.MonkeyPatch, where: str, failure: Exception, status: int
) -> None:
    """Of several pieces, so that the rest of a refused object is read and passed over; the next one is stored."""
    ingest = archive.graph.archive.ingest
    begin = ingest.begin

    async def failing(*_: object) -> object:
        if where != "durable":
            raise failure
        future = asyncio.get_running_loop().create_future()
        future.set_exception(failure)
        return future

    def once(*given: object, **named: object) -> object:
        monkeypatch.setattr(ingest, "begin", begin)
        if where == "begin":
            raise failure
        intake = begin(*given, **named)  # type: ignore[arg-type]
        setattr(intake, "write" if where == "write" else "finish", failing)
        return intake

    monkeypatch.setattr(ingest, "begin", once)
    first, second = f"2.25.5{status}", f"2.25.6{status}"
    with Speaker(archive.port) as peer:
        assert isinstance(peer.associate(), AssociateAccept)
        peer.say(store(made(first, 9000), first, 1, size=1000) + store(made(second), second, 2))
        answers = {answer.message_id: answer for answer in (peer.answer(), peer.answer())}
        assert answers[1].status == status and answers[2].status == 0
        assert "secret" not in answers[1].text("ErrorComment")
        peer.release()
    assert first not in archive.instances()
