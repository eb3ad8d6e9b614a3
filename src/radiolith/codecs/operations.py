"""What a decoder process does on request. Each function takes the served object, the control part and the blobs."""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import asdict, replace
from typing import Any, cast

import imagecodecs
import numpy as np

from radiolith.codecs import registry, wire
from radiolith.codecs.decode import Array, Decoded, decode, seen, values
from radiolith.codecs.description import PixelDescription, Window, check
from radiolith.codecs.encode import ENCODERS, Encoding
from radiolith.codecs.header import Header
from radiolith.codecs.limits import Limits
from radiolith.codecs.picture import MEDIA_TYPES, srgb_profile
from radiolith.codecs.picture import encode as encode_picture
from radiolith.codecs.render import Shown, render
from radiolith.codecs.requests import Changed, Frame, Opened, Wanted, changed_from, open_request, render_request
from radiolith.codecs.transcode import transcode
from radiolith.codecs.wire import Control, as_view
from radiolith.codecs.worker import Answer, Served, operation, serve
from radiolith.model import BadInput


@operation("open")
def open_object(served: Served, control: Control, blobs: list[bytearray]) -> Answer:
    """Take the object's header; parsed when first needed. Has no answer."""
    served.opened = Opened(
        blobs[0], str(control["syntax"]), int(cast(int, control["pixel_tag"])), str(control["pixel_vr"])
    )
    return {}, []


def frames_of(control: Control, blobs: list[bytearray]) -> list[tuple[int, memoryview, int]]:
    """(number, bytes, bit offset) of each frame in a request, numbers checked."""
    listed = cast("list[list[int]]", control["frames"])
    if len(listed) > len(blobs):
        raise BadInput("a request with fewer frames than it names")
    return [(number, memoryview(blob), offset) for (number, offset), blob in zip(listed, blobs, strict=False)]


def described(served: Served, number: int) -> PixelDescription:
    """The checked description of a frame."""
    p = served.describe(number)
    check(p, served.limits.frame_bytes)
    return p


def little_endian(pixels: Array) -> memoryview:
    """The samples as bytes, little endian, in C order."""
    if sys.byteorder == "big":
        pixels = pixels.astype(pixels.dtype.newbyteorder("<"))
    return np.ascontiguousarray(pixels).data.cast("B")


def decoded(served: Served, frame: tuple[int, memoryview, int]) -> tuple[PixelDescription, Decoded]:
    """Describe, check and decode one frame of a request."""
    number, data, bit_offset = frame
    p = described(served, number)
    return p, decode(p, data, bit_offset=bit_offset)


@operation("decode")
def decode_frame(served: Served, control: Control, blobs: list[bytearray]) -> Answer:
    """The sample values of one frame."""
    p, found = decoded(served, frames_of(control, blobs)[0])
    pixels = values(seen(p, found.pixels), found.pixels)
    answer: Control = {
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "samples": pixels.shape[2] if pixels.ndim == 3 else 1,
        "dtype": f"{pixels.dtype.kind}{pixels.dtype.itemsize}",
        "photometric": found.photometric,
    }
    return answer, [little_endian(pixels)]


@operation("transcode")
def transcode_frame(served: Served, control: Control, blobs: list[bytearray]) -> Answer:
    """One frame in another transfer syntax."""
    number, data, bit_offset = frames_of(control, blobs)[0]
    quality = cast("int | None", control["quality"])
    target = str(control["target"])
    encoded, changed = transcode(described(served, number), data, target, bit_offset=bit_offset, quality=quality)
    return {"changed": asdict(changed)}, [as_view(encoded)]


@operation("rewrite")
def rewrite_header(served: Served, control: Control, blobs: list[bytearray]) -> Answer:
    """The header for transcoded frames."""
    return {}, [as_view(served.need().rewrite(changed_from(cast(Control, control["changed"]))))]


