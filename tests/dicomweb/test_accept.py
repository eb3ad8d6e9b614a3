"""Content negotiation as tables: what a client says, what it gets (PS3.18 8.7)."""

from __future__ import annotations

import pytest

from radiolith.dicomweb import accept
from radiolith.dicomweb.accept import Choice, NotAcceptable, combined, parse
from radiolith.model import BadInput

LE, J2K, JPEG, RLE, JLS = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.80",
)
DICOM = "application/dicom"
REFUSED = None

INSTANCES = [
    # Accept, one instance?, (media, multipart, syntaxes)
    (None, False, (DICOM, True, ())),
    (None, True, (DICOM, True, ())),
    ("*/*", False, (DICOM, True, ())),
    ("*/*", True, (DICOM, True, ())),
    ("multipart/related", False, (DICOM, True, ())),
    ('multipart/related; type="application/dicom"', False, (DICOM, True, ())),
    ("multipart/related; type=application/dicom", False, (DICOM, True, ())),
    ('multipart/related; type="application/dicom"; transfer-syntax=*', False, (DICOM, True, ("*",))),
    (f'multipart/related; type="application/dicom"; transfer-syntax={J2K}', False, (DICOM, True, (J2K,))),
    (
        f'multipart/related; type="application/dicom"; transfer-syntax={JLS};q=0.5, '
        f'multipart/related; type="application/dicom"; transfer-syntax={J2K}',
        False,
        (DICOM, True, (J2K, JLS)),
    ),
    ("application/dicom", True, (DICOM, False, ())),
    ("application/dicom; transfer-syntax=*", True, (DICOM, False, ("*",))),
    ("application/dicom", False, REFUSED),
    ("application/zip", False, ("application/zip", False, ())),
    ("application/dicom;q=0.1, application/zip", True, ("application/zip", False, ())),
    ("APPLICATION/DICOM", True, (DICOM, False, ())),
    ("image/jpeg", True, REFUSED),
    ('multipart/related; type="image/jpeg"', True, REFUSED),
    ("text/html, application/xhtml+xml, */*;q=0.8", True, (DICOM, True, ())),
]


@pytest.mark.parametrize(("header", "one", "expected"), INSTANCES)
def test_instances(header: str | None, one: bool, expected: tuple[str, bool, tuple[str, ...]] | None) -> None:
    if expected is REFUSED:
        with pytest.raises(NotAcceptable) as refused:
            accept.instances(combined(header), one=one)
        assert 'multipart/related; type="application/dicom"' in refused.value.available
    else:
        assert accept.instances(combined(header), one=one) == Choice(*expected)


OCTETS = "application/octet-stream"
PIXELS = [
    # Accept, stored syntax, one part?, first choice
    (None, LE, True, (OCTETS, True, ("*",))),
    (None, J2K, True, (OCTETS, True, (LE,))),  # lossless is decompressed by default …
    (None, JPEG, True, ("image/jpeg", True, ("*",))),  # … lossy is not
    ("*/*", J2K, True, (OCTETS, True, (LE,))),
    ('multipart/related; type="*/*"', JPEG, True, ("image/jpeg", True, ("*",))),
    ('multipart/related; type="*/*"; transfer-syntax=*', J2K, True, ("image/jp2", True, ("*",))),
    ('multipart/related; type="image/"', J2K, True, ("image/jp2", True, ("*",))),
    ("application/octet-stream", LE, True, (OCTETS, False, ("*",))),
    ("application/octet-stream", J2K, True, (OCTETS, False, (LE,))),
    ("application/octet-stream", LE, False, REFUSED),  # several frames need multipart
    ('multipart/related; type="application/octet-stream"', LE, False, (OCTETS, True, ("*",))),
    ('multipart/related; type=application/octet-stream; transfer-syntax=*', J2K, True, ("image/jp2", True, ("*",))),
    ('multipart/related; type="image/jp2"', J2K, True, ("image/jp2", True, ("*",))),
    ('multipart/related; type="image/jp2"', "1.2.840.10008.1.2.4.91", True, ("image/jp2", True, ("*",))),
    ('multipart/related; type="image/jp2"; transfer-syntax=1.2.840.10008.1.2.4.90', LE, True,
     ("image/jp2", True, (J2K,))),
    ('multipart/related; type="image/jp2"', LE, True, ("image/jp2", True, (J2K,))),
    ('multipart/related; type="image/jpeg"', LE, True, ("image/jpeg", True, ("1.2.840.10008.1.2.4.70",))),
    ('multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.90', LE, True, REFUSED),
    ("image/dicom-rle", LE, True, ("image/dicom-rle", False, (RLE,))),
    ('multipart/related; type="video/mp4"', LE, True, REFUSED),
    ('multipart/related; type="video/mp4"', "1.2.840.10008.1.2.4.102", True, ("video/mp4", True, ("*",))),
    ("text/html", LE, True, REFUSED),
]  # fmt: skip


