"""The C-FIND service on an association (PS3.4 C.4.1).

Owns: the conversation: pending responses, cancel, the last response. Must never: match, or hold more than a page of results
(`find`).
"""

from __future__ import annotations

from radiolith.dimse.answers import Answers
from radiolith.dimse.find import find
from radiolith.dimse.identifiers import read_query
from radiolith.dimse.infomodels import MODELS, Negotiated
from radiolith.dimse.operation import Operation
from radiolith.dimse.status import Status


async def serve(operation: Operation) -> None:
    """Answer one C-FIND-RQ; what it raises is a failure for `status.trouble`."""
    context = operation.context
    model = MODELS[context.abstract_syntax]
    asked = read_query(operation.data, context.transfer_syntax, model, Negotiated.of(context.extended))
    answers = Answers(asked, context.transfer_syntax, operation.caller.called, operation.caller.charset)
    caller = operation.caller
    async for found in find(operation.archive, caller.principal, asked, answers, lambda: operation.cancelled):
        operation.respond(found.status, found.identifier)
        await operation.sender.drain()
    operation.respond(Status.CANCEL if operation.cancelled else Status.SUCCESS)