@operation("render")
def render_frames(served: Served, control: Control, blobs: list[bytearray]) -> Answer:
    """Frames as a picture. The last blob is the presentation state's dataset, or empty."""
    fields = cast("dict[str, Any]", control["want"])
    for name in ("viewport", "window", "annotation"):
        if fields[name] is not None:
            fields[name] = tuple(fields[name])
    want = Wanted(**fields, presentation=bytes(blobs[-1]))
    shown = [Shown(described(served, n), n, data, offset) for n, data, offset in frames_of(control, blobs[:-1])]
    media_type, image = render(shown, want)
    return {"media_type": media_type}, [as_view(image)]


def warm_up() -> None:
    """Use every codec and library once, so that what they import and open late is there before the doors close."""
    grey = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    grey8 = (grey & 0xFF).astype(np.uint8)
    rgb = np.stack((grey8,) * 3, axis=-1)
    sample = PixelDescription("", 64, 64, 1, 16, 12, 11, False, "MONOCHROME2", windows=(Window(100, 50),))
    for row in registry.STANDARD:
        if row.decode and row.encode:
            p = replace(sample, syntax=row.uid)
            pixels, bits = (grey8, 8) if row.encode == "jpeg" else (grey, 12)
            if bits == 8:
                p = replace(p, bits_allocated=8, bits_stored=8, high_bit=7)
            how = Encoding(bits, "MONOCHROME2")
            decode(p, memoryview(ENCODERS[row.encode](pixels, how)))
    imagecodecs.jpegsof3_decode(ENCODERS["jpeg_lossless"](grey, Encoding(12, "MONOCHROME2")))
    for picture_type in MEDIA_TYPES:
        for drawn in (grey8, rgb):
            encode_picture([drawn], picture_type, icc=srgb_profile())
    native = replace(sample, syntax=registry.EXPLICIT_LE)
    render([Shown(native, 0, memoryview(grey.tobytes()))], Wanted(viewport=(32, 32, None, None, None, None)))
    header = Header(Opened(_plain_header(512), registry.IMPLICIT_LE))
    header.describe(0)
    header.rewrite(Changed(registry.EXPLICIT_LE, "RGB", 0, 8, 8, 7, False, 3, True, 1.0, "ISO_10918_1"))


_REHEARSED = struct.pack("<4096h", *range(-1024, 3072)) * 64  # 512 x 512 pixels with the spread of a CT


def rehearse(limits: Limits) -> None:
    """Render one typical frame in a decoder that waits for its client, then serve a small one over a socket.

    After a fork every page of the interpreter's heap costs a fault when first written, and so does fresh memory for the
    frame: together some 8 ms that the first request would pay.
    """
    opening, _ = open_request(Opened(_plain_header(512), registry.IMPLICIT_LE))
    request, _ = render_request([Frame(0, b"")], Wanted())
    served = Served(limits)
    open_object(served, opening, [bytearray(_plain_header(512))])
    render_frames(served, request, [bytearray(_REHEARSED), bytearray()])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        asked = (
            open_request(Opened(_plain_header(64), registry.IMPLICIT_LE)),
            render_request([Frame(0, bytes(8192))], Wanted()),
        )
        for piece in (piece for message in asked for piece in wire.pack(*message)):
            ours.sendall(piece)
        ours.shutdown(socket.SHUT_WR)
        serve(theirs, limits)


def _element(tag: int, value: bytes) -> bytes:
    """An element in Implicit VR Little Endian."""
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def _plain_header(side: int) -> bytes:
    """Header of a signed 16-bit image of side x side with rescale and window, Implicit VR Little Endian."""
    word = struct.Struct("<H").pack
    values = {
        0x00280002: word(1), 0x00280004: b"MONOCHROME2 ", 0x00280010: word(side), 0x00280011: word(side),
        0x00280100: word(16), 0x00280101: word(16), 0x00280102: word(15), 0x00280103: word(1),
        0x00281050: b"40", 0x00281051: b"400 ", 0x00281052: b"-1024 ", 0x00281053: b"1 ",
    }  # fmt: skip
    return b"".join(_element(tag, value) for tag, value in values.items())
