"""The information models of query/retrieve, and their extended negotiation (PS3.4 C.5, C.6).

Owns: the tables: levels, unique keys, and which options are agreed to. Must never: read an identifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from radiolith.dimse import sopclasses
from radiolith.model import Level

CHARACTER_SET, LEVEL, VIEW, RETRIEVE_AE, AVAILABILITY = 0x00080005, 0x00080052, 0x00080053, 0x00080054, 0x00080056
PATIENT_ID, ISSUER, QUALIFIERS = 0x00100020, 0x00100021, 0x00100024
UNIVERSAL_ISSUER = 0x00400032
NOT_KEYS = frozenset({CHARACTER_SET, LEVEL, VIEW, RETRIEVE_AE, AVAILABILITY, 0x00080201, 0x00880130, 0x00880140})
"""About the answer, the connection or the medium: nothing that is matched. Timezone Offset From UTC is returned only."""
NOT_HELD = NOT_KEYS - {0x00080201}
"""What no search answers."""

LEVELS = {"PATIENT": Level.PATIENT, "STUDY": Level.STUDY, "SERIES": Level.SERIES, "IMAGE": Level.INSTANCE}
NAMES = {level: name for name, level in LEVELS.items()}
UNIQUE = {
    Level.PATIENT: PATIENT_ID,
    Level.STUDY: 0x0020000D,
    Level.SERIES: 0x0020000E,
    Level.INSTANCE: 0x00080018,
}
"""The unique key of each level (PS3.4 C.6.1.1)."""

Model = tuple[Level, ...]
"""The levels of an information model, from its root down."""

PATIENT_ROOT: Model = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE)
STUDY_ROOT: Model = PATIENT_ROOT[1:]
PATIENT_STUDY_ONLY: Model = PATIENT_ROOT[:2]
INSTANCES: Model = PATIENT_ROOT[3:]
"""Composite Instance Root and Retrieve Without Bulk Data: instances by their UIDs alone (PS3.4 Y.4, Z.4)."""
MODELS: Mapping[str, Model] = {
    sop_class: model
    for retrieval, model in (
        (sopclasses.PATIENT_ROOT, PATIENT_ROOT),
        (sopclasses.STUDY_ROOT, STUDY_ROOT),
        (sopclasses.PATIENT_STUDY_ONLY, PATIENT_STUDY_ONLY),
        (sopclasses.COMPOSITE_ROOT, INSTANCES),
        (sopclasses.WITHOUT_BULK_DATA, INSTANCES),
    )
    for sop_class in retrieval
    if sop_class
}
"""SOP class of a query or retrieval -> its model."""


# ---------------------------------------------------------------- extended negotiation

_FIND_SUPPORTED = bytes((1, 1, 1, 0, 0, 1, 1))
_RETRIEVE_SUPPORTED = bytes((1, 0))


class Negotiated(NamedTuple):
    """What was agreed for C-FIND (PS3.4 table C.5-2), or its first field for C-MOVE and C-GET (table C.5-4)."""

    relational: bool = False
    date_time: bool = False
    fuzzy: bool = False
    timezone: bool = False
    multi_frame: bool = False
    empty_values: bool = False
    multiple_values: bool = False

    @classmethod
    def of(cls, information: bytes) -> Negotiated:
        """From the bytes that were answered (`association.Context.extended`)."""
        return cls(*(byte == 1 for byte in information[: len(cls._fields)]))


BASELINE = Negotiated()
"""Without extended negotiation."""


def answer_query(information: bytes) -> bytes | None:
    """The answer to a C-FIND's extended negotiation, as long as what was asked (PS3.4 C.5.1.1.2)."""
    return bytes(a & b for a, b in zip(information, _FIND_SUPPORTED, strict=False)) or None


def answer_retrieval(information: bytes) -> bytes | None:
    """The same for C-MOVE and C-GET: relational retrieval, no conversion of multi-frame images (PS3.4 C.5.2.1, C.5.3.1)."""
    return bytes(a & b for a, b in zip(information, _RETRIEVE_SUPPORTED, strict=False)) or None
