"""The canonical dump: what the index knows, in an order and in words that depend on nothing but the log.

Owns: JSON lines, one a row, sorted by natural keys. Must never: hold row ids, places, change numbers, ordinals of arrival or
anything else that a rebuild may give another value: a dump before the database was lost and after the rebuild are the
same bytes. By name not in it: sessions, failed sign-ins, cursors, heartbeats, changes, last uses of tokens, commitments,
transfers, arrivals, what is noted of devices, reports to peers, knocks, and the audit trail (its last seconds may not be in
the log yet). Run it inside `Database.snapshot()`. Memory: one page of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from radiolith.index import codes
from radiolith.index.attributes import INSTANCE_COLUMNS, PATIENT_COLUMNS, SERIES_COLUMNS, STUDY_COLUMNS
from radiolith.index.counts import parse_classes
from radiolith.index.descriptions import NOBODY
from radiolith.index.heldrows import tenant_uid
from radiolith.index.schema import columns_of
from radiolith.index.session import Reader, Values
from radiolith.index.uids import unpack_uid

PAGE = 1000  # rows a statement


def dump(read: Reader) -> Iterator[str]:
    """Lines without line ends."""
    for kind, row in _rows(read):
        yield json.dumps([kind, row], ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_text)


def _text(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    raise TypeError(f"{type(value).__name__} in a dump")


def _rows(read: Reader) -> Iterator[tuple[str, dict[str, Any]]]:
    tenants = read.all("SELECT uid, name, id FROM tenants ORDER BY uid")
    for uid, name, tenant_id in tenants:
        yield "tenant", {"uid": uid, "name": name}
        yield from _patients(read, tenant_id)
        for row in _paged(read, "studies", "uid", tenant_id):
            yield from _study(read, row)
        yield from _quarantine(read, tenant_id)
        yield from _decided(read, tenant_id)
        yield from _labels(read, tenant_id)
    for table in ("voids", "released"):
        for row in read.all(f"SELECT object_id FROM {table} ORDER BY object_id"):  # noqa: S608
            yield table, {"object": row[0]}
    for row in _duplicates(read):
        yield "duplicate", {"object": row[0], "of": row[1]}


def _paged(read: Reader, table: str, key: str, tenant_id: int, columns: str = "*") -> Iterator[dict[str, Any]]:
    """Rows of a tenant in the order of a unique column, as dicts."""
    last: Any = None
    names = columns_of(table) if columns == "*" else columns.split(", ")
    while True:
        after = f" AND {key} > ?" if last is not None else ""
        sql = f"SELECT {', '.join(names)} FROM {table} WHERE tenant_id = ? AND {key} IS NOT NULL{after} ORDER BY {key} LIMIT ?"  # noqa: S608
        rows = read.all(sql, (tenant_id, *([last] if last is not None else []), PAGE))
        for row in rows:
            yield dict(zip(names, row, strict=True))
        if len(rows) < PAGE:
            return
        last = rows[-1][names.index(key)]


def _optional(found: dict[str, Any]) -> dict[str, Any]:
    """What is not there is no line's business: dumps of before version 6 stay as they are."""
    return {key: value for key, value in found.items() if value is not None and value != []}


# ---------------------------------------------------------------- patients


