"""The verb `query`: what is held, by its attributes.

Authorise, search, read the rest from stored headers where a client wants more than the index keeps, audit. Must never:
scan for a key that has no index, or tell what a tenant other than the principal's holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import orjson

from radiolith.archive import nonpatient
from radiolith.archive.description import Description
from radiolith.index import instances, search
from radiolith.index.attributes import is_indexed, is_returned
from radiolith.index.database import Database
from radiolith.index.extras import NONE, Extras
from radiolith.model import BadInput, Count, Damaged, Held, Level, LimitExceeded, Page, Principal, Row
from radiolith.model import Query as Wanted
from radiolith.trust.access import Action, require
from radiolith.trust.audit import ReadAudit

FROM_HEADERS = 500  # rows of a page completed from stored headers; a header costs 0.3 ms
ROW_BYTES = 4 << 20  # of metadata of one instance; a result of which there are more shows what the index keeps
PAGE_BYTES = 16 << 20  # of metadata behind one page; 500 usual ones are 5 MB
_STUDY, _SERIES, _SOP = 0x0020000D, 0x0020000E, 0x00080018


class Query:
    """`also`: attributes searchable beside the table's; what a search by one of them returns of it is from stored headers."""

    def __init__(
        self, database: Database, description: Description, audit: ReadAudit, threads: Executor, also: Extras = NONE
    ):
        self._database, self._description, self._audit, self._threads = database, description, audit, threads
        self._also = also

    async def search(self, principal: Principal, query: Wanted) -> Page:
        """One page of matches in a stable order. Raises BadInput for a key that cannot be asked for."""
        require(principal, Action.QUERY)
        page = await self._run(lambda: self._page(principal.tenant.id, query))
        await self._audit.note(principal, "", "query", len(page.rows))
        return page

    async def count(self, principal: Principal, query: Wanted) -> Count:
        """How many match in all, bounded (`index.search.count`). The search it belongs to is what the trail holds."""
        require(principal, Action.QUERY)

        def look() -> Count:
            with self._database.read() as read:
                return search.count(read, principal.tenant.id, query, self._also)

        return await asyncio.get_running_loop().run_in_executor(self._threads, look)

    async def non_patient(self, principal: Principal, classes: frozenset[str], query: Wanted) -> Page:
        """One page of non-patient objects of these SOP classes, matched by their headers (`nonpatient`)."""
        require(principal, Action.QUERY)
        tenant = principal.tenant.id
        page = await self._run(lambda: nonpatient.search(self._database, tenant, classes, query, self._described))
        await self._audit.note(principal, "", "query", len(page.rows))
        return page

    def _page(self, tenant: int, query: Wanted) -> Page:
        asked = tuple(match.path for match in query.matches if self._also.find(match.path, match.creator))
        if asked:
            query = replace(query, include=(*query.include, *asked), limit=min(query.limit, FROM_HEADERS))
        with self._database.read() as read:
            page = search.search(read, tenant, query, self._also)
            more = () if query.level is Level.PATIENT else tuple(p for p in query.include if not is_indexed(p))
            if not page.rows or not (query.include_all or more):
                return page
            if len(page.rows) > FROM_HEADERS:
                raise BadInput(f"includefield reads stored headers: ask for at most {FROM_HEADERS} results a page")
            helds = [self._one(read, tenant, row) for row in page.rows]
        return replace(page, rows=self._completed(page.rows, helds, query, {path[0] for path in more}))

    def _completed(self, rows: Sequence[Row], helds: Sequence[Held | None], query: Wanted, more: set[int]) -> list[Row]:
        """The rows with what the header of each instance, or of the first one below it, says beside them."""
        completed: list[Row] = []
        size = 0
        for row, held in zip(rows, helds, strict=True):
            document = b"" if held is None else self._document(held)
            extra = _row(orjson.loads(document)) if document else {}
            if query.include_all:
                size += len(document)
                extra = {**extra, **row}
            else:  # of a sequence the header says more than the index keeps
                extra = {**row, **{tag: value for tag, value in extra.items() if tag in more}}
            if size > PAGE_BYTES:
                raise LimitExceeded("all attributes of so many results are too much at once: ask for smaller pages")
            completed.append(extra)
        return completed

    def _document(self, held: Held) -> bytes:
        """The metadata as DICOM JSON, or b'' where only the index is left to say what it is."""
        try:
            return self._description.row_now(held, ROW_BYTES)
        except (Damaged, LimitExceeded):  # `check` reports the damage
            return b""

    def _described(self, held: Held) -> tuple[Row, int]:
        """All that the header says and its size as JSON; nothing where it cannot be read or is longer than ROW_BYTES."""
        document = self._document(held)
        return (_row(orjson.loads(document)), len(document)) if document else ({}, 0)

    @staticmethod
    def _one(read: object, tenant: int, row: Row) -> Held | None:
        def uid(tag: int) -> str | None:
            value = row[tag][1] if tag in row else None
            return str(value) if value else None

        study = uid(_STUDY)
        if study is None:
            return None
        return next(instances.locate(read, tenant, study, uid(_SERIES), uid(_SOP)), None)  # type: ignore[arg-type]

    async def _run(self, call: Callable[[], Page]) -> Page:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def returns(level: Level, path: tuple[int, ...]) -> bool:
    """Whether a search on this level can say something of the attribute: from the index, or from stored headers."""
    return is_returned(path, level) if is_indexed(path) else level is not Level.PATIENT


def _row(document: dict[str, dict[str, Any]]) -> Row:
    """DICOM JSON as a row; bulk values are left out, they are no answer to a search."""
    row: Row = {}
    for name, element in document.items():
        if "InlineBinary" in element or "BulkDataURI" in element:
            continue
        values = element.get("Value", [])
        if element["vr"] == "SQ":
            row[int(name, 16)] = ("SQ", [_row(item) for item in values])
        else:
            row[int(name, 16)] = (element["vr"], "\\".join(_text(value) for value in values))
    return row


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):  # a person's name: its component groups
        groups = [str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return str(value)
