"""The Non-Patient Instance service (PS3.18 chapter 12): hanging protocols, colour palettes, templates, protocols.

Owns: what differs from the Studies service: one resource a category, JSON as the default representation. Must never: give an
object under another category than its own. Storing is `stow`, which looks at the category; bulk values are `bulkdata`.
Limits: those of a search with `includefield`; the archive says how many objects a search looks at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from radiolith.dicomweb import accept, qido, wado
from radiolith.dicomweb.call import Call
from radiolith.dicomweb.resources import Reply
from radiolith.dicomweb.respond import Answer
from radiolith.dicomweb.rows import NON_PATIENT
from radiolith.model import Level, Page

_AVAILABLE = ("application/dicom+json", "application/dicom", 'multipart/related; type="application/dicom+xml"')


async def search(call: Call) -> Reply:
    """GET /{category}."""
    choice = accept.documents(call.accepted(), "the results")
    call.check_charset()
    query, cut = qido.read(call, Level.INSTANCE, False)
    if query.fuzzy:
        call.warnings.append("The parameter fuzzymatching is not supported here; names match in all their spellings")
    query = replace(query, limit=min(query.limit, qido.PAGE))
    page = await call.archive.query.non_patient(call.principal, NON_PATIENT[call.names["category"]], query)
    call.warnings += page.warnings
    headers = qido.following(call, query, page, cut or page.more, False)
    if call.one("totalcount") == "true" and not query.cursor and (page.rows or not query.offset):
        name = "x-total-count-at-least" if page.more else "x-total-count"
        headers.append((name, str(query.offset + len(page.rows) + page.more)))
    if not page.rows:
        return Answer(status=204, headers=headers)
    if choice.multipart:
        return qido.in_parts(call, choice, _once(page), headers)
    return Answer(await qido.written(call, Level.INSTANCE, page), choice.media, headers=headers, coding=True)


async def _once(page: Page) -> AsyncIterator[Page]:
    yield page


async def retrieve(call: Call) -> Reply:
    """GET /{category}/{uid}: DICOM JSON unless the client wants XML or the object itself (12.1.3)."""
    call.check_parameters("charset")
    ranges = call.accepted()
    for wish in ranges:
        if wish.media != "*/*" and wish.matches("application/dicom") and wish.media != "application/*":
            return await wado.objects_reply(call, accept.instances(ranges, one=True))
        try:
            choice = accept.documents((wish,), "the instance")
        except accept.NotAcceptable:
            continue
        return await wado.metadata_reply(call, choice)
    raise accept.NotAcceptable("the instance cannot be had in any of the media types accepted", _AVAILABLE)
