"""Rejections, restorations, choices of versions and recognised encodings: the words about single instances.

Owns: the tables `history` (every word) and `decisions` (of each register the newest active one). Must never: choose. Identities
are those of reception; where several are shown as one instance, the newest word about any of them holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from radiolith.index import codes, shown, words
from radiolith.index.changes import ChangeKind, record
from radiolith.index.counts import Tally
from radiolith.index.heard import Heard, text
from radiolith.index.identities import Decision, Decisions, HeldRow, Parent, load, settle
from radiolith.index.session import Writer
from radiolith.index.uids import pack_uid

Identity = tuple[bytes, bytes, bytes]  # packed study, series and SOP UID


def _identity(item: object) -> Identity:
    if not isinstance(item, (list, tuple)) or len(item) != 3:  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError("an identity is a list of three UIDs")
    study, series, sop = (text(part) for part in item)  # pyright: ignore[reportUnknownVariableType]
    return pack_uid(study), pack_uid(series), pack_uid(sop)


def _reject(heard: Heard) -> None:
    reason = text(heard.body["reason"])
    _decide(heard, "reject", [_identity(item) for item in heard.body["items"]], reason)


def _restore(heard: Heard) -> None:
    _decide(heard, "restore", [_identity(item) for item in heard.body["items"]], "")


def _current(heard: Heard) -> None:
    object_id = bytes.fromhex(text(heard.body["object"] if "object" in heard.body else heard.body["object_id"]))
    _decide(heard, "current", [_identity(heard.body["identity"])], object_id.hex())


def _encoding(heard: Heard) -> None:
    """One version turned out to be another one's content in another syntax."""
    identity = _identity(heard.body["identity"])
    object_id = bytes.fromhex(text(heard.body["object"]))
    original = bytes.fromhex(text(heard.body["encoding_of"]))
    tx = heard.tx
    row = _lock(tx, heard.tenant_id, identity[0])
    if row is None:
        raise ValueError("the instance is not held")
    changed = tx.run(
        "UPDATE instances SET encoding_of = ? WHERE uid = ? AND object_id = ? AND tenant_id = ?",
        (original, identity[2], object_id, heard.tenant_id),
    )
    if not changed and tx.one("SELECT 1 FROM series WHERE uid = ? AND study_id = ?", (identity[1], row)) is None:
        raise ValueError("the instance is not held")
    _note(heard, "encoding", [identity], original.hex())
    _settled(heard, {identity[0]: row}, [identity])


KINDS = {
    "reject": _reject,  # reason, items [[study, series, sop], …]; op, note
    "restore": _restore,  # items; op
    "current": _current,  # identity [study, series, sop], object; op
    "encoding": _encoding,  # identity, object, encoding_of: applied after the objects it names
    "resolve": _current,  # the same as current: a choice between versions in conflict
}


def _lock(tx: Writer, tenant_id: int, study: bytes) -> int | None:
    row = tx.one(f"SELECT id FROM studies WHERE uid = ? AND tenant_id = ?{tx.lock_rows}", (study, tenant_id))  # noqa: S608
    return row[0] if row else None


def _note(heard: Heard, kind: str, identities: Iterable[Identity], value: str) -> None:
    word, op = heard.word, words.operation_of(heard, needed=False)
    heard.tx.run_many(
        "INSERT INTO history(tenant_id, study, series, sop, at, fact, kind, op, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        [(heard.tenant_id, *identity, word.at, word.fact, kind, op, value) for identity in identities],
    )


def _decide(heard: Heard, kind: str, identities: list[Identity], value: str) -> None:
    """Note a decision about each identity and bring what is held of it up to date."""
    tx, word, op = heard.tx, heard.word, words.operation_of(heard, needed=False)
    identities = sorted(set(identities))
    if kind == "reject":
        codes.encode(tx, codes.Code.REASON, 0, [value])  # before any study is locked, as everywhere
    counts = words.note(heard, kind, op) if "op" in heard.body else not words.is_undone(tx, heard.tenant_id, op)
    studies = {study: _lock(tx, heard.tenant_id, study) for study in sorted({one[0] for one in identities})}
    _note(heard, kind, identities, value)
    register = Decision.CURRENT if kind == "current" else Decision.REJECTED
    fresh = [
        identity
        for identity in identities
        if counts
        and tx.run(
            "INSERT INTO decisions(tenant_id, study, series, sop, kind, at, fact, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (tenant_id, study, series, sop, kind) DO UPDATE SET at = excluded.at, fact = excluded.fact,"
            " value = excluded.value WHERE (decisions.at, decisions.fact) < (excluded.at, excluded.fact)",
            (heard.tenant_id, *identity, int(register), word.at, word.fact, value),
        )
    ]
    at = max(word.at, words.last_undo(tx, heard.tenant_id, op))
    _settled(heard, studies, fresh, at)


