"""The head of a Part 10 file: preamble, prefix and file meta information (PS3.10 7.1), read and freshly written.

Owns: the byte patterns before the dataset. Must never: give back a preamble that came from outside: it may be an
executable (CVE-2019-11687), so what is delivered starts with zeros.
"""

from __future__ import annotations

from struct import pack

from radiolith.dicom.element import header
from radiolith.dicom.limits import UNDEFINED, Limits, Unparsable, exceeded
from radiolith.dicom.syntax import EXPLICIT, IMPLICIT

IMPLEMENTATION_UID = "2.25.115451042230296715176673126839426509105"
"""Implementation Class UID (PS3.7 D.3.3.2): drawn once for this program, from a UUID (PS3.5 B.2)."""

IMPLEMENTATION_VERSION = "RADIOLITH"

PREFIX_AT = 128
META_AT = 132

MEDIA_STORAGE_SOP_CLASS = 0x00020002
MEDIA_STORAGE_SOP_INSTANCE = 0x00020003
TRANSFER_SYNTAX = 0x00020010

DICOMDIR = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage."""


def _ui(element: int, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    value += b"\0" * (len(value) % 2)
    return pack("<HH2sH", 2, element, b"UI", len(value)) + value


def file_meta(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Preamble of 128 zeros, prefix and file meta information; the dataset follows.

    Arguments are UIDs without padding; a character outside ASCII, which no UID has, becomes '?'.
    """
    version = IMPLEMENTATION_VERSION.encode()
    version += b" " * (len(version) % 2)
    body = b"".join(
        (
            pack("<HH2sHI2s", 2, 1, b"OB", 0, 2, b"\0\1"),
            _ui(0x0002, sop_class),
            _ui(0x0003, sop_instance),
            _ui(0x0010, transfer_syntax),
            _ui(0x0012, IMPLEMENTATION_UID),
            pack("<HH2sH", 2, 0x0013, b"SH", len(version)) + version,
        )
    )
    return b"\0" * PREFIX_AT + b"DICM" + pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body


class MetaReader:
    """File meta information as its bytes pass by; the group length is not believed, the group number is.

    `read` until it returns True, each time with the bytes from `position` on.
    """

    __slots__ = ("_encoding", "_limits", "_start", "meta", "need", "position", "warnings")

    def __init__(self, start: int, limits: Limits) -> None:
        self.position = self._start = start
        self.need = 8
        self.meta: dict[int, bytes] = {}
        self.warnings: list[str] = []
        self._encoding = EXPLICIT
        self._limits = limits

    def read(self, buffer: bytes, base: int) -> bool:
        """Whether the dataset begins at `position`; else `need` bytes are wanted from there on."""
        while True:
            at = self.position - base
            if len(buffer) - at < 8:
                self.need = 8
                return False
            if buffer[at : at + 2] != b"\x02\0":
                self._check_length()
                return True
            if self.position == self._start and not buffer[at + 4 : at + 6].isalpha():
                self.warnings.append("the file meta information is in implicit VR")
                self._encoding = IMPLICIT
            found = header(buffer, at, len(buffer), self._encoding)
            if found is None:
                self.need = 12
                return False
            tag, _, start, length = found
            if length == UNDEFINED:
                raise Unparsable("the file meta information has an element of undefined length")
            if self.position + length - self._start > self._limits.meta_bytes:
                raise exceeded("file meta information", "bytes", self._limits.meta_bytes)
            if start + length > len(buffer):
                self.need = start - at + length
                return False
            self.meta[tag] = buffer[start : start + length]
            self.position = base + start + length

    def _check_length(self) -> None:
        value = self.meta.get(0x00020000, b"")
        declared = int.from_bytes(value, "little")
        actual = self.position - self._start - (8 + len(value))
        if len(value) != 4 or declared != actual:
            self.warnings.append("the group length of the file meta information is missing or wrong")
