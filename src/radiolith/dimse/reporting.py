"""Reports to peers on associations of our own: N-EVENT-REPORT of storage commitment with the roles turned round (PS3.4 J.3.3,
PS3.7 D.3.3.4), N-CREATE of instance availability (PS3.4 annex R).

Owns: one association for one report. Must never: retry (`jobs.reports` does), or take anything but success for taken.
"""

from __future__ import annotations

import ssl
import uuid
from collections.abc import Callable, Mapping

from radiolith.archive.ports import CommitmentResult
from radiolith.dimse import availability, committing, sopclasses
from radiolith.dimse.association import Context, Wanted
from radiolith.dimse.calls import Declined, NothingAccepted, Record, Target
from radiolith.dimse.delivery import target_of
from radiolith.dimse.scu import Association, connect
from radiolith.index.accounts import Peer
from radiolith.jobs.reports import Available

PROPOSES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("N-EVENT-REPORT-RQ", sopclasses.STORAGE_COMMITMENT): sopclasses.UNCOMPRESSED,
    ("N-CREATE-RQ", sopclasses.INSTANCE_AVAILABILITY): sopclasses.UNCOMPRESSED,
}
"""As in `asking`."""


class DimseReporting:
    """`jobs.reports.Reporting` over DIMSE. `title`: our AE title for a tenant (row id); `secure`: how the certificates of peers
    with TLS are checked; `record`: where what we do on behalf of a tenant is put on record."""

    def __init__(
        self,
        title: Callable[[int], str],
        secure: Callable[[Peer], ssl.SSLContext],
        record: Callable[[int], Record | None] = lambda tenant: None,
    ):
        self._title, self._secure, self._record = title, secure, record

    async def commitment(self, peer: Peer, tenant: int, ours: str, result: CommitmentResult) -> None:
        """Tell a result. Raises Unavailable when the peer cannot be reached or has not taken it."""
        wanted = [Wanted(sopclasses.STORAGE_COMMITMENT, sopclasses.UNCOMPRESSED, scu=False, scp=True)]
        async with connect(self._target(peer, tenant), wanted, ours or self._title(tenant)) as association:
            # Some accept the context and say nothing of roles; who reports events is the SCP anyhow (PS3.4 J.3.3).
            context = _accepted(association, sopclasses.STORAGE_COMMITMENT)
            event, data = committing.report(result, context.transfer_syntax)
            answer = await association.ask(context, committing.event_report(association.next_id(), event), data)
            if answer.status:
                raise Declined(answer)

    async def available(self, peer: Peer, tenant: int, ours: str, what: Available) -> None:
        """Tell that a study is available. Raises Unavailable like the other."""
        wanted = [Wanted(sopclasses.INSTANCE_AVAILABILITY, sopclasses.UNCOMPRESSED)]
        title = self._title(tenant)
        async with connect(self._target(peer, tenant), wanted, ours or title) as association:
            context = _accepted(association, sopclasses.INSTANCE_AVAILABILITY)
            data = availability.attributes(what, title, context.transfer_syntax)
            told = availability.notification(association.next_id(), f"2.25.{uuid.uuid4().int}")
            answer = await association.ask(context, told, data)
            if answer.status:
                raise Declined(answer)

    def _target(self, peer: Peer, tenant: int) -> Target:
        return target_of(peer, self._secure(peer) if peer.more.get("tls") else None, self._record(tenant))


def _accepted(association: Association, sop_class: str) -> Context:
    for context in association.contexts.values():
        if context.abstract_syntax == sop_class:
            return context
    raise NothingAccepted(f"{association.target} accepted no context for this report")
