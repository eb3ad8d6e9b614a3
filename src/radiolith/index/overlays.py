"""The corrections of a series' headers as one document, named by its digest.

Owns: the table `overlays`, and the form of what is in it. Must never: decide which corrections apply (`corrected` does). The same
corrections have the same digest on every node and after every rebuild; documents are never changed, so what a process remembers
of them stays true. What moved (`UidMap`) is a document of its own: it may be long, and many series share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from radiolith.index.session import Reader, Writer
from radiolith.model import Edit, Overlay, Step, UidMap

DIGEST_BYTES = 16
REMEMBERED_MAX = 1_000  # parsed overlays of a process, 1 to 10 KiB each


def made(steps: Sequence[Step], uids: UidMap) -> Overlay | None:
    """The overlay of these corrections, None where there is nothing to correct."""
    if not steps:
        return None
    return Overlay(_digest(_steps_body(steps, uids)), tuple(steps), uids)


def store(tx: Writer, tenant_id: int, overlay: Overlay) -> bytes:
    """Keep an overlay; its digest."""
    known = tx.memory.recall("overlays kept")
    if (tenant_id, overlay.digest) not in known:
        bodies = [_steps_body(overlay.steps, overlay.uids)] + (
            [_uids_body(overlay.uids)] if _moves(overlay.uids) else []
        )
        tx.run_many(
            "INSERT INTO overlays(tenant_id, digest, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            [(tenant_id, _digest(body), body) for body in bodies],
        )
        tx.after_commit(lambda: known.__setitem__((tenant_id, overlay.digest), True))
    return overlay.digest


def load(read: Reader, tenant_id: int, digest: bytes | None) -> Overlay | None:
    """The overlay of this name, None for none. Raises RuntimeError when it is lost: the header would be a wrong one."""
    if not digest:
        return None
    digest = bytes(digest)
    known = read.memory.recall("overlays")
    found: Overlay | None = known.get((tenant_id, digest))
    if found is None:
        if len(known) >= REMEMBERED_MAX:
            known.clear()
        body = json.loads(_body(read, tenant_id, digest))
        steps = tuple(_step(one) for one in body["steps"])
        uids = _uids(read, tenant_id, bytes.fromhex(body["uids"])) if body["uids"] else UidMap()
        found = known[tenant_id, digest] = Overlay(digest, steps, uids)
    return found


def _body(read: Reader, tenant_id: int, digest: bytes) -> str:
    row = read.one("SELECT body FROM overlays WHERE tenant_id = ? AND digest = ?", (tenant_id, digest))
    if row is None:
        raise RuntimeError(
            f"the corrections {digest.hex()} are not in the index; `radiolith check --rebuild` makes them anew"
        )
    return row[0]


# ---------------------------------------------------------------- the form


def _digest(body: str) -> bytes:
    return hashlib.blake2b(body.encode(), digest_size=DIGEST_BYTES).digest()


def _moves(uids: UidMap) -> bool:
    return bool(uids.studies or uids.series or uids.instances)


def _steps_body(steps: Sequence[Step], uids: UidMap) -> str:
    said = [
        {
            "op": step.operation.hex(), "at": step.at, "by": step.by, "why": step.why, "origin": step.origin,
            "edits": [[one.tag, one.vr, None if one.value is None else one.value.decode(), one.creator] for one in step.edits],
        }
        for step in steps
    ]  # fmt: skip
    return _dumped({"steps": said, "uids": _digest(_uids_body(uids)).hex() if _moves(uids) else ""})


def _uids_body(uids: UidMap) -> str:
    return _dumped({"studies": uids.studies, "series": uids.series, "instances": uids.instances})


def _dumped(body: Any) -> str:
    return json.dumps(body, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def _step(said: dict[str, Any]) -> Step:
    edits = tuple(
        Edit(tag, vr, None if value is None else value.encode(), creator) for tag, vr, value, creator in said["edits"]
    )
    return Step(bytes.fromhex(said["op"]), said["at"], said["by"], said["why"], said["origin"], edits)


def _uids(read: Reader, tenant_id: int, digest: bytes) -> UidMap:
    known = read.memory.recall("overlays' places")
    found: UidMap | None = known.get((tenant_id, digest))
    if found is None:
        body = json.loads(_body(read, tenant_id, digest))
        found = known[tenant_id, digest] = UidMap(
            tuple((was, now) for was, now in body["studies"]),
            tuple(((was[0], was[1]), (now[0], now[1])) for was, now in body["series"]),
            tuple(((was[0], was[1], was[2]), (now[0], now[1])) for was, now in body["instances"]),
        )
    return found
