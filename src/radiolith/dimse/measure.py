"""What one association adds to the metrics.

Owns: which label an answer, a request and a status are counted under. Must never: label anything with what a peer said.

Limits: one time a message id that is under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from radiolith import metrics
from radiolith.dimse.association import Accepted, Rejected, reject_text
from radiolith.dimse.commands import Command
from radiolith.dimse.pdu import AssociateReject
from radiolith.dimse.status import Status
from radiolith.dimse.trace import INCOMING

_WARNINGS = (0x0001, 0x0107, 0x0116)


class Measure:
    """`direction`: one of metrics.DIMSE_DIRECTIONS."""

    def __init__(self, direction: str = INCOMING, clock: Callable[[], float] = time.perf_counter):
        self._direction, self._clock = direction, clock
        self._open = False
        self._begun: dict[tuple[str, int], float] = {}  # (request, message id) -> when its command was there

    def answered(self, answer: Accepted | Rejected) -> None:
        """A request for an association was."""
        if isinstance(answer, Accepted):
            self.opened()
        else:
            self.rejected(answer.answer)

    def opened(self) -> None:
        self._open = True
        metrics.dimse_open.add(1, self._direction)
        self.counted("accepted")

    def rejected(self, answer: AssociateReject) -> None:
        reason = reject_text(answer).rpartition(": ")[2]
        self.counted(reason if reason in metrics.DIMSE_OUTCOMES else "other")

    def counted(self, outcome: str) -> None:
        """`outcome`: one of metrics.DIMSE_OUTCOMES, of DIMSE_SILENT where we asked."""
        metrics.dimse_associations.add(f"{self._direction},{outcome}")

    def begun(self, command: Command) -> None:
        """A request's command is there, or goes out."""
        self._begun[command.name, command.message_id] = self._clock()

    def done(self, command: Command, status: int) -> None:
        """It had its last response, or will never have one (-1)."""
        name = command.name.removesuffix("-RQ")
        service = name if name in metrics.DIMSE_SERVICES else "other"
        metrics.dimse_operations.add(f"{self._direction},{service},{status_class(status)}")
        begun = self._begun.pop((command.name, command.message_id), None)
        if begun is not None:
            metrics.dimse_seconds.observe(self._clock() - begun, f"{self._direction},{service}")

    def end(self) -> None:
        """The association is over."""
        if self._open:
            self._open = False
            metrics.dimse_open.add(-1, self._direction)


def status_class(status: int) -> str:
    """One of metrics.DIMSE_STATUSES (PS3.7 annex C)."""
    if status < 0:
        return "unanswered"
    if status == Status.CANCEL:
        return "cancel"
    if status in _WARNINGS or 0xB000 <= status <= 0xBFFF:
        return "warning"
    return "success" if status == Status.SUCCESS else "failure"
