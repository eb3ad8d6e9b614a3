"""Rejection notes: Key Object Selection documents whose title says that what they list is rejected, or is so no more.

Owns: reading and writing them (PS3.3 A.35.4 and C.17.6, PS3.16 TID 2010 and CID 7011, IHE RAD TF-3 4.66). Must never: decide what
follows from one. The standard has no title that takes a rejection back; what is written and understood for that is the code of
dcm4chee (RESTORE). Limits: REFERENCES_MAX references of one note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from struct import pack
from typing import Any

import orjson

from radiolith.dicom import compose
from radiolith.dicom.compose import Attributes, Bulk
from radiolith.dicom.encoding import padded
from radiolith.model import LimitExceeded

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"  # Key Object Selection Document Storage
REFERENCES_MAX = 50_000  # 10 MB of JSON
QUALITY, SAFETY, WORKLIST, RETENTION = "113001", "113037", "113038", "113039"
TITLES: Mapping[str, str] = {
    QUALITY: "Rejected for Quality Reasons",
    SAFETY: "Rejected for Patient Safety Reasons",
    WORKLIST: "Incorrect Modality Worklist Entry",
    RETENTION: "Data Retention Policy Expired",
}
"""Document titles of CID 7011, scheme DCM, that IHE uses for rejection."""
RESTORE = ("REVOKE_REJECTION", "99DCM4CHEE", "Restore rejected Instances")
_WAVEFORMS = "1.2.840.10008.5.1.4.1.1.9."
_COPIED = (
    "00080020", "00080030", "00080050", "00080090", "00100010", "00100020", "00100021", "00100024", "00100030", "00100040",
    "00200010", "00080051",
)  # fmt: skip
"""What a note takes over of patient and study (PS3.3 C.7.1.1, C.7.2.1); those it must have are empty where nothing is known."""
_REQUIRED = {"00080020": "DA", "00080030": "TM", "00080050": "SH", "00080090": "PN", "00100010": "PN", "00100020": "LO",
             "00100030": "DA", "00100040": "CS", "00200010": "SH"}  # fmt: skip

Document = Mapping[str, Any]
"""DICOM JSON of one object (PS3.18 F.2)."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One instance that a note lists. `image`: it has pixels."""

    study: str
    series: str
    sop: str
    sop_class: str
    image: bool = True


@dataclass(frozen=True, slots=True)
class Note:
    """`reason`: one of TITLES, '' takes a rejection back."""

    reason: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """Who a note that is written is, and when it was made, in microseconds."""

    sop: str
    series: str
    at: int
    system: str


# ---------------------------------------------------------------- reading


def read(document: Document) -> Note | None:
    """The note that an object is; None for any other key object. Raises LimitExceeded."""
    title = _item(document, "0040A043")
    code, scheme = _text(title, "00080100"), _text(title, "00080102")
    if (code, scheme) == RESTORE[:2]:
        reason = ""
    elif scheme == "DCM" and code in TITLES:
        reason = code
    else:
        return None
    found = {
        (reference.study, reference.series, reference.sop): reference
        for study in _items(document, "0040A375")
        for series in _items(study, "00081115")
        for reference in _references(_text(study, "0020000D"), series)
    }
    if len(found) > REFERENCES_MAX:
        raise LimitExceeded(f"a rejection note lists at most {REFERENCES_MAX} instances")
    return Note(reason, tuple(found.values()))


def _references(study: str, series: Document) -> list[Reference]:
    uid = _text(series, "0020000E")
    items = [(_text(one, "00081155"), _text(one, "00081150")) for one in _items(series, "00081199")]
    return [Reference(study, uid, sop, sop_class) for sop, sop_class in items if study and uid and sop]


def _items(document: Document, tag: str) -> list[Document]:
    value = document.get(tag, {}).get("Value", [])
    return [item for item in value if isinstance(item, dict)]


def _item(document: Document, tag: str) -> Document:
    return next(iter(_items(document, tag)), {})


def _text(document: Document, tag: str) -> str:
    value = document.get(tag, {}).get("Value", [])
    return str(value[0]) if value and isinstance(value[0], str) else ""


# ---------------------------------------------------------------- writing


