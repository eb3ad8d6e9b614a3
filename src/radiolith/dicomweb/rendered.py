"""Rendered and thumbnail resources (PS3.18 10.4.1.1.3, 10.4.1.1.5) with the parameters of 8.3.5.

Owns: reading and checking the parameters, and which frame stands for an instance, a series, a study. Must never: touch
a pixel; what can be made of an object is the archive's to say, and its reason goes into the 406.

Limits: IMAGES_MAX pictures in one multipart answer, each of which costs a decoder some milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import orjson

from radiolith.archive.headers import tag_of
from radiolith.archive.ports import Rendering
from radiolith.dicom.naming import name_of
from radiolith.dicomweb import accept, documents
from radiolith.dicomweb.accept import Choice, NotAcceptable
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.multipart import Writer, content_type
from radiolith.dicomweb.resources import Reply, boundary_of, etag, instance_url, located
from radiolith.dicomweb.respond import Answer, Streamed, gathered, unchanged
from radiolith.dicomweb.wado import frame_numbers
from radiolith.model import BadInput, Held, LimitExceeded, NotFound, Pixels, Unsupported

WHOLE = 0  # the frame number that means: what stands for the object
Shown = tuple[Held, tuple[int, ...]]  # an instance and which of its frames; () for all
IMAGES_MAX = 2000
VIEWPORT_MAX = 16384  # pixels an edge: the largest picture the encoders are asked for
PARAMETERS = ("annotation", "quality", "viewport", "window", "iccprofile")
ANNOTATIONS = frozenset({"patient", "technique"})
ICC = frozenset({"no", "yes", "srgb", "adobergb", "rommrgb", "displayp3"})
FUNCTIONS = frozenset({"linear", "linear-exact", "sigmoid"})

_PRESENTATION = "1.2.840.10008.5.1.4.1.1.11."
_DOCUMENT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.104.1": "application/pdf",
    "1.2.840.10008.5.1.4.1.1.104.2": "text/xml",
}
_STRUCTURED_REPORT = "1.2.840.10008.5.1.4.1.1.88."
# A page that came in from outside runs nothing and loads nothing, wherever it is opened.
_ACTIVE = frozenset({"text/html", "text/xml", "application/pdf", "text/rtf"})


# ---------------------------------------------------------------- parameters


def rendering(call: Call, *, thumbnail: bool = False) -> Rendering:
    """The parameters of 8.3.5, checked; raises BadInput with the parameter's name and what it may be."""
    viewport = call.one("viewport")
    if thumbnail:
        call.check_parameters("viewport")
        return Rendering(viewport=_viewport(viewport, size_only=True), thumbnail=True)
    call.check_parameters(*PARAMETERS)
    return Rendering(
        quality=_quality(call.one("quality")),
        viewport=_viewport(viewport),
        window=window(call.one("window")),
        annotation=_annotation(call.one("annotation")),
        icc=_icc(call.one("iccprofile")),
    )


def _quality(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= 100):
        raise BadInput("quality is a whole number from 1 to 100")
    return int(text)


def number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"{what} is a number") from None
    if not math.isfinite(value) or abs(value) > 1e9 or "_" in text:
        raise BadInput(f"{what} is a finite number")
    return value


