"""What a decoder process does on request. Each function takes the served object, the control part and the blobs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any, cast

import numpy as np

from radiolith.codecs.decode import Array, Decoded, decode, seen, values
from radiolith.codecs.description import PixelDescription, check
from radiolith.codecs.render import Shown, render
from radiolith.codecs.requests import Opened, Wanted, changed_from
from radiolith.codecs.transcode import transcode
from radiolith.codecs.wire import Control, as_view
from radiolith.codecs.worker import Answer, Served, operation
from radiolith.model import BadInput


@operation("open")
def open_object(served: Served, control: Control, blobs: list[bytearray]) -> Answer:
    """Take the object's header; parsed when first needed. Has no answer. Again: the next object of the same series."""
    served.parsed = None
    served.descriptions.clear()  # or its pixels were read as the last object had them
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
