"""WADO-URI (PS3.18 ch. 9): one object or one picture by query parameters, for viewers of an older kind.

Owns: the translation of its parameters into those of the newer resources. Must never: fetch or forward anything; the
three UIDs are looked up here and nowhere else. `anonymize` is not offered: an archive that answers it half right does
harm.
"""

from __future__ import annotations

from radiolith.archive.ports import Rendering
from radiolith.dicom.naming import name_of
from radiolith.dicomweb import accept, rendered
from radiolith.dicomweb.accept import AS_STORED, EXPLICIT_LE, Choice, NotAcceptable
from radiolith.dicomweb.call import Call, checked_uid
from radiolith.dicomweb.resources import Reply, etag, ranged
from radiolith.model import BadInput, Held, Unsupported

PARAMETERS = (
    "requestType", "studyUID", "seriesUID", "objectUID", "contentType", "charset", "transferSyntax", "anonymize",
    "frameNumber", "rows", "columns", "region", "windowCenter", "windowWidth", "imageQuality", "annotation",
    "presentationUID", "presentationSeriesUID",
)  # fmt: skip


async def wado(call: Call) -> Reply:
    """GET /wado?requestType=WADO&…"""
    call.check_parameters(*PARAMETERS)
    if call.one("requestType") != "WADO":
        raise BadInput("requestType is WADO")
    if call.one("anonymize") is not None:
        raise BadInput("anonymize is not offered")
    uids = {name: _required(call, name) for name in ("studyUID", "seriesUID", "objectUID")}
    ranges = accept.parse(call.one("contentType") or "") or accept.parse(call.header(b"accept") or "*/*")
    _charset(call)
    found = await call.archive.retrieve.locate(
        call.principal, uids["studyUID"], uids["seriesUID"], uids["objectUID"], purpose=""
    )
    held = found[0]
    default = rendered.default_media(held) if not _many_frames(held, call) else "application/dicom"
    choices = accept.rendered(ranges, ("application/dicom", *accept.RENDERED_TYPES), default)
    if choices[0].media == "application/dicom":
        return await _dicom(call, held)
    frame = _whole(call, "frameNumber", 1_000_000_000) or rendered.WHOLE
    want = await _rendering(call, held)
    pictures = tuple(Choice(choice.media, False) for choice in choices if choice.media != "application/dicom")
    try:
        return await rendered.one(call, held, frame, pictures, want)
    except Unsupported as error:
        raise NotAcceptable(str(error), ("application/dicom",)) from None


def _many_frames(held: Held, call: Call) -> bool:
    """Table 9.1.2: a multi-frame image defaults to application/dicom unless one frame is asked for."""
    return held.layout.frames > 1 and call.one("frameNumber") is None


def _required(call: Call, name: str) -> str:
    value = call.one(name)
    if not value:
        raise BadInput(f"{name} is missing")
    return checked_uid(value)


def _charset(call: Call) -> None:
    charset = call.one("charset")
    if charset and charset.lower() not in ("utf-8", "utf8"):
        call.warnings.append("The parameter charset is supported for UTF-8 only; UTF-8 was used")


async def _dicom(call: Call, held: Held) -> Reply:
    for name in ("rows", "columns", "region", "windowCenter", "windowWidth", "imageQuality", "frameNumber"):
        if call.one(name) is not None:
            raise BadInput(f"{name} does not go with application/dicom")
    wanted = call.one("transferSyntax")
    retrieve = call.archive.retrieve
    if wanted:
        stream = await retrieve.part10(held, (checked_uid(wanted),))
    elif held.layout.transfer_syntax in accept.LOSSY:
        stream = await retrieve.part10(held, (AS_STORED,))
    else:
        try:
            stream = await retrieve.part10(held, (EXPLICIT_LE,))
        except Unsupported:
            stream = await retrieve.part10(held, (AS_STORED,))
    headers = [
        *call.warning_headers(),
        ("content-disposition", f'attachment; filename="{name_of(held.identity.sop)}.dcm"'),
    ]
    return ranged(call, stream, "application/dicom", etag([held], stream.syntax, "wado-uri"), headers)


# ---------------------------------------------------------------- parameters of a picture


async def _rendering(call: Call, held: Held) -> Rendering:
    center, width = call.one("windowCenter"), call.one("windowWidth")
    if (center is None) != (width is None):
        raise BadInput("windowCenter and windowWidth go together")
    state = call.one("presentationUID")
    if state is not None and (center is not None or call.one("region") is not None):
        raise BadInput("presentationUID does not go with windowCenter, windowWidth or region")
    quality = _whole(call, "imageQuality", 100)
    annotation = frozenset(word.strip().lower() for word in (call.one("annotation") or "").split(",") if word.strip())
    if annotation - rendered.ANNOTATIONS:
        raise BadInput("annotation is patient or technique")
    return Rendering(
        quality=quality,
        viewport=_viewport(call, held),
        window=rendered.window(f"{center},{width},linear") if center is not None else None,
        annotation=annotation,
        presentation=await _state(call, state) if state is not None else None,
    )


async def _state(call: Call, uid: str) -> Held:
    series = _required(call, "presentationSeriesUID")
    found = await call.archive.retrieve.locate(
        call.principal, _required(call, "studyUID"), series, checked_uid(uid), purpose=""
    )
    if not rendered.is_presentation(found[0]):
        raise BadInput("presentationUID names an object that is no presentation state")
    return found[0]


def _whole(call: Call, name: str, top: int) -> int | None:
    text = call.one(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 11 and 1 <= int(text) <= top):
        raise BadInput(f"{name} is a whole number from 1 to {top}")
    return int(text)


def _viewport(call: Call, held: Held) -> tuple[float | None, ...] | None:
    """rows and columns bound the picture; region is 'x0,y0,x1,y1' as parts of the image, from 0 to 1 (9.1.2.2.7)."""
    rows, columns = _whole(call, "rows", rendered.VIEWPORT_MAX), _whole(call, "columns", rendered.VIEWPORT_MAX)
    region = call.one("region")
    if region is None and rows is None and columns is None:
        return None
    edges = (float(columns or rendered.VIEWPORT_MAX), float(rows or rendered.VIEWPORT_MAX))
    if region is None:
        return edges
    words = region.split(",")
    if len(words) != 4:
        raise BadInput("region is x0,y0,x1,y1")
    x0, y0, x1, y1 = (rendered.number(word, "a region value") for word in words)
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise BadInput("region is two corners between 0 and 1, the upper left one first")
    wide, high = held.layout.columns, held.layout.rows
    source = (x0 * wide, y0 * high, (x1 - x0) * wide, (y1 - y0) * high)
    if rows is None and columns is None:
        edges = (max(1.0, float(round(source[2]))), max(1.0, float(round(source[3]))))
    return (*edges, *source)
