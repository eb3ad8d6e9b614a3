"""What a person wants to be different, read and checked: keywords and plain texts in, the body of a fact out.

Owns: on which level an attribute is corrected, and how a value may be said. `dicom.edits` says which attributes can be corrected
at all and what their values must be. Must never: write anything. Everything is checked before a fact exists: the index passes
over one whose body does not fit. Limits: BYTES of one operation; those of `dicom.edits`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, cast

import orjson

from radiolith.dicom import dictionary
from radiolith.dicom.edits import PATIENT_KEYS, edits_from
from radiolith.dicom.json import attribute_json
from radiolith.index.attributes import ATTRIBUTES, Matching
from radiolith.model import BadInput, Edit, Level, LimitExceeded

BYTES = 256 << 10  # of the values of one operation as JSON: every header of the subject carries them
_PRIVATE = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?:(.{1,64})")
_PLAIN = re.compile(r"\(([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)")
_OF_PATIENT = frozenset(
    {0x00101000, 0x00101001, 0x00101002, 0x00101005, 0x00101060, 0x00100032, 0x00100026, 0x00100027}
)
_NAMES = {Level.PATIENT: "patient", Level.STUDY: "study", Level.SERIES: "series", Level.INSTANCE: "instance"}


@dataclass(frozen=True, slots=True)
class Corrections:
    """In the order of their tags; a private one is gggg00ee with its creator."""

    edits: tuple[Edit, ...]

    def body(self) -> dict[str, object]:
        """As a fact holds them: `set`: eight digits -> DICOM JSON; `remove`: eight digits, or {"tag", "creator"}."""
        removed = [edit for edit in self.edits if edit.value is None]
        return {
            "set": self.elements(),
            "remove": [
                {"tag": _digits(one), "creator": one.creator} if one.creator else _digits(one) for one in removed
            ],
        }

    def elements(self) -> dict[str, dict[str, Any]]:
        """What is set: eight digits -> DICOM JSON, with the creator of a private one."""
        return {
            _digits(one): {
                "vr": one.vr, **orjson.loads(one.value), **({"creator": one.creator} if one.creator else {}),
            }
            for one in self.edits
            if one.value is not None
        }  # fmt: skip


def _digits(edit: Edit) -> str:
    return f"{edit.tag:08X}"


def corrections(level: Level, values: Mapping[str, object], remove: Sequence[str] = ()) -> Corrections:
    """What a person wants to be different, checked.

    values: keyword, eight hexadecimal digits or (gggg,eeee), or 'ggggxxee:CREATOR' of a private attribute -> the value: a text
    (several values with backslashes, '' for none), a number, a list, or the attribute's DICOM JSON object (PS3.18 F.2.2). Raises
    BadInput with the keyword and what to do instead, LimitExceeded.
    """
    setting: dict[str, dict[str, object]] = {}
    for name, value in values.items():
        key, creator = _key(name)
        if key in setting:
            raise BadInput(f"{name} is named twice; those of two creators with one number go one after the other")
        setting[key] = _element(key, creator, name, value)
    removing = [":".join(filter(None, _key(name))) for name in remove]
    made = Corrections(edits_from({"set": setting, "remove": removing}))
    for edit in made.edits:
        _at_home(level, edit)
    if len({_digits(edit) for edit in made.edits}) < len(made.edits):
        raise BadInput("private attributes of two creators with one number go one after the other")
    if len(orjson.dumps(made.body())) > BYTES:
        raise LimitExceeded(f"the values of one operation may have {BYTES} bytes")
    return made


def _key(name: str) -> tuple[str, str]:
    """Keyword or eight digits, and the creator of a private attribute, in a block that the dictionary understands."""
    name = name.strip()
    private = _PRIVATE.fullmatch(name)
    if private:
        return f"{int(private[1] + private[2], 16) | 0x1000:08X}", private[3].strip()
    plain = _PLAIN.fullmatch(name)
    return (plain[1] + plain[2] if plain else name), ""


def _at_home(level: Level, edit: Edit) -> None:
    """Raises BadInput where the attribute is not corrected on this level."""
    called, home = (
        dictionary.keyword(edit.tag) or dictionary.text(edit.tag),
        None if edit.creator else _LEVELS.get(edit.tag),
    )
    if edit.tag in PATIENT_KEYS and not edit.creator:
        instead = (
            "merge the patient into the right one" if level is Level.PATIENT else "move the study to another patient"
        )
        raise BadInput(f"{called} says who the patient is: {instead} instead")
    if home == "computed":
        raise BadInput(f"{called} is worked out from what is held")
    if home is Level.INSTANCE:
        raise BadInput(f"{called} is that of each single instance and cannot be corrected for all at once")
    if isinstance(home, Level) and home is not level:
        raise BadInput(f"{called} belongs to the {_NAMES[home]}: correct it there")


def _levels() -> dict[int, Level | str]:
    found: dict[int, Level | str] = {}
    for one in ATTRIBUTES:
        computed = one.column in ("", "series", "instances", "syntax") or one.column.startswith("#")
        computed = computed or one.matching in (Matching.MODALITIES, Matching.CLASSES)
        found[one.path[0]] = "computed" if computed else one.level
    return found | dict.fromkeys(_OF_PATIENT, Level.PATIENT)


_LEVELS = _levels()


def _element(key: str, creator: str, name: str, value: object) -> dict[str, object]:
    """The attribute's DICOM JSON object, with its creator if it is private."""
    if isinstance(value, Mapping):
        given = {str(member): one for member, one in cast("Mapping[object, object]", value).items()}
        return {**given, "creator": creator} if creator else given
    tag = dictionary.tag(key)
    if tag is None:  # `edits_from` says so
        return {}
    if tag >> 16 & 1 and not creator:
        raise BadInput(f"name the creator of the private attribute too: {key}:CREATOR")
    vr = dictionary.private_vr(tag, creator) if creator else dictionary.vr(tag)
    if vr == "UN":
        raise BadInput(f'{name} is in no dictionary: give its VR too, as {{"vr": "LO", "Value": […]}}')
    if vr == "SQ" and value not in ("", []):
        raise BadInput(f'{name} is a sequence: give it as DICOM JSON, {{"vr": "SQ", "Value": […]}}')
    made = _said(tag, vr[:2], name, value)
    return {**made, "creator": creator} if creator else made


def _said(tag: int, vr: str, name: str, value: object) -> dict[str, object]:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list)):
        raise BadInput(f"the value of {name} is a text, a number, a list or a DICOM JSON object")
    listed = cast("list[Any]", value) if isinstance(value, list) else [value]
    if any(isinstance(one, (list, dict)) for one in listed):
        return {"vr": vr, "Value": listed}
    text = "\\".join("" if one is None else str(one) for one in listed)
    if any(isinstance(one, float) and not isfinite(one) for one in listed) or not _is_text(text):
        raise BadInput(f"{name}: a value is no number, or has a character that there is not")
    try:
        return orjson.loads(attribute_json({tag: (vr, text)}))[f"{tag:08X}"]
    except orjson.JSONDecodeError:
        raise BadInput(f"{name}: a value does not fit into {vr}") from None


def _is_text(text: str) -> bool:
    """Half a pair of surrogates is nothing that can be written."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
