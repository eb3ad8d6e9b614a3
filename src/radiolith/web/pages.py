"""The pages: sign-in, the list of studies, a study, a series, one image. Plain HTML that works without scripts.

Each page is one call of `query.search` and a template; pictures are addresses under /dicom-web, authorised and audited
there. Must never: hold more than one page of results, or show anything to somebody who is not signed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from radiolith.dicom.naming import name_of, uid_of
from radiolith.httpstatus import code, sentence
from radiolith.model import Failure, Level, LimitExceeded, Match, NotAuthenticated, NotFound, Page, Principal, Query
from radiolith.web import rows, session, words
from radiolith.web.ports import Inside

STUDIES_PER_PAGE = 50
"""Lines of the study list, each with a picture: more would not be looked at."""
PICTURES_PER_PAGE = 60
"""Small pictures on a page of a series: about 1 MB of JPEG."""
OFFSET_MAX = 10_000
"""Results that can be paged through by number; beyond it a person should narrow the search, a program uses QIDO-RS."""
FORM_BYTES_MAX = 4096
"""Bytes of the sign-in form: a name and a password."""
WINDOWS = ("40,400", "-600,1500", "300,1500", "40,80")
"""Centre and width offered for CT: soft tissue, lung, bone, brain."""

_WINDOW = re.compile(r"-?\d{1,6},\d{1,6}")
_NEXT = re.compile(r"/studies/[A-Za-z0-9./?=&%_~-]*")

_templates = Environment(
    loader=PackageLoader("radiolith.web"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["name"] = name_of  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the search form: its name in the address, the attribute it asks for."""

    name: str
    tag: int
    word: str


FIELDS = (
    Field("name", 0x00100010, "patient"),
    Field("id", 0x00100020, "patient_id"),
    Field("accession", 0x00080050, "accession"),
    Field("modality", 0x00080061, "modality"),
    Field("label", rows.STUDY_LABELS, "label"),
)


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    chosen = words.language(request.headers.get("accept-language", ""))
    html = _templates.get_template(template).render(w=words.words(chosen), language=chosen, **values)
    return HTMLResponse(html, status)


