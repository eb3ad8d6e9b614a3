"""What a compressed frame says about itself, read before any decoder sees it.

Owns: the few bytes of JPEG, JPEG-LS, JPEG 2000 and JPEG XL headers that give size, precision, sign and colour. Must never follow
a length beyond the data. Raises BadInput when the markers are not there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from radiolith.model import BadInput

MAX_SEGMENTS = 4096  # JPEG marker segments before the frame header
_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size and sample format of a codestream."""

    rows: int
    columns: int
    samples: int
    precision: int  # bits of a sample
    signed: bool = False
    ycc: bool | None = None  # components are luminance and chrominance; None if the stream does not say
    process: int = 0  # JPEG: low byte of the SOF marker
    transform: bool = False  # JPEG 2000: multiple component transform in use
    reversible: bool = True  # JPEG 2000: 5-3 wavelet; only then does the codec give what was put in


def jpeg(data: memoryview) -> Codestream:
    """A JPEG or JPEG-LS stream up to its frame header."""
    if bytes(data[:2]) != b"\xff\xd8":
        raise BadInput("a JPEG frame without start of image")
    at, adobe, jfif = 2, -1, False
    for _ in range(MAX_SEGMENTS):
        while at + 1 < len(data) and not (data[at] == 0xFF and data[at + 1] not in (0, 0xFF)):
            at += 1
        if at + 10 > len(data):
            break
        marker = data[at + 1]
        length = data[at + 2] << 8 | data[at + 3]
        body = bytes(data[at + 4 : at + 2 + length])
        if marker in _SOF:
            return _frame_header(marker, body, adobe, jfif)
        if marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif marker == 0xE0 and body[:4] == b"JFIF":
            jfif = True
        elif marker in (0xD9, 0xDA):
            break
        at += 2 if 0xD0 <= marker <= 0xD8 or marker == 1 else 2 + length
    raise BadInput("a JPEG frame without frame header")


def _frame_header(marker: int, body: bytes, adobe: int, jfif: bool) -> Codestream:
    if len(body) < 6:
        raise BadInput("a JPEG frame header cut short")
    precision, rows, columns, samples = struct.unpack_from(">BHHB", body)
    identifiers = bytes(body[6 : 6 + 3 * samples : 3])
    ycc: bool | None = None
    if samples == 3:
        if adobe >= 0:
            ycc = adobe == 1
        elif identifiers == b"RGB":
            ycc = False
        elif jfif:
            ycc = True
    return Codestream(rows, columns, samples, precision, ycc=ycc, process=marker & 0xFF)


def jpeg2000(data: memoryview) -> Codestream:
    """A JPEG 2000 or HTJ2K codestream, bare or in a JP2 file (which DICOM forbids and devices write)."""
    head = bytes(data[: 1 << 16])
    at = 0 if head[:4] == b"\xff\x4f\xff\x51" else head.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(head) < at + 45:
        raise BadInput("a JPEG 2000 frame without its size marker")
    x1, y1, x0, y0 = struct.unpack_from(">4I", head, at + 8)
    samples, depth = struct.unpack_from(">HB", head, at + 40)
    if x1 <= x0 or y1 <= y0:
        raise BadInput("a JPEG 2000 frame of no size")
    style = head.find(b"\xff\x52", at)
    if style < 0 or len(head) < style + 14:
        raise BadInput("a JPEG 2000 frame without its coding style")
    return Codestream(
        y1 - y0,
        x1 - x0,
        samples,
        (depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        transform=head[style + 8] == 1,
        reversible=head[style + 13] == 1,
    )


_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # ISO/IEC 18181-1 table of aspect ratios


def jpegxl_size(data: memoryview) -> tuple[int, int]:
    """(rows, columns) a JPEG XL codestream or file claims, by its size header."""
    head = bytes(data[: 1 << 12])
    at = 0
    if head[:12] == b"\0\0\0\x0cJXL \r\n\x87\n":
        found = min((i for i in (head.find(b"jxlc"), head.find(b"jxlp")) if i >= 0), default=-1)
        at = found + (4 if head[found : found + 4] == b"jxlc" else 8)
    if at < 0 or head[at : at + 2] != b"\xff\x0a":
        raise BadInput("a JPEG XL frame without its signature")
    bits = int.from_bytes(head[at + 2 : at + 18].ljust(16, b"\0"), "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    rows = side()
    ratio = take(3)
    columns = rows * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1] if ratio else side()
    return rows, columns
