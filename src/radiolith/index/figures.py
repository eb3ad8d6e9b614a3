"""How much is held: the figures that status and metrics show.

Owns: nothing but statements. Must never: be asked more than every other second, or be exact where that needs a scan:
studies and instances are counted from the computed answers on the study rows.
"""

from __future__ import annotations

from radiolith.index import registry
from radiolith.index.session import Reader
from radiolith.index.uids import pack_uid


def held(read: Reader, tenant_id: int) -> dict[str, int]:
    """studies, series, instances, rejected, bytes: of patients; non_patient, quarantined, conflicts."""
    row = read.one(
        "SELECT COUNT(*), COALESCE(SUM(series), 0), COALESCE(SUM(instances), 0), COALESCE(SUM(rejected), 0),"
        " COALESCE(SUM(size), 0) FROM studies WHERE tenant_id = ? AND uid <> ?",
        (tenant_id, pack_uid("")),
    )
    names = ("studies", "series", "instances", "rejected", "bytes")
    found = {name: int(value) for name, value in zip(names, row or (0,) * 5, strict=True)}
    one = read.one(
        "SELECT COUNT(*) FROM studies s CROSS JOIN series e CROSS JOIN instances i WHERE s.uid = ? AND s.tenant_id = ?"
        " AND e.uid = ? AND e.study_id = s.id AND i.series_id = e.id AND i.current = 1 AND i.reason = 0",
        (pack_uid(""), tenant_id, pack_uid("")),
    )
    found["non_patient"] = int(one[0]) if one else 0
    one = read.one("SELECT COUNT(*) FROM quarantine WHERE tenant_id = ? AND released = 0", (tenant_id,))
    found["quarantined"] = int(one[0]) if one else 0
    one = read.one("SELECT COUNT(*) FROM instances WHERE tenant_id = ? AND conflict = 1", (tenant_id,))
    found["conflicts"] = int(one[0]) if one else 0
    return found


def recovery_confirmed(read: Reader, tenant_id: int) -> bool:
    """Whether somebody has said that the recovery file lies in a safe place."""
    return registry.get(read, tenant_id, "setting", "recovery confirmed") is not None
