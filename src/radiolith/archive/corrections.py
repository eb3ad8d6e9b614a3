"""Which attributes a person may correct, on which level, and how a value is said.

Owns: the rules (what names or identifies an object, what is worked out, what belongs to another level cannot be corrected
here) and the reading of keywords and plain texts into the DICOM JSON model, as facts hold it. Must never: write anything.
Everything is checked before a fact exists: the index passes over a fact whose body does not fit. Limits: ATTRIBUTES of one
operation, BYTES of its values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from radiolith.dicom import dictionary
from radiolith.dicom.compose import from_value
from radiolith.dicom.json import attribute_json
from radiolith.dicom.limits import Unparsable
from radiolith.index.attributes import ATTRIBUTES, Matching
from radiolith.model import BadInput, Level, LimitExceeded

ATTRIBUTES_MAX = 100  # of one operation: more is another object
BYTES = 256 << 10  # of the values of one operation as JSON: every header of the subject carries them
_PRIVATE = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?:(.{1,64})")

_IDENTITY = {
    0x00080016: "it says what kind of object the bytes are",
    0x00080018: "SOP Instance UIDs never change (docs/decisions/102)",
    0x00080005: "the archive writes the character set that the texts need",
    0x00080015: "the archive writes it with each correction",
    0x0020000D: "move the study, its series or its instances instead",
    0x0020000E: "split the series, or move it into another study instead",
}
_WHO = frozenset({0x00100020, 0x00100021, 0x00100024, 0x00100022})  # which patient it is, not what he is called
_OF_PATIENT = frozenset(
    {0x00101000, 0x00101001, 0x00101002, 0x00101005, 0x00101060, 0x00100032, 0x00100026, 0x00100027}
)
_GROUPS = {
    0x0000: "it belongs to a message", 0x0002: "it belongs to the file", 0x0004: "it belongs to a medium",
    0x0028: "it says how the pixels are to be read", 0x5200: "it describes single frames",
    0x5400: "it is measured", 0x7FE0: "these are the pixels", 0xFFFA: "it is a signature", 0xFFFC: "it is padding",
}  # fmt: skip
_BURNED_IN = 0x00280301  # says something about the pixels that only a person can know
_NAMES = {Level.PATIENT: "patient", Level.STUDY: "study", Level.SERIES: "series", Level.INSTANCE: "instance"}


@dataclass(frozen=True, slots=True)
class Corrections:
    """As a fact holds them. `set`: eight digits -> DICOM JSON (with `creator` for a private one); `remove`: eight digits, or
    {"tag", "creator"}."""

    set: dict[str, dict[str, object]]
    remove: tuple[object, ...] = ()

    def body(self) -> dict[str, object]:
        return {"set": self.set, "remove": list(self.remove)}

    def keys(self) -> list[str]:
        """Eight digits of every attribute."""
        taken = (
            str(cast("dict[str, object]", one)["tag"]) if isinstance(one, dict) else str(one) for one in self.remove
        )
        return sorted({*self.set, *taken})


def corrections(level: Level, values: Mapping[str, object], remove: Sequence[str] = ()) -> Corrections:
    """What a person wants to be different, checked.

    values: keyword, eight hexadecimal digits, or 'gggg,ee..:CREATOR' of a private attribute -> the value: a text (several
    values with backslashes, '' for none), a number, a list, or the attribute's DICOM JSON object (PS3.18 F.2.2). Raises
    BadInput with the keyword and what to do instead, LimitExceeded.
    """
    if not values and not remove:
        raise BadInput("say at least one attribute to correct")
    if len(values) + len(remove) > ATTRIBUTES_MAX:
        raise LimitExceeded(f"one operation corrects up to {ATTRIBUTES_MAX} attributes")
    setting: dict[str, dict[str, object]] = {}
    removing: list[object] = []
    for name, value in values.items():
        tag, creator = _tag(name)
        _allowed(level, tag, name)
        setting[f"{tag:08X}"] = _element(tag, creator, name, value)
    for name in remove:
        tag, creator = _tag(name)
        _allowed(level, tag, name)
        if f"{tag:08X}" in setting:
            raise BadInput(f"{_name(tag, name)} cannot be set and removed at once")
        removing.append({"tag": f"{tag:08X}", "creator": creator} if creator else f"{tag:08X}")
    made = Corrections(setting, tuple(removing))
    if len(orjson.dumps(made.body())) > BYTES:
        raise LimitExceeded(f"the values of one operation may have {BYTES} bytes")
    for digits, element in setting.items():
        try:
            from_value(int(digits, 16), str(element["vr"]), element)
        except Unparsable as error:
            raise BadInput(str(error)) from None
    return made


def _tag(name: str) -> tuple[int, str]:
    private = _PRIVATE.fullmatch(name.strip())
    if private:
        tag = int(private[1] + private[2], 16)
        if not tag >> 16 & 1:
            raise BadInput(f"{dictionary.text(tag)} is no private attribute, it has no creator")
        return tag & 0xFFFF0000 | 0x1000 | tag & 0xFF, private[3].strip()
    tag = dictionary.tag(name.strip().strip("()").replace(",", ""))
    if tag is None:
        raise BadInput(f"'{name[:64]}' is no attribute; give its keyword (PatientName) or its tag (00100010)")
    if tag >> 16 & 1:
        raise BadInput(f"name the creator of the private attribute too: {dictionary.text(tag)}:CREATOR")
    return tag, ""


def _name(tag: int, name: str) -> str:
    return dictionary.keyword(tag) or name


def _allowed(level: Level, tag: int, name: str) -> None:
    """Raises BadInput where this attribute cannot be corrected, or not on this level."""
    called, group = _name(tag, name), tag >> 16
    why = _IDENTITY.get(tag) or ("" if tag == _BURNED_IN else _GROUPS.get(group, ""))
    if not why and 0x04000550 <= tag <= 0x04000565:
        why = "the archive writes it with each correction"
    if not why and tag & 0xFFFF == 0:
        why = "it is a length"
    if not why and group & 0xFF01 in (0x5000, 0x6000) and not group & 1:
        why = "it is drawn over the pixels"
    if why:
        raise BadInput(f"{called} cannot be corrected: {why}")
    home = _LEVELS.get(tag)
    if tag in _WHO and level is not Level.PATIENT:
        raise BadInput(f"{called} says whose study it is: move the study to another patient instead")
    if tag in _WHO:
        raise BadInput(f"{called} is the patient's name among numbers: merge the patient into the right one instead")
    if home == "computed":
        raise BadInput(f"{called} is worked out from what is held")
    if isinstance(home, Level) and home is not level:
        if home is Level.INSTANCE:
            raise BadInput(f"{called} is that of each single instance and cannot be corrected for all at once")
        raise BadInput(f"{called} belongs to the {_NAMES[home]}: correct it there")


def _levels() -> dict[int, Level | str]:
    found: dict[int, Level | str] = {}
    for one in ATTRIBUTES:
        computed = one.column in ("", "series", "instances", "syntax") or one.column.startswith("#")
        computed = computed or one.matching in (Matching.MODALITIES, Matching.CLASSES)
        found[one.path[0]] = "computed" if computed else one.level
    return found | dict.fromkeys(_OF_PATIENT, Level.PATIENT)


_LEVELS = _levels()


def _element(tag: int, creator: str, name: str, value: object) -> dict[str, object]:
    """The attribute's DICOM JSON object, with its VR, and its creator if it is private."""
    if isinstance(value, dict):
        given = cast("dict[str, object]", value)
        vr = given.get("vr") or _vr(tag, creator, name)
        made: dict[str, object] = {"vr": vr, **{key: given[key] for key in ("Value", "InlineBinary") if key in given}}
        unknown = set(given) - {"vr", "Value", "InlineBinary", "creator"}
        if unknown:
            raise BadInput(f"{_name(tag, name)}: '{min(unknown)}' is nothing that can be set here")
    else:
        vr = _vr(tag, creator, name)
        if vr == "SQ" and value not in ("", []):
            raise BadInput(f'{_name(tag, name)} is a sequence: give it as DICOM JSON, {{"vr": "SQ", "Value": […]}}')
        made = _said(tag, vr, name, value)
    return {**made, "creator": creator} if creator else made


def _vr(tag: int, creator: str, name: str) -> str:
    vr = dictionary.vr(tag, creator)
    if vr == "UN":
        raise BadInput(f'{_name(tag, name)} is in no dictionary: give its VR too, as {{"vr": "LO", "Value": […]}}')
    return vr[:2]


def _said(tag: int, vr: str, name: str, value: object) -> dict[str, object]:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list)):
        raise BadInput(f"the value of {_name(tag, name)} is a text, a number, a list or a DICOM JSON object")
    listed = cast("list[Any]", value) if isinstance(value, list) else [value]
    if any(isinstance(one, (list, dict)) for one in listed):
        return {"vr": vr, "Value": listed}
    text = "\\".join("" if one is None else str(one) for one in listed)
    made = orjson.loads(attribute_json({tag: (vr, text)}))
    return made[f"{tag:08X}"]
