"""Objects for the codec tests: headers written by pydicom, frames by it or by hand."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from radiolith.codecs import registry
from radiolith.codecs.sandbox import Frame, Opened

PIXEL_TAGS = (0x7FE00010, 0x7FE00008, 0x7FE00009)


def header_bytes(ds: Dataset, syntax: str = registry.EXPLICIT_LE) -> bytes:
    """The dataset without pixel data, encoded as `syntax` says."""
    row = registry.syntax(syntax)
    copy = Dataset()
    for element in tuple(ds.keys()):
        if element.group not in (2, 0x7FE0):
            copy[element] = ds.get_item(element)
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = not row.big_endian, row.implicit
    write_dataset(out, copy)
    return out.getvalue()


def image(pixels: np.ndarray[Any, Any], *, stored: int = 0, photometric: str = "", **more: Any) -> Dataset:
    """A dataset that describes `pixels` (rows, columns[, samples])."""
    ds = Dataset()
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = photometric or ("RGB" if pixels.ndim == 3 else "MONOCHROME2")
    ds.BitsAllocated = pixels.dtype.itemsize * 8
    ds.BitsStored = stored or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


def opened(ds: Dataset, syntax: str = registry.EXPLICIT_LE) -> Opened:
    return Opened(header_bytes(ds, syntax), syntax)


def frame(pixels: np.ndarray[Any, Any], number: int = 0) -> Frame:
    return Frame(number, pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())


@dataclass(frozen=True)
class Sample:
    """One corpus file, cut open with pydicom: what a client would send for its first and last frame."""

    path: Path
    dataset: pydicom.FileDataset
    opened: Opened
    frames: list[Frame]

    @property
    def name(self) -> str:
        return self.path.name


def cut_open(path: Path) -> Sample | None:
    """The file as a Sample; None if it has no pixel data pydicom can find."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path)
            tag = next((t for t in PIXEL_TAGS if t in ds), None)
            syntax = str(ds.file_meta.TransferSyntaxUID)
            row = registry.SYNTAXES.get(syntax)
            if tag is None or row is None or "Rows" not in ds:
                return None
            element = ds.get_item(tag)
            data = bytes(element.value)
            count = int(ds.get("NumberOfFrames", 1) or 1)
            frames = _encapsulated(data, count) if row.encapsulated else _native(ds, data, count)
            return Sample(path, ds, Opened(header_bytes(ds, syntax), syntax, tag, element.VR or ""), frames)
        except Exception:
            return None


def _encapsulated(data: bytes, count: int) -> list[Frame]:
    found = list(generate_frames(data, number_of_frames=count))
    return [Frame(n, found[n]) for n in sorted({0, len(found) - 1})]


def _native(ds: Dataset, data: bytes, count: int) -> list[Frame]:
    if str(ds.PhotometricInterpretation) == "YBR_FULL_422":
        bits = ds.Rows * ds.Columns * 2 * ds.BitsAllocated
    else:
        bits = ds.Rows * ds.Columns * ds.SamplesPerPixel * ds.BitsAllocated
    out: list[Frame] = []
    for n in sorted({0, count - 1}):
        start, end = n * bits, (n + 1) * bits
        stop = (end + 7) // 8
        if count == 1:
            stop += stop % 2  # the padding byte belongs to a single frame's last word
        out.append(Frame(n, data[start // 8 : stop], start % 8))
    return out


def array(native: Any) -> np.ndarray[Any, Any]:
    """A decoded frame as an array."""
    shape = (native.rows, native.columns, native.samples) if native.samples > 1 else (native.rows, native.columns)
    return np.frombuffer(native.data, f"<{native.dtype}").reshape(shape)
