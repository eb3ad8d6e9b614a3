"""The demo's studies: readable by others, the same in every run, and something to look at."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset

from radiolith.cli.phantom import documents, studies, thorax
from radiolith.cli.phantom.shapes import Grid

SMALL = studies.Size(
    ct_slices=12, ct_pixels=96, mr_slices=4, mr_pixels=64, cine_frames=4, cine_columns=96, radiograph_pixels=128
)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return studies.generate(tmp_path_factory.mktemp("generated"), SMALL)


@pytest.fixture(scope="module")
def read(generated: list[Path]) -> list[FileDataset]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a conforming file gives none
        found = [pydicom.dcmread(path) for path in generated]
        for dataset in found:
            dataset.decode()
    return found


def test_there_is_one_of_everything(read: list[FileDataset]) -> None:
    assert {dataset.Modality for dataset in read} == {"CT", "MR", "US", "CR", "SR", "DOC"}
    assert len({dataset.StudyInstanceUID for dataset in read}) == 6
    assert len({dataset.SOPInstanceUID for dataset in read}) == len(read)
    assert len({dataset.file_meta.TransferSyntaxUID for dataset in read}) == 4


def test_names_are_in_four_scripts(read: list[FileDataset]) -> None:
    names = {str(dataset.PatientName) for dataset in read}
    assert names >= {"Müller^Jörg^^Dr.", "Lefèvre^Anaïs", "Иванова^Мария", "Yamada^Tarou=山田^太郎=やまだ^たろう"}


def test_the_same_files_in_every_run(generated: list[Path], tmp_path: Path) -> None:
    again = studies.generate(tmp_path, SMALL)
    assert [digest(path) for path in again] == [digest(path) for path in generated]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_image_decodes_to_something_with_contrast(read: list[FileDataset]) -> None:
    images = [dataset for dataset in read if "PixelData" in dataset]
    assert len(images) == 12 + 3 * 4 + 3
    for dataset in images:
        pixels = dataset.pixel_array
        # What a screen shows is the window; an ultrasound in colour has none and fills its eight bits.
        shown = float(np.min(dataset.WindowWidth)) if "WindowWidth" in dataset else 256.0
        assert np.ptp(pixels) > 0.5 * shown, dataset.SeriesDescription
        assert pixels.std() > 0.1 * shown, dataset.SeriesDescription


def test_the_cine_moves(read: list[FileDataset]) -> None:
    cine = next(dataset for dataset in read if dataset.Modality == "US").pixel_array.astype(int)
    assert cine.shape == (4, 72, 96, 3)
    assert np.abs(cine[1] - cine[0]).mean() > 1


def test_slices_lie_where_they_say(read: list[FileDataset]) -> None:
    slices = [dataset for dataset in read if dataset.Modality == "CT"]
    heights = [float(dataset.ImagePositionPatient[2]) for dataset in slices]
    assert np.allclose(np.diff(heights), float(slices[0].SpacingBetweenSlices))
    width = float(slices[0].PixelSpacing[1]) * slices[0].Columns
    assert abs(width - thorax.WIDTH) < 0.01


def test_tissues_have_their_hounsfield_units() -> None:
    grid = Grid.centred(256, 256, thorax.WIDTH, thorax.DEPTH)

    def at(x: float, y: float, z: float) -> float:
        slice_ = thorax.hounsfield(grid, z)
        return float(slice_[np.abs(grid.y[:, 0] - y).argmin(), np.abs(grid.x[0] - x).argmin()])

    assert at(0, -170, 150) == thorax.AIR
    assert abs(at(-80, 30, 20) - thorax.LIVER) < 15
    assert at(-95, 0, 140) < -700
    assert abs(at(*thorax.NODULE.centre) - thorax.NODULE.value) < 1


def test_the_report_measures_a_slice_with_the_nodule_in_it(read: list[FileDataset]) -> None:
    report = next(dataset for dataset in read if dataset.Modality == "SR")
    length = next(item for item in report.ContentSequence if item.ValueType == "NUM")
    assert length.MeasuredValueSequence[0].NumericValue == 12
    referenced = length.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    image = next(dataset for dataset in read if dataset.SOPInstanceUID == referenced)
    height = float(image.SliceLocation) + thorax.HEIGHT / 2
    assert abs(height - thorax.NODULE.centre[2]) <= thorax.HEIGHT / SMALL.ct_slices / 2


def test_the_document_is_a_pdf_whose_table_is_right() -> None:
    data = documents.pdf(["Title", "a (bracket) and a \\"])
    assert data.startswith(b"%PDF-1.4")
    offsets = [int(line) for line in re.findall(rb"(\d{10}) 00000 n", data)]
    assert [data[offset : offset + 7] for offset in offsets] == [b"%d 0 obj" % number for number in range(1, 6)]
    start = int(data.rsplit(b"startxref\n", 1)[1].split()[0])
    assert data[start : start + 4] == b"xref"
    length = int(re.search(rb"/Length (\d+)", data)[1])  # type: ignore[index]
    stream = data.split(b"stream\n", 1)[1].split(b"\nendstream")[0]
    assert len(stream) == length
    assert b"\\(bracket\\)" in stream
