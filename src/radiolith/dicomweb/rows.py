"""Rows of an answer as DICOM JSON (PS3.18 F) and as Native DICOM Model (PS3.19 A.1).

Owns: the Retrieve URL, which only the edge knows; how values are written is dicom's. Must never: add or drop a match.
"""

from __future__ import annotations

from collections.abc import Sequence

from radiolith.dicom.json import attribute_json
from radiolith.dicom.naming import name_of
from radiolith.dicom.xml import row_to_xml
from radiolith.model import Level, Row

RETRIEVE_URL = 0x00081190
_STUDY, _SERIES, _SOP = 0x0020000D, 0x0020000E, 0x00080018


def rows_json(rows: Sequence[Row], level: Level, service: str) -> bytes:
    """A JSON array, one object a row, attributes in tag order."""
    return b"[" + b",".join([attribute_json(_with_url(row, level, service)) for row in rows]) + b"]"


def _with_url(row: Row, level: Level, service: str) -> Row:
    url = retrieve_url(row, level, service)
    return {**row, RETRIEVE_URL: ("UR", url)} if url else row


def retrieve_url(row: Row, level: Level, service: str) -> str:
    """Where the object of this row is; '' for what has no study (non-patient objects)."""

    def uid(tag: int) -> str:
        value = row[tag][1] if tag in row else None
        return name_of(value) if isinstance(value, str) and value else ""

    if not uid(_STUDY) or level is Level.PATIENT:
        return ""
    url = f"{service}/studies/{uid(_STUDY)}"
    if level is not Level.STUDY:
        url += f"/series/{uid(_SERIES)}"
    if level is Level.INSTANCE:
        url += f"/instances/{uid(_SOP)}"
    return url


def rows_xml(row: Row, level: Level, service: str) -> bytes:
    """One row as a Native DICOM Model document."""
    return row_to_xml(_with_url(row, level, service))
