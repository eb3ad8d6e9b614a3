"""Whether one value is what its VR allows (PS3.5 6.2, table 6.2-1).

Owns: the lengths and characters of every VR that people write. Must never: repair a value, or repeat it in the message.
What is stored is never measured with this: it is for what is newly written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from struct import error as StructError
from struct import pack
from typing import Any, cast

from radiolith.dicom.values import NUMBERS
from radiolith.model import BadInput

_LENGTHS = {"AE": 16, "CS": 16, "DS": 16, "IS": 12, "LO": 64, "LT": 10240, "SH": 16, "ST": 1024, "UI": 64}
"""VR -> characters."""

_TEXTS = frozenset({"LT", "ST", "UT"})
"""VRs that may have lines, and a backslash."""

_PATTERNS = {
    "AE": re.compile(r"[\x20-\x5b\x5d-\x7e]+"),
    "AS": re.compile(r"[0-9]{3}[DWMY]"),
    "AT": re.compile(r"[0-9A-Fa-f]{8}"),
    "CS": re.compile(r"[A-Z0-9 _]+"),
    "DA": re.compile(r"[0-9]{8}"),
    "DS": re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"),
    "DT": re.compile(r"([0-9]{4}|[0-9]{6}|[0-9]{8}|[0-9]{10}|[0-9]{12}|[0-9]{14}(?:\.[0-9]{1,6})?)([+-][0-9]{4})?"),
    "IS": re.compile(r"[+-]?[0-9]+"),
    "TM": re.compile(r"([0-9]{2}|[0-9]{4}|[0-9]{6}(?:\.[0-9]{1,6})?)"),
    "UI": re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*"),
    "UR": re.compile(r"[!#-;=?-\[\]_a-z~$&%]+"),
}
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LINES = re.compile(r"[\t\n\f\r]")
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_NUMBER_MAX = 1e300
_INTEGER_MAX = (1 << 31) - 1


def check_value(vr: str, value: object, said: str) -> None:
    """Raises BadInput, which begins with `said`, unless the value (as in the DICOM JSON model) can be written in its VR.
    None is a value that is empty."""
    if value is None:
        if vr in NUMBERS or vr == "AT":
            raise BadInput(f"{said}: {vr} has no empty values")
        return
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not -_NUMBER_MAX < value < _NUMBER_MAX:
        raise BadInput(f"{said}: a value does not fit into {vr}")  # and what is no number
    if vr == "PN":
        _check_person(value, said)
    elif vr in NUMBERS:
        _check_number(vr, value, said)
    elif vr in ("DS", "IS") and isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_text(vr, str(value), said)
    elif not isinstance(value, str):
        raise BadInput(f"{said}: a value is no text")
    else:
        _check_text(vr, value, said)


def _check_number(vr: str, value: object, said: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadInput(f"{said}: a value is no number")
    if vr not in ("FL", "FD") and not isinstance(value, int):
        raise BadInput(f"{said}: a value is no whole number")
    try:
        pack(f"<{NUMBERS[vr][0]}", value)
    except (StructError, OverflowError):
        raise BadInput(f"{said}: a value does not fit into {vr}") from None


def _check_person(value: object, said: str) -> None:
    if not isinstance(value, Mapping):
        raise BadInput(f"{said}: a name is no object with Alphabetic, Ideographic or Phonetic")
    groups = cast("Mapping[str, Any]", value)
    for name, group in groups.items():
        if name not in _GROUPS or not isinstance(group, str):
            raise BadInput(f"{said}: a name has the groups {', '.join(_GROUPS)} as texts")
        if "=" in group or "\\" in group or _CONTROLS.search(group):
            raise BadInput(f"{said}: a name has a character that a name cannot have")
        if len(group) > 64 or group.count("^") > 4:
            raise BadInput(f"{said}: a group of a name has at most 64 characters and 5 components")


def _check_text(vr: str, text: str, said: str) -> None:
    rest = _LINES.sub("", text) if vr in _TEXTS else text
    if _CONTROLS.search(rest) or ("\\" in text and vr not in _TEXTS):
        raise BadInput(f"{said}: a value has a character that {vr} cannot have")
    most = _LENGTHS.get(vr, 0)
    if most and len(text) > most:
        raise BadInput(f"{said}: a value has {len(text)} characters, {vr} has at most {most}")
    pattern = _PATTERNS.get(vr)
    stripped = text.strip(" ") if vr not in ("UI", "DA", "UR") else text
    if pattern is not None and text and not pattern.fullmatch(stripped):
        raise BadInput(f"{said}: a value is not written as {vr} is")
    if text:
        _check_meaning(vr, stripped, said)


def _check_meaning(vr: str, text: str, said: str) -> None:
    wrong = False
    if vr == "DA":
        wrong = not _is_date(text)
    elif vr == "TM":
        wrong = not _is_time(text)
    elif vr == "DT":
        moment, _, _ = text.replace("-", "+").partition("+")
        day = moment[:8]
        wrong = not _is_date(day + "0101"[len(day) - 4 :] if len(day) < 8 else day) or not _is_time(moment[8:])
    elif vr == "IS":
        wrong = not -_INTEGER_MAX - 1 <= int(text) <= _INTEGER_MAX
    if wrong:
        raise BadInput(f"{said}: a value is no {vr} that there is")


def _is_date(text: str) -> bool:
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return False
    return True


def _is_time(text: str) -> bool:
    whole = text.partition(".")[0]
    parts = [int(whole[at : at + 2]) for at in range(0, len(whole), 2)]
    return all(part < most for part, most in zip(parts, (24, 60, 61), strict=False))
