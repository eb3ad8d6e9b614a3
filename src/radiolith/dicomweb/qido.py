"""Search Transactions (PS3.18 10.6): query parameters into a Query, a Page into DICOM JSON or XML.

Owns: the wording of a search. Must never: match anything itself, or answer another question than
the one asked: a key that cannot be matched is named in a Warning, what is no key is refused.

Limits: `limits.results` results a request (a larger `limit` is cut, with a Warning and a link to the next page);
a search inside one study is answered whole, up to SCOPED_MAX, in pages of PAGE rows so that nothing is held whole.
How many there are in all is said only on request (`totalcount=true`), and not beyond what may be counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from urllib.parse import quote, urlencode

from radiolith.dicom import dictionary
from radiolith.dicomweb import accept
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.multipart import Writer, content_type
from radiolith.dicomweb.resources import Reply
from radiolith.dicomweb.respond import Answer, Streamed, gathered
from radiolith.dicomweb.rows import rows_json, rows_xml
from radiolith.model import BadInput, Level, Match, Page, Query

PAGE = 500
SCOPED_MAX = 10_000  # instances of one study: the offset the index serves without a cursor
OFFSET_MAX = 10_000
VALUE_MAX = 1024  # characters of one value: no VR that can be searched holds more than a long text
UIDS_MAX = 2000  # values of a UID list
INCLUDE_MAX = 500
PATH_MAX = 8  # levels of a sequence path
INLINE_ATTRIBUTES = 5_000  # written by the event loop itself, 4 ms; 500 results with all attributes are 100 ms

RESERVED = frozenset(
    {"includefield", "limit", "offset", "fuzzymatching", "emptyvaluematching", "multiplevaluematching", "accept"}
    | {"cursor", "charset", "totalcount"}
)
_STUDY, _SERIES = 0x0020000D, 0x0020000E


async def studies(call: Call) -> Reply:
    """GET /studies."""
    return await _search(call, Level.STUDY)


async def series(call: Call) -> Reply:
    """GET /series and /studies/{s}/series."""
    return await _search(call, Level.SERIES)


async def instances(call: Call) -> Reply:
    """GET /instances, /studies/{s}/instances and /studies/{s}/series/{e}/instances."""
    return await _search(call, Level.INSTANCE)


async def _search(call: Call, level: Level) -> Reply:
    choice = accept.documents(call.accepted(), "the results")
    call.check_charset()
    scoped = "study" in call.names
    query, cut = read(call, level, scoped)
    in_pages = scoped and not query.cursor and not query.offset and query.limit > PAGE
    first = replace(query, limit=PAGE) if in_pages else query
    page = await call.archive.query.search(call.principal, first)
    call.warnings += page.warnings
    headers = following(call, query, page, cut, in_pages)
    if _flag(call, "totalcount"):
        headers.append(await _total(call, query, page))
    if not page.rows:  # PS3.18 table 10.6.3-1: nothing found is 204
        return Answer(status=204, headers=headers)
    pages = _pages(call, first, page, query.limit if in_pages else len(page.rows))
    if choice.multipart:
        return in_parts(call, choice, pages, headers)
    if not (in_pages and page.more):
        return Answer(await written(call, level, page), choice.media, headers=headers, coding=True)
    return Streamed(_json_pieces(call, level, pages), choice.media, headers=headers, coding=True)


def in_parts(call: Call, choice: accept.Choice, pages: AsyncIterator[Page], headers: list[tuple[str, str]]) -> Streamed:
    """Results as a multipart message, a part each."""
    boundary = "radiolith-results"
    pieces = gathered(_xml_parts(call, pages, boundary, choice.media))
    return Streamed(pieces, content_type(choice.media, boundary), headers=headers, coding=True)


async def _total(call: Call, query: Query, page: Page) -> tuple[str, str]:
    """How many match, where the client asked: of a page that is the last one it is known, else it is counted."""
    seen = query.offset + len(page.rows)
    if not page.more and not query.cursor and (page.rows or not query.offset):
        return ("x-total-count", str(seen))
    counted = await call.archive.query.count(call.principal, query)
    if counted.exact:
        return ("x-total-count", str(counted.number))
    return ("x-total-count-at-least", str(max(counted.number, seen + page.more)))


def following(call: Call, query: Query, page: Page, cut: bool, in_pages: bool) -> list[tuple[str, str]]:
    """Warnings, and where the next page is (RFC 8288)."""
    if page.more and cut and not in_pages:
        call.warnings.append("There are additional results that can be requested")
    headers = call.warning_headers()
    if page.more and not in_pages and page.cursor:
        parameters = [(n, v) for n, values in call.parameters.items() if n not in ("offset", "cursor") for v in values]
        target = urlencode([*parameters, ("cursor", page.cursor)], quote_via=quote)
        path = str(call.scope["path"]).removeprefix(str(call.scope.get("root_path", "")))
        headers.append(("link", f'<{call.service}{quote(path)}?{target}>; rel="next"'))
    return headers


async def _pages(call: Call, query: Query, page: Page, limit: int) -> AsyncIterator[Page]:
    """This page and those behind it, until `limit` rows are out."""
    left = limit
    while True:
        yield page if len(page.rows) <= left else replace(page, rows=page.rows[:left])
        left -= len(page.rows)
        if left <= 0 or not page.more or not page.cursor:
            return
        page = await call.archive.query.search(
            call.principal, replace(query, cursor=page.cursor, offset=0, limit=min(PAGE, left))
        )


async def written(call: Call, level: Level, page: Page) -> bytes:
    """A page as JSON; a long one on a thread, so that others are answered meanwhile."""
    if sum(map(len, page.rows)) <= INLINE_ATTRIBUTES:
        return rows_json(page.rows, level, call.service)
    return await asyncio.to_thread(rows_json, page.rows, level, call.service)


async def _json_pieces(call: Call, level: Level, pages: AsyncIterator[Page]) -> AsyncIterator[bytes]:
    first = True
    async for page in pages:
        body = await written(call, level, page)
        if page.rows:
            yield (b"[" if first else b",") + body[1:-1]
            first = False
    yield b"]" if not first else b"[]"


async def _xml_parts(call: Call, pages: AsyncIterator[Page], boundary: str, media: str) -> AsyncIterator[bytes]:
    writer = Writer(boundary)
    async for page in pages:
        level = _level_of(call)
        for row in page.rows:
            if media == "application/dicom+xml":
                yield writer.part(media) + rows_xml(row, level, call.service)
            else:
                yield writer.part(media) + rows_json([row], level, call.service)
    yield writer.end()


def _level_of(call: Call) -> Level:
    end = str(call.scope["path"]).rstrip("/").rpartition("/")[2]
    return {"series": Level.SERIES, "instances": Level.INSTANCE}.get(end, Level.STUDY)


# ---------------------------------------------------------------- reading the query


def read(call: Call, level: Level, scoped: bool) -> tuple[Query, bool]:
    """The Query of a request, and whether more rows are wanted than one answer gives. Raises BadInput."""
    fuzzy, empty = _flag(call, "fuzzymatching"), _flag(call, "emptyvaluematching")
    multiple = _flag(call, "multiplevaluematching")
    matches = [
        Match((tag,), (call.uid(name),)) for name, tag in (("study", _STUDY), ("series", _SERIES)) if name in call.names
    ]
    taken = {match.path for match in matches}
    for name, values in call.parameters.items():
        if name in RESERVED:
            continue
        path = attribute(name)
        if path in taken:
            raise BadInput(f"the attribute {name[:64]} is asked for twice")
        taken.add(path)
        matches.append(Match(path, _values(path, values, multiple)))
    matches = _owned(matches)
    include, include_all = _include(call.parameters.get("includefield", ()))
    top = max(call.limits.results, SCOPED_MAX if scoped else 0)
    wanted = _whole(call, "limit", 10**12)
    offset = _whole(call, "offset", 10**12) or 0
    if offset > OFFSET_MAX:
        raise BadInput(f"offset goes to {OFFSET_MAX}; from there follow the Link to the next page")
    if wanted == 0:
        raise BadInput("limit is at least 1")
    cursor = call.one("cursor") or ""
    if include_all or include or offset or cursor:
        top = min(top, PAGE if include_all or include else call.limits.results)
    query = Query(
        level=level,
        matches=tuple(matches),
        include=include,
        include_all=include_all,
        limit=min(wanted or top, top),
        offset=offset,
        cursor=cursor,
        fuzzy=fuzzy,
        empty_values=empty,
        multiple_values=multiple,
        view="rejected" if call.names.get("view") == "rejected" else "normal",
    )
    return query, wanted is None or wanted > top


def _owned(matches: Sequence[Match]) -> list[Match]:
    """Private keys with their creators: a creator (gggg,00xx) says whose block a key is in, and is no key itself."""
    creators = {one.path[0]: "".join(one.values) for one in matches if dictionary.is_creator(one.path[0])}
    return [
        replace(one, creator=creators.get(dictionary.creator_tag(one.path[0]), "")) if one.path[0] >> 16 & 1 else one
        for one in matches
        if one.path[0] not in creators
    ]


def attribute(text: str) -> tuple[int, ...]:
    """The path of an attribute: keywords or 8-digit tags, separated by dots (PS3.18 8.3.4.1). Raises BadInput."""
    words = text.split(".")
    path = tuple(dictionary.tag(word) for word in words[: PATH_MAX + 1])
    if len(path) > PATH_MAX or None in path:
        raise BadInput(f"'{text[:64]}' is no attribute: give a keyword or eight hexadecimal digits")
    return tuple(tag for tag in path if tag is not None)


def _values(path: tuple[int, ...], sent: Sequence[str], multiple: bool) -> tuple[str, ...]:
    """The values as sent, lists taken apart: UIDs at commas and backslashes, others at backslashes where allowed."""
    if dictionary.vr(path[-1]) == "UI":
        values = tuple(word.strip() for text in sent for word in text.replace("\\", ",").split(","))
    elif multiple:
        values = tuple(word for text in sent for word in text.split("\\"))
    elif len(sent) > 1:
        raise BadInput("an attribute is given twice; several values need multiplevaluematching=true")
    else:
        values = tuple(sent)
    if len(values) > UIDS_MAX or any(len(value) > VALUE_MAX for value in values):
        raise BadInput(f"at most {UIDS_MAX} values of {VALUE_MAX} characters can be asked for")
    return values


def _include(sent: Sequence[str]) -> tuple[tuple[tuple[int, ...], ...], bool]:
    words = [word.strip() for text in sent for word in text.split(",") if word.strip()]
    if len(words) > INCLUDE_MAX:
        raise BadInput(f"at most {INCLUDE_MAX} attributes can be included")
    everything = "all" in words
    return tuple(dict.fromkeys(attribute(word) for word in words if word != "all")), everything


def _flag(call: Call, name: str) -> bool:
    value = call.one(name)
    if value is None:
        return False
    if value.lower() not in ("true", "false"):
        raise BadInput(f"{name} is true or false")
    return value.lower() == "true"


def _whole(call: Call, name: str, top: int) -> int | None:
    text = call.one(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadInput(f"{name} is a whole number")
    return min(int(text), top)
