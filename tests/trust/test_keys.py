"""The key hierarchy over a real keyring in two files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from radiolith.config import Tier
from radiolith.model import BadInput, Blob, Damaged, NotFound, Place, Scope, Unavailable
from radiolith.storage.keyring import Keyring
from radiolith.storage.tiers import open_keyring
from radiolith.trust import keys as module
from radiolith.trust.keys import FACTS, STUDY, Keys, parse_root_key, read_root_key, recovery_text, write_root_key

ROOT = bytes(range(32))
TENANT = b"t" * 16


def ring(folder: Path) -> Keyring:
    return open_keyring([f"file://{folder}/one/keyring", f"file://{folder}/two/keyring"], Tier())


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    made = Keys(ROOT, ring(tmp_path))
    made.create()
    made.create_tenant(TENANT)
    return made


def blob(scope: Scope, wrapped: bytes) -> Blob:
    return Blob(Place(b"", 0, 0), b"o" * 16, TENANT, scope, wrapped, 0)


def test_an_object_key_comes_back_in_another_process(tmp_path: Path, keys: Keys) -> None:
    label = (TENANT, STUDY, "1.2.3")
    scope = keys.scopes([label])[label]
    wrapped = keys.wrap(TENANT, scope, b"k" * 32)
    other = Keys(ROOT, ring(tmp_path))
    other.load()
    assert other.object_key(blob(scope, wrapped)) == b"k" * 32
    assert other.scopes([label])[label] == scope


def test_the_first_of_two_processes_wins_and_the_other_adopts(tmp_path: Path, keys: Keys) -> None:
    other = Keys(ROOT, ring(tmp_path))
    other.load()
    labels = [(TENANT, STUDY, f"1.2.{number}") for number in range(40)]
    with ThreadPoolExecutor(2) as pool:
        mine = pool.submit(lambda: [keys.scopes([label])[label] for label in labels])
        theirs = pool.submit(lambda: [other.scopes([label])[label] for label in labels])
    assert mine.result() == theirs.result()
    assert len({scope.id for scope in mine.result()}) == len(labels)


def test_nothing_in_the_keyring_tells_a_uid(tmp_path: Path, keys: Keys) -> None:
    keys.scopes([(TENANT, STUDY, "1.2.840.99999.1")])
    for file in tmp_path.rglob("keyring"):
        assert b"1.2.840.99999" not in file.read_bytes()
        assert b"1.2.840.99999".hex().encode() not in file.read_bytes()


def test_a_wrong_root_key_is_said_to_be_one(tmp_path: Path, keys: Keys) -> None:
    with pytest.raises(Damaged, match="root key"):
        Keys(b"x" * 32, ring(tmp_path)).load()


def test_a_scope_of_one_tenant_opens_nothing_of_another(keys: Keys) -> None:
    keys.create_tenant(b"u" * 16)
    label = (TENANT, STUDY, "1.2.3")
    scope = keys.scopes([label])[label]
    with pytest.raises(Damaged):
        keys.scope_key(b"u" * 16, scope)


def test_a_position_is_only_a_hint(tmp_path: Path, keys: Keys) -> None:
    label = (TENANT, FACTS, "")
    scope = keys.scopes([label])[label]
    wrapped = keys.wrap(TENANT, scope, b"k" * 32)
    fresh = Keys(ROOT, ring(tmp_path))
    fresh.load()
    assert fresh.object_key(blob(Scope(scope.id, 0), wrapped)) == b"k" * 32
    with pytest.raises(Unavailable):
        fresh.scope_key(TENANT, Scope(b"?" * 16, 0))


def test_forgotten_labels_are_made_again_and_both_scopes_are_listed(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LABELS", 1)
    one, two = (TENANT, STUDY, "1.1"), (TENANT, STUDY, "1.2")
    keys.scopes([one])
    keys.scopes([two])
    keys.scopes([one])
    assert [label for label, _ in keys.every_scope()].count(one) == 2


def test_more_labels_at_once_than_are_remembered(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LABELS", 3)
    labels = [(TENANT, STUDY, f"1.{number}") for number in range(10)]
    assert set(keys.scopes(labels)) == set(labels)


def test_long_study_uids_fit_a_slot(keys: Keys) -> None:
    label = (TENANT, STUDY, "9" * 300)
    assert keys.scopes([label])[label] == keys.scopes([label])[label]


def test_recovery_file_and_root_key_file_give_the_same_key(tmp_path: Path) -> None:
    write_root_key(tmp_path / "root.key", ROOT)
    assert (tmp_path / "root.key").stat().st_mode & 0o777 == 0o600
    assert read_root_key(tmp_path / "root.key") == ROOT
    assert parse_root_key(recovery_text(ROOT)) == ROOT
    assert parse_root_key(recovery_text(ROOT).lower()) == ROOT


def test_a_mistyped_recovery_file_is_found_out() -> None:
    text = recovery_text(ROOT)
    line = next(line for line in text.splitlines() if line.startswith("root-key:"))
    wrong = line[:-1] + ("A" if line[-1] != "A" else "B")
    with pytest.raises(BadInput):
        parse_root_key(text.replace(line, wrong))
    with pytest.raises(BadInput):
        parse_root_key("hello")
    with pytest.raises(NotFound, match="recovery file"):
        read_root_key(Path("/nowhere/root.key"))
