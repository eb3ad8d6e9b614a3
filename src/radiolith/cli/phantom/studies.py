"""The list of what is generated: who, what, in which character set and in which transfer syntax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    MRImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from radiolith.cli.phantom import datasets, documents, head, heart, radiograph, thorax
from radiolith.cli.phantom.datasets import EXPLICIT, HTJ2K, JPEG_LS, RLE, Patient, Series, Study
from radiolith.cli.phantom.shapes import Grid

LATIN, CYRILLIC, UNICODE = "ISO_IR 100", "ISO_IR 144", "ISO_IR 192"
JAPANESE = ["", "ISO 2022 IR 87"]

MUELLER = Patient("DEMO-1001", "Müller^Jörg^^Dr.", "19580412", "M", LATIN)
LEFEVRE = Patient("DEMO-1002", "Lefèvre^Anaïs", "19840923", "F", UNICODE)
YAMADA = Patient("DEMO-1003", "Yamada^Tarou=山田^太郎=やまだ^たろう", "19710305", "M", JAPANESE)
IVANOVA = Patient("DEMO-1004", "Иванова^Мария", "19901117", "F", CYRILLIC)
ANGSTROM = Patient("DEMO-1005", "Ångström^Åsa", "20010630", "F", UNICODE)

CHEST_CT = Study(MUELLER, "chest-ct", "RL25-0412", "20250912", "091500", "CT Thorax", "Weiß^Ärztin")
CHEST_BEFORE = Study(MUELLER, "chest-before", "RL24-1187", "20240903", "143000", "Röntgen Thorax", "Weiß^Ärztin")
HEAD_MR = Study(LEFEVRE, "head-mr", "RL25-0533", "20251002", "104500", "IRM cérébrale", "Garçon^Zoë")
ECHO = Study(YAMADA, "echo", "RL25-0607", "20251014", "132000", "Echocardiography", "Sato^Hanako")
CHEST_CR = Study(IVANOVA, "chest-cr", "RL25-0611", "20251015", "080500", "Грудная клетка", "Петров^Иван")
HEAD_SHORT = Study(ANGSTROM, "head-short", "RL25-0618", "20251016", "161000", "MR hjärna", "Öberg^Nils")


@dataclass(frozen=True, slots=True)
class Size:
    """How much is generated. The default is the demo's; tests ask for less of the same."""

    ct_slices: int = 120
    ct_pixels: int = 512
    mr_slices: int = 24
    mr_pixels: int = 256
    cine_frames: int = 60
    cine_columns: int = 640
    radiograph_pixels: int = 2048


def generate(folder: Path, size: Size = Size(), progress: Callable[[int, int], None] | None = None) -> list[Path]:
    """Write all studies below `folder`; returns the files. progress(done, total) is called after each object."""
    total = size.ct_slices + 3 * size.mr_slices + 5
    paths: list[Path] = []
    for dataset, syntax in _everything(size):
        paths.append(datasets.write(dataset, syntax, folder))
        if progress:
            progress(len(paths), total)
    return paths


def _everything(size: Size) -> Iterator[tuple[Dataset, str]]:
    yield from chest_ct(size)
    yield _radiograph(CHEST_BEFORE, size, EXPLICIT)
    yield from head_mr(HEAD_MR, 1, "T1", size, EXPLICIT)
    yield from head_mr(HEAD_MR, 2, "T2", size, JPEG_LS)
    yield _cine(size)
    yield _radiograph(CHEST_CR, size, HTJ2K)
    yield from head_mr(HEAD_SHORT, 1, "T2", size, RLE)


