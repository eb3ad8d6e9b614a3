"""Text values to Unicode: every Specific Character Set of PS3.3 C.12.1.1.2, and what the field makes of it.

Owns: the table of defined terms and the ISO 2022 code extension state (PS3.5 6.1.2.5). Must never: raise for bytes
that do not fit (they become U+FFFD, one for each byte at most; the stored bytes stay what they are), or need more
than time linear in the length. Deliberate leniencies, each seen in real files: misspelt terms ('ISO-IR 100',
'UTF-8'), text outside ASCII where no character set is given (UTF-8 if it is valid, else Latin-1), escape sequences
not repeated after '^' and '='.
"""

from __future__ import annotations

import re

CHARSET_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""VRs whose values are in the Specific Character Set (PS3.5 6.1.2.2)."""

UNTRIMMED_VRS = frozenset({"LT", "ST", "UT", "UC"})
"""VRs in which leading spaces count (PS3.5 table 6.2-1)."""

# ISO-IR number -> Python codec of the set as G1 with ASCII as G0 (13, 58, 149: see _ESCAPES for their G0 sides)
_CODECS = {
    6: "ascii",
    13: "shift_jis",
    58: "gb2312",
    87: "ascii",  # as the first value these two are G0 sets without a G1 side
    159: "ascii",
    100: "latin_1",
    101: "iso8859_2",
    109: "iso8859_3",
    110: "iso8859_4",
    126: "iso8859_7",
    127: "iso8859_6",
    138: "iso8859_8",
    144: "iso8859_5",
    148: "iso8859_9",
    149: "euc_kr",
    166: "iso8859_11",
    192: "utf_8",
    203: "iso8859_15",
}

_ONLY_EXTENDED = frozenset({58, 87, 149, 159})
"""Multi-byte sets: defined with code extensions alone (PS3.3 table C.12-4)."""
_NAMED = {"GB18030": "gb18030", "GBK": "gbk", "UTF8": "utf_8"}

# escape sequence without ESC -> (which half it sets, codec); a G0 codec of '' is ASCII (PS3.3 tables C.12-3 and C.12-4)
_ESCAPES: dict[bytes, tuple[int, str]] = {
    b"(B": (0, ""),
    b"(J": (0, ""),  # JIS X 0201 Romaji: ASCII but for yen and overline, which stand where delimiters do
    b"$B": (0, "iso2022_jp"),
    b"$@": (0, "iso2022_jp"),
    b"$(D": (0, "iso2022_jp_2"),
    b")I": (1, "shift_jis"),
    b"$)C": (1, "euc_kr"),
    b"$)A": (1, "gb2312"),
    b"-A": (1, "latin_1"),
    b"-B": (1, "iso8859_2"),
    b"-C": (1, "iso8859_3"),
    b"-D": (1, "iso8859_4"),
    b"-F": (1, "iso8859_7"),
    b"-G": (1, "iso8859_6"),
    b"-H": (1, "iso8859_8"),
    b"-L": (1, "iso8859_5"),
    b"-M": (1, "iso8859_9"),
    b"-T": (1, "iso8859_11"),
    b"-b": (1, "iso8859_15"),
}

_ESCAPE = re.compile(rb"\x1b(\$[()]?[@-Z]|[()\-][@-Zb])")
_CONTROLS = re.compile(rb"([\t\n\f\r])")
_DELIMITERS = re.compile(rb"([\t\n\f\r\\^=])")
_LOW_OR_HIGH = re.compile(rb"[\x80-\xff]+|[^\x80-\xff]+")


def terms(raw: bytes) -> tuple[str, ...]:
    """The defined terms of a raw Specific Character Set value, as given but trimmed; () when it is empty."""
    text = raw.decode("latin_1").strip(" \0")
    return tuple(term.strip(" \0") for term in text.split("\\")) if text else ()


def known() -> tuple[str, ...]:
    """The defined terms that are read, without and with code extensions (PS3.3 C.12.1.1.2)."""
    numbers = sorted(number for number in _CODECS if number != 192)
    single = tuple(f"ISO_IR {number}" for number in numbers if number not in _ONLY_EXTENDED)
    return (*single, "ISO_IR 192", "GB18030", "GBK", *(f"ISO 2022 IR {number}" for number in numbers))


def codec(term: str) -> str:
    """Python codec of a defined term; 'ascii' for unknown ones."""
    named = _NAMED.get(term.upper().replace("-", "").replace("_", "").replace(" ", ""))
    if named:
        return named
    number = re.search(r"(\d{1,3})$", term)
    return _CODECS.get(int(number[1]), "ascii") if number else "ascii"


def decode(raw: bytes, charset: tuple[str, ...], vr: str = "LO") -> str:
    """A whole value, several values joined by backslashes, without padding. Split it after decoding, never before:
    a backslash byte may be half a character."""
    if raw.isascii() and b"\x1b" not in raw:
        text = raw.decode("ascii")
    elif vr not in CHARSET_VRS and vr != "UN":
        text = raw.decode("latin_1")
    else:
        text = _decode(raw, charset)
    return text.rstrip(" \0") if vr in UNTRIMMED_VRS else text.strip(" \0")


def _decode(raw: bytes, charset: tuple[str, ...]) -> str:
    first = codec(charset[0]) if charset else "ascii"
    if b"\x1b" in raw and first not in ("gb18030", "gbk", "utf_8"):
        return _decode_extended(raw, first)
    if first != "ascii":
        return raw.decode(first, "replace")
    try:
        return raw.decode("utf_8")
    except UnicodeDecodeError:
        # no set says what the bytes are; a single-byte second value may (a defect: it needs escapes)
        second = next((codec(term) for term in charset[1:] if codec(term) != "ascii"), "latin_1")
        return raw.decode(second, "replace")


def _decode_extended(raw: bytes, first: str) -> str:
    """Code extension: escapes set the two halves of the code table, delimiters set them back."""
    parts: list[str] = []
    low, high = "", first
    for number, piece in enumerate(_ESCAPE.split(raw)):
        if number % 2:
            half, name = _ESCAPES.get(piece, (2, ""))
            low = name if half == 0 else low
            high = name if half == 1 else high
            continue
        # in a two-byte lower half the bytes of delimiters are halves of characters
        for place, run in enumerate((_CONTROLS if low else _DELIMITERS).split(piece)):
            if place % 2:
                low = ""
                high = first if first != "ascii" else high  # writers forget to repeat the escape
                parts.append(run.decode("ascii"))
            else:
                parts.append(_decode_run(run, low, high))
    return "".join(parts)


def _decode_run(run: bytes, low: str, high: str) -> str:
    """Bytes between escapes: the lower half may be a two-byte set, the upper half is what `high` says."""
    if not low:
        return run.decode(high, "replace")
    escape = b"\x1b$(D" if low == "iso2022_jp_2" else b"\x1b$B"
    return "".join(
        part.decode(high, "replace") if part[0] & 0x80 else (escape + part).decode(low, "replace")
        for part in _LOW_OR_HIGH.findall(run)
    )