def _patients(read: Reader, tenant_id: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in _paged(read, "patients", "anchor", tenant_id):
        if not _is_patient(read, row):
            continue
        yield "patient", _patient(read, row, [unpack_uid(row["anchor"])])
    after: Sequence[str] = ("", "")
    while True:
        rows = read.all(
            "SELECT value, issuer, issuer_type, type, patient_id FROM patient_identifiers"
            " WHERE tenant_id = ? AND (value, issuer) > (?, ?) ORDER BY value, issuer LIMIT ?",
            (tenant_id, *after, PAGE),
        )
        for value, issuer, issuer_type, kind, patient_id in rows:
            columns = ", ".join(("id", "state", "first_key", *PATIENT_COLUMNS))
            found = read.one(f"SELECT {columns} FROM patients WHERE id = ?", (patient_id,))  # noqa: S608
            if found is not None and _is_patient(read, dict(zip(columns.split(", "), found, strict=True))):
                patient = dict(zip(columns.split(", "), found, strict=True))
                yield "patient", _patient(read, patient, [value, issuer, issuer_type, kind])
        if len(rows) < PAGE:
            return
        after = rows[-1][:2]


def _is_patient(read: Reader, row: dict[str, Any]) -> bool:
    """Not one that only a word names, and nothing is shown as his."""
    if bytes(row["first_key"]) != NOBODY:
        return True
    return read.one("SELECT 1 FROM studies WHERE patient_id = ? AND instances + rejected > 0", (row["id"],)) is not None


def _patient(read: Reader, row: dict[str, Any], name: list[str]) -> dict[str, Any]:
    claimed = read.all(
        "SELECT value, issuer, issuer_type, type FROM claimed_identifiers WHERE patient_id = ? ORDER BY 1, 2, 3, 4",
        (row["id"],),
    )
    shown = {column: row[column] for column in ("state", "first_key", *PATIENT_COLUMNS)}
    return {"is": name, **shown, "claimed": [list(one) for one in claimed], "names": _names(read, row["id"], (0, 1))}


def _names(read: Reader, owner: int, kinds: tuple[int, int]) -> list[list[Any]]:
    rows = read.all(
        "SELECT kind, name FROM names WHERE owner_id = ? AND kind IN (?, ?) ORDER BY kind, name", (owner, *kinds)
    )
    return [list(row) for row in rows]


def _patient_name(read: Reader, patient_id: int | None) -> Any:
    """How a study names its patient."""
    if patient_id is None:
        return None
    row = read.one(
        "SELECT value, issuer FROM patient_identifiers WHERE patient_id = ? ORDER BY value, issuer", (patient_id,)
    )
    anchor = None if row else read.one("SELECT anchor FROM patients WHERE id = ?", (patient_id,))
    return list(row) if row else unpack_uid(anchor[0]) if anchor else None


# ---------------------------------------------------------------- studies


def _study(read: Reader, row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    study = unpack_uid(row["uid"])
    if bytes(row["first_key"]) == NOBODY and not row["instances"] + row["rejected"]:
        return  # only a word names it
    named = read.all("SELECT patient_id FROM study_patients WHERE study_id = ?", (row["id"],))
    others = sorted((_patient_name(read, one[0]) for one in named), key=repr) if len(named) > 1 else []
    names = read.all(
        "SELECT kind, value, issuer FROM study_names WHERE study_id = ? ORDER BY kind, value, issuer", (row["id"],)
    )
    home = row["home_patient"]
    counted = ("modalities", "series", "instances", "rejected", "size", "changed_at", "first_key")
    yield (
        "study",
        {
            "uid": study,
            "patient": _patient_name(read, row["patient_id"]),
            **{column: row[column] for column in (*STUDY_COLUMNS, *counted)},
            "classes": sorted(codes.decode(read, int(code)) for code in row["classes"].split(",") if code),
            "names": _names(read, row["id"], (2, 3)),
            "listed": [
                list(one)
                for one in read.all(
                    "SELECT modality, study_date FROM study_modalities WHERE tenant_id = ? AND study_id = ?"
                    " ORDER BY modality, study_date",
                    (row["tenant_id"], row["id"]),
                )
            ],
            **_optional(
                {
                    "received": _patient_name(read, home) if home is not None else None,
                    "patients": others,
                    "old_names": [list(one) for one in names],
                }
            ),
        },
    )
    names = columns_of("series")
    sql = f"SELECT {', '.join(names)} FROM series WHERE study_id = ? ORDER BY uid"  # noqa: S608
    for values in read.all(sql, (row["id"],)):
        yield from _series(read, study, dict(zip(names, values, strict=True)))


def _series(read: Reader, study: str, row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    series = unpack_uid(row["uid"])
    if bytes(row["first_key"]) == NOBODY and not row["instances"] + row["rejected"]:
        return
    requests = read.all(
        "SELECT step, procedure, accession FROM series_requests WHERE series_id = ? ORDER BY item", (row["id"],)
    )
    yield (
        "series",
        {
            "study": study,
            "uid": series,
            **{column: row[column] for column in (*SERIES_COLUMNS, "instances", "rejected", "size", "first_key")},
            "classes": {codes.decode(read, code): count for code, count in parse_classes(row["classes"]).items()},
            "requests": [list(one) for one in requests],
        },
    )
    extras = read.one("SELECT 1 FROM extras LIMIT 1") is not None
    for held in _instances(read, row["id"]):
        also = _extras(read, held["id"]) if extras else {}
        yield "instance", {"study": study, "series": series, **_instance(read, held), **_received(read, held), **also}


def _received(read: Reader, row: dict[str, Any]) -> dict[str, Any]:
    """Where an instance was received that is shown elsewhere, and how its header is corrected there."""
    if row["home_id"] is None:
        return {}
    found = read.one(
        "SELECT t.uid, h.uid, m.overlay FROM series h JOIN studies t ON t.id = h.study_id LEFT JOIN moved m"
        " ON m.home_id = h.id AND m.series_id = ? WHERE h.id = ?",
        (row["series_id"], row["home_id"]),
    )
    study, series, overlay = found or (b"", b"", None)
    return {"home": [unpack_uid(bytes(study)), unpack_uid(bytes(series))], **_optional({"overlay": overlay})}


def _instances(read: Reader, series_id: int) -> Iterator[dict[str, Any]]:
    names = columns_of("instances")
    after: Sequence[bytes] = (b"", b"")
    sql = (
        f"SELECT {', '.join(names)} FROM instances WHERE series_id = ? AND (uid, object_id) > (?, ?)"  # noqa: S608
        " ORDER BY uid, object_id LIMIT ?"
    )
    while rows := read.all(sql, (series_id, *after, PAGE)):
        yield from (dict(zip(names, row, strict=True)) for row in rows)
        after = (rows[-1][names.index("uid")], rows[-1][names.index("object_id")])


def _instance(read: Reader, row: dict[str, Any]) -> dict[str, Any]:
    as_is = ("current", "conflict", "policy", "received_at", "size", "object_id", "sha256", "layout", "encoding_of")
    source = codes.source(read, row["source"])
    return {
        "sop": unpack_uid(row["uid"]),
        **{column: row[column] for column in (*INSTANCE_COLUMNS, *as_is)},
        "class": codes.decode(read, row["class"]),
        "syntax": codes.decode(read, row["syntax"]),
        "rejected": codes.decode(read, row["reason"]),
        "source": [source.door, source.peer, source.address],
        "principal": codes.decode(read, row["principal"]),
        "scope": codes.scope(read, row["scope_id"]).id,
    }


def _extras(read: Reader, row_id: int) -> dict[str, Any]:
    """What a setting made searchable; nothing where it did not."""
    rows = read.all("SELECT attribute, value FROM extras WHERE instance_id = ?", (row_id,))
    return {"extras": sorted([codes.decode(read, code), value] for code, value in rows)} if rows else {}


# ---------------------------------------------------------------- the rest


def _quarantine(read: Reader, tenant_id: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in _paged(read, "quarantine", "object_id", tenant_id):
        as_is = ("object_id", "size", "original_size", "sha256", "reason", "received_at", "sop_class", "released")
        source = codes.source(read, row["source"])
        yield (
            "quarantine",
            {
                **{column: row[column] for column in as_is},
                "source": [source.door, source.peer, source.address],
                "principal": codes.decode(read, row["principal"]),
                "guess": json.loads(row["guess"]),
            },
        )


def _decided(read: Reader, tenant_id: int) -> Iterator[tuple[str, dict[str, Any]]]:
    after: Values = (b"", b"", b"", 0)
    sql = (
        "SELECT study, series, sop, kind, at, fact, value FROM decisions WHERE tenant_id = ?"
        " AND (study, series, sop, kind) > (?, ?, ?, ?) ORDER BY study, series, sop, kind LIMIT ?"
    )
    while rows := read.all(sql, (tenant_id, *after, PAGE)):
        for study, series, sop, kind, at, fact, value in rows:
            identity = [unpack_uid(study), unpack_uid(series), unpack_uid(sop)]
            yield "decision", {"identity": identity, "kind": kind, "at": at, "fact": fact, "value": value}
        after = rows[-1][:4]
    for kind, name, at, fact, removed, body in read.all(
        "SELECT kind, name, at, fact, removed, body FROM registry WHERE tenant_id = ? ORDER BY kind, name", (tenant_id,)
    ):
        yield (
            "registry",
            {"kind": kind, "name": name, "at": at, "fact": fact, "removed": removed, "body": json.loads(body)},
        )
    yield from _said(read, tenant_id)
    tenant = tenant_uid(read, tenant_id)
    for row in _paged(read, "facts", "object_id", tenant_id):
        shown = {
            "object": row["object_id"],
            "kind": row["kind"],
            "at": row["at"],
            "by": row["by_name"],
            "known": row["known"],
        }
        yield "fact", {"tenant": tenant, **shown}


_LABELLED = (
    "SELECT i.value, i.issuer, l.name, l.value FROM labels l JOIN patient_identifiers i ON i.patient_id = l.owner_id"
    " WHERE l.tenant_id = ? AND l.level = 0 ORDER BY 1, 2, 3",
    "SELECT p.anchor, NULL, l.name, l.value FROM labels l JOIN patients p ON p.id = l.owner_id"
    " WHERE l.tenant_id = ? AND l.level = 0 AND p.anchor IS NOT NULL ORDER BY 1, 3",
    "SELECT s.uid, NULL, l.name, l.value FROM labels l JOIN studies s ON s.id = l.owner_id"
    " WHERE l.tenant_id = ? AND l.level = 1 ORDER BY 1, 3",
    "SELECT s.uid, e.uid, l.name, l.value FROM labels l JOIN series e ON e.id = l.owner_id JOIN studies s ON s.id = e.study_id"
    " WHERE l.tenant_id = ? AND l.level = 2 ORDER BY 1, 2, 3",
)
"""Two columns of names, and the label: of patients by identifier and by study, of studies, of series."""


def _labels(read: Reader, tenant_id: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for sql in _LABELLED:
        for *names, name, value in read.all(sql, (tenant_id,)):
            owner = [part if isinstance(part, str) else unpack_uid(bytes(part)) for part in names if part is not None]
            yield "label", {"is": owner, "name": name, "value": value}


_WORDS = "level, study, series, sop, patient, issuer, slot, at, fact, op, value, target, target_patient, target_issuer"
_HISTORY = "study, series, sop, at, fact, kind, op, value"
_OPERATIONS = "op, at, fact, undone, undone_at, undone_fact, kind, by_name, why, reason, origin"


def _said(read: Reader, tenant_id: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What people said, active or not. Of rejections only those that are operations: others from before version 6 are in
    the index by their last word alone, until a rebuild."""
    for kind, table, columns, key, where in (
        ("word", "words", _WORDS, "level, study, series, sop, patient, issuer, slot, at, fact", ""),
        ("operation", "operations", _OPERATIONS, "op", ""),
        ("history", "history", _HISTORY, "study, series, sop, at, fact, kind", "op <> fact"),
    ):  # fmt: skip
        names = columns.split(", ")
        uids = {"study", "series", "sop", "target"}
        wanted = f" AND {where}" if where else ""
        sql = f"SELECT {columns} FROM {table} WHERE tenant_id = ?{wanted} ORDER BY {key}"  # noqa: S608
        for values in read.stream(sql, (tenant_id,)):
            row = dict(zip(names, values, strict=True))
            yield kind, {name: unpack_uid(bytes(value)) if name in uids else value for name, value in row.items()}


def _duplicates(read: Reader) -> Iterator[Values]:
    after = b""
    sql = (
        "SELECT d.object_id, i.object_id FROM duplicates d JOIN instances i ON i.id = d.instance_id"
        " WHERE d.object_id > ? ORDER BY d.object_id LIMIT ?"
    )
    while rows := read.all(sql, (after, PAGE)):
        yield from rows
        after = rows[-1][0]
