"""The attributes a scan keeps: everything the archive identifies, indexes, answers from or lays frames out with.

Owns: the table, in the order of PS3.6, with the VR each attribute has where the bytes do not say (implicit VR). Must
never: know columns or matching (the index does). Values are kept raw, as stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SPECIFIC_CHARACTER_SET = 0x00080005
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
SAMPLES_PER_PIXEL = 0x00280002
PHOTOMETRIC_INTERPRETATION = 0x00280004
NUMBER_OF_FRAMES = 0x00280008
ROWS = 0x00280010
COLUMNS = 0x00280011
BITS_ALLOCATED = 0x00280100
EXTENDED_OFFSET_TABLE = 0x7FE00001
FLOAT_PIXEL_DATA = 0x7FE00008
DOUBLE_PIXEL_DATA = 0x7FE00009
PIXEL_DATA = 0x7FE00010

PIXEL_TAGS = frozenset({PIXEL_DATA, FLOAT_PIXEL_DATA, DOUBLE_PIXEL_DATA})

ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE = 0x00100024
ISSUER_OF_ACCESSION_NUMBER_SEQUENCE = 0x00080051
OTHER_PATIENT_IDS_SEQUENCE = 0x00101002
REQUEST_ATTRIBUTES_SEQUENCE = 0x00400275

ELEMENTS: Mapping[int, str] = {
    SPECIFIC_CHARACTER_SET: "CS",
    0x00080008: "CS",  # Image Type
    0x00080012: "DA",  # Instance Creation Date
    0x00080013: "TM",  # Instance Creation Time
    SOP_CLASS_UID: "UI",
    SOP_INSTANCE_UID: "UI",
    0x00080020: "DA",  # Study Date
    0x00080021: "DA",  # Series Date
    0x00080022: "DA",  # Acquisition Date
    0x00080023: "DA",  # Content Date
    0x0008002A: "DT",  # Acquisition DateTime
    0x00080030: "TM",  # Study Time
    0x00080031: "TM",  # Series Time
    0x00080032: "TM",  # Acquisition Time
    0x00080033: "TM",  # Content Time
    0x00080050: "SH",  # Accession Number
    0x00080060: "CS",  # Modality
    0x00080064: "CS",  # Conversion Type
    0x00080068: "CS",  # Presentation Intent Type
    0x00080070: "LO",  # Manufacturer
    0x00080080: "LO",  # Institution Name
    0x00080090: "PN",  # Referring Physician's Name
    0x00080201: "SH",  # Timezone Offset From UTC
    0x00081010: "SH",  # Station Name
    0x00081030: "LO",  # Study Description
    0x0008103E: "LO",  # Series Description
    0x00081040: "LO",  # Institutional Department Name
    0x00081048: "PN",  # Physician(s) of Record
    0x00081050: "PN",  # Performing Physician's Name
    0x00081060: "PN",  # Name of Physician(s) Reading Study
    0x00081070: "PN",  # Operators' Name
    0x00081080: "LO",  # Admitting Diagnoses Description
    0x00081090: "LO",  # Manufacturer's Model Name
    0x00100010: "PN",  # Patient's Name
    0x00100020: "LO",  # Patient ID
    0x00100021: "LO",  # Issuer of Patient ID
    0x00100022: "CS",  # Type of Patient ID
    0x00100030: "DA",  # Patient's Birth Date
    0x00100032: "TM",  # Patient's Birth Time
    0x00100040: "CS",  # Patient's Sex
    0x00101000: "LO",  # Other Patient IDs
    0x00101001: "PN",  # Other Patient Names
    0x00101005: "PN",  # Patient's Birth Name
    0x00101010: "AS",  # Patient's Age
    0x00101020: "DS",  # Patient's Size
    0x00101030: "DS",  # Patient's Weight
    0x00101060: "PN",  # Patient's Mother's Birth Name
    0x00102160: "SH",  # Ethnic Group
    0x00104000: "LT",  # Patient Comments
    0x00120062: "CS",  # Patient Identity Removed
    0x00180010: "LO",  # Contrast/Bolus Agent
    0x00180015: "CS",  # Body Part Examined
    0x00180050: "DS",  # Slice Thickness
    0x00181000: "LO",  # Device Serial Number
    0x00181030: "LO",  # Protocol Name
    0x00185100: "CS",  # Patient Position
    STUDY_INSTANCE_UID: "UI",
    SERIES_INSTANCE_UID: "UI",
    0x00200010: "SH",  # Study ID
    0x00200011: "IS",  # Series Number
    0x00200012: "IS",  # Acquisition Number
    0x00200013: "IS",  # Instance Number
    0x00200032: "DS",  # Image Position (Patient)
    0x00200037: "DS",  # Image Orientation (Patient)
    0x00200052: "UI",  # Frame of Reference UID
    0x00200060: "CS",  # Laterality
    0x00200062: "CS",  # Image Laterality
    0x00204000: "LT",  # Image Comments
    0x00209161: "UI",  # Concatenation UID
    SAMPLES_PER_PIXEL: "US",
    PHOTOMETRIC_INTERPRETATION: "CS",
    0x00280006: "US",  # Planar Configuration
    NUMBER_OF_FRAMES: "IS",
    ROWS: "US",
    COLUMNS: "US",
    0x00280030: "DS",  # Pixel Spacing
    BITS_ALLOCATED: "US",
    0x00280101: "US",  # Bits Stored
    0x00280102: "US",  # High Bit
    0x00280103: "US",  # Pixel Representation
    0x00280301: "CS",  # Burned In Annotation
    0x00281050: "DS",  # Window Center
    0x00281051: "DS",  # Window Width
    0x00282110: "CS",  # Lossy Image Compression
    0x00321032: "PN",  # Requesting Physician
    0x00321060: "LO",  # Requested Procedure Description
    0x00380010: "LO",  # Admission ID
    0x00400244: "DA",  # Performed Procedure Step Start Date
    0x00400245: "TM",  # Performed Procedure Step Start Time
    0x00400253: "SH",  # Performed Procedure Step ID
    0x00400254: "LO",  # Performed Procedure Step Description
    0x00420010: "ST",  # Document Title
    0x0040A491: "CS",  # Completion Flag
    0x0040A493: "CS",  # Verification Flag
    0x00700080: "CS",  # Content Label
    0x00700081: "LO",  # Content Description
    0x00700082: "DA",  # Presentation Creation Date
    0x00700083: "TM",  # Presentation Creation Time
    0x00700084: "PN",  # Content Creator's Name
    EXTENDED_OFFSET_TABLE: "OV",
    FLOAT_PIXEL_DATA: "OF",
    DOUBLE_PIXEL_DATA: "OD",
    PIXEL_DATA: "OW",
}

_ISSUER = {
    0x00400031: "UT",  # Local Namespace Entity ID
    0x00400032: "UT",  # Universal Entity ID
    0x00400033: "CS",  # Universal Entity ID Type
    0x00400035: "CS",  # Identifier Type Code
}

_CODE = {
    0x00080100: "SH",  # Code Value
    0x00080102: "SH",  # Coding Scheme Designator
    0x00080104: "LO",  # Code Meaning
}

SEQUENCES: Mapping[int, Mapping[int, str]] = {
    ISSUER_OF_ACCESSION_NUMBER_SEQUENCE: _ISSUER,
    0x00081032: _CODE,  # Procedure Code Sequence
    ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE: _ISSUER,
    OTHER_PATIENT_IDS_SEQUENCE: {
        0x00100020: "LO",  # Patient ID
        0x00100021: "LO",  # Issuer of Patient ID
        0x00100022: "CS",  # Type of Patient ID
        **_ISSUER,  # of the Issuer of Patient ID Qualifiers Sequence inside
    },
    0x00082218: _CODE,  # Anatomic Region Sequence
    0x00081115: {0x0020000E: "UI"},  # Referenced Series Sequence: presentation states, key objects
    0x0040A043: _CODE,  # Concept Name Code Sequence: the title of a report
    REQUEST_ATTRIBUTES_SEQUENCE: {
        0x00080050: "SH",  # Accession Number
        0x0020000D: "UI",  # Study Instance UID
        0x00321060: "LO",  # Requested Procedure Description
        0x00400007: "LO",  # Scheduled Procedure Step Description
        0x00400009: "SH",  # Scheduled Procedure Step ID
        0x00401001: "SH",  # Requested Procedure ID
        **_ISSUER,  # of the Issuer of Accession Number Sequence inside
    },
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one scan keeps.

    `elements` are top-level tags; `sequences` are top-level sequences with the tags kept of their items, at any depth
    below the item, the first of a tag winning. Specific Character Set is kept everywhere.
    """

    elements: Mapping[int, str] = field(default_factory=lambda: ELEMENTS)
    sequences: Mapping[int, Mapping[int, str]] = field(default_factory=lambda: SEQUENCES)

    def also(self, elements: Mapping[int, str], sequences: Mapping[int, Mapping[int, str]] | None = None) -> Wanted:
        """This table and more."""
        return Wanted({**self.elements, **elements}, {**self.sequences, **(sequences or {})})


WANTED = Wanted()
