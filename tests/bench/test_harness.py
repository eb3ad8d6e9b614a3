"""The benchmark's own parts: a client that cut bodies short, a corpus with a leftover marker or a report that turned
a ratio round would make every figure worthless."""

from __future__ import annotations

import io
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

import client as lean
import corpus
import report
from figures import FIGURES, Figure


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[lean.Address, list[bytes]]]:
    """A server that gives these answers on one connection, byte for byte, and keeps what it was sent."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                for answer in answers:
                    received.append(connection.recv(65536))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield lean.Address(listening.getsockname()[1], headers={"X-Test": "1"}), received
        thread.join(5)


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[k : k + size] for k in range(0, len(body), size)]
    return b"".join(b"%x;note=1\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 4096, lean.BUFFER - 3, lean.BUFFER + 5])
def test_chunked_bodies_come_back_whole(size: int) -> None:
    body = bytes(range(256)) * (3 if size < 10 else 2200)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    after = b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno"
    with answering(head + chunked(body, size), after) as (address, received):
        connection = lean.Client(address)
        reply = connection.get("/a", keep=True)
        assert (reply.status, reply.size, reply.body) == (200, len(body), body)
        again = connection.get("/b", keep=True)  # nothing of the first answer is left over
        assert (again.status, again.body) == (404, b"no")
        connection.close()
    assert received[0].startswith(b"GET /dicom-web/a HTTP/1.1\r\n") and b"X-Test: 1\r\n" in received[0]


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000) as (address, _):
        assert lean.Client(address).get("/", keep=True).body == b"x" * 300_000


def test_a_short_body_is_a_failure() -> None:
    with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort") as (address, _),
        pytest.raises(ConnectionError),
    ):
        lean.Client(address).get("/")


@pytest.mark.parametrize("shape", ["ct", "mr", "tiny"])
def test_instances_are_valid_and_their_own(shape: str) -> None:
    names = corpus.series(7, 3, study=1999)
    made = corpus.instances(shape, names)
    read = [pydicom.dcmread(io.BytesIO(data)) for data in made]
    assert len({data.SOPInstanceUID for data in read}) == 3
    assert {data.StudyInstanceUID for data in read} == {names[0].uid(3)}
    assert [data.InstanceNumber for data in read] == [1, 2, 3]
    for data, encoded in zip(read, made, strict=True):
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        assert len(data.PixelData) == data.Rows * data.Columns * 2
        assert not [marker for marker in corpus.MARKERS.values() if marker.encode() in encoded]


def test_every_frame_of_a_multiframe_says_which_it_is() -> None:
    size, pieces = corpus.multiframe(corpus.Name(1, 1), 5)
    data = b"".join(pieces)
    read = pydicom.dcmread(io.BytesIO(data))
    assert len(data) == size and read.NumberOfFrames == 5
    for number in range(1, 6):
        at = (number - 1) * corpus.FRAME_BYTES
        assert read.PixelData[at : at + 8] == corpus.frame_start(number)


def test_a_ratio_above_one_is_better_in_both_directions() -> None:
    rate = Figure("r", "per_s", "rate", "/s", "more", ratio=2.0)
    time = Figure("r", "wall_s", "time", "s", "less", limit=1.0)
    assert rate.times(300, 100) == 3 and rate.reached(199, 100) is False and rate.reached(201, 100) is True
    assert time.times(2, 6) == 3 and time.reached(1.1, None) is False and time.reached(0.9, None) is True


def test_a_server_that_lost_something_has_no_figure() -> None:
    good = {"row": "stow-ct-1", "rep": 0, "per_s": 100.0, "other_cores": 0.0}
    records = [
        {**good, "server": "orthanc"},
        {**good, "server": "radiolith", "per_s": 250.0},
        {"row": "run", "server": "", "rep": 0, "servers": ["orthanc", "radiolith"], **ABOUT},
    ]
    assert "| 100 | 250 | 2.5× | ≥ 2× | yes |" in report.markdown(records)
    lost = [*records, {"row": "stow-ct-1", "server": "radiolith", "rep": 0, "error": "LOST: 1 of 2"}]
    assert "| 100 | failed |  | ≥ 2× |  |" in report.markdown(lost)


ABOUT = {
    "time": "now",
    "quick": False,
    "cores": 2,
    "processor": "any",
    "memory_gb": 8,
    "kernel": "6",
    "python": "3",
    "versions": {"orthanc": "1", "radiolith": "2"},
    "sizes": {"studies": 1, "reps": 1, "series": 1, "ct": 1, "mr": 1, "frames": 1, "large_frames": 1},
}


def test_figures_are_named_once() -> None:
    assert len({(figure.row, figure.number) for figure in FIGURES}) == len(FIGURES)
    with pytest.raises(ValueError, match="no"):
        report.replaced("a page without marks", "table")
