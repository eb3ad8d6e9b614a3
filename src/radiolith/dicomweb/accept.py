"""Which representation a client gets: the Accept header and the `accept` query parameter, as pure functions.

Owns: parsing of media ranges, the tables of what each resource can be (PS3.18 8.7.2 to 8.7.4) and the choice between
them. Must never: look at a request or at the archive. A choice names a media type, how it is packed and which transfer
syntaxes are welcome, best first; whether a syntax can be made is the archive's to say.

Limits: RANGES_MAX media ranges and HEADER_BYTES_MAX bytes; both far above what any client sends, and they keep the
choice linear in what an attacker pays for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from radiolith.model import BadInput, Unsupported

HEADER_BYTES_MAX = 8192
RANGES_MAX = 64

EXPLICIT_LE = "1.2.840.10008.1.2.1"
IMPLICIT_LE = "1.2.840.10008.1.2"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
AS_STORED = "*"

NATIVE = frozenset({EXPLICIT_LE, IMPLICIT_LE, DEFLATED_LE, "1.2.840.10008.1.2.2"})

# PS3.18 table 8.7.3-5, with Supplement 235 (HTJ2K) and the JPEG XL syntaxes: media type -> its transfer syntaxes, the
# default first.
SYNTAXES_OF: dict[str, tuple[str, ...]] = {
    "application/octet-stream": (EXPLICIT_LE, IMPLICIT_LE),
    "image/jpeg": tuple("1.2.840.10008.1.2.4." + end for end in ("70", "50", "51", "57")),
    "image/dicom-rle": ("1.2.840.10008.1.2.5",),
    "image/jls": tuple("1.2.840.10008.1.2.4." + end for end in ("80", "81")),
    "image/jp2": tuple("1.2.840.10008.1.2.4." + end for end in ("90", "91")),
    "image/jpx": tuple("1.2.840.10008.1.2.4." + end for end in ("92", "93")),
    "image/jphc": tuple("1.2.840.10008.1.2.4." + end for end in ("201", "202", "203")),
    "image/jxl": tuple("1.2.840.10008.1.2.4." + end for end in ("110", "111", "112")),
    "video/mpeg": tuple("1.2.840.10008.1.2.4." + end for end in ("100", "100.1", "101", "101.1")),
    "video/mp4": tuple(
        "1.2.840.10008.1.2.4." + end
        for end in ("102", "102.1", "103", "103.1", "104", "104.1", "105", "105.1", "106", "106.1")
    ),
    "video/h265": tuple("1.2.840.10008.1.2.4." + end for end in ("107", "108")),
}
MEDIA_OF = {syntax: media for media, syntaxes in SYNTAXES_OF.items() for syntax in syntaxes}


def pixel_media(syntax: str) -> str:
    """Content-Type of pixel data in a transfer syntax, parameter included."""
    return f"{MEDIA_OF.get(syntax, 'application/octet-stream')}; transfer-syntax={_shown(syntax)}"


def _shown(syntax: str) -> str:
    """Frames of a deflated object are handed out inflated, and say so."""
    return EXPLICIT_LE if syntax == DEFLATED_LE else syntax


# What is, or may be, lossy: never decompressed unless a client names the syntax it wants (PS3.18 8.7.3: the default
# syntax does not apply where only a lossy form exists, and 8-fold bytes without a gain in truth help nobody).
LOSSY = frozenset(
    "1.2.840.10008.1.2.4." + end
    for end in (
        *("50", "51", "53", "55", "81", "91", "93", "111", "112", "203"),
        *("100", "100.1", "101", "101.1", "102", "102.1", "103", "103.1", "104", "104.1"),
        *("105", "105.1", "106", "106.1", "107", "108"),
    )
)

INSTANCE_TYPES = ("application/dicom", "application/zip")
METADATA_TYPES = ("application/dicom+json", "application/dicom+xml", "application/json")
SEARCH_TYPES = METADATA_TYPES
BULK_TYPES = tuple(SYNTAXES_OF)
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/jp2", "image/jph", "image/jxl")
THUMBNAIL_TYPES = ("image/jpeg", "image/png")
DOCUMENT_TYPES = ("text/html", "text/plain", "application/pdf", "text/xml")
RENDERED_TYPES = (*IMAGE_TYPES, *DOCUMENT_TYPES)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TYPE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)/([!#$%&'*+.^_`|~0-9A-Za-z-]+)")


class NotAcceptable(Unsupported):
    """Nothing the client accepts can be had (406); `available` is what can, for the body of the answer."""

    def __init__(self, message: str, available: Iterable[str] = ()):
        super().__init__(message)
        self.available = tuple(available)


@dataclass(frozen=True, slots=True)
class Range:
    """One media range. `media` is what the client wants inside, `multipart` that it wants it in multipart/related."""

    media: str
    multipart: bool = False
    syntax: str = ""
    charset: str = ""
    q: float = 1.0
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])

    def matches(self, media: str) -> bool:
        if self.media == media or self.media == "*/*":
            return True
        return self.media.endswith("/*") and media.startswith(self.media[:-1])

    @property
    def precision(self) -> int:
        """RFC 9110 12.5.1: a more specific range overrides a less specific one."""
        return 0 if self.media == "*/*" else 1 if self.media.endswith("/*") else 2 + bool(self.syntax)


@dataclass(frozen=True, slots=True)
class Choice:
    """What to send: `syntaxes` in order of preference, empty where the resource has no transfer syntax."""

    media: str
    multipart: bool
    syntaxes: tuple[str, ...] = ()
    charset: str = ""


@lru_cache(maxsize=256)
def parse(header: str) -> tuple[Range, ...]:
    """All media ranges of an Accept header with q > 0, best first. Raises BadInput for what RFC 9110 does not know.

    Remembered: a viewer sends the same header with every one of its thousands of requests.
    """
    if len(header) > HEADER_BYTES_MAX:
        raise BadInput(f"Accept is longer than {HEADER_BYTES_MAX} bytes")
    ranges: list[Range] = []
    position = 0
    while position < len(header):
        text, parameters, position = _element(header, position)
        if not text and not parameters:
            continue
        if len(ranges) >= RANGES_MAX:
            raise BadInput(f"Accept has more than {RANGES_MAX} media ranges")
        ranges.append(_range(text, parameters))
    wanted = [r for r in ranges if r.q > 0]
    wanted.sort(key=lambda r: (-r.q, -r.precision))
    return tuple(wanted)


def media_type(header: str) -> tuple[str, dict[str, str]]:
    """One media type with its parameters, as in Content-Type: ('multipart/related', {'boundary': ...})."""
    text, parameters, position = _element(header, 0)
    if position < len(header) or not _TYPE.fullmatch(text):
        raise BadInput("the media type is not well formed")
    return text.lower(), parameters


def _element(header: str, position: int) -> tuple[str, dict[str, str], int]:
    """One comma-separated element from `position`: its text, its parameters, where the next one starts."""
    end = _until(header, position, ",;")
    text = header[position:end].strip()
    parameters: dict[str, str] = {}
    while end < len(header) and header[end] == ";":
        start = end + 1
        end = _until(header, start, ",;")
        name, equals, value = header[start:end].strip().partition("=")
        name, value = name.strip().lower(), value.strip()
        if not name and not equals:
            continue
        if not equals or not _TOKEN.fullmatch(name) or name in parameters:
            raise BadInput("a media type parameter is not well formed")
        parameters[name] = _unquoted(value)
    return text, parameters, end + 1


def _until(header: str, position: int, stops: str) -> int:
    """Index of the next stop character outside quotes, or the end."""
    quoted = False
    while position < len(header):
        character = header[position]
        if quoted and character == "\\":
            position += 1
        elif character == '"':
            quoted = not quoted
        elif not quoted and character in stops:
            return position
        position += 1
    if quoted:
        raise BadInput("a quoted parameter has no end")
    return len(header)


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def _range(text: str, parameters: dict[str, str]) -> Range:
    found = _TYPE.fullmatch(text.lower()) if text != "*" else _TYPE.fullmatch("*/*")
    if found is None or (found[1] == "*" and found[2] != "*"):
        raise BadInput("Accept holds something that is no media range")
    media = found[0]
    try:
        q = float(parameters.pop("q", "1"))
    except ValueError:
        raise BadInput("a q-value is no number") from None
    if not 0 <= q <= 1:
        raise BadInput("a q-value is not between 0 and 1")
    multipart = media == "multipart/related"
    if multipart:
        media = parameters.get("type", "*/*").strip().lower() or "*/*"
        if media.endswith("/"):  # dicomweb-client's way of writing image/*
            media += "*"
        if not _TYPE.fullmatch(media):
            raise BadInput("the type parameter of multipart/related is no media type")
    syntax = parameters.get("transfer-syntax", "").strip()
    return Range(media, multipart, syntax, parameters.get("charset", "").lower(), q, parameters)


# ---------------------------------------------------------------- choices per kind of resource


def combined(header: str | None, parameter: Sequence[str] = ()) -> tuple[Range, ...]:
    """The client's wishes: the `accept` query parameter goes before the header (PS3.18 8.3.3.1), `*/*` if none."""
    ranges = parse(",".join(parameter)) if any(parameter) else ()
    if not ranges:
        ranges = parse(header) if header else ()
        if header and header.strip() and not ranges:
            raise NotAcceptable("every media type is excluded by its q-value")
    return ranges or (Range("*/*"),)


