"""Writes and checks the dictionary files of `radiolith.dicom` from pydicom's tables.

Run as a script (`python tests/dicom/tables.py`) after an upgrade of pydicom; `test_dictionary.py` fails when the files
and the installed pydicom disagree.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "src" / "radiolith" / "dicom" / "tables"

# Later than pydicom 3.0.2, used by the object-level rules of the archive.
LATER_UIDS = {
    "1.2.840.10008.5.1.4.1.1.66.7": ("Label Map Segmentation Storage", "SOP Class", "LabelMapSegmentationStorage"),
    "1.2.840.10008.5.1.4.1.1.66.8": ("Height Map Segmentation Storage", "SOP Class", "HeightMapSegmentationStorage"),
    "1.2.840.10008.1.2.4.110": ("JPEG XL Lossless", "Transfer Syntax", "JPEGXLLossless"),
    "1.2.840.10008.1.2.4.111": ("JPEG XL JPEG Recompression", "Transfer Syntax", "JPEGXLJPEGRecompression"),
    "1.2.840.10008.1.2.4.112": ("JPEG XL", "Transfer Syntax", "JPEGXL"),
    "1.2.840.10008.1.2.8.1": (
        "Deflated Image Frame Compression",
        "Transfer Syntax",
        "DeflatedImageFrameCompression",
    ),
}


def elements() -> str:
    """One line an element: tag (x for repeating digits), VR, VM, keyword, name; public ones first."""
    from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary

    rows = [(f"{tag:08X}", *entry) for tag, entry in sorted(DicomDictionary.items())]
    rows += [(mask.upper().replace("X", "x"), *entry) for mask, entry in sorted(RepeatersDictionary.items())]
    return "".join(
        f"{tag}\t{vr}\t{vm}\t{keyword}\t{name}\n" for tag, vr, vm, name, _retired, keyword in rows if vr != "NONE"
    )


def private() -> str:
    """A line `creator` followed by lines `group element VR` (element without its block byte)."""
    from pydicom._private_dict import private_dictionaries

    lines: list[str] = []
    for creator, entries in sorted(private_dictionaries.items()):
        kept = [(mask, entry[0]) for mask, entry in sorted(entries.items()) if entry[0] not in ("UN", "NONE")]
        if kept:
            lines.append(f"\t{creator}\n")
            lines += [f"{mask[:4].upper()}{mask[6:].upper()} {vr}\n" for mask, vr in kept]
    return "".join(lines)


def uids() -> str:
    """One line a UID: UID, kind, keyword, name."""
    from pydicom._uid_dict import UID_dictionary

    rows = {uid: (name, kind, keyword) for uid, (name, kind, _info, _retired, keyword) in UID_dictionary.items()}
    for uid, entry in LATER_UIDS.items():
        rows.setdefault(uid, entry)
    return "".join(f"{uid}\t{kind}\t{keyword}\t{name}\n" for uid, (name, kind, keyword) in sorted(rows.items()))


FILES = {"elements.tsv": elements, "private.tsv": private, "uids.tsv": uids}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in FILES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
