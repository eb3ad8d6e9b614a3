"""What every test may use: the corpus of real files, and a summary of how much was tried.

The corpus is `../shared/corpus/open` beside the project, or the directory that RADIOLITH_TEST_CORPUS names. Where there
is none, pydicom's bundled files stand in; the header of the run says which.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests import campaign

PROJECT = Path(__file__).resolve().parent.parent


def _corpus_directory() -> Path | None:
    named = os.environ.get("RADIOLITH_TEST_CORPUS")
    directory = Path(named) if named else PROJECT.parent / "shared" / "corpus" / "open"
    return directory if directory.is_dir() else None


@cache
def _corpus() -> tuple[str, tuple[Path, ...]]:
    """(where from, in words; every regular file in a stable order)."""
    directory = _corpus_directory()
    if directory is not None:
        return f"open corpus in {directory}", _files_below(directory)
    import pydicom.data

    bundled = Path(pydicom.data.__file__).parent / "test_files"
    return "no open corpus found, pydicom's bundled files stand in", _files_below(bundled)


def _files_below(directory: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in directory.rglob("*") if path.is_file() and path.suffix not in (".md", ".py")))


@pytest.fixture(scope="session")
def corpus_files() -> list[Path]:
    """Every file of the corpus: DICOM of all kinds, and some that are not DICOM at all."""
    return list(_corpus()[1])


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root directory."""
    return PROJECT


# ---------------------------------------------------------------- what the run says about itself

_collected: dict[str, int] = {}


def pytest_report_header(config: pytest.Config) -> list[str]:
    where, files = _corpus()
    return [f"corpus: {len(files)} files ({where})", f"campaigns: {'long' if campaign.LONG else 'normal'} counts"]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A parallel worker hands its campaigns to the process that prints."""
    _collected.update(getattr(node, "workeroutput", {}).get("campaigns", {}))


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["campaigns"] = dict(campaign.chosen)
    yield


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counts = {**_collected, **campaign.chosen}
    if counts:
        terminalreporter.section("campaigns")
        for name in sorted(counts):
            terminalreporter.write_line(f"{name}: N = {counts[name]:,}")


@pytest.fixture(scope="session")
def decoders() -> Iterator[Any]:
    """Real decoder processes, shared by the tests of one run."""
    from radiolith.codecs.sandbox import Decoders, start_zygote

    with start_zygote() as zygote:
        yield Decoders(zygote.address)
