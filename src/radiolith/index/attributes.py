"""The attributes the index knows: one table for storing, finding and returning them.

Owns: the table (PS3.18 table 10.6.1-5 and PS3.4 C.6, required and optional keys) and what is made of a scan's raw values.
Must never: know SQL beyond the name of a column. A value that breaks its VR (a date that is none) is indexed as empty; the
bytes keep it. Texts are clipped to TEXT_MAX characters, so that every index entry fits a page of either database.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from radiolith.dicom import charset
from radiolith.dicom.reader import Scan, text
from radiolith.model import Description, Level

TEXT_MAX = 300  # characters of a text in the index: 4 times that in bytes fits a B-tree page on both databases
REMEMBERED_MAX = 256  # bytes of a raw value whose reading is remembered: 2,048 of them are less than 2 MB
CLAIMED_MAX = 16  # other patient identifiers and request items kept of one header
NUMBER_MAX = 2**31 - 1  # IS (PS3.5 table 6.2-1)

NO_NUMBER = 2**31  # instances without an Instance Number come last, in one index on both databases


class Matching(Enum):
    """How a key of the attribute is matched (PS3.4 C.2.2.2)."""

    UID = auto()  # single value, UID list
    TEXT = auto()  # single value, wildcard; case-sensitive as PS3.4 has it
    NAME = auto()  # folded, component by component, in every script
    IDENTIFIER = auto()  # Patient ID: all identifiers of the patient
    DATE = auto()
    TIME = auto()
    NUMBER = auto()
    MODALITIES = auto()  # any series of the study
    CLASSES = auto()  # any series of the study
    CODE = auto()  # a column of code numbers
    REQUEST = auto()  # an item of RequestAttributesSequence
    ISSUER = auto()  # part of an accession number's issuer
    LABEL = auto()  # labels that people gave: by name, or by name and value
    EXTRA = auto()  # an attribute that a setting made searchable: by the rules of its VR
    NONE = auto()  # returned only: a key is ignored with a warning


@dataclass(frozen=True, slots=True)
class Attribute:
    """`path`: tag, or sequence tag and tag. `indexed`: the key alone finds its studies without reading others."""

    level: Level
    path: tuple[int, ...]
    keyword: str
    vr: str
    column: str
    matching: Matching
    default: bool = True
    indexed: bool = False


_P, _S, _E, _I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE
_REQUEST, _ACCESSION_ISSUER = 0x00400275, 0x00080051
M = Matching

ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(_P, (0x00100010,), "PatientName", "PN", "patient_name", M.NAME, indexed=True),
    Attribute(_P, (0x00100020,), "PatientID", "LO", "patient_id", M.IDENTIFIER, indexed=True),
    Attribute(_P, (0x00100021,), "IssuerOfPatientID", "LO", "issuer", M.TEXT, default=False),
    Attribute(_P, (0x00100030,), "PatientBirthDate", "DA", "birth_date", M.DATE, indexed=True),
    Attribute(_P, (0x00100040,), "PatientSex", "CS", "sex", M.TEXT),
    Attribute(_P, (0x00201200,), "NumberOfPatientRelatedStudies", "IS", "#studies", M.NONE, default=False),
    Attribute(_P, (0x00201202,), "NumberOfPatientRelatedSeries", "IS", "#series", M.NONE, default=False),
    Attribute(_P, (0x00201204,), "NumberOfPatientRelatedInstances", "IS", "#instances", M.NONE, default=False),
    Attribute(_S, (0x00080020,), "StudyDate", "DA", "study_date", M.DATE, indexed=True),
    Attribute(_S, (0x00080030,), "StudyTime", "TM", "study_time", M.TIME),
    Attribute(_S, (0x00080050,), "AccessionNumber", "SH", "accession", M.TEXT, indexed=True),
    Attribute(
        _S, (_ACCESSION_ISSUER, 0x00400031), "LocalNamespaceEntityID", "UT", "accession_issuer", M.ISSUER, default=False
    ),
    Attribute(
        _S, (_ACCESSION_ISSUER, 0x00400032), "UniversalEntityID", "UT", "accession_issuer", M.ISSUER, default=False
    ),
    Attribute(
        _S, (_ACCESSION_ISSUER, 0x00400033), "UniversalEntityIDType", "CS", "accession_issuer", M.ISSUER, default=False
    ),
    Attribute(_S, (0x00080056,), "InstanceAvailability", "CS", "", M.NONE),
    Attribute(_S, (0x00080061,), "ModalitiesInStudy", "CS", "modalities", M.MODALITIES, indexed=True),
    Attribute(_S, (0x00080062,), "SOPClassesInStudy", "UI", "classes", M.CLASSES, default=False),
    Attribute(_S, (0x00080090,), "ReferringPhysicianName", "PN", "referring", M.NAME, indexed=True),
    Attribute(_S, (0x00080201,), "TimezoneOffsetFromUTC", "SH", "timezone", M.NONE),
    Attribute(_S, (0x00081030,), "StudyDescription", "LO", "description", M.TEXT),
    Attribute(_S, (0x0020000D,), "StudyInstanceUID", "UI", "uid", M.UID, indexed=True),
    Attribute(_S, (0x00200010,), "StudyID", "SH", "study_code", M.TEXT, indexed=True),
    Attribute(_S, (0x00201206,), "NumberOfStudyRelatedSeries", "IS", "series", M.NONE),
    Attribute(_S, (0x00201208,), "NumberOfStudyRelatedInstances", "IS", "instances", M.NONE),
    Attribute(_E, (0x00080060,), "Modality", "CS", "modality", M.TEXT, indexed=True),
    Attribute(_E, (0x00080070,), "Manufacturer", "LO", "manufacturer", M.TEXT, default=False),
    Attribute(_E, (0x00080080,), "InstitutionName", "LO", "institution", M.TEXT, default=False),
    Attribute(_E, (0x00081010,), "StationName", "SH", "station", M.TEXT, default=False),
    Attribute(_E, (0x0008103E,), "SeriesDescription", "LO", "description", M.TEXT),
    Attribute(_E, (0x00180015,), "BodyPartExamined", "CS", "body_part", M.TEXT, default=False),
    Attribute(_E, (0x00181030,), "ProtocolName", "LO", "protocol", M.TEXT, default=False),
    Attribute(_E, (0x0020000E,), "SeriesInstanceUID", "UI", "uid", M.UID, indexed=True),
    Attribute(_E, (0x00200011,), "SeriesNumber", "IS", "number", M.NUMBER),
    Attribute(_E, (0x00200060,), "Laterality", "CS", "laterality", M.TEXT, default=False),
    Attribute(_E, (0x00201209,), "NumberOfSeriesRelatedInstances", "IS", "instances", M.NONE),
    Attribute(_E, (0x00400244,), "PerformedProcedureStepStartDate", "DA", "step_date", M.DATE, indexed=True),
    Attribute(_E, (0x00400245,), "PerformedProcedureStepStartTime", "TM", "step_time", M.TIME),
    Attribute(_E, (_REQUEST, 0x00400009), "ScheduledProcedureStepID", "SH", "step", M.REQUEST, indexed=True),
    Attribute(_E, (_REQUEST, 0x00401001), "RequestedProcedureID", "SH", "procedure", M.REQUEST, indexed=True),
    Attribute(_I, (0x00080016,), "SOPClassUID", "UI", "class", M.CODE),
    Attribute(_I, (0x00080018,), "SOPInstanceUID", "UI", "uid", M.UID, indexed=True),
    Attribute(_I, (0x00083002,), "AvailableTransferSyntaxUID", "UI", "syntax", M.CODE),
    Attribute(_I, (0x00080023,), "ContentDate", "DA", "content_date", M.DATE, default=False),
    Attribute(_I, (0x00080033,), "ContentTime", "TM", "content_time", M.TIME, default=False),
    Attribute(_I, (0x00200013,), "InstanceNumber", "IS", "number", M.NUMBER),
    Attribute(_I, (0x00280008,), "NumberOfFrames", "IS", "frames", M.NUMBER),
    Attribute(_I, (0x00280010,), "Rows", "US", "row_count", M.NUMBER),
    Attribute(_I, (0x00280011,), "Columns", "US", "column_count", M.NUMBER),
    Attribute(_I, (0x00280100,), "BitsAllocated", "US", "bits", M.NUMBER),
)

LABEL_CREATOR = "RADIOLITH"
"""Private creator of the block that labels have in queries and answers; no stored header has them from us."""
LABEL_CREATOR_TAG = 0x77770010
LABELS = (
    Attribute(_P, (0x77771001,), "PatientLabels", "LO", "", M.LABEL, default=False, indexed=True),
    Attribute(_S, (0x77771002,), "StudyLabels", "LO", "", M.LABEL, default=False, indexed=True),
    Attribute(_E, (0x77771003,), "SeriesLabels", "LO", "", M.LABEL, default=False, indexed=True),
)
"""What people said of patients, studies and series: asked for by name, never part of 'all attributes'."""

BY_PATH: Mapping[tuple[int, ...], Attribute] = {attribute.path: attribute for attribute in (*ATTRIBUTES, *LABELS)}
BY_KEYWORD: Mapping[str, Attribute] = {attribute.keyword: attribute for attribute in ATTRIBUTES}

_COMPUTED = frozenset(
    [
        *("", "uid", "class", "syntax", "modalities", "classes", "series", "instances", "step", "procedure"),
        *("#studies", "#series", "#instances"),
    ]
)


def _columns(level: Level) -> tuple[str, ...]:
    names = (
        a.column for a in ATTRIBUTES if a.level is level and not (a.column in _COMPUTED or a.matching is M.REQUEST)
    )
    return tuple(dict.fromkeys(names))


PATIENT_COLUMNS = (*_columns(_P), "traits")
STUDY_COLUMNS = _columns(_S)
SERIES_COLUMNS = _columns(_E)
INSTANCE_COLUMNS = _columns(_I)


# ---------------------------------------------------------------- values

_DATE = re.compile(r"(\d{4})(\.?)(\d{2})\2(\d{2})")
_TIME = re.compile(r"([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d|60)(\.\d{1,6})?)?)?")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")


def clean(value: str) -> str | None:
    """A text fit for both databases: no control characters (but the backslash between values), clipped; None when empty."""
    return _UNPRINTABLE.sub("", value).strip()[:TEXT_MAX].strip() or None


def date(value: str) -> int | None:
    """YYYYMMDD (or the YYYY.MM.DD of ACR-NEMA) as a number."""
    match = _DATE.fullmatch(value.strip())
    if match is None or not (1 <= int(match[3]) <= 12 and 1 <= int(match[4]) <= 31):
        return None
    return int(match[1] + match[3] + match[4])


def time(value: str) -> str | None:
    """HH[MM[SS[.F]]] without colons: ordered as text, as precise as it was sent."""
    match = _TIME.fullmatch(value.strip())
    return "".join(part or "" for part in match.groups()) if match else None


def number(value: str) -> int | None:
    """The first value of a whole number."""
    first = value.split("\\")[0].strip()
    try:
        found = int(first) if first.lstrip("+-").isdigit() else int(float(first)) if first else None
    except (ValueError, OverflowError):
        return None
    return found if found is not None and -NUMBER_MAX <= found <= NUMBER_MAX else None


# ---------------------------------------------------------------- from a scan

_BINARY = frozenset({"US"})


def describe(scan: Scan) -> Description:
    """The index's columns of an object, the same at ingest and at rebuild.

    Beside columns of the tables: patient `issuer_key`, `issuer_type`, `id_type` and `claimed` (JSON list of [value, issuer,
    issuer type, type]), series `requests` (JSON list of [step, procedure, accession]).
    """
    levels: dict[Level, dict[str, str | int | None]] = {level: {} for level in Level}
    for level, column, tag, vr in _READ:
        levels[level][column] = _value(scan, tag, vr)
    levels[_S]["accession_issuer"] = _accession_issuer(scan)
    levels[_E]["requests"] = _requests(scan)
    levels[_P].update(_identity(scan))
    return Description(levels[_P], levels[_S], levels[_E], levels[_I])


_READ = [
    (one.level, one.column, one.path[0], one.vr)
    for one in ATTRIBUTES
    if one.matching is not M.REQUEST and one.column not in _COMPUTED and len(one.path) == 1
]
"""Columns that show a value of the header itself."""


def _value(scan: Scan, tag: int, vr: str) -> str | int | None:
    found = scan.elements.get(tag)
    if found is None:
        return None
    if vr in _BINARY:
        return scan.integer(tag) if found[1] else None
    raw = bytes(found[1])
    return (_remembered if len(raw) <= REMEMBERED_MAX else _read)(raw, found[0], scan.charset, vr)


def _read(raw: bytes, found: str, terms: tuple[str, ...], vr: str) -> str | int | None:
    """What a column shows of a raw value. `found`: the VR that the header gives."""
    value = charset.decode(raw, terms, found)
    if vr == "DA":
        return date(value)
    if vr == "TM":
        return time(value)
    if vr == "IS":
        return number(value)
    return clean(value)


_remembered = lru_cache(maxsize=2048)(_read)  # nearly all values of a slice are those of the slice before


Item = Mapping[int, tuple[str, bytes]]


def _item_text(scan: Scan, item: Item, tag: int) -> str:
    found = item.get(tag)
    if found is None:
        return ""
    own = item.get(0x00080005)
    terms = charset.terms(own[1]) if own else scan.charset
    return clean(charset.decode(found[1], terms, found[0])) or ""


def _items(scan: Scan, tag: int) -> Sequence[Item]:
    return scan.sequences.get(tag, [])[:CLAIMED_MAX]


def _accession_issuer(scan: Scan) -> str | None:
    """Local namespace, universal id and its type, joined by '&' as in HL7's HD."""
    for item in _items(scan, _ACCESSION_ISSUER):
        parts = (_item_text(scan, item, tag).replace("&", " ") for tag in (0x00400031, 0x00400032, 0x00400033))
        joined = "&".join(parts)
        return clean(joined) if joined.strip("&") else None
    return None


