"""Reading single attribute values out of a parsed dataset, forgivingly: headers of real devices lie about VRs.

Owns: raw bytes to numbers and text, look-up tables included. Runs in decoder processes. Must never raise anything but
BadInput, and never allocate more than the element or the 65,536 entries of a table.
"""

from __future__ import annotations

import struct
from array import array

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from radiolith.codecs.description import Lut
from radiolith.model import BadInput

MAX_LUT_ENTRIES = 65_536
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "OW": "H", "UV": "Q", "SV": "q", "AT": "H"}


def raw(ds: Dataset, tag: int) -> tuple[str, bytes, bool]:
    """VR ('' if unknown), value bytes and 'little endian' of an element; an absent one has no bytes."""
    if tag not in ds:
        return "", b"", True
    element = ds.get_item(tag)
    if isinstance(element, RawDataElement):
        value = bytes(element.value) if isinstance(element.value, (bytes, bytearray)) else b""
        vr = element.VR
        if vr in (None, "UN", ""):
            vr = dictionary_VR(element.tag) if dictionary_has_tag(element.tag) else ""
        return vr, value, element.is_little_endian
    value = element.value
    if isinstance(value, bytes):
        return element.VR, value, True
    text = "\\".join(str(v) for v in value) if isinstance(value, (list, tuple)) else str(value)
    return "LO", text.encode("ascii", "replace"), True


def text(ds: Dataset, tag: int) -> str:
    """First value as text, padding removed; '' when absent."""
    return raw(ds, tag)[1].split(b"\\", 1)[0].decode("latin-1").strip(" \0")


def numbers(ds: Dataset, tag: int, *, default: str = "H") -> tuple[float, ...]:
    """All values as numbers; `default` is the struct code for values whose VR does not tell (US or SS, UN)."""
    if tag not in ds:
        return ()
    vr, value, little = raw(ds, tag)
    if vr in ("IS", "DS", "LO", "CS", "SH", "UT"):
        return _decimal(value)
    code = _BINARY.get(vr, default)
    size = struct.calcsize(code)
    count = len(value) // size
    return tuple(struct.unpack(f"{'<' if little else '>'}{count}{code}", value[: count * size]))


def _decimal(value: bytes) -> tuple[float, ...]:
    found: list[float] = []
    for part in value.split(b"\\"):
        try:
            number = float(part.strip(b" \0").replace(b",", b".") or b"nan")
        except ValueError:
            number = float("nan")
        found.append(number)
    return tuple(found)


def integer(ds: Dataset, tag: int, missing: int, *, default: str = "H") -> int:
    """First value as an integer; `missing` when absent or empty. BadInput when it is no number."""
    values = numbers(ds, tag, default=default)
    if not values:
        return missing
    if values[0] != values[0] or abs(values[0]) > 1 << 53:
        raise BadInput(f"element {tag:08X} is not a number")
    return int(values[0])


def finite(values: tuple[float, ...], index: int, missing: float) -> float:
    """values[index] if it is there and finite."""
    if index < len(values) and abs(values[index]) < 1e38:
        return values[index]
    return missing


def items(ds: Dataset, tag: int) -> list[Dataset]:
    """Items of a sequence; [] when absent or not a sequence."""
    if tag not in ds:
        return []
    try:
        value = ds[tag].value
        return [item for item in value if isinstance(item, Dataset)]
    except RecursionError:
        raise BadInput("sequences nested too deeply") from None
    except Exception:
        return []


def lut(ds: Dataset, descriptor: int, data: int, *, segmented: int = 0, signed: bool = False) -> Lut | None:
    """The look-up table of `descriptor` and `data` (or `segmented`) elements; None when absent or empty."""
    shape = numbers(ds, descriptor)
    if len(shape) < 3:
        return None
    entries = int(shape[0]) & 0xFFFF or MAX_LUT_ENTRIES
    first = int(shape[1])
    if signed and first > 0x7FFF:
        first -= 0x10000
    bits = int(shape[2])
    vr, value, little = raw(ds, data)
    if not value and segmented:
        _, value, little = raw(ds, segmented)
        words = _segments(_words(value, little), entries)
    elif vr == "DS" or vr == "IS":
        words = array("H", (int(n) & 0xFFFF for n in _decimal(value) if n == n))
    elif bits <= 8 and len(value) <= entries + 1 and len(value) < 2 * entries:  # one byte an entry
        words = array("H", list(value[:entries] if little else swap_words(value)[:entries]))
    else:
        words = _words(value, little)
    words = words[:entries]
    if not words:
        return None
    if struct.pack("=H", 1) == b"\0\1":
        words.byteswap()
    # Some devices say 8 bits and store 16-bit entries; the entries decide.
    actual = bits if 1 <= bits <= 16 else 16
    while actual < 16 and max(words) >> actual:
        actual += 1
    return Lut(first, actual, words.tobytes())


def swap_words(value: bytes) -> bytes:
    """The bytes of each 16-bit word exchanged; an odd last byte is dropped."""
    words = array("H", value[: len(value) & ~1])
    words.byteswap()
    return words.tobytes()


def _words(value: bytes, little: bool) -> array[int]:
    words = array("H", value[: min(len(value), 2 * MAX_LUT_ENTRIES) & ~1])
    if little != (struct.pack("=H", 1) == b"\1\0"):
        words.byteswap()
    return words


def _segments(code: array[int], entries: int) -> array[int]:
    """Expand segmented look-up table data (PS3.3 C.7.9.2), at most `entries` long."""
    out = array("H")
    at, back = 0, -1
    jumps = 0
    until = -1  # segments left in an indirect run
    while at + 1 < len(code) and len(out) < entries:
        kind, length = code[at], code[at + 1]
        if kind == 0:
            out.extend(code[at + 2 : at + 2 + length])
            at += 2 + length
        elif kind == 1 and at + 2 < len(code) and out:
            start, end = out[-1], code[at + 2]
            out.extend(start + (end - start) * i // length for i in range(1, length + 1))
            at += 3
        elif kind == 2 and at + 3 < len(code) and until < 0 and jumps < MAX_LUT_ENTRIES:
            back, until, jumps = at + 4, length, jumps + 1
            at = (code[at + 2] | code[at + 3] << 16) // 2
            continue
        else:
            raise BadInput("a malformed segmented colour table")
        if until > 0:
            until -= 1
            if until == 0:
                at, until = back, -1
    return out
