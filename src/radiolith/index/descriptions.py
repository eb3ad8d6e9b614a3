"""What headers say of their patient, study and series, kept so that rows can be worked out anew.

Owns: the table `descriptions`, and which record's description a row shows. Must never: read a header. All objects of a series
say the same, nearly always: the series' row names its description, and an instance names one only where it says something else.

A row of a study or series shows what the first record received under its name says, or, where that identity holds several
versions, what the current one says (docs/decisions/115); a patient's row likewise, as long as that version names the same
patient. So a row is a function of the records and the decisions about them, whatever the order they came in.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from radiolith.index.attributes import PATIENT_COLUMNS, SERIES_COLUMNS, STUDY_COLUMNS
from radiolith.index.session import Reader, Writer
from radiolith.model import Description

Columns = Mapping[str, "str | int | None"]
NOBODY = b"\xff" * 24
"""`first_key` of a row that no record was received under: later than every real one."""


@dataclass(frozen=True, slots=True)
class Described:
    """As `model.Description`, without what belongs to the instance alone."""

    patient: Columns
    study: Columns
    series: Columns


NOTHING = Described({}, {}, {})


def equal(one: Description, other: Description) -> bool:
    """Whether two headers say the same of patient, study and series."""
    return one.series == other.series and one.study == other.study and one.patient == other.patient


def number(tx: Writer, tenant_id: int, described: Description) -> int:
    """The row of a description, made when it is new."""
    return _put(tx, tenant_id, [described.patient, described.study, described.series])


def _put(tx: Writer, tenant_id: int, parts: Sequence[Columns]) -> int:
    said = [{key: value for key, value in part.items() if value is not None} for part in parts]
    text = json.dumps(said, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.blake2b(text, digest_size=16).digest()
    known = tx.memory.recall("description numbers")
    found = known.get((tenant_id, digest))
    if found is None:
        row = tx.one(  # a new series nearly always says something new
            "INSERT INTO descriptions(tenant_id, digest, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
            (tenant_id, digest, _packed(text)),
        ) or tx.one("SELECT id FROM descriptions WHERE digest = ? AND tenant_id = ?", (digest, tenant_id))
        if row is None:
            raise RuntimeError("a description was neither found nor made")
        made = found = int(row[0])
        tx.after_commit(lambda: known.__setitem__((tenant_id, digest), made))
    return found


def load(read: Reader, row_id: int | None) -> Described:
    """What a row of `descriptions` says."""
    row = read.one("SELECT body FROM descriptions WHERE id = ?", (row_id,)) if row_id else None
    return Described(*json.loads(_unpacked(bytes(row[0])))) if row else NOTHING


_KNOWN = (
    b'"extras":{"claimed":"[[\\"requests":"[[\\"foreign":1,"id_type":"","issuer_type":"","issuer_key":"","accession_issuer":'
    b'"manufacturer":"institution":"station":"body_part":"protocol":"laterality":"step_time":"","step_date":20"modality":"CT",'
    b'"number":1,"description":"","referring":"^","timezone":"+0100","study_code":"","study_time":"12","study_date":20","accession":"'
    b'"traits":"{\\"birth_name\\":","sex":"F","sex":"M","patient_name":"^","patient_id":"","issuer":"","birth_date":19'
)
"""What every description repeats: left out where one is packed. Never to be changed: rows are read with it."""


def _packed(text: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, zdict=_KNOWN)
    return packer.compress(text) + packer.flush()


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(-15, zdict=_KNOWN)
    return unpacker.decompress(body) + unpacker.flush()


# ---------------------------------------------------------------- whose description counts


@dataclass(frozen=True, slots=True)
class First:
    """What the row of a name shows of what was received, and the first record under it."""

    described: Described
    object_id: bytes


_RECORD = (
    "SELECT i.uid, i.series_id, i.home_id, i.current, COALESCE(i.described, h.described), h.study_id"
    " FROM instances i CROSS JOIN series h WHERE h.id = COALESCE(i.home_id, i.series_id) AND"
)


def first(read: Reader, key: bytes, fits: Callable[[Described, int], bool] | None = None) -> First | None:
    """What counts of the record with this `first_key`: the current version of its identity, or itself where that one was
    received under another name or does not fit. `fits` is asked with a description and the row of the home study."""
    if key == NOBODY:
        return None
    row = read.one(f"{_RECORD} i.object_id = ?", (key[8:],))
    if row is None:
        return None
    uid, series_id, home, current, own, study_id = row
    if not current:
        now = read.one(f"{_RECORD} i.uid = ? AND i.series_id = ? AND i.current = 1", (uid, series_id))
        if now is not None and (now[2] or now[1]) == (home or series_id):
            said = load(read, now[4])
            if fits is None or fits(said, study_id):
                return First(said, key[8:])
    return First(load(read, own), key[8:])


# ---------------------------------------------------------------- databases of before


def adopt(tx: Writer) -> None:
    """Give every series of a database from before version 6 the description its rows show."""
    last = 0
    while page := _page(tx, last):
        for series_id, tenant_id, patient, study, series in page:
            tx.run(
                "UPDATE series SET described = ? WHERE id = ?",
                (_put(tx, tenant_id, [patient, study, series]), series_id),
            )
        last = page[-1][0]


def _page(tx: Writer, last: int) -> list[tuple[int, int, Columns, Columns, Columns]]:
    names = [
        *(f"p.{column}" for column in PATIENT_COLUMNS),
        *(f"s.{column}" for column in STUDY_COLUMNS),
        *(f"e.{column}" for column in SERIES_COLUMNS),
    ]
    rows = tx.all(
        f"SELECT e.id, e.tenant_id, p.id, {', '.join(names)} FROM series e JOIN studies s ON s.id = e.study_id"  # noqa: S608
        " LEFT JOIN patients p ON p.id = s.patient_id WHERE e.id > ? ORDER BY e.id LIMIT 500",
        (last,),
    )
    return [_shown(tx, row) for row in rows]


def _shown(tx: Writer, row: Sequence[Any]) -> tuple[int, int, Columns, Columns, Columns]:
    values: Iterator[Any] = iter(row[3:])
    patient = {column: next(values) for column in PATIENT_COLUMNS}
    study = {column: next(values) for column in STUDY_COLUMNS}
    series = {column: next(values) for column in SERIES_COLUMNS}
    identifier = tx.one(
        "SELECT issuer, issuer_type, type FROM patient_identifiers WHERE patient_id = ? ORDER BY value, issuer",
        (row[2],),
    )
    patient |= dict(zip(("issuer_key", "issuer_type", "id_type"), identifier or ("", "", ""), strict=True))
    claimed = tx.all(
        "SELECT value, issuer, issuer_type, type FROM claimed_identifiers WHERE patient_id = ? ORDER BY 1, 2, 3, 4",
        (row[2],),
    )
    requests = tx.all(
        "SELECT step, procedure, accession FROM series_requests WHERE series_id = ? ORDER BY item", (row[0],)
    )
    patient["claimed"] = json.dumps([list(one) for one in claimed]) if claimed else None
    series["requests"] = json.dumps([list(one) for one in requests]) if requests else None
    study["study_date"] = study["study_date"] or None
    return row[0], row[1], patient, study, series
