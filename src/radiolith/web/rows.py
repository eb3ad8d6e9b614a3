"""Rows of a search as a person reads them: names, dates, counts.

Owns: the translation of DICOM values into words. Must never: escape for HTML (the templates do) or ask the archive.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from radiolith.model import Row

STUDY, SERIES, SOP = 0x0020000D, 0x0020000E, 0x00080018
STUDY_LABELS = 0x77771002  # in the private block of the archive (docs/labels.md)
STUDY_COLUMNS: tuple[int, ...] = (
    0x00080020, 0x00080030, 0x00080050, 0x00080061, 0x00080090, 0x00081030, 0x00100010, 0x00100020, 0x00100030,
    0x00100040, 0x00201206, 0x00201208, STUDY_LABELS,
)  # fmt: skip
"""What the study list shows beside the UID."""
SERIES_COLUMNS: tuple[int, ...] = (0x00080060, 0x0008103E, 0x00200011, 0x00201209)
WITHOUT_PICTURES = frozenset({
    "ANN", "ASMT", "AU", "DOC", "ECG", "EPS", "FID", "HD", "IOL", "KER", "KO", "LEN", "OAM", "PLAN", "PR", "REG",
    "RESP", "RTPLAN", "RTRECORD", "RTSTRUCT", "SMR", "SR", "STAIN", "TEXTUREMAP", "VA",
})  # fmt: skip
"""Modalities (PS3.3 C.7.3.1.1.1) whose objects are documents, signals or geometry."""
INSTANCE_COLUMNS: tuple[int, ...] = (0x00080016, 0x00200013, 0x00280008, 0x00280010, 0x00280011)


def text(row: Row, tag: int) -> str:
    """The attribute's value as text, '' where there is none."""
    value = row[tag][1] if tag in row else None
    return "" if value is None or isinstance(value, list) else str(value)


def number(row: Row, tag: int, default: int = 0) -> int:
    value = text(row, tag).partition("\\")[0].strip()
    return int(value) if value.isdecimal() else default


def person(value: str) -> str:
    """'Yamada^Tarou=山田^太郎' -> 'Yamada, Tarou · 山田 太郎'; the phonetic group is for searching, not for reading."""
    groups = value.split("=")[:2]
    names: list[str] = []
    for group in groups:
        family, given, middle, prefix, _ = [part.strip() for part in (group + "^^^^").split("^")][:5]
        separator = ", " if group is groups[0] else " "
        name = separator.join(part for part in (family, " ".join(part for part in (given, middle) if part)) if part)
        if name:
            names.append(f"{name} ({prefix})" if prefix else name)
    return " · ".join(dict.fromkeys(names))


def date(value: str) -> str:
    """'20250912' -> '2025-09-12'; anything else as it is."""
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 and value.isdecimal() else value


def time(value: str) -> str:
    """'091500.000' -> '09:15'."""
    return f"{value[:2]}:{value[2:4]}" if len(value) >= 4 and value[:4].isdecimal() else value


@dataclass(frozen=True, slots=True)
class StudyLine:
    uid: str
    patient: str
    patient_id: str
    birth: str
    sex: str
    day: str
    time: str
    description: str
    modalities: str
    accession: str
    referrer: str
    series: int
    instances: int
    labels: tuple[str, ...] = ()

    @staticmethod
    def of(row: Row) -> StudyLine:
        return StudyLine(
            uid=text(row, STUDY),
            patient=person(text(row, 0x00100010)),
            patient_id=text(row, 0x00100020),
            birth=date(text(row, 0x00100030)),
            sex=text(row, 0x00100040),
            day=date(text(row, 0x00080020)),
            time=time(text(row, 0x00080030)),
            description=text(row, 0x00081030),
            modalities=text(row, 0x00080061).replace("\\", " "),
            accession=text(row, 0x00080050),
            referrer=person(text(row, 0x00080090)),
            series=number(row, 0x00201206),
            instances=number(row, 0x00201208),
            labels=tuple(label for label in text(row, STUDY_LABELS).split("\\") if label),
        )


@dataclass(frozen=True, slots=True)
class SeriesLine:
    uid: str
    number: str
    modality: str
    description: str
    instances: int

    @property
    def has_pictures(self) -> bool:
        return self.modality not in WITHOUT_PICTURES

    @property
    def order(self) -> tuple[int, str]:
        """Series in the order of their numbers, those without one last."""
        return int(self.number) if re.fullmatch(r"-?[0-9]{1,12}", self.number) else 1 << 40, self.uid

    @staticmethod
    def of(row: Row) -> SeriesLine:
        return SeriesLine(
            uid=text(row, SERIES),
            number=text(row, 0x00200011),
            modality=text(row, 0x00080060),
            description=text(row, 0x0008103E),
            instances=number(row, 0x00201209),
        )


@dataclass(frozen=True, slots=True)
class InstanceLine:
    uid: str
    sop_class: str
    number: str
    frames: int
    rows: int
    columns: int

    @property
    def is_image(self) -> bool:
        return self.rows > 0 and self.columns > 0

    @staticmethod
    def of(row: Row) -> InstanceLine:
        return InstanceLine(
            uid=text(row, SOP),
            sop_class=text(row, 0x00080016),
            number=text(row, 0x00200013),
            frames=number(row, 0x00280008, 1),
            rows=number(row, 0x00280010),
            columns=number(row, 0x00280011),
        )
