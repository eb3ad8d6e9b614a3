"""Which peers have got something of a study from us: whom to tell when it is rejected.

Owns: the table `copies`. Must never: be taken for proof that a peer still has it. A study is named as it was shown when it was
sent. Not from facts: of what was sent before the index was lost nothing is known any more.
"""

from __future__ import annotations

from collections.abc import Iterable

from radiolith.index.session import Reader, Writer
from radiolith.index.uids import pack_uid


def note(tx: Writer, tenant_id: int, study: str, peer: str, at: int) -> None:
    tx.run(
        "INSERT INTO copies(tenant_id, study, peer, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (tenant_id, pack_uid(study), peer, at),
    )


def holders(read: Reader, tenant_id: int, studies: Iterable[str]) -> list[str]:
    """Names of the peers that got something of any of these studies, in order."""
    found: set[str] = set()
    for study in studies:
        rows = read.all("SELECT peer FROM copies WHERE tenant_id = ? AND study = ?", (tenant_id, pack_uid(study)))
        found.update(row[0] for row in rows)
    return sorted(found)
