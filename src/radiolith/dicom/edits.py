"""Edits as people and programs send them, checked before they become a decision.

Owns: which attributes can be corrected at all, and that what is asked for is the DICOM JSON model with values that the
standard allows (PS3.18 annex F; PS3.5 6.2; PS3.6 for VR and VM). Must never: touch a header, or let through what
`amended` cannot write. Limits: EDITS_MAX attributes, VALUE_BYTES each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import orjson

from radiolith.dicom import dictionary, values
from radiolith.dicom.compose import from_value
from radiolith.dicom.limits import LIMITS
from radiolith.dicom.valid import check_value
from radiolith.model import BadInput, Edit

EDITS_MAX = 256
"""Attributes of one decision."""

VALUE_BYTES = 64 * 1024
"""Bytes of one attribute's JSON: a sequence of codes has a few hundred."""

_DEPTH_MAX = 8
"""Sequences inside sequences: Patient's Primary Language has two."""

PATIENT_KEYS = frozenset({0x00100020, 0x00100021, 0x00100024})
"""What names a patient: changing it in a study moves the study."""

_GROUPS = frozenset({0x0000, 0x0002, 0x0004, 0x0006, 0x0028, 0x7FE0, 0xFFFA, 0xFFFC, 0xFFFE})
_BURNED_IN_ANNOTATION = 0x00280301
_REFUSED = {
    0x00080005: "the character set follows from the texts",
    0x00080015: "the archive writes it",
    0x00080016: "it says what the object is",
    0x00080018: "SOP Instance UIDs never change",
    0x0020000D: "a study is moved, not renamed",
    0x0020000E: "a series is moved, not renamed",
    0x52009229: "it describes the frames",
    0x52009230: "it describes the frames",
}
_PRIVATE = re.compile(r"([0-9A-Fa-f]{8}):(.+)")
_NO_PRIVATE = frozenset({0x0001, 0x0003, 0x0005, 0x0007, 0xFFFF})  # PS3.5 7.8.1


def edits_from(document: Mapping[str, Any], *, level: str = "") -> tuple[Edit, ...]:
    """The edits of {"set": {TAG: attribute}, "remove": [TAG]} (both may be missing), in the order of their tags.

    TAG is eight hexadecimal digits or a keyword; of a private attribute 'ggggxxee', whose block xx does not matter, with
    the member "creator" beside "vr" and "Value", in "remove" written 'ggggxxee:CREATOR'. "vr" may be missing where the
    dictionary has it. `level` 'STUDY' or 'SERIES' refuses what names the patient. Raises BadInput with the attribute's
    keyword and what is wrong; values are not repeated in it.
    """
    found: dict[tuple[int, str], Edit] = {}
    for edit in (*_set(document.get("set", {})), *_removed(document.get("remove", []))):
        if (edit.tag, edit.creator) in found:
            raise BadInput(f"{_said(edit.tag)} is given twice")
        if level in ("STUDY", "SERIES") and edit.tag in PATIENT_KEYS:
            raise BadInput(f"{_said(edit.tag)} names the patient: move the study to another patient instead")
        found[edit.tag, edit.creator] = edit
    if not found:
        raise BadInput("there is no attribute to set or to remove")
    if len(found) > EDITS_MAX:
        raise BadInput(f"one decision may change {EDITS_MAX} attributes, not {len(found)}")
    return tuple(found[key] for key in sorted(found))


def texts_of(edit: Edit) -> tuple[str, ...]:
    """The values of an edit as text, as `model.Row` has them: a person name with '=' between its groups; () where it is
    empty or taken away. Not for sequences."""
    if edit.value is None:
        return ()
    value = from_value(edit.tag, edit.vr, orjson.loads(edit.value))
    if isinstance(value, list):
        return ()
    if edit.vr in values.NUMBERS:
        return tuple(str(number) for number in values.numbers(value, edit.vr, False) or ())
    if edit.vr == "AT":
        return tuple(values.tags(value, False) or ())
    return tuple(values.texts(value, edit.vr, ("ISO_IR 192",)))


def _set(given: object) -> Iterator[Edit]:
    if not isinstance(given, Mapping):
        raise BadInput('"set" is no object of attributes')
    for name, content in cast("Mapping[str, Any]", given).items():
        if not isinstance(content, Mapping):
            raise BadInput(f"{name} is no object with a vr and a Value")
        attribute = cast("Mapping[str, Any]", content)
        creator = attribute.get("creator", "")
        tag, creator = _tag(name, creator if isinstance(creator, str) else "")
        vr = _vr(tag, creator, attribute.get("vr"))
        unknown = attribute.keys() - {"vr", "Value", "creator"}
        if unknown:
            raise BadInput(f"{_said(tag)}: {', '.join(sorted(unknown))} is nothing that can be set")
        listed = _listed(tag, attribute)
        _check(tag, vr, listed, 0)
        value = orjson.dumps({"Value": listed} if listed else {})
        if len(value) > VALUE_BYTES:
            raise BadInput(f"{_said(tag)} has more than {VALUE_BYTES} bytes")
        yield Edit(tag, vr, value, creator)


