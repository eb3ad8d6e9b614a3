"""Matching of attributes at hand (PS3.4 C.2.2.2)."""

from __future__ import annotations

import random
from fnmatch import fnmatchcase

import pytest

from radiolith.dicom.match import EMPTY, matches, wildcard
from radiolith.model import Row
from tests import campaign

NAME, CREATED, CREATOR, PRIORS = 0x00720002, 0x0072000A, 0x00700084, 0x00720014
DEFINITION, MODALITY, UID, DATE, TIME = 0x0072000C, 0x00080060, 0x00080018, 0x00080012, 0x00080013
ROW: Row = {
    NAME: ("SH", "Chest 2 views"),
    CREATED: ("DT", "20240517103000.5-0500"),
    CREATOR: ("PN", "Müller^Jörg=山田^太郎"),
    PRIORS: ("US", 2),
    UID: ("UI", "1.2.3"),
    DATE: ("DA", "20240517"),
    TIME: ("TM", "1030"),
    0x00720010: ("LO", "Radiology\\Surgery"),
    0x00720100: ("US", ""),
    DEFINITION: ("SQ", [{MODALITY: ("CS", "CR")}, {MODALITY: ("CS", "DX")}, {}]),
}


@pytest.mark.parametrize(
    ("path", "wanted", "found"),
    [
        ((NAME,), "Chest 2 views", True),
        ((NAME,), "chest*", False),
        ((NAME,), "Chest*views", True),
        ((NAME,), "Chest ? views", True),
        ((NAME,), "Chest ?? views", False),
        ((NAME,), "*", True),
        ((NAME,), "", True),
        ((0x00080070,), "*", True),
        ((0x00080070,), "A*", False),
        ((0x00080070,), EMPTY, True),
        ((0x00720100,), EMPTY, True),
        ((NAME,), EMPTY, False),
        ((0x00720010,), "Surg*", True),
        ((0x00720010,), "Radiology\\Surgery", False),
        ((CREATOR,), "mueller*", True),
        ((CREATOR,), "Muller^Jorg", True),
        ((CREATOR,), "山田*", True),
        ((CREATOR,), "Miller*", False),
        ((PRIORS,), "2", True),
        ((PRIORS,), "02", True),
        ((PRIORS,), "3", False),
        ((PRIORS,), "x", False),
        ((UID,), "1.2.3", True),
        ((UID,), "1.2", False),
        ((UID,), "1.*", False),
        ((DATE,), "20240517", True),
        ((DATE,), "20240501-20240531", True),
        ((DATE,), "-20240516", False),
        ((DATE,), "20240517-", True),
        ((DATE,), "20240518-", False),
        ((TIME,), "10-11", True),
        ((TIME,), "103000-103000", True),
        ((TIME,), "-1029", False),
        ((CREATED,), "20240517", True),
        ((CREATED,), "20240517-20240517", True),
        ((CREATED,), "20240517103000.5-0500", True),
        ((CREATED,), "2024051710-2024051711", True),
        ((CREATED,), "20240517110000-", False),
        ((DEFINITION, MODALITY), "DX", True),
        ((DEFINITION, MODALITY), "CT", False),
        ((MODALITY,), "DX", False),
    ],
)
def test_one_value(path: tuple[int, ...], wanted: str, found: bool) -> None:
    assert matches(ROW, path, (wanted,)) is found


def test_any_of_several() -> None:
    assert matches(ROW, (UID,), ("9", "1.2.3")) and not matches(ROW, (UID,), ("9", "8")) and matches(ROW, (UID,), ())


def test_wildcards_are_those_of_fnmatch() -> None:
    rng = random.Random(7)
    hits = 0
    for _ in range(campaign.count("wildcards against fnmatch", 5000, 500_000)):
        text = "".join(rng.choices("ab", k=rng.randrange(8)))
        pattern = "".join(rng.choices("ab*?", k=rng.randrange(6)))
        hits += (found := wildcard(text, pattern))
        assert found == fnmatchcase(text, pattern), (text, pattern)
    assert hits > 100


def test_a_hostile_pattern_ends() -> None:
    assert not wildcard("a" * 10_000, "*a" * 500 + "b")
    assert not wildcard("a" * 20_000, "a*")