def _refused(what: str, types: Iterable[str], multipart: bool, single: bool = True) -> NotAcceptable:
    available: list[str] = []
    for media in types:
        if multipart:
            available.append(f'multipart/related; type="{media}"')
        if single:
            available.append(media)
    return NotAcceptable(f"{what} cannot be had in any of the media types accepted", available)


def instances(ranges: Sequence[Range], *, one: bool) -> Choice:
    """Whole objects. `one`: the resource is a single instance, so that single-part application/dicom is possible."""
    for wish in ranges:
        if wish.matches("application/dicom") and (wish.multipart or one or wish.media == "*/*"):
            multipart = wish.multipart or not one or wish.media == "*/*"
            same = (r for r in ranges if r.multipart == wish.multipart and r.matches("application/dicom"))
            return Choice("application/dicom", multipart, _wanted_syntaxes(same))
        if not wish.multipart and wish.media == "application/zip":
            return Choice("application/zip", False, (wish.syntax,) if wish.syntax else ())
    raise NotAcceptable(
        "the instances cannot be had in any of the media types accepted",
        ('multipart/related; type="application/dicom"', *(("application/dicom",) if one else ()), "application/zip"),
    )


def _wanted_syntaxes(ranges: Iterable[Range]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(r.syntax for r in ranges if r.syntax))


