"""The hash over the dataset of an object that flows through in pieces."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

import pytest

from radiolith.archive.prepare import _DatasetHash
from radiolith.dicom.reader import Scanner, Unparsable, scan
from radiolith.model import LimitExceeded


@pytest.mark.parametrize("piece", [1 << 15, 4_099])
def test_the_dataset_hash_is_the_same_in_pieces(
    corpus_files: list[Path], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_DatasetHash, "TAIL", 1 << 12)
    tried = 0
    for path in Random(7).sample(corpus_files, min(80, len(corpus_files))):
        data = path.read_bytes()
        try:
            whole = scan(data).layout
        except (Unparsable, LimitExceeded):
            continue
        hashed, scanner = _DatasetHash(), Scanner()
        for at in range(0, len(data), piece):
            view = memoryview(data)[at : at + piece]
            scanner.feed(view)
            hashed.feed(view, scanner)
        expected = hashlib.sha256(data[whole.dataset_start : whole.dataset_end]).digest()
        assert hashed.digest(scanner.finish().layout) == expected, path
        tried += 1
    assert tried > 30
