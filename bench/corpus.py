"""The synthetic images the benchmarks store: made here, deterministic, and the same for every server.

Each shape is encoded once with pydicom; an instance after that is a copy of those bytes with values of equal length
written over the markers in it, which costs microseconds. Objects too large to hold twice are a header and a generator
of frames. Nothing here is a photograph of anybody: bodies are ellipses, names are syllables.

Shapes: `ct` 512x512 (about 0.5 MB), `mr` 128x128 (about 35 KB), `tiny` 1x1 (about 3.5 KB), and multi-frame CT of any
number of frames (512 of them are 268 MB, 4,096 are 2.1 GB). All Explicit VR Little Endian.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom import config, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
PATIENTS = 1600
SIDE = 512
FRAME_BYTES = SIDE * SIDE * 2
VARIANTS = 8  # different pixel planes per shape; more would only fill memory
_STAMP = struct.Struct("<4sI")  # the start of every multi-frame frame: a mark and the 1-based frame number
_MARK = b"\x01\x00\x02\x00"

MARKERS: dict[str, str] = {
    "sop": "2.25.1" + "5" * 35 + "1",
    "series": "2.25.1" + "5" * 35 + "2",
    "study": "2.25.1" + "5" * 35 + "3",
    "reference": "2.25.1" + "5" * 35 + "4",
    "patient": "QX77777771",
    "family": "qxqxqxqx",
    "accession": "QA77777772",
    "date": "17770707",
    "study_id": "QS777773",
    "number": "987654",
    "series_number": "8642",
    "position": "-77777.125",
}
"""What stands in a template where an instance's own value goes: of the same length, and nowhere else in it."""


@dataclass(frozen=True, slots=True)
class Name:
    """Which instance: `run` separates repetitions, the rest counts from one."""

    run: int
    study: int
    series: int = 1
    number: int = 1

    @property
    def patient(self) -> int:
        return self.run * 100_000 + self.study % PATIENTS

    def uid(self, kind: int) -> str:
        series, number = (self.series if kind != 3 else 0), (self.number if kind == 1 else 0)
        return f"2.25.1{kind}{self.run:06d}{self.study:09d}{series:06d}{number:014d}"

    def values(self) -> dict[str, str]:
        return {
            "sop": self.uid(1),
            "series": self.uid(2),
            "study": self.uid(3),
            "reference": self.uid(4),
            "patient": f"P{self.patient:09d}",
            "family": family(self.patient),
            "accession": f"A{self.run % 1000:03d}{self.study:06d}",
            "date": study_date(self.study),
            "study_id": f"S{self.study:07d}",
            "number": f"{self.number:>6d}",
            "series_number": f"{self.series:>4d}",
            "position": f"{-500 + 1.25 * self.number:>10.3f}",
        }

    @property
    def study_path(self) -> str:
        return f"/studies/{self.uid(3)}"

    @property
    def series_path(self) -> str:
        return f"{self.study_path}/series/{self.uid(2)}"

    @property
    def path(self) -> str:
        return f"{self.series_path}/instances/{self.uid(1)}"


