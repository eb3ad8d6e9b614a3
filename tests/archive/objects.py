"""Small DICOM objects written by hand, so that a client needs nothing but the standard library to know every byte."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
CT = "1.2.840.10008.5.1.4.1.1.2"
RAW = "1.2.840.10008.5.1.4.1.1.66"
_LONG = frozenset({"OB", "OW", "SQ", "UN", "UT"})
_PADS = {"UI": b"\0", "OB": b"\0", "OW": b"\0", "UN": b"\0"}


@dataclass(frozen=True)
class Made:
    """What an object shall say. `pixels`: value of 16-bit pixel data, whole rows of 16 (of 512 from 200 KB on)."""

    study: str
    series: str
    sop: str
    patient: str = "P1"
    issuer: str = ""
    name: str = "Müller^Jörg"
    accession: str = "A1"
    description: str = "Thorax"
    modality: str = "CT"
    date: str = "20240131"
    number: int = 1
    pixels: bytes = b""
    private: bytes = b""  # bulk without pixels

    def part10(self, syntax: str = EXPLICIT, preamble: bytes = bytes(128)) -> bytes:
        """The whole file."""
        sop_class = CT if self.pixels else RAW
        meta = b"".join((
            _element(0x00020001, "OB", b"\0\1", EXPLICIT),
            _element(0x00020002, "UI", sop_class.encode(), EXPLICIT),
            _element(0x00020003, "UI", self.sop.encode(), EXPLICIT),
            _element(0x00020010, "UI", syntax.encode(), EXPLICIT),
            _element(0x00020012, "UI", b"1.2.3.4", EXPLICIT),
        ))  # fmt: skip
        length = _element(0x00020000, "UL", struct.pack("<I", len(meta)), EXPLICIT)
        return preamble + b"DICM" + length + meta + self.dataset(syntax)

    def dataset(self, syntax: str = EXPLICIT) -> bytes:
        order = ">" if syntax == BIG else "<"
        texts: list[tuple[int, str, str]] = [
            (0x00080005, "CS", "ISO_IR 192"),
            (0x00080016, "UI", CT if self.pixels else RAW),
            (0x00080018, "UI", self.sop),
            (0x00080020, "DA", self.date),
            (0x00080050, "SH", self.accession),
            (0x00080060, "CS", self.modality),
            (0x00081030, "LO", self.description),
            (0x00100010, "PN", self.name),
            (0x00100020, "LO", self.patient),
        ]
        texts += [(0x00100021, "LO", self.issuer)] if self.issuer else []
        texts += [(0x0020000D, "UI", self.study), (0x0020000E, "UI", self.series), (0x00200013, "IS", str(self.number))]
        found = [_element(tag, vr, text.encode(), syntax) for tag, vr, text in texts]
        if self.pixels:
            columns = 16 if len(self.pixels) < 200_000 else 512
            numbers = [(0x00280002, 1), (0x00280010, len(self.pixels) // columns // 2), (0x00280011, columns)]
            numbers += [(0x00280100, 16)]
            numbers += [(0x00280101, 16), (0x00280102, 15), (0x00280103, 0)]
            found += [_element(tag, "US", struct.pack(f"{order}H", value), syntax) for tag, value in numbers]
            found.insert(-6, _element(0x00280004, "CS", b"MONOCHROME2", syntax))
            swapped = self.pixels
            if syntax == BIG:
                swapped = b"".join(
                    self.pixels[at + 1 : at + 2] + self.pixels[at : at + 1] for at in range(0, len(swapped), 2)
                )
            found.append(_element(0x7FE00010, "OW", swapped, syntax))
        elif self.private:
            block = [
                _element(0x00090010, "LO", b"RADIOLITH TEST", syntax),
                _element(0x00091001, "UN", self.private, syntax),
            ]
            at = next(i for i, e in enumerate(found) if e[:2] == struct.pack(f"{order}H", 0x0010))
            found[at:at] = block
        return b"".join(found)


def _element(tag: int, vr: str, value: bytes, syntax: str) -> bytes:
    order = ">" if syntax == BIG else "<"
    if len(value) % 2:
        value += _PADS.get(vr, b" ")
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT:
        return head + struct.pack("<I", len(value)) + value
    if vr in _LONG:
        return head + vr.encode() + struct.pack(f"{order}HI", 0, len(value)) + value
    return head + vr.encode() + struct.pack(f"{order}H", len(value)) + value


ROOT = "1.2.826.0.1.3680043.10.1337"


def numbered(seed: int, number: int, *, large: float = 0.05) -> tuple[str, str, str, bytes]:
    """Study, series and SOP UID of object `number` of a seed, and its file: always the same bytes.

    Most have 2 to 40 KB; the share `large` has 0.5 to 2.5 MB, so that some stream to segments of their own.
    """
    rng = random.Random(f"{seed}/{number}")
    study = f"{ROOT}.{seed}.{number // 40}"
    series = f"{study}.{number % 3}"
    sop = f"{series}.{number}"
    size = rng.randrange(500_000, 2_500_000) if rng.random() < large else rng.randrange(2_000, 40_000)
    pixels = rng.randbytes(size // 1024 * 1024)
    made = Made(study, series, sop, patient=f"P{number // 40}", number=number % 40, pixels=pixels)
    return study, series, sop, made.part10()
