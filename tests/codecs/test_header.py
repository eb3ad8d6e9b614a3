"""Headers as decoders read them: the sieve loses nothing display needs, and lies about VRs are forgiven."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.sequence import Sequence

from radiolith.codecs import registry
from radiolith.codecs.description import Window, check
from radiolith.codecs.header import Header, describe_pixels, parse
from radiolith.codecs.requests import Opened
from radiolith.codecs.sieve import sift
from radiolith.model import BadInput, LimitExceeded
from tests.codecs import objects

WANTED = {0x00280010, 0x00280011, 0x00281050, 0x52009229}


def nested() -> pydicom.Dataset:
    """Sequences of defined and undefined length around what is wanted."""
    ds = objects.image(np.zeros((4, 6), np.uint16), WindowCenter=7)
    inner = pydicom.Dataset()
    inner.Rows = 99
    for undefined in (False, True):
        item = pydicom.Dataset()
        item.ReferencedImageSequence = Sequence([inner, inner])
        item.Rows = 77
        keyword = "ReferencedStudySequence" if undefined else "ReferencedSeriesSequence"
        setattr(ds, keyword, Sequence([item, pydicom.Dataset()]))
        ds[keyword].is_undefined_length = undefined
        item["ReferencedImageSequence"].is_undefined_length = undefined
    ds.SharedFunctionalGroupsSequence = Sequence([inner])
    return ds


@pytest.mark.parametrize("syntax", [registry.EXPLICIT_LE, registry.IMPLICIT_LE])
def test_the_sieve_keeps_exactly_what_is_wanted(syntax: str) -> None:
    data = objects.header_bytes(nested(), syntax)
    kept = sift(data, WANTED, implicit=syntax == registry.IMPLICIT_LE)
    assert len(kept) < len(data) / 2
    assert set(parse(kept, syntax, everything=True).keys()) == WANTED
    assert Header(Opened(data, syntax)).describe(0).rows == 4


def test_what_the_sieve_cannot_walk_passes_whole() -> None:
    data = objects.header_bytes(nested())
    for broken in (data[:-3], data[:200] + b"\0" * 8 + data[200:], b"\x28\0\x10\0??\0\0" + data):
        assert sift(broken, WANTED, implicit=False) is broken


def test_sieve_and_full_parse_describe_every_corpus_file_alike(
    corpus_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [s for p in corpus_files if (s := objects.cut_open(p)) is not None]
    sifted = [Header(s.opened).describe(0) for s in samples]
    monkeypatch.setattr("radiolith.codecs.header.sift", lambda data, _wanted, **_more: data)
    whole = [Header(s.opened).describe(0) for s in samples]
    assert sifted == whole and len(sifted) > 30


def test_describe_pixels_reads_what_pydicom_reads() -> None:
    ds = objects.image(np.zeros((4, 6), np.int16), stored=12, WindowCenter=[40, 50], WindowWidth=[400, 1500])
    ds.RescaleIntercept, ds.RescaleSlope, ds.PixelPaddingValue, ds.NumberOfFrames = "-1024", "2.5", -2000, 3
    for syntax in (registry.EXPLICIT_LE, registry.IMPLICIT_LE, registry.EXPLICIT_BE):
        p = describe_pixels(objects.opened(ds, syntax), 0, 1000)
        assert (p.rows, p.columns, p.bits_stored, p.high_bit, p.signed, p.frames) == (4, 6, 12, 11, True, 3)
        assert (p.slope, p.intercept, p.padding) == (2.5, -1024, (-2000, -2000))
        assert p.windows == (Window(40, 400), Window(50, 1500))
    with pytest.raises(LimitExceeded, match="47 bytes"):
        describe_pixels(objects.opened(ds), 0, 47)


def test_values_that_are_none_are_left_out() -> None:
    ds = objects.image(np.zeros((4, 6), np.uint16))
    header = objects.header_bytes(ds)
    bad = b"\x28\0\x50\x10DS\x04\0abc " + b"\x28\0\x51\x10DS\x04\0400 " + b"\x28\0\x53\x10DS\x02\x000 "
    p = Header(Opened(header + bad, registry.EXPLICIT_LE)).describe(0)
    assert p.windows == () and p.slope == 1.0
    unknown = header.replace(b"\x28\0\x10\0US\x02\0", b"\x28\0\x10\0UN\0\0\x02\0\0\0")
    assert Header(Opened(unknown, registry.EXPLICIT_LE)).describe(0).rows == 4, "a VR of UN hides no value"
    text = header.replace(b"\x28\0\x10\0US\x02\0\x04\0", b"\x28\0\x10\0DS\x02\0x ")
    with pytest.raises(BadInput, match="not a number"):
        Header(Opened(text, registry.EXPLICIT_LE)).describe(0)


def test_the_arithmetic_is_done_before_anything_is_allocated() -> None:
    ds = objects.image(np.zeros((4, 6), np.uint16))
    ds.Rows = ds.Columns = 65535
    p = Header(objects.opened(ds)).describe(0)
    assert p.decoded_bytes == 65535 * 65535 * 2
    with pytest.raises(LimitExceeded):
        check(p, 256 << 20)
