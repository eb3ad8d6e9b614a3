"""Raw element values as text and numbers, by VR (PS3.5 6.2), for the JSON and XML models.

Owns: splitting, trimming and number reading, once for both models. Must never: raise for a bad value: what is no
number stays text, what has no whole number of words has no values (None).
"""

from __future__ import annotations

import re
from struct import unpack

from radiolith.dicom import charset as charsets

SINGLE = frozenset({"LT", "ST", "UT", "UR"})
"""VRs in which a backslash is a character of the only value."""

TEXT = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT", "DS", "IS", "PN"})

BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})

NUMBERS: dict[str, tuple[str, int]] = {
    "FL": ("f", 4),
    "FD": ("d", 8),
    "SL": ("i", 4),
    "SS": ("h", 2),
    "SV": ("q", 8),
    "UL": ("I", 4),
    "US": ("H", 2),
    "UV": ("Q", 8),
}
"""VR -> (struct code, bytes)."""

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
"""A number that JSON takes as it stands."""

NUMBERS_TEXT = re.compile(rf"{NUMBER.pattern}(?:\\\\{NUMBER.pattern})*")
"""Several of them with backslashes between."""

_LOOSE_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


WORD_BYTES = {vr: width for vr, (_, width) in NUMBERS.items()} | {
    "AT": 2,
    "OD": 8,
    "OF": 4,
    "OL": 4,
    "OV": 8,
    "OW": 2,
}
"""VR -> bytes of the words that byte ordering swaps (PS3.5 7.3); other VRs are strings of bytes."""


def little_endian(raw: bytes, vr: str, big: bool) -> bytes:
    """A value in little endian; what is no whole number of words stays as it is."""
    width = WORD_BYTES.get(vr, 1)
    if not big or width == 1 or len(raw) % width:
        return raw
    swapped = bytearray(len(raw))
    for byte in range(width):
        swapped[byte::width] = raw[width - 1 - byte :: width]
    return bytes(swapped)


def texts(raw: bytes, vr: str, charset: tuple[str, ...]) -> list[str]:
    """The values of a text element, each without padding; [] when it is empty."""
    text = charsets.decode(raw, charset, vr)
    if not text:
        return []
    if vr in SINGLE or "\\" not in text:
        return [text]
    if vr == "UC":
        return [value.rstrip(" \0") for value in text.split("\\")]
    return [value.strip(" \0") for value in text.split("\\")]


def numbers(raw: bytes, vr: str, big: bool) -> tuple[int | float, ...] | None:
    """The values of a binary number element; None when the bytes are no whole number of words."""
    code, width = NUMBERS[vr]
    count, rest = divmod(len(raw), width)
    return None if rest else unpack(f"{'>' if big else '<'}{count}{code}", raw)


def tags(raw: bytes, big: bool) -> list[str] | None:
    """The values of an AT element as eight hexadecimal digits each."""
    if len(raw) % 4:
        return None
    words = unpack(f"{'>' if big else '<'}{len(raw) // 2}H", raw)
    return [f"{words[i]:04X}{words[i + 1]:04X}" for i in range(0, len(words), 2)]


def number_text(text: str) -> str | None:
    """A decimal or integer string as a JSON number, its digits kept where they may be; None when it is no number."""
    if NUMBER.fullmatch(text):
        return text
    if not _LOOSE_NUMBER.fullmatch(text):
        return None
    sign = "-" if text[0] == "-" else ""
    mantissa, mark, exponent = text.lstrip("+-").lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    return f"{sign}{whole.lstrip('0') or '0'}{'.' if fraction else ''}{fraction}{mark}{exponent}"


def person(text: str) -> dict[str, str]:
    """A person name as its non-empty component groups."""
    named = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("=", 2), strict=False)
    return {name: group.strip() for name, group in named if group.strip()}
