"""The command line as other tools rely on it: names, options, exit codes, words."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from radiolith.cli import console, main

RUN = CliRunner()
GROUP = typer.main.get_command(main.app)
ASKED = ("--reason", "--expected", "--dry-run")  # how every correction is asked for
ON = ("--study", "--series", "--patient", "--issuer")  # what carries a label
COMMANDS = {
    "demo": {"--home", "--http", "--workers"},
    "init": {"--home", "--join"},
    "serve": {"--home", "--http", "--dimse", "--dimse-tls", "--aet", "--workers"},
    "import": {"--home", "--foreign", "--inbox", "--json"},
    "export": {"--home", "--study", "--original", "--json"},
    "check": {"--home", "--rebuild", "--read-data", "--json"},
    "token": {"--home", "--role", "--name"},
    "token list": {"--json"},
    "token revoke": set[str](),
    "status": {"--home", "--json", "--confirm-recovery-saved", "--confirm-keyring-places"},
    "conformance": {"--home", "--format", "--integration-statement"},
    "associations": {"--home", "--limit", "--problems", "--json"},
    "associations show": {"--json"},
    "peer": {"--home"},
    "user": {"--home"},
    "quarantine": {"--home"},
    "peer add": {
        *(
            "--aet",
            "--address",
            "--port",
            "--tls",
            "--certificate",
            "--commitment",
            "--complete-after",
            "--role",
            "--notify",
            "--syntax",
        ),
        *("--charset", "--services", "--rejects", "--notes"),
    },
    "peer knocks": {"--json"},
    "peer accept": {"--name", "--address", "--port", "--tls", "--certificate"},
    "peer reports": {"--json"},
    "peer again": set[str](),
    "peer drop": set[str](),
    "peer list": {"--json"},
    "peer remove": set[str](),
    "peer test": {"--aet", "--json"},
    "echo": {"--home", "--aet", "--json"},
    "find": {"--home", "--level", "--limit", "--aet", "--json"},
    "get": {"--home", "--study", "--series", "--instance", "--to", "--json"},
    "move": {"--home", "--study", "--series", "--instance", "--to", "--json"},
    "send": {"--home", "--aet", "--json"},
    "outbox": {"--home"},
    "outbox list": {"--state", "--peer", "--limit", "--json"},
    "outbox show": {"--json"},
    "outbox again": {"--all", "--peer", "--json"},
    "outbox cancel": {"--json"},
    "route": {"--home"},
    "route add": {
        *("--to", "--match", "--from", "--door", "--hours", "--on", "--zone", "--priority", "--syntax", "--dry-run"),
    },
    "route list": {"--json"},
    "route remove": set[str](),
    "route try": {"--days", "--json"},
    "devices": {"--home", "--all", "--json"},
    "changes": {"--home", "--after", "--kind", "--follow"},
    "webhook": {"--home"},
    "webhook add": {"--kind", "--role", "--secret-stdin"},
    "webhook list": {"--json"},
    "webhook deliveries": {"--json"},
    "webhook again": set[str](),
    "webhook remove": set[str](),
    "user add": {"--role", "--password-stdin"},
    "user list": {"--json"},
    "user remove": set[str](),
    "quarantine list": {"--json"},
    "quarantine show": {"--json"},
    "quarantine export": set[str](),
    "quarantine release": set[str](),
    "amend": {"--home"},
    "amend set": {"--patient", "--issuer", "--study", "--series", "--remove", "--coerce", *ASKED, "--json"},
    "amend move-study": {"--patient", "--issuer", "--new", *ASKED, "--json"},
    "amend move-series": {"--to", "--keep-uid", *ASKED, "--json"},
    "amend merge-studies": {*ASKED, "--json"},
    "amend split": {"--series", "--instance", "--new-study", *ASKED, "--json"},
    "amend undo": {"--reason", "--json"},
    "amend redo": {"--reason", "--json"},
    "patients": {"--home"},
    "patients list": {"--id", "--name", "--birth-date", "--state", "--limit", "--json"},
    "patients show": {"--issuer", "--json"},
    "patients candidates": {"--issuer", "--json"},
    "patients merge": {"--issuer", "--other-issuer", "--new", *ASKED, "--json"},
    "patients link": {"--issuer", "--other-issuer", "--reason", "--dry-run", "--json"},
    "patients unlink": {"--issuer", "--other-issuer", "--reason", "--dry-run", "--json"},
    "patients state": {"--issuer", "--reason", "--dry-run", "--json"},
    "desk": {"--home"},
    "desk list": {"--kind", "--limit", "--after", "--json"},
    "desk show": {"--json"},
    "desk resolve": {"--patient", "--issuer", "--version", "--new", "--name", "--code", *ASKED, "--json"},
    "desk undo": {"--reason", "--json"},
    "history": {"--home"},
    "history show": {"--json"},
    "history instance": {"--json"},
    "history study": {"--json"},
    "history patient": {"--issuer", "--json"},
    "history operations": {"--limit", "--after", "--json"},
    "history difference": {"--json"},
    "history content": set[str](),
    "history as-of": {"--json"},
    "label": {"--home"},
    "label add": {*ON, "--reason"},
    "label remove": {*ON, "--reason"},
    "label undo": {"--again"},
    "label show": {*ON, "--json"},
    "label list": {"--json"},
    "note": {"--home"},
    "note list": {"--json"},
    "note obey": set[str](),
    "note dismiss": set[str](),
}
"""What scripts may rely on. Nothing leaves this table without a changelog entry that says so."""


def find(words: list[str]) -> tuple[object, list[str]]:
    """The command that `words` start with, and the rest of them."""
    here: object = GROUP
    while words and hasattr(here, "commands") and words[0] in here.commands:  # type: ignore[attr-defined]
        here, words = here.commands[words[0]], words[1:]  # type: ignore[attr-defined]
    return here, words


def options(command: object) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}  # type: ignore[attr-defined]


def names(command: object = GROUP, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, inner in getattr(command, "commands", {}).items():
        found |= {prefix + name} | names(inner, f"{prefix}{name} ")
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_options(name: str) -> None:
    command, rest = find(name.split())
    assert not rest
    assert options(command) - {"--help"} == COMMANDS[name]


def test_no_command_is_missing_from_the_table() -> None:
    assert names() == set(COMMANDS)


def test_commands_in_documents_exist(project: Path) -> None:
    """Every line of the documents that starts with `radiolith` is a command with options that exist."""
    wrong: list[str] = []
    seen = 0
    for document in [project / "README.md", *(project / "docs").glob("*.md")]:
        text = document.read_text("utf-8")
        lines = re.findall(r"^(?:\S*bin/)?radiolith +(.*?)(?:  .*)?$", text, re.MULTILINE)
        lines += re.findall(r"`radiolith ([^`]*)`", text)
        for line in lines:
            seen += 1
            words = [word for word in line.split("#")[0].split() if word not in ("--home", "H", "/srv/radiolith")]
            command, rest = find(words)
            unknown = {word for word in rest if word.startswith("--")} - options(command)
            if command is GROUP or unknown:
                wrong.append(f"{document.name}: radiolith {line}")
    assert seen > 15
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["init"],
        ["token", "--home", "x", "--role", "king"],
        ["token", "--home", "x"],
        ["token", "--home", "x", "--role", "reader", "list"],
        ["serve", "--home", "x", "--http", "8080"],
        ["serve", "--home", "x", "--workers", "0"],
        ["import", "--home", "x", "/nowhere/at/all"],
        ["peer", "--home", "x", "add", "ct", "--aet", "SEVENTEEN LETTERS", "--address", "a", "--port", "104"],
        ["user", "--home", "x", "add", "anna"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RADIOLITH_HOME", raising=False)
    result = RUN.invoke(main.app, arguments)
    assert result.exit_code == console.WRONG_USAGE
    assert "Traceback" not in result.output


def test_help_and_version_are_quick_and_need_no_home() -> None:
    """Nothing heavy is imported before a command runs: a shell's completion and a script's loop feel it."""
    program = "import sys; from radiolith.cli import main; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "pydicom", "fastapi", "sqlalchemy", "imagecodecs", "uvicorn"} & set(loaded)
    assert RUN.invoke(main.app, ["--version"]).output.startswith("radiolith ")


def test_no_device_speaks_to_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """AE titles and names are whatever somebody sent: escape sequences move the cursor, or set a window's title."""
    for stream, error in (("out", False), ("err", True)):
        monkeypatch.setattr(console, stream, console.Console(stderr=error, highlight=False, soft_wrap=True))
    hostile = "\x1b[2J\x1b]0;x\x07\x9b1m\x7f\r"
    console.say(f"Müller {hostile}\n\tnext")
    console.complain(hostile)
    console.give_table(("who",), [(f"[red]{hostile}",)], "")
    said = "".join(capsys.readouterr())
    assert not any((ord(c) < 0x20 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in said), repr(said)
    assert "Müller ?[2J?]0;x??1m??\n" in said and "next" in said and "[red]?[2J" in said


@pytest.mark.parametrize(
    ("amount", "words"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (400 * 2**20, "400 MiB")]
)
def test_bytes_in_words(amount: int, words: str) -> None:
    assert console.bytes_in_words(amount) == words
