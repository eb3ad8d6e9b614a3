"""DELETE and restore: not in PS3.18, but asked of every archive. Nothing is destroyed: see the verb `remove`.

DELETE takes an IOCM reason (`reason=`, PS3.16 CID 7011). Without one it means 113001, "Rejected for Quality Reasons":
the least that a person who deletes something says. The other three state facts (a danger, a wrong worklist entry, a
retention period that has run out) that nobody should state by leaving a parameter out.
"""

from __future__ import annotations

import orjson

from radiolith.dicomweb.call import Call
from radiolith.dicomweb.resources import Reply
from radiolith.dicomweb.respond import Answer
from radiolith.model import BadInput

DEFAULT_REASON = "113001"


async def reject(call: Call) -> Reply:
    """DELETE study, series or instance: 200 with the number of instances that left the normal views."""
    for name in call.parameters:
        if name not in ("reason", "accept"):
            raise BadInput(f"DELETE does not know the parameter {name[:64]}")
    reason = call.one("reason") or DEFAULT_REASON
    count = await call.archive.remove.reject(
        call.principal, call.uid("study"), call.uid("series"), call.uid("instance"), reason=reason
    )
    return Answer(orjson.dumps({"rejected": count, "reason": reason}), "application/json")


async def restore(call: Call) -> Reply:
    """POST …/restore: 200 with the number of instances that came back."""
    count = await call.archive.remove.restore(
        call.principal, call.uid("study"), call.uid("series"), call.uid("instance")
    )
    return Answer(orjson.dumps({"restored": count}), "application/json")
