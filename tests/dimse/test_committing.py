"""Storage commitment as SCP, with pynetdicom as the peer: on the association of the request, on one of our own, across a
restart, and what is refused."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance  # type: ignore

from radiolith.dimse import committing
from radiolith.dimse.reporting import DimseReporting
from radiolith.index import peer_reports
from radiolith.index.peer_reports import State
from radiolith.jobs.reports import GIVE_UP, Reports
from radiolith.model import NotFound, Unavailable
from radiolith.trust.certificates import secured
from tests.archive.homes import opened, principal, store
from tests.archive.objects import numbered
from tests.dimse.served import AET, Served, served

CT = "1.2.840.10008.5.1.4.1.1.2"
PUSH: Any = StorageCommitmentPushModel
INSTANCE: Any = StorageCommitmentPushModelInstance
DAY = 86_400_000_000


def request(*instances: tuple[str, str], uid: str = "") -> Dataset:
    asked = Dataset()
    asked.TransactionUID = uid or generate_uid()
    asked.ReferencedSOPSequence = []
    for sop_class, sop in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop
        asked.ReferencedSOPSequence.append(item)
    return asked


class Reported:
    """What the peer was told: (event type, transaction, kept, failed with reason); `status` is what it answers."""

    def __init__(self) -> None:
        self.told: queue.Queue[tuple[int, str, list[str], dict[str, int]]] = queue.Queue()
        self.status = 0

    def __call__(self, event: evt.Event) -> tuple[int, None]:
        info = event.event_information
        kept = [str(item.ReferencedSOPInstanceUID) for item in info.get("ReferencedSOPSequence", [])]
        failed = {
            str(one.ReferencedSOPInstanceUID): int(one.FailureReason) for one in info.get("FailedSOPSequence", [])
        }
        self.told.put((int(event.request.EventTypeID), str(info.TransactionUID), kept, failed))
        return self.status, None

    def next(self) -> tuple[int, str, list[str], dict[str, int]]:
        return self.told.get(timeout=10)


@contextmanager
def associated(found: Served, reported: Reported, aet: str = "CT1") -> Iterator[Any]:
    ae = AE(ae_title=aet)
    ae.add_requested_context(PUSH)
    handlers = [(evt.EVT_N_EVENT_REPORT, reported)]
    association = ae.associate("127.0.0.1", found.port, ae_title=AET, evt_handlers=handlers)  # type: ignore[arg-type]
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


@contextmanager
def listening(reported: Reported, aet: str = "CT1", *, roles: bool = True) -> Iterator[int]:
    """The peer as SCU of storage commitment that takes associations from the SCP."""
    ae = AE(ae_title=aet)
    given: dict[str, bool] = {"scu_role": False, "scp_role": True} if roles else {}
    ae.add_supported_context(PUSH, **given)  # type: ignore[arg-type]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reported)])
    assert server is not None
    try:
        yield server.socket.getsockname()[1]  # type: ignore[union-attr]
    finally:
        server.shutdown()


def ask(association: Any, asked: Dataset) -> int:
    status, _ = association.send_n_action(asked, 1, PUSH, INSTANCE)
    return int(status.Status)


def stored(found: Served) -> tuple[str, str]:
    data = numbered(5, 1, large=0)[3]
    receipt = found.ask(lambda: store(found.graph, data))
    assert receipt.identity is not None
    return receipt.sop_class, receipt.identity.sop


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


class Clock:
    def __init__(self, found: Any) -> None:
        self.ahead, self._now = 0, found

    def __call__(self) -> int:
        return self._now() + self.ahead


def reports(graph: Any, clock: Clock | None = None) -> Reports:
    from radiolith.storage.blobs import microseconds

    reporting = DimseReporting(lambda tenant: AET, lambda peer: secured())
    return Reports(graph.database, reporting, clock or Clock(microseconds), lambda: 0.0)


def waiting(graph: Any) -> list[peer_reports.PeerReport]:
    with graph.database.read() as read:
        return peer_reports.listed(read, 1)


def add_peer(graph: Any, port: int, aet: str = "CT1") -> Any:
    about = {"aet": aet, "address": "127.0.0.1", "port": port, "tls": False}
    return graph.accounts.add_peer(principal(graph), aet.lower(), about)


def test_the_report_comes_on_the_association_of_the_request(home: Path) -> None:
    reported = Reported()
    with served(home) as found:
        sop_class, sop = stored(found)
        with associated(found, reported) as association:
            asked = request((sop_class, sop), (CT, "1.2.3.99"), ("1.2.840.10008.5.1.4.1.1.4", sop))
            assert ask(association, asked) == 0
            event, transaction, kept, failed = reported.next()
            assert (event, transaction, kept) == (2, str(asked.TransactionUID), [sop])
            assert failed == {"1.2.3.99": 0x0112, sop: 0x0119}
            again = request((sop_class, sop))
            assert ask(association, again) == 0
            assert reported.next() == (1, str(again.TransactionUID), [sop], {})
            assert ask(association, again) == 0  # the result was lost there: it is told again
            assert reported.next()[1] == str(again.TransactionUID)
        found.until(lambda: not waiting(found.graph), "the reports to be noted")


def test_what_is_refused(home: Path) -> None:
    reported = Reported()
    with served(home) as found, associated(found, reported) as association:
        asked = request((CT, "1.2.3"))
        assert ask(association, asked) == 0
        assert ask(association, request((CT, "1.2.4"), uid=str(asked.TransactionUID))) == 0x0115
        assert ask(association, request()) == 0x0115
        without = request((CT, "1.2.3"))
        del without.TransactionUID
        assert ask(association, without) == 0x0115
        status, _ = association.send_n_action(request((CT, "1.2.3")), 7, PUSH, INSTANCE)
        assert status.Status == 0x0123
        status, _ = association.send_n_action(request((CT, "1.2.3")), 1, PUSH, "1.2.3.4")
        assert status.Status == 0x0112
        assert ask(association, request((CT, "1.2.5"))) == 0
        assert {reported.next()[1], reported.next()[1]} >= {str(asked.TransactionUID)}


@pytest.mark.parametrize("roles", [True, False], ids=["with roles", "without"])
def test_a_peer_that_has_left_is_called(home: Path, monkeypatch: pytest.MonkeyPatch, roles: bool) -> None:
    """The verification ends after the release: a report of our own, with the roles turned round."""
    reported, gate = Reported(), threading.Event()
    with served(home) as found, listening(reported, roles=roles) as port:
        sop_class, sop = stored(found)
        commitment: Any = found.graph.archive.commitment
        judge = commitment._judge
        monkeypatch.setattr(commitment, "_judge", lambda *what: gate.wait(20) and judge(*what))
        found.ask(lambda: add_peer(found.graph, port))
        asked = request((sop_class, sop))
        with associated(found, reported) as association:
            assert ask(association, asked) == 0
        later = Clock(found.graph.archive.commitment._clock)
        later.ahead = 60_000_000
        assert found.ask(reports(found.graph, later).round) == 0  # nothing is said before the bytes were read again
        gate.set()
        found.ask(commitment.idle)
        assert found.ask(reports(found.graph, later).round) == 1
        assert reported.next() == (1, str(asked.TransactionUID), [sop], {})
        assert waiting(found.graph) == [] and found.ask(reports(found.graph, later).round) == 0
        assert reported.told.empty()


def test_a_restart_in_the_middle_loses_no_report(home: Path) -> None:
    """The peer is away, the archive ends and comes back: tried again with back-off, told once."""
    reported = Reported()
    with served(home) as found:
        sop_class, sop = stored(found)
        asked = request((sop_class, sop))
        with associated(found, reported) as association:
            found.ask(lambda: _deaf(found))
            assert ask(association, asked) == 0
        found.ask(found.graph.archive.commitment.idle)

    async def restarted() -> None:
        from radiolith.storage.blobs import microseconds

        clock = Clock(microseconds)
        clock.ahead = 60_000_000
        async with opened(home) as graph:
            runner = reports(graph, clock)
            assert await runner.round() == 1
            (left,) = waiting(graph)
            assert "is no peer" in left.said and left.state is State.WAITING
            assert await runner.round() == 0  # not before its time
            with listening(reported) as port:
                await add_peer(graph, port)
                reported.status = 0x0110
                clock.ahead += DAY // 24
                assert await runner.round() == 1
                assert "0110" in waiting(graph)[0].said
                reported.status = 0
                clock.ahead += DAY // 24
                assert await runner.round() == 1
                assert waiting(graph) == []

    asyncio.run(restarted())
    assert [reported.next()[1], reported.next()[1]] == [str(asked.TransactionUID)] * 2


async def _deaf(found: Served) -> None:
    """Nothing is told on the associations there are: as after a kill between answer and report."""
    committing_module: Any = committing
    before = committing_module._report_here

    async def nothing(operation: Any, transaction: str) -> None:
        committing_module._report_here = before

    committing_module._report_here = nothing


def test_after_some_days_it_is_given_up_and_listed(home: Path) -> None:
    async def work() -> None:
        from radiolith.index.peer_reports import Addressee
        from radiolith.storage.blobs import microseconds

        clock = Clock(microseconds)
        async with opened(home) as graph:
            await graph.archive.commitment.request(
                principal(graph), "1.2.3", [(CT, "1.2.4")], Addressee("GONE", "", AET)
            )
            await graph.archive.commitment.idle()
            runner = reports(graph, clock)
            tries = 0
            while (left := waiting(graph)[0]).state is State.WAITING:
                clock.ahead += DAY // 24
                tries += await runner.round()
            assert clock.ahead - GIVE_UP < DAY // 12 and tries > 50
            assert left.state is State.GIVEN_UP and "GONE" in left.said
            with graph.database.write() as tx:
                assert peer_reports.again(tx, 1, left.id, clock())
            assert await runner.round() == 1

    asyncio.run(work())


def test_two_runners_tell_once(home: Path) -> None:
    class Counting:
        told = 0

        async def commitment(self, *what: Any) -> None:
            self.told += 1
            await asyncio.sleep(0)

        async def available(self, *what: Any) -> None:
            raise Unavailable("not asked for")

    async def work() -> None:
        from radiolith.index.peer_reports import Addressee
        from radiolith.storage.blobs import microseconds

        clock, peers = Clock(microseconds), Counting()
        clock.ahead = 60_000_000
        async with opened(home) as graph:
            await add_peer(graph, 1)
            for number in range(5):
                uid = f"1.2.{number}"
                await graph.archive.commitment.request(principal(graph), uid, [(CT, "1.2.4")], Addressee("CT1"))
            await graph.archive.commitment.idle()
            runners = [Reports(graph.database, peers, clock, lambda: 0.5) for _ in range(3)]
            await asyncio.gather(*(runner.round() for runner in runners))
            assert peers.told == 5 and waiting(graph) == []

    asyncio.run(work())


def test_a_report_of_what_we_asked_for_goes_to_the_outbox(home: Path) -> None:
    """A peer opens an association of its own, as SCP of storage commitment (PS3.4 J.3.3)."""
    from radiolith.dimse.moving import Moving

    told: list[tuple[str, tuple[str, ...], dict[str, str]]] = []

    class Outbox:
        async def committed(self, who: Any, transaction: str, kept: Any, refused: Any) -> None:
            if transaction != "1.2.3.4":
                raise NotFound("no transfer waits for this transaction UID")
            told.append((transaction, tuple(kept), dict(refused)))

    with served(home) as found:
        outbox: Any = Outbox()
        nothing: Any = None
        found.node.moving = Moving(outbox, nothing, nothing)
        ae = AE(ae_title="ARCHIVE2")
        ae.add_requested_context(PUSH)
        role = build_role(PUSH, scu_role=False, scp_role=True)
        association = ae.associate("127.0.0.1", found.port, ae_title=AET, ext_neg=[role])
        assert association.is_established
        report = request((CT, "1.2.3.1"), uid="1.2.3.4")
        failed = Dataset()
        failed.ReferencedSOPClassUID, failed.ReferencedSOPInstanceUID, failed.FailureReason = CT, "1.2.3.2", 0x0112
        report.FailedSOPSequence = [failed]
        status, _ = association.send_n_event_report(report, 2, PUSH, INSTANCE)
        assert status.Status == 0
        assert told == [("1.2.3.4", ("1.2.3.1",), {"1.2.3.2": "no such object instance (reason 0x0112)"})]
        status, _ = association.send_n_event_report(request((CT, "1.2.3.1"), uid="9.9"), 1, PUSH, INSTANCE)
        assert status.Status == 0x0112
        association.release()