def undone(heard: Heard, op: bytes) -> None:
    """An operation was undone or done again: of what it decided the newest word that is active now holds."""
    tx, tenant_id = heard.tx, heard.tenant_id
    rows = tx.all(
        "SELECT DISTINCT study, series, sop, kind FROM history WHERE tenant_id = ? AND op = ? AND kind <> 'encoding'",
        (tenant_id, op),
    )
    said = sorted({(bytes(row[0]), bytes(row[1]), bytes(row[2]), row[3] == "current") for row in rows})
    if not said:
        return
    studies = {study: _lock(tx, tenant_id, study) for study in sorted({one[0] for one in said})}
    for study, series, sop, current in said:
        _pick(tx, tenant_id, (study, series, sop), Decision.CURRENT if current else Decision.REJECTED)
    _settled(heard, studies, sorted({one[:3] for one in said}), heard.word.at)


def _pick(tx: Writer, tenant_id: int, identity: Identity, register: Decision) -> None:
    kinds = ("current", "current") if register is Decision.CURRENT else ("reject", "restore")
    row = tx.one(
        "SELECT h.at, h.fact, h.value FROM history h LEFT JOIN operations o ON o.tenant_id = h.tenant_id AND o.op = h.op"
        " WHERE h.tenant_id = ? AND h.study = ? AND h.series = ? AND h.sop = ? AND h.kind IN (?, ?)"
        " AND COALESCE(o.undone, 0) = 0 ORDER BY h.at DESC, h.fact DESC LIMIT 1",
        (tenant_id, *identity, *kinds),
    )
    key = (tenant_id, *identity, int(register))
    tx.run("DELETE FROM decisions WHERE tenant_id = ? AND study = ? AND series = ? AND sop = ? AND kind = ?", key)
    if row is not None:
        tx.run(
            "INSERT INTO decisions(tenant_id, study, series, sop, kind, at, fact, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, *row),
        )


# ---------------------------------------------------------------- what follows


def _settled(
    heard: Heard, studies: dict[bytes, int | None], identities: Sequence[Identity], at: int | None = None
) -> None:
    """Bring up to date what is held of identities; their studies are locked. `at`: something was said about the studies."""
    tx, tally, happened = heard.tx, Tally(), list[tuple[int, ChangeKind, int, int, int]]()
    revised: dict[int, set[int]] = {}
    known = Decisions(tx, heard.tenant_id)
    for study, row_id in studies.items():
        if row_id is None:
            continue
        if study and at is not None:
            tally.touch(row_id, at)
        for key, rows in _groups(tx, row_id, [one for one in identities if one[0] == study]).items():
            parent = _parent(tx, key[0], row_id, bool(study))
            before = rows[0].reason
            taken_over = settle(tx, rows, known.of(key, rows), parent, tally)
            now = next(row for row in rows if row.current)
            if before != now.reason:
                change = ChangeKind.REJECTED if now.reason else ChangeKind.RESTORED
                happened.append((heard.tenant_id, change, parent.study_id, now.id, heard.word.at))
            if taken_over is not None:
                happened.append((heard.tenant_id, ChangeKind.SWITCHED, parent.study_id, taken_over, heard.word.at))
                if study:
                    revised.setdefault(parent.study_id, set()).add(key[0])
                    revised.setdefault(row_id, set()).update({one.home_id or key[0] for one in rows})
    tally.apply(tx)
    record(tx, happened)
    shown.revise(tx, heard.tenant_id, revised)


def _groups(tx: Writer, study_id: int, identities: Sequence[Identity]) -> dict[tuple[int, bytes], list[HeldRow]]:
    """All that is shown as the instances that were received under these identities."""
    series = {
        uid: row[0]
        for uid in sorted({identity[1] for identity in identities})
        if (row := tx.one("SELECT id FROM series WHERE uid = ? AND study_id = ?", (uid, study_id))) is not None
    }
    away = {uid for uid, row_id in series.items() if tx.one("SELECT 1 FROM moved WHERE home_id = ? LIMIT 1", (row_id,))}
    keys: dict[tuple[int, bytes], int] = {}
    for _, uid, sop in identities:
        home = series.get(uid)
        if home is not None:
            sql = "SELECT series_id FROM instances WHERE uid = ? AND home_id = ? LIMIT 1"
            row = tx.one(sql, (sop, home)) if uid in away else None
            keys[row[0] if row else home, sop] = home
    found = load(tx, keys)
    return {key: rows for key, rows in found.items() if any((row.home_id or key[0]) == keys[key] for row in rows)}


def _parent(tx: Writer, series_id: int, study_id: int, counted: bool) -> Parent:
    row = tx.one("SELECT study_id FROM series WHERE id = ?", (series_id,)) if counted else None
    return Parent(series_id, row[0] if row else study_id, counted=counted)
