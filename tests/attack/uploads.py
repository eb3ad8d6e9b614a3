"""What a hostile sender uploads: mutated objects of the corpus, and bodies that are wrong as a whole.

Owns: making the bodies, each from a seed, so that a failing one can be made again. Must never: know what is a good answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from tests.dicom.mutations import mutate
from tests.dicomweb.mutations import mutated

BYTES_MAX = 24 * 1024  # of a file that is mutated; what breaks a parser is in the header, and small files go faster
BOUNDARY = "b0"
CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def small(files: Sequence[Path]) -> list[bytes]:
    """The corpus files worth mutating by the thousand."""
    return [path.read_bytes() for path in files if 132 < path.stat().st_size <= BYTES_MAX]


def objects(bases: Sequence[bytes], seed: int, count: int) -> list[bytes]:
    """`count` mutated objects, none empty."""
    rng = Random(seed)
    return [mutate(rng.choice(bases), rng) or b"\0" for _ in range(count)]


def body(parts: Sequence[bytes]) -> bytes:
    """A well-formed request of those parts."""
    head = f"\r\n--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(piece for part in parts for piece in (head, part))[2:] + f"\r\n--{BOUNDARY}--\r\n".encode()


def broken(good: bytes, seed: int) -> bytes:
    """A request that was right once."""
    return b"".join(mutated(Random(seed), good))


def crafted(good: bytes) -> Iterator[tuple[str, dict[str, str], bytes]]:
    """(what it is, headers, body) of requests nobody sends by accident. `good` is one good object."""
    related = {"Content-Type": CONTENT_TYPE}
    part = b"--b0\r\nContent-Type: application/dicom\r\n\r\n"
    yield "nothing at all", related, b""
    yield "no boundary parameter", {"Content-Type": 'multipart/related; type="application/dicom"'}, body([good])
    yield "boundary of 1 MB", {"Content-Type": "multipart/related; boundary=" + "b" * 60_000}, body([good])
    yield "no final boundary", related, part + good
    yield "part header without end", related, b"--b0\r\nX: " + b"a" * 500_000
    yield (
        "500 part headers",
        related,
        b"--b0\r\n" + b"".join(b"H%d: v\r\n" % n for n in range(500)) + b"\r\nx\r\n--b0--",
    )
    yield "header without colon", related, b"--b0\r\nnonsense\r\n\r\n" + good + b"\r\n--b0--"
    yield "NUL in a part header", related, b"--b0\r\nContent-Type: appl\0ication/dicom\r\n\r\n" + good + b"\r\n--b0--"
    yield (
        "header twice",
        related,
        part.replace(b"\r\n\r\n", b"\r\nContent-Type: text/html\r\n\r\n") + good + b"\r\n--b0--",
    )
    yield "200 empty parts", related, part * 200 + b"\r\n--b0--"
    yield "10,000 parts of one byte", related, (part + b"x\r\n") * 10_000 + b"--b0--"
    yield "1 MB of prose before", related, b"prose " * 170_000 + body([good])
    yield "1 MB of prose behind", related, body([good]) + b"prose " * 170_000
    yield "a part of another type", related, part.replace(b"application/dicom", b"text/html") + b"<html>\r\n--b0--"
    yield (
        "multipart in multipart",
        related,
        part.replace(b"application/dicom", b"multipart/mixed") + good + b"\r\n--b0--",
    )
    yield "gzip coded", {**related, "Content-Encoding": "gzip"}, body([good])
    yield "form data", {"Content-Type": "multipart/form-data; boundary=b0"}, body([good])
    yield "no content type", {}, body([good])
    yield "content type of nonsense", {"Content-Type": ';;;=,"' * 500}, body([good])
    yield "a ZIP file that is none", {"Content-Type": "application/zip"}, good
    yield (
        "metadata that is none",
        {"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=b0'},
        (b"--b0\r\nContent-Type: application/dicom+json\r\n\r\n" + b"[" * 100_000 + b"\r\n--b0--"),
    )
    yield (
        "metadata nested deeply",
        {"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=b0'},
        (
            b"--b0\r\nContent-Type: application/dicom+json\r\n\r\n["
            + b'{"00081115":{"vr":"SQ","Value":[' * 5000
            + b"\r\n--b0--"
        ),
    )
    yield (
        "XML with an entity",
        {"Content-Type": 'multipart/related; type="application/dicom+xml"; boundary=b0'},
        (
            b'--b0\r\nContent-Type: application/dicom+xml\r\n\r\n<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM '
            b'"file:///etc/passwd">]><NativeDicomModel>&b;</NativeDicomModel>\r\n--b0--'
        ),
    )