def write(note: Note, about: Document, made: Made, *, implicit: bool = False) -> bytes:
    """The data set in explicit or implicit VR little endian. All references are of one study; `about` says who the patient is
    and what the study, as any header of it does."""
    title = (note.reason, "DCM", TITLES[note.reason]) if note.reason else RESTORE
    moment = datetime.fromtimestamp(made.at / 1_000_000, UTC)
    study = note.references[0].study
    document: dict[str, Any] = {tag: {"vr": vr} for tag, vr in _REQUIRED.items()}
    document |= {tag: _plain(about[tag]) for tag in _COPIED if tag in about}
    document |= {
        "00080005": _value("CS", "ISO_IR 192"),
        "00080016": _value("UI", KEY_OBJECT),
        "00080018": _value("UI", made.sop),
        "00080023": _value("DA", f"{moment:%Y%m%d}"),
        "00080033": _value("TM", f"{moment:%H%M%S}"),
        "00080060": _value("CS", "KO"),
        "00080070": _value("LO", "Radiolith"),
        "00080201": _value("SH", "+0000"),
        "00081010": _value("SH", made.system[:16]),
        "00081111": {"vr": "SQ"},
        "0020000D": _value("UI", study),
        "0020000E": _value("UI", made.series),
        "00200011": _value("IS", "9999"),
        "00200013": _value("IS", "1"),
        "0040A040": _value("CS", "CONTAINER"),
        "0040A043": {"vr": "SQ", "Value": [_code(*title)]},
        "0040A050": _value("CS", "SEPARATE"),
        "0040A375": {"vr": "SQ", "Value": [_evidence(study, note.references)]},
        "0040A504": {"vr": "SQ", "Value": [{"00080105": _value("CS", "DCMR"), "0040DB00": _value("CS", "2010")}]},
        "0040A730": {"vr": "SQ", "Value": [_content(one) for one in note.references]},
    }
    (attributes,) = compose.from_json(orjson.dumps([document]))
    return _implied(attributes) if implicit else b"".join(compose.encode(attributes, _no_bulk))


def _implied(attributes: Attributes) -> bytes:
    """In implicit VR little endian (PS3.5 A.1); as deep as a note is."""
    parts: list[bytes] = []
    for tag in sorted(attributes):
        vr, value = attributes[tag]
        if isinstance(value, list):
            items = [_implied(item) for item in value]
            raw = b"".join(pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
        else:
            raw = padded(value, vr) if isinstance(value, bytes) else b""
        parts.append(pack("<HHI", tag >> 16, tag & 0xFFFF, len(raw)) + raw)
    return b"".join(parts)


def _no_bulk(uri: str) -> Bulk:
    raise KeyError(uri)  # a note refers to no bulk data


def _plain(element: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: element[key] for key in ("vr", "Value") if key in element}


def _value(vr: str, text: str) -> dict[str, Any]:
    return {"vr": vr, "Value": [text]}


def _code(value: str, scheme: str, meaning: str) -> dict[str, Any]:
    return {"00080100": _value("SH", value), "00080102": _value("SH", scheme), "00080104": _value("LO", meaning)}


def _reference(one: Reference) -> dict[str, Any]:
    return {"00081150": _value("UI", one.sop_class), "00081155": _value("UI", one.sop)}


def _evidence(study: str, references: Sequence[Reference]) -> dict[str, Any]:
    series: dict[str, list[dict[str, Any]]] = {}
    for one in references:
        series.setdefault(one.series, []).append(_reference(one))
    items = [{"0020000E": _value("UI", uid), "00081199": {"vr": "SQ", "Value": found}} for uid, found in series.items()]
    return {"0020000D": _value("UI", study), "00081115": {"vr": "SQ", "Value": items}}


def _content(one: Reference) -> dict[str, Any]:
    kind = "IMAGE" if one.image else "WAVEFORM" if one.sop_class.startswith(_WAVEFORMS) else "COMPOSITE"
    return {
        "00081199": {"vr": "SQ", "Value": [_reference(one)]},
        "0040A010": _value("CS", "CONTAINS"),
        "0040A040": _value("CS", kind),
    }
