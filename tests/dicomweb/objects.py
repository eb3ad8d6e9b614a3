"""Small objects to send, made by pydicom: another writer than ours."""

from __future__ import annotations

import io
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian


def dataset(study: str = "1.2", series: str = "1.2.3", sop: str = "1.2.3.4", **more: Any) -> Dataset:
    """A CT slice of 16 × 16 pixels."""
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = sop, study, series
    ds.PatientName, ds.PatientID, ds.Modality = "Müller^Jörg", "P1", "CT"
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.InstanceNumber = 1
    ds.Rows = ds.Columns = 16
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.PixelData = bytes(range(256)) * 2
    for name, value in more.items():
        setattr(ds, name, value)
    return ds


def part10(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def ct(**more: Any) -> bytes:
    return part10(dataset(**more))


def multipart(parts: list[tuple[dict[str, str], bytes]], boundary: str = "b0", end: bool = True) -> bytes:
    out = b""
    for headers, data in parts:
        lines = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
        out += f"\r\n--{boundary}{lines}\r\n\r\n".encode() + data
    return out[2:] + (f"\r\n--{boundary}--\r\n".encode() if end else b"")


def stow_body(datas: list[bytes], **more: Any) -> bytes:
    return multipart([({"Content-Type": "application/dicom"}, data) for data in datas], **more)


STOW = {"content-type": 'multipart/related; type="application/dicom"; boundary=b0'}