def chest_ct(size: Size) -> Iterator[tuple[Dataset, str]]:
    """The CT, the structured report on its nodule and the same report as a PDF."""
    series = Series(CHEST_CT, 1, "CT", "Thorax 2.5 mm", "CHEST")
    spacing = thorax.HEIGHT / size.ct_slices
    grid = Grid.centred(size.ct_pixels, size.ct_pixels, thorax.WIDTH, thorax.DEPTH)
    nearest = 1
    for number in range(1, size.ct_slices + 1):
        z = (number - 0.5) * spacing
        if abs(z - thorax.NODULE.centre[2]) <= spacing / 2:
            nearest = number
        dataset = datasets.instance(series, number, CTImageStorage)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        _geometry(dataset, grid, z - thorax.HEIGHT / 2, spacing, CHEST_CT)
        dataset.KVP, dataset.ConvolutionKernel = "120", "B40"
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "-1024", "1", "HU"
        dataset.WindowCenter, dataset.WindowWidth = ["40", "-600"], ["400", "1500"]
        dataset.WindowCenterWidthExplanation = ["SOFT TISSUE", "LUNG"]
        values = np.clip(thorax.noisy(thorax.hounsfield(grid, z), number) + 1024, 0, 4095)
        yield dataset, datasets.set_pixels(dataset, [values.round().astype("<u2")], 12)
    image = datasets.uid(CHEST_CT.key, 1, nearest)
    yield documents.report(Series(CHEST_CT, 2, "SR", "Befund"), 1, image), EXPLICIT
    yield documents.document(Series(CHEST_CT, 3, "DOC", "Befund als PDF"), 1), EXPLICIT


def head_mr(study: Study, number: int, weighting: str, size: Size, syntax: str) -> Iterator[tuple[Dataset, str]]:
    """One MR series of the head."""
    series = Series(study, number, "MR", f"{weighting} TSE axial", "HEAD")
    grid = Grid.centred(size.mr_pixels, size.mr_pixels, head.FIELD, head.FIELD)
    spacing = head.HEIGHT / size.mr_slices
    for slice_number in range(1, size.mr_slices + 1):
        z = (slice_number - 0.5) * spacing
        dataset = datasets.instance(series, slice_number, MRImageStorage)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.MRAcquisitionType = "SE", "SK", "2D"
        dataset.ScanOptions = ""
        dataset.RepetitionTime, dataset.EchoTime = ("500", "12") if weighting == "T1" else ("4200", "98")
        dataset.EchoTrainLength, dataset.MagneticFieldStrength = "15", "1.5"
        _geometry(dataset, grid, z, spacing, study)
        dataset.WindowCenter, dataset.WindowWidth = "480", "960"
        values = np.clip(head.signal(grid, z, weighting, slice_number), 0, 4095)
        yield dataset, datasets.set_pixels(dataset, [values.round().astype("<u2")], 12, syntax)


def _geometry(dataset: Dataset, grid: Grid, z: float, spacing: float, study: Study) -> None:
    """Axial slices, head first, supine: x to the left, y to the back, z to the head (PS3.3 C.7.6.2)."""
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = datasets.uid(study.key, "frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.PixelSpacing = [f"{grid.step:.6g}"] * 2
    dataset.SliceThickness = dataset.SpacingBetweenSlices = f"{spacing:.6g}"
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.ImagePositionPatient = [f"{grid.x[0, 0]:.6g}", f"{grid.y[0, 0]:.6g}", f"{z:.6g}"]
    dataset.SliceLocation = f"{z:.6g}"


def _cine(size: Size) -> tuple[Dataset, str]:
    dataset = datasets.instance(Series(ECHO, 1, "US", "Four chambers", "HEART"), 1, UltrasoundMultiFrameImageStorage)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "CARDIO", "0001"]
    dataset.FrameTime = "33.3"
    dataset.FrameIncrementPointer = 0x00181063
    dataset.HeartRate = "60"
    rows = size.cine_columns * 3 // 4
    beat = min(30, size.cine_frames)
    frames = [heart.frame(size.cine_columns, rows, number % beat / beat) for number in range(size.cine_frames)]
    return dataset, datasets.set_pixels(dataset, frames, 8, RLE)


def _radiograph(study: Study, size: Size, syntax: str) -> tuple[Dataset, str]:
    dataset = datasets.instance(Series(study, 1, "CR", "PA", "CHEST"), 1, ComputedRadiographyImageStorage)
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.ViewPosition = "PA"
    spacing = thorax.WIDTH / size.radiograph_pixels
    dataset.ImagerPixelSpacing = [f"{spacing:.6g}"] * 2
    dataset.WindowCenter, dataset.WindowWidth = "2048", "4096"
    # One of the two is stored the other way round, as many readers of plates do.
    inverted = syntax == HTJ2K
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    values = radiograph.chest(size.radiograph_pixels, study.key)
    return dataset, datasets.set_pixels(dataset, [4095 - values if inverted else values], 12, syntax)
