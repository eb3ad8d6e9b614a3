"""Names of UIDs: reversible, and harmless wherever a name goes."""

from __future__ import annotations

import random
import re

import pytest

from radiolith.dicom.naming import NAME_MAX, name_of, uid_of
from tests import campaign

ODD = [
    "..",
    ".",
    "-",
    "_",
    "_1.2",
    "1/2",
    "1.2\\1.3",
    "a b",
    "<script>",
    "1'; drop table",
    "~",
    "~2F",
    "%2F",
    "1%",
    '"',
    "ü",
]


@pytest.mark.parametrize("uid", ["1.2.840.10008", "01.2", "a-B_c", *ODD, "/" * 128])
def test_there_and_back(uid: str) -> None:
    name = name_of(uid)
    assert uid_of(name) == uid and re.fullmatch(r"[0-9A-Za-z._~-]+", name) and name not in (".", "..")
    assert len(name) <= NAME_MAX


def test_no_two_are_one() -> None:
    rng, seen = random.Random(1), dict[str, str]()
    for _ in range(campaign.count("UIDs as names", 3000, 300_000)):
        uid = "".join(rng.choices("12._~%/2Fü ", k=rng.randrange(1, 7)))
        assert seen.setdefault(name_of(uid), uid) == uid and uid_of(name_of(uid)) == uid


@pytest.mark.parametrize(
    "name", ["", "a/b", "a b", "1.2\n", "_", "_~FF", "_~0A", "_~00", "x" * 129, "_" + "1" * 512, "ü"]
)
def test_what_names_nothing(name: str) -> None:
    assert uid_of(name) is None
