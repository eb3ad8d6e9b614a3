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
from radiolith.dimse.status import Status

_WARNINGS = (0x0001, 0x0107, 0x0116)


class Measure:
    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._open = False
        self._begun: dict[int, float] = {}  # message id -> when its command was there

    def answered(self, answer: Accepted | Rejected) -> None:
        """A request for an association was."""
        if isinstance(answer, Accepted):
            self._open = True
            metrics.dimse_open.add(1)
            metrics.dimse_associations.add("accepted")
            return
        reason = reject_text(answer.answer).rpartition(": ")[2]
        metrics.dimse_associations.add(reason if reason in metrics.DIMSE_OUTCOMES else "other")

    def begun(self, command: Command) -> None:
        """A request's command is there."""
        self._begun[command.message_id] = self._clock()

    def done(self, command: Command, status: int) -> None:
        """It had its last response, or will never have one (-1)."""
        name = command.name.removesuffix("-RQ")
        service = name if name in metrics.DIMSE_SERVICES else "other"
        metrics.dimse_operations.add(f"{service},{status_class(status)}")
        begun = self._begun.pop(command.message_id, None)
        if begun is not None:
            metrics.dimse_seconds.observe(self._clock() - begun, service)

    def end(self) -> None:
        """The association is over."""
        if self._open:
            self._open = False
            metrics.dimse_open.add(-1)


def status_class(status: int) -> str:
    """One of metrics.DIMSE_STATUSES (PS3.7 annex C)."""
    if status < 0:
        return "unanswered"
    if status == Status.CANCEL:
        return "cancel"
    if status in _WARNINGS or 0xB000 <= status <= 0xBFFF:
        return "warning"
    return "success" if status == Status.SUCCESS else "failure"