def _requests(scan: Scan) -> str | None:
    found = [
        [_item_text(scan, item, tag) for tag in (0x00400009, 0x00401001, 0x00080050)] for item in _items(scan, _REQUEST)
    ]
    found = [item for item in found if any(item)]
    return json.dumps(found) if found else None


def _issuer(scan: Scan, item: Item, local: str) -> tuple[str, str]:
    """Who assigned an identifier: the universal id where there is one, else the local name; and the kind of id."""
    universal = _item_text(scan, item, 0x00400032)
    return (
        (universal, _item_text(scan, item, 0x00400033))
        if universal
        else (local or _item_text(scan, item, 0x00400031), "")
    )


def _identity(scan: Scan) -> dict[str, str | int | None]:
    """Who the patient is (PS3.3 C.7.1.1 and C.2.2): the identifier with its issuer, and the others the header claims."""
    local = clean(text(scan, 0x00100021)) or ""
    qualifiers = next(iter(_items(scan, 0x00100024)), {})
    issuer, issuer_type = _issuer(scan, qualifiers, local)
    claimed: list[list[str]] = []
    for item in _items(scan, 0x00101002):
        value = _item_text(scan, item, 0x00100020)
        if value:
            claimed.append(
                [value, *_issuer(scan, item, _item_text(scan, item, 0x00100021)), _item_text(scan, item, 0x00100022)]
            )
    traits = {name: value for name, tag in _TRAITS if (value := clean(text(scan, tag)))}
    return {
        "issuer_key": issuer,
        "issuer_type": issuer_type,
        "id_type": _item_text(scan, qualifiers, 0x00400035) or clean(text(scan, 0x00100022)) or "",
        "claimed": json.dumps(sorted(claimed)) if claimed else None,
        "traits": json.dumps(traits, ensure_ascii=False, sort_keys=True) if traits else None,
    }


_TRAITS = (("birth_name", 0x00101005), ("mother_birth_name", 0x00101060), ("birth_time", 0x00100032))


_DEPTH = {level: depth for depth, level in enumerate(Level)}
_RETURNED: dict[tuple[int, ...], int] = {}  # path, or tag of a sequence -> depth of the highest level that has it
_RETURNED[(LABEL_CREATOR_TAG,)] = 0
for _known in (*ATTRIBUTES, *LABELS):
    for _path in (_known.path, _known.path[:1]):
        _RETURNED[_path] = min(_DEPTH[_known.level], _RETURNED.get(_path, len(_DEPTH)))


def is_indexed(path: tuple[int, ...]) -> bool:
    """Whether a search can return the attribute without reading a stored header; a sequence tag stands for its items."""
    return path in _RETURNED


def is_returned(path: tuple[int, ...], level: Level) -> bool:
    """Whether a search on this level returns the indexed attribute: those of lower levels have no one value there."""
    return _RETURNED.get(path, len(_DEPTH)) <= _DEPTH[level]