def _viewport(text: str | None, *, size_only: bool = False) -> tuple[float | None, ...] | None:
    """'vw,vh' or 'vw,vh,sx,sy,sw,sh'; the last four may be empty: the whole image. Negative sw, sh flip."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if len(words) not in ((2,) if size_only else (2, 6)) or not (words[0] and words[1]):
        raise BadInput("viewport is vw,vh" + ("" if size_only else " or vw,vh,sx,sy,sw,sh"))
    values = tuple(number(word, "a viewport value") if word else None for word in words)
    for edge in values[:2]:
        if edge is None or not 1 <= edge <= VIEWPORT_MAX or edge != int(edge):
            raise BadInput(f"the viewport's width and height are whole numbers from 1 to {VIEWPORT_MAX}")
    if any(at is not None and at < 0 for at in values[2:4]) or any(size == 0 for size in values[4:6]):
        raise BadInput("the viewport's source region lies outside of the image")
    return values


def window(text: str | None) -> tuple[float, float, str] | None:
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if len(words) not in (2, 3):
        raise BadInput("window is center,width,function")
    function = words[2].lower() if len(words) == 3 else "linear"
    if function not in FUNCTIONS:
        raise BadInput(f"the window's function is one of {', '.join(sorted(FUNCTIONS))}")
    center, width = number(words[0], "the window's center"), number(words[1], "the window's width")
    if width < 1 if function == "linear" else width <= 0:
        raise BadInput("the window's width is at least 1" if function == "linear" else "the window's width is positive")
    return center, width, function


def _annotation(text: str | None) -> frozenset[str]:
    wanted = frozenset(word.strip().lower() for word in (text or "").split(",") if word.strip())
    if text is not None and (not wanted or wanted - ANNOTATIONS):
        raise BadInput(f"annotation is {' or '.join(sorted(ANNOTATIONS))}")
    return wanted


def _icc(text: str | None) -> str:
    if text is not None and text.lower() not in ICC:
        raise BadInput(f"iccprofile is one of {', '.join(sorted(ICC))}")
    return (text or "").lower()


# ---------------------------------------------------------------- resources


async def rendered(call: Call) -> Reply:
    """GET …/rendered at study, series, instance and frames."""
    want = rendering(call)
    ranges = call.accepted()
    shown, want = await _presented(call, await located(call), want)
    choices = accept.rendered(ranges, accept.RENDERED_TYPES, default_media(shown[0][0]))
    several = any(choice.multipart for choice in choices)
    pictures = _pictures(call, shown, several)
    if several:
        return await _multipart(call, pictures, choices, want)
    held, frame = pictures[0]
    return await one(call, held, frame, choices, want)


async def thumbnail(call: Call) -> Reply:
    """GET …/thumbnail: one small picture that stands for all of it."""
    want = rendering(call, thumbnail=True)
    choices = accept.rendered(call.accepted(), accept.THUMBNAIL_TYPES, "image/jpeg")
    shown, want = await _presented(call, await located(call), want)
    return await one(call, *_pictures(call, shown, False)[0], choices, want)


async def one(call: Call, held: Held, frame: int, choices: Sequence[Choice], want: Rendering) -> Reply:
    """One picture or document, in the first acceptable media type that can be made."""
    tag = etag([held], frame, choices, _described(want))
    headers = call.warning_headers()
    if unchanged(call.headers, tag):
        return Answer(status=304, etag=tag, headers=headers)
    media, body = await _picture(call, held, frame, choices, want)
    bare = media.partition(";")[0]
    if bare in _ACTIVE:
        headers.append(("content-disposition", f'attachment; filename="{name_of(held.identity.sop)}.{_ending(bare)}"'))
    return Answer(body, media if ";" in media or not bare.startswith("text/") else f"{media}; charset=utf-8",
                  headers=headers, etag=tag)  # fmt: skip


def _described(want: Rendering) -> tuple[object, ...]:
    """A rendering in words that are the same in every process: a set's order is not."""
    state = tag_of(want.presentation) if want.presentation else b""
    return want.quality, want.viewport, want.window, sorted(want.annotation), want.icc, want.thumbnail, state


async def _picture(call: Call, held: Held, frame: int, choices: Sequence[Choice], want: Rendering) -> tuple[str, bytes]:
    reasons: list[str] = []
    for choice in choices:
        try:
            if choice.media in documents.MEDIA:
                return await documents.rendered(call.archive.retrieve, held, choice.media)
            return await call.archive.retrieve.rendered(held, frame, replace(want, media_type=choice.media))
        except Unsupported as error:
            reasons.append(str(error))
    raise NotAcceptable("; ".join(dict.fromkeys(reasons)), (default_media(held),))


async def _multipart(
    call: Call, pictures: Sequence[tuple[Held, int]], choices: Sequence[Choice], want: Rendering
) -> Reply:
    frames = [frame for _, frame in pictures]
    tag = etag([held for held, _ in pictures], frames, choices, _described(want))
    headers = call.warning_headers()
    if unchanged(call.headers, tag):
        return Answer(status=304, etag=tag, headers=headers)
    boundary = boundary_of(tag)
    media, first = await _picture(call, *pictures[0], choices, want)

    async def pieces() -> AsyncIterator[bytes]:
        writer = Writer(boundary)
        yield writer.part(media, _where(call, *pictures[0]), len(first)) + first
        for held, frame in pictures[1:]:
            try:
                kind, data = await _picture(call, held, frame, choices, want)
            except Unsupported:
                continue  # an object without pixels among images: there is no picture of it to send
            yield writer.part(kind, _where(call, held, frame), len(data)) + data
        yield writer.end()

    return Streamed(gathered(pieces()), content_type(media.partition(";")[0], boundary), headers=headers, etag=tag)


