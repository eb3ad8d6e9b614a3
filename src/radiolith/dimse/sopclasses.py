"""The SOP classes and transfer syntaxes of this edge, as data (PS3.4, PS3.6 annex A).

Owns: which classes belong to which service, and the order of transfer syntaxes. Must never: act or negotiate. Names are
in `dicom/dictionary`; a class that is not in these tables is taken for storage only if it may be one (`may_be_storage`).
"""

from __future__ import annotations

from typing import NamedTuple

from radiolith.dicom import dictionary

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
INSTANCE_AVAILABILITY = "1.2.840.10008.5.1.4.33"
STORAGE_SERVICE = "1.2.840.10008.4.2"
"""The service class that common extended negotiation names for storage (PS3.4 annex B)."""

_ROOT = "1.2.840.10008.5.1.4."


class Retrieval(NamedTuple):
    """The SOP classes of one query/retrieve information model (PS3.4 C.6); '' for a command it does not have."""

    find: str
    move: str
    get: str


def _model(stem: str) -> Retrieval:
    return Retrieval(f"{_ROOT}{stem}.1", f"{_ROOT}{stem}.2", f"{_ROOT}{stem}.3")


PATIENT_ROOT = _model("1.2.1")
STUDY_ROOT = _model("1.2.2")
PATIENT_STUDY_ONLY = _model("1.2.3")
"""Retired; old workstations still ask for it."""
COMPOSITE_ROOT = Retrieval("", f"{_ROOT}1.2.4.2", f"{_ROOT}1.2.4.3")
"""Retrieval of frames of an instance (PS3.4 annex Y)."""
WITHOUT_BULK_DATA = Retrieval("", "", f"{_ROOT}1.2.5.3")
"""PS3.4 annex Z."""
QUERY_RETRIEVE = (PATIENT_ROOT, STUDY_ROOT)
"""The models that every archive has."""


# ---------------------------------------------------------------- storage

_IMAGES = """1.1.1 1.1.1.1 1.1.1.1.1 1.1.1.2 1.1.1.2.1 1.1.1.3 1.1.1.3.1 1.1.2 1.1.2.1 1.1.2.2 1.1.3.1 1.1.4 1.1.4.1
1.1.4.2 1.1.4.3 1.1.4.4 1.1.6.1 1.1.6.2 1.1.6.3 1.1.7 1.1.7.1 1.1.7.2 1.1.7.3 1.1.7.4 1.1.12.1 1.1.12.1.1 1.1.12.2
1.1.12.2.1 1.1.13.1.1 1.1.13.1.2 1.1.13.1.3 1.1.13.1.4 1.1.13.1.5 1.1.14.1 1.1.14.2 1.1.20 1.1.128 1.1.128.1 1.1.130"""
_VISIBLE_LIGHT = """1.1.77.1.1 1.1.77.1.1.1 1.1.77.1.2 1.1.77.1.2.1 1.1.77.1.3 1.1.77.1.4 1.1.77.1.4.1 1.1.77.1.5.1
1.1.77.1.5.2 1.1.77.1.5.3 1.1.77.1.5.4 1.1.77.1.5.5 1.1.77.1.5.6 1.1.77.1.5.7 1.1.77.1.5.8 1.1.77.1.6 1.1.77.1.7
1.1.77.1.8 1.1.77.1.9"""
_EYES = "1.1.78.1 1.1.78.2 1.1.78.3 1.1.78.4 1.1.78.5 1.1.78.6 1.1.78.7 1.1.78.8 1.1.79.1 1.1.80.1 1.1.81.1 1.1.82.1"
_DERIVED = """1.1.30 1.1.66 1.1.66.1 1.1.66.2 1.1.66.3 1.1.66.4 1.1.66.5 1.1.66.6 1.1.66.7 1.1.66.8 1.1.67 1.1.68.1
1.1.68.2"""
_PRESENTATION_STATES = """1.1.11.1 1.1.11.2 1.1.11.3 1.1.11.4 1.1.11.5 1.1.11.6 1.1.11.7 1.1.11.8 1.1.11.9 1.1.11.10
1.1.11.11 1.1.11.12"""
_DOCUMENTS = """1.1.88.11 1.1.88.22 1.1.88.33 1.1.88.34 1.1.88.35 1.1.88.40 1.1.88.50 1.1.88.59 1.1.88.65 1.1.88.67
1.1.88.68 1.1.88.69 1.1.88.70 1.1.88.71 1.1.88.72 1.1.88.73 1.1.88.74 1.1.88.75 1.1.88.76 1.1.88.77 1.1.90.1 1.1.91.1
1.1.104.1 1.1.104.2 1.1.104.3 1.1.104.4 1.1.104.5"""
_WAVEFORMS = """1.1.9.1.1 1.1.9.1.2 1.1.9.1.3 1.1.9.1.4 1.1.9.2.1 1.1.9.3.1 1.1.9.4.1 1.1.9.4.2 1.1.9.5.1 1.1.9.6.1
1.1.9.6.2 1.1.9.7.1 1.1.9.7.2 1.1.9.7.3 1.1.9.7.4 1.1.9.8.1"""
_RADIOTHERAPY = " ".join(f"1.1.481.{number}" for number in range(1, 26)) + " 34.7 34.10"
_PROTOCOLS = "1.1.131 1.1.200.2 1.1.200.8"
_NON_PATIENT = "1.1.200.1 1.1.200.3 1.1.200.7 1.1.201.1 38.1 39.1 43.1 44.1 45.1"
# Baggage and materials (DICOS, DICONDE): objects like any other to keep.
_INSPECTION = """1.1.501.1 1.1.501.2.1 1.1.501.2.2 1.1.501.3 1.1.501.4 1.1.501.5 1.1.501.6 1.1.601.1 1.1.601.2"""
# Old devices and old archives hold them; never proposed.
_RETIRED = """1.1.3 1.1.5 1.1.6 1.1.8 1.1.9 1.1.9.1 1.1.10 1.1.11 1.1.12.3 1.1.77.1 1.1.77.2 1.1.88.1 1.1.88.2 1.1.88.3
1.1.88.4 1.1.129 1.1.12.77 1.1.40 34.1"""
_RETIRED_PRINT = ("1.2.840.10008.5.1.1.27", "1.2.840.10008.5.1.1.29", "1.2.840.10008.5.1.1.30")


