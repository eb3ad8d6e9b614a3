"""What happened on one association, in words for whoever has to find out why it did not work.

Owns: one association's trace, and the ring that keeps the last ones of this process. Must never: hold anything about a
patient: no identifier, no UID of an instance, no value of a key.

Limits: KEPT traces a process; CONTEXTS_MAX contexts and STATUSES_MAX statuses in one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from radiolith.dicom import dictionary
from radiolith.dimse.association import Accepted, Agreed, Rejected, reject_text, result_text
from radiolith.dimse.commands import Command
from radiolith.dimse.items import Result, UserInformation
from radiolith.dimse.pdu import AssociateAccept, AssociateReject, AssociateRequest

INCOMING, OUTGOING = "incoming", "outgoing"
"""Who opened the association: the peer, or we. Also `metrics.DIMSE_DIRECTIONS`."""
CONTEXTS_MAX = 128
STATUSES_MAX = 64
IMPLEMENTATION_MAX = 64
"""Characters: a UID; the peer may have written 65,535."""
NAMES_MAX = 8
"""Of a certificate; some carry hundreds."""


class Trace:
    """Filled in as things happen; `told` is what is kept of it. `address` is the peer's, with its port where we called.

    `implementation` and `pdu_bytes` are the peer's; `principal`: as whom it was let in, or its name where we called. `tenant`:
    row id of the one on whose behalf we called, 0 where the called title says it.
    """

    def __init__(self, address: str, at: int, direction: str = INCOMING):
        self.address, self.at, self.direction = address, at, direction
        self.ended_at = self.tenant = 0
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
        if self.direction == INCOMING:
            self._software(request.user)
        self._proposed = {each.id: (each.abstract_syntax, each.transfer_syntaxes) for each in request.contexts}

    def answered(self, answer: Accepted | Rejected) -> None:
        if isinstance(answer, Rejected):
            self.rejected(answer.text, answer.answer)
            return
        for context in answer.answer.contexts[:CONTEXTS_MAX]:
            accepted = context.result == Result.ACCEPTED
            self._context(context.id, context.transfer_syntax if accepted else "", result_text(context.result))
        self._accepted()

    def rejected(self, words: str, answer: AssociateReject) -> None:
        self.outcome = f"rejected: {words}"
        self.rejection = reject_text(answer)

    def agreed(self, found: Agreed, accept: AssociateAccept) -> None:
        """The peer accepted an association of ours."""
        self._software(accept.user)
        for id in list(self._proposed)[:CONTEXTS_MAX]:
            context = found.contexts.get(id)
            if context is not None:
                self._context(id, context.transfer_syntax, result_text(Result.ACCEPTED))
            else:
                self._context(id, "", found.refused.get(id, ""))
        self._accepted()

    def _software(self, user: UserInformation) -> None:
        self.implementation = (user.implementation_version or user.implementation_uid)[:IMPLEMENTATION_MAX]
        self.pdu_bytes = user.max_length

    def _context(self, id: int, chosen: str, result: str) -> None:
        """`chosen`: the transfer syntax of one that was accepted, '' for a refused one."""
        abstract, proposed = self._proposed.get(id, ("", ()))
        syntaxes = ", ".join(_name(uid) for uid in ((chosen,) if chosen else proposed[:8]))
        self._contexts.append({"service": _name(abstract), "syntax": syntaxes, "result": result})

    def _accepted(self) -> None:
        refused = sum(each["result"] != result_text(Result.ACCEPTED) for each in self._contexts)
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
            "direction": self.direction,
            "tenant": self.tenant,
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
