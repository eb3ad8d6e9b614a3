"""The table of transfer syntaxes against pydicom's dictionary and against itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydicom.uid import UID_dictionary

from radiolith.codecs import registry
from radiolith.codecs.decode import DECODERS
from radiolith.codecs.encode import ENCODERS
from radiolith.model import Unsupported


def test_there_are_the_63_rows_of_the_standard_and_none_twice() -> None:
    assert len(registry.STANDARD) == 63
    assert len({row.uid for row in registry.STANDARD}) == 63
    assert set(registry.SYNTAXES) - {row.uid for row in registry.STANDARD} == {registry.GE_PRIVATE}


def test_every_transfer_syntax_pydicom_knows_is_there_with_its_retirement() -> None:
    known = {uid: entry for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    assert len(known) > 50
    missing = {uid for uid in known if uid not in registry.SYNTAXES}
    assert not missing
    for uid, entry in known.items():
        assert registry.SYNTAXES[uid].retired == bool(entry[3]), uid


def test_names_of_functions_lead_to_functions() -> None:
    for row in registry.SYNTAXES.values():
        assert not row.decode or row.decode in DECODERS, row.uid
        assert not row.encode or row.encode in ENCODERS, row.uid
        assert row.decode or not row.encode, f"{row.uid} could be written and not read"
    assert set(DECODERS) == {row.decode for row in registry.STANDARD} - {""}
    assert set(ENCODERS) == {row.encode for row in registry.STANDARD} - {""}


def test_media_types_are_those_of_the_web_services() -> None:
    for uid, media_type in {
        registry.EXPLICIT_LE: "application/octet-stream",
        registry.RLE: "image/dicom-rle",
        registry.JPEG_BASELINE: "image/jpeg",
        registry.JPEG_LOSSLESS: "image/jpeg",
        registry.JPEGLS_LOSSLESS: "image/jls",
        registry.JPEG2K: "image/jp2",
        "1.2.840.10008.1.2.4.92": "image/jpx",
        registry.HTJ2K_RPCL: "image/jphc",
        registry.JPEGXL: "image/jxl",
        "1.2.840.10008.1.2.4.100": "video/mpeg",
        "1.2.840.10008.1.2.4.106.1": "video/mp4",
        "1.2.840.10008.1.2.4.108": "video/H265",
    }.items():
        assert registry.syntax(uid).media_type == media_type


def test_the_reason_names_the_syntax() -> None:
    with pytest.raises(Unsupported, match="no decoder for MPEG2 Main Profile / Main Level"):
        registry.decodable("1.2.840.10008.1.2.4.100")
    with pytest.raises(Unsupported, match=r"unknown transfer syntax 1\.2\.3"):
        registry.syntax("1.2.3")


def test_the_servers_side_imports_no_codec() -> None:
    code = (
        "import sys; import radiolith.codecs.sandbox, radiolith.codecs.registry, radiolith.codecs.plan;"
        "print([m for m in ('numpy','imagecodecs','PIL','pydicom') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
