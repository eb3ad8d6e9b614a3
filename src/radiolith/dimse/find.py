"""C-FIND and what C-MOVE and C-GET name, on the verbs (PS3.4 C.4).

Owns: going through a search page by page. Must never: match, hold more than a page, or answer (the caller has the
association; failures are for `status.trouble`).

Limits: PAGE rows at a time, the first page less, so that the first answer does not wait for the last.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import NamedTuple

from radiolith.archive.ports import Archive
from radiolith.dicom import dictionary
from radiolith.dimse.answers import Answers
from radiolith.dimse.identifiers import Asked, Retrieval
from radiolith.dimse.infomodels import ISSUER, PATIENT_ID, UNIQUE
from radiolith.dimse.status import Refused, Status
from radiolith.model import BadInput, Held, Level, LimitExceeded, Match, NotFound, Page, Principal, Query

FIRST_PAGE = 50
PAGE = 500
"""Rows; also what one page may read of stored headers (`archive.query.FROM_HEADERS`)."""
UIDS_AT_ONCE = 500
"""UIDs of one search of a retrieval; the index takes 1,000 values of a key."""


class Found(NamedTuple):
    """A pending response: its status (FF00, FF01) and its identifier."""

    status: int
    identifier: bytes


def never() -> bool:
    """Nobody cancels."""
    return False


async def find(
    archive: Archive, principal: Principal, asked: Asked, answers: Answers, cancelled: Callable[[], bool] = never
) -> AsyncGenerator[Found, None]:
    """Every match. It ends without a word when `cancelled`, which is asked before each page and each row.

    Raises what the verb raises, and Refused (C001) with the element for a value that cannot be matched.
    """
    try:
        async for page in _pages(archive, principal, asked.query, cancelled):
            unsupported = asked.unsupported or bool(page.warnings)
            status = Status.PENDING_UNSUPPORTED_KEYS if unsupported else Status.PENDING
            for row in page.rows:
                if cancelled():
                    return
                yield Found(status, answers.encode(row))
    except LimitExceeded:
        raise
    except BadInput as failure:
        at_fault = dictionary.tag(str(failure).partition(":")[0])  # a search begins its complaints with the keyword
        elements = [at_fault] if at_fault in asked.keys else []
        raise Refused(Status.UNABLE_TO_PROCESS, str(failure), *elements) from failure


async def _pages(
    archive: Archive, principal: Principal, query: Query, cancelled: Callable[[], bool] = never
) -> AsyncGenerator[Page, None]:
    limit, cursor = FIRST_PAGE, ""
    while not cancelled():
        page = await archive.query.search(principal, replace(query, limit=limit, cursor=cursor))
        yield page
        if not page.more or not page.cursor:
            return
        limit, cursor = PAGE, page.cursor


# ---------------------------------------------------------------- retrievals


async def located(
    archive: Archive,
    principal: Principal,
    wanted: Retrieval,
    *,
    purpose: str = "",
    cancelled: Callable[[], bool] = never,
) -> AsyncGenerator[list[Held], None]:
    """The instances a retrieval names, those of a study, a series or one instance at a time; authorised and audited.

    What is not held is passed over: nothing at all found is no failure (PS3.4 C.4.2.3.1). Raises what the verbs raise.
    """
    async for study, series, sop in _entities(archive, principal, wanted):
        if cancelled():
            return
        try:
            helds = await archive.retrieve.locate(principal, study, series, sop, purpose=purpose)
        except NotFound:
            continue
        yield helds


async def _entities(
    archive: Archive, principal: Principal, wanted: Retrieval
) -> AsyncGenerator[tuple[str, str, str], None]:
    """(study, series, SOP instance) UIDs to locate; '' below the level. Directly, where they say all that is asked."""
    level = wanted.level
    studies, series, sops = wanted.studies, wanted.series, wanted.sops
    if level is Level.STUDY and not wanted.patient_id:
        direct = [(study, "", "") for study in studies]
    elif level is Level.SERIES and studies and not wanted.patient_id:
        direct = [(studies[0], one, "") for one in series]
    elif level is Level.INSTANCE and studies and series and not wanted.patient_id:
        direct = [(studies[0], series[0], sop) for sop in sops]
    else:
        async for entity in _searched(archive, principal, wanted):
            yield entity
        return
    for entity in direct:
        yield entity


async def _searched(
    archive: Archive, principal: Principal, wanted: Retrieval
) -> AsyncGenerator[tuple[str, str, str], None]:
    """The same by search: with a Patient ID, or without the UIDs of the levels above."""
    named = {Level.STUDY: wanted.studies, Level.SERIES: wanted.series, Level.INSTANCE: wanted.sops}
    level = Level.STUDY if wanted.level is Level.PATIENT else wanted.level
    keys = [(PATIENT_ID, (wanted.patient_id,)), (ISSUER, (wanted.issuer,))]
    keys += [(UNIQUE[upper], uids) for upper, uids in named.items() if upper is not level]
    above = tuple(Match((tag,), uids) for tag, uids in keys if any(uids))
    uids = named[level]
    for start in range(0, len(uids) or 1, UIDS_AT_ONCE):
        chunk = uids[start : start + UIDS_AT_ONCE]
        matches = (*above, Match((UNIQUE[level],), chunk)) if chunk else above
        async for page in _pages(archive, principal, Query(level, matches)):
            for row in page.rows:
                study, series, sop = (str(row.get(UNIQUE[one], ("UI", ""))[1] or "") for one in named)
                if study:
                    yield study, series, sop
