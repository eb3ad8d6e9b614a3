"""Corrections as columns, and columns as corrections.

Owns: the step between the DICOM JSON model of words (PS3.18 F.2) and the columns of the index, in both directions, so that what a
query answers and what a header says are the same. Must never: know tables or SQL. A value is read as `attributes.describe` reads
that of a header: cleaned, clipped, empty where it breaks its VR.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from radiolith.index.attributes import ATTRIBUTES, CLAIMED_MAX, Matching, clean, date, number, time
from radiolith.model import Edit, Level

Columns = Mapping[str, "str | int | None"]
Json = Mapping[str, Any]
_ACCESSION_ISSUER, _REQUESTS, _OTHER_IDS, _QUALIFIERS = 0x00080051, 0x00400275, 0x00101002, 0x00100024
_TRAITS = {0x00101005: "birth_name", 0x00101060: "mother_birth_name", 0x00100032: "birth_time"}
_COLUMNS = {
    (one.level, one.path[0]): (one.column, one.vr)
    for one in ATTRIBUTES
    if len(one.path) == 1
    and one.column
    and not one.column.startswith("#")
    and one.matching not in (Matching.UID, Matching.MODALITIES, Matching.CLASSES, Matching.REQUEST, Matching.CODE)
    and one.column not in ("instances", "series")
}


# ---------------------------------------------------------------- words -> columns


def redescribed(level: Level, columns: Columns, said: Mapping[str, Json | None]) -> dict[str, str | int | None]:
    """The columns with corrections, slot (eight digits) -> DICOM JSON or None where it is taken away; other slots are passed
    over. `columns` also have `claimed` and `requests`, as `attributes.describe` makes them."""
    changed: dict[str, str | int | None] = dict(columns)
    for slot, value in said.items():
        if len(slot) != 8:
            continue
        tag, element = int(slot, 16), value or {}
        known = _COLUMNS.get((level, tag))
        if known is not None:
            changed[known[0]] = _read(known[1], element)
        elif level is Level.PATIENT and tag in _TRAITS:
            traits = json.loads(str(changed.get("traits") or "{}")) | {_TRAITS[tag]: clean(_text(element))}
            kept = {name: text for name, text in traits.items() if text}
            changed["traits"] = json.dumps(kept, ensure_ascii=False, sort_keys=True) if kept else None
        elif level is Level.PATIENT and tag == _OTHER_IDS:
            claimed = sorted(one for item in _items(element) if (one := _claim(item))[0])
            changed["claimed"] = json.dumps(claimed) if claimed else None
        elif level is Level.STUDY and tag == _ACCESSION_ISSUER:
            changed["accession_issuer"] = next((_accession_issuer(item) for item in _items(element)), None)
        elif level is Level.SERIES and tag == _REQUESTS:
            requests = [[_of(item, key) for key in ("00400009", "00401001", "00080050")] for item in _items(element)]
            requests = [one for one in requests if any(one)]
            changed["requests"] = json.dumps(requests) if requests else None
    return changed


def _text(element: Json) -> str:
    """As on the wire: values with backslashes between them, groups of a name with '='."""
    texts: list[str] = []
    for value in cast("list[Any]", element.get("Value") or []):
        if isinstance(value, Mapping):
            name = cast("Json", value)
            groups = [str(name.get(group) or "") for group in ("Alphabetic", "Ideographic", "Phonetic")]
            texts.append("=".join(groups).rstrip("="))
        else:
            texts.append("" if value is None else str(value))
    return "\\".join(texts)


def _read(vr: str, element: Json) -> str | int | None:
    text = _text(element)
    if vr == "DA":
        return date(text)
    if vr == "TM":
        return time(text)
    if vr == "IS":
        return number(text)
    return clean(text)


def _items(element: Json) -> list[Json]:
    return [one for one in cast("list[Any]", element.get("Value") or []) if isinstance(one, Mapping)][:CLAIMED_MAX]


def _of(item: Json, key: str) -> str:
    return clean(_text(cast("Json", item.get(key) or {}))) or ""


def _claim(item: Json) -> list[str]:
    qualifiers = next(iter(_items(cast("Json", item.get("00100024") or {}))), {})
    universal, local = _of(qualifiers, "00400032"), _of(item, "00100021")
    issuer = universal or local or _of(qualifiers, "00400031")
    return [_of(item, "00100020"), issuer, _of(qualifiers, "00400033") if universal else "", _of(item, "00100022")]


def _accession_issuer(item: Json) -> str | None:
    joined = "&".join(_of(item, key).replace("&", " ") for key in ("00400031", "00400032", "00400033"))
    return clean(joined) if joined.strip("&") else None


# ---------------------------------------------------------------- words -> headers


def edit(slot: str, value: Json | None) -> Edit:
    """A word about an attribute as an edit of headers. `slot`: eight digits, behind a colon the private creator."""
    digits, _, creator = slot.partition(":")
    tag = int(digits, 16)
    if value is None:
        return Edit(tag, "", None, creator)
    body = {key: value[key] for key in ("Value", "InlineBinary") if key in value}
    return Edit(tag, str(value["vr"]), _dumped(body), creator)


def _dumped(body: Json) -> bytes:
    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8", "replace")


# ---------------------------------------------------------------- columns -> headers


def _set(tag: int, vr: str, text: object) -> Edit:
    """The attribute with this value as on the wire, empty for None."""
    if text is None or text == "":
        return Edit(tag, vr, b"{}")
    values: list[Any] = str(text).split("\\") if vr not in ("LT", "ST", "UT") else [str(text)]
    if vr == "PN":
        groups = ("Alphabetic", "Ideographic", "Phonetic")
        values = [
            {group: part for group, part in zip(groups, one.split("="), strict=False) if part} or None for one in values
        ]
    return Edit(tag, vr, _dumped({"Value": [one if one != "" else None for one in values]}))


def _set_or_remove(tag: int, vr: str, text: object) -> Edit:
    return _set(tag, vr, text) if text else Edit(tag, vr, None)


def _sequence(tag: int, items: Iterable[Mapping[str, tuple[str, str]]]) -> Edit:
    """Items given as keyword digits -> (VR, text); taken away where there is none."""
    value = [{key: {"vr": vr, "Value": [text]} for key, (vr, text) in item.items() if text} for item in items]
    return Edit(tag, "SQ", _dumped({"Value": value}) if value else None)


def uid(tag: int, value: str) -> Edit:
    return _set(tag, "UI", value)


def _day(value: object) -> str:
    return f"{value:08d}" if isinstance(value, int) and value else ""


def _issuer(issuer: str, kind: str) -> dict[str, tuple[str, str]]:
    return {"00400032": ("UT", issuer), "00400033": ("CS", kind)}


def of_study(columns: Columns) -> list[Edit]:
    """The General Study Module (PS3.3 C.7.2.1) as the row of a study shows it."""
    local, universal, kind = [*str(columns.get("accession_issuer") or "").split("&"), "", "", ""][:3]
    issuer = {"00400031": ("UT", local), "00400032": ("UT", universal), "00400033": ("CS", kind)}
    return [
        _set(0x00080020, "DA", _day(columns.get("study_date"))),
        _set(0x00080030, "TM", columns.get("study_time")),
        _set(0x00080050, "SH", columns.get("accession")),
        _sequence(_ACCESSION_ISSUER, [issuer] if local or universal else []),
        _set(0x00080090, "PN", columns.get("referring")),
        _set_or_remove(0x00081030, "LO", columns.get("description")),
        _set(0x00200010, "SH", columns.get("study_code")),
    ]


def of_patient(columns: Columns, issuer_key: str, issuer_type: str) -> list[Edit]:
    """Who the patient is, as the row of patients shows it (PS3.3 C.7.1.1)."""
    traits = json.loads(str(columns.get("traits") or "{}"))
    universal = [_issuer(issuer_key, issuer_type)] if issuer_type else []
    return [
        _set(0x00100010, "PN", columns.get("patient_name")),
        _set(0x00100020, "LO", columns.get("patient_id")),
        _set_or_remove(0x00100021, "LO", columns.get("issuer")),
        _sequence(_QUALIFIERS, universal),
        _set(0x00100030, "DA", _day(columns.get("birth_date"))),
        _set_or_remove(0x00100032, "TM", traits.get("birth_time")),
        _set(0x00100040, "CS", columns.get("sex")),
    ]


OF_ANOTHER = {
    0x00100022: "CS", 0x00100026: "SQ", 0x00100027: "LT", 0x00100033: "LO", 0x00100034: "LO", 0x00100035: "CS",
    0x00101000: "LO", 0x00101001: "PN", 0x00101002: "SQ", 0x00101005: "PN", 0x00101040: "LO", 0x00101060: "PN",
    0x00101080: "LO", 0x00101081: "LO", 0x00101090: "LO", 0x00102150: "LO", 0x00102152: "LO", 0x00102154: "SH",
    0x00102155: "LT", 0x00102160: "SH", 0x001021F0: "LO", 0x00102297: "PN", 0x00102299: "LO", 0x00104000: "LT",
    0x00081120: "SQ",
}  # fmt: skip
"""What else names or describes a person (PS3.3 C.7.1.1, C.2.2, C.2.3): of a study that turns out to be another person's it
would name the wrong one. What was measured at the study (C.7.2.2: age, size, weight) stays."""


def other_ids(claimed: Iterable[tuple[str, str, str, str]]) -> Edit:
    """Other Patient IDs Sequence (0010,1002) of identifiers given as value, issuer, issuer's type and type."""
    items: list[Json] = []
    for value, issuer, issuer_type, kind in claimed:
        item: dict[str, Any] = {"00100020": {"vr": "LO", "Value": [value]}}
        if issuer and not issuer_type:
            item["00100021"] = {"vr": "LO", "Value": [issuer]}
        item["00100022"] = {"vr": "CS", "Value": [kind or "TEXT"]}
        if issuer_type:
            parts = _issuer(issuer, issuer_type).items()
            item["00100024"] = {"vr": "SQ", "Value": [{key: {"vr": vr, "Value": [text]} for key, (vr, text) in parts}]}
        items.append(item)
    return Edit(_OTHER_IDS, "SQ", _dumped({"Value": items}))
