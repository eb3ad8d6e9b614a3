"""What happened on one association, in words for whoever has to find out why it did not work.

Owns: one association's trace, and the ring that keeps the last ones of this process. Must never: hold anything about a
patient: no identifier, no UID of an instance, no value of a key.

Limits: KEPT traces a process; CONTEXTS_MAX contexts and STATUSES_MAX statuses in one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from radiolith.dicom import dictionary
from radiolith.dimse.association import Accepted, Rejected, reject_text, result_text
from radiolith.dimse.commands import Command
from radiolith.dimse.items import Result
from radiolith.dimse.pdu import AssociateRequest

CONTEXTS_MAX = 128
STATUSES_MAX = 64
NAMES_MAX = 8
"""Of a certificate; some carry hundreds."""


class Trace:
    """Filled in as things happen; `told` is what is kept of it."""

    def __init__(self, address: str, at: int):
        self.address, self.at = address, at
        self.ended_at = 0
        self.calling = self.called = self.implementation = self.principal = ""
        self.outcome = self.rejection = ""
        self.tls, self.names = False, frozenset[str]()  # of the peer's verified certificate
        self.end = ""
        self.bytes = 0
        self.pdu_bytes = 0
        self._contexts: list[dict[str, str]] = []
        self._proposed: dict[int, tuple[str, tuple[str, ...]]] = {}
        self._statuses: Counter[tuple[str, int]] = Counter()

    def proposed(self, request: AssociateRequest) -> None:
        self.calling, self.called = request.calling, request.called
        self.implementation = request.user.implementation_version or request.user.implementation_uid
        self.pdu_bytes = request.user.max_length
        self._proposed = {each.id: (each.abstract_syntax, each.transfer_syntaxes) for each in request.contexts}

    def answered(self, answer: Accepted | Rejected) -> None:
        if isinstance(answer, Rejected):
            self.outcome = f"rejected: {answer.text}"
            self.rejection = reject_text(answer.answer)
            return
        refused = 0
        for context in answer.answer.contexts[:CONTEXTS_MAX]:
            abstract, proposed = self._proposed.get(context.id, ("", ()))
            accepted = context.result == Result.ACCEPTED
            refused += not accepted
            syntaxes = [context.transfer_syntax] if accepted else list(proposed[:8])
            self._contexts.append(
                {
                    "service": _name(abstract),
                    "syntax": ", ".join(_name(uid) for uid in syntaxes),
                    "result": result_text(context.result),
                }
            )
        self.outcome = "accepted" if not refused else f"accepted, {refused} of {len(self._contexts)} contexts refused"

    def count(self, command: Command, status: int) -> None:
        """A request was answered with this status, or never (-1)."""
        key = (command.name.removesuffix("-RQ"), status)
        if key in self._statuses or len(self._statuses) < STATUSES_MAX:
            self._statuses[key] += 1

    def ended(self, how: str) -> None:
        self.end = self.end or how

    def told(self) -> dict[str, Any]:
        """As JSON: times in microseconds, sizes in bytes."""
        return {
            "at": self.at,
            "ended_at": self.ended_at,
            "address": self.address,
            "calling": self.calling,
            "called": self.called,
            "principal": self.principal,
            "tls": self.tls,
            "names": sorted(self.names)[:NAMES_MAX],
            "implementation": self.implementation,
            "pdu_bytes": self.pdu_bytes,
            "outcome": self.outcome or "no association was requested",
            "rejection": self.rejection,
            "end": self.end or "the connection was closed",
            "received_bytes": self.bytes,
            "contexts": self._contexts,
            "operations": [
                {"operation": name, "status": "no answer" if status < 0 else f"{status:04X}", "count": count}
                for (name, status), count in self._statuses.items()
            ],
        }


def _name(uid: str) -> str:
    """The dictionary's name of a UID, or the UID: devices propose what is in no dictionary."""
    return dictionary.uid_name(uid[:64])
