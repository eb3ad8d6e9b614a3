"""Who sends to the archive, and what is odd about it, seen from the edges.

Owns: who may look, and what a header says of the product that made it. Must never: judge (jobs/habits does), or show
a patient.
"""

from __future__ import annotations

from typing import TypeVar

import orjson

from radiolith.archive.description import Description
from radiolith.archive.reading import Reading
from radiolith.index import devices
from radiolith.index.devices import Device, Notice
from radiolith.index.session import Reader
from radiolith.model import Failure, Held, Principal
from radiolith.trust.access import Action, require
from radiolith.trust.audit import ReadAudit

HEADER_BYTES = 1 << 20  # of metadata: a header with more is not read for a version
NAME_MAX = 200  # characters of a product's name
_MANUFACTURER, _MODEL, _SERIAL, _SOFTWARE = "00080070", "00081090", "00181000", "00181020"
T = TypeVar("T")


class Devices:
    def __init__(self, reading: Reading, trail: ReadAudit):
        self._reading, self._trail = reading, trail

    async def list(self, principal: Principal) -> list[Device]:
        """All that ever sent by DIMSE or STOW-RS, by door and name."""
        require(principal, Action.QUERY)
        found = await self._reading.look(lambda read: devices.listed(read, principal.tenant.id))
        await self._trail.note(principal, "", "devices", len(found))
        return found

    async def notices(
        self, principal: Principal, limit: int = 100, after: int = 0, *, settled: bool = False
    ) -> list[Notice]:
        """What is odd, latest first; `after` is the id the page before ended with. settled: also what is so no more."""
        require(principal, Action.QUERY)

        def look(read: Reader) -> list[Notice]:
            before = devices.position(read, principal.tenant.id, after) if after else (2**62, 0)
            return devices.notices(read, principal.tenant.id, limit, before, settled=settled)

        found = await self._reading.look(look)
        await self._trail.note(principal, "", "devices", len(found))
        return found


def product(description: Description, held: Held) -> str:
    """Manufacturer, model, serial number and software versions of the equipment (PS3.3 C.7.5.1) as one line; '' where the
    header says no version, or cannot be read now. Blocks."""
    try:
        found = orjson.loads(description.row_now(held, HEADER_BYTES))
    except Failure:  # `check` reports damage
        return ""
    texts = {tag: _texts(found.get(tag, {}).get("Value", [])) for tag in (_MANUFACTURER, _MODEL, _SERIAL, _SOFTWARE)}
    if not texts[_SOFTWARE]:
        return ""
    serial = f"(serial number {texts[_SERIAL]})" if texts[_SERIAL] else ""
    parts = (texts[_MANUFACTURER], texts[_MODEL], serial, "version", texts[_SOFTWARE])
    return " ".join(part for part in parts if part)[:NAME_MAX]


def _texts(values: list[object]) -> str:
    return ", ".join(text for value in values if (text := str(value or "").strip()))
