"""Rows of an answer as DICOM JSON (PS3.18 F) and as Native DICOM Model (PS3.19 A.1).

Owns: the Retrieve URL, which only the edge knows, and the XML form; JSON values are dicom/json's. Must never: add or
drop a match.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from radiolith.dicom import dictionary
from radiolith.dicom.json import attribute_json
from radiolith.model import Level, Row

RETRIEVE_URL = 0x00081190
_STUDY, _SERIES, _SOP = 0x0020000D, 0x0020000E, 0x00080018
_SINGLE = frozenset({"ST", "LT", "UT", "UR"})  # texts in which a backslash is a character


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
        return value if isinstance(value, str) else ""

    if not uid(_STUDY) or level is Level.PATIENT:
        return ""
    url = f"{service}/studies/{uid(_STUDY)}"
    if level is not Level.STUDY:
        url += f"/series/{uid(_SERIES)}"
    if level is Level.INSTANCE:
        url += f"/instances/{uid(_SOP)}"
    return url


# ---------------------------------------------------------------- XML


def rows_xml(row: Row, level: Level, service: str) -> bytes:
    """One row as a Native DICOM Model document."""
    out = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">',
    ]
    _attributes(_with_url(row, level, service), out)
    out.append("</NativeDicomModel>")
    return "".join(out).encode("utf-8", "replace")


def _attributes(row: Row, out: list[str]) -> None:
    """Sequences of a row are as deep as the index makes them, two levels at most: recursion is bounded."""
    for tag in sorted(row):
        vr, value = row[tag]
        keyword = dictionary.keyword(tag)
        name = f" keyword={quoteattr(keyword)}" if keyword else ""
        out.append(f'<DicomAttribute tag="{tag:08X}" vr="{vr}"{name}>')
        if isinstance(value, list):
            for number, item in enumerate(value, 1):
                out.append(f'<Item number="{number}">')
                _attributes(item, out)
                out.append("</Item>")
        elif value not in (None, ""):
            words = [str(value)] if vr in _SINGLE else str(value).split("\\")
            for number, word in enumerate(words, 1):
                out.append(
                    _person_xml(number, word) if vr == "PN" else f'<Value number="{number}">{_clean(word)}</Value>'
                )
        out.append("</DicomAttribute>")


_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")


def _person_xml(number: int, text: str) -> str:
    out = [f'<PersonName number="{number}">']
    for form, name in zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False):
        if name:
            parts = zip(_PARTS, name.split("^"), strict=False)
            inner = "".join(f"<{part}>{_clean(word)}</{part}>" for part, word in parts if word)
            out.append(f"<{form}>{inner}</{form}>")
    return "".join(out) + "</PersonName>"


def _clean(text: str) -> str:
    """XML 1.0 has no control characters but three."""
    return escape("".join(c if c >= " " or c in "\t\n\r" else "�" for c in text))
