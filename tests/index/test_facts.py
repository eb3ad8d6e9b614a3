"""Facts, accounts, audit rows, quarantine, segments: what the log's decisions make of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from radiolith.index import accounts, audit, facts, instances, segments
from radiolith.index.database import Database
from radiolith.index.facts import KINDS
from radiolith.index.instances import Quarantined, RejectedRow
from radiolith.index.search import search
from radiolith.model import AuditEvent, Blob, Fact, Held, Identity, Level, Place, Query, Scope, Source
from tests.index.conftest import TENANT
from tests.index.objects import Maker

IDENTITY = Identity("1.2.3", "1.2.3.4", "1.2.3.4.5")
ITEM = ["1.2.3", "1.2.3.4", "1.2.3.4.5"]


def tell(database: Database, kind: str, at: int, body: dict[str, object], name: bytes = b"") -> facts.Applied:
    with database.write() as tx:
        return facts.apply(
            tx, Fact(kind, at, "admin", TENANT.uid, body), name or f"{kind}{at}".encode().ljust(16, b".")
        )


def store(database: Database, seed: int = 1) -> Maker:
    maker = Maker(seed)
    with database.write() as tx:
        instances.insert(tx, [maker.one(IDENTITY)])
    return maker


def shown(database: Database, view: str = "normal") -> int:
    with database.read() as read:
        return len(search(read, TENANT.id, Query(Level.STUDY, view=view)).rows)


def located(database: Database, *, include_rejected: bool = False) -> list[Held]:
    with database.read() as read:
        return list(instances.locate(read, TENANT.id, "1.2.3", include_rejected=include_rejected))


def test_what_is_rejected_leaves_the_views_and_comes_back(database: Database) -> None:
    maker = store(database)
    tell(database, "reject", maker.now + 1, {"reason": "113001", "items": [ITEM]})
    assert (shown(database), shown(database, "rejected"), located(database)) == (0, 1, [])
    assert [held.rejected for held in located(database, include_rejected=True)] == ["113001"]
    with database.read() as read:
        assert instances.rejected(read, TENANT.id) == [RejectedRow(*ITEM, "113001", maker.now + 1, "admin")]
        assert instances.rejected(read, TENANT.id, after=IDENTITY.sop) == []
        assert instances.rejected(read, TENANT.id + 1) == []
    tell(database, "restore", maker.now + 2, {"items": [ITEM]})
    assert (shown(database), shown(database, "rejected"), len(located(database))) == (1, 0, 1)
    with database.read() as read:
        assert instances.rejected(read, TENANT.id) == []


def test_the_later_word_holds_whatever_the_order(database: Database) -> None:
    maker = store(database)
    tell(database, "restore", maker.now + 5, {"items": [ITEM]})
    tell(database, "reject", maker.now + 4, {"reason": "113001", "items": [ITEM]})
    assert shown(database) == 1
    same = maker.now + 9
    tell(database, "reject", same, {"reason": "113001", "items": [ITEM]}, b"b" * 16)
    tell(database, "restore", same, {"items": [ITEM]}, b"a" * 16)
    assert shown(database) == 0


def test_a_version_of_something_rejected_is_rejected(database: Database) -> None:
    maker = store(database)
    tell(database, "reject", maker.now + 1, {"reason": "113037", "items": [ITEM]})
    with database.write() as tx:
        (verdict,) = instances.insert(
            tx, [replace(maker.one(IDENTITY), policy="newest", source=Source("dimse", "AE1"))]
        )
    assert verdict.held.rejected == "113037"
    assert shown(database) == 0


def test_facts_are_applied_once(database: Database) -> None:
    assert tell(database, "user", 5, {"name": "anna", "role": "reader", "password": "x"}).known
    with database.write() as tx:
        accounts.put_session(tx, accounts.Session(b"s" * 32, TENANT.id, "anna", 1, 1, 99))
    assert tell(database, "user", 5, {"name": "anna", "role": "reader", "password": "x"}) == facts.Applied()
    tell(database, "user-remove", 6, {"name": "anna"})
    with database.read() as read:
        assert accounts.user(read, TENANT.id, "anna") is None
        assert accounts.session(read, b"s" * 32) is None
    tell(database, "user", 5, {"name": "anna", "role": "admin", "password": "x"}, b"late fact".ljust(16))
    with database.read() as read:
        assert accounts.users(read, TENANT.id) == []


def test_unknown_and_unfit_facts_are_kept_and_reported(database: Database) -> None:
    answer = tell(database, "erase", 5, {"study": "1.2"})
    assert not answer.known and "erase" in answer.problem
    for kind in KINDS:
        for body in (
            {},
            {"items": [["1"]], "reason": "1"},
            {"items": 5, "reason": 5},
            {"object": "zz", "identity": [1, 2, 3]},
        ):
            applied = tell(database, kind, 7, body, f"{kind}{body}".encode()[-16:].rjust(16))  # type: ignore[arg-type]
            assert applied.known or applied.problem, (kind, body)
    with database.read() as read:
        kept = facts.unknown(read)
        assert (b"erase5".ljust(16, b"."), "erase", 5) in kept and len(kept) > 10


# ---------------------------------------------------------------- accounts


def test_accounts(database: Database) -> None:
    tell(database, "user", 5, {"name": "anna", "role": "reader", "password": "$argon2id$", "language": "de"})
    tell(database, "token", 6, {"secret": "ab" * 32, "name": "viewer", "role": "reader", "expires": 99})
    tell(database, "peer", 7, {"name": "pacs", "aet": "PACS", "address": "10.0.0.1", "port": 104})
    with database.write() as tx:
        accounts.token_used(tx, b"\xab" * 32, 50)
        accounts.token_used(tx, b"\xab" * 32, 60)
    with database.read() as read:
        assert accounts.user(read, TENANT.id, "anna") == accounts.User(
            "anna", "reader", "$argon2id$", 5, {"language": "de"}
        )
        assert accounts.user(read, TENANT.id + 1, "anna") is None
        token = accounts.Token("ab" * 32, "viewer", "reader", 6, 99, 60)
        assert accounts.token(read, b"\xab" * 32) == (TENANT.id, token)
        assert accounts.tokens(read, TENANT.id) == [token]
        assert accounts.token(read, b"\xac" * 32) is None
        (peer,) = accounts.peers(read, TENANT.id)
        assert peer.more["aet"] == "PACS" and accounts.peer(read, TENANT.id, "pacs") == peer
        assert [t.name for t in accounts.tenants(read)] == ["default"]


def test_sessions(database: Database) -> None:
    with database.write() as tx:
        for n in range(3):
            accounts.put_session(tx, accounts.Session(bytes([n]) * 32, TENANT.id, "anna", 1, 1, 10 + n, "::1"))
        accounts.session_seen(tx, b"\0" * 32, 5, 50)
        assert accounts.expire_sessions(tx, 11) == 1
        accounts.drop_session(tx, b"\2" * 32)
    with database.read() as read:
        assert accounts.session(read, b"\0" * 32) == accounts.Session(b"\0" * 32, TENANT.id, "anna", 1, 5, 50, "::1")
        assert accounts.session(read, b"\1" * 32) is None


def test_tenants_named_later(database: Database) -> None:
    with database.write() as tx:
        row = accounts.tenant_row(tx, b"N" * 16)
        assert accounts.tenant_row(tx, b"N" * 16) == row
    with database.write() as tx:
        facts.apply(tx, Fact("tenant", 5, "init", b"N" * 16, {"name": "north"}), b"n" * 16)
    with database.read() as read:
        assert [(t.id, t.name) for t in accounts.tenants(read)] == [(TENANT.id, "default"), (row, "north")]


# ---------------------------------------------------------------- audit

EVENT = AuditEvent(100, TENANT.id, "anna", "retrieve", "1.2.3", "treatment", source="stow 10.0.0.1")


def test_audit_rows_and_lazy_counts(database: Database) -> None:
    with database.write() as tx:
        first, second = audit.insert(tx, [EVENT, replace(EVENT, study="", principal="x\x00y" * 1000)])
    with database.write() as tx:
        audit.bump(tx, {first: 41})
    with database.read() as read:
        latest = audit.events(read, TENANT.id)
        assert latest[1] == (first, replace(EVENT, count=42))
        assert latest[0][0] == second and len(latest[0][1].principal) == 1000
        assert audit.events(read, TENANT.id, before=second) == latest[1:]
        assert audit.events(read, TENANT.id + 1) == []


def test_audit_is_copied_to_the_log_and_comes_back(database: Database, fresh: Callable[[str], Database]) -> None:
    with database.write() as tx:
        audit.insert(tx, [EVENT, replace(EVENT, at=200), replace(EVENT, at=900)])
    with database.read() as read:
        body = audit.uncopied(read, TENANT.id, until=500)
    assert body is not None and len(body["events"]) == 2  # type: ignore[arg-type]
    for _ in range(2):
        tell(database, "audit", 1000, body)
    with database.read() as read:
        assert audit.uncopied(read, TENANT.id, until=500) is None
        assert len(audit.events(read, TENANT.id)) == 3
    rebuilt = fresh("sqlite")
    tell(rebuilt, "audit", 1000, body)
    with rebuilt.read() as read:
        assert [event for _, event in audit.events(read, TENANT.id)] == [replace(EVENT, at=200), EVENT]
        assert audit.uncopied(read, TENANT.id, until=5000) is None


# ---------------------------------------------------------------- quarantine, segments, leases


def sidelined(n: int) -> Quarantined:
    blob = Blob(Place(b"S" * 16, n, 50), bytes([n]) * 16, TENANT.uid, Scope(b"q" * 16, 3), b"k" * 40, 40)
    return Quarantined(blob, f"reason {n}", n, Source("stow", "t"), "anna", 40, b"h" * 32, "1.2.840", {"study": "1.2"})


def test_quarantine(database: Database) -> None:
    with database.write() as tx:
        for n in (1, 2, 3, 3):
            instances.add_quarantined(tx, TENANT.id, sidelined(n))
    with database.read() as read:
        assert instances.quarantined(read, TENANT.id) == [sidelined(3), sidelined(2), sidelined(1)]
        assert instances.quarantined(read, TENANT.id, 1, after=(b"\3" * 16).hex()) == [sidelined(2)]
        assert instances.quarantined(read, TENANT.id, after="nothing") == []
        assert instances.quarantined(read, TENANT.id + 1) == []
        assert instances.quarantined_one(read, TENANT.id, b"\2" * 16) == sidelined(2)
        assert instances.quarantined_one(read, TENANT.id + 1, b"\2" * 16) is None
        assert instances.blob_of(read, b"\2" * 16) == sidelined(2).blob
    tell(database, "release", 5, {"object": (b"\2" * 16).hex()})
    tell(database, "release", 5, {"object": (b"\4" * 16).hex()}, b"before its row!!")
    with database.write() as tx:
        instances.add_quarantined(tx, TENANT.id, sidelined(4))
    with database.read() as read:
        assert instances.quarantined(read, TENANT.id) == [sidelined(3), sidelined(1)]
        assert instances.quarantined_one(read, TENANT.id, b"\2" * 16) == replace(sidelined(2), released=True)


def test_watermarks_only_rise(database: Database) -> None:
    with database.write() as tx:
        instances.note_segments(tx, {b"a" * 16: 500, b"b" * 16: 100})
        instances.note_segments(tx, {b"a" * 16: 400})
        instances.record_segment(tx, b"b" * 16, "hot", sealed=True, indexed_end=900)
        instances.record_segment(tx, b"c" * 16, "hot", sealed=False, indexed_end=0)
    with database.read() as read:
        assert instances.segment_marks(read) == {b"a" * 16: 500, b"b" * 16: 900, b"c" * 16: 0}


def test_leases_and_heartbeats(database: Database) -> None:
    with database.write() as tx:
        assert segments.take_lease(tx, "merge", "one", 10, 20)
        assert segments.take_lease(tx, "merge", "one", 15, 25)
        assert not segments.take_lease(tx, "merge", "two", 24, 40)
        assert segments.take_lease(tx, "merge", "two", 26, 40)
        assert not segments.take_lease(tx, "merge", "one", 30, 50)
        assert segments.take_lease(tx, "merge", "one", 41, 50)
        segments.beat(tx, "w1", 1, 5)
        segments.beat(tx, "w1", 1, 9, "busy")
    with database.read() as read:
        assert segments.nodes(read, 6) == [segments.Node("w1", 1, 9, "busy")]
        assert segments.nodes(read, 10) == []


@pytest.mark.parametrize("text", ["ab" * 400, "\x00nul", "umläut 山田"])
def test_any_text_fits(database: Database, text: str) -> None:
    tell(database, "user", 5, {"name": text.replace("\x00", ""), "role": text, "password": text})
    with database.read() as read:
        found = accounts.user(read, TENANT.id, text.replace("\x00", ""))
    assert found is not None and found.role == text.replace("\x00", "")