def _where(call: Call, held: Held, frame: int) -> str:
    return f"{instance_url(call, held)}/frames/{frame}/rendered"


def _pictures(call: Call, shown: Sequence[Shown], several: bool) -> list[tuple[Held, int]]:
    """(instance, frame) of every picture the answer has."""
    if "frames" in call.names:
        numbers = frame_numbers(call.names["frames"])
        if len(numbers) > 1 and not several:
            raise NotAcceptable("several frames are rendered only into multipart/related",
                                ('multipart/related; type="image/jpeg"',))  # fmt: skip
        if len(numbers) > IMAGES_MAX:
            raise LimitExceeded(f"one answer renders at most {IMAGES_MAX} frames")
        return [(shown[0][0], number) for number in numbers]
    if not several:
        held = representative([held for held, _ in shown])
        frames = next(frames for one, frames in shown if one is held)
        return [(held, frames[0] if frames else WHOLE)]
    pictures = [(held, frame) for held, frames in shown for frame in frames or range(1, max(1, held.layout.frames) + 1)]
    if len(pictures) > IMAGES_MAX:
        raise LimitExceeded(f"one answer renders at most {IMAGES_MAX} frames; ask for a part of them")
    return pictures


def representative(helds: Sequence[Held]) -> Held:
    """The instance that stands for a series or study: the middle one of the first series that has pixels."""
    images = [held for held in helds if held.layout.pixels is not Pixels.NONE]
    if not images:
        return helds[0]
    series = [held for held in images if held.identity.series == images[0].identity.series]
    return series[len(series) // 2]


def default_media(held: Held) -> str:
    """The media type for a client that takes anything."""
    if held.sop_class.startswith(_STRUCTURED_REPORT):
        return "text/html"
    return _DOCUMENT_CLASSES.get(held.sop_class, "image/jpeg")


def _ending(media: str) -> str:
    return {"text/html": "html", "text/xml": "xml", "application/pdf": "pdf"}.get(media, "txt")


# ---------------------------------------------------------------- presentation states


async def _presented(call: Call, helds: list[Held], want: Rendering) -> tuple[list[Shown], Rendering]:
    """A presentation state is rendered as the images it refers to, seen through it (PS3.18 10.4.1.1.3)."""
    if len(helds) != 1 or not is_presentation(helds[0]):
        return [(held, ()) for held in helds], want
    state = helds[0]
    document = orjson.loads(await call.archive.retrieve.metadata(state, ""))
    images: list[Shown] = []
    for sop, frames in referenced_images(document):
        try:
            found = await call.archive.retrieve.locate_sop(call.principal, sop)
        except NotFound:
            continue
        images += [(held, frames) for held in _of_one_study(found, state)][:1]
    if not images:
        raise NotFound("no image that this presentation state refers to is held")
    return images, replace(want, presentation=state)


def _of_one_study(found: Sequence[Held], state: Held) -> list[Held]:
    """Those in the study of the presentation state (PS3.3 C.11.11); else those that were received in one with it: images
    or state may have been moved since, and SOP Instance UIDs stay."""
    shown = [held for held in found if held.identity.study == state.identity.study]
    home = (state.home or state.identity).study
    return shown or [held for held in found if (held.home or held.identity).study == home]


def is_presentation(held: Held) -> bool:
    return held.sop_class.startswith(_PRESENTATION)


def referenced_images(document: dict[str, object]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(SOP Instance UID, frame numbers or () for all) of Referenced Series Sequence > Referenced Image Sequence, in
    order; IMAGES_MAX of them."""
    found = (image for series in _items(document, "00081115") for image in _items(series, "00081140"))
    for image in islice(found, IMAGES_MAX):
        values = _value(image, "00081155")
        if values and isinstance(values[0], str):
            frames = (number for number in _value(image, "00081160") if isinstance(number, int) and number > 0)
            yield values[0], tuple(frames)


def _value(dataset: dict[str, object], tag: str) -> list[object]:
    element = dataset.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    return value if isinstance(value, list) else []


def _items(dataset: dict[str, object], tag: str) -> list[dict[str, object]]:
    return [item for item in _value(dataset, tag) if isinstance(item, dict)]
