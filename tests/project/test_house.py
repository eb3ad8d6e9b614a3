"""The house rules as tests: style, types, layers, sizes, names, and promises of the documents.

`make test` has no other gate than pytest: what is not checked here or in another test is not checked.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from radiolith import __version__

LINES_MAX = 600
"""Lines of one module. Aim for 60 to 250."""
LINES_LONG = 400
"""Modules longer than this are named in LONG, each with its reason; the list may only shrink."""
LONG: dict[str, str] = {}
FUNCTION_LINES_MAX = 60
"""A function fits on a screen."""
SAYS_NOTHING = re.compile(r"(^|/)(utils?|helpers?|common|misc|managers?|base)(\.py|/)")
ENDINGS = re.compile(r"class \w+(Manager|Helper|Orchestrator|Impl)\b")
LEFT_OPEN = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
REGISTRIES = re.compile(
    r"(pypi|pythonhosted|npmjs|registry\.yarnpkg|crates)\.(org|io|com)|--(extra-)?index-url|--find-links"
)
DURABLE = re.compile(r"\bos\.(fsync|fdatasync|rename|replace|link)\(")
"""Calls that make something durable: allowed below storage/backends and in the one file that opens the database."""


def source_files(project: Path) -> list[Path]:
    return sorted((project / "src").rglob("*.py"))


def tracked(project: Path) -> list[Path]:
    """Files of the project: those git knows; every file where there is no git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=project, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return [path for path in project.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [path for name in listed.stdout.split("\0") if name and (path := project / name).is_file()]


def run(project: Path, *command: str) -> None:
    """Run a tool of this environment; its output is the failure's message."""
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run([str(tool), *command[1:]], cwd=project, capture_output=True, text=True, env=_quiet())
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def _quiet() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}


# ---------------------------------------------------------------- tools


def test_style(project: Path) -> None:
    run(project, "ruff", "check", ".")


def test_formatting(project: Path) -> None:
    run(project, "ruff", "format", "--check", ".")


def test_layers(project: Path) -> None:
    """The arrows of the house point down, lazy imports included (pyproject.toml, [tool.importlinter])."""
    run(project, "lint-imports", "--no-cache")


def test_types(project: Path) -> None:
    run(project, "pyright", "--threads", "2")


# ---------------------------------------------------------------- sizes and names


def test_modules_are_short_and_say_what_they_are(project: Path) -> None:
    wrong: list[str] = []
    for path in source_files(project):
        name, text = str(path.relative_to(project)), path.read_text("utf-8")
        lines = text.count("\n")
        if lines > (LINES_MAX if name in LONG else LINES_LONG):
            wrong.append(f"{name}: {lines} lines")
        if lines and not ast.get_docstring(ast.parse(text)):
            wrong.append(f"{name}: no docstring")
    assert not wrong, "\n".join(wrong)
    assert not [name for name in LONG if not (project / name).is_file()]


def test_functions_fit_on_a_screen(project: Path) -> None:
    wrong: list[str] = []
    for path in source_files(project):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    wrong.append(f"{path.relative_to(project)}:{node.lineno} {node.name}: {lines} lines")
    assert not wrong, "\n".join(wrong)


def test_names_say_something(project: Path) -> None:
    wrong = [str(path.relative_to(project)) for path in source_files(project) if SAYS_NOTHING.search(str(path))]
    for path in source_files(project):
        wrong += [f"{path.name}: {match[0]}" for match in ENDINGS.finditer(path.read_text("utf-8"))]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_open(project: Path) -> None:
    wrong: list[str] = []
    for path in source_files(project):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if LEFT_OPEN.search(line):
                wrong.append(f"{path.relative_to(project)}:{number} {line.strip()}")
    assert not wrong, "\n".join(wrong)


def test_only_the_backends_make_things_durable(project: Path) -> None:
    """One step counter numbers every write and sync; a call elsewhere would escape kill tests and fault injection."""
    allowed = ("storage/backends/", "index/database.py", "trust/keys.py")  # the last: the root key, outside every tier
    wrong = [
        f"{path.relative_to(project)}: {match[0]}"
        for path in source_files(project)
        if not any(part in str(path) for part in allowed)
        for match in DURABLE.finditer(path.read_text("utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


# ---------------------------------------------------------------- dependencies


def test_dependencies_are_locked_with_hashes_and_without_an_index(project: Path) -> None:
    for name in ("run", "dev", "build"):
        text = (project / "requirements" / f"{name}.txt").read_text("utf-8")
        pinned = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==\S+", text, re.MULTILINE)
        entries = [entry for entry in re.split(r"\n(?=\S)", text) if "==" in entry.splitlines()[0]]
        assert len(pinned) == len(entries) > 3
        assert all("--hash=sha256:" in entry for entry in entries), name


def test_every_declared_dependency_is_locked(project: Path) -> None:
    document = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    names = re.compile(r"^[A-Za-z0-9._-]+")
    wanted = {"run": document["project"]["dependencies"], "dev": document["dependency-groups"]["dev"]}
    for name, declared in wanted.items():
        text = (project / "requirements" / f"{name}.txt").read_text("utf-8").lower()
        for requirement in declared:
            match = names.match(requirement)
            assert match and re.search(rf"^{match[0].lower()}(\[[^\]]*\])?==", text, re.MULTILINE), requirement


def test_no_registry_is_named(project: Path) -> None:
    """What is installed is decided by hashes, wherever it comes from."""
    here = Path(__file__).resolve()
    wrong: list[str] = []
    for path in tracked(project):
        if path.resolve() == here or path.suffix in (".png", ".dcm"):
            continue
        if REGISTRIES.search(path.read_text("utf-8", "replace")) and path.name != "lock":
            wrong.append(str(path.relative_to(project)))
    assert not wrong
    assert not (project / "uv.lock").exists()


def test_the_version_is_the_same_everywhere(project: Path) -> None:
    document = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    assert document["project"]["version"] == __version__


# ---------------------------------------------------------------- documents


def documents(project: Path) -> Iterator[Path]:
    yield from (project / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md"))
    yield from sorted((project / "docs").rglob("*.md"))


def test_links_in_documents_lead_somewhere(project: Path) -> None:
    wrong: list[str] = []
    for document in documents(project):
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text("utf-8")):
            if "://" not in target and not (document.parent / target).exists():
                wrong.append(f"{document.relative_to(project)}: {target}")
    assert not wrong, "\n".join(wrong)


def test_make_targets_in_documents_exist(project: Path) -> None:
    makefile = (project / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for document in documents(project):
        named = set(re.findall(r"`make ([a-z-]+)", document.read_text("utf-8")))
        assert named <= targets, f"{document.name}: {named - targets}"
    readme = (project / "README.md").read_text("utf-8")
    assert "make demo" in readme and "make test" in readme


def test_decisions_are_numbered_and_listed(project: Path) -> None:
    folder = project / "docs" / "decisions"
    index = (folder / "README.md").read_text("utf-8")
    names = sorted(path.name for path in folder.glob("*.md") if path.name != "README.md")
    assert [name for name in names if not re.match(r"\d{3}-[a-z0-9-]+\.md$", name)] == []
    assert [name for name in names if f"({name})" not in index] == []
    numbers = [name[:3] for name in names]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("script", ["setup", "system-packages", "test", "lock"])
def test_scripts_are_valid_shell(project: Path, script: str) -> None:
    done = subprocess.run(["sh", "-n", str(project / "scripts" / script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
