"""Getting ready: everything an operation may import, open or touch, imported, opened and touched before confinement.

Owns: `warm_up` (in the zygote, once) and `rehearse` (in every decoder before its client comes). Must never see a byte
of a received object: what is worked on here is made here.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from radiolith.codecs import registry, wire
from radiolith.codecs.decode import decode
from radiolith.codecs.description import PixelDescription, Window
from radiolith.codecs.encode import ENCODERS, Encoding
from radiolith.codecs.header import Header
from radiolith.codecs.limits import Limits
from radiolith.codecs.operations import open_object, render_frames
from radiolith.codecs.picture import MEDIA_TYPES, srgb_profile, to_srgb
from radiolith.codecs.picture import encode as encode_picture
from radiolith.codecs.render import Shown, render
from radiolith.codecs.requests import Changed, Frame, Opened, Wanted, open_request, render_request
from radiolith.codecs.worker import Served, serve


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
    encode_picture([rgb, rgb], "image/gif")
    to_srgb(rgb, srgb_profile())
    native = replace(sample, syntax=registry.EXPLICIT_LE)
    shown = [Shown(native, 0, memoryview(grey.tobytes()))]
    render(shown, Wanted(viewport=(32, 32, None, None, None, None), annotation=("Ärzte", "Ω")))
    np.unique(grey)  # imports numpy.ma
    Image.init()
    for name in {*python_encoding.values(), "utf-8", "latin-1"}:
        b"".decode(name)
    render(shown, Wanted(presentation=_presentation_state(), presentation_syntax=registry.EXPLICIT_LE))
    header = Header(Opened(_plain_header(512), registry.IMPLICIT_LE))
    header.describe(0)
    header.rewrite(Changed(registry.EXPLICIT_LE, "RGB", 0, 8, 8, 7, False, 3, True, 1.0, "ISO_10918_1"))


def _presentation_state() -> bytes:
    """A presentation state with one of everything that is drawn."""

    def graphic(kind: str, points: list[float]) -> Dataset:
        item = Dataset()
        item.GraphicAnnotationUnits, item.GraphicDimensions = "PIXEL", 2
        item.NumberOfGraphicPoints, item.GraphicData = len(points) // 2, points
        item.GraphicType, item.GraphicFilled = kind, "Y"
        return item

    words = Dataset()
    words.AnchorPointAnnotationUnits, words.AnchorPoint, words.UnformattedTextValue = "PIXEL", [5.0, 5.0], "Größe"
    layer = Dataset()
    layer.GraphicObjectSequence = Sequence(
        [graphic("CIRCLE", [9, 9, 4, 9]), graphic("INTERPOLATED", [1, 1, 5, 9, 20, 3]), graphic("POINT", [3, 3])]
    )
    layer.TextObjectSequence = Sequence([words])
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.GraphicAnnotationSequence = Sequence([layer])
    ds.ImageRotation, ds.ImageHorizontalFlip = 90, "Y"
    ds.ShutterShape, ds.VerticesOfThePolygonalShutter = "POLYGONAL", [1, 1, 60, 1, 60, 60]
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, ds)
    return out.getvalue()


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
