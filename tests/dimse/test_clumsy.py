"""Peers that ask in an order nobody would choose: too many requests around a C-GET, one message id twice, the end of the
association in the middle of what was asked for, commitment of more than can be looked at in a moment."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radiolith.archive import commitment
from radiolith.dicom import syntax
from radiolith.dimse.answers import Headers
from radiolith.dimse.association import Wanted
from radiolith.dimse.commands import Command, decode_command
from radiolith.dimse.exchange import OPERATIONS_MAX
from radiolith.dimse.items import Window
from radiolith.dimse.messages import message
from radiolith.dimse.pdu import AssociateAccept, decode, encode
from radiolith.dimse.sopclasses import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE, STUDY_ROOT
from tests.archive.homes import opened, principal, store
from tests.archive.objects import CT, EXPLICIT, ROOT, Made
from tests.dimse.served import Served, served
from tests.dimse.speaker import RELEASE, Speaker, request

GET_ID, CT_ID, FIND_ID, COMMIT_ID = 1, 3, 5, 7
WANTED = (
    Wanted(STUDY_ROOT.get, (EXPLICIT,)),
    Wanted(CT, (EXPLICIT,), scu=False, scp=True),
    Wanted(STUDY_ROOT.find, (EXPLICIT,)),
    Wanted(STORAGE_COMMITMENT, (EXPLICIT,)),
)
IMAGES = [Made(f"{ROOT}.5", f"{ROOT}.5.1", f"{ROOT}.5.1.{n}", number=n, pixels=bytes(512)) for n in range(1, 4)]
_HEADERS = Headers(syntax.encoding(EXPLICIT))


def element(tag: int, vr: str, text: str) -> bytes:
    value = text.encode()
    return _HEADERS.element(tag, vr, value + (b"\0" if vr == "UI" else b" ") * (len(value) % 2))


STUDY = element(0x00080052, "CS", "STUDY") + element(0x0020000D, "UI", IMAGES[0].study)


def get(number: int) -> bytes:
    command = Command.of("C-GET-RQ", True, MessageID=number, AffectedSOPClassUID=STUDY_ROOT.get, Priority=0)
    return b"".join(message(GET_ID, command, STUDY, 0))


def find(number: int) -> bytes:
    command = Command.of("C-FIND-RQ", True, MessageID=number, AffectedSOPClassUID=STUDY_ROOT.find, Priority=0)
    return b"".join(message(FIND_ID, command, STUDY, 0))


def commit(uid: str) -> bytes:
    item = element(0x00081150, "UI", CT) + element(0x00081155, "UI", IMAGES[0].sop)
    data = element(0x00081195, "UI", uid) + _HEADERS.element(0x00081199, "SQ", _HEADERS.item(item))
    command = Command.of(
        "N-ACTION-RQ", True, MessageID=1, ActionTypeID=1, RequestedSOPClassUID=STORAGE_COMMITMENT,
        RequestedSOPInstanceUID=STORAGE_COMMITMENT_INSTANCE,
    )  # fmt: skip
    return b"".join(message(COMMIT_ID, command, data, 0))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("clumsy") / "home") as found:
        for each in IMAGES:
            found.ask(lambda each=each: store(found.graph, each.part10()))
        yield found


class Getter(Speaker):
    """Takes every image it is sent, as soon as it listens."""

    def __init__(self, archive: Served) -> None:
        super().__init__(archive.port)
        self.say(encode(request(WANTED, window=Window(0, 0))))
        accept = self.pdu()
        assert isinstance(accept, AssociateAccept) and {each.result for each in accept.contexts} == {0}

    def __enter__(self) -> Getter:
        return self

    def command(self) -> Command:
        kind, body = self.hear()
        while kind == 4 and not body[5] & 1:
            kind, body = self.hear()
        assert kind == 4, decode(kind, body)
        return decode_command(body[6:])

    def finals(self, count: int) -> list[tuple[int, int, str]]:
        """(message id, status, comment) of the last responses to so many requests, in their order."""
        found: list[tuple[int, int, str]] = []
        while len(found) < count:
            command = self.command()
            if not command.is_response:
                self.say(b"".join(message(CT_ID, command.answer(0), None, 0)))
            elif command.status not in (0xFF00, 0xFF01):
                found.append((command.message_id, command.status, command.text("ErrorComment")))
        return found


def test_more_requests_than_agreed_on_do_not_keep_a_c_get_from_its_answers(archive: Served) -> None:
    with Getter(archive) as peer:
        peer.say(b"".join(get(number) for number in range(1, OPERATIONS_MAX + 5)))
        found = {number: (status, said) for number, status, said in peer.finals(OPERATIONS_MAX + 4)}
        refused = (0xA701, f"more than {OPERATIONS_MAX} requests at a time")
        assert list(found.values()).count((0, "")) >= OPERATIONS_MAX and found[1] == (0, "")
        assert set(found.values()) <= {(0, ""), refused} and refused in found.values()
        peer.release()
    archive.idle()


def test_a_message_id_that_is_in_use_is_refused(archive: Served) -> None:
    with Getter(archive) as peer:
        peer.say(get(1) + find(1) + get(2))
        found = sorted(peer.finals(3))
        assert found == [(1, 0, ""), (1, 0x0210, "a request with this message id is not answered yet"), (2, 0, "")]
        peer.say(find(1))
        assert peer.finals(1) == [(1, 0, "")]
        peer.release()
    archive.idle()


def test_a_release_in_the_middle_of_a_c_get_ends_it(archive: Served) -> None:
    """Whoever asked for the end sends nothing any more (PS3.8 7.2): its answers are not waited for."""
    with Getter(archive) as peer:
        peer.say(get(1) + RELEASE)
        last: Command | None = None
        while True:
            kind, body = peer.hear()
            if kind == 6:
                break
            assert kind == 4, decode(kind, body)
            last = decode_command(body[6:]) if body[5] & 1 else last
        assert last is not None and (last.name, last.status) == ("C-GET-RSP", 0xA702)
    archive.idle()
    assert archive.traces[-1]["end"] == "released"


def test_a_c_get_that_is_cancelled_before_it_began_is_no_success(archive: Served) -> None:
    """Nothing was counted yet: that nothing remains does not mean that all was sent."""
    cancel = b"".join(message(GET_ID, Command.of("C-CANCEL-RQ", MessageIDBeingRespondedTo=1), None, 0))
    with Getter(archive) as peer:
        peer.say(get(1) + cancel)
        assert peer.finals(1) == [(1, 0xFE00, "")]
        peer.release()
    archive.idle()


def test_a_c_get_says_why_something_failed(archive: Served) -> None:
    with Speaker(archive.port) as peer:
        peer.associate(WANTED[:1])
        peer.say(get(1))
        answers = [peer.answer() for _ in IMAGES]
        assert answers[-1].status == 0xA702 and answers[-1].has_data_set
        assert answers[-1].text("ErrorComment") == "the peer accepted no presentation context for its SOP class"
        assert peer.hear()[0] == 4
        peer.release()


@pytest.mark.parametrize("uid", ["1." + "2" * 63, "1.2\0.3", "1.2\x1b.3"])
def test_a_transaction_that_is_no_uid_is_refused(archive: Served, uid: str) -> None:
    """A database may be unable to hold it, or to find it again."""
    with Getter(archive) as peer:
        peer.say(commit(uid))
        assert peer.finals(1) == [(1, 0x0115, "the Transaction UID is none")]
        peer.release()


def test_a_long_name_of_an_implementation_is_cut_in_the_trace(archive: Served) -> None:
    with Speaker(archive.port) as peer:
        peer.associate(implementation_version="V" * 60_000)
        peer.release()
    archive.idle()
    assert archive.traces[-1]["implementation"] == "V" * 64


# ---------------------------------------------------------------- a commitment that takes long


async def test_a_commitment_that_takes_long_is_worked_on_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its own process nor another takes over what is under way; what is not any more is taken over."""
    monkeypatch.setattr(commitment, "BEAT", 0.01)
    judged: list[str] = []
    go = threading.Event()

    def judge(self: Any, tenant: int, sop_class: str, sop: str) -> int:
        judged.append(sop)
        return 0 if go.wait(20) else 1

    monkeypatch.setattr(commitment.Commitment, "_judge", judge)
    async with opened(tmp_path / "home") as graph:
        first: Any = graph.archive.commitment
        ahead = [0]
        now = first._clock
        first._clock = lambda: now() + ahead[0]
        other: Any = commitment.Commitment(first._database, first._reading, first._trail, first._clock)
        who = principal(graph)
        await first.request(who, "1.2.3", [(CT, "1.2")])
        held = await claimed(first)
        for _ in range(4):
            ahead[0] += commitment.STALE // 2
            held = await claimed(first, held)
            await other.resume()
        assert not other._tasks
        monkeypatch.setattr(commitment, "BEAT", 1e9)  # it is silent from now on
        await claimed(first, held)
        ahead[0] += 2 * commitment.STALE
        await first.resume()
        assert judged == ["1.2"]
        await other.resume()
        assert len(other._tasks) == 1
        go.set()
        await first.idle()
        await other.idle()
        result = await first.result(who, "1.2.3")
        assert result is not None and result.committed == ((CT, "1.2"),) and judged == ["1.2", "1.2"]


async def claimed(found: Any, after: int = 0) -> int:
    """When somebody said last that the request is worked on, once that is later than `after`."""

    def look(read: Any) -> int:
        return read.one("SELECT claimed_at FROM commitments")[0]

    for _ in range(4000):
        at = await found._reading.look(look)
        if at > after:
            return at
        await asyncio.sleep(0.005)
    pytest.fail("nobody says that it is worked on")
