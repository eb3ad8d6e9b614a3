"""What is said of a peer holds: services, character set; notifications of availability, both ways."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    InstanceAvailabilityNotification,
    StudyRootQueryRetrieveInformationModelFind,
)

from radiolith.dimse.reporting import DimseReporting
from radiolith.index import peer_reports
from radiolith.jobs.arrivals import ArrivalWatch
from radiolith.jobs.reports import Reports
from radiolith.storage.blobs import microseconds
from radiolith.trust.certificates import secured
from tests.archive.homes import principal, store
from tests.archive.objects import numbered
from tests.dimse.served import AET, Served, Setting, served

FIND: Any = StudyRootQueryRetrieveInformationModelFind
IAN: Any = InstanceAvailabilityNotification
CT: Any = CTImageStorage


def add_peer(found: Served, aet: str, **wishes: object) -> None:
    about = {"aet": aet, "address": "127.0.0.1", "port": 104, "tls": False} | wishes
    found.ask(lambda: found.graph.accounts.add_peer(principal(found.graph), aet.lower(), about))


@contextmanager
def associated(found: Served, aet: str, *classes: Any) -> Iterator[Any]:
    ae = AE(ae_title=aet)
    for sop_class in classes:
        ae.add_requested_context(sop_class)
    association = ae.associate("127.0.0.1", found.port, ae_title=AET)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def accepted(association: Any) -> set[str]:
    return {str(context.abstract_syntax) for context in association.accepted_contexts}


def test_a_peer_may_be_restricted_to_services(tmp_path: Path) -> None:
    with served(tmp_path / "home", Setting(near=False)) as found:
        add_peer(found, "CT1", services="store, echo")
        add_peer(found, "WS1", services="find")
        offered = ("1.2.840.10008.1.1", CT, FIND)
        with associated(found, "CT1", *offered) as association:
            assert accepted(association) == {"1.2.840.10008.1.1", str(CT)}
        with associated(found, "WS1", *offered) as association:
            assert accepted(association) == {str(FIND)}


def test_a_peer_gets_answers_in_its_character_set(tmp_path: Path) -> None:
    with served(tmp_path / "home", Setting(near=False)) as found:
        add_peer(found, "OLD", charset="ISO_IR 100")
        add_peer(found, "NEW", charset="ISO_IR 192")
        found.ask(lambda: store(found.graph, numbered(3, 1, large=0)[3]))
        for aet, term in (("OLD", "ISO_IR 100"), ("NEW", "ISO_IR 192")):
            with associated(found, aet, FIND) as association:
                keys = Dataset()
                keys.QueryRetrieveLevel, keys.PatientName, keys.StudyInstanceUID = "STUDY", "", ""
                (match, _) = list(association.send_c_find(keys, FIND))
                assert match[1].SpecificCharacterSet == term and match[1].PatientName == "Müller^Jörg"


def notification(study: str = "1.2.3") -> Dataset:
    told, series, item = Dataset(), Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, "1.2.3.1.1"
    item.InstanceAvailability, item.RetrieveAETitle = "ONLINE", "ELSEWHERE"
    series.SeriesInstanceUID, series.ReferencedSOPSequence = "1.2.3.1", [item]
    told.ReferencedPerformedProcedureStepSequence, told.ReferencedSeriesSequence = [], [series]
    if study:
        told.StudyInstanceUID = study
    return told


def test_what_is_available_elsewhere_is_on_record(tmp_path: Path) -> None:
    with served(tmp_path / "home") as found, associated(found, "PACS", IAN) as association:
        status, _ = association.send_n_create(notification(), IAN, "1.2.9.9")
        assert status.Status == 0
        status, _ = association.send_n_create(notification(), IAN)
        assert status.Status == 0  # without a UID: one is made here
        status, _ = association.send_n_create(notification(""), IAN, "1.2.9.8")
        assert status.Status == 0x0115
        with found.graph.database.read() as read:
            rows = read.all("SELECT action, purpose FROM audit WHERE action = 'notification'")
        assert rows == [("notification", "available elsewhere")]


def test_peers_are_told_of_complete_studies_once(tmp_path: Path) -> None:
    told: queue.Queue[Dataset] = queue.Queue()

    def create(event: evt.Event) -> tuple[int, None]:
        told.put(event.attribute_list)
        return 0, None

    ae = AE(ae_title="BOARD")
    ae.add_supported_context(IAN)
    listener: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_CREATE, create)])
    try:
        with served(tmp_path / "home") as found:
            add_peer(found, "BOARD", port=listener.socket.getsockname()[1], notify=True)
            add_peer(found, "QUIET")
            for number in range(3):
                found.ask(lambda number=number: store(found.graph, numbered(3, number, large=0)[3]))
            database, ahead = found.graph.database, 0

            def clock() -> int:
                return microseconds() + ahead

            reporting = DimseReporting(lambda tenant: AET, lambda peer: secured())
            reports, watch = Reports(database, reporting, clock, lambda: 0.0), ArrivalWatch(database, clock)
            watch.round()
            assert found.ask(reports.round) == 0
            ahead += 120_000_000
            assert len(watch.round()) == 1
            assert found.ask(reports.round) == 1 and found.ask(reports.round) == 0
            what = told.get(timeout=5)
            assert what.StudyInstanceUID == numbered(3, 0)[0] and told.empty()
            items = [item for series in what.ReferencedSeriesSequence for item in series.ReferencedSOPSequence]
            assert {item.ReferencedSOPInstanceUID for item in items} == {numbered(3, n)[2] for n in range(3)}
            assert {(item.InstanceAvailability, item.RetrieveAETitle) for item in items} == {("ONLINE", AET)}
            with database.read() as read:
                assert peer_reports.listed(read, 1) == []
            remove, who = found.graph.archive.remove, principal(found.graph)
            for gone in ([0, 1], [1]):  # two are rejected, one comes back: of all three the peer is told how they are
                for number in (0, 1):
                    where = numbered(3, number)[:3]
                    if number in gone and len(gone) == 2:
                        found.ask(lambda where=where: remove.reject(who, *where, reason="113001"))
                    elif number not in gone:
                        found.ask(lambda where=where: remove.restore(who, *where))
                assert found.ask(reports.round) == 0  # what belongs together is told together
                ahead += 20_000_000
                assert found.ask(reports.round) == 1
                what = told.get(timeout=5)
                items = [item for series in what.ReferencedSeriesSequence for item in series.ReferencedSOPSequence]
                states = {item.ReferencedSOPInstanceUID: item.InstanceAvailability for item in items}
                assert states == {
                    numbered(3, n)[2]: "UNAVAILABLE" if n in gone else "ONLINE" for n in range(3)
                }  # RAD TF-2 4.49.4.1.2.2
    finally:
        listener.shutdown()
