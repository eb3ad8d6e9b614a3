"""The limits of associations over two worker processes: whichever a device reaches, and when one of them dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from radiolith.dimse.pdu import AssociateAccept, AssociateReject
from radiolith.storage.backends.steps_file import VARIABLE
from tests.dimse.real import SOON, serving
from tests.dimse.speaker import Speaker
from tests.kill.running import StepFile, wait

FULL = AssociateReject(2, 3, 2)  # rejected-transient, presentation related, local-limit-exceeded (PS3.8 table 9-21)
MOST, OF_ONE = 6, 4


@contextmanager
def stopped(pid: int) -> Generator[None]:
    """Whoever connects meanwhile reaches the other worker."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Devices:
    """Associations that are kept open."""

    def __init__(self, port: int):
        self.port = port
        self.open: list[Speaker] = []

    def call(self, number: int) -> object:
        """From an address of its own; None where it was let in."""
        peer = Speaker(self.port, source=f"127.0.0.{number}")
        answer = peer.associate()
        if isinstance(answer, AssociateAccept):
            self.open.append(peer)
            return None
        peer.socket.close()
        return answer

    def close(self) -> None:
        for peer in self.open:
            peer.socket.close()


def test_two_workers_have_one_limit_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    steps = StepFile(tmp_path / "steps")
    environ = {
        VARIABLE: str(steps.path),
        "RADIOLITH_DIMSE_ASSOCIATIONS": str(MOST),
        "RADIOLITH_DIMSE_ASSOCIATIONS_PER_ADDRESS": str(OF_ONE),
    }
    with serving(tmp_path / "node", {**SOON, "dimse.acceptor:DRAIN_IDLE": 0.2}, environ) as node:
        wait(lambda: {"worker 0", "worker 1"} <= set(steps.rows()), "both workers")
        first, second = (steps.rows()[name].pid for name in ("worker 0", "worker 1"))
        devices = Devices(node.dicom)
        with stopped(first):
            assert [devices.call(2) for _ in range(3)] == [None] * 3
        with stopped(second):
            assert devices.call(2) is None
            assert devices.call(2) == FULL, "the fifth of one address, at the worker that has one of them"
            assert [devices.call(n) for n in (3, 4)] == [None] * 2
            assert devices.call(5) == FULL, "the seventh in all"
        with stopped(first):
            assert [devices.call(n) for n in (2, 5)] == [FULL] * 2

        os.kill(second, signal.SIGKILL)
        wait(lambda: devices.call(5) is None, "a slot of the worker that was killed")
        assert [devices.call(5) for _ in range(2)] == [None] * 2
        assert devices.call(5) == FULL and devices.call(6) == FULL, "three came back, not more"

        wait(lambda: steps.rows()["worker 1"].pid != second, "a new worker")
        os.kill(first, signal.SIGTERM)  # as in a rolling restart: three of the six at the least are its own
        for number in (7, 8, 9):
            wait(lambda number=number: devices.call(number) is None, "a slot of the worker that ended")
        devices.close()
        again = Devices(node.dicom)
        for number in range(MOST):
            wait(lambda number=number: again.call(number + 2) is None, "all slots, none lost")
        assert again.call(9) == FULL
        again.close()