@pytest.mark.parametrize(("header", "stored", "single", "expected"), PIXELS)
def test_pixels(
    header: str | None, stored: str, single: bool, expected: tuple[str, bool, tuple[str, ...]] | None
) -> None:
    if expected is REFUSED:
        with pytest.raises(NotAcceptable):
            accept.pixels(combined(header), stored, single=single)
    else:
        assert accept.pixels(combined(header), stored, single=single)[0] == Choice(*expected)


def test_pixels_in_order_of_preference() -> None:
    wish = 'multipart/related; type="image/jls";q=0.5, multipart/related; type="image/jp2"'
    assert [c.media for c in accept.pixels(parse(wish), LE, single=True)] == ["image/jp2", "image/jls"]


DOCUMENTS = [
    (None, ("application/dicom+json", False)),
    ("*/*", ("application/dicom+json", False)),
    ("application/*", ("application/dicom+json", False)),
    ("application/json", ("application/json", False)),
    ("application/dicom+json, application/json", ("application/dicom+json", False)),
    ('multipart/related; type="application/dicom+xml"', ("application/dicom+xml", True)),
    ("application/dicom+xml", ("application/dicom+xml", True)),
    (
        "application/dicom+json;q=0.2, multipart/related;type=application/dicom+xml;q=0.3",
        ("application/dicom+xml", True),
    ),
    ("application/dicom+json; charset=latin1", REFUSED),
    ("text/html", REFUSED),
]


@pytest.mark.parametrize(("header", "expected"), DOCUMENTS)
def test_documents(header: str | None, expected: tuple[str, bool] | None) -> None:
    if expected is REFUSED:
        with pytest.raises(NotAcceptable) as refused:
            accept.documents(combined(header), "the metadata")
        assert "application/dicom+json" in refused.value.available
    else:
        assert accept.documents(combined(header), "the metadata") == Choice(*expected)


def test_rendered_types_in_order() -> None:
    def media(header: str | None) -> list[str]:
        return [c.media for c in accept.rendered(combined(header), accept.RENDERED_TYPES, "image/jpeg")]

    assert media(None) == ["image/jpeg"]
    assert media("image/png, image/*;q=0.5") == ["image/png", "image/jpeg"]
    assert media("text/html, application/pdf;q=0.9") == ["text/html", "application/pdf"]
    with pytest.raises(NotAcceptable):
        media("application/dicom")


def test_the_parameter_goes_before_the_header() -> None:
    assert [r.media for r in combined("image/png", ["application/zip"])] == ["application/zip"]
    assert [r.media for r in combined("image/png", [""])] == ["image/png"]


def test_zero_means_never() -> None:
    assert [r.media for r in parse("image/png;q=0, image/jpeg;q=0.3")] == ["image/jpeg"]
    with pytest.raises(NotAcceptable):
        combined("image/png;q=0")


@pytest.mark.parametrize(
    "header",
    ["nonsense", "*/json", "a/b;q=2", "a/b;q=x", "a/b;q=nan", 'a/b;c="', "a/b;c", "a/b;=c", "a/b c", "a/b;t=1;t=2",
     ",".join(["a/b"] * 65), "x" * 9000],
)  # fmt: skip
def test_what_is_no_accept_header(header: str) -> None:
    with pytest.raises(BadInput):
        parse(header)


def test_quoted_values() -> None:
    (wish,) = parse('multipart/related; type="application/dicom"; note="a,b;c \\" d"')
    assert wish.parameters["note"] == 'a,b;c " d'
    assert parse(" , ,image/png,")[0].media == "image/png"


def test_objects_by_default_are_explicit_little_endian() -> None:
    assert accept.object_syntaxes((), LE) == ("*",)
    assert accept.object_syntaxes((), "1.2.840.10008.1.2") == (LE, "*")
    assert accept.object_syntaxes((), JPEG) == ("*",)
    assert accept.object_syntaxes((J2K,), LE) == (J2K,)
