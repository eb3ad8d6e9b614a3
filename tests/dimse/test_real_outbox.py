"""What was ordered arrives: real processes, destinations that refuse, break off, say nothing or are away, and SIGKILL."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from radiolith.dimse.sopclasses import STUDY_ROOT
from radiolith.jobs.outbox import MARKS
from tests.archive.objects import CT, EXPLICIT, RAW, ROOT, Made
from tests.dimse.real import Node, Sink, serving, until
from tests.kill.running import wait

IMAGES = 12
MOVE, GET = STUDY_ROOT.move, STUDY_ROOT.get


def images(study: int, count: int = IMAGES, raw: int = 0) -> list[Made]:
    """A study of CT images and raw data."""
    uid = f"{ROOT}.7.{study}"
    made = [
        Made(uid, f"{uid}.1", f"{uid}.1.{n}", patient=f"P{study}", number=n, pixels=bytes(512 * n))
        for n in range(1, count + 1)
    ]
    return made + [Made(uid, f"{uid}.2", f"{uid}.2.{n}", patient=f"P{study}", number=n) for n in range(1, raw + 1)]


def stored(node: Node, *objects: Made, calling: str = "TESTER") -> None:
    assert node.put([each.part10() for each in objects], calling) == {0: len(objects)}


class Mover:
    """Asks for a C-MOVE and keeps every response."""

    def __init__(self, node: Node, destination: str, *studies: str):
        entity = AE(ae_title="MOVER")
        entity.add_requested_context(MOVE)
        self.association = entity.associate("127.0.0.1", node.dicom, ae_title="RADIOLITH")
        assert self.association.is_established
        self.keys = Dataset()
        self.keys.QueryRetrieveLevel = "STUDY"
        self.keys.StudyInstanceUID = list(studies)
        self.destination = destination
        self.responses: list[tuple[Any, Any]] = []
        self.ended = 0.0

    def run(self) -> Mover:
        for status, identifier in self.association.send_c_move(self.keys, self.destination, MOVE, msg_id=77):
            self.responses.append((status, identifier))
        self.ended = time.monotonic()
        self.association.release()
        return self

    def begin(self) -> threading.Thread:
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        return thread

    @property
    def status(self) -> int:
        return int(self.responses[-1][0].Status)

    @property
    def counters(self) -> tuple[int | None, int, int, int]:
        """Remaining, completed, failed, warning of the last response."""
        last = self.responses[-1][0]
        remaining = last.get("NumberOfRemainingSuboperations")
        return (
            None if remaining is None else int(remaining),
            int(last.NumberOfCompletedSuboperations),
            int(last.NumberOfFailedSuboperations),
            int(last.NumberOfWarningSuboperations),
        )

    @property
    def failed(self) -> set[str]:
        uids = self.responses[-1][1].get("FailedSOPInstanceUIDList") or []
        return {uids} if isinstance(uids, str) else set(map(str, uids))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with serving(tmp_path_factory.mktemp("outbox")) as found:
        yield found


# ---------------------------------------------------------------- one C-MOVE


def test_several_studies_arrive_once_and_the_counters_are_right(node: Node) -> None:
    """The first answer takes longer than the head start of who ordered it: the second study waits all the same."""
    one, two = images(1, 9), images(2, 4, raw=2)
    stored(node, *one, *two)

    def slowly(event: Any, before: int) -> int:
        time.sleep(0.02 if before else 2.8)
        return 0

    with Sink([CT, RAW], [EXPLICIT], slowly) as sink:
        node.peer("slow", sink.port)
        moved = Mover(node, "SLOW", one[0].study, two[0].study).run()
        node.ended("slow")
    assert sorted(sink.uids) == sorted(each.sop for each in one + two)
    assert (moved.status, moved.counters) == (0, (None, 15, 0, 0))
    assert sink.originators == {("MOVER", 77)}
    pending = [status for status, _ in moved.responses[:-1]]
    assert [int(one.NumberOfRemainingSuboperations) for one in pending] == list(range(14, 0, -1))
    assert {int(one.Status) for one in pending} == {0xFF00}


def test_unknown_destinations_and_unknown_studies(node: Node) -> None:
    stored(node, *images(3, 1))
    refused = Mover(node, "NOBODY", images(3)[0].study).run()
    assert refused.status == 0xA801 and "NOBODY" in refused.responses[-1][0].ErrorComment
    node.peer("void", 9)
    nothing = Mover(node, "VOID", "2.25.4711").run()
    assert (nothing.status, nothing.counters) == (0, (None, 0, 0, 0))
    assert not node.transfers(peer="void")


def test_what_a_destination_does_not_take_is_told_by_uid(node: Node) -> None:
    study = images(4, 5, raw=3)
    stored(node, *study)
    full = study[2].sop

    def picky(event: Any, before: int) -> int:
        return 0xB000 if event.request.AffectedSOPInstanceUID == full else 0

    with Sink([CT], [EXPLICIT], picky) as sink:
        node.peer("picky", sink.port)
        moved = Mover(node, "PICKY", study[0].study).run()
        (transfer,) = node.ended("picky", "failed")
    assert (moved.status, moved.counters) == (0xB000, (None, 4, 3, 1))
    assert moved.failed == {each.sop for each in study if not each.pixels}
    assert (transfer["delivered"], transfer["failed"], transfer["total"]) == (5, 3, 8)
    assert "presentation context" in transfer["said"] or "0122" in transfer["said"]


def test_cancel_is_honoured_within_a_second(node: Node) -> None:
    study = images(5, 60)
    stored(node, *study)

    def slowly(event: Any, before: int) -> int:
        time.sleep(0.15)
        return 0

    with Sink([CT], [EXPLICIT], slowly) as sink:
        node.peer("brake", sink.port)
        mover = Mover(node, "BRAKE", study[0].study)
        thread = mover.begin()
        until(lambda: len(mover.responses) >= 3, "the first images")
        cancelled = time.monotonic()
        mover.association.send_c_cancel(77, query_model=MOVE)
        thread.join(10)
        assert mover.ended - cancelled < 1
        (transfer,) = node.ended("brake", "cancelled")
        arrived = len(sink.got)
        time.sleep(1.5)
        assert len(sink.got) <= arrived + 1, "nothing more is sent"
    remaining, completed, failed, warning = mover.counters
    assert mover.status == 0xFE00 and (failed, warning) == (0, 0)
    assert remaining and remaining + completed == 60 and completed >= 3
    assert "C-CANCEL" in transfer["said"]


def test_a_destination_that_is_away_gets_it_later_once(node: Node) -> None:
    study = images(6)
    stored(node, *study)
    sink = Sink([CT], [EXPLICIT])
    node.peer("away", sink.port)
    moved = Mover(node, "AWAY", study[0].study).run()
    assert (moved.status, moved.counters) == (0xA702, (None, 0, IMAGES, 0))
    assert "nothing listens there" in moved.responses[-1][0].ErrorComment
    (transfer,) = node.transfers(peer="away")
    assert transfer["state"] in ("waiting", "sending")
    with sink:
        node.ended("away")
    assert sorted(sink.uids) == sorted(each.sop for each in study)


def test_one_that_breaks_off_in_the_middle_gets_the_rest(node: Node) -> None:
    """Its fifth image ends the association without an answer, five times."""
    study = images(8)
    stored(node, *study)
    left = [5]

    def breaking(event: Any, before: int) -> int:
        if before >= 4 and left[0]:
            left[0] -= 1
            event.assoc.abort()
            return 0xA700
        return 0

    with Sink([CT], [EXPLICIT], breaking) as sink:
        node.peer("breaking", sink.port)
        moved = Mover(node, "BREAKING", study[0].study).run()
        assert moved.status == 0xB000 and moved.counters[1] >= 4 and moved.counters[2] >= 1
        assert sum(moved.counters[1:]) == IMAGES
        (transfer,) = node.ended("breaking")
    assert sorted(sink.uids) == sorted(each.sop for each in study), "each once"
    assert transfer["delivered"] == IMAGES


def test_one_that_never_answers_is_given_up_and_tried_again(node: Node) -> None:
    study = images(9, 4)
    stored(node, *study)
    dumb, told = threading.Event(), threading.Event()

    def silent(event: Any, before: int) -> int:
        if before == 2 and not dumb.is_set():
            told.set()
            dumb.wait(30)
            return 0xA700
        return 0

    with Sink([CT], [EXPLICIT], silent) as sink:
        node.peer("silent", sink.port)
        moved = Mover(node, "SILENT", study[0].study).run()
        assert told.is_set() and moved.status == 0xB000
        assert sum(moved.counters[1:]) == 4 and moved.counters[2] >= 1
        assert "not answered C-STORE" in moved.responses[-1][0].ErrorComment
        dumb.set()
        node.ended("silent")
    assert sorted(sink.uids) == sorted(each.sop for each in study)


def test_send_again_sends_what_is_missing(node: Node) -> None:
    study = images(10, 6)
    stored(node, *study)
    refuses = [True]

    def refusing(event: Any, before: int) -> int:
        return 0xA900 if refuses[0] and event.request.AffectedSOPInstanceUID == study[3].sop else 0

    with Sink([CT], [EXPLICIT], refusing) as sink:
        node.peer("again", sink.port)
        moved = Mover(node, "AGAIN", study[0].study).run()
        assert (moved.counters, moved.failed) == ((None, 5, 1, 0), {study[3].sop})
        (transfer,) = node.ended("again", "failed")
        assert "A900" in transfer["said"]
        refuses[0] = False
        assert "1 instances go to again" in node.command("outbox", "again", str(transfer["id"]))
        node.ended("again")
    assert sorted(sink.uids) == sorted(each.sop for each in study)


# ---------------------------------------------------------------- killed in the middle


@pytest.mark.parametrize("who", ["worker", "jobs"])
def test_a_kill_in_the_middle_loses_nothing(node: Node, who: str) -> None:
    """The process that sends is killed; the mover's association breaks with a worker, and the jobs process goes on. What the
    peer had taken and nobody had noted yet comes again: fewer than MARKS."""
    study = images(11 if who == "worker" else 12, 120)
    stored(node, *study)
    going = threading.Event()

    def slowly(event: Any, before: int) -> int:
        going.set() if before >= 70 else time.sleep(0.01)
        time.sleep(0.01)
        return 0

    sink = Sink([CT], [EXPLICIT], slowly)
    node.peer(f"kill{who}", sink.port)
    thread = None
    with sink:
        if who == "worker":
            thread = Mover(node, f"KILL{who.upper()}", study[0].study).begin()
        else:
            body = f'{{"peer": "kill{who}", "places": [{{"study": "{study[0].study}"}}]}}'.encode()
            assert node.ask("POST", "/api/v1/outbox", body, {"Content-Type": "application/json"}).status == 201
        assert going.wait(30)
        victim = holder(sink.port, node)
        os.kill(victim, signal.SIGKILL)
        (transfer,) = node.ended(f"kill{who}")
        if thread is not None:
            thread.join(30)
    assert set(sink.uids) == {each.sop for each in study}
    assert transfer["delivered"] == 120 and sink.twice <= MARKS + 1, f"{sink.twice} came twice"
    wait(node.ready, "the server to be whole again")


def holder(port: int, node: Node) -> int:
    """The process of the server that has a connection to this port."""
    inodes: set[str] = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].partition(":")[2], 16) == port and fields[3] == "01":
            inodes.add(f"socket:[{fields[9]}]")
    for pid in node.group():
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(handle) in inodes:
                    return pid
            except OSError:
                continue
    raise AssertionError("nobody sends")


# ---------------------------------------------------------------- a rule


def test_a_rule_sends_a_complete_study_once(node: Node) -> None:
    study, other = images(13, 7), images(14, 3)
    with Sink([CT], [EXPLICIT]) as sink:
        node.peer("target", sink.port)
        node.peer("scanner", 9, "--complete-after", "1", aet="SCANNER")
        node.command("route", "add", "all-p13", "--to", "target", "--match", "PatientID=P13")
        until(lambda: put_by_peer(node, study[:3]), "the peer to be known")
        stored(node, *study[3:], *other, calling="SCANNER")
        (transfer,) = node.ended("target")
        assert (transfer["ordered_by"], transfer["why"]) == ("all-p13", "rule")
        time.sleep(2)  # longer than the timer: nothing follows
        assert len(node.transfers(peer="target")) == 1
    assert sorted(sink.uids) == sorted(each.sop for each in study)


def put_by_peer(node: Node, objects: list[Made]) -> bool:
    stored(node, *objects, calling="SCANNER")
    return True


# ---------------------------------------------------------------- C-GET


class Getter:
    """Asks by C-GET; `react` answers each image that comes, and may take its time."""

    def __init__(self, node: Node, react: Callable[[Any, int], int], *classes: str):
        self.got: list[str] = []
        self.react = react
        entity = AE(ae_title="GETTER")
        entity.add_requested_context(GET)
        for each in classes:
            entity.add_requested_context(each, [EXPLICIT])
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store)]
        roles = [build_role(each, scp_role=True) for each in classes]
        self.association = entity.associate(
            "127.0.0.1", node.dicom, ae_title="RADIOLITH", ext_neg=roles, evt_handlers=handlers
        )
        assert self.association.is_established
        self.ended = 0.0

    def _store(self, event: Any) -> int:
        status = self.react(event, len(self.got))
        self.got.append(str(event.request.AffectedSOPInstanceUID))
        return status

    def run(self, study: str) -> list[tuple[Any, Any]]:
        keys = Dataset()
        keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", study
        found = list(self.association.send_c_get(keys, GET, msg_id=55))
        self.ended = time.monotonic()
        self.association.release()
        return found


def test_c_get_tells_what_failed_and_what_had_warnings(node: Node) -> None:
    study = images(20, 5, raw=2)
    stored(node, *study)
    answers = {study[1].sop: 0xA700, study[3].sop: 0xB000}
    getter = Getter(node, lambda event, _: answers.get(event.request.AffectedSOPInstanceUID, 0), CT)
    *pending, (last, identifier) = getter.run(study[0].study)
    assert int(last.Status) == 0xB000
    assert (last.NumberOfCompletedSuboperations, last.NumberOfFailedSuboperations) == (3, 3)
    assert last.NumberOfWarningSuboperations == 1
    failed = {study[1].sop} | {each.sop for each in study if not each.pixels}
    assert set(identifier.FailedSOPInstanceUIDList) == failed
    assert [int(one.NumberOfRemainingSuboperations) for one, _ in pending] == list(range(6, 0, -1))
    nothing = Getter(node, lambda event, _: 0, CT).run("2.25.4712")
    assert [int(status.Status) for status, _ in nothing] == [0]


def test_a_cancelled_c_get_ends_within_a_second(node: Node) -> None:
    study = images(21, 40)
    stored(node, *study)
    cancelled: list[float] = []

    def slowly(event: Any, before: int) -> int:
        time.sleep(0.05)
        if before == 4:
            getter.association.send_c_cancel(55, query_model=GET)
            cancelled.append(time.monotonic())
        return 0

    getter = Getter(node, slowly, CT)
    last, _ = getter.run(study[0].study)[-1]
    assert getter.ended - cancelled[0] < 1
    assert int(last.Status) == 0xFE00 and 5 <= len(getter.got) < 10
    assert last.NumberOfCompletedSuboperations + last.NumberOfRemainingSuboperations == 40
    assert last.NumberOfCompletedSuboperations == len(getter.got)