def object_syntaxes(wanted: Sequence[str], stored: str) -> tuple[str, ...]:
    """The list for retrieve.part10 of one object. Without a wish: Explicit VR LE, else as stored (PS3.18 8.7.3)."""
    if wanted:
        return tuple(wanted)
    return (AS_STORED,) if stored in LOSSY or stored == EXPLICIT_LE else (EXPLICIT_LE, AS_STORED)


def documents(ranges: Sequence[Range], what: str) -> Choice:
    """Metadata and search results: DICOM JSON, or Native DICOM Model XML in multipart/related."""
    for wish in ranges:
        if wish.charset not in ("", "utf-8", "utf8"):
            continue
        if wish.multipart:
            for media in ("application/dicom+xml", "application/dicom+json"):
                if wish.matches(media):
                    return Choice(media, True)
        elif wish.media in METADATA_TYPES:
            # XML of several instances has no single-part form (PS3.18 8.7.3.1), so it is packed whatever was asked.
            return Choice(wish.media, wish.media == "application/dicom+xml")
        elif wish.matches("application/dicom+json"):
            return Choice("application/dicom+json", False)
    raise NotAcceptable(
        f"{what} cannot be had in any of the media types accepted",
        ("application/dicom+json", "application/json", 'multipart/related; type="application/dicom+xml"'),
    )


