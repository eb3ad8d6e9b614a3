"""Identifiers written and read by pydicom."""

from __future__ import annotations

import io
import zlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BIG, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
SYNTAXES = (IMPLICIT, EXPLICIT, BIG, DEFLATED)


@contextmanager
def unchecked() -> Generator[None]:
    """Wildcards and ranges are no valid values of their VRs."""
    before = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE
    try:
        yield
    finally:
        config.settings.reading_validation_mode, config.settings.writing_validation_mode = before


def keys(level: str = "STUDY", charset: str | list[str] = "ISO_IR 192", **values: object) -> Dataset:
    """An identifier by keyword; a dict is the item of a sequence."""
    made = Dataset()
    if charset:
        made.SpecificCharacterSet = charset
    if level:
        made.QueryRetrieveLevel = level
    with unchecked():
        for keyword, value in values.items():
            made.add(_element(keyword, value))
    return made


def _element(keyword: str, value: object) -> DataElement:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    if isinstance(value, Mapping):
        item = Dataset()
        for inner, one in value.items():
            item.add(_element(inner, one))
        return DataElement(tag, "SQ", Sequence([item]))
    vr = dictionary_VR(tag)
    return DataElement(tag, vr, Sequence([]) if vr == "SQ" else value)


def encoded(dataset: Dataset, syntax: str = IMPLICIT) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax == IMPLICIT, syntax != BIG
    with unchecked():
        write_dataset(buffer, dataset)
    data = buffer.getvalue()
    if syntax != DEFLATED:
        return data
    data = zlib.compress(data, wbits=-15)
    return data + b"\0" * (len(data) % 2)


def decoded(data: bytes, syntax: str = IMPLICIT) -> Dataset:
    assert len(data) % 2 == 0
    if syntax == DEFLATED:
        data = zlib.decompress(data, wbits=-15)
    return read_dataset(io.BytesIO(data), syntax == IMPLICIT, syntax != BIG)
