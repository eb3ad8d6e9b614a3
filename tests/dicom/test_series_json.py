"""Making the JSON of a series from the header before gives the same as making each in full."""

from __future__ import annotations

from pathlib import Path
from random import Random

from radiolith.dicom.json import to_json
from radiolith.dicom.json_series import SeriesJson
from radiolith.dicom.limits import Unparsable
from radiolith.dicom.reader import scan
from radiolith.model import LimitExceeded
from tests import campaign


def test_headers_that_differ_in_any_byte(corpus_files: list[Path]) -> None:
    rounds = campaign.count("series JSON against single", 25, 2_000)
    again = 0
    for path in corpus_files:
        data = path.read_bytes()
        try:
            found = scan(data)
        except (Unparsable, LimitExceeded):
            continue
        layout = found.layout
        if layout.header_end > 60_000 or found.actual_encoding.endswith(".99"):
            continue
        header = data[layout.dataset_start : layout.header_end + 12]
        again += _compare(header, found.actual_encoding, Random(path.name), rounds)
    assert again > 200, "the short way was hardly taken"


def _compare(header: bytes, encoding: str, random: Random, rounds: int) -> int:
    series, taken = SeriesJson(), 0
    for number in range(rounds):
        variant = bytearray(header)
        for _ in range(number % 4):
            variant[random.randrange(len(variant))] = random.choice(b"019 A\\\0\xff\x08")
        base = f"http://x/{number}/"
        expected = _made(lambda h, b=base: to_json(h, encoding, bulk_uri=lambda path: b + path), bytes(variant))
        before = series._before
        assert (
            _made(lambda h, b=base: series.to_json(h, encoding, bulk_uri=lambda p: b + p), bytes(variant)) == expected
        )
        taken += series._before is before and bool(before)
    return taken


def _made(make, header: bytes) -> bytes | str:
    try:
        return make(header)
    except (Unparsable, LimitExceeded) as failure:
        return str(failure)
