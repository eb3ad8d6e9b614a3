"""Correcting a series from the headers before gives the same as correcting each in full."""

from __future__ import annotations

from pathlib import Path
from random import Random

from radiolith.dicom.amended import Origin
from radiolith.dicom.amended_series import Series
from radiolith.dicom.limits import Unparsable
from radiolith.model import BadInput, LimitExceeded, Overlay, UidMap
from tests import campaign
from tests.dicom.amending import ORIGIN, apply, edit, name, overlay, removed, step
from tests.dicom.mutations import element
from tests.dicom.test_models import every, header_of, readable

PATIENT = overlay(step(name("Doe^Jane"), edit(0x00100020, "LO", "4711"), removed(0x00101010, "AS")))
LETTERS = overlay(step(name("Дое^Jane"), edit(0x00091001, "LO", "x", creator="ACME 1.1")))
MOVED = overlay(step(name("Doe^Jane")), uids=UidMap(instances=((("1.2", "1.3", "1.4"), ("2.25.1", "2.25.2")),)))


def test_headers_that_differ_in_any_byte(corpus_files: list[Path]) -> None:
    rounds = campaign.count("corrected series against single", 12, 1_000)
    taken = 0
    for path, data, found in every(7, readable(corpus_files)):
        if found.layout.header_end < 60_000:
            header = header_of(data, found)
            for over in (PATIENT, LETTERS, MOVED):
                taken += _compare(header, found.actual_encoding, over, Random(path.name), rounds)
    assert taken > 100, "the short way was hardly taken"


def _compare(header: bytes, encoding: str, over: Overlay, random: Random, rounds: int) -> int:
    series, taken = Series(), 0
    for number in range(rounds):
        variant = bytearray(header)
        for _ in range(number % 4):
            variant[random.randrange(len(variant))] = random.choice(b"019 A\\\0\xff\x08\x1b\xe4")
        data = bytes(variant)
        before = series._before.get(len(data))
        wanted = _made(lambda data=data: apply(data, encoding, over))
        assert _made(lambda data=data: series.amended(data, encoding, over, ORIGIN)) == wanted
        taken += before is not None and series._before.get(len(data)) is before
    return taken


def _made(make) -> bytes | str:
    try:
        return make()
    except (Unparsable, LimitExceeded, BadInput) as failure:
        return str(failure)


def test_another_overlay_or_origin_is_another_result() -> None:
    header = element(0x00100010, "PN", b"A^") + element(0x00200013, "IS", b"1 ")
    series, encoding = Series(), "1.2.840.10008.1.2.1"
    first = series.amended(header, encoding, PATIENT, ORIGIN)
    assert series.amended(header, encoding, overlay(step(name("Other"))), ORIGIN) != first
    assert b"ELSEWHERE" in series.amended(header, encoding, PATIENT, Origin("ELSEWHERE"))
    assert series.amended(header, encoding, PATIENT, ORIGIN) == first


def test_a_creator_in_other_letters_becomes_utf_8_as_well() -> None:
    header = element(0x00080005, "CS", b"ISO_IR 100") + element(0x00110010, "LO", "Gerät ".encode("latin_1"))
    assert "Gerät".encode() in apply(header, "1.2.840.10008.1.2.1", LETTERS)
    _compare(header, "1.2.840.10008.1.2.1", LETTERS, Random(1), 12)
