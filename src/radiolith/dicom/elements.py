"""Single elements as bytes: written from edits, read for comparison, rewritten where they have to be.

Owns: one element at a time in the encoding and character set of the dataset it belongs to. Must never: know what an
edit is for, or walk a dataset. Memory is that of the element.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from radiolith.dicom import charset as charsets
from radiolith.dicom import charset_out, json, syntax, values
from radiolith.dicom.compose import Attributes, Reference
from radiolith.dicom.encoding import BIG, LITTLE, element_header, emitted, padded
from radiolith.dicom.limits import LIMITS, UNDEFINED, Limits, exceeded
from radiolith.dicom.syntax import Encoding
from radiolith.dicom.tokens import Tokens
from radiolith.dicom.wanted import SPECIFIC_CHARACTER_SET

_SIMPLE = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "PN", "SH", "TM", "UI"})


class NotInCharacterSet(Exception):
    """A text has characters that the dataset's character set has not."""


@dataclass(frozen=True, slots=True)
class Form:
    """How elements of one dataset are written. `terms`: the values of its Specific Character Set."""

    encoding: Encoding
    terms: tuple[str, ...]

    @property
    def in_utf_8(self) -> Form:
        """The same dataset once its texts are in UTF-8."""
        return Form(self.encoding, charset_out.UTF_8)


def written(tag: int, vr: str, value: bytes | list[Attributes], form: Form, *, depth: int = 0) -> bytes:
    """An element from a value as `compose` gives it (little endian, texts in UTF-8, items).

    Raises NotInCharacterSet, LimitExceeded.
    """
    implicit, big, _ = form.encoding
    if not isinstance(value, list):
        raw = padded(_in_form(vr, value, form), vr)
        return element_header(tag, vr, len(raw), implicit=implicit, big=big) + raw
    if depth > LIMITS.depth:
        raise exceeded("sequence depth", "levels", LIMITS.depth)
    if not value:
        return element_header(tag, "SQ", 0, implicit=implicit, big=big)
    marks = BIG if big else LITTLE
    parts = [element_header(tag, "SQ", UNDEFINED, implicit=implicit, big=big)]
    for item in value:
        parts.append(marks.item)
        for inner in sorted(item):
            inner_vr, content = item[inner]
            if inner != SPECIFIC_CHARACTER_SET and not isinstance(content, Reference):
                parts.append(written(inner, inner_vr, content, form, depth=depth + 1))
        parts.append(marks.item_stop)
    parts.append(marks.sequence_stop)
    return b"".join(parts)


def _in_form(vr: str, value: bytes, form: Form) -> bytes:
    if vr in charsets.CHARSET_VRS:
        return value if value.isascii() else text_in(value.decode("utf_8", "replace"), vr, form.terms)
    return values.little_endian(value, vr, form.encoding.big)  # words are turned the same way in both directions


def text_in(text: str, vr: str, terms: tuple[str, ...]) -> bytes:
    """A text in a character set; what does not come back the same is not in it. Raises NotInCharacterSet."""
    found = charset_out.encode(text, terms)
    if found is None or charsets.decode(found, terms, vr) != charsets.decode(text.encode(), charset_out.UTF_8, vr):
        raise NotInCharacterSet
    return found


def is_simple(vr: str, raw: bytes) -> bool:
    """Whether a value is one text that is the same in every character set, so that its bytes can be compared."""
    return vr in _SIMPLE and raw.isascii() and not any(byte in raw for byte in b"\\=\x1b")


def model(element: bytes, form: Form, creators: bytes = b"") -> Mapping[str, Any]:
    """The DICOM JSON object of one element without its VR: {} when it has no value. `creators`: the element of its
    private creator."""
    text = written(SPECIFIC_CHARACTER_SET, "CS", "\\".join(form.terms).encode("ascii", "replace"), form)
    uid = syntax.uid_of(form.encoding)
    read = json.to_json(text + creators + element, uid, bulk_uri=lambda path: path, bulk_threshold=UNDEFINED)
    attributes = orjson.loads(read)
    attributes.pop("00080005", None)
    named = [found for key, found in sorted(attributes.items()) if not (creators and _is_creator(key))]
    return {key: value for key, value in named[-1].items() if key != "vr"} if named else {}


def _is_creator(key: str) -> bool:
    return key[4:6] == "00" and int(key[3], 16) & 1 == 1


def respelled(element: bytes, encoding: Encoding, creators: Mapping[int, str], limits: Limits = LIMITS) -> bytes:
    """The same element written anew: closed, its own VR said, nothing but what can be read."""
    return b"".join(emitted(element, Tokens(element, encoding, limits, creators=creators), encoding))
