"""Unicode to text values: the way back from `charset`, for peers that know only their own Specific Character Set.

Owns: which bytes a text is in a character set, code extensions included (PS3.5 6.1.2.5.3: what holds behind a delimiter is
the first set again). Must never: lose a character: what does not fit is None, and the caller takes UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from radiolith.dicom.charset import codec

UTF_8 = ("ISO_IR 192",)

_DELIMITERS = re.compile(r"([\t\n\f\r\\^=])")
_ALONE = frozenset({"gb18030", "gbk", "utf_8"})
# codec -> the escape sequence that makes it the upper half (PS3.3 tables C.12-3 and C.12-4)
_UPPER = {
    "latin_1": b"\x1b-A",
    "iso8859_2": b"\x1b-B",
    "iso8859_3": b"\x1b-C",
    "iso8859_4": b"\x1b-D",
    "iso8859_7": b"\x1b-F",
    "iso8859_6": b"\x1b-G",
    "iso8859_8": b"\x1b-H",
    "iso8859_5": b"\x1b-L",
    "iso8859_9": b"\x1b-M",
    "iso8859_11": b"\x1b-T",
    "iso8859_15": b"\x1b-b",
    "shift_jis": b"\x1b)I",
    "euc_kr": b"\x1b$)C",
    "gb2312": b"\x1b$)A",
}


def encode(text: str, charset: tuple[str, ...]) -> bytes | None:
    """The bytes of a value, or of several joined by backslashes; None where the character set has not all of it."""
    if text.isascii():
        return text.encode("ascii")
    first = codec(charset[0]) if charset else "ascii"
    if first in _ALONE:
        return _plain(text, first)
    parts: list[bytes] = []
    for number, piece in enumerate(_DELIMITERS.split(text)):
        encoded = piece.encode("ascii") if number % 2 else _piece(piece, first, charset)
        if encoded is None:
            return None
        parts.append(encoded)
    return b"".join(parts)


def _piece(piece: str, first: str, charset: tuple[str, ...]) -> bytes | None:
    """What stands between delimiters: in the first set, or in one of the others behind its escape sequence."""
    multibyte = first in ("euc_kr", "gb2312")  # as first value these need their escape as well
    found = None if multibyte and not piece.isascii() else _plain(piece, first)
    return found if found is not None else next(_extended(piece, charset), None)


def _extended(piece: str, charset: tuple[str, ...]) -> Iterator[bytes]:
    numbers = [term[-3:].strip() for term in charset]
    for term, number in zip(charset, numbers, strict=True):
        name = codec(term)
        if number in ("87", "159"):
            encoded = _plain(piece, "iso2022_jp_1" if "159" in numbers and "87" in numbers else "iso2022_jp")
            escape = b""  # the codec writes its own, and the way back
        else:
            escape = _UPPER.get(name)
            encoded = _plain(piece, name) if escape else None
        if encoded is not None and escape is not None:
            yield escape + encoded


def _plain(text: str, name: str) -> bytes | None:
    try:
        encoded = text.encode(name)
    except UnicodeEncodeError:
        return None
    if name == "shift_jis" and len(encoded) != len(text):
        return None  # of it only JIS X 0201 is meant, one byte a character
    return encoded
