"""Mutated codestreams and headers: every one is an answer or a named failure, and the server side does not notice."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiolith.codecs import registry
from radiolith.codecs.sandbox import Decoders, Frame, Limits, Opened, Wanted, Zygote
from radiolith.model import Failure, Unsupported
from tests import campaign
from tests.codecs import objects

FRAMES = campaign.count("mutated frames decoded and rendered", 600, 1_000_000)
HEADERS = campaign.count("mutated pixel headers rendered", 150, 200_000)
HASTY = Limits(request_seconds=1, queue_seconds=60)  # so that a codec's endless loop does not stretch the run
CANARY = b"\xc5\x5a\xa5\x5c" * 4
TARGETS = [r.uid for r in registry.STANDARD if r.encode and r.encapsulated and r.uid != registry.ENCAPSULATED_LE]


def phantom(signed: bool = False) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[:96, :80]
    pixels = (np.hypot(x - 40, y - 48) * 40).astype(np.int16) % 200
    return pixels.astype(np.int16 if signed else np.uint8)


@pytest.fixture(scope="module")
def streams(zygote: Zygote) -> list[tuple[Any, str, bytes]]:
    """(dataset, syntax, frame) in every syntax we write, small."""
    found: list[tuple[Any, str, bytes]] = []
    pixels = phantom()
    ds = objects.image(pixels, WindowCenter=100, WindowWidth=200)
    with Decoders(zygote.address).blocking_session(objects.opened(ds)) as session:
        for target in TARGETS:
            done = session.transcode(objects.frame(pixels), target)
            found.append((ds, target, bytes(done.data)))
    return found


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, overwritten, repeated, or with a field of the first bytes set to an extreme."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(out)) if out else 0
        near = min(rng.randrange(120), max(len(out) - 1, 0))
        kind = rng.randrange(6)
        if kind == 0:
            del out[at:]
        elif kind == 1 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2 and out:
            out[near] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
        elif kind == 3:
            out[near : near + 4] = struct.pack(">I", rng.choice((0, 1, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)))
        elif kind == 4:
            out[at:at] = out[: rng.randrange(200)]
        else:
            out[at : at + rng.randrange(64)] = rng.randbytes(rng.randrange(64))
    return bytes(out)


def test_mutated_frames_never_harm_the_server(zygote: Zygote, streams: list[tuple[Any, str, bytes]]) -> None:
    decoders = Decoders(zygote.address, HASTY)
    rng = random.Random(11)
    outcomes: dict[str, int] = {}
    started = time.monotonic()
    done = 0
    while done < FRAMES:
        ds, syntax, data = streams[rng.randrange(len(streams))]
        with decoders.blocking_session(objects.opened(ds, syntax)) as session:
            for _ in range(15):  # one object may have many frames; a dead decoder is replaced within the session
                frame = Frame(0, mutate(data, rng))
                try:
                    if rng.random() < 0.5:
                        native = session.decode(frame)
                        assert len(native.data) == 96 * 80
                    else:
                        session.render([frame], Wanted())
                    outcome = "decoded"
                except Failure as failure:
                    outcome = type(failure).__name__
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
                done += 1
    print(f"{done} frames in {time.monotonic() - started:.1f} s: {outcomes}, {decoders.counts}")
    assert outcomes.keys() <= {"decoded", "BadInput", "Unsupported", "LimitExceeded"}, outcomes
    assert outcomes["decoded"] and outcomes["BadInput"] + outcomes["Unsupported"]
    good, syntax, data = streams[0]
    with decoders.blocking_session(objects.opened(good, syntax)) as session:
        assert session.render([Frame(0, data)], Wanted())[1]


def test_mutated_headers_never_harm_the_server(decoders: Decoders, corpus_files: list[Path]) -> None:
    rng = random.Random(12)
    samples = [s for p in corpus_files if p.stat().st_size < 100_000 and (s := objects.cut_open(p)) is not None][:60]
    outcomes: dict[str, int] = {}
    for _ in range(HEADERS):
        sample = samples[rng.randrange(len(samples))]
        header = bytes(sample.opened.header)
        at = rng.randrange(len(header))
        mutated = bytearray(header)
        mutated[at] = rng.randrange(256)
        pixel_group = header.find(b"\x28\x00", rng.randrange(len(header)))
        if pixel_group >= 0:  # where it hurts
            spot = min(pixel_group + rng.randrange(14), len(header) - 1)
            mutated[spot] = rng.choice((0, 1, 0x20, 0x7F, 0x80, 0xFF))
        opened = Opened(bytes(mutated), sample.opened.syntax, sample.opened.pixel_tag)
        try:
            with decoders.blocking_session(opened) as session:
                session.render(sample.frames[:1], Wanted(media_type="image/png", thumbnail=True))
            outcome = "rendered"
        except Failure as failure:
            outcome = type(failure).__name__
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(f"{HEADERS} headers: {outcomes}, {decoders.counts}")
    assert outcomes.keys() <= {"rendered", "BadInput", "Unsupported", "LimitExceeded"}, outcomes
    assert decoders.counts.deaths == 0


def test_nothing_of_one_object_shows_in_another(zygote: Zygote, streams: list[tuple[Any, str, bytes]]) -> None:
    """A canary fills one object's frame; malformed frames of others must not show it."""
    rng = random.Random(13)
    decoders = Decoders(zygote.address, HASTY)
    secret = np.frombuffer(CANARY * (96 * 80 // len(CANARY)), np.uint8).reshape(96, 80)
    ds = objects.image(secret)
    for n in range(30):
        with decoders.blocking_session(objects.opened(ds)) as session:
            assert CANARY in session.decode(objects.frame(secret)).data
        other, syntax, data = streams[n % len(streams)]
        cut = data[: max(40, len(data) * rng.randrange(10, 90) // 100)]
        with decoders.blocking_session(objects.opened(other, syntax)) as session:
            for _ in range(5):
                try:
                    shown = session.decode(Frame(0, mutate(cut, rng))).data
                except Failure:
                    continue
                assert CANARY[:8] not in shown


def test_truncated_frames_show_black_and_not_memory(decoders: Decoders) -> None:
    """In one process: an RLE frame cut after its first segment decodes, if at all, to zeros behind the cut."""
    secret = np.frombuffer(CANARY * 512, np.uint8).reshape(64, 128)
    ds = objects.image(secret)
    black = objects.image(np.zeros((64, 128), np.uint8))
    with decoders.blocking_session(objects.opened(black)) as session:
        rle = bytes(session.transcode(objects.frame(np.zeros((64, 128), np.uint8)), registry.RLE).data)
    with decoders.blocking_session(objects.opened(ds, registry.RLE)) as session:
        for keep in range(64, len(rle), 3):
            try:
                shown = session.decode(Frame(0, rle[:keep])).data
            except Failure:
                continue
            assert not any(shown)


def test_a_jpeg_ls_frame_cut_short_is_refused_and_not_decoded_for_ever(decoders: Decoders) -> None:
    pixels = phantom()
    ds = objects.image(pixels)
    with decoders.blocking_session(objects.opened(ds)) as session:
        whole = bytes(session.transcode(objects.frame(pixels), registry.JPEGLS_LOSSLESS).data)
    with decoders.blocking_session(objects.opened(ds, registry.JPEGLS_LOSSLESS)) as session:
        for keep in range(100, len(whole) - 2, 211):
            with pytest.raises(Unsupported, match="JpeglsError"):
                session.decode(Frame(0, whole[:keep]))
    assert decoders.counts.kills == 0


def test_a_deflated_frame_inflates_no_further_than_its_image(decoders: Decoders) -> None:
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    ds = objects.image(np.zeros((8, 8), np.uint8))
    with decoders.blocking_session(objects.opened(ds, registry.DEFLATED_FRAME)) as session:
        native = session.decode(Frame(0, bomb))
    assert len(native.data) == 64


def test_deeply_nested_headers_are_refused(decoders: Decoders) -> None:
    depth = 5000
    nested = b""
    for _ in range(depth):
        nested += struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
            "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
        )
    ds = objects.image(np.zeros((8, 8), np.uint8))
    opened = Opened(objects.header_bytes(ds) + nested, registry.EXPLICIT_LE)
    with decoders.blocking_session(opened) as session:
        try:
            session.decode(Frame(0, bytes(64)))
        except Failure as failure:
            assert "nested" in str(failure) or "header" in str(failure)
    assert decoders.counts.deaths == 0
