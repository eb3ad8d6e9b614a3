"""What a correction costs the first metadata of a series: CPU of header to DICOM JSON, corrected against not.

Run: python bench/amended_headers.py [FILE]. Headers of 200 slices are made from one header (FILE's, or one made here) that
differ in their SOP Instance UID, number, position and times, first of equal lengths, then with numbers and UIDs that grow
longer now and then. Each way makes the JSON of all of them with `SeriesJson`, as the archive does for the metadata of a
series; the corrected ones go through `amended_series.Series` before. Prints microseconds of CPU per header, and the ratio of
the fastest rounds, taken in turns.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from struct import pack

import orjson

from radiolith.dicom import syntax
from radiolith.dicom.amended import Origin
from radiolith.dicom.amended_series import Series
from radiolith.dicom.encoding import element_header, padded, rewrite
from radiolith.dicom.json_series import SeriesJson
from radiolith.dicom.outline import outline, wanted
from radiolith.dicom.reader import scan
from radiolith.model import Edit, Overlay, Step

SLICES = 200
ROUNDS = 15


def edit(tag: int, vr: str, *values: object) -> Edit:
    return Edit(tag, vr, orjson.dumps({"Value": values}))


PATIENT = (
    edit(0x00100010, "PN", {"Alphabetic": "Doe^Jane"}),
    edit(0x00100020, "LO", "4711"),
    edit(0x00100030, "DA", "19700101"),
    edit(0x00100040, "CS", "F"),
    edit(0x00081030, "LO", "Chest, corrected"),
)
OVERLAYS = {
    "five attributes": Overlay(b"a" * 16, (Step(b"1" * 16, 1_700_000_000_000_000, "x", "CORRECT", "", PATIENT),)),
    "and letters that it has not": Overlay(
        b"b" * 16,
        (
            Step(
                *(b"1" * 16, 1_700_000_000_000_000, "x", "CORRECT", ""),
                (*PATIENT[1:], edit(0x00100010, "PN", {"Alphabetic": "Доу^Джейн"})),
            ),
        ),
    ),
}


def element(tag: int, vr: str, value: bytes) -> bytes:
    even = padded(value, vr)
    return element_header(tag, vr, len(even)) + even


def made() -> bytes:
    """A header of about 140 elements, with a few sequences, as CT slices have."""
    parts = [element(0x00080005, "CS", b"ISO_IR 100"), element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2")]
    parts.append(element(0x00080018, "UI", b"2.25.1"))
    parts += [element(0x00080020 + n, "DA", b"20260102") for n in range(4)]
    parts += [element(0x00081030, "LO", "Thorax, früh".encode("latin_1")), element(0x0008103E, "LO", b"Axial 1.0")]
    item = element(0x00081150, "UI", b"1.2.840.10008.5.1.4.1.1.2") + element(0x00081155, "UI", b"2.25.4711")
    items = (pack("<HHI", 0xFFFE, 0xE000, len(item)) + item) * 2
    parts.append(element_header(0x00081140, "SQ", len(items)) + items)
    parts += [element(0x00100010, "PN", b"Roe^Richard"), element(0x00100020, "LO", b"1234")]
    parts += [element(0x00180050 + 2 * n, "DS", b"1.2500") for n in range(40)]
    parts += [element(0x00200013, "IS", b"1"), element(0x00200032, "DS", b"-120.5\\-130.5\\-55.25")]
    parts += [element(0x00209000 + n, "UI", b"2.25.99") for n in range(20)]
    parts += [element(0x00280002 + 2 * n, "US", b"\0\2") for n in range(30)]
    parts += [element(0x00290010, "LO", b"ACME 1.1"), *(element(0x00291000 + n, "LO", b"private") for n in range(20))]
    return b"".join(parts)


def header_of(path: Path) -> bytes:
    """The header of a file as explicit VR little endian."""
    data = path.read_bytes()
    found = scan(data)
    layout = found.layout
    return rewrite(data[layout.dataset_start : layout.header_end], found.actual_encoding, syntax.EXPLICIT_LE)


def slices(header: bytes, *, grow: bool) -> list[bytes]:
    """Headers that differ as slices do."""
    tags = (0x00080018, 0x00080033, 0x00200013, 0x00200032, 0x00201041)
    spans = outline(header, syntax.EXPLICIT, wanted(tags)).spans
    out: list[bytes] = []
    for number in range(1, SLICES + 1):
        text = str(number if grow else 1000 + number)
        values = {
            0x00080018: ("UI", f"2.25.31415926535897.{text}"),
            0x00080033: ("TM", f"1200{number % 60:02}"),
            0x00200013: ("IS", text),
            0x00200032: ("DS", f"-120.5\\-130.5\\{1000 + number}.25"),
            0x00201041: ("DS", f"{1000 + number}.25"),
        }
        new, at = b"", 0
        for tag in tags:
            for span in spans.get(tag, []):
                vr, value = values[tag]
                new += header[at : span.start] + element(tag, vr, value.encode())
                at = span.stop
        out.append(new + header[at:])
    return out


def round_of(headers: list[bytes], overlay: Overlay | None) -> float:
    """Microseconds of CPU per header."""
    origin = Origin("RADIOLITH", "SENDER")
    started = time.process_time_ns()
    series, written = Series(), SeriesJson()
    for number, header in enumerate(headers):
        if overlay is not None:
            header = series.amended(header, syntax.EXPLICIT_LE, overlay, origin)
        base = f"http://x/{number}/"
        written.to_json(header, syntax.EXPLICIT_LE, bulk_uri=lambda path, base=base: base + path)
    return (time.process_time_ns() - started) / 1000 / len(headers)


def main() -> None:
    header = header_of(Path(sys.argv[1])) if len(sys.argv) > 1 else made()
    for grow in (False, True):
        headers = slices(header, grow=grow)
        print(f"{SLICES} headers of {len(headers[0])} bytes" + (", some longer" if grow else ""))
        for name, overlay in OVERLAYS.items():
            plain, amended = [], []
            for _ in range(ROUNDS):
                plain.append(round_of(headers, None))
                amended.append(round_of(headers, overlay))
            ratio = min(amended) / min(plain)
            print(f"  {name}: {min(plain):.0f} us as received, {min(amended):.0f} us corrected, x {ratio:.2f}")


if __name__ == "__main__":
    main()
