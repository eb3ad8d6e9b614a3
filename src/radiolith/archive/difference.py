"""What two headers say differently, for people: attribute by attribute, in the words of DICOM's dictionary.

Pure. Owns: the comparison of two DICOM JSON objects and how a value reads. Must never: read an object. Bulk values are compared
by what the documents say of them. Limits: VALUE_MAX characters of a value, CHANGES attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from radiolith.archive.operations import Change
from radiolith.dicom import dictionary

VALUE_MAX = 200  # characters of one value as shown: beyond, an ellipsis
CHANGES = 1_000  # attributes named of one comparison; more is another object
_DEPTH = 8  # of sequences that are looked into; below, items are compared as a whole

Document = Mapping[str, Any]


def compared(old: Document, new: Document) -> list[Change]:
    """Attributes that differ, in the order of their tags, those of items behind the sequence: '(0040,0275)[1] > (0040,0007)'."""
    found: list[Change] = []
    for change in _compared(old, new, "", _DEPTH):
        found.append(change)
        if len(found) == CHANGES:
            break
    return found


def _compared(old: Document, new: Document, above: str, depth: int) -> Iterator[Change]:
    for tag in sorted({*old, *new}):
        before, after = old.get(tag), new.get(tag)
        if _same(before, after):
            continue
        items = _items(before), _items(after)
        if depth and (items[0] or items[1]) and _is_sequence(before) and _is_sequence(after):
            for number in range(max(len(items[0]), len(items[1]))):
                one = items[0][number] if number < len(items[0]) else {}
                other = items[1][number] if number < len(items[1]) else {}
                yield from _compared(one, other, f"{above}{_called(tag)}[{number + 1}] > ", depth - 1)
            continue
        yield Change(tag, above + _called(tag), in_words(before), in_words(after))


def _same(before: Any, after: Any) -> bool:
    """An attribute without value and one that is absent differ; the VR of a value alone does not make a difference."""
    if before is None or after is None:
        return before is after
    strip = {"vr", "creator"}
    return {k: v for k, v in before.items() if k not in strip} == {k: v for k, v in after.items() if k not in strip}


def _is_sequence(element: Any) -> bool:
    return element is None or element.get("vr") == "SQ"


def _items(element: Any) -> list[Document]:
    if element is None or element.get("vr") != "SQ":
        return []
    return [item or {} for item in element.get("Value", [])]


def _called(tag: str) -> str:
    number = int(tag, 16)
    return dictionary.keyword(number) or dictionary.text(number)


def in_words(element: Any) -> str:
    """A value as a person reads it; '' for none."""
    if element is None:
        return ""
    if "InlineBinary" in element:
        return f"{len(element['InlineBinary']) * 3 // 4} bytes"
    if "BulkDataURI" in element:
        return "bulk data"
    values = cast("list[Any]", element.get("Value", []))
    if element.get("vr") == "SQ":
        return f"{len(values)} item{'s' if len(values) != 1 else ''}" if values else ""
    text = "\\".join(_text(value) for value in values)
    return text if len(text) <= VALUE_MAX else text[: VALUE_MAX - 1] + "…"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        named = cast("dict[str, object]", value)
        groups = [str(named.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return str(value)
