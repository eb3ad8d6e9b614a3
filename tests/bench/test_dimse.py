"""The clients' side of the DIMSE rows, against our own server, our own sink, and bytes cut where they may be cut.

A client that skipped an answer, miscounted bytes or sent another object than it said would make every figure worthless.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

import corpus
import dimse
import retrieving
import sending
import sink
from load import ClientFailed
from server import free_ports
from tests.dimse.served import Served, served

CT, MR = corpus.CT_IMAGE, corpus.MR_IMAGE


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home") / "home") as found:
        yield found


def node(archive: Served) -> dimse.Node:
    return dimse.Node(archive.port, "RADIOLITH", free_ports(1)[0])


def nothing() -> None:
    """The start of the clock."""


def joined(data: bytes, pieces: list[bytes], max_pdu: int) -> bytes:
    made = dimse.fragments(3, dimse.stored(CT, "1.2.3", 7), len(data), pieces, max_pdu)
    return b"".join(made)


def heard(wire: bytes, size: int = 64) -> dimse.Message:
    here, there = socket.socketpair()
    with here, there:
        here.sendall(wire)
        here.shutdown(socket.SHUT_WR)
        return dimse.receive(dimse.Incoming(there, size), keep=True)


@pytest.mark.parametrize("max_pdu", [16, 4096, 4097, 1 << 17])
@pytest.mark.parametrize("size", [2, 10, 4090, 4092, 20_000])
def test_a_message_comes_back_as_it_was_laid_out(max_pdu: int, size: int) -> None:
    data = bytes(range(256)) * 80
    data = data[:size]
    pieces = [data[:1], data[1:5000], b"", data[5000:]]
    wire = joined(data, pieces, max_pdu)
    message = heard(wire)
    assert (message.context, message.number(dimse.MESSAGE_ID), message.uid(dimse.SOP_INSTANCE)) == (3, 7, "1.2.3")
    assert message.data == data and message.size == size
    lengths, at = list[int](), 0
    while at < len(wire):
        (length,) = struct.unpack_from(">I", wire, at + 2)
        lengths.append(length)
        at += 6 + length
    assert all(length <= max_pdu for length in lengths[1:]) and all(length % 2 == 0 for length in lengths)


def test_what_is_cut_short_is_a_failure() -> None:
    wire = joined(b"x" * 100, [b"x" * 100], 32)
    for at in (3, 20, len(wire) - 1):
        with pytest.raises(ConnectionError):
            heard(wire[:at])
    with pytest.raises(ValueError, match="short"):
        joined(b"x" * 100, [b"x" * 90], 32)
    with pytest.raises(dimse.Ended, match="type 7"):
        heard(dimse.pdu(dimse.ABORT, b"\0\0\2\6"))


def test_what_is_stored_comes_back_from_find_and_get(archive: Served) -> None:
    names = corpus.series(1, 3)
    assert sending.send(node(archive), "ct", names, nothing)["n"] == 3
    assert {name.uid(1) for name in names} <= archive.instances()
    with dimse.Association(node(archive), [(dimse.STUDY_FIND, dimse.IMPLICIT_LE)]) as association:
        (answer,) = association.find(retrieving.study_query(names[0]))
        assert names[0].uid(3).encode() in answer
        assert association.find(retrieving.study_query(corpus.Name(1, 77))) == []
    got = retrieving.got(node(archive), names, nothing)
    each = len(dimse.data_set(corpus.instances("ct", names)[0]))
    assert got["n"] == 3 * retrieving.TIMES and got["bytes"] == each * got["n"]
    with pytest.raises(ClientFailed, match="3 objects"):
        retrieving.got(node(archive), names[:2], nothing)


def test_a_move_that_is_refused_is_a_failure(archive: Served) -> None:
    with pytest.raises(ClientFailed, match="C-MOVE: status A801"):  # the sink is no peer of this archive
        retrieving.moved(node(archive), corpus.series(1, 3), nothing)


def test_a_large_object_is_one_object(archive: Served) -> None:
    name = corpus.Name(2, 1)
    sent = sending.send_large(node(archive), name, 3, nothing)
    assert name.uid(1) in archive.instances()
    size, pieces = corpus.multiframe(name, 3)
    whole = b"".join(pieces)
    assert len(whole) == size and sent["bytes"] == len(dimse.data_set(whole))
    assert len(pydicom.dcmread(BytesIO(whole)).PixelData) == 3 * corpus.FRAME_BYTES


def test_many_at_once_are_all_answered(archive: Served) -> None:
    studies = [corpus.series(3, 3, study=k + 1) for k in range(12)]
    numbers = sending.send_at_once(node(archive), studies, nothing)
    assert numbers["n"] == 36 and numbers["p99_ms"] >= numbers["median_ms"] > 0
    assert numbers["p99_share"] == pytest.approx(numbers["p99_ms"] / 1e3 / (12 / (36 / numbers["wall_s"])))
    assert {name.uid(1) for study in studies for name in study} <= archive.instances()


def test_a_greeting_leaves_nothing_open(archive: Served) -> None:
    call = sending.greeting(node(archive))
    for k in range(3):
        call(k)
    archive.idle()


def test_what_is_refused_is_a_failure(archive: Served) -> None:
    with pytest.raises(dimse.Ended, match="type 3"):
        dimse.Association(dimse.Node(archive.port, "NOBODY", 0), [(CT, dimse.EXPLICIT_LE)])
    with (
        pytest.raises(ClientFailed, match="accepts no"),
        dimse.Association(node(archive), [(CT, "1.2.3.4")]) as association,
    ):
        association.context(CT)
    with dimse.Association(node(archive), [(MR, dimse.EXPLICIT_LE)]) as association:
        (name,) = corpus.series(4, 1)
        (encoded,) = corpus.instances("mr", [name])
        data = dimse.data_set(encoded)
        wrong = dimse.fragments(association.context(MR), dimse.stored(MR, "1.2.3.4", 1), len(data), (data,), 16384)
        association.socket.sendall(b"".join(wrong))  # says another UID than the data set
        with pytest.raises(ClientFailed, match="C-STORE 1: status"):
            association.confirmed(1)


def test_the_sink_counts_what_comes_and_refuses_other_syntaxes() -> None:
    (port,) = free_ports(1)
    with sink.Sink(port) as listening:
        target = dimse.Node(port, dimse.CLIENT_AET, 0)
        names = corpus.series(5, 4)
        sent = sending.send(target, "mr", names, nothing)
        with dimse.Association(target, [(dimse.VERIFICATION, dimse.EXPLICIT_LE)]) as association:
            association.echo()
        total = listening.total()
        assert total.objects == 4 and total.uids == {name.uid(1) for name in names}
        assert total.size == 4 * len(dimse.data_set(corpus.instances("mr", names)[0])) < sent["bytes"]
        with (
            pytest.raises(ClientFailed, match="accepts no"),
            dimse.Association(target, [(CT, dimse.IMPLICIT_LE)]) as association,
        ):
            association.context(CT)
        broken = dimse.Association(target, [(CT, dimse.EXPLICIT_LE)])
        broken.socket.sendall(dimse.pdu(dimse.ABORT, bytes(4)))
        broken.socket.recv(1)  # until the sink has closed
        broken.socket.close()
        with pytest.raises(ClientFailed, match="at the sink"):
            listening.total()