def pixels(ranges: Sequence[Range], stored: str, *, single: bool) -> tuple[Choice, ...]:
    """Frames and pixel data of an object stored in `stored`: every acceptable choice, best first.

    Several, because only the archive knows what can be decoded. `single`: exactly one part will be sent, so a range
    outside multipart/related can be met.
    """
    choices: list[Choice] = []
    for wish in ranges:
        if not (wish.multipart or single or wish.media == "*/*"):
            continue
        multipart = wish.multipart or not single or wish.media == "*/*"
        for media in _bulk_media(wish, stored):
            syntaxes = _bulk_syntaxes(wish, media, stored)
            if syntaxes:
                choices.append(Choice(media, multipart, syntaxes))
    if not choices:
        raise _refused("the pixel data", BULK_TYPES[:8], True, single)
    return tuple(dict.fromkeys(choices))


def _bulk_media(wish: Range, stored: str) -> list[str]:
    """Media types a range stands for, the one of the stored syntax first."""
    own = MEDIA_OF.get(stored, "application/octet-stream")
    if wish.syntax == AS_STORED and wish.media in ("*/*", "application/octet-stream"):
        return [own]  # viewers ask for octet-stream with `*` and mean: whatever it is
    if wish.media == "*/*":
        # Nothing said: the default of the stored form. Lossless stays compressed only where the client names it.
        return (
            [own, "application/octet-stream"] if stored in LOSSY or wish.syntax else ["application/octet-stream", own]
        )
    media = [m for m in SYNTAXES_OF if wish.matches(m)]
    return sorted(media, key=lambda m: m != own)


def _bulk_syntaxes(wish: Range, media: str, stored: str) -> tuple[str, ...]:
    known = SYNTAXES_OF[media]
    if wish.syntax == AS_STORED:
        return (AS_STORED,) if MEDIA_OF.get(stored, "application/octet-stream") == media else ()
    if wish.syntax:
        return (wish.syntax,) if wish.syntax in known else ()
    if media == "application/octet-stream":
        return (AS_STORED,) if stored == EXPLICIT_LE else (EXPLICIT_LE,)
    if stored in known:  # between siblings of one media type nothing is recompressed unasked
        return (AS_STORED,)
    return () if media.startswith("video/") else known[:1]


def rendered(ranges: Sequence[Range], types: Sequence[str], default: str) -> tuple[Choice, ...]:
    """Rendered resources: acceptable media types in order of preference; `*/*` and `image/*` give `default` first."""
    ordered = [default, *(t for t in types if t != default)]
    choices: list[Choice] = []
    for wish in ranges:
        wild = wish.media in ("*/*", "image/*")
        matching = [default] if wild else [t for t in ordered if wish.matches(t)]
        choices += [Choice(media, wish.multipart, (), wish.charset) for media in matching]
    if not choices:
        raise _refused("a rendering", types, True)
    return tuple(dict.fromkeys(choices))


def bulk(ranges: Sequence[Range]) -> Choice:
    """Bulk data other than pixels: bytes as they are, single part unless multipart/related is what is wanted."""
    for wish in ranges:
        if wish.matches("application/octet-stream") or wish.media.startswith(("application/", "image/", "video/")):
            return Choice("application/octet-stream", wish.multipart)
    raise _refused("the bulk data", ("application/octet-stream",), True)