def _removed(given: object) -> Iterator[Edit]:
    if not isinstance(given, (list, tuple)):
        raise BadInput('"remove" is no array of attributes')
    for name in cast("list[object]", given):
        if not isinstance(name, str):
            raise BadInput('"remove" has something else than the name of an attribute')
        private = _PRIVATE.fullmatch(name)
        tag, creator = _tag(private[1], private[2].strip()) if private else _tag(name, "")
        vr = dictionary.private_vr(tag | 0x1000, creator) if creator else dictionary.vr(tag)
        yield Edit(tag, vr[:2], None, creator)


def _tag(name: str, creator: str) -> tuple[int, str]:
    """(tag, creator) of an attribute that can be corrected; the block of a private one is taken out."""
    tag = dictionary.tag(name)
    if tag is None:
        raise BadInput(f"{name[:64]!r} is neither a keyword nor eight hexadecimal digits")
    group, element = tag >> 16, tag & 0xFFFF
    reason = _REFUSED.get(tag, "")
    if (group in _GROUPS and tag != _BURNED_IN_ANNOTATION) or not element or group in _NO_PRIVATE:
        reason = "this group is not for corrections"
    elif group == 0x0400 and 0x0550 <= element <= 0x0565:
        reason = "the archive keeps what was changed there"
    elif group & 1 and element < 0x1000:
        reason = "it names the creator of a private block, which is made where it is needed"
    if reason:
        raise BadInput(f"{_said(tag)} cannot be corrected: {reason}")
    if not group & 1:
        if creator:
            raise BadInput(f"{_said(tag)} has a creator, but is no private attribute")
        return tag, ""
    creator = creator.strip()
    if not creator:
        raise BadInput(f"{_said(tag)} is private: its creator is missing")
    if not creator.isascii():
        raise BadInput(f"{_said(tag)}: its creator has other letters than ASCII")
    check_value("LO", creator, f"{_said(tag)}: its creator")
    return tag & 0xFFFF00FF, creator


def _vr(tag: int, creator: str, given: object) -> str:
    known = dictionary.private_vr(tag | 0x1000, creator) if creator else dictionary.vr(tag)
    choices = known.split(" or ") if known != "UN" else []
    if not choices and not creator:
        raise BadInput(f"{_said(tag)} is not in the dictionary")
    if given is None and len(choices) == 1:
        given = choices[0]
    if not isinstance(given, str) or (choices and given not in choices):
        raise BadInput(f"{_said(tag)} has the VR {known}" if choices else f"{_said(tag)} needs its vr")
    if given in values.BINARY or given not in VRS:
        raise BadInput(f"{_said(tag)} has a binary value, which is not corrected")
    return given


VRS = values.TEXT | values.NUMBERS.keys() | {"AT", "SQ"}
"""What an edit can set."""


def _listed(tag: int, attribute: Mapping[str, Any]) -> list[Any]:
    listed = attribute.get("Value", [])
    if not isinstance(listed, list):
        raise BadInput(f"the Value of {_said(tag)} is no array")
    return cast("list[Any]", listed)


def _check(tag: int, vr: str, listed: list[Any], depth: int) -> None:
    """Raises BadInput unless the values are those of the attribute."""
    said = _said(tag)
    if vr != "SQ":
        _check_number(tag, len(listed), vr)
        for value in listed:
            check_value(vr, value, said)
        return
    if depth >= _DEPTH_MAX or depth >= LIMITS.depth:
        raise BadInput(f"{said} goes deeper than {_DEPTH_MAX} sequences")
    for item in listed:
        if not isinstance(item, Mapping):
            raise BadInput(f"an item of {said} is no object of attributes")
        for name, content in cast("Mapping[str, Any]", item).items():
            inner = dictionary.tag(name)
            if (
                inner is None
                or inner >> 16 & 1
                or inner >> 16 in (0, 2, 0xFFFE)
                or not inner & 0xFFFF
                or inner == 0x00080005
            ):
                raise BadInput(f"{name[:64]!r} cannot stand in an item of {said}")
            if not isinstance(content, Mapping) or not cast("Mapping[str, Any]", content).keys() <= {"vr", "Value"}:
                raise BadInput(f"{_said(inner)} in {said} is no object with a vr and a Value")
            attribute = cast("Mapping[str, Any]", content)
            if len(name) != 8 or dictionary.tag(name.upper()) != inner or "vr" not in attribute:
                raise BadInput(f"{_said(inner)} in {said} needs its tag in digits, and its vr")
            _check(inner, _vr(inner, "", attribute["vr"]), _listed(inner, attribute), depth + 1)


def _check_number(tag: int, number: int, vr: str) -> None:
    """The value multiplicity (PS3.5 6.4, PS3.6); none at all is an empty attribute."""
    row = dictionary.entry(tag)
    if number > 1 and vr in values.SINGLE:
        raise BadInput(f"{_said(tag)} has one value")
    if not number or row is None:
        return
    least, _, most = row.vm.split(" ")[0].partition("-")
    step = 1
    if most.endswith("n"):
        step = int(most[:-1] or 1)
        most = ""
    elif not most:
        most = least
    if number < int(least) or (most and number > int(most)) or number % step:
        raise BadInput(f"{_said(tag)} has {row.vm} values, not {number}")


def _said(tag: int) -> str:
    """An attribute in words: keyword and tag."""
    keyword = dictionary.keyword(tag)
    return f"{keyword} {dictionary.text(tag)}" if keyword else dictionary.text(tag)
