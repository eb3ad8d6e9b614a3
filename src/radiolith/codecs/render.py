"""Frames to pictures: the order of events of a rendering (PS3.18 10.4.1.1.3, PS3.4 N.2). Runs in decoder processes.

Owns: what is applied when, and which of object, presentation state and request has the say. Must never decode with
dimensions that were not checked (`operations` does that).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from radiolith.codecs import geometry, paint, picture, presentation, registry
from radiolith.codecs.colour import to_rgb
from radiolith.codecs.decode import Array, decode, reduced, seen
from radiolith.codecs.description import PixelDescription, Window
from radiolith.codecs.geometry import Placed
from radiolith.codecs.limits import MAX_OUTPUT_PIXELS
from radiolith.codecs.presentation import Presentation
from radiolith.codecs.requests import Wanted
from radiolith.codecs.tone import Tone, to_grey, tone_of
from radiolith.model import BadInput, LimitExceeded, Unsupported

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
    budget = MAX_OUTPUT_PIXELS * 3
    pictures: list[Array] = []
    for shown in frames:
        pictures.append(_one(shown, want))
        budget -= pictures[-1].nbytes
        if budget < 0:
            raise LimitExceeded(f"a rendering may have {MAX_OUTPUT_PIXELS} pixels in all its frames")
    first = frames[0].description
    icc = b""
    if want.icc not in ("", "no") and pictures[0].ndim == 3:
        pictures, icc = _managed(pictures, first, want.icc)
    quality = want.quality or (THUMBNAIL_QUALITY if want.thumbnail else None)
    seconds = first.frame_seconds
    return want.media_type, picture.encode(pictures, want.media_type, quality=quality, icc=icc, seconds=seconds)


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
    viewport = want.viewport or (geometry.THUMBNAIL if want.thumbnail else None)
    if want.presentation:
        placed = _presented(shown, want, viewport)
    else:
        p = shown.description
        samples, photometric = _samples(shown, viewport)
        drawn = _drawn(p, samples, photometric, tone_of(p, requested_window(want)))
        placed = geometry.squared(Placed(drawn), p.aspect)
        if viewport is not None:
            placed = geometry.view(placed, viewport)
    return paint.with_lines(placed.picture, want.annotation) if want.annotation else placed.picture


def _drawn(p: PixelDescription, samples: Array, photometric: str, tone: Tone) -> Array:
    if p.monochrome:
        return to_grey(seen(p, samples), samples, tone)
    return to_rgb(p, samples, photometric)


def _presented(shown: Shown, want: Wanted, viewport: geometry.Viewport | None) -> Placed:
    """As a presentation state asks, in the order of PS3.4 N.2: tones, shutter, overlays, area, turn, annotations."""
    p = shown.description
    state = presentation.read(want.presentation, want.presentation_syntax, want.sop_instance, shown.number)
    found = decode(p, shown.data, bit_offset=shown.bit_offset)
    drawn = _drawn(p, found.pixels, found.photometric, _state_tone(p, state, requested_window(want)))
    if state.shutter is not None:
        drawn = paint.with_shutter(drawn, state.shutter)
    active = [*(o for o in p.overlays if o.group in state.overlay_groups), *state.overlays]
    planes = [(o, bits) for o in active if (bits := paint.overlay_bits(o, p, found.pixels, shown.number)) is not None]
    placed = Placed(paint.with_overlays(drawn, planes) if planes else drawn)
    aspect, magnification = p.aspect, 1.0
    if state.area is not None:
        (left, top), (right, bottom) = state.area.top_left, state.area.bottom_right
        placed = geometry.area(placed, left - 1, top - 1, right, bottom)
        aspect, magnification = state.area.aspect or aspect, state.area.magnification
    placed = geometry.turned(geometry.squared(placed, aspect), state.quarter_turns)
    if state.mirrored:
        placed = geometry.mirrored(placed)
    if viewport is not None:
        placed = geometry.view(placed, viewport)
    elif magnification != 1.0:
        placed = geometry.resize(placed, round(placed.rows * magnification), round(placed.columns * magnification))
    if state.graphics or state.texts:
        placed = Placed(paint.annotate(placed, state), placed.matrix)
    return placed


def _state_tone(p: PixelDescription, state: Presentation, window: Window | None) -> Tone:
    """A presentation state replaces the object's own transformations; what it lacks is identity (PS3.4 N.2.1)."""
    voi = state.voi if window is None else None
    tone = Tone(state.slope, state.intercept, state.modality, window or state.window, voi, inverse=state.inverse)
    tone = replace(tone, presentation=state.presentation)
    if tone.window is not None or tone.voi is not None or p.floating:
        return tone
    low = -(1 << (p.bits_stored - 1)) if p.signed else 0
    ends = sorted(v * tone.slope + tone.intercept for v in (low, low + (1 << p.bits_stored) - 1))
    if tone.modality is not None:
        ends = [0.0, float((1 << tone.modality.bits) - 1)]
    width = ends[1] - ends[0]
    return replace(tone, window=Window(ends[0] + width / 2, max(width, 1e-6), "LINEAR_EXACT"))


def _samples(shown: Shown, viewport: geometry.Viewport | None) -> tuple[Array, str]:
    """Decoded samples; at reduced size where the request needs no more and the codestream can."""
    p = shown.description
    if viewport is not None and registry.syntax(p.syntax).decode == "htj2k":
        small = reduced(p, shown.data, geometry.reduction(p.rows, p.columns, viewport))
        if small is not None:
            return small, p.photometric
    found = decode(p, shown.data, bit_offset=shown.bit_offset)
    return found.pixels, found.photometric


def _managed(pictures: list[Array], p: PixelDescription, wish: str) -> tuple[list[Array], bytes]:
    """Colours as the request wants them described: the object's own profile, or sRGB with a conversion where needed."""
    if wish == "yes":
        return pictures, p.icc_profile or picture.srgb_profile()
    if wish != "srgb":
        raise Unsupported(f"colour profile {wish[:16]}; no, yes and srgb are offered")
    if p.icc_profile:
        pictures = [picture.to_srgb(drawn, p.icc_profile) for drawn in pictures]
    return pictures, picture.srgb_profile()
