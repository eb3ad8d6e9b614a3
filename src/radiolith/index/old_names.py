"""Matching keys that also find what had another name before: numbers of patients, accession numbers, study ids, UIDs.

Owns: what a corrected study's old names mean in SQL. Must never: find by an old name of a person (that of the wrong one must not
lead to the images), or cost anything where nothing was ever corrected (one look at `study_names`). An old study or series UID
finds only where nothing is shown under it any more: two answers to one UID would mislead. The answer has the names of now
(PS3.4 C.2.2.1 leaves open what a key matches that was coerced).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from radiolith.index.matching import Condition, Context, Driver
from radiolith.index.patterns import Sql, any_of, text_match, union
from radiolith.index.session import Reader
from radiolith.index.study_names import Kind, has_any
from radiolith.index.uids import pack_uid
from radiolith.model import Level

_KINDS = {
    "StudyInstanceUID": Kind.STUDY,
    "SeriesInstanceUID": Kind.SERIES,
    "PatientID": Kind.PATIENT,
    "AccessionNumber": Kind.ACCESSION,
    "StudyID": Kind.STUDY_ID,
}


def widened(context: Context, condition: Condition, values: Sequence[str]) -> Condition:
    """The condition, and what had one of the values as its name before."""
    kind = _KINDS.get(condition.attribute.keyword)
    if kind is None or '""' in values or not has_any(context.read, context.tenant_id):
        return condition
    if kind is Kind.SERIES:
        return _series(context, condition, values)
    if kind is Kind.STUDY:
        values = [value for value in values if not _is_shown(context.read, "studies", context.tenant_id, value)]
        if not values:
            return condition
    match = any_of([text_match("n.value", value) for value in values])
    issuer = " AND n.issuer = ?" if kind is Kind.PATIENT and context.issuer else ""
    params = (context.tenant_id, int(kind), *match.params, *((context.issuer,) if issuer else ()))
    named = f"FROM study_names n WHERE n.tenant_id = ? AND n.kind = ? AND {match.text}{issuer}"
    studies = Sql(f"SELECT n.study_id AS id {named}", params)
    patients = Sql(f"SELECT v.patient_id AS id FROM studies v WHERE v.id IN (SELECT n.study_id {named})", params)  # noqa: S608
    if kind is Kind.PATIENT and context.level is Level.PATIENT:
        where = Sql(f"p.id IN ({patients.text})", params)
    else:
        where = Sql(f"s.id IN ({studies.text})", params)
    driver = condition.driver
    if driver is not None:
        both = None if driver.patients is None else union([driver.patients, patients])
        driver = Driver(driver.rank, union([driver.studies, studies]), both)
    return replace(condition, where=any_of([condition.where, where]), driver=driver)


def _series(context: Context, condition: Condition, values: Sequence[str]) -> Condition:
    """What was received in a series and is shown in another one now."""
    uids = tuple(pack_uid(one) for one in values if not _is_shown(context.read, "series", context.tenant_id, one))
    if not uids or condition.driver is None:
        return condition
    named = (
        f"FROM series h CROSS JOIN moved m CROSS JOIN series f WHERE h.uid IN ({', '.join('?' * len(uids))})"
        " AND h.tenant_id = ? AND m.home_id = h.id AND f.id = m.series_id"
    )
    params = (*uids, context.tenant_id)
    where = Sql(f"e.id IN (SELECT f.id {named})", params)
    driver = Driver(
        condition.driver.rank,
        union([condition.driver.studies, Sql(f"SELECT f.study_id AS id {named}", params)]),
    )
    return replace(condition, where=any_of([condition.where, where]), driver=driver)


def _is_shown(read: Reader, table: str, tenant_id: int, uid: str) -> bool:
    sql = f"SELECT 1 FROM {table} WHERE uid = ? AND tenant_id = ? AND instances + rejected > 0 LIMIT 1"  # noqa: S608
    return read.one(sql, (pack_uid(uid), tenant_id)) is not None
