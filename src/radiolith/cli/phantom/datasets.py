"""What every generated object has in common: identity, patient, study, series, file meta, pixels, compression.

UIDs are 2.25 UIDs (PS3.5 B.2) computed from a name, so that they are the same in every run.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID
from rle.utils import encode_pixel_data

EXPLICIT = "1.2.840.10008.1.2.1"
JPEG_LS = "1.2.840.10008.1.2.4.80"
HTJ2K = "1.2.840.10008.1.2.4.201"
RLE = "1.2.840.10008.1.2.5"

_ROOT = uuid.UUID("5f6f1a52-6a0d-4a39-8a0c-2f4f0d7c9be1")


def uid(*names: object) -> str:
    """The UID of the thing with these names."""
    return f"2.25.{uuid.uuid5(_ROOT, '/'.join(map(str, names))).int}"


@dataclass(frozen=True, slots=True)
class Patient:
    id: str
    name: str
    birth: str
    sex: str
    charset: str | list[str]  # Specific Character Set (0008,0005)


@dataclass(frozen=True, slots=True)
class Study:
    """One visit; `day` is YYYYMMDD, `time` HHMMSS."""

    patient: Patient
    key: str  # a name of our own, from which the UIDs are computed
    accession: str
    day: str
    time: str
    description: str
    referrer: str


@dataclass(frozen=True, slots=True)
class Series:
    study: Study
    number: int
    modality: str
    description: str
    body_part: str = ""

    @property
    def uid(self) -> str:
        return uid(self.study.key, self.number)


def instance(series: Series, number: int, sop_class: str) -> Dataset:
    """An object with everything but its content."""
    study, patient = series.study, series.study.patient
    dataset = Dataset()
    dataset.SpecificCharacterSet = patient.charset
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = uid(study.key, series.number, number)
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = study.day
    dataset.StudyTime = study.time
    dataset.SeriesTime = dataset.ContentTime = f"{int(study.time) + series.number * 100:06d}"
    dataset.AccessionNumber = study.accession
    dataset.Modality = series.modality
    dataset.Manufacturer = "Radiolith"
    dataset.ManufacturerModelName = "Computed phantom"
    dataset.InstitutionName = "Radiolith Demonstration"
    dataset.ReferringPhysicianName = study.referrer
    dataset.StudyDescription = study.description
    dataset.SeriesDescription = series.description
    dataset.PatientName = patient.name
    dataset.PatientID = patient.id
    dataset.IssuerOfPatientID = "RADIOLITH-DEMO"
    dataset.PatientBirthDate = patient.birth
    dataset.PatientSex = patient.sex
    if series.body_part:
        dataset.BodyPartExamined = series.body_part
    dataset.StudyInstanceUID = uid(study.key)
    dataset.SeriesInstanceUID = series.uid
    dataset.StudyID = study.accession[-4:]
    dataset.SeriesNumber = series.number
    dataset.InstanceNumber = number
    return dataset


def set_pixels(dataset: Dataset, frames: list[npt.NDArray[Any]], stored: int, syntax: str = EXPLICIT) -> str:
    """Describe and add the pixel data, compressed without loss as `syntax` wants it; returns `syntax`.

    frames: rows by columns, or rows by columns by 3, of uint8, uint16 or int16; stored: Bits Stored (0028,0101).
    """
    first = frames[0]
    colour = first.ndim == 3
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else dataset.get("PhotometricInterpretation", "MONOCHROME2")
    if colour:
        dataset.PlanarConfiguration = 0
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    dataset.Rows, dataset.Columns = first.shape[:2]
    dataset.BitsAllocated = first.itemsize * 8
    dataset.BitsStored = stored
    dataset.HighBit = stored - 1
    dataset.PixelRepresentation = int(first.dtype.kind == "i")
    if syntax == EXPLICIT:
        data = b"".join(frame.tobytes() for frame in frames)
        dataset.PixelData = data + b"\0" * (len(data) % 2)
    else:
        dataset.PixelData = encapsulate([_compressed(frame, stored, syntax) for frame in frames])
        dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB" if first.itemsize == 1 or syntax != EXPLICIT else "OW"
    return syntax


def _compressed(frame: npt.NDArray[Any], stored: int, syntax: str) -> bytes:
    if syntax == RLE:
        samples = frame.shape[2] if frame.ndim == 3 else 1
        rows, columns = frame.shape[:2]
        return encode_pixel_data(
            frame.tobytes(),
            byteorder="<",
            rows=rows,
            columns=columns,
            samples_per_pixel=samples,
            bits_allocated=frame.itemsize * 8,
        )
    if syntax == JPEG_LS:
        return bytes(imagecodecs.jpegls_encode(frame, level=0))
    return bytes(imagecodecs.htj2k_encode(frame, reversible=True))


def write(dataset: Dataset, syntax: str, folder: Path) -> Path:
    """Write a Part 10 file below `folder`; returns its path."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(uid("radiolith", "phantom"))
    meta.ImplementationVersionName = "RADIOLITH_DEMO"
    buffer = BytesIO()
    file = FileDataset(buffer, dataset, preamble=b"\0" * 128, file_meta=meta)
    dcmwrite(buffer, file, enforce_file_format=True)
    series = f"{int(dataset.SeriesNumber):02d}-{dataset.Modality}"
    path = folder / dataset.AccessionNumber / series / f"{int(dataset.InstanceNumber):04d}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getbuffer())
    return path
