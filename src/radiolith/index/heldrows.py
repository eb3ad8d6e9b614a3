"""Rows of `instances` as `Held`.

Owns: which columns make a Held, and the look-ups of numbers, of names as received and of corrections it takes. Must never: decide
what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from radiolith.index import codes, overlays
from radiolith.index.attributes import NO_NUMBER
from radiolith.index.layouts import unpack_layout
from radiolith.index.session import Reader, Writer
from radiolith.index.uids import unpack_uid
from radiolith.model import Blob, Held, Identity, Overlay, Place, Tenant

COLUMNS = (
    "i.id, i.uid, i.class, i.number, i.segment_id, i.place_start, i.place_length, i.object_id, i.scope_id, i.wrapped_key,"
    " i.size, i.layout, i.syntax, i.sha256, i.received_at, i.source, i.principal, i.current, i.reason, i.encoding_of, i.home_id"
)


class Homes:
    """Where the instances of shown series were received, and how their headers are corrected: each looked up once."""

    def __init__(self, read: Reader, tenant_id: int):
        self._read, self._tenant_id = read, tenant_id
        self._known: dict[tuple[int, int], tuple[str, str, bytes | None]] = {}

    def of(
        self, series_id: int, home_id: int | None, sop: str, digest: bytes | None
    ) -> tuple[Identity | None, Overlay | None]:
        """Of an instance of the series row. `digest`: the corrections of what was received in that series."""
        if home_id is None:
            return None, overlays.load(self._read, self._tenant_id, digest) if digest else None
        found = self._known.get((series_id, home_id))
        if found is None:
            row = self._read.one(
                "SELECT t.uid, h.uid, m.overlay FROM series h CROSS JOIN studies t LEFT JOIN moved m ON m.home_id = h.id"
                " AND m.series_id = ? WHERE h.id = ? AND t.id = h.study_id",
                (series_id, home_id),
            ) or (b"", b"", None)
            found = self._known[series_id, home_id] = (unpack_uid(bytes(row[0])), unpack_uid(bytes(row[1])), row[2])
        study, series, moved = found
        return Identity(study, series, sop), overlays.load(self._read, self._tenant_id, moved)


UNCHANGED: tuple[Identity | None, Overlay | None] = (None, None)


def held(
    read: Reader,
    tenant: bytes,
    study: str,
    series: str,
    row: Sequence[Any],
    shown: tuple[Identity | None, Overlay | None] = UNCHANGED,
) -> Held:
    """`shown`: home and overlay, from `Homes.of`."""
    (
        (row_id, uid, sop_class, number, segment, start, length, object_id, scope, wrapped_key),
        (size, layout, syntax, sha256, received_at, source, principal, is_current, reason, encoding_of),
    ) = row[:10], row[10:20]
    place = Place(codes.segment_uid(read, segment), start, length)
    return Held(
        row_id,
        Identity(study, series, unpack_uid(uid)),
        codes.decode(read, sop_class),
        number if number != NO_NUMBER else None,
        Blob(place, object_id, tenant, codes.scope(read, scope), wrapped_key, size),
        unpack_layout(layout, codes.decode(read, syntax)),
        sha256,
        received_at,
        codes.source(read, source),
        codes.decode(read, principal),
        bool(is_current),
        codes.decode(read, reason),
        encoding_of,
        *shown,
    )


def tenant_uid(read: Reader, tenant_id: int) -> bytes:
    known = read.memory.recall("tenant uids")
    uid = known.get(tenant_id)
    if uid is None:
        row = read.one("SELECT uid FROM tenants WHERE id = ?", (tenant_id,))
        uid = bytes(row[0]) if row else b""
        if row and not isinstance(read, Writer):
            known[tenant_id] = uid
    return uid


JOINED = (
    f"SELECT {COLUMNS}, e.uid, s.uid, e.overlay, i.series_id, i.tenant_id FROM instances i CROSS JOIN series e"  # noqa: S608
    " CROSS JOIN studies s WHERE e.id = i.series_id AND s.id = e.study_id AND i.tenant_id = ?"
)


def held_joined(read: Reader, tenant: bytes, row: Sequence[Any], homes: Homes | None = None) -> Held:
    """A row of a statement that begins with JOINED."""
    known = homes or Homes(read, row[25])
    shown = known.of(row[24], row[20], unpack_uid(bytes(row[1])), row[23])
    return held(read, tenant, unpack_uid(row[22]), unpack_uid(row[21]), row, shown)


def read_row(read: Reader, tenant: Tenant, instance_id: int) -> Held:
    """A row that is known to be there."""
    row = read.one(f"{JOINED} AND i.id = ?", (tenant.id, instance_id))
    if row is None:
        raise RuntimeError("an instance row vanished inside its transaction")
    return held_joined(read, tenant.uid, row)
