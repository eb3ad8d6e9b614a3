"""Rows of an answer as DICOM JSON (PS3.18 F) and as Native DICOM Model (PS3.19 A.1).

Owns: the addresses of objects, which only the edge knows; how values are written is dicom's. Must never: add or drop a match.
"""

from __future__ import annotations

from collections.abc import Sequence

from radiolith.dicom.json import attribute_json
from radiolith.dicom.naming import name_of
from radiolith.dicom.xml import row_to_xml
from radiolith.model import Identity, Level, Row

RETRIEVE_URL = 0x00081190
_STUDY, _SERIES, _SOP, _CLASS = 0x0020000D, 0x0020000E, 0x00080018, 0x00080016

_ROOT = "1.2.840.10008.5.1.4."
NON_PATIENT: dict[str, frozenset[str]] = {
    "color-palettes": frozenset({_ROOT + "39.1"}),
    "defined-procedure-protocols": frozenset({_ROOT + "1.1.200.1", _ROOT + "1.1.200.7"}),
    "hanging-protocols": frozenset({_ROOT + "38.1"}),
    "implant-templates": frozenset({_ROOT + "43.1", _ROOT + "44.1", _ROOT + "45.1"}),
    "inventories": frozenset({_ROOT + "1.1.201.1"}),
    "protocol-approvals": frozenset({_ROOT + "1.1.200.3"}),
}
"""Categories of non-patient instances and their SOP classes (PS3.18 table 12.1.1-1, the last one of CP-2551)."""
_CATEGORY_OF = {sop_class: category for category, classes in NON_PATIENT.items() for sop_class in classes}


def object_path(identity: Identity, sop_class: str) -> str:
    """Where an object is, below the service: under its study, or under its category."""
    if not identity.study:
        return f"/{_CATEGORY_OF[sop_class]}/{name_of(identity.sop)}" if sop_class in _CATEGORY_OF else ""
    study, series, sop = name_of(identity.study), name_of(identity.series), name_of(identity.sop)
    return f"/studies/{study}/series/{series}/instances/{sop}"


def rows_json(rows: Sequence[Row], level: Level, service: str) -> bytes:
    """A JSON array, one object a row, attributes in tag order."""
    return b"[" + b",".join([attribute_json(_with_url(row, level, service)) for row in rows]) + b"]"


def _with_url(row: Row, level: Level, service: str) -> Row:
    url = retrieve_url(row, level, service)
    return {**row, RETRIEVE_URL: ("UR", url)} if url else row


def retrieve_url(row: Row, level: Level, service: str) -> str:
    """Where the object of this row is; '' for what is none."""

    def text(tag: int) -> str:
        value = row[tag][1] if tag in row else None
        return value if isinstance(value, str) else ""

    def uid(tag: int) -> str:
        return name_of(text(tag)) if text(tag) else ""

    if level is Level.PATIENT:
        return ""
    if not uid(_STUDY):
        path = object_path(Identity("", "", text(_SOP)), text(_CLASS)) if text(_SOP) else ""
        return service + path if path else ""
    url = f"{service}/studies/{uid(_STUDY)}"
    if level is not Level.STUDY:
        url += f"/series/{uid(_SERIES)}"
    if level is Level.INSTANCE:
        url += f"/instances/{uid(_SOP)}"
    return url


def rows_xml(row: Row, level: Level, service: str) -> bytes:
    """One row as a Native DICOM Model document."""
    return row_to_xml(_with_url(row, level, service))