def _uids(*stems: str) -> tuple[str, ...]:
    return tuple(_ROOT + stem for listed in stems for stem in listed.split())


COMPOSITE_STORAGE = _uids(
    _IMAGES,
    _VISIBLE_LIGHT,
    _EYES,
    _DERIVED,
    _PRESENTATION_STATES,
    _DOCUMENTS,
    _WAVEFORMS,
    _RADIOTHERAPY,
    _PROTOCOLS,
)
"""Current SOP classes of patients' instances (PS3.4 B.5)."""
NON_PATIENT_STORAGE = _uids(_NON_PATIENT)
"""PS3.4 GG.3."""
INSPECTION_STORAGE = _uids(_INSPECTION)
"""Of security screening and of non-destructive testing (NEMA IIC 1, ASTM E2339)."""
RETIRED_STORAGE = _uids(_RETIRED) + _RETIRED_PRINT
"""Accepted and kept, never proposed (PS3.4 B.6)."""
STORAGE = COMPOSITE_STORAGE + NON_PATIENT_STORAGE + INSPECTION_STORAGE + RETIRED_STORAGE
"""Every storage SOP class with a name."""


CLASS_MAX = 128
"""Characters of a SOP class outside the tables: the standard has 64 (PS3.5 9.1), some makers a few more. The roles agreed on for
127 of them fit into an answer."""


def is_plausible(sop_class: str) -> bool:
    """Whether this could be anybody's UID: short and printable. Devices have letters in theirs."""
    return 0 < len(sop_class) <= CLASS_MAX and sop_class.isascii() and sop_class.isprintable()


def may_be_storage(sop_class: str) -> bool:
    """Whether a SOP class outside the tables may be one of storage: private or newer than the dictionary.

    A UID that the dictionary has as something else (print, worklist, a transfer syntax) is none.
    """
    return is_plausible(sop_class) and dictionary.uid(sop_class) is None


# ---------------------------------------------------------------- transfer syntaxes

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"

UNCOMPRESSED = (EXPLICIT_LE, IMPLICIT_LE)
"""For commands with identifiers: queries, commitment, reports (PS3.5 10.1). Explicit first: it loses no VR."""

_SYNTAX = "1.2.840.10008.1.2."
_LOSSLESS = "4.201 4.202 4.70 4.57 4.80 4.90 4.110 5 8.1"
_LOSSY = "4.203 4.50 4.51 4.81 4.91 4.111 4.112"
_VIDEO = "4.100 4.100.1 4.101 4.101.1 4.102 4.102.1 4.103 4.103.1 4.104 4.104.1 4.105 4.105.1 4.106 4.106.1 4.107 4.108"
_RARE = "1.98 1.99 4.92 4.93 4.94 4.95 4.204 4.205"
_OLD = "2 4.52 4.53 4.54 4.55 4.56 4.58 4.59 4.60 4.61 4.62 4.63 4.64 4.65 4.66 6.1 6.2"
_FOREIGN = ("1.2.840.113619.5.2", "1.2.840.10008.1.20")  # GE private implicit VR, Papyrus 3

KEPT = (
    *UNCOMPRESSED,
    *(_SYNTAX + stem for listed in (_LOSSLESS, _LOSSY, _VIDEO, _RARE, _OLD) for stem in listed.split()),
    *_FOREIGN,
)
"""Transfer syntaxes in which objects are stored as they come, in the order of preference where a sender leaves the choice.

Uncompressed, then lossless, then lossy: a sender that offers several for one context could send any, and compressing for
us would cost it quality or time. Left out are the real-time syntaxes of PS3.22, which no file has.
"""
