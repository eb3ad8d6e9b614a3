"""What an association that we opened leaves behind: its trace, and its part of the metrics.

Owns: when which of the two hears of what. Must never: hold anything about a patient: addresses, titles, contexts, statuses and
the words of this package, never a peer's comment or an instance. Limits: those of `trace`.
"""

from __future__ import annotations

from radiolith.dimse.association import Agreed, reject_text
from radiolith.dimse.calls import Target
from radiolith.dimse.commands import Command
from radiolith.dimse.measure import Measure
from radiolith.dimse.pdu import AssociateAccept, AssociateReject, AssociateRequest
from radiolith.dimse.trace import OUTGOING, Trace

NO_CONNECTION = "no connection"
NO_ANSWER = "no answer to the request for an association"
CANCELLED = "ended here: nobody waits for the rest any more"


class Recording:
    """Made before the connection; `end` is called once, whatever happened."""

    def __init__(self, target: Target, request: AssociateRequest):
        self._record = target.record
        self._trace = Trace(f"{target.host}:{target.port}", self._now(), OUTGOING)
        self._trace.principal = target.name
        self._trace.tenant = target.record.tenant if target.record else 0
        self._trace.proposed(request)
        self._measure = Measure(OUTGOING)

    def _now(self) -> int:
        return self._record.clock() if self._record else 0

    # ------------------------------------------------------------ the association

    def unreachable(self, why: str) -> None:
        """There is no connection; nothing follows."""
        self._trace.outcome = NO_CONNECTION
        self._measure.counted("no-connection")
        self.end(why, 0)

    def connected(self, secure: bool, names: frozenset[str]) -> None:
        """`names`: in the peer's verified certificate."""
        self._trace.tls, self._trace.names = secure, names

    def accepted(self, agreed: Agreed, accept: AssociateAccept) -> None:
        self._trace.agreed(agreed, accept)
        self._measure.opened()

    def rejected(self, reject: AssociateReject) -> None:
        self._trace.rejected(reject_text(reject), reject)
        self._measure.rejected(reject)

    def end(self, why: str, received: int) -> None:
        """`received`: bytes."""
        if not self._trace.outcome:
            self._trace.outcome = NO_ANSWER
            self._measure.counted("no-answer")
        self._measure.end()
        self._trace.ended(why)
        self._trace.bytes = received
        self._trace.ended_at = self._now()
        if self._record is not None:
            self._record.told(self._trace.told())

    # ------------------------------------------------------------ requests on it, of either side

    def asked(self, command: Command) -> None:
        self._measure.begun(command)

    def answered(self, command: Command, status: int) -> None:
        """It had its last response, or will never have one (-1)."""
        self._trace.count(command, status)
        self._measure.done(command, status)
