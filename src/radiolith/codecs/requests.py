"""What a client can ask of a decoder, as plain values, and the translation to and from messages.

Owns: the nouns of the seam (`Opened`, `Frame`, `Wanted`, `Changed`, ...) and their wire form. Must never import numpy
or a codec. A decoder may have been taken over by what it decoded, so every answer is checked as it is unpacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import cast

from radiolith import model
from radiolith.codecs.description import PIXEL_DATA
from radiolith.codecs.limits import MAX_BLOBS, MAX_CINE_FRAMES
from radiolith.codecs.wire import Buffer, Control, as_view

Request = tuple[Control, list[memoryview]]


@dataclass(frozen=True, slots=True)
class Opened:
    """The one object of a session: its dataset up to the pixel data element (inflated if it was deflated)."""

    header: Buffer
    syntax: str
    pixel_tag: int = PIXEL_DATA
    pixel_vr: str = ""  # as written; only read in big endian


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame's bytes: the fragments of an encapsulated one joined, or the slice of a native one.

    `number` counts from 0. `bit_offset` is where a native 1-bit frame starts within its first byte.
    """

    number: int
    data: Buffer
    bit_offset: int = 0


@dataclass(frozen=True, slots=True)
class Native:
    """A decoded frame: samples interleaved, little endian, one full cell each (1-bit pixels: a byte each)."""

    data: bytearray
    rows: int
    columns: int
    samples: int
    dtype: str  # numpy's name: 'u1', 'i2', 'f4', ...
    photometric: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What a transcoded frame says about itself, for the header that will describe it."""

    syntax: str
    photometric: str
    planar: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    samples: int
    lossy: bool  # this step lost something
    ratio: float = 0.0  # native bytes over encoded ones, when lossy
    method: str = ""  # (0028,2114) value when lossy


@dataclass(frozen=True, slots=True)
class Transcoded:
    data: bytearray
    changed: Changed


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rendering (PS3.18 8.3.5). All optional; the defaults give the whole image as the object itself asks."""

    media_type: str = "image/jpeg"
    quality: int | None = None  # 1 to 100, lossy formats only
    viewport: tuple[float, float, float | None, float | None, float | None, float | None] | None = None
    window: tuple[float, float, str] | None = None  # center, width, 'linear' | 'linear-exact' | 'sigmoid'
    annotation: tuple[str, ...] = ()  # lines burned into the upper left corner
    icc: str = ""  # '', 'no', 'yes', 'srgb', 'adobergb', 'rommrgb', 'displayp3'
    thumbnail: bool = False
    presentation: bytes = field(default=b"", repr=False)  # whole dataset of a presentation state
    presentation_syntax: str = ""
    sop_instance: str = ""  # of the image, to pick what the presentation state says about it


def open_request(opened: Opened) -> Request:
    control: Control = {
        "op": "open",
        "syntax": opened.syntax,
        "pixel_tag": opened.pixel_tag,
        "pixel_vr": opened.pixel_vr,
    }
    return control, [as_view(opened.header)]


def _frames(op: str, frames: Sequence[Frame], **more: object) -> Request:
    control: Control = {"op": op, "frames": [[f.number, f.bit_offset] for f in frames], **more}
    return control, [as_view(f.data) for f in frames]


def decode_request(frame: Frame) -> Request:
    return _frames("decode", [frame])


def transcode_request(frame: Frame, target: str, quality: int | None) -> Request:
    return _frames("transcode", [frame], target=target, quality=quality)


def render_request(frames: Sequence[Frame], want: Wanted) -> Request:
    if not 0 < len(frames) <= min(MAX_CINE_FRAMES, MAX_BLOBS - 1):
        raise model.LimitExceeded(f"a rendering may have {MAX_CINE_FRAMES} frames, {len(frames)} were asked for")
    fields = asdict(want)
    state = fields.pop("presentation")
    control, blobs = _frames("render", frames, want=fields)
    return control, [*blobs, as_view(state)]


def rewrite_request(changed: Changed) -> Request:
    return {"op": "rewrite", "changed": asdict(changed)}, []


_FAILURES: dict[str, type[model.Failure]] = {
    "Unsupported": model.Unsupported,
    "BadInput": model.BadInput,
    "LimitExceeded": model.LimitExceeded,
}


def raise_failure(control: Control) -> None:
    """Raise the refusal in an answer, if it is one."""
    if "failure" in control:
        reason = control.get("reason")
        text = reason[:300] if isinstance(reason, str) else "the decoder refused the image"
        raise _FAILURES.get(str(control["failure"]), model.Unsupported)(text)


def _one(blobs: list[bytearray]) -> bytearray:
    if len(blobs) != 1:
        raise model.Unsupported("the decoder gave a malformed answer")
    return blobs[0]


def _number(control: Control, name: str) -> int:
    value = control.get(name)
    if not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise model.Unsupported("the decoder gave a malformed answer")
    return value


def _text(control: Control, name: str) -> str:
    value = control.get(name)
    if not isinstance(value, str) or len(value) > 64 or not value.isascii():
        raise model.Unsupported("the decoder gave a malformed answer")
    return value


def native_answer(control: Control, blobs: list[bytearray]) -> Native:
    data = _one(blobs)
    rows, columns, samples = (_number(control, n) for n in ("rows", "columns", "samples"))
    dtype = _text(control, "dtype")
    if not dtype[1:].isdigit() or rows * columns * samples * int(dtype[1:]) != len(data):
        raise model.Unsupported("the decoder gave a malformed answer")
    return Native(data, rows, columns, samples, dtype, _text(control, "photometric"))


def changed_from(control: Control) -> Changed:
    """`Changed` out of a message, checked."""
    ratio = control.get("ratio")
    return Changed(
        syntax=_text(control, "syntax"),
        photometric=_text(control, "photometric"),
        planar=_number(control, "planar"),
        bits_allocated=_number(control, "bits_allocated"),
        bits_stored=_number(control, "bits_stored"),
        high_bit=_number(control, "high_bit"),
        signed=control.get("signed") is True,
        samples=_number(control, "samples"),
        lossy=control.get("lossy") is True,
        ratio=float(ratio) if isinstance(ratio, (int, float)) else 0.0,
        method=_text(control, "method"),
    )


def transcoded_answer(control: Control, blobs: list[bytearray]) -> Transcoded:
    changed = control.get("changed")
    if not isinstance(changed, dict):
        raise model.Unsupported("the decoder gave a malformed answer")
    return Transcoded(_one(blobs), changed_from(cast(Control, changed)))


def rendered_answer(control: Control, blobs: list[bytearray]) -> tuple[str, bytearray]:
    return _text(control, "media_type"), _one(blobs)


def header_answer(_control: Control, blobs: list[bytearray]) -> bytearray:
    return _one(blobs)
