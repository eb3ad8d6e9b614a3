"""What one header scan costs, beside pydicom's reading of the same bytes.

Run: python bench/scan.py [FILE…]. Without files: the project's own made-up CT header of 141 and 250 elements. Prints
the best of several rounds in microseconds: on a shared machine the best is the figure that repeats.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from struct import pack

from radiolith.dicom import dictionary
from radiolith.dicom.element import LONG_FORM
from radiolith.dicom.part10 import file_meta
from radiolith.dicom.reader import scan

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ROUNDS = 7


def element(tag: int, vr: str, value: bytes) -> bytes:
    """One element in explicit VR little endian."""
    value += b"\0" * (len(value) % 2)
    group, number = tag >> 16, tag & 0xFFFF
    if vr.encode() in LONG_FORM:
        return pack("<HH2sHI", group, number, vr.encode(), 0, len(value)) + value
    return pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def made_up(count: int, pixel_bytes: int = 512 * 512 * 2) -> bytes:
    """A CT slice whose header has `count` elements: the identifying ones, then what the dictionary offers."""
    fixed = {
        0x00080005: ("CS", b"ISO_IR 100"),
        0x00080016: ("UI", CT_IMAGE.encode()),
        0x00080018: ("UI", b"2.25.1.2.3"),
        0x00100010: ("PN", "Müller^Jörg".encode("latin-1")),
        0x0020000D: ("UI", b"2.25.1"),
        0x0020000E: ("UI", b"2.25.1.2"),
        0x00280002: ("US", pack("<H", 1)),
        0x00280004: ("CS", b"MONOCHROME2"),
        0x00280010: ("US", pack("<H", 512)),
        0x00280011: ("US", pack("<H", 512)),
        0x00280100: ("US", pack("<H", 16)),
    }
    texts = {"DA": b"20240131", "TM": b"101112.5", "IS": b"17", "DS": b"1.25\\0.5", "UI": b"1.2.3.4", "AS": b"042Y"}
    rows = dict(fixed)
    usable = [
        tag for tag, vr in dictionary.VR.items() if 0x00080000 < tag < 0x00540000 and vr in {*texts, "LO", "SH", "CS"}
    ]
    for tag in usable[:: max(1, len(usable) // (2 * count))]:
        if len(rows) == count - 1:
            break
        rows.setdefault(tag, (dictionary.VR[tag], texts.get(dictionary.VR[tag], b"SOME VALUE")))
    body = b"".join(element(tag, *rows[tag]) for tag in sorted(rows))
    pixels = element(0x7FE00010, "OW", bytes(pixel_bytes))
    return file_meta(CT_IMAGE, "2.25.1.2.3", "1.2.840.10008.1.2.1") + body + pixels


def best(work: Callable[[], object], seconds: float = 0.25) -> float:
    """Microseconds of one call: the best average of several rounds."""
    times: list[float] = []
    for _ in range(ROUNDS):
        calls, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds / ROUNDS or not calls:
            work()
            calls += 1
        times.append(spent / calls)
    return min(times) * 1e6


def main(paths: list[str]) -> None:
    import pydicom

    objects = {path: Path(path).read_bytes() for path in paths}
    objects = objects or {"CT, 141 elements": made_up(141), "CT, 250 elements": made_up(250)}
    print(f"{'object':40} {'bytes':>9} {'scan':>9} {'pydicom':>9}   µs")
    for name, data in objects.items():
        ours = best(lambda data=data: scan(data))
        theirs = best(
            lambda data=data: list(pydicom.dcmread(io.BytesIO(data), defer_size=65536, stop_before_pixels=True))
        )
        print(f"{name[-40:]:40} {len(data):9} {ours:9.1f} {theirs:9.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