def family(number: int) -> str:
    """Eight letters: 10,000 different names."""
    syllables = ("ka", "lo", "mi", "nu", "pe", "ra", "so", "ti", "vu", "we")
    return "".join(syllables[number // 10**place % 10] for place in (3, 2, 1, 0))


def study_date(number: int) -> str:
    """1,344 different days, none of them a 29th."""
    month, day = divmod(number % 1344, 28)
    return f"{2020 + month // 12}{month % 12 + 1:02d}{day + 1:02d}"


class Template:
    """An encoded object with known slots. Its size is that of every instance made from it."""

    def __init__(self, encoded: bytes):
        self._encoded = encoded
        self._slots: list[tuple[int, str]] = []
        for name, marker in MARKERS.items():
            raw, at = marker.encode("ascii"), -1
            while (at := encoded.find(raw, at + 1)) >= 0:
                self._slots.append((at, name))
        self._slots.sort()
        for (at, name), (following, _) in zip(self._slots, self._slots[1:], strict=False):
            if at + len(MARKERS[name]) > following:
                raise ValueError(f"the marker of {name} holds another one")

    def __len__(self) -> int:
        return len(self._encoded)

    def instance(self, name: Name) -> bytes:
        made = bytearray(self._encoded)
        for key, value in name.values().items():
            if len(value) != len(MARKERS[key]):
                raise ValueError(f"{key} {value!r} does not fit its slot")
        values = {key: value.encode("ascii") for key, value in name.values().items()}
        for at, key in self._slots:
            value = values[key]
            made[at : at + len(value)] = value
        return bytes(made)


# ---------------------------------------------------------------- series, studies, folders


def series(run: int, count: int, study: int = 1, number: int = 1) -> list[Name]:
    """`count` instances of one series."""
    return [Name(run, study, number, k + 1) for k in range(count)]


def studies(run: int, count: int) -> list[list[Name]]:
    """`count` studies of two series of five instances: one list per study."""
    return [[Name(run, s + 1, se + 1, k + 1) for se in range(2) for k in range(5)] for s in range(count)]


def instances(shape: str, names: list[Name]) -> list[bytes]:
    kinds = templates(shape)
    return [kinds[k % len(kinds)].instance(name) for k, name in enumerate(names)]


# ---------------------------------------------------------------- single-frame templates


@functools.cache
def templates(shape: str) -> tuple[Template, ...]:
    """The templates of `ct`, `mr` or `tiny`: one per pixel plane."""
    sop_class, modality, side, variants = {
        "ct": (CT_IMAGE, "CT", SIDE, VARIANTS),
        "mr": (MR_IMAGE, "MR", 128, VARIANTS),
        "tiny": (CT_IMAGE, "CT", 1, 1),
    }[shape]
    made: list[Template] = []
    with config.disable_value_validation():
        for variant in range(variants):
            dataset = _header(sop_class, modality, side)
            dataset.ImagePositionPatient = ["-180.0", "-180.0", MARKERS["position"]]
            dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
            dataset.PixelSpacing, dataset.SliceLocation = ["0.703125", "0.703125"], MARKERS["position"]
            if modality == "MR":
                dataset.ScanningSequence, dataset.SequenceVariant, dataset.MRAcquisitionType = "SE", "SK", "2D"
                dataset.RepetitionTime, dataset.EchoTime, dataset.EchoTrainLength = "500", "12", "1"
            made.append(Template(_encoded(dataset, side * side * 2) + plane(side, variant).tobytes()))
    return tuple(made)


@functools.cache
def plane(side: int, variant: int) -> NDArray[np.uint16]:
    """A body with a few organs and about four bits of noise: as compressible as a real slice, roughly half."""
    random = np.random.default_rng(1000 * side + variant)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    inside = x**2 / 0.75 + y**2 / 0.5 < 1
    image = np.where(inside, 1040.0, 0.0)
    for organ in range(6):
        dx = 0.5 * np.cos(organ * 1.1 + variant / 3)
        dy = 0.35 * np.sin(organ * 1.9 + variant / 3)
        image += inside * (300 - 110 * organ) * np.exp(-((x - dx) ** 2 + (y - dy) ** 2) * (8 + 5 * organ))
    image += inside * random.normal(0, 14, (side, side))
    return np.clip(image, 0, 4095).astype("<u2")


# ---------------------------------------------------------------- multi-frame


@functools.cache
def _multiframe_template(frames: int) -> Template:
    """Header of an enhanced CT of `frames` frames up to and including the pixel data's length."""
    with config.disable_value_validation():
        dataset = _header(ENHANCED_CT, "CT", SIDE)
        dataset.NumberOfFrames = frames
        shared, measures = Dataset(), Dataset()
        measures.PixelSpacing, measures.SliceThickness = ["0.703125", "0.703125"], "0.5"
        shared.PixelMeasuresSequence = Sequence([measures])
        dataset.SharedFunctionalGroupsSequence = Sequence([shared])
        dataset.PerFrameFunctionalGroupsSequence = Sequence([_frame_groups(k) for k in range(frames)])
        return Template(_encoded(dataset, frames * FRAME_BYTES))


def _frame_groups(index: int) -> Dataset:
    group, content, position, window = Dataset(), Dataset(), Dataset(), Dataset()
    content.FrameAcquisitionNumber, content.DimensionIndexValues = index + 1, [1, index + 1]
    content.StackID, content.InStackPositionNumber = "1", index + 1
    position.ImagePositionPatient = ["-180", "-180", f"{index * 0.5:.1f}"]
    window.WindowCenter, window.WindowWidth = "40", "400"
    group.FrameContentSequence = Sequence([content])
    group.PlanePositionSequence = Sequence([position])
    group.FrameVOILUTSequence = Sequence([window])
    return group


def frame_start(number: int) -> bytes:
    """The first bytes of frame `number` (1-based) of every multi-frame object made here."""
    return _STAMP.pack(_MARK, number)


def multiframe(name: Name, frames: int) -> tuple[int, Iterator[bytes | memoryview]]:
    """Size of the object in bytes, and its pieces. Only the header and a few planes are ever in memory."""
    header = _multiframe_template(frames).instance(name)
    planes = [memoryview(plane(SIDE, k).tobytes()) for k in range(VARIANTS)]

    def pieces() -> Iterator[bytes | memoryview]:
        yield header
        for number in range(1, frames + 1):
            yield frame_start(number)
            yield planes[number % VARIANTS][_STAMP.size :]

    return len(header) + frames * FRAME_BYTES, pieces()


# ---------------------------------------------------------------- headers


def _encoded(dataset: Dataset, pixel_bytes: int) -> bytes:
    """Part 10 bytes up to the pixel data, whose header follows for a value of `pixel_bytes` bytes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    out = BytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue() + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, pixel_bytes)


def _coded(value: str, scheme: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def _header(sop_class: str, modality: str, side: int) -> Dataset:
    """About 130 elements as a scanner writes them, sequences, private blocks and names in several scripts included."""
    dataset = Dataset()
    _identity(dataset, sop_class, modality)
    _acquisition(dataset)
    _private(dataset)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = side
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = ["40", "-400"], ["400", "1500"]  # of rescaled values
    dataset.WindowCenterWidthExplanation = ["SOFT", "LUNG"]
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "-1024", "1", "HU"
    dataset.LossyImageCompression = "00"
    return dataset


def _identity(dataset: Dataset, sop_class: str, modality: str) -> None:
    marker = MARKERS
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = "20240305", "091011.120000"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, marker["sop"]
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = marker["date"]
    dataset.StudyTime, dataset.SeriesTime = "071500.000", "071730.500"
    dataset.AcquisitionTime, dataset.ContentTime = "071802.250", "071803.100"
    dataset.AccessionNumber, dataset.Modality = marker["accession"], modality
    dataset.Manufacturer, dataset.ManufacturerModelName = "Beispiel Medizintechnik", "Tomograph 7"
    dataset.InstitutionName, dataset.InstitutionAddress = "Klinikum Süd-Öst", "Am Bächle 1, Teststadt"
    dataset.ReferringPhysicianName = "Grünwald^Zoë^^Dr"
    dataset.StationName, dataset.StudyDescription = "CTRAUM2", f"{modality} Thorax und Abdomen mit KM"
    dataset.SeriesDescription, dataset.InstitutionalDepartmentName = "Thorax 1,25 Weichteil", "Radiologie"
    dataset.PerformingPhysicianName, dataset.OperatorsName = "Müller^Jürgen", "Åström^Søren"
    dataset.NameOfPhysiciansReadingStudy = "Čapek^Željko"
    dataset.ProcedureCodeSequence = _coded("77477000", "SCT", "Computed tomography")
    dataset.PatientName = f"{marker['family']}^Zoé=山田^太郎=やまだ^たろう"
    dataset.PatientID, dataset.IssuerOfPatientID = marker["patient"], "KLINIKUM-SUED"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19580423", "F", "066Y"
    dataset.PatientSize, dataset.PatientWeight, dataset.PatientComments = "1.69", "71.5", "synthetic"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = marker["study"], marker["series"]
    dataset.StudyID, dataset.SeriesNumber = marker["study_id"], marker["series_number"]
    dataset.AcquisitionNumber, dataset.InstanceNumber = "1", marker["number"]
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = marker["reference"], "SN"


def _acquisition(dataset: Dataset) -> None:
    dataset.BodyPartExamined, dataset.SliceThickness, dataset.KVP = "CHEST", "1.25", "120"
    dataset.DataCollectionDiameter, dataset.DeviceSerialNumber = "500", "SN-4711-08"
    dataset.SoftwareVersions, dataset.ProtocolName = ["4.2.1", "hw3"], "6.1 Thorax Routine"
    dataset.ReconstructionDiameter, dataset.DistanceSourceToDetector = "360", "949.075"
    dataset.DistanceSourceToPatient, dataset.GantryDetectorTilt = "541", "0"
    dataset.TableHeight, dataset.RotationDirection, dataset.ExposureTime = "157.5", "CW", "600"
    dataset.XRayTubeCurrent, dataset.Exposure, dataset.FilterType = "285", "12", "BODY FILTER"
    dataset.GeneratorPower, dataset.FocalSpots, dataset.ConvolutionKernel = "34200", "1.2", "STANDARD"
    dataset.PatientPosition, dataset.ContrastBolusAgent = "FFS", "Jod 370"
    dataset.Laterality, dataset.ImageComments = "", "made up for measuring, shows nobody; " * 5
    dataset.RequestedProcedureDescription = "CT Thorax"
    dataset.RequestedProcedureCodeSequence = _coded("P5-08000", "SRT", "CT of chest")
    dataset.PerformedProcedureStepStartDate, dataset.PerformedProcedureStepStartTime = "20240305", "071400"
    dataset.PerformedProcedureStepID, dataset.PerformedProcedureStepDescription = "PPS1", "CT Thorax"
    request = Dataset()
    request.RequestedProcedureDescription, request.ScheduledProcedureStepID = "CT Thorax", "SPS1"
    request.RequestedProcedureID = "RP1"
    request.ScheduledProtocolCodeSequence = _coded("CTCHEST", "99TEST", "Chest protocol")
    dataset.RequestAttributesSequence = Sequence([request])


def _private(dataset: Dataset) -> None:
    block = dataset.private_block(0x0009, "TEST_IDEN_01", create=True)
    block.add_new(1, "LO", "kind of scanner")
    block.add_new(2, "SL", 4711)
    block = dataset.private_block(0x0019, "TEST_ACQU_01", create=True)
    for k in range(24):
        block.add_new(2 + k, "DS", f"{k * 1.125:.3f}")
    block.add_new(0x20, "OB", bytes(range(256)))
    inner = Dataset()
    inner.add_new((0x0029, 0x0010), "LO", "TEST_NEST_01")
    inner.add_new((0x0029, 0x1001), "LT", "nested private text " * 12)
    dataset.private_block(0x0029, "TEST_IMPS_01", create=True).add_new(1, "SQ", Sequence([inner]))
