"""Frames to pictures: the order of events of a rendering (PS3.18 10.4.1.1.3, PS3.4 N.2). Runs in decoder processes.

Owns: what is applied when, and which of object, presentation state and request has the say. Must never decode with
dimensions that were not checked (`operations` does that).
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.codecs import geometry, picture, registry
from radiolith.codecs.colour import to_rgb
from radiolith.codecs.decode import Array, decode, reduced, seen
from radiolith.codecs.description import PixelDescription, Window
from radiolith.codecs.requests import Wanted
from radiolith.codecs.tone import to_grey, tone_of
from radiolith.model import BadInput, Unsupported

_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
THUMBNAIL_QUALITY = 75


@dataclass(frozen=True, slots=True)
class Shown:
    """One frame to render."""

    description: PixelDescription
    number: int
    data: memoryview
    bit_offset: int = 0


def render(frames: list[Shown], want: Wanted) -> tuple[str, bytes]:
    """(media type, file) of the frames. Raises Unsupported (with a reason for the user), BadInput, LimitExceeded."""
    if want.media_type not in picture.MEDIA_TYPES:
        raise Unsupported(f"images are not rendered as {want.media_type[:64]}")
    if want.quality is not None and not 1 <= want.quality <= 100:
        raise BadInput("quality is a number from 1 to 100")
    pictures = [_one(shown, want) for shown in frames]
    seconds = frames[0].description.frame_seconds
    quality = want.quality or (THUMBNAIL_QUALITY if want.thumbnail else None)
    return want.media_type, picture.encode(pictures, want.media_type, quality=quality, seconds=seconds)


def requested_window(want: Wanted) -> Window | None:
    """The request's window; BadInput if it cannot be one."""
    if want.window is None:
        return None
    center, width, function = want.window
    kind = _FUNCTIONS.get(function.lower())
    if kind is None:
        raise BadInput(f"window function {function[:32]}; linear, linear-exact and sigmoid exist")
    if not (abs(center) < 1e30 and 0 < width < 1e30) or (kind == "LINEAR" and width < 1):
        raise BadInput(f"a window of width {width:g}")
    return Window(center, width, kind)


def _one(shown: Shown, want: Wanted) -> Array:
    p = shown.description
    viewport = want.viewport or (geometry.THUMBNAIL if want.thumbnail else None)
    grey, photometric = _samples(shown, viewport)
    if p.monochrome:
        drawn = to_grey(seen(p, grey), grey, tone_of(p, requested_window(want)))
    else:
        drawn = to_rgb(p, grey, photometric)
    drawn = geometry.squared(drawn, p.aspect)
    return drawn if viewport is None else geometry.view(drawn, viewport)


def _samples(shown: Shown, viewport: geometry.Viewport | None) -> tuple[Array, str]:
    """Decoded samples; at reduced size where the request needs no more and the codestream can."""
    p = shown.description
    if viewport is not None and registry.syntax(p.syntax).decode == "htj2k":
        small = reduced(p, shown.data, geometry.reduction(p.rows, p.columns, viewport))
        if small is not None:
            return small, "RGB" if p.photometric in ("YBR_RCT", "YBR_ICT") else p.photometric
    found = decode(p, shown.data, bit_offset=shown.bit_offset)
    return found.pixels, found.photometric
