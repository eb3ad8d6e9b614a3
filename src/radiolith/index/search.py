"""Search: one compiler from `Query` to SQL, for QIDO-RS, C-FIND and the pages alike.

Owns: which index a query starts from, the order of results, pages and continuation. Must never: read studies that no index
led to without a bound. Latency depends on what matches, not on what is held:

* A key with an index of its own (accession number, patient, name by prefix, a UID, …) gives the studies; the most selective
  one is taken, the others are conditions on them.
* Without one, studies are walked along the index of their dates, latest first (by modality where one is asked for), and the
  walk ends when the page is full. Conditions that have no index may look at CANDIDATES_MAX studies; if the page is not full
  by then, the query is refused with LimitExceeded rather than answered in part.

The plan is written into the statement (CROSS JOIN order, INDEXED BY; the PostgreSQL session follows the written order), so
no statistic can change it. Results come by study date, latest first, then by row number: stable between pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from radiolith.index.also import compile_key, of_creator
from radiolith.index.attributes import BY_PATH, Matching
from radiolith.index.continuation import after, cursor_of, position_of
from radiolith.index.extras import NONE, Extra, Extras, fill_of
from radiolith.index.matching import Condition, Context, Driver
from radiolith.index.moments import combine
from radiolith.index.patterns import Sql, all_of, date_bounds, days_between
from radiolith.index.rows import KEYS, Answer, up_to, wanted
from radiolith.index.session import Reader
from radiolith.model import BadInput, Count, Level, LimitExceeded, Match, Page, Query

OFFSET_MAX = 10_000  # rows skipped by counting; beyond, the continuation costs nothing
LIMIT_MAX = 5_000  # rows of one page, a row is about 2 KiB
CANDIDATES_MAX = 20_000  # studies a condition without index may look at: 50 ms
CANDIDATES_FIRST = 500  # looked at first: a condition that most studies satisfy fills its page from these
MATCHES_MAX = 64  # keys of one query
COUNTED_MAX = 10_000  # matches counted for a client that asks how many there are: two of the largest pages

_WALK = 40  # rank of a walk along dates: anything with an index of its own is better


def search(read: Reader, tenant_id: int, query: Query, also: Extras = NONE) -> Page:
    """One page. `also`: attributes searchable beside the table's. Raises BadInput for a value that cannot be matched,
    LimitExceeded for offset, time or breadth."""
    return _Search(read, tenant_id, query, also).run()


def count(read: Reader, tenant_id: int, query: Query, also: Extras = NONE) -> Count:
    """How many match in all, whatever page is asked for; stops at COUNTED_MAX, and where a search would be refused.

    It is the search itself without what is returned, so it costs what a page of COUNTED_MAX rows costs in the database, and
    as that: never more the more is held. Raises BadInput as `search`.
    """
    return _Search(read, tenant_id, replace(query, cursor="", offset=0), also).count()


def _name(path: tuple[int, ...]) -> str:
    known = BY_PATH.get(path)
    return known.keyword if known else ".".join(f"{tag:08X}" for tag in path)


@dataclass(slots=True)
class _Plan:
    """Where candidates come from, and what is asked of them."""

    source: Sql  # FROM items before the level's tables
    first: list[Sql]  # conditions that belong to the source
    walk: str = ""  # the table walked by date, '' when the source is a set
    residual: bool = False  # the walk has conditions without index


@dataclass(slots=True)
class _Search:
    read: Reader
    tenant_id: int
    query: Query
    also: Extras = NONE
    warnings: list[str] = field(default_factory=list[str])
    conditions: list[Condition] = field(default_factory=list[Condition])
    asked: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])

    # ------------------------------------------------------------ the way through

    def run(self) -> Page:
        query = self.query
        self._check()
        self._compile_keys()
        answer = Answer.of(self.read, query.level, self._attributes())
        limit = min(max(query.limit, 0), LIMIT_MAX)
        position = position_of(query.cursor, query.level)
        if limit == 0:
            return Page([], False, "", tuple(self.warnings))
        plan = self._plan()
        found = self._rows(plan, answer, position, limit)
        more = len(found) > limit
        found = found[:limit]
        keys = len(KEYS[query.level])
        cursor = cursor_of(found[-1][:keys]) if more else ""
        return Page(answer.rows(self.read, found), more, cursor, tuple(self.warnings))

    def count(self) -> Count:
        self._check()
        self._compile_keys()
        try:
            found = self._rows(self._plan(), Answer.of(self.read, self.query.level, ()), (), COUNTED_MAX)
        except LimitExceeded:  # conditions without index looked at as many studies as they may
            return Count(0, False)
        return Count(min(len(found), COUNTED_MAX), len(found) <= COUNTED_MAX)

    def _check(self) -> None:
        query = self.query
        if query.view not in ("normal", "rejected"):
            raise BadInput(f"there is no view {query.view!r}")
        if not 0 <= query.offset <= OFFSET_MAX:
            raise LimitExceeded(
                f"offset {query.offset}: at most {OFFSET_MAX} results are skipped; follow the continuation instead"
            )
        if len(query.matches) > MATCHES_MAX:
            raise LimitExceeded(f"{len(query.matches)} keys, at most {MATCHES_MAX} are allowed")

    # ------------------------------------------------------------ keys

    def _compile_keys(self) -> None:
        matches = [(match.path, _values(match.values)) for match in self.query.matches]
        issuer = next((values for path, values in matches if path == (0x00100021,) and len(values) == 1), ("",))[0]
        paired = issuer and issuer != '""' and any(path == (0x00100020,) and values for path, values in matches)
        rejected = self.query.view == "rejected"
        by = issuer if paired else ""
        context = Context(self.read, self.tenant_id, self.query.fuzzy, by, rejected, self.query.level)
        for match, (path, values) in zip(self.query.matches, matches, strict=True):
            self.asked.append(path)
            if values and not (paired and path == (0x00100021,)):
                self._compile_key(context, match, values)
        if self.query.combined_times:
            combine(self.conditions, dict(matches))

    def _compile_key(self, context: Context, match: Match, values: tuple[str, ...]) -> None:
        attribute, extra = BY_PATH.get(match.path), self.also.find(match.path, match.creator)
        if extra is not None:
            attribute = extra.attribute()
            self._tell_how_far(extra)
        elif attribute is not None and attribute.matching is Matching.LABEL and not of_creator(match):
            attribute = None
        if attribute is None or attribute.matching is Matching.NONE:
            self.warnings.append(f"{_name(match.path)} is not an indexed key and was not used for matching")
            return
        if '""' in values and not self.query.empty_values:
            raise BadInput(f'{attribute.keyword}: the value "" asks for empty value matching, which was not requested')
        if attribute.matching in (Matching.UID, Matching.CODE, Matching.CLASSES):
            values = tuple(uid for value in values for uid in value.replace(",", "\\").split("\\") if uid)
            if not values:
                return
        elif attribute.matching is Matching.MODALITIES:
            values = tuple(part for value in values for part in value.replace(",", "\\").split("\\") if part) or values
        elif self.query.multiple_values:
            values = tuple(part for value in values for part in value.split("\\") if part) or values
        elif len(values) > 1:
            raise BadInput(
                f"{attribute.keyword}: several values ask for multiple value matching, which was not requested"
            )
        self.conditions.append(compile_key(context, attribute, values, extra))

    def _tell_how_far(self, extra: Extra) -> None:
        fill = fill_of(self.read, extra.name)
        if not fill.complete:
            self.warnings.append(
                f"{extra.name} is being filled in: {int(fill.share * 100)} % of what was held before can be found by it"
            )

    # ------------------------------------------------------------ what is returned

    def _attributes(self) -> Any:
        query = self.query
        pinned = {path for path, values in ((m.path, _values(m.values)) for m in query.matches) if len(values) == 1}
        full = {query.level}
        if query.level is Level.STUDY:
            full.add(Level.PATIENT)
        if query.level in (Level.SERIES, Level.INSTANCE) and (0x0020000D,) not in pinned:
            full |= {Level.PATIENT, Level.STUDY}
        if query.level is Level.INSTANCE and (0x0020000E,) not in pinned:
            full.add(Level.SERIES)
        return wanted(query.level, full, [*self.asked, *query.include], query.include_all)

    # ------------------------------------------------------------ where candidates come from

    def _plan(self) -> _Plan:
        if self.query.level is Level.PATIENT:
            return self._plan_patients()
        drivers = [c for c in self.conditions if c.driver is not None and c.driver.rank < _WALK]
        best = min(drivers, key=_rank, default=None)
        dated = next((c for c in self.conditions if c.attribute.column == "study_date"), None)
        walk_rank = _date_rank(self.query) if dated is not None else _WALK
        if best is not None and best.driver is not None and best.driver.rank <= walk_rank:
            source = Sql(f"({best.driver.studies.text}) d CROSS JOIN studies s", best.driver.studies.params)
            self._said(best)
            return _Plan(source, [Sql("s.id = d.id AND s.tenant_id + 0 = ?", (self.tenant_id,))])
        return self._plan_walk(dated)

    def _plan_walk(self, dated: Condition | None) -> _Plan:
        others = [c for c in self.conditions if c is not dated]
        modal = next((c for c in others if c.driver is not None and c.driver.rank >= _WALK), None)
        if modal is not None and modal.driver is not None and self.query.view == "normal":
            first = [
                Sql("d.tenant_id = ? AND d.modality = ? AND s.id = d.study_id", modal.driver.studies.params),
            ]
            if dated is not None:
                first.append(Sql(dated.where.text.replace("s.study_date", "d.study_date"), dated.where.params))
            rest = [c for c in others if c is not modal or c.attribute.level is Level.SERIES]
            if self.query.level is Level.STUDY and modal.attribute.level is Level.SERIES and len(others) == 1:
                rest = []  # the list by modality says already that a visible series has it
            self.conditions = [*rest, *([dated] if dated is not None else [])]
            return _Plan(Sql("study_modalities d CROSS JOIN studies s"), first, "study_modalities d", bool(rest))
        index = "studies_rejected" if self.query.view == "rejected" else "studies_date"
        hint = f" INDEXED BY {index}" if self.read.dialect == "sqlite" else ""
        return _Plan(Sql(f"studies s{hint}"), [Sql("s.tenant_id = ?", (self.tenant_id,))], "studies s", bool(others))

    def _plan_patients(self) -> _Plan:
        drivers = [c for c in self.conditions if c.driver is not None and c.driver.patients is not None]
        best = min(drivers, key=_rank, default=None)
        if best is not None and best.driver is not None and best.driver.patients is not None:
            patients = best.driver.patients
            source = Sql(f"({patients.text}) d CROSS JOIN patients p", patients.params)
            self._said(best)
            return _Plan(source, [Sql("p.id = d.id AND p.tenant_id + 0 = ?", (self.tenant_id,))])
        return _Plan(
            Sql("patients p"), [Sql("p.tenant_id = ?", (self.tenant_id,))], "patients p", bool(self.conditions)
        )

    def _said(self, best: Condition) -> None:
        """What the source says already is not asked again; a series or instance below still has to be the one."""
        if best.attribute.level in (Level.PATIENT, Level.STUDY):
            self.conditions = [c for c in self.conditions if c is not best]

    # ------------------------------------------------------------ the statement

    def _rows(self, plan: _Plan, answer: Answer, position: tuple[int, ...], limit: int) -> list[Any]:
        level = self.query.level
        needed = answer.levels() | {c.attribute.level for c in self.conditions}
        tables = [plan.source]
        where = [*plan.first, *self._visible(level)]
        if level is not Level.PATIENT and Level.PATIENT in needed:
            tables.append(Sql("patients p"))
            where.append(Sql("p.id = s.patient_id"))
        if level in (Level.SERIES, Level.INSTANCE):
            tables.append(Sql("series e"))
            where.append(Sql("e.study_id = s.id"))
        if level is Level.INSTANCE:
            tables.append(Sql("instances i"))
            where.append(Sql("i.series_id = e.id"))
        where += self._conditions(level)
        if position:
            where.append(after(level, position))
        source = Sql(" CROSS JOIN ".join(t.text for t in tables), plan.source.params)
        if not (plan.walk and plan.residual):
            return self._fetch(plan, answer, source, where, limit)
        for candidates in sorted({min(CANDIDATES_FIRST, CANDIDATES_MAX), CANDIDATES_MAX}):
            cut = self._cut(plan, position, candidates)
            found = self._fetch(plan, answer, source, [*where, cut] if cut is not None else where, limit)
            if cut is None or len(found) > limit:
                return found
        raise LimitExceeded(
            f"the keys given have no index and {CANDIDATES_MAX} studies were looked at without filling the page;"
            " narrow the search by date, patient or accession number"
        )

    def _fetch(self, plan: _Plan, answer: Answer, source: Sql, where: Sequence[Sql], limit: int) -> list[Any]:
        """Up to `limit` rows and one more, in order."""
        directions = ("DESC", "DESC", "ASC", "ASC", "ASC")
        keys = KEYS[self.query.level]
        if plan.walk == "study_modalities d":
            keys = ("d.study_date", "d.study_id", *keys[2:])
        order = ", ".join(f"{key} {direction}" for key, direction in zip(keys, directions, strict=False))
        conditions = all_of(where)
        text = (
            f"SELECT {', '.join(answer.columns)} FROM {source.text} WHERE {conditions.text}"  # noqa: S608
            f" ORDER BY {order} LIMIT ? OFFSET ?"
        )
        offset = 0 if self.query.cursor else self.query.offset
        return self.read.all(text, (*source.params, *conditions.params, limit + 1, offset))

    def _visible(self, level: Level) -> list[Sql]:
        normal = self.query.view == "normal"
        count = "instances" if normal else "rejected"
        if level is Level.PATIENT:
            return [Sql(f"EXISTS (SELECT 1 FROM studies v WHERE v.patient_id = p.id AND v.{count} > 0)")]  # noqa: S608
        shown = [Sql(f"s.{count} > 0")]
        if level in (Level.SERIES, Level.INSTANCE):
            shown.append(Sql(f"e.{count} > 0"))
        if level is Level.INSTANCE:
            shown.append(Sql("i.current = 1 AND i.reason = 0" if normal else "i.current = 1 AND i.reason > 0"))
        return shown

    def _conditions(self, level: Level) -> list[Sql]:
        """Conditions on the level's tables; those of lower levels hold together on one series or instance below."""
        above = up_to(level)
        here: list[Sql] = []
        below: dict[Level, list[Sql]] = {}
        items: list[Sql] = []
        for condition in self.conditions:
            attribute = condition.attribute
            if condition.item:
                items.append(condition.where)
                continue
            where = (
                self._of_any_series(condition.where) if attribute.matching is Matching.MODALITIES else condition.where
            )
            (here if attribute.level in above else below.setdefault(attribute.level, [])).append(where)
        if items:
            joined = all_of(items)
            text = f"EXISTS (SELECT 1 FROM series_requests r WHERE r.series_id = e.id AND {joined.text})"  # noqa: S608
            exists = Sql(text, joined.params)
            (here if Level.SERIES in above else below.setdefault(Level.SERIES, [])).append(exists)
        nested = self._below(level, below)
        return here + ([nested] if nested is not None else [])

    def _of_any_series(self, where: Sql) -> Sql:
        if where.text == "s.modalities = ''":
            return where
        count = "instances" if self.query.view == "normal" else "rejected"
        text = f"EXISTS (SELECT 1 FROM series m WHERE m.study_id = s.id AND m.{count} > 0 AND {where.text})"  # noqa: S608
        return Sql(text, where.params)

    def _below(self, level: Level, below: dict[Level, list[Sql]]) -> Sql | None:
        """EXISTS over the levels under `level` that have conditions, nested as the levels are."""
        if not below:
            return None
        count = "instances" if self.query.view == "normal" else "rejected"
        shown = "i.current = 1 AND i.reason = 0" if self.query.view == "normal" else "i.current = 1 AND i.reason > 0"
        steps = (
            (Level.PATIENT, Level.STUDY, f"studies s WHERE s.patient_id = p.id AND s.{count} > 0"),
            (Level.STUDY, Level.SERIES, f"series e WHERE e.study_id = s.id AND e.{count} > 0"),
            (Level.SERIES, Level.INSTANCE, f"instances i WHERE i.series_id = e.id AND {shown}"),
        )
        inner: Sql | None = None
        for parent, child, join in reversed(steps):
            parts = list(below.get(child, []))
            if inner is not None:
                parts.append(inner)
            if parts:
                joined = all_of(parts)
                inner = Sql(f"EXISTS (SELECT 1 FROM {join} AND {joined.text})", joined.params)  # noqa: S608
            if parent is level:
                break
        return inner

    def _cut(self, plan: _Plan, position: tuple[int, ...], candidates: int) -> Sql | None:
        """The end of what a walk may look at, None when it comes to the end of the archive before."""
        if plan.walk == "patients p":
            after = Sql(" AND p.id < ?", position[:1]) if position else Sql("")
            row = self.read.one(
                f"SELECT p.id FROM patients p WHERE p.tenant_id = ?{after.text} ORDER BY p.id DESC LIMIT 1 OFFSET ?",  # noqa: S608
                (self.tenant_id, *after.params, candidates),
            )
            return Sql("p.id > ?", row) if row else None
        key = ("d.study_date", "d.study_id") if plan.walk == "study_modalities d" else ("s.study_date", "s.id")
        first = all_of(plan.first)
        parts = [Sql(first.text.replace(" AND s.id = d.study_id", ""), first.params)]
        if plan.walk == "studies s":
            parts += [c.where for c in self.conditions if c.attribute.column == "study_date"]
            parts += [Sql("s.rejected > 0")] if self.query.view == "rejected" else []
        if position:
            parts.append(Sql(f"({key[0]}, {key[1]}) <= (?, ?)", position[:2]))
        where = all_of(parts)
        walked = plan.source.text if plan.walk == "studies s" else plan.walk
        row = self.read.one(
            f"SELECT {key[0]}, {key[1]} FROM {walked} WHERE {where.text}"  # noqa: S608
            f" ORDER BY {key[0]} DESC, {key[1]} DESC LIMIT 1 OFFSET ?",
            (*where.params, candidates),
        )
        return Sql(f"({key[0]}, {key[1]}) > (?, ?)", row) if row else None


def _values(values: Sequence[str]) -> tuple[str, ...]:
    """Without what is universal: no value, empty ones, a lone asterisk."""
    cleaned = (value.replace("\x00", "").encode("utf-8", "replace").decode().strip() for value in values)
    return tuple(value for value in cleaned if value.strip("*"))


def _rank(condition: Condition) -> int:
    driver: Driver | None = condition.driver
    return driver.rank if driver is not None else 1000


def _date_rank(query: Query) -> int:
    values = next(_values(match.values) for match in query.matches if match.path == (0x00080020,))
    if '""' in values:
        return _WALK
    days = sum(days_between(*date_bounds(BY_PATH[0x00080020,], value)) for value in values)
    return 6 if days <= 7 else 8 if days <= 92 else _WALK