class Pages:
    """The handlers, with what they need."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    # ------------------------------------------------------------ in and out

    async def home(self, request: Request) -> Response:
        """The study list for who is signed in, the sign-in form for everybody else."""
        principal = await session.signed_in(self._inside.identities, request)
        if principal is None:
            return render(request, "sign_in.html", next=_next(request.query_params.get("next", "")), wrong=False)
        return await self._studies(request, principal)

    async def sign_in(self, request: Request) -> Response:
        session.require_own_page(request)
        form = await _form(request)
        address = request.client.host if request.client else ""
        target = _next(form.get("next", ""))
        try:
            cookie = await self._inside.identities.sign_in(form.get("user", ""), form.get("password", ""), address)
        except NotAuthenticated:
            return render(request, "sign_in.html", 401, next=target, wrong=True)
        response = RedirectResponse(target or "/", 303)
        session.give(response, request, cookie, self._inside.settings.limits.session_seconds)
        return response

    async def sign_out(self, request: Request) -> Response:
        session.require_own_page(request)
        cookie = session.cookie_of(request)
        if cookie is not None:
            await self._inside.identities.sign_out(cookie)
        response = RedirectResponse("/", 303, headers={"clear-site-data": '"cache", "storage"'})
        session.take_away(response)
        return response

    # ------------------------------------------------------------ the list

    async def _studies(self, request: Request, principal: Principal) -> Response:
        asked = {field.name: request.query_params.get(field.name, "").strip()[:64] for field in FIELDS}
        asked |= {name: request.query_params.get(name, "").strip()[:10] for name in ("from", "to")}
        number = _count(request.query_params.get("page", ""), OFFSET_MAX // STUDIES_PER_PAGE)
        query = Query(
            Level.STUDY,
            matches=_matches(asked),
            include=_paths(rows.STUDY_COLUMNS),
            limit=STUDIES_PER_PAGE,
            offset=(number - 1) * STUDIES_PER_PAGE,
            fuzzy=bool(asked["name"]),
        )
        page = await self._inside.archive.query.search(principal, query)
        last = number * STUDIES_PER_PAGE >= OFFSET_MAX

        def address(to: int) -> str:
            return "/?" + urlencode([*((key, value) for key, value in asked.items() if value), ("page", to)])

        return render(
            request,
            "studies.html",
            who=principal.name,
            fields=FIELDS,
            asked=asked,
            searching=any(asked.values()),
            studies=[rows.StudyLine.of(row) for row in page.rows],
            previous=address(number - 1) if number > 1 else "",
            next=address(number + 1) if page.more and not last else "",
            far=page.more and last,
        )

    # ------------------------------------------------------------ one study, one series, one image

    async def study(self, request: Request, principal: Principal) -> Response:
        uid = _uid(request, "study")
        study = await self._study(principal, uid)
        series = await self._search(principal, Level.SERIES, {rows.STUDY: uid}, rows.SERIES_COLUMNS, limit=200)
        lines = sorted((rows.SeriesLine.of(row) for row in series.rows), key=lambda line: line.order)
        return render(request, "study.html", who=principal.name, study=study, series=lines, far=series.more)

    async def series(self, request: Request, principal: Principal) -> Response:
        study, series = await self._place(request, principal)
        number = _count(request.query_params.get("page", ""), OFFSET_MAX // PICTURES_PER_PAGE)
        first = (number - 1) * PICTURES_PER_PAGE
        found = await self._instances(principal, study.uid, series.uid, first, PICTURES_PER_PAGE)
        here = f"/studies/{name_of(study.uid)}/series/{name_of(series.uid)}"
        return render(
            request,
            "series.html",
            who=principal.name,
            study=study,
            series=series,
            first=first,
            instances=[rows.InstanceLine.of(row) for row in found.rows],
            previous=f"{here}?page={number - 1}" if number > 1 else "",
            next=f"{here}?page={number + 1}" if found.more else "",
        )

    async def image(self, request: Request, principal: Principal) -> Response:
        """One image, by its place in the series; a cine's frames are turned by links."""
        study, series = await self._place(request, principal)
        at = _count(request.query_params.get("at", ""), OFFSET_MAX)
        found = await self._instances(principal, study.uid, series.uid, at - 1, 1)
        if not found.rows:
            raise NotFound("this series has no such image")
        instance = rows.InstanceLine.of(found.rows[0])
        frame = _count(request.query_params.get("frame", ""), instance.frames)
        window = request.query_params.get("window", "")
        return render(
            request,
            "image.html",
            who=principal.name,
            study=study,
            series=series,
            instance=instance,
            at=at,
            frame=frame,
            window=window if _WINDOW.fullmatch(window) else "",
            windows=WINDOWS if series.modality == "CT" else (),
        )

    async def _place(self, request: Request, principal: Principal) -> tuple[rows.StudyLine, rows.SeriesLine]:
        study = await self._study(principal, _uid(request, "study"))
        keys = {rows.STUDY: study.uid, rows.SERIES: _uid(request, "series")}
        found = await self._search(principal, Level.SERIES, keys, rows.SERIES_COLUMNS, limit=1)
        if not found.rows:
            raise NotFound("this study has no such series")
        return study, rows.SeriesLine.of(found.rows[0])

    async def _study(self, principal: Principal, uid: str) -> rows.StudyLine:
        found = await self._search(principal, Level.STUDY, {rows.STUDY: uid}, rows.STUDY_COLUMNS, limit=1)
        if not found.rows:
            raise NotFound("there is no such study")
        return rows.StudyLine.of(found.rows[0])

    async def _instances(self, principal: Principal, study: str, series: str, offset: int, limit: int) -> Page:
        keys = {rows.STUDY: study, rows.SERIES: series}
        return await self._search(principal, Level.INSTANCE, keys, rows.INSTANCE_COLUMNS, offset=offset, limit=limit)

    async def _search(
        self,
        principal: Principal,
        level: Level,
        keys: Mapping[int, str],
        columns: tuple[int, ...],
        *,
        limit: int,
        offset: int = 0,
    ) -> Page:
        matches = tuple(Match((tag,), (value,)) for tag, value in keys.items())
        query = Query(level, matches=matches, include=_paths(columns), limit=limit, offset=offset)
        return await self._inside.archive.query.search(principal, query)

    # ------------------------------------------------------------ around every page

    def signed_in_only(self, handler: Any) -> Any:
        """A handler of (request, principal) as an endpoint: others are sent to the sign-in form and come back."""

        async def endpoint(request: Request) -> Response:
            principal = await session.signed_in(self._inside.identities, request)
            if principal is None:
                wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse("/?" + urlencode({"next": wanted}), 303)
            return await handler(request, principal)

        return endpoint


def failed(request: Request, failure: Exception) -> Response:
    """The page for a failure."""
    if not isinstance(failure, Failure):
        raise failure
    return render(request, "failed.html", code(failure), sentence=sentence(failure))


def _paths(tags: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple((tag,) for tag in tags)


def _matches(asked: Mapping[str, str]) -> tuple[Match, ...]:
    """The filled fields as matching keys: what is typed is the beginning of a name, the date fields are a range."""
    matches: list[Match] = []
    for field in FIELDS:
        value = asked[field.name].replace("\\", "")
        if value and field.name == "name":
            value = value.replace(",", " ")
            matches.append(Match((field.tag,), (value if "*" in value else "*" + "*".join(value.split()) + "*",)))
        elif value:
            matches.append(Match((field.tag,), (value.upper() if field.name == "modality" else value,)))
    first, last = (re.sub(r"\D", "", asked[name]) for name in ("from", "to"))
    if len(first) == 8 or len(last) == 8:
        matches.append(Match((0x00080020,), (f"{first if len(first) == 8 else ''}-{last if len(last) == 8 else ''}",)))
    return tuple(matches)


def _uid(request: Request, name: str) -> str:
    uid = uid_of(request.path_params[name])
    if uid is None:
        raise NotFound("this is not a UID")
    return uid


def _count(value: str, most: int) -> int:
    """A number from 1 to `most`; anything else is 1."""
    return min(max(int(value), 1), max(most, 1)) if value.isdecimal() and len(value) < 8 else 1


def _next(value: str) -> str:
    """Where to go after signing in: a page of ours, or nothing."""
    return value if _NEXT.fullmatch(value) and "//" not in value else ""


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES_MAX:
            raise LimitExceeded(f"the form has more than {FORM_BYTES_MAX} bytes")
    return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=8))
