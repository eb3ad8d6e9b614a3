"""The commands over a real home: from `init` to `check`, as a person types them."""

from __future__ import annotations

import json
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from radiolith.cli import main
from radiolith.cli.phantom import studies
from radiolith.model import Failure

RUN = CliRunner()
SMALL = studies.Size(
    ct_slices=3, ct_pixels=48, mr_slices=2, mr_pixels=48, cine_frames=3, cine_columns=64, radiograph_pixels=64
)
OBJECTS = 3 + 3 * 2 + 5
STUDIES = 6


class Typed:
    """A home, and commands typed for it."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *arguments: str, stdin: str = "") -> Result:
        words = list(arguments)
        words[1:1] = ["--home", str(self.home)]
        return RUN.invoke(main.app, words, input=stdin)

    def done(self, *arguments: str, stdin: str = "") -> str:
        result = self.run(*arguments, stdin=stdin)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.done(*arguments, "--json"))


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    studies.generate(folder, SMALL)
    return folder


@pytest.fixture
def typed(tmp_path: Path) -> Iterator[Typed]:
    typed = Typed(tmp_path / "home")
    typed.done("init")
    yield typed


@pytest.fixture
def filled(typed: Typed, generated: Path, tmp_path: Path) -> Typed:
    """A home with all the studies, something that is no DICOM, and something broken."""
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "readme.txt").write_text("no image")
    whole = next(generated.rglob("*.dcm")).read_bytes()
    (extra / "torn.dcm").write_bytes(whole[:400])
    typed.done("import", str(generated), str(extra))
    return typed


# ---------------------------------------------------------------- init and status


def test_init_makes_keys_only_the_owner_can_read(typed: Typed) -> None:
    for name in ("root.key", "recovery.txt"):
        assert stat.S_IMODE((typed.home / name).stat().st_mode) == 0o600
    again = typed.run("init")
    assert isinstance(again.exception, Failure)
    assert "already" in str(again.exception)


def test_status_is_amber_until_the_recovery_file_is_saved(typed: Typed) -> None:
    before = typed.json("status")
    assert before["level"] == "amber"
    assert any("recovery" in reason["text"] for reason in before["reasons"])
    typed.done("status", "--confirm-recovery-saved")
    assert not any("recovery" in reason["text"] for reason in typed.json("status")["reasons"])


def test_a_misspelt_home_says_which_one_was_meant(typed: Typed) -> None:
    wrong = Typed(typed.home.parent / "hone").run("status")
    assert isinstance(wrong.exception, Failure)
    assert f"Did you mean {typed.home}?" in str(wrong.exception)


def test_a_failure_is_one_sentence_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["radiolith", "status", "--home", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as leaving:
        main.main()
    assert leaving.value.code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("radiolith: ")
    assert said.err.count("\n") == 1
    assert "radiolith init" in said.err


# ---------------------------------------------------------------- in and out


def test_import_says_what_it_took_and_what_not(typed: Typed, generated: Path, tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "readme.txt").write_text("no image")
    said = typed.done("import", str(generated), str(extra))
    assert re.search(rf"\b{OBJECTS}  stored", said)
    assert "readme.txt" in said
    again = typed.json("import", str(generated))
    assert again["resumed"] + again["duplicates"] == OBJECTS
    assert again["stored"] == 0
    assert typed.json("status")["held"]["instances"] == OBJECTS


def test_a_zip_is_a_folder(typed: Typed, generated: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in generated.rglob("*.dcm"):
            archive.write(path, path.relative_to(generated))
    assert typed.json("import", str(tmp_path / "all.zip"))["stored"] == OBJECTS


def test_originals_come_back_byte_for_byte(filled: Typed, generated: Path, tmp_path: Path) -> None:
    filled.done("export", "--original", str(tmp_path / "out"))
    came = sorted(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    went = sorted(path.read_bytes() for path in generated.rglob("*.dcm"))
    assert came == went


def test_an_export_tells_a_script_what_it_did(filled: Typed, tmp_path: Path) -> None:
    told = filled.json("export", str(tmp_path / "out"))
    assert told["files"] == len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) > 0
    assert filled.json("export", str(tmp_path / "out"))["present"] == told["files"] and not told["failed"]


def test_one_study_is_exported_by_its_uid(filled: Typed, tmp_path: Path) -> None:
    from radiolith.cli.phantom import datasets

    uid = datasets.uid(studies.ECHO.key)
    filled.done("export", "--study", uid, str(tmp_path / "out"))
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 1
    wrong = filled.run("export", "--study", "1.2.3", str(tmp_path / "out"))
    assert isinstance(wrong.exception, Failure)


# ---------------------------------------------------------------- check


def test_check_finds_a_changed_byte(filled: Typed) -> None:
    assert "Everything is there" in filled.done("check", "--read-data")
    segment = max((path for path in (filled.home / "tier").rglob("*") if path.is_file()), key=os.path.getsize)
    with segment.open("r+b") as file:
        file.seek(9000)
        byte = file.read(1)
        file.seek(9000)
        file.write(bytes([byte[0] ^ 1]))
    found = filled.run("check", "--read-data", "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["checked"]["problems"]


def test_the_index_is_made_again(filled: Typed) -> None:
    before = filled.json("status")["held"]
    for path in filled.home.glob("index.db*"):
        path.unlink()
    rebuilt = filled.json("check", "--rebuild")
    assert rebuilt["rebuilt"]["objects"] >= OBJECTS
    assert filled.json("status")["held"] == before


# ---------------------------------------------------------------- people, programs, nodes


def test_users(typed: Typed) -> None:
    password = typed.done("user", "add", "anna", "--role", "reader").strip()
    assert len(password) >= 12
    typed.done("user", "add", "otto", "--role", "admin", "--password-stdin", stdin="a long enough one\n")
    assert [(user["name"], user["role"]) for user in typed.json("user", "list")] == [
        ("anna", "reader"),
        ("otto", "admin"),
    ]
    assert isinstance(typed.run("user", "add", "anna", "--role", "reader").exception, Failure)
    typed.done("user", "remove", "anna")
    assert [user["name"] for user in typed.json("user", "list")] == ["otto"]
    short = typed.run("user", "add", "eva", "--role", "reader", "--password-stdin", stdin="short\n")
    assert isinstance(short.exception, Failure)


def test_a_token_is_all_that_is_printed(typed: Typed) -> None:
    token = typed.done("token", "--role", "editor", "--name", "gateway")
    assert re.fullmatch(r"[A-Za-z0-9_.-]{40,}\n", token)


def test_tokens_are_listed_and_revoked_by_name_or_id(typed: Typed) -> None:
    secrets = [typed.done("token", "--role", "writer", "--name", name).strip() for name in ("mr", "xa", "xa")]
    listed = [one for one in json.loads(typed.done("token", "list", "--json")) if one["name"] in ("mr", "xa")]
    assert [(one["name"], one["role"], one["used"]) for one in listed] == [
        ("mr", "writer", None), ("xa", "writer", None), ("xa", "writer", None),
    ]  # fmt: skip
    shown = typed.done("token", "list")
    assert all(one["id"] in shown for one in listed) and not any(secret in shown for secret in secrets)
    assert "mr" in typed.done("token", "revoke", "mr")
    with pytest.raises(Failure, match=listed[1]["id"]):
        typed.done("token", "revoke", "xa")
    for one in listed[1:]:
        typed.done("token", "revoke", one["id"])
    with pytest.raises(Failure, match="no token"):
        typed.done("token", "revoke", "mr")
    assert not [one for one in json.loads(typed.done("token", "list", "--json")) if one["name"] in ("mr", "xa")]


def test_peers(typed: Typed) -> None:
    typed.done("peer", "add", "ct", "--aet", "CT1", "--address", "10.0.0.5", "--port", "104", "--tls")
    assert typed.json("peer", "list") == [{"name": "ct", "aet": "CT1", "address": "10.0.0.5", "port": 104, "tls": True}]
    typed.done("peer", "remove", "ct")
    assert typed.json("peer", "list") == []


def test_quarantine(filled: Typed, tmp_path: Path) -> None:
    (entry,) = filled.json("quarantine", "list")
    assert entry["reason"]
    assert entry["id"] in filled.done("quarantine", "show", entry["id"])
    filled.done("quarantine", "export", entry["id"], str(tmp_path / "out"))
    assert (tmp_path / "out" / f"{entry['id']}.bin").stat().st_size == entry["size"] == 400
    filled.done("quarantine", "release", entry["id"])
    assert filled.json("quarantine", "list") == []
    assert isinstance(filled.run("quarantine", "show", "00" * 16).exception, Failure)
